//! Names as an operator picks them: globs of what is meant, and of what is not. Must not know what is named.

use std::hash::{DefaultHasher, Hash, Hasher};

use globset::{Glob, GlobSet, GlobSetBuilder};

/// Globs of one selection, each way.
const GLOBS_MAX: usize = 200;
/// Letters of one glob.
const GLOB_LETTERS_MAX: usize = 300;

/// Which names are meant: all, or those that are allowed; and of these none that is denied.
#[derive(Debug, Clone)]
pub struct Selection {
    allow: Vec<String>,
    deny: Vec<String>,
    allowed: GlobSet,
    denied: GlobSet,
    /// Of the texts, so that a look-up need not go through them.
    hash: u64,
}

impl Selection {
    /// Of these globs; `*` stands for anything.
    ///
    /// # Errors
    /// A sentence that names the glob that is none.
    pub fn parse(allow: Vec<String>, deny: Vec<String>) -> Result<Self, String> {
        let (allowed, denied) = (compile(&allow)?, compile(&deny)?);
        let mut hasher = DefaultHasher::new();
        (&allow, &deny).hash(&mut hasher);
        Ok(Self { hash: hasher.finish(), allow, deny, allowed, denied })
    }

    /// Whether a name is meant.
    pub fn takes(&self, name: &str) -> bool {
        (self.allow.is_empty() || self.allowed.is_match(name)) && !self.denied.is_match(name)
    }

    /// Whether all names are meant.
    pub fn is_all(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// What is allowed; nothing means all.
    pub fn allow(&self) -> &[String] {
        &self.allow
    }

    /// What is denied.
    pub fn deny(&self) -> &[String] {
        &self.deny
    }
}

fn compile(patterns: &[String]) -> Result<GlobSet, String> {
    if patterns.len() > GLOBS_MAX {
        return Err(format!(
            "there are {} globs, and {GLOBS_MAX} are the most; join some with *",
            patterns.len()
        ));
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let plain = !pattern.is_empty() && pattern.chars().count() <= GLOB_LETTERS_MAX;
        if !plain || pattern.chars().any(char::is_control) {
            return Err(format!("a glob has 1 to {GLOB_LETTERS_MAX} letters and no control characters"));
        }
        set.add(Glob::new(pattern).map_err(|error| format!("{pattern:?} is no glob: {error}"))?);
    }
    set.build().map_err(|error| format!("the globs cannot be used together: {error}"))
}

impl PartialEq for Selection {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.allow == other.allow && self.deny == other.deny
    }
}

impl Eq for Selection {}

impl PartialOrd for Selection {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Selection {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.allow, &self.deny).cmp(&(&other.allow, &other.deny))
    }
}

impl Hash for Selection {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(allow: &[&str], deny: &[&str]) -> Result<Selection, String> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Selection::parse(words(allow), words(deny))
    }

    #[test]
    fn what_is_denied_is_never_meant_and_nothing_allowed_means_all() {
        let some = selection(&["files__*", "git__log"], &["*__write*"]).unwrap();
        assert!(some.takes("files__read") && some.takes("git__log"));
        assert!(!some.takes("git__push") && !some.takes("files__write_file"));
        let most = selection(&[], &["system__*"]).unwrap();
        assert!(most.takes("anything/at/all") && !most.takes("system__run") && !most.is_all());
        assert!(selection(&[], &[]).unwrap().is_all());
    }

    #[test]
    fn selections_of_the_same_globs_are_the_same_and_what_is_no_glob_is_refused() {
        assert_eq!(selection(&["a"], &["b"]).unwrap(), selection(&["a"], &["b"]).unwrap());
        assert_ne!(selection(&["a"], &[]).unwrap(), selection(&[], &["a"]).unwrap());
        for bad in ["", "[a", "a\u{1b}b", &"x".repeat(301)] {
            assert!(selection(&[bad], &[]).is_err(), "{bad}");
        }
        assert!(selection(&["x"; 201], &[]).is_err());
    }
}
