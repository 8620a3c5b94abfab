//! How others ask that the plugins' folder be read again, and what they hear. Must not know files, or who carries it out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::{ErrorCode, Fault};

/// Reloads that may be asked for while one runs; they are answered by one.
const WAITING_MAX: usize = 16;

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    /// Plugins and bundles that came.
    pub added: Vec<String>,
    /// That went.
    pub removed: Vec<String>,
    /// That were replaced.
    pub changed: Vec<String>,
    /// That were left alone.
    pub unchanged: Vec<String>,
    /// Whose file is bad, or which did not become ready.
    pub failed: Vec<Failed>,
    /// How long it took.
    pub took_ms: u64,
}

/// What did not go well with one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The plugin's or bundle's name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// The place and the reason.
    pub why: String,
}

/// One who asks for a reload.
#[derive(Debug)]
pub struct Asked {
    /// A principal, or what of the server itself.
    pub by: Arc<str>,
    /// Where it is told what came of it.
    pub tell: oneshot::Sender<Result<Reloaded, String>>,
}

/// Asks for reloads.
#[derive(Debug, Clone)]
pub struct ReloadHandle {
    asks: mpsc::Sender<Asked>,
    within: Duration,
    ends: CancellationToken,
}

impl ReloadHandle {
    /// A handle, and where its asks arrive. A reload may take `within`.
    pub fn new(within: Duration) -> (Self, mpsc::Receiver<Asked>) {
        let (asks, arrives) = mpsc::channel(WAITING_MAX);
        (Self { asks, within, ends: CancellationToken::new() }, arrives)
    }

    /// Reads the folder again for `by` and waits until that is done.
    ///
    /// # Errors
    /// `Unavailable` when too many ask at once; `DeadlineExceeded`; `Internal` when the folder cannot be read.
    pub async fn reload(&self, by: &Arc<str>) -> Result<Reloaded, Fault> {
        let (tell, told) = oneshot::channel();
        match self.asks.try_send(Asked { by: Arc::clone(by), tell }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                let why = "too many reloads are asked for at once";
                return Err(Fault::new(ErrorCode::Unavailable, why, "wait for the reload that runs")
                    .retry_after(Duration::from_secs(1)));
            }
            Err(TrySendError::Closed(_)) => {
                let why = "there are no more reloads, since the server stops";
                return Err(Fault::new(ErrorCode::Unavailable, why, "reload once it runs again"));
            }
        }
        match tokio::time::timeout(self.within, told).await {
            Ok(Ok(Ok(reloaded))) => Ok(reloaded),
            Ok(Ok(Err(why))) => Err(Fault::new(
                ErrorCode::Unavailable,
                "the plugins' folder could not be read; what runs was left as it is",
                "mend the folder, as the log says, and reload again",
            )
            .because(why)),
            Ok(Err(_)) => Err(Fault::internal("the reload ended without an answer")),
            Err(_) => Err(Fault::new(
                ErrorCode::DeadlineExceeded,
                format!("the reload did not end within {} s", self.within.as_secs()),
                "it goes on; see /plugins for how far it is",
            )),
        }
    }

    /// Says that there will be no more reloads, since the server stops.
    pub fn end(&self) {
        self.ends.cancel();
    }

    /// Returns when there will be no more.
    pub async fn ended(&self) {
        self.ends.cancelled().await;
    }

    /// Asks for a reload for `by` and does not wait.
    pub fn nudge(&self, by: &str) {
        // With so many asks waiting, one more would change nothing.
        let _no_matter = self.asks.try_send(Asked { by: by.into(), tell: oneshot::channel().0 });
    }
}
