//! Brings the database to this version's schema, one process at a time; judges whether it is whole.
//!
//! Must not know what the tables are for.

use std::error::Error as StdError;

#[cfg(feature = "sqlite")]
use diesel::QueryResult;
#[cfg(feature = "postgres")]
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::migration::{Migration, MigrationSource};
use diesel::{QueryableByName, RunQueryDsl as _, sql_types};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{DbConnection, StorageError};

#[cfg(feature = "sqlite")]
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
#[cfg(feature = "postgres")]
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Which advisory lock of PostgreSQL stands for migrating: "waygate" as a number.
#[cfg(feature = "postgres")]
const LOCK: i64 = 0x0077_6179_6761_7465;
/// A migration may take longer than other statements.
#[cfg(feature = "postgres")]
const MIGRATION_TIMEOUT_SECONDS: u64 = 600;

type Boxed = Box<dyn StdError + Send + Sync>;

/// Runs what is pending, under a lock, all or nothing. Gives the names of what was run.
///
/// # Errors
/// When the lock is not free within the busy timeout, when the database is newer than this program, when it fails.
pub fn run(connection: &mut DbConnection, place: &str) -> Result<Vec<String>, StorageError> {
    // Most starts find nothing to do, and need no lock for that.
    if pending(connection, place)?.is_empty() {
        return Ok(Vec::new());
    }
    let done = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => {
            sqlite.immediate_transaction(|sqlite| run_on(sqlite, SQLITE)).map_err(Failure::into_boxed)
        }
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => postgres
            .transaction(|postgres| {
                let settings = format!(
                    "SELECT pg_advisory_xact_lock({LOCK}); SET LOCAL statement_timeout = '{MIGRATION_TIMEOUT_SECONDS}s';"
                );
                postgres.batch_execute(&settings)?;
                run_on(postgres, POSTGRES)
            })
            .map_err(Failure::into_boxed),
    };
    done.map_err(|error| of_boxed(place, error.as_ref()))
}

/// The names of the migrations that are still to run.
///
/// # Errors
/// When the database is newer than this program or fails.
pub fn pending(connection: &mut DbConnection, place: &str) -> Result<Vec<String>, StorageError> {
    let (known, applied) = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => sqlite.applied_migrations().and_then(|applied| {
            state_of::<diesel::sqlite::Sqlite>(&SQLITE, applied.iter().map(ToString::to_string).collect())
        }),
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => {
            applied_on(postgres).and_then(|applied| state_of::<diesel::pg::Pg>(&POSTGRES, applied))
        }
    }
    .map_err(|error| of_boxed(place, error.as_ref()))?;
    let unknown = applied.iter().find(|version| known.iter().all(|(own, _)| own != *version));
    if let Some(migration) = unknown {
        return Err(StorageError::Newer { place: place.to_owned(), migration: migration.clone() });
    }
    Ok(known.into_iter().filter(|(version, _)| !applied.contains(version)).map(|(_, name)| name).collect())
}

/// What is wrong with the database, in the database's own words; empty when it is whole.
///
/// # Errors
/// When it cannot even be asked.
pub fn check(connection: &mut DbConnection, place: &str) -> Result<Vec<String>, StorageError> {
    let faults = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => integrity(sqlite),
        // PostgreSQL has no such check without an extension; that every table answers is what can be told.
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => postgres
            .batch_execute(
                "SELECT count(*) FROM instances; SELECT counter FROM generation; \
                 SELECT max(id) FROM command_history; SELECT count(*) FROM api_keys; SELECT count(*) FROM tool_definitions; \
                 SELECT count(*) FROM ledger_checkpoints;",
            )
            .map(|()| Vec::new()),
    };
    faults.map_err(|error| StorageError::of_query(place, &error))
}

#[cfg(feature = "sqlite")]
fn integrity(sqlite: &mut diesel::SqliteConnection) -> QueryResult<Vec<String>> {
    #[derive(QueryableByName)]
    struct Line {
        #[diesel(sql_type = sql_types::Text)]
        integrity_check: String,
    }
    let lines: Vec<Line> = diesel::sql_query("PRAGMA integrity_check").load(sqlite)?;
    Ok(lines.into_iter().map(|line| line.integrity_check).filter(|line| line != "ok").collect())
}

/// Versions and names of what we know, and versions of what was applied.
type State = (Vec<(String, String)>, Vec<String>);

fn state_of<DB: diesel::backend::Backend>(
    source: &EmbeddedMigrations,
    applied: Vec<String>,
) -> Result<State, Boxed> {
    let migrations: Vec<Box<dyn Migration<DB>>> = MigrationSource::<DB>::migrations(source)?;
    let mut known: Vec<(String, String)> = migrations
        .iter()
        .map(|migration| (migration.name().version().to_string(), migration.name().to_string()))
        .collect();
    known.sort();
    Ok((known, applied))
}

/// Diesel's own question makes the table first that it asks, which a server that is read-only refuses.
#[cfg(feature = "postgres")]
fn applied_on(postgres: &mut diesel::PgConnection) -> Result<Vec<String>, Boxed> {
    #[derive(QueryableByName)]
    struct Applied {
        #[diesel(sql_type = sql_types::Text)]
        version: String,
    }
    let is_there = "SELECT 'there' AS version WHERE to_regclass('__diesel_schema_migrations') IS NOT NULL";
    if diesel::sql_query(is_there).load::<Applied>(postgres)?.is_empty() {
        return Ok(Vec::new());
    }
    let query = "SELECT version FROM __diesel_schema_migrations";
    let applied: Vec<Applied> = diesel::sql_query(query).load(postgres)?;
    Ok(applied.into_iter().map(|row| row.version).collect())
}

fn run_on<C, DB>(connection: &mut C, source: EmbeddedMigrations) -> Result<Vec<String>, Failure>
where
    C: MigrationHarness<DB>,
    DB: diesel::backend::Backend + 'static,
{
    let versions = connection.run_pending_migrations(source).map_err(Failure::Migration)?;
    Ok(versions.iter().map(ToString::to_string).collect())
}

/// What ends the transaction around the migrations.
enum Failure {
    Query(diesel::result::Error),
    Migration(Boxed),
}

impl Failure {
    fn into_boxed(self) -> Boxed {
        match self {
            Self::Query(error) => Box::new(error),
            Self::Migration(error) => error,
        }
    }
}

impl From<diesel::result::Error> for Failure {
    fn from(error: diesel::result::Error) -> Self {
        Self::Query(error)
    }
}

/// Finds the database's own error at the bottom of the chain.
fn of_boxed(place: &str, error: &(dyn StdError + Send + Sync + 'static)) -> StorageError {
    if let Some(query) = error.downcast_ref::<diesel::result::Error>() {
        return StorageError::of_query(place, query);
    }
    let mut deepest: &dyn StdError = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    match deepest.downcast_ref::<diesel::result::Error>() {
        Some(query) => StorageError::of_query(place, query),
        None => StorageError::of_text(place, &error.to_string()),
    }
}
