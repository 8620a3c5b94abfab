//! The lives of plugins that files describe: they start, fail, come back, are given up, reloaded, and left alone for a while.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Http, Reply, Server, database_of, eventually, program};

/// Writes the file of a fake plugin.
fn describe(root: &Path, name: &str, args: &[&str], more: &str) {
    let folder = root.join("plugins");
    fs::create_dir_all(&folder).expect("a folder");
    let args: Vec<String> = args.iter().map(|arg| format!("{arg:?}")).collect();
    let text = format!("command = \"fake\"\nargs = [{}]\n{more}\n", args.join(", "));
    fs::write(folder.join(format!("{name}.toml")), text).expect("a file");
}

fn start(root: &TempDir) -> Server {
    Server::on("faulty_server", root.path(), &[])
}

fn plugin(server: &Server, name: &str) -> Value {
    server.get(&format!("/plugins/{name}")).1
}

fn call(server: &Server, tool: &str) -> Reply {
    server.call("tools/call", json!({"name": tool, "arguments": {}}))
}

fn says(server: &Server, tool: &str) -> String {
    let reply = call(server, tool);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.result()["content"][0]["text"].as_str().expect("a text").to_owned()
}

fn is_ready(server: &Server, name: &str) {
    eventually("it is ready", || (plugin(server, name)["state"] == "ready").then_some(()));
}

fn reload(server: &Server) -> Value {
    let request = Http { head: "POST /plugins/reload".to_owned(), ..Http::post("") };
    let reply = request.send(server.address);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[test]
fn a_life_that_fails_is_begun_again_until_it_is_ready() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "shaky", &["panics=1", "fails=1", "says=well"], "");
    let server = start(&root);
    is_ready(&server, "shaky");
    assert_eq!(says(&server, "shaky__say"), "well");
    let shown = plugin(&server, "shaky");
    assert_eq!((&shown["restarts"], &shown["kind"]), (&json!(2), &json!("mcp")), "{shown}");
    let log = server.log();
    assert!(log.contains("it panicked: told to panic") && log.contains("told to fail"), "{log}");
}

#[test]
fn a_plugin_that_is_never_ready_holds_up_nobody_and_lists_nothing() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "dead", &["fails=1000"], "");
    describe(root.path(), "alive", &["says=here"], "");
    let server = start(&root);
    is_ready(&server, "alive");
    assert_eq!(says(&server, "alive__say"), "here");
    let shown = eventually("it failed", || {
        Some(plugin(&server, "dead")).filter(|shown| shown["why"] == "told to fail")
    });
    assert_eq!((&shown["state"], &shown["toolCount"]), (&json!("starting"), &json!(0)), "{shown}");
    eventually("health says so", || {
        let (status, health) = server.get("/health");
        assert_eq!(status, 200, "a plugin's trouble degrades, and no more");
        let problem = health["problems"]["plugins"].as_str()?.to_owned();
        problem.contains("dead is starting (told to fail)").then_some(())
    });
}

#[test]
fn while_it_is_started_again_its_tools_stay_listed_and_calls_hear_when_to_come_back() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "mortal", &["says=alive"], "");
    let server = start(&root);
    is_ready(&server, "mortal");
    let refused = eventually("it is between two lives", || {
        call(&server, "mortal__die");
        let reply = call(&server, "mortal__say");
        (reply.status == 503).then_some(reply)
    });
    let seconds = refused.json()["error"]["data"]["retryAfterSeconds"].as_u64().expect("a time");
    assert_eq!(refused.header("retry-after"), Some(&*seconds.to_string()));
    assert!(refused.text().contains("mortal"), "{}", refused.text());
    assert_eq!(plugin(&server, "mortal")["toolCount"], 5);
    eventually("it is back", || (call(&server, "mortal__say").status == 200).then_some(()));
}

#[test]
fn a_plugin_whose_calls_fail_is_left_alone_for_a_while_and_then_tried() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "ill", &["says=well"], "breaker = { failures = 2, open_seconds = 2 }");
    let server = start(&root);
    is_ready(&server, "ill");
    for _ in 0..2 {
        assert_eq!(call(&server, "ill__fail").status, 503);
    }
    let refused = call(&server, "ill__say");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("its last 2 calls failed"), "{}", refused.text());
    assert!(["1", "2"].contains(&refused.header("retry-after").expect("a time")));
    let shown = plugin(&server, "ill");
    assert_eq!((&shown["state"], &shown["breaker"]["circuit"]), (&json!("open"), &json!("open")), "{shown}");
    assert!(shown["why"].as_str().is_some_and(|why| why.contains("its server is away")), "{shown}");
    eventually("it is tried", || (call(&server, "ill__say").status == 200).then_some(()));
    assert_eq!(plugin(&server, "ill")["state"], "ready");
}

#[test]
fn a_reload_adds_changes_and_removes_and_a_bad_file_costs_nothing_that_runs() {
    let root = tempfile::tempdir().expect("a folder");
    for name in ["kept", "changed", "spoilt", "removed"] {
        describe(root.path(), name, &["says=old"], "");
    }
    let server = start(&root);
    for name in ["kept", "changed", "spoilt", "removed"] {
        is_ready(&server, name);
    }
    describe(root.path(), "changed", &["says=new"], "");
    describe(root.path(), "added", &["says=new"], "");
    fs::write(root.path().join("plugins/spoilt.toml"), "command = \"fake\"\nargz = []\n").expect("a file");
    fs::remove_file(root.path().join("plugins/removed.toml")).expect("removed");
    // By hand, or by the watch, which may be quicker.
    reload(&server);
    for (tool, wanted) in
        [("kept__say", "old"), ("changed__say", "new"), ("added__say", "new"), ("spoilt__say", "old")]
    {
        assert_eq!(says(&server, tool), wanted, "{tool}");
    }
    assert_ne!(call(&server, "removed__say").status, 200);
    assert_eq!(server.get("/plugins/removed").0, 404);
    let again = reload(&server);
    assert_eq!(again["unchanged"], json!(["added", "changed", "kept"]), "{again}");
    assert_eq!(again["failed"][0]["name"], "spoilt", "{again}");
    let why = again["failed"][0]["why"].as_str().expect("a reason");
    assert!(why.contains("spoilt.toml:2") && why.contains("args"), "{why}");
}

#[test]
fn a_changed_plugin_that_does_not_become_ready_leaves_the_old_one_running() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "precious", &["says=old"], "");
    let server = start(&root);
    is_ready(&server, "precious");
    describe(root.path(), "precious", &["says=new", "fails=1000"], "");
    let report = reload(&server);
    assert_eq!(
        (&report["changed"], &report["failed"][0]["name"]),
        (&json!([]), &json!("precious")),
        "{report}"
    );
    assert_eq!(says(&server, "precious__say"), "old");
    describe(root.path(), "precious", &["says=newest"], "");
    reload(&server);
    assert_eq!(says(&server, "precious__say"), "newest");
}

#[test]
fn a_call_in_flight_ends_on_the_plugin_that_it_began_on() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "busy", &["says=old"], "");
    let server = start(&root);
    is_ready(&server, "busy");
    let slow = Http::tool("busy__slow", json!({})).open(server.address);
    eventually("it runs", || (plugin(&server, "busy")["running"] == 1).then_some(()));
    describe(root.path(), "busy", &["says=new"], "");
    reload(&server);
    assert_eq!(says(&server, "busy__say"), "new");
    let reply = slow.finish();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().contains("old"), "{}", reply.text());
}

#[test]
fn a_file_that_appears_is_noticed() {
    let root = tempfile::tempdir().expect("a folder");
    let server = start(&root);
    describe(root.path(), "dropped", &["says=here"], "");
    is_ready(&server, "dropped");
    eventually("it is listed", || (call(&server, "dropped__say").status == 200).then_some(()));
}

#[test]
fn the_history_says_what_a_call_did_behind_its_plugin() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "traced", &[], "");
    let server = start(&root);
    is_ready(&server, "traced");
    says(&server, "traced__say");
    let metrics = server.metrics();
    assert!(
        metrics.contains("waygate_plugin_bytes_total{direction=\"in\",plugin=\"traced\"} 20"),
        "{metrics}"
    );
    assert!(metrics.contains("waygate_plugin_calls_total{outcome=\"ok\",plugin=\"traced\"} 1"), "{metrics}");
    let row = eventually("it is recorded", || {
        let mut command = Command::new(program("waygate-mcp"));
        command.env_clear().envs(database_of(root.path())).env("HOME", root.path());
        command.args(["history", "list", "--json", "--env", "test", "--data-dir"]).arg(root.path());
        let shown: Value = serde_json::from_slice(&command.output().ok()?.stdout).ok()?;
        let calls = shown["calls"].as_array()?;
        calls.iter().find(|call| call["tool"] == "traced__say").cloned()
    });
    assert_eq!((&row["plugin_instance"], &row["upstream_us"]), (&json!("fake-1"), &json!(2000)), "{row}");
    assert_eq!((&row["bytes_out"], &row["bytes_in"]), (&json!(10), &json!(20)), "{row}");
    assert_eq!((&row["bridged"], &row["queue_us"]), (&json!("modern-legacy"), &Value::Null), "{row}");
}

#[test]
fn a_plugin_that_holds_up_its_thread_degrades_until_it_is_reloaded_and_ends_nobody_else() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "jammed", &["says=here"], "");
    describe(root.path(), "beside", &["says=there"], "");
    let stuck = [("WAYGATE_HEALTH_STUCK_SECONDS", "2"), ("WAYGATE_HEALTH_BEAT_SECONDS", "1")];
    let mut server = Server::on("faulty_server", root.path(), &stuck);
    is_ready(&server, "jammed");
    is_ready(&server, "beside");
    assert_eq!(says(&server, "jammed__jam"), "here");
    let problem = eventually("health says so", || {
        let (status, health) = server.get("/health");
        assert_eq!(status, 200, "a plugin's trouble degrades, and no more: {health}");
        health["problems"]["plugins"].as_str().filter(|says| says.contains("jammed")).map(str::to_owned)
    });
    assert!(problem.contains("jammed is degraded (something holds up"), "{problem}");
    assert!(!problem.contains("beside"), "{problem}");
    assert_eq!(plugin(&server, "jammed")["state"], "degraded");
    assert!(server.log().contains("plugin jammed: something holds up the thread"), "{}", server.log());
    for (tool, text) in [("jammed__say", "here"), ("beside__say", "there")] {
        assert_eq!(says(&server, tool), text);
    }
    let report = reload(&server);
    assert_eq!((&report["changed"], &report["failed"]), (&json!(["jammed"]), &json!([])), "{report}");
    assert_eq!(plugin(&server, "jammed")["state"], "ready");
    assert_eq!(says(&server, "jammed__say"), "here");
    server.signal("-TERM");
    assert!(matches!(server.wait(), Some(0 | 70)), "it ends, though a thread never does");
}

/// No tool of that name is offered, soon.
fn is_denied(server: &Server, tool: &str) {
    eventually("it is denied", || (call(server, tool).code() == -32602).then_some(()));
}

#[test]
fn what_is_denied_while_a_reload_waits_for_a_slow_server_is_offered_no_more_at_once() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "one", &["says=well"], "");
    let server = start(&root);
    is_ready(&server, "one");
    assert_eq!(says(&server, "one__say"), "well");
    let since = plugin(&server, "one")["since"].clone();
    describe(root.path(), "idle", &["waits=1"], "start_timeout_seconds = 600");
    let still_starts = || plugin(&server, "idle")["state"] == "starting";
    eventually("it starts", || still_starts().then_some(()));
    describe(root.path(), "one", &["says=well"], "deny = [\"say\"]");
    is_denied(&server, "one__say");
    assert!(still_starts(), "that one is still waited for");
    assert_eq!(says(&server, "one__slow"), "well", "the others are offered as before");
    assert_eq!(plugin(&server, "one")["since"], since, "it lives on");
    // What is taken back before the plugin was started anew is as it was.
    describe(root.path(), "one", &["says=well"], "");
    eventually("it is offered again", || (call(&server, "one__say").status == 200).then_some(()));
    assert!(still_starts());
}

#[test]
fn what_is_denied_while_the_plugin_begins_anew_stays_denied_when_it_has_though_its_file_is_broken_by_then() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "one", &["says=well"], "");
    let server = start(&root);
    is_ready(&server, "one");
    let gate = root.path().join("gate");
    let anew = ["says=better", &format!("begins={}", gate.display())];
    describe(root.path(), "one", &anew, "start_timeout_seconds = 600");
    eventually("a reload waits for it", || gate.with_extension("begun").exists().then_some(()));
    describe(root.path(), "one", &anew, "start_timeout_seconds = 600\ndeny = [\"say\"]");
    is_denied(&server, "one__say");
    fs::write(root.path().join("plugins/one.toml"), "command = ").expect("a file");
    fs::write(&gate, "").expect("a file");
    eventually("it has begun anew", || (says(&server, "one__slow") == "better").then_some(()));
    assert_eq!(call(&server, "one__say").code(), -32602, "it was denied");
    eventually("what is broken is told", || server.log().contains("one.toml").then_some(()));
    assert_eq!(call(&server, "one__say").code(), -32602, "it was denied, and nobody said otherwise");
}

#[test]
fn what_is_denied_is_offered_no_more_though_the_plugin_itself_is_slow_to_begin_anew_or_never_does() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "one", &["says=well"], "");
    let server = start(&root);
    is_ready(&server, "one");
    describe(root.path(), "one", &["waits=1"], "deny = [\"say\"]\nstart_timeout_seconds = 600");
    is_denied(&server, "one__say");
    assert_eq!(says(&server, "one__slow"), "well", "what ran before goes on");
}
