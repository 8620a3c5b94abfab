//! The hot path into history: what executors hold, and what they leave there. Must not know the database.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::batch::Told;
use super::queue::{ARGUMENTS_MAX_BYTES, Limits, Shared};
use crate::error::ErrorCode;
use crate::plugins::Hop;
use crate::protocol::Raw;
use crate::storage::history::{Kind, Status};
use crate::telemetry::redaction::places::Hidden;

/// How long a record waits for room in a full buffer.
pub const ROOM_WAIT: Duration = Duration::from_millis(50);
/// How long a durable record waits for its commit.
pub const COMMIT_DEADLINE: Duration = Duration::from_secs(5);

/// One row to be, made of cheap shared things; the writer renders them.
#[derive(Debug, Clone)]
pub struct Record {
    /// Intent, outcome or admin; gaps are written by the writer alone.
    pub kind: Kind,
    /// Shared by all rows of one call.
    pub call_id: Arc<str>,
    /// From 0; the client's answers to input requests begin another.
    pub round: u32,
    /// `tools/call` and so on.
    pub method: Cow<'static, str>,
    /// Which plugin.
    pub plugin: Option<Arc<str>>,
    /// The published name, the prompt's name or the resource's URI.
    pub tool: Option<Arc<str>>,
    /// Opaque principal.
    pub caller: Option<Arc<str>>,
    /// Name and version as the client gives them.
    pub client: Option<Arc<str>>,
    /// What `access::session_handle` makes of a session's id; never the id, which is a secret.
    pub session: Option<Arc<str>>,
    /// MCP revision.
    pub protocol_version: Option<Cow<'static, str>>,
    /// How the round ended; none in an intent.
    pub status: Option<Status>,
    /// `ErrorCode::name`.
    pub error_code: Option<&'static str>,
    /// From the door to the answer.
    pub duration_us: Option<u64>,
    /// Captured as far as the configuration says.
    pub arguments: Option<Raw>,
    /// What of them is hidden however much is captured; none for nearly all.
    pub hidden: Option<Arc<Hidden>>,
    /// Size of the result.
    pub result_bytes: Option<u64>,
    /// For finding it in the log.
    pub request_id: Option<Arc<str>>,
    /// W3C trace id.
    pub trace_id: Option<Arc<str>>,
    /// Whatever else is worth saying.
    pub detail: Option<Cow<'static, str>>,
    /// What the call did behind its plugin; most do nothing there, and need no room for it.
    pub behind: Option<Box<Behind>>,
}

/// What a call did behind its plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behind {
    /// How long it waited for a place in the plugin, if it waited.
    pub queue_us: Option<u64>,
    /// What the plugin noted.
    pub hop: Option<Hop>,
}

impl Record {
    /// A record that says no more than this; the other fields are for the caller to fill.
    pub fn new(kind: Kind, call_id: Arc<str>, method: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            call_id,
            round: 0,
            method: method.into(),
            plugin: None,
            tool: None,
            caller: None,
            client: None,
            session: None,
            protocol_version: None,
            status: None,
            error_code: None,
            duration_us: None,
            arguments: None,
            hidden: None,
            result_bytes: None,
            request_id: None,
            trace_id: None,
            detail: None,
            behind: None,
        }
    }
}

/// Something that is done to the server itself.
#[derive(Debug, Clone)]
pub struct Act {
    /// One of those in `storage::acts`.
    pub name: &'static str,
    /// What it is done to, if that has a name.
    pub to: Option<Arc<str>>,
    /// The principal who does it, or what of the server itself.
    pub by: Arc<str>,
    /// Why it was not done.
    pub refused: Option<ErrorCode>,
    /// Whatever else is worth saying.
    pub detail: String,
}

impl Act {
    /// One that was done to nothing in particular.
    pub fn done(name: &'static str, by: impl Into<Arc<str>>, detail: impl Into<String>) -> Self {
        Self { name, to: None, by: by.into(), refused: None, detail: detail.into() }
    }

    pub(super) fn into_record(self) -> Record {
        let id = uuid::Uuid::now_v7().as_simple().to_string();
        let mut record = Record::new(Kind::Admin, id.into(), self.name);
        record.tool = self.to;
        record.caller = Some(self.by);
        record.status = Some(if self.refused.is_none() { Status::Success } else { Status::Failed });
        record.error_code = self.refused.map(ErrorCode::name);
        record.detail = Some(Cow::Owned(self.detail));
        record
    }
}

/// Who acts where nobody asked.
pub const ITSELF: &str = "waygate";

/// Why a durable record is not known to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The buffer had no room for it; it was not taken.
    #[error("the history buffer was full for {} ms; try again when the database keeps up", ROOM_WAIT.as_millis())]
    Full,
    /// It was taken, but not committed in time; it may be yet.
    #[error("history was not on disk within {} s; the database is locked, full or gone, see the log", COMMIT_DEADLINE.as_secs())]
    Late,
    /// It was taken and then given up; a gap row tells so.
    #[error("history could not be written, and was given up; the log has the cause")]
    Lost,
    /// The server stops.
    #[error("history is closed, since the server stops; ask again when it runs")]
    Closed,
}

/// How recording goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecorderState {
    /// Records that wait for the writer.
    pub depth: usize,
    /// At most so many.
    pub capacity: usize,
    /// Groups committed.
    pub batches: u64,
    /// Rows committed.
    pub rows: u64,
    /// Records that never became rows.
    pub dropped: u64,
    /// Attempts at a group that failed.
    pub failed: u64,
    /// What the last failure said, until the next success.
    pub last_error: Option<String>,
    /// Whether writing fails now, or records were dropped in the last minute.
    pub degraded: bool,
    /// Where the chain stands on disk; none before the first row.
    pub stands: Option<Stands>,
}

/// The last row that an instance has on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    /// Where the database is, as [`Storage::place`](crate::storage::Storage::place) says it.
    pub database: String,
    /// Whose row.
    pub instance_id: String,
    /// Its number.
    pub seq: i64,
    /// Its hash, in hexadecimal digits.
    pub hash: String,
}

/// Where executors leave what happened. Cheap to clone, outlives restarts of DbActor and of the writer.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
    /// Whether the writer has any use for arguments.
    keeps_arguments: bool,
}

impl Recorder {
    /// A buffer for `capacity` records, whose rows are counted from 1, with their arguments or without. Whoever is no
    /// measurement gets one that has a writer, from [`start`](super::start).
    #[doc(hidden)]
    pub fn new(capacity: usize, keeps_arguments: bool) -> Self {
        let limits = Limits {
            capacity: capacity.max(1),
            room_wait: ROOM_WAIT,
            arguments_max_bytes: ARGUMENTS_MAX_BYTES,
        };
        Self { shared: Arc::new(Shared::new(limits)), keeps_arguments }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Leaves a record to be written soon. Never blocks. What finds no room waits [`ROOM_WAIT`] for it, and is then dropped,
    /// counted, and told by a gap row.
    pub fn record(&self, mut record: Record) {
        self.fit(&mut record);
        self.shared.push(SystemTime::now(), record);
    }

    /// Leaves a row that tells of something done to the server itself, or attempted.
    pub fn act(&self, act: Act) {
        self.record(act.into_record());
    }

    /// Leaves a record and waits until it is on disk, together with all recorded before it.
    ///
    /// # Errors
    /// See [`RecordError`]. After `Full` of anything but an intent, a gap row tells that it is missing.
    pub async fn record_durably(&self, mut record: Record) -> Result<(), RecordError> {
        let at = SystemTime::now();
        let give_up = tokio::time::Instant::now() + ROOM_WAIT;
        self.fit(&mut record);
        let told = loop {
            // Made before the attempt, so that room made in between is not missed.
            let room = self.shared.room.notified();
            match self.shared.push_durable(at, record)? {
                Ok(told) => break told,
                Err(back) => record = back,
            }
            if tokio::time::timeout_at(give_up, room).await.is_err() {
                self.shared.refuse(&record);
                return Err(RecordError::Full);
            }
        };
        wait_for(told, COMMIT_DEADLINE).await
    }

    /// What waits must hold no more than is counted: arguments are a part of the body they came in, and would keep all
    /// of it.
    fn fit(&self, record: &mut Record) {
        record.arguments =
            record.arguments.take().filter(|_| self.keeps_arguments).map(|arguments| arguments.detached());
    }

    /// Waits until all recorded so far is on disk.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub async fn flush(&self) -> Result<(), RecordError> {
        let told = self.shared.wait_for_commit()?;
        wait_for(told, COMMIT_DEADLINE).await
    }

    /// Takes no more, and waits until the writer has written all, made the file whole and ended.
    ///
    /// # Errors
    /// `Lost` when something could not be written, `Late` when the writer does not end.
    pub async fn close(&self, deadline: Duration) -> Result<(), RecordError> {
        let Some(told) = self.shared.close(deadline) else { return Ok(()) };
        // The writer gives up by itself at the deadline, and needs a moment more to end.
        wait_for(told, deadline + COMMIT_DEADLINE).await
    }

    /// How recording goes.
    pub fn state(&self) -> RecorderState {
        self.shared.state()
    }

    /// Makes the writer panic in the middle of its next group: for `Crash`.
    pub(super) fn poison(&self) {
        self.shared.poison();
    }
}

async fn wait_for(told: Told, deadline: Duration) -> Result<(), RecordError> {
    match tokio::time::timeout(deadline, told).await {
        Ok(Ok(result)) => result,
        Ok(Err(_gone)) => Err(RecordError::Lost),
        Err(_elapsed) => Err(RecordError::Late),
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Batch;
    use super::*;

    #[test]
    fn arguments_are_kept_only_where_somebody_wants_them_and_never_the_body_they_came_in() {
        for keeps in [true, false] {
            let recorder = Recorder::new(1, keeps);
            let arguments = Raw::trusted("{}");
            let mut record = Record::new(Kind::Outcome, "a".into(), "tools/call");
            record.arguments = Some(arguments.clone());
            recorder.record(record);
            let mut hand = Batch::default();
            assert!(recorder.shared.gather(&mut hand, Duration::ZERO, Duration::ZERO));
            let kept = hand.rows[0].record.arguments.as_ref();
            assert_eq!(kept.map(Raw::as_str), keeps.then_some("{}"));
            assert!(kept.is_none_or(|kept| kept.bytes().as_ptr() != arguments.bytes().as_ptr()));
        }
    }
}
