//! The certificate that the door shows: read from its files, judged by its end, and swapped whole when they are read again.
//!
//! What is read again holds for connections that come; those that there are go on with what they began with. Bad files
//! change nothing but the health, which says what is wrong with them. Must not know HTTP, nor connections.

mod files;
pub mod validity;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use rustls::ServerConfig;
use serde::Serialize;

use super::db::{Act, Recorder};
use super::health::Check;
use crate::config::Tls;
use crate::error::ErrorCode;
use crate::storage::acts;
use crate::telemetry::metrics::METRICS;
use files::{Files, Held, day};

/// How long a reload waits for the files.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// With less time than this somebody should look: who renews by machine has done so long before.
const WARN_BEFORE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The certificate, from its files.
pub struct Certificate {
    files: Files,
    held: ArcSwap<Held>,
    /// Why the files were not taken when they were read last.
    refusal: Mutex<Option<String>>,
    /// Held while they are read: of two at once, the one who read first could else have the last word.
    work: Arc<tokio::sync::Mutex<()>>,
}

/// What came of reading the files again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reread {
    /// The certificate's file.
    pub file: String,
    /// Whether another certificate is shown from now on.
    pub changed: bool,
    /// When the one that is shown ends.
    pub expires_at: String,
    /// Why the files were not taken, if they were not.
    pub failed: Option<String>,
}

impl Reread {
    /// For people.
    pub fn sentence(&self) -> String {
        match &self.failed {
            Some(why) => {
                format!("the certificate was not renewed, and the one from before stays in use: {why}")
            }
            None if self.changed => {
                format!("a new certificate from {}, which ends on {}, is shown", self.file, self.expires_at)
            }
            None => "the certificate is the same as before".to_owned(),
        }
    }
}

impl Certificate {
    /// Reads the files that are set; none where none is. Blocks.
    ///
    /// # Errors
    /// A sentence that names the file, what is wrong with it, and what to do.
    pub fn of(tls: &Tls) -> Result<Option<Arc<Self>>, String> {
        let Some(files) = Files::of(tls) else { return Ok(None) };
        let held = files.read(Timestamp::now())?;
        measure(&held);
        let held = ArcSwap::from_pointee(held);
        Ok(Some(Arc::new(Self { files, held, refusal: Mutex::default(), work: Arc::default() })))
    }

    /// What a new connection is spoken to with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.held.load().config)
    }

    /// Reads the files again. Blocks.
    fn reread(&self) -> Reread {
        let (changed, failed) = match self.files.read(Timestamp::now()) {
            Ok(held) => (self.put(held), None),
            Err(why) => (false, Some(why)),
        };
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&failed);
        self.told(changed, failed)
    }

    /// Puts what was read into use, unless it is in use; what is the same keeps the sessions that clients take up again.
    fn put(&self, held: Held) -> bool {
        let is_new = held.digest != self.held.load().digest;
        if is_new {
            measure(&held);
            self.held.store(Arc::new(held));
        }
        is_new
    }

    fn told(&self, changed: bool, failed: Option<String>) -> Reread {
        let (file, expires_at) = (self.files.cert.display().to_string(), self.held.load().until.to_string());
        Reread { file, changed, expires_at, failed }
    }

    /// Reads the files again for `by`; what comes of it stands in the log, and in the history where it is worth a row.
    pub async fn reload(self: &Arc<Self>, by: &Arc<str>, recorder: &Recorder) -> Reread {
        // Who waits for its turn holds no thread: a disk may be away for long.
        let reread = async {
            let turn = Arc::clone(&self.work).lock_owned().await;
            let own = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                own.reread()
            })
            .await
        };
        let reread = match tokio::time::timeout(READ_WITHIN, reread).await {
            Ok(read) => read.map_err(|error| format!("the files could not be read: {error}")),
            Err(_elapsed) => Err(format!(
                "the files could not be read within {} s; look at the disk they lie on",
                READ_WITHIN.as_secs()
            )),
        };
        let reread = reread.unwrap_or_else(|why| self.told(false, Some(why)));
        let act = |told: String| Act::done(acts::TLS_RELOAD, Arc::clone(by), told);
        match &reread.failed {
            Some(why) => {
                log::error!("{}", reread.sentence());
                recorder.act(Act { refused: Some(ErrorCode::Unavailable), ..act(why.clone()) });
            }
            None if reread.changed => {
                let told =
                    format!("a new certificate from {}, which ends on {}", reread.file, reread.expires_at);
                log::info!("{told}, is shown from now on");
                recorder.act(act(told));
            }
            None => {}
        }
        reread
    }

    /// How it stands now, for the health.
    pub fn check(&self) -> Check {
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        judge(self.held.load().until, refusal.as_deref(), Timestamp::now())
    }
}

/// Clients that cannot come in are helped by no restart: it never fails, and no more than degrades.
fn judge(until: Timestamp, refusal: Option<&str>, now: Timestamp) -> Check {
    let left = until.duration_since(now);
    let ended = day(until);
    let ends = if left.is_negative() || left.is_zero() {
        Some(format!("the certificate ended on {ended}, so that clients refuse it"))
    } else if left < WARN_BEFORE {
        Some(format!("the certificate ends on {ended}, in {} days", left.as_hours() / 24))
    } else {
        None
    };
    match (ends, refusal) {
        (None, None) => Check::Ok,
        (Some(ends), None) => Check::Degraded(format!(
            "{ends}; renew its files, and have them read with `waygate-mcp plugins reload`"
        )),
        (None, Some(why)) => Check::Degraded(format!("the certificate from before stays in use: {why}")),
        (Some(ends), Some(why)) => Check::Degraded(format!("{ends}, and the new one was not taken: {why}")),
    }
}

fn measure(held: &Held) {
    METRICS.certificate_expiry.set(held.until.as_second() as f64);
}
