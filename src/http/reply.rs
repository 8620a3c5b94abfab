//! The one place where an error becomes a status and a body, and where it is counted and logged once.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::answer;
use crate::access::WRONG_KEYS;
use crate::access::limits::{LIMIT, Limit, OF, QUOTA};
use crate::error::{ErrorCode, Fault, RETRY_AFTER, TRACE_ID};
use crate::protocol::{Id, render};
use crate::telemetry::errors::{self, Recent};
use crate::telemetry::metrics::METRICS;

/// `application/json`
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// `text/event-stream`
pub const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// The member of an error's `data` that says why a key is not taken.
pub const REASON: &str = "refusal";
/// The member of an error's `data` that says which scope is wanted.
pub const SCOPE: &str = "scope";

/// The status that an error travels with.
pub const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::ParseError
        | ErrorCode::InvalidRequest
        | ErrorCode::InvalidParams
        | ErrorCode::HeaderMismatch
        | ErrorCode::MissingCapability
        | ErrorCode::UnsupportedVersion
        | ErrorCode::UrlElicitationRequired => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::MethodNotFound | ErrorCode::NotFound | ErrorCode::ResourceNotFound => {
            StatusCode::NOT_FOUND
        }
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        ErrorCode::BodyTimeout | ErrorCode::InputTimeout => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// A JSON body.
pub fn json(body: impl Into<actix_web::web::Bytes>) -> HttpResponse {
    answer::carry(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, JSON)), body.into())
}

/// An error answer at the MCP endpoint.
pub fn rpc_error(id: Option<&Id>, fault: &Fault, during: &str, request_id: &str) -> HttpResponse {
    note(fault, during, request_id);
    with_headers(fault, render::error(id, fault, request_id))
}

/// An error answer anywhere else.
pub fn plain_error(fault: &Fault, during: &str, request_id: &str) -> HttpResponse {
    note(fault, during, request_id);
    let error = json!({
        "code": fault.code.name(),
        "message": fault.message,
        "advice": fault.advice,
        "requestId": request_id,
    });
    with_headers(fault, json!({"error": error}).to_string().into_bytes())
}

/// Counts a fault that is ours, logs its cause, and keeps it for the diagnostics.
pub fn note(fault: &Fault, during: &str, request_id: &str) {
    if !fault.code.is_ours() {
        let trace_id = fault.detail(TRACE_ID).and_then(Value::as_str).unwrap_or_default();
        log::debug!(code = fault.code.name(), request_id = request_id, trace_id = trace_id; "{during} was refused");
        return;
    }
    METRICS.errors.with_label_values(&[fault.code.name()]).inc();
    // Under too much work, a line for each request would be more of it; that it is so was said.
    if fault.detail(LIMIT).is_some() {
        return;
    }
    errors::report(Recent {
        at: std::time::SystemTime::now(),
        code: fault.code.name(),
        during: during.to_owned(),
        cause: fault.cause.clone().unwrap_or_else(|| fault.message.to_string()),
        request_id: request_id.to_owned(),
        trace_id: fault.detail(TRACE_ID).and_then(Value::as_str).map(str::to_owned),
    });
}

/// What a client must bring: RFC 6750, section 3.
fn challenge(fault: &Fault) -> String {
    let text = |key| fault.detail(key).and_then(serde_json::Value::as_str);
    match (text(REASON), text(SCOPE)) {
        (Some("key_missing") | None, None) => "Bearer realm=\"waygate\"".to_owned(),
        (_, Some(scope)) => {
            format!("Bearer realm=\"waygate\", error=\"insufficient_scope\", scope=\"{scope}\"")
        }
        (Some(reason), None) => {
            format!("Bearer realm=\"waygate\", error=\"invalid_token\", error_description=\"{reason}\"")
        }
    }
}

fn with_headers(fault: &Fault, body: Vec<u8>) -> HttpResponse {
    let mut response = HttpResponse::build(status(fault.code));
    response.insert_header((header::CONTENT_TYPE, JSON));
    match fault.code {
        // Foreign hosts and origins are forbidden with any key.
        ErrorCode::Unauthenticated | ErrorCode::Forbidden
            if fault.code == ErrorCode::Unauthenticated || fault.detail(SCOPE).is_some() =>
        {
            response.insert_header((header::WWW_AUTHENTICATE, challenge(fault)))
        }
        ErrorCode::MethodNotAllowed => {
            let allow = fault.detail("allow").and_then(|allow| allow.as_str()).unwrap_or("GET");
            response.insert_header((header::ALLOW, allow))
        }
        ErrorCode::Unavailable | ErrorCode::RateLimited => {
            response.insert_header((header::RETRY_AFTER, wait_of(fault)))
        }
        // What was not read to its end cannot be followed by a next request.
        ErrorCode::BodyTimeout | ErrorCode::BodyTooLarge => response.force_close(),
        _ => &mut response,
    };
    let mut response = response.body(body);
    say_limit(response.headers_mut(), fault);
    response
}

/// When it is worth coming back, in seconds.
fn wait_of(fault: &Fault) -> u64 {
    fault.detail(RETRY_AFTER).and_then(Value::as_u64).unwrap_or(1)
}

/// Says in headers which limit was reached, if one was, how much it is, and when some of it is there again:
/// draft-ietf-httpapi-ratelimit-headers-10. A policy has its owner's kind as its name, but for the one of wrong keys, which an
/// address has beside that of its requests.
pub fn say_limit(headers: &mut HeaderMap, fault: &Fault) {
    let text = |member| fault.detail(member).and_then(Value::as_str);
    let (Some(limit), Some(of)) = (text(LIMIT), text(OF)) else { return };
    let most =
        fault.detail(QUOTA).and_then(|quota| quota.get(limit)).and_then(Value::as_u64).unwrap_or_default();
    let wait = wait_of(fault);
    let (name, is_of_time) = match limit {
        WRONG_KEYS => ("wrong-keys", true),
        _ => (of, limit == Limit::Requests.name()),
    };
    let (policy, left) = if is_of_time {
        (format!("\"{name}\";q={most};w=60"), format!("\"{name}\";r=0;t={wait}"))
    } else {
        (format!("\"{name}\";q={most};qu=\"concurrent-requests\""), format!("\"{name}\";r=0"))
    };
    headers.insert(header::RETRY_AFTER, wait.into());
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
