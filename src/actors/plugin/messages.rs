//! PluginActor's mailbox: one plugin's life, not its calls.
//!
//! | message   | from          | reply                   | may be lost |
//! |-----------|---------------|-------------------------|-------------|
//! | `Publish` | app, at start | `Result<(), Infallible>` | no         |
//! | `Watch`   | http, session | `Result<(), Fault>`     | no          |
//! | `Ping`, `Crash` | health, operator | –              | yes         |

use std::convert::Infallible;
use std::sync::Arc;

use actix::Message;

use crate::error::Fault;

/// Publishes what the plugin offers now.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), Infallible>")]
pub struct Publish;

/// One more (or one less) stream watches a resource of this plugin.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Fault>")]
pub struct Watch {
    /// Which resource.
    pub uri: Arc<str>,
    /// Whether it begins.
    pub begins: bool,
}
