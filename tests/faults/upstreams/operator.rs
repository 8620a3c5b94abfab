//! What an operator may have done to plugins, and nobody else.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use super::{House, hostile};
use crate::support::{Http, Reply, Server, database_of, eventually, program};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Has the plugin `quiet` described by a file elsewhere, of whose changes no watch of the folder hears.
fn describe_quietly(house: &House, more: &str) {
    let elsewhere = house.root.path().join("elsewhere.toml");
    fs::write(&elsewhere, hostile("good", more)).expect("a file");
    let link = house.root.path().join("plugins/quiet.toml");
    if !link.exists() {
        symlink(&elsewhere, link).expect("linked");
    }
}

fn concurrency(house: &House) -> Value {
    house.plugin("quiet")["limits"]["concurrency"].clone()
}

#[test]
fn a_hangup_has_the_plugins_read_again() {
    let house = House::with(&[]);
    describe_quietly(&house, "concurrency = 3");
    house.is_ready("quiet");
    let pid = house.says("neighbour__pid", json!({}));
    describe_quietly(&house, "concurrency = 4");
    // This one is read, and says that nobody has read the other yet.
    assert_eq!(concurrency(&house), 3);
    house.server.signal("-HUP");
    eventually("it is read again", || (concurrency(&house) == 4).then_some(()));
    house.is_ready("quiet");
    assert_eq!(house.says("neighbour__pid", json!({})), pid, "what nobody touched goes on");
    house.neighbour_is_well();
}

fn act(path: &str) -> Http {
    Http { head: format!("POST {path}"), ..Http::post("") }
}

#[track_caller]
fn refuses(reply: &Reply, status: u16, code: &str) {
    let error = reply.json();
    assert_eq!((reply.status, &error["error"]["code"]), (status, &json!(code)), "{}", reply.text());
}

#[test]
fn without_a_key_only_who_asks_from_this_machine_reloads_plugins() {
    let house = House::with(&[]);
    describe_quietly(&house, "concurrency = 3");
    house.is_ready("quiet");
    describe_quietly(&house, "concurrency = 4");
    let address = house.server.address;
    for forwarded in ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"] {
        let reply = act("/plugins/reload").header(forwarded, "203.0.113.7").send(address);
        refuses(&reply, 403, "forbidden");
    }
    for (name, value) in [("Host", "evil.example"), ("Origin", "https://evil.example")] {
        refuses(&act("/plugins/reload").set(name, value).send(address), 403, "forbidden");
    }
    assert_eq!(concurrency(&house), 3, "none of them was heeded");
    assert_eq!(house.reload()["changed"], json!(["quiet"]));
    assert_eq!(concurrency(&house), 4);
    house.neighbour_is_well();
}

#[test]
fn what_was_done_to_plugins_stands_in_the_history_with_who_did_it() {
    let house = House::with(&[]);
    describe_quietly(&house, "concurrency = 3");
    house.is_ready("quiet");
    describe_quietly(&house, "concurrency = 4");
    house.reload();
    house.server.signal("-HUP");
    let acts = || {
        let mut history = Command::new(program("waygate-mcp"));
        history.args(["history", "list", "--json", "--kind", "admin", "--limit", "1000", "--data-dir"]);
        let folder = &house.server.folder;
        history.arg(folder).env_clear().envs(database_of(folder)).env("HOME", folder);
        let page: Value = serde_json::from_slice(&history.output().expect("it runs").stdout).ok()?;
        page["calls"].as_array().cloned()
    };
    let is = |act: &Value, name: &str, by: &str| {
        act["method"] == name && act["caller"].as_str().is_some_and(|caller| caller.contains(by))
    };
    eventually("all of it is written", || {
        let acts = acts()?;
        let has = |name: &str, by: &str| acts.iter().any(|act| is(act, name, by));
        let added = acts.iter().any(|act| act["method"] == "plugins/add" && act["tool"] == "quiet");
        let done = has("server/start", "waygate")
            && added
            && has("plugins/change", "")
            && has("plugins/reload", "SIGHUP")
            && has("plugins/reload", "anonymous");
        done.then_some(())
    });
    house.neighbour_is_well();
}

#[test]
fn with_a_key_every_act_on_plugins_and_actors_wants_it() {
    let server = Server::with("waygate-mcp", &[("WAYGATE_API_KEY", KEY)]);
    let restarts = || {
        let shown = Http::get("/diagnostics/actors").header("X-API-Key", KEY).send(server.address).json();
        let actors = shown["actors"].as_array().expect("actors").clone();
        let metrics = actors.iter().find(|actor| actor["name"] == "metrics").expect("it is there");
        metrics["restarts"].clone()
    };
    for path in ["/plugins/reload", "/diagnostics/actors/metrics/crash"] {
        refuses(&act(path).send(server.address), 401, "unauthenticated");
        refuses(
            &act(path).header("X-API-Key", &KEY.replace('0', "1")).send(server.address),
            401,
            "unauthenticated",
        );
        refuses(&act(path).header("Authorization", "Bearer ").send(server.address), 401, "unauthenticated");
    }
    for path in ["/plugins", "/plugins/files", "/bundles", "/metrics", "/diagnostics/errors"] {
        refuses(&Http::get(path).send(server.address), 401, "unauthenticated");
    }
    assert_eq!(restarts(), 0, "nothing was crashed");
    // The key is proof enough, wherever it comes from.
    let reload = act("/plugins/reload").header("Authorization", &format!("Bearer {KEY}"));
    let reply = reload.header("X-Forwarded-For", "203.0.113.7").send(server.address);
    assert_eq!((reply.status, &reply.json()["failed"]), (200, &json!([])), "{}", reply.text());
}
