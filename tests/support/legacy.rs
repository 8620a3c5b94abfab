//! A small client of the revisions with sessions: 2024-11-05 to 2025-11-25, over HTTP.
//!
//! Must not be kind: it sends what it is told to send, and shows what came.

#![allow(
    clippy::allow_attributes,
    dead_code,
    reason = "each test binary uses its own part, and one might use all"
)]
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{Http, PATIENCE, Reply, Server};

/// The revisions with sessions, oldest first.
pub const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// The newest of them.
pub const NEWEST: &str = "2025-11-25";

/// Capabilities of a client that can be asked for everything.
pub fn everything() -> Value {
    json!({
        "roots": {"listChanged": true},
        "sampling": {"tools": {}},
        "elicitation": {"form": {}, "url": {}},
    })
}

/// The first message of a session.
pub fn handshake(revision: &str, capabilities: Value) -> Value {
    let params = json!({
        "protocolVersion": revision,
        "capabilities": capabilities,
        "clientInfo": {"name": "old", "version": "1"},
    });
    request(0, "initialize", params)
}

/// A request without anything that only newer revisions know.
pub fn request(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params})
}

/// A message that wants no answer.
pub fn notification(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// An answer to what was asked.
pub fn answer(ask: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": ask["id"], "result": result})
}

/// One session over streamable HTTP.
pub struct Session {
    address: SocketAddr,
    /// The secret.
    pub id: String,
    /// What `initialize` answered.
    pub welcome: Value,
    /// Sent with every message.
    headers: Vec<(String, String)>,
    next: AtomicU64,
}

impl Session {
    /// Initializes a session and says so.
    #[track_caller]
    pub fn open(server: &Server, revision: &str, capabilities: Value) -> Self {
        Self::with(server, revision, capabilities, &[])
    }

    /// One of the newest revision, whose client can be asked for everything.
    #[track_caller]
    pub fn newest(server: &Server) -> Self {
        Self::open(server, NEWEST, everything())
    }

    /// The same as [`Session::open`], with more headers on every message.
    #[track_caller]
    pub fn with(server: &Server, revision: &str, capabilities: Value, headers: &[(&str, &str)]) -> Self {
        let hello = Http::post(handshake(revision, capabilities).to_string());
        let hello = headers.iter().fold(hello, |hello, (name, value)| hello.header(name, value));
        let reply = hello.send(server.address);
        let welcome = reply.result();
        let id = reply.header("mcp-session-id").expect("a session has an id").to_owned();
        let mut headers: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        if revision >= "2025-06-18" {
            headers.push(("MCP-Protocol-Version".to_owned(), revision.to_owned()));
        }
        let session = Self { address: server.address, id, welcome, headers, next: AtomicU64::new(1) };
        assert_eq!(session.notify("notifications/initialized", json!({})).status, 202);
        session
    }

    /// The same session at another server.
    pub fn at(self, server: &Server) -> Self {
        Self { address: server.address, ..self }
    }

    /// A POST of this message, with the headers of the session.
    pub fn request(&self, message: &Value) -> Http {
        self.dress(Http::post(message.to_string()))
    }

    fn dress(&self, request: Http) -> Http {
        let request = request.header("Mcp-Session-Id", &self.id);
        self.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    }

    /// Sends a message and gives the whole reply.
    pub fn post(&self, message: &Value) -> Reply {
        self.request(message).send(self.address)
    }

    /// Sends a request under an id of its own and gives the whole reply.
    pub fn call(&self, method: &str, params: Value) -> Reply {
        self.post(&request(self.next_id(), method, params))
    }

    /// An id that no request had yet.
    pub fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Calls a tool and gives the whole reply.
    pub fn tool(&self, name: &str, arguments: Value) -> Reply {
        self.call("tools/call", json!({"name": name, "arguments": arguments}))
    }

    /// Calls a tool and gives its stream, or what comes instead.
    pub fn begin(&self, name: &str, arguments: Value) -> Stream {
        self.begin_as(self.next_id(), name, arguments, json!({}))
    }

    /// The same under an id and with a `_meta`.
    pub fn begin_as(&self, id: impl Into<Value>, name: &str, arguments: Value, meta: Value) -> Stream {
        let params = json!({"name": name, "arguments": arguments, "_meta": meta});
        Stream::open(&self.request(&request(id, "tools/call", params)), self.address)
    }

    /// Says something that wants no answer.
    pub fn notify(&self, method: &str, params: Value) -> Reply {
        self.post(&notification(method, params))
    }

    /// Answers what the server asked.
    #[track_caller]
    pub fn answer(&self, ask: &Value, result: Value) {
        let reply = self.post(&answer(ask, result));
        assert_eq!((reply.status, reply.body.len()), (202, 0), "{}", reply.text());
    }

    /// The GET of a stream for what belongs to no request.
    pub fn listen(&self) -> Http {
        self.dress(Http::get("/mcp").header("Accept", "text/event-stream"))
    }

    /// Opens such a stream.
    #[track_caller]
    pub fn stream(&self) -> Stream {
        Stream::open(&self.listen(), self.address).opened()
    }

    /// The GET that takes up a stream behind the event of this id.
    pub fn resumption(&self, last: &str) -> Http {
        self.listen().header("Last-Event-ID", last)
    }

    /// Takes up a stream behind the event of this id.
    #[track_caller]
    pub fn resume(&self, last: &str) -> Stream {
        Stream::open(&self.resumption(last), self.address).opened()
    }

    /// The DELETE that ends it.
    pub fn ending(&self) -> Http {
        self.dress(Http { head: "DELETE /mcp".to_owned(), ..Http::get("") })
    }

    /// Ends it.
    pub fn end(&self) -> Reply {
        self.ending().send(self.address)
    }
}

/// One event of a stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub name: Option<String>,
    pub retry: Option<u64>,
    pub data: Option<String>,
}

impl Event {
    /// Its message.
    #[track_caller]
    pub fn message(&self) -> Value {
        serde_json::from_str(self.data.as_deref().unwrap_or_default()).expect("an event is JSON")
    }
}

/// An event stream, read event by event; or the reply that came instead.
pub struct Stream {
    reader: BufReader<TcpStream>,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// What came and was not yet looked at.
    buffer: String,
    ended: bool,
    /// How many comments came.
    pub comments: usize,
    /// The id of the last event that had one.
    pub last: Option<String>,
}

impl Stream {
    /// Sends a request and reads the head of its reply.
    pub fn open(request: &Http, address: SocketAddr) -> Self {
        let mut open = request.open(address);
        let (status, headers) = open.head();
        let (buffer, ended) = (String::new(), false);
        Self { reader: open.reader, status, headers, buffer, ended, comments: 0, last: None }
    }

    /// It must be one, and no refusal.
    #[track_caller]
    fn opened(mut self) -> Self {
        let refusal = if self.status == 200 { Vec::new() } else { self.rest() };
        assert_eq!(self.status, 200, "{refusal:?}");
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads one more chunk; whether there was one.
    fn fill(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let mut bytes = Vec::new();
        let length = self.header("content-length").map(|length| length.parse().expect("a length"));
        if let Some(length) = length {
            bytes.resize(length, 0);
            self.ended = true;
        } else {
            let mut size = String::new();
            self.reader.read_line(&mut size).expect("a chunk in time");
            // A connection that ends without its last chunk was cut.
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
            self.ended = size == 0;
            bytes.resize(size + 2, 0);
        }
        self.reader.read_exact(&mut bytes).expect("a chunk");
        let whole = bytes.len() - if length.is_some() { 0 } else { 2 };
        self.buffer += std::str::from_utf8(&bytes[..whole]).expect("UTF-8");
        !self.ended || whole > 0
    }

    /// The next event; comments are counted and passed over. None at the end.
    pub fn event(&mut self) -> Option<Event> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Signs of life keep the read from timing out, but are not what was waited for.
            assert!(Instant::now() < deadline, "no event within {PATIENCE:?}");
            let Some((block, rest)) = self.buffer.split_once("\n\n") else {
                if !self.fill() {
                    return None;
                }
                continue;
            };
            let (block, rest) = (block.to_owned(), rest.to_owned());
            self.buffer = rest;
            let mut event = Event::default();
            for line in block.lines() {
                match line.split_once(": ").or(line.split_once(':')) {
                    Some(("id", id)) => event.id = Some(id.to_owned()),
                    Some(("event", name)) => event.name = Some(name.to_owned()),
                    Some(("retry", retry)) => event.retry = Some(retry.parse().expect("milliseconds")),
                    Some(("data", data)) => event.data = Some(data.to_owned()),
                    Some(("", _)) => self.comments += 1,
                    other => panic!("no line of an event stream: {other:?}"),
                }
            }
            if event == Event::default() {
                continue;
            }
            if event.id.is_some() {
                self.last.clone_from(&event.id);
            }
            return Some(event);
        }
    }

    /// The next message; what has no data is passed over. None at the end.
    pub fn message(&mut self) -> Option<Value> {
        loop {
            let event = self.event()?;
            if event.data.as_ref().is_some_and(|data| !data.is_empty()) {
                return Some(event.message());
            }
        }
    }

    /// The next message, which must be there.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        self.message().expect("a message before the end")
    }

    /// The next message must be a request; gives it.
    #[track_caller]
    pub fn ask(&mut self, method: &str) -> Value {
        let ask = self.next();
        assert_eq!(ask["method"], method, "{ask}");
        assert!(ask["id"].is_u64() && ask["jsonrpc"] == "2.0", "{ask}");
        ask
    }

    /// All messages up to the end.
    pub fn rest(&mut self) -> Vec<Value> {
        if self.header("content-type") == Some("text/event-stream") {
            return std::iter::from_fn(|| self.message()).collect();
        }
        while self.fill() && !self.ended {}
        serde_json::from_str(&self.buffer).into_iter().collect()
    }

    /// The last message up to the end.
    #[track_caller]
    pub fn last_message(&mut self) -> Value {
        self.rest().pop().expect("a last message")
    }
}
