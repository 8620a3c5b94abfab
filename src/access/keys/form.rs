//! What somebody asks for who wants a key, as texts, and as what it means once it is checked. The command line and the admin
//! API fill in the same form. Must not know where it came from.

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Zoned;
use serde::{Deserialize, Serialize};

use super::moments;
use super::{About, Scope, Scopes};
use crate::config::{Quota, Selection};
use crate::protocol::from_object;

/// Letters of a name or an owner.
const NAME_LETTERS_MAX: usize = 100;

/// A wish for a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Form {
    /// What people call it.
    pub name: String,
    /// Who gets it.
    pub owner: Option<String>,
    /// `90d`, a day, a moment, or `never`; without one, never.
    pub expires: Option<String>,
    /// `mcp`, `ops:read`, `admin`; none means `mcp`.
    pub scopes: Vec<String>,
    /// Globs of tools and prompts by their published names; none means all.
    pub allow: Vec<String>,
    /// … and those of them that are not meant.
    pub deny: Vec<String>,
    /// Globs of bundles; none means all, and `/mcp` too.
    pub bundles: Vec<String>,
    /// … and those of them that are not meant.
    pub deny_bundles: Vec<String>,
    /// What it may use up.
    #[serde(deserialize_with = "from_object")]
    pub limits: FormLimits,
}

/// What a key may use up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct FormLimits {
    /// Steadily.
    pub requests_per_minute: Option<u32>,
    /// At once.
    pub burst: Option<u32>,
    /// Calls that run at once.
    pub concurrent: Option<u32>,
}

/// A key that may be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    name: String,
    owner: Option<String>,
    expires_at: Option<SystemTime>,
    scopes: Scopes,
    tools: Option<Arc<Selection>>,
    bundles: Option<Arc<Selection>>,
    limits: Quota,
}

impl Form {
    /// Checks it.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead.
    pub fn check(self, now: &Zoned) -> Result<Wanted, String> {
        check_words("name", &self.name)?;
        self.owner.as_ref().map_or(Ok(()), |owner| check_words("owner", owner))?;
        let expires_at = self.expires.as_deref().map_or(Ok(None), |text| moments::end(text, now))?;
        let scopes = if self.scopes.is_empty() {
            Scopes::of([Scope::Mcp])
        } else {
            Scopes::parse(self.scopes.iter().map(String::as_str))?
        };
        let tools = Selection::parse(self.allow, self.deny)?;
        let bundles = Selection::parse(self.bundles, self.deny_bundles)?;
        let has_globs = !(tools.is_all() && bundles.is_all());
        if scopes.holds(Scope::Admin) && has_globs {
            return Err("a key with the scope admin can make itself any other key, so globs would keep nothing from it; \
                        leave out the one or the other"
                .to_owned());
        }
        if has_globs && !scopes.holds(Scope::Mcp) {
            return Err("globs are about MCP, and this key has not the scope mcp; add it, or leave them out"
                .to_owned());
        }
        let some = |selection: Selection| (!selection.is_all()).then(|| Arc::new(selection));
        Ok(Wanted {
            name: self.name,
            owner: self.owner,
            expires_at,
            scopes,
            tools: some(tools),
            bundles: some(bundles),
            limits: self.limits.check()?,
        })
    }
}

impl FormLimits {
    /// Checks them.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead.
    pub fn check(&self) -> Result<Quota, String> {
        let Self { requests_per_minute, burst, concurrent } = *self;
        Quota { requests_per_minute, burst, concurrent }.check()
    }
}

impl Wanted {
    /// The key that it becomes.
    pub fn into_key(self, id: &str, now: SystemTime) -> About {
        About {
            id: id.into(),
            name: self.name,
            owner: self.owner,
            scopes: self.scopes,
            tools: self.tools,
            bundles: self.bundles,
            limits: self.limits,
            created_at: moments::whole(now),
            expires_at: self.expires_at,
            revoked_at: None,
            replaced_by: None,
            grace_until: None,
            last_used_at: None,
        }
    }
}

/// A name is shown in terminals, logs and tables: it must be one line that says what it seems to say.
fn check_words(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.trim() != text {
        return Err(format!("the {what} of a key must not be empty, nor begin or end with blanks"));
    }
    if text.chars().count() > NAME_LETTERS_MAX {
        return Err(format!("the {what} of a key has {NAME_LETTERS_MAX} letters at most; shorten it"));
    }
    if text.chars().any(|letter| letter.is_control() || is_invisible(letter)) {
        return Err(format!(
            "the {what} of a key has letters that cannot be seen, as line breaks; leave them out"
        ));
    }
    Ok(())
}

/// Letters that turn the direction of others, or show nothing.
const fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-22T12:00:00Z[UTC]".parse().unwrap()
    }

    fn form() -> Form {
        Form { name: "ci".to_owned(), ..Form::default() }
    }

    #[test]
    fn a_form_that_says_only_a_name_gives_a_key_for_mcp_that_never_ends() {
        let key = form().check(&now()).unwrap().into_key("abcdefgh", now().timestamp().into());
        assert_eq!((key.scopes, key.expires_at, &*key.id), (Scopes::of([Scope::Mcp]), None, "abcdefgh"));
        assert!(key.tools.is_none() && key.bundles.is_none() && key.limits == Quota::default());
    }

    #[test]
    fn names_that_would_command_a_terminal_or_deceive_are_refused() {
        for bad in
            ["", " ", " ci", "a\nb", "a\u{1b}[31m", "a\u{202e}b", "a\0b", "\u{200b}", &"x".repeat(10_240)]
        {
            let why = Form { name: bad.to_owned(), ..Form::default() }.check(&now()).unwrap_err();
            assert!(why.starts_with("the name") && !why.contains('\u{1b}') && why.len() < 200, "{why}");
            assert!(Form { owner: Some(bad.to_owned()), ..form() }.check(&now()).is_err());
        }
        assert!(Form { name: "Ada's Büro – ☕".to_owned(), ..Form::default() }.check(&now()).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let refused = |form: Form| form.check(&now()).unwrap_err();
        assert!(refused(Form { scopes: words(&["root"]), ..form() }).contains("ops:read"));
        assert!(refused(Form { allow: words(&["[a"]), ..form() }).contains("no glob"));
        assert!(refused(Form { expires: Some("soon".to_owned()), ..form() }).contains("90d"));
        let all = Form { scopes: words(&["admin"]), deny: words(&["x"]), ..form() };
        assert!(refused(all).contains("keep nothing from it"));
        assert!(
            refused(Form { scopes: words(&["ops:read"]), deny: words(&["x"]), ..form() })
                .contains("about MCP")
        );
        let limits = |burst, requests_per_minute| FormLimits { burst, requests_per_minute, concurrent: None };
        assert!(refused(Form { limits: limits(Some(1), None), ..form() }).contains("set one"));
        assert!(refused(Form { limits: limits(None, Some(0)), ..form() }).contains("1 to"));
    }
}
