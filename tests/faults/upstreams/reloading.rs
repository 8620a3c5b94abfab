//! Plugins are changed and reloaded again and again while calls run through those that nobody touches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Done, House, hostile};
use crate::support::{Http, capable, eventually};

/// How long, in seconds, unless `WAYGATE_TEST_RELOAD_SECONDS` says otherwise.
const SECONDS: u64 = 3;
/// Who calls meanwhile.
const CALLERS: usize = 4;

#[test]
fn reloads_in_a_loop_under_load_fail_no_call_of_a_plugin_that_nobody_touched() {
    let seconds = std::env::var("WAYGATE_TEST_RELOAD_SECONDS");
    let seconds = seconds.map_or(SECONDS, |seconds| seconds.parse().expect("a number of seconds"));
    let house = House::with(&[("kept", hostile("good", "")), ("changing", hostile("good", ""))]);
    house.is_ready("kept");
    house.is_ready("changing");
    let kept = house.says("kept__pid", json!({}));
    let done = AtomicBool::new(false);
    let mut calls = 0;
    let (mut reloads, mut longest_ms) = (0_u64, 0);
    std::thread::scope(|scope| {
        let ending = Done(&done);
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut calls = 0_u64;
                    while !done.load(Ordering::Relaxed) {
                        for tool in ["kept__pid", "neighbour__say"] {
                            let reply = Http::tool(tool, json!({})).send(house.server.address);
                            assert_eq!(reply.status, 200, "{tool}: {}", reply.text());
                            calls += 1;
                        }
                    }
                    calls
                })
            })
            .collect();
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut changing = house.says("changing__pid", json!({}));
        while Instant::now() < until && callers.iter().all(|caller| !caller.is_finished()) {
            reloads += 1;
            house.describe("changing", &hostile("good", &format!("concurrency = {}", 10 + reloads % 2)));
            let report = house.reload();
            longest_ms = longest_ms.max(report["tookMs"].as_u64().expect("how long it took"));
            assert_eq!(report["failed"], json!([]), "{report}");
            let now = house.says("changing__pid", json!({}));
            assert_ne!(now, changing, "what was changed runs anew: {report}");
            changing = now;
        }
        drop(ending);
        calls = callers.into_iter().map(|caller| caller.join().expect("no call failed")).sum();
    });
    assert!(calls > 0 && reloads > 1);
    println!("{reloads} reloads in {seconds} s, the longest {longest_ms} ms; {calls} calls, none failed");
    assert_eq!(house.says("kept__pid", json!({})), kept, "what nobody touched is the same process");
    assert_eq!(house.plugin("kept")["restarts"], 0);
    house.neighbour_is_well();
}

#[test]
fn a_client_without_a_session_brings_its_answer_to_the_plugin_that_asked_though_it_was_replaced() {
    let file = |more: &str| hostile("good", &format!("isolation = \"per_client\"\n{more}"));
    let house = House::with(&[("asks", file(""))]);
    house.is_ready("asks");
    let first = house.says("asks__pid", json!({}));
    let params = json!({"name": "asks__ask", "arguments": {"method": "roots/list"}, "_meta": capable()});
    let asked = Http::modern("tools/call", params.clone()).send(house.server.address).result();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let key = asked["inputRequests"].as_object().and_then(|asks| asks.keys().next()).expect("an ask").clone();

    house.describe("asks", &file("concurrency = 9"));
    assert_eq!(house.reload()["changed"], json!(["asks"]));
    assert_ne!(house.says("asks__pid", json!({})), first, "new calls go to the new one");

    let mut retry = params;
    retry["requestState"] = asked["requestState"].clone();
    retry["inputResponses"] = json!({key: {"roots": [{"uri": "file:///somewhere"}]}});
    let reply = Http::modern("tools/call", retry.clone()).send(house.server.address);
    assert!(reply.text().contains("file:///somewhere"), "{}", reply.text());

    eventually("the old one is gone", || {
        let reply = Http::modern("tools/call", retry.clone()).send(house.server.address);
        reply.text().contains("the server behind was restarted").then_some(())
    });
    house.neighbour_is_well();
}
