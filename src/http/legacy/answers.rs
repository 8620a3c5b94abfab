//! From a request of a session to its answer, method by method.
//!
//! MCP 2024-11-05 to 2025-11-25. Must not know how the answer travels.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use actix_web::web::Data;
use futures_util::FutureExt as _;
use serde_json::Value;

use super::super::call::Busy;
use super::super::door::Door;
use super::super::route::{self, Routed};
use super::super::{listen, reply, spans, tally};
use super::conversation::Conversation;
use super::voice::Voice;
use crate::access::Caller;
use crate::access::limits::Places;
use crate::actors::ask::ask;
use crate::actors::executor::messages::Done;
use crate::actors::session::SessionHandle;
use crate::actors::session::messages::{Subscribe, Unsubscribe};
use crate::actors::supervision::message_of;
use crate::error::{ErrorCode, Fault};
use crate::http::views::ANSWER_WITHIN;
use crate::protocol::content::ToolResult;
use crate::protocol::legacy::convert;
use crate::protocol::legacy::handshake::Agreed;
use crate::protocol::legacy::{self};
use crate::protocol::modern::Params;
use crate::protocol::{Id, Method, Raw, render};
use crate::telemetry::metrics::METRICS;
use crate::telemetry::traces::Span;

/// One request of a session, with all that is needed to answer it wherever it is carried on.
pub struct Request {
    /// What the worker has at hand.
    pub door: Data<Door>,
    /// Who calls.
    pub caller: Caller,
    /// This request, in errors, logs and history.
    pub request_id: Arc<str>,
    /// Whose it is.
    pub session: Arc<SessionHandle>,
    /// To be repeated in the answer.
    pub id: Id,
    /// What to do.
    pub method: String,
    /// With what.
    pub params: Box<Params>,
    /// Its places with all whose calls are limited, held until it is answered.
    pub places: Places,
    /// Its place in the trace that it is part of.
    pub span: Span,
}

/// What answers a request.
enum Answer {
    /// A result that is ready.
    Result(Raw),
    /// The outcome of a call.
    Done(Method, Done),
    /// None: it was cancelled.
    Nothing,
}

/// Answers a request: the message, or nothing when it was cancelled or said on the voice's lane already.
pub async fn answer(mut request: Request, voice: Arc<Voice>) -> Option<Vec<u8>> {
    let _places = std::mem::take(&mut request.places);
    let _busy = Busy::begin();
    let began = Instant::now();
    let method = Method::parse(&request.method);
    let answered = AssertUnwindSafe(carry_out(&request, method, &voice)).catch_unwind().await;
    let answered = answered.unwrap_or_else(|panic| {
        Err(Fault::internal(format!("a handler panicked: {}", message_of(panic.as_ref()))))
    });
    let message = match answered.and_then(|answer| word(&request, answer)) {
        Ok(message) => message,
        Err(fault) => Some(refuse(&request, method, fault)),
    };
    if let Some(method) = method {
        tally::took(method, began.elapsed());
    }
    voice.conclude(message)
}

fn word(request: &Request, answer: Answer) -> Result<Option<Vec<u8>>, Fault> {
    Ok(match answer {
        Answer::Nothing => None,
        Answer::Result(result) => {
            // Only methods that there are have results.
            METRICS.requests.with_label_values(&[request.method.as_str(), "ok"]).inc();
            request.span.ended("ok");
            Some(legacy::result(&request.id, &result))
        }
        Answer::Done(method, done) => {
            tally::ended(method, done.outcome);
            request.span.ended(done.outcome);
            let agreed = agreed(request)?;
            let answer = convert::answer(&request.id, method, &done.result, agreed.revision);
            Some(answer.map_err(|error| Fault::internal(error.to_string()))?)
        }
    })
}

/// The answer to a request of a session that a limit refuses: whoever waits for it in the session finds it there.
pub fn limited(id: &Id, method: &str, fault: &Fault, request_id: &str) -> Vec<u8> {
    note(Method::parse(method), fault, request_id);
    render::error(Some(id), fault, request_id)
}

fn note(method: Option<Method>, fault: &Fault, request_id: &str) {
    let known = method.map_or("unknown", Method::name);
    METRICS.requests.with_label_values(&[known, fault.code.name()]).inc();
    reply::note(fault, known, request_id);
}

fn refuse(request: &Request, method: Option<Method>, fault: Fault) -> Vec<u8> {
    note(method, &fault, &request.request_id);
    spans::refused(&request.span, &fault);
    // A tool that needs what the client cannot do has failed: a model can read that, and try another way.
    if fault.code == ErrorCode::MissingCapability && method == Some(Method::ToolsCall) {
        let says =
            format!("{}: {}", fault.message, fault.detail("requiredCapabilities").unwrap_or(&Value::Null));
        return legacy::result(&request.id, &ToolResult::failed(says).into_raw());
    }
    render::error(Some(&request.id), &legacy::fault(fault), &request.request_id)
}

fn agreed(request: &Request) -> Result<&Agreed, Fault> {
    request.session.agreed().ok_or_else(|| {
        Fault::new(ErrorCode::InvalidRequest, "the session is not initialized", "send `initialize` first")
    })
}

async fn carry_out(request: &Request, method: Option<Method>, voice: &Arc<Voice>) -> Result<Answer, Fault> {
    let agreed = match (request.method.as_str(), agreed(request)) {
        ("ping", _) => return Ok(Answer::Result(Raw::trusted("{}"))),
        (_, agreed) => agreed?,
    };
    if request.span.is_collected() {
        request.span.say("mcp.protocol.version", agreed.revision.name());
        request.span.say("mcp.session.id", request.session.label.to_string());
    }
    match (request.method.as_str(), method) {
        ("logging/setLevel", _) => set_level(request),
        ("resources/subscribe", _) => subscribe(request).await,
        ("resources/unsubscribe", _) => unsubscribe(request).await,
        ("initialize", _) => Err(Fault::new(
            ErrorCode::InvalidRequest,
            "this session was initialized before",
            "begin a new session",
        )),
        (_, Some(method)) if !matches!(method, Method::Discover | Method::Listen) => {
            let house = &request.door.frame.house;
            match route::find(house, request.session.view(), method, &request.params, None)? {
                Routed::Page(page) => {
                    let result = page.within(method, agreed.revision);
                    result.map(Answer::Result).map_err(|error| Fault::internal(error.to_string()))
                }
                Routed::Perform(task) => {
                    spans::about(&request.span, &task);
                    let done = Conversation::new(request, agreed, voice).run(method, task).await?;
                    Ok(done.map_or(Answer::Nothing, |done| Answer::Done(method, done)))
                }
                Routed::Listen(_) => Err(unknown(request, agreed)),
            }
        }
        _ => Err(unknown(request, agreed)),
    }
}

fn unknown(request: &Request, agreed: &Agreed) -> Fault {
    Fault::new(
        ErrorCode::MethodNotFound,
        format!("there is no method {:?} in revision {}", request.method, agreed.revision.name()),
        "see what `initialize` says is served",
    )
}

fn set_level(request: &Request) -> Result<Answer, Fault> {
    let level = request.params.level().and_then(|level| level.read().ok());
    let level = level.ok_or_else(|| {
        Fault::invalid_params(
            "`level` is no log level",
            "use one of: debug, info, notice, warning, error, critical, alert, emergency",
        )
    })?;
    request.session.set_log_level(level);
    request.door.frame.house.sessions.note_change(&request.session);
    Ok(Answer::Result(Raw::trusted("{}")))
}

fn uri(request: &Request) -> Result<Arc<str>, Fault> {
    let uri: Option<String> = request.params.uri().and_then(|uri| uri.read().ok());
    uri.map(Arc::from)
        .ok_or_else(|| Fault::invalid_params("`uri` is missing or not a string", "send `uri` as a string"))
}

async fn subscribe(request: &Request) -> Result<Answer, Fault> {
    let uri = uri(request)?;
    let house = &request.door.frame.house;
    let view = request.session.view();
    let known = house.shelf.view(view).is_some_and(|catalog| house.shelf.owner(&catalog, &uri).is_some());
    if !known {
        return Err(Fault::invalid_params(format!("there is no resource {uri:?}"), "list the resources")
            .with("uri", &*uri));
    }
    let most = request.door.frame.limits.subscriptions_max;
    let watching = listen::watch(house, view, std::slice::from_ref(&uri)).await.pop().ok_or_else(|| {
        Fault::invalid_params(
            format!("changes of {uri:?} cannot be told: its plugin does not watch it"),
            "read it again when it may have changed",
        )
    })?;
    let actor = request.session.actor(&house.streams)?;
    match ask(&actor, Subscribe { watching, most }, ANSWER_WITHIN).await {
        Ok(()) => {
            house.sessions.note_change(&request.session);
            Ok(Answer::Result(Raw::trusted("{}")))
        }
        Err(crate::actors::ask::AskError::Reply(fault)) => Err(fault),
        Err(error) => Err(no_actor(&error)),
    }
}

async fn unsubscribe(request: &Request) -> Result<Answer, Fault> {
    let uri = uri(request)?;
    // It may be one of a server before this one, which nobody watches yet.
    request.session.note_watch(&uri, false);
    request.door.frame.house.sessions.note_change(&request.session);
    if let Some(actor) = request.session.actor_if_any() {
        ask(&actor, Unsubscribe(uri), ANSWER_WITHIN).await.map_err(|error| no_actor(&error))?;
    }
    Ok(Answer::Result(Raw::trusted("{}")))
}

/// The session's actor crashed over this, or did not answer in time.
pub fn no_actor(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(ErrorCode::Unavailable, "the session could not do this now", "retry after a moment")
        .because(error)
}
