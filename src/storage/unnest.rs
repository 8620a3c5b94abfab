//! The statement that writes history on PostgreSQL: one array a column, so that its text is the same for any number of rows
//! and is prepared once. One row of it costs the server a fraction of what a VALUES list does. Must not know when rows are
//! written.

use std::borrow::Cow;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamp};
use diesel::{Connection as _, PgConnection, QueryResult, RunQueryDsl};

use super::history::chain::{Hash, Linked};
use super::stamp::Stamp;

/// Rows of one statement: a message to the server must not grow without a limit.
const ROWS: usize = 1_000;

const INTO: &str = "INSERT INTO command_history (instance_id, seq, call_id, round, kind, created_at, method, plugin, tool, caller, \
     client, session, protocol_version, status, error_code, duration_us, arguments, result_bytes, request_id, trace_id, detail, \
     hash";
const BEHIND: &str = ", plugin_instance, queue_us, upstream_us, bytes_out, bytes_in, bridged";
const SELECT: &str = ") SELECT * FROM unnest(";

/// Writes all rows or none. One statement is a transaction by itself, and so one round trip.
///
/// # Errors
/// What the database says.
pub(super) fn insert<'a>(
    connection: &mut PgConnection,
    rows: impl Iterator<Item = Linked<'a>>,
) -> QueryResult<()> {
    let mut rows = rows.peekable();
    let first: Columns<'_> = rows.by_ref().take(ROWS).collect();
    if rows.peek().is_none() {
        return first.write(connection);
    }
    connection.transaction(|connection| {
        first.write(connection)?;
        while rows.peek().is_some() {
            rows.by_ref().take(ROWS).collect::<Columns<'_>>().write(connection)?;
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
    hash: Vec<Hash>,
    /// Whether any row has something behind its plugin; if not, these columns are not named.
    has_behind: bool,
    instance: Vec<MaybeText<'a>>,
    queue_us: Vec<Option<i64>>,
    upstream_us: Vec<Option<i64>>,
    bytes_out: Vec<Option<i64>>,
    bytes_in: Vec<Option<i64>>,
    bridged: Vec<Option<&'static str>>,
}

impl Columns<'_> {
    fn write(&self, connection: &mut PgConnection) -> QueryResult<()> {
        if self.has_behind {
            Insert::<true>(self).execute(connection)?;
        } else {
            Insert::<false>(self).execute(connection)?;
        }
        Ok(())
    }
}

/// The statement that writes the columns, with or without what is behind plugins.
struct Insert<'c, 'a, const BEHIND: bool>(&'c Columns<'a>);

impl<'a> FromIterator<Linked<'a>> for Columns<'a> {
    fn from_iter<I: IntoIterator<Item = Linked<'a>>>(rows: I) -> Self {
        let mut columns = Self::default();
        for Linked { entry: row, hash } in rows {
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
            columns.hash.push(hash);
            columns.has_behind |= row.behind.is_some();
            let behind = row.behind.unwrap_or_default();
            columns.instance.push(behind.instance);
            columns.queue_us.push(behind.queue_us);
            columns.upstream_us.push(behind.upstream_us);
            columns.bytes_out.push(behind.bytes_out);
            columns.bytes_in.push(behind.bytes_in);
            columns.bridged.push(behind.bridged);
        }
        columns
    }
}

// The text depends on nothing else: Diesel makes and prepares it once.
impl<const BEHIND: bool> QueryId for Insert<'_, '_, BEHIND> {
    type QueryId = Insert<'static, 'static, BEHIND>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const BEHIND: bool> RunQueryDsl<PgConnection> for Insert<'_, '_, BEHIND> {}

impl<const BEHIND: bool> QueryFragment<Pg> for Insert<'_, '_, BEHIND> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        type Texts = Array<Text>;
        type MaybeTexts = Array<Nullable<Text>>;
        type MaybeNumbers = Array<Nullable<BigInt>>;
        let columns = self.0;
        out.push_sql(INTO);
        if BEHIND {
            out.push_sql(self::BEHIND);
        }
        out.push_sql(SELECT);
        out.push_bind_param::<Texts, _>(&columns.instance_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&columns.seq)?;
        out.push_sql(", ");
        out.push_bind_param::<Texts, _>(&columns.call_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&columns.round)?;
        out.push_sql(", ");
        out.push_bind_param::<Texts, _>(&columns.kind)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Timestamp>, _>(&columns.created_at)?;
        let texts = [&columns.method, &columns.plugin, &columns.tool, &columns.caller];
        for column in texts.into_iter().chain([&columns.client, &columns.session, &columns.protocol_version])
        {
            out.push_sql(", ");
            out.push_bind_param::<MaybeTexts, _>(column)?;
        }
        out.push_sql(", ");
        out.push_bind_param::<MaybeTexts, _>(&columns.status)?;
        out.push_sql(", ");
        out.push_bind_param::<MaybeTexts, _>(&columns.error_code)?;
        out.push_sql(", ");
        out.push_bind_param::<MaybeNumbers, _>(&columns.duration_us)?;
        out.push_sql(", ");
        out.push_bind_param::<MaybeTexts, _>(&columns.arguments)?;
        out.push_sql(", ");
        out.push_bind_param::<MaybeNumbers, _>(&columns.result_bytes)?;
        for column in [&columns.request_id, &columns.trace_id, &columns.detail] {
            out.push_sql(", ");
            out.push_bind_param::<MaybeTexts, _>(column)?;
        }
        out.push_sql(", ");
        out.push_bind_param::<Array<Binary>, _>(&columns.hash)?;
        if BEHIND {
            out.push_sql(", ");
            out.push_bind_param::<MaybeTexts, _>(&columns.instance)?;
            for column in [&columns.queue_us, &columns.upstream_us, &columns.bytes_out, &columns.bytes_in] {
                out.push_sql(", ");
                out.push_bind_param::<MaybeNumbers, _>(column)?;
            }
            out.push_sql(", ");
            out.push_bind_param::<MaybeTexts, _>(&columns.bridged)?;
        }
        out.push_sql(")");
        Ok(())
    }
}
