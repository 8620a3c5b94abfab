//! What one of those who are limited has left: requests by the algorithm of `governor`, and places for calls.
//!
//! Both are numbers that change by themselves, without a lock. Must not know whose it is.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, FakeRelativeClock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota as Rate, RateLimiter};

use super::clock::Steady;
use crate::config::Quota;

type Limiter<C> = RateLimiter<NotKeyed, Taken, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// What was taken so far, as governor writes it down: shared, so that it can be read without taking anything.
#[derive(Debug, Clone, Default)]
struct Taken(Arc<InMemoryState>);

impl Taken {
    /// Up to when it reaches, since the limiter began.
    fn until(&self) -> Nanos {
        // What is refused changes nothing: so it is read.
        match self.measure_and_replace(&NotKeyed::NonKey, Err::<((), Nanos), _>) {
            Err(Some(until)) => until,
            _ => 0.into(),
        }
    }

    /// The same, and from now on another's.
    fn copy(&self) -> Self {
        let copy = Self::default();
        copy.reach(self.until());
        copy
    }

    /// Has it reach at least until then.
    fn reach(&self, until: Nanos) {
        let further =
            |before: Option<Nanos>| Ok::<_, ()>(((), before.map_or(until, |before| before.max(until))));
        let _written = self.measure_and_replace(&NotKeyed::NonKey, further);
    }
}

impl StateStore for Taken {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, key: &NotKeyed, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, measure)
    }
}

/// When a call is to come back that found no place: nobody knows when one becomes free.
const SOON: Duration = Duration::from_secs(1);

/// Which of the limits was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Requests a minute.
    Requests,
    /// Calls at once.
    Concurrent,
}

impl Limit {
    /// The word for it: the member of a quota.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requestsPerMinute",
            Self::Concurrent => "concurrent",
        }
    }

    /// The word for it in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Concurrent => "concurrent",
        }
    }
}

/// A limit was reached, and it is worth coming back after this time.
pub type Spent = (Limit, Duration);

/// How fast requests come back, where they have a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// One comes back after this time.
    pub every: Duration,
    /// As many may be taken at once.
    pub most: u32,
}

/// What somebody has left of a quota.
pub struct Budget<C: Clock = Steady> {
    quota: Quota,
    rate: Option<Limiter<C>>,
    taken: Taken,
    clock: C,
    /// What the limiter counts its time from.
    began: C::Instant,
    /// Requests taken that no other server was told of.
    untold: AtomicU32,
    running: Arc<AtomicU32>,
}

impl<C: Clock + Clone> Budget<C> {
    /// All of `quota`. Calls that run within `before`, which it takes the place of, keep their places.
    pub fn new(quota: Quota, before: Option<&Self>, clock: C) -> Self {
        let taken = Taken::default();
        Self {
            began: clock.now(),
            rate: rate(quota).map(|rate| RateLimiter::new(rate, taken.clone(), clock.clone())),
            taken,
            untold: AtomicU32::new(0),
            running: before.map(|before| Arc::clone(&before.running)).unwrap_or_default(),
            quota,
            clock,
        }
    }

    /// The quota.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Takes one request.
    ///
    /// # Errors
    /// None is left.
    pub fn spend(&self) -> Result<(), Spent> {
        let Some(rate) = &self.rate else { return Ok(()) };
        rate.check().map_err(|until| (Limit::Requests, until.wait_time_from(self.clock.now())))?;
        self.untold.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// How fast requests come back.
    pub fn pace(&self) -> Option<Pace> {
        let rate = rate(self.quota)?;
        Some(Pace { every: rate.replenish_interval(), most: rate.burst_size().get() })
    }

    /// Requests that were taken since this was asked last: whoever asks tells the others.
    pub fn untold(&self) -> u32 {
        self.untold.swap(0, Ordering::Relaxed)
    }

    /// How long it takes until all that was taken is there again.
    pub fn ahead(&self) -> Duration {
        let now: Duration = self.clock.now().duration_since(self.began).into();
        Duration::from(self.taken.until()).saturating_sub(now)
    }

    /// Takes what others took, too: all servers together have it there again after this time, but for what is untold here.
    pub fn reach(&self, ahead: Duration) {
        let Some(pace) = self.pace() else { return };
        let now: Duration = self.clock.now().duration_since(self.began).into();
        let untold = pace.every.saturating_mul(self.untold.load(Ordering::Relaxed));
        if !ahead.is_zero() {
            self.taken.reach(nanos(now.saturating_add(ahead).saturating_add(untold)));
        }
    }

    /// Looks whether a request is left, and takes none: a limiter like ours is asked, which has a copy of what was taken.
    ///
    /// # Errors
    /// None is left.
    pub fn could_spend(&self) -> Result<(), Spent> {
        let Some(rate) = rate(self.quota) else { return Ok(()) };
        let now = FakeRelativeClock::default();
        let twin: Limiter<FakeRelativeClock> = RateLimiter::new(rate, self.taken.copy(), now.clone());
        now.advance(self.clock.now().duration_since(self.began).into());
        twin.check().map_err(|until| (Limit::Requests, until.wait_time_from(now.now())))
    }

    /// Takes a place for a call; there is none to take where calls have no limit.
    ///
    /// # Errors
    /// None is free.
    pub fn begin(&self) -> Result<Option<Running>, Spent> {
        let Some(most) = self.quota.concurrent else { return Ok(None) };
        let one_more = |running: u32| (running < most).then_some(running.saturating_add(1));
        match self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Some(Running(Arc::clone(&self.running)))),
            Err(_) => Err((Limit::Concurrent, SOON)),
        }
    }

    /// Looks whether a place is free, and takes none.
    ///
    /// # Errors
    /// None is.
    pub fn look(&self) -> Result<(), Spent> {
        match self.quota.concurrent {
            Some(most) if self.running() >= most => Err((Limit::Concurrent, SOON)),
            _ => Ok(()),
        }
    }

    /// Calls that run.
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// How long it takes until all of it is there again, whatever was taken.
    pub fn whole_after(&self) -> Duration {
        rate(self.quota).map_or(Duration::ZERO, |rate| rate.burst_size_replenished_in())
    }
}

impl<C: Clock> std::fmt::Debug for Budget<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget").field("quota", &self.quota).field("running", &self.running).finish()
    }
}

/// Of whatever another server says, as much as can be counted with.
fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 2).into()
}

fn rate(quota: Quota) -> Option<Rate> {
    let rate = Rate::per_minute(NonZeroU32::new(quota.requests_per_minute?)?);
    Some(quota.burst.and_then(NonZeroU32::new).map_or(rate, |burst| rate.allow_burst(burst)))
}

/// A place of a call that runs, given back on drop.
#[derive(Debug)]
pub struct Running(Arc<AtomicU32>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn budget(
        requests_per_minute: Option<u32>,
        burst: Option<u32>,
        concurrent: Option<u32>,
    ) -> Budget<FakeRelativeClock> {
        Budget::new(Quota { requests_per_minute, burst, concurrent }, None, FakeRelativeClock::default())
    }

    #[test]
    fn a_burst_is_taken_at_once_and_comes_back_one_by_one() {
        let budget = budget(Some(60), Some(3), None);
        assert!((0..3).all(|_| budget.spend().is_ok()));
        assert_eq!(budget.spend(), Err((Limit::Requests, Duration::from_secs(1))));
        budget.clock.advance(Duration::from_millis(400));
        assert_eq!(budget.spend(), Err((Limit::Requests, Duration::from_millis(600))));
        budget.clock.advance(Duration::from_millis(600));
        assert_eq!((budget.spend(), budget.spend().is_err()), (Ok(()), true));
        budget.clock.advance(budget.whole_after());
        assert!((0..3).all(|_| budget.spend().is_ok()) && budget.spend().is_err());
    }

    #[test]
    fn to_look_ahead_takes_nothing_and_says_what_taking_would() {
        let budget = budget(Some(60), Some(2), None);
        assert!((0..10).all(|_| budget.could_spend().is_ok()));
        budget.clock.advance(Duration::from_millis(300));
        assert!((0..2).all(|_| budget.spend().is_ok()));
        for _ in 0..3 {
            let ahead = budget.could_spend();
            assert_eq!((ahead, ahead.is_err()), (budget.spend(), true));
            budget.clock.advance(Duration::from_millis(300));
        }
        budget.clock.advance(Duration::from_millis(100));
        assert_eq!((budget.could_spend(), budget.could_spend(), budget.spend()), (Ok(()), Ok(()), Ok(())));
        assert!(budget.could_spend().is_err());
    }

    #[test]
    fn what_others_took_is_taken_here_and_what_is_untold_comes_on_top() {
        let (one, other) = (budget(Some(60), Some(3), None), budget(Some(60), Some(3), None));
        assert_eq!(one.pace(), Some(Pace { every: Duration::from_secs(1), most: 3 }));
        assert!((0..2).all(|_| one.spend().is_ok()));
        assert_eq!((one.untold(), one.untold(), one.ahead()), (2, 0, Duration::from_secs(2)));
        assert!(other.spend().is_ok());
        other.reach(one.ahead());
        assert_eq!(other.ahead(), Duration::from_secs(3));
        assert_eq!(other.spend(), Err((Limit::Requests, Duration::from_secs(1))));
        other.reach(Duration::from_secs(1));
        assert_eq!((other.ahead(), other.untold()), (Duration::from_secs(3), 1), "nothing is given back");
        // What came to both before they heard of each other is taken off what follows.
        other.reach(Duration::from_secs(5));
        other.clock.advance(Duration::from_secs(2));
        assert_eq!(other.spend(), Err((Limit::Requests, Duration::from_secs(1))));
        other.clock.advance(Duration::from_secs(1));
        assert!(other.spend().is_ok() && other.spend().is_err());
        other.clock.advance(Duration::from_secs(60));
        assert_eq!(other.ahead(), Duration::ZERO);
        assert!((0..3).all(|_| other.spend().is_ok()) && other.spend().is_err());
        assert_eq!(budget(None, None, Some(1)).pace(), None);
    }

    #[test]
    fn without_a_burst_a_minute_may_be_taken_at_once() {
        let budget = budget(Some(5), None, None);
        assert!((0..5).all(|_| budget.spend().is_ok()) && budget.spend().is_err());
        assert_eq!(budget.whole_after(), Duration::from_secs(60));
    }

    #[test]
    fn a_place_is_given_back_however_a_call_ends_and_a_panic_is_an_end() {
        let budget = budget(None, None, Some(2));
        let (one, two) = (budget.begin().unwrap(), budget.begin().unwrap());
        assert!(budget.begin().is_err() && budget.look().is_err());
        drop(one);
        assert!(budget.look().is_ok());
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _place = budget.begin().unwrap();
            panic!("a call");
        }));
        assert!(panics.is_err() && budget.running() == 1);
        drop(two);
        assert_eq!(budget.running(), 0);
        assert!(budget.spend().is_ok(), "nothing was said of requests");
    }

    #[test]
    fn calls_that_run_while_a_quota_changes_keep_their_places() {
        let old = budget(None, None, Some(2));
        let running = old.begin().unwrap();
        let quota = Quota { concurrent: Some(1), ..Quota::default() };
        let new = Budget::new(quota, Some(&old), FakeRelativeClock::default());
        assert!(new.begin().is_err());
        drop(running);
        assert!(new.begin().is_ok());
    }

    #[test]
    fn the_fastest_rate_and_the_greatest_burst_are_counted_without_overflow() {
        let budget = budget(Some(u32::MAX), Some(u32::MAX), None);
        assert!(budget.spend().is_ok());
        let slow = self::budget(Some(1), Some(crate::config::QUOTA_MAX), None);
        assert!((0..3).all(|_| slow.spend().is_ok()));
    }
}
