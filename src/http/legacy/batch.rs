//! A batch: an array of messages in one POST, which revision 2025-03-26 alone knows.
//!
//! MCP 2025-03-26, basic/transports. Its requests run side by side, and their answers come one by one on one stream, or
//! together as an array. Must not know what is answered.

use std::sync::Arc;

use actix_web::HttpResponse;
use futures_util::future::join_all;
use serde_json::value::RawValue;

use super::super::call::Call;
use super::super::limits::Accepts;
use super::super::quotas::{self, Payer};
use super::super::{reply, spans};
use super::answers::{self, Request};
use super::voice::Voice;
use super::{answered, notice, session_of, streams};
use crate::actors::session::SessionHandle;
use crate::actors::session::outbox::LaneKind;
use crate::error::{ErrorCode, Fault};
use crate::protocol::modern::{self, Params};
use crate::protocol::{Id, Message, Raw, Revision, render};

/// Messages of one batch.
const BATCH_MAX: usize = 100;

/// Answers a batch.
///
/// # Errors
/// 400 outside sessions of 2025-03-26, for an empty or too large one, and for what is no batch.
pub async fn batch(call: &Call<'_>, accepts: Accepts, whole: &Raw) -> Result<HttpResponse, Fault> {
    let refuse = |why: String, advice: &'static str| Fault::new(ErrorCode::InvalidRequest, why, advice);
    let one = "send one message a request; batches ended with revision 2025-03-26";
    let session = session_of(&call.door, &call.caller, &call.view, &call.mirrors()).map_err(|fault| {
        if fault.code == ErrorCode::NotFound {
            fault
        } else {
            refuse("the body is not a JSON object".to_owned(), one)
        }
    })?;
    if !session.agreed().is_some_and(|agreed| agreed.revision.has_batches()) {
        return Err(refuse(
            "the body is an array, and this session's revision has no batches".to_owned(),
            one,
        ));
    }
    let items: Vec<&RawValue> = whole.read().map_err(|error| refuse(error.to_string(), one))?;
    if items.is_empty() || items.len() > BATCH_MAX {
        return Err(refuse(
            format!("the batch has {} messages", items.len()),
            "send between 1 and 100 messages in one batch",
        ));
    }
    let mut requests = Vec::new();
    let mut refused = Vec::new();
    for item in items {
        match Message::parse(whole.part(item).bytes().clone()) {
            Ok(Message::Request { id, method, params }) => {
                match enter(call, &session, (id, method, params)) {
                    Ok(request) => requests.push(request),
                    Err(answer) => refused.push(answer),
                }
            }
            Ok(Message::Notification { method, params }) => notice(&session, &method, &params),
            // An answer to nothing is no reason to refuse the rest.
            Ok(Message::Response { id, answer }) => drop(answered(&session, id.as_ref(), answer)),
            Ok(Message::Batch(_)) => {
                let fault = refuse("a batch stands in a batch".to_owned(), "send its messages themselves");
                refused.push(render::error(None, &fault, &call.request_id));
            }
            Err(malformed) => {
                refused.push(render::error(malformed.id.as_ref(), &malformed.fault, &call.request_id))
            }
        }
    }
    if requests.is_empty() && refused.is_empty() {
        return Ok(HttpResponse::Accepted().finish());
    }
    Ok(if accepts.events {
        on_a_stream(session, requests, refused, call)
    } else {
        as_an_array(session, requests, refused).await
    })
}

/// Charges one request of a batch; what is answered to it when a limit was reached.
fn enter(
    call: &Call<'_>,
    session: &Arc<SessionHandle>,
    (id, method, params): (Id, String, Box<Params>),
) -> Result<Request, Vec<u8>> {
    let request_id = call.door.frame.house.ids.next();
    let span = spans::begin(call.headers, (&id, &request_id), &method, &params);
    let label = Some(&session.label);
    let payer = Payer { session: label, request_id: &request_id, span: Some(&span), ..call.payer() };
    let places = quotas::enter(&call.door.frame, &payer, &method, &params).map_err(|fault| {
        spans::refused(&span, &fault);
        answers::limited(&id, &method, &fault, &request_id)
    })?;
    Ok(Request {
        door: call.door.clone(),
        caller: call.caller.clone(),
        request_id,
        session: Arc::clone(session),
        id,
        method,
        params,
        places,
        span,
    })
}

fn on_a_stream(
    session: Arc<SessionHandle>,
    requests: Vec<Request>,
    refused: Vec<Vec<u8>>,
    call: &Call<'_>,
) -> HttpResponse {
    let hold = session.outbox.open(LaneKind::Reply);
    for refusal in refused {
        session.outbox.put(hold.lane, refusal, false);
    }
    let talks: Vec<_> = requests
        .into_iter()
        .map(|request| {
            let token = request.params.progress_token().map(modern::Member::raw);
            let voice = Voice::on(Arc::clone(&session), Revision::V20250326, token, hold.lane);
            answers::answer(request, Arc::new(voice))
        })
        .collect();
    let ends = Arc::clone(&session);
    drop(actix_web::rt::spawn(async move {
        join_all(talks).await;
        ends.outbox.end(hold.lane);
    }));
    streams::respond(session, hold, call.door.frame.limits.stream_keep_alive, true)
}

async fn as_an_array(
    session: Arc<SessionHandle>,
    requests: Vec<Request>,
    refused: Vec<Vec<u8>>,
) -> HttpResponse {
    let talks = requests.into_iter().map(|request| {
        let voice = Voice::new(Arc::clone(&session), Revision::V20250326, None, false);
        answers::answer(request, Arc::new(voice))
    });
    // In a task of its own: a client that leaves does not cancel what it asked for.
    let all = actix_web::rt::spawn(join_all(talks.collect::<Vec<_>>())).await.unwrap_or_default();
    let answers: Vec<Vec<u8>> = refused.into_iter().chain(all.into_iter().flatten()).collect();
    if answers.is_empty() {
        return HttpResponse::Accepted().finish();
    }
    let mut body = b"[".to_vec();
    body.extend_from_slice(&answers.join(&b','));
    body.push(b']');
    reply::json(body)
}
