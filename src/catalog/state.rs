//! The states of a plugin's life, and their words. Must not know who turns them.

/// How a plugin's life stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PluginState {
    /// Not yet ready, or not again.
    Starting = 0,
    /// Serving.
    Ready = 1,
    /// Serving, but somebody should look: it says so, or some of what it offers was refused.
    Degraded = 2,
    /// Nothing of it is served, until somebody mends it and reloads.
    Quarantined = 3,
    /// Ended.
    Stopped = 4,
}

impl PluginState {
    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Quarantined => "quarantined",
            Self::Stopped => "stopped",
        }
    }
}
