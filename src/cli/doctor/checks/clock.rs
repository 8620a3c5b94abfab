//! A clock that is behind the newest row of the history, or was set while the server ran. Must not set it.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::patient::Patient;
use crate::cli::output;
use crate::storage::{history, instances};

/// Clocks of several machines are never the same.
const TOLERANCE: Duration = Duration::from_secs(60);
/// How long a connection is waited for.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);
const COMMAND: &str = "timedatectl set-ntp true";

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    // That a database cannot be used is told elsewhere.
    let Some(Ok(storage)) = patient.storage() else { return Vec::new() };
    let newest = storage.run(CONNECTION_WAIT, history::newest).ok().flatten();
    let mut found: Vec<Finding> = newest.and_then(|newest| behind(newest, patient.now)).into_iter().collect();
    let pid = patient.pid().filter(|_| patient.page("/health").is_some());
    let began = pid.and_then(|pid| {
        storage.run(CONNECTION_WAIT, |connection| instances::began(connection, pid)).ok().flatten()
    });
    let up = patient.page("/diagnostics/performance").and_then(|page| page.get("uptimeSeconds"));
    let up = up.and_then(Value::as_f64).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    found.extend(began.zip(up).and_then(|(began, up)| jumped(began, up, patient.now)));
    found
}

/// The newest row must not lie in the future.
fn behind(newest: SystemTime, now: SystemTime) -> Option<Finding> {
    let ahead = newest.duration_since(now).ok().filter(|ahead| *ahead > TOLERANCE)?;
    let what = format!(
        "the clock is {} behind the newest row of the history",
        output::duration(ahead.as_secs_f64())
    );
    let why = "rows are sorted and pruned by their time, and keys and certificates end by it";
    Some(Finding::error("clock.behind", what, why, COMMAND))
}

/// The wall's clock and the one that never jumps must have gone equally far.
fn jumped(began: SystemTime, up: Duration, now: SystemTime) -> Option<Finding> {
    let gone = now.duration_since(began).unwrap_or_default();
    let difference = gone.abs_diff(up);
    if difference <= TOLERANCE {
        return None;
    }
    let way = if gone > up { "forward" } else { "back" };
    let what = format!(
        "the clock was set {way} by {} while the server ran",
        output::duration(difference.as_secs_f64())
    );
    let why = "what was recorded before has times that do not fit those after it";
    Some(Finding::warning("clock.jumped", what, why, COMMAND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_clocks_cannot_differ_by_is_told() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let seconds = Duration::from_secs;
        assert!(behind(now - seconds(1), now).is_none() && behind(now + seconds(59), now).is_none());
        assert!(behind(now + seconds(7200), now).is_some_and(|finding| finding.what.contains("2 h")));
        assert!(jumped(now - seconds(100), seconds(101), now).is_none());
        assert!(
            jumped(now - seconds(100), seconds(4000), now)
                .is_some_and(|finding| finding.what.contains("back"))
        );
        assert!(
            jumped(now - seconds(4000), seconds(100), now)
                .is_some_and(|finding| finding.what.contains("forward"))
        );
    }
}
