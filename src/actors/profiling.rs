//! Samples the processor's time for whoever may ask, one at a time; what became of it, the history tells. Must not know how
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
/// Whoever looks at the memory holds it: the kernel stops the process's own mapping of memory while it counts.
static LOOKING: Semaphore = Semaphore::const_new(1);

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
    let waiting = Arc::new(());
    let (is_waited_for, house, by) = (Arc::downgrade(&waiting), Arc::clone(house), Arc::clone(by));
    let sampling = tokio::task::spawn_blocking(move || {
        let _place = place;
        let is_wanted = || is_waited_for.strong_count() > 0 && house.phase.admits().is_ok();
        let sampled = sample(Duration::from_secs(seconds), is_wanted);
        // Told from here, where it ends whether or not anybody still waits for it.
        house.bench.recorder.act(told(&sampled, seconds, by));
        sampled
    });
    let sampled = sampling.await;
    drop(waiting);
    sampled.map_err(|error| Fault::internal(error.to_string()))?.map_err(not_here)
}

/// What became of it, for the history.
fn told(sampled: &Result<Samples, String>, seconds: u64, by: Arc<str>) -> Act {
    let act = |detail| Act::done(acts::PROFILE_CPU, by, detail);
    match sampled {
        Ok(samples) => act(format!("for {} ms, of up to {seconds} s", samples.took.as_millis())),
        Err(why) => Act { refused: Some(ErrorCode::Unavailable), ..act(why.clone()) },
    }
}

/// What memory is taken by.
///
/// # Errors
/// Somebody else looks, or the kernel does not tell.
pub async fn heap() -> Result<Heap, Fault> {
    let place = LOOKING.try_acquire().map_err(|_| {
        let message = "somebody else is being told what memory is taken by";
        let advice = "ask again in a second";
        Fault::new(ErrorCode::RateLimited, message, advice).with(RETRY_AFTER, 1)
    })?;
    let looking = tokio::task::spawn_blocking(move || {
        let _place = place;
        look()
    });
    let looked = looking.await;
    looked.map_err(|error| Fault::internal(error.to_string()))?.map_err(not_here)
}

/// Why there is no profile; what the machine says of it is for the log.
fn not_here(cause: String) -> Fault {
    let message = "no profile can be made here";
    let advice = "see why in the server's log, or in /diagnostics/errors";
    Fault { cause: Some(cause), ..Fault::new(ErrorCode::Unavailable, message, advice) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn memory_is_looked_at_for_one_at_a_time() {
        let place = LOOKING.acquire().await.unwrap();
        let fault = heap().await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::RateLimited);
        drop(place);
        assert!(heap().await.unwrap().resident_bytes > 0);
    }

    #[test]
    fn what_cannot_be_sampled_is_told_as_a_failure() {
        let act = told(&Err("no room in /tmp".to_owned()), 3, "ada".into());
        assert_eq!((act.refused, act.detail.as_str()), (Some(ErrorCode::Unavailable), "no room in /tmp"));
        assert_eq!((act.name, &*act.by), (acts::PROFILE_CPU, "ada"));
    }
}
