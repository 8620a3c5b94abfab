//! Servers of both eras on HTTP whose bytes and lists are as bad as those of the ones on stdio.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::scripted::{Answer, Asked, EVENTS, Scripted, http, result};
use super::{House, remote};

type Script = fn(&Asked) -> Option<Answer>;

/// A house with one server of each era that misbehaves alike.
fn house(tools: &'static [&'static str], script: Script) -> (House, [Scripted; 2]) {
    let servers = [Scripted::legacy(tools, script), Scripted::modern(tools, script)];
    let more = "breaker = { failures = 1000 }";
    let [old, new] = &servers;
    let house = House::with(&[("old", remote(&old.url(), more)), ("new", remote(&new.url(), more))]);
    (house, servers)
}

fn said(asked: &Asked, text: &str) -> Value {
    let result = json!({"resultType": "complete", "content": [{"type": "text", "text": text}]});
    json!({"jsonrpc": "2.0", "id": asked.body["id"], "result": result})
}

fn misbehave(asked: &Asked) -> Option<Answer> {
    let broken = |head: &str, body: &str| {
        let (before, after) = body.split_once("BAD").expect("a place");
        Answer::Bytes([head.as_bytes(), before.as_bytes(), b"\xff\xfe", after.as_bytes()].concat())
    };
    let bad = said(asked, "BAD").to_string();
    let event = |message: &Value| format!("data: {message}\n\n");
    Some(match asked.tool() {
        "not_utf8" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
            broken(head, &bad)
        }
        "event_not_utf8" => broken(EVENTS, &format!("data: {bad}\n\n")),
        "twice" => {
            Answer::Whole([EVENTS, &event(&said(asked, "first")), &event(&said(asked, "second"))].concat())
        }
        "of_another" => {
            let mut other = said(asked, "of another");
            other["id"] = json!(999_999);
            Answer::Whole([EVENTS, &event(&other), &event(&said(asked, "its own"))].concat())
        }
        _ => return None,
    })
}

#[test]
fn bytes_that_are_no_text_and_answers_to_nothing_cost_their_own_call_over_http_too() {
    let tools = &["not_utf8", "event_not_utf8", "twice", "of_another", "say"];
    let (house, _servers) = house(tools, misbehave);
    for name in ["old", "new"] {
        house.is_ready(name);
        for tool in ["not_utf8", "event_not_utf8"] {
            house.fails(&format!("{name}__{tool}"), json!({}), 500, "no message of the protocol");
        }
        assert_eq!(house.says(&format!("{name}__twice"), json!({})), "first");
        assert_eq!(house.says(&format!("{name}__of_another"), json!({})), "its own");
        assert!(!house.says(&format!("{name}__say"), json!({})).is_empty());
        assert_eq!(house.plugin(name)["restarts"], 0, "{name}");
    }
    house.neighbour_is_well();
}

/// The list of tools as a script has it, if that is what is asked for.
fn list(asked: &Asked, mut page: Value) -> Option<Answer> {
    page["resultType"] = "complete".into();
    page["ttlMs"] = 0.into();
    page["cacheScope"] = "private".into();
    (asked.body["method"] == "tools/list").then(|| Answer::Whole(result(asked, "", &page)))
}

#[test]
fn a_list_without_end_is_cut_over_http_too() {
    let (house, servers) = house(&[], |asked| {
        let at: u64 = asked.body["params"]["cursor"].as_str().unwrap_or("0").parse().unwrap_or_default();
        let tool = json!({"name": format!("tool_{at}"), "inputSchema": {"type": "object"}});
        list(asked, json!({"tools": [tool], "nextCursor": (at + 1).to_string()}))
    });
    for (name, server) in ["old", "new"].into_iter().zip(&servers) {
        house.is_ready(name);
        assert!(house.names_of(name).len() >= 50, "{name}");
        let troubles = house.plugin(name)["report"]["speaker"]["lists"]["troubles"].to_string();
        assert!(troubles.contains("without end"), "{name}: {troubles}");
        assert!(server.count("tools/list") < 10_000, "{name}");
        assert!(!house.says(&format!("{name}__tool_0"), json!({})).is_empty());
    }
    house.neighbour_is_well();
}

#[test]
fn odd_names_and_a_schema_that_refers_to_elsewhere_are_met_over_http_as_on_stdio() {
    let elsewhere = Scripted::new(&[], |_| Some(http("200 OK", "", "{}")));
    let url = elsewhere.url();
    let asks = Arc::new(AtomicUsize::new(0));
    let script = {
        let asks = Arc::clone(&asks);
        move |asked: &Asked| {
            if asked.body["method"] == "tools/list" {
                asks.fetch_add(1, Ordering::Relaxed);
            }
            if asked.body["method"] == "tools/call" {
                return Some(Answer::Whole(result(asked, "", &said(asked, asked.tool())["result"])));
            }
            let plain = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
            let refers = json!({"type": "object", "properties": {"a": {"$ref": url}}});
            let tools = json!([
                plain("a/b/c"),
                plain(&"x".repeat(300)),
                plain("say"),
                json!({"name": "refers", "inputSchema": refers}),
            ]);
            list(asked, json!({"tools": tools}))
        }
    };
    let (old, new) = (Scripted::legacy(&[], script.clone()), Scripted::modern(&[], script));
    let house = House::with(&[("old", remote(&old.url(), "")), ("new", remote(&new.url(), ""))]);
    for name in ["old", "new"] {
        crate::support::eventually("it is looked at", || {
            (house.plugin(name)["state"] == "degraded").then_some(())
        });
        let refused = house.plugin(name)["refused"].to_string();
        assert!(refused.contains("nothing is ever fetched"), "{name}: {refused}");
        let mut own: Vec<_> = house.names_of(name);
        own.retain(|published| !published.ends_with("refers"));
        let mut own: Vec<_> = own.iter().map(|published| house.says(published, json!({}))).collect();
        own.sort();
        assert_eq!(own, ["a/b/c".to_owned(), "say".to_owned(), "x".repeat(300)], "{name}");
    }
    assert_eq!(elsewhere.count(""), 0, "nobody came for the schema");
    assert!(asks.load(Ordering::Relaxed) >= 2);
    house.neighbour_is_well();
}
