//! One call of a session, in as many rounds as it needs: what the plugin asks is asked of the client, on the stream of
//! this call, and the call is made again with the answers.
//!
//! The bridge from input requests of 2026-07-28 to requests from server to client. Must not know how the call is run.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::route::{self, Routed};
use super::answers::{Request, no_actor};
use super::voice::Voice;
use crate::access::limits::Places;
use crate::actors::ask::{AskError, ask};
use crate::actors::executor::messages::{Asks, Done, Listener, Perform, Task};
use crate::actors::session::messages::{self, Asking, Forget};
use crate::actors::session::outbox::LaneNumber;
use crate::actors::session::{InFlight, SessionActor, SessionHandle};
use crate::error::{ErrorCode, Fault};
use crate::http::views::ANSWER_WITHIN;
use crate::protocol::legacy;
use crate::protocol::legacy::asks::{self, Ask};
use crate::protocol::legacy::handshake::Agreed;
use crate::protocol::modern::Meta;
use crate::protocol::{InputMethod, InputRequest, Method, Object, RpcError};

/// Rounds that one call may take.
const ROUNDS_MAX: usize = 32;
/// Between two rounds in which a plugin asks nothing but to be called again; it doubles each time, up to the other.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
const AGAIN_AFTER_MOST: Duration = Duration::from_secs(5);

/// One call of a session.
pub struct Conversation<'a> {
    request: &'a Request,
    agreed: &'a Agreed,
    voice: &'a Arc<Voice>,
    cancel: CancellationToken,
    /// Elicitations by URL whose end is yet to be told.
    elicitations: Vec<String>,
}

impl<'a> Conversation<'a> {
    /// Of this request.
    pub fn new(request: &'a Request, agreed: &'a Agreed, voice: &'a Arc<Voice>) -> Self {
        Self { request, agreed, voice, cancel: CancellationToken::new(), elicitations: Vec::new() }
    }

    /// Carries the call out; none when it was cancelled.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn run(mut self, method: Method, first: Task) -> Result<Option<Done>, Fault> {
        let _in_flight: InFlight = self.request.session.begin_call(&self.request.id, &self.cancel)?;
        // A plugin that asks knows its call; one that has taken its place meanwhile does not.
        let goal = first.goal();
        let mut task = first;
        let (mut given, mut state) = (Given::default(), None);
        let mut again_after = AGAIN_AFTER;
        for _ in 0..ROUNDS_MAX {
            let done = self.perform(task, given, state).await;
            if self.cancel.is_cancelled() {
                return Ok(None);
            }
            let mut done = done?;
            let Some(Asks { requests, state: sealed }) = done.asks.take() else {
                self.tell_elicitations_ended();
                return Ok(Some(done));
            };
            let cancel = self.cancel.clone();
            // Should this be the end, whatever behind the plugin waits for the answers is to hear of it now.
            let gives_up = cancel.clone().drop_guard();
            let answers = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(None),
                answers = self.ask_all(&requests, again_after) => answers?,
            };
            if requests.is_empty() {
                again_after = (again_after * 2).min(AGAIN_AFTER_MOST);
            }
            (given, state) = (answers, Some(sealed));
            let (house, view) = (&self.request.door.frame.house, self.request.session.view());
            task = match route::find(house, view, method, &self.request.params, None)? {
                Routed::Perform(task) => task.towards(&goal),
                Routed::Page(_) | Routed::Listen(_) => return Err(Fault::internal("a call became a list")),
            };
            drop(gives_up.disarm());
        }
        Err(Fault::internal(format!("a plugin asked its client {ROUNDS_MAX} times over in one call")))
    }

    async fn perform(&self, task: Task, given: Given, state: Option<String>) -> Result<Done, Fault> {
        let request = self.request;
        let meta = Meta::in_session(&request.params, self.agreed);
        let perform = Box::new(Perform {
            task,
            view: request.session.view().clone(),
            caller: request.caller.clone(),
            request_id: Arc::clone(&request.request_id),
            responses: given.responses,
            refusals: given.refusals,
            state,
            revision: self.agreed.revision,
            session: Some(Arc::clone(&request.session.label)),
            wants_progress: meta.progress_token()?.is_some(),
            client: meta.client,
            client_name: meta.client_name,
            trace: meta.trace.under(&request.span),
            foreign: request.params.foreign(),
            notices: Some(Arc::clone(self.voice) as Arc<dyn Listener>),
            log_level: request.session.log_level(),
            cancel: self.cancel.clone(),
            // The request has them, for all its rounds.
            places: Places::default(),
        });
        let _waits = request.door.part.waits();
        let begun = request.door.executor.send(perform).await;
        begun.map_err(|error| super::super::stream::lost(&error))?.end().await
    }

    /// Asks all of this at once and waits for all answers; with nothing to ask, waits a while.
    async fn ask_all(
        &mut self,
        requests: &[(String, InputRequest)],
        again_after: Duration,
    ) -> Result<Given, Fault> {
        if requests.is_empty() {
            sleep(again_after).await;
            return Ok(Given::default());
        }
        let asks: Vec<Ask> = requests
            .iter()
            .enumerate()
            .map(|(n, (_, request))| {
                Ask::new(request, self.agreed.revision, &format!("{}-{n}", self.request.request_id))
            })
            .collect();
        let Some(lane) = self.voice.lane() else { return Err(self.cannot_ask(&asks)) };
        let actor = self.request.session.actor(&self.request.door.frame.house.streams)?;
        let mut waiting = Vec::with_capacity(asks.len());
        for asked in &asks {
            let message = messages::Ask { lane, method: asked.method.name(), params: asked.params.clone() };
            let asking = ask(&actor, message, ANSWER_WITHIN).await.map_err(|error| match error {
                AskError::Reply(fault) => fault,
                error => no_actor(&error),
            })?;
            let session = Arc::clone(&self.request.session);
            waiting.push(Question { session, actor: actor.clone(), lane, asking, is_open: true });
        }
        let limit = Duration::from_secs(self.request.door.frame.house.bench.input_timeout_seconds);
        let answers = timeout(limit, join_all(waiting.iter_mut().map(Question::answered))).await;
        let answers = answers.map_err(|_elapsed| {
            Fault::new(
                ErrorCode::InputTimeout,
                format!("the client did not answer within {} s", limit.as_secs()),
                "call again and answer sooner, or have the operator raise mcp.input_timeout_seconds",
            )
        })?;
        let mut given = Given::default();
        for (((key, _), asked), answer) in requests.iter().zip(&asks).zip(answers) {
            let answer =
                answer.ok_or_else(|| no_actor(&"the session's actor crashed while its client was asked"))?;
            match asked.read(answer) {
                Ok(answer) => {
                    if asks::is_accepted(&answer) {
                        self.elicitations.extend(asked.elicitation.clone());
                    }
                    given.responses.set(key, answer);
                }
                Err(error) => given.refusals.push((key.clone(), error)),
            }
        }
        Ok(given)
    }

    /// Why a client cannot be asked that takes no stream, or has left.
    fn cannot_ask(&self, asks: &[Ask]) -> Fault {
        let only_urls = asks.iter().all(|ask| ask.method == InputMethod::ElicitUrl);
        if only_urls && self.agreed.revision.has_url_elicitation() {
            return asks::url_required(asks);
        }
        Fault::new(
            ErrorCode::InvalidRequest,
            "this call asks its client for something, which needs an event stream",
            "send `Accept: application/json, text/event-stream`",
        )
    }

    /// The plugin needs nothing more: what was to be done at a URL has been done.
    fn tell_elicitations_ended(&mut self) {
        for elicitation in self.elicitations.drain(..) {
            let mut params = Object::default();
            params.put("elicitationId", elicitation);
            self.voice.say(legacy::notification("notifications/elicitation/complete", &params));
        }
    }
}

/// What a client answered in one round.
#[derive(Default)]
struct Given {
    responses: Object,
    /// Errors, under the keys of the questions.
    refusals: Vec<(String, RpcError)>,
}

/// One question to the client; whoever stops waiting takes it back.
struct Question {
    session: Arc<SessionHandle>,
    actor: actix::Addr<SessionActor>,
    lane: LaneNumber,
    asking: Asking,
    is_open: bool,
}

impl Question {
    async fn answered(&mut self) -> Option<asks::Answer> {
        let answer = (&mut self.asking.answer).await.ok();
        self.is_open = answer.is_none();
        answer
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let mut params = Object::default();
        params.put("requestId", self.asking.id);
        params.put("reason", "nobody waits for the answer any more");
        let message = legacy::notification("notifications/cancelled", &params);
        // Said here and not by the actor: the lane ends as soon as the call does.
        self.session.outbox.put(self.lane, message, false);
        // Unbounded, but no more than what was asked through the bounded way.
        self.actor.do_send(Forget(self.asking.id));
    }
}
