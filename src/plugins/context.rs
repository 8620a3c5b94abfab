//! What a plugin is given beside the request: time, the wish to stop, ways to speak meanwhile, room for blocking work.
//!
//! Must not know the stream that notices travel on, nor the caller's identity.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::PluginError;
use crate::protocol::{ClientCapabilities, LogLevel, Trace};

/// A caller as plugins may know it: the same caller has the same key, and the key says nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallerKey(pub u64);

/// A client's session, where its revision has sessions: the same session has the same key, and the key says nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConversationKey(pub u64);

/// What a call did behind its plugin, for the history and the metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hop {
    /// Which process or session of the plugin carried it, as `/plugins/{name}` names it.
    pub instance: Option<Arc<str>>,
    /// From the request's sending to its answer.
    pub upstream: Duration,
    /// Sent to the server behind.
    pub bytes_out: u64,
    /// Received from it.
    pub bytes_in: u64,
    /// What was translated: `modern-legacy` for a call of today's revision to a server with sessions, and so on.
    pub bridged: Option<&'static str>,
}

/// Something said before the result, on the response stream of the same request.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// `notifications/progress`.
    Progress {
        /// How far; more than the last time.
        progress: f64,
        /// How far it goes.
        total: Option<f64>,
        /// For people.
        message: Option<String>,
    },
    /// `notifications/message`.
    Log {
        /// How grave.
        level: LogLevel,
        /// Who says it.
        logger: String,
        /// What.
        data: Value,
    },
    /// Nothing will be said for about so long: whoever holds a connection for this call may hang up meanwhile, if its
    /// revision knows how to come back.
    Quiet(Duration),
}

/// Whoever hears what a call says before its result. Must not block.
pub trait Listener: Send + Sync {
    /// One notice. It may be lost when the client reads too slowly.
    fn hear(&self, notice: Notice);
}

impl Listener for mpsc::Sender<Notice> {
    fn hear(&self, notice: Notice) {
        if !matches!(notice, Notice::Quiet(_)) {
            drop(self.try_send(notice));
        }
    }
}

/// Everything a [`Context`] is made of; `actors::executor` fills it in.
#[derive(Clone)]
pub struct ContextParts {
    /// When the call is given up.
    pub deadline: Instant,
    /// Trips when the client is gone.
    pub cancel: CancellationToken,
    /// Where notices go; none when nobody listens.
    pub notices: Option<Arc<dyn Listener>>,
    /// Whether the request carried a progress token.
    pub wants_progress: bool,
    /// The least level the request wants to hear of.
    pub log_level: Option<LogLevel>,
    /// What the client can be asked.
    pub client: ClientCapabilities,
    /// Who calls.
    pub caller: CallerKey,
    /// In which session, where the client's revision has sessions.
    pub conversation: Option<ConversationKey>,
    /// Whether the caller proved to be the operator.
    pub operator: bool,
    /// Whether the caller may see all that is offered, and so may know what there is.
    pub sees_all: bool,
    /// W3C trace context of the request.
    pub trace: Trace,
    /// The plugin's room for blocking work.
    pub blocking: Arc<Blocking>,
}

/// What a plugin is given with a request.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("caller", &self.0.parts.caller).finish_non_exhaustive()
    }
}

struct Inner {
    parts: ContextParts,
    /// The progress told last.
    furthest: std::sync::Mutex<f64>,
    hop: std::sync::OnceLock<Hop>,
}

impl Context {
    /// From its parts.
    pub fn new(parts: ContextParts) -> Self {
        let furthest = std::sync::Mutex::new(f64::NEG_INFINITY);
        Self(Arc::new(Inner { parts, furthest, hop: std::sync::OnceLock::new() }))
    }

    /// When the call is given up.
    pub fn deadline(&self) -> Instant {
        self.0.parts.deadline
    }

    /// The time left.
    pub fn remaining(&self) -> Duration {
        self.0.parts.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether the result is still wanted: neither cancelled nor past its deadline. Blocking loops look here.
    pub fn is_wanted(&self) -> bool {
        !self.0.parts.cancel.is_cancelled() && Instant::now() < self.0.parts.deadline
    }

    /// Trips when the client is gone.
    pub fn cancel(&self) -> &CancellationToken {
        &self.0.parts.cancel
    }

    /// What the client can be asked.
    pub fn client(&self) -> &ClientCapabilities {
        &self.0.parts.client
    }

    /// Who calls.
    pub fn caller(&self) -> CallerKey {
        self.0.parts.caller
    }

    /// In which session it calls, where its revision has sessions.
    pub fn conversation(&self) -> Option<ConversationKey> {
        self.0.parts.conversation
    }

    /// The least level of log messages that the request wants.
    pub fn log_level(&self) -> Option<LogLevel> {
        self.0.parts.log_level
    }

    /// Notes what the call did behind the plugin; the first note counts.
    pub fn hopped(&self, hop: Hop) {
        let _told_before = self.0.hop.set(hop);
    }

    /// What the call did behind the plugin, if it went further.
    pub fn hop(&self) -> Option<&Hop> {
        self.0.hop.get()
    }

    /// Whether the caller proved to be the operator: by the key.
    pub fn is_operator(&self) -> bool {
        self.0.parts.operator
    }

    /// Whether the caller may see all that is offered. To others nothing may be told of what they do not see.
    pub fn sees_all(&self) -> bool {
        self.0.parts.sees_all
    }

    /// W3C trace context of the request, to be handed on.
    pub fn trace(&self) -> &Trace {
        &self.0.parts.trace
    }

    /// Whether anybody asked for progress.
    pub fn wants_progress(&self) -> bool {
        self.0.parts.wants_progress
    }

    /// Tells how far the work is. Not sent when nobody asked, when it is not further than before, or when the client
    /// reads too slowly: a later one says more.
    pub fn progress(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
        let (true, Some(notices)) =
            (self.0.parts.wants_progress && progress.is_finite(), &self.0.parts.notices)
        else {
            return;
        };
        let mut furthest = self.0.furthest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if progress > *furthest {
            *furthest = progress;
            let notice = Notice::Progress { progress, total, message: message.map(str::to_owned) };
            notices.hear(notice);
        }
    }

    /// Says that nothing will be said for about so long. A client whose revision can come back for the result (2025-11-25)
    /// is asked to hang up and to do so; for all others it says nothing.
    pub fn quiet_for(&self, time: Duration) {
        if let Some(notices) = &self.0.parts.notices {
            notices.hear(Notice::Quiet(time));
        }
    }

    /// Says something to the client's log, if the request wants that level. Lost when the client reads too slowly.
    pub fn log(&self, level: LogLevel, logger: &str, data: impl Into<Value>) {
        let wanted = self.0.parts.log_level.is_some_and(|least| level >= least);
        if let (true, Some(notices)) = (wanted, &self.0.parts.notices) {
            notices.hear(Notice::Log { level, logger: logger.to_owned(), data: data.into() });
        }
    }

    /// Runs `work` where it may block, on the plugin's bounded pool. When the deadline passes first, the caller is
    /// answered, the thread is counted as lost until it ends, and too many lost threads close the plugin for a while.
    ///
    /// # Errors
    /// `Unavailable` when no thread is free before the deadline, `Failed` when the work panics or outlives it.
    pub async fn blocking<T, F>(&self, work: F) -> Result<T, PluginError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let room = Arc::clone(&self.0.parts.blocking);
        let busy = || PluginError::Unavailable("all blocking threads of this plugin are busy".to_owned());
        let permit =
            tokio::time::timeout_at(self.0.parts.deadline, Arc::clone(&room.permits).acquire_owned());
        let permit = permit.await.map_err(|_elapsed| busy())?.map_err(|_closed| busy())?;
        let watch = Overdue::watch(Arc::clone(&room));
        let ended = watch.ended();
        let thread = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let _ended = ended;
            work()
        });
        // Dropping `watch` before the thread has ended, by deadline or by cancellation, counts it as lost.
        let done = thread.await.map_err(|error| PluginError::Failed(error.to_string()))?;
        drop(watch);
        Ok(done)
    }
}

/// A plugin's room for blocking work: how many threads it may hold, and how many of them nobody waits for any more.
#[derive(Debug)]
pub struct Blocking {
    permits: Arc<Semaphore>,
    lost: AtomicUsize,
}

impl Blocking {
    /// A room for `threads` at once.
    pub fn new(threads: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(threads)), lost: AtomicUsize::new(0) }
    }

    /// Threads that still work on something already given up.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }
}

const RUNNING: usize = 0;
const ABANDONED: usize = 1;
const ENDED: usize = 2;

/// The waiting end of one blocking thread.
struct Overdue {
    room: Arc<Blocking>,
    state: Arc<AtomicUsize>,
}

/// The working end of one blocking thread.
struct Ended {
    room: Arc<Blocking>,
    state: Arc<AtomicUsize>,
}

impl Overdue {
    fn watch(room: Arc<Blocking>) -> Self {
        Self { room, state: Arc::new(AtomicUsize::new(RUNNING)) }
    }

    fn ended(&self) -> Ended {
        Ended { room: Arc::clone(&self.room), state: Arc::clone(&self.state) }
    }
}

impl Drop for Overdue {
    fn drop(&mut self) {
        // Counted before the state is shown, so that the thread, should it end now, finds its count to take back.
        self.room.lost.fetch_add(1, Ordering::Relaxed);
        let seen = self.state.compare_exchange(RUNNING, ABANDONED, Ordering::AcqRel, Ordering::Acquire);
        if seen.is_err() {
            self.room.lost.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if self.state.swap(ENDED, Ordering::AcqRel) == ABANDONED {
            self.room.lost.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
