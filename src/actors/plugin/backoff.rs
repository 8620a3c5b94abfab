//! When a plugin whose life failed is started again: at once, then ever later, until it is given up.
//!
//! Pure: the time is given. Must not know why a life failed.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// The pause before the second start; each further one is twice as long …
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// … up to this.
const PAUSE_MOST: Duration = Duration::from_secs(60);
/// A life that was ready for so long proves that the plugin is well: what failed before does not count any more.
const PROVEN_AFTER: Duration = Duration::from_secs(60);
/// So many lives that failed without ever being ready …
const FAILURES_MAX: usize = 10;
/// … within this time, and it is given up until somebody mends it.
const FAILURES_WITHIN: Duration = Duration::from_secs(600);

/// One plugin's failures.
#[derive(Debug, Default)]
pub struct Backoff {
    /// Starts since it was last well.
    starts: u32,
    /// When lives failed that were never ready.
    stillborn: VecDeque<Instant>,
}

impl Backoff {
    /// How long to wait before the next life, after one that failed `now` and had been ready for `ready`; none when it is
    /// to be given up.
    pub fn after(&mut self, now: Instant, ready: Option<Duration>) -> Option<Duration> {
        match ready {
            None => self.stillborn.push_back(now),
            Some(ready) => {
                self.stillborn.clear();
                if ready >= PROVEN_AFTER {
                    self.starts = 0;
                }
            }
        }
        while self.stillborn.front().is_some_and(|at| now.duration_since(*at) > FAILURES_WITHIN) {
            self.stillborn.pop_front();
        }
        if self.stillborn.len() >= FAILURES_MAX {
            return None;
        }
        let pause = match self.starts {
            0 => Duration::ZERO,
            starts => jittered(PAUSE_FIRST.saturating_mul(1 << (starts - 1).min(16)).min(PAUSE_MOST)),
        };
        self.starts = self.starts.saturating_add(1);
        Some(pause)
    }
}

/// Between three quarters of `pause` and the whole, so that many that fail together do not come back together.
fn jittered(pause: Duration) -> Duration {
    // Each state is seeded anew, which is chance enough.
    let chance = RandomState::new().hash_one(0_u8) % 256;
    pause.mul_f64(0.75 + chance as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_comes_at_once_and_each_further_one_later() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        let ready = Some(Duration::from_secs(1));
        assert_eq!(backoff.after(now, ready), Some(Duration::ZERO));
        for wanted in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 60.0] {
            let pause = backoff.after(now, ready).unwrap().as_secs_f64();
            assert!((wanted * 0.75..=wanted).contains(&pause), "{pause} is not about {wanted}");
        }
    }

    #[test]
    fn a_life_that_was_ready_for_long_makes_good_what_was_before() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for _ in 0..5 {
            backoff.after(now, None);
        }
        assert_eq!(backoff.after(now, Some(PROVEN_AFTER)), Some(Duration::ZERO));
    }

    #[test]
    fn a_plugin_that_is_never_ready_is_given_up_and_one_that_was_is_not() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for _ in 1..FAILURES_MAX {
            assert!(backoff.after(now, None).is_some());
        }
        assert_eq!(backoff.after(now, None), None);
        assert!(backoff.after(now, Some(Duration::ZERO)).is_some());
        assert!(backoff.after(now, None).is_some());
    }

    #[test]
    fn failures_of_long_ago_do_not_count() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        for _ in 0..FAILURES_MAX * 3 {
            assert!(backoff.after(now, None).is_some());
            now += FAILURES_WITHIN / 5;
        }
    }
}
