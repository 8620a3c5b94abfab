//! Servers on HTTP+SSE of 2024-11-05, where everything comes on one stream.

use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::scripted::{Asked, http, read, well};
use super::{House, remote};
use crate::legacy::Session;
use crate::support::eventually;

const MAX_BYTES: usize = 100_000;

/// A server with two tools, one of which says more than is taken.
struct Old {
    url: String,
    streams: Mutex<Vec<TcpStream>>,
    /// How it refuses what is posted to it in the way of later revisions.
    refusal: &'static str,
    /// Whether it was brought up to date, and speaks Streamable HTTP alone.
    is_renewed: AtomicBool,
    sessions: Mutex<Vec<Value>>,
}

impl Old {
    fn start(refusal: &'static str) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Arc::new(Self {
            url: format!("http://{}/sse", listener.local_addr().expect("an address")),
            streams: Mutex::default(),
            refusal,
            is_renewed: AtomicBool::new(false),
            sessions: Mutex::default(),
        });
        let serving = Arc::clone(&server);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = Arc::clone(&serving);
                std::thread::spawn(move || {
                    let asked = read(&stream)?;
                    // One that is told of what became of its connection would not know what to do about it.
                    server.serve(&asked, stream).ok()
                });
            }
        });
        server
    }

    /// How many streams were ever asked for.
    fn streams(&self) -> usize {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Ends all streams, and speaks Streamable HTTP from now on.
    fn renew(&self) {
        self.is_renewed.store(true, Ordering::Relaxed);
        for stream in &*self.streams.lock().unwrap_or_else(PoisonError::into_inner) {
            // One that is closed already is as it shall be.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn serve(&self, asked: &Asked, mut connection: TcpStream) -> std::io::Result<()> {
        if self.is_renewed.load(Ordering::Relaxed) {
            return connection.write_all(well(asked, &["say"], &self.sessions).as_bytes());
        }
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.method == "GET" && asked.path == "/sse" {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
            let number = streams.len();
            write!(connection, "{head}event: endpoint\ndata: /messages/{number}\n\n")?;
            streams.push(connection);
            return Ok(());
        }
        let number = asked.path.strip_prefix("/messages/").and_then(|number| number.parse::<usize>().ok());
        let Some(stream) = number.and_then(|number| streams.get_mut(number)) else {
            return connection.write_all(http(self.refusal, "", "").as_bytes());
        };
        connection.write_all(http("202 Accepted", "", "").as_bytes())?;
        if asked.body["id"].is_null() {
            return Ok(());
        }
        let answer = match answer(asked) {
            Some(result) => json!({"jsonrpc": "2.0", "id": asked.body["id"], "result": result}),
            None => {
                json!({"jsonrpc": "2.0", "id": asked.body["id"], "error": {"code": -32601, "message": "no"}})
            }
        };
        write!(stream, "event: message\ndata: {answer}\n\n")
    }
}

fn answer(asked: &Asked) -> Option<Value> {
    let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
    let text = |text: &str| json!({"content": [{"type": "text", "text": text}]});
    match (asked.body["method"].as_str()?, asked.tool()) {
        ("initialize", _) => Some(json!({
            "protocolVersion": "2024-11-05", "capabilities": {"tools": {}},
            "serverInfo": {"name": "old", "version": "1"},
        })),
        ("tools/list", _) => Some(json!({"tools": [tool("much"), tool("say")]})),
        ("tools/call", "much") => Some(text(&"x".repeat(MAX_BYTES * 3))),
        ("tools/call", _) => Some(text("said")),
        _ => None,
    }
}

#[test]
fn an_answer_on_the_old_transport_is_cut_at_the_limit_and_the_next_call_gets_its_own() {
    let more =
        format!("transport = \"sse\"\nresponse_max_bytes = {MAX_BYTES}\nbreaker = {{ failures = 1000 }}");
    let house = House::with(&[("old", remote(&Old::start("404 Not Found").url, &more))]);
    house.is_ready("old");
    assert_eq!(house.plugin("old")["report"]["speaker"]["link"]["transport"], "sse");
    // The stream is cut off for all who use it: until there is another one, a call may be told to come back, and no more.
    let says = || {
        let said = eventually("a call is answered", || {
            let reply = house.server.call("tools/call", json!({"name": "old__say", "arguments": {}}));
            assert!(matches!(reply.status, 200 | 503), "{}", reply.text());
            (reply.status == 200).then_some(reply)
        });
        assert_eq!(said.json()["result"]["content"][0]["text"], "said", "{}", said.text());
    };
    for _ in 0..2 {
        says();
        house.fails("old__much", json!({}), 500, "response_max_bytes");
    }
    says();
    house.neighbour_is_well();
}

#[test]
fn a_server_that_takes_nothing_posted_is_spoken_to_over_the_old_transport_until_it_is_renewed() {
    for refusal in ["404 Not Found", "405 Method Not Allowed"] {
        let server = Old::start(refusal);
        let house = House::with(&[("old", remote(&server.url, "isolation = \"per_client\""))]);
        house.is_ready("old");
        let report = || house.plugin("old")["report"].clone();
        assert_eq!(report()["speaker"]["link"]["transport"], "sse", "{refusal}: {}", report());
        assert_eq!(house.says("old__say", json!({})), "said");
        let before = server.streams();
        let session = Session::newest(&house.server);
        let said = session.tool("old__say", json!({})).result();
        assert_eq!(said["content"][0]["text"], "said", "a session of one client goes the same way");
        assert_eq!(server.streams(), before + 1, "and has a stream of its own");
        server.renew();
        let text = eventually("it is asked anew what it speaks", || {
            let reply = house.call("old__say", json!({}));
            (reply.status == 200).then(|| super::text_of(&reply)).filter(|text| text.starts_with("session-"))
        });
        assert_eq!(report()["speaker"]["link"]["transport"], "http", "{text}: {}", report());
        house.neighbour_is_well();
    }
}
