//! HTTP to the server behind: one connection a request, over whatever stream the way there gives.
//!
//! A connection that is never used twice cannot have died of age: when it breaks, the server broke it. And letting go of
//! a reply closes it, which is how a request is cancelled. Must not know what is asked.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{ErrorCode, Fault};

/// The most that one message of the server may have.
pub const MESSAGE_MAX_BYTES: usize = 256 << 20;

/// The way to a server.
pub trait Way {
    /// A connection to the server that runs, or to one that it starts where none does.
    ///
    /// The error says in a sentence why there is none.
    fn connect(&self) -> LocalBoxFuture<'_, Result<UnixStream, String>>;
}

/// Requests over a way.
pub struct Wire {
    way: Box<dyn Way>,
    /// How long a server that is well may say nothing.
    silence: Duration,
}

/// A reply whose body is still to be read; dropping it closes its connection.
pub struct Reply {
    /// What became of the request.
    pub status: StatusCode,
    /// What was said of the body, and besides.
    pub headers: HeaderMap,
    body: Incoming,
    silence: Duration,
    _connection: AbortOnDropHandle<()>,
}

impl Wire {
    /// Over `way`, to a server that is given up when it says nothing for so long.
    pub fn new(way: Box<dyn Way>, silence: Duration) -> Self {
        Self { way, silence }
    }

    /// Sends a request to the MCP endpoint.
    ///
    /// # Errors
    /// `Unavailable` when there is no server, or when it goes away or is silent before it answers.
    pub async fn send(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Reply, Fault> {
        self.reach().await?.send(method, headers, body).await
    }

    /// A connection for one request, by which the server can be known before anything is asked of it.
    ///
    /// # Errors
    /// `Unavailable` when there is no server.
    pub async fn reach(&self) -> Result<Reached, Fault> {
        let stream = self.way.connect().await.map_err(nobody)?;
        let server = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // What breaks shows at the reply.
            drop(connection.await);
        }));
        Ok(Reached { server, sender, silence: self.silence, connection })
    }
}

/// A server that was reached.
pub struct Reached {
    /// Its process, where the system tells it.
    pub server: Option<i32>,
    sender: http1::SendRequest<Full<Bytes>>,
    silence: Duration,
    connection: AbortOnDropHandle<()>,
}

impl Reached {
    /// Sends a request to the MCP endpoint of this server.
    ///
    /// # Errors
    /// `Unavailable` when it goes away or is silent before it answers.
    pub async fn send(mut self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Reply, Fault> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = hyper::Uri::from_static("/mcp");
        *request.headers_mut() = headers;
        let always = [
            (header::HOST, "localhost"),
            (header::CONTENT_TYPE, "application/json"),
            (header::ACCEPT, "application/json, text/event-stream"),
        ];
        for (name, value) in always {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let sent = tokio::time::timeout(self.silence, self.sender.send_request(request)).await;
        let (head, body) = sent.map_err(|_| silent())?.map_err(lost)?.into_parts();
        let Self { silence, connection, .. } = self;
        Ok(Reply { status: head.status, headers: head.headers, body, silence, _connection: connection })
    }
}

impl Reply {
    /// Whether the body is an event stream.
    pub fn is_events(&self) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// `Unavailable` when the server goes away or is silent before the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let frame = tokio::time::timeout(self.silence, self.body.frame()).await;
            match frame.map_err(|_| silent())? {
                None => return Ok(None),
                // Trailers say nothing to us.
                Some(frame) => match frame.map_err(lost)?.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => {}
                },
            }
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// As [`Reply::chunk`], and when it is too large.
    pub async fn whole(mut self) -> Result<Bytes, Fault> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
            if whole.len() > MESSAGE_MAX_BYTES {
                return Err(Fault::internal("an answer is larger than this process holds"));
            }
        }
        Ok(whole.into())
    }
}

fn nobody(why: String) -> Fault {
    log::warn!("no server can be reached: {why}");
    Fault::new(
        ErrorCode::Unavailable,
        "no server can be reached, and none could be started",
        "retry; nothing was done. The log says why",
    )
}

fn lost(error: hyper::Error) -> Fault {
    let advice = "retry; whether the request had an effect is not known";
    Fault::new(ErrorCode::Unavailable, "the server ended before it answered", advice).because(error)
}

fn silent() -> Fault {
    Fault::new(
        ErrorCode::Unavailable,
        "the server says nothing any more",
        "retry; whether the request had an effect is not known",
    )
}
