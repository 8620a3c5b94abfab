//! Clients of other eras: they are told, in words of their own, which revision is served here.

use serde_json::{Value, json};

use crate::support::{Http, MODERN, Reply, Server};

/// A POST as an older client sends it.
fn legacy(method: &str, params: Value) -> Http {
    Http::post(json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string())
}

/// A refusal that an older client can show and a newer one recognises.
#[track_caller]
fn names_what_is_served(reply: &Reply, requested: &str) {
    assert_eq!((reply.status, reply.code()), (400, -32022), "{}", reply.text());
    let body = reply.json();
    assert_eq!(body["id"], 1);
    assert_eq!(body["error"]["data"]["supported"], json!([MODERN]));
    assert_eq!(body["error"]["data"]["requested"], requested, "{body}");
    let words = format!("{} {}", body["error"]["message"], body["error"]["data"]["advice"]);
    assert!(words.contains(MODERN), "people must be able to read it: {words}");
    assert_eq!(reply.header("mcp-session-id"), None);
}

#[test]
fn a_handshake_is_answered_with_the_revision_that_is_served() {
    let server = Server::shared();
    for version in ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05", "1999-01-01"] {
        let params = json!({
            "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "old", "version": "1"},
        });
        names_what_is_served(&legacy("initialize", params.clone()).send(server.address), version);
        let reply = legacy("initialize", params.clone()).header("Mcp-Session-Id", "x").send(server.address);
        names_what_is_served(&reply, version);
        let reply = legacy("initialize", params).header("MCP-Protocol-Version", version).send(server.address);
        names_what_is_served(&reply, version);
    }
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
fn requests_of_older_revisions_are_refused_whatever_they_ask() {
    let server = Server::shared();
    for method in ["tools/list", "tools/call", "ping", "resources/subscribe", "logging/setLevel", "no/such"] {
        for version in ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05", "draft", "v1", "99999"] {
            let reply =
                legacy(method, json!({})).header("MCP-Protocol-Version", version).send(server.address);
            names_what_is_served(&reply, version);
        }
        let reply = legacy(method, json!({})).send(server.address);
        names_what_is_served(&reply, "a revision before 2025-06-18");
        let reply = legacy(method, json!({"_meta": {"progressToken": 1}})).send(server.address);
        names_what_is_served(&reply, "a revision before 2025-06-18");
    }
}

#[test]
fn a_request_of_a_session_is_told_that_there_is_none() {
    let server = Server::shared();
    for version in ["2025-11-25", "2025-03-26"] {
        let reply = legacy("tools/list", json!({}))
            .header("MCP-Protocol-Version", version)
            .header("Mcp-Session-Id", "0123456789")
            .send(server.address);
        assert_eq!((reply.status, reply.code()), (404, -31404), "{}", reply.text());
        assert_eq!(reply.json()["id"], 1);
        assert!(reply.text().contains(MODERN));
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
fn there_is_nothing_to_get_or_delete_at_the_endpoint() {
    let server = Server::shared();
    for method in ["GET", "DELETE", "PUT", "PATCH", "OPTIONS"] {
        for headers in [&[][..], &[("Mcp-Session-Id", "x")], &[("MCP-Protocol-Version", "2025-06-18")]] {
            let mut request = Http::get("/mcp").header("Accept", "text/event-stream");
            request.head = format!("{method} /mcp");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let reply = request.send(server.address);
            assert_eq!((reply.status, reply.code()), (405, -31405), "{method} {headers:?}");
            assert_eq!(reply.header("allow"), Some("POST"));
            assert!(reply.json().get("id").is_none());
        }
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
    assert!(text.contains("-32022"));
}
