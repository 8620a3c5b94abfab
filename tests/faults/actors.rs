//! Actors that panic: under load nobody notices but the diagnostics; past its budget each ends in its own way.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::ledger;
use crate::load::Load;
use crate::support::{Http, Open, Server, eventually};

/// How often an actor may panic within a minute.
const BUDGET: usize = 10;
/// Everything is recorded with its message, so that what was answered can be looked for.
const FULL: (&str, &str) = ("WAYGATE_HISTORY_ARGUMENTS", "full");
const STRICT: (&str, &str) = ("WAYGATE_HISTORY_DURABILITY", "strict");

fn crash(server: &Server, actor: &str) {
    let mut request = Http::get("/");
    request.head = format!("POST /diagnostics/actors/{actor}/crash");
    let reply = request.send(server.address);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["answered"], false, "poison is never answered");
}

/// An actor as the diagnostics show it.
fn actor(server: &Server, name: &str) -> Option<Value> {
    let (status, shown) = server.get("/diagnostics/actors");
    assert_eq!(status, 200);
    shown["actors"].as_array().expect("a list").iter().find(|actor| actor["name"] == name).cloned()
}

fn restarts_in_metrics(server: &Server, kind: &str) -> u64 {
    let text = Http::get("/metrics").send(server.address).text();
    let line = format!("waygate_actor_restarts{{kind=\"{kind}\"}} ");
    text.lines().find_map(|shown| shown.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

/// Crashes `name` thrice under load and looks at everything that must hold then.
fn nobody_notices_the_crash_of(name: &str, kind: &str, settings: &[(&str, &str)]) {
    let mut server = Server::with("echo", settings);
    let load = Load::begin(server.address, "crash", 4);
    for count in 1..=3 {
        load.wait_for(20);
        crash(&server, name);
        let shown = eventually("the actor is back", || {
            actor(&server, name).filter(|shown| shown["restarts"].as_u64() == Some(count))
        });
        assert_eq!(shown["state"], "running");
        assert_eq!(shown["lastPanic"]["message"], "crashed on demand");
        assert!(shown["lastPanic"]["restartMicroseconds"].as_f64().is_some_and(|micros| micros > 0.0));
    }
    load.wait_for(20);
    let tally = load.finish();
    tally.all_answered();
    eventually("the metrics count the restarts", || (restarts_in_metrics(&server, kind) == 3).then_some(()));
    eventually("the server is ready", || (server.get("/ready").0 == 200).then_some(()));
    eventually("the server is healthy", || (server.get("/health").1["status"] == "healthy").then_some(()));
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    recorded(&server, &tally.answered);
}

fn recorded(server: &Server, answered: &[String]) {
    let known = ledger::messages(&server.folder, &["success"]);
    let missing: BTreeSet<_> = answered.iter().filter(|message| !known.contains(*message)).collect();
    assert!(missing.is_empty(), "answered and not recorded: {missing:?}");
    assert!(ledger::rows(&server.folder).iter().all(|row| row.kind != "gap"));
}

#[test]
fn an_executor_that_crashes_costs_nobody_a_call() {
    nobody_notices_the_crash_of("executor-0", "executor", &[FULL]);
}

#[test]
fn the_database_actor_and_its_writer_that_crash_lose_no_row() {
    nobody_notices_the_crash_of("db", "db", &[FULL]);
}

#[test]
fn the_database_actor_that_crashes_loses_no_row_when_history_is_strict() {
    nobody_notices_the_crash_of("db", "db", &[FULL, STRICT]);
}

#[test]
fn the_metrics_that_crash_come_back_and_count_on() {
    nobody_notices_the_crash_of("metrics", "metrics", &[FULL]);
}

#[test]
fn the_health_monitor_that_crashes_comes_back_and_judges_anew() {
    nobody_notices_the_crash_of("health", "health", &[FULL]);
}

#[test]
fn a_plugins_actor_that_crashes_touches_none_of_its_calls() {
    nobody_notices_the_crash_of("plugin-echo", "plugin", &[FULL]);
}

/// Opens a listen stream for changes of the list of tools.
fn listen(server: &Server) -> Open {
    let mut stream =
        Http::modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}))
            .open(server.address);
    let first = stream.event().expect("an acknowledgement");
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    stream
}

fn next_method(stream: &mut Open) -> Option<String> {
    stream.event().map(|event| event["method"].as_str().unwrap_or("a result").to_owned())
}

#[test]
fn a_listen_stream_survives_the_crash_of_its_session_and_gets_its_news() {
    let server = Server::start("conformance_server");
    let mut stream = listen(&server);
    crash(&server, "session-0");
    let told = next_method(&mut stream);
    assert_eq!(told.as_deref(), Some("notifications/tools/list_changed"), "news may have been missed");
    server.tool("test_trigger_tool_change", json!({}));
    assert_eq!(next_method(&mut stream).as_deref(), Some("notifications/tools/list_changed"));
    assert_eq!(restarts_in_metrics(&server, "session"), 1);
}

#[test]
fn a_listen_stream_hears_of_changes_that_come_while_the_plugins_actor_crashes() {
    let server = Server::start("conformance_server");
    let mut stream = listen(&server);
    for _ in 0..3 {
        crash(&server, "plugin-conformance");
        server.tool("test_trigger_tool_change", json!({}));
        assert_eq!(next_method(&mut stream).as_deref(), Some("notifications/tools/list_changed"));
    }
}

/// Crashes an actor once more than it may; the last crash can find nobody.
fn crash_past_the_budget(server: &Server, name: &str) {
    for count in 1..=BUDGET {
        crash(server, name);
        eventually("the actor is back", || {
            actor(server, name).filter(|shown| shown["restarts"].as_u64() == Some(count as u64))
        });
    }
    crash(server, name);
}

#[test]
fn a_session_past_its_budget_ends_its_stream_and_no_other() {
    let server = Server::start("conformance_server");
    let (mut first, mut second) = (listen(&server), listen(&server));
    crash_past_the_budget(&server, "session-0");
    let last = std::iter::from_fn(|| first.event()).last().expect("the stream ends with something");
    assert!(last["result"].is_object(), "the client learns that the stream is over: {last}");
    assert!(actor(&server, "session-0").is_none());
    server.tool("test_trigger_tool_change", json!({}));
    assert_eq!(next_method(&mut second).as_deref(), Some("notifications/tools/list_changed"));
    let streams = server.get("/diagnostics/connection").1["streams"]["open"].clone();
    assert_eq!(streams, 1);
}

#[test]
fn a_plugin_whose_actor_is_past_its_budget_is_quarantined_and_others_serve_on() {
    let server = Server::start("waygate-mcp");
    let mut stream = listen(&server);
    crash_past_the_budget(&server, "plugin-files");
    let state = || server.get("/plugins/files").1["state"].clone();
    eventually("the plugin is quarantined", || (state() == "quarantined").then_some(()));
    eventually("the operator is told", || {
        (server.get("/health").1["checks"]["plugins"] == "degraded").then_some(())
    });
    let refused = server.call("tools/call", json!({"name": "files__list_directory", "arguments": {}}));
    assert_eq!((refused.status, refused.code()), (503, -31503), "{}", refused.text());
    assert!(refused.text().contains("quarantine"), "{}", refused.text());
    let listed = server.call("tools/list", json!({})).json()["result"]["tools"].clone();
    let names: Vec<&str> =
        listed.as_array().expect("a list").iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert!(!names.is_empty() && names.iter().all(|name| name.starts_with("waygate__")), "{names:?}");
    assert_eq!(next_method(&mut stream).as_deref(), Some("notifications/tools/list_changed"));
    server.tool("waygate__status", json!({}));
    assert_eq!(server.get("/ready").0, 200);
}

/// A process without a vital actor drains and says by its exit code that it must be started again.
fn the_process_drains_without(name: &str) {
    let mut server = Server::with("echo", &[FULL]);
    let load = Load::begin(server.address, "doom", 4);
    load.wait_for(20);
    crash_past_the_budget(&server, name);
    assert_eq!(server.wait(), Some(70));
    let tally = load.finish();
    // Those that came while nothing listened any more are no longer its own.
    for (message, (status, body)) in &tally.refused {
        assert_eq!(*status, 503, "{message}: {body}");
    }
    recorded(&server, &tally.answered);
    assert!(server.log().contains(&format!("actor {name} panicked more than {BUDGET} times in 60 s")));
}

#[test]
fn without_an_executor_the_process_drains_and_exits_70() {
    the_process_drains_without("executor-0");
}

#[test]
fn without_the_database_actor_the_process_drains_exits_70_and_keeps_what_was_answered() {
    the_process_drains_without("db");
}

#[test]
fn without_the_health_monitor_the_process_drains_and_exits_70() {
    the_process_drains_without("health");
}
