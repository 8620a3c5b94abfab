//! A restart without a gap: one server takes over from another under load, by itself and under a service manager, and no
//! request fails and no record is missing.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::ledger;
use crate::load::Load;
use crate::support::{Http, Open, PATIENCE, Server, database_of, eventually, program};

/// How often a server is replaced; for hours, by hand: WAYGATE_TEST_RESTARTS=1000.
fn restarts() -> usize {
    std::env::var("WAYGATE_TEST_RESTARTS").ok().and_then(|count| count.parse().ok()).unwrap_or(3)
}

/// Clients that keep their connection for as long as the server lets them.
struct Kept {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Kept {
    fn begin(address: SocketAddr, threads: usize, pause: Duration) -> Self {
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let begin = |thread: usize| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            std::thread::spawn(move || keep_calling(address, (thread, pause), &over, &answered))
        };
        Self { threads: (0..threads).map(begin).collect(), over, answered }
    }

    fn wait_for(&self, more: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        eventually("calls are answered on kept connections", || {
            (self.answered.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }

    /// All messages that were answered.
    fn finish(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("no call fails")).collect()
    }
}

fn keep_calling(
    address: SocketAddr,
    (thread, pause): (usize, Duration),
    over: &AtomicBool,
    answered: &AtomicUsize,
) -> Vec<String> {
    let mut messages = Vec::new();
    let mut connection = None;
    while !over.load(Ordering::Relaxed) {
        std::thread::park_timeout(pause);
        let message = format!("kept-{thread}-{}", messages.len());
        let mut stream = connection.take().unwrap_or_else(|| {
            let stream = TcpStream::connect(address).expect("the address is always listened at");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream
        });
        let request = Http::tool("echo", json!({"message": message}));
        stream.write_all(&request.bytes(address)).expect("a kept connection takes a request");
        let reply = Open::on(stream.try_clone().expect("a copy")).finish();
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["result"]["content"][0]["text"], message.as_str());
        if reply.header("connection") != Some("close") {
            connection = Some(stream);
        }
        messages.push(message);
        answered.fetch_add(1, Ordering::Relaxed);
    }
    messages
}

pub fn successor(name: &str, folder: &Path) -> Server {
    successor_with(name, folder, &[])
}

pub fn successor_with(name: &str, folder: &Path, settings: &[(&str, &str)]) -> Server {
    let mut command = Server::command(name, folder, settings);
    command.args(["serve", "--take-over"]);
    Server::by(command, folder)
}

#[test]
fn a_server_is_replaced_under_load_and_no_request_fails_and_no_record_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    // With nobody to take over from, it is a start like any other.
    let mut server = successor("echo", folder.path());
    let address = server.address;
    let pause = Duration::from_millis(10);
    let (load, kept) = (Load::paced(address, "once", 4, pause), Kept::begin(address, 4, pause));
    for _ in 0..restarts() {
        load.wait_for(50);
        kept.wait_for(50);
        let next = successor("echo", folder.path());
        assert_eq!(next.address, address);
        assert_eq!(server.wait(), Some(0), "{}", server.log());
        server = next;
    }
    load.wait_for(50);
    let (tally, mut answered) = (load.finish(), kept.finish());
    assert!(tally.broken.is_empty() && tally.refused.is_empty(), "{:?} {:?}", tally.broken, tally.refused);
    answered.extend(tally.answered);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let recorded = ledger::messages(folder.path(), &["success"]);
    let missing: Vec<&String> = answered.iter().filter(|message| !recorded.contains(*message)).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), answered.len());
    assert_eq!(ledger::integrity(folder.path()), "ok");
}

#[test]
fn a_call_in_flight_ends_where_it_began_and_its_connection_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    let running = Http::tool("sleep", json!({"ms": 12_000})).open(server.address);
    eventually("the call runs", || (server.get("/plugins/faulty").1["running"] == 1).then_some(()));
    let next = successor("faulty_server", folder.path());
    let reply = running.finish();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "{}", reply.text());
    assert_eq!(server.wait(), Some(0));
    assert!(server.log().contains("another server has taken over"));
    assert_eq!(next.tool("repeat", json!({}))["isError"], serde_json::Value::Null);
}

/// A server on pipes that takes its time to start.
const SLOW_TO_START: &str = r#"
import json, sys, time
time.sleep(2)
for line in sys.stdin:
    ask = json.loads(line)
    if "id" not in ask: continue
    results = {
        "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "slow", "version": "1"}},
        "tools/list": {"tools": [{"name": "hello", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": "hello"}]},
    }
    print(json.dumps({"jsonrpc": "2.0", "id": ask["id"], "result": results.get(ask["method"], {})}), flush=True)
"#;

#[test]
fn a_successor_serves_when_its_plugins_do() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("plugins")).expect("a folder");
    let file = format!("command = \"python3\"\nargs = [\"-c\", {}]\n", json!(SLOW_TO_START));
    fs::write(folder.path().join("plugins/slow.toml"), file).expect("a file");
    let path = [("PATH", "/usr/local/bin:/usr/bin:/bin")];
    let mut server = Server::on("waygate-mcp", folder.path(), &path);
    let hello = || Http::tool("slow__hello", json!({}));
    eventually("the plugin is ready", || (hello().send(server.address).status == 200).then_some(()));
    let (address, over) = (server.address, Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&over);
    let caller = std::thread::spawn(move || {
        let mut refused = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(20));
            let reply = Http::tool("slow__hello", json!({})).send(address);
            if reply.status != 200 {
                refused.push(reply.text());
            }
        }
        refused
    });
    let next = successor_with("waygate-mcp", folder.path(), &path);
    assert_eq!(server.wait(), Some(0));
    assert_eq!(next.tool("slow__hello", json!({}))["content"][0]["text"], "hello");
    over.store(true, Ordering::Relaxed);
    assert_eq!(caller.join().expect("the address is always listened at"), [""; 0]);
}

#[test]
fn a_server_that_fails_to_take_over_leaves_the_other_one_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::on("echo", folder.path(), &[]);
    let key = folder.path().join("data/sealing.key");
    let set = |mode| std::fs::set_permissions(&key, Permissions::from_mode(mode)).expect("it is there");
    set(0o644);
    let mut command = Server::command("echo", folder.path(), &[]);
    let failed = command.args(["serve", "--take-over"]).output().expect("it runs");
    assert!(!failed.status.success(), "{}", String::from_utf8_lossy(&failed.stdout));
    assert_eq!(server.tool("echo", json!({"message": "still"}))["content"][0]["text"], "still");
    let (status, health) = server.get("/health");
    assert_eq!((status, &health["phase"]), (200, &json!("serving")));
    // And it can still be taken over.
    set(0o600);
    drop(successor("echo", folder.path()));
}

#[test]
fn what_is_served_with_keys_is_not_opened_by_a_restart_in_another_folder() {
    const KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    fs::write(folder.path().join(".env"), format!("WAYGATE_API_KEY={KEY}\n")).expect("a file");
    let elsewhere = |more: &[&str]| {
        let mut command = Server::command("echo", folder.path(), &[]);
        command.args(["serve", "--take-over"]).args(more).current_dir(other.path());
        command
    };
    let asked = |server: &Server, key: &str| {
        let request = Http::modern("tools/list", json!({})).header("X-API-Key", key);
        request.send(server.address).status
    };
    let mut server = Server::on("echo", folder.path(), &[]);
    let place = other.path().canonicalize().expect("it is there");
    for (text, says) in [(None, "there is no "), (Some("WAYGATE_LOG_LEVEL=INFO\n"), "it read ")] {
        if let Some(text) = text {
            fs::write(other.path().join(".env"), text).expect("a file");
        }
        let refused = elsewhere(&[]).output().expect("it ends");
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(78), "{why}");
        let named = format!("{says}{}", place.join(".env").display());
        for part in [&*named, "asks for keys", "--insecure-no-auth"] {
            assert!(why.contains(part), "{why}");
        }
        assert_eq!((asked(&server, ""), asked(&server, KEY)), (401, 200));
    }
    // From the folder with the key, and by a word that nobody says by mistake, it is done.
    let mut same = successor("echo", folder.path());
    assert_eq!(server.wait(), Some(0));
    assert_eq!((asked(&same, ""), asked(&same, KEY)), (401, 200));
    let open = Server::by(elsewhere(&["--insecure-no-auth"]), folder.path());
    assert_eq!(same.wait(), Some(0));
    assert_eq!(asked(&open, ""), 200);
    // And what was open may be taken over by what is, too.
    drop(Server::by(elsewhere(&[]), folder.path()));
}

/// Starts a server as systemd does one with a socket of its own.
fn activated(listener: &TcpListener, folder: &Path, notices: Option<&Path>) -> Server {
    let plain = Server::command("echo", folder, &[]);
    let mut command = Command::new("sh");
    command.args(["-c", "exec env LISTEN_PID=$$ LISTEN_FDS=1 \"$0\" \"$@\" 3<&0 </dev/null"]);
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(folder).env_clear();
    command.env("PATH", "/usr/bin:/bin");
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(notices) = notices {
        command.env("NOTIFY_SOCKET", notices).env("WATCHDOG_USEC", "30000000");
    }
    command.stdin(OwnedFd::from(listener.try_clone().expect("a copy")));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Server::by(command, folder)
}

#[test]
fn under_a_service_manager_that_keeps_the_socket_a_restart_fails_no_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut server = activated(&listener, folder.path(), None);
    assert_eq!(server.address, listener.local_addr().expect("an address"));
    let kept = Kept::begin(server.address, 4, Duration::from_millis(5));
    for _ in 0..restarts() {
        kept.wait_for(50);
        server.signal("-TERM");
        assert_eq!(server.wait(), Some(0));
        server = activated(&listener, folder.path(), None);
    }
    kept.wait_for(50);
    let answered = kept.finish();
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let recorded = ledger::messages(folder.path(), &["success"]);
    assert!(answered.iter().cloned().collect::<BTreeSet<_>>().is_subset(&recorded));
}

/// What a service manager listens at, and where.
fn notices(folder: &Path) -> (UnixDatagram, PathBuf) {
    let path = folder.join("notify");
    let notices = UnixDatagram::bind(&path).expect("a socket");
    notices.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    (notices, path)
}

/// Waits for the notice with that line.
fn next_notice(notices: &UnixDatagram, wanted: &str) -> String {
    let until = Instant::now() + PATIENCE;
    let mut heard = [0; 1024];
    loop {
        let length = notices.recv(&mut heard).expect("a notice");
        let text = String::from_utf8_lossy(&heard[..length]).into_owned();
        if text.lines().any(|line| line == wanted) {
            return text;
        }
        assert!(Instant::now() < until, "no {wanted}; the last notice was {text:?}");
    }
}

#[test]
fn the_service_manager_hears_which_migration_runs_and_is_asked_for_time_for_it_before_it_hears_that_it_serves()
 {
    let folder = tempfile::tempdir().expect("a folder");
    let (notices, path) = notices(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let _server = activated(&listener, folder.path(), Some(&path));
    let mut ran = BTreeSet::new();
    for _migration in std::fs::read_dir(migrations()).expect("they are there") {
        let notice = next_notice(&notices, "EXTEND_TIMEOUT_USEC=120000000");
        let name = notice.split_once("STATUS=the database is brought up to date: ").expect("which one").1;
        ran.insert(name.trim_end().to_owned());
    }
    let names = std::fs::read_dir(migrations()).expect("they are there").flatten();
    let all: BTreeSet<String> = names.map(|entry| entry.file_name().into_string().expect("text")).collect();
    assert_eq!(ran, all);
    next_notice(&notices, "READY=1");
}

#[test]
fn the_service_manager_hears_that_it_serves_that_it_lives_and_that_it_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let (notices, path) = notices(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut server = activated(&listener, folder.path(), Some(&path));
    let next = |wanted: &str| next_notice(&notices, wanted);
    assert!(next("READY=1").contains(&format!("STATUS=serving http://{}", server.address)));
    next("WATCHDOG=1");
    server.signal("-TERM");
    next("STOPPING=1");
    assert_eq!(server.wait(), Some(0));
}

fn migrations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite")
}

/// What `waygate-ctl` ends with and says, with `name` for the program and `own` below `folder` for its data.
fn ctl(name: &str, folder: &Path, words: &[&str]) -> (Option<i32>, String) {
    ctl_with(name, folder, words, &[])
}

/// The same with more variables.
fn ctl_with(name: &str, folder: &Path, words: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/waygate-ctl"));
    let own = folder.join("own");
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", folder).envs(database_of(&own));
    command
        .env("WAYGATE_BIN", program(name))
        .env("WAYGATE_PORT", "0")
        .env("WAYGATE_HISTORY_ARGUMENTS", "full");
    command.env("WAYGATE_DATA_DIR", &own).current_dir(folder).envs(variables.iter().copied());
    let done = command.args(words).stdin(Stdio::null()).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout) + &text(&done.stderr))
}

#[test]
fn waygate_ctl_restarts_in_a_loop_under_load_and_no_request_fails_and_no_record_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let ctl = |words: &[&str]| {
        let (code, said) = ctl("echo", folder.path(), words);
        assert_eq!(code, Some(0), "{words:?}: {said}");
        said
    };
    ctl(&["start"]);
    let status: serde_json::Value = serde_json::from_str(&ctl(&["status", "--json"])).expect("JSON");
    let url = status["listeners"][0].as_str().expect("an address");
    let address: SocketAddr = url.trim_start_matches("http://").parse().expect("an address");
    // For a minute, with 64 connections: scripts/endurance.
    let seconds = std::env::var("WAYGATE_TEST_RESTART_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(3));
    let (threads, pause) = if seconds.is_some() { (32, 100) } else { (4, 10) };
    let pause = Duration::from_millis(pause);
    let (load, kept) = (Load::paced(address, "once", threads, pause), Kept::begin(address, threads, pause));
    let mut done = 0;
    while done == 0 || Instant::now() < until {
        load.wait_for(50);
        kept.wait_for(50);
        ctl(&["restart"]);
        done += 1;
    }
    load.wait_for(50);
    let (tally, mut answered) = (load.finish(), kept.finish());
    ctl(&["stop"]);
    assert!(tally.broken.is_empty() && tally.refused.is_empty(), "{:?} {:?}", tally.broken, tally.refused);
    answered.extend(tally.answered);
    let recorded = ledger::messages(&folder.path().join("own"), &["success"]);
    let missing: Vec<&String> = answered.iter().filter(|message| !recorded.contains(*message)).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), answered.len());
    println!("{done} restarts, {} calls", answered.len());
}

#[test]
fn waygate_ctl_starts_restarts_and_stops_a_server_and_says_how_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let ctl = |words: &[&str]| ctl("waygate-mcp", folder.path(), words);
    let pid = || {
        let (code, said) = ctl(&["status", "--json"]);
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str::<serde_json::Value>(&said).expect("JSON")["pid"].as_u64().expect("a number")
    };
    assert_eq!(ctl(&["status"]).0, Some(69));
    assert_eq!(ctl(&["stop"]).0, Some(0), "what does not run is stopped");
    let (code, said) = ctl(&["start"]);
    assert_eq!(code, Some(0), "{said}");
    let first = pid();
    let console = folder.path().join("own/logs/console.log");
    eventually("its console holds while it runs what it said", || {
        fs::read_to_string(&console).is_ok_and(|said| said.contains("serving http")).then_some(())
    });
    assert_eq!(ctl(&["start"]).0, Some(0), "what runs is started");
    assert_eq!(pid(), first);
    let (code, said) = ctl(&["restart"]);
    assert_eq!(code, Some(0), "{said}");
    let second = pid();
    assert_ne!(first, second);
    assert!(!Path::new(&format!("/proc/{first}")).exists(), "the old one is still there");
    for (words, wanted) in [
        (&["health"][..], "healthy"),
        (&["status"], "pid"),
        (&["logs", "50"], "serving http"),
        (&["reload"], ""),
    ] {
        let (code, said) = ctl(words);
        assert!(code == Some(0) && said.contains(wanted), "{words:?}: {said}");
    }
    let (code, said) = ctl(&["stop"]);
    assert_eq!(code, Some(0), "{said}");
    eventually("it is gone", || (!Path::new(&format!("/proc/{second}")).exists()).then_some(()));
    let (code, said) = ctl(&["stat"]);
    assert!(code == Some(2) && said.contains("--help"), "{said}");
}

#[test]
fn waygate_ctl_ends_the_server_alone_and_only_when_it_is_told_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let ctl = |words: &[&str]| ctl("waygate-mcp", folder.path(), words);
    assert_eq!(ctl(&["start"]).0, Some(0));
    for word in ["start", "stop", "restart", "reload", "backup", "kill"] {
        let (code, said) = ctl(&[word, "--help"]);
        assert!(code == Some(0) && said.starts_with("Usage: "), "{word}: {said}");
        let (code, said) = ctl(&[word, "--now"]);
        assert!(code == Some(2) && said.contains("--now"), "{word}: {said}");
    }
    assert_eq!(ctl(&["health"]).0, Some(0), "a word that nobody knows did something");
    assert_eq!(ctl(&["stop"]).0, Some(0));
    // The number that the lock still holds is given to another process.
    let mut other = Command::new("sleep").arg("60").spawn().expect("it runs");
    fs::write(folder.path().join("own/data/waygate.lock"), other.id().to_string()).expect("a lock");
    assert_eq!(ctl(&["kill"]).0, Some(69));
    assert_eq!(ctl(&["stop"]).0, Some(0));
    assert!(other.try_wait().expect("it is ours").is_none(), "another process was ended");
    drop(other.kill());
    drop(other.wait());
}

#[test]
fn waygate_ctl_finds_the_data_folder_where_the_program_does_and_a_server_whose_settings_are_broken_since() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(".env"), "WAYGATE_DATA_DIR=there\nWAYGATE_PORT=0\n").expect("a file");
    let ctl = |words: &[&str]| {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/waygate-ctl"));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", folder.path())
            .current_dir(folder.path());
        command.env("WAYGATE_BIN", program("waygate-mcp")).args(words);
        let done = command.stdin(Stdio::null()).output().expect("it runs");
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (code, said) = ctl(&["start"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        folder.path().join("there/data/waygate.lock").exists() && !folder.path().join(".waygate").exists()
    );
    // What says where it is is gone, too: it is looked for where it would be now.
    fs::write(folder.path().join(".env"), "WAYGATE_PORTS=0\n").expect("a file");
    assert_eq!(ctl(&["kill"]).0, Some(69));
    fs::write(folder.path().join(".env"), "WAYGATE_DATA_DIR=there\nWAYGATE_PORTS=0\n").expect("a file");
    assert_eq!(ctl(&["health"]).0, Some(0));
    let (code, said) = ctl(&["start"]);
    assert!(code == Some(0) && said.contains("serves already"), "{said}");
    let (code, said) = ctl(&["stop"]);
    assert!(code == Some(0) && said.contains("has stopped"), "{said}");
    let (code, said) = ctl(&["start"]);
    assert!(code == Some(78) && said.contains("did you mean WAYGATE_PORT?"), "{said}");
}

#[test]
fn waygate_ctl_keeps_what_a_server_said_last_and_no_more_than_it_may() {
    let folder = tempfile::tempdir().expect("a folder");
    let most = 4000_u64;
    let ctl = |words: &[&str], more: &[(&str, &str)]| {
        let more = [&[("WAYGATE_CONSOLE_BYTES", "4000"), ("WAYGATE_LOG_LEVEL", "DEBUG")], more].concat();
        ctl_with("echo", folder.path(), words, &more)
    };
    let logs = folder.path().join("own/logs");
    let text = |name: &str| fs::read_to_string(logs.join(name)).unwrap_or_default();
    let (code, said) = ctl(&["start"], &[]);
    assert_eq!(code, Some(0), "{said}");
    let status: serde_json::Value = serde_json::from_str(&ctl(&["status", "--json"], &[]).1).expect("JSON");
    let url = status["listeners"][0].as_str().expect("an address");
    let address: SocketAddr = url.trim_start_matches("http://").parse().expect("an address");
    eventually("it has said more than one file holds", || {
        // Each is told of in a line.
        assert_eq!(Http::get("/nowhere").send(address).status, 404);
        let file = fs::canonicalize(logs.join("console.log")).ok()?;
        file.with_extension("log.1").exists().then_some(())
    });
    let file = fs::canonicalize(logs.join("console.log")).expect("a file");
    assert!(fs::metadata(file.with_extension("log.1")).expect("it is there").len() <= most);
    assert_eq!(ctl(&["kill"], &[]).0, Some(0));
    // Who writes it has seen the end once nothing comes any more. That may be just where one file was full and the other begins.
    let last = eventually("all of it is written", || {
        let both = text("console.log.1") + &text("console.log");
        let log = text("waygate.log");
        let end = log.lines().last().filter(|end| !end.is_empty())?;
        both.contains(end).then(|| text("console.log"))
    });
    assert!(last.len() as u64 <= most);
    // However often a start fails, it is kept, and what failed is said.
    for _ in 0..7 {
        let (code, said) = ctl(&["start"], &[("WAYGATE_PORT", "nonsense")]);
        assert!(code != Some(0) && said.contains("it does not start"), "{code:?} {said}");
        assert!(said.contains("WAYGATE_PORT"), "{said}");
        assert_eq!(text("console.log"), last);
    }
    let (code, said) = ctl(&["start"], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(text("console.log.1"), last);
    assert_ne!(text("console.log"), last);
    let entries = fs::read_dir(&logs).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let consoles = entries.filter(|name| name.to_string_lossy().starts_with("console-")).count();
    assert!(consoles <= 2 * (5 + 2), "{consoles} files are kept");
    assert_eq!(ctl(&["stop"], &[]).0, Some(0));
}

#[test]
fn waygate_ctl_leaves_the_console_to_the_server_that_runs_when_another_fails_to_take_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let ctl = |words: &[&str], more: &[(&str, &str)]| ctl_with("echo", folder.path(), words, more);
    let console = folder.path().join("own/logs/console.log");
    let (code, said) = ctl(&["start"], &[("WAYGATE_LOG_LEVEL", "DEBUG")]);
    assert_eq!(code, Some(0), "{said}");
    let file = fs::canonicalize(&console).expect("a file");
    let (code, said) = ctl(&["restart"], &[("WAYGATE_PORT", "nonsense")]);
    assert!(code != Some(0) && said.contains("WAYGATE_PORT"), "{code:?} {said}");
    assert_eq!(fs::canonicalize(&console).expect("a file"), file);
    let status: serde_json::Value = serde_json::from_str(&ctl(&["status", "--json"], &[]).1).expect("JSON");
    let url = status["listeners"][0].as_str().expect("an address");
    let address: SocketAddr = url.trim_start_matches("http://").parse().expect("an address");
    let so_far = fs::metadata(&console).expect("it is there").len();
    assert_eq!(Http::get("/nowhere").send(address).status, 404);
    eventually("what it says now stands there, too", || {
        (fs::metadata(&console).expect("it is there").len() > so_far).then_some(())
    });
    let (code, said) = ctl(&["restart"], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_ne!(fs::canonicalize(&console).expect("a file"), file);
    assert_eq!(fs::canonicalize(console.with_extension("log.1")).expect("a file"), file);
    assert_eq!(ctl(&["stop"], &[]).0, Some(0));
}

#[test]
fn waygate_ctl_refuses_a_size_that_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    for size in ["0", "00", "-1", "1k", "9999999999999999999"] {
        let (code, said) = ctl_with("echo", folder.path(), &["start"], &[("WAYGATE_CONSOLE_BYTES", size)]);
        assert!(code == Some(2) && said.contains("WAYGATE_CONSOLE_BYTES"), "{size}: {code:?} {said}");
    }
}
