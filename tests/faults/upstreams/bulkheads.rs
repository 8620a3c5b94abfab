//! Walls between plugins: caps, queues, deadlines and breakers that plugin files set.

use serde_json::json;

use super::{House, hostile};
use crate::support::eventually;

fn counts(house: &House, running: u64, queued: u64) {
    eventually("the call has its place", || {
        let shown = house.plugin("walled");
        (shown["running"] == running && shown["queued"] == queued).then_some(())
    });
}

#[test]
fn a_call_beyond_the_cap_waits_and_one_beyond_the_queue_is_told_which_limit_it_met() {
    let house =
        House::with(&[("walled", hostile("good", "concurrency = 1\nqueue_max = 1\ntimeout_seconds = 10"))]);
    house.is_ready("walled");
    let first = house.begin("walled__sleep", json!({"ms": 700}));
    counts(&house, 1, 0);
    let second = house.begin("walled__sleep", json!({"ms": 0}));
    counts(&house, 1, 1);
    let refused = house.fails("walled__say", json!({}), 503, "1 calls run and 1 wait");
    let seconds = refused.json()["error"]["data"]["retryAfterSeconds"].as_u64().expect("when to come back");
    assert_eq!(refused.header("retry-after"), Some(&*seconds.to_string()));
    house.neighbour_is_well();
    assert_eq!((first.finish().status, second.finish().status), (200, 200));
}

#[test]
fn a_call_waits_no_longer_for_its_place_than_the_queue_allows() {
    let more = "concurrency = 1\nqueue_timeout_seconds = 1\ntimeout_seconds = 10";
    let house = House::with(&[("walled", hostile("good", more))]);
    house.is_ready("walled");
    let hanging = house.begin("walled__hang", json!({}));
    counts(&house, 1, 0);
    let refused = house.fails("walled__say", json!({}), 503, "within the queue's 1 s");
    assert!(refused.header("retry-after").is_some());
    house.neighbour_is_well();
    drop(hanging);
    counts(&house, 0, 0);
    assert_eq!(house.says("walled__say", json!({})), "said", "whoever goes away gives the place back");
}

#[test]
fn a_call_has_the_deadline_of_its_plugin_and_a_tool_may_have_its_own() {
    let more = "timeout_seconds = 1\n[tools.sleep]\ntimeout_seconds = 10";
    let house = House::with(&[("walled", hostile("good", more))]);
    house.is_ready("walled");
    let slow = house.begin("walled__sleep", json!({"ms": 1300}));
    house.fails("walled__hang", json!({}), 504, "1 s");
    house.neighbour_is_well();
    assert_eq!(slow.finish().status, 200);
}

#[test]
fn a_breaker_opens_after_failures_lets_one_call_try_and_closes_again() {
    let more = "timeout_seconds = 5\nbreaker = { failures = 3, open_seconds = 1 }";
    let house = House::with(&[("walled", hostile("good", more))]);
    house.is_ready("walled");
    for _ in 0..3 {
        house.fails("walled__garbage", json!({}), 500, "no message of the protocol");
    }
    let refused = house.fails("walled__say", json!({}), 503, "its last 3 calls failed");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let shown = house.plugin("walled");
    assert_eq!((&shown["state"], &shown["breaker"]["circuit"]), (&json!("open"), &json!("open")), "{shown}");
    assert!(shown["why"].as_str().is_some_and(|why| why.contains("3 calls in a row failed")), "{shown}");
    house.neighbour_is_well();
    eventually("it may be tried", || {
        (house.plugin("walled")["breaker"]["circuit"] == "half_open").then_some(())
    });
    let trial = house.begin("walled__sleep", json!({"ms": 500}));
    counts(&house, 1, 0);
    house.fails("walled__say", json!({}), 503, "left alone");
    assert_eq!(trial.finish().status, 200);
    let shown = house.plugin("walled");
    assert_eq!(
        (&shown["state"], &shown["breaker"]["circuit"]),
        (&json!("ready"), &json!("closed")),
        "{shown}"
    );
    assert_eq!(house.says("walled__say", json!({})), "said");
}

#[test]
fn an_error_that_the_server_answers_comes_through_whole_and_is_no_failure_for_the_breaker() {
    let more = "timeout_seconds = 5\nbreaker = { failures = 3, open_seconds = 30 }";
    let house = House::with(&[("walled", hostile("good", more))]);
    house.is_ready("walled");
    for _ in 0..10 {
        let refused = house.fails("walled__error", json!({}), 500, "the disk is full");
        let error = refused.json()["error"].clone();
        assert_eq!((&error["code"], &error["data"]["advice"]), (&json!(-32050), &json!("buy another one")));
        assert!(refused.text().contains(r#""sectors":123456789012345678901234567890"#), "{}", refused.text());
        assert!(error["data"]["requestId"].is_string(), "what is Waygate's stands beside it: {error}");
    }
    let shown = house.plugin("walled");
    assert_eq!(
        (&shown["state"], &shown["breaker"]["circuit"]),
        (&json!("ready"), &json!("closed")),
        "{shown}"
    );
    assert_eq!(house.says("walled__say", json!({})), "said");
}
