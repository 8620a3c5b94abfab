//! What is settled before a handler runs: Origin and Host on every route, the last net under panics; then the body's
//! kind, size and time.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ResponseHead, ServiceRequest, ServiceResponse};
use actix_web::error::{InternalError, PayloadError};
use actix_web::http::ConnectionType;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, BytesMut, Data, Payload};
use actix_web::{Error, HttpRequest, HttpResponse};
use futures_util::{FutureExt as _, StreamExt as _};

use super::door::{Door, Frame};
use super::{caller, reply};
use crate::actors::supervision::message_of;
use crate::error::{ErrorCode, Fault};
use crate::telemetry::metrics::METRICS;

/// Around every route: refuses foreign hosts and origins, and turns a panic into an answer.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(door) = request.app_data::<Data<Door>>().cloned() else {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    };
    // What can be answered at once never waits: without this, a client that sends requests without end, and takes each answer,
    // has its thread to itself.
    tokio::task::coop::consume_budget().await;
    let page = door.frame.safety.page(request.head());
    let early = refusal(&request, &door)
        .map(|fault| answer(&fault, &door))
        .or_else(|| page.as_ref()?.preflight(request.head()));
    let answered = match early {
        Some(early) => Ok(request.into_response(early)),
        // Nothing of the request may be kept across the call: routing needs it alone.
        None => AssertUnwindSafe(next.call(request))
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| {
                let fault = Fault::internal(format!("a handler panicked: {}", message_of(panic.as_ref())));
                Err(InternalError::from_response("", answer(&fault, &door)).into())
            })
            .map(ServiceResponse::map_into_boxed_body),
    };
    let finish = |head: &mut ResponseHead| {
        door.frame.safety.protect(head.headers_mut());
        if let Some(page) = page {
            page.say(head.headers_mut());
        }
        if door.frame.house.phase.is_retiring() {
            // The next request on a new connection is the next server's.
            head.set_connection_type(ConnectionType::Close);
        }
    };
    match answered {
        Ok(mut answered) => {
            finish(answered.response_mut().head_mut());
            Ok(answered)
        }
        Err(error) => {
            let mut answer = error.error_response();
            finish(answer.head_mut());
            Err(InternalError::from_response(error, answer).into())
        }
    }
}

/// Why a request is refused before its URL is looked at, if so.
fn refusal(request: &ServiceRequest, door: &Door) -> Option<Fault> {
    // No page in a browser reaches a socket in a folder.
    let is_guarded = !caller::is_this_user(request.request());
    if let Some(fault) = is_guarded.then(|| foreign(request.headers(), &door.frame)).flatten() {
        METRICS.refused.with_label_values(&["foreign"]).inc();
        return Some(fault);
    }
    caller::key_in_url(request.path(), request.query_string())
}

fn answer(fault: &Fault, door: &Door) -> HttpResponse {
    reply::plain_error(fault, "a request", &door.frame.house.ids.next())
}

/// Why the request may not come in, if so.
fn foreign(headers: &HeaderMap, frame: &Frame) -> Option<Fault> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    if headers.get_all(header::HOST).count() > 1 || !frame.gate.admits_host(host) {
        return Some(Fault::new(
            ErrorCode::Forbidden,
            "the Host header names a host that is not this server",
            "call it by the name it was given, or have the operator add the name to server.allowed_hosts",
        ));
    }
    let origin = text(header::ORIGIN)?;
    (headers.get_all(header::ORIGIN).count() > 1 || !frame.gate.admits_origin(origin)).then(|| {
        Fault::new(
            ErrorCode::Forbidden,
            "pages of this origin may not call this server",
            "have the operator add the origin to server.allowed_origins",
        )
    })
}

/// Reads the body of a request that must be JSON.
///
/// # Errors
/// 415 for another kind, 413 for too much, 408 for too slow, 400 for one that broke off.
pub async fn read_json(request: &HttpRequest, payload: &mut Payload, frame: &Frame) -> Result<Bytes, Fault> {
    if !request.headers().get(header::CONTENT_TYPE).is_some_and(is_json) {
        return Err(Fault::new(
            ErrorCode::UnsupportedMediaType,
            "the body is not declared as JSON",
            "send `Content-Type: application/json`",
        ));
    }
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|declared| declared > frame.limits.body_max_bytes) {
        return Err(too_large(frame));
    }
    let mut body = std::pin::pin!(collect(payload, declared, frame));
    // Most bodies came with their head, and are there at the second look: they need no timer.
    for _ in 0..2 {
        if let Some(body) = body.as_mut().now_or_never() {
            return body;
        }
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(frame.limits.body_timeout, body).await.unwrap_or_else(|_| {
        Err(Fault::new(
            ErrorCode::BodyTimeout,
            format!("the body did not arrive within {} s", frame.limits.body_timeout.as_secs()),
            "send the whole body at once",
        ))
    })
}

fn is_json(kind: &HeaderValue) -> bool {
    kind == "application/json" || {
        let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/json")
    }
}

async fn collect(payload: &mut Payload, declared: Option<usize>, frame: &Frame) -> Result<Bytes, Fault> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| broken(&error))?;
        if first.is_empty() {
            // Most bodies come in one piece, which is then used as it is.
            if declared == Some(chunk.len()) {
                return Ok(chunk);
            }
            first = chunk;
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&first);
        }
        if rest.len() + chunk.len() > frame.limits.body_max_bytes {
            return Err(too_large(frame));
        }
        rest.extend_from_slice(&chunk);
    }
    if first.len() > frame.limits.body_max_bytes {
        return Err(too_large(frame));
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn too_large(frame: &Frame) -> Fault {
    Fault::new(
        ErrorCode::BodyTooLarge,
        format!("the body has more than {} bytes", frame.limits.body_max_bytes),
        "send less, or have the operator raise server.body_max_bytes",
    )
}

fn broken(error: &PayloadError) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, format!("the body broke off: {error}"), "send the body whole")
}

/// How long, and how much, is read of a body that nobody wants.
const DISCARD_WITHIN: Duration = Duration::from_secs(1);
const DISCARD_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Reads what is left of a body that is refused unread: closing a connection with something unread would reset it, and
/// the client would never see why.
pub async fn discard(payload: &mut Payload) {
    let read = async {
        let mut bytes = 0;
        while let (true, Some(Ok(chunk))) = (bytes < DISCARD_MAX_BYTES, payload.next().await) {
            bytes += chunk.len();
        }
    };
    // Whoever is slower than that is cut off.
    drop(tokio::time::timeout(DISCARD_WITHIN, read).await);
}

/// What a client takes as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    /// `application/json`
    pub json: bool,
    /// `text/event-stream`
    pub events: bool,
}

/// Reads `Accept`: media ranges with their `q`, the exact before the wild, nothing at all meaning anything.
pub fn accepts(headers: &HeaderMap) -> Accepts {
    let (mut json, mut events, mut any) = (None, None, None);
    for value in headers.get_all(header::ACCEPT) {
        // What nearly all clients send, seen at once.
        if value == "application/json, text/event-stream" {
            return Accepts { json: true, events: true };
        }
        let value = value.to_str().unwrap_or_default();
        for range in value.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let wanted = !parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32)));
            match kind.as_str() {
                "application/json" => json = Some(wanted),
                "application/*" => json = json.or(Some(wanted)),
                "text/event-stream" => events = Some(wanted),
                "text/*" => events = events.or(Some(wanted)),
                "*/*" => any = Some(wanted),
                "" => {}
                _ => any = any.or(Some(false)),
            }
        }
    }
    let otherwise = any.unwrap_or(json.is_none() && events.is_none());
    Accepts { json: json.unwrap_or(otherwise), events: events.unwrap_or(otherwise) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_read_with_its_ranges_and_weights() {
        let read = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::ACCEPT, HeaderValue::from_static(value));
            }
            let accepts = accepts(&headers);
            (accepts.json, accepts.events)
        };
        assert_eq!(read(None), (true, true));
        assert_eq!(read(Some("*/*")), (true, true));
        assert_eq!(read(Some("application/json")), (true, false));
        assert_eq!(read(Some("text/event-stream;q=0.5")), (false, true));
        assert_eq!(read(Some("application/json;q=0, */*")), (false, true));
        assert_eq!(read(Some("text/html, */*")), (true, true));
        assert_eq!(read(Some("*/*, application/json;q=0")), (false, true));
        assert_eq!(read(Some("text/html")), (false, false));
    }
}
