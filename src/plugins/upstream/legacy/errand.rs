//! One call in work: its flow is read, what is said meanwhile goes to whoever waits for it, what is asked is gathered.
//!
//! An errand outlives the request that began it when the server asks for input: it is parked, and the request with the
//! answers goes on with it. Whoever drops one that is not over has given it up: the server is told so.
//! Must not know where errands are parked, nor which session they should be in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::pool::Lease;
use super::session::Session;
use super::strays::{self, INTERNAL};
use super::words::{self, Call};
use crate::plugins::upstream::compose::{self, Era, Wishes};
use crate::plugins::upstream::exchange::{METHOD_NOT_FOUND, is_mine, veiled};
use crate::plugins::upstream::link::{Flow, LinkError, Outgoing};
use crate::plugins::upstream::spans;
use crate::plugins::{Context, Hop};
use crate::protocol::modern::Foreign;
use crate::protocol::{
    Answers, ClientCapabilities, Incoming, InputMethod, InputRequest, Object, Raw, RpcError,
};
use crate::telemetry::traces::Span;

/// How long further asks are waited for after the first, so that the client gets them in one round.
const GATHER: Duration = Duration::from_millis(50);
/// Open asks of one call.
const ASKS_MAX: usize = 16;
/// JSON-RPC's code for parameters that do not fit.
const INVALID_PARAMS: i64 = -32602;
/// What a server reads when its call is given up.
const NOT_WANTED: &str = "the client does not wait for the answer any more";

/// What a call came to.
#[derive(Debug)]
pub enum Step {
    /// The server answered.
    Done(Result<Raw, RpcError>),
    /// The link did not carry.
    Failed(LinkError),
    /// The server waits for answers: see [`Errand::open_asks`].
    Asks,
}

/// A call in work.
pub struct Errand {
    session: Arc<Session>,
    lease: Option<Lease>,
    id: u64,
    /// Its method, and of what.
    said: (&'static str, Arc<str>),
    channel: Channel,
    inbox: mpsc::Receiver<Incoming>,
    client: ClientCapabilities,
    may_ask: bool,
    asks: Vec<Asked>,
    asked: u64,
    /// When what was asked so far is shown.
    gathered: Option<Instant>,
    /// What it came to while nobody waited for it.
    came_to: Option<Step>,
    /// Whether the server said anything, so that it may have begun.
    heard: bool,
    /// Whether there is nothing more to come or to be told.
    over: bool,
    refused_shared: bool,
    trip: Option<Trip>,
}

enum Channel {
    /// The request is on its way: over HTTP that lasts until the server begins to answer.
    Opening(BoxFuture<'static, Result<Flow, LinkError>>),
    Open(Flow),
    Closed,
}

/// One thing that the server asked.
struct Asked {
    key: String,
    id: Raw,
    request: InputRequest,
}

/// What one round did behind the plugin; noted when it ends, however it ends.
struct Trip {
    context: Context,
    instance: Arc<str>,
    began: Instant,
    bytes_out: u64,
    bytes_in: u64,
    span: Span,
}

impl Trip {
    fn begin(context: &Context, session: &Session, said: &(&'static str, Arc<str>)) -> Self {
        let (method, name) = said;
        let span = spans::begin(method, Some(name), context);
        spans::goes_to(&span, session.name(), session.handshake().revision.name(), &**session.link());
        let instance = Arc::clone(session.name());
        Self { context: context.clone(), instance, began: Instant::now(), bytes_out: 0, bytes_in: 0, span }
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        // Whoever calls in a session of its own speaks the server's kind of revision; all others were translated.
        let bridged = self.context.conversation().is_none().then_some("modern-legacy");
        self.context.hopped(Hop {
            instance: Some(Arc::clone(&self.instance)),
            upstream: self.began.elapsed(),
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            bridged,
        });
    }
}

impl Errand {
    /// Begins `call` in this session; `lease` keeps its place there.
    pub fn begin(session: Arc<Session>, lease: Option<Lease>, call: &Call, context: &Context) -> Self {
        let (id, inbox) = session.enter(call.may_ask && !session.is_shared());
        let foreign = context.foreign();
        let said = (call.method, Arc::clone(&call.name));
        let mut trip = Trip::begin(context, &session, &said);
        let trace = spans::onward(&trip.span, context);
        let wishes = Wishes { progress: context.wants_progress(), level: None, trace: Some(&trace), foreign };
        let mut members: Vec<(&str, &str)> =
            call.members.iter().map(|(key, json)| (*key, json.as_str())).collect();
        members.extend(foreign.into_iter().flat_map(Foreign::members));
        let body = compose::request(id, call.method, Era::Legacy, &wishes, &members);
        trip.bytes_out = size(body.len());
        let version = session.handshake().header();
        let name = Some(Arc::clone(&call.name));
        let asked = Outgoing { id, body, method: call.method, name, params: Vec::new(), version };
        Self {
            channel: Channel::Opening(session.link().ask(asked)),
            session,
            lease,
            id,
            said,
            inbox,
            client: context.client().clone(),
            may_ask: call.may_ask,
            asks: Vec::new(),
            asked: 0,
            gathered: None,
            came_to: None,
            heard: false,
            over: false,
            refused_shared: false,
            trip: Some(trip),
        }
    }

    /// Which session it is in.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Whether the server said anything to it.
    pub fn was_heard(&self) -> bool {
        self.heard
    }

    /// Whether the server asked on a session where no client can be asked.
    pub fn was_refused(&self) -> bool {
        self.refused_shared
    }

    /// What the server asked and was not answered yet.
    pub fn open_asks(&self) -> Vec<(String, InputRequest)> {
        self.asks.iter().map(|asked| (asked.key.clone(), asked.request.clone())).collect()
    }

    /// Nobody waits for it now: it is parked.
    pub fn detach(&mut self) {
        self.trip = None;
        self.session.park(self.id, true);
    }

    /// Somebody waits for it again.
    pub fn attach(&mut self, context: &Context) {
        self.session.park(self.id, false);
        self.trip = Some(Trip::begin(context, &self.session, &self.said));
    }

    /// Keeps what it came to for whoever comes back.
    pub fn keep(&mut self, step: Step) {
        self.came_to = Some(step);
    }

    /// Whether it came to something that is kept.
    pub fn has_come_to(&self) -> bool {
        self.came_to.is_some()
    }

    /// Goes on until the server answered or waits for answers. May be dropped and called again at any time.
    pub async fn drive(&mut self, context: Option<&Context>) -> Step {
        if let Some(step) = self.came_to.take() {
            self.tell_span(&step);
            return step;
        }
        loop {
            let gathered = self.gathered;
            let step = tokio::select! {
                biased;
                message = self.channel.next() => match message {
                    Some(Ok(message)) => self.take(message, context),
                    Some(Err(error)) => Some(Step::Failed(error)),
                    None => {
                        let why = "it closed the connection before its answer";
                        Some(Step::Failed(LinkError::Broken(why.to_owned())))
                    }
                },
                Some(stray) = self.inbox.recv() => self.take(stray, context),
                () = at(gathered) => {
                    self.gathered = None;
                    self.tell_span(&Step::Asks);
                    return Step::Asks;
                }
            };
            let Some(step) = step else { continue };
            self.tell_span(&step);
            self.over = true;
            self.channel = Channel::Closed;
            self.session.leave(self.id);
            if let Step::Failed(error) = &step {
                self.session.learn(error);
            }
            return step;
        }
    }

    /// Says in the trace what this round came to.
    fn tell_span(&self, step: &Step) {
        let Some(Trip { span, .. }) = &self.trip else { return };
        match step {
            Step::Done(Ok(result)) => spans::answered(span, result),
            Step::Done(Err(error)) => span.refused(error.code, "refused"),
            Step::Failed(error) => spans::broke(span, error),
            Step::Asks => span.ended("input_required"),
        }
    }

    /// Tells the server the client's answers, errors among them. What the client left out, or answered in a shape that is
    /// none, stays open and is asked again.
    ///
    /// # Errors
    /// When the server cannot be told.
    pub async fn answer(&mut self, answers: &Answers) -> Result<(), LinkError> {
        let revision = self.session.handshake().revision;
        let mut told = Vec::new();
        self.asks.retain(|asked| {
            if let Some((_, error)) = answers.refusals().iter().find(|(key, _)| *key == asked.key) {
                told.push(compose::refusal(&asked.id, error.code, &error.message));
                return false;
            }
            let answer = answers
                .responses()
                .get(&asked.key)
                .map(|raw| words::answer_to(&asked.request, raw, revision));
            let Some(Ok(answer)) = answer else { return true };
            told.push(compose::answer(&asked.id, &answer));
            false
        });
        for message in told {
            if let Some(trip) = &mut self.trip {
                trip.bytes_out = trip.bytes_out.saturating_add(size(message.len()));
            }
            self.session.tell(message).await?;
        }
        self.gathered = (!self.asks.is_empty()).then(|| Instant::now() + GATHER);
        Ok(())
    }

    /// Gives it up, and returns when the server was told.
    pub async fn give_up(mut self, why: &str) {
        if let Some(farewell) = self.farewell(why) {
            farewell.await;
        }
    }

    /// What is to be told and let go when it is given up; nothing when it is over.
    fn farewell(&mut self, why: &str) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.session.leave(self.id);
        if std::mem::replace(&mut self.over, true) || self.session.is_over() {
            return None;
        }
        let mut messages: Vec<Bytes> = self.asks.drain(..).map(|asked| asked.dismissed()).collect();
        messages.push(compose::cancelled(self.id, why));
        let session = Arc::clone(&self.session);
        let kept = (self.lease.take(), std::mem::replace(&mut self.channel, Channel::Closed));
        Some(async move {
            for message in messages {
                if let Err(error) = session.tell(message).await {
                    log::debug!("{} was not told that a call is given up: {error}", session.name());
                    break;
                }
            }
            // The end of a flow tells a server with sessions nothing, so it comes last.
            drop(kept);
        })
    }

    /// Takes in one message, from its own flow or meant for it.
    fn take(&mut self, message: Incoming, context: Option<&Context>) -> Option<Step> {
        self.heard = true;
        if let Some(trip) = &mut self.trip {
            trip.bytes_in = trip.bytes_in.saturating_add(size_of(&message));
        }
        match message {
            Incoming::Response { id, outcome } if is_mine(id.as_ref(), self.id, &outcome) => {
                let veil = |error| veiled(&**self.session.link(), error);
                return Some(Step::Done(outcome.map_err(veil)));
            }
            Incoming::Response { .. } => {
                self.session.tally().ignored.fetch_add(1, Ordering::Relaxed);
            }
            Incoming::Request { id, method, params } if strays::is_ask(&method) => {
                self.take_ask(id, &method, params.as_ref());
            }
            Incoming::Request { id, method, .. } => strays::answer(&self.session, &id, &method),
            Incoming::Notification { method, params } => {
                self.take_notice(&method, params.as_ref(), context);
            }
        }
        None
    }

    fn take_notice(&mut self, method: &str, params: Option<&Raw>, context: Option<&Context>) {
        let members = || params.and_then(|params| Object::open(params).ok());
        match (method, context) {
            ("notifications/progress", Some(context)) => {
                params.and_then(|params| progress(&members()?, params, context));
            }
            ("notifications/message", Some(context)) => {
                params.and_then(|params| log(&members()?, params, context));
            }
            // Nobody waits for it now.
            ("notifications/progress" | "notifications/message", None) => {}
            ("notifications/cancelled", _) => {
                if let Some(said) = members() {
                    self.withdraw(&said);
                }
            }
            _ => strays::note(&self.session, method, params),
        }
    }

    fn take_ask(&mut self, id: Raw, method: &str, params: Option<&Raw>) {
        if self.session.is_shared() {
            self.refused_shared = true;
            return strays::refuse_shared(&self.session, &id);
        }
        let refusal = match words::ask_of(method, params) {
            _ if !self.may_ask => Some((INTERNAL, "a client can only be asked in a tool, prompt or read")),
            _ if self.asks.len() >= ASKS_MAX => Some((INTERNAL, "too many requests of this call are open")),
            None => Some((INVALID_PARAMS, "that is not what this request may ask")),
            Some((request, _)) => match self.client.missing_for(&request) {
                None => {
                    self.asked = self.asked.saturating_add(1);
                    let key = format!("ask-{}", self.asked);
                    self.asks.push(Asked { key, id: id.detached(), request });
                    self.gathered.get_or_insert_with(|| Instant::now() + GATHER);
                    None
                }
                Some(_) if self.knows(method) => {
                    Some((INVALID_PARAMS, "the client did not declare that it can be asked in this way"))
                }
                Some(_) => Some((METHOD_NOT_FOUND, "the client did not declare that it can be asked this")),
            },
        };
        if let Some((code, why)) = refusal {
            self.session.tally().refused.fetch_add(1, Ordering::Relaxed);
            self.session.say(compose::refusal(&id, code, why));
        }
    }

    /// Whether the client answers `method` in some way.
    fn knows(&self, method: &str) -> bool {
        match method {
            "elicitation/create" => self.client.elicitation_form || self.client.elicitation_url,
            "sampling/createMessage" => self.client.sampling,
            _ => self.client.roots,
        }
    }

    /// The server does not want an answer any more.
    fn withdraw(&mut self, said: &Object) {
        if let Some(id) = said.get("requestId") {
            self.asks.retain(|asked| asked.id != *id);
        }
        if self.asks.is_empty() {
            self.gathered = None;
        }
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        if let Some(farewell) = self.farewell(NOT_WANTED) {
            self.session.runtime().spawn(farewell);
        }
    }
}

impl Channel {
    async fn next(&mut self) -> Option<Result<Incoming, LinkError>> {
        if let Self::Opening(opening) = self {
            match opening.await {
                Ok(flow) => *self = Self::Open(flow),
                Err(error) => {
                    *self = Self::Closed;
                    return Some(Err(error));
                }
            }
        }
        match self {
            Self::Open(flow) => flow.next().await,
            Self::Opening(_) | Self::Closed => None,
        }
    }
}

impl Asked {
    /// What the server is told when nobody will answer.
    fn dismissed(&self) -> Bytes {
        match self.request.method {
            InputMethod::ElicitForm | InputMethod::ElicitUrl => {
                compose::answer(&self.id, &Raw::trusted(r#"{"action":"cancel"}"#))
            }
            InputMethod::Sampling | InputMethod::Roots => {
                compose::refusal(&self.id, INTERNAL, "the client did not answer")
            }
        }
    }
}

fn progress(said: &Object, params: &Raw, context: &Context) -> Option<()> {
    context.relay_progress(said.get("progress")?.read().ok()?, params.clone());
    Some(())
}

fn log(said: &Object, params: &Raw, context: &Context) -> Option<()> {
    context.relay_log(said.get("level")?.read().ok()?, params.clone());
    Some(())
}

/// Rests until then; for ever without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn size_of(message: &Incoming) -> u64 {
    let length = |raw: &Raw| size(raw.as_str().len());
    match message {
        Incoming::Response { outcome: Ok(result), .. } => length(result),
        Incoming::Response { outcome: Err(error), .. } => size(error.size()),
        Incoming::Notification { params, .. } | Incoming::Request { params, .. } => {
            params.as_ref().map_or(0, length)
        }
    }
}

fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
