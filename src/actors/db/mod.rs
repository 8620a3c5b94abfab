//! DbActor: owns the history writer's life, reads history for others, closes up. Holds no state that a crash could lose:
//! buffer, group in hand and writer outlive it. Must not know HTTP or plugins.

mod batch;
pub mod messages;
mod place;
mod queue;
mod recorder;
mod retention;
mod writer;

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use actix::{Actor, Addr, AsyncContext as _, Context, Handler, ResponseFuture, Supervised};
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use messages::{
    ActOnKeys, CheckDatabase, Close, Crash, Flush, GetPool, ListHistory, LoadDefinitions, LoadKeys,
    LoadSessions, LookAtKeys, Ping, SaveDefinitions, SaveKeyUses, SaveSessions, ShowCall,
};
pub use recorder::{
    Act, Behind, COMMIT_DEADLINE, ITSELF, ROOM_WAIT, Record, RecordError, Recorder, RecorderState, Stands,
};
use retention::Retention;
pub use writer::Render;
use writer::Writer;

use crate::access::keys::{Acted, KeyError};
use crate::actors::keys::acts;
use crate::actors::supervision::{Roster, Terms};
use crate::config::{self, Capture, Durability};
use crate::storage::checkpoints::Mark;
use crate::storage::definitions::ToolDefinition;
use crate::storage::history::{self, Entry, Kind, Page, Status};
use crate::storage::keys::KeyRow;
use crate::storage::sessions::OfOthers;
use crate::storage::{
    DbConnection, Instance, Notary, PoolState, QueryResult, Storage, StorageError, WATCHERS, definitions,
    instances, keys, sessions,
};

/// From the question to the answer, the wait for a reader included.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// The same for the small read of a check, whose answer is worth less the later it comes.
const CHECK_DEADLINE: Duration = Duration::from_millis(1500);
/// How long a closing writer may try to write what is left.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// How often the writer's thread is looked after.
const WRITER_CHECK: Duration = Duration::from_secs(1);
/// How often the dead are looked for.
const REAP_EVERY: Duration = Duration::from_secs(60);
/// Calls of the dead that are closed at once.
const ORPHANS_AT_ONCE: u32 = 500;

/// The database's actor.
pub struct DbActor {
    storage: Storage,
    recorder: Recorder,
    writer: Arc<Writer>,
    /// As many as the pool has connections for them, so that no thread ever waits for one.
    readers: Arc<Semaphore>,
    /// A place that no reader of the history takes: that a key is revoked must be seen while they all wait.
    watcher: Arc<Semaphore>,
    retention: Retention,
}

/// Starts the database's actor and its writer on a storage that is migrated.
pub fn start(
    roster: &Arc<Roster>,
    storage: Storage,
    instance: Instance,
    config: &config::History,
    render: Render,
    notary: Notary,
) -> (Addr<DbActor>, Recorder) {
    let recorder = Recorder::new(config.queue_max, config.arguments != Capture::None);
    let linger = match config.durability {
        Durability::Batched => Duration::from_millis(config.linger_ms),
        Durability::Strict => Duration::ZERO,
    };
    let writer = Arc::new(Writer {
        shared: Arc::clone(recorder.shared()),
        storage: storage.clone(),
        instance,
        durability: config.durability,
        linger,
        render,
        notary,
        counter: Arc::default(),
        thread: Mutex::new(None),
    });
    let readers = Arc::new(Semaphore::new(storage.pool_size() as usize));
    let retention = Retention::new(&storage, &recorder, &readers, &writer.notary, config);
    let watcher = Arc::new(Semaphore::new(WATCHERS as usize));
    let actor = DbActor { storage, recorder: recorder.clone(), writer, readers, watcher, retention };
    let terms = Terms { mailbox: 1024, may_end: false, vital: true };
    let (address, _part) = roster.start("db".to_owned(), "db", terms, |_context| actor);
    (address, recorder)
}

impl Actor for DbActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.writer.ensure_running();
        context.run_interval(WRITER_CHECK, |actor, _context| actor.writer.ensure_running());
        self.reap();
        context.run_interval(REAP_EVERY, |actor, _context| actor.reap());
        actix_rt::spawn(self.retention.clone().run());
        context.run_interval(retention::EVERY, |actor, _context| {
            actix_rt::spawn(actor.retention.clone().run());
        });
    }
}

impl Supervised for DbActor {
    // Nothing to renew: what it holds are doors to what others own.
}

// === handlers, in the order of messages.rs ===

impl Handler<Ping> for DbActor {
    type Result = ();
    fn handle(&mut self, _: Ping, _: &mut Context<Self>) {}
}

impl Handler<Crash> for DbActor {
    type Result = ();
    fn handle(&mut self, crash: Crash, _: &mut Context<Self>) {
        // The writer is part of it: its retry is then tried out as well.
        self.recorder.poison();
        crash.now();
    }
}

impl Handler<ListHistory> for DbActor {
    type Result = ResponseFuture<Result<Page, StorageError>>;
    fn handle(&mut self, message: ListHistory, _: &mut Context<Self>) -> Self::Result {
        self.read(move |connection| history::list(connection, &message.filter))
    }
}

impl Handler<ShowCall> for DbActor {
    type Result = ResponseFuture<Result<Vec<Entry>, StorageError>>;
    fn handle(&mut self, message: ShowCall, _: &mut Context<Self>) -> Self::Result {
        self.read(move |connection| history::show(connection, &message.call_id))
    }
}

impl Handler<LoadDefinitions> for DbActor {
    type Result = ResponseFuture<Result<Vec<ToolDefinition>, StorageError>>;
    fn handle(&mut self, _: LoadDefinitions, _: &mut Context<Self>) -> Self::Result {
        self.read(definitions::all)
    }
}

impl Handler<SaveDefinitions> for DbActor {
    type Result = ResponseFuture<Result<(), StorageError>>;
    fn handle(&mut self, message: SaveDefinitions, _: &mut Context<Self>) -> Self::Result {
        self.read(move |connection| definitions::save(connection, &message.rows))
    }
}

impl Handler<LookAtKeys> for DbActor {
    type Result = ResponseFuture<Result<i64, StorageError>>;
    fn handle(&mut self, _: LookAtKeys, _: &mut Context<Self>) -> Self::Result {
        let seen = Arc::clone(&self.writer.counter);
        let looked = self.check(&self.watcher, keys::counter);
        Box::pin(async move {
            let counter = looked.await?;
            seen.fetch_max(counter, Ordering::Relaxed);
            Ok(counter)
        })
    }
}

impl Handler<LoadKeys> for DbActor {
    type Result = ResponseFuture<Result<(i64, Vec<KeyRow>), StorageError>>;
    fn handle(&mut self, _: LoadKeys, _: &mut Context<Self>) -> Self::Result {
        let seen = Arc::clone(&self.writer.counter);
        let read = read(self.storage.clone(), Arc::clone(&self.watcher), READ_DEADLINE, keys::all_at);
        Box::pin(async move {
            let (counter, rows) = read.await?;
            seen.fetch_max(counter, Ordering::Relaxed);
            Ok((counter, rows))
        })
    }
}

impl Handler<ActOnKeys> for DbActor {
    type Result = ResponseFuture<Result<Result<Acted, KeyError>, StorageError>>;
    fn handle(&mut self, ActOnKeys { act }: ActOnKeys, _: &mut Context<Self>) -> Self::Result {
        // Its record is the writer's to write, as all that this instance does.
        self.read(move |connection| acts::carry_out(connection, &act, SystemTime::now(), |_, _| Ok(())))
    }
}

impl Handler<SaveKeyUses> for DbActor {
    type Result = ResponseFuture<Result<(), StorageError>>;
    fn handle(&mut self, SaveKeyUses { uses }: SaveKeyUses, _: &mut Context<Self>) -> Self::Result {
        self.read(move |connection| keys::used(connection, &uses))
    }
}

impl Handler<LoadSessions> for DbActor {
    type Result = ResponseFuture<Result<OfOthers, StorageError>>;
    fn handle(&mut self, LoadSessions { now, since }: LoadSessions, _: &mut Context<Self>) -> Self::Result {
        let own = self.writer.instance.id.clone();
        self.read(move |connection| sessions::load(connection, &own, now, since))
    }
}

impl Handler<SaveSessions> for DbActor {
    type Result = ResponseFuture<Result<(), StorageError>>;
    fn handle(&mut self, mut message: SaveSessions, _: &mut Context<Self>) -> Self::Result {
        for row in &mut message.rows {
            row.instance_id.clone_from(&self.writer.instance.id);
        }
        self.read(move |connection| sessions::save(connection, &message.rows, &message.ended, message.now))
    }
}

impl Handler<CheckDatabase> for DbActor {
    type Result = ResponseFuture<Result<Duration, StorageError>>;
    fn handle(&mut self, _: CheckDatabase, _: &mut Context<Self>) -> Self::Result {
        self.check(&self.readers, |connection| {
            let began = Instant::now();
            crate::storage::ask(connection)?;
            Ok(began.elapsed())
        })
    }
}

impl Handler<GetPool> for DbActor {
    type Result = Result<PoolState, StorageError>;
    fn handle(&mut self, _: GetPool, _: &mut Context<Self>) -> Self::Result {
        Ok(self.storage.pool_state())
    }
}

impl Handler<Flush> for DbActor {
    type Result = ResponseFuture<Result<(), RecordError>>;
    fn handle(&mut self, _: Flush, _: &mut Context<Self>) -> Self::Result {
        let recorder = self.recorder.clone();
        Box::pin(async move { recorder.flush().await })
    }
}

impl Handler<Close> for DbActor {
    type Result = ResponseFuture<Result<(), RecordError>>;
    fn handle(&mut self, _: Close, _: &mut Context<Self>) -> Self::Result {
        // A writer that could not be started must be, to write what is left.
        self.writer.ensure_running();
        // Readers first: the last connection to close is then the writer's, and takes the -wal file along.
        self.storage.close();
        let recorder = self.recorder.clone();
        Box::pin(async move { recorder.close(CLOSE_DEADLINE).await })
    }
}

impl DbActor {
    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut DbConnection) -> QueryResult<T> + Send + 'static,
    ) -> ResponseFuture<Result<T, StorageError>> {
        Box::pin(read(self.storage.clone(), Arc::clone(&self.readers), READ_DEADLINE, work))
    }

    /// A small read. One that finds the file not at its path wakes the writer, which sees to it.
    fn check<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        work: impl FnOnce(&mut DbConnection) -> QueryResult<T> + Send + 'static,
    ) -> ResponseFuture<Result<T, StorageError>> {
        let read = read(self.storage.clone(), Arc::clone(places), CHECK_DEADLINE, work);
        let recorder = self.recorder.clone();
        Box::pin(async move {
            let done = read.await;
            if let Err(
                StorageError::Moved { .. } | StorageError::Foreign { .. } | StorageError::Stuck { .. },
            ) = &done
            {
                recorder.shared().rouse();
            }
            done
        })
    }

    /// Closes the calls of dead instances, beside everything else.
    fn reap(&self) {
        let reaper = Reaper {
            storage: self.storage.clone(),
            recorder: self.recorder.clone(),
            readers: Arc::clone(&self.readers),
            own: self.writer.instance.id.clone(),
            notary: self.writer.notary.clone(),
        };
        actix_rt::spawn(async move {
            if let Err(error) = reaper.run().await.or_else(unless_stopping) {
                log::warn!("calls of dead instances could not be closed yet, they are tried again: {error}");
            }
        });
    }
}

/// What could not be closed since the server stops is closed by the next one: nothing is amiss.
fn unless_stopping(error: anyhow::Error) -> anyhow::Result<()> {
    let is_closed = matches!(error.downcast_ref(), Some(StorageError::Closed(_)))
        || matches!(error.downcast_ref(), Some(RecordError::Closed));
    if is_closed { Ok(()) } else { Err(error) }
}

/// Runs `work` on a reader's thread, within the deadline. Past it, the thread keeps its place until it ends.
async fn read<T: Send + 'static>(
    storage: Storage,
    readers: Arc<Semaphore>,
    deadline: Duration,
    work: impl FnOnce(&mut DbConnection) -> QueryResult<T> + Send + 'static,
) -> Result<T, StorageError> {
    let until = Instant::now() + deadline;
    let place = storage.place().to_owned();
    let Ok(Ok(permit)) = timeout_at(until, readers.acquire_owned()).await else {
        return Err(StorageError::Busy(place));
    };
    let job = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        storage.run(until.saturating_duration_since(Instant::now()), work)
    });
    match timeout_at(until, job).await {
        Ok(Ok(done)) => done,
        Ok(Err(panicked)) => Err(StorageError::Failed { place, cause: panicked.to_string() }),
        Err(_elapsed) => Err(StorageError::Slow(place)),
    }
}

/// Gives the calls that died with their instance an outcome.
struct Reaper {
    storage: Storage,
    recorder: Recorder,
    readers: Arc<Semaphore>,
    own: String,
    notary: Notary,
}

impl Reaper {
    async fn run(&self) -> anyhow::Result<()> {
        let own = self.own.clone();
        for dead in self.read(move |connection| instances::dead(connection, &own)).await? {
            let closed = self.close_calls_of(&dead.instance_id).await?;
            self.mark(&dead.instance_id).await;
            let id = dead.instance_id.clone();
            self.read(move |connection| instances::stopped(connection, &id)).await?;
            log::warn!(
                instance = dead.instance_id.as_str();
                "process {} on {} ended without a clean stop; {closed} calls it had begun are interrupted",
                dead.pid, dead.host
            );
        }
        Ok(())
    }

    /// Writes down where the chain of a dead instance ended, which it could not do. It may turn out to live: it is no head.
    async fn mark(&self, id: &str) {
        let (own, notary) = (id.to_owned(), self.notary.clone());
        let marked = self.read(move |connection| match history::head_of(connection, &own)? {
            Some(head) => notary.write(connection, &own, head, Mark::Checkpoint),
            None => Ok(()),
        });
        if let Err(error) = marked.await {
            log::warn!(instance = id; "no checkpoint of a dead instance could be written: {error}");
        }
    }

    async fn close_calls_of(&self, id: &str) -> anyhow::Result<usize> {
        let mut closed = 0;
        loop {
            let id = id.to_owned();
            let some =
                self.read(move |connection| history::orphans(connection, &id, ORPHANS_AT_ONCE)).await?;
            if some.is_empty() {
                return Ok(closed);
            }
            closed += some.len();
            let written = some.into_iter().map(|orphan| self.recorder.record_durably(interrupted(orphan)));
            join_all(written).await.into_iter().collect::<Result<(), RecordError>>()?;
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut DbConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        read(self.storage.clone(), Arc::clone(&self.readers), READ_DEADLINE, work).await
    }
}

/// The outcome of a call whose server died.
fn interrupted(orphan: Entry) -> Record {
    let shared = |text: Option<String>| text.map(Arc::<str>::from);
    let method = orphan.method.unwrap_or_default();
    let mut record = Record::new(Kind::Outcome, orphan.call_id.into(), method);
    record.round = u32::try_from(orphan.round).unwrap_or_default();
    record.plugin = shared(orphan.plugin);
    record.tool = shared(orphan.tool);
    record.caller = shared(orphan.caller);
    record.client = shared(orphan.client);
    record.session = shared(orphan.session);
    record.protocol_version = orphan.protocol_version.map(Cow::Owned);
    record.request_id = shared(orphan.request_id);
    record.trace_id = shared(orphan.trace_id);
    record.status = Some(Status::Interrupted);
    record.detail =
        Some(Cow::Owned(format!("the instance {} ended before the call did", orphan.instance_id)));
    record
}
