//! One session with a server: its link, what the handshake settled, and the calls that are in work in it.
//!
//! Must not know whose session it is, nor when it is made or ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::changes::Changes;
use super::strays;
use crate::plugins::upstream::compose::{self, Era, Wishes};
use crate::plugins::upstream::exchange::{self, ProbeError};
use crate::plugins::upstream::handshake::Handshake;
use crate::plugins::upstream::ids::Ids;
use crate::plugins::upstream::link::{Link, LinkError, Outgoing};
use crate::protocol::{Incoming, LogLevel, Object, Raw};

/// How long a message may take to be sent.
const TELL_WITHIN: Duration = Duration::from_secs(10);
/// How long the server may take to hear which log level is wanted.
const LEVEL_WITHIN: Duration = Duration::from_secs(5);
/// Messages for one call that it has not looked at yet.
const INBOX_MAX: usize = 32;
/// Answers to the server on their way at once; beyond that it asks in a loop, and is not answered.
const SAYING_MAX: usize = 64;
/// Elicitations by URL whose end was told, remembered for whoever calls again.
const DONE_MAX: usize = 256;

/// What a session is made of.
pub struct Parts {
    /// As `/plugins/{name}` and the history call it.
    pub name: Arc<str>,
    /// The way to the server.
    pub link: Arc<dyn Link>,
    /// What was settled.
    pub handshake: Handshake,
    /// Numbers of this link, as far as they are used up.
    pub ids: Ids,
    /// Whether it serves several clients, so that none of them can be asked.
    pub shared: bool,
    /// Whether it is the one that attends to what the server tells of its own accord.
    pub is_main: bool,
    /// Where that goes.
    pub changes: Arc<Changes>,
    /// What is counted for the plugin as a whole.
    pub tally: Arc<Tally>,
}

/// What is counted over all sessions with one server.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests of the server that no client could be asked.
    pub refused: AtomicU64,
    /// … since the session serves several clients.
    pub refused_shared: AtomicU64,
    /// Messages that answer nothing which is waited for.
    pub ignored: AtomicU64,
}

/// A session.
pub struct Session {
    parts: Parts,
    in_work: Mutex<BTreeMap<u64, InWork>>,
    /// The least level that the server was told to log.
    level: tokio::sync::Mutex<Option<LogLevel>>,
    done: Mutex<VecDeque<String>>,
    done_news: Notify,
    /// None while it goes on; what it ended with, if that was an error.
    end: watch::Sender<Option<Result<(), LinkError>>>,
    saying: Arc<Semaphore>,
    runtime: Handle,
    ear: AbortHandle,
    began: Instant,
}

/// A call in work, as far as others must know it.
struct InWork {
    inbox: mpsc::Sender<Incoming>,
    may_ask: bool,
    parked: bool,
}

impl Session {
    /// A session after its handshake. Must be called within a runtime, which carries its tasks from now on.
    pub fn begin(parts: Parts) -> Arc<Self> {
        let runtime = Handle::current();
        Arc::new_cyclic(|this: &Weak<Self>| {
            let ear = runtime.spawn(strays::listen(Weak::clone(this), parts.link.strays())).abort_handle();
            Self {
                parts,
                in_work: Mutex::default(),
                level: tokio::sync::Mutex::default(),
                done: Mutex::default(),
                done_news: Notify::new(),
                end: watch::Sender::new(None),
                saying: Arc::new(Semaphore::new(SAYING_MAX)),
                runtime,
                ear,
                began: Instant::now(),
            }
        })
    }

    /// As `/plugins/{name}` calls it.
    pub fn name(&self) -> &Arc<str> {
        &self.parts.name
    }

    /// The way to the server.
    pub fn link(&self) -> &Arc<dyn Link> {
        &self.parts.link
    }

    /// What was settled.
    pub fn handshake(&self) -> &Handshake {
        &self.parts.handshake
    }

    /// Numbers for requests.
    pub fn ids(&self) -> &Ids {
        &self.parts.ids
    }

    /// Whether it serves several clients.
    pub fn is_shared(&self) -> bool {
        self.parts.shared
    }

    /// What is counted.
    pub fn tally(&self) -> &Tally {
        &self.parts.tally
    }

    /// Whether it is the one that attends to what the server tells of its own accord.
    pub fn is_main(&self) -> bool {
        self.parts.is_main
    }

    /// Where that goes.
    pub fn changes(&self) -> &Changes {
        &self.parts.changes
    }

    /// What carries its tasks.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Whether the server says it can do this.
    pub fn can(&self, capability: &str) -> bool {
        Object::open(&self.parts.handshake.capabilities).is_ok_and(|all| all.get(capability).is_some())
    }

    /// How long ago it began.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether it broke or was lost.
    pub fn is_over(&self) -> bool {
        matches!(&*self.end.borrow(), Some(Err(_)))
    }

    /// Returns when it broke or was lost, with why.
    pub async fn ended(&self) -> LinkError {
        let mut end = self.end.subscribe();
        let broke = end.wait_for(|end| matches!(end, Some(Err(_)))).await;
        match broke.as_deref() {
            Ok(Some(Err(error))) => error.clone(),
            _ => LinkError::Broken("the session ended".to_owned()),
        }
    }

    /// Notes that it ended; the first error counts.
    pub fn end_with(&self, how: Result<(), LinkError>) {
        self.end.send_if_modified(|end| {
            let news = !matches!(end, Some(Err(_)));
            if news {
                *end = Some(how);
            }
            news
        });
    }

    /// Draws conclusions from what a call ran into: a session that the server forgot is over. That nobody was reached once
    /// says nothing of the session.
    pub fn learn(&self, error: &LinkError) {
        if matches!(error, LinkError::SessionLost) {
            self.end_with(Err(error.clone()));
        }
    }

    /// A request that no client waits for.
    ///
    /// # Errors
    /// When the link does not carry, the server refuses, or no answer comes until `deadline`.
    pub async fn request(
        &self,
        method: &'static str,
        members: &[(&str, &str)],
        deadline: Instant,
    ) -> Result<Raw, ProbeError> {
        let id = self.parts.ids.next();
        let body = compose::request(id, method, Era::Legacy, &Wishes::default(), members);
        let version = self.parts.handshake.header();
        let asked = Outgoing { id, body, method, name: None, params: Vec::new(), version };
        let answer = exchange::ask(&*self.parts.link, asked, deadline).await;
        if let Err(ProbeError::Link(error)) = &answer {
            self.learn(error);
        }
        answer
    }

    /// Sends a notification or an answer and waits until it is sent.
    ///
    /// # Errors
    /// When the link does not carry.
    pub async fn tell(&self, message: Bytes) -> Result<(), LinkError> {
        let telling = self.parts.link.tell(message, self.parts.handshake.header());
        let late = |_elapsed| LinkError::Broken("it did not take a message in time".to_owned());
        let told = timeout(TELL_WITHIN, telling).await.map_err(late)?;
        told.inspect_err(|error| self.learn(error))
    }

    /// Sends without waiting.
    pub fn say(self: &Arc<Self>, message: Bytes) {
        let Ok(permit) = Arc::clone(&self.saying).try_acquire_owned() else {
            self.parts.tally.ignored.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let session = Arc::clone(self);
        self.runtime.spawn(async move {
            if let Err(error) = session.tell(message).await {
                log::debug!("a message to {} was not sent: {error}", session.name());
            }
            drop(permit);
        });
    }

    /// Has the server log as much as `level` needs. It is told once for each lower level, and never to be quieter: what
    /// one request does not want is kept from it here.
    pub async fn hear_from(&self, level: Option<LogLevel>, deadline: Instant) {
        let Some(level) = level.filter(|_| self.can("logging")) else { return };
        let deadline = deadline.min(Instant::now() + LEVEL_WITHIN);
        let Ok(mut told) = timeout_at(deadline, self.level.lock()).await else { return };
        if told.is_some_and(|told| told <= level) {
            return;
        }
        let Ok(word) = serde_json::to_string(&level) else { return };
        if let Err(error) = self.request("logging/setLevel", &[("level", &word)], deadline).await {
            log::debug!("{} does not take a log level: {error}", self.name());
        }
        *told = Some(level);
    }

    /// Takes a call in: its number, and where it hears what came beside its own flow.
    pub fn enter(&self, may_ask: bool) -> (u64, mpsc::Receiver<Incoming>) {
        let id = self.parts.ids.next();
        let (inbox, received) = mpsc::channel(INBOX_MAX);
        self.lock().insert(id, InWork { inbox, may_ask, parked: false });
        (id, received)
    }

    /// A call is not in work any more.
    pub fn leave(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// A call waits for its client, or goes on.
    pub fn park(&self, id: u64, parked: bool) {
        if let Some(call) = self.lock().get_mut(&id) {
            call.parked = parked;
        }
    }

    /// Hands a message to the call with this number.
    pub fn hand_to(&self, id: u64, message: Incoming) {
        if let Some(call) = self.lock().get(&id) {
            drop(call.inbox.try_send(message));
        }
    }

    /// Hands a message to the only call in work; whether there is only one.
    pub fn hand_to_only(&self, message: Incoming) -> bool {
        let calls = self.lock();
        let mut all = calls.values();
        match (all.next(), all.next()) {
            (Some(call), None) => call.inbox.try_send(message).is_ok(),
            _ => false,
        }
    }

    /// Hands a message to all calls in work.
    pub fn hand_to_all(&self, message: &Incoming) {
        for call in self.lock().values() {
            drop(call.inbox.try_send(message.clone()));
        }
    }

    /// Hands a request of the server to the call that it most likely belongs to: the only one in work; else the oldest
    /// that may ask, one that already waits for its client last. Gives it back when there is none.
    pub fn hand_to_asker(&self, message: Incoming) -> Option<Incoming> {
        let calls = self.lock();
        let asker = calls.values().filter(|call| call.may_ask).min_by_key(|call| call.parked);
        let Some(call) = asker else { return Some(message) };
        match call.inbox.try_send(message) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(message) | mpsc::error::TrySendError::Closed(message)) => {
                Some(message)
            }
        }
    }

    /// Notes that the server is done with an elicitation by URL.
    pub fn note_done(&self, elicitation: String) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if done.len() >= DONE_MAX {
            done.pop_front();
        }
        done.push_back(elicitation);
        drop(done);
        self.done_news.notify_waiters();
    }

    /// Waits until the server is done with all these elicitations, or until `deadline`.
    pub async fn all_done(&self, elicitations: &[String], deadline: Instant) {
        let is_done = || {
            let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            elicitations.iter().all(|one| done.contains(one))
        };
        let wait = async {
            loop {
                // Enabled before the look, so that news in between is not missed.
                let mut news = std::pin::pin!(self.done_news.notified());
                news.as_mut().enable();
                if is_done() {
                    return;
                }
                news.await;
            }
        };
        let _in_time = timeout_at(deadline, wait).await;
    }

    /// What an operator sees of it.
    pub fn report(&self, idle_seconds: u64) -> Value {
        let calls = self.lock();
        json!({
            "instance": &*self.parts.name,
            "ageSeconds": self.began.elapsed().as_secs(),
            "idleSeconds": idle_seconds,
            "inFlight": calls.len(),
            "parked": calls.values().filter(|call| call.parked).count(),
        })
    }

    /// Ends it in order.
    pub async fn close(&self) {
        self.end_with(Err(LinkError::Broken("the session was closed".to_owned())));
        self.parts.link.close().await;
        self.ear.abort();
    }

    /// Ends it in a task of its own.
    pub fn retire(self: &Arc<Self>) {
        let session = Arc::clone(self);
        self.runtime.spawn(async move { session.close().await });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, InWork>> {
        self.in_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ear.abort();
    }
}
