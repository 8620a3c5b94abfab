//! Marks of what became stale, and when: an answer that was on its way meanwhile is not kept.
//!
//! Must not know answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

/// How often each plugin's answers became stale, and how often all did.
#[derive(Default)]
pub struct Marks {
    all: AtomicU64,
    plugins: DashMap<Arc<str>, u64>,
}

/// How the marks of one plugin stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    all: u64,
    plugin: u64,
}

impl Marks {
    /// How they stand.
    pub fn stamp(&self, plugin: &str) -> Stamp {
        Stamp {
            all: self.all.load(Ordering::Acquire),
            plugin: self.plugins.get(plugin).map_or(0, |mark| *mark),
        }
    }

    /// Some answer of this plugin is stale.
    pub fn move_plugin(&self, plugin: &Arc<str>) {
        *self.plugins.entry(Arc::clone(plugin)).or_default() += 1;
    }

    /// All answers are.
    pub fn move_all(&self) {
        self.all.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_holds_until_its_plugin_or_all_of_them_move() {
        let marks = Marks::default();
        let before = marks.stamp("a");
        marks.move_plugin(&"b".into());
        assert_eq!(marks.stamp("a"), before);
        marks.move_plugin(&"a".into());
        let later = marks.stamp("a");
        assert_ne!(later, before);
        marks.move_all();
        assert_ne!(marks.stamp("a"), later);
    }
}
