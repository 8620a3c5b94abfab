//! Servers whose processes do not behave: they leave children behind, shut their ears, hang, or come back another.

use std::fs;

use procfs::process::Process;
use serde_json::json;

use super::{House, hostile, hostile_with};
use crate::support::eventually;

/// Whether there is such a process that is more than a zombie.
fn lives(pid: i32) -> bool {
    Process::new(pid).and_then(|process| process.stat()).is_ok_and(|stat| stat.state != 'Z')
}

fn number(text: &str) -> i32 {
    text.parse().expect("a process")
}

fn is_gone(pid: i32, whose: &str) {
    eventually(&format!("{whose} is gone"), || (!lives(pid)).then_some(()));
}

#[test]
fn nothing_of_a_server_is_left_when_its_plugin_goes() {
    let house = House::with(&[("forks", hostile("good", "")), ("hangs", hostile("hangs_on_stop", ""))]);
    for name in ["forks", "hangs"] {
        house.is_ready(name);
    }
    let child = number(&house.says("forks__pid", json!({})));
    let orphan = number(&house.says("forks__fork", json!({})));
    let stubborn = number(&house.says("hangs__pid", json!({})));
    assert!(lives(child) && lives(orphan) && lives(stubborn));
    house.remove("forks");
    house.remove("hangs");
    house.reload();
    is_gone(orphan, "the child of the child");
    is_gone(child, "the child");
    is_gone(stubborn, "the one that heeds no signal");
    house.neighbour_is_well();
}

#[test]
fn nothing_of_a_server_is_left_when_waygate_is_killed() {
    let mut house = House::with(&[("forks", hostile("good", "")), ("hangs", hostile("hangs_on_stop", ""))]);
    for name in ["forks", "hangs"] {
        house.is_ready(name);
    }
    let mut pids = vec![number(&house.says("neighbour__pid", json!({})))];
    for tool in ["forks__pid", "forks__fork", "hangs__pid", "hangs__fork"] {
        pids.push(number(&house.says(tool, json!({}))));
    }
    assert!(pids.iter().all(|pid| lives(*pid)));
    house.server.signal("-KILL");
    house.server.wait();
    for pid in pids {
        is_gone(pid, "a process");
    }
}

#[test]
fn a_server_that_shuts_its_ears_fails_its_calls_and_no_others() {
    let house = House::with(&[("deaf", hostile("good", "timeout_seconds = 1"))]);
    house.is_ready("deaf");
    let pid = house.says("deaf__pid", json!({}));
    assert_eq!(house.says("deaf__close_stdin", json!({})), "closing");
    let refused = house.call("deaf__say", json!({}));
    assert!([500, 503, 504].contains(&refused.status), "{}", refused.text());
    assert!(refused.text().contains("deaf"), "{}", refused.text());
    house.neighbour_is_well();
    eventually("it is started anew", || {
        let reply = house.call("deaf__pid", json!({}));
        (reply.status == 200 && super::text_of(&reply) != pid).then_some(())
    });
    house.neighbour_is_well();
}

#[test]
fn a_server_that_comes_back_as_one_of_another_era_is_spoken_to_in_its_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let era = folder.path().join("era");
    fs::write(&era, "legacy").expect("written");
    let house = House::with(&[("changing", hostile_with("era", era.to_str().expect("text"), ""))]);
    house.is_ready("changing");
    for (next, before) in [("modern", "legacy"), ("legacy", "modern")] {
        let pid = house.says("changing__pid", json!({}));
        assert_eq!(house.plugin("changing")["report"]["era"], before);
        fs::write(&era, next).expect("written");
        house.call("changing__die", json!({}));
        eventually("it is there again", || {
            let reply = house.call("changing__pid", json!({}));
            (reply.status == 200 && super::text_of(&reply) != pid).then_some(())
        });
        assert_eq!(house.plugin("changing")["report"]["era"], next);
        assert_eq!(house.says("changing__say", json!({"text": next})), next);
        house.neighbour_is_well();
    }
}
