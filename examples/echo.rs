//! The smallest server on Waygate: one plugin with one tool, and all of the house around it.
//!
//! `cargo run --example echo`, then call the tool `echo` on `http://127.0.0.1:8000/mcp`. It takes the server's flags.

use std::borrow::Cow;
use std::future::ready;
use std::process::ExitCode;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;
use waygate_mcp::app::Builder;
use waygate_mcp::plugins::{Context, Inventory, Outcome, Plugin, PluginError, Request};
use waygate_mcp::protocol::{Definition, content};

/// Gives back what it is given.
struct Echo;

impl Echo {
    fn answer(request: &Request, context: &Context) -> Result<Outcome, PluginError> {
        match request {
            Request::Call { tool, arguments, .. } if &**tool == "echo" => {
                let Message { message } =
                    arguments.read().map_err(|error| PluginError::InvalidParams(error.to_string()))?;
                // Costs nothing unless the caller asked for progress; then the answer comes as a stream.
                for step in 1_u8..=3 {
                    context.progress(step.into(), Some(3.0), None);
                }
                Ok(Outcome::Complete(content::text_result(&message)))
            }
            Request::Call { tool, .. } => Err(PluginError::Unknown(format!("tool {tool}"))),
            other => Err(PluginError::Unknown(format!("use for {other:?} here"))),
        }
    }
}

/// The arguments of `echo`, borrowed from the request.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
}

impl Plugin for Echo {
    fn inventory(&self) -> Inventory {
        let schema = json!({
            "type": "object",
            "properties": {"message": {"type": "string", "description": "What to give back"}},
            "required": ["message"]
        });
        let echo = Definition::tool("echo", "Gives back the message it is given", schema).read_only();
        Inventory { tools: vec![echo], ..Inventory::default() }
    }

    fn handle(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(ready(Self::answer(&request, &context)))
    }
}

fn main() -> ExitCode {
    waygate_mcp::cli::main(Builder::new("echo").plain_names().plugin("echo", Arc::new(Echo)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_tool_has_a_schema_that_wants_the_message() {
        let tool = &Echo.inventory().tools[0];
        assert_eq!(tool.name(), "echo");
        assert!(tool.object().get("inputSchema").unwrap().as_str().contains(r#""required":["message"]"#));
    }
}
