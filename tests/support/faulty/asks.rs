//! What asks its client: once, for ever, for the client's model, or only to come back.

use serde::Deserialize;
use serde_json::{Value, json};
use waygate_mcp::plugins::{Context, Outcome};
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

/// Asks `n` times, and tells its progress from the beginning in each round.
pub fn ask_times(given: &Value, answers: &Answers, context: &Context) -> Outcome {
    let n = given.get("n").and_then(Value::as_u64).unwrap_or(2) as u32;
    let round = answers.state().map_or(0, |Rounds { round }| round);
    for step in 0..=round {
        context.progress(f64::from(step), Some(f64::from(n)), Some("another round"));
    }
    if round < n {
        let requests = vec![(format!("step{round}"), form())];
        return Outcome::InputRequired { requests, state: Some(json!({"round": round + 1})) };
    }
    Outcome::Complete(content::text_result(&format!("asked {round} times")))
}

/// Asks for `n` names at once and repeats them in the order in which it asked.
pub fn ask_many(given: &Value, answers: &Answers) -> Outcome {
    let n = given.get("n").and_then(Value::as_u64).unwrap_or(3);
    if answers.is_first() {
        let requests = (0..n).map(|n| (format!("name{n}"), form())).collect();
        return Outcome::InputRequired { requests, state: None };
    }
    let names: Vec<String> = (0..n)
        .map(|n| answers.accepted(&format!("name{n}")).map_or_else(|| "nobody".to_owned(), name_in))
        .collect();
    Outcome::Complete(content::text_result(&names.join(", ")))
}

fn name_in(answer: Value) -> String {
    answer.get("name").and_then(Value::as_str).unwrap_or("nobody").to_owned()
}

/// Asks the user to open a URL, and says what became of it.
pub fn ask_url(answers: &Answers) -> Outcome {
    match answers.get::<Value>("url").as_ref().and_then(|answer| answer.get("action")?.as_str()) {
        Some(action) => Outcome::Complete(content::text_result(action)),
        None => {
            let request = InputRequest::url("Please sign in.", "https://example.com/sign-in");
            Outcome::InputRequired { requests: vec![("url".to_owned(), request)], state: None }
        }
    }
}

/// Asks the client's model, which may use a tool.
pub fn ask_model_with_tools(answers: &Answers) -> Outcome {
    match answers.get::<Value>("model") {
        Some(answer) => Outcome::Complete(content::text_result(&answer.to_string())),
        None => {
            let tool = json!({"name": "add", "description": "Adds", "inputSchema": {"type": "object"}});
            let messages = json!([content::message("user", content::text("Add."))]);
            let params = json!({"messages": messages, "maxTokens": 10, "tools": [tool]});
            let requests = vec![("model".to_owned(), InputRequest::sampling(params))];
            Outcome::InputRequired { requests, state: None }
        }
    }
}

/// Asks for the client's roots and repeats them.
pub fn ask_roots(answers: &Answers) -> Outcome {
    match answers.get::<Value>("roots") {
        Some(answer) => Outcome::Complete(content::text_result(&answer.to_string())),
        None => {
            let requests = vec![("roots".to_owned(), InputRequest::roots())];
            Outcome::InputRequired { requests, state: None }
        }
    }
}

/// Asks for one of several words and for some of several, with titles, and repeats the answer.
pub fn ask_choices(answers: &Answers) -> Outcome {
    if let Some(answer) = answers.accepted("choices") {
        return Outcome::Complete(content::text_result(&answer.to_string()));
    }
    let titled = json!([{"const": "r", "title": "Red"}, {"const": "g", "title": "Green"}]);
    let schema = json!({"type": "object", "properties": {
        "one": {"type": "string", "oneOf": titled},
        "some": {"type": "array", "items": {"anyOf": titled}, "minItems": 1},
    }});
    let requests = vec![("choices".to_owned(), InputRequest::form("Which?", schema))];
    Outcome::InputRequired { requests, state: None }
}
