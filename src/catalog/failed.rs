//! What calls of one plugin failed of: how many, and the last of them, for the operator. Must not know what failing means.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The calls of a plugin that failed.
#[derive(Debug, Clone, Default)]
pub struct Failed {
    /// How many.
    pub count: u64,
    /// Why the last one did, and when.
    pub last: Option<(String, SystemTime)>,
}

/// Where they are counted; a clone counts the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures(Arc<Mutex<Failed>>);

impl Failures {
    /// Counts one more of `plugin`; it is logged unless the one before failed in the same way.
    pub(super) fn note(&self, plugin: &str, why: &str) {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = failed.last.as_ref().is_none_or(|(before, _)| before != why);
        let level = if is_new { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, plugin = plugin; "a call of plugin {plugin} failed: {why}");
        failed.count = failed.count.saturating_add(1);
        failed.last = Some((why.to_owned(), SystemTime::now()));
    }

    pub(super) fn seen(&self) -> Failed {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
