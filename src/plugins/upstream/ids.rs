//! Numbers for requests on one link: each once. Must not know what is asked.

use std::sync::atomic::{AtomicU64, Ordering};

/// Gives the numbers of one link's requests.
#[derive(Debug)]
pub struct Ids(AtomicU64);

impl Default for Ids {
    fn default() -> Self {
        Self(AtomicU64::new(1))
    }
}

impl Ids {
    /// The next number.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
