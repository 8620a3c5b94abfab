//! What a reload waits for: that new plugins are ready, and that nobody needs the old ones any more. Must not know what becomes of them.

use std::time::{Duration, Instant};

use super::Candidate;
use crate::actors::plugin::Member;
use crate::catalog::Seat;

/// A plugin is given so much beyond its own start deadline before it counts as failed.
const START_GRACE: Duration = Duration::from_secs(1);
/// A call that was looked up just before the swap may still come to the old plugin.
const LATECOMERS: Duration = Duration::from_millis(250);
/// Calls that wait for their clients may keep a replaced plugin for so long; they are given up long before.
const WAITING_MAX: Duration = Duration::from_secs(24 * 3600);
/// Between two looks at whether the calls of a replaced plugin have ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) fn failed_since(seat: &Seat) -> String {
    seat.why().unwrap_or_else(|| format!("it was ready, and is {} again", seat.state_name()))
}

/// Waits until a new plugin is ready; else says why it is not.
pub(super) async fn is_ready(candidate: &Candidate) -> Option<String> {
    let seat = &candidate.member.seat;
    let limit = candidate.made.server.start_timeout + START_GRACE;
    match tokio::time::timeout(limit, seat.settled()).await {
        Ok(settled) => settled.err(),
        Err(_) => {
            Some(seat.why().unwrap_or_else(|| format!("nothing was heard of it for {} s", limit.as_secs())))
        }
    }
}

/// Waits until nobody needs one any more that serves no new calls: calls in flight end on what they began on, and those
/// that wait for their clients' answers, too.
pub(super) async fn emptied(member: &Member) {
    let (began, longest) = (Instant::now(), member.seat.longest_call());
    tokio::time::sleep(LATECOMERS).await;
    // A call that waited has its time once its answer is there.
    let mut waited = began;
    loop {
        // Those that wait for answers are given up by the plugin itself, each in its time; new ones do not come.
        let waits = member.seat.plugin.waiting() > 0 && began.elapsed() < longest + WAITING_MAX;
        if waits {
            waited = Instant::now();
        } else if member.seat.calls() == 0 || waited.elapsed() >= longest {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
