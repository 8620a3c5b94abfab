//! What an operator is told of calls and lives: in the history, in `/metrics`, and in the log.

use std::process::Command;

use serde_json::{Value, json};

use super::{House, hostile};
use crate::support::{database_of, eventually, program};

/// One of the numbers of a plugin.
fn number(house: &House, name: &str) -> Option<f64> {
    house.server.metric(&format!("waygate_plugin_{name}"))
}

#[track_caller]
fn counts(house: &House, name: &str, expected: f64) {
    eventually(&format!("{name} is {expected}"), || (number(house, name) == Some(expected)).then_some(()));
}

/// The record of the only call of a tool.
fn record(house: &House, tool: &str) -> Value {
    let root = house.root.path();
    eventually(&format!("a call of {tool} is recorded"), || {
        let mut command = Command::new(program("waygate-mcp"));
        command.env_clear().envs(database_of(root)).env("HOME", root);
        command.args(["history", "list", "--json", "--env", "test", "--data-dir"]).arg(root);
        let shown: Value = serde_json::from_slice(&command.output().ok()?.stdout).ok()?;
        shown["calls"].as_array()?.iter().find(|call| call["tool"] == tool).cloned()
    })
}

#[test]
fn a_call_that_waited_for_its_place_says_so_in_its_record_and_in_the_metrics() {
    let house = House::with(&[("narrow", hostile("good", "concurrency = 1\ntimeout_seconds = 20"))]);
    house.is_ready("narrow");
    let first = house.begin("narrow__hang", json!({}));
    counts(&house, "running{plugin=\"narrow\"}", 1.0);
    counts(&house, "queued{plugin=\"narrow\"}", 0.0);
    let second = house.begin("narrow__say", json!({}));
    counts(&house, "queued{plugin=\"narrow\"}", 1.0);
    drop(first);
    assert_eq!(second.finish().status, 200);
    counts(&house, "queued{plugin=\"narrow\"}", 0.0);
    let row = record(&house, "narrow__say");
    let micros = |name: &str| row[name].as_u64().unwrap_or_default();
    assert!(micros("queue_us") > 0, "{row}");
    assert!(micros("queue_us") + micros("upstream_us") <= micros("duration_us"), "{row}");
    assert_eq!(house.says("narrow__pid", json!({})).parse::<u32>().map(|pid| pid > 1), Ok(true));
    assert_eq!(record(&house, "narrow__pid")["queue_us"], Value::Null, "this one waited for nobody");
}

#[test]
fn breaker_states_restarts_and_failures_of_a_plugin_are_scraped() {
    let more = "breaker = { failures = 2, open_seconds = 3 }";
    let house = House::with(&[
        ("ill", hostile("good", more)),
        ("mortal", hostile("good", "")),
        ("partly", super::hostile_with("remote_ref", "http://127.0.0.1:9/schema.json", "")),
        ("unset", hostile("good", "env = { TOKEN = \"file:/nowhere/token\" }")),
    ]);
    house.is_ready("ill");
    house.is_ready("mortal");
    for (name, state) in
        [("ill", "ready"), ("mortal", "ready"), ("partly", "degraded"), ("unset", "quarantined")]
    {
        counts(&house, &format!("state{{plugin=\"{name}\",state=\"{state}\"}}"), 1.0);
    }
    assert_eq!(number(&house, "breaker{plugin=\"ill\"}"), Some(0.0));
    for _ in 0..2 {
        house.fails("ill__garbage", json!({}), 500, "no message of the protocol");
    }
    let opened = house.server.metrics();
    // While it is open, and not for how long.
    assert!(opened.contains("waygate_plugin_breaker{plugin=\"ill\"} 2\n"), "{opened}");
    assert!(opened.contains("waygate_plugin_state{plugin=\"ill\",state=\"open\"} 1\n"), "{opened}");
    counts(&house, "breaker{plugin=\"ill\"}", 1.0);
    assert_eq!(house.says("ill__say", json!({})), "said");
    counts(&house, "breaker{plugin=\"ill\"}", 0.0);
    counts(&house, "state{plugin=\"ill\",state=\"ready\"}", 1.0);
    counts(&house, "calls_total{outcome=\"ok\",plugin=\"ill\"}", 1.0);
    let failed = house.server.metrics();
    let failed = failed.lines().find(|line| {
        line.starts_with("waygate_plugin_calls_total{")
            && line.contains("\"ill\"")
            && !line.contains("\"ok\"")
    });
    assert!(failed.is_some_and(|line| line.ends_with(" 2")), "{failed:?}");

    counts(&house, "restarts_total{plugin=\"mortal\"}", 0.0);
    house.fails("mortal__die", json!({}), 500, "broke in the middle");
    counts(&house, "restarts_total{plugin=\"mortal\"}", 1.0);
    counts(&house, "restarts_total{plugin=\"neighbour\"}", 0.0);
    house.neighbour_is_well();
}

#[test]
fn what_a_server_writes_to_stderr_is_in_the_log_under_its_plugins_name_but_no_flood_of_it() {
    const LINES: usize = 5000;
    let house = House::with(&[("quits", hostile("quits", "")), ("loud", hostile("good", ""))]);
    let logged = |plugin: &str, says: &str| {
        let log = house.server.log();
        log.lines().filter(|line| line.contains(plugin) && line.contains(says)).count()
    };
    eventually("it is in the log", || (logged("quits", "no licence found") > 0).then_some(()));
    house.is_ready("loud");
    assert_eq!(house.says("loud__fill_stderr", json!({"lines": LINES})), "filled");
    eventually("what is left out is told", || {
        (logged("loud", "lines more to stderr than are logged") > 0).then_some(())
    });
    let lines = logged("loud", "line ");
    assert!((1..LINES).contains(&lines), "{lines}");
    house.neighbour_is_well();
}
