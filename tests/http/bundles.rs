//! Bundles and plugins served alone: each at its own path, with its own lists, sessions, cursors and news.

use serde_json::{Value, json};

use crate::legacy::{NEWEST, handshake, request};
use crate::support::{Http, Reply, Server, capable, eventually};

fn at(path: &str, mut http: Http) -> Http {
    http.head = format!("POST {path}");
    http
}

fn call(server: &Server, path: &str, method: &str, params: Value) -> Reply {
    at(path, Http::modern(method, params)).send(server.address)
}

fn names(server: &Server, path: &str, method: &str, key: &str) -> Vec<String> {
    let listed = call(server, path, method, json!({})).result();
    let names =
        listed[key].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned());
    names.collect()
}

fn tools(server: &Server, path: &str) -> Vec<String> {
    names(server, path, "tools/list", "tools")
}

fn text(reply: &Reply) -> String {
    reply.result()["content"][0]["text"].as_str().unwrap().to_owned()
}

#[test]
fn a_tool_is_listed_and_called_under_the_name_of_its_path() {
    let server = Server::start("bundled_server");
    let all = tools(&server, "/mcp");
    assert_eq!(all[..2], ["alpha__speak", "alpha__add"], "{all:?}");
    assert!(all[2].starts_with("alpha__odd_name_") && all[2].len() == 24, "{all:?}");
    assert!(all.contains(&"beta__danger".to_owned()) && !all.iter().any(|name| name == "alpha__danger"));
    let alone = tools(&server, "/mcp/alpha");
    assert_eq!(alone[..2], ["speak", "add"], "{alone:?}");
    assert!(!alone.contains(&"danger".to_owned()), "what is denied is denied here too");
    assert_eq!(tools(&server, "/mcp/few"), ["alpha__add", "alpha__touch", "alpha__ask"]);
    assert_eq!(names(&server, "/mcp/alpha", "prompts/list", "prompts"), ["hello"]);

    let said =
        |path: &str, name: &str| call(&server, path, "tools/call", json!({"name": name, "arguments": {}}));
    assert_eq!(text(&said("/mcp", "alpha__speak")), "say of alpha");
    assert_eq!(text(&said("/mcp/alpha", "speak")), "say of alpha");
    assert_eq!(text(&said("/mcp", &all[2])), "odd/name of alpha");
    assert_eq!(text(&said("/mcp/few", "alpha__add")), "add of alpha");
    for (path, name) in
        [("/mcp/few", "alpha__speak"), ("/mcp/few", "beta__add"), ("/mcp/alpha", "danger"), ("/mcp", "speak")]
    {
        let reply = said(path, name);
        assert_eq!((reply.status, reply.code()), (400, -32602), "{path} {name}: {}", reply.text());
    }
    // Metrics know a tool by one name, wherever it was called.
    let metrics = server.metrics();
    assert!(metrics.contains(r#"waygate_tool_duration_seconds_count{tool="alpha__speak"} 2"#), "{metrics}");
    assert!(!metrics.contains(r#"tool="speak""#), "{metrics}");
}

#[test]
fn what_the_operator_says_of_a_tool_stands_in_its_definition() {
    let server = Server::start("bundled_server");
    let listed = call(&server, "/mcp", "tools/list", json!({})).result();
    let speak = &listed["tools"][0];
    assert_eq!(
        (&speak["description"], &speak["annotations"]),
        (&json!("Speaks"), &json!({"readOnlyHint": true}))
    );
    let reply = call(&server, "/mcp", "tools/call", json!({"name": "alpha__slow", "arguments": {}}));
    assert_eq!((reply.status, reply.code()), (504, -31504), "{}", reply.text());
    assert!(reply.text().contains("within 1 s"), "{}", reply.text());
}

#[test]
fn each_path_says_what_it_is_for() {
    let server = Server::start("bundled_server");
    let says =
        |path: &str| call(&server, path, "server/discover", json!({})).result()["instructions"].clone();
    assert_eq!(says("/mcp"), "alpha: All about alpha.\n\nbeta: All about beta.");
    assert_eq!(says("/mcp/alpha"), "All about alpha.");
    assert_eq!(says("/mcp/few"), "A few of them.");
    let hello = at("/mcp/few", Http::post(handshake(NEWEST, json!({})).to_string())).send(server.address);
    assert_eq!(hello.result()["instructions"], "A few of them.");
}

#[test]
fn an_unknown_bundle_is_not_found_by_any_method_and_tells_of_no_other() {
    let server = Server::start("bundled_server");
    // The plugin beta is not served alone, and the bundle of its name is not served at all.
    for path in ["/mcp/nobody", "/mcp/beta", "/mcp/%2e%2e", "/mcp/Alpha"] {
        let post = call(&server, path, "tools/list", json!({}));
        let hello = at(path, Http::post(handshake(NEWEST, json!({})).to_string())).send(server.address);
        let mut get = Http::get(path).header("Accept", "text/event-stream").header("Mcp-Session-Id", "x");
        let got = get.send(server.address);
        get = Http::get(path).header("Mcp-Session-Id", "x");
        get.head = format!("DELETE {path}");
        let deleted = get.send(server.address);
        for reply in [post, hello, got, deleted] {
            assert_eq!((reply.status, reply.code()), (404, -31404), "{path}: {}", reply.text());
            assert!(!reply.text().contains("few") && !reply.text().contains("plain"), "{}", reply.text());
        }
    }
    let (_, bundles) = server.get("/bundles");
    assert_eq!(bundles["refused"][0]["name"], "beta", "{bundles}");
    assert!(bundles["refused"][0]["why"].as_str().unwrap().contains("a plugin has its name"), "{bundles}");
}

#[test]
fn names_that_meet_in_a_plain_bundle_are_refused_to_the_second_with_both_owners_named() {
    let server = Server::start("bundled_server");
    let plain = tools(&server, "/mcp/plain");
    assert_eq!(plain.iter().filter(|name| *name == "add").count(), 1, "{plain:?}");
    let said = call(&server, "/mcp/plain", "tools/call", json!({"name": "add", "arguments": {}}));
    assert_eq!(text(&said), "add of alpha", "the first in the order of all plugins has it");
    let (_, shown) = server.get("/bundles/plain");
    let refused = shown["refused"].as_array().unwrap();
    let add = refused.iter().filter_map(Value::as_str).find(|why| why.contains(r#""add""#)).unwrap();
    assert!(add.contains(r#""alpha""#) && add.contains(r#""beta""#), "{add}");
    assert_eq!(shown["missing"], json!(["gamma"]));
    assert_eq!((&shown["kind"], &shown["path"]), (&json!("bundle"), &json!("/mcp/plain")));
    assert!(shown["tokens"].as_u64().unwrap() > 0 && shown["toolCount"].as_u64().unwrap() > 0, "{shown}");
    assert_eq!(server.get("/bundles/nobody").0, 404);
}

#[test]
fn a_session_a_cursor_and_a_request_state_belong_to_their_path() {
    let server = Server::with("bundled_server", &[("WAYGATE_MCP_PAGE_SIZE", "2")]);
    // Cursors.
    let first = call(&server, "/mcp/alpha", "tools/list", json!({})).result();
    let cursor = json!({"cursor": first["nextCursor"]});
    assert_eq!(call(&server, "/mcp/alpha", "tools/list", cursor.clone()).status, 200);
    for path in ["/mcp", "/mcp/few"] {
        assert_eq!(call(&server, path, "tools/list", cursor.clone()).code(), -32602, "{path}");
    }
    // Sessions.
    let hello = at("/mcp/few", Http::post(handshake(NEWEST, json!({})).to_string())).send(server.address);
    let id = hello.header("mcp-session-id").unwrap().to_owned();
    let list = |path: &str| {
        let body = request(2, "tools/list", json!({})).to_string();
        at(path, Http::post(body)).header("Mcp-Session-Id", &id).send(server.address)
    };
    assert_eq!(list("/mcp/few").result()["tools"][0]["name"], "alpha__add");
    for path in ["/mcp", "/mcp/alpha"] {
        assert_eq!(list(path).status, 404, "{path}");
    }
    // Request states.
    let ask = |path: &str, state: Option<Value>| {
        let mut params = json!({"name": "alpha__ask", "arguments": {}, "_meta": capable()});
        if let Some(state) = state {
            params["requestState"] = state;
            params["inputResponses"] = json!({"name": {"action": "accept", "content": {"name": "x"}}});
        }
        call(&server, path, "tools/call", params)
    };
    let state = ask("/mcp/few", None).result()["requestState"].clone();
    assert!(state.is_string());
    let elsewhere = ask("/mcp", Some(state.clone()));
    assert_eq!(elsewhere.code(), -32602, "{}", elsewhere.text());
    assert_eq!(text(&ask("/mcp/few", Some(state))), "ask of alpha");
}

#[test]
fn who_listens_at_a_path_hears_of_changes_of_its_own_lists_alone() {
    let server = Server::start("bundled_server");
    let listen = |path: &str| {
        let listen = json!({"notifications": {"toolsListChanged": true}});
        let mut open = at(path, Http::modern("subscriptions/listen", listen)).open(server.address);
        let first = open.event().expect("an acknowledgement");
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
        open
    };
    let touch = |plugin: &str| {
        let name = format!("{plugin}__touch");
        call(&server, "/mcp", "tools/call", json!({"name": name, "arguments": {}})).result();
        eventually("the change is published", || {
            server
                .metrics()
                .contains(&format!(r#"tool_definition_changes_total{{plugin="{plugin}"}} 8"#))
                .then_some(())
        });
    };
    let (mut all, mut few, mut plain) = (listen("/mcp"), listen("/mcp/few"), listen("/mcp/plain"));
    touch("beta");
    assert_eq!(all.event().expect("news")["method"], "notifications/tools/list_changed");
    assert_eq!(server.get("/plugins/beta").1["definitionChanges"], 8);
    // In the plain bundle, too, are tools of beta's; in few there are none.
    assert_eq!(plain.event().expect("news")["method"], "notifications/tools/list_changed");
    let metric = || server.metric("waygate_stream_events_total");
    let before = metric();
    call(&server, "/mcp", "tools/call", json!({"name": "alpha__touch", "arguments": {}})).result();
    for open in [&mut all, &mut few, &mut plain] {
        assert_eq!(open.event().expect("news")["method"], "notifications/tools/list_changed");
    }
    // Few was told once: had it heard of beta, there would be one more.
    eventually("three were told", || (metric() >= before.map(|before| before + 3.0)).then_some(()));
    assert_eq!(metric(), before.map(|before| before + 3.0));
}

#[test]
fn a_uri_leads_to_the_first_that_lists_it_and_a_linked_one_to_who_linked_to_it() {
    let server = Server::start("bundled_server");
    let read = |path: &str, uri: &str| call(&server, path, "resources/read", json!({"uri": uri}));
    let text = |reply: &Reply| reply.result()["contents"][0]["text"].clone();
    assert_eq!(text(&read("/mcp", "both://note")), "both://note of alpha");
    assert_eq!(text(&read("/mcp", "beta://note")), "beta://note of beta");
    let (_, beta) = server.get("/plugins/beta");
    assert_eq!(beta["state"], "ready", "a URI named twice hurts nobody: {beta}");
    let refused = beta["refused"][0].as_str().unwrap();
    assert!(refused.contains("both://note") && refused.contains(r#""alpha""#), "{refused}");
    // Nobody lists it, but a tool's result names it.
    assert_eq!(read("/mcp", "beta://linked").code(), -32602);
    call(&server, "/mcp", "tools/call", json!({"name": "beta__link", "arguments": {}})).result();
    assert_eq!(text(&read("/mcp", "beta://linked")), "beta://linked of beta");
    assert_eq!(read("/mcp/few", "beta://linked").code(), -32602, "beta is not in this bundle");
    assert_eq!(text(&read("/mcp/few", "alpha://note")), "alpha://note of alpha");
}
