//! What executors and the history writer share: the buffer, the group in hand, the tallies.
//!
//! A push is a short lock and no wait; the writer takes the whole buffer at once, and is woken only if it sleeps. Must not
//! know the database.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, oneshot};

use super::batch::{Batch, Queued, Told, Waiter};
use super::recorder::{Record, RecordError, RecorderState, Stands};
use crate::protocol::Raw;
use crate::storage::history::Kind;

/// How long a drop keeps history degraded, so that somebody sees it.
const DEGRADED_FOR: Duration = Duration::from_secs(60);
/// Bytes of arguments that may wait for the writer; as many again may be in its hand.
pub(super) const ARGUMENTS_MAX_BYTES: usize = 64 << 20;
/// What stands in a row in place of arguments that found no room.
const LEFT_OUT: &str = "the arguments were left out: too many bytes of them waited for the database";

/// What the writer's thread is doing, as far as those care who might have to wake it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Working,
    /// Until there is anything to do.
    Sleeping,
    /// Until more has gathered, or something is urgent.
    Lingering,
}

/// The buffer, and what goes with it under the one short lock.
struct Queue {
    rows: Vec<Queued>,
    /// Records that found no room, with the time until which they wait for it; only when `rows` is full.
    late: VecDeque<(Instant, SystemTime, Record)>,
    waiters: Vec<(i64, Waiter)>,
    /// Of the arguments in `rows` and `late`.
    argument_bytes: usize,
    next_seq: i64,
    /// Records dropped since the last gap row.
    missing: u64,
    writer: Writer,
    /// Whether the writer should not linger.
    urgent: bool,
    /// Once set, nothing more is taken, and the writer gives up then.
    closing: Option<Instant>,
    closers: Vec<Waiter>,
    ended: bool,
}

impl Queue {
    /// Counts the arguments of a record that is about to wait; gives back those that find no room, to be let go of
    /// outside of the lock.
    fn admit(&mut self, record: &mut Record, limits: Limits) -> Option<Raw> {
        let bytes = bytes_of(record);
        if bytes <= limits.arguments_max_bytes.saturating_sub(self.argument_bytes) {
            self.argument_bytes += bytes;
            return None;
        }
        record.detail.get_or_insert(Cow::Borrowed(LEFT_OUT));
        record.arguments.take()
    }

    fn push(&mut self, at: SystemTime, record: Record) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.rows.push(Queued { seq, at, record });
    }

    /// Lets a record wait for room; gives the number of those dropped.
    fn push_late(&mut self, at: SystemTime, mut record: Record, limits: Limits) -> u64 {
        let now = Instant::now();
        let mut dropped = 0;
        while self.late.front().is_some_and(|(until, ..)| *until <= now) {
            let gone = self.late.pop_front();
            self.argument_bytes -= gone.map_or(0, |(.., record)| bytes_of(&record));
            dropped += 1;
        }
        if self.late.len() < limits.capacity {
            drop(self.admit(&mut record, limits));
            self.late.push_back((now + limits.room_wait, at, record));
        } else {
            dropped += 1;
        }
        self.missing += dropped;
        dropped
    }

    /// Room was made: takes in those who waited for it, if they still do; gives the number of those dropped.
    fn take_late(&mut self) -> u64 {
        let now = Instant::now();
        let mut dropped = 0;
        for (until, at, record) in std::mem::take(&mut self.late) {
            if until > now {
                self.push(at, record);
            } else {
                self.argument_bytes -= bytes_of(&record);
                dropped += 1;
            }
        }
        self.missing += dropped;
        dropped
    }

    fn wait_for_commit(&mut self) -> Told {
        let (tell, told) = oneshot::channel();
        self.waiters.push((self.next_seq - 1, tell));
        self.urgent = true;
        told
    }

    fn is_idle(&self) -> bool {
        self.rows.is_empty() && self.waiters.is_empty() && self.missing == 0
    }

    fn is_closing(&self) -> bool {
        self.closing.is_some()
    }
}

/// How much may wait in the buffer, and as much again for room in it, so long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) capacity: usize,
    pub(super) room_wait: Duration,
    /// Of the arguments in all of them; those of a record beyond it are left out.
    pub(super) arguments_max_bytes: usize,
}

fn bytes_of(record: &Record) -> usize {
    record.arguments.as_ref().map_or(0, |arguments| arguments.bytes().len())
}

/// What executors and the writer share.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Told whenever the writer took the buffer.
    pub(super) room: Notify,
    /// The group being written; whoever holds it is the one writer.
    hand: Mutex<Batch>,
    poison: AtomicBool,
    limits: Limits,
    batches: AtomicU64,
    rows: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    last_error: Mutex<Option<String>>,
    last_drop: Mutex<Option<Instant>>,
    stands: Mutex<Option<Stands>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === the executors' side ===

impl Shared {
    /// An empty buffer, whose rows are counted from 1.
    pub(super) fn new(limits: Limits) -> Self {
        let queue = Queue {
            rows: Vec::new(),
            late: VecDeque::new(),
            waiters: Vec::new(),
            argument_bytes: 0,
            next_seq: 1,
            missing: 0,
            writer: Writer::Working,
            urgent: false,
            closing: None,
            closers: Vec::new(),
            ended: false,
        };
        Self {
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            room: Notify::new(),
            hand: Mutex::default(),
            poison: AtomicBool::new(false),
            limits,
            batches: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_error: Mutex::new(None),
            last_drop: Mutex::new(None),
            stands: Mutex::new(None),
        }
    }

    pub(super) fn push(&self, at: SystemTime, mut record: Record) {
        let _left_out;
        let mut queue = lock(&self.queue);
        if queue.is_closing() {
            drop(queue);
            self.count_dropped(1);
        } else if queue.rows.len() < self.limits.capacity {
            _left_out = queue.admit(&mut record, self.limits);
            queue.push(at, record);
            // A linger would now let it run full.
            queue.urgent |= queue.rows.len() == self.limits.capacity.div_ceil(2);
            self.wake(queue);
        } else {
            let dropped = queue.push_late(at, record, self.limits);
            self.wake(queue);
            self.count_dropped(dropped);
        }
    }

    /// Gives the record back when there is no room.
    pub(super) fn push_durable(
        &self,
        at: SystemTime,
        mut record: Record,
    ) -> Result<Result<Told, Record>, RecordError> {
        let _left_out;
        let mut queue = lock(&self.queue);
        if queue.is_closing() {
            return Err(RecordError::Closed);
        }
        if queue.rows.len() >= self.limits.capacity {
            return Ok(Err(record));
        }
        _left_out = queue.admit(&mut record, self.limits);
        queue.push(at, record);
        let told = queue.wait_for_commit();
        self.wake(queue);
        Ok(Ok(told))
    }

    pub(super) fn wait_for_commit(&self) -> Result<Told, RecordError> {
        let mut queue = lock(&self.queue);
        if queue.is_closing() {
            return Err(RecordError::Closed);
        }
        let told = queue.wait_for_commit();
        self.wake(queue);
        Ok(told)
    }

    /// Has the writer look after the database soon, if nothing else does already.
    pub(super) fn rouse(&self) {
        let mut queue = lock(&self.queue);
        if !queue.is_closing() && queue.is_idle() {
            // Nobody waits for the answer.
            drop(queue.wait_for_commit());
            self.wake(queue);
        }
    }

    /// A refused intent leaves no trace, since its tool will not run; what has happened leaves a gap.
    pub(super) fn refuse(&self, record: &Record) {
        if record.kind != Kind::Intent {
            self.lose(1);
        }
    }

    /// Takes no more from now on; none when the writer has ended already.
    pub(super) fn close(&self, deadline: Duration) -> Option<Told> {
        let mut queue = lock(&self.queue);
        if queue.ended {
            return None;
        }
        let (tell, told) = oneshot::channel();
        queue.closers.push(tell);
        queue.closing.get_or_insert(Instant::now() + deadline);
        self.wake(queue);
        Some(told)
    }

    pub(super) fn poison(&self) {
        self.poison.store(true, Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> RecorderState {
        let depth = {
            let queue = lock(&self.queue);
            queue.rows.len() + queue.late.len()
        };
        let last_error = lock(&self.last_error).clone();
        let dropped_lately = lock(&self.last_drop).is_some_and(|at| at.elapsed() < DEGRADED_FOR);
        RecorderState {
            depth,
            capacity: self.limits.capacity,
            batches: self.batches.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            degraded: last_error.is_some() || dropped_lately,
            last_error,
            stands: lock(&self.stands).clone(),
        }
    }

    /// Wakes the writer if it waits for this. A wake costs a system call: under load there is next to none.
    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        let needed = match queue.writer {
            Writer::Working => false,
            Writer::Sleeping => true,
            Writer::Lingering => queue.urgent || queue.is_closing(),
        };
        if needed {
            queue.writer = Writer::Working;
            drop(queue);
            self.wake.notify_one();
        }
    }

    fn count_dropped(&self, count: u64) {
        if count > 0 {
            self.dropped.fetch_add(count, Ordering::Relaxed);
            *lock(&self.last_drop) = Some(Instant::now());
        }
    }
}

// === the writer's side ===

impl Shared {
    pub(super) fn hand(&self) -> MutexGuard<'_, Batch> {
        lock(&self.hand)
    }

    /// Sleeps until there is something to write, lets more gather for `linger`, and takes it all into `hand`. After `beat`
    /// without anything it comes back with nothing. False means that no more will come, or that time is up.
    pub(super) fn gather(&self, hand: &mut Batch, linger: Duration, beat: Duration) -> bool {
        let mut queue = lock(&self.queue);
        if queue.closing.is_some_and(|until| queue.is_idle() || until <= Instant::now()) {
            return false;
        }
        if queue.is_idle() {
            let idle = |queue: &mut Queue| queue.is_idle() && !queue.is_closing();
            queue = self.wait(queue, Writer::Sleeping, beat, idle);
            if queue.is_idle() {
                return !queue.is_closing();
            }
        }
        if !linger.is_zero() {
            let calm = |queue: &mut Queue| !queue.urgent && !queue.is_closing();
            queue = self.wait(queue, Writer::Lingering, linger, calm);
        }
        queue.urgent = false;
        let dropped = queue.take_late();
        let missing = std::mem::take(&mut queue.missing);
        if missing > 0 {
            queue.push(SystemTime::now(), gap(missing));
        }
        // The emptied vector of the last group goes back, so that no memory is asked for under the lock.
        std::mem::swap(&mut queue.rows, &mut hand.rows);
        queue.argument_bytes = 0;
        std::mem::swap(&mut queue.waiters, &mut hand.waiters);
        drop(queue);
        self.count_dropped(dropped);
        self.room.notify_waiters();
        true
    }

    fn wait<'a>(
        &self,
        mut queue: MutexGuard<'a, Queue>,
        doing: Writer,
        at_most: Duration,
        while_so: impl FnMut(&mut Queue) -> bool,
    ) -> MutexGuard<'a, Queue> {
        queue.writer = doing;
        let waited = self.wake.wait_timeout_while(queue, at_most, while_so);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        queue.writer = Writer::Working;
        queue
    }

    /// A group is on disk, or the database answers again.
    pub(super) fn succeeded(&self, rows: usize) {
        if rows > 0 {
            self.batches.fetch_add(1, Ordering::Relaxed);
            self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        }
        lock(&self.last_error).take();
    }

    /// Remembers where the chain stands on disk.
    pub(super) fn stand(&self, stands: Stands) {
        *lock(&self.stands) = Some(stands);
    }

    /// Remembers what failed; true when the attempt before had not failed.
    pub(super) fn failed(&self, error: String) -> bool {
        self.failed.fetch_add(1, Ordering::Relaxed);
        lock(&self.last_error).replace(error).is_none()
    }

    /// So many records that were to be rows will never be.
    pub(super) fn lose(&self, records: u64) {
        lock(&self.queue).missing += records;
        self.count_dropped(records);
    }

    /// Takes the poison, if there is any.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poison.swap(false, Ordering::Relaxed)
    }

    /// Whether nothing more is taken.
    pub(super) fn is_closing(&self) -> bool {
        lock(&self.queue).is_closing()
    }

    /// Whether a closing writer has tried long enough.
    pub(super) fn is_out_of_time(&self) -> bool {
        lock(&self.queue).closing.is_some_and(|until| until <= Instant::now())
    }

    /// Records that no row tells of yet, not even a gap.
    pub(super) fn untold(&self) -> u64 {
        let queue = lock(&self.queue);
        queue.missing + (queue.rows.len() + queue.late.len()) as u64
    }

    pub(super) fn has_ended(&self) -> bool {
        lock(&self.queue).ended
    }

    /// The writer has ended; what was never written is told and counted.
    pub(super) fn end(&self) {
        let mut queue = lock(&self.queue);
        queue.ended = true;
        let left = (queue.rows.len() + queue.late.len()) as u64;
        let result = if left + queue.missing == 0 { Ok(()) } else { Err(RecordError::Lost) };
        queue.rows.clear();
        queue.late.clear();
        queue.argument_bytes = 0;
        let waiting: Vec<Waiter> = queue.waiters.drain(..).map(|(_, waiter)| waiter).collect();
        let closers: Vec<Waiter> = queue.closers.drain(..).collect();
        drop(queue);
        self.count_dropped(left);
        for waiter in waiting.into_iter().chain(closers) {
            let _given_up = waiter.send(result);
        }
    }
}

/// The row that stands where others are missing.
fn gap(missing: u64) -> Record {
    let call_id = uuid::Uuid::now_v7().simple().to_string();
    let mut record = Record::new(Kind::Gap, call_id.into(), "waygate/gap");
    let detail =
        format!("{missing} records are missing here: history could not be written fast enough, or failed");
    record.detail = Some(Cow::Owned(detail));
    record
}

#[cfg(test)]
mod tests;
