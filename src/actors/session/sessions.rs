//! All sessions with legacy clients: opening within limits, finding by their secret, ending, and ending those that
//! nobody uses.
//!
//! They live in memory: after a restart of the process their ids are unknown, and clients initialize anew.
//! Must not know HTTP.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dashmap::DashMap;

use super::super::supervision::message_of;
use super::handle::SessionHandle;
use super::streams::Streams;
use crate::access::{Caller, session_handle};
use crate::catalog::ViewName;
use crate::error::{ErrorCode, Fault};
use crate::telemetry::metrics::METRICS;

/// Random bytes in an id.
const ID_BYTES: usize = 24;
/// The shortest time between two looks for sessions that nobody uses.
const SWEEP_LEAST: Duration = Duration::from_millis(200);
/// The longest.
const SWEEP_MOST: Duration = Duration::from_secs(30);

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
    pub fn find(&self, id: &str, caller: &Caller, path: &str, view: &ViewName) -> Option<Arc<SessionHandle>> {
        let session = self.by_id.get(id)?;
        session.belongs_to(caller, path, view).then(|| Arc::clone(&session))
    }

    /// Ends a session.
    pub fn end(&self, session: &SessionHandle) {
        if session.end() {
            self.by_id.remove(&session.id);
            self.give_place_back(session.principal());
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
    use super::*;

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
    fn a_session_without_a_stream_stays_small() {
        assert!(size_of::<SessionHandle>() < 1024, "{} bytes", size_of::<SessionHandle>());
    }
}
