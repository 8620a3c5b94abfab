//! What a session answers, in the words of its revision: lists, results and errors.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::legacy::{NEWEST, REVISIONS, Session, everything};
use crate::support::{Http, Reply, Server};

const COUNTER: &str = "test://counter";

#[track_caller]
fn refused(reply: &Reply, status: u16, code: i64) {
    assert_eq!((reply.status, reply.code()), (status, code), "{}", reply.text());
    assert!(reply.json()["error"]["message"].as_str().is_some_and(|says| !says.is_empty()));
}

/// A refusal inside a session: an answer like any other.
#[track_caller]
fn answered_with(reply: &Reply, code: i64) -> Value {
    refused(reply, 200, code);
    reply.json()["error"].clone()
}

#[test]
fn whatever_is_not_of_the_revision_is_an_unknown_method() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, everything());
        for method in ["subscriptions/listen", "tasks/list", "no/such", "", "Tools/List"] {
            let error = answered_with(&session.call(method, json!({})), -32601);
            assert!(error["message"].as_str().is_some_and(|says| says.contains(revision)), "{error}");
        }
        assert_eq!(session.call("ping", json!({})).result(), json!({}));
        // A notification that nobody knows is passed over.
        for method in ["notifications/roots/list_changed", "notifications/no_such", "x"] {
            assert_eq!(session.notify(method, json!({})).status, 202);
        }
    }
}

#[test]
fn a_ping_without_parameters_is_answered() {
    let server = Server::shared();
    let session = Session::newest(&server);
    for id in [json!("p"), json!(""), json!(0), json!(-7), json!(9_007_199_254_740_991_i64)] {
        let reply = session.post(&json!({"jsonrpc": "2.0", "id": id, "method": "ping"}));
        assert_eq!(reply.json(), json!({"jsonrpc": "2.0", "id": id, "result": {}}));
    }
}

#[test]
fn the_level_of_the_log_is_the_sessions_and_may_change() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let other = Session::newest(&server);
    let heard = |session: &Session| -> Vec<Value> {
        let mut stream = session.begin("logs", json!({}));
        let told = stream.rest();
        told.iter()
            .filter(|message| message["method"] == "notifications/message")
            .map(|message| message["params"]["level"].clone())
            .collect()
    };
    assert!(heard(&session).is_empty(), "nobody asked for a log");
    for (level, count) in [("debug", 8), ("error", 4), ("emergency", 1), ("info", 7)] {
        assert_eq!(session.call("logging/setLevel", json!({"level": level})).result(), json!({}));
        assert_eq!(heard(&session).len(), count, "{level}");
        assert!(heard(&other).is_empty(), "another session's level is its own");
    }
    for bad in [json!({}), json!({"level": "loud"}), json!({"level": 3}), json!({"level": "DEBUG"})] {
        answered_with(&session.call("logging/setLevel", bad), -32602);
    }
    assert_eq!(heard(&session).len(), 7, "a level that was refused changes nothing");
}

#[test]
fn what_is_unknown_has_the_code_of_the_older_revisions() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        for uri in ["test://no_such", "test://item/missing"] {
            let error = answered_with(&session.call("resources/read", json!({"uri": uri})), -32002);
            assert_eq!(error["data"]["uri"], uri, "{error}");
            assert!(error["message"].as_str().is_some_and(|says| says.contains(uri)));
        }
        answered_with(&session.tool("no_such", json!({})), -32602);
        answered_with(&session.call("prompts/get", json!({"name": "no_such"})), -32602);
        answered_with(&session.call("tools/list", json!({"cursor": "nonsense"})), -32602);
        answered_with(&session.call("resources/read", json!({})), -32602);
        answered_with(&session.call("prompts/get", json!({"name": "greeting", "arguments": {}})), -32602);
    }
}

#[test]
fn bad_arguments_are_told_to_models_since_2025_11_25_and_to_programs_before() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        let reply = session.tool("structured", json!({"n": "seven"}));
        if revision == NEWEST {
            let result = reply.result();
            assert_eq!(result["isError"], true);
            assert!(
                result["content"][0]["text"]
                    .as_str()
                    .is_some_and(|says| says.contains("seven") || says.contains("integer"))
            );
        } else {
            answered_with(&reply, -32602);
        }
    }
}

#[test]
fn a_tool_that_fails_says_so_and_what_fails_in_a_plugin_says_nothing_of_its_inside() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        assert_eq!(session.tool("fail", json!({})).result()["isError"], true);
        for (kind, code) in [("failed", -32603), ("invalid", -32602), ("unknown", -32602)] {
            let error = answered_with(&session.tool("refuse", json!({"kind": kind})), code);
            assert!(!error.to_string().contains("swordfish"), "{error}");
        }
        let error = session.tool("refuse", json!({"kind": "unavailable"})).json()["error"].clone();
        assert!(error["code"].is_i64() && !error.to_string().contains("swordfish"), "{error}");
        // A missing capability is something that a model can read.
        let result = session.tool("refuse", json!({"kind": "capability"})).result();
        assert!(result["isError"] == true && result.to_string().contains("sampling"), "{result}");
        answered_with(&session.tool("panic", json!({})), -32603);
    }
}

#[test]
fn arguments_are_completed_in_every_revision() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        let params = json!({"ref": {"type": "ref/prompt", "name": "greeting"},
                            "argument": {"name": "style", "value": "f"}});
        let result = session.call("completion/complete", params).result();
        assert_eq!(result["completion"]["values"], json!(["formal", "friendly"]));
        assert!(result.get("resultType").is_none());
        let params = json!({"ref": {"type": "ref/resource", "uri": "test://item/{id}"},
                            "argument": {"name": "id", "value": ""}, "context": {"arguments": {}}});
        let result = session.call("completion/complete", params).result();
        assert!(result["completion"]["values"].as_array().is_some_and(|values| values.len() <= 100));
        let unknown =
            json!({"ref": {"type": "ref/prompt", "name": "no_such"}, "argument": {"name": "a", "value": ""}});
        answered_with(&session.call("completion/complete", unknown), -32602);
        answered_with(&session.call("completion/complete", json!({})), -32602);
    }
}

/// The names of the members of the entry `name` of a list.
fn members(session: &Session, method: &str, key: &str, name: &str) -> BTreeSet<String> {
    let mut params = json!({});
    loop {
        let page = session.call(method, params).result();
        for foreign in ["ttlMs", "cacheScope", "resultType"] {
            assert!(page.get(foreign).is_none(), "{method}: {foreign}");
        }
        let entries = page[key].as_array().expect("a list");
        if let Some(entry) = entries.iter().find(|entry| entry["name"] == name) {
            return entry.as_object().expect("an entry").keys().cloned().collect();
        }
        params = json!({"cursor": page["nextCursor"].as_str().expect("it is on a later page")});
    }
}

#[test]
fn lists_lose_what_a_revision_does_not_know() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        let since = |first: &str| revision >= first;
        let has = |members: &BTreeSet<String>, member: &str, wanted: bool| {
            assert_eq!(members.contains(member), wanted, "{revision} {member}: {members:?}");
        };
        let tool = members(&session, "tools/list", "tools", "rich");
        has(&tool, "icons", since("2025-11-25"));
        has(&tool, "title", since("2025-06-18"));
        has(&tool, "_meta", since("2025-06-18"));
        has(&tool, "annotations", since("2025-03-26"));
        has(&tool, "inputSchema", true);
        let structured = members(&session, "tools/list", "tools", "structured");
        has(&structured, "outputSchema", since("2025-06-18"));
        for (method, key, name) in [
            ("prompts/list", "prompts", "rich"),
            ("resources/list", "resources", "empty"),
            ("resources/templates/list", "resourceTemplates", "item"),
        ] {
            let entry = members(&session, method, key, name);
            has(&entry, "icons", since("2025-11-25"));
            has(&entry, "title", since("2025-06-18"));
        }
    }
}

#[test]
fn results_say_in_text_what_a_revision_cannot_carry() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        let rich = session.tool("rich", json!({})).result();
        assert!(rich.get("structuredContent").is_none(), "no object, so no revision with sessions knows it");
        assert!(rich.get("resultType").is_none());
        let kinds = |blocks: &Value| -> Vec<String> {
            blocks.as_array().expect("blocks").iter().map(|block| block["type"].to_string()).collect()
        };
        let (audio, link) = match revision {
            "2024-11-05" => ("\"text\"", "\"text\""),
            "2025-03-26" => ("\"audio\"", "\"text\""),
            _ => ("\"audio\"", "\"resource_link\""),
        };
        assert_eq!(kinds(&rich["content"])[..2], [audio, link], "{revision}: {rich}");
        assert!(rich.to_string().contains(COUNTER), "the link is not lost: {rich}");
        let says_structure = rich["content"]
            .as_array()
            .unwrap()
            .iter()
            .any(|block| block["text"].as_str().is_some_and(|text| text.contains("\"one\"")));
        assert!(says_structure, "{revision}: {rich}");
        let object = session.tool("structured", json!({"n": 7})).result();
        let wanted = (revision >= "2025-06-18").then(|| json!({"n": 7}));
        assert_eq!(object.get("structuredContent"), wanted.as_ref(), "{revision}");
        assert_eq!(object["content"][0]["text"], r#"{"n":7}"#);
        let prompt = session.call("prompts/get", json!({"name": "rich"})).result();
        let spoken: Vec<String> = prompt["messages"]
            .as_array()
            .expect("messages")
            .iter()
            .map(|message| message["content"]["type"].to_string())
            .collect();
        assert_eq!(spoken, [audio, link], "{revision}: {prompt}");
    }
}

#[test]
fn what_nobody_must_round_is_not_rounded_for_older_clients() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let text = session.tool("precise", json!({})).text();
    for piece in ["123456789012345678901234567890", "1e-400", r#""example.org/deep":1.50"#] {
        assert!(text.contains(piece), "{text}");
    }
    let echoed = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"repeat","arguments":{"n":1.10,"big":12345678901234567890123}}}"#;
    let reply = session.request(&Value::Null);
    let reply = Http { body: echoed.as_bytes().to_vec(), ..reply }.send(server.address);
    assert_eq!(reply.result()["content"][0]["text"], r#"{"n":1.10,"big":12345678901234567890123}"#);
}

#[test]
fn a_body_that_is_no_message_is_refused_in_a_session_as_outside() {
    let server = Server::shared();
    let session = Session::newest(&server);
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        ("7", -32600),
        (r#"{"jsonrpc":"2.0"}"#, -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
    ] {
        let request = Http { body: body.as_bytes().to_vec(), ..session.request(&Value::Null) };
        refused(&request.send(server.address), 400, code);
    }
    session.call("ping", json!({})).result();
}

#[test]
fn an_answer_that_nobody_asked_for_is_refused() {
    let server = Server::shared();
    let session = Session::newest(&server);
    for answer in [
        json!({"jsonrpc": "2.0", "id": 1, "result": {}}),
        json!({"jsonrpc": "2.0", "id": 99, "error": {"code": -1, "message": "no"}}),
        json!({"jsonrpc": "2.0", "id": "1", "result": {}}),
        json!({"jsonrpc": "2.0", "id": 0, "result": {}}),
        json!({"jsonrpc": "2.0", "id": -1, "result": {}}),
    ] {
        refused(&session.post(&answer), 400, -32600);
    }
    session.call("ping", json!({})).result();
}
