//! The statement that writes history on PostgreSQL: one array a column, so that its text is the same for any number of rows
//! and is prepared once. One row of it costs the server a fraction of what a VALUES list does. Must not know when rows are
//! written.

use std::borrow::Cow;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamp};
use diesel::{Connection as _, PgConnection, QueryResult, RunQueryDsl};

use super::history::NewEntry;
use super::stamp::Stamp;

/// Rows of one statement: a message to the server must not grow without a limit.
const ROWS: usize = 1_000;

const INTO: &str = "INSERT INTO command_history (instance_id, seq, call_id, round, kind, created_at, method, plugin, tool, caller, \
     client, session, protocol_version, status, error_code, duration_us, arguments, result_bytes, request_id, trace_id, detail) \
     SELECT * FROM unnest(";

/// Writes all rows or none. One statement is a transaction by itself, and so one round trip.
///
/// # Errors
/// What the database says.
pub(super) fn insert<'a>(
    connection: &mut PgConnection,
    rows: impl Iterator<Item = NewEntry<'a>>,
) -> QueryResult<()> {
    let mut rows = rows.map(NewEntry::without_nul).peekable();
    let first: Columns<'_> = rows.by_ref().take(ROWS).collect();
    if rows.peek().is_none() {
        return first.execute(connection).map(drop);
    }
    connection.transaction(|connection| {
        first.execute(connection)?;
        while rows.peek().is_some() {
            rows.by_ref().take(ROWS).collect::<Columns<'_>>().execute(connection)?;
        }
        Ok(())
    })
}

type MaybeText<'a> = Option<Cow<'a, str>>;

/// Rows, turned on their side.
#[derive(Default)]
struct Columns<'a> {
    instance_id: Vec<&'a str>,
    seq: Vec<i64>,
    call_id: Vec<&'a str>,
    round: Vec<i32>,
    kind: Vec<&'static str>,
    created_at: Vec<Stamp>,
    method: Vec<MaybeText<'a>>,
    plugin: Vec<MaybeText<'a>>,
    tool: Vec<MaybeText<'a>>,
    caller: Vec<MaybeText<'a>>,
    client: Vec<MaybeText<'a>>,
    session: Vec<MaybeText<'a>>,
    protocol_version: Vec<MaybeText<'a>>,
    status: Vec<Option<&'static str>>,
    error_code: Vec<MaybeText<'a>>,
    duration_us: Vec<Option<i64>>,
    arguments: Vec<MaybeText<'a>>,
    result_bytes: Vec<Option<i64>>,
    request_id: Vec<MaybeText<'a>>,
    trace_id: Vec<MaybeText<'a>>,
    detail: Vec<MaybeText<'a>>,
}

impl<'a> FromIterator<NewEntry<'a>> for Columns<'a> {
    fn from_iter<I: IntoIterator<Item = NewEntry<'a>>>(rows: I) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.instance_id.push(row.instance_id);
            columns.seq.push(row.seq);
            columns.call_id.push(row.call_id);
            columns.round.push(row.round);
            columns.kind.push(row.kind);
            columns.created_at.push(row.created_at);
            columns.method.push(row.method);
            columns.plugin.push(row.plugin);
            columns.tool.push(row.tool);
            columns.caller.push(row.caller);
            columns.client.push(row.client);
            columns.session.push(row.session);
            columns.protocol_version.push(row.protocol_version);
            columns.status.push(row.status);
            columns.error_code.push(row.error_code);
            columns.duration_us.push(row.duration_us);
            columns.arguments.push(row.arguments);
            columns.result_bytes.push(row.result_bytes);
            columns.request_id.push(row.request_id);
            columns.trace_id.push(row.trace_id);
            columns.detail.push(row.detail);
        }
        columns
    }
}

// The text depends on nothing: Diesel makes and prepares it once.
impl QueryId for Columns<'_> {
    type QueryId = Columns<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl RunQueryDsl<PgConnection> for Columns<'_> {}

impl QueryFragment<Pg> for Columns<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        type Texts = Array<Text>;
        type MaybeTexts = Array<Nullable<Text>>;
        type MaybeNumbers = Array<Nullable<BigInt>>;
        out.push_sql(INTO);
        out.push_bind_param::<Texts, _>(&self.instance_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.seq)?;
        out.push_sql(", ");
        out.push_bind_param::<Texts, _>(&self.call_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&self.round)?;
        out.push_sql(", ");
        out.push_bind_param::<Texts, _>(&self.kind)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Timestamp>, _>(&self.created_at)?;
        let texts = [&self.method, &self.plugin, &self.tool, &self.caller];
        for column in texts.into_iter().chain([&self.client, &self.session, &self.protocol_version]) {
            out.push_sql(", ");
            out.push_bind_param::<MaybeTexts, _>(column)?;
        }
        out.push_sql(", ");
        out.push_bind_param::<MaybeTexts, _>(&self.status)?;
        out.push_sql(", ");
        out.push_bind_param::<MaybeTexts, _>(&self.error_code)?;
        out.push_sql(", ");
        out.push_bind_param::<MaybeNumbers, _>(&self.duration_us)?;
        out.push_sql(", ");
        out.push_bind_param::<MaybeTexts, _>(&self.arguments)?;
        out.push_sql(", ");
        out.push_bind_param::<MaybeNumbers, _>(&self.result_bytes)?;
        for column in [&self.request_id, &self.trace_id, &self.detail] {
            out.push_sql(", ");
            out.push_bind_param::<MaybeTexts, _>(column)?;
        }
        out.push_sql(")");
        Ok(())
    }
}
