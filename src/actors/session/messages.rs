//! SessionActor's mailbox: what one session or listen stream can be told, in the order of its life.
//!
//! | message | from                | reply | may be lost |
//! |---------|---------------------|-------|-------------|
//! | `Tell`  | plugin              | –     | no: a full mailbox makes the stream tell everything it watches |
//! | `Subscribe` | http            | `Result<(), Fault>` | no |
//! | `Unsubscribe` | http          | `Result<(), Infallible>` | no |
//! | `Ask`   | http, during a call | `Result<Asking, Fault>` | no |
//! | `Answered` | http             | –     | no          |
//! | `Forget` | http, when nobody waits for an answer any more | – | no |
//! | `Probe` | sessions, when it was long unused | – | yes |
//! | `End`   | app, at a clean stop | –    | no          |
//! | `Close` | http, when the client is gone | – | no    |
//! | `Ping`, `Crash` | health, operator | – | yes       |

use std::sync::Arc;

use actix::Message;
use tokio::sync::oneshot;

use super::News;
use super::outbox::LaneNumber;
use crate::actors::plugin::Watching;
use crate::error::Fault;
use crate::protocol::Raw;
use crate::protocol::legacy::asks::Answer;

/// Something changed that this stream may watch.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Tell(pub News);

/// Tell of changes of this resource, too.
#[derive(Message)]
#[rtype(result = "Result<(), Fault>")]
pub struct Subscribe {
    /// The watch of that resource.
    pub watching: Watching,
    /// Resources that one session may watch.
    pub most: usize,
}

/// … and no longer.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), std::convert::Infallible>")]
pub struct Unsubscribe(pub Arc<str>);

/// Ask the client something, on the stream of the call that needs it.
#[derive(Debug, Message)]
#[rtype(result = "Result<Asking, Fault>")]
pub struct Ask {
    /// Where.
    pub lane: LaneNumber,
    /// What.
    pub method: &'static str,
    /// With what.
    pub params: Raw,
}

/// A request that is on its way to the client.
#[derive(Debug)]
pub struct Asking {
    /// Its JSON-RPC id.
    pub id: u64,
    /// Where its answer comes; closed when the actor crashed.
    pub answer: oneshot::Receiver<Answer>,
}

/// The client answered.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Answered {
    /// What it was asked under.
    pub id: u64,
    /// What it says.
    pub answer: Answer,
}

/// Nobody waits any more for the answer to what was asked under this id.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Forget(pub u64);

/// Ask the client for a sign of life.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Probe;

/// The server stops: say what is left to say and close.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct End;

/// The client is gone.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Close;
