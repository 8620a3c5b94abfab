//! The process's phase, and names for its requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::error::{ErrorCode, Fault};

/// Starting, serving, retiring where another server takes over, draining.
#[derive(Debug, Default)]
pub struct Phase(AtomicU8);

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const RETIRING: u8 = 2;
const DRAINING: u8 = 3;

impl Phase {
    /// From now on requests are served.
    pub fn serve(&self) {
        // A drain that came first stands.
        let _ = self.0.compare_exchange(STARTING, SERVING, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// From now on whoever is connected is served once more, and sent to the one that took over.
    pub fn retire(&self) {
        let _ = self.0.compare_exchange(SERVING, RETIRING, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Whether each answer is the last one on its connection.
    pub fn is_retiring(&self) -> bool {
        self.0.load(Ordering::Relaxed) == RETIRING
    }

    /// From now on requests are refused.
    pub fn drain(&self) {
        self.0.store(DRAINING, Ordering::Release);
    }

    /// Whether requests are served.
    pub fn is_serving(&self) -> bool {
        self.0.load(Ordering::Acquire) == SERVING
    }

    /// Its word.
    pub fn name(&self) -> &'static str {
        match self.0.load(Ordering::Acquire) {
            STARTING => "starting",
            SERVING => "serving",
            RETIRING => "retiring",
            _ => "draining",
        }
    }

    /// Whether a request may come in.
    ///
    /// # Errors
    /// `Unavailable` before and after serving.
    pub fn admits(&self) -> Result<(), Fault> {
        if self.is_serving() || self.is_retiring() {
            return Ok(());
        }
        Err(Fault::new(
            ErrorCode::Unavailable,
            format!("the server is {}", self.name()),
            "retry after a moment",
        ))
    }
}

/// Numbers are written as wide as this, so that names sort as requests came: an index of them then grows at its end only,
/// which is cheaper than anywhere else. Past the ten thousand millionth request names are longer, and no more is lost.
const ZEROS: &str = "0000000000";

/// Names requests: unique among all instances, in the order of their coming.
#[derive(Debug)]
pub struct RequestIds {
    instance: String,
    next: AtomicU64,
}

impl RequestIds {
    /// For requests of this instance.
    pub fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned(), next: AtomicU64::new(1) }
    }

    /// The next name.
    pub fn next(&self) -> Arc<str> {
        let number = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let zeros = ZEROS.get(number.len()..).unwrap_or_default();
        [&*self.instance, "-", zeros, &number].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_requests_sort_as_the_requests_came() {
        let ids = RequestIds { instance: "a".to_owned(), next: AtomicU64::new(8) };
        let names = [ids.next(), ids.next(), ids.next()];
        assert!(names.is_sorted() && *names[2] == *"a-0000000010", "{names:?}");
        let last = RequestIds { instance: "a".to_owned(), next: AtomicU64::new(u64::MAX) };
        assert_eq!(*last.next(), *"a-18446744073709551615");
    }
}
