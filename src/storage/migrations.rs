//! Brings the database to this version's schema, one process at a time, and back by a step.
//!
//! Must not know what the tables are for.

use std::error::Error as StdError;

#[cfg(feature = "postgres")]
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::migration::{Migration, MigrationSource};
#[cfg(feature = "postgres")]
use diesel::{QueryableByName, RunQueryDsl as _, sql_types};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{DbConnection, StorageError};

#[cfg(feature = "sqlite")]
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
#[cfg(feature = "postgres")]
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Which advisory locks of PostgreSQL stand for migrating, one for each schema: "waygate" as a number.
#[cfg(feature = "postgres")]
const LOCK: i64 = 0x0077_6179_6761_7465;
/// A migration may take longer than other statements.
#[cfg(feature = "postgres")]
const MIGRATION_TIMEOUT_SECONDS: u64 = 600;

type Boxed = Box<dyn StdError + Send + Sync>;

/// Whether the database has no table of ours yet.
///
/// # Errors
/// As [`pending`].
pub fn is_blank(connection: &mut DbConnection, place: &str) -> Result<bool, StorageError> {
    let count = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => {
            MigrationSource::<diesel::sqlite::Sqlite>::migrations(&SQLITE).map(|all| all.len())
        }
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(_) => {
            MigrationSource::<diesel::pg::Pg>::migrations(&POSTGRES).map(|all| all.len())
        }
    };
    let count = count.map_err(|error| of_boxed(place, error.as_ref()))?;
    Ok(pending(connection, place)?.len() == count)
}

/// Runs what is pending, under a lock, all or nothing, and tells the name of each before it begins. Gives the numbers of what was run.
///
/// # Errors
/// When the lock is not free within the busy timeout, when the database is newer than this program, when it fails.
pub fn run(
    connection: &mut DbConnection,
    place: &str,
    told: impl Fn(&str),
) -> Result<Vec<String>, StorageError> {
    // Most starts find nothing to do, and need no lock for that.
    if pending(connection, place)?.is_empty() {
        return Ok(Vec::new());
    }
    let done = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => {
            sqlite.immediate_transaction(|sqlite| run_on(sqlite, SQLITE, told)).map_err(Failure::into_boxed)
        }
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => postgres
            .transaction(|postgres| {
                postgres.batch_execute(&lock())?;
                run_on(postgres, POSTGRES, told)
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
    let (known, applied) = state(connection, place)?;
    let unknown = applied.iter().find(|version| known.iter().all(|(own, _)| own != *version));
    if let Some(migration) = unknown {
        return Err(StorageError::Newer { place: place.to_owned(), migration: migration.clone() });
    }
    Ok(known.into_iter().filter(|(version, _)| !applied.contains(version)).map(|(_, name)| name).collect())
}

/// How the schema stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Migrations that this version knows, by name, and whether each was run.
    pub known: Vec<(String, bool)>,
    /// Those that a newer version has run, by number.
    pub unknown: Vec<String>,
}

/// Which migrations there are, and which of them were run.
///
/// # Errors
/// What the database says.
pub fn standing(connection: &mut DbConnection, place: &str) -> Result<Standing, StorageError> {
    let (known, applied) = state(connection, place)?;
    let unknown = applied.iter().filter(|version| known.iter().all(|(own, _)| own != *version)).cloned();
    let unknown = unknown.collect();
    let known = known.into_iter().map(|(version, name)| (name, applied.contains(&version))).collect();
    Ok(Standing { known, unknown })
}

/// Takes the last migration back, all or nothing; gives its number, or none when there is none to take back.
///
/// # Errors
/// When the database is newer than this program, or fails.
pub fn take_back(connection: &mut DbConnection, place: &str) -> Result<Option<String>, StorageError> {
    let pending = pending(connection, place)?.len();
    if pending == standing(connection, place)?.known.len() {
        return Ok(None);
    }
    let done = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => {
            sqlite.immediate_transaction(|sqlite| take_back_on(sqlite, SQLITE)).map_err(Failure::into_boxed)
        }
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => postgres
            .transaction(|postgres| {
                postgres.batch_execute(&lock())?;
                take_back_on(postgres, POSTGRES)
            })
            .map_err(Failure::into_boxed),
    };
    done.map(Some).map_err(|error| of_boxed(place, error.as_ref()))
}

/// Runs what is pending within the caller's transaction.
///
/// # Errors
/// As [`run`].
#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub(super) fn run_within(postgres: &mut diesel::PgConnection, place: &str) -> Result<(), StorageError> {
    let locked = postgres.batch_execute(&lock()).map_err(Failure::from);
    let done = locked.and_then(|()| run_on(postgres, POSTGRES, |_| {}));
    done.map(drop).map_err(|failure| of_boxed(place, failure.into_boxed().as_ref()))
}

/// Has everybody else who would migrate the same schema wait until the transaction is over.
#[cfg(feature = "postgres")]
fn lock() -> String {
    format!(
        "SELECT pg_advisory_xact_lock(hashtextextended(coalesce(current_schema(), ''), {LOCK})); \
         SET LOCAL statement_timeout = '{MIGRATION_TIMEOUT_SECONDS}s';"
    )
}

/// Versions and names of what we know, and versions of what was applied.
type State = (Vec<(String, String)>, Vec<String>);

fn state(connection: &mut DbConnection, place: &str) -> Result<State, StorageError> {
    let state = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => sqlite.applied_migrations().and_then(|applied| {
            state_of::<diesel::sqlite::Sqlite>(&SQLITE, applied.iter().map(ToString::to_string).collect())
        }),
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => {
            applied_on(postgres).and_then(|applied| state_of::<diesel::pg::Pg>(&POSTGRES, applied))
        }
    };
    state.map_err(|error| of_boxed(place, error.as_ref()))
}

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

fn run_on<C, DB>(
    connection: &mut C,
    source: EmbeddedMigrations,
    told: impl Fn(&str),
) -> Result<Vec<String>, Failure>
where
    C: MigrationHarness<DB>,
    DB: diesel::backend::Backend + 'static,
{
    let pending = connection.pending_migrations(source).map_err(Failure::Migration)?;
    let mut ran = Vec::new();
    for migration in &pending {
        told(&migration.name().to_string());
        ran.push(connection.run_migration(migration).map_err(Failure::Migration)?.to_string());
    }
    Ok(ran)
}

fn take_back_on<C, DB>(connection: &mut C, source: EmbeddedMigrations) -> Result<String, Failure>
where
    C: MigrationHarness<DB>,
    DB: diesel::backend::Backend + 'static,
{
    connection.revert_last_migration(source).map(|version| version.to_string()).map_err(Failure::Migration)
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
