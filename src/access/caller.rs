//! Who is calling, and what they may see. Must not know how that was proved.

use std::sync::{Arc, LazyLock};

use super::keys::{KeyLimits, Scopes};
use crate::config::Selection;

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `anonymous`, `local`, or the name of a key; sealed state is bound to it, history names it.
    pub principal: Arc<str>,
    /// Whether the caller is the operator: by a key that says so, or as the user whose server this is.
    pub operator: bool,
    /// A number that is the same for the same caller and says nothing else; plugins know callers by it.
    pub key: u64,
    /// What they may open.
    pub scopes: Scopes,
    /// Which tools and prompts they see; none means all.
    pub tools: Option<Arc<Selection>>,
    /// Which bundles they see; none means all.
    pub bundles: Option<Arc<Selection>>,
    /// What their key may use up; nobody is held to it yet.
    pub limits: KeyLimits,
}

impl Caller {
    /// The name of nobody in particular.
    pub const ANONYMOUS: &str = "anonymous";
    /// The name of the user whose server this is.
    pub const LOCAL: &str = "local";

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        static ANONYMOUS: LazyLock<Arc<str>> = LazyLock::new(|| Caller::ANONYMOUS.into());
        Self {
            principal: Arc::clone(&ANONYMOUS),
            operator: false,
            key: 0,
            scopes: Scopes::OPEN,
            tools: None,
            bundles: None,
            limits: KeyLimits::default(),
        }
    }

    /// The user whose server this is, known by the permissions of a file. Keys have numbers of 64 bits of a hash: 1 is
    /// none of them.
    pub fn local() -> Self {
        static LOCAL: LazyLock<Arc<str>> = LazyLock::new(|| Caller::LOCAL.into());
        Self {
            principal: Arc::clone(&LOCAL),
            operator: true,
            key: 1,
            scopes: Scopes::ADMIN,
            tools: None,
            bundles: None,
            limits: KeyLimits::default(),
        }
    }

    /// Whether they may use the bundle of this name, or, without one, all that there is at once: whoever was given certain
    /// bundles has these alone.
    pub fn may_enter(&self, bundle: Option<&str>) -> bool {
        match (&self.bundles, bundle) {
            (None, _) => true,
            (Some(bundles), Some(name)) => bundles.takes(name),
            (Some(bundles), None) => bundles.allow().is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_given_certain_bundles_has_these_alone() {
        let caller = |allow: &[&str], deny: &[&str]| {
            let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
            let bundles = Some(Arc::new(Selection::parse(words(allow), words(deny)).unwrap()));
            Caller { bundles, ..Caller::anonymous() }
        };
        let some = caller(&["docs*"], &["docs-secret"]);
        assert!(
            some.may_enter(Some("docs")) && !some.may_enter(Some("docs-secret")) && !some.may_enter(None)
        );
        let most = caller(&[], &["ops"]);
        assert!(most.may_enter(Some("docs")) && !most.may_enter(Some("ops")) && most.may_enter(None));
        assert!(Caller::anonymous().may_enter(None) && Caller::local().may_enter(Some("x")));
    }
}
