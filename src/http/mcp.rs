//! The MCP endpoint: from a body to its answer, check by check in the order that the protocol wants.
//!
//! MCP 2026-07-28, basic/transports/streamable-http and basic/versioning. Must not know how anything is carried out.

use std::future::{Future, ready};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::FutureExt as _;
use futures_util::future::Either;

use super::call::{self, Asked, Busy, Call, Mirrors, SESSION_ID};
use super::caller::Wants;
use super::door::{Connection, Door};
use super::limits;
use super::quotas::Payer;
use super::route::{self, Routed, Wanted};
use super::stream::Performing;
use super::{caller, legacy, listen, quotas, reply, spans, stream, tally};
use crate::access::Caller;
use crate::access::keys::Scope;
use crate::actors::supervision::message_of;
use crate::error::{ErrorCode, Fault};
use crate::protocol::headers::{self, Header, Headers};
use crate::protocol::modern::{self, Member, Meta, Params};
use crate::protocol::{Eras, Id, MODERN, Message, Method, Revision, render};
use crate::telemetry::traces::Span;

/// What all URLs of MCP ask for.
pub const MCP: Wants = Wants::Scope(Scope::Mcp);

/// `POST /mcp` and `POST /mcp/{bundle}`
pub async fn post(request: HttpRequest, mut payload: Payload, door: Data<Door>) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    let taken = take(&request, &mut payload, &door).await;
    let known = |(caller, body)| {
        let view = call::view_of(&request, &caller)?;
        route::view(&door.frame.house, &view)?;
        Ok((caller, view, body))
    };
    let (caller, view, body) = match taken.and_then(known) {
        Ok(taken) => taken,
        Err(fault) => {
            if fault.code != ErrorCode::BodyTimeout {
                Box::pin(limits::discard(&mut payload)).await;
            }
            return reply::rpc_error(None, &fault, "POST /mcp", &request_id);
        }
    };
    let connection = request.conn_data::<Connection>();
    let from = door.frame.quotas.origin(&request, &door.frame, &caller);
    let call =
        Call { door, headers: request.headers(), caller, view, request_id, connection, from, is_own: false };
    answer(&call, body).await
}

/// What is settled before a body is looked into: who calls, whether the server serves and has room, and that the body is
/// whole.
pub async fn take(
    request: &HttpRequest,
    payload: &mut Payload,
    door: &Door,
) -> Result<(Caller, Bytes), Fault> {
    let caller = caller::admit(request, &door.frame, MCP)?;
    door.frame.house.phase.admits()?;
    door.frame.quotas.look()?;
    let body = limits::read_json(request, payload, &door.frame).await?;
    Ok((caller, body))
}

/// `/mcp` by any other method.
pub fn other(request: &HttpRequest, door: &Door) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    let fault = match caller::admit(request, &door.frame, MCP) {
        Err(fault) => fault,
        Ok(_) => Fault::new(
            ErrorCode::MethodNotAllowed,
            format!("{} is not served at the MCP endpoint", request.method()),
            format!("send every message as a POST, in revision {MODERN}"),
        )
        .with("allow", "POST, GET, DELETE"),
    };
    reply::rpc_error(None, &fault, "/mcp", &request_id)
}

/// Answers one body.
pub async fn answer(call: &Call<'_>, body: Bytes) -> HttpResponse {
    let accepts = limits::accepts(call.headers);
    let refuse = |id: Option<&Id>, fault: &Fault| reply::rpc_error(id, fault, "POST /mcp", &call.request_id);
    if !accepts.json && !accepts.events {
        let fault = Fault::new(
            ErrorCode::NotAcceptable,
            "the Accept header takes neither JSON nor an event stream",
            "send `Accept: application/json, text/event-stream`",
        );
        return refuse(None, &fault);
    }
    match Message::parse(body) {
        Err(malformed) => refuse(malformed.id.as_ref(), &charged(call, malformed.fault.clone())),
        Ok(Message::Notification { method, params }) => {
            // No notification is defined from client to server in the stateless revision; unknown ones are to be ignored.
            if !is_of_session(call) {
                return HttpResponse::Accepted().finish();
            }
            match legacy::notification(call, &method, &params) {
                Ok(()) => HttpResponse::Accepted().finish(),
                Err(fault) => refuse(None, &fault),
            }
        }
        Ok(Message::Response { id, answer }) if is_of_session(call) => {
            match legacy::response(call, id.as_ref(), answer) {
                Ok(()) => HttpResponse::Accepted().finish(),
                Err(fault) => refuse(None, &fault),
            }
        }
        Ok(Message::Response { .. }) => {
            let why = "a JSON-RPC response was sent, but nothing is asked outside of a session";
            refuse(
                None,
                &Fault::new(
                    ErrorCode::InvalidRequest,
                    why,
                    "send answers as `inputResponses` of a new request",
                ),
            )
        }
        Ok(Message::Batch(whole)) => {
            Box::pin(legacy::batch(call, accepts, &whole)).await.unwrap_or_else(|fault| refuse(None, &fault))
        }
        Ok(Message::Request { id, method, params }) => {
            // What the server asks itself, to see whether it is ready, is nobody's trace.
            let begin = || spans::begin(call.headers, (&id, &call.request_id), &method, &params);
            let span = if call.is_own { Span::NONE } else { begin() };
            request(call, &Asked { id, method, accepts, span }, params).await
        }
    }
}

/// Answers one request.
async fn request(call: &Call<'_>, asked: &Asked, params: Box<Params>) -> HttpResponse {
    let eras = call.door.frame.eras;
    // Who speaks no stateless revision takes all for a request of a session.
    let is_modern = eras != Eras::Legacy && is_modern(&call.mirrors(), &asked.method, &params);
    speaks(call, if is_modern { 1 } else { 2 });
    let refuse = |fault: Fault| {
        let trace = params.trace().under(&asked.span);
        call::refuse(call, asked, &fault.traced(trace.id()))
    };
    if !is_modern {
        if eras == Eras::Modern {
            let revision = params.revision().and_then(Member::text).unwrap_or_default();
            return refuse(headers::unsupported(&revision));
        }
        if let Some(fault) = refuse_legacy(&call.mirrors(), &asked.method) {
            return refuse(fault);
        }
        let served = Box::pin(legacy::request(call, asked, params)).await;
        return served.unwrap_or_else(|fault| call::refuse(call, asked, &fault));
    }
    let _busy = Busy::begin();
    let served = AssertUnwindSafe(serve(call, asked, &params)).catch_unwind().await;
    let served = served.unwrap_or_else(|panic| {
        Err(Fault::internal(format!("a handler panicked: {}", message_of(panic.as_ref()))))
    });
    served.unwrap_or_else(refuse)
}

/// What is answered to a body that nobody can read: it is charged like a request.
fn charged(call: &Call<'_>, malformed: Fault) -> Fault {
    quotas::charge(&call.door.frame, &call.payer()).err().unwrap_or(malformed)
}

async fn serve(call: &Call<'_>, asked: &Asked, params: &Params) -> Result<HttpResponse, Fault> {
    let began = Instant::now();
    let (method, served) = begin(call, asked, params)?;
    let response = served.answer(call, asked).await?;
    tally::took(method, began.elapsed());
    Ok(response)
}

/// A request that passed its checks.
enum Served {
    Ready(HttpResponse),
    Listen(Wanted),
    Performing(Performing),
}

impl Served {
    /// No `async fn`, which would keep what it takes beside what becomes of it.
    fn answer<'a>(
        self,
        call: &'a Call<'_>,
        asked: &'a Asked,
    ) -> impl Future<Output = Result<HttpResponse, Fault>> + 'a {
        match self {
            Self::Performing(performing) => Either::Left(performing.answer(call, asked)),
            Self::Ready(response) => Either::Right(Either::Left(ready(Ok(response)))),
            Self::Listen(wanted) => {
                Either::Right(Either::Right(Box::pin(
                    async move { listen::open(call, asked, &wanted).await },
                )))
            }
        }
    }
}

/// All that is done with a request before anything of it is awaited.
fn begin(call: &Call<'_>, asked: &Asked, params: &Params) -> Result<(Method, Served), Fault> {
    let payer = Payer { span: Some(&asked.span), ..call.payer() };
    let places = quotas::enter(&call.door.frame, &payer, &asked.method, params)?;
    let headers = call.mirrors();
    let meta = Meta::open(params)?;
    headers::check_version(&headers, &meta.version)?;
    asked.span.say("mcp.protocol.version", MODERN);
    headers::check_method(&headers, &asked.method)?;
    let method = Method::parse(&asked.method).ok_or_else(|| unknown_method(&asked.method))?;
    headers::check_name(&headers, method, params.target(method).as_deref())?;
    let served = match route::find(&call.door.frame.house, &call.view, method, params, Some(&headers))? {
        Routed::Page(page) => {
            tally::ended(method, "ok");
            asked.span.ended("ok");
            Served::Ready(stream::send(render::result(&asked.id, page.finished()), asked.accepts))
        }
        Routed::Listen(wanted) => Served::Listen(wanted),
        Routed::Perform(task) => {
            spans::about(&asked.span, &task);
            Served::Performing(stream::perform(call, asked, params, meta, (task, places))?)
        }
    };
    Ok((method, served))
}

/// Whether the stateless revision rules over this request.
fn is_modern(headers: &Mirrors<'_>, method: &str, params: &Params) -> bool {
    modern::is_modern(params) || names_modern(headers) || method == "server/discover"
}

/// Whether the version header names the stateless revision or a later one. Revisions are ISO dates, so that they compare
/// as text.
pub fn names_modern(headers: &Mirrors<'_>) -> bool {
    matches!(headers.protocol_version(), Header::Once(version) if version >= MODERN.as_bytes() && is_date(version))
}

fn is_date(version: &[u8]) -> bool {
    version.len() == 10
        && version
            .iter()
            .enumerate()
            .all(|(n, byte)| if n == 4 || n == 7 { *byte == b'-' } else { byte.is_ascii_digit() })
}

/// Why a request of an older revision is refused before its session is looked at: it names a revision that nobody knows.
fn refuse_legacy(headers: &Mirrors<'_>, method: &str) -> Option<Fault> {
    let Header::Once(version) = headers.protocol_version() else { return None };
    let version = String::from_utf8_lossy(version);
    (method != "initialize" && Revision::parse(&version).is_none()).then(|| headers::unsupported(&version))
}

/// Whether a message that is no request belongs to a session, or should: its headers say so.
fn is_of_session(call: &Call<'_>) -> bool {
    let headers = call.mirrors();
    let known = |version: &[u8]| std::str::from_utf8(version).ok().and_then(Revision::parse);
    match headers.protocol_version() {
        Header::Once(version) if known(version).is_some_and(|revision| !revision.has_sessions()) => false,
        Header::Once(version) if known(version).is_some() => true,
        _ => call.headers.contains_key(&SESSION_ID),
    }
}

fn unknown_method(method: &str) -> Fault {
    Fault::new(
        ErrorCode::MethodNotFound,
        format!("there is no method {method:?} in revision {MODERN}"),
        "call server/discover to see what is served",
    )
}

fn speaks(call: &Call<'_>, era: u8) {
    if let Some(connection) = call.connection {
        connection.speaks(era);
    }
}
