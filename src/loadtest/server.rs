//! What the load costs the server: its processor time and memory, as its own diagnostics tell them. Another server than Waygate has
//! none, and a key may not open them: then it is known why they are missing.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use super::Plan;
use super::wire::Wire;

const PAGE: &str = "/diagnostics/performance";
/// A server under load answers late; what it says then is of no use for this interval.
const ANSWER_WITHIN: Duration = Duration::from_millis(900);

/// What it told.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Which process.
    pub pid: u32,
    /// Processor time that it took so far.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Its threads.
    pub threads: u64,
    /// Queues.
    pub queues: Queues,
}

/// Its queues, as far as they matter here.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Queues {
    /// That of records to be written.
    pub history: HistoryQueue,
}

/// Records to be written.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct HistoryQueue {
    /// How many wait.
    pub depth: u64,
    /// How many may.
    pub max: u64,
    /// How many found no room.
    pub dropped: u64,
}

/// Asks for it again and again.
#[derive(Default)]
pub struct Watcher {
    wire: Option<Wire>,
    /// Why there is nothing to be had.
    why_not: Option<String>,
}

impl Watcher {
    /// What the server tells now; none when it does not, or not in time.
    pub async fn look(&mut self, plan: &Plan) -> Option<Sample> {
        if self.why_not.is_some() {
            return None;
        }
        match timeout(ANSWER_WITHIN, self.ask(plan)).await {
            Ok(Some(sample)) => Some(sample),
            // It is asked again, on a new connection.
            _ => {
                self.wire = None;
                None
            }
        }
    }

    /// Why nothing is told, where that is so.
    pub fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref()
    }

    async fn ask(&mut self, plan: &Plan) -> Option<Sample> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => plan.target.connect().await.ok()?,
        };
        wire.send(&plan.renderer().page(PAGE)).await.ok()?;
        wire.flush().await.ok()?;
        let head = wire.answer().await.ok()?;
        match (head.status, serde_json::from_slice(wire.body())) {
            (200, Ok(sample)) => {
                self.wire = Some(wire);
                return Some(sample);
            }
            (200, Err(_)) | (404 | 405, _) => {
                self.why_not = Some(format!("the server tells nothing of itself at {PAGE}"));
            }
            (401 | 403, _) => {
                self.why_not = Some(format!("the key does not open {PAGE}; one with ops:read does"))
            }
            _ => {}
        }
        None
    }
}
