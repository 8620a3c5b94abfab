//! The same view through the globs of callers: what of it each of them sees. Each is built when somebody first looks, kept for as
//! long as its whole view is, and found without a lock.
//!
//! Must not know who looks, nor what is seen.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::ArcSwap;

use super::snapshot::Snapshot;
use crate::config::Selection;

/// Selections that are kept of one view. When there are more, it begins anew: each costs its lists only.
const SELECTIONS_MAX: usize = 256;
/// Changes of the whole view that one outlives without being looked at: who listens to it looks only when it changed.
const CHANGES_MAX: u8 = 32;

/// What was cut out of one view.
#[derive(Default)]
pub(super) struct Culled(ArcSwap<HashMap<Arc<Selection>, Arc<Look>>>);

struct Look {
    snapshot: Arc<Snapshot>,
    /// Changes of the whole view since somebody looked.
    unseen: AtomicU8,
}

impl Culled {
    /// What `selection` shows, if it was looked at before.
    pub(super) fn look(&self, selection: &Arc<Selection>) -> Option<Arc<Snapshot>> {
        let all = self.0.load();
        let look = all.get(selection)?;
        if look.unseen.load(Ordering::Relaxed) != 0 {
            look.unseen.store(0, Ordering::Relaxed);
        }
        Some(Arc::clone(&look.snapshot))
    }

    /// Keeps what `selection` shows; the one that another kept meanwhile, if so.
    pub(super) fn keep(&self, selection: &Arc<Selection>, snapshot: Snapshot) -> Arc<Snapshot> {
        self.put(selection, Arc::new(snapshot), 0)
    }

    fn put(&self, selection: &Arc<Selection>, snapshot: Arc<Snapshot>, unseen: u8) -> Arc<Snapshot> {
        let new = Arc::new(Look { snapshot, unseen: AtomicU8::new(unseen) });
        self.0.rcu(|all| {
            if all.contains_key(selection) {
                return HashMap::clone(all);
            }
            let mut next = if all.len() < SELECTIONS_MAX { HashMap::clone(all) } else { HashMap::new() };
            next.insert(Arc::clone(selection), Arc::clone(&new));
            next
        });
        self.0
            .load()
            .get(selection)
            .map_or_else(|| Arc::clone(&new.snapshot), |look| Arc::clone(&look.snapshot))
    }

    /// Builds anew, by `build`, what was looked at of an older state.
    pub(super) fn carry(&self, old: &Self, build: impl Fn(&Arc<Selection>, &Snapshot) -> Snapshot) {
        for (selection, look) in old.0.load().iter() {
            let unseen = look.unseen.load(Ordering::Relaxed).saturating_add(1);
            if unseen <= CHANGES_MAX {
                self.put(selection, Arc::new(build(selection, &look.snapshot)), unseen);
            }
        }
    }

    /// Those that are kept here and were kept there, side by side.
    pub(super) fn beside(&self, old: &Self) -> Vec<(Arc<Selection>, Arc<Snapshot>, Arc<Snapshot>)> {
        let (now, before) = (self.0.load(), old.0.load());
        let both = |(selection, look): (&Arc<Selection>, &Arc<Look>)| {
            let before = before.get(selection)?;
            Some((Arc::clone(selection), Arc::clone(&look.snapshot), Arc::clone(&before.snapshot)))
        };
        now.iter().filter_map(both).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.load().len()
    }
}
