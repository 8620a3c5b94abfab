//! Streamable HTTP, both eras: one link is one session of a legacy server, or none.
//!
//! Reading order: here, requests and the session; `exchange`, answers; `stream`, those that come in pieces, and how they
//! are taken up again; `client`, what all links of a plugin share; `pool`, connections that are kept; `connector`, how
//! they are made; `guarded`, addresses that are refused; `tls`; `place`, URLs. Must not know what is asked, nor who asks: nothing of an inbound request comes here.

mod client;
mod connector;
mod exchange;
mod guarded;
mod place;
mod pool;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Flow, Link, LinkError, Outgoing};
use crate::config::plugin::HttpReach;
use crate::protocol::{Incoming, MODERN, headers};
use pool::Body;

pub use client::HttpCore;
pub(super) use client::{Call, Extras, Landed};
pub(super) use exchange::{Kind, Refusal, messages, whole, wrong_kind};
pub(super) use place::{Origin, join};
pub(super) use stream::{Next, Reader};

/// How long closing a session may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);
/// Of the body of an acknowledgement, so much is read.
const ACKNOWLEDGEMENT_MAX_BYTES: usize = 64 * 1024;

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// How it goes with the stream of what a server says of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum GetStream {
    Unasked,
    Open,
    Pausing,
    Refused,
    Broken,
}

impl GetStream {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Unasked, "not asked for"),
        (Self::Open, "open"),
        (Self::Pausing, "to be taken up again"),
        (Self::Refused, "refused"),
        (Self::Broken, "broken"),
    ];
}

/// What the flows of a link share with it.
pub(super) struct Line {
    pub(super) core: HttpCore,
    /// The id that the answer to `initialize` brought.
    session: OnceLock<HeaderValue>,
    /// The revision that was agreed on, as the first request after the handshake names it.
    version: OnceLock<&'static str>,
    closed: CancellationToken,
    get_stream: AtomicU8,
    /// Told when something that the server said of its own accord may not have come.
    missed: Notify,
    strays_taken: AtomicBool,
}

impl Line {
    fn new(core: HttpCore) -> Arc<Self> {
        Arc::new(Self {
            core,
            session: OnceLock::new(),
            version: OnceLock::new(),
            closed: CancellationToken::new(),
            get_stream: AtomicU8::new(GetStream::Unasked as u8),
            missed: Notify::new(),
            strays_taken: AtomicBool::new(false),
        })
    }

    fn notes(&self, state: GetStream) {
        self.get_stream.store(state as u8, Ordering::Relaxed);
    }

    fn get_stream(&self) -> &'static str {
        let state = self.get_stream.load(Ordering::Relaxed);
        GetStream::ALL.iter().find(|(each, _)| *each as u8 == state).map_or("", |(_, text)| text)
    }

    fn version_header(&self) -> Option<(HeaderName, HeaderValue)> {
        self.version.get().map(|version| (PROTOCOL_VERSION, HeaderValue::from_static(version)))
    }

    /// The revision of the session; the one of 2026-07-28 has none, and is only asked for.
    fn note_version(&self, version: Option<&'static str>) {
        if let Some(version) = version
            && version != MODERN
            && self.version.get().is_none()
        {
            // Another thread that was quicker said the same.
            let _ = self.version.set(version);
        }
    }

    /// A POST.
    fn post(&self, body: Bytes, version: Option<&'static str>) -> Call {
        let mut extras = Extras::new();
        extras.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        extras.push((ACCEPT, HeaderValue::from_static("application/json, text/event-stream")));
        extras.extend(version.map(|version| (PROTOCOL_VERSION, HeaderValue::from_static(version))));
        let (uri, session) = (self.core.uri().clone(), self.session.get().cloned());
        Call { method: Method::POST, uri, body, extras, session }
    }
}

/// A link to a server that speaks Streamable HTTP.
pub struct HttpLink(Arc<Line>);

impl HttpLink {
    /// A link of its own; for several to one server, open an [`HttpCore`] and make them [`Self::over`] it.
    ///
    /// # Errors
    /// What of the plugin's file cannot be used.
    pub fn open(reach: &HttpReach, headers: HeaderMap, response_max_bytes: usize) -> Result<Self, LinkError> {
        Ok(Self::over(&HttpCore::open(reach, headers, response_max_bytes)?))
    }

    /// A link, which is one session, over connections that others share. Connects nowhere yet.
    pub fn over(core: &HttpCore) -> Self {
        Self(Line::new(core.clone()))
    }
}

impl Link for HttpLink {
    fn ask(&self, request: Outgoing) -> BoxFuture<'static, Result<Flow, LinkError>> {
        let line = Arc::clone(&self.0);
        Box::pin(async move {
            line.note_version(request.version);
            let mut call = line.post(request.body.clone(), request.version);
            if request.version == Some(MODERN) {
                repeat(&request, &mut call.extras)?;
            }
            let answer = line.core.exchange(&call).await?;
            answered(line, &request, answer).await
        })
    }

    fn tell(
        &self,
        message: Bytes,
        version: Option<&'static str>,
    ) -> BoxFuture<'static, Result<(), LinkError>> {
        let line = Arc::clone(&self.0);
        Box::pin(async move {
            line.note_version(version);
            let answer = line.core.exchange(&line.post(message, version)).await?;
            acknowledged(&line.core, line.session.get().is_some(), answer).await
        })
    }

    fn strays(&self) -> Flow {
        if self.0.strays_taken.swap(true, Ordering::Relaxed) {
            return Flow::none();
        }
        stream::Strays::flow(Arc::clone(&self.0))
    }

    fn missed(&self) -> BoxFuture<'static, ()> {
        let line = Arc::clone(&self.0);
        Box::pin(async move { line.missed.notified().await })
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let line = Arc::clone(&self.0);
        Box::pin(async move {
            line.closed.cancel();
            if line.session.get().is_none() {
                return;
            }
            let mut call = stream::get_call(&line, None);
            call.method = Method::DELETE;
            // A server that does not let its sessions be closed answers 405; one that is gone needs no closing.
            let _ = timeout(CLOSE_WITHIN, line.core.exchange(&call)).await;
        })
    }

    fn report(&self) -> serde_json::Value {
        let line = &self.0;
        let (requests, bytes_in, bytes_out) = line.core.counts();
        json!({
            "transport": "http",
            "url": line.core.shown(),
            "session": line.session.get().is_some(),
            "getStream": line.get_stream(),
            "requests": requests,
            "bytesIn": bytes_in,
            "bytesOut": bytes_out,
        })
    }
}

/// The headers that repeat what a modern request's body says.
fn repeat(request: &Outgoing, extras: &mut Extras) -> Result<(), LinkError> {
    extras.push((METHOD, HeaderValue::from_static(request.method)));
    let value = |text: &str| {
        // What is encoded is plain ASCII.
        HeaderValue::from_str(&headers::encode(text))
            .map_err(|_| LinkError::Unreachable("a value does not fit into a header".into()))
    };
    if let Some(name) = &request.name {
        extras.push((NAME, value(name)?));
    }
    for (name, text) in &request.params {
        let header = HeaderName::from_bytes(format!("mcp-param-{name}").as_bytes())
            .map_err(|_| LinkError::Unreachable(format!("x-mcp-header {name:?} is no name of a header")))?;
        extras.push((header, value(text)?));
    }
    Ok(())
}

async fn answered(line: Arc<Line>, request: &Outgoing, answer: Response<Body>) -> Result<Flow, LinkError> {
    let id = request.id;
    if !answer.status().is_success() {
        let refusal = Refusal::read(&line.core, answer).await;
        if line.session.get().is_some() && refusal.is_of_session(Some(id)) {
            return Err(LinkError::SessionLost);
        }
        return match refusal.message().filter(|message| exchange::answers(message, id)) {
            Some(message) => Ok(Flow::one(message)),
            None => Err(refusal.error(&line.core)),
        };
    }
    if request.method == "initialize"
        && let Some(session) = answer.headers().get(client::SESSION)
    {
        let mut session = session.clone();
        session.set_sensitive(true);
        // One link shakes hands once.
        let _ = line.session.set(session);
    }
    match Kind::of(answer.headers()) {
        Kind::Events => {
            let resumable = request.version != Some(MODERN);
            Ok(stream::Answer::flow(line, answer.into_body(), id, resumable))
        }
        Kind::Json => {
            let bytes = whole(&line.core, answer.into_body(), line.core.response_max_bytes()).await?;
            heard(id, bytes)
        }
        Kind::Other(kind) => Err(wrong_kind(&kind)),
    }
}

/// A JSON body as a flow.
fn heard(id: u64, bytes: Bytes) -> Result<Flow, LinkError> {
    // Nearly always it is one message, which needs no list.
    if bytes.first() == Some(&b'{') {
        let message = Incoming::parse(bytes)
            .map_err(|error| LinkError::Garbage(exchange::printable(&error.to_string())))?;
        return if exchange::answers(&message, id) {
            Ok(Flow::one(message))
        } else {
            Err(LinkError::Garbage("it answers another request than the one that was sent".into()))
        };
    }
    let said = exchange::said_to(id, bytes)?;
    Ok(Flow::of(futures_util::stream::iter(said.into_iter().map(Ok))))
}

/// Whether what was told was taken.
pub(super) async fn acknowledged(
    core: &HttpCore,
    has_session: bool,
    answer: Response<Body>,
) -> Result<(), LinkError> {
    if answer.status().is_success() {
        // It means nothing, but unread it would cost the connection.
        if Kind::of(answer.headers()) != Kind::Events {
            let _ = timeout(CLOSE_WITHIN, whole(core, answer.into_body(), ACKNOWLEDGEMENT_MAX_BYTES)).await;
        }
        return Ok(());
    }
    let refusal = Refusal::read(core, answer).await;
    if has_session && refusal.is_of_session(None) {
        return Err(LinkError::SessionLost);
    }
    Err(refusal.error(core))
}
