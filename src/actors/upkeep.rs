//! Keeps those loops up that are no actors: what they look after must not stay unlooked after for the life of the process, should
//! one panic. Must not know what they do.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::supervision::message_of;

/// Between a panic and the next beginning: one that panics at once each time costs little.
const BEGIN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Runs what `begin` begins to its end, and begins it anew whenever it panics; `what` is what the log calls it.
pub async fn keep_up<F: Future<Output = ()>>(what: &'static str, begin: impl Fn() -> F) {
    while let Err(panic) = AssertUnwindSafe(async { begin().await }).catch_unwind().await {
        log::error!("what looks after {what} panicked and begins anew: {}", message_of(panic.as_ref()));
        tokio::time::sleep(BEGIN_AGAIN_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_panics_begins_anew_and_what_ends_does_not() {
        let begun = Cell::new(0);
        let begin = || {
            begun.set(begun.get() + 1);
            // The first panics before there is a future, the second in it.
            assert!(begun.get() != 1, "on purpose");
            let number = begun.get();
            async move { assert!(number != 2, "on purpose") }
        };
        keep_up("nothing", begin).await;
        assert_eq!(begun.get(), 3);
    }
}
