//! What black-box tests share: a real server process on a free port with a data folder of its own, and a client that
//! speaks HTTP in words of the protocol.

#![allow(
    clippy::allow_attributes,
    dead_code,
    reason = "each test binary uses its own part, and one might use all"
)]
pub mod codes;
pub mod database;
pub mod generated;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
pub mod stdio;
pub mod tls;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The revision that is served.
pub const MODERN: &str = "2026-07-28";

/// A program of this package, built by cargo before the tests run.
pub fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("a test has a path");
    let target = tests.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
    let example = target.join("examples").join(name);
    if example.exists() { example } else { target.join(name) }
}

/// A running server; dropping it kills it.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    pub folder: PathBuf,
    _own: Option<TempDir>,
}

impl Server {
    /// Starts `name` on a fresh data folder, in the environment `test`.
    pub fn start(name: &str) -> Self {
        Self::with(name, &[])
    }

    /// One `faulty_server` for all tests that leave it as they find it; the last to let go of it ends it.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start("faulty_server"));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// The same with more settings, as environment variables.
    pub fn with(name: &str, settings: &[(&str, &str)]) -> Self {
        let own = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self::on(name, own.path(), settings);
        server._own = Some(own);
        server
    }

    /// The same on a folder that is there already, and outlives the server.
    pub fn on(name: &str, folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self::by(Self::command(name, folder, settings), folder)
    }

    /// One that does not run in the environment `test`, on a fresh data folder.
    pub fn in_environment(name: &str, environment: &str) -> Self {
        let own = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(program(name));
        command.args(["--env", environment, "--port", "0", "--data-dir"]).arg(own.path());
        command.env_clear().envs(database_of(own.path())).env("HOME", own.path()).current_dir(own.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut server = Self::by(command, own.path());
        server._own = Some(own);
        server
    }

    /// Starts a server by a command that has pipes for what it says.
    pub fn by(mut command: Command, folder: &Path) -> Self {
        let mut child = command.spawn().expect("the server starts");
        let stdout = child.stdout.take().expect("piped");
        let mut lines = BufReader::new(stdout).lines();
        let url =
            lines.by_ref().map_while(Result::ok).find_map(|line| Some(line.split_once("://")?.1.to_owned()));
        let Some(url) = url else {
            let mut says = String::new();
            drop(child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut says)));
            panic!("{command:?} did not start: {says}");
        };
        // What it says later must not fill the pipes.
        std::thread::spawn(move || lines.for_each(drop));
        let stderr = child.stderr.take().expect("piped");
        std::thread::spawn(move || BufReader::new(stderr).lines().for_each(drop));
        let address = url.trim_end_matches("/mcp").parse().expect("an address");
        Self { child, address, folder: folder.to_owned(), _own: None }
    }

    /// One that was started otherwise.
    pub fn found(child: Child, address: SocketAddr, own: TempDir) -> Self {
        Self { child, address, folder: own.path().to_owned(), _own: Some(own) }
    }

    /// The command that starts it, with pipes for what it says.
    pub fn command(name: &str, folder: &Path, settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program(name));
        command.args(["--env", "test", "--port", "0", "--workers", "2", "--data-dir"]).arg(folder);
        command.env_clear().envs(database_of(folder)).env("HOME", folder);
        command.envs(settings.iter().copied()).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `http://127.0.0.1:<port><path>`
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("logs/waygate.log")).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end and gives the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let child = &mut self.child;
        code_of(eventually("the server ends", || child.try_wait().expect("a child can be waited for")))
    }

    /// A GET of an operations endpoint: status and JSON.
    pub fn get(&self, path: &str) -> (u16, Value) {
        let reply = Http::get(path).send(self.address);
        (reply.status, reply.json())
    }

    /// All metrics, as text.
    pub fn metrics(&self) -> String {
        Http::get("/metrics").send(self.address).text()
    }

    /// The value of one metric, named with its labels as `/metrics` shows them; none when it is not there.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// A modern request with all its headers, and its reply.
    pub fn call(&self, method: &str, params: Value) -> Reply {
        Http::modern(method, params).send(self.address)
    }

    /// A tool call that must give a result.
    pub fn tool(&self, name: &str, arguments: Value) -> Value {
        let reply = self.call("tools/call", json!({"name": name, "arguments": arguments}));
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["result"].clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn database_of(folder: &Path) -> Option<(&'static str, String)> {
    Some(("WAYGATE_DATABASE_URL", database::url_of(folder)?))
}

/// The exit code; of a process that a signal ended, which one it was is said for whoever reads why a test failed.
pub fn code_of(status: ExitStatus) -> Option<i32> {
    if let Some(signal) = status.signal() {
        eprintln!("a process was ended by signal {signal}, core dumped: {}", status.core_dumped());
    }
    status.code()
}

/// Polls until `look` sees something.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A request to be, written byte by byte so that nothing in it is mended on the way.
#[derive(Clone)]
pub struct Http {
    pub head: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Http {
    pub fn get(path: &str) -> Self {
        Self { head: format!("GET {path}"), headers: Vec::new(), body: Vec::new() }
    }

    /// A POST to `/mcp` of any bytes, with the headers that every client sends.
    pub fn post(body: impl Into<Vec<u8>>) -> Self {
        let request = Self { head: "POST /mcp".to_owned(), headers: Vec::new(), body: body.into() };
        request
            .header("Content-Type", "application/json")
            .header("Accept", "application/json, text/event-stream")
    }

    /// A complete modern request with id 1.
    pub fn modern(method: &str, params: Value) -> Self {
        let body = message(method, params);
        let name = body["params"]["name"].as_str().or(body["params"]["uri"].as_str()).map(str::to_owned);
        let request =
            Self::post(body.to_string()).header("MCP-Protocol-Version", MODERN).header("Mcp-Method", method);
        match (method, name) {
            ("tools/call" | "prompts/get" | "resources/read", Some(name)) => {
                request.header("Mcp-Name", &name)
            }
            _ => request,
        }
    }

    /// A complete tool call.
    pub fn tool(name: &str, arguments: Value) -> Self {
        Self::modern("tools/call", json!({"name": name, "arguments": arguments}))
    }

    /// Adds a header, or one more of the same name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a header out.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// Puts a header in the place of those of its name.
    pub fn set(self, name: &str, value: &str) -> Self {
        self.without(name).header(name, value)
    }

    /// The bytes on the wire.
    pub fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut text = format!("{} HTTP/1.1\r\n", self.head);
        let has = |name: &str| self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if !has("Host") {
            text += &format!("Host: {address}\r\n");
        }
        if !has("Content-Length") && !has("Transfer-Encoding") {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        [text.as_bytes(), b"\r\n", &self.body].concat()
    }

    /// Sends it on a connection of its own and reads the whole reply.
    pub fn send(&self, address: SocketAddr) -> Reply {
        self.open(address).finish()
    }

    /// Sends it and gives the stream to be read step by step.
    pub fn open(&self, address: SocketAddr) -> Open {
        let mut stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(&self.bytes(address)).expect("the request is taken");
        Open { reader: BufReader::new(stream), head: None }
    }
}

/// A modern message with id 1 and a complete `_meta`, unless `params` bring their own.
pub fn message(method: &str, mut params: Value) -> Value {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}, "roots": {}},
        "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
    });
    let own = params["_meta"].take();
    params["_meta"] = meta;
    for (key, value) in own.as_object().into_iter().flatten() {
        params["_meta"][key] = value.clone();
    }
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

/// An open reply.
pub struct Open<S = TcpStream> {
    pub reader: BufReader<S>,
    head: Option<(u16, Vec<(String, String)>)>,
}

impl<S: Read> Open<S> {
    /// On a connection that is there already.
    pub fn on(stream: S) -> Self {
        Self { reader: BufReader::new(stream), head: None }
    }

    /// Status and headers.
    pub fn head(&mut self) -> (u16, Vec<(String, String)>) {
        if let Some(head) = &self.head {
            return head.clone();
        }
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a status line");
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).expect("a header");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        self.head = Some((status, headers.clone()));
        (status, headers)
    }

    /// The next event's JSON on an event stream; comments are passed over. None at the end.
    pub fn event(&mut self) -> Option<Value> {
        self.head();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Signs of life keep the read from timing out, but are not what was waited for.
            assert!(Instant::now() < deadline, "no event within {PATIENCE:?}");
            let mut line = String::new();
            if self.reader.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            if let Some(data) = line.trim_end().strip_prefix("data: ") {
                return Some(serde_json::from_str(data).expect("an event is JSON"));
            }
            if line.trim_end() == "0" {
                return None;
            }
        }
    }

    /// Reads the rest.
    pub fn finish(mut self) -> Reply {
        let (status, headers) = self.head();
        let find =
            |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let mut body = Vec::new();
        if find("transfer-encoding").is_some() {
            let deadline = Instant::now() + PATIENCE * 2;
            loop {
                // A stream that was not expected may go on for ever, with signs of life.
                assert!(Instant::now() < deadline, "the reply does not end: {headers:?}");
                let mut size = String::new();
                self.reader.read_line(&mut size).expect("a chunk's size");
                let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
                let mut chunk = vec![0; size + 2];
                self.reader.read_exact(&mut chunk).expect("a chunk");
                if size == 0 {
                    break;
                }
                body.extend_from_slice(&chunk[..size]);
            }
        } else {
            let length = find("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            body.resize(length, 0);
            self.reader.read_exact(&mut body).expect("the body");
        }
        Reply { status, headers, body }
    }
}

/// A whole reply.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; of an event stream, its last event.
    pub fn json(&self) -> Value {
        let text = self.text();
        let last = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&text);
        serde_json::from_str(last).unwrap_or(Value::Null)
    }

    /// All events of an event stream.
    pub fn events(&self) -> Vec<Value> {
        self.text()
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).expect("JSON"))
            .collect()
    }

    /// The result, when there is one.
    pub fn result(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()["result"].clone()
    }

    /// Whether it came as an event stream.
    pub fn is_stream(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }

    /// The error's code.
    pub fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or(0)
    }
}

/// `text` as `Mcp-Name` and `Mcp-Param-*` carry what no header may hold.
pub fn encoded(text: &str) -> String {
    format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(text))
}

/// A `_meta` of a client that can be asked for everything.
pub fn capable() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}, "roots": {}},
    })
}

/// Sends these bytes and reads until the server closes.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(bytes).expect("the request is taken");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("the server closes");
    String::from_utf8_lossy(&said).into_owned()
}
