//! The span of one call to the server behind a plugin: what of it the server is told, and what became of it.
//!
//! Names are those of OpenTelemetry's conventions for MCP. Must not know where spans go.

use std::borrow::Cow;
use std::sync::Arc;

use super::link::{Link, LinkError};
use crate::plugins::{Context, Request};
use crate::protocol::{Object, Raw, Trace};
use crate::telemetry::traces::Span;

/// Begins the span of a call, within what the caller's request is done in.
pub fn begin(method: &'static str, name: Option<&Arc<str>>, context: &Context) -> Span {
    let trace = context.trace();
    let span = Span::ask(method, trace.parent.as_deref(), trace.state.as_deref());
    if let Some(name) = name {
        span.about(name);
    }
    span
}

/// Method and name of a request, where spans are named by them.
pub fn named(request: &Request) -> (&'static str, Option<&Arc<str>>) {
    match request {
        Request::Call { tool, .. } => ("tools/call", Some(tool)),
        Request::Prompt { name, .. } => ("prompts/get", Some(name)),
        Request::Read { .. } => ("resources/read", None),
        Request::Complete { .. } => ("completion/complete", None),
        Request::Subscribe { .. } => ("subscriptions/listen", None),
    }
}

/// Says to which process or session it goes, in which revision, and how.
pub fn goes_to(span: &Span, instance: &str, revision: &'static str, link: &dyn Link) {
    if span.is_collected() {
        span.say("waygate.instance", instance.to_owned());
        span.say("mcp.protocol.version", revision);
        span.say("network.transport", if link.cancels_by_closing() { "tcp" } else { "pipe" });
    }
}

/// The trace context that the server is told.
pub fn onward<'a>(span: &Span, context: &'a Context) -> Cow<'a, Trace> {
    match span.onward() {
        Some(_) => Cow::Owned(context.trace().clone().under(span)),
        None => Cow::Borrowed(context.trace()),
    }
}

/// Says that the server answered with this.
pub fn answered(span: &Span, result: &Raw) {
    if span.is_collected() {
        // Few results say so: it is looked for as text before anything is opened.
        let failed = result.as_str().contains("isError")
            && Object::open(result).is_ok_and(|result| {
                result.get("isError").is_some_and(|is_error| is_error.as_str().trim() == "true")
            });
        span.ended(if failed { "tool_error" } else { "ok" });
    }
}

/// Says why no answer came.
pub fn broke(span: &Span, error: &LinkError) {
    span.broke(match error {
        LinkError::Unreachable(_) => "unreachable",
        LinkError::Misconfigured(_) => "misconfigured",
        LinkError::Status { .. } => "http_status",
        LinkError::SessionLost => "session_lost",
        LinkError::Broken(_) => "broken",
        LinkError::TooLarge(_) => "too_large",
        LinkError::Garbage(_) => "garbage",
    });
}
