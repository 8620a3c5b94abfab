//! A plugin's seat in the house: the handle to it, and the bulkhead that keeps its trouble to itself.
//!
//! Concurrency cap, queue limit, lost threads, breaker, limits of tools, state; how a call gets its place stands in `entrance`.
//! Must not know calls, callers or HTTP.

mod alone;
mod entrance;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::breaker::{Admitted, Breaker, Circuit, Turn, Verdict};
use super::caching::Caching;
use super::counted::Counted;
use super::curation::Curator;
use super::failed::{Failed, Failures};
use super::meter::Meter;
use super::place::Place;
use super::state::PluginState;
use crate::access::limits::{Allowance, Of};
use crate::config::Quota;
use crate::config::plugin::{Breaker as BreakerRule, Curation, PluginLimits};
use crate::error::{ErrorCode, Fault};
use crate::plugins::{Blocking, Plugin};
use alone::Alone;

/// The limits of one plugin's seat.
#[derive(Debug, Clone, Copy)]
pub struct SeatLimits {
    /// Calls at once.
    pub concurrency: usize,
    /// Calls that may wait for a place.
    pub queue_max: usize,
    /// How long one may wait, where that is less than its own deadline.
    pub queue_timeout: Option<Duration>,
    /// Threads for blocking work.
    pub blocking_threads: usize,
    /// Lost threads at which the seat is closed until some end.
    pub lost_threads_max: usize,
    /// Deadline of a call in seconds.
    pub timeout_seconds: u64,
    /// When it is left alone for a while; never, where there is none.
    pub breaker: Option<BreakerRule>,
    /// How long it may take until it is ready, where that is not its own affair alone.
    pub start_timeout: Option<Duration>,
    /// What its file says of them; the rest are those of all plugins.
    pub own: PluginLimits,
}

/// Why and since when a plugin stands as it does.
#[derive(Debug, Clone)]
struct Standing {
    why: Option<String>,
    since: SystemTime,
    /// When it is worth asking again.
    returns: Option<Instant>,
}

/// A plugin's seat.
pub struct Seat {
    /// Unlike that of any other seat, of other processes, too: a client brings it back with the state of a call.
    pub number: u64,
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
    /// Its numbers.
    pub meter: Meter,
    /// Whether the contents of its resources are kept.
    pub reads: Caching,
    /// What it is made of, as a text that is the same wherever the same plugin is.
    pub definition: Arc<str>,
    /// What calls of single tools may use up together, by the plugin's names of them.
    allowances: HashMap<String, Arc<Allowance>>,
    permits: Arc<Semaphore>,
    queued: AtomicUsize,
    /// Calls that are not answered yet, be they checked, recorded, waiting or running.
    calls: Arc<AtomicUsize>,
    state: AtomicU8,
    standing: Mutex<Standing>,
    /// Whether some of what it offers was refused.
    refused: AtomicBool,
    was_open: AtomicBool,
    /// Whether nothing is heard of the thread that it lives on.
    stuck: AtomicBool,
    /// Whether what it offers may be published: not before it takes another's place, and not after it lost its own.
    shown: AtomicBool,
    breaker: Option<Arc<Breaker>>,
    /// Why the breaker opened, and when.
    opened: Mutex<Option<(String, SystemTime)>>,
    /// Whether calls are taken already, while what it offers is being published.
    early: AtomicBool,
    /// How it stands with other processes of it, where there may be only one.
    alone: Arc<Alone>,
    /// Told of each change of its state.
    turned: Notify,
    failed: Failures,
}

/// What is said of a plugin whose thread gives no sign of life.
const STUCK: &str = "something holds up the thread that it lives on: calls may still be answered, but it neither begins \
                     anew nor tells what changes; reload the plugins to begin it on another thread";

/// For a plugin that is busy, or comes back at a moment that is not known.
const SOON: Duration = Duration::from_secs(1);

/// The limits of single tools, in the places of `before`.
fn allowances(
    plugin: &str,
    curator: &Curator,
    before: &HashMap<String, Arc<Allowance>>,
) -> HashMap<String, Arc<Allowance>> {
    let allowance = |(local, quota): (&String, Quota)| {
        let published = curator.publish(plugin, curator.name_alone(local));
        Some((local.clone(), Allowance::new(Of::Tool, &published, quota, before.get(local))?))
    };
    curator.quotas().filter_map(allowance).collect()
}

impl Seat {
    /// A seat for `plugin`.
    pub fn new(name: &str, curation: Arc<Curation>, plugin: Arc<dyn Plugin>, limits: SeatLimits) -> Self {
        let breaker = limits.breaker.map(|rule| Arc::new(Breaker::new(rule, Instant::now())));
        let curator = Curator::new(curation);
        Self {
            number: uuid::Uuid::now_v7().as_u64_pair().1,
            name: name.into(),
            allowances: allowances(name, &curator, &HashMap::new()),
            reads: curator.caching_of_resources(),
            definition: Arc::default(),
            curator,
            registered: None,
            plugin,
            limits,
            blocking: Arc::new(Blocking::new(limits.blocking_threads)),
            meter: Meter::of(name),
            permits: Arc::new(Semaphore::new(limits.concurrency)),
            queued: AtomicUsize::new(0),
            calls: Arc::default(),
            state: AtomicU8::new(PluginState::Starting as u8),
            standing: Mutex::new(Standing { why: None, since: SystemTime::now(), returns: None }),
            refused: AtomicBool::new(false),
            was_open: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            shown: AtomicBool::new(true),
            breaker,
            opened: Mutex::new(None),
            early: AtomicBool::new(false),
            alone: Arc::default(),
            turned: Notify::new(),
            failed: Failures::default(),
        }
    }

    /// A seat for the plugin on `old`, which lives on and is offered otherwise from now on. It is the same plugin: clients come back to
    /// it with the states of their calls, the threads that it lost are its own, and what was used up of its limits stays so.
    pub fn anew(old: &Self, curation: Arc<Curation>, limits: SeatLimits) -> Self {
        let seat = Self::new(&old.name, curation, Arc::clone(&old.plugin), limits);
        // Calls that run on the old seat take up as many places as before.
        let same = limits.concurrency == old.limits.concurrency;
        let permits = if same { Arc::clone(&old.permits) } else { seat.permits };
        Self {
            number: old.number,
            registered: old.registered,
            blocking: Arc::clone(&old.blocking),
            allowances: allowances(&old.name, &seat.curator, &old.allowances),
            permits,
            // Who waits for them to end waits for all of them.
            calls: Arc::clone(&old.calls),
            alone: Arc::clone(&old.alone),
            failed: old.failed.clone(),
            ..seat
        }
    }

    /// Stands as `old` does, whose plugin it has.
    pub fn stand_as(&self, old: &Self) {
        let standing = old.standing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        self.state.store(old.state.load(Ordering::Acquire), Ordering::Release);
        self.early.store(old.early.load(Ordering::Acquire), Ordering::Release);
        self.stuck.store(old.is_stuck(), Ordering::Relaxed);
        self.turned.notify_waiters();
    }

    /// What all calls of this tool, by the plugin's name of it, may use up together; none means all.
    pub fn allowance(&self, tool: &str) -> Option<Arc<Allowance>> {
        self.allowances.get(tool).cloned()
    }

    /// The limits of all its tools.
    pub fn allowances(&self) -> impl Iterator<Item = &Arc<Allowance>> {
        self.allowances.values()
    }

    /// The same as number `registered` of those that the program itself brings: they are listed before all others.
    pub fn registered(mut self, registered: usize) -> Self {
        self.registered = Some(registered);
        self
    }

    /// What a call hears while it is not ready; none when it is.
    pub fn refusal(&self) -> Option<Fault> {
        let state = self.life();
        let serves = matches!(state, PluginState::Ready | PluginState::Degraded);
        (!serves).then(|| self.away(state))
    }

    /// What a call hears of a plugin that does not serve.
    fn away(&self, state: PluginState) -> Fault {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let returns = standing.returns.map_or(SOON, |at| at.saturating_duration_since(Instant::now()));
        let again =
            if standing.why.is_some() { "is being started again after a failure" } else { "is starting" };
        let again = if self.waits_for_another() { "waits for another process of it to end" } else { again };
        let (why, returns) = match state {
            PluginState::Quarantined => (
                "is in quarantine until it is reloaded, since it failed too often or its settings cannot be used",
                None,
            ),
            PluginState::Stopped => ("was taken away", None),
            _ => (again, Some(returns)),
        };
        if self.leaves() {
            return self.replaced();
        }
        let fault = self.busy_with(format!("it {why}"));
        let fault = returns.into_iter().fold(fault, Fault::retry_after);
        standing.why.into_iter().fold(fault, |fault, why| {
            let cause = format!("plugin {} {}: {why}", self.name, state.name());
            fault.because(cause)
        })
    }

    /// Takes in what became of the call that has `place`; `why` is asked for when it failed.
    pub fn judge(&self, place: &mut Place, verdict: Verdict, why: impl FnOnce() -> String) {
        let why = (verdict == Verdict::Failed).then(why).unwrap_or_default();
        if verdict == Verdict::Failed {
            self.failed.note(&self.name, &why);
        }
        let Some(breaker) = &self.breaker else { return };
        let probe = place.end_trial();
        match breaker.judge(Admitted { probe }, verdict, Instant::now()) {
            Turn::None => {}
            Turn::Opened => {
                let why = format!("{} calls in a row failed; the last one: {}", breaker.failures(), why);
                log::warn!(plugin = &*self.name; "plugin {} is open: {why}", self.name);
                *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some((why, SystemTime::now()));
            }
            Turn::Closed => self.say_closed("a call that tried it was answered"),
        }
    }

    /// The calls of it that failed: what the breaker calls so, be there one or not.
    pub fn failed(&self) -> Failed {
        self.failed.seen()
    }

    fn say_closed(&self, why: &str) {
        log::info!(plugin = &*self.name; "plugin {} is closed again, and serves: {why}", self.name);
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn busy(&self, why: String, returns: Duration) -> Fault {
        self.busy_with(why).retry_after(returns)
    }

    fn busy_with(&self, why: String) -> Fault {
        Fault::new(
            ErrorCode::Unavailable,
            format!("plugin {:?} takes no call now: {why}", self.name),
            "retry after a moment; if it lasts, the operator finds the plugin under /plugins",
        )
    }

    /// Whether it is closed to calls though it lives: by lost threads, or by its breaker.
    pub fn is_open(&self) -> bool {
        self.lost_too_many() || self.circuit() != Circuit::Closed
    }

    /// How its breaker stands.
    pub fn circuit(&self) -> Circuit {
        self.breaker.as_ref().map_or(Circuit::Closed, |breaker| breaker.circuit(Instant::now()))
    }

    /// Whether lost threads have closed it.
    fn lost_too_many(&self) -> bool {
        let open = self.blocking.lost() >= self.limits.lost_threads_max;
        if open != self.was_open.swap(open, Ordering::Relaxed) {
            let word =
                if open { "closed: too many threads stuck" } else { "serving again: stuck threads ended" };
            log::warn!(plugin = &*self.name; "plugin {} is {word}", self.name);
        }
        open
    }

    fn why_lost(&self) -> String {
        format!("{} threads of it are stuck in calls that were given up", self.blocking.lost())
    }

    /// Calls that wait for a place.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Calls that have one.
    pub fn running(&self) -> usize {
        self.limits.concurrency.saturating_sub(self.permits.available_permits())
    }

    /// Counts one more call until what this gives is dropped: as long as there are any, the plugin is needed.
    pub fn begin_call(&self) -> Counted<'_> {
        Counted::begin(&self.calls)
    }

    /// Calls that are not answered yet.
    pub fn calls(&self) -> usize {
        // Of one that leaves, each call is either counted here or sees that it leaves.
        self.calls.load(Ordering::SeqCst)
    }

    /// How long any call of it may take.
    pub fn longest_call(&self) -> Duration {
        Duration::from_secs(self.limits.timeout_seconds.max(self.curator.longest_timeout_seconds()))
    }

    /// How its life stands.
    pub fn state(&self) -> PluginState {
        match self.life() {
            PluginState::Ready if self.refused.load(Ordering::Relaxed) || self.is_stuck() => {
                PluginState::Degraded
            }
            state => state,
        }
    }

    fn life(&self) -> PluginState {
        match self.state.load(Ordering::Acquire) {
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
            state => state.name(),
        }
    }

    /// Why it stands so, if there is more to say than the word.
    pub fn why(&self) -> Option<String> {
        let opened = || self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.state() {
            PluginState::Ready | PluginState::Degraded if self.lost_too_many() => {
                return Some(self.why_lost());
            }
            PluginState::Ready | PluginState::Degraded if self.is_open() => {
                return opened().map(|(why, _)| why);
            }
            PluginState::Ready | PluginState::Degraded | PluginState::Starting if self.is_stuck() => {
                return Some(STUCK.to_owned());
            }
            PluginState::Degraded if self.life() == PluginState::Ready => {
                return Some("some of what it offers is not published".to_owned());
            }
            _ => {}
        }
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).why.clone()
    }

    /// Since when it stands so.
    pub fn since(&self) -> SystemTime {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, at)| *at);
        let since = self.standing.lock().unwrap_or_else(PoisonError::into_inner).since;
        opened.map_or(since, |opened| opened.max(since))
    }

    /// Takes calls from now on, though it is not said to be ready before all can find what it offers.
    pub fn open_early(&self) {
        self.early.store(true, Ordering::Release);
    }

    /// Notes how its life stands now, why, and when it will be worth asking again; each change is logged once.
    pub fn turn(&self, state: PluginState, why: Option<String>, returns: Option<Instant>) {
        self.waits_no_more();
        self.note(state, why, returns);
    }

    fn note(&self, state: PluginState, why: Option<String>, returns: Option<Instant>) {
        let before = {
            let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
            standing.returns = returns;
            if self.life() == state && standing.why == why {
                // No news for the log, but for whoever waits: it failed once more.
                self.turned.notify_waiters();
                return;
            }
            standing.since = SystemTime::now();
            self.state.store(state as u8, Ordering::Release);
            std::mem::replace(&mut standing.why, why.clone())
        };
        self.early.store(false, Ordering::Release);
        self.turned.notify_waiters();
        if state == PluginState::Ready
            && self.breaker.as_ref().is_some_and(|breaker| breaker.close() == Turn::Closed)
        {
            self.say_closed("it began a new life");
        }
        let (name, word) = (&*self.name, state.name());
        match (state, why) {
            (PluginState::Quarantined, Some(why)) => {
                log::error!(plugin = name; "plugin {name} is {word}: {why}")
            }
            (_, Some(why)) => log::warn!(plugin = name; "plugin {name} is {word}: {why}"),
            // That it is well again is as much news as that it was not.
            (PluginState::Ready, None) if before.is_some() => {
                log::info!(plugin = name; "plugin {name} is {word} again")
            }
            (_, None) => log::debug!(plugin = name; "plugin {name} is {word}"),
        }
    }

    /// Waits until it serves for the first time; as long as that takes.
    ///
    /// # Errors
    /// Why it does not, when it failed and failed again, waits for another process, or was given up or stopped.
    pub async fn settled(&self) -> Result<(), String> {
        loop {
            // Heard from before the look, so that no change is missed in between.
            let mut turned = std::pin::pin!(self.turned.notified());
            turned.as_mut().enable();
            let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // The first restart comes at once, and is waited for.
            let waits = standing.returns.is_some_and(|at| at > Instant::now() + Duration::from_millis(100));
            match self.life() {
                PluginState::Ready | PluginState::Degraded => return Ok(()),
                PluginState::Starting if !waits && !self.waits_for_another() => {}
                state => return Err(standing.why.unwrap_or_else(|| format!("it is {}", state.name()))),
            }
            turned.await;
        }
    }

    /// Lets what it offers be published, or keeps it back.
    pub fn show(&self, shown: bool) {
        self.shown.store(shown, Ordering::Release);
    }

    /// Whether what it offers may be published.
    pub fn is_shown(&self) -> bool {
        self.shown.load(Ordering::Acquire)
    }

    /// Puts it in quarantine, for a reason that was told before or is not known.
    pub(super) fn quarantine(&self) {
        if self.life() != PluginState::Quarantined {
            self.turn(PluginState::Quarantined, Some("its actor was given up".to_owned()), None);
        }
    }

    /// Notes whether the thread that it lives on gives signs of life; each change is logged once.
    pub fn note_stuck(&self, stuck: bool) {
        if stuck != self.stuck.swap(stuck, Ordering::Relaxed) {
            let word = if stuck { STUCK } else { "its thread gives signs of life again" };
            log::warn!(plugin = &*self.name; "plugin {}: {word}", self.name);
        }
    }

    /// Whether nothing is heard of the thread that it lives on.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Notes whether some of what it offers was refused.
    pub(super) fn note_refused(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
    }
}
