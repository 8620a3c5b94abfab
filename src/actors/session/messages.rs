//! SessionActor's mailbox: what one listen stream can be told, in the order of its life.
//!
//! | message | from                | reply | may be lost |
//! |---------|---------------------|-------|-------------|
//! | `Tell`  | plugin              | –     | no: a full mailbox makes the stream tell everything it watches |
//! | `End`   | app, at a clean stop | –    | no          |
//! | `Close` | http, when the client is gone | – | no    |
//! | `Ping`, `Crash` | health, operator | – | yes       |

use actix::Message;

use super::News;

/// Something changed that this stream may watch.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Tell(pub News);

/// The server stops: send the listen request's result and close.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct End;

/// The client is gone.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Close;
