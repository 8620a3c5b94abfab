//! How long each part of a stop may take, and all of it together: whoever ends the process by force has to wait that long. Must not know
//! what is done in that time.

use std::time::Duration;

use actix_rt::Arbiter;
use tokio::sync::watch;

use crate::http::STOP_WITHIN_SECONDS;
use crate::telemetry::traces::FLUSH_WITHIN;

/// How long plugins may take to end, even if nothing is left of the time to drain.
pub(super) const PLUGINS_WITHIN: Duration = Duration::from_secs(5);
/// How long the database may take for what was seen of tools last.
pub(super) const SIGHTINGS_WITHIN: Duration = Duration::from_secs(3);
/// … and for how sessions stand.
pub(super) const SESSIONS_WITHIN: Duration = Duration::from_secs(3);
/// How long the database may take to close.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_secs(15);

/// All that may come once the time to drain is over: connections, plugins, database, traces.
pub(super) const AFTER_DRAIN: Duration = Duration::from_secs(
    STOP_WITHIN_SECONDS
        + PLUGINS_WITHIN.as_secs()
        + SIGHTINGS_WITHIN.as_secs()
        + SESSIONS_WITHIN.as_secs()
        + CLOSE_WITHIN.as_secs()
        + FLUSH_WITHIN.as_secs(),
);

/// How long a program that bears no twin is waited for: for as long as the server may take to stop that runs it, and a second more.
pub(super) const fn succeeded_within(drain_seconds: u64) -> Duration {
    Duration::from_secs(drain_seconds).saturating_add(AFTER_DRAIN).saturating_add(Duration::from_secs(1))
}

/// The last resort, on a thread of its own: when the process is doomed and its orderly end does not come either.
pub(super) fn watch_for_doom(mut doom: watch::Receiver<Option<String>>, drain_seconds: u64) {
    Arbiter::new().spawn(async move {
        if doom.wait_for(Option::is_some).await.is_ok() {
            let longest = Duration::from_secs(drain_seconds) + AFTER_DRAIN;
            tokio::time::sleep(longest + Duration::from_secs(5)).await;
            std::process::exit(70);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    /// The number behind `word`, in a file of the project.
    fn figure(file: &str, word: &str) -> u64 {
        let text = std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let (_, rest) = text.split_once(word).unwrap_or_else(|| panic!("{file} says nothing of {word}"));
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("{file} has no number behind {word}"))
    }

    #[test]
    fn a_program_that_bears_no_twin_waits_longer_than_a_stop_may_take() {
        assert!(succeeded_within(20) > Duration::from_secs(20) + AFTER_DRAIN);
        assert!(succeeded_within(u64::MAX) >= AFTER_DRAIN, "whatever the setting is");
    }

    #[test]
    fn whoever_ends_the_process_by_force_waits_longer_than_a_stop_may_take() {
        let home = tempfile::tempdir().unwrap();
        let config =
            load(&Sources { home: Some(home.path().to_owned()), ..Sources::default() }).unwrap().config;
        let longest = config.server.drain_seconds + AFTER_DRAIN.as_secs();
        for (file, word) in [
            ("packaging/systemd/waygate-mcp.service", "TimeoutStopSec="),
            ("docker/compose.yml", "stop_grace_period: "),
            ("docs/containers.md", "stop_grace_period: "),
            ("docs/containers.md", "docker stop --time "),
            ("scripts/waygate-ctl", "WAYGATE_STOP_SECONDS:-"),
            ("scripts/test-container", "docker stop --time "),
        ] {
            let waits = figure(file, word);
            assert!(waits > longest, "{file} waits {waits} s, and a stop may take {longest}: {word}");
        }
        let told = figure("docs/operations.md", "give it `server.drain_seconds` and ");
        assert_eq!(told, AFTER_DRAIN.as_secs());
    }
}
