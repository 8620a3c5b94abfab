//! HTTP+SSE, the transport of 2024-11-05: a stream that says where to POST, and on which everything is answered.
//!
//! MCP 2024-11-05, basic/transports#http-with-sse. The session lives as long as its stream; it knows no resumption.
//! Must not know what is answered.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::header::HeaderMap;
use actix_web::web::{Bytes, Data, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use super::super::call::{Busy, Mirrors, view_of};
use super::super::door::Door;
use super::super::quotas::{self, Payer};
use super::super::{caller, limits, mcp, reply, spans};
use super::answers::{self, Request};
use super::voice::Voice;
use super::{answered, check_version, events_required, notice, session_unknown, streams};
use crate::access::Caller;
use crate::access::limits::Places;
use crate::actors::session::SessionHandle;
use crate::actors::session::outbox::{LaneKind, LaneNumber};
use crate::error::{ErrorCode, Fault};
use crate::protocol::legacy::{self, handshake};
use crate::protocol::modern::{self, Params};
use crate::protocol::{Id, Malformed, Message, Revision, render};
use crate::telemetry::metrics::METRICS;
use crate::telemetry::traces::Span;

/// The path that sessions of this transport are bound to.
const PATH: &str = "/sse";

/// `GET /sse`
pub async fn open(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    begin(&request, &door, &request_id)
        .unwrap_or_else(|fault| reply::rpc_error(None, &fault, "GET /sse", &request_id))
}

fn begin(request: &HttpRequest, door: &Door, request_id: &Arc<str>) -> Result<HttpResponse, Fault> {
    let caller = caller::admit(request, &door.frame, mcp::MCP)?;
    door.frame.house.phase.admits()?;
    events_required(limits::accepts(request.headers()))?;
    let view = view_of(request, &caller)?;
    let from = door.frame.quotas.origin(request, &door.frame, &caller);
    let payer =
        Payer { caller: &caller, from, view: &view, request_id, session: None, span: None, is_free: false };
    quotas::charge(&door.frame, &payer)?;
    let session = door.frame.house.sessions.open(&caller, PATH, &view)?;
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
    let taken = match mcp::take(&request, &mut payload, &door).await {
        Ok(taken) => taken,
        Err(fault) => {
            if fault.code != ErrorCode::BodyTimeout {
                limits::discard(&mut payload).await;
            }
            return reply::rpc_error(None, &fault, "POST /messages", &request_id);
        }
    };
    let (caller, body) = taken;
    let whose = whose.as_ref().map(|whose| whose.session_id.as_str()).unwrap_or_default();
    let accepted = find(&request, &door, &caller, whose).and_then(|session| {
        let address = door.frame.quotas.origin(&request, &door.frame, &caller);
        let from = From {
            door: &door,
            headers: request.headers(),
            caller: &caller,
            request_id: &request_id,
            session: &session,
            address,
        };
        from.accept(body)
    });
    match accepted {
        Ok(()) => HttpResponse::Accepted().finish(),
        Err(refused) => reply::rpc_error(refused.id.as_ref(), &refused.fault, "POST /messages", &request_id),
    }
}

fn refused(id: Option<Id>, fault: Fault) -> Box<Malformed> {
    Box::new(Malformed { fault, id })
}

fn find(
    request: &HttpRequest,
    door: &Door,
    caller: &Caller,
    id: &str,
) -> Result<Arc<SessionHandle>, Box<Malformed>> {
    let view = view_of(request, caller).map_err(|fault| refused(None, fault))?;
    let session = door.frame.house.sessions.find(id, caller, PATH, &view);
    let session = session.ok_or_else(|| refused(None, session_unknown()))?;
    check_version(&session, &Mirrors::of(request.headers())).map_err(|fault| refused(None, fault))?;
    session.touch();
    Ok(session)
}

/// Where a message comes from.
struct From<'a> {
    door: &'a Data<Door>,
    headers: &'a HeaderMap,
    caller: &'a Caller,
    request_id: &'a Arc<str>,
    session: &'a Arc<SessionHandle>,
    /// If limits ask for that.
    address: Option<IpAddr>,
}

impl From<'_> {
    /// Takes a message in; what answers it is said on the session's stream.
    fn accept(&self, body: Bytes) -> Result<(), Box<Malformed>> {
        let Some(lane) = self.session.only_lane.get().copied() else {
            return Err(refused(None, session_unknown()));
        };
        match Message::parse(body)? {
            Message::Batch(_) => Err(refused(
                None,
                Fault::new(ErrorCode::InvalidRequest, "the body is an array", "send one message a request"),
            )),
            Message::Notification { method, params } => {
                notice(self.session, &method, &params);
                Ok(())
            }
            Message::Response { id, answer } => {
                answered(self.session, id.as_ref(), answer).map_err(|fault| refused(id, fault))
            }
            Message::Request { id, method, params } => self.request(lane, id, method, params),
        }
    }

    /// Charges a request, and has it answered on the session's stream.
    fn request(
        &self,
        lane: LaneNumber,
        id: Id,
        method: String,
        params: Box<Params>,
    ) -> Result<(), Box<Malformed>> {
        let span = spans::begin(self.headers, (&id, self.request_id), &method, &params);
        let payer = Payer {
            caller: self.caller,
            from: self.address,
            view: self.session.view(),
            request_id: self.request_id,
            session: Some(&self.session.label),
            span: Some(&span),
            is_free: false,
        };
        match quotas::enter(&self.door.frame, &payer, &method, &params) {
            Err(fault) => {
                spans::refused(&span, &fault);
                let answer = answers::limited(&id, &method, &fault, self.request_id);
                self.session.outbox.put(lane, answer, false);
                Ok(())
            }
            Ok(_) if method == "initialize" => {
                let begun = self.initialize(lane, id, &params);
                match &begun {
                    Ok(()) => span.ended("ok"),
                    Err(malformed) => spans::refused(&span, &malformed.fault),
                }
                begun
            }
            Ok(places) => {
                self.answer(lane, (id, method, params), (places, span));
                Ok(())
            }
        }
    }

    fn initialize(&self, lane: LaneNumber, id: Id, params: &Params) -> Result<(), Box<Malformed>> {
        let agreed = handshake::read(params).map_err(|fault| refused(Some(id.clone()), fault))?;
        let welcome = super::welcome(self.door, self.session.view(), agreed.revision);
        let answer = if self.session.agree(agreed) {
            METRICS.requests.with_label_values(&["initialize", "ok"]).inc();
            legacy::result(&id, &welcome)
        } else {
            let why = "this session was initialized before";
            let fault = Fault::new(ErrorCode::InvalidRequest, why, "open /sse anew to begin another");
            render::error(Some(&id), &fault, self.request_id)
        };
        self.session.outbox.put(lane, answer, false);
        Ok(())
    }

    fn answer(
        &self,
        lane: LaneNumber,
        (id, method, params): (Id, String, Box<Params>),
        (places, span): (Places, Span),
    ) {
        let revision = self.session.agreed().map_or(Revision::V20241105, |agreed| agreed.revision);
        let voice = Voice::on(
            Arc::clone(self.session),
            revision,
            params.progress_token().map(modern::Member::raw),
            lane,
        );
        let request = Request {
            door: self.door.clone(),
            caller: self.caller.clone(),
            request_id: Arc::clone(self.request_id),
            session: Arc::clone(self.session),
            id,
            method,
            params,
            places,
            span,
        };
        // Dropped after the answer was said: the stream may end then, and the server stop.
        let guards = (self.session.begin_answer(), Busy::begin());
        drop(actix_web::rt::spawn(async move {
            let _guards = guards;
            answers::answer(request, Arc::new(voice)).await
        }));
    }
}
