//! What a body may be: one message, whole, in time, of bearable size, and unambiguous.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::{Http, MODERN, PATIENCE, Reply, Server, eventually, message};

fn send(server: &Server, body: impl Into<Vec<u8>>) -> Reply {
    Http::post(body).send(server.address)
}

/// An error without an id, of this status and code.
#[track_caller]
fn refused(reply: &Reply, status: u16, code: i64) {
    let body = reply.json();
    assert_eq!((reply.status, reply.code()), (status, code), "{}", reply.text());
    assert_eq!(body["jsonrpc"], "2.0");
    assert!(body.get("id").is_none(), "an id that could not be read is left out, not null: {body}");
    assert!(body["error"]["message"].is_string() && body["error"]["data"]["advice"].is_string(), "{body}");
}

/// A modern request as text, with these bytes as its arguments.
fn with_arguments(arguments: &str) -> Http {
    let body = message("tools/call", json!({"name": "repeat", "arguments": "HERE"})).to_string();
    Http { body: body.replace("\"HERE\"", arguments).into_bytes(), ..Http::tool("repeat", json!({})) }
}

#[test]
fn what_is_not_json_is_a_parse_error() {
    let server = Server::shared();
    let whole = message("tools/list", json!({})).to_string();
    let truncated = &whole[..whole.len() - 2];
    let trailing = format!("{whole}{whole}");
    for body in ["", " ", "{", "nonsense", "{'a': 1}", "{\"a\": 01}", "[1,]", truncated, &trailing] {
        refused(&send(&server, body), 400, -32700);
    }
    refused(&send(&server, [b'\0', 0xff, 0x13, 0x37]), 400, -32700);
    refused(&send(&server, &b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"caf\xe9\"}"[..]), 400, -32700);
    refused(&send(&server, &b"\xef\xbb\xbf{}"[..]), 400, -32700);
}

#[test]
fn json_that_is_no_message_is_an_invalid_request() {
    let server = Server::shared();
    for body in ["[]", "1", "null", "\"text\"", "true", "{}", r#"{"jsonrpc":"2.0"}"#] {
        refused(&send(&server, body), 400, -32600);
    }
    let batch = json!([message("tools/list", json!({})), message("tools/list", json!({}))]);
    refused(&send(&server, batch.to_string()), 400, -32600);
}

#[test]
fn a_member_of_the_wrong_type_is_an_invalid_request_that_keeps_its_id() {
    let server = Server::shared();
    for (key, value) in [
        ("jsonrpc", json!("1.0")),
        ("jsonrpc", json!(2.0)),
        ("jsonrpc", Value::Null),
        ("method", json!(7)),
        ("method", Value::Null),
        ("params", json!([1])),
        ("params", json!("x")),
        ("params", Value::Null),
    ] {
        let mut body = message("tools/list", json!({}));
        body["id"] = json!("q");
        body[key] = value;
        let reply = send(&server, body.to_string());
        assert_eq!((reply.status, reply.code()), (400, -32600), "{body}: {}", reply.text());
        if key != "jsonrpc" || body[key].is_string() {
            assert_eq!(reply.json()["id"], "q", "{body}");
        }
    }
}

#[test]
fn a_key_that_stands_twice_is_refused_at_any_depth() {
    let server = Server::shared();
    refused(&send(&server, r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}"#), 400, -32700);
    for arguments in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":{"b":[{"c":1,"c":1}]}}"#,
        r#"{"a":1,"\u0061":2}"#,
        &format!("{{{},\"k0\":1}}", (0..100).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(",")),
    ] {
        refused(&with_arguments(arguments).send(server.address), 400, -32700);
    }
    assert_eq!(with_arguments(r#"{"a":1,"b":{"a":1}}"#).send(server.address).status, 200);
}

#[test]
fn hostile_depth_is_refused_and_the_server_lives_on() {
    let server = Server::shared();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let inner = if open == "[" { "" } else { "1" };
        let deep = |depth: usize| format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
        refused(&send(&server, deep(10_000)), 400, -32700);
        refused(&send(&server, open.repeat(10_000)), 400, -32700);
        let arguments = format!("{{\"a\":{}}}", deep(10_000));
        refused(&with_arguments(&arguments).send(server.address), 400, -32700);
        let arguments = format!("{{\"a\":{}}}", deep(100));
        let reply = with_arguments(&arguments).send(server.address);
        assert_eq!(reply.result()["content"][0]["text"], *arguments);
    }
    server.tool("repeat", json!({}));
}

#[test]
fn a_body_over_the_limit_is_refused_however_it_is_framed() {
    let server = Server::shared();
    let most = 4 * 1024 * 1024;
    let filler = |size: usize| with_arguments(&format!("{{\"a\":\"{}\"}}", "x".repeat(size)));
    let overhead = filler(0).body.len();
    let fits = filler(most - overhead);
    assert_eq!(fits.body.len(), most);
    assert_eq!(fits.send(server.address).status, 200);

    let body = filler(most - overhead + 1).body;
    // Declared too long: refused before the body is sent.
    let declared = Http::post("").header("Content-Length", &body.len().to_string());
    refused(&declared.send(server.address), 413, -31413);
    // Not declared at all: refused when the limit is passed, though the body never ends.
    let head = Http::post("").header("Transfer-Encoding", "chunked");
    let mut open = head.open(server.address);
    let chunk = [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    for _ in 0..5 {
        // It may be refused, and closed, while we still write.
        if open.reader.get_mut().write_all(&chunk).is_err() {
            break;
        }
    }
    let reply = open.finish();
    refused(&reply, 413, -31413);
    assert_eq!(reply.header("connection"), Some("close"));
}

#[test]
fn a_chunked_body_within_the_limit_is_served() {
    let server = Server::shared();
    let body = message("tools/list", json!({})).to_string();
    let chunks: String = body
        .as_bytes()
        .chunks(7)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
        .collect();
    let mut request = Http::modern("tools/list", json!({})).header("Transfer-Encoding", "chunked");
    request.body = format!("{chunks}0\r\n\r\n").into_bytes();
    assert!(request.send(server.address).result()["tools"].is_array());
}

#[test]
fn a_body_that_does_not_arrive_is_answered_with_408_and_the_connection_closed() {
    let server = Server::with("faulty_server", &[("WAYGATE_RECEIVE_TIMEOUT_SECONDS", "1")]);
    let slow = [
        Http::post("").header("Content-Length", "100"),
        Http::post("").header("Transfer-Encoding", "chunked"),
        Http { body: b"{\"jsonrpc\":".to_vec(), ..Http::post("").header("Content-Length", "100") },
    ];
    // All at once, since each takes a second.
    for open in slow.map(|request| request.open(server.address)) {
        let reply = open.finish();
        refused(&reply, 408, -31408);
        assert_eq!(reply.header("connection"), Some("close"));
    }
}

#[test]
fn a_head_that_does_not_arrive_is_answered_with_408() {
    let server = Server::with("faulty_server", &[("WAYGATE_RECEIVE_TIMEOUT_SECONDS", "1")]);
    let stream = std::net::TcpStream::connect(server.address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut open = crate::support::Open::on(stream);
    open.reader.get_mut().write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-").expect("taken");
    assert_eq!(open.head().0, 408);
}

#[test]
fn a_client_that_breaks_off_in_its_body_costs_nothing() {
    let server = Server::start("faulty_server");
    for _ in 0..20 {
        drop(
            Http { body: b"{".to_vec(), ..Http::post("").header("Content-Length", "100") }
                .open(server.address),
        );
    }
    server.tool("repeat", json!({}));
    eventually("their connections are gone", || {
        (server.get("/diagnostics/connection").1["connections"]["open"] == 1).then_some(())
    });
    assert_eq!(server.metric("waygate_requests_in_flight"), Some(0.0));
}

#[test]
fn only_json_is_taken() {
    let server = Server::shared();
    let body = || message("tools/list", json!({})).to_string();
    for kind in ["text/plain", "application/jsonx", "application/x-www-form-urlencoded", "text/json", ""] {
        refused(&Http::post(body()).set("Content-Type", kind).send(server.address), 415, -31415);
    }
    refused(&Http::post(body()).without("Content-Type").send(server.address), 415, -31415);
    for kind in ["application/json; charset=utf-8", "Application/JSON", " application/json ;x=y"] {
        let reply = Http::modern("tools/list", json!({})).set("Content-Type", kind).send(server.address);
        assert_eq!(reply.status, 200, "{kind}");
    }
}

#[test]
fn a_response_is_refused_since_nothing_was_asked() {
    let server = Server::shared();
    for body in [
        json!({"jsonrpc": "2.0", "id": 1, "result": {}}),
        json!({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}}),
    ] {
        refused(&send(&server, body.to_string()), 400, -32600);
    }
}

#[test]
fn notifications_are_accepted_and_never_answered() {
    let server = Server::shared();
    for method in
        ["notifications/initialized", "notifications/cancelled", "notifications/unheard/of", "tools/call"]
    {
        for version in [Some(MODERN), Some("2099-01-01"), None] {
            let body = json!({"jsonrpc": "2.0", "method": method, "params": {"requestId": 1}});
            let mut request = Http::post(body.to_string());
            if let Some(version) = version {
                request = request.header("MCP-Protocol-Version", version);
            }
            let reply = request.send(server.address);
            assert_eq!((reply.status, reply.body.len()), (202, 0), "{method} {version:?}");
        }
    }
}

#[test]
fn an_id_comes_back_as_it_was_sent() {
    let server = Server::shared();
    for id in [
        "0",
        "1",
        "-1",
        "9007199254740992",
        "9007199254740993",
        "\"\"",
        "\"1\"",
        "\"gr\\u00fc\\\"\\n\"",
        "\"🎈\"",
    ] {
        for (method, status) in [("tools/list", 200), ("no/such", 404)] {
            let mut request = Http::modern(method, json!({}));
            let body = String::from_utf8(request.body).expect("text");
            request.body = body.replace("\"id\":1", &format!("\"id\":{id}")).into_bytes();
            let reply = request.send(server.address);
            assert_eq!(reply.status, status);
            assert!(reply.text().contains(&format!("\"id\":{id},")), "{id}: {}", reply.text());
        }
    }
}

#[test]
fn an_id_that_is_no_string_and_no_integer_is_refused_without_one() {
    let server = Server::shared();
    for id in ["null", "1.5", "1e2", "true", "[]", "{}", "123456789012345678901234567890"] {
        let mut request = Http::modern("tools/list", json!({}));
        let body = String::from_utf8(request.body).expect("text");
        request.body = body.replace("\"id\":1", &format!("\"id\":{id}")).into_bytes();
        refused(&request.send(server.address), 400, -32600);
    }
}
