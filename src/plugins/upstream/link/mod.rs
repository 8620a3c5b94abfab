//! Links: the ways to a server. A link carries messages and knows which of them belong together; it does not know what
//! they mean, nor which era they are of, beyond what its transport needs.
//!
//! Reading order: here, what every link does; `stdio`, a child process; `http`, Streamable HTTP of both eras; `sse`, the
//! HTTP+SSE of 2024-11-05; `pending`, who waits for what where everything comes through one pipe.

pub mod http;
pub mod pending;
pub mod sse;
#[cfg(test)]
mod testing;

pub mod stdio;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt as _};

use crate::protocol::{Incoming, Raw};

/// A request to a server, as a link needs to know it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its number on this link, which stands in `body` as the JSON-RPC id; never used twice. A progress token in `body`
    /// is this same number, so that a link can tell whose progress it hears of.
    pub id: u64,
    /// The whole message.
    pub body: Bytes,
    /// Its method, for the header `Mcp-Method`.
    pub method: &'static str,
    /// What the header `Mcp-Name` repeats.
    pub name: Option<Arc<str>>,
    /// Header names after `Mcp-Param-`, and values as the arguments have them, not yet encoded.
    pub params: Vec<(Arc<str>, String)>,
    /// The revision that the header `MCP-Protocol-Version` names; none before one is agreed on.
    pub version: Option<&'static str>,
}

/// A way to a server.
pub trait Link: Send + Sync + 'static {
    /// Sends a request. What belongs to it comes through the flow, up to and including its response.
    fn ask(&self, request: Outgoing) -> BoxFuture<'static, Result<Flow, LinkError>>;

    /// Sends a notification, or our answer to a request of the server.
    fn tell(
        &self,
        message: Bytes,
        version: Option<&'static str>,
    ) -> BoxFuture<'static, Result<(), LinkError>>;

    /// What the server says that belongs to no request of ours: the GET stream of a session, or everything of a pipe that
    /// names none. May be taken once in a link's life. It ends with the link, and with an error when that broke.
    fn strays(&self) -> Flow;

    /// Returns when the server may have said something of its own accord that did not come, though the link goes on.
    fn missed(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    /// Ends the link in order: closes a session with DELETE, a child by closing its stdin, then TERM, then KILL.
    /// Returns when it is over, within the plugin's grace.
    fn close(&self) -> BoxFuture<'static, ()>;

    /// What an operator sees of it: transport, process, bytes, the last lines of stderr. An object, without secrets.
    fn report(&self) -> serde_json::Value;

    /// Whether dropping a request's flow tells a server of 2026-07-28 that its answer is not wanted any more. Where it
    /// does not, as on a pipe, `notifications/cancelled` must say so.
    fn cancels_by_closing(&self) -> bool {
        true
    }
}

/// Messages that come one after the other. Dropping it abandons them: over HTTP their connection is closed.
pub struct Flow(Source);

enum Source {
    One(Option<Result<Incoming, LinkError>>),
    Many(Pin<Box<dyn Stream<Item = Result<Incoming, LinkError>> + Send>>),
}

impl Flow {
    /// A flow of one message, which costs nothing.
    pub fn one(message: Incoming) -> Self {
        Self(Source::One(Some(Ok(message))))
    }

    /// No message ever.
    pub fn none() -> Self {
        Self(Source::One(None))
    }

    /// A flow of what `stream` brings.
    pub fn of(stream: impl Stream<Item = Result<Incoming, LinkError>> + Send + 'static) -> Self {
        Self(Source::Many(Box::pin(stream)))
    }

    /// The next message; none at the end.
    pub async fn next(&mut self) -> Option<Result<Incoming, LinkError>> {
        match &mut self.0 {
            Source::One(message) => message.take(),
            Source::Many(stream) => stream.next().await,
        }
    }
}

/// Why a link does not carry. The texts are for operators and hold no secrets.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// Nothing was sent: no connection, no process. Worth another try.
    #[error("{0}")]
    Unreachable(String),
    /// Nothing can be sent, now or later: what the plugin's file says cannot be used, until somebody mends it.
    #[error("{0}")]
    Misconfigured(String),
    /// The server answered with a status and no message.
    #[error("it answered with HTTP status {status}{}", .says.as_ref().map(|says| format!(": {says}")).unwrap_or_default())]
    Status {
        /// Which.
        status: u16,
        /// From `Retry-After`.
        retry_after_seconds: Option<u64>,
        /// The beginning of a text body, made printable.
        says: Option<String>,
    },
    /// The server does not know the session any more; nothing was carried out.
    #[error("it does not know the session any more")]
    SessionLost,
    /// It was sent, and the link broke before the response: whether it had an effect is not known.
    #[error("{0}")]
    Broken(String),
    /// What came is larger than may be held.
    #[error("its answer has more than {0} bytes")]
    TooLarge(usize),
    /// What came is no message.
    #[error("its answer is no JSON-RPC message: {0}")]
    Garbage(String),
}

/// A number as the JSON-RPC id that it is sent as.
pub fn id_of(raw: &Raw) -> Option<u64> {
    raw.as_str().parse().ok()
}
