//! A server whose plugins are curated and bundled: what the black-box tests of bundles run against. It takes the server's
//! flags.
//!
//! Must not be clever: each tool does the one thing that its name says.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use waygate_mcp::app::Builder;
use waygate_mcp::config::plugin::{BundleFile, Curation, ToolCuration};
use waygate_mcp::plugins::{Change, Context, Inventory, Outcome, Plugin, PluginError, Request};
use waygate_mcp::protocol::{Definition, InputRequest, content};

/// Offers a few things under its name.
struct Shelf {
    name: &'static str,
    changes: broadcast::Sender<Change>,
    /// How often it was touched; it shows in its list.
    touches: AtomicU64,
}

impl Shelf {
    fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, changes: broadcast::Sender::new(64), touches: AtomicU64::new(0) })
    }

    async fn answer(&self, request: Request) -> Result<Outcome, PluginError> {
        let done = |text: &str| Ok(Outcome::Complete(content::text_result(text)));
        match request {
            Request::Call { tool, answers, .. } => match &*tool {
                "touch" => {
                    self.touches.fetch_add(1, Ordering::Relaxed);
                    drop(self.changes.send(Change::Tools));
                    done("touched")
                }
                "link" => Ok(Outcome::Complete(waygate_mcp::protocol::Raw::value(&json!({
                    "content": [{"type": "resource_link", "uri": format!("{}://linked", self.name), "name": "linked"}],
                })))),
                "slow" => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    done("late")
                }
                "ask" if answers.is_first() => Ok(Outcome::InputRequired {
                    requests: vec![(
                        "name".to_owned(),
                        InputRequest::form(
                            "Who?",
                            json!({"type": "object", "properties": {"name": {"type": "string"}}}),
                        ),
                    )],
                    state: None,
                }),
                own => done(&format!("{} of {}", own, self.name)),
            },
            Request::Prompt { name, .. } => {
                let says = content::message("user", content::text(format!("{name} of {}", self.name)));
                Ok(Outcome::Complete(content::prompt("A prompt", vec![says])))
            }
            Request::Read { uri, .. } => {
                let text = format!("{uri} of {}", self.name);
                Ok(Outcome::Complete(content::read(vec![content::text_contents(&uri, "text/plain", text)])))
            }
            other => Err(PluginError::Unknown(format!("use for {other:?} here"))),
        }
    }
}

impl Plugin for Shelf {
    fn inventory(&self) -> Inventory {
        let touches = self.touches.load(Ordering::Relaxed);
        let tool = |name: &str| {
            Definition::tool(name, &format!("{name}, touched {touches} times"), json!({"type": "object"}))
        };
        let names = ["say", "add", "danger", "odd/name", "link", "touch", "slow", "ask"];
        Inventory {
            tools: names.map(tool).into(),
            prompts: vec![Definition::prompt("hello", "Says hello")],
            resources: vec![
                Definition::resource("both://note", "Named by both"),
                Definition::resource(&format!("{}://note", self.name), "Its own"),
            ],
            instructions: Some(format!("All about {}.", self.name)),
            ..Inventory::default()
        }
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn handle(
        self: Arc<Self>,
        request: Request,
        _: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(async move { self.answer(request).await })
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn main() -> ExitCode {
    let say = ToolCuration {
        rename: Some("speak".to_owned()),
        description: Some("Speaks".to_owned()),
        annotations: Some::<Value>(json!({"readOnlyHint": true})),
        ..ToolCuration::default()
    };
    let slow = ToolCuration { timeout: Some(Duration::from_secs(1)), ..ToolCuration::default() };
    let alpha = Curation {
        front: true,
        deny: words(&["danger"]),
        tools: [("say".to_owned(), say), ("slow".to_owned(), slow)].into(),
        ..Curation::default()
    };
    let few = BundleFile {
        plugins: words(&["alpha"]),
        tools: words(&["alpha__a*", "*__touch"]),
        instructions: Some("A few of them.".to_owned()),
        ..BundleFile::default()
    };
    let plain =
        BundleFile { plugins: words(&["beta", "alpha", "gamma"]), plain: true, ..BundleFile::default() };
    let server = Builder::new("bundled")
        .curated("alpha", Shelf::new("alpha"), alpha)
        .curated("beta", Shelf::new("beta"), Curation::default())
        .bundle("few", few)
        .bundle("plain", plain)
        .bundle("beta", BundleFile::default());
    waygate_mcp::cli::main(server)
}
