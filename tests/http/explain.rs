//! What is explained of a call: each step as the one that decides, what decided it, that nothing is charged, and that nobody
//! learns of what is kept from them.

use std::fs;
use std::path::Path;
use std::process::Command;

use diesel::{QueryableByName, RunQueryDsl as _, sql_query, sql_types};
use serde_json::{Value, json};

use crate::keys::{OWN, becomes, create, id_of, keys, with};
use crate::support::database::open;
use crate::support::{Http, Reply, Server, database_of, eventually, program};

/// A row of the history, as far as it says whose it is.
#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = sql_types::Text)]
    request_id: String,
    #[diesel(sql_type = sql_types::Text)]
    trace_id: String,
}

fn ask(server: &Server, key: &str, query: &str) -> Reply {
    with(key, Http::get(&format!("/diagnostics/explain?{query}"))).send(server.address)
}

/// What the operator is told.
#[track_caller]
fn explained(server: &Server, query: &str) -> Value {
    let reply = ask(server, OWN, query);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let told = reply.json();
    let names: Vec<&str> = told["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| step["step"].as_str().expect("one"))
        .collect();
    let all = [
        "auth", "scope", "server", "bundle", "filter", "limit", "cache", "state", "breaker", "queue",
        "deadline",
    ];
    assert_eq!(names, all, "{told}");
    told
}

fn step<'a>(told: &'a Value, name: &str) -> &'a Value {
    let steps = told["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["step"] == name).expect("the step")
}

/// Holds that a step decides, that those before it pass and those behind it are not reached; gives it.
#[track_caller]
fn decides<'a>(told: &'a Value, name: &str) -> &'a Value {
    assert_eq!((&told["allowed"], &told["decidedBy"]), (&json!(false), &json!(name)), "{told:#}");
    let mut wanted = "passes";
    for step in told["steps"].as_array().expect("steps") {
        if step["step"] == name {
            assert_eq!(step["verdict"], "refuses", "{told:#}");
            assert!(step["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{told:#}");
            wanted = "not_reached";
        } else {
            assert_eq!(step["verdict"], wanted, "{told:#}");
        }
    }
    step(told, name)
}

/// What decided a step, in words.
fn by(step: &Value) -> String {
    let all = step["by"].as_array().expect("a list").iter();
    all.map(|by| by["text"].as_str().expect("a text")).collect::<Vec<_>>().join("; ")
}

fn hostile(mode: &str, more: &str) -> String {
    let says =
        Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("python");
    let python = String::from_utf8(says.stdout).expect("a path");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/hostile_server.py");
    format!("command = {:?}\nargs = [{script:?}, {mode:?}]\n{more}\n", python.trim())
}

fn plugin(folder: &Path, name: &str, text: &str) {
    let plugins = folder.join("plugins");
    fs::create_dir_all(&plugins).expect("a folder");
    fs::write(plugins.join(format!("{name}.toml")), text).expect("a file");
}

#[test]
fn a_call_that_would_be_let_through_passes_each_step_with_what_decides_it() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN), ("WAYGATE_TIMEOUT", "7")]);
    let key = create(&server, &["ci", "--rate", "60/min"]);
    becomes(&server, &key, 200);
    let told = explained(&server, "tool=repeat&key=ci");
    assert_eq!((&told["allowed"], &told["answer"]), (&json!(true), &Value::Null), "{told:#}");
    assert_eq!(
        told["caller"],
        json!({"principal": format!("key-{}", id_of(&key)), "key": {"id": id_of(&key), "name": "ci"}})
    );
    assert!(step(&told, "auth")["why"].as_str().expect("why").contains("active"), "{told:#}");
    assert_eq!(
        by(step(&told, "deadline")),
        "server.timeout_seconds = 7 from the environment (WAYGATE_TIMEOUT)"
    );
    assert!(
        by(step(&told, "limit"))
            .contains(&format!("limits.requestsPerMinute = 60 of the key ci ({})", id_of(&key)))
    );
    assert!(by(step(&told, "limit")).contains("limits.calls_max = 10000 by default"), "{told:#}");
    assert!(by(step(&told, "queue")).contains("plugins.concurrency = 64 by default"), "{told:#}");
    let own = explained(&server, "tool=repeat");
    assert!(own["allowed"] == true && by(step(&own, "auth")).contains("access.api_key"), "{own:#}");
}

#[test]
fn keys_scopes_bundles_and_globs_decide_as_they_do_for_a_call() {
    let server = Server::with("bundled_server", &[("WAYGATE_API_KEY", OWN)]);
    let gone = create(&server, &["gone"]);
    create(&server, &["reader", "--scope", "ops:read"]);
    create(&server, &["few", "--bundle", "few"]);
    let blind = create(&server, &["blind", "--deny", "alpha__a*"]);
    keys(&server, &["revoke", &id_of(&gone)]);
    becomes(&server, &blind, 200);
    eventually("it is revoked here", || {
        (explained(&server, "tool=x&key=gone")["decidedBy"] == "auth").then_some(())
    });
    let told = explained(&server, "tool=alpha__add&key=gone");
    assert!(by(decides(&told, "auth")).contains("standing = \"revoked\""), "{told:#}");
    assert_eq!(told["answer"]["status"], 401);
    let told = explained(&server, "tool=alpha__add&key=reader");
    assert!(by(decides(&told, "scope")).contains("scopes = [\"ops:read\"]"), "{told:#}");
    let told = explained(&server, "tool=alpha__add&key=few");
    assert!(by(decides(&told, "bundle")).contains("bundles.allow = [\"few\"]"), "{told:#}");
    assert_eq!(explained(&server, "tool=alpha__add&key=few&bundle=few")["allowed"], true);
    let told = explained(&server, "tool=alpha__add&key=blind");
    assert!(by(decides(&told, "filter")).contains("tools.deny = [\"alpha__a*\"]"), "{told:#}");
    let told = explained(&server, "tool=alpha__add&bundle=nonesuch");
    assert_eq!(
        (decides(&told, "bundle")["verdict"].as_str(), &told["answer"]["status"]),
        (Some("refuses"), &json!(404))
    );
    let told = explained(&server, "tool=alpha__danger");
    assert!(by(decides(&told, "filter")).contains("deny = [\"danger\"]"), "{told:#}");
    let told = explained(&server, "tool=alpha__speak&bundle=few");
    assert!(
        by(decides(&told, "filter")).contains("tools = [\"alpha__a*\",\"*__touch\"] in plugins/few.toml"),
        "{told:#}"
    );
    let told = explained(&server, "tool=alpha__speak&bundle=alpha");
    assert!(
        decides(&told, "filter")["why"].as_str().expect("why").contains("it is called speak"),
        "{told:#}"
    );
    let told = explained(&server, "tool=alpha__spaek");
    assert!(
        decides(&told, "filter")["why"].as_str().expect("why").contains("did you mean alpha__speak?"),
        "{told:#}"
    );
    let told = explained(&server, "tool=alpha__slow");
    assert!(by(step(&told, "deadline")).contains("tools.slow.timeout_seconds = 1"), "{told:#}");
    assert_eq!(ask(&server, OWN, "tool=x&key=nobody").status, 404);
    assert_eq!(ask(&server, OWN, "key=few").status, 400, "a tool must be named");
}

#[test]
fn limits_decide_and_to_look_at_them_uses_nothing_up() {
    let settings = [("WAYGATE_API_KEY", OWN), ("WAYGATE_LIMITS_CALLS_MAX", "2")];
    let server = Server::with("faulty_server", &settings);
    let key = create(&server, &["slow", "--rate", "1/min", "--burst", "2"]);
    let other = create(&server, &["other"]);
    becomes(&server, &other, 200);
    for _ in 0..20 {
        assert_eq!(explained(&server, "tool=repeat&key=slow")["allowed"], true);
    }
    for _ in 0..2 {
        assert_eq!(
            with(&key, Http::tool("repeat", json!({}))).send(server.address).status,
            200,
            "none was charged"
        );
    }
    let told = explained(&server, "tool=repeat&key=slow");
    let limit = decides(&told, "limit");
    assert!(by(limit).contains("limits.requestsPerMinute = 1"), "{told:#}");
    assert!(limit["advice"].as_str().expect("advice").contains("keys limit"), "{told:#}");
    let refused = with(&key, Http::tool("repeat", json!({}))).send(server.address);
    assert_eq!((refused.status, &told["answer"]["status"]), (429, &json!(429)), "it is what a call hears");
    assert_eq!(refused.json()["error"]["message"], told["answer"]["message"]);
    let running: Vec<_> =
        (0..2).map(|_| with(OWN, Http::tool("hang", json!({}))).open(server.address)).collect();
    let told = eventually("the server is full", || {
        let told = explained(&server, "tool=repeat");
        (told["decidedBy"] == "server").then_some(told)
    });
    assert!(by(decides(&told, "server")).contains("limits.calls_max = 2 from the environment"), "{told:#}");
    drop(running);
    eventually("it has room again", || (explained(&server, "tool=repeat")["allowed"] == true).then_some(()));
}

#[test]
fn a_plugin_decides_by_its_state_its_breaker_and_its_queue() {
    let own = tempfile::tempdir().expect("a folder");
    plugin(own.path(), "broken", "command = \"false\"\nallow = [\"x\"]\n");
    plugin(
        own.path(),
        "fuse",
        &hostile("good", "timeout_seconds = 1\nbreaker.failures = 1\nbreaker.open_seconds = 600"),
    );
    plugin(
        own.path(),
        "narrow",
        &hostile("good", "concurrency = 1\nqueue_max = 0\nhidden = true\ntools.sleep.hidden = false"),
    );
    let server = Server::on("waygate-mcp", own.path(), &[("WAYGATE_API_KEY", OWN)]);
    let ready = |name: &str| {
        eventually("it is ready", || {
            let shown = with(OWN, Http::get(&format!("/plugins/{name}"))).send(server.address).json();
            (shown["state"] == "ready").then_some(())
        });
    };
    // Until its first start has failed, it decides otherwise.
    let told = eventually("it has failed to start", || {
        let told = explained(&server, "tool=broken__x");
        (told["decidedBy"] == "state" && told.to_string().contains("plugins reload")).then_some(told)
    });
    let state = decides(&told, "state");
    assert!(state["advice"].as_str().expect("advice").contains("plugins reload"), "{told:#}");
    assert_eq!(told["answer"]["status"], 503);
    ready("fuse");
    ready("narrow");
    let told = explained(&server, "tool=narrow__say");
    let file = own.path().join("plugins/narrow.toml").display().to_string();
    assert_eq!(by(decides(&told, "filter")), format!("hidden = true in {file}"));
    let slow = json!({"seconds": 60, "ms": 60_000});
    let late = with(OWN, Http::tool("fuse__sleep", slow.clone())).send(server.address);
    assert_eq!(late.status, 504, "{}", late.text());
    let told = explained(&server, "tool=fuse__say");
    let file = own.path().join("plugins/fuse.toml").display().to_string();
    assert!(by(decides(&told, "breaker")).contains(&format!("breaker.failures = 1 in {file}")), "{told:#}");
    let running = with(OWN, Http::tool("narrow__sleep", slow)).open(server.address);
    let told = eventually("its place is taken", || {
        let told = explained(&server, "tool=narrow__sleep");
        (told["decidedBy"] == "queue").then_some(told)
    });
    assert!(by(decides(&told, "queue")).contains("concurrency = 1 in "), "{told:#}");
    drop(running);
}

#[test]
fn who_may_not_know_of_a_tool_or_a_key_learns_nothing_of_it() {
    let server = Server::with("bundled_server", &[("WAYGATE_API_KEY", OWN)]);
    let some = create(&server, &["some", "--scope", "mcp", "--scope", "ops:read", "--deny", "beta__*"]);
    let plain = create(&server, &["plain"]);
    becomes(&server, &some, 200);
    becomes(&server, &plain, 200);
    let told = |tool: &str| {
        let reply = ask(&server, &some, &format!("tool={tool}"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text().replace(tool, "TOOL")
    };
    let unknown = told("beta__ghost");
    for hidden in ["beta__add", "alpha__danger", "beta__danger"] {
        assert_eq!(told(hidden), unknown, "{hidden}");
    }
    assert!(serde_json::from_str::<Value>(&unknown).expect("JSON")["decidedBy"] == "filter", "{unknown}");
    assert!(told("alpha__add").contains("\"allowed\":true"));
    // Of keys, one's own is shown, whatever it is called by; of others not even whether they are there.
    let own = ask(&server, &some, "tool=alpha__add&key=some");
    assert_eq!((own.status, &own.json()["allowed"]), (200, &json!(true)), "{}", own.text());
    let without_id = |reply: &Reply| {
        let mut error = reply.json()["error"].clone();
        error["requestId"].take();
        (reply.status, error)
    };
    let (other, nobody) = (ask(&server, &some, "tool=x&key=plain"), ask(&server, &some, "tool=x&key=nobody"));
    assert_eq!((other.status, without_id(&other)), (403, without_id(&nobody)));
    let guessed = ask(&server, &some, &format!("tool=x&key={OWN}"));
    assert_eq!(
        (guessed.status, without_id(&guessed)),
        (403, without_id(&nobody)),
        "nor what the operator's is"
    );
    assert_eq!(ask(&server, &plain, "tool=alpha__add").status, 403, "a key for MCP reads no diagnostics");
    // A key itself is no name, and stands in no URL.
    for whole in [some.as_str(), OWN] {
        let refused = ask(&server, OWN, &format!("tool=x&key={whole}"));
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(!server.log().contains(whole) && !refused.text().contains(whole));
    }
}

#[test]
fn a_server_without_keys_explains_to_its_own_machine() {
    let server = Server::with("faulty_server", &[("WAYGATE_LIMITS_ADDRESS_REQUESTS_PER_MINUTE", "1")]);
    let told = |query: &str| Http::get(&format!("/diagnostics/explain?{query}")).send(server.address).json();
    assert_eq!(told("tool=repeat")["allowed"], true);
    assert_eq!(server.call("tools/list", json!({})).status, 200);
    let refused = told("tool=repeat&key=anonymous");
    assert!(
        by(decides(&refused, "limit"))
            .contains("limits.address_requests_per_minute = 1 from the environment")
    );
    assert_eq!(told("tool=repeat&key=local")["allowed"], true, "the socket has no address");
}

#[test]
fn a_key_that_is_called_as_somebody_without_one_is_not_taken_for_theirs() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    create(&server, &["local"]);
    let mut command = Command::new(program("waygate-mcp"));
    command.args(["explain", "--tool", "repeat", "--json", "--data-dir"]).arg(&server.folder);
    command.env_clear().envs(database_of(&server.folder)).env("HOME", &server.folder);
    let command = command.output().expect("it runs");
    let told: Value = serde_json::from_slice(&command.stdout).expect("JSON");
    assert_eq!(told["caller"], json!({"principal": "local", "key": null}), "{told}");
}

#[test]
fn the_same_request_and_trace_stand_in_error_log_and_history() {
    let server = Server::with("faulty_server", &[("WAYGATE_LOG_FORMAT", "json")]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let meta = json!({"traceparent": format!("00-{trace}-00f067aa0ba902b7-01")});
    for (streams, tool) in [(false, "panic"), (true, "panic")] {
        let mut meta = meta.clone();
        if streams {
            meta["io.modelcontextprotocol/logLevel"] = json!("debug");
        }
        let reply = server.call("tools/call", json!({"name": tool, "arguments": {}, "_meta": meta}));
        let data = reply.json()["error"]["data"].clone();
        let id = data["requestId"].as_str().expect("an id").to_owned();
        assert_eq!(data["traceId"], trace, "{data}");
        eventually("the log tells it", || {
            let log = server.log();
            let line = log.lines().find(|line| line.contains(&id) && line.contains("\"ERROR\""))?;
            assert!(line.contains(trace), "{line}");
            Some(())
        });
        let errors = server.get("/diagnostics/errors").1;
        let error =
            errors["errors"].as_array().expect("errors").iter().find(|error| error["requestId"] == *id);
        assert_eq!(error.expect("it is there")["traceId"], trace);
        let row = eventually("the history tells it", || {
            let rows = "SELECT COALESCE(request_id, '') AS request_id, COALESCE(trace_id, '') AS trace_id FROM command_history";
            let rows: Vec<Row> = sql_query(rows).load(&mut open(&server.folder)).unwrap_or_default();
            rows.into_iter().find(|row| row.request_id == id)
        });
        assert_eq!(row.trace_id, trace);
    }
    // What is refused before it runs is no other.
    let refused = server.call("tools/call", json!({"name": "nonesuch", "_meta": meta}));
    assert_eq!(refused.json()["error"]["data"]["traceId"], trace, "{}", refused.text());
}
