//! What asks its client: once, for ever, for the client's model, or only to come back.

use serde::Deserialize;
use serde_json::{Value, json};
use waygate_mcp::plugins::Outcome;
use waygate_mcp::protocol::content::{self, ToolResult};
use waygate_mcp::protocol::{Answers, InputRequest, Raw};

fn form() -> InputRequest {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    InputRequest::form("What is your name?", schema)
}

fn name(answers: &Answers) -> Option<String> {
    answers.accepted("name")?.get("name")?.as_str().map(str::to_owned)
}

fn refused(answers: &Answers) -> bool {
    let action =
        answers.get("name").and_then(|answer: Value| answer.get("action")?.as_str().map(str::to_owned));
    matches!(action.as_deref(), Some("decline" | "cancel"))
}

fn wants(result: impl FnOnce(&str) -> Raw, answers: &Answers) -> Outcome {
    match name(answers) {
        Some(name) => Outcome::Complete(result(&name)),
        None => Outcome::InputRequired { requests: vec![("name".to_owned(), form())], state: None },
    }
}

/// Asks for a name and greets it.
pub fn ask(given: &Value, answers: &Answers) -> Outcome {
    if refused(answers) {
        return Outcome::Complete(ToolResult::failed("No name was given.").into_raw());
    }
    let city = given.get("city").and_then(Value::as_str).unwrap_or("nowhere");
    wants(|name| content::text_result(&format!("Hello, {name} of {city}!")), answers)
}

/// The same for a prompt.
pub fn prompt(answers: &Answers) -> Outcome {
    let says = |name: &str| content::message("user", content::text(format!("Greet {name}.")));
    wants(|name| content::prompt("A greeting", vec![says(name)]), answers)
}

/// The same for a resource.
pub fn resource(uri: &str, answers: &Answers) -> Outcome {
    wants(|name| content::read(vec![content::text_contents(uri, "text/plain", name)]), answers)
}

#[derive(Deserialize)]
struct Rounds {
    round: u32,
}

/// Asks one more thing, whatever was answered.
pub fn ask_forever(answers: &Answers) -> Outcome {
    let round = answers.state().map_or(0, |Rounds { round }| round) + 1;
    Outcome::InputRequired {
        requests: vec![(format!("step{round}"), form())],
        state: Some(json!({"round": round})),
    }
}

/// Asks the client's model.
pub fn ask_sampling(answers: &Answers) -> Outcome {
    let answer: Option<Value> = answers.get("model");
    match answer.as_ref().and_then(|answer| answer.get("content")?.get("text")?.as_str()) {
        Some(text) => Outcome::Complete(content::text_result(text)),
        None => {
            let messages = json!([content::message("user", content::text("Say something."))]);
            let request = InputRequest::sampling(json!({"messages": messages, "maxTokens": 10}));
            Outcome::InputRequired { requests: vec![("model".to_owned(), request)], state: None }
        }
    }
}

/// Asks for nothing but to be called again.
pub fn come_back(answers: &Answers) -> Outcome {
    match answers.state::<Value>() {
        Some(_) => Outcome::Complete(content::text_result("back again")),
        None => Outcome::InputRequired { requests: Vec::new(), state: Some(json!({"later": true})) },
    }
}
