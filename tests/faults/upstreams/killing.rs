//! A child is killed again and again while calls run.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::{Done, House, hostile};
use crate::support::eventually;

/// How often the child is killed; each further time it stays away longer.
const KILLS: usize = 4;

#[test]
fn a_killed_child_fails_the_calls_in_flight_and_no_later_ones() {
    let house = House::with(&[("mortal", hostile("good", ""))]);
    house.is_ready("mortal");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ending = Done(&done);
        let beside = scope.spawn(|| {
            let mut calls = 0;
            while !done.load(Ordering::Relaxed) {
                house.neighbour_is_well();
                calls += 1;
            }
            calls
        });
        let mut before = String::new();
        for _ in 0..KILLS {
            let pid = eventually("it serves", || {
                let reply = house.call("mortal__pid", json!({}));
                (reply.status == 200).then(|| super::text_of(&reply)).filter(|pid| *pid != before)
            });
            let flying: Vec<_> = (0..5).map(|_| house.begin("mortal__hang", json!({}))).collect();
            eventually("they run", || (house.plugin("mortal")["running"] == 5).then_some(()));
            let killed = Command::new("kill").args(["-9", &pid]).status().expect("kill runs");
            assert!(killed.success());
            for call in flying {
                let reply = call.finish();
                assert_eq!(reply.status, 500, "{}", reply.text());
                let says = reply.text();
                assert!(says.contains("plugin mortal broke in the middle of the call"), "{says}");
            }
            // Until it is back, the refusal says so.
            let reply = house.call("mortal__say", json!({}));
            assert!(reply.status == 200 || reply.status == 503, "{}", reply.text());
            if reply.status == 503 {
                assert!(
                    reply.header("retry-after").is_some() && reply.text().contains("mortal"),
                    "{}",
                    reply.text()
                );
            }
            before = pid;
        }
        eventually("it is back", || (house.call("mortal__say", json!({})).status == 200).then_some(()));
        for _ in 0..20 {
            assert_eq!(house.says("mortal__say", json!({"text": "well"})), "well");
        }
        drop(ending);
        assert!(beside.join().expect("the neighbour never failed") > 0);
    });
    let shown = house.plugin("mortal");
    assert_eq!((&shown["state"], &shown["restarts"]), (&json!("ready"), &json!(KILLS)), "{shown}");
    assert!(house.server.log().contains("signal 9"), "the log says how it ended");
}
