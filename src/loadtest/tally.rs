//! What was seen: latencies and faults of each kind, by the interval. A thread writes, and whoever reports takes what there is.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::fault::Fault;

/// Between the least that is told apart and the most: 100 ns and an hour, to three digits.
const LEAST_NS: u64 = 100;
const MOST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;
/// A server can say no in endless ways: so many are told apart.
const KINDS_MAX: usize = 32;
const OTHERS: &str = "others";

/// Latencies in nanoseconds.
pub type Latencies = Histogram<u64>;

/// None yet.
#[expect(clippy::expect_used, reason = "the bounds are constants, and a test has them taken")]
pub fn no_latencies() -> Latencies {
    Histogram::new_with_bounds(LEAST_NS, MOST_NS, DIGITS).expect("sound bounds")
}

/// How often something went wrong, and what was said then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// How often.
    pub count: u64,
    /// What was said the first time.
    pub example: String,
}

/// Faults by their kind.
#[derive(Debug, Clone, Default)]
pub struct Ledger(BTreeMap<String, Faults>);

impl Ledger {
    /// Writes so many of a kind down, with what was said.
    pub fn add(&mut self, what: &str, example: &str, count: u64) {
        let is_known = self.0.contains_key(what) || self.0.len() < KINDS_MAX;
        let what = if is_known { what } else { OTHERS };
        match self.0.get_mut(what) {
            Some(faults) => faults.count += count,
            None => {
                self.0.insert(what.to_owned(), Faults { count, example: example.to_owned() });
            }
        }
    }

    /// Adds what is written elsewhere.
    pub fn merge(&mut self, other: &Self) {
        for (what, more) in &other.0 {
            self.add(what, &more.example, more.count);
        }
    }

    /// How many of all kinds.
    pub fn count(&self) -> u64 {
        self.0.values().map(|faults| faults.count).sum()
    }

    /// Kind by kind.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Faults)> {
        self.0.iter().map(|(what, faults)| (what.as_str(), faults))
    }
}

/// What was seen in one interval.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Of each kind of request, how long it took.
    pub calls: Vec<Latencies>,
    /// What went wrong.
    pub faults: Ledger,
    /// Bytes of answers.
    pub bytes: u64,
    /// Events of streams.
    pub events: u64,
    /// Answers that came as streams.
    pub streams: u64,
    /// How late this machine woke for what was due.
    pub lag: Latencies,
}

impl Seen {
    /// Nothing yet, of so many kinds.
    pub fn none(kinds: usize) -> Self {
        Self {
            calls: vec![no_latencies(); kinds],
            faults: Ledger::default(),
            bytes: 0,
            events: 0,
            streams: 0,
            lag: no_latencies(),
        }
    }

    /// Adds what was seen elsewhere.
    pub fn add(&mut self, other: &Self) {
        for (own, more) in self.calls.iter_mut().zip(&other.calls) {
            merge(own, more);
        }
        self.faults.merge(&other.faults);
        self.bytes += other.bytes;
        self.events += other.events;
        self.streams += other.streams;
        merge(&mut self.lag, &other.lag);
    }

    /// How many were answered rightly.
    pub fn answered(&self) -> u64 {
        self.calls.iter().map(Latencies::len).sum()
    }

    /// How many were not.
    pub fn failed(&self) -> u64 {
        self.faults.count()
    }

    /// The latencies of all kinds.
    pub fn latencies(&self) -> Latencies {
        let mut all = no_latencies();
        self.calls.iter().for_each(|calls| merge(&mut all, calls));
        all
    }
}

fn merge(own: &mut Latencies, more: &Latencies) {
    // Of the same bounds, it takes all that the other one holds.
    let _infallible = own.add(more);
}

/// What one thread sees. The lock is the thread's own but for a moment each interval.
pub struct Tally {
    seen: Mutex<Seen>,
    kinds: usize,
}

impl Tally {
    /// Of so many kinds of requests.
    pub fn new(kinds: usize) -> Self {
        Self { seen: Mutex::new(Seen::none(kinds)), kinds }
    }

    /// A request was answered.
    pub fn answered(&self, kind: usize, took: Duration, bytes: u64, events: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = seen.calls.get_mut(kind) {
            calls.saturating_record(nanoseconds(took));
        }
        seen.bytes += bytes;
        seen.events += events;
        seen.streams += u64::from(events > 0);
    }

    /// One was not.
    pub fn failed(&self, fault: &Fault) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.faults.add(&fault.what, &fault.example, 1);
    }

    /// This machine woke late.
    pub fn lagged(&self, lag: Duration) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.lag.saturating_record(nanoseconds(lag));
    }

    /// Takes what was seen since the last time.
    pub fn take(&self) -> Seen {
        // Made before the lock: it is large.
        let fresh = Seen::none(self.kinds);
        std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), fresh)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_saw_adds_up_and_is_taken_once() {
        let tallies = [Tally::new(2), Tally::new(2)];
        for (tally, ms) in tallies.iter().zip([1, 3]) {
            tally.answered(1, Duration::from_millis(ms), 100, 2);
            tally.failed(&Fault::status(503, b"busy"));
        }
        let mut all = Seen::none(2);
        tallies.iter().for_each(|tally| all.add(&tally.take()));
        assert_eq!((all.answered(), all.failed(), all.bytes, all.events, all.streams), (2, 2, 200, 4, 2));
        assert_eq!(all.faults.0["status 503"], Faults { count: 2, example: "busy".to_owned() });
        let latencies = all.latencies();
        assert!(latencies.min().abs_diff(1_000_000) < 1_000 && latencies.max().abs_diff(3_000_000) < 3_000);
        assert_eq!(tallies[0].take().answered(), 0);
    }

    #[test]
    fn endless_kinds_of_faults_and_endless_waits_are_kept_in_bounds() {
        let tally = Tally::new(1);
        for status in 100..200 {
            tally.failed(&Fault::status(status, b""));
        }
        tally.answered(0, Duration::MAX, 0, 0);
        let seen = tally.take();
        assert_eq!((seen.faults.0.len(), seen.failed(), seen.answered()), (KINDS_MAX + 1, 100, 1));
    }
}
