//! Calls that a client gives up while they run: the server hears of it in the words of its own era and transport.

use serde_json::{Value, json};

use super::scripted::{Answer, Asked, EVENTS, Scripted};
use super::{House, hostile, hostile_with, remote};
use crate::legacy::Session;
use crate::support::eventually;

/// What the server on stdio knows of its calls that hang, and of those that were cancelled.
fn hanging(house: &House, plugin: &str) -> Value {
    serde_json::from_str(&house.says(&format!("{plugin}__hanging"), json!({}))).expect("JSON")
}

fn hangs(house: &House, plugin: &str, name: &str) {
    eventually(&format!("{name} hangs at {plugin}"), || {
        (hanging(house, plugin)["hanging"] == json!([name])).then_some(())
    });
}

fn is_cancelled(house: &House, plugin: &str, names: &[&str]) {
    eventually(&format!("{plugin} is told that {names:?} are cancelled"), || {
        (hanging(house, plugin) == json!({"hanging": [], "cancelled": names})).then_some(())
    });
    eventually("the place is given back", || (house.plugin(plugin)["running"] == 0).then_some(()));
}

#[test]
fn a_server_on_stdio_hears_that_a_client_of_either_era_gave_up_a_call_that_runs() {
    let era = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(era.path(), "modern").expect("written");
    let modern = hostile_with("era", era.path().to_str().expect("text"), "");
    let house = House::with(&[("old", hostile("good", "")), ("new", modern)]);
    for (plugin, speaks) in [("old", "legacy"), ("new", "modern")] {
        house.is_ready(plugin);
        assert_eq!(house.plugin(plugin)["report"]["era"], speaks);
        let tool = format!("{plugin}__hang");

        let call = house.begin(&tool, json!({"name": "of a modern client"}));
        hangs(&house, plugin, "of a modern client");
        drop(call);
        is_cancelled(&house, plugin, &["of a modern client"]);

        let session = Session::newest(&house.server);
        let request = crate::legacy::request(
            "x",
            "tools/call",
            json!({"name": tool, "arguments": {"name": "of a legacy client"}}),
        );
        let _call = session.request(&request).open(house.server.address);
        hangs(&house, plugin, "of a legacy client");
        assert_eq!(session.notify("notifications/cancelled", json!({"requestId": "x"})).status, 202);
        is_cancelled(&house, plugin, &["of a modern client", "of a legacy client"]);
    }
    house.neighbour_is_well();
}

#[test]
fn a_call_beyond_its_deadline_is_cancelled_at_its_server() {
    let house = House::with(&[("slow", hostile("good", "[tools.hang]\ntimeout_seconds = 1"))]);
    house.is_ready("slow");
    house.fails("slow__hang", json!({"name": "too long"}), 504, "1 s");
    is_cancelled(&house, "slow", &["too long"]);
    house.neighbour_is_well();
}

/// A call that begins to answer and never ends.
fn hold(asked: &Asked) -> Option<Answer> {
    (asked.tool() == "hang").then(|| Answer::Held(EVENTS.to_owned(), "hang"))
}

#[test]
fn to_a_modern_server_on_http_the_closed_connection_says_it_and_to_one_with_sessions_a_notice() {
    let (old, new) = (Scripted::legacy(&["hang"], hold), Scripted::modern(&["hang"], hold));
    let house = House::with(&[("old", remote(&old.url(), "")), ("new", remote(&new.url(), ""))]);
    for (plugin, server, notices) in [("old", &old, 1), ("new", &new, 0)] {
        house.is_ready(plugin);
        let call = house.begin(&format!("{plugin}__hang"), json!({}));
        eventually("it hangs", || (server.count("tools/call hang") == 1).then_some(()));
        drop(call);
        eventually(&format!("{plugin} closes"), || (server.count("closed hang") == 1).then_some(()));
        eventually("it is told, where a close says nothing", || {
            (server.count("notifications/cancelled") == notices).then_some(())
        });
        eventually("the place is given back", || (house.plugin(plugin)["running"] == 0).then_some(()));
    }
    house.neighbour_is_well();
}
