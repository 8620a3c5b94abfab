//! Plugins that panic, hang, flood or talk nonsense: each costs its own calls only, and the operator learns which it was.

use serde_json::{Value, json};

use crate::support::{Http, Open, PATIENCE, Reply, Server, eventually};

/// A second for a call, so that the hanging ones are given up soon.
const SHORT: (&str, &str) = ("WAYGATE_TIMEOUT", "1");

fn call(server: &Server, name: &str, arguments: Value) -> Reply {
    server.call("tools/call", json!({"name": name, "arguments": arguments}))
}

/// Sends a call and does not wait for its answer.
fn begin(server: &Server, name: &str, arguments: Value) -> Open {
    Http::modern("tools/call", json!({"name": name, "arguments": arguments})).open(server.address)
}

fn request_id(reply: &Reply) -> String {
    reply.json()["error"]["data"]["requestId"].as_str().expect("each error names its request").to_owned()
}

/// What the operator sees of the failed request.
fn recent_error(server: &Server, request_id: &str) -> Value {
    let (status, shown) = server.get("/diagnostics/errors");
    assert_eq!(status, 200);
    let errors = shown["errors"].as_array().expect("a list");
    errors.iter().find(|error| error["requestId"] == request_id).expect("the error is shown").clone()
}

fn plugin(server: &Server, name: &str) -> Value {
    server.get(&format!("/plugins/{name}")).1
}

/// The process lives, and both plugins serve.
fn all_is_well(server: &Server) {
    assert_eq!(call(server, "repeat", json!({"a": 1})).status, 200);
    assert_eq!(call(server, "tool_001", json!({})).status, 200);
    assert_eq!(server.get("/ready").0, 200);
}

#[test]
fn a_tool_that_panics_costs_its_own_call_only() {
    let server = Server::start("faulty_server");
    for tool in ["panic", "panic_blocking"] {
        let reply = call(&server, tool, json!({}));
        assert_eq!(reply.status, 500, "{}", reply.text());
        assert_eq!(reply.code(), -32603);
        assert_eq!(reply.json()["id"], 1);
        assert!(!reply.text().contains("asked to"), "the cause is the operator's alone: {}", reply.text());
        let error = recent_error(&server, &request_id(&reply));
        let cause = error["cause"].as_str().expect("a cause");
        assert!(cause.contains("plugin faulty") && cause.contains(tool), "{error}");
        all_is_well(&server);
    }
    assert_eq!(plugin(&server, "faulty")["lostThreads"], 0);
    let metrics = Http::get("/metrics").send(server.address).text();
    assert!(metrics.contains("waygate_plugin_panics_total{plugin=\"faulty\"} 1"), "{metrics}");
}

#[test]
fn a_tool_that_never_answers_is_given_up_at_its_deadline() {
    let server = Server::with("faulty_server", &[SHORT]);
    let reply = call(&server, "hang", json!({}));
    assert_eq!(reply.status, 504, "{}", reply.text());
    assert_eq!((reply.code(), reply.json()["id"].as_i64()), (-31504, Some(1)));
    let error = recent_error(&server, &request_id(&reply));
    assert!(error["cause"].as_str().is_some_and(|cause| cause.contains("plugin faulty")), "{error}");
    assert_eq!(plugin(&server, "faulty")["running"], 0, "its place is free again");
    all_is_well(&server);
}

#[test]
fn threads_that_outlive_their_calls_close_their_plugin_and_no_other() {
    let server = Server::with("faulty_server", &[SHORT, ("WAYGATE_PLUGINS_LOST_THREADS_MAX", "2")]);
    let hanging: Vec<Open> = (0..2).map(|_| begin(&server, "hang_blocking", json!({"ms": 3000}))).collect();
    for open in hanging {
        let reply = open.finish();
        assert_eq!((reply.status, reply.code()), (504, -31504), "{}", reply.text());
    }
    let shown = plugin(&server, "faulty");
    assert_eq!((&shown["lostThreads"], &shown["state"]), (&json!(2), &json!("open")));
    let refused = call(&server, "repeat", json!({}));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert!(refused.text().contains("faulty"), "{}", refused.text());
    assert_eq!(call(&server, "tool_001", json!({})).status, 200);
    assert_eq!(server.get("/ready").0, 200);
    eventually("health says so", || {
        let problem = server.get("/health").1["problems"]["plugins"].clone();
        problem.as_str().is_some_and(|problem| problem.contains("faulty is open")).then_some(())
    });
    eventually("the threads end", || (plugin(&server, "faulty")["lostThreads"] == 0).then_some(()));
    assert_ne!(plugin(&server, "faulty")["state"], "open");
    all_is_well(&server);
}

#[test]
fn blocking_work_beyond_the_plugins_threads_waits_and_is_refused_at_the_deadline() {
    let settings =
        [SHORT, ("WAYGATE_PLUGINS_BLOCKING_THREADS", "1"), ("WAYGATE_PLUGINS_LOST_THREADS_MAX", "1")];
    let server = Server::with("faulty_server", &settings);
    let first = begin(&server, "hang_blocking", json!({"ms": 3000}));
    eventually("it runs", || (plugin(&server, "faulty")["running"] == 1).then_some(()));
    let second = call(&server, "hang_blocking", json!({"ms": 1}));
    // The wait for the thread and the call itself end at the same moment.
    assert!([503, 504].contains(&second.status), "{}", second.text());
    assert_eq!(first.finish().status, 504);
    eventually("the thread ends", || (plugin(&server, "faulty")["lostThreads"] == 0).then_some(()));
    assert_eq!(call(&server, "hang_blocking", json!({"ms": 1})).status, 200);
}

#[test]
fn a_flood_of_notices_ends_with_its_result_and_holds_up_nobody() {
    let server = Server::start("faulty_server");
    let meta = json!({"progressToken": "t", "io.modelcontextprotocol/logLevel": "debug"});
    let params = json!({"name": "flood", "arguments": {"n": 50_000}, "_meta": meta});
    let flood = Http::modern("tools/call", params).open(server.address);
    all_is_well(&server);
    let events = flood.finish().events();
    let last = events.last().expect("events");
    assert_eq!(last["result"]["content"][0]["text"], "flooded", "{last}");
    assert!(events.len() <= 10_000, "what cannot be read in time is left out: {}", events.len());
    all_is_well(&server);
}

#[test]
fn nonsense_is_our_fault_and_named_with_its_plugin() {
    let server = Server::start("faulty_server");
    for kind in ["no_object", "no_content", "structured", "unstructured", "asks_nothing"] {
        let reply = call(&server, "nonsense", json!({"kind": kind}));
        assert_eq!((reply.status, reply.code()), (500, -32603), "{kind}: {}", reply.text());
        let error = recent_error(&server, &request_id(&reply));
        assert_eq!(error["code"], "internal");
        assert!(
            error["cause"].as_str().is_some_and(|cause| cause.contains("plugin faulty")),
            "{kind}: {error}"
        );
    }
    all_is_well(&server);
}

#[test]
fn calls_beyond_the_cap_wait_and_those_beyond_the_queue_are_refused() {
    let settings = [("WAYGATE_PLUGINS_CONCURRENCY", "2"), ("WAYGATE_PLUGINS_QUEUE_MAX", "1")];
    let server = Server::with("faulty_server", &settings);
    let mut open: Vec<Open> = Vec::new();
    for (running, queued) in [(1, 0), (2, 0), (2, 1)] {
        open.push(begin(&server, "sleep", json!({"ms": 2000})));
        eventually("the call has its place", || {
            let shown = plugin(&server, "faulty");
            (shown["running"] == running && shown["queued"] == queued).then_some(())
        });
    }
    let refused = call(&server, "repeat", json!({}));
    assert_eq!((refused.status, refused.code()), (503, -31503), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert_eq!(call(&server, "tool_001", json!({})).status, 200, "another plugin has its own places");
    for call in open {
        assert_eq!(call.finish().status, 200);
    }
    let shown = plugin(&server, "faulty");
    assert_eq!((&shown["running"], &shown["queued"]), (&json!(0), &json!(0)));
}

#[test]
fn a_call_that_waits_in_vain_for_a_place_is_refused_at_its_deadline() {
    let settings = [SHORT, ("WAYGATE_PLUGINS_CONCURRENCY", "1")];
    let server = Server::with("faulty_server", &settings);
    let hanging = begin(&server, "hang", json!({}));
    eventually("it runs", || (plugin(&server, "faulty")["running"] == 1).then_some(()));
    let waiting = begin(&server, "hang", json!({}));
    assert_eq!(hanging.finish().status, 504);
    assert!([503, 504].contains(&waiting.finish().status));
    all_is_well(&server);
}

#[test]
fn a_client_that_goes_away_frees_the_place_of_its_call() {
    let server = Server::with("faulty_server", &[("WAYGATE_PLUGINS_CONCURRENCY", "1")]);
    let hanging = begin(&server, "hang", json!({}));
    eventually("it runs", || (plugin(&server, "faulty")["running"] == 1).then_some(()));
    drop(hanging);
    eventually("its place is free", || (plugin(&server, "faulty")["running"] == 0).then_some(()));
    all_is_well(&server);
}

/// `flood` without a listener never gives its thread back before it is done: an async tool that blocks.
#[test]
fn a_worker_that_a_tool_blocks_is_alone_and_comes_back() {
    let server = Server::with("faulty_server", &[SHORT]);
    let blocking = begin(&server, "flood", json!({"n": 30_000_000}));
    let (tell, told) = std::sync::mpsc::channel();
    // Connections go to the workers in turn: of two, one at least is not behind the blocked one.
    for call in [0, 1].map(|_| begin(&server, "repeat", json!({}))) {
        let tell = tell.clone();
        std::thread::spawn(move || tell.send(call.finish().status));
    }
    assert_eq!(told.recv_timeout(PATIENCE), Ok(200));
    let wire = blocking.reader.get_ref();
    wire.set_nonblocking(true).expect("a socket");
    let seen = wire.peek(&mut [0]).map_err(|error| error.kind());
    assert_eq!(seen, Err(std::io::ErrorKind::WouldBlock), "the worker was not blocked long enough");
    wire.set_nonblocking(false).expect("a socket");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(200));
    let reply = blocking.finish();
    assert!([200, 504].contains(&reply.status), "{}", reply.text());
    all_is_well(&server);
}
