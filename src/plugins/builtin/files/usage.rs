//! How much lies below a writable root, measured by a bounded walk and kept up to date by our own writes.
//!
//! Others may write there too: the measure is taken anew when it is old, and before a write is refused by it. Must not
//! know what is written.

use std::time::Duration;

use tokio::time::Instant;

use super::roots::Place;
use super::trouble::Trouble;
use super::walk::{Bounds, Kind, Step, walk};
use crate::plugins::Context;

const FRESH: Duration = Duration::from_secs(60);
/// A root that holds more is not written to any more: many small files are a burden, too.
pub(super) const ENTRIES_MAX: u64 = 200_000;

/// What lies below one root.
#[derive(Debug, Default)]
pub(super) struct Usage {
    bytes: u64,
    entries: u64,
    measured: Option<Instant>,
}

/// What a write is about to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Growth {
    /// Of the file before; none when there is none.
    pub(super) old_bytes: Option<u64>,
    /// Of the file afterwards.
    pub(super) new_bytes: u64,
}

impl Usage {
    /// Whether a write fits the quota. One that makes nothing larger always fits.
    pub(super) fn check(
        &mut self,
        place: &Place,
        growth: Growth,
        quota: u64,
        context: &Context,
    ) -> Result<(), Trouble> {
        let grows = growth.old_bytes.is_none_or(|old| growth.new_bytes > old);
        if self.measured.is_none_or(|at| at.elapsed() >= FRESH) {
            self.measure(place, context)?;
        } else if grows && self.refuses(place, growth, quota).is_some() {
            // Somebody may have made room meanwhile.
            self.measure(place, context)?;
        }
        match self.refuses(place, growth, quota) {
            Some(trouble) if grows => Err(trouble),
            _ => Ok(()),
        }
    }

    fn refuses(&self, place: &Place, growth: Growth, quota: u64) -> Option<Trouble> {
        let root = place.root.name.clone();
        if growth.old_bytes.is_none() && self.entries >= ENTRIES_MAX {
            return Some(Trouble::TooMany { root, entries: self.entries });
        }
        let others = self.bytes.saturating_sub(growth.old_bytes.unwrap_or_default());
        let (used, path, size) = (self.bytes, place.shown(), growth.new_bytes);
        (others.saturating_add(size) > quota).then_some(Trouble::Quota { root, used, quota, path, size })
    }

    /// Notes a write that was done.
    pub(super) fn note(&mut self, growth: Growth) {
        let others = self.bytes.saturating_sub(growth.old_bytes.unwrap_or_default());
        self.bytes = others.saturating_add(growth.new_bytes);
        self.entries += u64::from(growth.old_bytes.is_none());
    }

    fn measure(&mut self, place: &Place, context: &Context) -> Result<(), Trouble> {
        let (mut bytes, mut entries) = (0u64, 0u64);
        let entries_max = usize::try_from(ENTRIES_MAX).unwrap_or(usize::MAX);
        let bounds =
            Bounds { depth: super::walk::DEPTH_MAX, entries: entries_max, gitignore: false, ours: true };
        walk(&place.root_place(), bounds, context, &mut |found| {
            entries += 1;
            if found.kind == Kind::File {
                bytes = bytes.saturating_add(found.metadata().map_or(0, |metadata| metadata.len()));
            }
            Ok(Step::On)
        })?;
        *self = Self { bytes, entries, measured: Some(Instant::now()) };
        Ok(())
    }
}
