//! What a database needs now and then: looked through, counted, tidied. Must not know when.

use std::collections::BTreeMap;
use std::fs;

use diesel::connection::SimpleConnection as _;
use diesel::{QueryResult, RunQueryDsl as _};
use serde::Serialize;

use super::history::size;
use super::transfer::tables::{self, Tables, Texts, quoted};
use super::{DbConnection, Storage, StorageError};

/// How long PostgreSQL may take for one statement here.
#[cfg(feature = "postgres")]
const STATEMENT_WITHIN: &str = "SET statement_timeout = '3600s'";

/// What is wrong with the database, in the database's own words; empty when it is whole.
///
/// # Errors
/// When it cannot even be asked.
pub fn check(connection: &mut DbConnection, place: &str) -> Result<Vec<String>, StorageError> {
    let faults = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => check_file(sqlite),
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => check_server(postgres),
    };
    faults.map_err(|error| StorageError::of_query(place, &error))
}

#[cfg(feature = "sqlite")]
fn check_file(sqlite: &mut diesel::SqliteConnection) -> QueryResult<Vec<String>> {
    let lines: Vec<Texts> = diesel::sql_query("PRAGMA integrity_check").load(sqlite)?;
    let mut faults: Vec<String> =
        lines.into_iter().map(|mut line| line.take(0)).filter(|line| line != "ok").collect();
    // What is damaged is not asked further.
    if faults.is_empty() {
        let strays: Vec<Texts> = diesel::sql_query("PRAGMA foreign_key_check").load(sqlite)?;
        let stray = |mut row: Texts| {
            format!("row {} of {} belongs to none of {}", row.take(1), row.take(0), row.take(2))
        };
        faults.extend(strays.into_iter().map(stray));
    }
    Ok(faults)
}

/// PostgreSQL has no such check without an extension; that every table answers and every index is in use can be told.
#[cfg(feature = "postgres")]
fn check_server(postgres: &mut diesel::PgConnection) -> QueryResult<Vec<String>> {
    postgres.batch_execute(
        "SELECT count(*) FROM instances; SELECT counter FROM generation; \
         SELECT max(id) FROM command_history; SELECT count(*) FROM api_keys; SELECT count(*) FROM tool_definitions; SELECT count(*) FROM sessions; \
         SELECT count(*) FROM ledger_checkpoints;",
    )?;
    let invalid = "SELECT relname::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid \
                   WHERE NOT indisvalid AND relnamespace = to_regnamespace(quote_ident(current_schema())) ORDER BY 1";
    let invalid: Vec<Texts> = diesel::sql_query(invalid).load(postgres)?;
    Ok(invalid
        .into_iter()
        .map(|mut row| format!("the index {} is not valid; REINDEX it", row.take(0)))
        .collect())
}

/// Gives back what is not used any more, and counts anew what the planner goes by.
///
/// # Errors
/// What the database says: a file that somebody else has open is locked.
pub fn vacuum(storage: &Storage) -> Result<(), StorageError> {
    let mut connection = storage.connect()?;
    let done = match &mut connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => {
            sqlite.batch_execute("VACUUM; ANALYZE; PRAGMA wal_checkpoint(TRUNCATE);")
        }
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => postgres.batch_execute(STATEMENT_WITHIN).and_then(|()| {
            // Each by itself: together they would be a transaction, in which PostgreSQL does not do it.
            let tables = tables::of_postgres(postgres)?;
            tables
                .keys()
                .try_for_each(|table| postgres.batch_execute(&format!("VACUUM (ANALYZE) {}", quoted(table))))
        }),
    };
    done.map_err(|error| storage.failed(&error))
}

/// How large a database is, and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// `sqlite` or `postgres`.
    pub backend: &'static str,
    /// In all, on disk.
    pub bytes: u64,
    /// Of these, how many a vacuum would give back; where the database knows.
    pub unused_bytes: Option<u64>,
    /// What waits beside a file to be moved into it.
    pub wal_bytes: Option<u64>,
    /// What stands in the rows of the history, without indexes and free room: what `history.max_bytes` bounds.
    pub history_bytes: u64,
    /// By name.
    pub tables: BTreeMap<String, TableStats>,
    /// The time of the oldest row of the history, UTC.
    pub oldest: Option<String>,
    /// The time of the newest row of the history, UTC.
    pub newest: Option<String>,
}

/// One table of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TableStats {
    /// Rows.
    pub rows: u64,
    /// With its indexes, where the database knows.
    pub bytes: Option<u64>,
}

/// Measures and counts. Reads every table.
///
/// # Errors
/// What the database says.
pub fn stats(storage: &Storage) -> Result<Stats, StorageError> {
    let mut connection = storage.connect()?;
    let stats = match &mut connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => stats_of_file(sqlite),
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => stats_of_server(postgres),
    };
    let mut stats = stats.map_err(|error| storage.failed(&error))?;
    stats.history_bytes = size::of_all(&mut connection).map_err(|error| storage.failed(&error))?;
    if let Some(path) = storage.path() {
        let size = |end: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            fs::metadata(name).map(|about| about.len()).ok()
        };
        (stats.bytes, stats.wal_bytes) =
            (size("").unwrap_or_default(), Some(size("-wal").unwrap_or_default()));
    }
    Ok(stats)
}

const OLDEST: &str = "SELECT min(created_at) FROM command_history";
const NEWEST: &str = "SELECT max(created_at) FROM command_history";

#[cfg(feature = "sqlite")]
fn stats_of_file(sqlite: &mut diesel::SqliteConnection) -> QueryResult<Stats> {
    let found = tables::of_sqlite(sqlite)?;
    let mut ask = |query: &str| -> QueryResult<Option<String>> {
        Ok(diesel::sql_query(query)
            .load::<Texts>(sqlite)?
            .into_iter()
            .next()
            .and_then(|row| row.0.into_iter().next()?))
    };
    let pages = "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size";
    let unused = ask(pages)?.and_then(|text| text.parse().ok());
    let measured = |table: &str| {
        format!(
            "SELECT sum(pgsize) FROM dbstat('main', 1) WHERE name IN (SELECT name FROM sqlite_schema WHERE tbl_name = '{}')",
            table.replace('\'', "''")
        )
    };
    let tables = tables_of(&found, &measured, &mut ask)?;
    let (oldest, newest) = (ask(OLDEST)?, ask(NEWEST)?);
    Ok(Stats { backend: "sqlite", unused_bytes: unused, tables, oldest, newest, ..Stats::default() })
}

#[cfg(feature = "postgres")]
fn stats_of_server(postgres: &mut diesel::PgConnection) -> QueryResult<Stats> {
    postgres.batch_execute(STATEMENT_WITHIN)?;
    let found = tables::of_postgres(postgres)?;
    let mut ask = |query: &str| -> QueryResult<Option<String>> {
        let rows = diesel::sql_query(format!("SELECT given::text FROM ({query}) AS asked (given)"));
        Ok(rows.load::<Texts>(postgres)?.into_iter().next().and_then(|row| row.0.into_iter().next()?))
    };
    let measured = |table: &str| {
        format!("SELECT pg_total_relation_size(quote_ident('{}')::regclass)", table.replace('\'', "''"))
    };
    let tables = tables_of(&found, &measured, &mut ask)?;
    let bytes = tables.values().filter_map(|table| table.bytes).sum();
    let (oldest, newest) = (ask(OLDEST)?, ask(NEWEST)?);
    Ok(Stats { backend: "postgres", bytes, tables, oldest, newest, ..Stats::default() })
}

fn tables_of(
    found: &Tables,
    measured: &dyn Fn(&str) -> String,
    ask: &mut dyn FnMut(&str) -> QueryResult<Option<String>>,
) -> QueryResult<BTreeMap<String, TableStats>> {
    let mut tables = BTreeMap::new();
    for table in found.keys() {
        let rows = ask(&format!("SELECT count(*) FROM {}", quoted(table)))?;
        let rows = rows.and_then(|text| text.parse().ok()).unwrap_or_default();
        // A SQLite that was built without what measures pages still counts rows.
        let bytes = ask(&measured(table)).ok().flatten().and_then(|text| text.parse().ok());
        tables.insert(table.clone(), TableStats { rows, bytes });
    }
    Ok(tables)
}
