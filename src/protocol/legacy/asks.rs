//! What a plugin asks of the client, as requests from server to client, and what the client answers.
//!
//! MCP 2025-06-18 and 2025-11-25, client/{elicitation,sampling,roots}. Must not know who waits for the answer.

use serde_json::{Map, Value, json};

use crate::error::{ErrorCode, Fault};
use crate::protocol::{InputMethod, InputRequest, Object, Raw, Revision, RpcError};

/// The code with which 2025-11-25 tells a client to open URLs and to call again.
pub const URL_REQUIRED: i32 = -32042;

/// JSON-RPC's code for an error whose own code says nothing.
const INTERNAL: i64 = -32603;
/// JSON-RPC's code for what does not have the shape that it should.
const INVALID_PARAMS: i64 = -32602;

/// A request to the client.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What is asked.
    pub method: InputMethod,
    /// Its parameters, in the words of the session's revision.
    pub params: Raw,
    /// The name under which the end of an elicitation by URL is told.
    pub elicitation: Option<String>,
    /// Fields of a form that take several values, and had to become choices of one.
    single: Vec<String>,
}

impl Ask {
    /// Says `request` in the words of `revision`; `elicitation` names it, should it be one by URL.
    pub fn new(request: &InputRequest, revision: Revision, elicitation: &str) -> Self {
        let mut ask = Self {
            method: request.method,
            params: request.params.clone(),
            elicitation: None,
            single: Vec::new(),
        };
        match request.method {
            InputMethod::ElicitUrl => {
                ask.elicitation = Some(elicitation.to_owned());
                ask.params = changed(&request.params, |params| params.put("elicitationId", elicitation));
            }
            InputMethod::ElicitForm if !revision.has_url_elicitation() => {
                let mut single = Vec::new();
                ask.params = changed(&request.params, |params| {
                    params.remove("mode");
                    if let Some(mut schema) = params.get("requestedSchema").and_then(|raw| raw.read().ok()) {
                        single = simplify(&mut schema);
                        params.set("requestedSchema", Raw::value(&schema));
                    }
                });
                ask.single = single;
            }
            InputMethod::ElicitForm | InputMethod::Sampling | InputMethod::Roots => {}
        }
        ask
    }

    /// Reads the client's answer: the answer in the words of 2026-07-28.
    ///
    /// # Errors
    /// The client's own error; or, for an answer in a shape that is none, one that says so.
    pub fn read(&self, answer: Answer) -> Result<Raw, RpcError> {
        let result = match answer {
            Answer::Result(result) => result,
            // Whoever cannot or will not fill in a form has cancelled it: plugins know what to do then.
            Answer::Error(_) if matches!(self.method, InputMethod::ElicitForm | InputMethod::ElicitUrl) => {
                return Ok(Raw::trusted(r#"{"action":"cancel"}"#));
            }
            Answer::Error(error) => {
                let says = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
                let code = error.get("code").and_then(Value::as_i64).unwrap_or(INTERNAL);
                return Err(RpcError::new(
                    code,
                    format!("the client refused {}: {says}", self.method.name()),
                ));
            }
        };
        let wrong = |message: String| RpcError::new(INVALID_PARAMS, message);
        let value: Value = result.read().map_err(|error| wrong(error.to_string()))?;
        let fits = match self.method {
            InputMethod::Roots => value.get("roots").is_some_and(Value::is_array),
            InputMethod::Sampling => {
                let said =
                    value.get("content").is_some_and(|content| content.is_object() || content.is_array());
                said && value.get("role").is_some_and(Value::is_string)
            }
            InputMethod::ElicitForm => match value.get("action").and_then(Value::as_str) {
                Some("accept") => value.get("content").is_none_or(Value::is_object),
                action => matches!(action, Some("decline" | "cancel")),
            },
            InputMethod::ElicitUrl => {
                let action = value.get("action").and_then(Value::as_str);
                matches!(action, Some("accept" | "decline" | "cancel"))
            }
        };
        if !fits {
            return Err(wrong(format!(
                "the client's answer to {} does not have the shape of one",
                self.method.name()
            )));
        }
        Ok(if self.single.is_empty() { result } else { several(value, &self.single) })
    }
}

/// Whether an answer says that the user did as asked.
pub fn is_accepted(answer: &Raw) -> bool {
    Object::open(answer).is_ok_and(|answer| answer.text("action").as_deref() == Some("accept"))
}

/// What a client says to a request of ours.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Its result.
    Result(Raw),
    /// Its error object.
    Error(Value),
}

/// The fault that asks a client of 2025-11-25 to open URLs and then to call again, where it cannot be asked on a stream.
pub fn url_required(asks: &[Ask]) -> Fault {
    let urls: Vec<Value> = asks.iter().filter_map(|ask| ask.params.read().ok()).collect();
    Fault::new(ErrorCode::UrlElicitationRequired, "a URL must be opened first", "open it, then call again")
        .with("elicitations", urls)
}

fn changed(params: &Raw, change: impl FnOnce(&mut Object)) -> Raw {
    let Ok(mut object) = Object::open(params) else { return params.clone() };
    change(&mut object);
    object.to_raw()
}

/// Makes a form's schema one of 2025-06-18: titles of choices as `enumNames`, several choices as one. Gives the fields
/// that had several.
fn simplify(schema: &mut Value) -> Vec<String> {
    let mut single = Vec::new();
    for (name, field) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(field) = field.as_object_mut() else { continue };
        if let Some(choices) = field.remove("oneOf") {
            titled(field, &choices);
        }
        // Only those of booleans were known then.
        if field.get("type").and_then(Value::as_str) != Some("boolean") {
            field.remove("default");
        }
        if field.get("type").and_then(Value::as_str) == Some("array") {
            let items = field.remove("items").unwrap_or_default();
            field.insert("type".to_owned(), "string".into());
            field.remove("minItems");
            field.remove("maxItems");
            match (items.get("enum"), items.get("anyOf")) {
                (Some(values), _) => drop(field.insert("enum".to_owned(), values.clone())),
                (None, Some(choices)) => titled(field, choices),
                (None, None) => {}
            }
            single.push(name.clone());
        }
    }
    single
}

fn titled(field: &mut Map<String, Value>, choices: &Value) {
    let all = |key: &str| -> Vec<Value> {
        choices.as_array().into_iter().flatten().filter_map(|choice| choice.get(key).cloned()).collect()
    };
    field.insert("enum".to_owned(), all("const").into());
    field.insert("enumNames".to_owned(), all("title").into());
}

/// Makes the one value of each of these fields a list of one, as it was asked for.
fn several(mut answer: Value, fields: &[String]) -> Raw {
    for name in fields {
        if let Some(value) = answer.pointer_mut("/content").and_then(|content| content.get_mut(name)) {
            *value = json!([value.take()]);
        }
    }
    Raw::value(&answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(schema: Value, revision: Revision) -> Ask {
        Ask::new(&InputRequest::form("Say", schema), revision, "e")
    }

    fn result(value: &Value) -> Answer {
        Answer::Result(Raw::value(value))
    }

    #[test]
    fn a_form_of_2025_06_18_knows_plain_choices_only() {
        let schema = json!({"type": "object", "properties": {
            "one": {"type": "string", "oneOf": [{"const": "a", "title": "A"}, {"const": "b", "title": "B"}]},
            "many": {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 1, "default": ["y"]},
        }});
        let new = form(schema.clone(), Revision::V20251125);
        assert_eq!(new.params.read::<Value>().unwrap()["requestedSchema"], schema);
        let old = form(schema, Revision::V20250618);
        let params: Value = old.params.read().unwrap();
        assert!(params.get("mode").is_none());
        assert_eq!(
            params["requestedSchema"]["properties"],
            json!({"one": {"type": "string", "enum": ["a", "b"], "enumNames": ["A", "B"]},
                   "many": {"type": "string", "enum": ["x", "y"]}})
        );
        let answer = old.read(result(&json!({"action": "accept", "content": {"one": "a", "many": "x"}})));
        let answer: Value = answer.unwrap().read().unwrap();
        assert_eq!(answer["content"], json!({"one": "a", "many": ["x"]}));
    }

    #[test]
    fn an_answer_must_have_the_shape_of_what_was_asked() {
        let form = form(json!({"type": "object"}), Revision::V20251125);
        for good in [json!({"action": "accept", "content": {}}), json!({"action": "decline"})] {
            assert!(form.read(result(&good)).is_ok(), "{good}");
        }
        for bad in
            [json!({}), json!({"action": "yes"}), json!({"action": "accept", "content": [1]}), json!(7)]
        {
            assert!(form.read(result(&bad)).is_err(), "{bad}");
        }
        let roots = Ask::new(&InputRequest::roots(), Revision::V20241105, "e");
        assert!(roots.read(result(&json!({"roots": []}))).is_ok());
        assert!(roots.read(result(&json!({"roots": {}}))).is_err());
        let sampling = Ask::new(&InputRequest::sampling(json!({"messages": []})), Revision::V20241105, "e");
        assert!(sampling.read(result(&json!({"role": "assistant"}))).is_err());
        let refused = sampling.read(Answer::Error(json!({"code": -1, "message": "no"})));
        let refused = refused.unwrap_err();
        assert!(refused.code == -1 && refused.message.ends_with("no"), "{refused:?}");
    }

    #[test]
    fn a_form_that_the_client_cannot_show_is_cancelled() {
        let form = form(json!({"type": "object"}), Revision::V20251125);
        let answer = form.read(Answer::Error(json!({"code": -32601, "message": "no forms"}))).unwrap();
        assert_eq!(answer.as_str(), r#"{"action":"cancel"}"#);
    }

    #[test]
    fn a_url_has_a_name_by_which_its_end_is_told() {
        let ask = Ask::new(&InputRequest::url("Sign in", "https://a.example/x"), Revision::V20251125, "e-1");
        assert_eq!(ask.params.read::<Value>().unwrap()["elicitationId"], "e-1");
        let fault = url_required(&[ask]);
        assert_eq!(fault.detail("elicitations").unwrap()[0]["url"], "https://a.example/x");
        assert_eq!(fault.code.rpc(), URL_REQUIRED);
    }
}
