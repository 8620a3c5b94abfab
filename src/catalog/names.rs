//! Published names: within the characters and the length that clients take, and the same whatever else is offered.
//!
//! Must not know what is named, nor which other plugins there are.

use sha2::{Digest as _, Sha256};

/// Bytes of a name behind a prefix: some hosts take no more.
const PREFIXED_MAX: usize = 64;
/// Bytes of a name as its plugin says it: as many as the protocol advises.
const PLAIN_MAX: usize = 128;
/// Bytes of what tells a name apart that could not stay as it was: `_` and eight digits.
const MARK_BYTES: usize = 9;

/// `<plugin><separator><local>`, fitted.
pub fn prefixed(plugin: &str, separator: &str, local: &str) -> String {
    let name = format!("{plugin}{separator}{local}");
    // Were the plugin's own name to hold the separator, another plugin's tool could come to the same name.
    let ambiguous = name.find(separator) != Some(plugin.len());
    fit(&name, PREFIXED_MAX, separator.contains('.'), ambiguous, &[plugin, local])
}

/// `local`, fitted.
pub fn plain(plugin: &str, local: &str) -> String {
    fit(local, PLAIN_MAX, true, false, &[plugin, local])
}

/// `name` itself where it fits; else with `_` for what may not stand there, cut, and marked with a hash of `origin`.
fn fit(name: &str, most: usize, dots: bool, ambiguous: bool, origin: &[&str; 2]) -> String {
    let allowed = |letter: char| {
        letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-') || (dots && letter == '.')
    };
    if !ambiguous && name.len() <= most && name.chars().all(allowed) {
        return name.to_owned();
    }
    let kept = name.chars().map(|letter| if allowed(letter) { letter } else { '_' });
    let kept: String = kept.take(most - MARK_BYTES).collect();
    let hash = Sha256::digest(origin.join("\0"));
    let mark = hash.iter().take(4).fold(0_u32, |mark, byte| mark << 8 | u32::from(*byte));
    format!("{kept}_{mark:08x}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_fits_is_kept_and_any_other_is_marked() {
        assert_eq!(prefixed("github", "__", "create_issue"), "github__create_issue");
        assert_eq!(prefixed("github", ".", "create_issue"), "github.create_issue");
        assert_eq!(plain("github", "issues.create"), "issues.create");
        let slash = prefixed("github", "__", "issues/create");
        assert!(slash.starts_with("github__issues_create_") && slash.len() == 30, "{slash}");
        assert_ne!(slash, prefixed("github", "__", "issues_create"));
        assert_ne!(prefixed("github", "__", "issues.create"), slash);
        let long = prefixed("github", "__", &"x".repeat(300));
        assert_eq!(long.len(), 64);
        assert_ne!(long, prefixed("github", "__", &"x".repeat(301)));
        // Kept the same over versions: clients store names.
        assert_eq!(slash, "github__issues_create_c63b31fc");
    }

    #[test]
    fn two_plugins_come_to_the_same_name_by_no_choice_of_words() {
        assert_ne!(prefixed("a", "__", "b__c"), prefixed("a__b", "__", "c"));
        assert_ne!(prefixed("a_", "__", "b"), prefixed("a", "__", "_b"));
        assert_eq!(prefixed("a", "__", "b__c"), "a__b__c");
    }

    proptest! {
        #[test]
        fn names_are_within_their_characters_and_no_two_are_the_same(
            all in prop::collection::hash_set(("[a-z0-9][a-z0-9_-]{0,31}", ".{1,90}|[a-c_/]{1,6}"), 1..60),
        ) {
            let mut seen = HashMap::new();
            for (plugin, local) in &all {
                let name = prefixed(plugin, "__", local);
                prop_assert_eq!(&name, &prefixed(plugin, "__", local));
                prop_assert!((1..=64).contains(&name.len()), "{}", name);
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')), "{}", name);
                if let Some(other) = seen.insert(name.clone(), (plugin, local)) {
                    prop_assert!(false, "{name}: {other:?} and {:?}", (plugin, local));
                }
            }
        }
    }
}
