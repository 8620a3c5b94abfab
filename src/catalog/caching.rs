//! Whether answers of a tool, or of a plugin's resources, are kept: what the operator says, and what its answers say.
//!
//! Most are not, and one flag tells so. Must not know where answers lie.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::plugin::CacheScope;

/// Whether answers are kept, for how long and for whom.
#[derive(Debug, Default)]
pub struct Caching {
    /// Whether there may be any.
    looked_for: AtomicBool,
    /// Whether it counts what answers say of themselves.
    heeds: bool,
    /// What the operator says.
    lasts: Option<Duration>,
    scope: Option<CacheScope>,
}

impl Caching {
    /// None are ever kept.
    pub fn never() -> Self {
        Self::default()
    }

    /// Kept for so long, whatever they say of it themselves; without that as they say. For nobody is never.
    pub fn of(lasts: Option<Duration>, scope: Option<CacheScope>) -> Self {
        if scope == Some(CacheScope::None) || lasts.is_some_and(|lasts| lasts.is_zero()) {
            return Self::never();
        }
        Self { looked_for: AtomicBool::new(lasts.is_some()), heeds: true, lasts, scope }
    }

    /// Whether an answer may be there.
    pub fn is_looked_for(&self) -> bool {
        self.looked_for.load(Ordering::Relaxed)
    }

    /// Whether it counts what answers say of themselves.
    pub fn heeds(&self) -> bool {
        self.heeds
    }

    /// How long they are kept by the operator's word.
    pub fn said(&self) -> Option<Duration> {
        self.lasts
    }

    /// An answer said of itself that it may be kept: from now on they are looked for.
    pub fn heard(&self) {
        if self.heeds && !self.is_looked_for() {
            self.looked_for.store(true, Ordering::Relaxed);
        }
    }

    /// How long an answer is kept that says of itself that it holds for so long.
    pub fn lasts(&self, says: Option<Duration>) -> Option<Duration> {
        self.lasts.or(says).filter(|lasts| self.heeds && !lasts.is_zero())
    }

    /// For whom, where the operator says so.
    pub fn scope(&self) -> Option<CacheScope> {
        self.scope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

    #[test]
    fn nothing_is_looked_for_until_the_operator_or_an_answer_says_so() {
        let by_answers = Caching::of(None, None);
        assert!(!by_answers.is_looked_for() && by_answers.lasts(None).is_none());
        by_answers.heard();
        assert!(by_answers.is_looked_for());
        assert_eq!((by_answers.lasts(MINUTE), by_answers.lasts(Some(Duration::ZERO))), (MINUTE, None));
        let by_operator = Caching::of(MINUTE, Some(CacheScope::Public));
        assert!(by_operator.is_looked_for());
        assert_eq!(by_operator.lasts(Some(Duration::from_secs(1))), MINUTE);
    }

    #[test]
    fn what_is_for_nobody_or_for_no_time_is_never_kept() {
        let nobody = Caching::of(MINUTE, Some(CacheScope::None));
        for never in [nobody, Caching::of(Some(Duration::ZERO), None), Caching::never()] {
            never.heard();
            assert!(!never.is_looked_for() && !never.heeds() && never.lasts(MINUTE).is_none());
        }
    }
}
