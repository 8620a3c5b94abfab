//! Discovery and the lists: what is offered, page by page, always the same, always with its cache hints.

use serde_json::{Value, json};

use crate::support::{Http, MODERN, Server, eventually};

const LISTS: [(&str, &str); 4] = [
    ("tools/list", "tools"),
    ("prompts/list", "prompts"),
    ("resources/list", "resources"),
    ("resources/templates/list", "resourceTemplates"),
];

/// What every cacheable result must say.
#[track_caller]
fn has_hints(result: &Value) {
    assert_eq!(result["resultType"], "complete", "{result}");
    assert!(result["ttlMs"].as_u64().is_some(), "{result}");
    assert!(matches!(result["cacheScope"].as_str(), Some("public" | "private")), "{result}");
    let info = &result["_meta"]["io.modelcontextprotocol/serverInfo"];
    assert!(info["name"].is_string() && info["version"].is_string(), "{result}");
}

/// No member is null: what is absent is left out.
#[track_caller]
fn has_no_nulls(value: &Value) {
    match value {
        Value::Null => panic!("a null"),
        Value::Array(items) => items.iter().for_each(has_no_nulls),
        Value::Object(members) => members.values().for_each(has_no_nulls),
        _ => {}
    }
}

/// All pages of a list.
fn pages(server: &Server, method: &str) -> Vec<Value> {
    let mut pages = vec![server.call(method, json!({})).result()];
    while let Some(cursor) = pages.last().and_then(|page| page.get("nextCursor")).cloned() {
        assert!(cursor.is_string() && pages.len() < 1000);
        pages.push(server.call(method, json!({"cursor": cursor})).result());
    }
    pages
}

#[test]
fn discovery_says_what_is_served_and_by_whom() {
    let server = Server::shared();
    let result = server.call("server/discover", json!({})).result();
    has_hints(&result);
    has_no_nulls(&result);
    assert_eq!(result["supportedVersions"], json!([MODERN]));
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "faulty");
    assert!(result.get("serverInfo").is_none(), "that was a draft");
    assert!(result["instructions"].as_str().is_some_and(|text| text.contains("of use but to tests")));
    let offers = &result["capabilities"];
    assert_eq!(offers["tools"]["listChanged"], true);
    assert_eq!(offers["prompts"]["listChanged"], true);
    assert_eq!(offers["resources"], json!({"listChanged": true, "subscribe": true}));
    assert!(offers["completions"].is_object() && offers["logging"].is_object(), "{offers}");
}

#[test]
fn what_is_promised_is_served_even_where_nothing_is_offered() {
    let server = Server::start("echo");
    let offers = server.call("server/discover", json!({})).result()["capabilities"].clone();
    let complete =
        json!({"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "a", "value": ""}});
    for (capability, method, params) in [
        ("tools", "tools/list", json!({})),
        ("prompts", "prompts/list", json!({})),
        ("prompts", "prompts/get", json!({"name": "x"})),
        ("resources", "resources/list", json!({})),
        ("resources", "resources/templates/list", json!({})),
        ("resources", "resources/read", json!({"uri": "x:y"})),
        ("completions", "completion/complete", complete),
    ] {
        let reply = server.call(method, params);
        // What is not promised must not be there either.
        let promised = offers[capability].is_object();
        assert_eq!(promised, reply.code() != -32601, "{method}: {}", reply.text());
        assert!(matches!(reply.code(), 0 | -32601 | -32602), "{method}: {}", reply.text());
    }
}

#[test]
fn a_list_comes_in_pages_that_join_without_a_gap() {
    let server = Server::shared();
    let pages = pages(&server, "tools/list");
    assert_eq!(pages.len(), 3);
    for page in &pages {
        has_hints(page);
        has_no_nulls(page);
        assert_eq!(page["cacheScope"], pages[0]["cacheScope"], "one scope for all pages");
    }
    assert_eq!(pages[0]["tools"].as_array().map(Vec::len), Some(100));
    let names: Vec<&str> = pages
        .iter()
        .flat_map(|page| page["tools"].as_array().expect("tools"))
        .map(|tool| tool["name"].as_str().expect("a name"))
        .collect();
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    for n in 0..250 {
        assert!(names.contains(&format!("tool_{n:03}").as_str()), "{n}");
    }
    let many: Vec<_> = names.iter().filter(|name| name.starts_with("tool_")).collect();
    assert!(many.is_sorted());
}

#[test]
fn lists_are_the_same_every_time_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = |server: &Server| LISTS.map(|(method, _)| pages(server, method));
    let server = Server::on("faulty_server", folder.path(), &[]);
    let first = all(&server);
    assert_eq!(first, all(&server));
    drop(server);
    assert_eq!(first, all(&Server::on("faulty_server", folder.path(), &[])));
}

#[test]
fn every_list_has_the_cursor_rules() {
    let server = Server::with(
        "faulty_server",
        &[("WAYGATE_MCP_PAGE_SIZE", "1"), ("WAYGATE_MCP_LIST_TTL_SECONDS", "7")],
    );
    let foreign = pages(&server, "tools/list")[0]["nextCursor"].clone();
    for (method, key) in LISTS {
        let pages = pages(&server, method);
        for page in &pages {
            has_hints(page);
            has_no_nulls(page);
            assert_eq!(
                (page[key].as_array().map(Vec::len), &page["ttlMs"]),
                (Some(1), &json!(7000)),
                "{method}"
            );
        }
        assert!(pages.last().is_some_and(|page| page.get("nextCursor").is_none()));
        // The empty cursor is one too: the start.
        assert_eq!(server.call(method, json!({"cursor": ""})).result(), pages[0]);
        let mut bad = vec![
            json!("nonsense"),
            json!("99"),
            json!("!!"),
            json!(7),
            json!({}),
            json!("x".repeat(100_000)),
        ];
        if method != "tools/list" {
            bad.push(foreign.clone());
        }
        if let Some(cursor) = pages[0]["nextCursor"].as_str() {
            bad.extend([json!(format!("{cursor}x")), json!(cursor.to_uppercase()), json!(&cursor[1..])]);
        }
        for cursor in bad {
            let reply = server.call(method, json!({"cursor": cursor}));
            assert_eq!((reply.status, reply.code()), (400, -32602), "{method} {cursor}: {}", reply.text());
        }
    }
}

#[test]
fn a_cursor_beyond_the_end_is_refused() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_PAGE_SIZE", "1")]);
    let beyond = server.call("tools/list", json!({})).result()["nextCursor"].clone();
    let beyond = beyond.as_str().expect("a cursor");
    // A cursor of the longer list names a place that the shorter one does not have.
    drop(server);
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_PAGE_SIZE", "10000")]);
    let reply = server.call("tools/list", json!({"cursor": beyond}));
    assert_eq!((reply.status, reply.code()), (400, -32602));
}

#[test]
fn definitions_are_complete_and_schemas_come_as_they_were_written() {
    let server = Server::shared();
    let pages = pages(&server, "tools/list");
    let tools: Vec<&Value> = pages.iter().flat_map(|page| page["tools"].as_array().expect("tools")).collect();
    for tool in &tools {
        assert!(tool["description"].is_string(), "{tool}");
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
    }
    let find = |name: &str| tools.iter().find(|tool| tool["name"] == name).copied();
    let strict = &find("strict_schema").expect("listed")["inputSchema"];
    for (pointer, value) in [
        ("/$schema", json!("https://json-schema.org/draft/2020-12/schema")),
        ("/$defs/size/$anchor", json!("size")),
        ("/properties/pair/items", json!(false)),
        ("/if/properties/kind/const", json!("box")),
        ("/unevaluatedProperties", json!(false)),
    ] {
        assert_eq!(strict.pointer(pointer), Some(&value), "{pointer}");
    }
    assert_eq!(
        find("mirrored").expect("listed")["inputSchema"]["properties"]["city"]["x-mcp-header"],
        "City"
    );
    assert_eq!(find("structured").expect("listed")["outputSchema"]["required"], json!(["n"]));
}

#[test]
fn an_invalid_tool_is_left_out_and_the_others_stay() {
    let server = Server::shared();
    for name in ["dropped_mirror", "dropped_reference"] {
        assert_eq!(server.call("tools/call", json!({"name": name})).code(), -32602);
    }
    server.tool("repeat", json!({}));
    let (_, plugin) = server.get("/plugins/faulty");
    let refused = plugin["refused"].to_string();
    assert!(refused.contains("dropped_mirror") && refused.contains("dropped_reference"), "{refused}");
    assert_eq!(server.get("/plugins/many").1["state"], "ready");
}

#[test]
fn an_announced_change_is_in_the_next_list() {
    let server = Server::start("faulty_server");
    for (what, (method, _)) in ["tools", "prompts", "resources"].into_iter().zip(LISTS) {
        let before = server.call(method, json!({})).text();
        server.tool("touch", json!({"what": what}));
        eventually("the list changes", || (server.call(method, json!({})).text() != before).then_some(()));
    }
}

#[test]
fn lists_do_not_vary_by_what_was_called_before() {
    let server = Server::shared();
    let listed = |server: &Server| server.call("tools/list", json!({})).text();
    let before = listed(&server);
    server.tool("repeat", json!({}));
    let plain = Http::modern("tools/list", json!({})).set("Accept", "application/json").send(server.address);
    assert_eq!((plain.text(), listed(&server)), (before.clone(), before));
}
