//! A server on pipes as a plugin, and what an operator learns of it: numbers, history, health, and tools that are no longer
//! what they were.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Http, Server, database_of, eventually, program};

/// Speaks 2025-11-25, has one tool, and describes it as the environment says.
const SCRIPT: &str = r#"
import json, os, sys
for line in sys.stdin:
    ask = json.loads(line)
    if "id" not in ask: continue
    method, answer = ask["method"], {"jsonrpc": "2.0", "id": ask["id"]}
    if method == "initialize":
        answer["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "py", "version": "1"}}
    elif method == "tools/list":
        answer["result"] = {"tools": [{"name": "echo", "description": os.environ["SAYS"], "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        answer["result"] = {"content": [{"type": "text", "text": json.dumps(ask["params"].get("arguments"))}]}
    else:
        answer["error"] = {"code": -32601, "message": "Method not found"}
    print(json.dumps(answer), flush=True)
"#;

/// Has a plugin `py` that describes its tool so.
fn describe(root: &Path, says: &str, more: &str) {
    fs::create_dir_all(root.join("plugins")).expect("a folder");
    let text = format!(
        "command = \"python3\"\nargs = [\"-c\", {}]\nenv = {{ SAYS = {says:?} }}\n{more}\n",
        Value::from(SCRIPT)
    );
    fs::write(root.join("plugins/py.toml"), text).expect("a file");
}

fn start(root: &TempDir) -> Server {
    Server::on("waygate-mcp", root.path(), &[("PATH", "/usr/local/bin:/usr/bin:/bin")])
}

fn plugin(server: &Server) -> Value {
    server.get("/plugins/py").1
}

fn is_ready(server: &Server) {
    eventually("it is ready", || (plugin(server)["state"] == "ready").then_some(()));
}

fn reload(server: &Server) -> Value {
    let request = Http { head: "POST /plugins/reload".to_owned(), ..Http::post("") };
    request.send(server.address).json()
}

#[test]
fn a_definition_that_changed_while_waygate_did_not_run_is_noticed() {
    let root = tempfile::tempdir().expect("a folder");
    let changes = |server: &Server| server.metric("waygate_tool_definition_changes_total{plugin=\"py\"}");
    let seen = |says: &str| {
        describe(root.path(), says, "");
        let mut server = start(&root);
        is_ready(&server);
        let (tool, changes) = (plugin(&server)["tools"][0].clone(), changes(&server));
        server.signal("-TERM");
        assert_eq!(server.wait(), Some(0));
        (tool, changes.unwrap_or_default())
    };
    let (first, none) = seen("Says it again");
    assert_eq!((&first["previousDigest"], none), (&Value::Null, 0.0), "{first}");
    let (same, none) = seen("Says it again");
    assert_eq!((&same["digest"], &same["definitionChangedAt"], none), (&first["digest"], &Value::Null, 0.0));
    let (other, one) = seen("Says it again, to everyone");
    assert_eq!((&other["previousDigest"], one), (&first["digest"], 1.0), "{other}");
    let at = other["definitionChangedAt"].as_str().expect("a time");
    let (last, none) = seen("Says it again, to everyone");
    assert_eq!((&last["previousDigest"], none), (&first["digest"], 0.0), "{last}");
    assert_eq!(last["definitionChangedAt"], at, "it stays told");
}

#[test]
fn the_numbers_of_a_server_behind_a_plugin_are_scraped_and_its_calls_recorded() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "Says it again", "");
    let server = start(&root);
    is_ready(&server);
    let reply = server.call("tools/call", json!({"name": "py__echo", "arguments": {"a": 1}}));
    assert_eq!(reply.result()["content"][0]["text"], "{\"a\": 1}", "{}", reply.text());
    let number = |name: &str| server.metric(&format!("waygate_plugin_{name}"));
    let memory = eventually("it is sampled", || number("resident_memory_bytes{plugin=\"py\"}"));
    assert!(memory > 1e6, "{memory}");
    assert!(number("cpu_seconds{plugin=\"py\"}").is_some_and(|cpu| cpu >= 0.0));
    for (name, expected) in [
        ("calls_total{outcome=\"ok\",plugin=\"py\"}", 1.0),
        ("duration_seconds_count{plugin=\"py\"}", 1.0),
        ("running{plugin=\"py\"}", 0.0),
        ("queued{plugin=\"py\"}", 0.0),
        ("breaker{plugin=\"py\"}", 0.0),
        ("state{plugin=\"py\",state=\"ready\"}", 1.0),
        ("restarts_total{plugin=\"py\"}", 0.0),
    ] {
        assert_eq!(number(name), Some(expected), "{name}");
    }
    for direction in ["in", "out"] {
        let name = format!("bytes_total{{direction=\"{direction}\",plugin=\"py\"}}");
        assert!(number(&name).is_some_and(|bytes| bytes > 50.0), "{name}");
    }
    let row = eventually("it is recorded", || {
        let mut command = Command::new(program("waygate-mcp"));
        command.env_clear().envs(database_of(root.path())).env("HOME", root.path());
        command.args(["history", "list", "--json", "--env", "test", "--data-dir"]).arg(root.path());
        let shown: Value = serde_json::from_slice(&command.output().ok()?.stdout).ok()?;
        shown["calls"].as_array()?.iter().find(|call| call["tool"] == "py__echo").cloned()
    });
    let at_least = |name: &str, least: u64| row[name].as_u64().is_some_and(|number| number >= least);
    assert!(at_least("bytes_out", 50) && at_least("bytes_in", 50) && at_least("upstream_us", 1), "{row}");
    assert!(row["upstream_us"].as_u64() <= row["duration_us"].as_u64(), "{row}");
    assert_eq!((&row["bridged"], &row["queue_us"]), (&json!("modern-legacy"), &Value::Null), "{row}");
    assert!(row["plugin_instance"].as_str().is_some_and(|instance| !instance.is_empty()), "{row}");
    fs::remove_file(root.path().join("plugins/py.toml")).expect("removed");
    reload(&server);
    eventually("what is gone has no numbers", || {
        number("resident_memory_bytes{plugin=\"py\"}").is_none().then_some(())
    });
}

#[test]
fn a_plugin_that_may_work_in_a_folder_of_waygate_is_not_made() {
    let root = tempfile::tempdir().expect("a folder");
    let server = start(&root);
    std::os::unix::fs::symlink(root.path(), root.path().join("link")).expect("linked");
    let at = |name: &str| root.path().join(name);
    for cwd in [at("."), at("link"), at("data"), at("plugins"), "/".into()] {
        describe(root.path(), "Says it again", &format!("cwd = {cwd:?}"));
        let told = reload(&server);
        let why = told["failed"][0]["why"].as_str().unwrap_or_default();
        assert!(why.contains("Waygate's own") && why.contains("cwd"), "{}: {told}", cwd.display());
    }
    fs::create_dir(at("work")).expect("a folder");
    describe(root.path(), "Says it again", &format!("cwd = {:?}", at("work")));
    reload(&server);
    is_ready(&server);
}

#[test]
fn health_is_degraded_while_a_plugin_fails_and_healthy_again_after() {
    let root = tempfile::tempdir().expect("a folder");
    describe(root.path(), "Says it again", "");
    let server = start(&root);
    let health = |what: &str, status: &str| {
        eventually(what, || Some(server.get("/health")).filter(|(_, health)| health["status"] == status))
    };
    is_ready(&server);
    health("all is well", "healthy");
    fs::write(root.path().join("plugins/ill.toml"), "command = \"/bin/false\"\n").expect("a file");
    reload(&server);
    let (status, shown) = health("it is told", "degraded");
    assert_eq!((status, &shown["checks"]["plugins"]), (200, &json!("degraded")), "{shown}");
    let problem = shown["problems"]["plugins"].as_str().expect("a sentence");
    assert!(problem.contains("ill is") && !problem.contains("py is"), "{problem}");
    fs::remove_file(root.path().join("plugins/ill.toml")).expect("removed");
    reload(&server);
    health("all is well again", "healthy");
}
