//! One stream's watch of one resource: begun by asking the plugin's actor, ended by dropping it, whoever drops it.

use std::sync::Arc;

use actix::Addr;

use super::messages::Watch;
use super::{PluginActor, WATCH_WITHIN};
use crate::actors::ask::{AskError, ask};

/// A watch that goes on.
pub struct Watching {
    uri: Arc<str>,
    /// None once there is nothing to end.
    plugin: Option<Addr<PluginActor>>,
}

impl Watching {
    /// Begins; none when the plugin does not watch this resource. Whoever stops waiting ends what was begun.
    pub async fn begin(plugin: Addr<PluginActor>, uri: Arc<str>) -> Option<Self> {
        let mut watching = Self { uri: Arc::clone(&uri), plugin: Some(plugin.clone()) };
        match ask(&plugin, Watch { uri, begins: true }, WATCH_WITHIN).await {
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
        if let Some(plugin) = self.plugin.take() {
            // Unbounded, but no more than what was begun through the bounded way.
            plugin.do_send(Watch { uri: Arc::clone(&self.uri), begins: false });
        }
    }
}
