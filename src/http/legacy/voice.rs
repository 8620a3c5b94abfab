//! How one call speaks to its client before its answer: on a lane of the session that is opened at the first word.
//!
//! Must not know what is said, nor the connection that carries it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;

use super::super::notices;
use crate::actors::executor::messages::{Listener, Notice};
use crate::actors::session::SessionHandle;
use crate::actors::session::outbox::{Hold, LaneKind, LaneNumber};
use crate::protocol::{Raw, Revision};

/// No lane yet.
const NONE: u64 = u64::MAX;

/// One call's voice.
pub struct Voice {
    session: Arc<SessionHandle>,
    revision: Revision,
    /// Under which token its progress is told, if the client wants to know.
    token: Option<Raw>,
    /// The progress told last: it must rise through all rounds.
    furthest: Mutex<f64>,
    lane: AtomicU64,
    hold: Mutex<Option<Hold>>,
    /// Whether others answer on the same lane, which then ends with the last of them.
    shared: bool,
    /// Whether nobody can hear: the client takes no stream, or left before the first word.
    deaf: AtomicBool,
    /// Who waits for the first word.
    waits: AtomicWaker,
}

impl Voice {
    /// A voice that opens a lane of its own; a deaf one never does.
    pub fn new(session: Arc<SessionHandle>, revision: Revision, token: Option<Raw>, hears: bool) -> Self {
        Self {
            session,
            revision,
            token,
            furthest: Mutex::new(f64::NEG_INFINITY),
            lane: AtomicU64::new(NONE),
            hold: Mutex::default(),
            shared: false,
            deaf: AtomicBool::new(!hears),
            waits: AtomicWaker::new(),
        }
    }

    /// A voice on a lane that others speak on, too.
    pub fn on(session: Arc<SessionHandle>, revision: Revision, token: Option<Raw>, lane: LaneNumber) -> Self {
        let voice = Self::new(session, revision, token, true);
        Self { lane: AtomicU64::new(u64::from(lane)), shared: true, ..voice }
    }

    /// The lane to speak on, opened now if need be; none when nobody can hear.
    pub fn lane(&self) -> Option<LaneNumber> {
        if let Some(lane) = self.opened() {
            return Some(lane);
        }
        let mut hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock that `deafen` takes, so that no lane is opened that nobody holds.
        if self.deaf.load(Ordering::Acquire) {
            return None;
        }
        if let Some(lane) = self.opened() {
            return Some(lane);
        }
        let opened = self.session.outbox.open(LaneKind::Reply);
        *hold = Some(opened);
        self.lane.store(u64::from(opened.lane), Ordering::Release);
        drop(hold);
        self.waits.wake();
        Some(opened.lane)
    }

    /// The lane, if it is open.
    pub fn opened(&self) -> Option<LaneNumber> {
        LaneNumber::try_from(self.lane.load(Ordering::Acquire)).ok()
    }

    /// The connection's hold on the lane that was opened, to be taken once; until then the caller is woken when it opens.
    pub fn take_hold(&self, cx: &Context<'_>) -> Option<Hold> {
        self.waits.register(cx.waker());
        self.opened()?;
        self.hold.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The client left before the first word: nothing that is said from now on could be found again.
    pub fn deafen(&self) {
        let hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        if self.opened().is_none() {
            self.deaf.store(true, Ordering::Release);
        }
        drop(hold);
        self.let_go();
    }

    /// Says the last word, if a lane is open; else gives it back, to be the whole answer. Nothing is heard after it.
    pub fn conclude(&self, answer: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let _hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lane) = self.opened() else {
            self.deaf.store(true, Ordering::Release);
            return answer;
        };
        if let Some(answer) = answer {
            self.session.outbox.put(lane, answer, false);
        }
        if !self.shared {
            self.session.outbox.end(lane);
        }
        None
    }

    /// Lets go of a lane that no connection took.
    fn let_go(&self) {
        if let Some(hold) = self.hold.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.session.outbox.release(hold);
        }
    }

    /// Says something that must not be lost.
    pub fn say(&self, message: Vec<u8>) {
        if let Some(lane) = self.lane() {
            self.session.outbox.put(lane, message, false);
        }
    }
}

impl Listener for Voice {
    fn hear(&self, notice: Notice) {
        match &notice {
            Notice::Quiet(time) => {
                if self.revision.has_polling()
                    && !self.shared
                    && let Some(lane) = self.lane()
                {
                    self.session.outbox.pause(lane, *time);
                }
                return;
            }
            Notice::Progress { progress, .. } => {
                let mut furthest = self.furthest.lock().unwrap_or_else(PoisonError::into_inner);
                if *progress <= *furthest {
                    return;
                }
                *furthest = *progress;
            }
            Notice::Log { .. } => {}
        }
        if let Some(message) = notices::worded(&notice, self.token.as_ref(), self.revision)
            && let Some(lane) = self.lane()
        {
            self.session.outbox.put(lane, message, true);
        }
    }
}
