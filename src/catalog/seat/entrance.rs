//! How a call gets a place in a plugin, and what one would hear that came now: the same questions, asked and only looked at.
//!
//! Must not know whose call it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::super::breaker::Breaker;
use super::super::counted::{Counted, has_room};
use super::super::place::Place;
use super::super::state::PluginState;
use super::{SOON, Seat};
use crate::error::Fault;

impl Seat {
    /// Whether it takes new calls at all.
    ///
    /// # Errors
    /// `Unavailable`, with why and when to come back.
    pub fn admits(&self) -> Result<(), Fault> {
        if self.leaves() {
            return Err(self.replaced());
        }
        self.serves()
    }

    /// The same for a call that came while it did.
    fn serves(&self) -> Result<(), Fault> {
        let state = self.life();
        let serves = matches!(state, PluginState::Ready | PluginState::Degraded);
        if !serves && !self.early.load(Ordering::Acquire) {
            return Err(self.away(state));
        }
        if self.lost_too_many() {
            return Err(self.busy(self.why_lost(), SOON));
        }
        Ok(())
    }

    /// Takes a place for one call, waiting until `deadline`, or as long as one may queue, when there are waiting places left.
    ///
    /// # Errors
    /// `Unavailable`, with which limit it was and when to come back: the plugin does not serve now, too many calls of it
    /// failed, its queue is full, or no place became free in time.
    pub async fn enter(&self, deadline: Instant) -> Result<Place, Fault> {
        self.admits()?;
        // Whoever would be refused at the end of the queue need not stand in it.
        self.look_at_breaker()?;
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return self.place(permit, None);
        }
        let _waiting = Counted::within(&self.queued, self.limits.queue_max).ok_or_else(|| self.full())?;
        let came = Instant::now();
        let patience = self.limits.queue_timeout.map(|timeout| came + timeout);
        let until = patience.map_or(deadline, |patience| patience.min(deadline));
        match tokio::time::timeout_at(until, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => {
                // It may have failed meanwhile.
                self.serves()?;
                self.place(permit, Some(came.elapsed()))
            }
            _ => Err(self.busy(self.why_no_place(until < deadline), SOON)),
        }
    }

    fn why_no_place(&self, by_the_queue: bool) -> String {
        match self.limits.queue_timeout.filter(|_| by_the_queue) {
            Some(limit) => format!("no place became free within the queue's {} s", limit.as_secs_f64()),
            None => "no place became free before the deadline".to_owned(),
        }
    }

    fn full(&self) -> Fault {
        let why = format!("{} calls run and {} wait", self.limits.concurrency, self.limits.queue_max);
        self.busy(why, SOON)
    }

    fn left_alone(&self, breaker: &Breaker, left: Duration) -> Fault {
        let why = format!("its last {} calls failed, and it is left alone for a while", breaker.failures());
        self.busy(why, left)
    }

    /// Asks the breaker, and makes the permit a place.
    fn place(&self, permit: OwnedSemaphorePermit, queued: Option<Duration>) -> Result<Place, Fault> {
        let Some(breaker) = &self.breaker else { return Ok(Place::new(permit, None, queued)) };
        match breaker.admit(Instant::now()) {
            Ok(admitted) => {
                let trial = admitted.probe.then(|| Arc::clone(breaker));
                Ok(Place::new(permit, trial, queued))
            }
            Err(left) => Err(self.left_alone(breaker, left)),
        }
    }

    /// Whether the breaker would let a call through that came now; none is.
    ///
    /// # Errors
    /// What the call would hear.
    pub fn look_at_breaker(&self) -> Result<(), Fault> {
        let Some(breaker) = &self.breaker else { return Ok(()) };
        breaker.look(Instant::now).map(drop).map_err(|left| self.left_alone(breaker, left))
    }

    /// Whether a call that came now would find a place, or one in the queue: how many would stand before it there.
    ///
    /// # Errors
    /// What the call would hear.
    pub fn look_at_queue(&self) -> Result<Option<usize>, Fault> {
        if self.permits.available_permits() > 0 {
            return Ok(None);
        }
        let waiting = self.queued();
        if has_room(waiting, self.limits.queue_max) { Ok(Some(waiting)) } else { Err(self.full()) }
    }
}
