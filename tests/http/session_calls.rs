//! Calls of a session in flight: what it means that their client goes, comes back, cancels or ends the session.

use serde_json::{Value, json};

use crate::cancel::history;
use crate::legacy::{NEWEST, Session, Stream, everything, request};
use crate::support::{Server, eventually};

fn running(server: &Server, count: u64) {
    eventually("the calls run", || (server.get("/plugins/faulty").1["running"] == count).then_some(()));
}

fn recorded(server: &Server, row: &str) {
    eventually("it is in the history", || history(&server.folder).contains(&row.to_owned()).then_some(()));
}

fn long_call(session: &Session, id: u64, steps: u64, ms: u64) -> Stream {
    session.begin_as(id, "steps", json!({"n": steps, "ms": ms}), json!({"progressToken": "p"}))
}

#[test]
fn a_call_that_is_quiet_hangs_up_and_gives_its_result_to_whoever_comes_back() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let mut call = session.begin_as(4, "quiet", json!({"ms": 50}), json!({}));
    let first = call.event().expect("an event to come back with");
    let retry = call.event().expect("when to come back");
    assert_eq!((retry.retry, &retry.data), (Some(50), &None), "{retry:?}");
    assert_eq!(call.event(), None, "the server hangs up before the answer");
    let mut back = session.resume(&first.id.expect("an id"));
    assert_eq!(back.next()["result"]["content"][0]["text"], "quiet is over");
    assert_eq!(back.event(), None);
}

#[test]
fn nobody_is_hung_up_on_who_does_not_know_to_come_back() {
    let server = Server::shared();
    for revision in ["2025-03-26", "2025-06-18"] {
        let session = Session::open(&server, revision, json!({}));
        assert_eq!(session.tool("quiet", json!({})).result()["content"][0]["text"], "quiet is over");
    }
    let session = Session::newest(&server);
    let call = request(1, "tools/call", json!({"name": "quiet", "arguments": {}}));
    let reply = session.request(&call).set("Accept", "application/json").send(server.address);
    assert_eq!(reply.result()["content"][0]["text"], "quiet is over");
}

#[test]
fn a_long_call_that_says_nothing_comes_on_a_stream_that_can_be_taken_up() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let mut call = session.begin("sleep", json!({"ms": 2000}));
    assert_eq!(call.header("content-type"), Some("text/event-stream"));
    let first = call.event().expect("an event to come back with").id.expect("an id");
    drop(call);
    assert_eq!(session.resume(&first).next()["result"]["content"][0]["text"], "slept");
}

#[test]
fn a_client_that_disconnects_has_cancelled_nothing() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    // Before anything was said, and after.
    let silent =
        session.request(&request(1, "tools/call", json!({"name": "sleep", "arguments": {"ms": 700}})));
    let silent = silent.open(server.address);
    running(&server, 1);
    drop(silent);
    let mut speaks = long_call(&session, 2, 2, 500);
    assert!(speaks.message().is_some());
    drop(speaks);
    recorded(&server, "sleep success");
    recorded(&server, "steps success");
    assert_eq!(server.metric("waygate_cancelled_total"), Some(0.0));
    eventually("nothing is in flight", || {
        (server.metric("waygate_requests_in_flight") == Some(0.0)).then_some(())
    });
}

#[test]
fn a_cancelled_call_ends_without_an_answer_and_is_recorded_as_cancelled() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    for (n, id) in [json!("one"), json!(2)].into_iter().enumerate() {
        let mut call =
            session.begin_as(id.clone(), "steps", json!({"n": 2, "ms": 60_000}), json!({"progressToken": 1}));
        assert_eq!(call.next()["params"]["progress"], 1);
        let cancel = json!({"requestId": id, "reason": "no more"});
        assert_eq!(session.notify("notifications/cancelled", cancel).status, 202);
        assert_eq!(call.rest(), Vec::<Value>::new(), "no answer");
        eventually("it is counted", || {
            (server.metric("waygate_cancelled_total") == Some((n + 1) as f64)).then_some(())
        });
    }
    recorded(&server, "steps cancelled");
    // A JSON answer cannot be nothing: the POST ends with no body.
    let call = session.request(&request(3, "tools/call", json!({"name": "hang", "arguments": {}})));
    let open = call.set("Accept", "application/json").open(server.address);
    running(&server, 1);
    session.notify("notifications/cancelled", json!({"requestId": 3}));
    let reply = open.finish();
    assert_eq!((reply.status, reply.body.len()), (202, 0));
    recorded(&server, "hang cancelled");
}

#[test]
fn cancelling_what_has_ended_or_never_was_or_is_anothers_does_nothing() {
    let server = Server::start("faulty_server");
    let (session, other) = (Session::newest(&server), Session::newest(&server));
    assert_eq!(long_call(&session, 1, 1, 0).last_message()["id"], 1);
    let mut runs = long_call(&session, 2, 3, 100);
    assert!(runs.message().is_some());
    for params in [
        json!({"requestId": 1}),
        json!({"requestId": 99}),
        json!({"requestId": "2"}),
        json!({}),
        json!({"requestId": null}),
        json!({"requestId": {"a": 1}}),
    ] {
        assert_eq!(session.notify("notifications/cancelled", params).status, 202);
    }
    assert_eq!(other.notify("notifications/cancelled", json!({"requestId": 2})).status, 202);
    assert_eq!(runs.last_message()["result"]["content"][0]["text"], "arrived");
    assert_eq!(server.metric("waygate_cancelled_total"), Some(0.0));
}

#[test]
fn ending_a_session_cancels_what_runs_in_it_and_nothing_else() {
    let server = Server::start("faulty_server");
    let (session, other) = (Session::newest(&server), Session::newest(&server));
    let mut stream = long_call(&session, 1, 2, 60_000);
    assert!(stream.message().is_some());
    let mut asks = session.begin("ask", json!({}));
    let ask = asks.ask("elicitation/create");
    let mut kept = long_call(&other, 1, 3, 200);
    assert!(kept.message().is_some());
    assert_eq!(session.end().status, 204);
    assert!(stream.rest().iter().all(|message| message.get("id").is_none()));
    assert!(asks.rest().iter().all(|message| message.get("id").is_none()));
    assert_eq!(session.post(&crate::legacy::answer(&ask, json!({}))).status, 404);
    recorded(&server, "steps cancelled");
    assert_eq!(kept.last_message()["result"]["content"][0]["text"], "arrived");
    eventually("nothing is in flight", || {
        (server.metric("waygate_requests_in_flight") == Some(0.0)).then_some(())
    });
}

#[test]
fn one_session_has_no_more_calls_in_flight_than_it_may() {
    let server = Server::with("faulty_server", &[("WAYGATE_PLUGINS_CONCURRENCY", "1000")]);
    let session = Session::newest(&server);
    let calls: Vec<_> = (0..256_u64)
        .map(|id| {
            let call = request(id, "tools/call", json!({"name": "hang", "arguments": {}}));
            session.request(&call).open(server.address)
        })
        .collect();
    // Not by calling: a call that comes between takes the place of one that shall stay.
    eventually("the session is full", || {
        (server.metric("waygate_requests_in_flight")? >= 256.0).then_some(())
    });
    let refused = session.tool("repeat", json!({}));
    assert_eq!(refused.code(), -31503, "{}", refused.text());
    assert!(refused.text().contains("256"), "{}", refused.text());
    Session::open(&server, NEWEST, everything()).tool("repeat", json!({})).result();
    session.call("ping", json!({})).result();
    session.end();
    drop(calls);
}

#[test]
fn two_calls_of_one_id_are_two_calls() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let mut calls: Vec<Stream> = (0..2).map(|_| long_call(&session, 5, 2, 50)).collect();
    for call in &mut calls {
        assert_eq!(call.last_message()["id"], 5);
    }
}
