//! Where each line of the client goes, and what comes back.
//!
//! Must not know where the lines come from, nor who serves.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::Manners;
use super::flights::{Flights, Kind};
use super::outlet::Outlet;
use super::session::{Session, Ticket};
use super::wire::{MESSAGE_MAX_BYTES, Reply, Way, Wire};
use crate::error::{ErrorCode, Fault};
use crate::protocol::modern::{self, Params};
use crate::protocol::sse::Events;
use crate::protocol::{Id, Message, Object, Raw, render};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Before a stream that ended is taken up again, where the server does not say how long.
const RESUME_AFTER: Duration = Duration::from_secs(1);
/// How long a message without an answer may take to be taken in.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// How long the end of a session may take to be told.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// One client at work.
pub struct Desk {
    wire: Wire,
    outlet: Outlet,
    manners: Manners,
    flights: Flights,
    session: Session,
    tasks: TaskTracker,
    refused: AtomicU64,
}

/// Where a stream was left.
#[derive(Default)]
struct Left {
    /// The last event that was seen.
    at: Option<HeaderValue>,
    /// How long to wait before it is taken up again.
    pause: Option<Duration>,
}

impl Desk {
    /// For a client that reads `outlet`; what it asks for becomes tasks of `tasks`.
    pub fn new(way: Box<dyn Way>, outlet: Outlet, manners: Manners, tasks: TaskTracker) -> Self {
        Self {
            wire: Wire::new(way, manners.silence),
            outlet,
            manners,
            flights: Flights::default(),
            session: Session::default(),
            tasks,
            refused: AtomicU64::new(0),
        }
    }

    /// Takes a line. It returns when the next one may be taken: requests go on by themselves, all else is over then, so
    /// that it arrives in the client's order.
    pub async fn take(self: &Rc<Self>, line: Bytes) {
        match Message::parse(line.clone()) {
            Err(malformed) => self.refuse(malformed.id.as_ref(), &malformed.fault).await,
            Ok(Message::Request { id, method, params }) => self.request(line, id, &method, &params).await,
            Ok(Message::Notification { method, params }) => self.notification(line, &method, &params).await,
            // In the stateless revision nothing is answered by a client, and one that answers is told nothing.
            Ok(Message::Response { .. }) => self.post(line).await,
            Ok(Message::Batch(whole)) => self.batch(line, &whole).await,
        }
    }

    /// Refuses a line that was too long to be kept.
    pub async fn refuse_length(&self) {
        let most = self.manners.line_max_bytes;
        let fault = Fault::new(
            ErrorCode::BodyTooLarge,
            format!("a line has more than {most} bytes, and was not read"),
            "send less, or have the operator raise server.body_max_bytes",
        );
        self.refuse(None, &fault).await;
    }

    async fn refuse(&self, id: Option<&Id>, fault: &Fault) {
        let number = self.refused.fetch_add(1, Ordering::Relaxed);
        let request_id = format!("stdio-{}-{number}", std::process::id());
        log::debug!(code = fault.code.name(), request_id = request_id.as_str(); "a line was refused: {fault}");
        self.outlet.say(&render::error(id, fault, &request_id)).await;
    }

    async fn request(self: &Rc<Self>, line: Bytes, id: Id, method: &str, params: &Params) {
        let alone = method == "server/discover" || modern::is_modern(params);
        let kind = match method {
            "subscriptions/listen" if alone => Kind::Listen,
            _ if alone => Kind::Alone,
            _ => Kind::InSession,
        };
        let ids = vec![id];
        let cancel = match self.flights.begin(&ids, kind) {
            Ok(cancel) => cancel,
            Err(fault) => return self.refuse(ids.first(), &fault).await,
        };
        if kind == Kind::InSession && method == "initialize" && self.session.ticket().is_none() {
            return self.initialize(line, ids).await;
        }
        if kind == Kind::InSession {
            self.session.note(method, params, &line);
        }
        self.begin(line, ids, kind, cancel);
    }

    /// Nothing that follows can be sent before its answer: what follows is in the session that it begins.
    async fn initialize(self: &Rc<Self>, line: Bytes, ids: Vec<Id>) {
        let sent = self.wire.send(Method::POST, HeaderMap::new(), line.clone()).await;
        let begun = match sent {
            Ok(reply) => self.session.begin(&line, reply).await,
            Err(fault) => Err(fault),
        };
        match begun {
            Ok(answer) => self.pass_answer(answer, &ids).await,
            Err(fault) => self.fail(&ids, &fault).await,
        }
    }

    async fn batch(self: &Rc<Self>, line: Bytes, whole: &Raw) {
        let items: Vec<&RawValue> = whole.read().unwrap_or_default();
        let (mut ids, mut kept): (Vec<Id>, Vec<&str>) = (Vec::new(), Vec::new());
        for item in &items {
            if let Ok(Message::Request { id, .. }) = Message::parse(whole.part(item).bytes().clone()) {
                if ids.iter().any(|other| other.as_str() == id.as_str()) {
                    self.refuse(Some(&id), &twice(&id)).await;
                    continue;
                }
                ids.push(id);
            }
            kept.push(item.get());
        }
        let is_whole = kept.len() == items.len();
        let line = if is_whole { line } else { Bytes::from(format!("[{}]", kept.join(","))) };
        match self.flights.begin(&ids, Kind::InSession) {
            Ok(cancel) => self.begin(line, ids, Kind::InSession, cancel),
            Err(fault) => self.refuse(None, &fault).await,
        }
    }

    /// Has requests carried out beside everything else.
    fn begin(self: &Rc<Self>, line: Bytes, ids: Vec<Id>, kind: Kind, cancel: CancellationToken) {
        let desk = Rc::clone(self);
        self.tasks.spawn_local(async move {
            let carried = async {
                match kind {
                    Kind::InSession => desk.carry_in_session(line, &ids).await,
                    Kind::Alone | Kind::Listen => desk.carry_alone(line, &ids).await,
                }
            };
            let ended = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                ended = carried => ended,
            };
            let fault = ended.err().unwrap_or_else(unanswered);
            desk.fail(&ids, &fault).await;
        });
    }

    async fn carry_alone(&self, line: Bytes, ids: &[Id]) -> Result<(), Fault> {
        let reply = self.wire.send(Method::POST, HeaderMap::new(), line).await?;
        self.pass_reply(reply, ids, &mut Left::default()).await
    }

    async fn carry_in_session(self: &Rc<Self>, line: Bytes, ids: &[Id]) -> Result<(), Fault> {
        let mut ticket = self.session.ticket();
        let mut left = Left::default();
        let mut reply = self.send(Method::POST, ticket.as_ref(), line.clone()).await?;
        if let Some(old) = ticket.as_ref().filter(|_| is_unknown_session(&reply)) {
            // It was not carried out, so that it can be sent again.
            let renewed = self.renew(old.number).await?;
            reply = self.send(Method::POST, Some(&renewed), line).await?;
            ticket = Some(renewed);
        }
        let mut passed = self.pass_reply(reply, ids, &mut left).await;
        // A stream that ended before its answer goes on elsewhere.
        while self.flights.has_any(ids)
            && let (Some(ticket), Some(at)) = (&ticket, left.at.clone())
        {
            tokio::time::sleep(left.pause.take().unwrap_or(RESUME_AFTER)).await;
            let reply = self.resume(ticket, Some(at)).await?;
            if reply.status != StatusCode::OK {
                return Err(passed.err().unwrap_or_else(unanswered));
            }
            passed = self.pass_reply(reply, ids, &mut left).await;
        }
        passed
    }

    async fn send(&self, method: Method, ticket: Option<&Ticket>, line: Bytes) -> Result<Reply, Fault> {
        self.wire.send(method, ticket.map(Ticket::headers).unwrap_or_default(), line).await
    }

    async fn resume(&self, ticket: &Ticket, at: Option<HeaderValue>) -> Result<Reply, Fault> {
        let mut headers = ticket.headers();
        headers.extend(at.map(|at| (LAST_EVENT_ID, at)));
        self.wire.send(Method::GET, headers, Bytes::new()).await
    }

    /// Passes on what a reply says, and notes where it was left.
    async fn pass_reply(&self, mut reply: Reply, ids: &[Id], left: &mut Left) -> Result<(), Fault> {
        if !reply.is_events() {
            let answer = reply.whole().await?;
            self.pass_answer(answer, ids).await;
            return Ok(());
        }
        let mut events = Events::new(MESSAGE_MAX_BYTES);
        while let Some(chunk) = reply.chunk().await? {
            events.push(&chunk);
            while let Some(event) = events.take().map_err(|error| Fault::internal(error.to_string()))? {
                left.at = event.id.and_then(|id| HeaderValue::from_str(&id).ok()).or(left.at.take());
                left.pause = event.retry_ms.map(Duration::from_millis).or(left.pause);
                if let Some(message) = event.data.filter(|data| !data.is_empty()) {
                    self.pass(message.into()).await;
                }
            }
        }
        Ok(())
    }

    /// Passes on an answer that is a whole body. What the server refused before it read any id answers all that was
    /// sent.
    async fn pass_answer(&self, answer: Bytes, ids: &[Id]) {
        if answer.is_empty() {
            return;
        }
        let nameless = matches!(Message::parse(answer.clone()), Ok(Message::Response { id: None, .. }));
        match Raw::parse(answer.clone()).and_then(|whole| Object::open(&whole)) {
            Ok(mut object) if nameless && !ids.is_empty() => {
                for id in ids {
                    object.set("id", id.raw().clone());
                    self.pass(object.to_raw().bytes().clone()).await;
                }
            }
            _ => self.pass(answer).await,
        }
    }

    /// Passes on one message of the server.
    async fn pass(&self, message: Bytes) {
        let ended = match Message::parse(message.clone()) {
            Ok(Message::Response { id: Some(id), .. }) => match self.flights.conclude(id.as_str()) {
                // It was cancelled, and nothing more is said of it.
                None => return,
                Some(kind) => (kind == Kind::Listen).then_some(id),
            },
            Ok(_) => None,
            Err(malformed) => {
                log::error!("the server said something that is no message: {}", malformed.fault);
                return;
            }
        };
        self.outlet.say(&message).await;
        if let Some(id) = ended {
            self.tell_cancelled(id.as_str()).await;
        }
    }

    /// Answers those that are still in flight with an error.
    async fn fail(&self, ids: &[Id], fault: &Fault) {
        for id in ids {
            let Some(kind) = self.flights.conclude(id.as_str()) else { continue };
            if let Some(cause) = &fault.cause {
                log::warn!("a request was not answered: {}: {cause}", fault.message);
            }
            self.refuse(Some(id), fault).await;
            if kind == Kind::Listen {
                self.tell_cancelled(id.as_str()).await;
            }
        }
    }

    /// The server's word that a listen has ended, which stdio alone has.
    async fn tell_cancelled(&self, id: &str) {
        let mut params = Object::default();
        params.set("requestId", Raw::trusted(id.to_owned()));
        self.outlet.say(&render::notification("notifications/cancelled", &params)).await;
    }

    async fn notification(self: &Rc<Self>, line: Bytes, method: &str, params: &Params) {
        if method == "notifications/cancelled" {
            let id = params.request_id().and_then(|id| Id::read(id.raw()));
            match id.and_then(|id| self.flights.cancel(id.as_str())) {
                Some(Kind::InSession) => {}
                _ => return,
            }
        }
        self.post(line.clone()).await;
        if method == "notifications/initialized"
            && let Some(ticket) = self.session.ticket()
        {
            self.session.initialized(&line);
            self.stand(ticket);
        }
    }

    /// Sends what wants no answer, in the session; outside of one nobody waits for it.
    async fn post(self: &Rc<Self>, line: Bytes) {
        let Some(ticket) = self.session.ticket() else { return };
        let sent = self.send(Method::POST, Some(&ticket), line);
        match tokio::time::timeout(TAKEN_WITHIN, sent).await {
            Ok(Ok(reply)) if reply.status.is_success() => {}
            // The next request begins the session anew where it was lost; to a new one, this says nothing.
            Ok(Ok(reply)) => log::debug!(status = reply.status.as_u16(); "a message was not taken"),
            Ok(Err(fault)) => log::debug!("a message was not taken: {fault}"),
            Err(_) => log::warn!("the server did not take a message within {} s", TAKEN_WITHIN.as_secs()),
        }
    }

    async fn renew(self: &Rc<Self>, number: u64) -> Result<Ticket, Fault> {
        let (ticket, stands) = self.session.renew(&self.wire, number).await?;
        if stands {
            self.stand(ticket.clone());
        }
        Ok(ticket)
    }

    /// Opens the session's stream for what belongs to no request.
    fn stand(self: &Rc<Self>, ticket: Ticket) {
        let desk = Rc::clone(self);
        let listening = tokio::task::spawn_local({
            let ticket = ticket.clone();
            async move {
                let ended = desk.listen(&ticket).await;
                if is_lost(&ended) {
                    // In a task of its own: the new session's stream takes the place of this one.
                    let renewing = Rc::clone(&desk);
                    desk.tasks.spawn_local(async move {
                        tokio::time::sleep(RESUME_AFTER).await;
                        if let Err(fault) = renewing.renew(ticket.number).await {
                            log::debug!("the session is gone until the next request: {fault}");
                        }
                    });
                }
            }
        });
        self.session.stand(AbortOnDropHandle::new(listening));
    }

    /// Passes on what the stream says until it cannot be had any more: the status of the refusal.
    async fn listen(&self, ticket: &Ticket) -> Result<StatusCode, Fault> {
        let (mut left, mut is_again) = (Left::default(), false);
        loop {
            let reply = self.resume(ticket, left.at.clone()).await?;
            match reply.status {
                StatusCode::OK => {
                    if std::mem::replace(&mut is_again, true)
                        && let Err(fault) = self.session.say_settings(&self.wire, ticket).await
                    {
                        log::debug!("the session's settings were not said again: {fault}");
                    }
                }
                // What it said meanwhile is lost; what it says from now on is not.
                StatusCode::BAD_REQUEST if left.at.is_some() => left.at = None,
                StatusCode::SERVICE_UNAVAILABLE => {}
                refused => return Ok(refused),
            }
            if let Err(fault) = self.pass_reply_of_stream(reply, &mut left).await {
                log::debug!("the session's stream broke: {fault}");
            }
            tokio::time::sleep(left.pause.take().unwrap_or(RESUME_AFTER)).await;
        }
    }

    async fn pass_reply_of_stream(&self, reply: Reply, left: &mut Left) -> Result<(), Fault> {
        if reply.is_events() {
            self.pass_reply(reply, &[], left).await
        } else {
            reply.whole().await.map(drop)
        }
    }

    /// Ends the listens, which would go on for ever, with their result.
    pub async fn end_listens(&self) {
        for id in self.flights.take(Some(Kind::Listen)) {
            let subscription = id.as_str();
            let meta = format!(r#"{{"io.modelcontextprotocol/subscriptionId":{subscription}}}"#);
            let end = format!(
                r#"{{"jsonrpc":"2.0","id":{subscription},"result":{{"resultType":"complete","_meta":{meta}}}}}"#
            );
            self.outlet.say(end.as_bytes()).await;
            self.tell_cancelled(subscription).await;
        }
    }

    /// Answers what did not end in time.
    pub async fn give_up(&self) {
        let fault = Fault::new(
            ErrorCode::Unavailable,
            "the request did not end before this process had to",
            "start the process again, and retry; whether the request had an effect is not known",
        );
        for id in self.flights.take(None) {
            self.refuse(Some(&id), &fault).await;
        }
    }

    /// Ends the session, so that the server need not wait for it.
    pub async fn end_session(&self) {
        if let Some(headers) = self.session.end() {
            let goodbye = self.wire.send(Method::DELETE, headers, Bytes::new());
            // A server that does not hear it forgets the session by itself.
            drop(tokio::time::timeout(GOODBYE_WITHIN, goodbye).await);
        }
    }
}

fn unanswered() -> Fault {
    Fault::new(
        ErrorCode::Unavailable,
        "the server ended before it answered",
        "retry; whether the request had an effect is not known",
    )
}

/// In a session, a request that is carried out is never answered by this status.
fn is_unknown_session(reply: &Reply) -> bool {
    reply.status == StatusCode::NOT_FOUND
}

fn is_lost(ended: &Result<StatusCode, Fault>) -> bool {
    matches!(ended, Ok(StatusCode::NOT_FOUND) | Err(_))
}

/// The second request of a batch under one id: its answer could not be told from the first one's.
fn twice(id: &Id) -> Fault {
    Fault::new(
        ErrorCode::InvalidRequest,
        format!("a request before this one in the batch has the id {}, too", id.as_str()),
        "give each request an id of its own",
    )
}
