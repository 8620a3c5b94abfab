//! A call that is counted as long as it is held. Must not know what the count is for.

use std::sync::atomic::{AtomicUsize, Ordering};

/// One of those that are counted; dropping it counts down.
#[derive(Debug)]
pub struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    /// Counts one more.
    pub(super) fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }

    /// Counts one more, unless there are `max`.
    pub(super) fn within(count: &'a AtomicUsize, max: usize) -> Option<Self> {
        let counted = Self(count);
        has_room(count.fetch_add(1, Ordering::Relaxed), max).then_some(counted)
    }
}

/// Whether one more fits to so many, where there may be `max`.
pub(super) const fn has_room(count: usize, max: usize) -> bool {
    count < max
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_counted_down_and_what_finds_no_room_is_not() {
        let count = AtomicUsize::new(0);
        let one = Counted::begin(&count);
        let two = Counted::within(&count, 2).unwrap();
        assert!(Counted::within(&count, 2).is_none());
        assert_eq!(count.load(Ordering::Relaxed), 2);
        drop((one, two));
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
