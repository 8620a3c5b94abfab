//! The one thread that writes history: it takes what has gathered, commits it as a group, and does not let go of it.
//!
//! A database that fails is tried again until it is back; a panic costs one retry of the group in hand, a second one
//! the group. Must not know who records.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::batch::{Batch, Queued};
use super::place::Astray;
use super::queue::Shared;
use super::recorder::{Behind, RecordError, Stands};
use crate::actors::supervision::message_of;
use crate::config::Durability;
use crate::protocol::Raw;
use crate::storage::checkpoints::{Mark, Notary};
use crate::storage::history::chain::hex;
use crate::storage::history::{self, Head, NewEntry, Status, moment};
use crate::storage::stamp::Stamp;
use crate::storage::{DbConnection, Instance, QueryResult, Storage, StorageError, instances};

/// Between two attempts at a failing database, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// Attempts that panicked after which a group is given up.
const PANICS_MAX: u32 = 2;

/// A checkpoint is due after so many rows, if the last one is not of just now, or so long after it, if there is any row.
const MARK_ROWS: i64 = 10_000;
const MARK_APART: Duration = Duration::from_secs(1);
const MARK_EVERY: Duration = Duration::from_secs(60);

/// Makes the text of a call's arguments, as far as the configuration wants them; runs on the writer's thread.
pub type Render = Arc<dyn Fn(&Raw) -> Option<String> + Send + Sync>;

/// The writer, and its thread if that runs.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) storage: Storage,
    pub(super) instance: Instance,
    pub(super) durability: Durability,
    /// How long records may gather; nothing in strict.
    pub(super) linger: Duration,
    pub(super) render: Render,
    pub(super) notary: Notary,
    /// The most that running servers have seen of the counter of changes.
    pub(super) counter: Arc<AtomicI64>,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
}

/// The writer's hold on the database; let go of after a failure.
#[derive(Default)]
pub(super) struct Link {
    pub(super) connection: Option<DbConnection>,
    beaten: Option<Instant>,
    /// While its file is not at its path.
    pub(super) astray: Option<Astray>,
}

impl Writer {
    /// Starts the thread unless it runs or has done its work.
    pub(super) fn ensure_running(self: &Arc<Self>) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_some_and(|thread| !thread.is_finished()) || self.shared.has_ended() {
            return;
        }
        let writer = Arc::clone(self);
        match thread::Builder::new().name("history".to_owned()).spawn(move || writer.run()) {
            Ok(running) => *thread = Some(running),
            Err(error) => log::error!("no thread for the history writer ({error}); it is tried again"),
        }
    }

    fn run(&self) {
        let mut link = Link::default();
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn(&mut link))) {
                Ok(true) => {}
                Ok(false) => break,
                Err(payload) => {
                    self.after_cut(&mut link);
                    self.after_panic(&message_of(payload.as_ref()));
                }
            }
        }
        if catch_unwind(AssertUnwindSafe(|| self.finish(link))).is_err() {
            log::error!("the history writer panicked while closing; the next start completes the database");
        }
        self.shared.end();
    }

    /// One group, from the buffer to the disk. False when there will be none any more.
    fn turn(&self, link: &mut Link) -> bool {
        let mut hand = self.shared.hand();
        if link.connection.is_none() && hand.is_empty() {
            self.try_out(link);
        }
        if hand.is_empty() && !self.shared.gather(&mut hand, self.linger, instances::BEAT) {
            // The last words, and all before them, must not stay in a file that is nobody's any more.
            if self.is_settled(link) || self.shared.is_out_of_time() {
                return false;
            }
        }
        self.write_until_done(&mut hand, link);
        true
    }

    /// Before there is anything to write: what stands in the way of it is known then from the start.
    fn try_out(&self, link: &mut Link) {
        if let Err(error) = self.connect(link) {
            *link = Link::default();
            if self.shared.failed(error.to_string()) {
                log::error!("history cannot be written, it is tried until it can: {error}");
            }
        }
    }

    fn write_until_done(&self, hand: &mut Batch, link: &mut Link) {
        let mut pause = PAUSE_MIN;
        while let Err(error) = self.write(hand, link) {
            // A file that is not at its path any more may be nowhere but behind this connection.
            if !matches!(error, StorageError::Locked(_)) && self.storage.look().is_ok() {
                *link = Link::default();
            }
            if self.shared.failed(error.to_string()) {
                log::error!("history cannot be written, it is tried until it can: {error}");
            }
            if self.shared.is_out_of_time() {
                self.abandon(hand, &error.to_string());
                return;
            }
            if matches!(error, StorageError::Refused { .. }) {
                self.drop_refused(hand, link);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        hand.settle(Ok(()));
    }

    fn write(&self, hand: &mut Batch, link: &mut Link) -> Result<(), StorageError> {
        self.stay_in_place(link)?;
        let is_new = link.connection.is_none();
        let connection = self.connect(link)?;
        if is_new {
            self.find_lost(connection, hand)?;
        }
        if is_new || hand.tries > 0 {
            hand.head = None;
        }
        if hand.tries > 0 {
            // A commit may have succeeded although its answer was lost.
            let last = self.last_written(connection, hand)?;
            hand.rows.retain(|row| last.is_none_or(|last| row.seq > last));
        }
        hand.tries += 1;
        if hand.rows.is_empty() {
            self.shared.succeeded(0);
            self.mark_if_due(connection, hand);
            return Ok(());
        }
        let mut head = self.head(connection, hand)?;
        hand.begun = true;
        let rendered: Vec<Option<String>> = hand.rows.iter().map(|row| self.render(row)).collect();
        // Crashes on demand may come fast; a group that has just suffered one is spared, and so never lost to them.
        let poisoned = hand.panics == 0 && self.shared.is_poisoned();
        let rows = hand.rows.iter().zip(&rendered).enumerate().map(|(index, (row, arguments))| {
            if poisoned && index == hand.rows.len() / 2 {
                crate::actors::supervision::Crash.now();
            }
            self.entry(row, arguments.as_deref())
        });
        self.tell(history::append(connection, &mut head, rows))?;
        self.shared.succeeded(hand.rows.len());
        self.stand(head);
        hand.kept = hand.rows.last().map(|row| (row.seq, row.at));
        hand.head = Some(head);
        self.mark_if_due(connection, hand);
        Ok(())
    }

    fn stand(&self, head: Head) {
        let (database, instance_id) = (self.storage.place().to_owned(), self.instance.id.clone());
        self.shared.stand(Stands { database, instance_id, seq: head.seq, hash: hex(&head.hash) });
    }

    /// Where the chain goes on. What is remembered goes before what stands in the database, which others may have touched.
    fn head(&self, connection: &mut DbConnection, hand: &Batch) -> Result<Head, StorageError> {
        match hand.head {
            Some(head) => Ok(head),
            None if !hand.begun => Ok(Head::default()),
            None => Ok(self.tell(history::head_of(connection, &self.instance.id))?.unwrap_or_default()),
        }
    }

    /// Writes down now and then where the chain stands. The rows are on disk: that this fails is no fault of theirs.
    fn mark_if_due(&self, connection: &mut DbConnection, hand: &mut Batch) {
        let Some(head) = hand.head else { return };
        let (seq, at) = &mut hand.marked;
        let (rows, passed) = (head.seq - *seq, at.get_or_insert_with(Instant::now).elapsed());
        if !(rows >= MARK_ROWS && passed >= MARK_APART || rows > 0 && passed >= MARK_EVERY) {
            return;
        }
        *at = Some(Instant::now());
        match self.mark(connection, head, Mark::Checkpoint) {
            Ok(()) => *seq = head.seq,
            Err(error) => {
                log::warn!("a checkpoint of the history is left out, the next one follows: {error}")
            }
        }
    }

    /// The log has it, too: who could rewrite all of the database with the key at hand cannot rewrite what was shipped away.
    fn mark(&self, connection: &mut DbConnection, head: Head, mark: Mark) -> Result<(), StorageError> {
        self.tell(self.notary.write(connection, &self.instance.id, head, mark))?;
        log::info!(
            instance = self.instance.id.as_str(), seq = head.seq, hash = hex(&head.hash).as_str();
            "{}", history::say(head)
        );
        Ok(())
    }

    /// A server that crashed, or gave way to its replica, may have lost what it said was written: then a gap row tells so.
    fn find_lost(&self, connection: &mut DbConnection, hand: &mut Batch) -> Result<(), StorageError> {
        let Some((kept, at)) = hand.kept else { return Ok(()) };
        let mut last = self.tell(history::last_seq(connection, &self.instance.id, at))?;
        if last.is_none() {
            last = self.tell(history::last_seq(connection, &self.instance.id, self.instance.started_at))?;
        }
        let lost = kept - last.unwrap_or_default();
        hand.kept = None;
        if let Ok(lost @ 1..) = u64::try_from(lost) {
            log::error!(
                "the database has lost {lost} history rows that it had taken; a gap row tells of them"
            );
            self.shared.lose(lost);
        }
        Ok(())
    }

    /// The last row on disk of those in hand, if any is; the clock may have been set back while they came.
    fn last_written(&self, connection: &mut DbConnection, hand: &Batch) -> Result<Option<i64>, StorageError> {
        let Some(since) = hand.rows.iter().map(|row| row.at).min() else { return Ok(None) };
        self.tell(history::last_seq(connection, &self.instance.id, since))
    }

    /// The connection, opened and registered if need be; says now and then that this instance runs.
    fn connect<'a>(&self, link: &'a mut Link) -> Result<&'a mut DbConnection, StorageError> {
        let connection = match link.connection.take() {
            Some(connection) => connection,
            None => {
                let mut connection = self.storage.connect()?;
                self.tell(connection.set_durability(self.durability))?;
                self.tell(instances::register(&mut connection, &self.instance))?;
                // One that stops writes no more rows: what was noted, by itself last of all, is the next one's to tell.
                if !self.shared.is_closing() {
                    self.hear_untold(&mut connection);
                }
                link.beaten = Some(Instant::now());
                connection
            }
        };
        let connection = link.connection.insert(connection);
        if link.beaten.is_none_or(|at| at.elapsed() >= instances::BEAT) {
            self.tell(instances::beat(connection, &self.instance.id))?;
            link.beaten = Some(Instant::now());
        }
        Ok(connection)
    }

    pub(super) fn tell<T>(&self, result: QueryResult<T>) -> Result<T, StorageError> {
        result.map_err(|error| self.storage.failed(&error))
    }

    /// A redaction that panics must not cost the row.
    fn render(&self, row: &Queued) -> Option<String> {
        let arguments = row.record.arguments.as_ref()?;
        // Here, so that no way of capturing can forget it.
        let render = || match &row.record.hidden {
            None => (self.render)(arguments),
            Some(places) => (self.render)(&Raw::trusted(places.hide(arguments.as_str()))),
        };
        catch_unwind(AssertUnwindSafe(render)).unwrap_or_else(|payload| {
            log::error!(
                "arguments could not be captured, and are left out: {}",
                message_of(payload.as_ref())
            );
            None
        })
    }

    fn entry<'a>(&'a self, row: &'a Queued, arguments: Option<&'a str>) -> NewEntry<'a> {
        let record = &row.record;
        let written = record.status.filter(|status| status.is_written());
        NewEntry {
            instance_id: &self.instance.id,
            seq: row.seq,
            call_id: &record.call_id,
            round: i32::try_from(record.round).unwrap_or(i32::MAX),
            kind: record.kind.name(),
            created_at: Stamp(moment(row.at)),
            method: Some(Cow::Borrowed(&record.method)),
            plugin: record.plugin.as_deref().map(Cow::Borrowed),
            tool: record.tool.as_deref().map(Cow::Borrowed),
            caller: record.caller.as_deref().map(Cow::Borrowed),
            client: record.client.as_deref().map(Cow::Borrowed),
            session: record.session.as_deref().map(Cow::Borrowed),
            protocol_version: record.protocol_version.as_deref().map(Cow::Borrowed),
            status: written.map(Status::name),
            error_code: record.error_code.map(Cow::Borrowed),
            duration_us: record.duration_us.map(|us| i64::try_from(us).unwrap_or(i64::MAX)),
            arguments: arguments.map(Cow::Borrowed),
            result_bytes: record.result_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            request_id: record.request_id.as_deref().map(Cow::Borrowed),
            trace_id: record.trace_id.as_deref().map(Cow::Borrowed),
            detail: record.detail.as_deref().map(Cow::Borrowed),
            behind: record.behind.as_deref().map(behind),
        }
    }

    /// Writes the group row by row, so that one row which the database will never take costs itself only.
    fn drop_refused(&self, hand: &mut Batch, link: &mut Link) {
        let Ok(connection) = self.connect(link) else { return };
        let Ok(last) = self.last_written(connection, hand) else { return };
        hand.rows.retain(|row| last.is_none_or(|last| row.seq > last));
        hand.head = None;
        let Ok(mut head) = self.head(connection, hand) else { return };
        let (mut done, mut lost) = (0, Vec::new());
        for row in &hand.rows {
            let arguments = self.render(row);
            let entry = std::iter::once(self.entry(row, arguments.as_deref()));
            let written = history::append(connection, &mut head, entry);
            match self.tell(written) {
                Ok(()) => self.shared.succeeded(1),
                Err(error @ StorageError::Refused { .. }) => {
                    log::error!(seq = row.seq; "a history row is lost: {error}");
                    lost.push(row.seq);
                }
                Err(_) => break,
            }
            done += 1;
        }
        self.shared.lose(lost.len() as u64);
        hand.leave(done, &lost);
    }

    fn after_panic(&self, message: &str) {
        let mut hand = self.shared.hand();
        hand.panics += 1;
        self.shared.failed(format!("the writer panicked: {message}"));
        if hand.panics >= PANICS_MAX {
            self.abandon(&mut hand, message);
        } else {
            log::error!("the history writer panicked and tries its group again: {message}");
        }
        drop(hand);
        thread::sleep(PAUSE_MIN);
    }

    fn abandon(&self, hand: &mut Batch, cause: &str) {
        let rows = hand.rows.len();
        log::error!("{rows} history rows are given up: {cause}");
        self.shared.lose(rows as u64);
        hand.settle(Err(RecordError::Lost));
    }

    /// Says that this instance stopped, and makes the file whole.
    fn finish(&self, mut link: Link) {
        let mut hand = self.shared.hand();
        if link.connection.is_none() {
            hand.head = None;
        }
        let (lost, mut away) = (self.shared.untold(), 0);
        if let Err(error) = self.storage.look() {
            // It may have a name elsewhere, and is ended there; here it is missing.
            log::error!("what this server recorded is not where the database should be: {error}");
            match link.connection.as_mut().map(|connection| self.storage.keep_lost(connection)) {
                Some(Ok(Some(kept))) => log::warn!("it is kept as {}", kept.display()),
                Some(Err(error)) => log::error!("it is lost: {error}"),
                Some(Ok(None)) | None => {}
            }
            if !self.is_settled(&link) {
                away = hand.kept.map_or(0, |(seq, _)| seq);
                self.shared.lose(u64::try_from(away).unwrap_or_default());
            }
        }
        self.leave_word(lost, away);
        let finished = self.connect(&mut link).and_then(|connection| {
            let head = self.head(connection, &hand)?;
            if head.seq > 0 {
                self.mark(connection, head, Mark::Head)?;
            }
            self.tell(instances::stopped(connection, &self.instance.id))?;
            self.tell(connection.checkpoint())
        });
        if let Err(error) = finished {
            log::error!("history was not closed cleanly; the next start completes it: {error}");
        }
    }
}

/// What a call did behind its plugin, as columns.
fn behind(told: &Behind) -> history::Behind<'_> {
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let hop = told.hop.as_ref();
    history::Behind {
        instance: hop.and_then(|hop| hop.instance.as_deref()).map(Cow::Borrowed),
        queue_us: told.queue_us.map(whole),
        upstream_us: hop.map(|hop| i64::try_from(hop.upstream.as_micros()).unwrap_or(i64::MAX)),
        bytes_out: hop.map(|hop| whole(hop.bytes_out)),
        bytes_in: hop.map(|hop| whole(hop.bytes_in)),
        bridged: hop.and_then(|hop| hop.bridged),
    }
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use super::super::queue::Limits;
    use super::super::recorder::Record;
    use super::*;
    use crate::config;
    use crate::storage::history::Kind;

    fn writer(folder: &std::path::Path) -> Writer {
        let database = config::Database { url: None, pool_size: 1, busy_timeout_ms: 10, wait_seconds: 0 };
        let storage = crate::storage::open(&database, &folder.join("waygate.db")).unwrap();
        storage.migrate().unwrap();
        Writer {
            shared: Arc::new(Shared::new(Limits {
                capacity: 10,
                room_wait: Duration::from_secs(60),
                arguments_max_bytes: 0,
            })),
            storage,
            instance: Instance::begin(),
            durability: Durability::Strict,
            linger: Duration::ZERO,
            render: Arc::new(|_raw| None),
            notary: Notary::default(),
            counter: Arc::default(),
            thread: Mutex::new(None),
        }
    }

    #[test]
    fn a_group_is_kept_through_one_panic_and_given_up_after_two() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(folder.path());
        let record = Record::new(Kind::Outcome, "a".into(), "tools/call");
        let mut told = writer.shared.push_durable(std::time::SystemTime::now(), record).unwrap().unwrap();
        assert!(writer.shared.gather(&mut writer.shared.hand(), Duration::ZERO, Duration::ZERO));
        writer.after_panic("once");
        assert_eq!(writer.shared.hand().rows.len(), 1);
        assert!(told.try_recv().is_err(), "nothing is told yet");
        writer.after_panic("twice");
        assert!(writer.shared.hand().is_empty());
        assert_eq!(told.try_recv(), Ok(Err(RecordError::Lost)));
        assert!(writer.turn(&mut Link::default()));
        let page =
            history::list(&mut writer.storage.connect().unwrap(), &history::Filter::default()).unwrap();
        let kinds: Vec<&str> = page.calls.iter().map(|call| call.kind.as_str()).collect();
        assert_eq!(kinds, ["gap"]);
    }

    fn counter(writer: &Writer) -> i64 {
        crate::storage::keys::counter(&mut writer.storage.connect().unwrap()).unwrap()
    }

    #[test]
    fn a_panic_in_a_transaction_of_a_file_that_is_gone_rolls_it_back_and_keeps_the_hold_on_all_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(folder.path());
        let mut link = Link::default();
        crate::storage::keys::raise(writer.connect(&mut link).unwrap(), 7).unwrap();
        let connection = link.connection.as_mut().unwrap();
        let cut = catch_unwind(AssertUnwindSafe(|| {
            diesel::Connection::transaction(connection, |connection| -> QueryResult<()> {
                crate::storage::keys::raise(connection, 99)?;
                std::fs::remove_file(folder.path().join("waygate.db")).unwrap();
                crate::actors::supervision::Crash.now();
                Ok(())
            })
        }));
        assert!(cut.is_err());
        writer.after_cut(&mut link);
        assert!(link.connection.is_some(), "nobody else has it");
        let mended = writer.storage.mend(&mut link.connection, 0).unwrap();
        assert_eq!(mended, crate::storage::Mended::Saved);
        assert_eq!(counter(&writer), 8);
        // Where the file is at its path, a connection is cheap, and a new one is sure.
        let mut link = Link::default();
        writer.connect(&mut link).unwrap();
        writer.after_cut(&mut link);
        assert!(link.connection.is_none());
    }

    #[test]
    fn a_commit_whose_answer_was_lost_is_not_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(folder.path());
        let record = Record::new(Kind::Outcome, "a".into(), "tools/call");
        writer.shared.push(std::time::SystemTime::now(), record);
        let mut hand = writer.shared.hand();
        assert!(writer.shared.gather(&mut hand, Duration::ZERO, Duration::ZERO));
        writer.write(&mut hand, &mut Link::default()).unwrap();
        assert_eq!((hand.rows.len(), hand.tries), (1, 1), "as if the answer had not come");
        writer.write(&mut hand, &mut Link::default()).unwrap();
        let mut connection = writer.storage.connect().unwrap();
        assert_eq!(history::show(&mut connection, "a").unwrap().len(), 1);
    }
}
