//! Samples the processor's time for whoever may ask, one at a time; that it was done, the history tells. Must not know how
//! anything is sampled.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::House;
use super::db::Act;
use crate::error::{ErrorCode, Fault, RETRY_AFTER};
use crate::storage::acts;
use crate::telemetry::profile::{Heap, Samples, look, sample};

/// How long it may take.
pub const SECONDS: RangeInclusive<u64> = 1..=60;

/// Whoever samples holds it: there is one timer in a process.
static ONE: Semaphore = Semaphore::const_new(1);

/// Samples for so many seconds, for `by`. It ends early when the server stops, or when nobody waits for it any more.
///
/// # Errors
/// Another one is at it, or nothing can be sampled here.
pub async fn cpu(house: &Arc<House>, seconds: u64, by: &Arc<str>) -> Result<Samples, Fault> {
    if !cfg!(feature = "profile") {
        let message = "this build cannot sample the processor's time";
        return Err(Fault::new(ErrorCode::NotFound, message, "build it with the feature profile"));
    }
    house.phase.admits()?;
    let place = ONE.try_acquire().map_err(|_| {
        let message = "the processor's time is being sampled for somebody else";
        let most = *SECONDS.end();
        let advice = format!("come back when that has ended, which is within {most} s");
        Fault::new(ErrorCode::RateLimited, message, advice).with(RETRY_AFTER, most)
    })?;
    let act = Act::done(acts::PROFILE_CPU, Arc::clone(by), format!("for up to {seconds} s"));
    house.bench.recorder.act(act);
    let waiting = Arc::new(());
    let (is_waited_for, house) = (Arc::downgrade(&waiting), Arc::clone(house));
    let sampling = tokio::task::spawn_blocking(move || {
        let _place = place;
        let is_wanted = || is_waited_for.strong_count() > 0 && house.phase.admits().is_ok();
        sample(Duration::from_secs(seconds), is_wanted)
    });
    let sampled = sampling.await;
    drop(waiting);
    sampled.map_err(|error| Fault::internal(error.to_string()))?.map_err(not_here)
}

/// What memory is taken by.
///
/// # Errors
/// The kernel does not tell.
pub async fn heap() -> Result<Heap, Fault> {
    let looked = tokio::task::spawn_blocking(look).await;
    looked.map_err(|error| Fault::internal(error.to_string()))?.map_err(not_here)
}

/// Why there is no profile; what the machine says of it is for the log.
fn not_here(cause: String) -> Fault {
    let message = "no profile can be made here";
    let advice = "see why in the server's log, or in /diagnostics/errors";
    Fault { cause: Some(cause), ..Fault::new(ErrorCode::Unavailable, message, advice) }
}
