//! Calls: what a tool, prompt, resource or completion is given, and what becomes of its answer.

use serde_json::{Value, json};

use crate::support::{Http, Reply, Server, message};

fn call(server: &Server, tool: &str, arguments: Value) -> Reply {
    Http::tool(tool, arguments).send(server.address)
}

/// A tool's failure: a result that a model can read.
#[track_caller]
fn failed(reply: &Reply) -> String {
    let result = reply.result();
    assert_eq!((&result["isError"], &result["resultType"]), (&json!(true), &json!("complete")), "{result}");
    result["content"][0]["text"].as_str().expect("it says why").to_owned()
}

/// Our fault, or a plugin's: the cause stays in the log.
#[track_caller]
fn our_fault(reply: &Reply, status: u16, code: i64) {
    assert_eq!((reply.status, reply.code()), (status, code), "{}", reply.text());
    let error = &reply.json()["error"];
    assert!(error["data"]["requestId"].is_string() && error["data"]["advice"].is_string(), "{error}");
    for secret in ["swordfish", "panicked", "as it was asked", "structuredContent", "src/"] {
        assert!(!reply.text().contains(secret), "{}", reply.text());
    }
}

#[test]
fn arguments_that_do_not_fit_are_a_result_that_says_how_to_mend_them() {
    let server = Server::shared();
    for (tool, arguments, says) in [
        ("structured", json!({}), "n"),
        ("structured", json!({"n": "one"}), "/n"),
        ("structured", json!({"n": 1.5}), "/n"),
        ("sleep", json!({"ms": -1}), "/ms"),
        ("sleep", json!({"unheard": 1}), "unheard"),
        ("strict_schema", json!({"kind": "cube"}), "/kind"),
        ("strict_schema", json!({"kind": "box"}), "size"),
        ("strict_schema", json!({"kind": "ball", "size": 0}), "/size"),
        ("strict_schema", json!({"kind": "ball", "pair": ["a", "b"]}), "/pair/1"),
        ("strict_schema", json!({"kind": "ball", "pair": ["a", 1, 2]}), "/pair"),
        ("strict_schema", json!({"kind": "ball", "extra": 1}), "extra"),
    ] {
        let why = failed(&call(&server, tool, arguments.clone()));
        assert!(why.contains(says) && why.contains(tool), "{tool} {arguments}: {why}");
    }
    for arguments in [json!({"kind": "box", "size": 1}), json!({"kind": "ball", "pair": ["a", 1]})] {
        assert_eq!(server.tool("strict_schema", arguments)["isError"], Value::Null);
    }
    assert_eq!(server.tool("structured", json!({"n": 1.0}))["isError"], Value::Null, "1.0 is an integer");
}

#[test]
fn a_refusal_does_not_repeat_a_huge_argument() {
    let server = Server::shared();
    let why = failed(&call(&server, "structured", json!({"n": "x".repeat(1_000_000)})));
    assert!(why.len() < 2000, "{} bytes", why.len());
}

#[test]
fn arguments_that_are_large_for_their_schema_are_checked_all_the_same() {
    let server = Server::shared();
    let many = vec![1; 1_000_000];
    let why = failed(&call(&server, "strict_schema", json!({"kind": "ball", "extra": many})));
    assert!(why.contains("extra"), "{why}");
    let large = server.tool("repeat", json!({"many": many}));
    assert_eq!(large["isError"], Value::Null);
}

#[test]
fn arguments_may_be_left_out_and_are_an_object_when_they_are_there() {
    let server = Server::shared();
    let without = server.call("tools/call", json!({"name": "repeat"})).result();
    assert_eq!(without["content"][0]["text"], "{}");
    for arguments in [json!([]), json!("x"), json!(1), json!(true)] {
        for (method, name) in [("tools/call", "repeat"), ("prompts/get", "greeting")] {
            let reply = server.call(method, json!({"name": name, "arguments": arguments}));
            assert_eq!((reply.status, reply.code()), (400, -32602), "{method} {arguments}");
        }
    }
}

#[test]
fn what_is_not_there_is_an_error_that_names_it() {
    let server = Server::shared();
    for (method, params, name) in [
        ("tools/call", json!({"name": "no_such"}), "no_such"),
        ("tools/call", json!({"name": "REPEAT"}), "REPEAT"),
        ("tools/call", json!({"name": ""}), "tool"),
        ("tools/call", json!({"name": "greeting"}), "greeting"),
        ("prompts/get", json!({"name": "no_such"}), "no_such"),
        ("resources/read", json!({"uri": "test://no_such"}), "test://no_such"),
        ("resources/read", json!({"uri": "test://item/missing"}), "test://item/missing"),
        ("resources/read", json!({"uri": "../../etc/passwd"}), "../../etc/passwd"),
    ] {
        let reply = server.call(method, params.clone());
        assert_eq!((reply.status, reply.code()), (400, -32602), "{method} {params}: {}", reply.text());
        assert!(reply.json()["error"]["message"].as_str().is_some_and(|says| says.contains(name)));
        if method == "resources/read" {
            assert_eq!(reply.json()["error"]["data"]["uri"], params["uri"]);
        }
    }
}

#[test]
fn a_failed_tool_is_a_result_and_a_failed_plugin_is_an_error_without_its_secrets() {
    let server = Server::shared();
    assert_eq!(failed(&call(&server, "fail", json!({}))), "it did not work");
    let refuse = |kind: &str| call(&server, "refuse", json!({"kind": kind}));
    our_fault(&refuse("failed"), 500, -32603);
    our_fault(&refuse("unavailable"), 503, -31503);
    assert_eq!(refuse("unavailable").header("retry-after"), Some("1"));
    assert_eq!((refuse("unknown").status, refuse("unknown").code()), (400, -32602));
    let invalid = refuse("invalid");
    assert_eq!((invalid.status, invalid.code()), (400, -32602));
    assert!(invalid.text().contains("that is wrong"), "the caller's fault is told");
    let lacks = refuse("capability");
    assert_eq!((lacks.status, lacks.code()), (400, -32021));
    assert_eq!(lacks.json()["error"]["data"]["requiredCapabilities"], json!({"sampling": {}}));
}

#[test]
fn a_panic_costs_its_own_call_only_and_its_cause_is_in_the_log() {
    let server = Server::start("faulty_server");
    our_fault(&call(&server, "panic", json!({})), 500, -32603);
    our_fault(&call(&server, "panic_blocking", json!({})), 500, -32603);
    server.tool("repeat", json!({}));
    let reply = call(&server, "panic", json!({}));
    let id = reply.json()["error"]["data"]["requestId"].as_str().expect("an id").to_owned();
    let (_, errors) = server.get("/diagnostics/errors");
    let noted =
        errors["errors"].as_array().and_then(|all| all.iter().find(|one| one["requestId"] == *id)).cloned();
    assert!(noted.expect("noted").to_string().contains("as it was asked to"));
}

#[test]
fn a_call_past_its_deadline_is_answered_with_504() {
    let server = Server::with("faulty_server", &[("WAYGATE_TIMEOUT", "1")]);
    let calls = ["hang", "hang_blocking"].map(|tool| Http::tool(tool, json!({})).open(server.address));
    for open in calls {
        our_fault(&open.finish(), 504, -31504);
    }
    server.tool("repeat", json!({}));
}

#[test]
fn nonsense_of_a_plugin_never_reaches_a_client() {
    let server = Server::shared();
    for kind in ["no_object", "no_content", "structured", "unstructured", "asks_nothing"] {
        our_fault(&call(&server, "nonsense", json!({"kind": kind})), 500, -32603);
    }
    assert_eq!(server.tool("nonsense", json!({"kind": "none"}))["structuredContent"], json!({"n": 1}));
    our_fault(&server.call("prompts/get", json!({"name": "prompt_nonsense"})), 500, -32603);
    // Empty contents would say that a missing resource is there.
    our_fault(&server.call("resources/read", json!({"uri": "test://empty"})), 500, -32603);
}

#[test]
fn a_structured_result_is_repeated_as_text() {
    let server = Server::shared();
    let result = server.tool("structured", json!({"n": 7}));
    assert_eq!(result["structuredContent"], json!({"n": 7}));
    let text = result["content"][0]["text"].as_str().expect("text");
    assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), result["structuredContent"]);
}

#[test]
fn every_result_says_that_it_is_complete_and_who_made_it() {
    let server = Server::shared();
    let complete = json!({"ref": {"type": "ref/prompt", "name": "greeting"}, "argument": {"name": "style", "value": "f"}});
    for (method, params) in [
        ("tools/call", json!({"name": "repeat"})),
        ("prompts/get", json!({"name": "greeting", "arguments": {"who": "you"}})),
        ("resources/read", json!({"uri": "test://counter"})),
        ("completion/complete", complete),
    ] {
        let reply = server.call(method, params);
        let result = reply.result();
        assert_eq!(result["resultType"], "complete", "{method}");
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "faulty", "{method}");
        assert_eq!(reply.header("content-type"), Some("application/json"), "{method}");
        assert_eq!(result.get("ttlMs").is_some(), method == "resources/read", "{method}");
    }
}

#[test]
fn numbers_and_members_that_nobody_here_understands_pass_through_unchanged() {
    let server = Server::shared();
    let text = call(&server, "precise", json!({})).text();
    for part in [
        r#""big":123456789012345678901234567890"#,
        r#""small":1e-400"#,
        r#""_meta":{"example.org/deep":1.50}"#,
        r#""example.org/own":[1,2]"#,
        r#""unknown":true"#,
        r#""io.modelcontextprotocol/serverInfo""#,
        r#""resultType":"complete""#,
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let arguments = r#"{"big": 123456789012345678901234567890, "f": 1.50, "z": 1, "a": "\u00e4"}"#;
    let body = message("tools/call", json!({"name": "repeat", "arguments": "HERE"})).to_string();
    let request =
        Http { body: body.replace("\"HERE\"", arguments).into_bytes(), ..Http::tool("repeat", json!({})) };
    assert_eq!(request.send(server.address).result()["content"][0]["text"], arguments);
}

#[test]
fn the_trace_of_a_request_is_handed_on() {
    let server = Server::shared();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let who = |meta: Value| {
        let params = json!({"name": "whoami", "_meta": meta});
        server.call("tools/call", params).result()["structuredContent"].clone()
    };
    let traced = who(json!({"traceparent": parent, "tracestate": "a=1,b=2", "baggage": "k=v"}));
    assert_eq!(
        (&traced["traceparent"], &traced["tracestate"], &traced["baggage"]),
        (&json!(parent), &json!("a=1,b=2"), &json!("k=v"))
    );
    for bad in [json!("nonsense"), json!(7), json!("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01")]
    {
        assert_eq!(who(json!({"traceparent": bad}))["traceparent"], Value::Null);
    }
    assert_eq!(who(json!({}))["operator"], false);
    assert_eq!(who(json!({}))["caller"], who(json!({}))["caller"]);
}

#[test]
fn a_prompt_wants_its_required_arguments_as_strings() {
    let server = Server::shared();
    let get = |params: Value| server.call("prompts/get", params);
    let result = get(json!({"name": "greeting", "arguments": {"who": "Ada", "style": "formal"}})).result();
    assert_eq!(result["messages"][0]["content"]["text"], "Greet Ada.");
    for arguments in [json!({}), json!({"style": "formal"}), json!({"who": 7}), json!({"who": null})] {
        let reply = get(json!({"name": "greeting", "arguments": arguments}));
        assert_eq!((reply.status, reply.code()), (400, -32602), "{arguments}: {}", reply.text());
    }
    assert_eq!(get(json!({"name": "greeting"})).code(), -32602);
}

#[test]
fn a_resource_is_read_by_its_address_or_through_its_template() {
    let server = Server::shared();
    let read = |uri: &str| server.call("resources/read", json!({"uri": uri})).result();
    assert_eq!(
        read("test://item/7")["contents"][0],
        json!({"uri": "test://item/7", "mimeType": "text/plain", "text": "item 7"})
    );
    let counter = read("test://counter");
    assert!(counter["ttlMs"].is_u64() && counter["cacheScope"] == "private", "{counter}");
}

#[test]
fn completion_gives_at_most_a_hundred_values_and_says_how_many_there_are() {
    let server = Server::shared();
    let complete = |of: Value, name: &str, value: &str| {
        server.call("completion/complete", json!({"ref": of, "argument": {"name": name, "value": value}}))
    };
    let style = complete(json!({"type": "ref/prompt", "name": "greeting"}), "style", "fr").result();
    assert_eq!(style["completion"]["values"], json!(["friendly"]));
    let items = complete(json!({"type": "ref/resource", "uri": "test://item/{id}"}), "id", "").result();
    assert_eq!(items["completion"]["values"].as_array().map(Vec::len), Some(100));
    assert_eq!((&items["completion"]["total"], &items["completion"]["hasMore"]), (&json!(250), &json!(true)));
    for of in [
        json!({"type": "ref/prompt", "name": "no_such"}),
        json!({"type": "ref/resource", "uri": "test://no/{such}"}),
        json!({"type": "ref/tool", "name": "repeat"}),
        json!({"type": "ref/prompt"}),
        json!({}),
        json!("x"),
    ] {
        let reply = complete(of.clone(), "style", "");
        assert_eq!((reply.status, reply.code()), (400, -32602), "{of}: {}", reply.text());
    }
    for params in [
        json!({}),
        json!({"ref": {"type": "ref/prompt", "name": "greeting"}}),
        json!({"ref": {"type": "ref/prompt", "name": "greeting"}, "argument": {"name": "style"}}),
    ] {
        assert_eq!(server.call("completion/complete", params).code(), -32602);
    }
}
