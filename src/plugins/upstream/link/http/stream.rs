//! Event streams: an answer that comes in pieces, and what a server says of its own accord. A legacy stream that breaks
//! is taken up again behind its last event, which nobody who reads it notices.
//!
//! Must not know what the messages mean.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::body::Body as _;
use hyper::header::{ACCEPT, HeaderName, HeaderValue};
use hyper::{Method, Response};
use tokio::time::{Instant, sleep, timeout};

use super::client::{Call, Extras, HttpCore};
use super::exchange::{Kind, Refusal, answers, messages, piece, wrong_kind};
use super::pool::Body;
use super::{GetStream, Line};
use crate::plugins::upstream::link::{Flow, LinkError};
use crate::protocol::Incoming;
use crate::protocol::sse::{Event, Events};

/// Before a stream is taken up again, unless the server names a pause.
const PAUSE: Duration = Duration::from_millis(500);
/// The shortest and the longest pause that a server may name.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often in a row an answer is taken up again without anything new.
const ANSWER_TRIES: u32 = 5;
/// How often in a row nobody is reached who could be asked for the stream of a session.
const STRAY_TRIES: u32 = 6;
/// The longest pause that we make of our own.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How long the end of a stream may follow its response, so that the connection can be used again.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Reads events from the body of an answer.
pub struct Reader {
    core: HttpCore,
    body: Option<Body>,
    events: Events,
    /// Of an event that held several messages.
    ready: VecDeque<Incoming>,
    /// Behind which the stream can be taken up again.
    last_id: Option<String>,
    retry: Option<Duration>,
    /// Whether anything came since it was begun or taken up again.
    fruitful: bool,
}

/// What comes next.
pub enum Next<T> {
    /// This.
    Some(T),
    /// Nothing more: the connection ended, for this reason.
    End(String),
}

impl Reader {
    /// Of this body.
    pub fn new(core: &HttpCore, body: Body) -> Self {
        Self {
            core: core.clone(),
            body: Some(body),
            events: Events::new(core.response_max_bytes()),
            ready: VecDeque::new(),
            last_id: None,
            retry: None,
            fruitful: false,
        }
    }

    /// Goes on with another body.
    fn go_on(&mut self, body: Body) {
        self.body = Some(body);
        self.events = Events::new(self.core.response_max_bytes());
        self.fruitful = false;
    }

    /// The next event.
    ///
    /// # Errors
    /// One that is too large.
    pub async fn event(&mut self) -> Result<Next<Event>, LinkError> {
        loop {
            match self.events.take() {
                Ok(Some(event)) => {
                    self.note(&event);
                    return Ok(Next::Some(event));
                }
                Ok(None) => {}
                Err(_) => return Err(LinkError::TooLarge(self.core.response_max_bytes())),
            }
            let Some(body) = self.body.as_mut() else { return Ok(Next::End("the stream is over".into())) };
            match piece(&self.core, body).await {
                Ok(Some(bytes)) => self.events.push(&bytes),
                Ok(None) => {
                    self.body = None;
                    let halfway = self.events.is_halfway();
                    let place =
                        if halfway { "in the middle of an event" } else { "before the response came" };
                    return Ok(Next::End(format!("its event stream ended {place}")));
                }
                Err(why) => {
                    self.body = None;
                    return Ok(Next::End(why));
                }
            }
        }
    }

    fn note(&mut self, event: &Event) {
        if let Some(id) = &event.id {
            self.fruitful |= self.last_id.as_ref() != Some(id);
            self.last_id = Some(id.clone()).filter(|id| !id.is_empty());
        }
        if let Some(retry) = event.retry_ms {
            self.retry = Some(Duration::from_millis(retry).clamp(PAUSE_MIN, PAUSE_MAX));
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// An event that is too large, or that holds no message.
    pub async fn message(&mut self) -> Result<Next<Incoming>, LinkError> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Next::Some(message));
            }
            let event = match self.event().await? {
                Next::Some(event) => event,
                Next::End(why) => return Ok(Next::End(why)),
            };
            let is_message = event.kind.as_deref().is_none_or(|kind| matches!(kind, "" | "message"));
            // An event without data primes the stream: its id is all it says.
            let Some(data) = event.data.filter(|data| is_message && !data.trim_ascii().is_empty()) else {
                continue;
            };
            self.fruitful = true;
            self.ready = messages(Bytes::from(data))?;
        }
    }

    /// Reads to the end, which mostly is there already, so that the connection can be used again.
    fn finish(mut self) {
        let Some(mut body) = self.body.take() else { return };
        let core = self.core;
        let mut rest = Box::pin(async move {
            // Whoever goes on talking after the response loses the connection instead.
            while !body.is_end_stream() && matches!(piece(&core, &mut body).await, Ok(Some(_))) {}
        });
        if rest.as_mut().now_or_never().is_none() {
            tokio::spawn(timeout(DRAIN_WITHIN, rest));
        }
    }
}

/// An answer that comes as an event stream.
pub struct Answer {
    line: Arc<Line>,
    reader: Reader,
    id: u64,
    /// Whether it can be taken up again: in the eras that have sessions.
    resumable: bool,
    tries: u32,
}

impl Answer {
    /// The flow of what `body` holds for the request `id`.
    pub fn flow(line: Arc<Line>, body: Body, id: u64, resumable: bool) -> Flow {
        let reader = Reader::new(&line.core, body);
        let answer = Self { line, reader, id, resumable, tries: 0 };
        Flow::of(futures_util::stream::unfold(Some(answer), |answer| async {
            let mut answer = answer?;
            match answer.next().await {
                Ok(message) if answers(&message, answer.id) => {
                    answer.reader.finish();
                    Some((Ok(message), None))
                }
                Ok(message) => Some((Ok(message), Some(answer))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    async fn next(&mut self) -> Result<Incoming, LinkError> {
        loop {
            match self.reader.message().await? {
                Next::Some(message) => {
                    self.tries = 0;
                    let foreign = matches!(message, Incoming::Response { .. }) && !answers(&message, self.id);
                    if !foreign {
                        return Ok(message);
                    }
                }
                Next::End(why) => self.take_up(&why).await?,
            }
        }
    }

    /// Takes the stream up again behind the last event that came.
    async fn take_up(&mut self, why: &str) -> Result<(), LinkError> {
        if !self.resumable || self.reader.last_id.is_none() {
            return Err(LinkError::Broken(why.to_owned()));
        }
        if self.reader.fruitful {
            self.tries = 0;
        }
        loop {
            self.tries += 1;
            if self.tries > ANSWER_TRIES {
                return Err(LinkError::Broken(format!(
                    "{why}, and taking it up again {ANSWER_TRIES} times brought nothing new"
                )));
            }
            sleep(pause(self.reader.retry, self.tries)).await;
            match get(&self.line, self.reader.last_id.as_deref()).await {
                Ok(Got::Stream(body)) => {
                    self.reader.go_on(body);
                    return Ok(());
                }
                // The call may have been carried out: that its session is gone does not undo it.
                Ok(Got::SessionLost) => {
                    return Err(LinkError::Broken(format!("{why}, and the session was gone after that")));
                }
                Ok(Got::Refused(error)) if !is_passing(&error) => {
                    return Err(LinkError::Broken(format!(
                        "{why}, and could not be taken up again: {error}"
                    )));
                }
                Ok(Got::Refused(_)) | Err(_) => {}
            }
        }
    }
}

/// How long to wait before the nth try.
fn pause(retry: Option<Duration>, tries: u32) -> Duration {
    let first = retry.unwrap_or(PAUSE);
    let doubled = first.saturating_mul(1 << tries.saturating_sub(1).min(6));
    doubled.min(BACKOFF_MAX.max(first))
}

/// Whether a refusal may be otherwise in a moment.
fn is_passing(error: &LinkError) -> bool {
    matches!(error, LinkError::Status { status: 429 | 500 | 502..=504, .. })
}

/// What a GET brought.
enum Got {
    Stream(Body),
    SessionLost,
    Refused(LinkError),
}

async fn get(line: &Line, last_id: Option<&str>) -> Result<Got, LinkError> {
    let answer = line.core.exchange(&get_call(line, last_id)).await?;
    opened(line, answer).await
}

/// A GET for an event stream.
pub fn get_call(line: &Line, last_id: Option<&str>) -> Call {
    let mut extras = Extras::new();
    extras.push((ACCEPT, HeaderValue::from_static("text/event-stream")));
    extras.extend(line.version_header());
    let last_id = last_id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok());
    extras.extend(last_id.map(|id| (LAST_EVENT_ID, id)));
    Call {
        method: Method::GET,
        uri: line.core.uri().clone(),
        body: Bytes::new(),
        extras,
        session: line.session.get().cloned(),
    }
}

async fn opened(line: &Line, answer: Response<Body>) -> Result<Got, LinkError> {
    if answer.status().is_success() {
        return Ok(match Kind::of(answer.headers()) {
            Kind::Events => Got::Stream(answer.into_body()),
            Kind::Json => Got::Refused(wrong_kind("application/json")),
            Kind::Other(kind) => Got::Refused(wrong_kind(&kind)),
        });
    }
    let refusal = Refusal::read(&line.core, answer).await;
    let lost = line.session.get().is_some() && refusal.is_of_session(None);
    Ok(if lost { Got::SessionLost } else { Got::Refused(refusal.error(&line.core)) })
}

/// What a server says of its own accord: the GET stream of a session. The session is not over for want of it, as long as
/// somebody is there and knows the session.
pub struct Strays {
    line: Arc<Line>,
    reader: Option<Reader>,
    last_id: Option<String>,
    retry: Option<Duration>,
    tries: u32,
    opened: Instant,
    /// Whether something may have been said while there was no stream.
    missed: bool,
    /// Whether it ever was a stream: one that never was is refused for good.
    was_open: bool,
}

impl Strays {
    /// Their flow.
    pub fn flow(line: Arc<Line>) -> Flow {
        let strays = Self {
            line,
            reader: None,
            last_id: None,
            retry: None,
            tries: 0,
            opened: Instant::now(),
            missed: false,
            was_open: false,
        };
        Flow::of(futures_util::stream::unfold(Some(strays), |strays| async {
            let mut strays = strays?;
            let closed = strays.line.closed.clone();
            let next = tokio::select! {
                () = closed.cancelled() => return None,
                next = strays.next() => next,
            };
            match next {
                Ok(Some(message)) => Some((Ok(message), Some(strays))),
                Ok(None) => None,
                Err(error) => {
                    strays.line.notes(GetStream::Broken);
                    Some((Err(error), None))
                }
            }
        }))
    }

    async fn next(&mut self) -> Result<Option<Incoming>, LinkError> {
        loop {
            let Some(reader) = self.reader.as_mut() else {
                if self.open().await? {
                    continue;
                }
                return Ok(None);
            };
            match reader.message().await {
                // No request of ours is answered here.
                Ok(Next::Some(Incoming::Response { .. })) => {}
                Ok(Next::Some(message)) => return Ok(Some(message)),
                Ok(Next::End(_)) => self.pause().await,
                // One bad event costs itself; a reader that cannot go on says so again.
                Err(LinkError::Garbage(why)) => {
                    log::debug!("an event of a server's stream is no message: {why}")
                }
                Err(error) => {
                    log::debug!("a server's stream is begun anew: {error}");
                    self.pause().await;
                    // Behind its last event the same would come again.
                    self.last_id = None;
                }
            }
        }
    }

    /// The stream broke: waits a little before it is asked for again.
    async fn pause(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.last_id = reader.last_id.or(self.last_id.take());
            self.retry = reader.retry.or(self.retry);
            if reader.fruitful || self.opened.elapsed() > BACKOFF_MAX {
                self.tries = 0;
            }
        }
        self.missed = true;
        self.line.notes(GetStream::Pausing);
        self.tries = self.tries.saturating_add(1);
        sleep(pause(self.retry, self.tries)).await;
    }

    /// Asks for the stream; returns whether there is one.
    async fn open(&mut self) -> Result<bool, LinkError> {
        let (mut tries, mut unreached) = (0_u32, 0_u32);
        loop {
            match get(&self.line, self.last_id.as_deref()).await {
                Ok(Got::Stream(body)) => {
                    self.begin(body);
                    return Ok(true);
                }
                Ok(Got::SessionLost) if self.was_open => return Err(LinkError::SessionLost),
                // Many a server has no route for GET and says 404, too: should its session be gone, the next POST tells.
                Ok(Got::SessionLost) => return Ok(self.refused()),
                Ok(Got::Refused(error)) if !self.was_open && !is_passing(&error) => return Ok(self.refused()),
                Ok(Got::Refused(error)) => {
                    unreached = 0;
                    if !is_passing(&error) {
                        // It may not know the event, or not have noticed yet that the stream before is gone.
                        self.last_id = None;
                    }
                    if tries == 0 {
                        // Whether there ever is a stream again is not known: what was missed so far is told now.
                        self.line.missed.notify_one();
                    }
                }
                Err(error @ LinkError::Unreachable(_)) => {
                    unreached += 1;
                    if unreached >= STRAY_TRIES {
                        return Err(error);
                    }
                }
                Err(_) => unreached = 0,
            }
            self.missed = true;
            self.line.notes(GetStream::Pausing);
            tries = tries.saturating_add(1);
            sleep(pause(self.retry, tries)).await;
        }
    }

    fn begin(&mut self, body: Body) {
        self.line.notes(GetStream::Open);
        // With no event to go on behind, what was said meanwhile is lost.
        if std::mem::take(&mut self.missed) && self.last_id.is_none() {
            self.line.missed.notify_one();
        }
        self.was_open = true;
        self.opened = Instant::now();
        self.reader = Some(Reader::new(&self.line.core, body));
    }

    fn refused(&self) -> bool {
        self.line.notes(GetStream::Refused);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_never_undercut_the_server() {
        assert_eq!(pause(None, 1), PAUSE);
        assert_eq!(pause(None, 2), PAUSE * 2);
        assert_eq!(pause(None, 99), BACKOFF_MAX);
        let named = Duration::from_secs(45);
        assert!((1..10).all(|tries| pause(Some(named), tries) >= named));
    }
}
