//! Calls that need their client: what is asked, what is carried between the rounds, and what is not believed.

use serde_json::{Value, json};

use crate::support::{Http, Reply, Server, capable, encoded};

/// A request of a client that can be asked for everything.
fn request(method: &str, mut params: Value) -> Http {
    params["_meta"] = capable();
    Http::modern(method, params)
}

fn ask(server: &Server, params: Value) -> Reply {
    request("tools/call", params).send(server.address)
}

fn answer(name: &str) -> Value {
    json!({"name": {"action": "accept", "content": {"name": name}}})
}

/// A result that asks; gives its state.
#[track_caller]
fn asked(reply: &Reply) -> String {
    let result = reply.result();
    assert_eq!(result["resultType"], "input_required", "{result}");
    assert!(
        result.get("ttlMs").is_none() && result.get("cacheScope").is_none(),
        "never to be cached: {result}"
    );
    assert!(result.get("content").is_none() && result.get("isError").is_none(), "{result}");
    assert!(result["_meta"]["io.modelcontextprotocol/serverInfo"].is_object(), "{result}");
    result["requestState"].as_str().expect("a state").to_owned()
}

/// A state that is not believed.
#[track_caller]
fn refused(reply: &Reply) {
    assert_eq!((reply.status, reply.code()), (400, -32602), "{}", reply.text());
    assert!(reply.text().contains("requestState"), "{}", reply.text());
}

#[test]
fn a_tool_asks_and_greets_whoever_answers() {
    let server = Server::shared();
    let params = json!({"name": "ask", "arguments": {"city": "Bonn"}});
    let first = ask(&server, params.clone());
    let state = asked(&first);
    let requests = first.result()["inputRequests"].clone();
    assert_eq!(requests["name"]["method"], "elicitation/create");
    assert_eq!(requests["name"]["params"]["mode"], "form");
    assert!(requests["name"].get("id").is_none() && requests["name"].get("jsonrpc").is_none());
    let mut retry = params;
    retry["inputResponses"] = answer("Ada");
    retry["requestState"] = json!(state);
    let result = ask(&server, retry).result();
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["content"][0]["text"], "Hello, Ada of Bonn!");
}

#[test]
fn prompts_and_resources_may_ask_too_and_nothing_else() {
    let server = Server::shared();
    for (method, params) in
        [("prompts/get", json!({"name": "prompt_asks"})), ("resources/read", json!({"uri": "test://asks"}))]
    {
        let state = asked(&request(method, params.clone()).send(server.address));
        let mut retry = params;
        retry["inputResponses"] = answer("Ada");
        retry["requestState"] = json!(state);
        let done = request(method, retry).send(server.address).result();
        assert!(done.to_string().contains("Ada"), "{done}");
        assert_eq!(done["resultType"], "complete");
    }
    let complete =
        json!({"ref": {"type": "ref/prompt", "name": "greeting"}, "argument": {"name": "who", "value": ""}});
    let reply = request("completion/complete", complete).send(server.address);
    assert_eq!((reply.status, reply.code()), (500, -32603), "a completion may not ask: {}", reply.text());
}

#[test]
fn a_state_that_was_changed_is_refused() {
    let server = Server::shared();
    let state = asked(&ask(&server, json!({"name": "ask"})));
    let with = |state: Value| {
        ask(&server, json!({"name": "ask", "inputResponses": answer("Ada"), "requestState": state}))
    };
    assert_eq!(with(json!(state)).status, 200);
    for at in (0..state.len()).step_by(7) {
        let mut changed = state.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        refused(&with(json!(String::from_utf8(changed).expect("text"))));
    }
    for wrong in [
        String::new(),
        "x".to_owned(),
        state[1..].to_owned(),
        state[..state.len() - 1].to_owned(),
        format!("{state}{state}"),
        format!(" {state}"),
        encoded(&state),
        "A".repeat(100_000),
    ] {
        refused(&with(json!(wrong)));
    }
    for wrong in [json!(7), json!({}), json!([state.clone()])] {
        refused(&with(wrong));
    }
}

#[test]
fn a_state_belongs_to_its_request_alone() {
    let server = Server::shared();
    let state = asked(&ask(&server, json!({"name": "ask", "arguments": {"city": "Bonn"}})));
    let retry = |method: &str, mut params: Value| {
        params["inputResponses"] = answer("Ada");
        params["requestState"] = json!(state);
        request(method, params).send(server.address)
    };
    refused(&retry("tools/call", json!({"name": "ask", "arguments": {"city": "Rome"}})));
    refused(&retry("tools/call", json!({"name": "ask", "arguments": {}})));
    refused(&retry("tools/call", json!({"name": "ask"})));
    refused(&retry("tools/call", json!({"name": "ask_forever", "arguments": {"city": "Bonn"}})));
    refused(&retry("prompts/get", json!({"name": "prompt_asks", "arguments": {"city": "Bonn"}})));
    refused(&retry("resources/read", json!({"uri": "test://asks"})));
    // The same arguments in other white space are the same.
    assert_eq!(retry("tools/call", json!({"name": "ask", "arguments": {"city": "Bonn"}})).status, 200);
}

#[test]
fn a_state_belongs_to_its_caller_alone() {
    let (ours, theirs) = ("a-key-of-ours-that-is-long-enough-0", "a-key-of-theirs-that-is-long-enough");
    let sealing = ("WAYGATE_SEALING_KEY", "a-sealing-key-that-both-of-them-share");
    let start = |key: &str| Server::with("faulty_server", &[sealing, ("WAYGATE_API_KEY", key)]);
    let (first, second) = (start(ours), start(theirs));
    let state =
        asked(&request("tools/call", json!({"name": "ask"})).header("X-API-Key", ours).send(first.address));
    let retry =
        request("tools/call", json!({"name": "ask", "inputResponses": answer("Ada"), "requestState": state}));
    refused(&retry.clone().header("X-API-Key", theirs).send(second.address));
    assert_eq!(retry.header("X-API-Key", ours).send(first.address).status, 200);
}

#[test]
fn a_replica_with_the_same_sealing_key_goes_on_where_the_first_asked() {
    let key = ("WAYGATE_SEALING_KEY", "a-sealing-key-that-both-of-them-share");
    let (first, second) = (Server::with("faulty_server", &[key]), Server::with("faulty_server", &[key]));
    let stranger = Server::start("faulty_server");
    let state = asked(&ask(&first, json!({"name": "ask"})));
    let retry = json!({"name": "ask", "inputResponses": answer("Ada"), "requestState": state});
    assert_eq!(ask(&second, retry.clone()).result()["content"][0]["text"], "Hello, Ada of nowhere!");
    refused(&ask(&stranger, retry));
}

#[test]
fn a_restart_on_the_same_folder_goes_on_where_it_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::on("faulty_server", folder.path(), &[]);
    let state = asked(&ask(&server, json!({"name": "ask"})));
    drop(server);
    let server = Server::on("faulty_server", folder.path(), &[]);
    let retry = json!({"name": "ask", "inputResponses": answer("Ada"), "requestState": state});
    assert_eq!(ask(&server, retry).result()["content"][0]["text"], "Hello, Ada of nowhere!");
}

#[test]
fn a_state_expires() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_INPUT_TIMEOUT_SECONDS", "1")]);
    let state = asked(&ask(&server, json!({"name": "ask"})));
    let retry = json!({"name": "ask", "inputResponses": answer("Ada"), "requestState": state});
    let late = crate::support::eventually("the state expires", || {
        let reply = ask(&server, retry.clone());
        (reply.status != 200).then_some(reply)
    });
    refused(&late);
    assert!(late.text().contains("without `requestState`"), "it says how to begin anew: {}", late.text());
}

#[test]
fn what_was_not_answered_is_asked_again() {
    let server = Server::shared();
    let state = asked(&ask(&server, json!({"name": "ask"})));
    for responses in [
        json!({}),
        json!({"other": {"action": "accept", "content": {"name": "Ada"}}}),
        json!({"name": {"action": "accept"}}),
        json!({"name": {"action": "accept", "content": {"name": 7}}}),
        json!({"name": {"action": "accept", "content": "Ada"}}),
        json!({"name": {"action": "nonsense", "content": {"name": "Ada"}}}),
        json!({"name": "Ada"}),
        json!({"name": null}),
        json!({"name": []}),
    ] {
        let retry = json!({"name": "ask", "inputResponses": responses, "requestState": state});
        let again = asked(&ask(&server, retry));
        assert_ne!(again, state, "each round has a state of its own");
    }
    asked(&ask(&server, json!({"name": "ask", "requestState": state})));
}

#[test]
fn answers_that_are_no_map_are_refused() {
    let server = Server::shared();
    let state = asked(&ask(&server, json!({"name": "ask"})));
    for responses in [json!(null), json!(7), json!("x"), json!([]), json!([answer("Ada")])] {
        let retry = json!({"name": "ask", "inputResponses": responses, "requestState": state});
        let reply = ask(&server, retry);
        assert_eq!((reply.status, reply.code()), (400, -32602), "{responses}: {}", reply.text());
    }
}

#[test]
fn more_than_was_asked_does_no_harm_and_a_refusal_is_heard() {
    let server = Server::shared();
    let state = asked(&ask(&server, json!({"name": "ask"})));
    let retry = |responses: Value| {
        ask(&server, json!({"name": "ask", "inputResponses": responses, "requestState": state}))
    };
    let mut more = answer("Ada");
    more["unasked"] = json!({"action": "accept", "content": {"x": 1}});
    assert_eq!(retry(more).result()["content"][0]["text"], "Hello, Ada of nowhere!");
    for action in ["decline", "cancel"] {
        assert_eq!(retry(json!({"name": {"action": action}})).result()["isError"], true);
    }
}

#[test]
fn each_round_has_its_own_key_and_state_and_the_server_remembers_nothing() {
    let server = Server::shared();
    let mut states = Vec::new();
    let mut params = json!({"name": "ask_forever"});
    for round in 1..=5 {
        let reply = ask(&server, params.clone());
        let state = asked(&reply);
        let key = format!("step{round}");
        assert!(reply.result()["inputRequests"][&key].is_object(), "{}", reply.text());
        assert!(!states.contains(&state));
        params["inputResponses"] = json!({key: {"action": "accept", "content": {"name": "Ada"}}});
        params["requestState"] = json!(state);
        states.push(state);
    }
    // An older round may be taken up again: its state says all.
    params["requestState"] = json!(states[1]);
    assert!(ask(&server, params).result()["inputRequests"]["step3"].is_object());
    // Nobody can read in it what the plugin keeps there.
    assert!(states.iter().all(|state| !state.contains("round") && !state.contains("anonymous")));
}

#[test]
fn a_call_may_only_want_to_be_called_again() {
    let server = Server::shared();
    let first = ask(&server, json!({"name": "come_back"}));
    let state = asked(&first);
    assert!(first.result().get("inputRequests").is_none());
    let again = ask(&server, json!({"name": "come_back", "requestState": state}));
    assert_eq!(again.result()["content"][0]["text"], "back again");
}

#[test]
fn nothing_is_asked_that_the_request_did_not_declare() {
    let server = Server::shared();
    let with = |capabilities: Value, tool: &str| {
        let mut params = json!({"name": tool, "_meta": capable()});
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
        server.call("tools/call", params)
    };
    for (capabilities, tool, required) in [
        (json!({}), "ask", json!({"elicitation": {"form": {}}})),
        (json!({"elicitation": {"url": {}}}), "ask", json!({"elicitation": {"form": {}}})),
        (json!({"sampling": {}}), "ask", json!({"elicitation": {"form": {}}})),
        (json!({"elicitation": {}}), "ask_sampling", json!({"sampling": {}})),
    ] {
        let reply = with(capabilities.clone(), tool);
        assert_eq!((reply.status, reply.code()), (400, -32021), "{capabilities}: {}", reply.text());
        assert_eq!(reply.json()["error"]["data"]["requiredCapabilities"], required);
    }
    for (capabilities, tool) in [
        (json!({"elicitation": {}}), "ask"),
        (json!({"elicitation": {"form": {}}}), "ask"),
        (json!({"elicitation": {"form": {}, "url": {}}}), "ask"),
        (json!({"sampling": {"tools": {}}}), "ask_sampling"),
        (json!({}), "come_back"),
    ] {
        asked(&with(capabilities, tool));
    }
    // It is not remembered from a request that did.
    assert_eq!(with(json!({}), "ask").code(), -32021);
}

#[test]
fn a_call_that_asks_never_asks_on_the_stream_itself() {
    let server = Server::shared();
    let mut meta = capable();
    meta["progressToken"] = json!(1);
    meta["io.modelcontextprotocol/logLevel"] = json!("debug");
    let reply = server.call("tools/call", json!({"name": "ask", "_meta": meta}));
    assert!(reply.events().iter().all(|event| event.get("method").is_none() || event.get("id").is_none()));
    asked(&reply);
}
