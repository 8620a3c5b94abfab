//! Behind Debian's nginx, with the very text that the documentation shows: names, addresses, streams, and what is not granted.
//! Where there is no nginx, it says so and passes; `scripts/test` installs it.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::net::{AddressFamily, SocketType};
use serde_json::{Value, json};

use crate::support::tls::{Authority, Secure, ask, connect, open, over};
use crate::support::{Http, Open, PATIENCE, Reply, Server, eventually, program};

const PAGE: &str = include_str!("../../docs/behind-a-proxy.md");
const HOST: &str = "mcp.example.org";
const ADA: &str = "127.0.0.2";
const EVE: &str = "127.0.0.3";

fn nginx() -> Option<PathBuf> {
    let found = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx"];
    let found = found.into_iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: nginx is not installed (apt-get install nginx-light)");
    }
    found
}

/// The text between the fences of the page.
fn shown() -> &'static str {
    let (_, rest) = PAGE.split_once("```nginx\n").expect("the page shows it");
    rest.split_once("```").expect("it ends").0
}

/// nginx before a server, both of them running.
struct Front {
    server: Server,
    nginx: Child,
    address: SocketAddr,
    authority: Authority,
}

impl Front {
    fn begin(settings: &[(&str, &str)]) -> Option<Self> {
        let nginx = nginx()?;
        let public = format!("https://{HOST}");
        let known = [("WAYGATE_PUBLIC_URL", &*public), ("WAYGATE_TRUSTED_PROXIES", "127.0.0.1")];
        let server = serving("faulty_server", &[&known, settings].concat());
        let authority = Authority::new();
        authority.issue("nginx", HOST, 90);
        let (nginx, address) = run(&nginx, &server, &authority);
        Some(Self { server, nginx, address, authority })
    }

    fn connect(&self) -> Secure {
        connect(self.address, HOST, &self.authority.client()).expect("a handshake")
    }

    /// From another address of this machine, as if from another machine.
    fn connect_from(&self, address: &str) -> Secure {
        over(between(address, self.address), HOST, &self.authority.client()).expect("a handshake")
    }

    fn send(&self, request: &Http) -> Reply {
        ask(&mut self.connect(), &request.clone().header("Host", HOST), self.address)
    }

    fn open(&self, request: &Http) -> Open<Secure> {
        open(self.connect(), &request.clone().header("Host", HOST), self.address)
    }
}

/// A connection from one address of this machine to another.
fn between(from: &str, to: SocketAddr) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    let own: IpAddr = from.parse().expect("an address");
    rustix::net::bind(&socket, &SocketAddr::new(own, 0)).expect("an address of this machine");
    rustix::net::connect(&socket, &to).expect("somebody accepts");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.nginx.kill());
        drop(self.nginx.wait());
    }
}

/// A server whose URL is another's, so that its port is asked of itself.
fn serving(name: &str, settings: &[(&str, &str)]) -> Server {
    let own = tempfile::tempdir().expect("a folder");
    let mut command = Server::command(name, own.path(), settings);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the server starts");
    let mut asks = Command::new(program("waygate-mcp"));
    asks.args(["status", "--json", "--data-dir"]).arg(own.path()).env_clear().env("HOME", own.path());
    let address = eventually("it serves", || {
        let told: Value = serde_json::from_slice(&asks.output().ok()?.stdout).ok()?;
        let listener =
            told["listeners"].as_array()?.iter().find_map(|one| one.as_str()?.strip_prefix("http://"))?;
        listener.parse().ok()
    });
    Server::found(child, address, own)
}

/// Runs nginx with the page's text, in which ports and paths alone are put in the place of those that it shows.
fn run(program: &Path, server: &Server, authority: &Authority) -> (Child, SocketAddr) {
    let place = authority.folder.path().display();
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let mut text = shown().to_owned();
    for (theirs, ours) in [
        ("server 127.0.0.1:8000;", format!("server {};", server.address)),
        ("listen 443 ssl;", format!("listen {free} ssl;")),
        ("/etc/ssl/certs/mcp.example.org.pem", format!("{place}/nginx.pem")),
        ("/etc/ssl/private/mcp.example.org.key", format!("{place}/nginx.key")),
    ] {
        assert_eq!(text.matches(theirs).count(), 1, "{theirs}");
        text = text.replace(theirs, &ours);
    }
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
        .concat();
    let whole = format!(
        "daemon off;\npid {place}/nginx.pid;\nerror_log {place}/error.log info;\nworker_processes 1;\nevents {{}}\nhttp {{\n\
         access_log off;\n{temporary}{text}}}\n"
    );
    let file = authority.path("nginx.conf");
    fs::write(&file, whole).expect("a file");
    let mut command = Command::new(program);
    command
        .arg("-p")
        .arg(authority.folder.path())
        .arg("-e")
        .arg(authority.path("start.log"))
        .arg("-c")
        .arg(&file);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx runs");
    eventually("nginx listens", || {
        let ended = child.try_wait().expect("a child can be waited for");
        let log = || fs::read_to_string(authority.path("start.log")).unwrap_or_default();
        assert!(ended.is_none(), "nginx ended: {}", log());
        TcpStream::connect(free).ok()
    });
    (child, free)
}

fn list() -> Http {
    Http::modern("tools/list", json!({})).header("Host", HOST)
}

#[test]
fn calls_come_through_under_the_public_name_and_under_no_other() {
    let Some(front) = Front::begin(&[]) else { return };
    let mut kept = front.connect();
    for _ in 0..3 {
        assert_eq!(ask(&mut kept, &list(), front.address).status, 200);
    }
    let reply = front.send(&Http::tool("steps", json!({})).header("Origin", &format!("https://{HOST}")));
    assert_eq!(reply.result()["content"][0]["text"], "arrived");
    let foreign = ask(&mut kept, &list().set("Host", "evil.example.com"), front.address);
    assert_eq!(foreign.status, 403, "{}", foreign.text());
    let page =
        front.send(&Http::modern("tools/list", json!({})).header("Origin", "https://evil.example.com"));
    assert_eq!(page.status, 403);
}

#[test]
fn events_come_through_one_by_one_while_the_call_goes_on() {
    let Some(front) = Front::begin(&[]) else { return };
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let mut stream = front.open(&Http::modern("subscriptions/listen", wanted));
    assert_eq!(stream.event().expect("a word")["method"], "notifications/subscriptions/acknowledged");
    for _ in 0..3 {
        assert_eq!(front.send(&Http::tool("touch", json!({"what": "tools"}))).status, 200);
        assert_eq!(stream.event().expect("news")["method"], "notifications/tools/list_changed");
    }
    // A call that says two things an hour apart: the first is there long before the second.
    let steps =
        json!({"name": "steps", "arguments": {"n": 2, "ms": 3_600_000}, "_meta": {"progressToken": 1}});
    let mut call = front.open(&Http::modern("tools/call", steps));
    assert_eq!(call.event().expect("a first step")["params"]["progress"], 1);
    drop(call);
    eventually("its going away comes through, too", || {
        (front.server.metric("waygate_cancelled_total") == Some(1.0)).then_some(())
    });
}

#[test]
fn a_session_of_an_older_revision_comes_through() {
    let Some(front) = Front::begin(&[]) else { return };
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let reply = front.send(&Http::post(hello.to_string()));
    let session = reply.header("mcp-session-id").expect("a session").to_owned();
    let listening = Http { head: "GET /mcp".to_owned(), ..Http::post("") };
    let listening = listening.set("Accept", "text/event-stream").header("Mcp-Session-Id", &session);
    let mut stream = front.open(&listening.header("MCP-Protocol-Version", "2025-11-25"));
    assert_eq!(stream.head().0, 200);
    assert_eq!(front.send(&Http::tool("touch", json!({"what": "tools"}))).status, 200);
    let news = std::iter::from_fn(|| stream.event()).find(|event| event["method"].is_string());
    assert_eq!(news.expect("news")["method"], "notifications/tools/list_changed");
}

#[test]
fn limits_go_by_the_address_of_the_client_and_not_by_what_it_says() {
    let Some(front) = Front::begin(&[("WAYGATE_LIMITS_ADDRESS_REQUESTS_PER_MINUTE", "2")]) else { return };
    let from =
        |address: &str, request: &Http| ask(&mut front.connect_from(address), request, front.address).status;
    assert_eq!([from(ADA, &list()), from(ADA, &list()), from(ADA, &list())], [200, 200, 429]);
    assert_eq!(from(EVE, &list()), 200, "another address has its own");
    for header in ["X-Forwarded-For", "X-Real-IP", "Forwarded"] {
        let lies = list().header(header, "203.0.113.9");
        assert_eq!(from(ADA, &lies), 429, "{header}");
    }
    // Who comes by another way than the proxy is not believed either.
    let lies = list().header("X-Forwarded-For", "203.0.113.9");
    let mut direct = between(ADA, front.server.address);
    direct.write_all(&lies.bytes(front.server.address)).expect("the request is taken");
    assert_eq!(Open::on(direct).finish().status, 429);
}

#[test]
fn what_is_granted_on_this_machine_is_not_granted_through_the_proxy_nor_beside_it() {
    let Some(front) = Front::begin(&[]) else { return };
    let reload = Http { head: "POST /plugins/reload".to_owned(), ..Http::get("/") };
    let shown = front.send(&Http::get("/health"));
    assert_eq!(shown.json().as_object().map(serde_json::Map::len), Some(1), "{}", shown.text());
    assert_eq!(front.send(&reload).status, 403);
    // A proxy that says nothing of whom it speaks for looks like this.
    let silent = Http::get("/health").send(front.server.address);
    assert_eq!(silent.json().as_object().map(serde_json::Map::len), Some(1), "{}", silent.text());
    assert_eq!(reload.send(front.server.address).status, 403);
}

#[test]
fn wrong_keys_are_told_of_by_the_address_of_the_client() {
    let Some(front) = Front::begin(&[("WAYGATE_API_KEY", "a-key-that-is-long-enough-to-be-one")]) else {
        return;
    };
    let wrong = list().header("Authorization", "Bearer wrong").header("X-Forwarded-For", "203.0.113.9");
    assert_eq!(ask(&mut front.connect_from(ADA), &wrong, front.address).status, 401);
    eventually("the log names the address", || {
        let log = front.server.log();
        assert!(!log.contains("203.0.113.9"), "{log}");
        log.contains(ADA).then_some(())
    });
}

#[test]
fn a_large_body_is_refused_by_waygate_in_its_own_words() {
    let Some(front) = Front::begin(&[("WAYGATE_BODY_MAX_BYTES", "100000")]) else { return };
    let reply = front.send(&Http::post(vec![b' '; 200_000]));
    assert_eq!(reply.status, 413, "{}", reply.text());
    assert!(reply.text().contains("server.body_max_bytes"), "{}", reply.text());
}
