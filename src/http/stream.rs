//! A call's answer on the wire: JSON when nothing is said before it, an event stream from the first notice on.
//!
//! Closing the connection cancels the call. Must not know what the call does.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix::MailboxError;
use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::call::{Asked, Busy, Call};
use super::limits::Accepts;
use super::{answer, notices, reply, spans, tally};
use crate::access::limits::Places;
use crate::actors::executor::CommandExecutor;
use crate::actors::executor::messages::{Done, Listener, Notice, Perform, Task};
use crate::actors::supervision::Waits;
use crate::error::{ErrorCode, Fault};
use crate::protocol::modern::{Meta, Params};
use crate::protocol::{Id, Method, Raw, Revision, render};
use crate::telemetry::traces::Span;

/// Notices that may wait for a slow reader; beyond, progress and log lines are lost.
const NOTICES_MAX: usize = 256;

type Answer = Pin<Box<dyn Future<Output = Result<Done, Fault>>>>;

/// A call that the executor has.
pub struct Performing {
    sent: Sent,
    waits: Waits,
    method: Method,
    /// Where it may speak before its end, and with which token.
    speech: Option<(mpsc::Receiver<Notice>, Option<Raw>)>,
    guard: DropGuard,
}

/// The executor's word that it has begun.
type Sent = actix::dev::Request<CommandExecutor, Box<Perform>>;

/// Has a task carried out. What it takes for this is let go of before anything is awaited: the rest of a call, of which many
/// lie about at once, stays small.
///
/// # Errors
/// What of the request's metadata or answers cannot be read.
pub fn perform(
    call: &Call<'_>,
    asked: &Asked,
    params: &Params,
    meta: Meta,
    (task, places): (Task, Places),
) -> Result<Performing, Fault> {
    let token = meta.progress_token()?.cloned();
    let log_level = meta.log_level()?;
    let wants = asked.accepts.events && (token.is_some() || log_level.is_some());
    let (sender, notices) = if wants { Some(mpsc::channel(NOTICES_MAX)).unzip() } else { (None, None) };
    let cancel = CancellationToken::new();
    let guard = cancel.clone().drop_guard();
    let method = task.method();
    let perform = Box::new(Perform {
        task,
        view: call.view.clone(),
        caller: call.caller.clone(),
        request_id: Arc::clone(&call.request_id),
        responses: params.responses()?,
        // A client without sessions has no way to answer with an error: it leaves the answer out.
        refusals: Vec::new(),
        state: params.state()?,
        client: meta.client,
        client_name: meta.client_name,
        trace: meta.trace.under(&asked.span),
        foreign: params.foreign(),
        wants_progress: wants && token.is_some(),
        notices: sender.map(|sender| Arc::new(sender) as Arc<dyn Listener>),
        revision: Revision::V20260728,
        session: None,
        log_level,
        cancel,
        places,
    });
    let waits = call.door.part.waits();
    let sent = call.door.executor.send(perform);
    Ok(Performing { sent, waits, method, speech: notices.map(|notices| (notices, token)), guard })
}

impl Performing {
    /// Answers with what becomes of it.
    ///
    /// # Errors
    /// What the executor answers, when nothing was streamed before.
    pub fn answer<'a>(
        self,
        call: &'a Call<'_>,
        asked: &'a Asked,
    ) -> impl Future<Output = Result<HttpResponse, Fault>> + 'a {
        let Self { sent, waits, method, speech, guard } = self;
        async move {
            if let Some(speech) = speech {
                // It is seldom wanted, and large.
                return Box::pin(speak(call, asked, method, Box::pin(ended(sent, waits)), speech, guard))
                    .await;
            }
            let _waits = waits;
            // What `ended` does, without its future, which would keep what was sent once more in nearly every call.
            let done = match sent.await {
                Ok(begun) => begun.end().await,
                Err(error) => Err(lost(&error)),
            };
            drop(guard.disarm());
            finish(asked, method, done?)
        }
    }
}

async fn ended(sent: Sent, _waits: Waits) -> Result<Done, Fault> {
    sent.await.map_err(|error| lost(&error))?.end().await
}

/// The answer of a call that may say something before.
async fn speak(
    call: &Call<'_>,
    asked: &Asked,
    method: Method,
    mut answer: Answer,
    (mut notices, token): (mpsc::Receiver<Notice>, Option<Raw>),
    guard: DropGuard,
) -> Result<HttpResponse, Fault> {
    let begin_with = |first, rest, answer| {
        begin(Speaking {
            first: Some(first),
            notices: rest,
            answer: Some(answer),
            token,
            id: asked.id.clone(),
            during: method,
            request_id: Arc::clone(&call.request_id),
            span: asked.span.clone(),
            keep_alive: call.door.frame.limits.stream_keep_alive,
            _guard: guard,
            _busy: Busy::begin(),
        })
    };
    let done = tokio::select! {
        biased;
        Some(notice) = notices.recv() => return Ok(begin_with(notice, notices, answer)),
        done = &mut answer => done,
    };
    let Ok(notice) = notices.try_recv() else { return finish(asked, method, done?) };
    // What it said in the very step in which it ended is said before its answer.
    Ok(begin_with(notice, notices, Box::pin(ready(done))))
}

/// The executor crashed over this very message.
pub fn lost(error: &MailboxError) -> Fault {
    Fault::new(
        ErrorCode::Unavailable,
        "the executor crashed over this request and is back",
        "retry; whether the call had an effect is not known",
    )
    .because(error)
}

fn finish(asked: &Asked, method: Method, done: Done) -> Result<HttpResponse, Fault> {
    tally::ended(method, done.outcome);
    asked.span.ended(done.outcome);
    Ok(send(render::result(&asked.id, &done.result), asked.accepts))
}

/// A call that speaks before its answer.
struct Speaking {
    first: Option<Notice>,
    notices: mpsc::Receiver<Notice>,
    answer: Option<Answer>,
    token: Option<Raw>,
    id: Id,
    during: Method,
    request_id: Arc<str>,
    span: Span,
    keep_alive: Duration,
    _guard: DropGuard,
    _busy: Busy,
}

fn begin(speaking: Speaking) -> HttpResponse {
    let frames = stream::unfold(speaking, |mut speaking| async move {
        let frame = speaking.next().await?;
        Some((Ok::<_, actix_web::Error>(frame), speaking))
    });
    head().streaming(Box::pin(frames))
}

impl Speaking {
    /// The next frame: every notice in its order, comment lines while nothing happens, the answer last.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(notice) = self.first.take() {
            return Some(self.render(&notice));
        }
        let answer = self.answer.as_mut()?;
        let done = tokio::select! {
            biased;
            Some(notice) = self.notices.recv() => return Some(self.render(&notice)),
            done = answer => done,
            () = tokio::time::sleep(self.keep_alive) => return Some(Bytes::from_static(render::KEEP_ALIVE)),
        };
        if let Ok(notice) = self.notices.try_recv() {
            // Said in the very step in which it ended: it comes before the answer.
            self.answer = Some(Box::pin(ready(done)));
            return Some(self.render(&notice));
        }
        self.answer = None;
        let (message, outcome) = match done {
            Ok(done) => {
                self.span.ended(done.outcome);
                (render::result(&self.id, &done.result), done.outcome)
            }
            Err(fault) => {
                spans::refused(&self.span, &fault);
                reply::note(&fault, self.during.name(), &self.request_id);
                (render::error(Some(&self.id), &fault, &self.request_id), fault.code.name())
            }
        };
        tally::ended(self.during, outcome);
        Some(render::event(&message))
    }

    fn render(&self, notice: &Notice) -> Bytes {
        render::event(&notices::worded(notice, self.token.as_ref(), Revision::V20260728).unwrap_or_default())
    }
}

/// The head of an event stream.
pub fn head() -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, reply::EVENT_STREAM))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .insert_header(("X-Accel-Buffering", "no"));
    response
}

/// An event stream that is ready whole.
pub fn events(frame: impl Into<Bytes>) -> HttpResponse {
    answer::carry(&mut head(), frame.into())
}

/// A message as the whole answer.
pub fn send(message: Vec<u8>, accepts: Accepts) -> HttpResponse {
    if accepts.json { reply::json(message) } else { events(render::event(&message)) }
}
