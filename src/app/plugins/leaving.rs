//! How a plugin is seen off that was replaced or removed: once nobody needs it any more, or before its successor begins, where two of
//! them must never run at once. Must not know why it goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Nursery;
use crate::actors::ask::ask;
use crate::actors::plugin::messages::Stop;
use crate::actors::plugin::{END_WITHIN, Member};

/// A call that was looked up just before the swap may still come to the old plugin.
const LATECOMERS: Duration = Duration::from_millis(250);
/// Calls that wait for their clients may keep a replaced plugin for so long; they are given up long before.
const WAITING_MAX: Duration = Duration::from_secs(24 * 3600);
/// Between two looks at whether the calls of a replaced plugin have ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long an actor may take beyond the life that it ends.
const STOP_GRACE: Duration = Duration::from_secs(5);

impl Nursery {
    /// Has `old` end before its successor begins, if one of the two bears no twin; whether that is so. What it offers stays listed, and
    /// calls are told to come back.
    pub(super) async fn make_room(&self, old: &Member, for_exclusive: bool) -> bool {
        let is_alone = old.exclusive || for_exclusive;
        if is_alone {
            old.leave(Instant::now() + self.drain).await;
        }
        is_alone
    }

    /// Sees one off that serves no new calls; if it `served`, those that run may end first.
    pub(super) fn retire(&self, member: Arc<Member>, served: bool) {
        let (roll, shelf) = (Arc::clone(&self.roll), Arc::clone(&self.shelf));
        roll.keep_aside(&member);
        actix_rt::spawn(async move {
            if served {
                emptied(&member).await;
            }
            let stopped = ask(&member.address, Stop, END_WITHIN + STOP_GRACE).await;
            if stopped.is_err() && !member.seat.has_left() {
                let name = &*member.seat.name;
                log::warn!(plugin = name; "plugin {name}, which was replaced or removed, did not end in time");
            }
            roll.let_go(&member);
            shelf.let_go(&member.seat);
        });
    }
}

/// Waits until nobody needs one any more that serves no new calls: calls in flight end on what they began on, and those
/// that wait for their clients' answers, too.
async fn emptied(member: &Member) {
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
