//! Keys: what one is, whom it admits and to what. All of it is kept in memory, as an immutable ring that is swapped whole.
//!
//! Must not know where keys are kept, nor what time it is.

mod act;
mod form;
mod moments;
mod ring;
mod scope;
mod secret;

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::config::{Quota, Selection};

pub use act::{Act, Acted, KeyError};
pub use form::{Form, FormLimits, Wanted};
pub use moments::{Renewal, end, shown, until};
pub use ring::{Key, KeyRing, Named, Refusal};
pub use scope::{Scope, Scopes};
pub use secret::{Hash, Made, hash_of, is_marked, is_within};

/// How long a key that was rotated is taken beside its successor, when nobody says otherwise.
pub const GRACE_DEFAULT: &str = "24h";

/// All that is known of a key, but for the key itself.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// Names it everywhere; the first letters of the key.
    pub id: Arc<str>,
    /// What people call it.
    pub name: String,
    /// Who has it.
    pub owner: Option<String>,
    /// What it opens.
    pub scopes: Scopes,
    /// Which tools and prompts it sees; none means all.
    pub tools: Option<Arc<Selection>>,
    /// Which bundles it sees; none means all.
    pub bundles: Option<Arc<Selection>>,
    /// What it may use up.
    pub limits: Quota,
    /// When it was made.
    pub created_at: SystemTime,
    /// None means never.
    pub expires_at: Option<SystemTime>,
    /// None means that it is not.
    pub revoked_at: Option<SystemTime>,
    /// The id of the key that took its place.
    pub replaced_by: Option<Arc<str>>,
    /// Until when it is taken all the same.
    pub grace_until: Option<SystemTime>,
    /// As the database knows it, which is told now and then.
    pub last_used_at: Option<SystemTime>,
}

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is taken.
    Active,
    /// It has a successor, and is taken for a while.
    Leaving,
    /// Its successor alone is taken.
    Replaced,
    /// Its time is over.
    Expired,
    /// Somebody took it back.
    Revoked,
}

impl Standing {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Leaving => "leaving",
            Self::Replaced => "replaced",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// Whether such a key is taken.
    pub const fn is_taken(self) -> bool {
        matches!(self, Self::Active | Self::Leaving)
    }
}

impl About {
    /// How it stands.
    pub fn standing(&self, now: SystemTime) -> Standing {
        if self.revoked_at.is_some() {
            return Standing::Revoked;
        }
        if self.expires_at.is_some_and(|end| end <= now) {
            return Standing::Expired;
        }
        match (&self.replaced_by, self.grace_until) {
            (None, _) => Standing::Active,
            (Some(_), Some(end)) if end > now => Standing::Leaving,
            (Some(_), _) => Standing::Replaced,
        }
    }

    /// What can be said of a key whose record makes no sense: nothing but its id.
    pub fn unreadable(id: &str, now: SystemTime) -> Self {
        Self {
            id: id.into(),
            name: "unreadable".to_owned(),
            owner: None,
            scopes: Scopes::default(),
            tools: None,
            bundles: None,
            limits: Quota::default(),
            created_at: now,
            expires_at: None,
            revoked_at: Some(now),
            replaced_by: None,
            grace_until: None,
            last_used_at: None,
        }
    }

    /// What history and sessions call whoever shows it.
    pub fn principal(&self) -> Arc<str> {
        format!("key-{}", self.id).into()
    }

    /// What operators see of it.
    pub fn to_json(&self, now: SystemTime) -> Value {
        let globs = |selection: &Option<Arc<Selection>>| {
            selection.as_ref().map_or_else(
                || json!({"allow": [], "deny": []}),
                |selection| json!({"allow": selection.allow(), "deny": selection.deny()}),
            )
        };
        json!({
            "id": &*self.id,
            "name": self.name,
            "owner": self.owner,
            "standing": self.standing(now).name(),
            "scopes": self.scopes.names(),
            "tools": globs(&self.tools),
            "bundles": globs(&self.bundles),
            "limits": {
                "requestsPerMinute": self.limits.requests_per_minute,
                "burst": self.limits.burst,
                "concurrent": self.limits.concurrent,
            },
            "principal": &*self.principal(),
            "createdAt": shown(self.created_at),
            "expiresAt": self.expires_at.map(shown),
            "revokedAt": self.revoked_at.map(shown),
            "replacedBy": self.replaced_by.as_deref(),
            "graceUntil": self.grace_until.map(shown),
            "lastUsedAt": self.last_used_at.map(shown),
        })
    }
}

#[cfg(test)]
pub mod testing {
    //! Keys for tests.

    use std::time::Duration;

    use super::*;

    /// A moment, in seconds since 1970.
    pub fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// A key that opens MCP.
    pub fn about(id: &str) -> About {
        About {
            id: id.into(),
            name: format!("key {id}"),
            owner: None,
            scopes: Scopes::of([Scope::Mcp]),
            tools: None,
            bundles: None,
            limits: Quota::default(),
            created_at: at(100),
            expires_at: None,
            revoked_at: None,
            replaced_by: None,
            grace_until: None,
            last_used_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{about, at};
    use super::*;

    #[test]
    fn a_key_stands_as_its_times_say_and_revoked_above_all() {
        let mut key = about("a");
        assert_eq!(key.standing(at(200)), Standing::Active);
        key.expires_at = Some(at(200));
        assert_eq!((key.standing(at(199)), key.standing(at(200))), (Standing::Active, Standing::Expired));
        key.expires_at = None;
        (key.replaced_by, key.grace_until) = (Some("b".into()), Some(at(300)));
        assert_eq!((key.standing(at(299)), key.standing(at(300))), (Standing::Leaving, Standing::Replaced));
        key.grace_until = None;
        assert_eq!(key.standing(at(1)), Standing::Replaced);
        key.revoked_at = Some(at(150));
        assert_eq!(key.standing(at(1)), Standing::Revoked);
    }

    #[test]
    fn what_is_shown_says_what_it_opens() {
        let mut key = about("a");
        key.tools = Some(Arc::new(Selection::parse(vec!["x*".to_owned()], vec!["y".to_owned()]).unwrap()));
        let shown = key.to_json(at(200));
        assert_eq!((&shown["scopes"], &shown["tools"]["allow"]), (&json!(["mcp"]), &json!(["x*"])));
        assert_eq!((&shown["principal"], &shown["standing"]), (&json!("key-a"), &json!("active")));
        assert_eq!(shown["createdAt"], "1970-01-01T00:01:40Z");
    }
}
