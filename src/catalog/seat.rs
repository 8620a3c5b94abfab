//! A plugin's seat in the house: the handle to it, and the bulkhead that keeps its trouble to itself.
//!
//! Concurrency cap, queue limit, lost threads, state. Must not know calls, callers or HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::curation::Curator;
use crate::config::plugin::Curation;
use crate::error::{ErrorCode, Fault};
use crate::plugins::{Blocking, Plugin};

/// The limits of one plugin's seat.
#[derive(Debug, Clone, Copy)]
pub struct SeatLimits {
    /// Calls at once.
    pub concurrency: usize,
    /// Calls that may wait for a place.
    pub queue_max: usize,
    /// Threads for blocking work.
    pub blocking_threads: usize,
    /// Lost threads at which the seat is closed until some end.
    pub lost_threads_max: usize,
    /// Deadline of a call in seconds.
    pub timeout_seconds: u64,
}

/// How a plugin's life stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PluginState {
    /// Not yet published.
    Starting = 0,
    /// Serving.
    Ready = 1,
    /// Serving, but some of what it offers was refused.
    Degraded = 2,
    /// Nothing of it is served.
    Quarantined = 3,
    /// Ended.
    Stopped = 4,
}

/// A plugin's seat.
pub struct Seat {
    /// The plugin's name.
    pub name: Arc<str>,
    /// What of it is offered, and how.
    pub curator: Curator,
    /// Its place among the plugins that the program itself brings; none for one from a file.
    pub registered: Option<usize>,
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
    /// Its limits.
    pub limits: SeatLimits,
    /// Its room for blocking work.
    pub blocking: Arc<Blocking>,
    permits: Arc<Semaphore>,
    queued: AtomicUsize,
    state: AtomicU8,
    was_open: AtomicBool,
}

/// A place taken by one call, given back on drop.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Seat {
    /// A seat for `plugin`.
    pub fn new(name: &str, curation: Arc<Curation>, plugin: Arc<dyn Plugin>, limits: SeatLimits) -> Self {
        Self {
            name: name.into(),
            curator: Curator::new(curation),
            registered: None,
            plugin,
            limits,
            blocking: Arc::new(Blocking::new(limits.blocking_threads)),
            permits: Arc::new(Semaphore::new(limits.concurrency)),
            queued: AtomicUsize::new(0),
            state: AtomicU8::new(PluginState::Starting as u8),
            was_open: AtomicBool::new(false),
        }
    }

    /// The same as number `registered` of those that the program itself brings: they are listed before all others.
    pub fn registered(mut self, registered: usize) -> Self {
        self.registered = Some(registered);
        self
    }

    /// Takes a place for one call, waiting until `deadline` when there are waiting places left.
    ///
    /// # Errors
    /// `Unavailable` when the plugin is closed, its queue full, or the deadline passed.
    pub async fn enter(&self, deadline: Instant) -> Result<Place, Fault> {
        if self.is_open() {
            return Err(self.busy(format!(
                "{} threads of it are stuck in calls that were given up",
                self.blocking.lost()
            )));
        }
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(Place(permit));
        }
        let _waiting = Waiting::begin(&self.queued, self.limits.queue_max).ok_or_else(|| {
            self.busy(format!("{} calls run and {} wait", self.limits.concurrency, self.limits.queue_max))
        })?;
        match tokio::time::timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Place(permit)),
            _ => Err(self.busy("no place became free before the deadline".to_owned())),
        }
    }

    fn busy(&self, why: String) -> Fault {
        Fault::new(
            ErrorCode::Unavailable,
            format!("plugin {:?} takes no call now: {why}", self.name),
            "retry after a moment; if it lasts, the operator finds the plugin under /plugins",
        )
    }

    /// Whether lost threads have closed it.
    pub fn is_open(&self) -> bool {
        let open = self.blocking.lost() >= self.limits.lost_threads_max;
        if open != self.was_open.swap(open, Ordering::Relaxed) {
            let word =
                if open { "closed: too many threads stuck" } else { "serving again: stuck threads ended" };
            log::warn!(plugin = &*self.name; "plugin {} is {word}", self.name);
        }
        open
    }

    /// Calls that wait for a place.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Calls that have one.
    pub fn running(&self) -> usize {
        self.limits.concurrency.saturating_sub(self.permits.available_permits())
    }

    /// How its life stands.
    pub fn state(&self) -> PluginState {
        match self.state.load(Ordering::Relaxed) {
            0 => PluginState::Starting,
            1 => PluginState::Ready,
            2 => PluginState::Degraded,
            3 => PluginState::Quarantined,
            _ => PluginState::Stopped,
        }
    }

    /// The state's word, in `/plugins` and metrics.
    pub fn state_name(&self) -> &'static str {
        match self.state() {
            PluginState::Ready | PluginState::Degraded if self.is_open() => "open",
            PluginState::Starting => "starting",
            PluginState::Ready => "ready",
            PluginState::Degraded => "degraded",
            PluginState::Quarantined => "quarantined",
            PluginState::Stopped => "stopped",
        }
    }

    /// Notes how its life stands.
    pub fn set_state(&self, state: PluginState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }
}

/// One call in a plugin's queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(queued: &'a AtomicUsize, max: usize) -> Option<Self> {
        let waiting = Self(queued);
        (queued.fetch_add(1, Ordering::Relaxed) < max).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
