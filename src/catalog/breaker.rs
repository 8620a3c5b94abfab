//! A circuit breaker: after several failures in a row a plugin is left alone for a while, then one call tries it.
//!
//! Pure: the time is given. Must not know plugins, calls, or what a failure is.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::plugin::Breaker as Rule;

/// When whoever comes while a call tries is to come back.
const TRIED: Duration = Duration::from_secs(1);

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Calls go through.
    Closed,
    /// None does.
    Open,
    /// One does, to see.
    HalfOpen,
}

impl Circuit {
    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What became of a call, for the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The plugin answered, be it with a refusal.
    Answered,
    /// It did not, or not in a way that one can use.
    Failed,
    /// Nothing was learned: the client went away, or the plugin was not needed.
    Nothing,
}

/// What changed by a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    None,
    /// It opened just now.
    Opened,
    /// It closed just now.
    Closed,
}

/// A call that may go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Whether it is the one that tries.
    pub probe: bool,
}

/// One plugin's breaker.
#[derive(Debug)]
pub struct Breaker {
    rule: Rule,
    /// What times are counted from.
    began: Instant,
    /// In a row.
    failures: AtomicU32,
    /// When it lets a call try, in milliseconds since `began`; 0 while it is closed.
    tries_at: AtomicU64,
    /// Whether a call tries now.
    probing: AtomicBool,
}

impl Breaker {
    /// A closed one.
    pub fn new(rule: Rule, now: Instant) -> Self {
        Self {
            rule,
            began: now,
            failures: AtomicU32::new(0),
            tries_at: AtomicU64::new(0),
            probing: AtomicBool::new(false),
        }
    }

    /// Whether a call may go through.
    ///
    /// # Errors
    /// How long to wait until it is worth asking again.
    pub fn admit(&self, now: Instant) -> Result<Admitted, Duration> {
        let admitted = self.look(|| now)?;
        // Whoever comes while one tries hears to come back soon: how long the try takes is not known.
        if admitted.probe && self.probing.swap(true, Ordering::AcqRel) {
            return Err(TRIED);
        }
        Ok(admitted)
    }

    /// The same, and lets nothing through.
    ///
    /// # Errors
    /// As [`Breaker::admit`].
    pub fn look(&self, now: impl FnOnce() -> Instant) -> Result<Admitted, Duration> {
        let tries_at = self.tries_at.load(Ordering::Acquire);
        if tries_at == 0 {
            return Ok(Admitted { probe: false });
        }
        let left = tries_at.saturating_sub(self.since(now()));
        if left > 0 {
            return Err(Duration::from_millis(left));
        }
        if self.probing.load(Ordering::Acquire) {
            return Err(TRIED);
        }
        Ok(Admitted { probe: true })
    }

    /// Takes in what became of a call that was admitted.
    pub fn judge(&self, call: Admitted, verdict: Verdict, now: Instant) -> Turn {
        let turn = match verdict {
            Verdict::Nothing => Turn::None,
            // What an old call says of a plugin that was given up meanwhile is no news.
            _ if !call.probe && self.tries_at.load(Ordering::Acquire) != 0 => Turn::None,
            Verdict::Answered => {
                if self.failures.load(Ordering::Relaxed) > 0 {
                    self.failures.store(0, Ordering::Relaxed);
                }
                if call.probe && self.tries_at.swap(0, Ordering::AcqRel) != 0 {
                    Turn::Closed
                } else {
                    Turn::None
                }
            }
            Verdict::Failed => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if call.probe || failures >= self.rule.failures { self.open(now) } else { Turn::None }
            }
        };
        if call.probe {
            self.probing.store(false, Ordering::Release);
        }
        turn
    }

    fn open(&self, now: Instant) -> Turn {
        let open = u64::try_from(self.rule.open.as_millis()).unwrap_or(u64::MAX);
        let before = self.tries_at.swap(self.since(now).saturating_add(open).max(1), Ordering::AcqRel);
        if before == 0 { Turn::Opened } else { Turn::None }
    }

    /// Closes it, as for a plugin that began a new life.
    pub fn close(&self) -> Turn {
        self.failures.store(0, Ordering::Relaxed);
        if self.tries_at.swap(0, Ordering::AcqRel) == 0 { Turn::None } else { Turn::Closed }
    }

    /// How it stands.
    pub fn circuit(&self, now: Instant) -> Circuit {
        match self.tries_at.load(Ordering::Acquire) {
            0 => Circuit::Closed,
            tries_at if tries_at > self.since(now) => Circuit::Open,
            _ => Circuit::HalfOpen,
        }
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    fn since(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Admitted = Admitted { probe: false };
    const PROBE: Admitted = Admitted { probe: true };

    fn breaker(failures: u32) -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(Rule { failures, open: Duration::from_secs(30) }, now), now)
    }

    #[test]
    fn it_opens_after_so_many_failures_in_a_row_and_says_when_to_come_back() {
        let (breaker, now) = breaker(3);
        for verdict in [Verdict::Failed, Verdict::Failed, Verdict::Answered, Verdict::Failed, Verdict::Failed]
        {
            assert_eq!(breaker.admit(now), Ok(CALL));
            assert_eq!(breaker.judge(CALL, verdict, now), Turn::None);
        }
        assert_eq!(breaker.judge(CALL, Verdict::Nothing, now), Turn::None);
        assert_eq!(breaker.judge(CALL, Verdict::Failed, now), Turn::Opened);
        assert_eq!(breaker.circuit(now), Circuit::Open);
        let later = now + Duration::from_secs(20);
        assert_eq!(breaker.admit(later), Err(Duration::from_secs(10)));
    }

    #[test]
    fn one_call_tries_it_and_closes_it_or_opens_it_again() {
        let (breaker, now) = breaker(1);
        assert_eq!(breaker.judge(CALL, Verdict::Failed, now), Turn::Opened);
        let later = now + Duration::from_secs(30);
        assert_eq!(breaker.circuit(later), Circuit::HalfOpen);
        assert_eq!(breaker.admit(later), Ok(PROBE));
        assert!(breaker.admit(later).is_err(), "one tries, not two");
        assert_eq!(breaker.judge(PROBE, Verdict::Failed, later), Turn::None);
        assert_eq!(breaker.admit(later), Err(Duration::from_secs(30)));
        let last = later + Duration::from_secs(31);
        assert_eq!(breaker.admit(last), Ok(PROBE));
        assert_eq!(breaker.judge(PROBE, Verdict::Answered, last), Turn::Closed);
        assert_eq!((breaker.admit(last), breaker.circuit(last)), (Ok(CALL), Circuit::Closed));
    }

    #[test]
    fn a_try_that_taught_nothing_lets_the_next_call_try() {
        let (breaker, now) = breaker(1);
        breaker.judge(CALL, Verdict::Failed, now);
        let later = now + Duration::from_secs(30);
        assert_eq!(breaker.admit(later), Ok(PROBE));
        assert_eq!(breaker.judge(PROBE, Verdict::Nothing, later), Turn::None);
        assert_eq!(breaker.admit(later), Ok(PROBE));
    }

    #[test]
    fn what_began_before_it_opened_neither_closes_it_nor_keeps_it_open() {
        let (breaker, now) = breaker(1);
        breaker.judge(CALL, Verdict::Failed, now);
        let later = now + Duration::from_secs(29);
        assert_eq!(breaker.judge(CALL, Verdict::Answered, later), Turn::None);
        assert_eq!(breaker.judge(CALL, Verdict::Failed, later), Turn::None);
        assert_eq!(breaker.admit(later), Err(Duration::from_secs(1)));
    }
}
