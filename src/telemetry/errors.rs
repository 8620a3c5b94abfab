//! The newest errors that were our fault or a plugin's, kept in memory for `/diagnostics/errors`.
//!
//! Must not hold arguments, results or secrets: only names and sentences that the log has, too.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// How many are kept.
pub const KEPT: usize = 256;

/// One error.
#[derive(Debug, Clone)]
pub struct Recent {
    /// When.
    pub at: SystemTime,
    /// The error's name.
    pub code: &'static str,
    /// What was being done: a method and a name, or an actor.
    pub during: String,
    /// What really happened.
    pub cause: String,
    /// The request it befell.
    pub request_id: String,
    /// The trace that its client says that it is part of.
    pub trace_id: Option<String>,
}

static RECENT: Mutex<VecDeque<Recent>> = Mutex::new(VecDeque::new());

/// Logs an error once and keeps it.
pub fn report(error: Recent) {
    match &error.trace_id {
        Some(trace_id) => log::error!(
            code = error.code, request_id = error.request_id.as_str(), trace_id = trace_id.as_str(),
            during = error.during.as_str();
            "{} failed: {}", error.during, error.cause
        ),
        None => log::error!(
            code = error.code, request_id = error.request_id.as_str(), during = error.during.as_str();
            "{} failed: {}", error.during, error.cause
        ),
    }
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    if recent.len() >= KEPT {
        recent.pop_front();
    }
    recent.push_back(error);
}

/// The newest `limit` errors since `since`, newest first.
pub fn newest(limit: usize, since: Option<SystemTime>) -> Vec<Recent> {
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    let after = |error: &&Recent| since.is_none_or(|since| error.at >= since);
    recent.iter().rev().filter(after).take(limit).cloned().collect()
}
