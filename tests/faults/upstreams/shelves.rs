//! Servers of 2025-11-25 with resources and prompts: all pages of their lists, URIs behind a prefix, and changes that nobody
//! is told of.

use serde_json::{Value, json};

use super::scripted::{Asked, Scripted, result};
use super::{House, hostile, remote};
use crate::legacy::Session;
use crate::support::{Http, Open, eventually};

/// All entries of a list of `house`, page by page.
fn all(house: &House, method: &str, member: &str) -> Vec<Value> {
    let (mut entries, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
        let page = house.server.call(method, params).result();
        entries.extend(page[member].as_array().expect("a list").iter().cloned());
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            return entries;
        }
    }
}

fn texts<'a>(entries: &'a [Value], key: &str) -> Vec<&'a str> {
    entries.iter().map(|entry| entry[key].as_str().expect("a text")).collect()
}

fn text_at(house: &House, uri: &str) -> Value {
    let reply = house.server.call("resources/read", json!({"uri": uri}));
    assert_eq!(reply.status, 200, "{uri}: {}", reply.text());
    let contents = reply.result()["contents"][0].clone();
    assert_eq!(contents["uri"], uri, "it answers to the name that it was asked by");
    contents["text"].clone()
}

#[test]
fn every_page_of_every_list_of_a_server_with_sessions_is_asked_for() {
    let paged = House::under(&[("WAYGATE_MCP_PAGE_SIZE", "3")], &[("paged", hostile("pages", ""))]);
    let whole = House::with(&[("paged", hostile("shelf", ""))]);
    for house in [&paged, &whole] {
        house.is_ready("paged");
    }
    let tools = paged.names_of("paged");
    assert!(tools.len() > 4, "{tools:?}");
    assert_eq!(tools, whole.names_of("paged"), "page by page it is the same");
    assert_eq!(paged.says("paged__touch", json!({"uri": "note://1"})), "[]", "the last of the last page");
    for (method, member, key) in [
        ("resources/list", "resources", "uri"),
        ("resources/templates/list", "resourceTemplates", "uriTemplate"),
        ("prompts/list", "prompts", "name"),
    ] {
        let (pages, list) = (all(&paged, method, member), all(&whole, method, member));
        assert_eq!(texts(&pages, key), texts(&list, key), "{method}");
        assert!(pages.len() >= 5, "{method}: {pages:?}");
    }
    assert_eq!(text_at(&paged, "note://4"), "text of note://4");
    assert_eq!(text_at(&paged, "item4://x"), "text of item4://x");
    paged.neighbour_is_well();
}

#[test]
fn a_prefix_stands_before_every_uri_of_its_server_and_before_no_other() {
    let prefix = "uri_prefix = \"second+\"";
    let house = House::with(&[("first", hostile("shelf", "")), ("second", hostile("shelf", prefix))]);
    house.is_ready("first");
    house.is_ready("second");
    let resources = all(&house, "resources/list", "resources");
    let uris = texts(&resources, "uri");
    for number in 0..5 {
        assert!(uris.contains(&&*format!("note://{number}")), "{uris:?}");
        assert!(uris.contains(&&*format!("second+note://{number}")), "{uris:?}");
    }
    let templates = all(&house, "resources/templates/list", "resourceTemplates");
    assert!(texts(&templates, "uriTemplate").contains(&"second+item0://{id}"), "{templates:?}");
    assert_eq!(house.plugin("second")["refused"], json!([]), "with a prefix nothing is listed twice");
    for (uri, own) in
        [("second+note://1", "note://1"), ("second+item3://5", "item3://5"), ("note://1", "note://1")]
    {
        assert_eq!(text_at(&house, uri), format!("text of {own}"));
    }
    let refused = house.server.call("resources/read", json!({"uri": "second+linked://1"}));
    assert_eq!(refused.code(), -32602, "nobody has named it yet: {}", refused.text());
    let content = house.call("second__link", json!({})).result()["content"].clone();
    assert_eq!(
        (&content[0]["uri"], &content[1]["resource"]["uri"]),
        (&json!("second+linked://1"), &json!("second+note://1"))
    );
    assert_eq!(text_at(&house, "second+linked://1"), "text of linked://1", "what was linked to can be read");
    let refused = house.server.call("resources/read", json!({"uri": "linked://1"}));
    assert_eq!(refused.code(), -32602, "without the prefix it is nobody's: {}", refused.text());
    house.neighbour_is_well();
}

fn listen(house: &House, uris: &[&str]) -> (Open, Value) {
    let wanted = json!({"notifications": {"resourceSubscriptions": uris}});
    let mut open = Http::modern("subscriptions/listen", wanted).open(house.server.address);
    let first = open.event().expect("an acknowledgement");
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
    (open, first["params"]["notifications"]["resourceSubscriptions"].clone())
}

#[test]
fn who_wants_to_hear_of_what_a_server_does_not_watch_is_told_so_at_once() {
    let house = House::with(&[
        ("deaf", hostile("shelf", "uri_prefix = \"deaf+\"")),
        ("watched", hostile("watched", "uri_prefix = \"w+\"")),
    ]);
    house.is_ready("deaf");
    house.is_ready("watched");
    let (mut open, agreed) = listen(&house, &["deaf+note://1", "w+note://1"]);
    assert_eq!(agreed, json!(["w+note://1"]), "only what will be told is agreed to");
    let (_nothing, agreed) = listen(&house, &["deaf+note://1"]);
    assert_eq!(agreed, Value::Null);
    // It tells all the same; the change that was agreed to comes first, so the other one was kept back.
    assert_eq!(house.says("deaf__touch", json!({"uri": "note://1"})), "[]", "it was never asked to watch");
    assert_eq!(house.says("watched__touch", json!({"uri": "note://1"})), "[\"note://1\"]");
    let told = open.event().expect("news");
    assert_eq!(
        (&told["method"], &told["params"]["uri"]),
        (&json!("notifications/resources/updated"), &json!("w+note://1")),
        "{told}"
    );
    let session = Session::newest(&house.server);
    let refused = session.call("resources/subscribe", json!({"uri": "deaf+note://1"}));
    let message = refused.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("its plugin does not watch it"), "{}", refused.text());
    let watched = session.call("resources/subscribe", json!({"uri": "w+note://1"}));
    assert_eq!(watched.json()["result"], json!({}), "{}", watched.text());
    house.neighbour_is_well();
}

/// Of 2025-11-25, with a resource that can be subscribed to, if one believes it.
fn promising(asked: &Asked) -> Option<String> {
    let well = match asked.body["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": "2025-11-25", "serverInfo": {"name": "promising", "version": "1"},
            "capabilities": {"tools": {}, "resources": {"subscribe": true}},
        }),
        "resources/list" => json!({"resources": [{"uri": "note://1", "name": "one"}]}),
        "resources/subscribe" | "resources/unsubscribe" => json!({}),
        _ => return None,
    };
    Some(result(asked, "", &well))
}

#[test]
fn nothing_is_promised_of_a_server_with_subscriptions_and_no_stream_to_tell_of_them() {
    // It answers 405 to GET.
    let server = Scripted::new(&["say"], promising);
    let house = House::with(&[("silent", remote(&server.url(), ""))]);
    house.is_ready("silent");
    eventually("it is not agreed to", || listen(&house, &["note://1"]).1.is_null().then_some(()));
    let refused = Session::newest(&house.server).call("resources/subscribe", json!({"uri": "note://1"}));
    assert!(refused.text().contains("does not watch it"), "{}", refused.text());
    let report = house.plugin("silent")["report"].to_string();
    assert!(report.contains("no stream (GET)"), "the operator is told: {report}");
    house.neighbour_is_well();
}

#[test]
fn a_completion_asks_the_server_by_its_own_names_whatever_they_are_published_under() {
    let house = House::with(&[("w", hostile("watched", "uri_prefix = \"w+\""))]);
    house.is_ready("w");
    let published = all(&house, "prompts/list", "prompts");
    let long = "an odd one/".to_owned() + &"x".repeat(100);
    let names = texts(&published, "name");
    let is_long = |name: &&str| name.starts_with("w__") && !name.contains("prompt_");
    let short = names.into_iter().find(is_long).expect("it is listed");
    assert!(short.len() <= 64, "{short}");
    let session = Session::newest(&house.server);
    let prompt = |name: &str| json!({"type": "ref/prompt", "name": name});
    let template = |uri: &str| json!({"type": "ref/resource", "uri": uri});
    for (of, own) in [
        (prompt("w__prompt_3"), "prompt_3"),
        (prompt(short), &*long),
        (template("w+item2://{id}"), "item2://{id}"),
    ] {
        let params = json!({"ref": of, "argument": {"name": "a", "value": "typed"}});
        for reply in [
            house.server.call("completion/complete", params.clone()),
            session.call("completion/complete", params),
        ] {
            let values = reply.json()["result"]["completion"]["values"].clone();
            assert_eq!(values, json!([own, "typed"]), "{of}: {}", reply.text());
        }
    }
    for of in [prompt("prompt_3"), template("item2://{id}")] {
        let params = json!({"ref": of, "argument": {"name": "a", "value": ""}});
        let refused = house.server.call("completion/complete", params);
        assert_eq!(refused.code(), -32602, "without the prefix it is nobody's: {}", refused.text());
    }
    house.neighbour_is_well();
}

/// Asks at a path.
fn at(house: &House, path: &str, method: &str, params: Value) -> crate::support::Reply {
    let mut http = Http::modern(method, params);
    http.head = format!("POST {path}");
    http.send(house.server.address)
}

#[test]
fn a_path_promises_what_is_served_there_and_no_server_is_asked_for_what_it_never_promised() {
    let breaker = "breaker = { failures = 3, open_seconds = 30 }";
    let house = House::with(&[("shelf", hostile("shelf", breaker)), ("tools", hostile("good", ""))]);
    house.is_ready("shelf");
    house.is_ready("tools");
    let offers = |path: &str| at(&house, path, "server/discover", json!({})).result()["capabilities"].clone();
    assert_eq!(offers("/mcp/tools"), json!({"tools": {"listChanged": true}}));
    let changing = json!({"listChanged": true});
    let shelf = json!({"tools": changing, "prompts": changing, "resources": changing});
    assert_eq!(offers("/mcp/shelf"), shelf);
    let whole = offers("/mcp");
    assert!(whole["completions"].is_object(), "the plugins of the program complete: {whole}");
    let key_press = |path: &str, name: &str| {
        let params =
            json!({"ref": {"type": "ref/prompt", "name": name}, "argument": {"name": "a", "value": "x"}});
        at(&house, path, "completion/complete", params)
    };
    for _ in 0..10 {
        assert_eq!(key_press("/mcp/shelf", "prompt_1").code(), -32601, "nothing is completed there");
        let refused = key_press("/mcp", "shelf__prompt_1");
        assert_eq!(refused.code(), -32602, "others complete there: {}", refused.text());
    }
    assert_eq!(house.plugin("shelf")["state"], "ready", "what it was not asked it did not fail in");
    let wanted = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true}});
    let mut http = Http::modern("subscriptions/listen", wanted);
    http.head = "POST /mcp/tools".to_owned();
    let first = http.open(house.server.address).event().expect("an acknowledgement");
    assert_eq!(first["params"]["notifications"], json!({"toolsListChanged": true}));
}
