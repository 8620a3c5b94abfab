//! Requests, asks and answers between the words of 2026-07-28, which the house speaks, and those of a server's revision.
//!
//! MCP 2024-11-05 to 2025-11-25, and the changelogs between them. Must not know sessions, nor who waits for what.

use std::sync::Arc;

use serde_json::Value;

use crate::plugins::{Reference, Request};
use crate::protocol::legacy::asks::{Answer, Ask};
use crate::protocol::{Answers, InputMethod, InputRequest, Object, Raw, Revision};

/// What ties a message to a task of 2025-11-25: nothing that a client could use.
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// A request as the server reads it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: &'static str,
    /// What the header `Mcp-Name` would repeat.
    pub name: Arc<str>,
    /// The members of `params`, each with its JSON.
    pub members: Vec<(&'static str, String)>,
    /// Whether its client may be asked in the middle of it.
    pub may_ask: bool,
}

impl Call {
    /// Says `request` in the words of `revision`; none when it is not a call.
    pub fn new(request: &Request, revision: Revision) -> Option<Self> {
        let text = |text: &str| Value::from(text).to_string();
        Some(match request {
            Request::Call { tool, arguments, .. } => Self {
                method: "tools/call",
                name: Arc::clone(tool),
                members: vec![("name", text(tool)), ("arguments", arguments.as_str().to_owned())],
                may_ask: true,
            },
            Request::Prompt { name, arguments, .. } => Self {
                method: "prompts/get",
                name: Arc::clone(name),
                members: vec![("name", text(name)), ("arguments", arguments.as_str().to_owned())],
                may_ask: true,
            },
            Request::Read { uri, .. } => Self {
                method: "resources/read",
                name: uri.as_str().into(),
                members: vec![("uri", text(uri))],
                may_ask: true,
            },
            Request::Complete { of, argument, typed, chosen } => {
                let (of, name) = match of {
                    Reference::Prompt(name) => {
                        (serde_json::json!({"type": "ref/prompt", "name": name}), name)
                    }
                    Reference::Resource(uri) => {
                        (serde_json::json!({"type": "ref/resource", "uri": uri}), uri)
                    }
                };
                let argument = serde_json::json!({"name": argument, "value": typed});
                let mut members = vec![("ref", of.to_string()), ("argument", argument.to_string())];
                if revision.has_structured_results() && chosen.as_str() != "{}" {
                    members.push(("context", format!(r#"{{"arguments":{}}}"#, chosen.as_str())));
                }
                Self { method: "completion/complete", name: name.as_str().into(), members, may_ask: false }
            }
            Request::Subscribe { .. } => return None,
        })
    }
}

/// The answers that a request brings; none for one that can bring none.
pub fn answers_of(request: &Request) -> Option<&Answers> {
    match request {
        Request::Call { answers, .. } | Request::Prompt { answers, .. } | Request::Read { answers, .. } => {
            Some(answers)
        }
        Request::Complete { .. } | Request::Subscribe { .. } => None,
    }
}

/// What a server asks, in the words of 2026-07-28, and the name under which it will tell that a URL was done with.
pub fn ask_of(method: &str, params: Option<&Raw>) -> Option<(InputRequest, Option<String>)> {
    let mut asked = InputRequest::from_parts(method, params)?;
    let mut params = Object::open(&asked.params).ok()?;
    let mut changed = tidy_meta(&mut params);
    let mut elicitation = None;
    match asked.method {
        InputMethod::ElicitForm if params.get("mode").is_none() => {
            // 2025-06-18 knew forms only, and had no word for them.
            params.put("mode", "form");
            changed = true;
        }
        InputMethod::ElicitUrl => {
            elicitation = params.text("elicitationId");
            changed |= params.remove("elicitationId").is_some();
        }
        InputMethod::ElicitForm | InputMethod::Sampling | InputMethod::Roots => {}
    }
    if changed {
        asked.params = params.to_raw();
    }
    // The body that it came in is let go.
    asked.params = asked.params.detached();
    Some((asked, elicitation))
}

/// Takes out of `_meta` what concerns this one message only.
fn tidy_meta(params: &mut Object) -> bool {
    let Some(mut meta) = params.get("_meta").and_then(|meta| Object::open(meta).ok()) else { return false };
    let task = meta.remove(RELATED_TASK).is_some();
    let token = meta.remove("progressToken").is_some();
    if meta.is_empty() {
        params.remove("_meta");
    } else {
        params.set("_meta", meta.to_raw());
    }
    task || token || params.get("_meta").is_none()
}

/// A client's answer to `asked` in the words of the server's revision.
///
/// # Errors
/// What is wrong with it.
pub fn answer_to(asked: &InputRequest, answer: &Raw, revision: Revision) -> Result<Raw, String> {
    // The same check that the door makes of the answers of its clients.
    let answer = Ask::new(asked, Revision::NEWEST_LEGACY, "").read(Answer::Result(answer.clone()));
    let answer = answer.map_err(|error| error.message)?;
    if asked.method == InputMethod::Sampling && !revision.has_url_elicitation() {
        return Ok(with_one_block(&answer).unwrap_or(answer));
    }
    Ok(answer)
}

/// What a model said as one block, which is all that servers before 2025-11-25 take.
fn with_one_block(answer: &Raw) -> Option<Raw> {
    let mut said = Object::open(answer).ok()?;
    let blocks: Vec<Value> = said.get("content")?.read().ok()?;
    let texts: Vec<&str> =
        blocks.iter().filter_map(|block| block.get("text").and_then(Value::as_str)).collect();
    let one = match blocks.as_slice() {
        [one] => one.clone(),
        _ if texts.is_empty() => blocks.first()?.clone(),
        _ => crate::protocol::content::text(texts.join("\n")),
    };
    said.set("content", Raw::value(&one));
    Some(said.to_raw())
}

/// A result as it came, without what ties it to a task of its server.
pub fn result_of(result: Raw) -> Raw {
    if !result.as_str().contains(RELATED_TASK) {
        return result;
    }
    let Ok(mut object) = Object::open(&result) else { return result };
    let Some(mut meta) = object.get("_meta").and_then(|meta| Object::open(meta).ok()) else { return result };
    if meta.remove(RELATED_TASK).is_none() {
        return result;
    }
    if meta.is_empty() {
        object.remove("_meta");
    } else {
        object.set("_meta", meta.to_raw());
    }
    object.to_raw()
}

/// So many URLs may one call want opened: the client carries their names from one round to the next.
const URLS_MAX: usize = 16;

/// The URLs that a call which failed with -32042 wants opened, each with the name under which its end is told.
pub fn urls_of(data: &Value) -> Vec<(InputRequest, Option<String>)> {
    let entries = data.get("elicitations").and_then(Value::as_array).into_iter().flatten();
    entries
        .take(URLS_MAX)
        .filter_map(|entry| {
            let url = entry.get("url").and_then(Value::as_str)?;
            let message = entry.get("message").and_then(Value::as_str).unwrap_or("Open this page to go on.");
            let name = entry.get("elicitationId").and_then(Value::as_str).map(str::to_owned);
            Some((InputRequest::url(message, url), name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raw(value: &Value) -> Raw {
        Raw::value(value)
    }

    #[test]
    fn a_form_of_2025_06_18_gets_its_mode_and_keeps_the_names_of_its_choices() {
        let schema = json!({"type": "object", "properties": {
            "c": {"type": "string", "enum": ["a"], "enumNames": ["A"]}}});
        let params = json!({"message": "m", "requestedSchema": schema, "_meta": {"progressToken": 1}});
        let (asked, name) = ask_of("elicitation/create", Some(&raw(&params))).unwrap();
        assert_eq!((asked.method, name), (InputMethod::ElicitForm, None));
        let params: Value = asked.params.read().unwrap();
        assert_eq!(params, json!({"message": "m", "requestedSchema": schema, "mode": "form"}));
    }

    #[test]
    fn the_name_of_a_url_is_remembered_and_not_passed_on() {
        let params = json!({"mode": "url", "message": "m", "url": "https://a.example", "elicitationId": "e"});
        let (asked, name) = ask_of("elicitation/create", Some(&raw(&params))).unwrap();
        assert_eq!((asked.method, name.as_deref()), (InputMethod::ElicitUrl, Some("e")));
        let params: Value = asked.params.read().unwrap();
        assert_eq!(params, json!({"mode": "url", "message": "m", "url": "https://a.example"}));
        assert!(ask_of("tools/list", None).is_none());
    }

    #[test]
    fn a_call_wants_no_more_urls_opened_than_a_client_can_carry() {
        let entries = vec![json!({"url": "https://a.example", "elicitationId": "e"}); 1000];
        assert_eq!(urls_of(&json!({"elicitations": entries})).len(), URLS_MAX);
    }

    #[test]
    fn what_need_not_be_changed_is_passed_on_byte_for_byte() {
        let said = Raw::parse(r#"{"messages": [ ], "maxTokens": 12345678901234567890123}"#.into()).unwrap();
        let (asked, _) = ask_of("sampling/createMessage", Some(&said)).unwrap();
        assert_eq!(asked.params.as_str(), said.as_str());
        let result = Raw::parse(r#"{"content": [ ], "_meta": {"a": 1.50}}"#.into()).unwrap();
        assert_eq!(result_of(result.clone()).as_str(), result.as_str());
        let tied = json!({"content": [], "_meta": {RELATED_TASK: {"taskId": "t"}}});
        assert_eq!(result_of(raw(&tied)).as_str(), r#"{"content":[]}"#);
    }

    #[test]
    fn several_blocks_of_a_model_are_one_for_a_server_that_knows_one() {
        let asked = InputRequest::sampling(json!({"messages": []}));
        let said = json!({"role": "assistant", "model": "m",
                          "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
        let old: Value = answer_to(&asked, &raw(&said), Revision::V20250618).unwrap().read().unwrap();
        assert_eq!(old["content"], json!({"type": "text", "text": "a\nb"}));
        let new = answer_to(&asked, &raw(&said), Revision::V20251125).unwrap();
        assert_eq!(new.read::<Value>().unwrap(), said);
        assert!(answer_to(&asked, &raw(&json!(7)), Revision::V20251125).is_err());
    }

    #[test]
    fn a_completion_says_what_was_chosen_only_where_the_revision_knows_that() {
        let request = Request::Complete {
            of: Reference::Prompt("p".to_owned()),
            argument: "a".to_owned(),
            typed: "x".to_owned(),
            chosen: raw(&json!({"b": "y"})),
        };
        let keys = |revision| -> Vec<&str> {
            Call::new(&request, revision).unwrap().members.iter().map(|(key, _)| *key).collect()
        };
        assert_eq!(keys(Revision::V20250326), ["ref", "argument"]);
        assert_eq!(keys(Revision::V20250618), ["ref", "argument", "context"]);
    }
}
