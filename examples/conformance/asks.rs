//! The tools of the official conformance suite that need the client: they say what they need and are called again.
//!
//! Answers are never trusted to have the shape that was asked for: a wrong one is asked for again. Must not know
//! which revision the client speaks.

use serde::Deserialize;
use serde_json::{Value, json};
use waygate_mcp::plugins::{Context, Outcome, PluginError};
use waygate_mcp::protocol::content::{self, ToolResult};
use waygate_mcp::protocol::{Answers, Definition, InputRequest, Raw};

/// What came back for one key.
pub enum Reply {
    /// The form, filled in.
    Accepted(Value),
    /// The user would not.
    Refused,
    /// Nothing, or nothing of use.
    Missing,
}

/// The answer to the form asked under `key`.
pub fn reply(answers: &Answers, key: &str) -> Reply {
    let answer: Option<Value> = answers.get(key);
    match answer.as_ref().and_then(|answer| answer.get("action")?.as_str()) {
        Some("accept") => {
            answers.accepted(key).filter(Value::is_object).map_or(Reply::Missing, Reply::Accepted)
        }
        Some("decline" | "cancel") => Reply::Refused,
        _ => Reply::Missing,
    }
}

/// Asks for one thing.
pub fn ask(key: &str, request: InputRequest) -> Outcome {
    Outcome::InputRequired { requests: vec![(key.to_owned(), request)], state: None }
}

fn ask_with_state(requests: Vec<(&str, InputRequest)>, state: Value) -> Outcome {
    let requests = requests.into_iter().map(|(key, request)| (key.to_owned(), request)).collect();
    Outcome::InputRequired { requests, state: Some(state) }
}

fn says(text: &str) -> Outcome {
    Outcome::Complete(content::text_result(text))
}

pub fn definitions() -> Vec<Definition> {
    let plain =
        |name: &str, description: &str| Definition::tool(name, description, super::tools::no_arguments());
    let wants = |name: &str, description: &str, argument: &str| {
        let schema =
            json!({"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]});
        Definition::tool(name, description, schema)
    };
    vec![
        wants("test_sampling", "Asks the client's model", "prompt"),
        wants("test_elicitation", "Asks the user for a name and an address", "message"),
        plain("test_elicitation_sep1034_defaults", "Asks the user with a default for each kind of field"),
        plain("test_elicitation_sep1330_enums", "Asks the user with each kind of choice"),
        plain("test_missing_capability", "Refuses clients that cannot sample"),
        plain("test_streaming_elicitation", "Asks the user, never on the stream itself"),
        plain("test_input_required_result_elicitation", "Asks for a name and greets"),
        plain("test_input_required_result_sampling", "Asks the client's model for a capital"),
        plain("test_input_required_result_list_roots", "Asks for the client's roots"),
        plain("test_input_required_result_request_state", "Asks, and finds its own state again"),
        plain("test_input_required_result_multiple_inputs", "Asks for three things at once"),
        plain("test_input_required_result_multi_round", "Asks twice, one thing after another"),
        plain(
            "test_input_required_result_tampered_state",
            "Asks, with a state that must come back unchanged",
        ),
        plain("test_input_required_result_capabilities", "Asks for as much as the client can give"),
    ]
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Arguments {
    prompt: String,
    message: String,
}

/// Calls one of [`definitions`].
pub fn call(
    tool: &str,
    arguments: &Raw,
    answers: &Answers,
    context: &Context,
) -> Result<Outcome, PluginError> {
    let Arguments { prompt, message } =
        arguments.read().map_err(|error| PluginError::InvalidParams(error.to_string()))?;
    match tool {
        "test_sampling" => Ok(sample(answers, "sample", &prompt, "LLM response: ")),
        "test_elicitation" => {
            Ok(tell_reply(answers, "User response", || InputRequest::form(&message, account_form())))
        }
        "test_elicitation_sep1034_defaults" => Ok(tell_reply(answers, "Elicitation completed", || {
            InputRequest::form("Please check these values", form_with_defaults())
        })),
        "test_elicitation_sep1330_enums" => Ok(tell_reply(answers, "Elicitation completed", || {
            InputRequest::form("Please choose", form_of_choices())
        })),
        "test_missing_capability" if context.client().sampling => Ok(says("The client can sample.")),
        "test_missing_capability" => Err(PluginError::MissingCapability(json!({"sampling": {}}))),
        "test_streaming_elicitation" | "test_input_required_result_elicitation" => Ok(greet(answers)),
        "test_input_required_result_sampling" => {
            Ok(sample(answers, "capital_question", "What is the capital of France?", "The model says: "))
        }
        "test_input_required_result_list_roots" => Ok(match roots(answers) {
            Some(roots) => says(&format!("The client has these roots: {roots}")),
            None => ask("client_roots", InputRequest::roots()),
        }),
        "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => {
            Ok(confirm(answers))
        }
        "test_input_required_result_multiple_inputs" => Ok(ask_for_three(answers)),
        "test_input_required_result_multi_round" => Ok(ask_twice(answers)),
        "test_input_required_result_capabilities" => Ok(ask_for_what_it_can(answers, context)),
        unknown => Err(PluginError::Unknown(format!("tool {unknown}"))),
    }
}

fn name_form(property: &str) -> Value {
    json!({"type": "object", "properties": {property: {"type": "string"}}, "required": [property]})
}

fn account_form() -> Value {
    json!({
        "type": "object",
        "properties": {
            "username": {"type": "string", "description": "The user's name"},
            "email": {"type": "string", "description": "The user's address"}
        },
        "required": ["username", "email"]
    })
}

fn form_with_defaults() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "A name", "default": "John Doe"},
            "age": {"type": "integer", "description": "An age", "default": 30},
            "score": {"type": "number", "description": "A score", "default": 95.5},
            "status": {
                "type": "string", "description": "A status",
                "enum": ["active", "inactive", "pending"], "default": "active"
            },
            "verified": {"type": "boolean", "description": "Whether it was verified", "default": true}
        }
    })
}

fn form_of_choices() -> Value {
    let titled = json!([
        {"const": "value1", "title": "First Option"},
        {"const": "value2", "title": "Second Option"},
        {"const": "value3", "title": "Third Option"}
    ]);
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"]
            },
            "untitledMulti": {
                "type": "array",
                "items": {"type": "string", "enum": ["option1", "option2", "option3"]}
            },
            "titledMulti": {"type": "array", "items": {"anyOf": titled}}
        }
    })
}

fn tell_reply(answers: &Answers, before: &str, form: impl FnOnce() -> InputRequest) -> Outcome {
    match reply(answers, "form") {
        Reply::Accepted(given) => says(&format!("{before}: <action: accept, content: {given}>")),
        Reply::Refused => says(&format!("{before}: <action: refused, content: {{}}>")),
        Reply::Missing => ask("form", form()),
    }
}

fn prompt_for(text: &str, tokens_max: u32) -> InputRequest {
    let messages = json!([content::message("user", content::text(text))]);
    InputRequest::sampling(json!({"messages": messages, "maxTokens": tokens_max}))
}

fn sample(answers: &Answers, key: &str, prompt: &str, before: &str) -> Outcome {
    match sampled(answers, key) {
        Some(text) => says(&format!("{before}{text}")),
        None => ask(key, prompt_for(prompt, 100)),
    }
}

/// The text that the client's model gave; its content is one block or a list of blocks.
fn sampled(answers: &Answers, key: &str) -> Option<String> {
    let mut answer: Value = answers.get(key)?;
    let blocks = match answer.get_mut("content")?.take() {
        Value::Array(blocks) => blocks,
        block => vec![block],
    };
    blocks.iter().find_map(|block| block.get("text")?.as_str().map(str::to_owned))
}

fn roots(answers: &Answers) -> Option<String> {
    let answer: Value = answers.get("client_roots")?;
    let uris = answer.get("roots")?.as_array()?.iter().filter_map(|root| root.get("uri")?.as_str());
    Some(uris.collect::<Vec<_>>().join(", "))
}

/// The text that the user put into `property` of the form asked under `key`; `Err` holds the answer to a refusal.
fn typed(answers: &Answers, key: &str, property: &str) -> Result<Option<String>, Outcome> {
    match reply(answers, key) {
        Reply::Accepted(given) => Ok(given.get(property).and_then(Value::as_str).map(str::to_owned)),
        Reply::Refused => {
            Err(Outcome::Complete(ToolResult::failed(format!("No {property} was given.")).into_raw()))
        }
        Reply::Missing => Ok(None),
    }
}

fn ask_for_name() -> InputRequest {
    InputRequest::form("What is your name?", name_form("name"))
}

fn greet(answers: &Answers) -> Outcome {
    match typed(answers, "user_name", "name") {
        Ok(Some(name)) => says(&format!("Hello, {name}!")),
        Ok(None) => ask("user_name", ask_for_name()),
        Err(refused) => refused,
    }
}

fn confirm(answers: &Answers) -> Outcome {
    let known: Option<Value> = answers.state();
    match (reply(answers, "confirm"), known) {
        (Reply::Accepted(_), Some(state)) if state == json!({"asked": "confirm"}) => {
            says("state-ok: the state came back as it was given")
        }
        (Reply::Refused, _) => says("Nothing was confirmed."),
        _ => {
            let schema =
                json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]});
            let form = InputRequest::form("Please confirm", schema);
            ask_with_state(vec![("confirm", form)], json!({"asked": "confirm"}))
        }
    }
}

fn ask_for_three(answers: &Answers) -> Outcome {
    let name = match typed(answers, "user_name", "name") {
        Ok(name) => name,
        Err(refused) => return refused,
    };
    match (name, sampled(answers, "greeting"), roots(answers), answers.state::<Value>()) {
        (Some(name), Some(greeting), Some(roots), Some(_)) => {
            says(&format!("{greeting} ({name}; roots: {roots})"))
        }
        _ => ask_with_state(
            vec![
                ("user_name", ask_for_name()),
                ("greeting", prompt_for("Generate a greeting", 50)),
                ("client_roots", InputRequest::roots()),
            ],
            json!({"asked": ["user_name", "greeting", "client_roots"]}),
        ),
    }
}

/// What `test_input_required_result_multi_round` remembers from round to round.
#[derive(Deserialize)]
struct Rounds {
    name: Option<String>,
}

fn ask_twice(answers: &Answers) -> Outcome {
    let first_ask = || ask_with_state(vec![("step1", ask_for_name())], json!({"name": null}));
    let second_ask = |name: &str| {
        let form = InputRequest::form("What is your favourite colour?", name_form("color"));
        ask_with_state(vec![("step2", form)], json!({"name": name}))
    };
    let Some(Rounds { name }) = answers.state() else { return first_ask() };
    let (key, property) = if name.is_some() { ("step2", "color") } else { ("step1", "name") };
    match (typed(answers, key, property), name) {
        (Ok(Some(color)), Some(name)) => says(&format!("{name} likes {color}.")),
        (Ok(Some(name)), None) => second_ask(&name),
        (Ok(None), Some(name)) => second_ask(&name),
        (Ok(None), None) => first_ask(),
        (Err(refused), _) => refused,
    }
}

fn ask_for_what_it_can(answers: &Answers, context: &Context) -> Outcome {
    if matches!(reply(answers, "user_name"), Reply::Accepted(_) | Reply::Refused)
        || sampled(answers, "capital_question").is_some()
        || roots(answers).is_some()
    {
        return says("The client answered what it can be asked.");
    }
    let client = context.client();
    let asks = [
        (client.elicitation_form, "user_name", ask_for_name()),
        (client.sampling, "capital_question", prompt_for("What is the capital of France?", 100)),
        (client.roots, "client_roots", InputRequest::roots()),
    ];
    let requests: Vec<(String, InputRequest)> =
        asks.into_iter().filter(|(can, ..)| *can).map(|(_, key, ask)| (key.to_owned(), ask)).collect();
    if requests.is_empty() {
        return says("The client declared nothing that it can be asked.");
    }
    Outcome::InputRequired { requests, state: None }
}
