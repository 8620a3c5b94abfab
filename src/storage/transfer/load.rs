//! The way into a database server: all tables anew in one transaction, what was there moved aside. Must not know whence.

use std::path::Path;

use crate::storage::{Storage, StorageError};

/// Has a database server hold what the copy at `from` holds, in place of what it has now, which moves into the schema
/// `aside`; all in one transaction. `told` hears of rows copied so far. With a `counter` of `generation`, only if it still stands
/// so, and nobody moves it from then on: whether it was done.
///
/// # Errors
/// What the database says. Whether it was done all the same, [`is_replaced`] tells.
#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub fn replace(
    storage: &Storage,
    from: &Path,
    aside: &str,
    counter: Option<i64>,
    told: &dyn Fn(u64),
) -> Result<bool, StorageError> {
    match storage.connect()? {
        crate::storage::DbConnection::Postgres(mut postgres) => {
            on_server::replace(storage, &mut postgres, (from, aside, counter), told)
        }
        crate::storage::DbConnection::Sqlite(_) => Err(no_server(storage)),
    }
}

/// Whether [`replace`] with this `aside` was done.
///
/// # Errors
/// What the database says.
#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub fn is_replaced(storage: &Storage, aside: &str) -> Result<bool, StorageError> {
    match storage.connect()? {
        crate::storage::DbConnection::Postgres(mut postgres) => {
            on_server::is_there(&mut postgres, aside).map_err(|error| storage.failed(&error))
        }
        crate::storage::DbConnection::Sqlite(_) => Ok(false),
    }
}

/// See the build with both databases.
///
/// # Errors
/// Always.
#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
pub fn replace(
    storage: &Storage,
    _from: &Path,
    _aside: &str,
    _counter: Option<i64>,
    _told: &dyn Fn(u64),
) -> Result<bool, StorageError> {
    Err(no_server(storage))
}

/// See the build with both databases.
///
/// # Errors
/// None.
#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
pub fn is_replaced(_storage: &Storage, _aside: &str) -> Result<bool, StorageError> {
    Ok(false)
}

fn no_server(storage: &Storage) -> StorageError {
    StorageError::Unsupported { place: storage.place().to_owned(), feature: "postgres" }
}

#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod on_server {
    use std::path::Path;

    use diesel::connection::{Connection as _, SimpleConnection as _};
    use diesel::pg::Pg;
    use diesel::sql_types::{Array, BigInt, Nullable, Text};
    use diesel::{PgConnection, QueryDsl as _, QueryResult, RunQueryDsl as _, SqliteConnection};

    use super::super::tables::{self, Column, Holds, MIGRATIONS, Tables, Texts, quoted};
    use crate::storage::schema::generation;
    use crate::storage::{DbConnection, Storage, StorageError, migrations};

    /// Rows that are written at once.
    const ROWS: i64 = 1_000;

    enum Failure {
        Counter,
        Server(diesel::result::Error),
        File(diesel::result::Error),
        Storage(StorageError),
    }

    impl From<diesel::result::Error> for Failure {
        fn from(error: diesel::result::Error) -> Self {
            Self::Server(error)
        }
    }

    pub(super) fn replace(
        storage: &Storage,
        postgres: &mut PgConnection,
        (from, aside, counter): (&Path, &str, Option<i64>),
        told: &dyn Fn(u64),
    ) -> Result<bool, StorageError> {
        let shown = from.display().to_string();
        let mut file = crate::storage::at_file(from)?.connect()?;
        let DbConnection::Sqlite(sqlite) = &mut file else { return Err(super::no_server(storage)) };
        let done = postgres.transaction(|postgres| {
            postgres.batch_execute(
                "SET LOCAL statement_timeout = '600s'; SET LOCAL idle_in_transaction_session_timeout = '600s'",
            )?;
            if let Some(counter) = counter {
                hold(postgres, counter)?;
            }
            let wanted = tables::of_sqlite(sqlite).map_err(Failure::File)?;
            move_aside(postgres, &wanted, &views(sqlite).map_err(Failure::File)?, aside)?;
            migrations::run_within(postgres, storage.place()).map_err(Failure::Storage)?;
            let found = tables::of_postgres(postgres)?;
            if let Some(what) = tables::difference(&wanted, &found) {
                let place = storage.place().to_owned();
                return Err(Failure::Storage(StorageError::Mismatch { place, what }));
            }
            let mut rows = 0;
            for (table, columns) in found.iter().filter(|(table, _)| wanted.contains_key(*table)) {
                fill(postgres, sqlite, table, columns, &mut rows, told)?;
            }
            Ok(())
        });
        match done {
            Ok(()) => Ok(true),
            Err(Failure::Counter) => Ok(false),
            Err(Failure::Server(error)) => Err(storage.failed(&error)),
            Err(Failure::File(error)) => Err(StorageError::of_query(&shown, &error)),
            Err(Failure::Storage(error)) => Err(error),
        }
    }

    /// Has the counter stand as it stood until the transaction ends: who changes a key raises it first, and waits then.
    fn hold(postgres: &mut PgConnection, counter: i64) -> Result<(), Failure> {
        postgres.batch_execute("LOCK TABLE generation IN ACCESS EXCLUSIVE MODE")?;
        let now: i64 = generation::table.select(generation::counter).first(postgres)?;
        if now == counter { Ok(()) } else { Err(Failure::Counter) }
    }

    pub(super) fn is_there(postgres: &mut PgConnection, schema: &str) -> QueryResult<bool> {
        let query = "SELECT nspname::text FROM pg_namespace WHERE nspname = $1";
        let found: Vec<Texts> = diesel::sql_query(query).bind::<Text, _>(schema).load(postgres)?;
        Ok(!found.is_empty())
    }

    fn views(sqlite: &mut SqliteConnection) -> QueryResult<Vec<String>> {
        let query = "SELECT name FROM sqlite_schema WHERE type = 'view'";
        let views: Vec<Texts> = diesel::sql_query(query).load(sqlite)?;
        Ok(views.into_iter().map(|mut row| row.take(0)).collect())
    }

    /// Only what is ours: the schema may be shared with others.
    fn move_aside(
        postgres: &mut PgConnection,
        wanted: &Tables,
        views: &[String],
        aside: &str,
    ) -> QueryResult<()> {
        postgres.batch_execute(&format!("CREATE SCHEMA {}", quoted(aside)))?;
        let found = "SELECT relname::text, relkind::text FROM pg_class \
                     WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relkind IN ('r', 'p', 'v')";
        let found: Vec<Texts> = diesel::sql_query(found).load(postgres)?;
        for mut row in found {
            let (name, kind) = (row.take(0), row.take(1));
            let is_table = wanted.contains_key(&name) || name == MIGRATIONS;
            let what = match kind.as_str() {
                "v" if views.contains(&name) => "VIEW",
                "v" => continue,
                _ if is_table => "TABLE",
                _ => continue,
            };
            postgres.batch_execute(&format!(
                "ALTER {what} {} SET SCHEMA {}",
                quoted(&name),
                quoted(aside)
            ))?;
        }
        Ok(())
    }

    fn fill(
        postgres: &mut PgConnection,
        sqlite: &mut SqliteConnection,
        table: &str,
        columns: &[Column],
        rows: &mut u64,
        told: &dyn Fn(u64),
    ) -> Result<(), Failure> {
        // Migrations lay rows into some.
        postgres.batch_execute(&format!("DELETE FROM {}", quoted(table)))?;
        let (select, insert) = (select(table, columns), insert(table, columns));
        let mut after = i64::MIN;
        loop {
            let some: Vec<Texts> = diesel::sql_query(&select)
                .bind::<BigInt, _>(after)
                .bind::<BigInt, _>(ROWS)
                .load(sqlite)
                .map_err(Failure::File)?;
            let Some(last) = some.last().and_then(|row| row.0.first()?.as_deref()?.parse().ok()) else {
                break;
            };
            after = last;
            *rows += some.len() as u64;
            let mut by_column: Vec<Vec<Option<String>>> = vec![Vec::with_capacity(some.len()); columns.len()];
            for row in some {
                for (value, column) in row.0.into_iter().skip(1).zip(&mut by_column) {
                    column.push(value);
                }
            }
            let mut statement = diesel::sql_query(&insert).into_boxed::<Pg>();
            for column in by_column {
                statement = statement.bind::<Array<Nullable<Text>>, _>(column);
            }
            statement.execute(postgres)?;
            told(*rows);
        }
        count_on(postgres, table, columns)
    }

    /// Rows by SQLite's own number, which every table of ours has.
    fn select(table: &str, columns: &[Column]) -> String {
        let read: Vec<String> = columns
            .iter()
            .map(|column| match column.holds() {
                // Of nothing at all `hex` makes an empty text.
                Some(Holds::Bytes) => {
                    let name = quoted(&column.name);
                    format!("CASE WHEN {name} IS NOT NULL THEN hex({name}) END")
                }
                _ => quoted(&column.name),
            })
            .collect();
        format!(
            "SELECT rowid, {} FROM {} WHERE rowid > ? ORDER BY rowid LIMIT ?",
            read.join(", "),
            quoted(table)
        )
    }

    fn insert(table: &str, columns: &[Column]) -> String {
        let list = |one: &dyn Fn(usize, &Column) -> String| {
            columns
                .iter()
                .enumerate()
                .map(|(number, column)| one(number, column))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let names = list(&|_, column| quoted(&column.name));
        let values = list(&|number, column| match column.holds() {
            Some(Holds::Bytes) => format!("decode(v{number}, 'hex')"),
            Some(Holds::Truth) => format!("v{number}::int::boolean"),
            _ => format!("v{number}::{}", column.kind),
        });
        let arrays = list(&|number, _| format!("${}", number + 1));
        let fields = list(&|number, _| format!("v{number}"));
        format!(
            "INSERT INTO {} ({names}) SELECT {values} FROM unnest({arrays}) AS given ({fields})",
            quoted(table)
        )
    }

    /// The server numbers new rows after those that came with their numbers.
    fn count_on(postgres: &mut PgConnection, table: &str, columns: &[Column]) -> Result<(), Failure> {
        for column in columns.iter().filter(|column| column.kind == "bigint" || column.kind == "integer") {
            let name = quoted(&column.name);
            let query = format!(
                "SELECT setval(sequence.name, coalesce(last.number, 1), last.number IS NOT NULL)::text \
                 FROM (SELECT pg_get_serial_sequence(quote_ident($1), $2) AS name) AS sequence, \
                 (SELECT max({name}) AS number FROM {}) AS last WHERE sequence.name IS NOT NULL",
                quoted(table)
            );
            let statement = diesel::sql_query(query).bind::<Text, _>(table).bind::<Text, _>(&column.name);
            drop(statement.load::<Texts>(postgres)?);
        }
        Ok(())
    }
}
