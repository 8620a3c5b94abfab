//! Servers on HTTP+SSE of 2024-11-05, where everything comes on one stream.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::scripted::{Asked, http, read};
use super::{House, remote};
use crate::support::eventually;

const MAX_BYTES: usize = 100_000;

/// A server with two tools, one of which says more than is taken; gives its URL.
fn old_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/sse", listener.local_addr().expect("an address"));
    let streams = Arc::new(Mutex::new(Vec::new()));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let streams = Arc::clone(&streams);
            std::thread::spawn(move || {
                let asked = read(&stream)?;
                // One that is told of what became of its connection would not know what to do about it.
                serve(&asked, stream, &streams).ok()
            });
        }
    });
    url
}

fn serve(asked: &Asked, mut connection: TcpStream, streams: &Mutex<Vec<TcpStream>>) -> std::io::Result<()> {
    let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
    if asked.method == "GET" && asked.path == "/sse" {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        let number = streams.len();
        write!(connection, "{head}event: endpoint\ndata: /messages/{number}\n\n")?;
        streams.push(connection);
        return Ok(());
    }
    let number = asked.path.strip_prefix("/messages/").and_then(|number| number.parse::<usize>().ok());
    let Some(stream) = number.and_then(|number| streams.get_mut(number)) else {
        return connection.write_all(http("404 Not Found", "", "").as_bytes());
    };
    connection.write_all(http("202 Accepted", "", "").as_bytes())?;
    if asked.body["id"].is_null() {
        return Ok(());
    }
    let answer = match answer(asked) {
        Some(result) => json!({"jsonrpc": "2.0", "id": asked.body["id"], "result": result}),
        None => json!({"jsonrpc": "2.0", "id": asked.body["id"], "error": {"code": -32601, "message": "no"}}),
    };
    write!(stream, "event: message\ndata: {answer}\n\n")
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
    let house = House::with(&[("old", remote(&old_server(), &more))]);
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
