//! Telling eras apart on one endpoint: each request by itself, whatever came before it on its connection.

use serde_json::{Value, json};

use crate::support::{Http, MODERN, Server};

/// A POST as an older client sends it.
fn legacy(method: &str, params: Value) -> Http {
    Http::post(json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string())
}

#[test]
fn a_handshake_in_modern_clothes_is_an_unknown_method() {
    let server = Server::shared();
    let reply = Http::modern("initialize", json!({"protocolVersion": MODERN})).send(server.address);
    assert_eq!((reply.status, reply.code()), (404, -32601));
    // Only the header is modern: then the body has a gap.
    let reply = legacy("initialize", json!({"protocolVersion": MODERN}))
        .header("MCP-Protocol-Version", MODERN)
        .send(server.address);
    assert_eq!((reply.status, reply.code()), (400, -32602));
    assert!(reply.text().contains(MODERN));
}

#[test]
fn a_request_of_an_older_revision_needs_a_session_and_learns_of_both_ways() {
    let server = Server::shared();
    for method in ["tools/list", "tools/call", "ping", "resources/subscribe", "logging/setLevel", "no/such"] {
        for version in ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] {
            let reply =
                legacy(method, json!({})).header("MCP-Protocol-Version", version).send(server.address);
            assert_eq!((reply.status, reply.code()), (400, -32600), "{}", reply.text());
        }
        for params in [json!({}), json!({"_meta": {"progressToken": 1}})] {
            let reply = legacy(method, params).send(server.address);
            assert_eq!((reply.status, reply.code()), (400, -32600), "{}", reply.text());
            let text = reply.text();
            assert!(
                text.contains("initialize") && text.contains(MODERN) && reply.json()["id"] == 1,
                "{text}"
            );
        }
    }
}

#[test]
fn a_revision_that_nobody_knows_is_refused_by_name_with_what_is_served_statelessly() {
    let server = Server::shared();
    for version in ["draft", "v1", "99999", "2025-01-01"] {
        let reply =
            legacy("tools/list", json!({})).header("MCP-Protocol-Version", version).send(server.address);
        assert_eq!((reply.status, reply.code()), (400, -32022), "{}", reply.text());
        let error = &reply.json()["error"];
        assert_eq!(error["data"]["supported"], json!([MODERN]));
        assert_eq!(error["data"]["requested"], version, "{error}");
        let words = format!("{} {}", error["message"], error["data"]["advice"]);
        assert!(words.contains(MODERN), "people must be able to read it: {words}");
    }
    // Named in the body, and without a session.
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2025-06-18", "io.modelcontextprotocol/clientCapabilities": {}});
    let reply = legacy("tools/list", json!({"_meta": meta}))
        .header("MCP-Protocol-Version", "2025-06-18")
        .send(server.address);
    assert_eq!((reply.status, reply.code()), (400, -32022), "{}", reply.text());
}

#[test]
fn a_request_of_a_session_that_is_unknown_is_told_to_begin_a_new_one() {
    let server = Server::shared();
    for version in ["2025-11-25", "2025-03-26"] {
        for method in ["tools/list", "initialize"] {
            let reply = legacy(method, json!({}))
                .header("MCP-Protocol-Version", version)
                .header("Mcp-Session-Id", "0123456789")
                .send(server.address);
            assert_eq!((reply.status, reply.code()), (404, -31404), "{}", reply.text());
            assert_eq!(reply.json()["id"], 1);
            assert!(reply.text().contains("initialize"));
        }
    }
}

#[test]
fn newer_revisions_than_ours_are_modern_and_refused_by_name() {
    let server = Server::shared();
    // A date after ours is modern: without `_meta` it has a gap.
    let reply =
        legacy("tools/list", json!({})).header("MCP-Protocol-Version", "2099-01-01").send(server.address);
    assert_eq!((reply.status, reply.code()), (400, -32602));
}

#[test]
fn discovery_belongs_to_the_stateless_era_alone() {
    let server = Server::shared();
    for request in [legacy("server/discover", json!({})), legacy("server/discover", json!({"_meta": {}}))] {
        assert_eq!(request.send(server.address).code(), -32602);
        let old = request.header("MCP-Protocol-Version", "2025-11-25").send(server.address);
        assert_eq!((old.status, old.code()), (400, -32602));
    }
}

#[test]
fn only_sessions_have_streams_to_get_and_ends_to_delete() {
    let server = Server::shared();
    let ask = |method: &str, headers: &[(&str, &str)]| {
        let mut request = Http::get("/mcp").header("Accept", "text/event-stream");
        request.head = format!("{method} /mcp");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let reply = request.send(server.address);
        assert!(reply.json().get("id").is_none());
        (reply.status, reply.code(), reply.header("allow").map(str::to_owned))
    };
    let old = ("MCP-Protocol-Version", "2025-06-18");
    let unknown = ("Mcp-Session-Id", "x");
    for headers in [&[][..], &[old], &[("MCP-Protocol-Version", MODERN), unknown]] {
        assert_eq!(ask("GET", headers), (405, -31405, Some("POST".to_owned())), "{headers:?}");
    }
    assert_eq!(ask("GET", &[old, unknown]), (404, -31404, None));
    assert_eq!(ask("DELETE", &[unknown]), (404, -31404, None));
    assert_eq!(ask("DELETE", &[]), (400, -32600, None));
    for method in ["PUT", "PATCH", "OPTIONS"] {
        assert_eq!(ask(method, &[unknown]), (405, -31405, Some("POST, GET, DELETE".to_owned())));
    }
    for (path, allow) in [("/messages", "POST"), ("/sse", "GET"), ("/health", "GET")] {
        let mut request = Http::get(path);
        request.head = format!("PUT {path}");
        let reply = request.send(server.address);
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{path}");
    }
}

#[test]
fn a_connection_remembers_nothing_of_the_request_before() {
    let server = Server::shared();
    // Two requests on one connection: the first knows its revision, the second does not.
    let first = Http::modern("tools/list", json!({})).bytes(server.address);
    let second = legacy("tools/list", json!({})).header("Connection", "close").bytes(server.address);
    let both = [first, second].concat();
    let text = crate::support::raw(server.address, &both);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("HTTP/1.1 400 "), "{text}");
    assert!(text.contains("-32600"));
}
