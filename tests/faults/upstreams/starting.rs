//! Servers that do not come up.

use std::fs;

use serde_json::json;

use super::{House, hostile};
use crate::support::{Http, eventually};

const SOON: &str = "start_timeout_seconds = 2";

#[test]
fn a_server_that_does_not_come_up_says_why_and_holds_up_nobody() {
    let house = House::with(&[
        ("absent", format!("command = \"no-such-program-anywhere\"\n{SOON}\n")),
        ("quits", hostile("quits", SOON)),
        ("mute", hostile("mute", SOON)),
        ("babbles", hostile("babbles", SOON)),
    ]);
    house.neighbour_is_well();
    for (name, why) in [
        ("absent", "no-such-program-anywhere"),
        ("quits", "exit"),
        ("mute", "did not answer"),
        ("babbles", "did not answer"),
    ] {
        house.is_not_ready_because(name, why);
        let refused = house.fails(&format!("{name}__say"), json!({}), 503, &format!("plugin {name:?}"));
        assert!(refused.header("retry-after").is_some(), "{}", refused.text());
        // Its front is there, too, and is not mistaken for a bundle that nobody described.
        let mut front = Http::modern("tools/list", json!({}));
        front.head = format!("POST /mcp/{name}");
        let reply = front.send(house.server.address);
        assert_eq!((reply.status, reply.header("retry-after").is_some()), (503, true), "{}", reply.text());
        assert!(
            reply.text().contains(&format!("plugin \\\"{name}\\\" takes no call now")),
            "{}",
            reply.text()
        );
    }
    house.neighbour_is_well();
}

#[test]
fn settings_that_cannot_be_used_are_told_apart_and_not_tried_before_the_next_reload() {
    let secrets = tempfile::tempdir().expect("a folder");
    let token = secrets.path().join("token");
    let keyed = format!("[env]\nTOKEN = \"file:{}\"\n", token.display());
    let tls = format!("[tls]\nca = {:?}\n", secrets.path().join("ca.pem"));
    let house = House::with(&[
        ("keyed", hostile("good", &keyed)),
        ("sealed", super::remote("https://127.0.0.1:9/mcp", &tls)),
    ]);
    for (name, why) in [("keyed", "env.TOKEN"), ("sealed", "tls.ca")] {
        let shown = house.is_not_ready_because(name, why);
        assert_eq!((&shown["state"], &shown["restarts"]), (&json!("quarantined"), &json!(1)), "{shown}");
        assert!(shown["why"].as_str().is_some_and(|why| why.contains("mend that and reload")), "{shown}");
        house.fails(&format!("{name}__say"), json!({}), 503, "settings cannot be used");
    }
    house.neighbour_is_well();
    fs::write(&token, "the first token").expect("a file");
    house.reload();
    house.is_ready("keyed");
    assert_eq!(house.plugin("keyed")["era"], "legacy");
    // The file of the plugin stays the same, and what it refers to is renewed.
    let first = house.says("keyed__pid", json!({}));
    assert!(house.reload()["unchanged"].to_string().contains("keyed"));
    assert_eq!(house.says("keyed__pid", json!({})), first);
    fs::write(&token, "the second token").expect("a file");
    let report = house.reload();
    assert!(report["changed"].to_string().contains("keyed"), "{report}");
    assert!(!report.to_string().contains("second token"), "{report}");
    assert_ne!(house.says("keyed__pid", json!({})), first);
}

#[test]
fn walls_that_do_not_stand_degrade_their_plugin_and_where_they_are_required_it_is_not_run() {
    let house = House::with(&[
        ("asked", hostile("good", "[sandbox]\nnetwork = false")),
        ("required", hostile("good", "[sandbox]\nnetwork = false\nrequired = true")),
    ]);
    let sandbox = eventually("it runs", || {
        let sandbox = house.plugin("asked")["report"]["speaker"]["link"]["sandbox"].clone();
        sandbox.is_object().then_some(sandbox)
    });
    if sandbox["landlock"] == "enforced" {
        house.is_ready("asked");
        house.is_ready("required");
    } else {
        let shown = house.is_not_ready_because("asked", "the walls of `sandbox`");
        assert_eq!(shown["state"], "degraded", "{shown}");
        let lacks = sandbox["landlockLacks"].as_str().expect("why");
        assert!(shown["why"].as_str().is_some_and(|why| why.contains(lacks)), "{shown}");
        assert_eq!(house.says("asked__say", json!({})), "said", "it serves all the same");
        let shown = house.is_not_ready_because("required", "sandbox.required");
        assert!(shown["why"].as_str().is_some_and(|why| why.contains(lacks)), "{shown}");
        assert_ne!(house.call("required__say", json!({})).status, 200);
    }
    house.neighbour_is_well();
}
