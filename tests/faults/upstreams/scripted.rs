//! A server on HTTP that a test scripts: it answers each request with the bytes that the script gives.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A request, as the server sees it.
pub struct Asked {
    pub method: String,
    pub session: Option<String>,
    pub body: Value,
}

impl Asked {
    pub fn tool(&self) -> &str {
        self.body["params"]["name"].as_str().unwrap_or_default()
    }
}

type Script = dyn Fn(&Asked) -> Option<String> + Send + Sync;

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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, script): (_, Arc<Script>) = (Arc::clone(&seen), Arc::new(script));
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
                    let answer = script(&asked).unwrap_or_else(|| well(&asked, tools, &sessions));
                    drop((&stream).write_all(answer.as_bytes()));
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

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let method = line.split(' ').next()?.to_owned();
    let (mut length, mut session) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "mcp-session-id" => session = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, session, body: serde_json::from_slice(&body).unwrap_or_default() })
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

fn well(asked: &Asked, tools: &[&str], sessions: &Mutex<Vec<Value>>) -> String {
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
