//! What a built-in plugin may ask of the house it lives in; `app` fills it in. Must not know actors or the database.

use futures_util::future::BoxFuture;
use serde_json::Value;

/// Why the house did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub String);

/// The house, as seen from the built-in `waygate` plugin. Every answer is the JSON of the endpoint of the same name.
pub trait Host: Send + Sync + 'static {
    /// `/health`, `/ready` and the uptime.
    fn status(&self) -> BoxFuture<'static, Result<Value, HostError>>;
    /// `/diagnostics/performance`, `/diagnostics/connection` and `/diagnostics/actors` by their last word.
    fn diagnostics(&self, topic: &str) -> BoxFuture<'static, Result<Value, HostError>>;
    /// `/plugins`.
    fn plugins(&self) -> BoxFuture<'static, Result<Value, HostError>>;
    /// The newest `limit` rows of the history.
    fn history(&self, limit: u32) -> BoxFuture<'static, Result<Value, HostError>>;
    /// The newest `limit` errors.
    fn errors(&self, limit: u32) -> BoxFuture<'static, Result<Value, HostError>>;
}
