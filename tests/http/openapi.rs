//! `/openapi.json`: that it is OpenAPI 3.1, that it describes every URL, and that what it says of them is what they answer.
//!
//! `data/openapi-3.1.schema.json` is the OpenAPI Initiative's schema of 2022-10-07 (Apache-2.0).

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::keys::{OWN, becomes, create, with};
use crate::support::{Http, Reply, Server};

const SCHEMA: &str = include_str!("data/openapi-3.1.schema.json");
/// Operations of a path item.
const METHODS: [&str; 5] = ["get", "post", "put", "delete", "patch"];

fn document(server: &Server) -> Value {
    let reply = Http::get("/openapi.json").send(server.address);
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("application/json")),
        "{}",
        reply.text()
    );
    reply.json()
}

/// Each operation, with its path and its method.
fn operations(document: &Value) -> Vec<(&str, String, &Value)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    paths
        .flat_map(|(path, item)| {
            let all = item.as_object().expect("a path item").iter();
            let of_methods = all.filter(|(name, _)| METHODS.contains(&name.as_str()));
            of_methods.map(|(name, operation)| (path.as_str(), name.to_ascii_uppercase(), operation))
        })
        .collect()
}

/// What `#/...` refers to.
fn target<'a>(document: &'a Value, reference: &str) -> &'a Value {
    let place = reference.strip_prefix('#').expect("a reference within the document");
    document.pointer(place).unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    value["$ref"].as_str().map_or(value, |reference| target(document, reference))
}

/// Everything that is referred to in `value`.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// `{name}` in a path.
fn placeholders(path: &str) -> BTreeSet<&str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect()
}

#[test]
fn the_description_is_openapi_3_1() {
    let server = Server::shared();
    let document = document(&server);
    let schema: Value = serde_json::from_str(SCHEMA).expect("a schema");
    let rules = jsonschema::validator_for(&schema).expect("a schema");
    let broken: Vec<String> =
        rules.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        assert!(jsonschema::meta::is_valid(schema), "{name} is no JSON Schema 2020-12");
    }
    let mut referred = BTreeSet::new();
    references(&document, &mut referred);
    for reference in &referred {
        target(&document, reference);
    }
    for kind in ["schemas", "responses"] {
        for name in document["components"][kind].as_object().expect(kind).keys() {
            assert!(referred.contains(&format!("#/components/{kind}/{name}")), "nobody needs {kind}/{name}");
        }
    }
}

#[test]
fn each_operation_says_who_may_have_it_what_it_takes_and_what_it_answers() {
    let server = Server::shared();
    let document = document(&server);
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(
        (&schemes["bearer"]["type"], &schemes["bearer"]["scheme"]),
        (&json!("http"), &json!("bearer"))
    );
    assert_eq!(
        (&schemes["apiKey"]["in"], &schemes["apiKey"]["name"]),
        (&json!("header"), &json!("X-API-Key"))
    );
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let what = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().expect("an id")), "{what}: its id is another's");
        assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{what}");
        let own = operation["parameters"].as_array().into_iter().flatten();
        let of_path = document["paths"][path]["parameters"].as_array().into_iter().flatten();
        let in_path: BTreeSet<&str> = of_path
            .chain(own)
            .filter(|parameter| parameter["in"] == "path" && parameter["required"] == true)
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        assert_eq!(in_path, placeholders(path), "{what}");
        let answers = operation["responses"].as_object().expect("answers");
        assert!(answers.keys().any(|status| status.starts_with('2')), "{what}: it never goes well");
        let asks = operation["security"].as_array().expect("who may have it");
        let everybody = ["/health", "/ready"].contains(&path);
        assert_eq!(
            (asks.contains(&json!({})), answers.contains_key("401")),
            (everybody, !everybody),
            "{what}"
        );
        let scope = if path.starts_with("/admin")
            || path.ends_with("/crash")
            || path.starts_with("/diagnostics/profile")
            || path == "/plugins/reload"
        {
            json!(["admin"])
        } else if ["/metrics", "/plugins", "/bundles", "/diagnostics"]
            .iter()
            .any(|begin| path.starts_with(begin))
        {
            json!(["ops:read"])
        } else if ["/sse", "/messages"].contains(&path) {
            json!(["mcp"])
        } else {
            json!([])
        };
        assert!(
            asks.contains(&json!({"bearer": scope})) && asks.contains(&json!({"apiKey": scope})),
            "{what}: {asks:?}"
        );
    }
}

#[test]
fn each_url_is_served_by_the_methods_that_are_described_and_by_no_other() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let document = with(OWN, Http::get("/openapi.json")).send(server.address).json();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let described: BTreeSet<String> = item
            .as_object()
            .expect("a path item")
            .keys()
            .filter(|name| METHODS.contains(&name.as_str()))
            .map(|name| name.to_ascii_uppercase())
            .collect();
        let url = path.replace("{name}", "x").replace("{id}", "x");
        let request = Http { head: format!("PROPFIND {url}"), ..Http::get("/") };
        let reply = with(OWN, request).send(server.address);
        assert_eq!(reply.status, 405, "{path}: {}", reply.text());
        let allowed = reply.header("allow").unwrap_or_default().split(", ").map(str::to_owned).collect();
        assert_eq!(described, allowed, "{path}");
    }
    // What the index leads to is described, but for MCP.
    let links = with(OWN, Http::get("/")).send(server.address).json()["links"].clone();
    for link in links.as_object().expect("links").values().flat_map(|link| match link {
        Value::Array(links) => links.clone(),
        link => vec![link.clone()],
    }) {
        let link = link.as_str().expect("a path").to_owned();
        assert!(link == "/mcp" || document["paths"][&link].is_object(), "{link}");
    }
}

/// A schema of the document as a validator that takes no member that is not described.
fn validator(document: &Value, schema: &Value) -> Validator {
    fn close(schema: &mut Value) {
        if let Value::Object(members) = schema {
            if members.contains_key("properties") && !members.contains_key("additionalProperties") {
                members.insert("additionalProperties".to_owned(), false.into());
            }
            members.values_mut().for_each(close);
        } else if let Value::Array(items) = schema {
            items.iter_mut().for_each(close);
        }
    }
    let mut whole = json!({"components": {"schemas": document["components"]["schemas"]}, "allOf": [schema]});
    close(&mut whole);
    jsonschema::validator_for(&whole).expect("a schema")
}

/// Holds an answer against its description.
#[track_caller]
fn is_described(document: &Value, (method, path): (&str, &str), reply: &Reply) {
    let what = format!("{method} {path}: {} {}", reply.status, reply.text());
    let operation = &document["paths"][path][method.to_ascii_lowercase()];
    let answer = &operation["responses"][reply.status.to_string()];
    assert!(answer.is_object(), "{what} is not described");
    let answer = resolved(document, answer);
    for (name, header) in answer["headers"].as_object().into_iter().flatten() {
        assert!(header["schema"].is_object(), "{what}: {name}");
    }
    let kind = reply.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    let content = &answer["content"][kind];
    assert!(content.is_object(), "{what}: {kind:?} is not described");
    if kind == "application/json" {
        let validator = validator(document, &content["schema"]);
        let body = reply.json();
        let broken: Vec<String> =
            validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(broken.is_empty(), "{what}: {broken:#?}");
    }
}

/// Each GET of the description, with a name that is there and one that is not.
fn ask_all(server: &Server, document: &Value, key: &str, names: &[(&str, &str)]) -> usize {
    let mut asked = 0;
    for (path, method, _) in operations(document).into_iter().filter(|(_, method, _)| method == "GET") {
        let known = names.iter().find(|(of, _)| *of == path).map(|(_, url)| *url);
        for url in [known.unwrap_or(path), &path.replace("{name}", "nobody").replace("{id}", "nobody")] {
            let request = with(key, Http::get(url));
            // A stream has no end: it is looked at where it is refused, and its head below.
            let reply = if path == "/sse" {
                request.header("Accept", "application/json").send(server.address)
            } else {
                request.send(server.address)
            };
            is_described(document, (&method, path), &reply);
            asked += usize::from(reply.status == 200);
        }
    }
    asked
}

#[test]
fn every_get_answers_what_is_described() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let document = with(OWN, Http::get("/openapi.json")).send(server.address).json();
    let plain = create(&server, &["plain"]);
    becomes(&server, &plain, 200);
    let id = crate::keys::id_of(&plain);
    // Something to show in everything that has a list.
    with(OWN, Http::tool("panic", json!({}))).send(server.address);
    with(OWN, Http::tool("repeat", json!({}))).send(server.address);
    let crash = Http { head: "POST /diagnostics/actors/metrics/crash".to_owned(), ..Http::get("/") };
    is_described(
        &document,
        ("POST", "/diagnostics/actors/{name}/crash"),
        &with(OWN, crash).send(server.address),
    );
    let key = format!("/admin/api/keys/{id}");
    let explain = format!("/diagnostics/explain?tool=repeat&key={id}");
    let names = [
        ("/plugins/{name}", "/plugins/faulty"),
        ("/bundles/{name}", "/bundles/faulty"),
        ("/admin/api/keys/{id}", key.as_str()),
        ("/diagnostics/explain", explain.as_str()),
        ("/diagnostics/errors", "/diagnostics/errors?limit=5&since=3600"),
    ];
    let asked = ask_all(&server, &document, OWN, &names);
    assert!(asked >= 20, "only {asked} went well");
    // Without a key, with one that opens MCP alone, and with one that is wrong.
    for key in ["", &plain, "no key at all"] {
        ask_all(&server, &document, key, &names);
    }
    let foreign = Http::get("/health").set("Host", "evil.example.com").send(server.address);
    is_described(&document, ("GET", "/health"), &foreign);
    let shown = Http::get("/metrics?api_key=x").send(server.address);
    is_described(&document, ("GET", "/metrics"), &shown);
    for query in ["?limit=x", "?since=yesterday"] {
        let reply = with(OWN, Http::get(&format!("/diagnostics/errors{query}"))).send(server.address);
        is_described(&document, ("GET", "/diagnostics/errors"), &reply);
    }
    let mut stream = with(OWN, Http::get("/sse").header("Accept", "text/event-stream")).open(server.address);
    let (status, headers) = stream.head();
    assert_eq!(status, 200);
    assert!(headers.contains(&("content-type".to_owned(), "text/event-stream".to_owned())), "{headers:?}");
}

#[test]
fn what_the_admin_api_takes_and_answers_is_what_is_described() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let document = with(OWN, Http::get("/openapi.json")).send(server.address).json();
    let act = |method: &str, path: &str, url: &str, body: Option<Value>| {
        let mut request = with(OWN, Http { head: format!("{method} {url}"), ..Http::get("/") });
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json");
            request.body = body.to_string().into_bytes();
        }
        let reply = request.send(server.address);
        is_described(&document, (method, path), &reply);
        reply
    };
    let keys = "/admin/api/keys";
    let form = json!({"name": "app", "owner": "Ada", "expires": "90d", "allow": ["echo*"], "deny": [], "scopes": ["mcp"],
                      "bundles": [], "denyBundles": ["x"], "limits": {"requestsPerMinute": 60, "burst": 5, "concurrent": 2}});
    let takes = &document["paths"][keys]["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert!(validator(&document, takes).is_valid(&form));
    assert!(!validator(&document, takes).is_valid(&json!({"name": "app", "scope": ["mcp"]})));
    let made = act("POST", keys, keys, Some(form)).json();
    let id = made["key"]["id"].as_str().expect("an id").to_owned();
    act("POST", keys, keys, Some(json!({"name": "app", "scope": ["mcp"]})));
    let at = |act: &str| (format!("{keys}/{{id}}{act}"), format!("{keys}/{id}{act}"));
    for (method, (path, url), body) in [
        ("PUT", at("/limits"), Some(json!({"burst": 3, "requestsPerMinute": 9}))),
        ("POST", at("/rotate"), Some(json!({"grace": "1h"}))),
        ("POST", at("/revoke"), None),
        ("DELETE", at(""), None),
    ] {
        assert!(act(method, &path, &url, body.clone()).status < 300, "{method} {url}");
        let reply = act(method, &path, &url.replace(&id, "nobody"), body);
        assert_eq!(reply.status, 404, "{method} {path}");
    }
    assert_eq!(act("POST", "/plugins/reload", "/plugins/reload", None).status, 200);
    let (heap, cpu) = ("/diagnostics/profile/heap", "/diagnostics/profile/cpu");
    assert_eq!(act("POST", heap, heap, None).status, 200);
    assert_eq!(act("POST", cpu, &format!("{cpu}?seconds=0"), None).status, 400);
    let clear = "/admin/api/cache/clear";
    assert_eq!(act("POST", clear, clear, None).status, 200);
    assert_eq!(act("POST", clear, &format!("{clear}?plugin=nobody"), None).status, 404);
}
