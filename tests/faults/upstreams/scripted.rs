//! A server on HTTP that a test scripts: it answers each request with the bytes that the script gives.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::PATIENCE;

/// How an answer begins that is a stream of events.
pub const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// A request, as the server sees it.
pub struct Asked {
    pub method: String,
    pub path: String,
    /// Their names in small letters.
    pub headers: Vec<(String, String)>,
    pub session: Option<String>,
    pub body: Value,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn tool(&self) -> &str {
        self.body["params"]["name"].as_str().unwrap_or_default()
    }
}

/// What a server writes.
pub enum Answer {
    /// This, and then it closes the connection.
    Whole(String),
    /// The same of what is no text.
    Bytes(Vec<u8>),
    /// This, and then letters for as long as they are taken.
    Endless(String),
    /// This, and then the connection is reset.
    Reset(String),
    /// This, and then nothing until the other side closes, which is noted under the name.
    Held(String, &'static str),
}

impl Answer {
    fn write(&self, mut stream: &TcpStream, noted: &Mutex<Vec<String>>) -> std::io::Result<()> {
        match self {
            Self::Whole(text) => stream.write_all(text.as_bytes()),
            Self::Bytes(bytes) => stream.write_all(bytes),
            Self::Endless(head) => {
                stream.write_all(head.as_bytes())?;
                loop {
                    stream.write_all(&[b'x'; 1 << 16])?;
                }
            }
            Self::Reset(text) => {
                stream.write_all(text.as_bytes())?;
                // Closed with this it says so to the other side at once, and sends no more.
                Ok(rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?)
            }
            Self::Held(head, name) => {
                stream.write_all(head.as_bytes())?;
                stream.set_read_timeout(Some(PATIENCE))?;
                // It was sent whole, and nothing follows: what is read is the end, be it a rough one.
                let closed = match stream.read(&mut [0; 1]) {
                    Ok(read) => read == 0,
                    Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
                };
                if closed {
                    noted.lock().expect("no panic").push(format!("closed {name}"));
                }
                Ok(())
            }
        }
    }
}

type Script = dyn Fn(&Asked) -> Option<Answer> + Send + Sync;
/// How a request is answered that the script leaves alone: by the tools that there are.
type Well = fn(&Asked, &[&str], &Mutex<Vec<Value>>) -> String;

/// The server; it goes on until the test's process ends.
pub struct Scripted {
    pub address: SocketAddr,
    /// Methods and tools of all requests so far.
    pub seen: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// A server of 2025-11-25 with these tools, whose calls the script answers; what it gives no answer to is answered well.
    pub fn new(
        tools: &'static [&'static str],
        script: impl Fn(&Asked) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::legacy(tools, move |asked| script(asked).map(Answer::Whole))
    }

    /// The same whose script may do more than answer.
    pub fn legacy(
        tools: &'static [&'static str],
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::start(tools, well, Arc::new(script))
    }

    /// The same of 2026-07-28.
    pub fn modern(
        tools: &'static [&'static str],
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::start(tools, well_in_modern, Arc::new(script))
    }

    fn start(tools: &'static [&'static str], well: Well, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let sessions = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (noted, script, sessions) =
                    (Arc::clone(&noted), Arc::clone(&script), Arc::clone(&sessions));
                std::thread::spawn(move || {
                    let Some(asked) = read(&stream) else { return };
                    let what = format!(
                        "{} {} {}",
                        asked.method,
                        asked.body["method"].as_str().unwrap_or("-"),
                        asked.tool()
                    );
                    noted.lock().expect("no panic").push(what);
                    let answer =
                        script(&asked).unwrap_or_else(|| Answer::Whole(well(&asked, tools, &sessions)));
                    // Whoever has heard enough may leave.
                    let _left = answer.write(&stream, &noted);
                });
            }
        });
        Self { address, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub fn count(&self, what: &str) -> usize {
        self.seen.lock().expect("no panic").iter().filter(|seen| seen.contains(what)).count()
    }
}

pub fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut asked = Asked { method, path, headers, session: None, body: Value::Null };
    asked.session = asked.header("mcp-session-id").map(str::to_owned);
    let length = asked.header("content-length").unwrap_or("0").parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = serde_json::from_slice(&body).unwrap_or_default();
    Some(asked)
}

/// An answer of one connection.
pub fn http(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

pub fn result(asked: &Asked, headers: &str, result: &Value) -> String {
    let body = json!({"jsonrpc": "2.0", "id": asked.body["id"], "result": result}).to_string();
    http("200 OK", &format!("Content-Type: application/json\r\n{headers}"), &body)
}

pub fn text(asked: &Asked, text: &str) -> String {
    result(asked, "", &json!({"content": [{"type": "text", "text": text}]}))
}

pub fn well(asked: &Asked, tools: &[&str], sessions: &Mutex<Vec<Value>>) -> String {
    if asked.method != "POST" {
        return http("405 Method Not Allowed", "", "");
    }
    match asked.body["method"].as_str().unwrap_or_default() {
        "initialize" => {
            let mut sessions = sessions.lock().expect("no panic");
            sessions.push(asked.body["params"]["capabilities"].clone());
            let welcome = json!({
                "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "scripted", "version": "1"},
            });
            result(asked, &format!("Mcp-Session-Id: session-{}\r\n", sessions.len()), &welcome)
        }
        "tools/list" => {
            let tool = |name: &&str| json!({"name": name, "inputSchema": {"type": "object"}});
            result(asked, "", &json!({"tools": tools.iter().map(tool).collect::<Vec<_>>()}))
        }
        "tools/call" => text(asked, asked.session.as_deref().unwrap_or("none")),
        method if asked.body["id"].is_null() || method.is_empty() => http("202 Accepted", "", ""),
        _ => {
            let error = json!({"code": -32601, "message": "Method not found"});
            let body = json!({"jsonrpc": "2.0", "id": asked.body["id"], "error": error}).to_string();
            http("200 OK", "Content-Type: application/json\r\n", &body)
        }
    }
}

fn well_in_modern(asked: &Asked, tools: &[&str], _: &Mutex<Vec<Value>>) -> String {
    if asked.method != "POST" {
        return http("405 Method Not Allowed", "", "");
    }
    let complete = |mut members: Value| {
        members["resultType"] = "complete".into();
        members["ttlMs"] = 0.into();
        members["cacheScope"] = "private".into();
        result(asked, "", &members)
    };
    match asked.body["method"].as_str().unwrap_or_default() {
        "server/discover" => complete(json!({
            "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "scripted", "version": "2"}},
        })),
        "tools/list" => {
            let tool = |name: &&str| json!({"name": name, "inputSchema": {"type": "object"}});
            complete(json!({"tools": tools.iter().map(tool).collect::<Vec<_>>()}))
        }
        "tools/call" => result(
            asked,
            "",
            &json!({"resultType": "complete", "content": [{"type": "text", "text": "well"}]}),
        ),
        _ => {
            let error = json!({"code": -32601, "message": "Method not found"});
            let body = json!({"jsonrpc": "2.0", "id": asked.body["id"], "error": error}).to_string();
            http("404 Not Found", "Content-Type: application/json\r\n", &body)
        }
    }
}
