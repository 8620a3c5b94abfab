//! Batches: arrays of messages, which revision 2025-03-26 alone knows.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::legacy::{Session, Stream, everything, handshake, notification, request};
use crate::support::{Http, Reply, Server, eventually};

const REVISION: &str = "2025-03-26";

fn session(server: &Server) -> Session {
    Session::open(server, REVISION, everything())
}

fn ping(id: impl Into<Value>) -> Value {
    request(id, "ping", json!({}))
}

fn tool(id: impl Into<Value>, name: &str, arguments: Value) -> Value {
    request(id, "tools/call", json!({"name": name, "arguments": arguments}))
}

fn as_json(session: &Session, batch: &Value) -> Http {
    session.request(batch).set("Accept", "application/json")
}

#[track_caller]
fn refused(reply: &Reply) {
    assert_eq!((reply.status, reply.code()), (400, -32600), "{}", reply.text());
    assert!(reply.json().get("id").is_none());
}

fn ids(answers: &[Value]) -> BTreeSet<String> {
    answers.iter().map(|answer| answer["id"].to_string()).collect()
}

#[test]
fn the_requests_of_a_batch_are_answered_on_one_stream() {
    let server = Server::shared();
    let session = session(&server);
    let batch = json!([
        ping(1),
        tool("two", "repeat", json!({"n": 2})),
        notification("notifications/initialized", json!({})),
        request(3, "tools/list", json!({})),
        request(4, "no/such", json!({}))
    ]);
    let mut stream = Stream::open(&session.request(&batch), server.address);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let answers = stream.rest();
    assert_eq!(
        ids(&answers),
        ids(&[json!({"id": 1}), json!({"id": "two"}), json!({"id": 3}), json!({"id": 4})])
    );
    assert_eq!(answers.len(), 4);
    let of = |id: Value| answers.iter().find(|answer| answer["id"] == id).expect("an answer");
    assert_eq!(of(json!(1))["result"], json!({}));
    assert_eq!(of(json!("two"))["result"]["content"][0]["text"], r#"{"n":2}"#);
    assert_eq!(of(json!(4))["error"]["code"], -32601);
}

#[test]
fn the_answers_are_an_array_for_those_who_take_no_stream() {
    let server = Server::shared();
    let session = session(&server);
    let batch =
        json!([ping(1), tool(2, "fail", json!({})), tool(3, "ask", json!({})), notification("x", json!({}))]);
    let reply = as_json(&session, &batch).send(server.address);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    let answers = reply.json().as_array().cloned().expect("an array");
    assert_eq!(ids(&answers), ids(&[json!({"id": 1}), json!({"id": 2}), json!({"id": 3})]));
    let asked = answers.iter().find(|answer| answer["id"] == 3).expect("an answer");
    assert_eq!(asked["result"]["isError"], true, "elicitation came later: {asked}");
    // Even one is an array.
    let reply = as_json(&session, &json!([ping(1)])).send(server.address);
    assert_eq!(reply.json(), json!([{"jsonrpc": "2.0", "id": 1, "result": {}}]));
}

#[test]
fn a_batch_that_wants_no_answer_is_accepted() {
    let server = Server::shared();
    let session = session(&server);
    let ended = json!({"jsonrpc": "2.0", "id": 77, "result": {}});
    for batch in [
        json!([notification("notifications/initialized", json!({})), notification("x", json!({}))]),
        json!([ended]),
        json!([notification("x", json!({})), ended]),
    ] {
        for request in [session.request(&batch), as_json(&session, &batch)] {
            let reply = request.send(server.address);
            assert_eq!((reply.status, reply.body.len()), (202, 0), "{batch}: {}", reply.text());
        }
    }
}

#[test]
fn a_batch_that_is_empty_or_too_large_is_refused() {
    let server = Server::shared();
    let session = session(&server);
    refused(&session.post(&json!([])));
    for count in [101, 10_000] {
        let batch: Vec<Value> = (0..count).map(ping).collect();
        let reply = session.post(&json!(batch));
        refused(&reply);
        assert!(reply.text().contains("100"), "{}", reply.text());
    }
    let most: Vec<Value> = (0..100).map(ping).collect();
    let reply = as_json(&session, &json!(most)).send(server.address);
    assert_eq!(ids(reply.json().as_array().expect("an array")).len(), 100);
}

#[test]
fn a_message_that_is_none_is_refused_alone() {
    let server = Server::shared();
    let session = session(&server);
    let batch = json!([7, {}, [ping(1)], ping(2), {"jsonrpc": "2.0", "id": 3, "method": 7}, "x"]);
    for request in [session.request(&batch), as_json(&session, &batch)] {
        let reply = request.send(server.address);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let answers = if reply.is_stream() {
            reply.events()
        } else {
            reply.json().as_array().cloned().expect("an array")
        };
        assert_eq!(answers.len(), 6, "{answers:?}");
        let refused = answers.iter().filter(|answer| answer["error"]["code"] == -32600).count();
        assert_eq!(refused, 5, "{answers:?}");
        assert!(answers.iter().any(|answer| answer["id"] == 2 && answer["result"] == json!({})));
        assert!(answers.iter().any(|answer| answer["id"] == 3 && answer["error"].is_object()));
    }
}

#[test]
fn only_one_revision_knows_batches() {
    let server = Server::shared();
    let batch = json!([ping(1)]);
    for revision in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let session = Session::open(&server, revision, json!({}));
        refused(&session.post(&batch));
        session.call("ping", json!({})).result();
    }
    refused(&Http::post(batch.to_string()).send(server.address));
    let session = session(&server);
    let gone = session.request(&batch).set("Mcp-Session-Id", "x").send(server.address);
    assert_eq!((gone.status, gone.code()), (404, -31404));
    // A handshake stands alone.
    refused(&Http::post(json!([handshake(REVISION, json!({}))]).to_string()).send(server.address));
    let again = as_json(&session, &json!([handshake(REVISION, json!({})), ping(1)])).send(server.address);
    let answers = again.json();
    assert!(answers.to_string().contains("initialized before"), "{answers}");
}

#[test]
fn a_call_in_a_batch_speaks_and_asks_on_the_stream_of_all() {
    let server = Server::shared();
    let session = session(&server);
    let told = json!({"name": "steps", "arguments": {"n": 2}, "_meta": {"progressToken": "p"}});
    let batch = json!([
        request(1, "tools/call", told),
        tool(2, "ask_sampling", json!({})),
        tool(3, "ask_roots", json!({})),
        ping(4)
    ]);
    let mut stream = Stream::open(&session.request(&batch), server.address);
    let (mut progress, mut answers) = (Vec::new(), Vec::new());
    while let Some(message) = stream.message() {
        match message["method"].as_str() {
            Some("notifications/progress") => progress.push(message["params"]["progress"].clone()),
            Some("sampling/createMessage") => session.answer(
                &message,
                json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "Yes"}}),
            ),
            Some("roots/list") => session.answer(&message, json!({"roots": []})),
            _ => answers.push(message),
        }
    }
    assert_eq!(progress, [json!(1), json!(2)]);
    assert_eq!(ids(&answers), ids(&[json!({"id": 1}), json!({"id": 2}), json!({"id": 3}), json!({"id": 4})]));
    assert!(answers.iter().all(|answer| answer["result"].is_object()), "{answers:?}");
}

#[test]
fn answers_to_questions_may_come_in_a_batch() {
    let server = Server::shared();
    let session = session(&server);
    let mut calls: Vec<(Stream, Value)> = (0..2)
        .map(|_| {
            let mut call = session.begin("ask_roots", json!({}));
            let ask = call.ask("roots/list");
            (call, ask)
        })
        .collect();
    let answers: Vec<Value> =
        calls.iter().map(|(_, ask)| crate::legacy::answer(ask, json!({"roots": []}))).collect();
    assert_eq!(session.post(&json!(answers)).status, 202);
    for (call, _) in &mut calls {
        assert!(call.last_message()["result"].is_object());
    }
}

#[test]
fn one_request_of_a_batch_is_cancelled_and_the_others_are_answered() {
    let server = Server::start("faulty_server");
    let session = session(&server);
    let batch = json!([tool(1, "hang", json!({})), tool(2, "sleep", json!({"ms": 300}))]);
    let open = as_json(&session, &batch).open(server.address);
    eventually("both run", || (server.get("/plugins/faulty").1["running"] == 2).then_some(()));
    session.notify("notifications/cancelled", json!({"requestId": 1}));
    let answers = open.finish().json();
    assert_eq!(ids(answers.as_array().expect("an array")), ids(&[json!({"id": 2})]));
    // All cancelled: nothing is left to say.
    let open = as_json(&session, &json!([tool(3, "hang", json!({}))])).open(server.address);
    eventually("it runs", || (server.get("/plugins/faulty").1["running"] == 1).then_some(()));
    session.notify("notifications/cancelled", json!({"requestId": 3}));
    let reply = open.finish();
    assert_eq!((reply.status, reply.body.len()), (202, 0));
}

#[test]
fn a_batch_whose_client_leaves_goes_on_and_can_be_taken_up() {
    let server = Server::shared();
    let session = session(&server);
    let batch = json!([ping(1), tool(2, "sleep", json!({"ms": 300})), tool(3, "sleep", json!({"ms": 400}))]);
    let mut stream = Stream::open(&session.request(&batch), server.address);
    assert_eq!(stream.next()["id"], 1);
    let seen = stream.last.clone().expect("an id");
    drop(stream);
    let rest = session.resume(&seen).rest();
    assert_eq!(ids(&rest), ids(&[json!({"id": 2}), json!({"id": 3})]));
}

#[test]
fn answers_larger_than_what_a_session_keeps_all_arrive() {
    let server = Server::shared();
    let session = session(&server);
    let text = "x".repeat(100_000);
    let batch: Vec<Value> = (0..8).map(|id| tool(id, "repeat", json!({"text": text}))).collect();
    let answers = Stream::open(&session.request(&Value::from(batch)), server.address).rest();
    assert_eq!(answers.len(), 8, "of eight answers");
    assert!(answers.iter().all(|answer| answer["result"]["content"][0]["text"].as_str().is_some()));
}
