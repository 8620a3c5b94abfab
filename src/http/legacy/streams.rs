//! The event streams of a session: the one that a client opens for what belongs to no request, and those that broke and
//! are taken up again.
//!
//! MCP 2025-11-25, basic/transports#listening-for-messages-from-the-server and #resumability-and-redelivery.
//! Must not know who speaks.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;

use super::super::call::{Mirrors, view_of};
use super::super::door::Door;
use super::super::quotas::{self, Payer};
use super::super::{caller, limits, mcp, reply, route};
use super::sse::Ends;
use super::{events_required, renewal, session_of};
use crate::actors::session::SessionHandle;
use crate::actors::session::outbox::{Hold, LaneKind, LaneNumber, Outbox, ResumeError, Said};
use crate::error::{ErrorCode, Fault};
use crate::protocol::headers::Header;
use crate::protocol::{MODERN, render};
use crate::telemetry::metrics::METRICS;

/// `GET /mcp` and `GET /mcp/{bundle}`
pub fn get(request: &HttpRequest, door: &Door) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    open(request, door, &request_id)
        .unwrap_or_else(|fault| reply::rpc_error(None, &fault, "GET /mcp", &request_id))
}

fn open(request: &HttpRequest, door: &Door, request_id: &Arc<str>) -> Result<HttpResponse, Fault> {
    let caller = caller::admit(request, &door.frame, mcp::MCP)?;
    let view = view_of(request, &caller)?;
    route::view(&door.frame.house, &view)?;
    let headers = Mirrors::of(request.headers());
    if mcp::names_modern(&headers) || matches!(headers.find(&super::SESSION_ID), Header::Absent) {
        return Err(Fault::new(
            ErrorCode::MethodNotAllowed,
            "GET opens a stream of a session, and the header Mcp-Session-Id is missing",
            format!(
                "send every message as a POST in revision {MODERN}, or `initialize` first in an older one"
            ),
        )
        .with("allow", "POST"));
    }
    let lost = request.headers().get("last-event-id");
    // Whoever comes back for an answer gets it, also while the server waits for its last calls.
    if lost.is_none() {
        door.frame.house.phase.admits()?;
    }
    let from = door.frame.quotas.origin(request, &door.frame, &caller);
    let payer =
        Payer { caller: &caller, from, view: &view, request_id, session: None, span: None, is_free: false };
    quotas::charge(&door.frame, &payer)?;
    let session = session_of(door, &caller, &view, &headers)?;
    events_required(limits::accepts(request.headers()))?;
    let (hold, is_new) = match lost {
        Some(id) => resume(&session, id)?,
        None => (session.outbox.open(LaneKind::Standing), true),
    };
    // From now on it is told of changes, and a view is compared with what it becomes from when it was looked at.
    let told = session.actor(&door.frame.house.streams);
    drop(door.frame.house.shelf.view(&view));
    if let (Err(fault), true) = (told, door.frame.house.phase.is_serving()) {
        session.outbox.release(hold);
        return Err(fault);
    }
    renewal::tell(door, &session);
    Ok(respond(session, hold, door.frame.limits.stream_keep_alive, is_new))
}

/// Takes up the stream that the client lost, behind the last event that it saw; whether it is a new one. One of a server before
/// this one, on which no request is answered, is as good as new: its client is told that it may have missed something.
fn resume(session: &SessionHandle, id: &HeaderValue) -> Result<(Hold, bool), Fault> {
    let refuse = |why: String| {
        Fault::new(
            ErrorCode::InvalidRequest,
            format!("Last-Event-ID is refused: {why}"),
            "open a new stream without it, and list anew what may have changed",
        )
    };
    let (lane, number) = id
        .to_str()
        .ok()
        .and_then(|id| id.split_once('-'))
        .and_then(|(lane, number)| Some((lane.parse().ok()?, number.parse().ok()?)))
        .ok_or_else(|| refuse("it is no id of an event of this server".to_owned()))?;
    match session.outbox.resume(lane, number) {
        Ok(hold) => Ok((hold, false)),
        Err(ResumeError::Unknown) if session.is_renewed() && Outbox::is_standing(lane) => {
            Ok((session.outbox.open(LaneKind::Standing), true))
        }
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// A connection's hold on a lane; dropping it lets go.
struct Held {
    session: Arc<SessionHandle>,
    hold: Hold,
    keep_alive: Duration,
    /// Whether events have ids, by which the stream can be taken up again.
    numbered: bool,
    /// What is written before anything else.
    first: Option<Bytes>,
    /// What ends with the stream.
    _ends: Option<Ends>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.session.touch();
        self.session.outbox.release(self.hold);
    }
}

/// The event stream of a lane. A fresh one begins with an event without data where the revision wants one, so that the
/// client has an id to come back with.
pub fn respond(session: Arc<SessionHandle>, hold: Hold, keep_alive: Duration, fresh: bool) -> HttpResponse {
    let primes = fresh && session.agreed().is_some_and(|agreed| agreed.revision.has_polling());
    let first = primes.then(|| Bytes::from(format!("id: {}-0\ndata: \n\n", hold.lane)));
    body(Held { session, hold, keep_alive, numbered: true, first, _ends: None })
}

/// The event stream of a client on two URLs: it begins with the other URL, and its events have no ids.
pub fn respond_endpoint(
    session: Arc<SessionHandle>,
    hold: Hold,
    keep_alive: Duration,
    url: &str,
    ends: Ends,
) -> HttpResponse {
    let first = Some(Bytes::from(format!("event: endpoint\ndata: {url}\n\n")));
    body(Held { session, hold, keep_alive, numbered: false, first, _ends: Some(ends) })
}

fn body(held: Held) -> HttpResponse {
    let frames = stream::unfold(held, |mut held| async move {
        let frame = held.next().await?;
        Some((Ok::<_, actix_web::Error>(frame), held))
    });
    super::super::stream::head().streaming(Box::pin(frames))
}

impl Held {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let said = poll_fn(|cx| self.session.outbox.poll_next(self.hold, cx));
        let said = tokio::select! {
            biased;
            said = said => said?,
            () = tokio::time::sleep(self.keep_alive) => return Some(Bytes::from_static(render::KEEP_ALIVE)),
        };
        METRICS.stream_events.inc();
        Some(match said {
            Said::Message { number, message } if self.numbered => numbered(self.hold.lane, number, &message),
            Said::Message { message, .. } => {
                [&b"event: message\n"[..], &render::event(&message)].concat().into()
            }
            Said::Pause(retry) => format!("retry: {}\n\n", retry.as_millis()).into(),
        })
    }
}

fn numbered(lane: LaneNumber, number: u64, message: &[u8]) -> Bytes {
    let mut event = format!("id: {lane}-{number}\n").into_bytes();
    event.extend_from_slice(&render::event(message));
    event.into()
}
