//! The statement that writes history on SQLite: many rows at once, its text made once. Diesel's own takes one row a statement
//! and walks the names of all columns for each; with this one a row costs a third less. Must not know when rows are written.

use std::borrow::Cow;

use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp};
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, RunQueryDsl, SqliteConnection};

use super::history::NewEntry;
use super::stamp::Stamp;

/// Rows of a statement: its cursors stay open from row to row, and find the end of an index where they left it. What is
/// left of a group goes by the few, and then one by one.
const MANY: usize = 32;
const FEW: usize = 8;

const INTO: &str = "INSERT INTO command_history (instance_id, seq, call_id, round, kind, created_at, method, plugin, tool, caller, \
     client, session, protocol_version, status, error_code, duration_us, arguments, result_bytes, request_id, trace_id, detail) \
     VALUES ";

/// Writes the rows of one instance as they come; the transaction is the caller's.
///
/// # Errors
/// What the database says.
pub(super) fn insert<'a>(
    connection: &mut SqliteConnection,
    rows: impl Iterator<Item = NewEntry<'a>>,
) -> QueryResult<()> {
    let mut some = Vec::with_capacity(MANY);
    for row in rows {
        some.push(row);
        if let Some(full) = some.first_chunk::<MANY>() {
            write(connection, full)?;
            some.clear();
        }
    }
    let (fews, rest) = some.as_chunks::<FEW>();
    for few in fews {
        write(connection, few)?;
    }
    for row in rest {
        write(connection, std::array::from_ref(row))?;
    }
    Ok(())
}

fn write<const N: usize>(connection: &mut SqliteConnection, rows: &[NewEntry<'_>; N]) -> QueryResult<()> {
    if rows.iter().all(|row| row.error_code.is_none() && row.trace_id.is_none() && row.detail.is_none()) {
        Insert::<N, true>(rows).execute(connection)?;
    } else {
        Insert::<N, false>(rows).execute(connection)?;
    }
    Ok(())
}

/// An INSERT of `N` rows; of `PLAIN` rows, in which all went well, what is always empty is not bound.
struct Insert<'r, 'a, const N: usize, const PLAIN: bool>(&'r [NewEntry<'a>; N]);

// The text depends on nothing but these two: Diesel makes and prepares it once.
impl<const N: usize, const PLAIN: bool> QueryId for Insert<'_, '_, N, PLAIN> {
    type QueryId = Insert<'static, 'static, N, PLAIN>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const N: usize, const PLAIN: bool> RunQueryDsl<SqliteConnection> for Insert<'_, '_, N, PLAIN> {}

impl<const N: usize, const PLAIN: bool> QueryFragment<Sqlite> for Insert<'_, '_, N, PLAIN> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        debug_assert!(self.0.windows(2).all(|pair| matches!(pair, [a, b] if a.instance_id == b.instance_id)));
        out.push_sql(INTO);
        let mut mark = "(";
        for row in self.0 {
            out.push_sql(mark);
            // All rows are of one instance: its name is bound once, and is the first value of them all.
            if mark == "(" {
                out.push_bind_param::<Text, &str>(&row.instance_id)?;
            } else {
                out.push_sql("?1");
            }
            bind::<PLAIN>(row, &mut out)?;
            mark = "), (";
        }
        out.push_sql(")");
        Ok(())
    }
}

type MaybeText<'a> = Option<Cow<'a, str>>;

/// The values of a row behind its instance, in the order of [`INTO`].
fn bind<'b, const PLAIN: bool>(row: &'b NewEntry<'_>, out: &mut AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
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
    let texts =
        [&row.method, &row.plugin, &row.tool, &row.caller, &row.client, &row.session, &row.protocol_version];
    for text in texts {
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Text>, MaybeText<'_>>(text)?;
    }
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, Option<&str>>(&row.status)?;
    bind_unless::<PLAIN>(&row.error_code, out)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<BigInt>, Option<i64>>(&row.duration_us)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, MaybeText<'_>>(&row.arguments)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<BigInt>, Option<i64>>(&row.result_bytes)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, MaybeText<'_>>(&row.request_id)?;
    bind_unless::<PLAIN>(&row.trace_id, out)?;
    bind_unless::<PLAIN>(&row.detail, out)
}

fn bind_unless<'b, const EMPTY: bool>(
    text: &'b MaybeText<'_>,
    out: &mut AstPass<'_, 'b, Sqlite>,
) -> QueryResult<()> {
    if EMPTY {
        out.push_sql(", NULL");
        return Ok(());
    }
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, MaybeText<'_>>(text)
}

#[cfg(test)]
mod tests {
    use super::super::DbConnection;
    use super::super::history::{Entry, append, moment, show};
    use super::*;

    fn told(number: i64, what: &str) -> Option<Cow<'static, str>> {
        Some(Cow::Owned(format!("{what}-{number}")))
    }

    /// Writes so many rows that each kind of statement is used, and compares; `told` says what else there is to tell.
    fn write_and_compare(told: impl Fn(i64, &str) -> Option<Cow<'static, str>>) {
        let folder = tempfile::tempdir().unwrap();
        let database =
            crate::config::Database { url: None, pool_size: 1, busy_timeout_ms: 10, wait_seconds: 0 };
        let storage = crate::storage::open(&database, &folder.path().join("waygate.db")).unwrap();
        storage.migrate().unwrap();
        let mut connection: DbConnection = storage.connect().unwrap();
        let at = moment(std::time::SystemTime::now());
        let count = (MANY + FEW) as i64;
        let rows = (0..=count).map(|number| NewEntry {
            instance_id: "instance",
            seq: number,
            call_id: "call",
            round: 7,
            kind: "outcome",
            created_at: Stamp(at),
            method: told(number, "method"),
            plugin: told(number, "plugin"),
            tool: told(number, "tool"),
            caller: told(number, "caller"),
            client: told(number, "client"),
            session: told(number, "session"),
            protocol_version: told(number, "version"),
            status: Some("success"),
            error_code: told(number, "error"),
            duration_us: Some(number + 100),
            arguments: told(number, "arguments"),
            result_bytes: Some(number + 200),
            request_id: told(number, "request"),
            trace_id: told(number, "trace"),
            detail: told(number, "detail"),
        });
        append(&mut connection, rows).unwrap();
        let own = |number: i64, what: &str| told(number, what).map(Cow::into_owned);
        let expected = (0..=count).map(|number| Entry {
            id: number + 1,
            instance_id: "instance".to_owned(),
            seq: number,
            call_id: "call".to_owned(),
            round: 7,
            kind: "outcome".to_owned(),
            created_at: at,
            method: own(number, "method"),
            plugin: own(number, "plugin"),
            tool: own(number, "tool"),
            caller: own(number, "caller"),
            client: own(number, "client"),
            session: own(number, "session"),
            protocol_version: own(number, "version"),
            status: Some("success".to_owned()),
            error_code: own(number, "error"),
            duration_us: Some(number + 100),
            arguments: own(number, "arguments"),
            result_bytes: Some(number + 200),
            request_id: own(number, "request"),
            trace_id: own(number, "trace"),
            detail: own(number, "detail"),
        });
        assert_eq!(show(&mut connection, "call").unwrap(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn every_value_of_every_row_comes_to_its_column() {
        write_and_compare(told);
    }

    #[test]
    fn rows_in_which_all_went_well_come_to_the_same_columns() {
        write_and_compare(|number, what| {
            told(number, what).filter(|_| !["error", "trace", "detail"].contains(&what))
        });
    }

    #[test]
    fn one_row_that_failed_among_others_keeps_what_it_says() {
        write_and_compare(|number, what| told(number, what).filter(|_| number % 7 == 0 || what != "error"));
    }
}
