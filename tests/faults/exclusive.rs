//! A program of which two must never run at once: through restarts under load, kills and reloads there is never a second one, and it
//! serves again after each of them.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::restart::successor_with;
use crate::support::{Http, Open, PATIENCE, Reply, Server, eventually};

const PATH: [(&str, &str); 1] = [("PATH", "/usr/local/bin:/usr/bin:/bin")];

/// A server on pipes that keeps a lock for as long as it runs, and writes down when it starts, ends, and finds that another one runs.
/// `hold` answers when there is a file `go`. With `stubborn` it ends only when it is killed.
const PROGRAM: &str = r#"
import fcntl, json, os, signal, sys, time
log = open("log", "a", buffering=1)
only = open("only", "w")
try:
    fcntl.flock(only, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    log.write("twin\n")
    sys.exit(1)
log.write("start\n")
stubborn = "stubborn" in sys.argv
if stubborn: signal.signal(signal.SIGTERM, signal.SIG_IGN)
def called(tool):
    while tool == "hold" and not os.path.exists("go"): time.sleep(0.01)
    return {"content": [{"type": "text", "text": str(os.getpid())}]}
for line in sys.stdin:
    ask = json.loads(line)
    if "id" not in ask: continue
    method, params = ask["method"], ask.get("params", {})
    results = {
        "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "only", "version": "1"}},
        "tools/list": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("hello", "hold")]},
    }
    result = called(params["name"]) if method == "tools/call" else results.get(method, {})
    print(json.dumps({"jsonrpc": "2.0", "id": ask["id"], "result": result}), flush=True)
while stubborn: time.sleep(1)
log.write("end\n")
"#;

/// Says in the plugin's file which program it is.
fn describe(folder: &Path, word: &str) {
    fs::create_dir_all(folder.join("plugins")).expect("a folder");
    let args = json!(["-c", PROGRAM, word]);
    let file = format!("command = \"python3\"\nargs = {args}\nexclusive = true\nisolation = \"shared\"\n");
    fs::write(folder.join("plugins/only.toml"), file).expect("a file");
}

fn own(folder: &Path, name: &str) -> PathBuf {
    folder.join("plugins-data/only").join(name)
}

/// What the programs wrote down.
fn log(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(own(folder, "log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn hello(address: SocketAddr) -> Reply {
    Http::tool("only__hello", json!({})).send(address)
}

fn serves(address: SocketAddr) {
    eventually("the plugin serves", || (hello(address).status == 200).then_some(()));
}

/// A refusal that a client knows to come back from.
fn is_retryable(reply: &Reply) -> bool {
    reply.status == 503 && reply.header("retry-after").is_some()
}

#[test]
fn restarts_under_load_never_run_two_and_it_serves_after_each() {
    let folder = tempfile::tempdir().expect("a folder");
    describe(folder.path(), "");
    let mut server = Server::on("waygate-mcp", folder.path(), &PATH);
    serves(server.address);
    let (address, over) = (server.address, Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let mut strange = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_millis(10));
                    let reply = hello(address);
                    if reply.status != 200 && !is_retryable(&reply) {
                        strange.push(reply.text());
                    }
                }
                strange
            })
        })
        .collect();
    for _ in 0..2 {
        let next = successor_with("waygate-mcp", folder.path(), &PATH);
        serves(address);
        assert_eq!(server.wait(), Some(0), "{}", server.log());
        server = next;
    }
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        assert_eq!(caller.join().expect("the address is always listened at"), [""; 0]);
    }
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0), "{}", server.log());
    assert_eq!(log(folder.path()), ["start", "end"].repeat(3));
}

#[test]
fn a_call_that_runs_ends_first_and_an_idle_connection_holds_nobody_up() {
    let folder = tempfile::tempdir().expect("a folder");
    describe(folder.path(), "");
    let server = Server::on("waygate-mcp", folder.path(), &PATH);
    let address = server.address;
    serves(address);
    let mut idle = TcpStream::connect(address).expect("the server accepts");
    idle.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut ask = |request: &Http| {
        idle.write_all(&request.bytes(address)).expect("it is kept");
        Open::on(idle.try_clone().expect("a copy")).finish()
    };
    assert_eq!(ask(&Http::tool("only__hello", json!({}))).status, 200);
    let running = Http::tool("only__hold", json!({})).open(address);
    eventually("the call runs", || (server.get("/plugins/only").1["running"] == 1).then_some(()));
    let next = successor_with("waygate-mcp", folder.path(), &PATH);
    let waits = eventually("the new one says what it waits for", || {
        let shown = next.get("/plugins/only").1.to_string();
        shown.contains("to end, since two must never run at once").then_some(shown)
    });
    assert!(waits.contains("\"starting\"") && waits.contains("server process"), "{waits}");
    let refused = hello(address);
    assert!(is_retryable(&refused), "{}", refused.text());
    assert_eq!(log(folder.path()), ["start"]);
    fs::write(own(folder.path(), "go"), "").expect("a file");
    let reply = running.finish();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "{}", reply.text());
    serves(address);
    // The old one is still there, for this connection alone.
    let refused = ask(&Http::tool("only__hello", json!({})));
    assert!(is_retryable(&refused) && refused.header("connection") == Some("close"), "{}", refused.text());
    assert!(refused.text().contains("another process takes its place"), "{}", refused.text());
    assert_eq!(log(folder.path()), ["start", "end", "start"]);
    drop((server, next));
}

#[test]
fn after_a_kill_the_next_server_waits_until_nothing_is_left_and_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    describe(folder.path(), "stubborn");
    let mut server = Server::on("waygate-mcp", folder.path(), &PATH);
    serves(server.address);
    server.signal("-KILL");
    assert_eq!(server.wait(), None);
    let next = Server::on("waygate-mcp", folder.path(), &PATH);
    serves(next.address);
    assert_eq!(log(folder.path()), ["start", "start"]);
}

fn reload(server: &Server) -> Value {
    let request = Http { head: "POST /plugins/reload".to_owned(), ..Http::post("") };
    request.send(server.address).json()
}

#[test]
fn a_reload_ends_the_one_before_the_next_begins_and_a_url_cannot_be_exclusive() {
    let folder = tempfile::tempdir().expect("a folder");
    describe(folder.path(), "");
    let server = Server::on("waygate-mcp", folder.path(), &PATH);
    serves(server.address);
    let before = hello(server.address).result()["content"][0]["text"].clone();
    describe(folder.path(), "other");
    let away = folder.path().join("plugins/away.toml");
    fs::write(&away, "url = \"http://127.0.0.1:9/mcp\"\nexclusive = true\n").expect("a file");
    let report = reload(&server);
    let why = report["failed"].to_string();
    assert!(why.contains("exclusive goes with command"), "{report}");
    eventually("another process serves", || {
        let reply = hello(server.address);
        (reply.status == 200 && reply.result()["content"][0]["text"] != before).then_some(())
    });
    assert_eq!(log(folder.path()), ["start", "end", "start"]);
}
