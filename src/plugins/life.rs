//! A plugin's life, as its actor sees it: begun, well, in trouble, told to end.
//!
//! Must not know what a plugin lives on, nor who restarts it.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How one life of a plugin goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It has begun nothing yet, since another process must end first: which.
    Waiting(String),
    /// Not yet ready.
    Starting,
    /// It serves.
    Ready,
    /// It serves, but an operator should know this.
    Troubled(String),
}

/// Why a life ended that was not told to: a sentence for the operator, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LifeError {
    /// It failed, and another one may not.
    #[error("{0}")]
    Failed(String),
    /// What the operator wrote cannot be used: each life would fail the same way, until somebody mends it and reloads.
    #[error("{0}")]
    Misconfigured(String),
    /// Another process has what there can be only one of, and nothing of its own failed: it is tried again for as long as it takes.
    #[error("{0}")]
    Held(String),
}

/// The line between one life of a plugin and the actor that owns it.
#[derive(Debug, Clone)]
pub struct Pulse {
    health: Arc<watch::Sender<Health>>,
    stop: CancellationToken,
}

impl Pulse {
    /// A life that begins now.
    pub fn begin(stop: CancellationToken) -> Self {
        Self { health: Arc::new(watch::Sender::new(Health::Starting)), stop }
    }

    /// Says that it waits until another process has ended, and begins nothing before.
    pub fn waits(&self, why: &str) {
        self.health.send_replace(Health::Waiting(why.to_owned()));
    }

    /// Says that it begins, having waited.
    pub fn begins(&self) {
        self.health.send_replace(Health::Starting);
    }

    /// Says that it serves: its inventory is there.
    pub fn ready(&self) {
        self.health.send_replace(Health::Ready);
    }

    /// Says that it serves, but that something is amiss; [`Self::ready`] takes that back.
    pub fn troubled(&self, why: &str) {
        self.health.send_replace(Health::Troubled(why.to_owned()));
    }

    /// Trips when the life shall end; then it ends what it started, and returns.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// How it goes, for whoever watches.
    pub fn watch(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}
