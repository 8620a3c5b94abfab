//! Revisions with sessions: the handshake, the server's own requests, streams and batches, all on one channel.
//!
//! MCP 2024-11-05 to 2025-11-25, basic/transports#stdio.

use serde_json::{Value, json};

use crate::support::stdio::Client;
use crate::support::{Server, eventually};

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

#[test]
fn every_revision_is_agreed_on_and_served() {
    for revision in REVISIONS {
        let mut client = Client::start("faulty_server", &[]);
        let welcome = client.initialize(revision);
        assert_eq!(welcome["protocolVersion"], revision, "{welcome}");
        let listed = client.call_in_session("tools/list", json!({}));
        assert!(listed["result"]["tools"].is_array(), "{revision}: {listed}");
        let call = json!({"name": "structured", "arguments": {"n": 7}});
        let called = client.call_in_session("tools/call", call);
        assert!(called["result"]["content"][0]["text"].as_str().is_some_and(|text| text.contains('7')));
        assert_eq!(client.call_in_session("ping", json!({}))["result"], json!({}));
        assert!(client.call_in_session("no/such", json!({}))["error"]["code"] == -32601);
        assert_eq!(client.end(), (Some(0), Vec::new()), "{revision}");
    }
}

#[test]
fn a_client_need_not_wait_for_the_handshake() {
    let mut client = Client::start("faulty_server", &[]);
    let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}});
    let request = |id: u64, method: &str, params: &Value| {
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
    };
    let call = json!({"name": "structured", "arguments": {"n": 7}});
    let all = [
        request(1, "initialize", &hello),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string(),
        request(2, "tools/call", &call),
    ];
    client.write(format!("{}\n", all.join("\n")).as_bytes());
    assert_eq!(client.answer(1)["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(client.answer(2)["result"]["structuredContent"]["n"], 7);
}

#[test]
fn what_is_sent_outside_of_a_session_is_refused() {
    let mut client = Client::start("faulty_server", &[]);
    assert_eq!(client.call_in_session("tools/list", json!({}))["error"]["code"], -32600);
    client.initialize("2025-11-25");
    let again = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}});
    assert_eq!(client.call_in_session("initialize", again)["error"]["code"], -32600);
    assert!(client.call_in_session("tools/list", json!({}))["result"].is_object());
}

#[test]
fn both_eras_may_be_spoken_by_one_client() {
    let mut client = Client::start("faulty_server", &[]);
    client.initialize("2025-11-25");
    let modern = client.tool("structured", json!({"n": 1}));
    assert_eq!(modern["resultType"], "complete");
    let legacy = client.call_in_session("tools/call", json!({"name": "structured", "arguments": {"n": 1}}));
    assert!(legacy["result"]["structuredContent"]["n"] == 1 && legacy["result"].get("resultType").is_none());
}

#[test]
fn what_the_server_asks_comes_out_and_the_answer_goes_in() {
    for revision in ["2025-06-18", "2025-11-25"] {
        let mut client = Client::start("faulty_server", &[]);
        client.initialize(revision);
        let call =
            client.ask_in_session("tools/call", json!({"name": "ask", "arguments": {"city": "London"}}));
        let asked = client.notice("elicitation/create");
        let accepted = json!({"action": "accept", "content": {"name": "Ada"}});
        client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": accepted}));
        let answer = client.answer(call);
        assert!(answer.to_string().contains("Hello, Ada of London!"), "{revision}: {answer}");
        let call = client.ask_in_session("tools/call", json!({"name": "ask_sampling", "arguments": {}}));
        let asked = client.notice("sampling/createMessage");
        let said =
            json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "Something."}});
        client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": said}));
        assert!(client.answer(call).to_string().contains("Something."));
        // Doubled and foreign answers do nothing.
        client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": said}));
        client.send(&json!({"jsonrpc": "2.0", "id": 999_999, "result": {}}));
        assert!(client.call_in_session("ping", json!({}))["result"].is_object());
        assert_eq!(client.end(), (Some(0), Vec::new()));
    }
}

#[test]
fn changes_are_told_without_being_asked_for() {
    let mut client = Client::start("faulty_server", &[]);
    client.initialize("2025-11-25");
    let subscribed = client.call_in_session("resources/subscribe", json!({"uri": "test://counter"}));
    assert!(subscribed["result"].is_object(), "{subscribed}");
    client.call_in_session("tools/call", json!({"name": "touch", "arguments": {}}));
    assert_eq!(client.notice("notifications/resources/updated")["params"]["uri"], "test://counter");
    client.call_in_session("tools/call", json!({"name": "touch", "arguments": {"what": "tools"}}));
    client.notice("notifications/tools/list_changed");
}

#[test]
fn progress_and_log_messages_come_before_the_answer() {
    let mut client = Client::start("faulty_server", &[]);
    client.initialize("2025-06-18");
    let steps = json!({"name": "steps", "arguments": {"n": 3}, "_meta": {"progressToken": 5}});
    client.call_in_session("tools/call", steps);
    let progress = client.notice("notifications/progress");
    assert_eq!(
        (&progress["params"]["progressToken"], &progress["params"]["progress"]),
        (&json!(5), &json!(1))
    );
    client.call_in_session("logging/setLevel", json!({"level": "emergency"}));
    client.call_in_session("tools/call", json!({"name": "logs", "arguments": {}}));
    assert_eq!(client.notice("notifications/message")["params"]["level"], "emergency");
}

#[test]
fn a_cancelled_call_stops_and_is_not_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::on("faulty_server", folder.path(), &[]);
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    client.initialize("2025-11-25");
    let in_flight = |wanted: f64| {
        eventually("the calls in flight", || {
            (server.metric("waygate_requests_in_flight") == Some(wanted)).then_some(())
        })
    };
    let hangs = client.ask_in_session("tools/call", json!({"name": "hang", "arguments": {}}));
    in_flight(1.0);
    client.notify("notifications/cancelled", json!({"requestId": hangs}));
    in_flight(0.0);
    assert!(client.call_in_session("ping", json!({}))["result"].is_object());
    assert_eq!(client.end(), (Some(0), Vec::new()));
}

#[test]
fn a_stream_that_the_server_interrupts_is_taken_up_again_unseen() {
    let mut client = Client::start("conformance_server", &[]);
    client.initialize("2025-11-25");
    let call = client.call_in_session("tools/call", json!({"name": "test_reconnection", "arguments": {}}));
    assert!(call["result"]["content"].is_array(), "{call}");
    assert_eq!(client.end(), (Some(0), Vec::new()));
}

#[test]
fn a_batch_is_answered_where_the_revision_has_it() {
    let ping = |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
    let mut client = Client::start("faulty_server", &[]);
    client.initialize("2025-03-26");
    let call = json!({"name": "structured", "arguments": {"n": 3}});
    let call = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": call});
    let told = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
    client.send(&json!([ping(1), told, ping(2), call]));
    for id in 1..=3 {
        assert!(client.answer(id)["result"].is_object());
    }
    assert_eq!(client.end(), (Some(0), Vec::new()));

    let mut client = Client::start("faulty_server", &[]);
    client.initialize("2025-11-25");
    client.send(&json!([ping(1), ping(2)]));
    for id in 1..=2 {
        assert_eq!(client.answer(id)["error"]["code"], -32600);
    }
    assert_eq!(client.end(), (Some(0), Vec::new()));
}

#[test]
fn an_id_that_is_twice_in_a_batch_is_answered_once_and_refused_once() {
    let ping = |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
    let mut client = Client::start("faulty_server", &[]);
    client.initialize("2025-03-26");
    client.send(&json!([ping(1), ping(2), ping(1)]));
    assert_eq!(client.answer(2)["result"], json!({}));
    let is_refused = |message: &Value| message["error"]["code"] == -32600;
    let refused = client.wait_for("a refusal", is_refused);
    assert_eq!(refused["id"], 1, "{refused}");
    assert_eq!(client.answer(1)["result"], json!({}));
    assert_eq!(client.end(), (Some(0), Vec::new()));
}

#[test]
fn the_session_ends_with_the_client() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::on("faulty_server", folder.path(), &[]);
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    client.initialize("2025-11-25");
    assert_eq!(server.metric("waygate_sessions"), Some(1.0));
    assert_eq!(client.end(), (Some(0), Vec::new()));
    eventually("the session is gone", || (server.metric("waygate_sessions") == Some(0.0)).then_some(()));
}
