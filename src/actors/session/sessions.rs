//! All sessions with legacy clients: opening within limits, finding by their secret, ending, and ending those that
//! nobody uses.
//!
//! They live in memory. Those of a server before this one are known by the hashes of their ids ([`keeping`](super::keeping)),
//! and go on when their clients show these. Must not know HTTP, nor when anything is written down.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dashmap::DashMap;
use tokio::sync::Notify;

use super::super::supervision::message_of;
use super::handle::SessionHandle;
use super::kept::Kept;
use super::streams::Streams;
use crate::access::{Caller, session_handle, session_hash};
use crate::catalog::ViewName;
use crate::error::{ErrorCode, Fault};
use crate::telemetry::metrics::METRICS;

/// Random bytes in an id.
const ID_BYTES: usize = 24;
/// The shortest time between two looks for sessions that nobody uses.
const SWEEP_LEAST: Duration = Duration::from_millis(200);
/// The longest.
const SWEEP_MOST: Duration = Duration::from_secs(30);

/// Sessions that ended and are still to be forgotten by the database; more of them it forgets when they expire.
const ENDED_MAX: usize = 10_000;

/// How many there may be, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// In all.
    pub most: usize,
    /// Of one caller.
    pub most_of_one: usize,
    /// How long one may go unused.
    pub idle: Duration,
    /// What each keeps of what it said, in bytes.
    pub replay_max_bytes: usize,
}

/// All sessions.
pub struct Sessions {
    by_id: DashMap<Arc<str>, Arc<SessionHandle>>,
    by_caller: DashMap<Arc<str>, usize>,
    count: AtomicUsize,
    limits: SessionLimits,
    streams: Arc<Streams>,
    /// Of a server before this one, by the hashes of their ids, until their clients come.
    kept: DashMap<String, Kept>,
    /// Whether there ever was one: without, an unknown id is not looked for any further.
    has_kept: AtomicBool,
    /// Held while one goes on, so that of two requests none misses it.
    waking: Mutex<()>,
    /// Hashes of the ids of those that ended and are still written down.
    ended: Mutex<Vec<String>>,
    /// Told when there is something to write down at once.
    changed: Notify,
}

impl Sessions {
    /// None yet.
    pub fn new(limits: SessionLimits, streams: Arc<Streams>) -> Arc<Self> {
        Arc::new(Self {
            by_id: DashMap::new(),
            by_caller: DashMap::new(),
            count: AtomicUsize::new(0),
            limits,
            streams,
            kept: DashMap::new(),
            has_kept: AtomicBool::new(false),
            waking: Mutex::new(()),
            ended: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Opens a session of `caller` at `path`, in `view` for as long as it lives.
    ///
    /// # Errors
    /// `Unavailable` when there are too many; our fault without randomness.
    pub fn open(
        &self,
        caller: &Caller,
        path: &'static str,
        view: &ViewName,
    ) -> Result<Arc<SessionHandle>, Fault> {
        self.take_place(caller)?;
        let mut random = [0; ID_BYTES];
        if let Err(error) = getrandom::fill(&mut random) {
            self.give_place_back(&caller.principal);
            return Err(Fault::internal(format!("no randomness for a session id: {error}")));
        }
        let id: Arc<str> = URL_SAFE_NO_PAD.encode(random).into();
        let session = SessionHandle::new(
            Arc::clone(&id),
            session_handle(&id),
            caller,
            (path, view.clone()),
            self.limits.replay_max_bytes,
        );
        let session = Arc::new(session);
        self.by_id.insert(id, Arc::clone(&session));
        METRICS.sessions_opened.inc();
        Ok(session)
    }

    fn take_place(&self, caller: &Caller) -> Result<(), Fault> {
        let full = |whose: &str, setting: &str| {
            Err(Fault::new(
                ErrorCode::Unavailable,
                format!("{whose} has as many sessions as it may have"),
                format!("end some with DELETE, or have the operator raise {setting}"),
            ))
        };
        if self.count.fetch_add(1, Ordering::AcqRel) >= self.limits.most {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return full("the server", "mcp.sessions_max");
        }
        let mut of_one = self.by_caller.entry(Arc::clone(&caller.principal)).or_insert(0);
        if *of_one >= self.limits.most_of_one {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return full("this caller", "mcp.sessions_per_caller_max");
        }
        *of_one += 1;
        METRICS.sessions.set(i64::try_from(self.count.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
        Ok(())
    }

    fn give_place_back(&self, principal: &Arc<str>) {
        let left = self.count.fetch_sub(1, Ordering::AcqRel) - 1;
        METRICS.sessions.set(i64::try_from(left).unwrap_or(i64::MAX));
        self.by_caller.remove_if_mut(principal, |_, of_one| {
            *of_one = of_one.saturating_sub(1);
            *of_one == 0
        });
    }

    /// The session of this id, if it is `caller`'s, at `path` and in `view`.
    pub fn find(
        &self,
        id: &str,
        caller: &Caller,
        path: &'static str,
        view: &ViewName,
    ) -> Option<Arc<SessionHandle>> {
        if let Some(session) = self.known(id) {
            return session.belongs_to(caller, path, view).then_some(session);
        }
        if !self.has_kept.load(Ordering::Relaxed) {
            return None;
        }
        let _waking = self.waking.lock().unwrap_or_else(PoisonError::into_inner);
        match self.known(id) {
            Some(session) => session.belongs_to(caller, path, view).then_some(session),
            None => self.wake(id, caller, path, view),
        }
    }

    fn known(&self, id: &str) -> Option<Arc<SessionHandle>> {
        self.by_id.get(id).map(|session| Arc::clone(&session))
    }

    /// Goes on with a session of a server before this one.
    fn wake(
        &self,
        id: &str,
        caller: &Caller,
        path: &'static str,
        view: &ViewName,
    ) -> Option<Arc<SessionHandle>> {
        let hash = session_hash(id);
        let is_theirs =
            |_: &String, kept: &Kept| kept.is_of(caller, path, view) && kept.unused() < self.limits.idle;
        let (hash, kept) = self.kept.remove_if(&hash, is_theirs)?;
        if self.take_place(caller).is_err() {
            // It may find one later.
            self.kept.insert(hash, kept);
            return None;
        }
        let id: Arc<str> = id.into();
        let label = session_handle(&id);
        let most = self.limits.replay_max_bytes;
        let session = SessionHandle::new(Arc::clone(&id), label, caller, (path, view.clone()), most);
        session.resume(kept);
        session.touch();
        log::info!(session = &*session.label; "a session goes on that a server before this one began");
        let session = Arc::new(session);
        self.by_id.insert(id, Arc::clone(&session));
        Some(session)
    }

    /// Takes in what is known of sessions of other servers. If these are `all` there are, others that were known have ended there.
    pub(super) fn remember(&self, sessions: Vec<(String, Kept)>, all: bool) {
        if all {
            let there: HashSet<&String> = sessions.iter().map(|(hash, _)| hash).collect();
            self.kept.retain(|hash, _| there.contains(hash));
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        // One that ended here while they were read has ended.
        for (hash, kept) in sessions.into_iter().filter(|(hash, _)| !ended.contains(hash)) {
            self.kept.insert(hash, kept);
            self.has_kept.store(true, Ordering::Relaxed);
        }
    }

    /// Has a session written down as it stands now.
    pub fn note_change(&self, session: &SessionHandle) {
        session.note_change();
        self.changed.notify_one();
    }

    /// Returns when there is something to write down at once.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Sessions that are not written down as they stand, at most so many.
    pub(super) fn unsaved(&self, most: usize, used_again: Duration) -> Vec<(Arc<SessionHandle>, (u64, u64))> {
        let used_again_ms = u64::try_from(used_again.as_millis()).unwrap_or(u64::MAX);
        let unsaved = |session: &Arc<SessionHandle>| {
            session.unsaved(used_again_ms).map(|as_of| (Arc::clone(session), as_of))
        };
        self.by_id.iter().filter_map(|session| unsaved(&session)).take(most).collect()
    }

    /// Takes the hashes of the ids of those that ended, at most so many.
    pub(super) fn take_ended(&self, most: usize) -> Vec<String> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let left = ended.len().saturating_sub(most);
        ended.split_off(left)
    }

    /// Takes note of sessions that the database is to forget.
    pub(super) fn forget(&self, hashes: Vec<String>) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let room = ENDED_MAX.saturating_sub(ended.len());
        ended.extend(hashes.into_iter().take(room));
        drop(ended);
        self.changed.notify_one();
    }

    /// How long one may go unused.
    pub(super) fn idle(&self) -> Duration {
        self.limits.idle
    }

    /// Ends a session.
    pub fn end(&self, session: &SessionHandle) {
        if session.end() {
            self.by_id.remove(&session.id);
            self.give_place_back(session.principal());
            if session.is_kept() {
                let hash = session_hash(&session.id);
                // It may have been read once more, just before it went on here.
                self.kept.remove(&hash);
                self.forget(vec![hash]);
            }
        }
    }

    /// Ends the sessions and listen streams of everybody who is not honoured.
    pub fn end_unless(&self, honours: &dyn Fn(&str) -> bool) {
        let over: Vec<Arc<SessionHandle>> = self
            .by_id
            .iter()
            .filter(|session| !honours(session.principal()))
            .map(|session| Arc::clone(&session))
            .collect();
        for session in over {
            log::info!(session = &*session.label, caller = &**session.principal(); "a session ends with its key");
            self.end(&session);
        }
        let mut gone = Vec::new();
        self.kept.retain(|hash, kept| {
            let stays = honours(kept.principal());
            gone.extend((!stays).then(|| hash.clone()));
            stays
        });
        if !gone.is_empty() {
            self.forget(gone);
        }
        self.streams.end_unless(honours);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many there are of each revision.
    pub fn by_revision(&self) -> std::collections::BTreeMap<&'static str, usize> {
        let mut counts = std::collections::BTreeMap::new();
        for session in &self.by_id {
            let revision = session.agreed().map_or("before its handshake", |agreed| agreed.revision.name());
            *counts.entry(revision).or_default() += 1;
        }
        counts
    }

    /// Ends those that nobody used for long. One whose client holds a standing stream is asked for a sign of life first.
    pub fn sweep(&self) {
        // The database forgets these by itself.
        self.kept.retain(|_, kept| kept.unused() < self.limits.idle);
        let idle_ms = u64::try_from(self.limits.idle.as_millis()).unwrap_or(u64::MAX);
        let unused: Vec<Arc<SessionHandle>> = self
            .by_id
            .iter()
            .filter(|session| session.idle_ms() >= idle_ms)
            .map(|session| Arc::clone(&session))
            .collect();
        for session in unused {
            let (_, listens) = session.outbox.is_held();
            // Its answer is a use; without one it ends after as long again.
            if listens && session.idle_ms() < idle_ms.saturating_mul(2) {
                session.probe();
                continue;
            }
            log::debug!(session = &*session.label; "a session that nobody used ends");
            METRICS.sessions_expired.inc();
            self.end(&session);
        }
    }

    /// Sweeps for as long as there are sessions to be had, on the current arbiter.
    pub fn keep_swept(self: &Arc<Self>) {
        let sessions = Arc::downgrade(self);
        let between = (self.limits.idle / 4).clamp(SWEEP_LEAST, SWEEP_MOST);
        actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(between).await;
                let Some(sessions) = sessions.upgrade() else { return };
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| sessions.sweep())) {
                    log::error!(
                        "the sweep of sessions panicked, and goes on: {}",
                        message_of(panic.as_ref())
                    );
                }
            }
        });
    }

    /// Who tells sessions of news.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::supervision::Roster;
    use super::super::kept;
    use super::*;
    use crate::protocol::legacy::handshake::Agreed;
    use crate::protocol::{ClientCapabilities, Revision};

    fn sessions(most: usize, most_of_one: usize) -> Arc<Sessions> {
        let limits =
            SessionLimits { most, most_of_one, idle: Duration::from_secs(1), replay_max_bytes: 1000 };
        Sessions::new(limits, Streams::new(1, Duration::from_secs(1), Arc::new(Roster::default())))
    }

    fn caller(name: &str) -> Caller {
        Caller { principal: name.into(), ..Caller::anonymous() }
    }

    #[test]
    fn a_session_is_found_by_its_caller_at_its_path_alone() {
        let sessions = sessions(9, 9);
        let session = sessions.open(&caller("a"), "/mcp", &ViewName::MAIN).unwrap();
        assert!(sessions.find(&session.id, &caller("a"), "/mcp", &ViewName::MAIN).is_some());
        assert!(sessions.find(&session.id, &caller("b"), "/mcp", &ViewName::MAIN).is_none());
        assert!(sessions.find(&session.id, &caller("a"), "/sse", &ViewName::MAIN).is_none());
        assert!(sessions.find(&session.id, &caller("a"), "/mcp", &ViewName::of("x")).is_none());
        assert!(session.id.len() == 32 && !session.label.contains(&session.id[..6]));
        sessions.end(&session);
        sessions.end(&session);
        assert!(sessions.find(&session.id, &caller("a"), "/mcp", &ViewName::MAIN).is_none());
        assert_eq!((sessions.count(), sessions.by_caller.len()), (0, 0));
    }

    #[test]
    fn there_are_no_more_than_the_limits_allow_and_places_are_given_back() {
        let sessions = sessions(3, 2);
        let first = sessions.open(&caller("a"), "/mcp", &ViewName::MAIN).unwrap();
        sessions.open(&caller("a"), "/mcp", &ViewName::MAIN).unwrap();
        assert!(
            sessions.open(&caller("a"), "/mcp", &ViewName::MAIN).unwrap_err().advice.contains("per_caller")
        );
        sessions.open(&caller("b"), "/mcp", &ViewName::MAIN).unwrap();
        assert!(sessions.open(&caller("c"), "/mcp", &ViewName::MAIN).is_err());
        sessions.end(&first);
        assert!(sessions.open(&caller("c"), "/mcp", &ViewName::MAIN).is_ok());
    }

    #[test]
    fn sessions_end_with_the_key_of_their_caller_and_no_others() {
        let sessions = sessions(9, 9);
        let (gone, stays) = (caller("gone"), caller("stays"));
        let first = sessions.open(&gone, "/mcp", &ViewName::MAIN).unwrap();
        let second = sessions.open(&stays, "/mcp", &ViewName::MAIN).unwrap();
        sessions.end_unless(&|principal| principal == "stays");
        assert!(first.has_ended() && !second.has_ended() && sessions.count() == 1);
        assert!(sessions.find(&first.id, &gone, "/mcp", &ViewName::MAIN).is_none());
    }

    #[test]
    fn a_session_of_a_server_before_this_one_goes_on_for_its_caller_alone_until_it_ends() {
        let (before, now) = (sessions(9, 9), sessions(9, 9));
        let (owner, view) = (caller("a"), ViewName::MAIN);
        let old = before.open(&owner, "/mcp", &view).unwrap();
        assert!(
            before.unsaved(9, Duration::ZERO).is_empty(),
            "before its handshake there is nothing to keep"
        );
        old.agree(Agreed {
            revision: Revision::NEWEST_LEGACY,
            client: ClientCapabilities::default(),
            client_name: None,
        });
        let unsaved = before.unsaved(9, Duration::from_secs(9));
        let (session, as_of) = unsaved.first().unwrap();
        session.saved(*as_of);
        assert!(before.unsaved(9, Duration::from_secs(9)).is_empty());
        before.note_change(&old);
        assert_eq!(before.unsaved(9, Duration::from_secs(9)).len(), 1);
        let keep = || vec![Kept::read(kept::row(&old, Duration::from_secs(1)).unwrap()).unwrap()];
        now.remember(keep(), false);
        assert!(now.find(&old.id, &caller("b"), "/mcp", &view).is_none());
        assert!(now.find(&old.id, &owner, "/sse", &view).is_none());
        assert!(now.find("another", &owner, "/mcp", &view).is_none());
        let session = now.find(&old.id, &owner, "/mcp", &view).unwrap();
        assert_eq!((session.agreed().is_some(), &session.label, now.count()), (true, &old.label, 1));
        // Read once more before it was written here, it ends all the same.
        now.remember(keep(), false);
        now.end(&session);
        assert!(now.find(&old.id, &owner, "/mcp", &view).is_none());
        now.remember(keep(), false);
        assert!(now.find(&old.id, &owner, "/mcp", &view).is_none(), "it ended while it was read");
        assert_eq!(now.take_ended(9), [session_hash(&old.id)]);
    }

    #[test]
    fn a_session_that_ended_at_the_server_before_is_not_known_once_all_were_read() {
        let (before, now) = (sessions(9, 9), sessions(9, 9));
        let (owner, view) = (caller("a"), ViewName::MAIN);
        let open = || {
            let session = before.open(&owner, "/mcp", &view).unwrap();
            session.agree(Agreed {
                revision: Revision::NEWEST_LEGACY,
                client: ClientCapabilities::default(),
                client_name: None,
            });
            session
        };
        let (first, second) = (open(), open());
        let keep = |session| vec![Kept::read(kept::row(session, Duration::from_secs(1)).unwrap()).unwrap()];
        now.remember(keep(&first), true);
        now.remember(keep(&second), false);
        // The first has ended there.
        now.remember(keep(&second), true);
        assert!(now.find(&first.id, &owner, "/mcp", &view).is_none());
        assert!(now.find(&second.id, &owner, "/mcp", &view).is_some());
    }

    #[test]
    fn a_session_without_a_stream_stays_small() {
        assert!(size_of::<SessionHandle>() < 1024, "{} bytes", size_of::<SessionHandle>());
    }
}
