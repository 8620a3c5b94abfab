//! A place in a plugin: what a call holds while the plugin works on it. Must not know who gives places away.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::breaker::{Admitted, Breaker, Verdict};

/// A place taken by one call, given back on drop.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
    /// Of the one call that tries a plugin whose breaker is open.
    trial: Option<Arc<Breaker>>,
    /// How long the call waited for it.
    queued: Option<Duration>,
}

impl Place {
    /// The place of a call that holds this permit; `trial` is what it tries, if it does.
    pub(super) fn new(
        permit: OwnedSemaphorePermit,
        trial: Option<Arc<Breaker>>,
        queued: Option<Duration>,
    ) -> Self {
        Self { _permit: permit, trial, queued }
    }

    /// Whether it was a trial, which is judged now.
    pub(super) fn end_trial(&mut self) -> bool {
        self.trial.take().is_some()
    }

    /// How long the call waited for it; none when it did not.
    pub fn queued(&self) -> Option<Duration> {
        self.queued
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A trial that nobody judged taught nothing, and lets another one try.
        if let Some(breaker) = self.trial.take() {
            breaker.judge(Admitted { probe: true }, Verdict::Nothing, Instant::now());
        }
    }
}
