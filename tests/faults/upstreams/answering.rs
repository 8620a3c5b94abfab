//! Servers that answer calls with something that is no answer.

use procfs::process::Process;
use serde_json::{Value, json};

use super::scripted::{Scripted, http};
use super::{House, hostile, remote};
use crate::support::eventually;

const MAX_BYTES: usize = 100_000;

fn house() -> House {
    let more =
        format!("timeout_seconds = 1\nresponse_max_bytes = {MAX_BYTES}\nbreaker = {{ failures = 1000 }}");
    let house = House::with(&[("bad", hostile("good", &more))]);
    house.is_ready("bad");
    house
}

fn link(house: &House) -> Value {
    house.plugin("bad")["report"]["speaker"]["link"].clone()
}

#[test]
fn what_is_no_answer_fails_its_own_call_and_says_what_it_was() {
    let house = house();
    let pid = house.says("bad__pid", json!({}));
    for (tool, arguments, status, says) in [
        ("garbage", json!({}), 500, "no message of the protocol"),
        ("not_utf8", json!({}), 500, "no message of the protocol"),
        ("no_result", json!({}), 500, "no message of the protocol"),
        ("nonsense", json!({}), 500, "something failed"),
        ("long_line", json!({"bytes": MAX_BYTES * 3}), 500, "response_max_bytes"),
        ("error", json!({}), 500, "the disk is full"),
        ("hang", json!({}), 504, "bad"),
        ("wrong_id", json!({}), 504, "bad"),
    ] {
        house.fails(&format!("bad__{tool}"), arguments, status, says);
        assert_eq!(house.says("bad__pid", json!({})), pid, "after {tool} the server goes on as it was");
    }
    house.neighbour_is_well();
    let link = link(&house);
    assert_eq!(link["late"], 2, "the answers to nothing that was asked are counted: {link}");
    assert!(link["noise"].as_u64() >= Some(2), "{link}");
    let shown = house.plugin("bad");
    assert_eq!(
        (&shown["state"], &shown["restarts"], &shown["running"]),
        (&json!("ready"), &json!(0), &json!(0))
    );
    // Neither the error that it answered nor the result that was nonsense is a failure of the way to it.
    let failed = &shown["failedCalls"];
    assert_eq!(failed["count"], 6, "{failed}");
    assert!(failed["lastWhy"].as_str().is_some_and(|why| why.contains("did not end within 1 s")), "{failed}");
}

#[test]
fn a_line_without_end_costs_its_call_and_its_server_but_no_memory_to_speak_of() {
    let house = house();
    let pid = house.says("bad__pid", json!({}));
    house.fails("bad__endless_line", json!({}), 500, "response_max_bytes");
    let shown = eventually("its server is another one", || {
        let reply = house.call("bad__pid", json!({}));
        assert!(matches!(reply.status, 200 | 500 | 503 | 504), "{}", reply.text());
        (reply.status == 200 && super::text_of(&reply) != pid).then(|| house.plugin("bad"))
    });
    let why = shown["report"]["lastError"].as_str().unwrap_or_default();
    assert!(why.contains("a line without end"), "{shown}");
    assert_eq!((&shown["state"], &shown["restarts"]), (&json!("ready"), &json!(1)), "{shown}");
    house.neighbour_is_well();
}

#[test]
fn of_an_answer_of_a_hundred_megabytes_no_more_is_kept_than_the_limit() {
    const ANSWER_BYTES: usize = 100_000_000;
    let house = House::with(&[("bad", hostile("good", "response_max_bytes = 2_000_000"))]);
    house.is_ready("bad");
    let most_kib = || {
        let waygate = Process::new(house.server.child.id().cast_signed()).expect("it runs");
        waygate.status().expect("its numbers").vmhwm.expect("the most memory that it had")
    };
    let before = most_kib();
    house.fails("bad__long_line", json!({"bytes": ANSWER_BYTES}), 500, "response_max_bytes");
    assert_eq!(house.says("bad__say", json!({})), "said");
    let grown = most_kib() - before;
    assert!(grown < ANSWER_BYTES as u64 / 1024 / 4, "for one answer it took {grown} KiB");
    house.neighbour_is_well();
}

#[test]
fn a_second_answer_and_a_late_one_reach_nobody() {
    let house = house();
    assert_eq!(house.says("bad__twice", json!({})), "first");
    house.fails("bad__late", json!({}), 504, "bad");
    for text in ["one", "two", "three"] {
        assert_eq!(house.says("bad__say", json!({"text": text})), text, "each call gets its own answer");
    }
    eventually("both are counted", || (link(&house)["late"] == 2).then_some(()));
    house.neighbour_is_well();
}

#[test]
fn what_a_server_may_not_ask_it_is_refused() {
    let house = house();
    for method in ["elicitation/create", "sampling/createMessage", "roots/list", "waygate/nonsense"] {
        let answer = house.says("bad__ask", json!({"method": method}));
        let answer: Value = serde_json::from_str(&answer).expect("an answer");
        assert_eq!(answer["code"], -32601, "{method}: {answer}");
    }
    let shown = house.plugin("bad");
    assert!(shown.to_string().contains("isolation"), "the operator gets a hint: {shown}");
    house.neighbour_is_well();
}

#[test]
fn a_server_that_fills_its_stderr_answers_all_the_same() {
    // It takes as long as it is read, which is slower than it writes.
    let house = House::with(&[("bad", hostile("good", ""))]);
    house.is_ready("bad");
    assert_eq!(house.says("bad__fill_stderr", json!({"lines": 5000})), "filled");
    let stderr = house.plugin("bad")["report"]["program"]["stderr"].clone();
    let lines = stderr.as_array().expect("lines");
    assert!((1..=1000).contains(&lines.len()), "{}", lines.len());
    assert!(stderr.to_string().len() < 200_000, "no more is kept than one can look at");
    house.neighbour_is_well();
}

#[test]
fn what_a_server_was_given_as_a_secret_is_masked_in_its_errors() {
    let secret = "correct-horse-battery";
    let server = Scripted::new(&["leak"], move |asked| {
        let error = json!({"code": -32050, "message": format!("no access with {secret}")});
        let body = json!({"jsonrpc": "2.0", "id": asked.body["id"], "error": error}).to_string();
        (asked.body["method"] == "tools/call")
            .then(|| http("200 OK", "Content-Type: application/json\r\n", &body))
    });
    let keyed = "[headers]\nAuthorization = \"Bearer ${TOKEN}\"";
    let house = House::under(
        &[("TOKEN", secret)],
        &[
            ("program", hostile("good", "[env]\nTOKEN = \"env:TOKEN\"")),
            ("remote", remote(&server.url(), keyed)),
        ],
    );
    for name in ["program", "remote"] {
        house.is_ready(name);
        let reply = house.call(&format!("{name}__leak"), json!({}));
        assert!(reply.text().contains("no access with"), "{}", reply.text());
        assert!(!reply.text().contains(secret), "{name}: {}", reply.text());
        assert!(!house.plugin(name).to_string().contains(secret), "{name}");
    }
    assert!(!house.server.log().contains(secret));
    house.neighbour_is_well();
}

#[test]
fn what_a_program_wrote_is_seen_when_it_runs_no_more_and_in_its_next_life() {
    let house = House::with(&[("quits", hostile("quits", "")), ("dies", hostile("good", ""))]);
    let program = |name: &str| house.plugin(name)["report"]["program"].clone();
    let said = |name: &str, line: &str| program(name)["stderr"].to_string().contains(line);
    eventually("its last word is kept", || said("quits", "no licence found").then_some(()));
    assert_eq!(house.plugin("quits")["report"]["speaker"], Value::Null, "it never spoke");
    house.is_ready("dies");
    let pid = house.says("dies__pid", json!({}));
    assert_eq!(house.says("dies__fill_stderr", json!({"lines": 1})), "filled");
    house.call("dies__die", json!({}));
    eventually("its next life", || {
        let reply = house.call("dies__pid", json!({}));
        (reply.status == 200 && super::text_of(&reply) != pid).then_some(())
    });
    assert!(said("dies", "line 0 x"), "{}", program("dies"));
    assert!(program("dies")["lastExit"].as_str().is_some_and(|exit| exit.contains("code 3")));
}

#[test]
fn a_plugin_with_a_program_for_each_client_shows_what_all_of_them_need() {
    let house = House::with(&[("many", hostile("good", "isolation = \"per_client\""))]);
    house.is_ready("many");
    house.says("many__pid", json!({}));
    let session = crate::legacy::Session::open(&house.server, "2025-11-25", json!({}));
    session.tool("many__pid", json!({}));
    let report = house.plugin("many")["report"].clone();
    let (all, main) = (&report["program"], &report["speaker"]["link"]);
    assert_eq!(all["running"], 3, "one that lists, and one for each client: {all}");
    assert!(all["rssBytes"].as_u64() > main["rssBytes"].as_u64().map(|main| main * 2), "{all} {main}");
}

#[test]
fn what_waygate_does_not_know_goes_through_both_ways() {
    let house = house();
    let session = crate::legacy::Session::open(&house.server, "2025-11-25", json!({}));
    assert_eq!(session.call("logging/setLevel", json!({"level": "debug"})).status, 200);
    let own = json!({"progressToken": "mine", "com.example/own": {"a": 1}, "io.modelcontextprotocol/foreign": 1,
                     "io.modelcontextprotocol/logLevel": "debug"});
    let params =
        json!({"name": "bad__echo", "arguments": {}, "_meta": own, "x-new": [1.5], "task": {"ttl": 1}});
    let modern = house.server.call("tools/call", params.clone());
    let legacy = session.call("tools/call", params);
    for reply in [modern, legacy] {
        let text = reply.text();
        // A stream of a session begins with an event that says nothing.
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<Value> = data.filter_map(|data| serde_json::from_str(data).ok()).collect();
        let said = |method: &str| {
            let found = events.iter().find(|event| event["method"] == method);
            found.unwrap_or_else(|| panic!("no {method} in {text}"))["params"].clone()
        };
        let progress = said("notifications/progress");
        assert_eq!((&progress["progressToken"], &progress["x-own"]), (&json!("mine"), &json!(1.5)));
        assert!(text.contains(r#""data":{"big":123456789012345678901234567890}"#), "{text}");
        assert_eq!(text.matches(r#""_meta":{"a/b":123456789012345678901234567890}"#).count(), 2, "{text}");
        let last = events.last().expect("a result")["result"]["content"][0]["text"].clone();
        let heard: Value = serde_json::from_str(last.as_str().expect("a text")).expect("what it heard");
        assert_eq!((&heard["x-new"], &heard["_meta"]["com.example/own"]), (&json!([1.5]), &json!({"a": 1})));
        assert_ne!(heard["_meta"]["progressToken"], "mine", "tokens are Waygate's own there");
        assert_eq!(heard["_meta"].get("io.modelcontextprotocol/foreign"), None, "that is each hop's own");
        assert_eq!(heard.get("task"), None);
    }
}
