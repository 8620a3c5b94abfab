//! A server whose plugins misbehave on request: what the black-box tests run against. It takes the server's flags.
//!
//! Must not be clever: each tool does the one thing that its name says.

#[path = "faulty/asks.rs"]
mod asks;
#[path = "faulty/definitions.rs"]
mod definitions;
#[path = "faulty/fake.rs"]
mod fake;
#[path = "faulty/tools.rs"]
mod tools;

use std::future::ready;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use waygate_mcp::app::Builder;
use waygate_mcp::plugins::{Change, Context, Inventory, Outcome, Plugin, PluginError, Reference, Request};
use waygate_mcp::protocol::{Answers, Definition, Raw, content};

/// Announcements that may wait for the house before it must look at everything anew.
const CHANGES_MAX: usize = 1024;
/// How many tools the plugin `many` has.
const MANY: usize = 250;
/// The resource that the tool `touch` changes.
const COUNTER: &str = "test://counter";

/// Does what it is asked to do wrong.
struct Faulty {
    changes: broadcast::Sender<Change>,
    counter: AtomicU64,
    /// How often items that hold for a while were read.
    reads: AtomicU64,
    /// How often each list was changed; it shows in that list, so that the change is a real one.
    touches: [AtomicU64; 3],
}

impl Faulty {
    fn new() -> Self {
        Self {
            changes: broadcast::Sender::new(CHANGES_MAX),
            counter: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            touches: Default::default(),
        }
    }

    async fn answer(&self, request: Request, context: Context) -> Result<Outcome, PluginError> {
        match request {
            Request::Call { tool, arguments, answers } => {
                self.call(&tool, &arguments, &answers, &context).await
            }
            Request::Prompt { name, arguments, answers } => prompt(&name, &arguments, &answers),
            Request::Read { uri, answers } => self.read(&uri, &answers),
            Request::Complete { of, argument, typed, .. } => complete(&of, &argument, &typed),
            Request::Subscribe { uri, .. } if uri == COUNTER => Ok(Outcome::Complete(Raw::value(&json!({})))),
            Request::Subscribe { uri, .. } => Err(PluginError::Unknown(format!("watchable resource {uri}"))),
        }
    }

    async fn call(
        &self,
        tool: &str,
        arguments: &Raw,
        answers: &Answers,
        context: &Context,
    ) -> Result<Outcome, PluginError> {
        let given: Value = arguments.read().map_err(|error| PluginError::InvalidParams(error.to_string()))?;
        match tool {
            "touch" => Ok(self.touch(&given)),
            "ask" => Ok(asks::ask(&given, answers)),
            "ask_forever" => Ok(asks::ask_forever(answers)),
            "ask_sampling" => Ok(asks::ask_sampling(answers)),
            "ask_times" => Ok(asks::ask_times(&given, answers, context)),
            "ask_many" => Ok(asks::ask_many(&given, answers)),
            "ask_url" => Ok(asks::ask_url(answers)),
            "ask_model_with_tools" => Ok(asks::ask_model_with_tools(answers)),
            "ask_roots" => Ok(asks::ask_roots(answers)),
            "ask_choices" => Ok(asks::ask_choices(answers)),
            "come_back" => Ok(asks::come_back(answers)),
            _ => tools::call(tool, arguments, &given, context).await,
        }
    }

    /// Changes one thing and says so.
    fn touch(&self, given: &Value) -> Outcome {
        let lists =
            [("tools", Change::Tools), ("prompts", Change::Prompts), ("resources", Change::Resources)];
        let what = given.get("what").and_then(Value::as_str);
        let list = lists.into_iter().zip(&self.touches).find(|((name, _), _)| Some(*name) == what);
        let change = match list {
            Some(((_, change), touches)) => {
                touches.fetch_add(1, Ordering::Relaxed);
                change
            }
            None => {
                self.counter.fetch_add(1, Ordering::Relaxed);
                Change::Updated(what.filter(|what| what.contains("://")).unwrap_or(COUNTER).to_owned())
            }
        };
        // Nobody listens before the house has started this plugin: then nobody need be told.
        drop(self.changes.send(change));
        Outcome::Complete(content::text_result("touched"))
    }

    fn read(&self, uri: &str, answers: &Answers) -> Result<Outcome, PluginError> {
        let text = match uri {
            COUNTER => self.counter.load(Ordering::Relaxed).to_string(),
            "test://grüße" => "grüße".to_owned(),
            "test://asks" => return Ok(asks::resource(uri, answers)),
            "test://empty" => return Ok(Outcome::Complete(content::read(Vec::new()))),
            // Holds for a minute, and is another each time: whoever gets the same got what was kept.
            _ if uri.starts_with("test://item/kept") => {
                let text = self.reads.fetch_add(1, Ordering::Relaxed).to_string();
                let contents = json!([content::text_contents(uri, "text/plain", text)]);
                let scope = if uri.ends_with("for-all") { "public" } else { "private" };
                let result = json!({"contents": contents, "ttlMs": 60_000, "cacheScope": scope});
                return Ok(Outcome::Complete(Raw::value(&result)));
            }
            _ => match uri.strip_prefix("test://item/") {
                Some(id) if id != "missing" => format!("item {id}"),
                _ => return Err(PluginError::Unknown(format!("resource {uri}"))),
            },
        };
        Ok(Outcome::Complete(content::read(vec![content::text_contents(uri, "text/plain", text)])))
    }
}

fn prompt(name: &str, arguments: &Raw, answers: &Answers) -> Result<Outcome, PluginError> {
    let given: Value = arguments.read().map_err(|error| PluginError::InvalidParams(error.to_string()))?;
    match name {
        "greeting" => {
            let who = given.get("who").and_then(Value::as_str).unwrap_or_default();
            let says = content::message("user", content::text(format!("Greet {who}.")));
            Ok(Outcome::Complete(content::prompt("A greeting", vec![says])))
        }
        "prompt_asks" => Ok(asks::prompt(answers)),
        "rich" => {
            let says = content::message("user", content::audio("AAAA", "audio/wav"));
            let links = content::message("user", content::link("test://counter", "counter"));
            Ok(Outcome::Complete(content::prompt("Of every age", vec![says, links])))
        }
        "prompt_nonsense" => Ok(Outcome::Complete(Raw::value(&json!({"description": "no messages"})))),
        unknown => Err(PluginError::Unknown(format!("prompt {unknown}"))),
    }
}

/// Completes `style` of the prompt `greeting` and `id` of the items; asks, where it may not, for `who`.
fn complete(of: &Reference, argument: &str, typed: &str) -> Result<Outcome, PluginError> {
    let values: Vec<String> = match (of, argument) {
        (Reference::Prompt(_), "style") => vec!["formal".to_owned(), "friendly".to_owned()],
        (Reference::Resource(_), "id") => (0..MANY).map(|n| n.to_string()).collect(),
        (Reference::Prompt(_), "who") => return Ok(asks::ask(&json!({}), &Answers::default())),
        _ => return Err(PluginError::InvalidParams(format!("nothing completes {argument}"))),
    };
    let fitting = values.into_iter().filter(|value| value.starts_with(typed)).collect();
    Ok(Outcome::Complete(content::completion(fitting)))
}

impl Plugin for Faulty {
    fn inventory(&self) -> Inventory {
        definitions::inventory(self.touches.each_ref().map(|touches| touches.load(Ordering::Relaxed)))
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

/// Has so many tools that they make several pages.
struct Many;

impl Plugin for Many {
    fn inventory(&self) -> Inventory {
        let schema = json!({"type": "object", "additionalProperties": false});
        let tool =
            |n: usize| Definition::tool(&format!("tool_{n:03}"), &format!("Tool number {n}"), schema.clone());
        Inventory { tools: (0..MANY).map(tool).collect(), ..Inventory::default() }
    }

    fn handle(self: Arc<Self>, _: Request, _: Context) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(ready(Ok(Outcome::Complete(content::text_result("one of many")))))
    }
}

fn main() -> ExitCode {
    let faulty = Builder::new("faulty")
        .plain_names()
        .made_by(Arc::new(fake::Fakes))
        .plugin("faulty", Arc::new(Faulty::new()));
    waygate_mcp::cli::main(faulty.plugin("many", Arc::new(Many)))
}
