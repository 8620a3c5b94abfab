//! The statement that writes history on SQLite: many rows at once, its text made once. Diesel's own takes one row a statement
//! and walks the names of all columns for each; this one names them once, and binds once what rows have in common: that costs a
//! third of binding each row. Must not know when rows are written.

use std::borrow::Cow;
use std::sync::LazyLock;

use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Binary, Integer, Nullable, Text, Timestamp};
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, RunQueryDsl, SqliteConnection};

use super::history::chain::{Hash, Linked};
use super::history::{Behind, NewEntry};
use super::stamp::Stamp;

/// Rows of a statement: its cursors stay open from row to row, and find the end of an index where they left it. What is
/// left of a group goes by the few, and then one by one.
const MANY: usize = 32;
const FEW: usize = 8;

/// `OR FAIL`: after an error the caller ends the transaction, so that SQLite need not be able to take back the statement
/// alone. For that it would copy each page before its first change.
const INTO: &str = "INSERT OR FAIL INTO command_history (instance_id, seq, call_id, round, kind, created_at, method, plugin, \
     tool, caller, client, session, protocol_version, status, error_code, duration_us, arguments, result_bytes, request_id, \
     trace_id, detail, hash";
const BEHIND: &str = ", plugin_instance, queue_us, upstream_us, bytes_out, bytes_in, bridged";

/// Writes the rows of one instance as they come; the transaction is the caller's, who must not commit it after an error.
///
/// # Errors
/// What the database says.
pub(super) fn insert<'a>(
    connection: &mut SqliteConnection,
    rows: impl Iterator<Item = Linked<'a>>,
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

fn write<const N: usize>(connection: &mut SqliteConnection, rows: &[Linked<'_>; N]) -> QueryResult<()> {
    let plain =
        rows.iter().all(|row| row.error_code.is_none() && row.trace_id.is_none() && row.detail.is_none());
    let behind = rows.iter().any(|row| row.behind.is_some());
    match (plain, behind) {
        (true, false) if are_alike(rows) => Insert::<N, true, true, false>(rows).execute(connection)?,
        (true, true) if are_alike(rows) && went_alike(rows) => {
            Insert::<N, true, true, true>(rows).execute(connection)?
        }
        (true, false) => Insert::<N, true, false, false>(rows).execute(connection)?,
        (true, true) => Insert::<N, true, false, true>(rows).execute(connection)?,
        (false, false) => Insert::<N, false, false, false>(rows).execute(connection)?,
        (false, true) => Insert::<N, false, false, true>(rows).execute(connection)?,
    };
    Ok(())
}

/// Whether the rows are calls without a second round, by one client, of one tool and with one outcome.
fn are_alike(rows: &[Linked<'_>]) -> bool {
    let Some(first) = rows.first() else { return false };
    rows.iter().all(|row| {
        row.request_id.as_deref().is_some_and(|id| is_same(id, row.call_id))
            && (row.round, row.kind, row.status) == (first.round, first.kind, first.status)
            && texts(row).into_iter().zip(texts(first)).all(|(text, other)| match (text, other) {
                (Some(text), Some(other)) => is_same(text, other),
                (text, other) => text.is_none() && other.is_none(),
            })
    })
}

/// What stands behind the plugin of a call that did not wait for its place.
fn way<'r, 'a>(row: &'r NewEntry<'a>) -> Option<&'r Behind<'a>> {
    row.behind.as_ref().filter(|behind| behind.queue_us.is_none())
}

/// Whether the calls went through the same process behind their plugin, the same way, and none of them waited for its place.
fn went_alike(rows: &[Linked<'_>]) -> bool {
    let Some(first) = rows.first().and_then(|row| way(row)) else { return false };
    rows.iter().all(|row| {
        way(row).is_some_and(|behind| {
            behind.bridged == first.bridged
                && match (&behind.instance, &first.instance) {
                    (Some(instance), Some(other)) => is_same(instance, other),
                    (instance, other) => instance.is_none() && other.is_none(),
                }
        })
    })
}

/// Texts that are the same mostly stand in the same place, too, which is seen at once.
fn is_same(text: &str, other: &str) -> bool {
    std::ptr::eq(text, other) || text == other
}

/// An INSERT of `N` rows; of `PLAIN` rows, in which all went well, what is always empty is not bound, of `ALIKE` ones what
/// they have in common is bound with the first, and of rows with nothing `BEHIND` their plugins the columns for that are
/// not even named.
struct Insert<'r, 'a, const N: usize, const PLAIN: bool, const ALIKE: bool, const BEHIND: bool>(
    &'r [Linked<'a>; N],
);

// The text depends on nothing but these: Diesel makes and prepares it once.
impl<const N: usize, const PLAIN: bool, const ALIKE: bool, const BEHIND: bool> QueryId
    for Insert<'_, '_, N, PLAIN, ALIKE, BEHIND>
{
    type QueryId = Insert<'static, 'static, N, PLAIN, ALIKE, BEHIND>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const N: usize, const PLAIN: bool, const ALIKE: bool, const BEHIND: bool> RunQueryDsl<SqliteConnection>
    for Insert<'_, '_, N, PLAIN, ALIKE, BEHIND>
{
}

impl<const N: usize, const PLAIN: bool, const ALIKE: bool, const BEHIND: bool> QueryFragment<Sqlite>
    for Insert<'_, '_, N, PLAIN, ALIKE, BEHIND>
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        debug_assert!(self.0.windows(2).all(|pair| matches!(pair, [a, b] if a.instance_id == b.instance_id)));
        out.push_sql(INTO);
        if BEHIND {
            out.push_sql(self::BEHIND);
        }
        out.push_sql(") VALUES ");
        for (number, row) in self.0.iter().enumerate() {
            // All rows are of one instance: its name is bound once, and is the first value of them all.
            if number == 0 {
                out.push_sql("(");
                out.push_bind_param::<Text, &str>(&row.instance_id)?;
            } else {
                out.push_sql("), (?1");
            }
            match number {
                1.. if ALIKE => bind_like_first::<BEHIND>(number, row, &mut out)?,
                _ => {
                    bind::<PLAIN>(row, &mut out)?;
                    if BEHIND {
                        bind_behind(row.behind.as_ref().unwrap_or(&NOTHING), &mut out)?;
                    }
                }
            }
        }
        out.push_sql(")");
        Ok(())
    }
}

type MaybeText<'a> = Option<Cow<'a, str>>;

/// What says who did what.
fn texts<'r, 'a>(row: &'r NewEntry<'a>) -> [&'r MaybeText<'a>; 7] {
    [&row.method, &row.plugin, &row.tool, &row.caller, &row.client, &row.session, &row.protocol_version]
}

/// The values of a row behind its instance, in the order of [`INTO`].
fn bind<'b, const PLAIN: bool>(row: &'b Linked<'_>, out: &mut AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
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
    for text in texts(row) {
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
    bind_unless::<PLAIN>(&row.detail, out)?;
    bind_hash(&row.hash, out)
}

fn bind_hash<'b>(hash: &'b Hash, out: &mut AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
    out.push_sql(", ");
    out.push_bind_param::<Binary, Hash>(hash)
}

/// Values that [`bind`] binds of a plain row, its instance included, and [`bind_like_first`] of each row behind it; and what
/// comes to each where something is [`BEHIND`].
const BOUND_FIRST: usize = 19;
const BOUND_LIKE_IT: usize = 7;
const BEHIND_FIRST: usize = 6;
const BEHIND_LIKE_IT: usize = 3;

/// The ends of rows like the first one, whose request has the id of the call: it goes by the number of that, the second
/// value of its row.
static ENDS: LazyLock<Vec<String>> = LazyLock::new(|| ends(BOUND_FIRST, BOUND_LIKE_IT));
static ENDS_BEFORE_BEHIND: LazyLock<Vec<String>> =
    LazyLock::new(|| ends(BOUND_FIRST + BEHIND_FIRST, BOUND_LIKE_IT + BEHIND_LIKE_IT));

fn ends(bound_first: usize, bound_like_it: usize) -> Vec<String> {
    let bound_before = |number: usize| bound_first + number.saturating_sub(1) * bound_like_it;
    (0..MANY).map(|number| format!(", ?{}, NULL, NULL", bound_before(number) + 2)).collect()
}

/// The values of a plain row behind its instance, where the first row has bound what all have in common: as the 4th value,
/// the 5th, and those from the 7th to the 14th; behind the plugin as the 20th and the 25th.
fn bind_like_first<'b, const BEHIND: bool>(
    number: usize,
    row: &'b Linked<'_>,
    out: &mut AstPass<'_, 'b, Sqlite>,
) -> QueryResult<()> {
    out.push_sql(", ");
    out.push_bind_param::<BigInt, i64>(&row.seq)?;
    out.push_sql(", ");
    out.push_bind_param::<Text, &str>(&row.call_id)?;
    out.push_sql(", ?4, ?5, ");
    out.push_bind_param::<Timestamp, Stamp>(&row.created_at)?;
    out.push_sql(", ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, NULL, ");
    out.push_bind_param::<Nullable<BigInt>, Option<i64>>(&row.duration_us)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, MaybeText<'_>>(&row.arguments)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<BigInt>, Option<i64>>(&row.result_bytes)?;
    let ends = if BEHIND { &ENDS_BEFORE_BEHIND } else { &ENDS };
    out.push_sql(ends.get(number).map_or("", String::as_str));
    bind_hash(&row.hash, out)?;
    if BEHIND {
        let behind = row.behind.as_ref().unwrap_or(&NOTHING);
        out.push_sql(", ?20, NULL");
        for number in [&behind.upstream_us, &behind.bytes_out, &behind.bytes_in] {
            out.push_sql(", ");
            out.push_bind_param::<Nullable<BigInt>, Option<i64>>(number)?;
        }
        out.push_sql(", ?25");
    }
    Ok(())
}

/// What a row says that has nothing behind its plugin, among others that have.
static NOTHING: Behind<'static> = Behind {
    instance: None,
    queue_us: None,
    upstream_us: None,
    bytes_out: None,
    bytes_in: None,
    bridged: None,
};

/// The values in the order of [`BEHIND`].
fn bind_behind<'b>(behind: &'b Behind<'_>, out: &mut AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, MaybeText<'_>>(&behind.instance)?;
    for number in [&behind.queue_us, &behind.upstream_us, &behind.bytes_out, &behind.bytes_in] {
        out.push_sql(", ");
        out.push_bind_param::<Nullable<BigInt>, Option<i64>>(number)?;
    }
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, Option<&str>>(&behind.bridged)
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
    use super::super::history::{Entry, Head, append, moment, show};
    use super::*;

    fn told(number: i64, what: &str) -> Option<Cow<'static, str>> {
        Some(Cow::Owned(format!("{what}-{number}")))
    }

    fn call_id(number: i64) -> String {
        format!("call-{number}")
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
        let call_ids: Vec<String> = (0..=count).map(call_id).collect();
        let rows = (0..=count).map(|number| NewEntry {
            instance_id: "instance",
            seq: number,
            call_id: &call_ids[number as usize],
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
            behind: told(number, "instance").map(|instance| Behind {
                instance: Some(instance),
                queue_us: told(number, "queue").map(|_| number + 300),
                upstream_us: Some(number + 400),
                bytes_out: Some(number + 500),
                bytes_in: Some(number + 600),
                bridged: Some("modern-legacy"),
            }),
        });
        append(&mut connection, &mut Head::default(), rows).unwrap();
        let own = |number: i64, what: &str| told(number, what).map(Cow::into_owned);
        let expected = (0..=count).map(|number| Entry {
            id: number + 1,
            instance_id: "instance".to_owned(),
            seq: number,
            call_id: call_id(number),
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
            plugin_instance: own(number, "instance"),
            queue_us: own(number, "instance").and(own(number, "queue")).map(|_| number + 300),
            upstream_us: own(number, "instance").map(|_| number + 400),
            bytes_out: own(number, "instance").map(|_| number + 500),
            bytes_in: own(number, "instance").map(|_| number + 600),
            bridged: own(number, "instance").map(|_| "modern-legacy".to_owned()),
        });
        for expected in expected {
            assert_eq!(show(&mut connection, &expected.call_id).unwrap(), [expected]);
        }
    }

    #[test]
    fn every_value_of_every_row_comes_to_its_column() {
        write_and_compare(told);
    }

    #[test]
    fn rows_in_which_all_went_well_come_to_the_same_columns() {
        write_and_compare(|number, what| {
            told(number, what).filter(|_| !["error", "trace", "detail", "instance"].contains(&what))
        });
        write_and_compare(|number, what| {
            told(number, what).filter(|_| !["error", "trace", "detail"].contains(&what))
        });
        write_and_compare(|number, what| {
            told(number, what).filter(|_| number % 5 == 0 || what != "instance")
        });
    }

    #[test]
    fn rows_that_are_alike_come_to_the_same_columns() {
        write_and_compare(|number, what| match what {
            "error" | "trace" | "detail" | "session" | "instance" => None,
            "arguments" => told(number, what),
            "request" => Some(Cow::Owned(call_id(number))),
            common => Some(Cow::Owned(common.to_owned())),
        });
    }

    #[test]
    fn rows_that_are_alike_behind_their_plugin_too_come_to_the_same_columns() {
        for queued in [false, true] {
            for alone in [0, 7] {
                write_and_compare(|number, what| match what {
                    "error" | "trace" | "detail" | "session" => None,
                    "queue" if !queued => None,
                    "arguments" => told(number, what),
                    "request" => Some(Cow::Owned(call_id(number))),
                    // One row that went another way.
                    "instance" if number == alone => told(number, what),
                    common => Some(Cow::Owned(common.to_owned())),
                });
            }
        }
    }

    #[test]
    fn one_row_that_failed_among_others_keeps_what_it_says() {
        write_and_compare(|number, what| told(number, what).filter(|_| number % 7 == 0 || what != "error"));
    }
}
