//! The statement that writes history on SQLite: several rows at once, its text made once. Diesel's own walks the names of all
//! columns for every row, and takes one row a statement; this halves what is left. Must not know when rows are written.

use std::borrow::Cow;

use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp};
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, RunQueryDsl, SqliteConnection};

use super::history::NewEntry;
use super::stamp::Stamp;

/// Rows of a statement: its cursors stay open from row to row, and find the end of an index where they left it.
const ROWS: usize = 32;

const INTO: &str = "INSERT INTO command_history (instance_id, seq, call_id, round, kind, created_at, method, plugin, tool, caller, \
     client, protocol_version, status, error_code, duration_us, arguments, result_bytes, request_id, trace_id, detail) \
     VALUES ";

/// Writes the rows as they come; the transaction is the caller's.
///
/// # Errors
/// What the database says.
pub(super) fn insert<'a>(
    connection: &mut SqliteConnection,
    rows: impl Iterator<Item = NewEntry<'a>>,
) -> QueryResult<()> {
    let mut some = Vec::with_capacity(ROWS);
    for row in rows {
        some.push(row);
        if let Some(full) = some.first_chunk::<ROWS>() {
            Insert(full).execute(connection)?;
            some.clear();
        }
    }
    for row in &some {
        Insert(std::array::from_ref(row)).execute(connection)?;
    }
    Ok(())
}

/// An INSERT of `N` rows.
struct Insert<'r, 'a, const N: usize>(&'r [NewEntry<'a>; N]);

// The text depends on nothing but `N`: Diesel makes and prepares it once.
impl<const N: usize> QueryId for Insert<'_, '_, N> {
    type QueryId = Insert<'static, 'static, N>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const N: usize> RunQueryDsl<SqliteConnection> for Insert<'_, '_, N> {}

impl<const N: usize> QueryFragment<Sqlite> for Insert<'_, '_, N> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(INTO);
        let mut mark = "(";
        for row in self.0 {
            out.push_sql(mark);
            bind(row, &mut out)?;
            mark = "), (";
        }
        out.push_sql(")");
        Ok(())
    }
}

/// The values of a row, in the order of [`INTO`].
fn bind<'b>(row: &'b NewEntry<'_>, out: &mut AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
    type MaybeText<'a> = Option<Cow<'a, str>>;
    out.push_bind_param::<Text, &str>(&row.instance_id)?;
    out.push_sql(", ");
    out.push_bind_param::<BigInt, i64>(&row.seq)?;
    out.push_sql(", ");
    out.push_bind_param::<Text, &str>(&row.call_id)?;
    out.push_sql(", ");
    out.push_bind_param::<Integer, i32>(&row.round)?;
    out.push_sql(", ");
    out.push_bind_param::<Text, &str>(&row.kind)?;
    out.push_sql(", ");
    out.push_bind_param::<Timestamp, Stamp>(&row.created_at)?;
    let texts = [&row.method, &row.plugin, &row.tool, &row.caller, &row.client, &row.protocol_version];
    for text in texts {
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Text>, MaybeText<'_>>(text)?;
    }
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, Option<&str>>(&row.status)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, MaybeText<'_>>(&row.error_code)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<BigInt>, Option<i64>>(&row.duration_us)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, MaybeText<'_>>(&row.arguments)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<BigInt>, Option<i64>>(&row.result_bytes)?;
    for text in [&row.request_id, &row.trace_id, &row.detail] {
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Text>, MaybeText<'_>>(text)?;
    }
    Ok(())
}
