//! The server that the official MCP conformance suite is run against: its fixtures, as one plugin on the real house.
//!
//! `cargo run --example conformance_server`, then
//! `npx @modelcontextprotocol/conformance server --url http://127.0.0.1:8000/mcp`. It takes the server's flags, and
//! `--era modern|legacy|both`, with which it is a server that speaks one era of the protocol alone.

#[path = "conformance/asks.rs"]
mod asks;
#[path = "conformance/offers.rs"]
mod offers;
#[path = "conformance/tools.rs"]
mod tools;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use waygate_mcp::app::Builder;
use waygate_mcp::plugins::{Change, Context, Inventory, Outcome, Plugin, PluginError, Request};
use waygate_mcp::protocol::content::{self, ToolResult};
use waygate_mcp::protocol::{Answers, Eras, Raw};

/// Announcements that may wait for the house before it must look at everything anew.
const CHANGES_MAX: usize = 64;

/// Every fixture of the suite, tasks excepted.
struct Fixtures {
    changes: broadcast::Sender<Change>,
    /// How often the list of tools was announced as changed.
    tools_announced: AtomicUsize,
    /// … and that of prompts.
    prompts_announced: AtomicUsize,
}

impl Fixtures {
    fn new() -> Self {
        Self {
            changes: broadcast::Sender::new(CHANGES_MAX),
            tools_announced: AtomicUsize::new(0),
            prompts_announced: AtomicUsize::new(0),
        }
    }

    async fn answer(&self, request: Request, context: Context) -> Result<Outcome, PluginError> {
        match request {
            Request::Call { tool, arguments, answers } => {
                self.call(&tool, &arguments, &answers, &context).await
            }
            Request::Prompt { name, arguments, answers } => offers::prompt(&name, &arguments, &answers),
            Request::Read { uri, .. } => offers::read(&uri),
            Request::Complete { of, argument, typed, .. } => Ok(offers::complete(&of, &argument, &typed)),
            // Every resource may be watched; all but one never change.
            Request::Subscribe { uri, .. } => {
                offers::read(&uri).map(|_contents| Outcome::Complete(Raw::value(&json!({}))))
            }
        }
    }

    async fn call(
        &self,
        tool: &str,
        arguments: &Raw,
        answers: &Answers,
        context: &Context,
    ) -> Result<Outcome, PluginError> {
        if let Some(change) = self.change_of(tool) {
            // Nobody listens before the house has started this plugin: then nobody need be told.
            drop(self.changes.send(change));
            return Ok(Outcome::Complete(content::text_result("The change was announced.")));
        }
        let given: Value = arguments.read().map_err(|error| PluginError::InvalidParams(error.to_string()))?;
        match tools::call(tool, &given, context).await.map(ToolResult::into_raw) {
            Some(result) => Ok(Outcome::Complete(result)),
            None => asks::call(tool, arguments, answers, context),
        }
    }

    /// The change that `tool` makes and announces.
    fn change_of(&self, tool: &str) -> Option<Change> {
        match tool {
            "test_trigger_tool_change" => {
                self.tools_announced.fetch_add(1, Ordering::Relaxed);
                Some(Change::Tools)
            }
            "test_trigger_prompt_change" => {
                self.prompts_announced.fetch_add(1, Ordering::Relaxed);
                Some(Change::Prompts)
            }
            "test_trigger_resource_update" => Some(Change::Updated(offers::WATCHED.to_owned())),
            _ => None,
        }
    }
}

impl Plugin for Fixtures {
    fn inventory(&self) -> Inventory {
        let mut tools = tools::definitions(self.tools_announced.load(Ordering::Relaxed));
        tools.extend(asks::definitions());
        Inventory {
            tools,
            prompts: offers::prompts(self.prompts_announced.load(Ordering::Relaxed)),
            resources: offers::resources(),
            templates: offers::templates(),
            instructions: Some("Fixtures of the MCP conformance suite; of no use but to it.".to_owned()),
            completes: true,
            subscribes: true,
            ..Inventory::default()
        }
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn handle(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(async move { self.answer(request, context).await })
    }
}

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let eras = match take_era(&mut arguments).as_deref() {
        None | Some("both") => Eras::Both,
        Some("modern") => Eras::Modern,
        Some("legacy") => Eras::Legacy,
        Some(other) => {
            eprintln!("conformance_server: there is no era {other:?}; say modern, legacy or both");
            return ExitCode::from(2);
        }
    };
    let builder = Builder::new("conformance").plain_names().eras(eras);
    waygate_mcp::cli::main_of(builder.plugin("conformance", Arc::new(Fixtures::new())), arguments)
}

/// Takes `--era <era>` out of the arguments: the rest is the server's.
fn take_era(arguments: &mut Vec<OsString>) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == "--era")?;
    let taken: Vec<OsString> = arguments.splice(at..(at + 2).min(arguments.len()), []).collect();
    Some(taken.get(1).map(|era| era.to_string_lossy().into_owned()).unwrap_or_default())
}

#[cfg(test)]
#[path = "conformance/tests.rs"]
mod tests;
