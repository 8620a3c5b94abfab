//! Tries one plugin outside of any server: starts it, looks at what clients would see, and stops it. Must not publish it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::make::Maker;
use crate::catalog::{Manner, Seat, SeatLimits, Shelf};
use crate::config::plugin::{McpServer, PluginLimits};
use crate::plugins::{Health, Plugin, Pulse};
use crate::protocol::render::ServerInfo;

/// What it gets to end.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What clients would see of a plugin.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// How long it took until it was ready.
    pub ready_ms: u64,
    /// What it says is amiss with it.
    pub trouble: Option<String>,
    /// Its tools, as they would be published.
    pub tools: Vec<CheckedTool>,
    /// Its prompts, as they would be published.
    pub prompts: Vec<String>,
    /// Its resources and templates.
    pub resources: Vec<String>,
    /// What would not be published, and why.
    pub refused: Vec<String>,
    /// What its tools cost a model that is shown them all.
    pub tokens: usize,
    /// What a model is told of it.
    pub instructions: Option<String>,
    /// Which era it speaks, over what, and what else it says of itself.
    pub report: Value,
}

/// One tool of it.
#[derive(Debug, Clone, Serialize)]
pub struct CheckedTool {
    /// The published name.
    pub name: String,
    /// What a model is told of it.
    pub description: Option<String>,
    /// What that costs.
    pub tokens: usize,
}

/// Starts the plugin that `file` describes, looks at it, and stops it.
///
/// # Errors
/// Why it could not be read, made or started, in one sentence.
pub async fn check_plugin(
    maker: &dyn Maker,
    name: &str,
    file: &Path,
    server: &McpServer,
) -> Result<Checked, String> {
    let began = std::time::Instant::now();
    let plugin = maker.make(name, server).map_err(|why| format!("{}: {why}", file.display()))?;
    let stop = CancellationToken::new();
    let pulse = Pulse::begin(stop.clone());
    let mut health = pulse.watch();
    let mut life = Arc::clone(&plugin).live(pulse);
    let ready = async {
        loop {
            match health.borrow_and_update().clone() {
                Health::Starting => {}
                // Nobody wants to see it wait for what may last as long as a server.
                Health::Waiting(why) => return Err(why),
                Health::Ready => return Ok(None),
                Health::Troubled(why) => return Ok(Some(why)),
            }
            if health.changed().await.is_err() {
                // Nobody will say so any more; the life says why.
                std::future::pending::<()>().await;
            }
        }
    };
    let mut is_over = false;
    let trouble = tokio::select! {
        biased;
        trouble = ready => trouble,
        ended = &mut life => {
            is_over = true;
            Err(ended.err().map_or_else(|| "it ended by itself".to_owned(), |error| error.to_string()))
        }
        () = tokio::time::sleep(server.start_timeout) => {
            Err(format!("it was not ready within {} s", server.start_timeout.as_secs_f64()))
        }
    };
    let ready_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let checked = trouble
        .map(|trouble| look(name, server, &plugin, trouble, ready_ms))
        .map_err(|why| format!("plugin {name} does not start: {why}"));
    stop.cancel();
    if !is_over {
        // Whatever it leaves behind ends with this process.
        let _ended = tokio::time::timeout(END_WITHIN, life).await;
    }
    checked
}

/// Publishes it on a shelf of its own, and looks at that.
fn look(
    name: &str,
    server: &McpServer,
    plugin: &Arc<dyn Plugin>,
    trouble: Option<String>,
    ready_ms: u64,
) -> Checked {
    let info = ServerInfo::new("waygate", env!("CARGO_PKG_VERSION"));
    let shelf = Shelf::new(Manner { page_size: 1000, ttl_ms: 0, info });
    let limits = SeatLimits {
        concurrency: 1,
        queue_max: 0,
        queue_timeout: None,
        blocking_threads: 1,
        lost_threads_max: 1,
        timeout_seconds: 1,
        breaker: None,
        start_timeout: None,
        own: PluginLimits::default(),
    };
    let curation = Arc::new(server.curation.clone());
    let seat = Arc::new(Seat::new(name, curation, Arc::clone(plugin), limits));
    drop(shelf.publish(&seat, plugin.inventory()));
    let shown = shelf.keep();
    let mut tools: Vec<CheckedTool> = shown
        .tools()
        .map(|entry| CheckedTool {
            name: entry.name.to_string(),
            description: entry.description(),
            tokens: entry.tokens(),
        })
        .collect();
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    let offer = shown.offer(&seat).cloned().unwrap_or_default();
    Checked {
        name: name.to_owned(),
        ready_ms,
        trouble,
        tokens: tools.iter().map(|tool| tool.tokens).sum(),
        tools,
        prompts: shown.prompts().map(|prompt| prompt.name.to_string()).collect(),
        resources: offer
            .resources
            .iter()
            .chain(&offer.templates)
            .map(crate::protocol::Definition::uri)
            .collect(),
        refused: shown.refused.iter().map(|refused| refused.why.clone()).collect(),
        instructions: shown.instructions.clone(),
        report: plugin.report(),
    }
}
