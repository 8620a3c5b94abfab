//! All open listen streams: opening within the limit, telling news, ending all. Must not know plugins' insides.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use actix::Addr;

use super::super::plugin::Watching;
use super::super::supervision::Roster;
use super::messages::{End, Tell};
use super::voice::Voice;
use super::{Feed, Filter, News, SessionActor, SessionHandle, TERMS};
use crate::catalog::Changed;
use crate::error::{ErrorCode, Fault};
use crate::telemetry::metrics::METRICS;

/// One stream, as the list knows it.
struct Stream {
    address: Addr<SessionActor>,
    /// Who opened it.
    principal: Arc<str>,
    filter: Filter,
    /// How it is told that news were missed, when its mailbox is full.
    voice: Voice,
    since: Instant,
}

impl Stream {
    fn tell(&self, news: &News) {
        if self.address.try_send(Tell(news.clone())).is_err() {
            self.voice.tell(&self.filter, &News::Unknown);
        }
    }

    fn end(&self) {
        if self.address.try_send(End).is_err() {
            self.voice.end();
        }
    }
}

/// All open streams.
pub struct Streams {
    open: Mutex<HashMap<u64, Stream>>,
    next: AtomicU64,
    most: usize,
    keep_alive: Duration,
    closing: AtomicBool,
    roster: Arc<Roster>,
}

/// A stream that was opened.
pub struct Opened {
    /// Where its body takes events from.
    pub feed: Arc<Feed>,
    /// Its actor.
    pub address: Addr<SessionActor>,
}

/// Counts for `/diagnostics/connection`.
#[derive(Debug, Clone, Copy)]
pub struct StreamView {
    /// Open streams.
    pub open: usize,
    /// How long the oldest is open.
    pub oldest: Option<Duration>,
}

impl Streams {
    /// None open; `most` at once.
    pub fn new(most: usize, keep_alive: Duration, roster: Arc<Roster>) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            next: AtomicU64::new(0),
            most,
            keep_alive,
            closing: AtomicBool::new(false),
            roster,
        })
    }

    /// Opens a stream of `principal` on the current arbiter. `watched` are the watches of the resources of `filter`.
    ///
    /// # Errors
    /// `Unavailable` when too many are open, or the server stops.
    pub fn open(
        self: &Arc<Self>,
        principal: &Arc<str>,
        filter: Filter,
        watched: Vec<Watching>,
    ) -> Result<Opened, Fault> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if listening(&open).count() >= self.most || self.closing.load(Ordering::Relaxed) {
            return Err(Fault::new(
                ErrorCode::Unavailable,
                "no listen stream can be opened now",
                "retry after a moment; the operator sets how many with mcp.streams_max",
            ));
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let feed = Arc::new(Feed::default());
        let session = SessionActor {
            filter: filter.clone(),
            voice: Voice::Listen(Arc::clone(&feed)),
            keep_alive: Some(self.keep_alive),
            watched,
            entry: Entry { streams: Arc::downgrade(self), number },
            asks: HashMap::new(),
        };
        let (address, _) = self.roster.start(format!("session-{number}"), "session", TERMS, |_| session);
        let stream = Stream {
            address: address.clone(),
            principal: Arc::clone(principal),
            filter,
            voice: Voice::Listen(Arc::clone(&feed)),
            since: Instant::now(),
        };
        open.insert(number, stream);
        METRICS.streams.set(i64::try_from(listening(&open).count()).unwrap_or(i64::MAX));
        Ok(Opened { feed, address })
    }

    /// Starts the actor of a session on the current arbiter: from now on it is told of changes of the lists.
    ///
    /// # Errors
    /// `Unavailable` when the server stops.
    pub(super) fn join(self: &Arc<Self>, session: &Arc<SessionHandle>) -> Result<Addr<SessionActor>, Fault> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closing.load(Ordering::Relaxed) {
            return Err(Fault::new(ErrorCode::Unavailable, "the server stops", "retry when it is back"));
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let view = session.view().clone();
        let filter = Filter { view, tools: true, prompts: true, resources: true, uris: Vec::new() };
        let actor = SessionActor {
            filter: filter.clone(),
            voice: Voice::Session(Arc::clone(session)),
            keep_alive: None,
            watched: Vec::new(),
            entry: Entry { streams: Arc::downgrade(self), number },
            asks: HashMap::new(),
        };
        let (address, _) = self.roster.start(format!("session-{number}"), "session", TERMS, |_| actor);
        open.insert(
            number,
            Stream {
                address: address.clone(),
                principal: Arc::clone(session.principal()),
                filter,
                voice: Voice::Session(Arc::clone(session)),
                since: Instant::now(),
            },
        );
        Ok(address)
    }

    /// Tells the streams of each view which of its lists changed.
    pub fn tell_changes(&self, changed: &Changed) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.values() {
            let kinds = changed.of(&stream.filter.view);
            let told = [
                (kinds.tools, News::Tools),
                (kinds.prompts, News::Prompts),
                (kinds.resources, News::Resources),
            ];
            for (_, news) in told.iter().filter(|(changed, news)| *changed && stream.filter.watches(news)) {
                stream.tell(news);
            }
        }
    }

    /// Tells every stream that watches it.
    pub fn tell(&self, news: &News) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.values().filter(|stream| stream.filter.watches(news)) {
            stream.tell(news);
        }
    }

    /// Ends every stream with its result and opens no more.
    pub fn end_all(&self) {
        self.closing.store(true, Ordering::Relaxed);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().for_each(Stream::end);
    }

    /// Ends the listen streams of everybody who is not honoured, with their result.
    pub(super) fn end_unless(&self, honours: &dyn Fn(&str) -> bool) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        listening(&open).filter(|stream| !honours(&stream.principal)).for_each(Stream::end);
    }

    /// How many listen streams are open, and since when.
    pub fn view(&self) -> StreamView {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = listening(&open).map(|stream| stream.since.elapsed()).max();
        StreamView { open: listening(&open).count(), oldest }
    }
}

/// Those that are listen streams, and not sessions.
fn listening(open: &HashMap<u64, Stream>) -> impl Iterator<Item = &Stream> {
    open.values().filter(|stream| matches!(stream.voice, Voice::Listen(_)))
}

/// A stream's place on the list.
pub(super) struct Entry {
    streams: Weak<Streams>,
    number: u64,
}

impl Entry {
    /// Notes that it watches something else from now on.
    pub(super) fn watch(&self, filter: &Filter) {
        let Some(streams) = self.streams.upgrade() else { return };
        let mut open = streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = open.get_mut(&self.number) {
            stream.filter = filter.clone();
        }
    }

    /// Takes the stream off the list.
    pub(super) fn leave(&self) {
        let Some(streams) = self.streams.upgrade() else { return };
        let mut open = streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = open.remove(&self.number);
        METRICS.streams.set(i64::try_from(listening(&open).count()).unwrap_or(i64::MAX));
        drop(open);
        drop(gone);
    }
}
