//! What the load costs the server: its processor time and memory, as its own diagnostics tell them. Another server than Waygate has
//! none, and a key may not open them: then it is known why they are missing.

use std::io;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::time::timeout;

use super::Plan;
use super::wire::Wire;

const PAGE: &str = "/diagnostics/performance";
/// A server under load answers late; what it says then is of no use for this interval.
const ANSWER_WITHIN: Duration = Duration::from_millis(900);

/// What it told, and when.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// When its answer came.
    pub at: Instant,
    /// Its answer.
    pub sample: Sample,
}

/// Its figures.
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
    pub async fn look(&mut self, plan: &Plan) -> Option<Told> {
        if self.why_not.is_some() {
            return None;
        }
        let asked = async {
            // The server may have closed it while nothing was asked.
            if let Some(kept) = self.wire.take()
                && let Ok(sample) = self.ask(kept, plan).await
            {
                return Ok(sample);
            }
            let fresh = plan.target.connect().await?;
            self.ask(fresh, plan).await
        };
        let sample: io::Result<Option<Sample>> = timeout(ANSWER_WITHIN, asked).await.ok()?;
        Some(Told { sample: sample.ok()??, at: Instant::now() })
    }

    /// Why nothing is told, where that is so.
    pub fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref()
    }

    /// Asks over this connection, and keeps it when it can go on.
    async fn ask(&mut self, mut wire: Wire, plan: &Plan) -> io::Result<Option<Sample>> {
        wire.send(&plan.renderer(0).page(PAGE)).await?;
        wire.flush().await?;
        let head = wire.answer().await?;
        match (head.status, serde_json::from_slice(wire.body())) {
            (200, Ok(sample)) => {
                self.wire = Some(wire).filter(|_| !head.closes);
                return Ok(Some(sample));
            }
            (200, Err(_)) | (404 | 405, _) => {
                self.why_not = Some(format!("the server tells nothing of itself at {PAGE}"));
            }
            (401 | 403, _) => {
                self.why_not = Some(format!("the key does not open {PAGE}; one with ops:read does"));
            }
            // Said to the connection, not to the request.
            (408, _) => return Err(io::ErrorKind::TimedOut.into()),
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::Target;
    use super::*;

    #[tokio::test]
    async fn a_kept_connection_that_was_closed_meanwhile_costs_no_look() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let body = r#"{"pid":7,"cpuSeconds":1.5,"rssBytes":9,"threads":2,"queues":{"history":{"depth":0,"max":1,"dropped":0}}}"#;
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 1024];
                assert!(stream.read(&mut asked).await.unwrap() > 0);
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let plan = Plan::of(Target::find(&url, false).await.unwrap(), Vec::new());
        let mut watcher = Watcher::default();
        for _ in 0..2 {
            assert_eq!(watcher.look(&plan).await.map(|told| told.sample.pid), Some(7));
        }
        server.await.unwrap();
        assert!(watcher.look(&plan).await.is_none() && watcher.why_not().is_none());
    }
}
