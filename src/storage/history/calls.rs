//! Calls as they stand, and how they are asked for: by filter, in pages, from either end. Must not know who asks.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime};
use diesel::dsl::{max, sql};
use diesel::sql_types::{Bool, Nullable, Text};
use diesel::{
    BoolExpressionMethods as _, ExpressionMethods as _, QueryDsl as _, QueryResult, Queryable,
    RunQueryDsl as _, Selectable, SelectableHelper as _,
};
use serde::{Serialize, Serializer};

use super::super::DbConnection;
use super::super::schema::{command_history, command_history_calls};
use super::names::spell_out;
use super::{Entry, Kind, Status, rfc3339};

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
    pub session: Option<String>,
    pub protocol_version: Option<String>,
    pub status: String,
    pub error_code: Option<String>,
    pub duration_us: Option<i64>,
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

impl Call {
    /// The names of its members, as they are serialized and in that order.
    pub const COLUMNS: [&str; 26] = [
        "id",
        "call_id",
        "round",
        "kind",
        "created_at",
        "instance_id",
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

    /// Its place among all calls.
    pub fn cursor(&self) -> Cursor {
        Cursor { created_at: self.created_at, id: self.id }
    }
}

impl Entry {
    /// Its place among all rows.
    pub fn cursor(&self) -> Cursor {
        Cursor { created_at: self.created_at, id: self.id }
    }
}

/// Which calls are wanted; what is none is not asked for. In texts, `*` stands for anything.
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
    /// What the row is.
    pub kind: Option<Kind>,
    /// `name/version`, or `name` for all its versions.
    pub client: Option<String>,
    /// The handle of a session.
    pub session: Option<String>,
    /// Opaque principal.
    pub caller: Option<String>,
    /// One call.
    pub call_id: Option<String>,
    /// Only what took longer, in microseconds.
    pub slower_than_us: Option<i64>,
    /// At most so many; 0 means [`LIMIT_DEFAULT`], and never more than [`LIMIT_MAX`].
    pub limit: u32,
    /// Where the page before ended, for pages that go back in time.
    pub before: Option<Cursor>,
    /// Where the page before ended, for pages that go on in time.
    pub after: Option<Cursor>,
}

/// Who has no key: most rows have this caller where there are no keys, and no index has them.
pub(super) const ANONYMOUS: &str = "anonymous";

/// What most rows are of, and what no index of methods has.
const USUAL: &str = "tools/call";
/// What took at least so long has an index of its own.
pub(super) const SLOW_US: i64 = 100_000;

/// Whether no row of the usual method can be meant.
pub(super) fn is_rare(method: &str) -> bool {
    match method.split_once('*') {
        Some((begin, _)) => !USUAL.starts_with(begin),
        None => method != USUAL,
    }
}

/// Calls of one page when nothing is said.
pub const LIMIT_DEFAULT: u32 = 50;
/// Calls of one page at most.
pub const LIMIT_MAX: u32 = 1_000;

impl Filter {
    /// Whether an index finds few rows by what is named, of which those that were slow are picked. Without statistics a database
    /// may else take the index of slow ones, and where most calls are slow, that is a walk through nearly all rows.
    pub(super) fn names_few(&self) -> bool {
        let is_one = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.contains('*'));
        is_one(&self.tool)
            || is_one(&self.session)
            || is_one(&self.caller) && self.caller.as_deref() != Some(ANONYMOUS)
            || self.call_id.is_some()
            || self.status.is_some_and(|status| status != Status::Success)
            || self.kind.is_some_and(|kind| kind != Kind::Outcome)
            || self.method.as_deref().is_some_and(is_rare)
    }

    fn limit(&self) -> u32 {
        if self.limit == 0 { LIMIT_DEFAULT } else { self.limit.min(LIMIT_MAX) }
    }
}

/// The place between two pages; as text it is opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub(super) created_at: NaiveDateTime,
    pub(super) id: i64,
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

/// How a database spells a pattern that minds upper and lower case: SQLite's LIKE does not, and PostgreSQL has no GLOB.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dialect {
    #[cfg_attr(not(any(feature = "sqlite", test)), expect(dead_code, reason = "SQLite's"))]
    Glob,
    #[cfg_attr(not(any(feature = "postgres", test)), expect(dead_code, reason = "PostgreSQL's"))]
    Like,
}

impl Dialect {
    pub(super) fn of(connection: &DbConnection) -> Self {
        match connection {
            #[cfg(feature = "sqlite")]
            DbConnection::Sqlite(_) => Self::Glob,
            #[cfg(feature = "postgres")]
            DbConnection::Postgres(_) => Self::Like,
        }
    }

    /// Where the first bound value of a query stands.
    pub(super) const fn first_place(self) -> &'static str {
        match self {
            Self::Glob => "?1",
            Self::Like => "$1",
        }
    }

    /// What the index of clients has of this one, where there is such an index.
    pub(super) fn indexed_client(self, client: &str) -> Option<String> {
        let begin = client.split('/').next().filter(|begin| !begin.contains('*'))?;
        matches!(self, Self::Like).then(|| begin.to_owned())
    }

    pub(super) const fn operator(self) -> &'static str {
        match self {
            Self::Glob => "GLOB",
            Self::Like => "LIKE",
        }
    }

    /// `text` as a pattern in which `*` alone has a meaning.
    pub(super) fn pattern(self, text: &str) -> String {
        let mut pattern = String::with_capacity(text.len());
        for letter in text.chars() {
            match (self, letter) {
                (Self::Glob, '?' | '[') => pattern.extend(['[', letter, ']']),
                (Self::Like, '*') => pattern.push('%'),
                (Self::Like, '%' | '_' | '\\') => pattern.extend(['\\', letter]),
                _ => pattern.push(letter),
            }
        }
        pattern
    }
}

/// A condition on one text column. What is no pattern is looked up by an index.
macro_rules! spelled {
    ($column:literal, $text:expr, $dialect:expr) => {{
        let text: &str = $text;
        let (operator, text) = if text.contains('*') {
            ($dialect.operator(), $dialect.pattern(text))
        } else {
            ("=", text.to_owned())
        };
        sql::<Nullable<Bool>>(&format!("{} {operator} ", $column)).bind::<Text, String>(text)
    }};
}

/// A condition in the words of an index, which is of use only to queries that say it.
macro_rules! said {
    ($words:expr) => {
        sql::<Nullable<Bool>>($words)
    };
}

/// The rows of a table or view that a filter wants, in no order yet. The ledger and its calls share their columns' names, but for that
/// of the status as it was written.
macro_rules! wanted {
    (command_history, $filter:expr, $dialect:expr) => {
        wanted!(command_history, "status", $filter, $dialect)
    };
    (command_history_calls, $filter:expr, $dialect:expr) => {
        wanted!(command_history_calls, "written_status", $filter, $dialect)
    };
    ($table:ident, $written:literal, $filter:expr, $dialect:expr) => {{
        let (filter, dialect): (&Filter, Dialect) = ($filter, $dialect);
        let mut query = $table::table.into_boxed();
        if let Some(since) = filter.since {
            query = query.filter($table::created_at.ge(since));
        }
        if let Some(until) = filter.until {
            query = query.filter($table::created_at.lt(until));
        }
        if let Some(tool) = &filter.tool {
            query = query.filter(spelled!("tool", tool, dialect));
        }
        if let Some(method) = &filter.method {
            query = query.filter(spelled!("method", method, dialect));
            if is_rare(method) {
                query = query.filter(said!("method <> 'tools/call'"));
            }
        }
        if let Some(status) = filter.status {
            query = query.filter($table::status.eq(status.name()));
            if let Some(kind) = status.seen_of() {
                query = query.filter(said!("kind <> 'outcome'")).filter($table::kind.eq(kind.name()));
            } else if status != Status::Success {
                query = query.filter(said!(concat!($written, " <> 'success'")));
                query = query.filter(spelled!($written, status.name(), dialect));
            }
        }
        if let Some(kind) = filter.kind {
            query = query.filter($table::kind.eq(kind.name()));
            if kind != Kind::Outcome {
                query = query.filter(said!("kind <> 'outcome'"));
            }
        }
        if let Some(client) = &filter.client {
            let versions = format!("{client}/*");
            query =
                query.filter(spelled!("client", client, dialect).or(spelled!("client", &versions, dialect)));
            if let Some(begin) = dialect.indexed_client(client) {
                let words = sql::<Nullable<Bool>>("split_part(client, '/', 1) = ");
                query = query.filter(words.bind::<Text, String>(begin));
            }
        }
        if let Some(session) = &filter.session {
            query = query.filter(spelled!("session", session, dialect));
        }
        if let Some(caller) = &filter.caller {
            query = query.filter(spelled!("caller", caller, dialect));
            if !caller.contains('*') && caller != ANONYMOUS {
                query = query.filter(said!("caller <> 'anonymous'"));
            }
        }
        if let Some(call_id) = &filter.call_id {
            query = query.filter($table::call_id.eq(call_id));
        }
        if let Some(us) = filter.slower_than_us {
            query = query.filter($table::duration_us.gt(us));
            if us >= SLOW_US && !filter.names_few() {
                query = query.filter(said!("duration_us >= 100000 AND (duration_us >= 100000) = TRUE"));
            }
        }
        // The first half of each place alone lets the index find it.
        if let Some(place) = filter.before {
            let older = $table::created_at.lt(place.created_at).or($table::id.lt(place.id));
            query = query.filter($table::created_at.le(place.created_at)).filter(older);
        }
        if let Some(place) = filter.after {
            let newer = $table::created_at.gt(place.created_at).or($table::id.gt(place.id));
            query = query.filter($table::created_at.ge(place.created_at)).filter(newer);
        }
        query
    }};
}
pub(super) use {said, spelled, wanted};

/// The calls that `filter` asks for, the newest first.
///
/// # Errors
/// What the database says.
pub fn list(connection: &mut DbConnection, filter: &Filter) -> QueryResult<Page> {
    let limit = filter.limit();
    let mut calls = match spell_out(connection, filter)? {
        None => newest(connection, filter)?,
        Some(filters) => newest_of(connection, filters, limit as usize + 1)?,
    };
    let more = calls.len() > limit as usize;
    calls.truncate(limit as usize);
    let next = calls.last().filter(|_| more).map(Call::cursor);
    Ok(Page { calls, next })
}

/// The newest of them, and one more than a page has if there is one.
fn newest(connection: &mut DbConnection, filter: &Filter) -> QueryResult<Vec<Call>> {
    use command_history_calls::{created_at, id};
    wanted!(command_history_calls, filter, Dialect::of(connection))
        .select(Call::as_select())
        .order((created_at.desc(), id.desc()))
        .limit(i64::from(filter.limit()) + 1)
        .load(connection)
}

/// The newest `count` of all that any of `filters` wants; no more than twice so many are held at once.
fn newest_of(connection: &mut DbConnection, filters: Vec<Filter>, count: usize) -> QueryResult<Vec<Call>> {
    let mut calls: Vec<Call> = Vec::new();
    for mut filter in filters {
        // What is older than all of a full page is not on it.
        let oldest = calls.get(count - 1).map(|call| call.created_at);
        filter.since = filter.since.max(oldest);
        calls.append(&mut newest(connection, &filter)?);
        calls.sort_by_key(|call| Reverse(call.cursor()));
        // A name that is a pattern itself means others, too.
        calls.dedup_by_key(|call| call.id);
        calls.truncate(count);
    }
    Ok(calls)
}

/// How the database finds what [`list`] gives, in its own words.
///
/// # Errors
/// What the database says.
pub fn plan(connection: &mut DbConnection, filter: &Filter) -> QueryResult<Vec<String>> {
    use command_history_calls::{created_at, id};
    let query = wanted!(command_history_calls, filter, Dialect::of(connection))
        .select(Call::as_select())
        .order((created_at.desc(), id.desc()))
        .limit(i64::from(filter.limit()) + 1);
    super::plan::of(connection, query)
}

/// The same calls, the oldest first: one page, to be gone on with from the last one's cursor.
///
/// # Errors
/// What the database says.
pub fn walk(connection: &mut DbConnection, filter: &Filter) -> QueryResult<Vec<Call>> {
    use command_history_calls::{created_at, id};
    wanted!(command_history_calls, filter, Dialect::of(connection))
        .select(Call::as_select())
        .order((created_at.asc(), id.asc()))
        .limit(i64::from(filter.limit()))
        .load(connection)
}

/// The rows themselves, intents and all, the oldest first; a status is then that of the row.
///
/// # Errors
/// What the database says.
pub fn walk_rows(connection: &mut DbConnection, filter: &Filter) -> QueryResult<Vec<Entry>> {
    use command_history::{created_at, id};
    wanted!(command_history, filter, Dialect::of(connection))
        .select(Entry::as_select())
        .order((created_at.asc(), id.asc()))
        .limit(i64::from(filter.limit()))
        .load(connection)
}

/// Calls whose latest row was added after the row `after_id`, in the order in which they were added.
///
/// # Errors
/// What the database says.
pub fn added(connection: &mut DbConnection, filter: &Filter, after_id: i64) -> QueryResult<Vec<Call>> {
    use command_history_calls::id;
    wanted!(command_history_calls, filter, Dialect::of(connection))
        .filter(id.gt(after_id))
        .select(Call::as_select())
        .order(id.asc())
        .limit(i64::from(filter.limit()))
        .load(connection)
}

/// The row that was added last; 0 while there is none.
///
/// # Errors
/// What the database says.
pub fn last_id(connection: &mut DbConnection) -> QueryResult<i64> {
    command_history::table
        .select(max(command_history::id))
        .first::<Option<i64>>(connection)
        .map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_looked_for_among_the_rare_ones_unless_it_may_be_the_usual_one() {
        for (method, rare) in [
            ("tools/call", false),
            ("tools/*", false),
            ("*", false),
            ("*call", false),
            ("tools/list", true),
            ("resources/*", true),
            ("tools/call*", false),
            ("", true),
        ] {
            assert_eq!(is_rare(method), rare, "{method}");
        }
    }

    #[test]
    fn only_the_star_means_more_than_itself() {
        assert_eq!(Dialect::Glob.pattern("a*b?[c]%_"), "a*b[?][[]c]%_");
        assert_eq!(Dialect::Like.pattern(r"a*b?[c]%_\"), r"a%b?[c]\%\_\\");
    }
}
