//! What is known of one session with a legacy client: shared by all workers, read on every request without a message.
//!
//! What was agreed at the handshake never changes; the rest are cells. What needs the session's own order (asks of the
//! client, subscriptions, news) is its actor's, which is started when it is first needed. Must not know HTTP.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use actix::Addr;
use tokio_util::sync::CancellationToken;

use super::kept::Kept;
use super::messages::{Close, Probe};
use super::outbox::{LaneNumber, Outbox};
use super::{SessionActor, Streams};
use crate::access::Caller;
use crate::catalog::ViewName;
use crate::error::{ErrorCode, Fault};
use crate::protocol::legacy::handshake::Agreed;
use crate::protocol::{Id, LogLevel};

/// Calls that one session may have in flight.
const CALLS_MAX: usize = 256;

/// One session.
#[derive(Debug)]
pub struct SessionHandle {
    /// The secret that the client shows with every request.
    pub id: Arc<str>,
    /// What logs and history call it; it says nothing of the id.
    pub label: Arc<str>,
    /// Streams and what they have yet to say.
    pub outbox: Outbox,
    /// The stream on which everything is said, where a client has just one (HTTP+SSE).
    pub only_lane: OnceLock<LaneNumber>,
    principal: Arc<str>,
    path: &'static str,
    view: ViewName,
    agreed: OnceLock<Agreed>,
    log_level: AtomicU8,
    /// When it was last used, in milliseconds since `began`.
    used_ms: AtomicU64,
    /// When it was last used before its client was asked for a sign of life.
    probed_ms: AtomicU64,
    began: Instant,
    /// The number of the first request to the client. Numbers begin anywhere, so that a client that answers what an
    /// earlier session asked answers nothing in this one.
    first_ask: u64,
    asks: AtomicU64,
    calls: Mutex<Vec<(Id, CancellationToken)>>,
    actor: Mutex<Option<Addr<SessionActor>>>,
    answering: Mutex<Answers>,
    ended: AtomicBool,
    /// What of it is kept for the server that comes after this one.
    keeping: Mutex<Keeping>,
}

/// What a server that comes after this one is told of a session, beside what was agreed.
#[derive(Debug, Default)]
struct Keeping {
    /// The resources that its client watches.
    uris: Vec<Arc<str>>,
    /// Whether it came from a server before this one, and what it watches is not watched yet.
    is_unwatched: bool,
    /// Whether it did, and its client was not told yet that much may have changed.
    is_stale: bool,
    /// Whether it did.
    is_renewed: bool,
    /// Counts what happened to it.
    changes: u64,
    /// … as it was when it was written last, and when that one was used.
    saved: Option<(u64, u64)>,
}

const LEVELS: [LogLevel; 8] = [
    LogLevel::Debug,
    LogLevel::Info,
    LogLevel::Notice,
    LogLevel::Warning,
    LogLevel::Error,
    LogLevel::Critical,
    LogLevel::Alert,
    LogLevel::Emergency,
];

impl SessionHandle {
    /// A session of `caller` at a path and in a view, before its handshake.
    pub(super) fn new(
        id: Arc<str>,
        label: Arc<str>,
        caller: &Caller,
        (path, view): (&'static str, ViewName),
        replay_max_bytes: usize,
    ) -> Self {
        let first_ask = u64::from(getrandom::u32().unwrap_or(1));
        Self {
            id,
            label,
            outbox: Outbox::new(replay_max_bytes),
            only_lane: OnceLock::new(),
            principal: Arc::clone(&caller.principal),
            path,
            view,
            agreed: OnceLock::new(),
            log_level: AtomicU8::new(u8::MAX),
            used_ms: AtomicU64::new(0),
            probed_ms: AtomicU64::new(u64::MAX),
            began: Instant::now(),
            first_ask,
            asks: AtomicU64::new(first_ask),
            calls: Mutex::default(),
            actor: Mutex::default(),
            answering: Mutex::default(),
            ended: AtomicBool::new(false),
            keeping: Mutex::default(),
        }
    }

    /// Goes on where a server before this one was.
    pub(super) fn resume(&self, kept: Kept) {
        self.outbox.begin_anywhere();
        if let Some(level) = kept.log_level {
            self.set_log_level(level);
        }
        let mut keeping = self.keeping();
        keeping.is_unwatched = !kept.uris.is_empty();
        (keeping.is_stale, keeping.is_renewed) = (true, true);
        keeping.uris = kept.uris;
        drop(keeping);
        self.agree(kept.agreed);
    }

    fn keeping(&self) -> MutexGuard<'_, Keeping> {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that its client watches a resource, or does not any more.
    pub fn note_watch(&self, uri: &Arc<str>, watches: bool) {
        let mut keeping = self.keeping();
        keeping.uris.retain(|known| known != uri);
        if watches {
            keeping.uris.push(Arc::clone(uri));
        }
    }

    /// The resources that its client watches.
    pub(super) fn watched(&self) -> Vec<Arc<str>> {
        self.keeping().uris.clone()
    }

    /// Whether its client watches this resource.
    pub fn watches(&self, uri: &str) -> bool {
        self.keeping().uris.iter().any(|known| **known == *uri)
    }

    /// Whether it came from a server before this one.
    pub fn is_renewed(&self) -> bool {
        self.keeping().is_renewed
    }

    /// What its client watches and nobody here does, since it came from a server before this one; told once.
    pub fn take_unwatched(&self) -> Vec<Arc<str>> {
        let mut keeping = self.keeping();
        if std::mem::take(&mut keeping.is_unwatched) { keeping.uris.clone() } else { Vec::new() }
    }

    /// Whether much may have changed since its client was told of changes; told once.
    pub fn take_stale(&self) -> bool {
        std::mem::take(&mut self.keeping().is_stale)
    }

    /// Whether it is kept for the server that comes after this one: from the handshake on, unless it ends with its stream.
    pub(super) fn is_kept(&self) -> bool {
        self.agreed.get().is_some() && self.only_lane.get().is_none()
    }

    /// Notes that there is something to write down.
    pub(super) fn note_change(&self) {
        self.keeping().changes += 1;
    }

    /// What to note once it is written down as it is now; none if that would say nothing new. Being used is worth it after
    /// `used_again_ms` only.
    pub(super) fn unsaved(&self, used_again_ms: u64) -> Option<(u64, u64)> {
        if !self.is_kept() || self.has_ended() {
            return None;
        }
        let now = (self.keeping().changes, self.used_ms.load(Ordering::Relaxed));
        let says_new = |saved: (u64, u64)| now.0 != saved.0 || now.1 >= saved.1.saturating_add(used_again_ms);
        self.keeping().saved.is_none_or(says_new).then_some(now)
    }

    /// Notes that it was written down.
    pub(super) fn saved(&self, as_of: (u64, u64)) {
        self.keeping().saved = Some(as_of);
    }

    /// How long ago it was used.
    pub(super) fn unused(&self) -> Duration {
        let used = Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(used)
    }

    /// The path that it is bound to.
    pub(super) fn path(&self) -> &'static str {
        self.path
    }

    /// Settles the handshake; whether it was the first.
    pub fn agree(&self, agreed: Agreed) -> bool {
        self.agreed.set(agreed).is_ok()
    }

    /// What was agreed; none before the handshake.
    pub fn agreed(&self) -> Option<&Agreed> {
        self.agreed.get()
    }

    /// Who opened it.
    pub fn principal(&self) -> &Arc<str> {
        &self.principal
    }

    /// The view of the catalog that it is bound to.
    pub fn view(&self) -> &ViewName {
        &self.view
    }

    /// Whether it is `caller`'s, at `path` and in `view`: nobody else learns that it exists.
    pub(super) fn belongs_to(&self, caller: &Caller, path: &str, view: &ViewName) -> bool {
        self.path == path && self.view == *view && self.principal == caller.principal
    }

    /// Notes that it is used.
    pub fn touch(&self) {
        self.used_ms
            .store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long it was not used, in milliseconds; nothing while a call runs.
    pub(super) fn idle_ms(&self) -> u64 {
        if !self.calls.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return 0;
        }
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        now.saturating_sub(self.used_ms.load(Ordering::Relaxed))
    }

    /// Asks its client for a sign of life, if that was not done since it was last used.
    pub(super) fn probe(&self) {
        let used = self.used_ms.load(Ordering::Relaxed);
        if self.probed_ms.load(Ordering::Relaxed) == used {
            return;
        }
        // With a full mailbox it is not idle, and asked at the next look if it still is.
        if self.actor_if_any().is_some_and(|actor| actor.try_send(Probe).is_ok()) {
            self.probed_ms.store(used, Ordering::Relaxed);
        }
    }

    /// The least level of log messages that its client wants; none before it said so.
    pub fn log_level(&self) -> Option<LogLevel> {
        LEVELS.get(usize::from(self.log_level.load(Ordering::Relaxed))).copied()
    }

    /// Sets it.
    pub fn set_log_level(&self, level: LogLevel) {
        self.log_level.store(level as u8, Ordering::Relaxed);
    }

    /// A number for the next request to the client; no two are the same, whatever crashes.
    pub(super) fn next_ask(&self) -> u64 {
        self.asks.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether a request of this number was ever sent to the client.
    pub fn has_asked(&self, number: u64) -> bool {
        (self.first_ask..self.asks.load(Ordering::Relaxed)).contains(&number)
    }

    /// Counts a call as in flight, so that it can be cancelled, until the guard is dropped.
    ///
    /// # Errors
    /// `Unavailable` when the session has too many, or has ended.
    pub fn begin_call(self: &Arc<Self>, id: &Id, cancel: &CancellationToken) -> Result<InFlight, Fault> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ended.load(Ordering::Acquire) {
            return Err(Fault::new(ErrorCode::Unavailable, "the session has ended", "initialize a new one"));
        }
        if calls.len() >= CALLS_MAX {
            return Err(Fault::new(
                ErrorCode::Unavailable,
                format!("the session has {CALLS_MAX} calls in flight"),
                "wait for some of them to end",
            ));
        }
        calls.push((id.detached(), cancel.clone()));
        Ok(InFlight { session: Arc::clone(self), cancel: cancel.clone() })
    }

    /// Cancels the call of this id; one that has ended is none.
    pub fn cancel_call(&self, id: &str) {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, cancel) in calls.iter().filter(|(known, _)| known.as_str() == id) {
            cancel.cancel();
        }
    }

    /// How many calls are in flight.
    pub fn calls(&self) -> usize {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Its actor, started on the current arbiter when it is first needed.
    ///
    /// # Errors
    /// `Unavailable` when the session or the server ends.
    pub fn actor(self: &Arc<Self>, streams: &Arc<Streams>) -> Result<Addr<SessionActor>, Fault> {
        let mut actor = self.actor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = actor.as_ref().filter(|address| address.connected()) {
            return Ok(address.clone());
        }
        if self.ended.load(Ordering::Acquire) {
            return Err(Fault::new(ErrorCode::Unavailable, "the session has ended", "initialize a new one"));
        }
        let address = streams.join(self)?;
        *actor = Some(address.clone());
        Ok(address)
    }

    /// Its actor, if it has one.
    pub fn actor_if_any(&self) -> Option<Addr<SessionActor>> {
        self.actor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it: calls in flight are cancelled, streams close. Only the first time counts.
    pub(super) fn end(&self) -> bool {
        let first = !self.ended.swap(true, Ordering::AcqRel);
        for (_, cancel) in self.calls.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            cancel.cancel();
        }
        self.outbox.end_all();
        if let Some(actor) = self.actor.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The last word of this session; its mailbox is bounded by what came before.
            actor.do_send(Close);
        }
        first
    }

    /// Counts an answer that will be said on the session's one stream, until the guard is dropped.
    pub fn begin_answer(self: &Arc<Self>) -> Answering {
        self.answering.lock().unwrap_or_else(PoisonError::into_inner).pending += 1;
        Answering(Arc::clone(self))
    }

    /// Ends the streams on which nothing is said any more: at once, or behind the answers that will still be said there.
    pub(super) fn end_standing(&self) {
        let mut answers = self.answering.lock().unwrap_or_else(PoisonError::into_inner);
        answers.last = true;
        if answers.pending == 0 {
            self.outbox.end_standing();
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// Answers that will be said on a stream that may have to end.
#[derive(Debug, Default)]
struct Answers {
    pending: usize,
    /// Whether nothing more comes behind them.
    last: bool,
}

/// One answer that will be said on the session's one stream.
pub struct Answering(Arc<SessionHandle>);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut answers = self.0.answering.lock().unwrap_or_else(PoisonError::into_inner);
        answers.pending -= 1;
        if answers.last && answers.pending == 0 {
            self.0.outbox.end_standing();
        }
    }
}

/// One call in flight.
pub struct InFlight {
    session: Arc<SessionHandle>,
    cancel: CancellationToken,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Its idle time begins here: a call may take longer than a session may be idle.
        self.session.touch();
        let mut calls = self.session.calls.lock().unwrap_or_else(PoisonError::into_inner);
        // Ids are the client's, who may use one twice; tokens are ours.
        if let Some(at) = calls.iter().position(|(_, cancel)| *cancel == self.cancel) {
            calls.swap_remove(at);
        }
        if calls.is_empty() {
            calls.shrink_to(4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Raw;

    #[test]
    fn a_session_is_idle_from_the_end_of_its_last_call_on() {
        let mut session = SessionHandle::new(
            "id".into(),
            "label".into(),
            &Caller::anonymous(),
            ("/mcp", ViewName::MAIN),
            0,
        );
        let long_ago = Instant::now().checked_sub(Duration::from_secs(3600));
        session.began = long_ago.unwrap_or_else(Instant::now);
        assert!(session.idle_ms() >= 3_600_000);
        let session = Arc::new(session);
        let id = Id::read(Raw::trusted("1")).unwrap();
        let call = session.begin_call(&id, &CancellationToken::new()).unwrap();
        assert_eq!(session.idle_ms(), 0);
        drop(call);
        assert!(session.idle_ms() < 3_000_000);
    }
}
