//! The door for clients of revisions with sessions: 2024-11-05 to 2025-11-25. It translates; behind it everyone speaks
//! 2026-07-28.
//!
//! ```text
//! POST /mcp    initialize            handshake    a session
//!              request               answers ──▶ waiting ──▶ JSON, or an event stream from the first notice on
//!                └ tools/call …      conversation: rounds of Perform; what the plugin asks is asked of the client
//!              notification          here
//!              response              to the session's actor, and from there to the conversation that waits
//!              batch (2025-03-26)    batch
//! GET /mcp     a stream of its own, or one that broke taken up again    streams
//! DELETE /mcp  the end
//! /mcp/{bundle}                      the same, within a bundle; a session belongs to the path that it was opened at
//! GET /sse, POST /messages           sse: all of this on two URLs (2024-11-05)
//! ```
//!
//! A disconnect is not a cancel here: what was begun goes on, and waits for its client to come back.
//! MCP 2025-11-25, basic/lifecycle and basic/transports. Must not know how anything is carried out.

mod answers;
mod batch;
mod conversation;
mod renewal;
pub mod sse;
mod streams;
mod voice;
mod waiting;

use std::sync::Arc;

use actix_web::http::header::HeaderValue;
use actix_web::{HttpRequest, HttpResponse};

use super::call::{Asked, Call, Mirrors, SESSION_ID, view_of};
use super::door::Door;
use super::quotas::{self, Payer};
use super::{caller, limits, mcp, reply, spans};
use crate::access::Caller;
use crate::actors::session::SessionHandle;
use crate::actors::session::messages::Answered;
use crate::catalog::ViewName;
use crate::error::{ErrorCode, Fault};
use crate::protocol::capabilities::Offers;
use crate::protocol::headers::{Header, Headers as _};
use crate::protocol::legacy::asks::Answer;
use crate::protocol::legacy::{self, handshake};
use crate::protocol::modern::Params;
use crate::protocol::{Id, MODERN, Revision};
use crate::telemetry::metrics::METRICS;

pub use batch::batch;
pub use streams::get;

/// What sessions of Streamable HTTP are bound to, beside the bundle behind it.
pub(super) const PATH: &str = super::MCP;

/// The session that a request names, if it is its caller's and was opened at the same path.
///
/// # Errors
/// 400 without one or with a version header that contradicts it, 404 for one that is unknown, foreign or has ended.
fn session_of(
    door: &Door,
    caller: &Caller,
    view: &ViewName,
    headers: &Mirrors<'_>,
) -> Result<Arc<SessionHandle>, Fault> {
    let id = match headers.find(&SESSION_ID) {
        Header::Once(id) => std::str::from_utf8(id).unwrap_or_default(),
        Header::Absent => return Err(session_required()),
        Header::Doubled => {
            return Err(Fault::new(
                ErrorCode::InvalidRequest,
                "the header Mcp-Session-Id is there more than once",
                "send it once",
            ));
        }
    };
    let session = door.frame.house.sessions.find(id, caller, PATH, view).ok_or_else(session_unknown)?;
    check_version(&session, headers)?;
    session.touch();
    renewal::renew(door, &session);
    Ok(session)
}

fn session_required() -> Fault {
    Fault::new(
        ErrorCode::InvalidRequest,
        "a session is required in revisions before 2026-07-28, and the header Mcp-Session-Id is missing",
        format!("send `initialize` first; or speak {MODERN}, where each request stands for itself"),
    )
    .with("supported", Revision::with_sessions().collect::<Vec<_>>())
}

fn session_unknown() -> Fault {
    Fault::new(
        ErrorCode::NotFound,
        "there is no such session, or it has ended",
        "send `initialize` without the header Mcp-Session-Id to begin a new one",
    )
}

/// Where the revision has a version header, it must name what was agreed; without one the session's revision holds.
fn check_version(session: &SessionHandle, headers: &Mirrors<'_>) -> Result<(), Fault> {
    let Some(agreed) = session.agreed().filter(|agreed| agreed.revision.has_version_header()) else {
        return Ok(());
    };
    match headers.protocol_version() {
        Header::Absent => Ok(()),
        Header::Once(version) if version == agreed.revision.name().as_bytes() => Ok(()),
        Header::Once(_) | Header::Doubled => Err(Fault::new(
            ErrorCode::InvalidRequest,
            format!(
                "this session speaks {}, and MCP-Protocol-Version says otherwise",
                agreed.revision.name()
            ),
            "send the version that `initialize` answered, or begin a new session",
        )),
    }
}

/// Answers a request of a revision with sessions.
///
/// # Errors
/// Before it is known to belong to a session: 400 and 404. After that every fault is an answer in the session.
pub async fn request(call: &Call<'_>, asked: &Asked, params: Box<Params>) -> Result<HttpResponse, Fault> {
    let headers = call.mirrors();
    if asked.method == "initialize" {
        quotas::charge(&call.door.frame, &call.payer())?;
        return initialize(call, asked, &params, &headers);
    }
    let session = session_of(&call.door, &call.caller, &call.view, &headers);
    let label = session.as_ref().ok().map(|session| &session.label);
    let payer = Payer { session: label, span: Some(&asked.span), ..call.payer() };
    let entered = quotas::enter(&call.door.frame, &payer, &asked.method, &params);
    let session = session?;
    let places = match entered {
        Ok(places) => places,
        Err(fault) => {
            spans::refused(&asked.span, &fault);
            let answer = answers::limited(&asked.id, &asked.method, &fault, &call.request_id);
            let mut response = super::stream::send(answer, asked.accepts);
            reply::say_limit(response.headers_mut(), &fault);
            return Ok(response);
        }
    };
    let request = answers::Request {
        door: call.door.clone(),
        caller: call.caller.clone(),
        request_id: Arc::clone(&call.request_id),
        session,
        id: asked.id.clone(),
        method: asked.method.clone(),
        params,
        places,
        span: asked.span.clone(),
    };
    Ok(waiting::answer(request, asked.accepts).await)
}

/// `initialize`: opens a session.
fn initialize(
    call: &Call<'_>,
    asked: &Asked,
    params: &Params,
    headers: &Mirrors<'_>,
) -> Result<HttpResponse, Fault> {
    if !matches!(headers.find(&SESSION_ID), Header::Absent) {
        // An unknown one is told so first: its client then does the right thing.
        session_of(&call.door, &call.caller, &call.view, headers)?;
        return Err(Fault::new(
            ErrorCode::InvalidRequest,
            "this session was initialized before",
            "send `initialize` without the header Mcp-Session-Id to begin a new one",
        ));
    }
    let agreed = handshake::read(params)?;
    let house = &call.door.frame.house;
    let session = house.sessions.open(&call.caller, PATH, &call.view)?;
    session.touch();
    let welcome = welcome(&call.door, &call.view, agreed.revision);
    session.agree(agreed);
    house.sessions.note_change(&session);
    METRICS.requests.with_label_values(&["initialize", "ok"]).inc();
    asked.span.ended("ok");
    let answer = legacy::result(&asked.id, &welcome);
    let mut response = super::stream::send(answer, asked.accepts);
    if let Ok(id) = HeaderValue::from_str(&session.id) {
        response.headers_mut().insert(SESSION_ID.clone(), id);
    }
    Ok(response)
}

/// The result of `initialize`.
fn welcome(door: &Door, view: &ViewName, revision: Revision) -> crate::protocol::Raw {
    let house = &door.frame.house;
    let catalog = house.shelf.view(view);
    let instructions = catalog.as_ref().and_then(|catalog| catalog.instructions.as_deref());
    let offers = catalog.as_ref().map_or(Offers::LISTS, |catalog| catalog.offers);
    handshake::welcome(revision, &house.bench.info, offers, instructions)
}

/// Takes in a notification that names a session, or a revision that has sessions.
///
/// # Errors
/// 400 without a session, 404 for one that is unknown.
pub fn notification(call: &Call<'_>, method: &str, params: &Params) -> Result<(), Fault> {
    let session = session_of(&call.door, &call.caller, &call.view, &call.mirrors())?;
    notice(&session, method, params);
    Ok(())
}

/// What a client tells of itself: only a cancelled request is of consequence, for roots are asked for anew each time.
fn notice(session: &SessionHandle, method: &str, params: &Params) {
    if method == "notifications/cancelled"
        && let Some(id) = params.request_id().and_then(|id| Id::read(id.raw()))
    {
        session.cancel_call(id.as_str());
    }
}

/// Takes in an answer to something that was asked of the client.
///
/// # Errors
/// 400 without a session and for an answer to nothing, 404 for a session that is unknown.
pub fn response(call: &Call<'_>, id: Option<&Id>, answer: Answer) -> Result<(), Fault> {
    let session = session_of(&call.door, &call.caller, &call.view, &call.mirrors())?;
    answered(&session, id, answer)
}

fn answered(session: &SessionHandle, id: Option<&Id>, answer: Answer) -> Result<(), Fault> {
    let number: Option<u64> = id.and_then(|id| id.as_str().parse().ok());
    let Some(id) = number.filter(|number| session.has_asked(*number)) else {
        return Err(Fault::new(
            ErrorCode::InvalidRequest,
            "this answers nothing that was asked in this session",
            "answer a request under the id that it came with",
        ));
    };
    // Late and doubled ones are taken and do nothing. A full mailbox is no reason to lose an answer.
    if let Some(actor) = session.actor_if_any() {
        actor.do_send(Answered { id, answer });
    }
    Ok(())
}

/// `DELETE /mcp`: ends a session.
pub fn delete(request: &HttpRequest, door: &Door) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    let ended = caller::admit(request, &door.frame, mcp::MCP).and_then(|caller| {
        if mcp::names_modern(&Mirrors::of(request.headers())) {
            let why = "there is nothing to DELETE in revisions without sessions";
            let fault = Fault::new(ErrorCode::MethodNotAllowed, why, "send every message as a POST");
            return Err(fault.with("allow", "POST"));
        }
        let view = view_of(request, &caller)?;
        let session = session_of(door, &caller, &view, &Mirrors::of(request.headers()))?;
        door.frame.house.sessions.end(&session);
        Ok(())
    });
    match ended {
        Ok(()) => HttpResponse::NoContent().finish(),
        Err(fault) => reply::rpc_error(None, &fault, "DELETE /mcp", &request_id),
    }
}

/// What a client of these revisions must take to be answered on a stream.
fn events_required(accepts: limits::Accepts) -> Result<(), Fault> {
    if accepts.events {
        return Ok(());
    }
    Err(Fault::new(
        ErrorCode::NotAcceptable,
        "this answers with an event stream, which the Accept header does not take",
        "send `Accept: text/event-stream`",
    ))
}
