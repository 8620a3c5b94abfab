//! `GET /openapi.json`: everything that is served but MCP, for programs that make clients; OpenAPI 3.1.
//!
//! Which URLs there are, what each asks of who calls it, and what all of them may refuse comes from the table of URLs; words
//! and schemas stand beside this, in `paths.json` and `components.json`. Must not know how anything is answered.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

use super::caller::Wants;
use super::door::Door;
use super::ops;
use super::urls::{URLS, Url};
use crate::access::keys::Scope;
use crate::error::Fault;

/// Where it is.
pub const PATH: &str = "/openapi.json";
/// The edition of OpenAPI.
const EDITION: &str = "3.1.0";

/// What stands in the description of each path, by its path: its parameters, and its operations by their methods.
const PATHS: &str = include_str!("paths.json");
/// Schemas, answers that many give, and how a key is shown.
const COMPONENTS: &str = include_str!("components.json");
/// What it is all about.
const ABOUT: &str = "Health, metrics, diagnostics, plugins and keys of a Waygate server. MCP itself is spoken at `/mcp` and \
                     `/mcp/{bundle}`, and described by its own specification. A server without keys asks nobody for one: then \
                     everything is open to who may reach it, but for what asks for `admin`, which is the operator's on the \
                     server's own machine.";

/// What any URL may refuse, by the answer's name.
const OF_ALL: [(&str, &str); 4] =
    [("400", "Malformed"), ("403", "Forbidden"), ("500", "Internal"), ("503", "Unavailable")];
/// What those refuse that ask for a key.
const OF_KEYS: [(&str, &str); 2] = [("401", "Unauthenticated"), ("429", "TooMany")];

/// `GET /openapi.json`
pub async fn show(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let shown = ops::admitted(&request, &door).and_then(|_| document());
    ops::respond(&request, &door, shown)
}

fn document() -> Result<Value, Fault> {
    let read =
        |text| serde_json::from_str(text).map_err(|error| Fault::internal(format!("no JSON: {error}")));
    let (told, components): (Value, Value) = (read(PATHS)?, read(COMPONENTS)?);
    let paths = URLS.iter().map(|url| (url.path.to_owned(), item(url, told.get(url.path))));
    let mut whole = json!({
        "openapi": EDITION,
        "info": {
            "title": "Waygate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "MIT OR Apache-2.0", "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "servers": [{"url": "/"}],
    });
    if let Some(whole) = whole.as_object_mut() {
        whole.insert("paths".to_owned(), paths.collect::<Map<_, _>>().into());
        whole.insert("components".to_owned(), components);
    }
    Ok(whole)
}

/// A path with its operations.
fn item(url: &Url, told: Option<&Value>) -> Value {
    let member = |name: &str| Some((name.to_owned(), told?.get(name)?.clone()));
    let mut item: Map<String, Value> = member("parameters").into_iter().collect();
    for (method, _) in url.methods {
        let name = method.as_str().to_ascii_lowercase();
        let operation = member(&name).and_then(|(_, told)| told.as_object().cloned());
        item.insert(name, complete(url, operation.unwrap_or_default()));
    }
    item.into()
}

/// An operation, with whom it answers and what it may refuse.
fn complete(url: &Url, mut operation: Map<String, Value>) -> Value {
    let mut answers = match operation.remove("responses") {
        Some(Value::Object(answers)) => answers,
        _ => Map::new(),
    };
    let of_keys = if url.answers_everybody() { &[][..] } else { &OF_KEYS };
    for (status, name) in OF_ALL.iter().chain(of_keys) {
        let refusal = || json!({"$ref": format!("#/components/responses/{name}")});
        answers.entry(*status).or_insert_with(refusal);
    }
    operation.insert("responses".to_owned(), answers.into());
    let scopes = match url.wants {
        Wants::AnyKey => vec![],
        Wants::Scope(scope) => vec![scope.name()],
        Wants::Operator => vec![Scope::Admin.name()],
    };
    let mut ways = vec![json!({"bearer": scopes}), json!({"apiKey": scopes})];
    if url.answers_everybody() {
        ways.insert(0, json!({}));
    }
    operation.insert("security".to_owned(), ways.into());
    operation.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_url_of_the_table_is_described_and_no_other() {
        let served: BTreeSet<(String, String)> = URLS
            .iter()
            .flat_map(|url| url.methods.iter().map(|(method, _)| (url.path.to_owned(), method.to_string())))
            .collect();
        let operations = |paths: &Value| -> BTreeSet<(String, String)> {
            let paths = paths.as_object().unwrap().iter();
            paths
                .flat_map(|(path, item)| {
                    let methods = item.as_object().unwrap().keys().filter(|name| *name != "parameters");
                    methods.map(|method| (path.clone(), method.to_ascii_uppercase()))
                })
                .collect()
        };
        assert_eq!(operations(&serde_json::from_str(PATHS).unwrap()), served, "paths.json");
        let document = document().unwrap();
        assert_eq!(operations(&document["paths"]), served);
        let words = |operation: &Value| operation["summary"].is_string() && operation["tags"][0].is_string();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in
                item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
            {
                assert!(words(operation), "{method} {path} is described in no words");
            }
        }
    }
}
