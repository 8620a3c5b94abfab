//! Every child is killed again and again, one after the other, while calls run on all of them.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Done, House, hostile};
use crate::support::{Http, eventually};

/// How long, in seconds, unless `WAYGATE_TEST_KILL_SECONDS` says otherwise.
const SECONDS: u64 = 3;
/// All who are killed, and one who never is.
const MORTALS: [&str; 3] = ["first", "second", "third"];
const SPARED: &str = "spared";
/// The calls that are in flight on a child when it is killed.
const FLYING: usize = 5;
/// So often a child is killed, and each further time it stays away longer; then its operator begins it anew.
const DEATHS: u64 = 4;

/// One child that is killed again and again.
struct Mortal {
    name: &'static str,
    /// The process that was killed last.
    before: String,
    deaths: u64,
    /// Those since it was begun anew.
    lately: u64,
}

impl Mortal {
    /// The process that serves now; none while there is none, which every call is told then.
    fn risen(&self, house: &House) -> Option<String> {
        let reply = house.call(&format!("{}__pid", self.name), json!({}));
        if reply.status != 200 {
            let says = reply.text();
            assert!(reply.status == 503 && says.contains(self.name), "{says}");
            assert!(reply.header("retry-after").is_some(), "{says}");
            return None;
        }
        let pid = super::text_of(&reply);
        assert_ne!(pid, self.before, "who was killed answers no more");
        Some(pid)
    }

    /// Kills it if it serves, or has it begun anew if it was killed often enough.
    fn meet(&mut self, house: &House) {
        let Some(pid) = self.risen(house) else { return };
        self.before = pid;
        if self.lately == DEATHS {
            self.lately = 0;
            let more = format!("concurrency = {}", 10 + self.deaths / DEATHS % 2);
            house.describe(self.name, &hostile("good", &more));
            let report = house.reload();
            assert_eq!(report["failed"], json!([]), "{report}");
            return;
        }
        kill(house, self.name, &self.before);
        self.deaths += 1;
        self.lately += 1;
    }

    fn is_well(&self, house: &House) {
        eventually(&format!("{} serves", self.name), || self.risen(house));
        let shown = house.plugin(self.name);
        assert_eq!((&shown["state"], &shown["restarts"]), (&json!("ready"), &json!(self.deaths)), "{shown}");
    }
}

/// Kills a child with calls in flight on it: they fail, each saying why, and one on another child does not.
fn kill(house: &House, name: &str, pid: &str) {
    let tool = format!("{name}__hang");
    let flying: Vec<_> = (0..FLYING).map(|_| house.begin(&tool, json!({}))).collect();
    eventually("they run", || (house.plugin(name)["running"] == FLYING).then_some(()));
    let elsewhere = house.begin("spared__sleep", json!({"ms": 50}));
    let killed = Command::new("kill").args(["-9", pid]).status().expect("kill runs");
    assert!(killed.success());
    for call in flying {
        let reply = call.finish();
        assert_eq!(reply.status, 500, "{}", reply.text());
        let says = reply.text();
        assert!(says.contains(&format!("plugin {name} broke in the middle of the call")), "{says}");
    }
    assert_eq!(elsewhere.finish().status, 200);
}

#[test]
fn of_children_that_are_killed_in_a_loop_only_the_calls_in_flight_on_each_fail() {
    let seconds = std::env::var("WAYGATE_TEST_KILL_SECONDS");
    let seconds = seconds.map_or(SECONDS, |seconds| seconds.parse().expect("a number of seconds"));
    let plugins = MORTALS.iter().chain([&SPARED]).map(|name| (*name, hostile("good", "")));
    let plugins: Vec<_> = plugins.collect();
    let house = House::with(&plugins);
    for (name, _) in &plugins {
        house.is_ready(name);
    }
    let spared = house.says("spared__pid", json!({}));
    let done = AtomicBool::new(false);
    let mut mortals = MORTALS.map(|name| Mortal { name, before: String::new(), deaths: 0, lately: 0 });
    std::thread::scope(|scope| {
        let ending = Done(&done);
        let beside = scope.spawn(|| {
            let mut calls = 0_u64;
            while !done.load(Ordering::Relaxed) {
                for tool in ["spared__pid", "neighbour__say"] {
                    let reply = Http::tool(tool, json!({})).send(house.server.address);
                    assert_eq!(reply.status, 200, "{tool}: {}", reply.text());
                    calls += 1;
                }
            }
            calls
        });
        let until = Instant::now() + Duration::from_secs(seconds);
        while (Instant::now() < until || mortals.iter().any(|mortal| mortal.deaths < 2))
            && !beside.is_finished()
        {
            for mortal in &mut mortals {
                mortal.meet(&house);
            }
        }
        drop(ending);
        assert!(beside.join().expect("no call of another child failed") > 0);
    });
    for mortal in &mortals {
        println!("{} was killed {} times in {seconds} s", mortal.name, mortal.deaths);
        mortal.is_well(&house);
    }
    assert_eq!(house.says("spared__pid", json!({})), spared, "whom nobody killed is the same process");
    assert!(house.server.log().contains("signal 9"), "the log says how they ended");
    house.neighbour_is_well();
}
