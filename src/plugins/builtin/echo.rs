//! The built-in plugin `load`, of servers that are started to be measured and of no others: a tool that gives back what it is given,
//! and tells three times how far it is to who asks for that. What a call costs with it is what it costs with any.

use std::borrow::Cow;
use std::future::ready;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;

use crate::plugins::{Context, Inventory, Outcome, Plugin, PluginError, Request};
use crate::protocol::{Definition, content};

/// How often it tells how far it is.
const STEPS: u32 = 3;

/// Gives back what it is given.
pub struct Echo;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
}

impl Echo {
    /// One.
    pub fn new() -> Arc<Self> {
        Arc::new(Self)
    }

    fn answer(request: &Request, context: &Context) -> Result<Outcome, PluginError> {
        match request {
            Request::Call { tool, arguments, .. } if &**tool == "echo" => {
                let Message { message } =
                    arguments.read().map_err(|error| PluginError::InvalidParams(error.to_string()))?;
                for step in 1..=STEPS {
                    context.progress(f64::from(step), Some(f64::from(STEPS)), None);
                }
                Ok(Outcome::Complete(content::text_result(&message)))
            }
            Request::Call { tool, .. } => Err(PluginError::Unknown(format!("tool {tool}"))),
            other => Err(PluginError::Unknown(format!("use for {other:?} here"))),
        }
    }
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
