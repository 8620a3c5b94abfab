//! Whom a message from the server belongs to: a request that waits, or nobody in particular.
//!
//! Must not know how messages travel, nor the process behind them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::{Flow, LinkError, id_of};
use super::answers::{Whose, begins, ends};
use super::inbox::{Inbox, Taken};
use super::veil::Veil;
use crate::protocol::{Incoming, Raw};

/// Messages that wait for the reader of one request's flow.
const FLOW_MAX: usize = 256;
/// Messages that wait for the reader of those that belong to no request.
const STRAYS_MAX: usize = 1024;
/// Of what is no message, so much is logged: the first few, and the beginning of each.
const NOISE_LOGGED: u64 = 5;
const NOISE_SHOWN_BYTES: usize = 200;

/// Who waits for what.
#[derive(Debug)]
pub(super) struct Routes {
    plugin: Arc<str>,
    veil: Arc<Veil>,
    state: Mutex<State>,
    strays: Arc<Inbox>,
    response_max_bytes: usize,
    pub(super) counts: Counts,
}

#[derive(Debug, Default)]
struct State {
    pending: HashMap<u64, Arc<Inbox>>,
    /// Why nothing can be sent any more.
    broken: Option<String>,
}

/// What an operator sees.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    /// Lines that are no messages.
    pub(super) noise: AtomicU64,
    /// Answers that nobody waits for: to nothing that was asked, or a second time, or too late.
    pub(super) late: AtomicU64,
    /// Notifications that nobody read in time.
    pub(super) dropped: AtomicU64,
}

/// The part of a message that names the request it belongs to.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default, rename = "progressToken")]
    progress: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, default, rename = "io.modelcontextprotocol/subscriptionId")]
    subscription: Option<&'a RawValue>,
}

impl Routes {
    pub(super) fn new(plugin: Arc<str>, veil: Arc<Veil>, response_max_bytes: usize) -> Arc<Self> {
        let strays = Arc::new(Inbox::new(STRAYS_MAX));
        let (state, counts) = (Mutex::default(), Counts::default());
        Arc::new(Self { plugin, veil, state, strays, response_max_bytes, counts })
    }

    /// What the program says, with its secrets masked.
    pub(super) fn veiled(&self, text: &str) -> String {
        self.veil.over(text)
    }

    /// What will belong to the request of this number.
    ///
    /// # Errors
    /// When the link is broken: then nothing was sent.
    pub(super) fn wait_for(self: &Arc<Self>, id: u64) -> Result<Flow, LinkError> {
        let inbox = Arc::new(Inbox::new(FLOW_MAX));
        let mut state = self.lock();
        if let Some(why) = &state.broken {
            return Err(LinkError::Unreachable(why.clone()));
        }
        state.pending.insert(id, Arc::clone(&inbox));
        drop(state);
        Ok(Flow::of(Fetch { inbox, awaited: Some((Arc::clone(self), id)) }))
    }

    /// What belongs to no request.
    pub(super) fn strays(&self) -> Flow {
        Flow::of(Fetch { inbox: Arc::clone(&self.strays), awaited: None })
    }

    /// Nothing more comes. Who waits learns why; the strays end with an error unless the link was closed in order.
    pub(super) fn end(&self, why: &str, closed: bool) {
        let mut state = self.lock();
        if state.broken.is_some() {
            return;
        }
        state.broken = Some(why.to_owned());
        let pending = std::mem::take(&mut state.pending);
        drop(state);
        let broken = || LinkError::Broken(why.to_owned());
        pending.into_values().for_each(|inbox| inbox.finish(Some(Err(broken()))));
        self.strays.finish((!closed).then(|| Err(broken())));
    }

    /// Why the link carries no more, if so.
    pub(super) fn broken(&self) -> Option<String> {
        self.lock().broken.clone()
    }

    pub(super) fn pending(&self) -> usize {
        self.lock().pending.len()
    }

    /// Takes in one line.
    ///
    /// # Errors
    /// Why the link must break.
    pub(super) fn line(&self, line: &Bytes) -> Result<(), String> {
        let text = line.slice_ref(line.trim_ascii());
        match text.first() {
            None => Ok(()),
            Some(b'{') => match Incoming::parse(text.clone()) {
                Ok(message) => self.message(message),
                Err(why) => {
                    self.garbage(&text, &why.to_string());
                    Ok(())
                }
            },
            // A batch, as the revision of 2025-03-26 has it.
            Some(b'[') => match Raw::parse(text.clone()).ok().and_then(|batch| parts(&batch)) {
                Some(messages) => messages.into_iter().try_for_each(|message| self.message(message)),
                None => {
                    self.noise(&text);
                    Ok(())
                }
            },
            Some(_) => {
                self.noise(&text);
                Ok(())
            }
        }
    }

    /// Takes in the beginning of a line that is too long; gives whether its end must tell whose answer it is.
    pub(super) fn cut(&self, head: &[u8]) -> bool {
        let most = self.response_max_bytes;
        log::warn!(
            plugin = &*self.plugin;
            "the server sent a line of more than {most} bytes, which was dropped; set response_max_bytes higher if it may: {}",
            self.veil.shown(head, NOISE_SHOWN_BYTES)
        );
        match begins(head.trim_ascii_start()) {
            Whose::Answers(id) => {
                self.answer(id, Err(LinkError::TooLarge(most)));
                false
            }
            Whose::Unknown => true,
            Whose::Tells | Whose::Nothing => {
                self.counts.noise.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// Takes in the end of a line that is too long and whose beginning did not tell whose answer it is.
    ///
    /// # Errors
    /// When the end does not tell either: somebody would wait in vain.
    pub(super) fn rest(&self, tail: &[u8]) -> Result<(), String> {
        let id = ends(tail).ok_or_else(|| {
            format!(
                "it sent a line of more than {} bytes that cannot be told from an answer",
                self.response_max_bytes
            )
        })?;
        self.answer(id, Err(LinkError::TooLarge(self.response_max_bytes)));
        Ok(())
    }

    fn message(&self, message: Incoming) -> Result<(), String> {
        let params = match &message {
            Incoming::Response { id, outcome } => {
                let error = outcome.as_ref().err().map(|error| error.message.clone());
                match id.as_ref().and_then(id_of) {
                    Some(id) => self.answer(id, Ok(message)),
                    None => self.late("which is none of ours", error),
                }
                return Ok(());
            }
            Incoming::Notification { params, .. } | Incoming::Request { params, .. } => params.as_ref(),
        };
        let progress =
            matches!(&message, Incoming::Notification { method, .. } if method == "notifications/progress");
        let owner = params.and_then(|params| self.owner(params, progress));
        match owner.as_ref().unwrap_or(&self.strays).push(message) {
            Taken::Whole => Ok(()),
            Taken::ForAnother => {
                if self.counts.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                    log::warn!(plugin = &*self.plugin; "the server tells more than is read; the oldest of it is dropped");
                }
                Ok(())
            }
            Taken::Not => Err(format!("it asked {STRAYS_MAX} things at once, more than are taken")),
        }
    }

    /// The request that a message names. A notification that names one that is over belongs to nobody.
    fn owner(&self, params: &Raw, progress: bool) -> Option<Arc<Inbox>> {
        if !progress && !params.as_str().contains("/subscriptionId") {
            return None;
        }
        let named: Named<'_> = params.read().ok()?;
        let by = if progress { named.progress } else { named.meta?.subscription };
        // Some make a text of it.
        let id = by?.get().trim_matches('"').parse().ok()?;
        self.lock().pending.get(&id).cloned()
    }

    fn answer(&self, id: u64, answer: Result<Incoming, LinkError>) {
        let inbox = self.lock().pending.remove(&id);
        match inbox {
            Some(inbox) => inbox.finish(Some(answer)),
            None => self.late(&format!("which has the id {id}"), None),
        }
    }

    fn late(&self, which: &str, error: Option<String>) {
        if self.counts.late.fetch_add(1, Ordering::Relaxed) == 0 {
            let says =
                error.map(|error| format!(": {}", self.veil.shown(error.as_bytes(), NOISE_SHOWN_BYTES)));
            log::warn!(
                plugin = &*self.plugin;
                "the server answered something that nobody waits for, {which}; more of these are only counted{}",
                says.unwrap_or_default()
            );
        }
    }

    /// What looks like a message and is none: whoever it was for need not wait.
    fn garbage(&self, line: &[u8], why: &str) {
        let id = match begins(line) {
            Whose::Answers(id) => Some(id),
            Whose::Unknown => ends(line),
            Whose::Tells | Whose::Nothing => None,
        };
        self.noise(line);
        if let Some(inbox) = id.and_then(|id| self.lock().pending.remove(&id)) {
            inbox.finish(Some(Err(LinkError::Garbage(why.to_owned()))));
        }
    }

    fn noise(&self, line: &[u8]) {
        let count = self.counts.noise.fetch_add(1, Ordering::Relaxed);
        if count < NOISE_LOGGED {
            log::warn!(
                plugin = &*self.plugin;
                "the server wrote a line to stdout that is no message; such lines are ignored: {}",
                self.veil.shown(line, NOISE_SHOWN_BYTES)
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The messages of a batch; none when one of them is none.
fn parts(batch: &Raw) -> Option<Vec<Incoming>> {
    let parts: Vec<&RawValue> = batch.read().ok()?;
    parts.into_iter().map(|part| Incoming::parse(batch.part(part).bytes().clone()).ok()).collect()
}

/// Fetches from an inbox. Dropped, it takes its request out of those that wait.
struct Fetch {
    inbox: Arc<Inbox>,
    awaited: Option<(Arc<Routes>, u64)>,
}

impl Stream for Fetch {
    type Item = Result<Incoming, LinkError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inbox.poll(cx)
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some((routes, id)) = &self.awaited {
            routes.lock().pending.remove(id);
        }
    }
}

#[cfg(test)]
mod tests;
