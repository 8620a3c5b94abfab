//! One POST in work: what was settled before its body is read, what was asked, and the headers that repeat the body.
//!
//! Must not know how it is answered.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::header::{AsHeaderName, HeaderMap, HeaderName};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::door::{Connection, Door};
use super::limits::Accepts;
use super::quotas::Payer;
use super::{reply, route, spans};
use crate::access::Caller;
use crate::catalog::ViewName;
use crate::error::{ErrorCode, Fault};
use crate::protocol::headers::{Header, Headers};
use crate::protocol::{Id, Method};
use crate::telemetry::metrics::METRICS;
use crate::telemetry::traces::Span;

/// One POST, with all that was settled before its body is read.
pub struct Call<'a> {
    /// What the worker has at hand.
    pub door: Data<Door>,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// Who calls.
    pub caller: Caller,
    /// What of the catalog it is about.
    pub view: ViewName,
    /// This request, in errors, logs and history.
    pub request_id: Arc<str>,
    /// The connection it came on.
    pub connection: Option<&'a Connection>,
    /// Where it comes from, if limits ask for that.
    pub from: Option<IpAddr>,
    /// Whether the server asks itself, at nobody's cost.
    pub is_own: bool,
}

impl<'a> Call<'a> {
    /// Who is charged for what it asks.
    pub fn payer(&self) -> Payer<'_> {
        let Self { caller, from, view, request_id, is_own, .. } = self;
        Payer { caller, from: *from, view, request_id, session: None, span: None, is_free: *is_own }
    }

    /// Its headers that repeat the body.
    pub fn mirrors(&self) -> Mirrors<'a> {
        let required = !self.connection.is_some_and(Connection::is_of_this_user);
        Mirrors { required, ..Mirrors::of(self.headers) }
    }
}

/// A request, before its parameters.
pub struct Asked {
    /// To be repeated in the answer.
    pub id: Id,
    /// As it was named.
    pub method: String,
    /// What the client takes.
    pub accepts: Accepts,
    /// Its place in the trace that it is part of.
    pub span: Span,
}

/// What of the catalog a request is about: out of its path, as its caller sees it.
///
/// # Errors
/// 404 for a bundle that the caller may not use, as for one that is not there; 403 for who may use bundles alone.
pub fn view_of(request: &HttpRequest, caller: &Caller) -> Result<ViewName, Fault> {
    view_at(request.path().strip_prefix(super::MCP).and_then(|rest| rest.strip_prefix('/')), caller)
}

/// The same for a bundle's name; without one, the path of everything.
///
/// # Errors
/// As [`view_of`].
pub fn view_at(bundle: Option<&str>, caller: &Caller) -> Result<ViewName, Fault> {
    if caller.may_enter(bundle) {
        return Ok(bundle.map_or(ViewName::MAIN, ViewName::of).through(caller.tools.as_ref()));
    }
    Err(bundle.map_or_else(
        || {
            Fault::new(
                ErrorCode::Forbidden,
                "this key opens certain bundles alone, and this is the path of everything",
                "use /mcp/{bundle} with the name of a bundle that the key was made for",
            )
        },
        route::no_bundle,
    ))
}

/// The answer that refuses a request.
pub fn refuse(call: &Call<'_>, asked: &Asked, fault: &Fault) -> HttpResponse {
    let known = Method::parse(&asked.method).map_or("unknown", Method::name);
    METRICS.requests.with_label_values(&[known, fault.code.name()]).inc();
    spans::refused(&asked.span, fault);
    reply::rpc_error(Some(&asked.id), fault, known, &call.request_id)
}

/// One request in work, counted; a stop waits for it.
pub struct Busy(());

impl Busy {
    /// Counts it until it is dropped.
    pub fn begin() -> Self {
        METRICS.in_flight.inc();
        Self(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        METRICS.in_flight.dec();
    }
}

/// Made once: a name given as text is checked at every look-up.
static PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
static METHOD: HeaderName = HeaderName::from_static("mcp-method");
static NAME: HeaderName = HeaderName::from_static("mcp-name");
pub static SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// The headers that repeat the body, out of an HTTP request.
pub struct Mirrors<'a> {
    headers: &'a HeaderMap,
    required: bool,
}

impl<'a> Mirrors<'a> {
    /// All of them are required, where the revision has them.
    pub fn of(headers: &'a HeaderMap) -> Self {
        Self { headers, required: true }
    }

    /// The header of this name.
    pub fn find(&self, name: impl AsHeaderName) -> Header<'_> {
        let mut values = self.headers.get_all(name);
        match (values.next(), values.next()) {
            (None, _) => Header::Absent,
            (Some(value), None) => Header::Once(value.as_bytes().trim_ascii()),
            (Some(_), Some(_)) => Header::Doubled,
        }
    }
}

impl Headers for Mirrors<'_> {
    fn protocol_version(&self) -> Header<'_> {
        self.find(&PROTOCOL_VERSION)
    }
    fn method(&self) -> Header<'_> {
        self.find(&METHOD)
    }
    fn name(&self) -> Header<'_> {
        self.find(&NAME)
    }
    fn param(&self, name: &str) -> Header<'_> {
        self.find(format!("mcp-param-{}", name.to_ascii_lowercase()))
    }
    fn are_required(&self) -> bool {
        self.required
    }
}
