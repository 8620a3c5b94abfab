//! HTTP+SSE, the transport of 2024-11-05: a stream that says where to POST, and on which everything is answered.
//!
//! MCP 2024-11-05, basic/transports#http-with-sse. The session lives as long as its stream; it knows no resumption.
//! Must not know what is answered.

use std::sync::Arc;

use actix_web::web::{Data, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use super::super::call::{Busy, Mirrors};
use super::super::door::Door;
use super::super::{caller, limits, mcp, reply};
use super::answers::{self, Request};
use super::voice::Voice;
use super::{answered, check_version, events_required, notice, session_unknown, streams};
use crate::access::Caller;
use crate::actors::session::SessionHandle;
use crate::actors::session::outbox::LaneKind;
use crate::error::{ErrorCode, Fault};
use crate::protocol::legacy::{self, handshake};
use crate::protocol::{Id, Message, Revision, render};
use crate::telemetry::metrics::METRICS;

/// The path that sessions of this transport are bound to.
const PATH: &str = "/sse";

/// `GET /sse`
pub async fn open(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    begin(&request, &door).unwrap_or_else(|fault| reply::rpc_error(None, &fault, "GET /sse", &request_id))
}

fn begin(request: &HttpRequest, door: &Door) -> Result<HttpResponse, Fault> {
    let caller = caller::admit(request, &door.frame)?;
    door.frame.house.phase.admits()?;
    events_required(limits::accepts(request.headers()))?;
    let session = door.frame.house.sessions.open(&caller, PATH)?;
    session.touch();
    let hold = session.outbox.open(LaneKind::Standing);
    let settled = session.only_lane.set(hold.lane).is_ok();
    if !settled || session.actor(&door.frame.house.streams).is_err() {
        door.frame.house.sessions.end(&session);
        return Err(Fault::new(ErrorCode::Unavailable, "the server stops", "retry when it is back"));
    }
    let url = format!("/messages?session_id={}", session.id);
    let ends = Ends { session: Arc::clone(&session), door: Arc::clone(&door.frame) };
    Ok(streams::respond_endpoint(session, hold, door.frame.limits.stream_keep_alive, &url, ends))
}

/// Ends the session when its one stream is gone.
pub struct Ends {
    session: Arc<SessionHandle>,
    door: Arc<super::super::door::Frame>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.door.house.sessions.end(&self.session);
    }
}

/// Which session a POST belongs to.
#[derive(Deserialize)]
pub struct Whose {
    session_id: String,
}

/// `POST /messages`
pub async fn post(
    request: HttpRequest,
    mut payload: Payload,
    door: Data<Door>,
    whose: Option<Query<Whose>>,
) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    let taken = match mcp::take(&request, &mut payload, &door, &request_id).await {
        Ok(taken) => taken,
        Err(fault) => {
            if fault.code != ErrorCode::BodyTimeout {
                limits::discard(&mut payload).await;
            }
            return reply::rpc_error(None, &fault, "POST /messages", &request_id);
        }
    };
    let (caller, body) = taken;
    let accepted = find(&request, &door, &caller, whose.as_deref())
        .and_then(|session| accept(&door, &caller, &request_id, &session, body));
    match accepted {
        Ok(()) => HttpResponse::Accepted().finish(),
        Err((id, fault)) => reply::rpc_error(id.as_ref(), &fault, "POST /messages", &request_id),
    }
}

type Refused = (Option<Id>, Fault);

fn find(
    request: &HttpRequest,
    door: &Door,
    caller: &Caller,
    whose: Option<&Whose>,
) -> Result<Arc<SessionHandle>, Refused> {
    let session = whose.and_then(|whose| door.frame.house.sessions.find(&whose.session_id, caller, PATH));
    let session = session.ok_or_else(|| (None, session_unknown()))?;
    check_version(&session, &Mirrors(request.headers())).map_err(|fault| (None, fault))?;
    session.touch();
    Ok(session)
}

/// Takes a message in; what answers it is said on the session's stream.
fn accept(
    door: &Data<Door>,
    caller: &Caller,
    request_id: &Arc<str>,
    session: &Arc<SessionHandle>,
    body: actix_web::web::Bytes,
) -> Result<(), Refused> {
    let Some(lane) = session.only_lane.get().copied() else { return Err((None, session_unknown())) };
    match Message::parse(body) {
        Err(malformed) => Err((malformed.id, malformed.fault)),
        Ok(Message::Batch(_)) => Err((
            None,
            Fault::new(ErrorCode::InvalidRequest, "the body is an array", "send one message a request"),
        )),
        Ok(Message::Notification { method, params }) => {
            notice(session, &method, &params);
            Ok(())
        }
        Ok(Message::Response { id, answer }) => {
            answered(session, id.as_ref(), answer).map_err(|fault| (id, fault))
        }
        Ok(Message::Request { id, method, params }) if method == "initialize" => {
            let agreed = handshake::read(&params).map_err(|fault| (Some(id.clone()), fault))?;
            let welcome = super::welcome(door, agreed.revision);
            let answer = if session.agree(agreed) {
                METRICS.requests.with_label_values(&["initialize", "ok"]).inc();
                legacy::result(&id, &welcome)
            } else {
                let fault = Fault::new(ErrorCode::InvalidRequest, "this session was initialized before", "open /sse anew");
                render::error(Some(&id), &fault, request_id)
            };
            session.outbox.put(lane, answer, false);
            Ok(())
        }
        Ok(Message::Request { id, method, params }) => {
            let revision = session.agreed().map_or(Revision::V20241105, |agreed| agreed.revision);
            let voice = Voice::on(Arc::clone(session), revision, params.progress_token(), lane);
            let request = Request {
                door: door.clone(),
                caller: caller.clone(),
                request_id: Arc::clone(request_id),
                session: Arc::clone(session),
                id,
                method,
                params,
            };
            let busy = Busy::begin();
            drop(actix_web::rt::spawn(async move {
                let _busy = busy;
                answers::answer(request, Arc::new(voice)).await
            }));
            Ok(())
        }
    }
}
