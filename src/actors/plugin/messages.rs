//! PluginActor's mailbox: one plugin's life, not its calls.
//!
//! | message   | from          | reply                   | may be lost |
//! |-----------|---------------|-------------------------|-------------|
//! | `Publish` | app           | `Result<(), Infallible>`, when it is published | no |
//! | `Watch`   | http, session | `Result<(), Fault>`     | no          |
//! | `Stop`    | app           | `Result<(), Infallible>`, when its life has ended | no |
//! | `Ping`, `Crash` | health, operator | –              | yes         |

use std::convert::Infallible;
use std::sync::Arc;

use actix::Message;

use crate::error::Fault;

/// Begins the plugin's first life, or publishes anew what it offers. One that is not ready at once appears when it is.
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

/// Ends the plugin's life, and then its actor; what it offered is left to whoever sends this.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), Infallible>")]
pub struct Stop;
