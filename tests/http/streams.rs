//! How an answer travels: JSON when it is all there is to say, an event stream when something is said before it.

use serde_json::{Value, json};

use crate::support::{Http, Reply, Server};

const LEVEL: &str = "io.modelcontextprotocol/logLevel";

fn with_meta(tool: &str, arguments: Value, meta: Value) -> Http {
    Http::modern("tools/call", json!({"name": tool, "arguments": arguments, "_meta": meta}))
}

/// The notifications of a stream, and its result at the end.
#[track_caller]
fn told(reply: &Reply) -> (Vec<Value>, Value) {
    assert!(reply.is_stream(), "{}", reply.text());
    let mut events = reply.events();
    let last = events.pop().expect("a result");
    assert!(last.get("result").is_some() && last["id"] == 1, "{last}");
    for event in &events {
        assert!(event.get("id").is_none() && event["method"].is_string(), "{event}");
    }
    (events, last["result"].clone())
}

fn of_kind<'a>(events: &'a [Value], method: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["method"] == method).map(|event| &event["params"]).collect()
}

#[test]
fn an_answer_with_nothing_before_it_is_json() {
    let server = Server::shared();
    for request in [
        Http::tool("steps", json!({})),
        with_meta("repeat", json!({}), json!({"progressToken": 1})),
        with_meta("steps", json!({}), json!({"progressToken": 1})).set("Accept", "application/json"),
        with_meta("steps", json!({}), json!({LEVEL: "debug"})),
    ] {
        let reply = request.send(server.address);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.result()["resultType"], "complete");
        assert!(!reply.text().contains('\n'));
    }
}

#[test]
fn progress_comes_in_order_under_its_own_token_and_before_the_result() {
    let server = Server::shared();
    for token in [json!(7), json!("7"), json!(""), json!(-1), json!(9_007_199_254_740_991_i64)] {
        let reply = with_meta("steps", json!({"n": 5}), json!({"progressToken": token})).send(server.address);
        let (events, result) = told(&reply);
        assert_eq!(result["content"][0]["text"], "arrived");
        let steps = of_kind(&events, "notifications/progress");
        assert_eq!(steps.len(), events.len(), "nothing but progress was asked for");
        let far: Vec<_> = steps.iter().map(|step| step["progress"].as_i64()).collect();
        assert_eq!(far, [1, 2, 3, 4, 5].map(Some));
        for step in steps {
            assert_eq!((&step["progressToken"], &step["total"]), (&token, &json!(5)));
            assert!(step["message"].is_string());
        }
    }
}

#[test]
fn progress_only_ever_rises() {
    let server = Server::shared();
    let reply = with_meta("logs", json!({}), json!({"progressToken": "t"})).send(server.address);
    let (events, _) = told(&reply);
    let far: Vec<_> =
        of_kind(&events, "notifications/progress").iter().map(|step| step["progress"].clone()).collect();
    assert_eq!(far, [json!(0.5), json!(1), json!(1.5), json!(2)]);
    assert!(
        of_kind(&events, "notifications/progress")
            .iter()
            .all(|step| step.get("total").is_none() && step.get("message").is_none())
    );
}

#[test]
fn a_progress_token_is_a_string_or_an_integer() {
    let server = Server::shared();
    for token in [json!(1.5), json!(true), json!([]), json!({})] {
        let reply = with_meta("steps", json!({}), json!({"progressToken": token})).send(server.address);
        assert_eq!((reply.status, reply.code()), (400, -32602), "{token}: {}", reply.text());
    }
}

#[test]
fn log_messages_come_from_the_level_that_was_asked_for() {
    let server = Server::shared();
    let levels = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
    for (n, level) in levels.iter().enumerate() {
        let reply = with_meta("logs", json!({}), json!({LEVEL: level})).send(server.address);
        let (events, _) = told(&reply);
        let heard: Vec<_> =
            of_kind(&events, "notifications/message").iter().map(|log| log["level"].clone()).collect();
        assert_eq!(heard, levels[n..].iter().map(|level| json!(level)).collect::<Vec<_>>());
        assert_eq!(heard.len(), events.len(), "progress was not asked for");
        let first = of_kind(&events, "notifications/message")[0].clone();
        assert_eq!((&first["logger"], &first["data"]["level"]), (&json!("logs"), &json!(level)));
    }
    // Without a level nothing is heard, whatever another request asked for.
    assert!(!Http::tool("logs", json!({})).send(server.address).is_stream());
}

#[test]
fn an_unknown_log_level_is_refused() {
    let server = Server::shared();
    for level in [json!("loud"), json!("DEBUG"), json!(""), json!(7), json!({})] {
        let reply = with_meta("logs", json!({}), json!({LEVEL: level})).send(server.address);
        assert_eq!((reply.status, reply.code()), (400, -32602), "{level}: {}", reply.text());
    }
}

#[test]
fn progress_and_log_share_one_stream() {
    let server = Server::shared();
    let meta = json!({"progressToken": 1, LEVEL: "alert"});
    let (events, _) = told(&with_meta("logs", json!({}), meta).send(server.address));
    assert_eq!(of_kind(&events, "notifications/message").len(), 2);
    assert_eq!(of_kind(&events, "notifications/progress").len(), 4);
}

#[test]
fn a_stream_has_the_headers_and_the_form_that_proxies_and_clients_want() {
    let server = Server::shared();
    let reply = with_meta("steps", json!({"n": 2}), json!({"progressToken": 1})).send(server.address);
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    for line in reply.text().lines() {
        assert!(
            line.is_empty() || line.starts_with("data: {"),
            "no id, no event name, one line a message: {line}"
        );
    }
    assert!(reply.text().ends_with("\n\n"));
}

#[test]
fn a_client_that_takes_events_alone_gets_events() {
    let server = Server::shared();
    for request in [
        Http::modern("tools/list", json!({})),
        Http::modern("server/discover", json!({})),
        Http::tool("repeat", json!({})),
    ] {
        for accept in ["text/event-stream", "text/*", "text/event-stream, application/json;q=0"] {
            let reply = request.clone().set("Accept", accept).send(server.address);
            let (before, result) = told(&reply);
            assert!(before.is_empty() && result["resultType"] == "complete");
        }
    }
    // An error has a status, so it is no stream.
    let reply = Http::tool("no_such", json!({})).set("Accept", "text/event-stream").send(server.address);
    assert_eq!((reply.status, reply.code()), (400, -32602));
}

#[test]
fn accept_is_read_kindly() {
    let server = Server::shared();
    let request = Http::modern("tools/list", json!({}));
    let accepted = [
        "*/*",
        "application/*",
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        "text/html, application/json;q=0.1",
        "application/json;q=1.0,text/event-stream;q=0.5",
        "text/html, */*;q=0.1",
        "",
    ];
    for accept in accepted {
        let reply = request.clone().set("Accept", accept).send(server.address);
        assert_eq!(reply.header("content-type"), Some("application/json"), "{accept}");
    }
    assert_eq!(request.clone().without("Accept").send(server.address).status, 200);
    // Two lines are one list.
    let two = request.set("Accept", "text/html").header("Accept", "application/json");
    assert_eq!(two.send(server.address).status, 200);
}

#[test]
fn a_client_that_takes_neither_is_told_what_to_send() {
    let server = Server::shared();
    for accept in ["text/html", "application/xml, image/*", "application/json;q=0", "*/*;q=0", "*/*; q=0.000"]
    {
        let reply = Http::modern("tools/list", json!({})).set("Accept", accept).send(server.address);
        assert_eq!((reply.status, reply.code()), (406, -31406), "{accept}: {}", reply.text());
        assert!(reply.text().contains("application/json, text/event-stream"));
    }
}

#[test]
fn an_error_after_the_stream_began_is_its_last_event() {
    let server = Server::with("faulty_server", &[("WAYGATE_TIMEOUT", "1")]);
    let reply =
        with_meta("steps", json!({"n": 2, "ms": 60_000}), json!({"progressToken": 1})).send(server.address);
    assert!(reply.is_stream());
    let events = reply.events();
    assert_eq!(events.len(), 2);
    assert_eq!((&events[1]["id"], &events[1]["error"]["code"]), (&json!(1), &json!(-31504)));
}

#[test]
fn an_error_before_anything_was_said_has_its_status() {
    let server = Server::shared();
    let reply =
        with_meta("refuse", json!({"kind": "failed"}), json!({"progressToken": 1})).send(server.address);
    assert_eq!((reply.status, reply.code()), (500, -32603));
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

#[test]
fn an_idle_stream_gets_signs_of_life() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_STREAM_KEEP_ALIVE_SECONDS", "1")]);
    let reply =
        with_meta("steps", json!({"n": 1, "ms": 1300}), json!({"progressToken": 1})).send(server.address);
    assert!(reply.text().lines().any(|line| line.starts_with(':')), "{}", reply.text());
    assert_eq!(told(&reply).0.len(), 1);
}

#[test]
fn a_flood_is_thinned_and_stalls_nobody() {
    let server = Server::start("faulty_server");
    let meta = json!({"progressToken": 1, LEVEL: "debug"});
    // One client that never reads, and one that does.
    let idle = with_meta("flood", json!({"n": 100_000}), meta.clone()).open(server.address);
    let (events, result) = told(&with_meta("flood", json!({"n": 100_000}), meta).send(server.address));
    assert_eq!(result["content"][0]["text"], "flooded");
    assert!(!events.is_empty() && events.len() < 10_000, "{} events", events.len());
    let far: Vec<_> =
        of_kind(&events, "notifications/progress").iter().map(|step| step["progress"].as_i64()).collect();
    assert!(far.is_sorted_by(|a, b| a < b));
    server.tool("repeat", json!({}));
    drop(idle);
}
