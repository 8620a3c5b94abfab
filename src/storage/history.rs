//! `command_history`: append-only rows, and the calls that they tell of. Must not know who records or why.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use chrono::{DateTime, NaiveDateTime};
use diesel::dsl::{exists, max, not};
use diesel::{
    BoolExpressionMethods as _, EscapeExpressionMethods as _, ExpressionMethods as _, QueryDsl as _,
    QueryResult, Queryable, RunQueryDsl as _, Selectable, SelectableHelper as _, TextExpressionMethods as _,
};
use serde::{Serialize, Serializer};

use super::DbConnection;
use super::schema::{command_history, command_history_calls};
use super::stamp::Stamp;

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
}

#[cfg(feature = "postgres")]
impl NewEntry<'_> {
    /// PostgreSQL refuses text with a NUL in it, which a client may send as part of its name.
    pub(super) fn without_nul(mut self) -> Self {
        let texts = [
            &mut self.method,
            &mut self.plugin,
            &mut self.tool,
            &mut self.caller,
            &mut self.client,
            &mut self.protocol_version,
            &mut self.error_code,
            &mut self.arguments,
            &mut self.request_id,
            &mut self.trace_id,
            &mut self.detail,
        ];
        for text in texts.into_iter().flatten().filter(|text| text.contains('\0')) {
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
    pub protocol_version: Option<String>,
    pub status: Option<String>,
    pub error_code: Option<String>,
    pub duration_us: Option<i64>,
    pub arguments: Option<String>,
    pub result_bytes: Option<i64>,
    pub request_id: Option<String>,
    pub trace_id: Option<String>,
    pub detail: Option<String>,
}

/// A call as it stands: its latest row, with the status that follows from all of them.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize)]
#[diesel(table_name = command_history_calls)]
#[expect(missing_docs, reason = "see `NewEntry`")]
pub struct Call {
    pub id: i64,
    pub call_id: String,
    pub round: i32,
    pub kind: String,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: NaiveDateTime,
    pub instance_id: String,
    pub method: Option<String>,
    pub plugin: Option<String>,
    pub tool: Option<String>,
    pub caller: Option<String>,
    pub client: Option<String>,
    pub protocol_version: Option<String>,
    pub status: String,
    pub error_code: Option<String>,
    pub duration_us: Option<i64>,
    pub result_bytes: Option<i64>,
    pub request_id: Option<String>,
    pub trace_id: Option<String>,
    pub detail: Option<String>,
}

/// Which calls are wanted; what is none is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// From here on, UTC.
    pub since: Option<NaiveDateTime>,
    /// Before this, UTC.
    pub until: Option<NaiveDateTime>,
    /// Published name, prompt name or URI.
    pub tool: Option<String>,
    /// MCP method.
    pub method: Option<String>,
    /// How the call stands.
    pub status: Option<Status>,
    /// `name/version`, or `name` for all its versions.
    pub client: Option<String>,
    /// Opaque principal.
    pub caller: Option<String>,
    /// One call.
    pub call_id: Option<String>,
    /// At most so many; 0 means [`LIMIT_DEFAULT`], and never more than [`LIMIT_MAX`].
    pub limit: u32,
    /// Where the page before ended.
    pub before: Option<Cursor>,
}

/// Calls of one page when nothing is said.
pub const LIMIT_DEFAULT: u32 = 50;
/// Calls of one page at most.
pub const LIMIT_MAX: u32 = 1_000;

/// The place between two pages; as text it is opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    created_at: NaiveDateTime,
    id: i64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.created_at.and_utc().timestamp_micros(), self.id)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('-').and_then(|(micros, id)| {
            let created_at = DateTime::from_timestamp_micros(micros.parse().ok()?)?.naive_utc();
            Some(Self { created_at, id: id.parse().ok()? })
        });
        parsed.ok_or_else(|| format!("{text:?} is no cursor; use the `next` of the page before"))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Some calls, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// The calls.
    pub calls: Vec<Call>,
    /// Where older ones begin, if there are any.
    pub next: Option<Cursor>,
}

/// A clock's time as the tables keep it.
pub fn moment(at: SystemTime) -> NaiveDateTime {
    let micros = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros());
    i64::try_from(micros).ok().and_then(DateTime::from_timestamp_micros).unwrap_or_default().naive_utc()
}

fn rfc3339<S: Serializer>(at: &NaiveDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&at.format("%Y-%m-%dT%H:%M:%S%.6fZ"))
}

/// Writes all rows of one instance or none, in one transaction.
///
/// # Errors
/// What the database says; after a failed commit the rows may still be there: see [`last_seq`].
pub fn append<'a>(
    connection: &mut DbConnection,
    rows: impl Iterator<Item = NewEntry<'a>>,
) -> QueryResult<()> {
    match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => {
            sqlite.immediate_transaction(|sqlite| super::insert::insert(sqlite, rows))
        }
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => super::unnest::insert(postgres, rows),
    }
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

/// The calls that `filter` asks for, the newest first.
///
/// # Errors
/// What the database says.
pub fn list(connection: &mut DbConnection, filter: &Filter) -> QueryResult<Page> {
    use command_history_calls::dsl;
    let limit = if filter.limit == 0 { LIMIT_DEFAULT } else { filter.limit.min(LIMIT_MAX) };
    let mut query = dsl::command_history_calls
        .select(Call::as_select())
        .order((dsl::created_at.desc(), dsl::id.desc()))
        .limit(i64::from(limit) + 1)
        .into_boxed();
    if let Some(since) = filter.since {
        query = query.filter(dsl::created_at.ge(since));
    }
    if let Some(until) = filter.until {
        query = query.filter(dsl::created_at.lt(until));
    }
    if let Some(tool) = &filter.tool {
        query = query.filter(dsl::tool.eq(tool));
    }
    if let Some(method) = &filter.method {
        query = query.filter(dsl::method.eq(method));
    }
    if let Some(status) = filter.status {
        query = query.filter(dsl::status.eq(status.name()));
    }
    if let Some(client) = &filter.client {
        let versions = format!("{}/%", like_literal(client));
        query = query.filter(dsl::client.eq(client).or(dsl::client.like(versions).escape('\\')));
    }
    if let Some(caller) = &filter.caller {
        query = query.filter(dsl::caller.eq(caller));
    }
    if let Some(call_id) = &filter.call_id {
        query = query.filter(dsl::call_id.eq(call_id));
    }
    if let Some(Cursor { created_at, id }) = filter.before {
        // The first half alone lets the index find the place.
        let older = dsl::created_at.lt(created_at).or(dsl::id.lt(id));
        query = query.filter(dsl::created_at.le(created_at)).filter(older);
    }
    let mut calls: Vec<Call> = query.load(connection)?;
    let more = calls.len() > limit as usize;
    calls.truncate(limit as usize);
    let last = calls.last().filter(|_| more);
    let next = last.map(|call| Cursor { created_at: call.created_at, id: call.id });
    Ok(Page { calls, next })
}

/// Text that LIKE takes for itself.
fn like_literal(text: &str) -> String {
    text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_")
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
