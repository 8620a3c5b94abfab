//! A tool that asks its user: it says what it needs, and is called again with the answer.
//!
//! `cargo run --example greet`. It takes the server's flags.

use std::process::ExitCode;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use waygate_mcp::app::Builder;
use waygate_mcp::plugins::{Context, Inventory, Outcome, Plugin, PluginError, Request};
use waygate_mcp::protocol::{Answers, Definition, InputRequest, content};

/// Greets by the name that the user types.
struct Greeter;

/// The key of the question, for the answer to be found under.
const NAME: &str = "name";

impl Greeter {
    fn greet(answers: &Answers) -> Outcome {
        // What comes back is the client's word: a wrong shape is asked for again.
        let given = answers.accepted(NAME);
        let name = given.as_ref().and_then(|form| form.get("name")?.as_str());
        if let Some(name) = name {
            return Outcome::Complete(content::text_result(&format!("Hello, {name}!")));
        }
        let answer: Option<Value> = answers.get(NAME);
        if answer.is_some_and(|answer| answer.get("action").is_some_and(|action| action != "accept")) {
            return Outcome::Complete(content::text_result("Hello, whoever you are."));
        }
        let form =
            json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
        let question = InputRequest::form("What is your name?", form);
        // `state` would come back with the answers, unseen and unchanged by the client.
        Outcome::InputRequired { requests: vec![(NAME.to_owned(), question)], state: None }
    }
}

impl Plugin for Greeter {
    fn inventory(&self) -> Inventory {
        let schema = json!({"type": "object", "properties": {}});
        let greet = Definition::tool("greet", "Asks for a name and greets", schema).read_only();
        Inventory { tools: vec![greet], ..Inventory::default() }
    }

    fn handle(
        self: Arc<Self>,
        request: Request,
        _: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        let outcome = match request {
            Request::Call { tool, answers, .. } if &*tool == "greet" => Ok(Self::greet(&answers)),
            other => Err(PluginError::Unknown(format!("use for {other:?} here"))),
        };
        Box::pin(std::future::ready(outcome))
    }
}

fn main() -> ExitCode {
    waygate_mcp::cli::main(Builder::new("greet").plain_names().plugin("greet", Arc::new(Greeter)))
}
