//! The prompts, resources, template and completions that the official conformance suite asks for.
//!
//! Must not know how they are listed or sent.

use serde::Deserialize;
use serde_json::{Value, json};
use waygate_mcp::plugins::{Outcome, PluginError, Reference};
use waygate_mcp::protocol::{Answers, Definition, InputRequest, Raw, content};

use super::asks::{Reply, ask, reply};
use super::tools::PNG;

const STATIC_TEXT: &str = "test://static-text";
const STATIC_BINARY: &str = "test://static-binary";
const TEMPLATE: &str = "test://template/{id}/data";
/// The resource that the suite subscribes to.
pub const WATCHED: &str = "test://watched-resource";

/// Words that the first argument of `test_prompt_with_arguments` may be.
const WORDS: &[&str] = &["paris", "park", "parsley", "party", "test"];

pub fn prompts(announced: usize) -> Vec<Definition> {
    let changing =
        format!("A prompt without arguments; the list of prompts was announced anew {announced} times");
    vec![
        Definition::prompt("test_simple_prompt", &changing),
        Definition::prompt("test_prompt_with_arguments", "A prompt that repeats its two arguments")
            .argument("arg1", "The first word", true)
            .argument("arg2", "The second word", true),
        Definition::prompt("test_prompt_with_embedded_resource", "A prompt that embeds a resource").argument(
            "resourceUri",
            "The URI that the embedded resource shall bear",
            true,
        ),
        Definition::prompt("test_prompt_with_image", "A prompt with an image"),
        Definition::prompt("test_input_required_result_prompt", "A prompt that asks for its context first"),
    ]
}

pub fn resources() -> Vec<Definition> {
    vec![
        Definition::resource(STATIC_TEXT, "Static text")
            .with("description", "Text that never changes")
            .with("mimeType", "text/plain"),
        Definition::resource(STATIC_BINARY, "Static image")
            .with("description", "An image that never changes")
            .with("mimeType", "image/png"),
        Definition::resource(WATCHED, "Watched text")
            .with("description", "Text that test_trigger_resource_update announces as changed")
            .with("mimeType", "text/plain"),
    ]
}

pub fn templates() -> Vec<Definition> {
    vec![
        Definition::template(TEMPLATE, "Data by id")
            .with("description", "A JSON document that names the id it was read by")
            .with("mimeType", "application/json"),
    ]
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Arguments {
    arg1: String,
    arg2: String,
    resource_uri: String,
}

pub fn prompt(name: &str, arguments: &Raw, answers: &Answers) -> Result<Outcome, PluginError> {
    let Arguments { arg1, arg2, resource_uri } =
        arguments.read().map_err(|error| PluginError::InvalidParams(error.to_string()))?;
    let user = |block: Value| content::message("user", block);
    let messages = match name {
        "test_simple_prompt" => vec![user(content::text("This is a simple prompt for testing."))],
        "test_prompt_with_arguments" => {
            vec![user(content::text(format!("Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")))]
        }
        "test_prompt_with_embedded_resource" => {
            let text = "Embedded resource content for testing.";
            let resource = content::text_contents(&resource_uri, "text/plain", text);
            vec![
                user(content::embedded(resource)),
                user(content::text("Please process the embedded resource above.")),
            ]
        }
        "test_prompt_with_image" => vec![
            user(content::image(PNG, "image/png")),
            user(content::text("Please analyze the image above.")),
        ],
        "test_input_required_result_prompt" => match reply(answers, "user_context") {
            Reply::Accepted(given) => {
                let context = given.get("context").and_then(Value::as_str).unwrap_or("nothing in particular");
                vec![user(content::text(format!("Work in this context: {context}")))]
            }
            Reply::Refused => vec![user(content::text("Work without any context: none was given."))],
            Reply::Missing => return Ok(ask("user_context", context_form())),
        },
        unknown => return Err(PluginError::Unknown(format!("prompt {unknown}"))),
    };
    Ok(Outcome::Complete(content::prompt("A prompt of the conformance suite", messages)))
}

fn context_form() -> InputRequest {
    let schema = json!({
        "type": "object",
        "properties": {"context": {"type": "string", "description": "What the prompt shall be about"}},
        "required": ["context"]
    });
    InputRequest::form("What context should the prompt use?", schema)
}

pub fn read(uri: &str) -> Result<Outcome, PluginError> {
    let contents = match uri {
        STATIC_TEXT => {
            content::text_contents(uri, "text/plain", "This is the content of the static text resource.")
        }
        STATIC_BINARY => content::blob_contents(uri, "image/png", PNG),
        WATCHED => content::text_contents(uri, "text/plain", "This is the content of the watched resource."),
        other => match id_of(other) {
            Some(id) => {
                let data = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
                content::text_contents(uri, "application/json", data.to_string())
            }
            None => return Err(PluginError::Unknown(format!("resource {other}"))),
        },
    };
    Ok(Outcome::Complete(content::read(vec![contents])))
}

/// The `{id}` of a URI that the template covers.
fn id_of(uri: &str) -> Option<&str> {
    let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

pub fn complete(of: &Reference, argument: &str, typed: &str) -> Outcome {
    let known: Vec<String> = match (of, argument) {
        (Reference::Prompt(name), "arg1") if name == "test_prompt_with_arguments" => {
            WORDS.iter().map(|&word| word.to_owned()).collect()
        }
        (Reference::Resource(template), "id") if template == TEMPLATE => {
            (1..=200).map(|id: u32| id.to_string()).collect()
        }
        _ => Vec::new(),
    };
    Outcome::Complete(content::completion(
        known.into_iter().filter(|value| value.starts_with(typed)).collect(),
    ))
}
