//! Whether a session that was not said to be shared is used by several clients.
//!
//! Must not know what they do there.

use std::sync::{Mutex, PoisonError};

use crate::plugins::{CallerKey, Context, ConversationKey};

/// What the operator can do about it.
pub const ADVICE: &str = "several clients share one session with the server, which may mix up what it remembers of \
                          them: set `isolation = \"per_client\"`, or `\"shared\"` if that is meant";

/// Who used a session: the first, and whether another came.
#[derive(Debug, Default)]
pub struct Users(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    first: Option<(CallerKey, Option<ConversationKey>)>,
    several: bool,
}

impl Users {
    /// Notes a call; whether it is the first of a second client.
    pub fn note(&self, context: &Context) -> bool {
        let user = (context.caller(), context.conversation());
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = *seen.first.get_or_insert(user) != user;
        is_other && !std::mem::replace(&mut seen.several, true)
    }

    /// Whether there were several.
    pub fn are_several(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).several
    }
}
