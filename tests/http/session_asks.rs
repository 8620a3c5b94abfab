//! Calls that ask their client in the older revisions: requests on the stream of the call, answered by POST.

use serde_json::{Value, json};

use crate::legacy::{NEWEST, REVISIONS, Session, Stream, answer, everything, request};
use crate::support::{Server, eventually};

fn accept(name: &str) -> Value {
    json!({"action": "accept", "content": {"name": name}})
}

#[track_caller]
fn text(message: &Value) -> String {
    message["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("a text: {message}")).to_owned()
}

#[track_caller]
fn failed(message: &Value) -> String {
    assert_eq!(message["result"]["isError"], true, "{message}");
    text(message)
}

/// The error with which a call ends.
#[track_caller]
fn error(message: &Value, code: i64) -> String {
    assert_eq!(message["error"]["code"], code, "{message}");
    message["error"].to_string()
}

/// The last message, with no other before it than those that say that a question is void.
#[track_caller]
fn end(stream: &mut Stream) -> Value {
    let mut rest = stream.rest();
    let last = rest.pop().expect("an end");
    for message in rest {
        assert_eq!(message["method"], "notifications/cancelled", "{message}");
    }
    last
}

#[test]
fn a_form_is_asked_on_the_stream_of_the_call_and_answered_by_post() {
    let server = Server::shared();
    for revision in ["2025-06-18", NEWEST] {
        let session = Session::open(&server, revision, json!({"elicitation": {}}));
        let mut call = session.begin_as("c", "ask", json!({"city": "Bonn"}), json!({}));
        let ask = call.ask("elicitation/create");
        assert_eq!(ask["params"]["message"], "What is your name?");
        assert_eq!(ask["params"]["requestedSchema"]["properties"]["name"]["type"], "string");
        let mode = ask["params"].get("mode").and_then(Value::as_str);
        assert_eq!(mode, (revision == NEWEST).then_some("form"), "{revision}");
        assert!(ask["params"].get("_meta").is_none(), "{ask}");
        session.answer(&ask, accept("Ada"));
        let done = end(&mut call);
        assert_eq!((&done["id"], text(&done).as_str()), (&json!("c"), "Hello, Ada of Bonn!"));
        assert!(done["result"].get("resultType").is_none());
    }
}

#[test]
fn a_user_who_declines_is_a_result_and_not_an_error() {
    let server = Server::shared();
    let session = Session::newest(&server);
    for action in ["decline", "cancel"] {
        let mut call = session.begin("ask", json!({}));
        let ask = call.ask("elicitation/create");
        session.answer(&ask, json!({"action": action}));
        assert_eq!(failed(&end(&mut call)), "No name was given.");
    }
    // A client that cannot show the form after all.
    let mut call = session.begin("ask", json!({}));
    let ask = call.ask("elicitation/create");
    let reply = json!({"jsonrpc": "2.0", "id": ask["id"], "error": {"code": -32603, "message": "no screen"}});
    assert_eq!(session.post(&reply).status, 202);
    assert_eq!(failed(&end(&mut call)), "No name was given.");
}

#[test]
fn prompts_and_resources_ask_too() {
    let server = Server::shared();
    let session = Session::newest(&server);
    for (method, params) in
        [("prompts/get", json!({"name": "prompt_asks"})), ("resources/read", json!({"uri": "test://asks"}))]
    {
        let post = session.request(&request("q", method, params));
        let mut call = Stream::open(&post, server.address);
        let ask = call.ask("elicitation/create");
        session.answer(&ask, accept("Ada"));
        assert!(end(&mut call)["result"].to_string().contains("Ada"));
    }
}

#[test]
fn a_url_has_a_name_under_which_its_end_is_told() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let mut call = session.begin("ask_url", json!({}));
    let ask = call.ask("elicitation/create");
    assert_eq!(
        (&ask["params"]["mode"], &ask["params"]["url"]),
        (&json!("url"), &json!("https://example.com/sign-in"))
    );
    let name = ask["params"]["elicitationId"].as_str().expect("a name").to_owned();
    session.answer(&ask, json!({"action": "accept"}));
    let told = call.next();
    assert_eq!(told["method"], "notifications/elicitation/complete", "{told}");
    assert_eq!(told["params"]["elicitationId"], name);
    assert_eq!(text(&call.next()), "accept");
    // Two elicitations never share a name.
    let mut again = session.begin("ask_url", json!({}));
    let second = again.ask("elicitation/create");
    assert_ne!(second["params"]["elicitationId"], name);
    session.answer(&second, json!({"action": "decline"}));
    // Nothing ended where nothing was begun.
    assert_eq!(text(&again.next()), "decline");
}

#[test]
fn a_client_that_takes_no_stream_is_told_which_url_to_open() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let call = request(1, "tools/call", json!({"name": "ask_url", "arguments": {}}));
    let reply = session.request(&call).set("Accept", "application/json").send(server.address);
    assert_eq!((reply.status, reply.code()), (200, -32042), "{}", reply.text());
    let wanted = &reply.json()["error"]["data"]["elicitations"][0];
    assert_eq!((&wanted["mode"], &wanted["url"]), (&json!("url"), &json!("https://example.com/sign-in")));
    assert!(wanted["elicitationId"].is_string() && wanted["message"].is_string(), "{wanted}");
    // Anything else needs a stream.
    let call = request(1, "tools/call", json!({"name": "ask", "arguments": {}}));
    let reply = session.request(&call).set("Accept", "application/json").send(server.address);
    assert_eq!(reply.code(), -32600);
    assert!(reply.text().contains("text/event-stream"));
}

#[test]
fn the_model_is_asked_in_every_revision_and_given_tools_where_that_is_declared() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({"sampling": {"tools": {}}}));
        let mut call = session.begin("ask_sampling", json!({}));
        let ask = call.ask("sampling/createMessage");
        assert_eq!(ask["params"]["maxTokens"], 10);
        let says =
            json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "Something"}});
        session.answer(&ask, says);
        assert_eq!(text(&end(&mut call)), "Something");
        let mut call = session.begin("ask_model_with_tools", json!({}));
        if revision < NEWEST {
            assert!(failed(&end(&mut call)).contains("sampling"), "{revision} has no tools in sampling");
            continue;
        }
        let ask = call.ask("sampling/createMessage");
        assert_eq!(ask["params"]["tools"][0]["name"], "add");
        let uses = json!([{"type": "tool_use", "id": "t", "name": "add", "input": {}}]);
        session.answer(
            &ask,
            json!({"role": "assistant", "model": "m", "stopReason": "toolUse", "content": uses}),
        );
        assert!(text(&end(&mut call)).contains("tool_use"));
    }
    let plain = Session::open(&server, NEWEST, json!({"sampling": {}}));
    assert!(failed(&end(&mut plain.begin("ask_model_with_tools", json!({})))).contains("tools"));
}

#[test]
fn roots_are_asked_for_in_every_revision() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({"roots": {"listChanged": true}}));
        for home in ["file:///home/ada", "file:///home/bea"] {
            // Asked for anew each time: a client whose roots change need not say so.
            let mut call = session.begin("ask_roots", json!({}));
            let ask = call.ask("roots/list");
            session.answer(&ask, json!({"roots": [{"uri": home}]}));
            assert!(text(&end(&mut call)).contains(home));
            assert_eq!(session.notify("notifications/roots/list_changed", json!({})).status, 202);
        }
    }
}

#[test]
fn nothing_is_asked_that_was_not_declared_or_that_the_revision_does_not_know() {
    let server = Server::shared();
    let asks = ["ask", "ask_url", "ask_sampling", "ask_model_with_tools", "ask_roots", "ask_many"];
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        for tool in asks {
            let mut call = session.begin(tool, json!({}));
            let says = failed(&call.last_message());
            assert!(says.len() > 20, "a model must be able to read why: {says}");
        }
    }
    for revision in ["2024-11-05", "2025-03-26"] {
        let session = Session::open(&server, revision, everything());
        for tool in ["ask", "ask_url", "ask_many"] {
            assert!(failed(&session.begin(tool, json!({})).last_message()).contains("elicitation"));
        }
    }
    let session = Session::open(&server, "2025-06-18", everything());
    assert!(failed(&session.begin("ask_url", json!({})).last_message()).contains("url"));
    // An empty `elicitation` means forms.
    let session = Session::open(&server, NEWEST, json!({"elicitation": {}}));
    assert!(failed(&session.begin("ask_url", json!({})).last_message()).contains("url"));
}

#[test]
fn choices_are_asked_of_2025_06_18_in_its_own_words_and_read_back_in_ours() {
    let server = Server::shared();
    let new = Session::newest(&server);
    let mut call = new.begin("ask_choices", json!({}));
    let ask = call.ask("elicitation/create");
    let properties = &ask["params"]["requestedSchema"]["properties"];
    assert_eq!(properties["one"]["oneOf"][0]["title"], "Red");
    assert_eq!(properties["some"]["items"]["anyOf"][1]["const"], "g");
    let chosen = json!({"one": "r", "some": ["g", "r"]});
    new.answer(&ask, json!({"action": "accept", "content": chosen}));
    let said: Value = serde_json::from_str(&text(&end(&mut call))).expect("JSON");
    assert_eq!(said, chosen);
    let old = Session::open(&server, "2025-06-18", json!({"elicitation": {}}));
    let mut call = old.begin("ask_choices", json!({}));
    let ask = call.ask("elicitation/create");
    let plain = json!({"type": "string", "enum": ["r", "g"], "enumNames": ["Red", "Green"]});
    assert_eq!(ask["params"]["requestedSchema"]["properties"], json!({"one": plain, "some": plain}));
    old.answer(&ask, json!({"action": "accept", "content": {"one": "r", "some": "g"}}));
    let said: Value = serde_json::from_str(&text(&end(&mut call))).expect("JSON");
    assert_eq!(said, json!({"one": "r", "some": ["g"]}));
}

#[test]
fn several_things_are_asked_at_once_and_answered_in_any_order() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let mut call = session.begin("ask_many", json!({"n": 4}));
    let asks: Vec<Value> = (0..4).map(|_| call.ask("elicitation/create")).collect();
    for (n, ask) in asks.iter().enumerate().rev() {
        session.answer(ask, accept(&format!("name {n}")));
    }
    assert_eq!(text(&end(&mut call)), "name 0, name 1, name 2, name 3");
}

#[test]
fn several_rounds_are_one_call_whose_progress_rises() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let mut call = session.begin_as(7, "ask_times", json!({"n": 3}), json!({"progressToken": "p"}));
    let (mut far, mut ids) = (Vec::new(), Vec::new());
    let done = loop {
        let message = call.next();
        match message["method"].as_str() {
            Some("notifications/progress") => {
                assert_eq!(message["params"]["progressToken"], "p");
                far.push(message["params"]["progress"].as_f64().expect("a number"));
            }
            Some("elicitation/create") => {
                ids.push(message["id"].clone());
                session.answer(&message, accept("Ada"));
            }
            _ => break message,
        }
    };
    assert_eq!((&done["id"], text(&done).as_str()), (&json!(7), "asked 3 times"));
    assert_eq!(far, [0.0, 1.0, 2.0, 3.0]);
    ids.dedup();
    assert_eq!(ids.len(), 3, "each question has an id of its own");
}

#[test]
fn a_plugin_that_wants_nothing_but_to_be_called_again_is() {
    let server = Server::shared();
    let session = Session::open(&server, "2024-11-05", json!({}));
    assert_eq!(session.tool("come_back", json!({})).result()["content"][0]["text"], "back again");
}

#[test]
fn a_plugin_that_never_stops_asking_is_stopped() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let mut call = session.begin("ask_forever", json!({}));
    let mut rounds = 0;
    let last = loop {
        let message = call.next();
        if message["method"] != "elicitation/create" {
            break message;
        }
        rounds += 1;
        assert!(rounds <= 100, "it asks and asks");
        session.answer(&message, accept("Ada"));
    };
    error(&last, -32603);
    session.call("ping", json!({})).result();
}

#[test]
fn an_answer_of_the_wrong_shape_ends_the_call_and_says_why() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let wrong: [(&str, &[Value]); 3] = [
        ("ask", &[json!({}), json!({"action": "maybe"}), json!({"action": "accept", "content": "Ada"})]),
        ("ask_sampling", &[json!({}), json!({"role": "assistant"}), json!({"content": {"type": "text"}})]),
        ("ask_roots", &[json!({}), json!({"roots": "file:///"})]),
    ];
    for (tool, answers) in wrong {
        for wrong in answers {
            let mut call = session.begin(tool, json!({}));
            let ask = call.next();
            session.answer(&ask, wrong.clone());
            let says = error(&end(&mut call), -32600);
            assert!(says.contains("shape"), "{tool} {wrong}: {says}");
        }
    }
    // A form may be filled in with nonsense: the plugin asks again.
    let mut call = session.begin("ask", json!({}));
    let ask = call.ask("elicitation/create");
    session.answer(&ask, json!({"action": "accept", "content": {"name": 7}}));
    let again = call.ask("elicitation/create");
    assert_ne!(ask["id"], again["id"]);
    session.answer(&again, accept("Ada"));
    assert!(text(&end(&mut call)).contains("Ada"));
}

#[test]
fn a_client_that_refuses_to_sample_says_why_to_the_caller() {
    let server = Server::shared();
    let session = Session::newest(&server);
    for tool in ["ask_sampling", "ask_roots"] {
        let mut call = session.begin(tool, json!({}));
        let ask = call.next();
        let refusal =
            json!({"jsonrpc": "2.0", "id": ask["id"], "error": {"code": -1, "message": "not today"}});
        assert_eq!(session.post(&refusal).status, 202);
        assert!(error(&end(&mut call), -32600).contains("not today"));
    }
}

#[test]
fn a_doubled_answer_counts_once_and_a_foreign_one_not_at_all() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let other = Session::newest(&server);
    let mut call = session.begin("ask_times", json!({"n": 2}));
    let first = call.ask("elicitation/create");
    let foreign = other.post(&answer(&first, accept("Eve")));
    assert_eq!((foreign.status, foreign.code()), (400, -32600));
    let unknown = session.post(&answer(&json!({"id": first["id"].as_u64().unwrap() + 100}), accept("Eve")));
    assert_eq!((unknown.status, unknown.code()), (400, -32600));
    for _ in 0..3 {
        session.answer(&first, accept("Ada"));
    }
    let second = call.ask("elicitation/create");
    session.answer(&first, accept("late"));
    session.answer(&second, accept("Ada"));
    assert_eq!(text(&end(&mut call)), "asked 2 times");
}

#[test]
fn whoever_does_not_answer_in_time_is_told_and_a_late_answer_does_nothing() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_INPUT_TIMEOUT_SECONDS", "1")]);
    let session = Session::newest(&server);
    let mut call = session.begin("ask", json!({}));
    let ask = call.ask("elicitation/create");
    let void = call.next();
    assert_eq!(void["method"], "notifications/cancelled", "{void}");
    assert_eq!(void["params"]["requestId"], ask["id"]);
    let says = error(&call.next(), -31408);
    assert!(says.contains("input_timeout_seconds"), "{says}");
    assert!(call.message().is_none());
    session.answer(&ask, accept("late"));
    // People's time is not the plugin's: with the plugin's limit at 1 s, a person may take longer.
    let server = Server::with("faulty_server", &[("WAYGATE_TIMEOUT", "1")]);
    let session = Session::newest(&server);
    let mut call = session.begin("ask", json!({}));
    let ask = call.ask("elicitation/create");
    let slow = session.tool("sleep", json!({"ms": 60_000}));
    assert_eq!(slow.code(), -31504, "so long is the plugin's time");
    session.answer(&ask, accept("Ada"));
    assert!(text(&end(&mut call)).contains("Ada"));
}

#[test]
fn a_call_that_is_cancelled_while_it_asks_takes_its_question_back() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let mut call = session.begin_as("x", "ask", json!({}), json!({}));
    let ask = call.ask("elicitation/create");
    assert_eq!(session.notify("notifications/cancelled", json!({"requestId": "x"})).status, 202);
    let rest = call.rest();
    assert_eq!(rest.len(), 1, "no answer, but one question less: {rest:?}");
    assert_eq!(
        (&rest[0]["method"], &rest[0]["params"]["requestId"]),
        (&json!("notifications/cancelled"), &ask["id"])
    );
    session.answer(&ask, accept("late"));
    session.call("ping", json!({})).result();
}

#[test]
fn a_client_that_loses_its_stream_while_it_is_asked_answers_when_it_is_back() {
    let server = Server::shared();
    for revision in ["2025-06-18", NEWEST] {
        let session = Session::open(&server, revision, everything());
        let mut call = session.begin("ask", json!({"city": "Ulm"}));
        let ask = call.ask("elicitation/create");
        let last = call.last.clone().expect("events have ids");
        drop(call);
        let mut back = session.resume(&last);
        session.answer(&ask, accept("Ada"));
        assert_eq!(text(&back.next()), "Hello, Ada of Ulm!");
        assert!(back.message().is_none());
    }
    // Or first, and comes back only for the result; or never saw the question.
    let session = Session::newest(&server);
    let mut call = session.begin("ask", json!({"city": "Ulm"}));
    let first = call.event().expect("an event to come back with").id.expect("an id");
    let ask = call.ask("elicitation/create");
    drop(call);
    session.answer(&ask, accept("Bea"));
    let mut back = session.resume(&first);
    assert_eq!(back.ask("elicitation/create"), ask);
    assert_eq!(text(&back.next()), "Hello, Bea of Ulm!");
}

#[test]
fn a_client_that_leaves_for_good_while_it_is_asked_leaves_nothing_behind() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_INPUT_TIMEOUT_SECONDS", "1")]);
    let session = Session::newest(&server);
    for _ in 0..20 {
        session.begin("ask", json!({})).ask("elicitation/create");
    }
    eventually("nothing waits", || (server.metric("waygate_requests_in_flight") == Some(0.0)).then_some(()));
    session.end();
    eventually("no actor is left", || {
        let actors = server.get("/diagnostics/actors").1["actors"].clone();
        let left = actors.as_array()?.iter().any(|actor| actor["kind"] == "session");
        (!left).then_some(())
    });
}

#[test]
fn questions_of_several_calls_do_not_mix() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let mut calls: Vec<(String, Stream, Value)> = (0..8)
        .map(|n| {
            let mut call =
                session.begin_as(format!("c{n}"), "ask", json!({"city": format!("city {n}")}), json!({}));
            let ask = call.ask("elicitation/create");
            (format!("Hello, name {n} of city {n}!"), call, ask)
        })
        .collect();
    for (n, (_, _, ask)) in calls.iter().enumerate().rev() {
        session.answer(ask, accept(&format!("name {n}")));
    }
    for (n, (wanted, call, _)) in calls.iter_mut().enumerate() {
        let done = end(call);
        assert_eq!((&done["id"], text(&done)), (&json!(format!("c{n}")), wanted.clone()));
    }
}

#[test]
fn a_call_that_waits_for_a_person_takes_nobodys_place() {
    let settings = [("WAYGATE_PLUGINS_CONCURRENCY", "1"), ("WAYGATE_PLUGINS_QUEUE_MAX", "1")];
    let server = Server::with("faulty_server", &settings);
    let session = Session::newest(&server);
    let mut calls: Vec<(Stream, Value)> = (0..5)
        .map(|_| {
            let mut call = session.begin("ask", json!({}));
            let ask = call.ask("elicitation/create");
            (call, ask)
        })
        .collect();
    server.tool("repeat", json!({}));
    for (call, ask) in &mut calls {
        session.answer(ask, accept("Ada"));
        assert!(text(&end(call)).contains("Ada"));
    }
}

#[test]
fn more_questions_than_a_client_can_have_open_end_the_call_and_nothing_else() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let mut kept = session.begin("ask", json!({}));
    let ask = kept.ask("elicitation/create");
    let mut call = session.begin("ask_many", json!({"n": 5000}));
    let last = call.last_message();
    assert!(last["error"]["code"].is_i64(), "{last}");
    session.answer(&ask, accept("Ada"));
    assert!(text(&end(&mut kept)).contains("Ada"));
    let mut call = session.begin("ask_many", json!({"n": 2}));
    for _ in 0..2 {
        let ask = call.ask("elicitation/create");
        session.answer(&ask, accept("Ada"));
    }
    assert_eq!(text(&end(&mut call)), "Ada, Ada");
}
