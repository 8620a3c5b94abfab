//! One stream's watch of one resource: begun by asking the plugin's actor, ended by dropping it, whoever drops it.

use std::sync::Arc;
use std::time::Duration;

use super::messages::Watch;
use super::{Roll, WATCH_WITHIN};
use crate::actors::ask::{AskError, ask};

/// Longer than the plugin has: its refusal is heard, so that what never began is not ended, which might be another's.
const ANSWER_WITHIN: Duration = WATCH_WITHIN.saturating_add(Duration::from_secs(1));

/// A watch that goes on.
pub struct Watching {
    uri: Arc<str>,
    /// Whose it is, found by its name, since it may be another's when it ends; none once there is nothing to end.
    plugin: Option<(Arc<Roll>, Arc<str>)>,
}

impl Watching {
    /// Begins; none when the plugin does not watch this resource. Whoever stops waiting ends what was begun.
    pub async fn begin(roll: &Arc<Roll>, plugin: &Arc<str>, uri: Arc<str>) -> Option<Self> {
        let member = roll.get(plugin)?;
        let mut watching =
            Self { uri: Arc::clone(&uri), plugin: Some((Arc::clone(roll), Arc::clone(plugin))) };
        match ask(&member.address, Watch { uri, begins: true }, ANSWER_WITHIN).await {
            Ok(()) => Some(watching),
            Err(AskError::Reply(_)) => {
                watching.plugin = None;
                None
            }
            Err(AskError::TimedOut(_) | AskError::Closed) => None,
        }
    }

    /// What is watched.
    pub fn uri(&self) -> &Arc<str> {
        &self.uri
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(member) = self.plugin.take().and_then(|(roll, plugin)| roll.get(&plugin)) {
            // Unbounded, but no more than what was begun through the bounded way.
            member.address.do_send(Watch { uri: Arc::clone(&self.uri), begins: false });
        }
    }
}
