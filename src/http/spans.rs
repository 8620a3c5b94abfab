//! The span of a request at the door: below the trace that the request says it is part of, in `_meta` or else in its headers.
//!
//! Names are those of OpenTelemetry's conventions for MCP. Must not know where spans go.

use actix_web::http::header::HeaderMap;

use crate::actors::executor::messages::Task;
use crate::error::Fault;
use crate::protocol::modern::Params;
use crate::protocol::{Id, Method, Trace};
use crate::telemetry::traces::{self, Span};

/// The longest id of a request that is repeated.
const ID_MAX: usize = 64;
/// The longest `tracestate` that is taken from a header.
const STATE_MAX: usize = 512;

/// Methods of revisions with sessions that are none of today's.
const OF_SESSIONS: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// Begins the span of a request.
pub fn begin(headers: &HeaderMap, (id, request_id): (&Id, &str), method: &str, params: &Params) -> Span {
    if !traces::is_on() {
        return Span::NONE;
    }
    let said = params.trace();
    let parent = match said.parent {
        Some(parent) => (Some(parent), said.state),
        None => of_headers(headers),
    };
    let span = Span::serve(known(method), parent);
    if span.is_collected() {
        let id = id.as_str().trim_matches('"');
        if id.len() <= ID_MAX {
            span.say("jsonrpc.request.id", id.to_owned());
        }
        span.say("waygate.request.id", request_id.to_owned());
        span.say("network.protocol.name", "http");
    }
    span
}

/// Says what a call is of.
pub fn about(span: &Span, task: &Task) {
    if span.is_collected() {
        span.about(&task.target());
        span.say("waygate.plugin", task.seat().name.to_string());
    }
}

/// Says why there is no result.
pub fn refused(span: &Span, fault: &Fault) {
    if span.is_collected() {
        let code = fault.relayed.as_ref().map_or(i64::from(fault.code.rpc()), |relayed| relayed.code);
        span.refused(code, fault.code.name());
    }
}

/// A method that nobody knows is not repeated: anybody could think of any number of them.
fn known(method: &str) -> &'static str {
    let of_sessions = || OF_SESSIONS.into_iter().find(|known| *known == method);
    Method::parse(method).map(Method::name).or_else(of_sessions).unwrap_or("_OTHER")
}

fn of_headers(headers: &HeaderMap) -> (Option<String>, Option<String>) {
    let texts = |name: &str| -> Vec<&str> {
        headers.get_all(name).filter_map(|value| value.to_str().ok()).map(str::trim).collect()
    };
    // Two parents are none; the state may come in several lines.
    let parents = texts("traceparent");
    let [parent] = parents.as_slice() else { return (None, None) };
    if !Trace::is_parent(parent) {
        return (None, None);
    }
    let state = texts("tracestate").join(",");
    (Some((*parent).to_owned()), Some(state).filter(|state| (1..=STATE_MAX).contains(&state.len())))
}
