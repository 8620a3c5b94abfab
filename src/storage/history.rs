//! `command_history`: append-only rows, and the calls that they tell of. Must not know who records or why.

mod audit;
mod calls;
pub mod chain;
mod names;
mod plan;
pub mod prune;
pub mod size;
pub mod stats;
pub mod stream;
mod testimony;

use std::borrow::Cow;
use std::str::FromStr;
use std::time::SystemTime;

use chain::Chain;
pub use chain::Head;
use chrono::{DateTime, NaiveDateTime};
use diesel::dsl::{exists, max, min, not};
use diesel::{
    ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, QueryResult, Queryable, RunQueryDsl as _,
    Selectable, SelectableHelper as _,
};
use serde::{Serialize, Serializer};

use super::DbConnection;
use super::schema::command_history;
use super::stamp::Stamp;
pub use audit::{Audit, Finding, Report};
pub use calls::{
    Call, Cursor, Filter, LIMIT_DEFAULT, LIMIT_MAX, Page, added, last_id, list, plan, walk, walk_rows,
};
pub use testimony::{Testimony, say};

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call is about to run (strict only).
    Intent,
    /// A round of a call has ended.
    Outcome,
    /// An operator changed something.
    Admin,
    /// Rows are missing here; the detail says how many.
    Gap,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Intent, Self::Outcome, Self::Admin, Self::Gap];

    /// The word in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Admin => "admin",
            Self::Gap => "gap",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is no kind of row; use one of {names}")
        })
    }
}

/// How a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// An intent without an outcome; never written, only seen.
    Pending,
    /// It gave a result.
    Success,
    /// It gave an error.
    Failed,
    /// Its deadline passed.
    Timeout,
    /// The client gave it up.
    Cancelled,
    /// Its server died meanwhile.
    Interrupted,
    /// It waits for the client's answer; another round follows.
    InputRequired,
    /// No call: rows are missing here. Never written, only seen.
    Gap,
}

impl Status {
    /// All of them, in the order of a call's life.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Success,
        Self::Failed,
        Self::Timeout,
        Self::Cancelled,
        Self::Interrupted,
        Self::InputRequired,
        Self::Gap,
    ];

    /// The word in the table and for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::InputRequired => "input_required",
            Self::Gap => "gap",
        }
    }

    /// Whether rows have it; else it is only seen.
    pub const fn is_written(self) -> bool {
        self.seen_of().is_none()
    }

    /// Of which rows alone it is seen; none where it is written.
    pub const fn seen_of(self) -> Option<Kind> {
        match self {
            Self::Pending => Some(Kind::Intent),
            Self::Gap => Some(Kind::Gap),
            _ => None,
        }
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|status| status.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is no status; use one of {names}")
        })
    }
}

/// A row to be written.
#[derive(Debug, Clone)]
pub struct NewEntry<'a> {
    /// Who writes.
    pub instance_id: &'a str,
    /// Counts up within the instance.
    pub seq: i64,
    /// Shared by all rows of one call.
    pub call_id: &'a str,
    /// From 0; the client's answers to input requests begin another.
    pub round: i32,
    /// See [`Kind`].
    pub kind: &'static str,
    /// UTC, microseconds.
    pub created_at: Stamp,
    /// `tools/call` and so on.
    pub method: Option<Cow<'a, str>>,
    /// Which plugin.
    pub plugin: Option<Cow<'a, str>>,
    /// The published name, the prompt's name or the resource's URI.
    pub tool: Option<Cow<'a, str>>,
    /// Opaque principal.
    pub caller: Option<Cow<'a, str>>,
    /// Name and version as the client gives them.
    pub client: Option<Cow<'a, str>>,
    /// The handle of a session; never its id, which is a secret.
    pub session: Option<Cow<'a, str>>,
    /// MCP revision.
    pub protocol_version: Option<Cow<'a, str>>,
    /// See [`Status`].
    pub status: Option<&'static str>,
    /// See `ErrorCode::name`.
    pub error_code: Option<Cow<'a, str>>,
    /// From the door to the answer.
    pub duration_us: Option<i64>,
    /// As far as `history.arguments` captures them.
    pub arguments: Option<Cow<'a, str>>,
    /// Size of the result.
    pub result_bytes: Option<i64>,
    /// JSON-RPC or our own.
    pub request_id: Option<Cow<'a, str>>,
    /// W3C trace id.
    pub trace_id: Option<Cow<'a, str>>,
    /// Whatever else is worth saying.
    pub detail: Option<Cow<'a, str>>,
    /// What the call did behind its plugin, where there was something behind it.
    pub behind: Option<Behind<'a>>,
}

/// What a call did behind its plugin.
#[derive(Debug, Clone, Default)]
pub struct Behind<'a> {
    /// Which process or session of the plugin carried it.
    pub instance: Option<Cow<'a, str>>,
    /// How long it waited for a place in the plugin.
    pub queue_us: Option<i64>,
    /// From the request's sending to its answer.
    pub upstream_us: Option<i64>,
    /// Sent to the server behind.
    pub bytes_out: Option<i64>,
    /// Received from it.
    pub bytes_in: Option<i64>,
    /// What was translated.
    pub bridged: Option<&'static str>,
}

impl NewEntry<'_> {
    /// PostgreSQL refuses text with a NUL in it, which a client may send as part of its name; SQLite's rows must be able to move
    /// there.
    fn without_nul(mut self) -> Self {
        let texts = [
            &mut self.method,
            &mut self.plugin,
            &mut self.tool,
            &mut self.caller,
            &mut self.client,
            &mut self.session,
            &mut self.protocol_version,
            &mut self.error_code,
            &mut self.arguments,
            &mut self.request_id,
            &mut self.trace_id,
            &mut self.detail,
        ];
        let instance = self.behind.as_mut().and_then(|behind| behind.instance.as_mut());
        for text in texts.into_iter().flatten().chain(instance).filter(|text| text.contains('\0')) {
            *text = Cow::Owned(text.replace('\0', "\u{fffd}"));
        }
        self
    }
}

/// A row as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize)]
#[diesel(table_name = command_history)]
#[expect(missing_docs, reason = "see `NewEntry`")]
pub struct Entry {
    pub id: i64,
    pub instance_id: String,
    pub seq: i64,
    pub call_id: String,
    pub round: i32,
    pub kind: String,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: NaiveDateTime,
    pub method: Option<String>,
    pub plugin: Option<String>,
    pub tool: Option<String>,
    pub caller: Option<String>,
    pub client: Option<String>,
    pub session: Option<String>,
    pub protocol_version: Option<String>,
    pub status: Option<String>,
    pub error_code: Option<String>,
    pub duration_us: Option<i64>,
    pub arguments: Option<String>,
    pub result_bytes: Option<i64>,
    pub request_id: Option<String>,
    pub trace_id: Option<String>,
    pub detail: Option<String>,
    pub plugin_instance: Option<String>,
    pub queue_us: Option<i64>,
    pub upstream_us: Option<i64>,
    pub bytes_out: Option<i64>,
    pub bytes_in: Option<i64>,
    pub bridged: Option<String>,
}

impl Entry {
    /// The names of its members, as they are serialized and in that order.
    pub const COLUMNS: [&str; 28] = [
        "id",
        "instance_id",
        "seq",
        "call_id",
        "round",
        "kind",
        "created_at",
        "method",
        "plugin",
        "tool",
        "caller",
        "client",
        "session",
        "protocol_version",
        "status",
        "error_code",
        "duration_us",
        "arguments",
        "result_bytes",
        "request_id",
        "trace_id",
        "detail",
        "plugin_instance",
        "queue_us",
        "upstream_us",
        "bytes_out",
        "bytes_in",
        "bridged",
    ];
}

/// So many of the newest rows are what was written lately.
const LATELY: i64 = 10_000;

/// When the newest row was written, by the clock of its writer; none when there is no row.
///
/// # Errors
/// What the database says.
pub fn newest(connection: &mut DbConnection) -> QueryResult<Option<SystemTime>> {
    let at: Option<NaiveDateTime> =
        command_history::table.select(max(command_history::created_at)).first(connection)?;
    Ok(at.map(|at| at.and_utc().into()))
}

/// When the oldest row was written; none when there is no row.
///
/// # Errors
/// What the database says.
pub fn oldest(connection: &mut DbConnection) -> QueryResult<Option<SystemTime>> {
    let at: Option<NaiveDateTime> =
        command_history::table.select(min(command_history::created_at)).first(connection)?;
    Ok(at.map(|at| at.and_utc().into()))
}

/// A clock's time as the tables keep it.
pub fn moment(at: SystemTime) -> NaiveDateTime {
    let micros = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros());
    i64::try_from(micros).ok().and_then(DateTime::from_timestamp_micros).unwrap_or_default().naive_utc()
}

fn rfc3339<S: Serializer>(at: &NaiveDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&at.format("%Y-%m-%dT%H:%M:%S%.6fZ"))
}

/// Writes all rows of one instance or none, in one transaction. They go on where `head` stands, which goes with them if they are
/// written.
///
/// # Errors
/// What the database says; after a failed commit the rows may still be there: see [`last_seq`].
pub fn append<'a>(
    connection: &mut DbConnection,
    head: &mut Head,
    rows: impl Iterator<Item = NewEntry<'a>>,
) -> QueryResult<()> {
    let mut chain = Chain::from(*head);
    write(connection, &mut chain, rows)?;
    *head = chain.head;
    Ok(())
}

fn write<'a>(
    connection: &mut DbConnection,
    chain: &mut Chain,
    rows: impl Iterator<Item = NewEntry<'a>>,
) -> QueryResult<()> {
    match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => {
            let mut refused = None;
            let ended = sqlite.immediate_transaction(|sqlite| {
                super::insert::insert(sqlite, rows.map(|row| chain.link(row))).map_err(|error| {
                    refused = Some(error);
                    diesel::result::Error::RollbackTransaction
                })
            });
            // On some errors, a full disk among them, SQLite ends the transaction by itself, and Diesel is then refused to do so:
            // what was said first is what is wrong.
            refused.map_or(ended, Err)
        }
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => super::unnest::insert(postgres, rows.map(|row| chain.link(row))),
    }
}

/// Writes a row within a transaction that the caller began, or by itself; as [`append`] does.
///
/// # Errors
/// What the database says.
pub fn append_within(connection: &mut DbConnection, head: &mut Head, row: NewEntry<'_>) -> QueryResult<()> {
    let mut chain = Chain::from(*head);
    let rows = std::iter::once(chain.link(row));
    match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => super::insert::insert(sqlite, rows)?,
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => super::unnest::insert(postgres, rows)?,
    }
    *head = chain.head;
    Ok(())
}

/// The highest `seq` that an instance has on disk among its rows since then, which keeps the search short.
///
/// # Errors
/// What the database says.
pub fn last_seq(
    connection: &mut DbConnection,
    instance_id: &str,
    since: SystemTime,
) -> QueryResult<Option<i64>> {
    command_history::table
        .filter(command_history::created_at.ge(moment(since)))
        .filter(command_history::instance_id.eq(instance_id))
        .select(max(command_history::seq))
        .first(connection)
}

/// Where an instance's chain stands on disk; none while it has no row there, or rows without hashes. It looks among the newest rows of all first: ask it
/// of an instance that has written lately. PostgreSQL would read the whole table for one that has written little.
///
/// # Errors
/// What the database says.
pub fn head_of(connection: &mut DbConnection, instance_id: &str) -> QueryResult<Option<Head>> {
    let newest = last_id(connection)?;
    for back in [LATELY, i64::MAX] {
        let found: Option<(i64, Option<Vec<u8>>)> = command_history::table
            .filter(command_history::instance_id.eq(instance_id))
            .filter(command_history::id.gt(newest.saturating_sub(back)))
            .order(command_history::id.desc())
            .select((command_history::seq, command_history::hash))
            .first(connection)
            .optional()?;
        if let Some((seq, hash)) = found {
            return Ok(hash.and_then(|hash| Some(Head { seq, hash: hash.try_into().ok()? })));
        }
    }
    Ok(None)
}

/// Every row of one call, in the order it was lived.
///
/// # Errors
/// What the database says.
pub fn show(connection: &mut DbConnection, call_id: &str) -> QueryResult<Vec<Entry>> {
    use command_history::dsl;
    dsl::command_history
        .filter(dsl::call_id.eq(call_id))
        .order(dsl::id.asc())
        .limit(i64::from(LIMIT_MAX))
        .select(Entry::as_select())
        .load(connection)
}

/// Intents of one instance that never got their outcome, `limit` at most, the oldest first.
///
/// # Errors
/// What the database says.
pub fn orphans(connection: &mut DbConnection, instance_id: &str, limit: u32) -> QueryResult<Vec<Entry>> {
    let later = diesel::alias!(command_history as later);
    let outcome = later
        .filter(later.field(command_history::call_id).eq(command_history::call_id))
        .filter(later.field(command_history::round).eq(command_history::round))
        .filter(later.field(command_history::kind).eq("outcome"));
    command_history::table
        .filter(command_history::instance_id.eq(instance_id))
        .filter(command_history::kind.eq("intent"))
        .filter(not(exists(outcome)))
        .order(command_history::seq.asc())
        .limit(i64::from(limit))
        .select(Entry::as_select())
        .load(connection)
}
