//! What there is to note of a plugin of which two processes must never run at once: that it waits for another one to end, and that it
//! takes no new call since another one waits for it. Must not know who the others are.

use std::sync::atomic::{AtomicBool, Ordering};

use super::super::state::PluginState;
use super::{SOON, Seat};
use crate::error::Fault;

/// How it stands with the others.
#[derive(Debug, Default)]
pub(super) struct Alone {
    waits: AtomicBool,
    leaves: AtomicBool,
}

impl Seat {
    /// Notes that it begins nothing before another process has ended: which.
    pub fn wait_for_another(&self, why: String) {
        self.alone.waits.store(true, Ordering::Release);
        self.note(PluginState::Starting, Some(why), None);
    }

    /// Whether it waits so. It is known then that it does not serve soon.
    pub fn waits_for_another(&self) -> bool {
        self.alone.waits.load(Ordering::Acquire)
    }

    /// It waits for nobody any more.
    pub(super) fn waits_no_more(&self) {
        self.alone.waits.store(false, Ordering::Release);
    }

    /// Takes no new call from now on: another process takes its place, as soon as the calls that there are have ended.
    pub fn leave(&self) {
        self.alone.leaves.store(true, Ordering::SeqCst);
    }

    /// Whether it takes no new call for that.
    pub fn leaves(&self) -> bool {
        self.alone.leaves.load(Ordering::SeqCst)
    }

    /// Whether it has ended for that.
    pub fn has_left(&self) -> bool {
        // One in quarantine had ended before.
        self.leaves() && matches!(self.life(), PluginState::Stopped | PluginState::Quarantined)
    }

    /// What a call hears that came too late.
    pub(super) fn replaced(&self) -> Fault {
        self.busy("another process takes its place, since two must never run at once".to_owned(), SOON)
    }
}
