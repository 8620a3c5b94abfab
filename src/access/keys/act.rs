//! What can be done to keys, and what came of it. Must not know who carries it out.

use std::sync::Arc;
use std::time::SystemTime;

use super::{About, Renewal, Wanted};
use crate::config::Secret;
use crate::error::{ErrorCode, Fault};

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Make a key.
    Create(Wanted),
    /// Make one in the place of another.
    Rotate {
        /// The id, or the name if one key alone has it.
        which: String,
        /// Until when the other is taken all the same.
        grace_until: SystemTime,
        /// How long the new one lives.
        renewal: Renewal,
    },
    /// Take a key back, and those that it took the place of.
    Revoke {
        /// The id, or the name if one key alone has it.
        which: String,
    },
    /// Forget a key.
    Delete {
        /// The id, or the name if one key alone has it.
        which: String,
    },
}

impl Act {
    /// What the history calls it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "keys/create",
            Self::Rotate { .. } => "keys/rotate",
            Self::Revoke { .. } => "keys/revoke",
            Self::Delete { .. } => "keys/delete",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Acted {
    /// The key, as it is now; as it was, if it was deleted.
    pub key: About,
    /// The whole key, if it is new: shown now and never again.
    pub secret: Option<Secret>,
    /// Others that it was done to, or that it took the place of.
    pub others: Vec<Arc<str>>,
    /// Whether there was none before.
    pub is_first: bool,
    /// Whether there is none any more.
    pub is_last: bool,
}

impl Acted {
    /// What the history says of it, without any secret.
    pub fn detail(&self) -> String {
        let mut text = format!("key {} {:?}", self.key.id, self.key.name);
        if self.secret.is_some() {
            text += &format!(", scopes {}", self.key.scopes.names().join(" "));
        }
        if !self.others.is_empty() {
            text += &format!(", also {}", self.others.join(" "));
        }
        text
    }
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key has this id or name.
    #[error("there is no key {0:?}; `keys list` shows those there are")]
    Unknown(String),
    /// Several keys have this name.
    #[error("several keys are called {name:?}; say which by its id: {}", ids.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// Theirs.
        ids: Vec<String>,
    },
    /// It cannot be rotated.
    #[error("key {id} is {standing}, so nothing can take its place; make another with `keys create`")]
    Over {
        /// Its id.
        id: String,
        /// How it stands.
        standing: &'static str,
    },
    /// There are too many.
    #[error("there are {0} keys, and more are not kept; delete some that are over")]
    TooMany(usize),
    /// The system gives no randomness.
    #[error("a key could not be made, since the system gives no randomness: {0}; try again")]
    Chance(String),
    /// What the database holds of it cannot be read.
    #[error("what the database holds of key {0} makes no sense; delete it")]
    Broken(String),
}

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Self {
        let code = match &error {
            KeyError::Unknown(_) => ErrorCode::NotFound,
            KeyError::Ambiguous { .. } | KeyError::Over { .. } | KeyError::TooMany(_) => {
                ErrorCode::InvalidParams
            }
            KeyError::Chance(_) | KeyError::Broken(_) => return Self::internal(error.to_string()),
        };
        let text = error.to_string();
        let (message, advice) = text.split_once("; ").unwrap_or((&text, "see /admin/api/keys"));
        Self::new(code, message.to_owned(), advice.to_owned())
    }
}
