//! The cache: what is kept, for whom and until when, that one call serves all who ask the same, and that nothing depends on it.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::keys::{OWN, becomes, create, with};
use crate::legacy::{NEWEST, Session, everything};
use crate::scripted::{Answer, Asked, EVENTS, Scripted, result};
use crate::support::{Http, PATIENCE, Reply, Server, database_of, eventually, program};

/// Closed, calls of the tools that wait at it are not answered.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Gate {
    fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn pass(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.0.load(Ordering::Acquire) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

const TOOLS: &[&str] =
    &["look", "write", "hinted", "fails", "errs", "asks", "tells", "big", "slow", "stumbles"];

/// A server of 2026-07-28, each of whose answers is another.
fn upstream(gate: &Gate) -> Scripted {
    let (gate, counts) = (gate.clone(), Mutex::<HashMap<String, usize>>::default());
    Scripted::modern(TOOLS, move |asked| {
        let tool = asked.tool().to_owned();
        let count = {
            let mut counts = counts.lock().expect("no panic");
            let count = counts.entry(tool.clone()).or_default();
            *count += 1;
            *count
        };
        match asked.body["method"].as_str() {
            Some("tools/list") => {
                let tool = |name: &&str| {
                    let read_only = **name != *"write";
                    json!({"name": name, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": read_only}})
                };
                let tools: Vec<Value> = TOOLS.iter().map(tool).collect();
                let list =
                    json!({"resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "private"});
                Some(Answer::Whole(result(asked, "", &list)))
            }
            Some("tools/call") => {
                if ["slow", "stumbles"].contains(&&*tool) {
                    gate.pass();
                }
                Some(answer(asked, &tool, count))
            }
            _ => None,
        }
    })
}

fn answer(asked: &Asked, tool: &str, count: usize) -> Answer {
    let text = |text: &str| json!({"resultType": "complete", "content": [{"type": "text", "text": text}]});
    let mut says = text(&format!("{tool} {count}"));
    match tool {
        "fails" => says["isError"] = true.into(),
        "stumbles" if count == 1 => says["isError"] = true.into(),
        "hinted" => says["ttlMs"] = 60_000.into(),
        "big" => {
            let bytes = asked.body["params"]["arguments"]["bytes"].as_u64().unwrap_or(0);
            says = text(&"x".repeat(usize::try_from(bytes).expect("a size")));
        }
        "errs" => {
            let error = json!({"code": -32603, "message": format!("errs {count}")});
            let body = json!({"jsonrpc": "2.0", "id": asked.body["id"], "error": error}).to_string();
            return Answer::Whole(crate::scripted::http(
                "200 OK",
                "Content-Type: application/json\r\n",
                &body,
            ));
        }
        "asks" if asked.body["params"]["inputResponses"].is_null() => {
            let form = json!({"mode": "form", "message": "Who?", "requestedSchema": {"type": "object", "properties": {}}});
            let ask = json!({"method": "elicitation/create", "params": form});
            says =
                json!({"resultType": "input_required", "inputRequests": {"who": ask}, "requestState": "s"});
        }
        "tells" => {
            let token = &asked.body["params"]["_meta"]["progressToken"];
            if !token.is_null() {
                let told = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
                let done = json!({"jsonrpc": "2.0", "id": asked.body["id"], "result": says});
                return Answer::Whole(format!("{EVENTS}data: {told}\n\ndata: {done}\n\n"));
            }
        }
        _ => {}
    }
    Answer::Whole(result(asked, "", &says))
}

/// The settings of every tool in the file of the plugin `w`.
fn file(upstream: &Scripted, seconds: u64, more: &str) -> String {
    let kept = TOOLS.iter().filter(|tool| **tool != "hinted");
    let kept = kept.map(|tool| format!("[tools.{tool}]\ncache_seconds = {seconds}\n"));
    format!("url = {:?}\n{more}\n{}", upstream.url(), kept.collect::<String>())
}

pub struct House {
    pub server: Server,
    upstream: Scripted,
    gate: Gate,
    root: TempDir,
    /// What is shown with each request, if anything.
    key: Option<&'static str>,
}

impl House {
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::with(settings, 300, "")
    }

    fn with(settings: &[(&str, &str)], seconds: u64, more: &str) -> Self {
        let (gate, root) = (Gate::default(), tempfile::tempdir().expect("a folder"));
        let upstream = upstream(&gate);
        write(root.path(), &file(&upstream, seconds, more));
        let server = Server::on("waygate-mcp", root.path(), settings);
        let key = settings.iter().any(|(name, _)| *name == "WAYGATE_API_KEY").then_some(OWN);
        let house = Self { server, upstream, gate, root, key };
        house.is_ready();
        house
    }

    /// Another server with the same plugin.
    #[cfg(feature = "redis")]
    fn beside(&self, settings: &[(&str, &str)]) -> Server {
        let root = self.root.path().join("beside");
        write(&root, &std::fs::read_to_string(self.root.path().join("plugins/w.toml")).expect("a file"));
        let server = Server::on("waygate-mcp", &root, settings);
        eventually("the plugin is there", || (server.get("/plugins/w").1["state"] == "ready").then_some(()));
        server
    }

    fn send(&self, request: Http) -> Reply {
        self.key.map_or(request.clone(), |key| with(key, request)).send(self.server.address)
    }

    fn get(&self, path: &str) -> Value {
        self.send(Http::get(path)).json()
    }

    fn is_ready(&self) {
        eventually("the plugin is there", || (self.get("/plugins/w")["state"] == "ready").then_some(()));
    }

    fn call(&self, tool: &str, arguments: Value) -> Reply {
        self.send(Http::tool(&format!("w__{tool}"), arguments))
    }

    /// What a tool says.
    #[track_caller]
    fn says(&self, tool: &str, arguments: Value) -> String {
        text(&self.call(tool, arguments))
    }

    /// How often the server behind was called.
    fn called(&self, tool: &str) -> usize {
        self.upstream.count(&format!("tools/call {tool}"))
    }

    fn looked(&self, outcome: &str) -> u64 {
        let report = self.get("/diagnostics/cache");
        report["plugins"][0][outcome].as_u64().unwrap_or(0)
    }

    fn health(&self) -> (String, String) {
        let health = self.get("/health");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&health["status"]), text(&health["checks"]["cache"]))
    }

    /// Runs `waygate-mcp` on the folder of the server.
    fn verb(&self, words: &[&str]) -> (bool, String) {
        let mut command = Command::new(program("waygate-mcp"));
        command.args(words).arg("--data-dir").arg(self.root.path()).env_clear();
        command.envs(database_of(self.root.path())).env("HOME", self.root.path());
        let output = command.current_dir(self.root.path()).output().expect("the program runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).expect("text"))
    }
}

fn write(root: &Path, text: &str) {
    std::fs::create_dir_all(root.join("plugins")).expect("a folder");
    std::fs::write(root.join("plugins/w.toml"), text).expect("a file");
}

#[track_caller]
fn text(reply: &Reply) -> String {
    reply.result()["content"][0]["text"].as_str().expect("a text").to_owned()
}

pub fn look() -> Http {
    Http::tool("w__look", json!({"q": 1}))
}

#[test]
fn the_same_question_gets_the_same_answer_and_the_history_and_the_numbers_say_where_it_came_from() {
    let house = House::start(&[]);
    let first = house.call("look", json!({"a": 1, "b": [2, {"c": 3, "d": 4}]}));
    assert_eq!(text(&first), "look 1");
    let again = house.call("look", json!({"b": [2, {"d": 4, "c": 3}], "a": 1}));
    assert_eq!((again.result(), house.called("look")), (first.result(), 1), "the order of keys says nothing");
    assert_eq!(house.says("look", json!({"a": 2})), "look 2");
    assert_eq!(house.says("look", json!({})), "look 3");
    assert_eq!(house.says("look", json!({})), "look 3");
    assert_eq!((house.looked("hits"), house.looked("misses")), (2, 3));
    assert_eq!(house.server.metric("waygate_cache_lookups_total{outcome=\"hit\",plugin=\"w\"}"), Some(2.0));
    assert_eq!(house.server.metric("waygate_cache_answers"), Some(3.0));
    let (_, shown) = house.verb(&["cache", "stats"]);
    assert!(shown.contains("memory, ok") && shown.contains("2 of 5, 40.0 %"), "{shown}");
    let tools = house.get("/plugins/w")["tools"].clone();
    let cached = |name: &str| {
        tools
            .as_array()
            .expect("tools")
            .iter()
            .find(|tool| tool["own"] == name)
            .map(|tool| tool["cached"].clone())
    };
    assert_eq!((cached("look"), cached("write")), (Some(json!(true)), Some(json!(false))));
    assert_eq!(house.server.metric("waygate_plugin_calls_total{outcome=\"ok\",plugin=\"w\"}"), Some(3.0));
    let details = eventually("it is recorded", || {
        let (_, page) = house.verb(&["history", "list", "--json", "--tool", "w__look"]);
        let page: Value = serde_json::from_str(&page).expect("JSON");
        let calls = page["calls"].as_array().expect("rows").clone();
        let details: Vec<Value> = calls.iter().map(|call| call["detail"].clone()).collect();
        (details.len() == 5).then_some(details)
    });
    let found = json!("answered from the cache");
    assert_eq!(details, [found.clone(), Value::Null, Value::Null, found, Value::Null], "the newest first");
}

#[test]
fn an_answer_is_not_given_when_its_time_is_over() {
    let house = House::with(&[], 1, "");
    assert_eq!(house.says("look", json!({})), "look 1");
    eventually("it is asked for anew", || (house.says("look", json!({})) == "look 2").then_some(()));
    let shorter = House::start(&[("WAYGATE_CACHE_TTL", "1")]);
    assert_eq!(shorter.says("look", json!({})), "look 1");
    eventually("no answer lasts longer", || (shorter.says("look", json!({})) == "look 2").then_some(()));
}

#[test]
fn an_answer_is_for_the_caller_who_asked_unless_it_is_said_to_be_for_all() {
    let house = House::start(&[("WAYGATE_API_KEY", OWN)]);
    let ask = |house: &House, key: &str| text(&with(key, look()).send(house.server.address));
    let (one, other) = (create(&house.server, &["one"]), create(&house.server, &["other"]));
    for key in [&one, &other] {
        becomes(&house.server, key, 200);
    }
    assert_eq!((ask(&house, &one), ask(&house, &one)), ("look 1".into(), "look 1".into()));
    assert_eq!((ask(&house, &other), ask(&house, OWN)), ("look 2".into(), "look 3".into()));
    assert_eq!((ask(&house, &other), ask(&house, &one)), ("look 2".into(), "look 1".into()));

    let house = House::with(&[("WAYGATE_API_KEY", OWN)], 300, "cache_scope = \"public\"");
    let (one, blind) =
        (create(&house.server, &["one"]), create(&house.server, &["blind", "--deny", "w__look"]));
    for key in [&one, &blind] {
        becomes(&house.server, key, 200);
    }
    assert_eq!((ask(&house, &one), ask(&house, OWN)), ("look 1".into(), "look 1".into()));
    let refused = with(&blind, look()).send(house.server.address);
    assert_ne!(refused.status, 200, "who may not call it gets no answer of it: {}", refused.text());
}

#[test]
fn what_a_server_says_of_a_resource_counts_from_the_second_time_on() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let other = create(&server, &["other"]);
    becomes(&server, &other, 200);
    let read = |key: &str, id: &str| {
        let read = Http::modern("resources/read", json!({"uri": format!("test://item/{id}")}));
        with(key, read).send(server.address).result()
    };
    let said = |result: &Value| result["contents"][0]["text"].as_str().expect("a text").to_owned();
    let says = |key: &str, id: &str| said(&read(key, id));
    assert_eq!(
        (says(OWN, "kept"), says(OWN, "kept"), says(OWN, "kept")),
        ("0".into(), "1".into(), "1".into())
    );
    assert_eq!((says(&other, "kept"), says(&other, "kept")), ("2".into(), "2".into()));
    assert_eq!((says(OWN, "kept-for-all"), says(&other, "kept-for-all")), ("3".into(), "3".into()));
    // What is left of the time is told, and that it is for nobody else.
    let left = eventually("time passes", || {
        let result = read(OWN, "kept");
        (result["ttlMs"] != 60_000).then_some(result)
    });
    assert!(left["ttlMs"].as_u64().is_some_and(|left| left < 60_000), "{left}");
    assert_eq!((&left["cacheScope"], said(&left)), (&json!("private"), "1".into()));
    // An update of it makes it stale, and nothing else.
    let touch = |what: &str| {
        let touched = with(OWN, Http::tool("touch", json!({"what": what}))).send(server.address);
        assert_eq!(touched.status, 200);
    };
    touch("test://item/kept");
    eventually("it is read anew", || (says(OWN, "kept") != "1").then_some(()));
    assert_eq!(says(&other, "kept-for-all"), "3");
    touch("resources");
    eventually("so is all when lists change", || (says(&other, "kept-for-all") != "3").then_some(()));
    // In a session of an older revision the same is given, without words that it does not know.
    let before = says(OWN, "kept");
    let bearer = format!("Bearer {OWN}");
    let session = Session::with(&server, NEWEST, everything(), &[("Authorization", &bearer)]);
    let told = session.call("resources/read", json!({"uri": "test://item/kept"})).result();
    assert_eq!((said(&told), told.get("ttlMs")), (before, None), "{told}");
}

#[test]
fn what_a_tool_says_of_its_answer_counts_if_it_is_read_only() {
    let house = House::start(&[]);
    assert_eq!(
        (house.says("hinted", json!({})), house.says("hinted", json!({}))),
        ("hinted 1".into(), "hinted 2".into())
    );
    assert_eq!(house.says("hinted", json!({})), "hinted 2");
    assert_eq!(
        (house.says("write", json!({})), house.says("write", json!({}))),
        ("write 1".into(), "write 2".into())
    );
    let refused = house.get("/plugins/w")["refused"].to_string();
    assert!(refused.contains("write") && refused.contains("readOnlyHint"), "{refused}");
    assert_eq!(house.get("/plugins/w")["state"], "ready", "nothing is missing");
    // The operator may say that it is.
    let told = file(&house.upstream, 300, "")
        .replace("[tools.write]\n", "[tools.write]\nannotations = { readOnlyHint = true }\n");
    write(house.root.path(), &told);
    assert!(house.verb(&["plugins", "reload"]).0);
    assert_eq!(
        (house.says("write", json!({})), house.says("write", json!({}))),
        ("write 3".into(), "write 3".into())
    );
}

#[test]
fn errors_questions_and_answers_with_progress_are_never_kept() {
    let house = House::start(&[]);
    for count in 1..=3 {
        assert_eq!(house.says("fails", json!({})), format!("fails {count}"));
        assert!(house.call("errs", json!({})).text().contains(&format!("errs {count}")));
    }
    for _ in 0..2 {
        let asked = house.call("asks", json!({})).result();
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let answers = json!({"who": {"action": "accept", "content": {}}});
        let retry = json!({"name": "w__asks", "arguments": {}, "inputResponses": answers, "requestState": asked["requestState"]});
        assert_eq!(house.server.call("tools/call", retry).result()["resultType"], "complete");
    }
    assert_eq!(house.called("asks"), 4);
    let progress = |token: &str| {
        let call = json!({"name": "w__tells", "arguments": {}, "_meta": {"progressToken": token}});
        house.server.call("tools/call", call)
    };
    assert_eq!(
        (text_of_last(&progress("a")), text_of_last(&progress("b"))),
        ("tells 1".into(), "tells 2".into())
    );
    // Without anybody to tell, nothing is said before, and it is kept; then it is for those, too, who would have heard.
    assert_eq!(
        (house.says("tells", json!({})), house.says("tells", json!({}))),
        ("tells 3".into(), "tells 3".into())
    );
    assert_eq!(text_of_last(&progress("c")), "tells 3");
    let unknown = json!({"name": "w__look", "arguments": {}, "example": 1});
    for _ in 0..2 {
        assert_eq!(house.server.call("tools/call", unknown.clone()).status, 200);
    }
    assert_eq!(house.called("look"), 2, "what only the server understands may change the answer");
}

fn text_of_last(reply: &Reply) -> String {
    reply.json()["result"]["content"][0]["text"].as_str().expect("a text").to_owned()
}

#[test]
fn those_who_ask_the_same_at_the_same_time_are_served_by_one_call() {
    let house = House::start(&[]);
    let open: Vec<_> = (0..20).map(|_| Http::tool("w__slow", json!({})).open(house.server.address)).collect();
    eventually("all have asked", || (house.looked("misses") == 20).then_some(()));
    house.gate.open();
    for open in open {
        assert_eq!(text(&open.finish()), "slow 1");
    }
    assert_eq!((house.called("slow"), house.looked("joined")), (1, 19));
    assert_eq!(house.says("slow", json!({})), "slow 1");
}

#[test]
fn who_goes_away_cancels_nothing_for_those_who_still_wait_and_the_last_cancels_the_call() {
    let house = House::start(&[]);
    let ask = || Http::tool("w__slow", json!({})).open(house.server.address);
    let first = ask();
    eventually("it leads", || (house.called("slow") == 1).then_some(()));
    let (second, third) = (ask(), ask());
    eventually("they wait", || (house.looked("misses") == 3).then_some(()));
    drop((first, second));
    eventually("they are gone", || {
        (house.server.metric("waygate_requests_in_flight") == Some(1.0)).then_some(())
    });
    house.gate.open();
    assert_eq!((text(&third.finish()), house.called("slow")), ("slow 1".into(), 1));
    assert_eq!(house.says("slow", json!({})), "slow 1", "it is kept");

    let house = House::start(&[]);
    let ask = || Http::tool("w__slow", json!({})).open(house.server.address);
    let first = ask();
    eventually("it leads", || (house.called("slow") == 1).then_some(()));
    let second = ask();
    eventually("it waits", || (house.looked("misses") == 2).then_some(()));
    drop((first, second));
    eventually("nothing runs", || (house.get("/plugins/w")["running"] == 0).then_some(()));
    house.gate.open();
    assert_eq!(house.says("slow", json!({})), "slow 2");
}

#[test]
fn a_call_that_fails_leaves_the_others_to_ask_by_themselves() {
    let house = House::start(&[]);
    let ask = || Http::tool("w__stumbles", json!({})).open(house.server.address);
    let first = ask();
    eventually("it leads", || (house.called("stumbles") == 1).then_some(()));
    let others: Vec<_> = (0..3).map(|_| ask()).collect();
    eventually("they wait", || (house.looked("misses") == 4).then_some(()));
    house.gate.open();
    assert_eq!(first.finish().result()["isError"], true);
    for other in others {
        assert!(other.finish().result()["isError"].is_null(), "each made its own call");
    }
    assert_eq!(house.called("stumbles"), 4);
}

#[test]
fn a_reload_of_the_plugin_and_a_clearing_forget_what_was_kept() {
    let house = House::start(&[("WAYGATE_API_KEY", OWN)]);
    let says = || house.says("look", json!({}));
    assert_eq!((says(), says()), ("look 1".into(), "look 1".into()));
    assert!(house.verb(&["plugins", "reload"]).0, "nothing has changed");
    assert_eq!(says(), "look 1");
    write(house.root.path(), &file(&house.upstream, 200, ""));
    assert!(house.verb(&["plugins", "reload"]).0);
    assert_eq!((says(), says()), ("look 2".into(), "look 2".into()));
    let report = house.get("/diagnostics/cache");
    assert_eq!(report["answers"], 1, "what nobody asks for any more takes no room: {report}");

    let (done, told) = house.verb(&["cache", "clear"]);
    assert!(done && told.contains("1 answer was forgotten"), "{told}");
    assert_eq!((says(), says()), ("look 3".into(), "look 3".into()));
    let (done, told) = house.verb(&["cache", "clear", "--plugin", "files", "--json"]);
    assert!(done && told.contains("\"cleared\": 0"), "{told}");
    assert_eq!(says(), "look 3");
    let (done, told) = house.verb(&["cache", "clear", "--plugin", "nobody"]);
    assert!(!done && told.contains("there is no plugin"), "{told}");
    assert!(house.verb(&["cache", "clear", "--plugin", "w"]).0);
    assert_eq!(says(), "look 4");

    let clear = Http { head: "POST /admin/api/cache/clear".to_owned(), ..Http::get("") };
    let plain = create(&house.server, &["plain", "--scope", "mcp", "--scope", "ops:read"]);
    becomes(&house.server, &plain, 200);
    assert_eq!(with(&plain, clear.clone()).send(house.server.address).status, 403);
    assert_eq!(clear.send(house.server.address).status, 401);
    assert_eq!(says(), "look 4");
    let cleared = house.send(clear);
    assert_eq!((cleared.status, cleared.json()), (200, json!({"cleared": 1, "pending": false})));
    assert_eq!(says(), "look 5");
    eventually("it is recorded", || {
        let (_, page) = house.verb(&["history", "list", "--json", "--kind", "admin"]);
        let page: Value = serde_json::from_str(&page).expect("JSON");
        let calls = page["calls"].as_array().expect("rows").clone();
        (calls.iter().filter(|call| call["method"] == "cache/clear").count() == 4).then_some(())
    });
}

#[test]
fn all_answers_together_never_take_more_than_their_bytes() {
    let house = House::start(&[("WAYGATE_CACHE_MAX_BYTES", "65536")]);
    for bytes in 0..200 {
        house.says("big", json!({"bytes": 2000 + bytes}));
        let report = house.get("/diagnostics/cache");
        assert!(report["bytes"].as_u64().is_some_and(|bytes| bytes <= 65_536), "{report}");
    }
    let report = house.get("/diagnostics/cache");
    assert!(report["answers"].as_u64().is_some_and(|answers| answers >= 10), "{report}");
    assert!(house.server.metric("waygate_cache_evictions_total").is_some_and(|count| count > 100.0));
    for _ in 0..2 {
        house.says("big", json!({"bytes": 10_000}));
    }
    assert_eq!(house.called("big"), 202, "what takes too much of it is not kept");
}

#[test]
fn without_a_cache_nothing_is_kept_and_that_is_well() {
    let house = House::start(&[("WAYGATE_CACHE_TYPE", "none")]);
    assert_eq!(
        (house.says("look", json!({})), house.says("look", json!({}))),
        ("look 1".into(), "look 2".into())
    );
    assert_eq!(house.health(), ("healthy".into(), "disabled".into()));
    let (done, told) = house.verb(&["cache", "clear"]);
    assert!(!done && told.contains("no cache") && told.contains("WAYGATE_CACHE_TYPE"), "{told}");
    let (done, told) = house.verb(&["cache", "stats", "--json"]);
    assert!(done && told.contains("\"disabled\""), "{told}");
    let memory = House::start(&[]);
    assert_eq!(memory.health(), ("healthy".into(), "ok".into()));
}

#[test]
fn what_explains_a_call_tells_whether_its_answers_are_kept_and_what_decides_that() {
    let house = House::start(&[]);
    let step = |house: &House, tool: &str| {
        let told = house.get(&format!("/diagnostics/explain?tool=w__{tool}"));
        let steps = told["steps"].as_array().expect("steps").clone();
        let step = steps.into_iter().find(|step| step["step"] == "cache").expect("the step");
        assert_eq!(step["verdict"], "passes", "{told}");
        step.to_string()
    };
    let look = step(&house, "look");
    assert!(
        look.contains("is kept, it is given") && look.contains("tools.look.cache_seconds = 300"),
        "{look}"
    );
    assert!(look.contains("w.toml") && look.contains("cache.ttl_seconds = 300 by default"), "{look}");
    assert_eq!(house.called("look"), 0, "nothing is called");
    let hinted = step(&house, "hinted");
    assert!(hinted.contains("no answer of it has said yet"), "{hinted}");
    house.says("hinted", json!({}));
    let hinted = step(&house, "hinted");
    assert!(hinted.contains("it is given") && !hinted.contains("cache_seconds"), "{hinted}");
    assert!(step(&house, "write").contains("its answers are not kept"));
    let none = step(&House::start(&[("WAYGATE_CACHE_TYPE", "none")]), "look");
    assert!(none.contains("keeps no answers") && none.contains("WAYGATE_CACHE_TYPE"), "{none}");
}

#[cfg(feature = "redis")]
mod in_redis {
    use super::*;
    use crate::support::redis::{PASSWORD, Redis};

    const SEALING: &str = "6f1e2d3c4b5a69788796a5b4c3d2e1f0";

    fn settings<'a>(redis: &'a Redis, sealing: &'a str) -> [(&'a str, &'a str); 3] {
        [("WAYGATE_CACHE_TYPE", "redis"), ("WAYGATE_REDIS_URL", &redis.url), ("WAYGATE_SEALING_KEY", sealing)]
    }

    /// What the tool says, asked for until it says the same twice: answers are kept beside the call.
    fn settles(server: &Server) -> String {
        let says = || text(&look().send(server.address));
        eventually("an answer is kept", || {
            let first = says();
            (says() == first).then_some(first)
        })
    }

    fn is_in_use(server: &Server) {
        eventually("Redis is in use", || (server.get("/health").1["checks"]["cache"] == "ok").then_some(()));
    }

    #[test]
    fn servers_with_the_same_key_share_their_answers_and_what_makes_them_stale() {
        let Some(redis) = Redis::start() else { return };
        let house = House::start(&settings(&redis, SEALING));
        let beside = house.beside(&settings(&redis, SEALING));
        is_in_use(&house.server);
        is_in_use(&beside);
        // A plugin that begins may make its answers stale once more.
        let kept = eventually("the other finds it", || {
            let kept = settles(&house.server);
            (text(&look().send(beside.address)) == kept).then_some(kept)
        });
        let secret = "a-very-secret-argument";
        house.says("look", json!({"q": secret}));
        let contents = redis.contents();
        assert!(contents.contains("waygate:cache:1:") && !contents.contains(secret), "{contents}");
        for other in ["anonymous", "w__look", SEALING] {
            assert!(!contents.contains(other), "{other} in {contents}");
        }
        let (done, told) = house.verb(&["cache", "clear", "--json"]);
        assert!(done && told.contains("\"pending\": false"), "{told}");
        let fresh = settles(&beside);
        assert_ne!(fresh, kept, "it is stale for both");
        assert_eq!(text(&look().send(house.server.address)), fresh);
        // A new life of the plugin makes all of it stale, wherever it is.
        write(house.root.path(), &file(&house.upstream, 300, "instructions = \"Anew.\""));
        assert!(house.verb(&["plugins", "reload"]).0);
        eventually("it is asked for anew", || (text(&look().send(beside.address)) != fresh).then_some(()));
    }

    #[test]
    fn servers_with_another_key_do_not_see_them() {
        let Some(redis) = Redis::start() else { return };
        let house = House::start(&settings(&redis, SEALING));
        let stranger = house.beside(&settings(&redis, OWN));
        is_in_use(&house.server);
        is_in_use(&stranger);
        let kept = settles(&house.server);
        assert_ne!(text(&look().send(stranger.address)), kept);
        assert_eq!(text(&look().send(house.server.address)), kept);
    }

    #[test]
    fn no_call_fails_while_redis_is_away_and_it_is_used_again_when_it_is_back() {
        let Some(mut redis) = Redis::start() else { return };
        let house = House::start(&settings(&redis, SEALING));
        is_in_use(&house.server);
        settles(&house.server);
        for (ends, comes) in [("crash", "start"), ("freeze", "thaw")] {
            redis.tell(ends);
            let before = house.called("look");
            for _ in 0..20 {
                assert_eq!(look().send(house.server.address).status, 200);
            }
            assert!(house.called("look") >= before + 19, "each asks the plugin");
            let (status, _) = eventually("it is told", || {
                let health = house.health();
                (health.1 == "degraded").then_some(health)
            });
            assert_eq!(status, "degraded", "and no more than that");
            let problem = house.get("/health")["problems"]["cache"].as_str().expect("a problem").to_owned();
            assert!(problem.contains("Redis") && !problem.contains(PASSWORD), "{problem}");
            let (done, told) = house.verb(&["cache", "clear"]);
            assert!(done && told.contains("when it is back"), "{told}");
            redis.tell(comes);
            is_in_use(&house.server);
            settles(&house.server);
        }
        assert!(!house.server.log().contains(PASSWORD));
    }

    #[test]
    fn a_server_starts_and_serves_without_the_redis_that_it_was_told_of() {
        let Some(mut redis) = Redis::start() else { return };
        redis.tell("crash");
        let house = House::start(&settings(&redis, SEALING));
        assert_eq!(
            (house.says("look", json!({"q": 1})), house.says("look", json!({"q": 1}))),
            ("look 1".into(), "look 2".into())
        );
        redis.tell("start");
        is_in_use(&house.server);
        settles(&house.server);
    }
}
