//! PluginActor's mailbox: one plugin's life, not its calls.
//!
//! | message   | from          | reply                   | may be lost |
//! |-----------|---------------|-------------------------|-------------|
//! | `Publish` | app           | `Result<(), Infallible>`, when it is published | no |
//! | `Reseat`  | app           | `Result<(), Infallible>`, when it is published | no |
//! | `Watch`   | http, session | `Result<(), Fault>`     | no          |
//! | `Stop`    | app           | `Result<(), Infallible>`, when its life has ended | no |
//! | `Ping`, `Crash` | health, operator | –              | yes         |

use std::convert::Infallible;
use std::sync::Arc;

use actix::Message;

use crate::catalog::Seat;
use crate::error::Fault;

/// Begins the plugin's first life, or publishes anew what it offers. One that is not ready at once appears when it is.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), Infallible>")]
pub struct Publish;

/// Has the plugin sit on this seat, of its own, from now on, and publishes from there what it offers; its life goes on, or begins if there
/// was none. Sent again it publishes anew.
#[derive(Clone, Message)]
#[rtype(result = "Result<(), Infallible>")]
pub struct Reseat(pub Arc<Seat>);

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
