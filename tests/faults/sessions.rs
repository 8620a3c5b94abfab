//! Sessions of the older revisions when things go wrong around them: crashes, kills and stops.

use serde_json::{Value, json};

use crate::ledger;
use crate::legacy::{NEWEST, Session, Stream, everything, handshake, request};
use crate::support::{Http, Server, eventually};

const COUNTER: &str = "test://counter";

fn crash(server: &Server, actor: &str) {
    let mut request = Http::get("/");
    request.head = format!("POST /diagnostics/actors/{actor}/crash");
    let reply = request.send(server.address);
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn restarts(server: &Server, name: &str) -> u64 {
    let shown = server.get("/diagnostics/actors").1;
    let actors = shown["actors"].as_array().cloned().unwrap_or_default();
    let found = actors.iter().find(|actor| actor["name"] == name);
    found.and_then(|actor| actor["restarts"].as_u64()).unwrap_or(0)
}

fn crash_once(server: &Server, name: &str) {
    let before = restarts(server, name);
    crash(server, name);
    eventually("the actor is back", || (restarts(server, name) == before + 1).then_some(()));
}

fn accept(name: &str) -> Value {
    json!({"action": "accept", "content": {"name": name}})
}

fn method(message: &Value) -> &str {
    message["method"].as_str().unwrap_or("an answer")
}

#[test]
fn a_session_whose_actor_crashes_loses_its_questions_and_nothing_else() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    let mut stream = session.stream();
    session.call("resources/subscribe", json!({"uri": COUNTER})).result();
    session.call("logging/setLevel", json!({"level": "alert"})).result();
    let mut asks = session.begin_as("a", "ask", json!({}), json!({}));
    let ask = asks.ask("elicitation/create");
    let mut runs = session.begin_as("r", "steps", json!({"n": 3, "ms": 200}), json!({"progressToken": 1}));
    assert!(runs.message().is_some());
    crash_once(&server, "session-0");
    // The call that asked fails with an error that is worth a retry.
    let lost = asks.last_message();
    assert_eq!((&lost["id"], &lost["error"]["code"]), (&json!("a"), &json!(-31503)), "{lost}");
    assert!(lost.to_string().contains("retry"), "{lost}");
    // An answer that comes now is late, and no fault.
    session.answer(&ask, accept("Ada"));
    assert_eq!(runs.last_message()["result"]["content"][0]["text"], "arrived");
    // News may have been missed, so that all of it is told; and then what changes.
    let mut told: Vec<String> = (0..4).map(|_| method(&stream.next()).to_owned()).collect();
    told.sort();
    assert_eq!(
        told,
        ["prompts/list_changed", "resources/list_changed", "resources/updated", "tools/list_changed"]
            .map(|name| format!("notifications/{name}"))
    );
    server.tool("touch", json!({}));
    let updated = stream.next();
    assert_eq!(
        (method(&updated), &updated["params"]["uri"]),
        ("notifications/resources/updated", &json!(COUNTER))
    );
    // And it asks again, under another id.
    let mut again = session.begin("ask", json!({}));
    let second = again.ask("elicitation/create");
    assert_ne!(second["id"], ask["id"]);
    session.answer(&second, accept("Bea"));
    assert!(
        again.last_message()["result"]["content"][0]["text"]
            .as_str()
            .is_some_and(|says| says.contains("Bea"))
    );
    let mut logs = session.begin("logs", json!({}));
    assert_eq!(logs.rest().len(), 3, "the level holds");
}

#[test]
fn a_session_whose_actor_is_given_up_gets_another() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    let mut stream = session.stream();
    for _ in 0..10 {
        crash_once(&server, "session-0");
    }
    crash(&server, "session-0");
    stream.rest();
    // Calls go on, and a new stream hears what changes.
    session.call("ping", json!({})).result();
    let mut stream = session.stream();
    server.tool("touch", json!({"what": "prompts"}));
    assert_eq!(method(&stream.next()), "notifications/prompts/list_changed");
    let mut asks = session.begin("ask", json!({}));
    let ask = asks.ask("elicitation/create");
    session.answer(&ask, accept("Ada"));
    assert!(asks.last_message()["result"].is_object());
}

#[test]
fn one_sessions_crash_is_nobody_elses() {
    let server = Server::start("faulty_server");
    let (first, second) = (Session::newest(&server), Session::newest(&server));
    let (_one, mut two) = (first.stream(), second.stream());
    let mut asks = second.begin("ask", json!({}));
    let ask = asks.ask("elicitation/create");
    crash_once(&server, "session-0");
    second.answer(&ask, accept("Ada"));
    assert!(asks.last_message()["result"].is_object());
    server.tool("touch", json!({"what": "prompts"}));
    assert_eq!(method(&two.next()), "notifications/prompts/list_changed");
}

#[test]
fn an_executor_that_crashes_costs_a_session_no_call() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    let mut asks = session.begin("ask", json!({}));
    let ask = asks.ask("elicitation/create");
    let mut runs = session.begin_as(9, "steps", json!({"n": 3, "ms": 200}), json!({"progressToken": 1}));
    assert!(runs.message().is_some());
    for executor in ["executor-0", "executor-1"] {
        crash_once(&server, executor);
    }
    // What waits for a person is not in the executor; what ran says what became of it.
    session.answer(&ask, accept("Ada"));
    assert!(asks.last_message()["result"].is_object());
    let last = runs.last_message();
    assert!(last["id"] == 9 && (last["result"].is_object() || last["error"]["code"] == -31503), "{last}");
    for _ in 0..10 {
        session.tool("repeat", json!({})).result();
    }
}

#[test]
fn a_plugins_actor_that_crashes_tells_its_news_all_the_same() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    let mut stream = session.stream();
    session.call("resources/subscribe", json!({"uri": COUNTER})).result();
    crash_once(&server, "plugin-faulty");
    server.tool("touch", json!({}));
    eventually("the update is told", || {
        (method(&stream.next()) == "notifications/resources/updated").then_some(())
    });
}

#[test]
fn a_stop_ends_streams_and_lets_calls_finish() {
    let mut server = Server::start("faulty_server");
    let session = Session::newest(&server);
    let mut streams: Vec<Stream> = (0..3).map(|_| session.stream()).collect();
    let meta = json!({"progressToken": 1});
    let mut speaks = session.begin_as(1, "steps", json!({"n": 3, "ms": 400}), meta);
    assert!(speaks.message().is_some());
    let silent =
        session.request(&request(2, "tools/call", json!({"name": "sleep", "arguments": {"ms": 900}})));
    let silent = silent.open(server.address);
    let mut asks = session.begin_as(3, "ask", json!({}), json!({}));
    asks.ask("elicitation/create");
    server.signal("-TERM");
    for stream in &mut streams {
        stream.rest();
    }
    let refused = eventually("the server drains", || {
        let reply = Http::post(handshake(NEWEST, json!({})).to_string()).send(server.address);
        (reply.status != 200).then_some(reply)
    });
    assert_eq!((refused.status, refused.code()), (503, -31503));
    // Nobody can answer any more: whoever asked is told so, and the others finish.
    let lost = asks.last_message();
    assert!(lost["id"] == 3 && lost["error"]["code"] == -31503, "{lost}");
    assert_eq!(speaks.last_message()["result"]["content"][0]["text"], "arrived");
    assert_eq!(silent.finish().json()["result"]["content"][0]["text"], "slept");
    assert_eq!(server.wait(), Some(0));
    assert!(server.log().contains("everything is on disk"));
    assert_eq!(ledger::integrity(&server.folder), "ok");
}

#[test]
fn a_stop_lets_calls_over_two_urls_finish() {
    let mut server = Server::start("faulty_server");
    let listen = Http::get("/sse").header("Accept", "text/event-stream");
    let mut stream = Stream::open(&listen, server.address);
    let url = stream.event().and_then(|event| event.data).expect("a URL");
    let post = |message: Value| {
        let head = format!("POST {url}");
        Http { head, ..Http::post(message.to_string()) }.send(server.address)
    };
    assert_eq!(post(handshake("2024-11-05", everything())).status, 202);
    assert!(stream.next()["result"].is_object());
    let call = request(1, "tools/call", json!({"name": "sleep", "arguments": {"ms": 900}}));
    assert_eq!(post(call).status, 202);
    eventually("the call runs", || (server.get("/plugins/faulty").1["running"] == 1).then_some(()));
    server.signal("-TERM");
    assert_eq!(stream.next()["result"]["content"][0]["text"], "slept");
    assert!(stream.message().is_none(), "and then it ends");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_database_that_is_away_does_not_end_a_session() {
    let server = Server::start("faulty_server");
    let session = Session::open(&server, "2025-06-18", everything());
    crash_once(&server, "db");
    session.tool("repeat", json!({})).result();
    let mut asks = session.begin("ask", json!({}));
    let ask = asks.ask("elicitation/create");
    crash_once(&server, "db");
    session.answer(&ask, accept("Ada"));
    assert!(asks.last_message()["result"].is_object());
}
