//! The event streams of a session: what is said on which, how one that broke is taken up again, and what it means that
//! a client has gone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cancel::history;
use crate::legacy::{NEWEST, Session, Stream, everything, request};
use crate::support::{Http, PATIENCE, Reply, Server, eventually};

const COUNTER: &str = "test://counter";

fn touch(server: &Server, what: &str) {
    server.tool("touch", json!({"what": what}));
}

fn method(message: &Value) -> String {
    message["method"].as_str().unwrap_or("an answer").to_owned()
}

#[track_caller]
fn refused(reply: &Reply, status: u16) {
    assert_eq!((reply.status, reply.code()), (status, -32600), "{}", reply.text());
}

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
fn a_standing_stream_has_the_headers_and_the_first_event_of_its_revision() {
    let server = Server::shared();
    for revision in ["2025-03-26", "2025-06-18", NEWEST] {
        let session = Session::open(&server, revision, json!({}));
        let mut stream = session.stream();
        assert_eq!(stream.header("content-type"), Some("text/event-stream"));
        assert_eq!(stream.header("cache-control"), Some("no-cache"));
        assert_eq!(stream.header("x-accel-buffering"), Some("no"));
        session.end();
        let first = stream.event();
        if revision == NEWEST {
            let first = first.expect("an event to come back with");
            assert!(first.id.is_some() && first.data.as_deref() == Some(""), "{first:?}");
            assert_eq!(stream.event(), None);
        } else {
            assert_eq!(first, None, "{revision}");
        }
    }
}

#[test]
fn a_stream_is_opened_by_those_who_take_one() {
    let server = Server::shared();
    let session = Session::newest(&server);
    for accept in ["application/json", "text/html"] {
        let reply = session.listen().set("Accept", accept).send(server.address);
        assert_eq!((reply.status, reply.code()), (406, -31406), "{}", reply.text());
    }
    drop(session.stream());
}

#[test]
fn the_stream_of_a_call_begins_with_an_event_to_come_back_with_since_2025_11_25() {
    let server = Server::shared();
    for revision in ["2025-03-26", "2025-06-18", NEWEST] {
        let session = Session::open(&server, revision, json!({}));
        let mut stream = long_call(&session, 1, 2, 0);
        let events: Vec<_> = std::iter::from_fn(|| stream.event()).collect();
        let primes = events.iter().filter(|event| event.data.as_deref() == Some("")).count();
        assert_eq!(primes, usize::from(revision == NEWEST), "{revision}: {events:?}");
        assert!(events.iter().all(|event| event.id.is_some() && event.name.is_none()), "{events:?}");
        let ids: BTreeSet<_> = events.iter().filter_map(|event| event.id.clone()).collect();
        assert_eq!(ids.len(), events.len(), "no id twice");
        assert_eq!(events.last().expect("an answer").message()["id"], 1);
    }
}

#[test]
fn an_answer_with_nothing_before_it_is_json_in_a_session_too() {
    let server = Server::shared();
    let session = Session::newest(&server);
    for reply in [session.call("tools/list", json!({})), session.tool("repeat", json!({}))] {
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
    // Who takes nothing else gets a stream of one event.
    let list = session.request(&request(1, "tools/list", json!({})));
    let reply = list.clone().set("Accept", "text/event-stream").send(server.address);
    assert!(reply.is_stream() && reply.result()["tools"].is_array());
    // And who takes JSON alone hears the answer, however much is said before.
    let meta = json!({"progressToken": 1});
    let call = request(1, "tools/call", json!({"name": "steps", "arguments": {}, "_meta": meta}));
    let reply = session.request(&call).set("Accept", "application/json").send(server.address);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.result()["content"][0]["text"], "arrived");
}

#[test]
fn changes_of_lists_are_told_once_on_the_standing_stream() {
    let server = Server::start("faulty_server");
    for revision in ["2025-03-26", NEWEST] {
        let session = Session::open(&server, revision, json!({}));
        let mut stream = session.stream();
        for what in ["tools", "prompts", "resources", "tools"] {
            touch(&server, what);
            let told = stream.next();
            assert_eq!(method(&told), format!("notifications/{what}/list_changed"));
            assert!(told.get("id").is_none() && told["params"].get("_meta").is_none(), "{told}");
        }
        session.end();
        assert_eq!(stream.rest(), Vec::<Value>::new());
    }
}

#[test]
fn a_subscribed_resource_is_told_of_until_it_is_unsubscribed() {
    let server = Server::start("faulty_server");
    for revision in ["2025-03-26", NEWEST] {
        let session = Session::open(&server, revision, json!({}));
        let mut stream = session.stream();
        touch(&server, "counter");
        for _ in 0..2 {
            // Twice is once.
            let subscribed = session.call("resources/subscribe", json!({"uri": COUNTER}));
            assert_eq!(subscribed.result(), json!({}));
        }
        touch(&server, "counter");
        let told = stream.next();
        assert_eq!(
            (method(&told), &told["params"]),
            ("notifications/resources/updated".to_owned(), &json!({"uri": COUNTER}))
        );
        assert_eq!(session.call("resources/unsubscribe", json!({"uri": COUNTER})).result(), json!({}));
        touch(&server, "counter");
        touch(&server, "tools");
        // Nothing of the counter stands before the news of the tools.
        assert_eq!(method(&stream.next()), "notifications/tools/list_changed");
        assert_eq!(session.call("resources/unsubscribe", json!({"uri": "test://never"})).result(), json!({}));
        session.end();
        assert_eq!(stream.rest(), Vec::<Value>::new());
    }
}

#[test]
fn what_cannot_be_subscribed_to_is_refused() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_SUBSCRIPTIONS_MAX", "1")]);
    let session = Session::newest(&server);
    let code = |params: Value| session.call("resources/subscribe", params).code();
    assert_eq!(code(json!({"uri": "test://no_such"})), -32002);
    assert_eq!(code(json!({"uri": "test://empty"})), -32602, "its plugin does not watch it");
    for bad in [json!({}), json!({"uri": 7})] {
        assert_eq!(code(bad.clone()), -32602);
        assert_eq!(session.call("resources/unsubscribe", bad).code(), -32602);
    }
    assert_eq!(code(json!({"uri": COUNTER})), 0);
}

#[test]
fn one_session_watches_no_more_than_it_may() {
    let server = Server::with("conformance_server", &[("WAYGATE_MCP_SUBSCRIPTIONS_MAX", "2")]);
    let session = Session::newest(&server);
    let subscribe =
        |n: u32| session.call("resources/subscribe", json!({"uri": format!("test://template/{n}/data")}));
    assert_eq!((subscribe(1).code(), subscribe(2).code()), (0, 0));
    let refused = subscribe(3);
    assert_eq!(refused.code(), -32602);
    assert!(refused.text().contains("subscriptions_max"), "{}", refused.text());
    session.call("resources/unsubscribe", json!({"uri": "test://template/1/data"})).result();
    assert_eq!(subscribe(3).code(), 0);
}

#[test]
fn each_message_is_told_on_exactly_one_of_several_streams() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    let (tell, told) = std::sync::mpsc::channel();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (mut stream, tell) = (session.stream(), tell.clone());
            std::thread::spawn(move || {
                while let Some(message) = stream.message() {
                    tell.send(method(&message)).expect("somebody listens");
                }
            })
        })
        .collect();
    drop(tell);
    session.call("resources/subscribe", json!({"uri": COUNTER})).result();
    for (what, name) in [
        ("tools", "tools/list_changed"),
        ("prompts", "prompts/list_changed"),
        ("counter", "resources/updated"),
    ] {
        touch(&server, what);
        assert_eq!(told.recv_timeout(PATIENCE).expect("news"), format!("notifications/{name}"));
    }
    session.end();
    let more: Vec<String> = told.iter().collect();
    assert!(more.is_empty(), "told again on another stream: {more:?}");
    for reader in readers {
        reader.join().expect("its stream ends");
    }
}

#[test]
fn another_sessions_news_are_its_own() {
    let server = Server::start("faulty_server");
    let (watches, does_not) = (Session::newest(&server), Session::newest(&server));
    let (mut first, mut second) = (watches.stream(), does_not.stream());
    watches.call("resources/subscribe", json!({"uri": COUNTER})).result();
    touch(&server, "counter");
    assert_eq!(method(&first.next()), "notifications/resources/updated");
    touch(&server, "prompts");
    assert_eq!(method(&second.next()), "notifications/prompts/list_changed");
    assert_eq!(method(&first.next()), "notifications/prompts/list_changed");
}

#[test]
fn a_standing_stream_that_broke_is_taken_up_where_it_broke() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    let mut stream = session.stream();
    let first = stream.event().expect("a first event").id.expect("an id");
    touch(&server, "tools");
    assert_eq!(method(&stream.next()), "notifications/tools/list_changed");
    let seen = stream.last.clone().expect("an id");
    drop(stream);
    touch(&server, "prompts");
    let mut back = session.resume(&seen);
    assert_eq!(method(&back.next()), "notifications/prompts/list_changed");
    // From the beginning, once more: whoever comes back takes the stream over.
    let mut again = session.resume(&first);
    assert_eq!(method(&again.next()), "notifications/tools/list_changed");
    assert_eq!(method(&again.next()), "notifications/prompts/list_changed");
    assert_eq!(back.event(), None, "the connection before ends");
    touch(&server, "resources");
    assert_eq!(method(&again.next()), "notifications/resources/list_changed");
}

#[test]
fn news_that_nobody_heard_are_heard_on_the_next_stream() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    drop(session.stream());
    eventually("the server sees that it is gone", || {
        // The connection that asks is one.
        (server.get("/diagnostics/connection").1["connections"]["open"] == 1).then_some(())
    });
    for what in ["tools", "prompts"] {
        touch(&server, what);
    }
    let mut next = session.stream();
    assert_eq!(method(&next.next()), "notifications/tools/list_changed");
    assert_eq!(method(&next.next()), "notifications/prompts/list_changed");
}

#[test]
fn the_stream_of_a_call_is_taken_up_where_it_broke() {
    let server = Server::start("faulty_server");
    for revision in ["2025-03-26", "2025-06-18", NEWEST] {
        let session = Session::open(&server, revision, json!({}));
        let mut stream = long_call(&session, 9, 6, 60);
        assert_eq!(stream.next()["params"]["progress"], 1);
        let seen = stream.last.clone().expect("an id");
        drop(stream);
        let mut back = session.resume(&seen);
        let rest = back.rest();
        let far: Vec<_> = rest.iter().filter_map(|message| message["params"]["progress"].as_u64()).collect();
        assert_eq!(far, [2, 3, 4, 5, 6], "{revision}");
        let last = rest.last().expect("an answer");
        assert_eq!((&last["id"], &last["result"]["content"][0]["text"]), (&json!(9), &json!("arrived")));
        // It can be had once more after its end.
        assert_eq!(session.resume(&seen).rest(), rest);
    }
}

#[test]
fn a_stream_is_told_its_own_messages_only_when_it_is_taken_up() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    let (mut first, mut second) = (long_call(&session, 1, 3, 40), long_call(&session, 2, 3, 40));
    assert_eq!(
        (&first.next()["params"]["progress"], &second.next()["params"]["progress"]),
        (&json!(1), &json!(1))
    );
    let seen = first.last.clone().expect("an id");
    assert_eq!(second.last_message()["id"], 2);
    drop(first);
    let rest = session.resume(&seen).rest();
    assert_eq!(rest.last().expect("an answer")["id"], 1);
    assert!(rest.iter().all(|message| message.get("id").is_none_or(|id| id == 1)), "{rest:?}");
}

#[test]
fn an_id_that_was_never_given_is_refused_and_another_sessions_opens_nothing_of_it() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let _stream = session.stream();
    for forged in
        ["", "x", "0", "-", "0-", "-0", "0-99", "7-0", "99999999999-0", "0-0-0", "0--1", "0-0x", "ü"]
    {
        refused(&session.resumption(forged).send(server.address), 400);
    }
    // An id of another session's secret call.
    let other = Session::newest(&server);
    drop(other.stream());
    let mut call = other.begin_as(1, "repeat", json!({"secret": "swordfish"}), json!({}));
    call.rest();
    let mut call = long_call(&other, 2, 1, 0);
    call.rest();
    let foreign = call.last.expect("an id");
    refused(&session.resumption(&foreign).send(server.address), 400);
    session.call("ping", json!({})).result();
}

#[test]
fn what_is_no_longer_kept_cannot_be_taken_up_and_is_said_to_be_gone() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_SESSION_REPLAY_BYTES", "4000")]);
    let session = Session::newest(&server);
    let mut call = long_call(&session, 1, 1, 0);
    let first = call.event().expect("an event").id.expect("an id");
    call.rest();
    assert_eq!(session.resume(&first).last_message()["id"], 1);
    for id in 2..20 {
        assert_eq!(
            session
                .begin_as(id, "repeat", json!({"text": "x".repeat(2000)}), json!({"progressToken": 1}))
                .last_message()["id"],
            id
        );
        assert_eq!(long_call(&session, id + 100, 20, 0).last_message()["id"], id + 100);
    }
    let reply = session.resumption(&first).send(server.address);
    refused(&reply, 400);
    assert!(reply.text().contains("no longer kept") || reply.text().contains("no event"), "{}", reply.text());
}

#[test]
fn a_result_survives_a_flood_before_it_for_a_client_that_lost_its_stream() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_SESSION_REPLAY_BYTES", "4000")]);
    let session = Session::newest(&server);
    // Far more is said than is kept, while nobody is there to take it.
    let mut call = session.begin_as(1, "steps", json!({"n": 400, "ms": 2}), json!({"progressToken": "p"}));
    let first = call.event().expect("an event").id.expect("an id");
    drop(call);
    running(&server, 0);
    let rest = session.resume(&first).rest();
    let last = rest.last().expect("the result is not lost");
    assert_eq!(last["result"]["content"][0]["text"], "arrived");
    assert!(rest.len() < 400, "notices may be lost: {}", rest.len());
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
fn idle_streams_get_signs_of_life() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_STREAM_KEEP_ALIVE_SECONDS", "1")]);
    let session = Session::newest(&server);
    let mut stream = session.stream();
    let mut call = session.begin("sleep", json!({"ms": 3500}));
    assert_eq!(call.last_message()["result"]["content"][0]["text"], "slept");
    assert!(call.comments >= 1, "{}", call.comments);
    session.end();
    stream.rest();
    assert!(stream.comments >= 1, "{}", stream.comments);
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
fn a_thousand_streams_of_one_session_are_as_few_as_it_may_have() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    let mut streams: Vec<Stream> = (0..1000).map(|_| session.stream()).collect();
    // The newest are open, the older ones have ended.
    for old in streams.iter_mut().take(900) {
        assert!(old.rest().is_empty());
    }
    touch(&server, "tools");
    let mut newest = streams.pop().expect("a thousandth");
    assert_eq!(method(&newest.next()), "notifications/tools/list_changed");
    session.end();
    let told: usize = streams.iter_mut().skip(900).map(|stream| stream.rest().len()).sum();
    assert_eq!(told, 0, "it was told once");
    server.tool("repeat", json!({}));
}

#[test]
fn a_thousand_sessions_with_a_stream_each_hear_the_news() {
    let server = Server::start("faulty_server");
    let sessions: Vec<Session> = (0..1000).map(|_| Session::open(&server, NEWEST, json!({}))).collect();
    let mut streams: Vec<Stream> = sessions.iter().map(Session::stream).collect();
    touch(&server, "tools");
    for stream in &mut streams {
        assert_eq!(method(&stream.next()), "notifications/tools/list_changed");
    }
    drop(streams);
    for session in &sessions {
        assert_eq!(session.end().status, 204);
    }
    assert_eq!(server.metric("waygate_sessions"), Some(0.0));
    eventually("no actor is left", || {
        let actors = server.get("/diagnostics/actors").1["actors"].clone();
        (!actors.as_array()?.iter().any(|actor| actor["kind"] == "session")).then_some(())
    });
}

#[test]
fn a_client_that_never_reads_costs_its_own_room_and_harms_nobody() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_SESSION_REPLAY_BYTES", "20000")]);
    let (lazy, eager) = (Session::newest(&server), Session::newest(&server));
    let deaf = lazy.listen().open(server.address);
    for session in [&lazy, &eager] {
        session.call("logging/setLevel", json!({"level": "debug"})).result();
    }
    let flood = |session: &Session, id: u64| {
        session.begin_as(id, "flood", json!({"n": 50_000}), json!({"progressToken": 1}))
    };
    let unread: Vec<Stream> = (1..4).map(|id| flood(&lazy, id)).collect();
    let told = flood(&eager, 1).rest();
    assert_eq!(told.last().expect("an answer")["result"]["content"][0]["text"], "flooded");
    assert!(told.len() < 50_000, "{}", told.len());
    for _ in 0..20 {
        touch(&server, "tools");
    }
    lazy.call("ping", json!({})).result();
    server.tool("repeat", json!({}));
    drop((deaf, unread));
    assert_eq!(lazy.end().status, 204);
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
    let refused = eventually("the session is full", || {
        let reply = session.tool("repeat", json!({}));
        (reply.code() == -31503).then_some(reply)
    });
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

#[test]
fn a_version_header_is_not_needed_to_listen_but_must_not_lie() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let stream = Stream::open(&session.listen().without("MCP-Protocol-Version"), server.address);
    assert_eq!(stream.status, 200);
    let modern = session.listen().set("MCP-Protocol-Version", crate::support::MODERN).send(server.address);
    assert_eq!((modern.status, modern.header("allow")), (405, Some("POST")));
    let head = Http { head: "HEAD /mcp".to_owned(), ..session.listen() };
    let mut open = head.open(server.address);
    assert_eq!(open.head().0, 405);
}
