//! What a reload waits for: that new plugins are ready. Must not know what becomes of them.

use std::time::Duration;

use super::Candidate;
use crate::catalog::Seat;

/// A plugin is given so much beyond its own start deadline before it counts as failed.
const START_GRACE: Duration = Duration::from_secs(1);
/// Between two looks at whether the process before it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) fn failed_since(seat: &Seat) -> String {
    seat.why().unwrap_or_else(|| format!("it was ready, and is {} again", seat.state_name()))
}

/// Waits until a new plugin is ready; else says why it is not.
pub(super) async fn is_ready(candidate: &Candidate) -> Option<String> {
    let seat = &candidate.member.seat;
    let limit = candidate.made.server.start_timeout + START_GRACE;
    let settled = async {
        loop {
            match seat.settled().await {
                // The process before it, of this server, ends by itself.
                Err(_) if candidate.is_alone && seat.waits_for_another() => {
                    tokio::time::sleep(LOOK_EVERY).await
                }
                settled => return settled,
            }
        }
    };
    match tokio::time::timeout(limit, settled).await {
        Ok(settled) => settled.err(),
        Err(_) => {
            Some(seat.why().unwrap_or_else(|| format!("nothing was heard of it for {} s", limit.as_secs())))
        }
    }
}
