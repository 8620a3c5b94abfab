//! The way out: a consistent copy of the database, made beside whoever writes. Must not know where copies are kept.

use std::path::Path;

#[cfg(feature = "sqlite")]
use diesel::{RunQueryDsl as _, sql_types};

#[cfg(feature = "sqlite")]
use crate::storage::DbConnection;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
use crate::storage::migrations;
use crate::storage::{Storage, StorageError};

/// Writes a copy of the database to `path`, which must not be there yet: on SQLite by `VACUUM INTO`, which sees one moment
/// and holds up nobody, on PostgreSQL within one transaction that sees one moment. `told` hears of rows copied so far.
/// Blocks for as long as it takes.
///
/// # Errors
/// What the database says; where SQLite is not compiled in.
#[cfg(feature = "sqlite")]
pub fn dump(storage: &Storage, path: &Path, told: &dyn Fn(u64)) -> Result<(), StorageError> {
    #[cfg(feature = "postgres")]
    let behind = behind(&mut storage.connect()?, storage.place())?;
    match storage.connect()? {
        DbConnection::Sqlite(mut sqlite) => {
            let _not_by_rows = told;
            // And not by SQLite's backup API, the other way to copy a live database. This reads within one transaction: it need not
            // begin anew when somebody else writes, as that does between its steps; and what comes out is as small as can be, without
            // anything that was deleted. It takes more of the processor, and is a statement, where that is C.
            // Made here, so that it is nobody else's from its first byte on.
            crate::storage::make_file(path)?;
            let into = diesel::sql_query("VACUUM INTO ?").bind::<sql_types::Text, _>(path.to_string_lossy());
            into.execute(&mut sqlite).map(drop).map_err(|error| storage.failed(&error))
        }
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(mut postgres) => on_server::dump(storage, &mut postgres, behind, path, told),
    }
}

/// See the build with SQLite.
///
/// # Errors
/// Always.
#[cfg(not(feature = "sqlite"))]
pub fn dump(_storage: &Storage, path: &Path, _told: &dyn Fn(u64)) -> Result<(), StorageError> {
    Err(super::without_sqlite(path))
}

/// How many migrations the database has yet to see; 0 for one that has seen none, which nothing can be copied of.
#[cfg(all(feature = "sqlite", feature = "postgres"))]
fn behind(connection: &mut DbConnection, place: &str) -> Result<usize, StorageError> {
    let known = migrations::standing(connection, place)?.known;
    let count = known.iter().filter(|(_, is_done)| !is_done).count();
    Ok(if count == known.len() { 0 } else { count })
}

#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod on_server {
    use std::path::Path;

    use diesel::connection::SimpleConnection as _;
    use diesel::query_builder::BoxedSqlQuery;
    use diesel::sql_types::{Nullable, Text};
    use diesel::sqlite::Sqlite;
    use diesel::{PgConnection, QueryResult, RunQueryDsl as _, SqliteConnection};

    use super::super::tables::{self, Column, Holds, Tables, Texts, quoted};
    use crate::storage::{Storage, StorageError, migrations};

    /// Rows that are fetched at once.
    const ROWS: usize = 1_000;
    /// Values of one statement; SQLite takes up to 32 766.
    const VALUES: usize = 8_000;

    /// What ends the copy.
    enum Failure {
        Server(diesel::result::Error),
        File(diesel::result::Error),
        Mismatch(String),
    }

    impl From<diesel::result::Error> for Failure {
        fn from(error: diesel::result::Error) -> Self {
            Self::Server(error)
        }
    }

    pub(super) fn dump(
        storage: &Storage,
        postgres: &mut PgConnection,
        behind: usize,
        path: &Path,
        told: &dyn Fn(u64),
    ) -> Result<(), StorageError> {
        let shown = path.display().to_string();
        let of_file = |error: &diesel::result::Error| StorageError::of_query(&shown, error);
        let file = crate::storage::at_file(path)?;
        file.migrate()?;
        let mut connection = file.connect()?;
        // A copy has the tables that the database has: a restore brings them up to date.
        for _ in 0..behind {
            drop(migrations::take_back(&mut connection, file.place())?);
        }
        let crate::storage::DbConnection::Sqlite(sqlite) = &mut connection else {
            return Err(StorageError::Unsupported { place: shown, feature: "sqlite" });
        };
        let copied = copy(postgres, sqlite, told).map_err(|failure| match failure {
            Failure::Server(error) => storage.failed(&error),
            Failure::File(error) => of_file(&error),
            Failure::Mismatch(what) => StorageError::Mismatch { place: storage.place().to_owned(), what },
        });
        copied?;
        connection.leave_alone().map_err(|error| of_file(&error))
    }

    fn copy(
        postgres: &mut PgConnection,
        sqlite: &mut SqliteConnection,
        told: &dyn Fn(u64),
    ) -> Result<(), Failure> {
        let wanted = tables::of_sqlite(sqlite).map_err(Failure::File)?;
        postgres.build_transaction().repeatable_read().read_only().run(|postgres| {
            // Between two fetches the file is written, on a disk that may be slow.
            postgres.batch_execute(
                "SET LOCAL statement_timeout = '600s'; SET LOCAL idle_in_transaction_session_timeout = '600s'",
            )?;
            let found = tables::of_postgres(postgres)?;
            if let Some(what) = tables::difference(&wanted, &found) {
                return Err(Failure::Mismatch(what));
            }
            // By hand, so that whose fault it was is not mixed up; a copy that fails is thrown away.
            sqlite.batch_execute("BEGIN").map_err(Failure::File)?;
            copy_all(postgres, sqlite, &found, &wanted, told)?;
            sqlite.batch_execute("COMMIT").map_err(Failure::File)
        })
    }

    fn copy_all(
        postgres: &mut PgConnection,
        sqlite: &mut SqliteConnection,
        found: &Tables,
        wanted: &Tables,
        told: &dyn Fn(u64),
    ) -> Result<(), Failure> {
        let mut rows = 0;
        for (table, columns) in found.iter().filter(|(table, _)| wanted.contains_key(*table)) {
            // Migrations lay rows into some.
            let delete = format!("DELETE FROM {}", quoted(table));
            sqlite.batch_execute(&delete).map_err(Failure::File)?;
            let read: Vec<String> = columns.iter().map(read).collect();
            postgres.batch_execute(&format!(
                "DECLARE waygate_rows NO SCROLL CURSOR FOR SELECT {} FROM {}",
                read.join(", "),
                quoted(table)
            ))?;
            loop {
                let some: Vec<Texts> =
                    diesel::sql_query(format!("FETCH {ROWS} FROM waygate_rows")).load(postgres)?;
                if some.is_empty() {
                    break;
                }
                rows += some.len() as u64;
                for part in some.chunks((VALUES / columns.len().max(1)).max(1)) {
                    write(sqlite, table, columns, part).map_err(Failure::File)?;
                }
                told(rows);
            }
            postgres.batch_execute("CLOSE waygate_rows")?;
        }
        Ok(())
    }

    /// How a column is read as a text that SQLite takes.
    fn read(column: &Column) -> String {
        let name = quoted(&column.name);
        match column.holds() {
            Some(Holds::Time) => format!("to_char({name}, 'YYYY-MM-DD HH24:MI:SS.US')"),
            Some(Holds::Bytes) => format!("encode({name}, 'hex')"),
            Some(Holds::Truth) => format!("{name}::int::text"),
            _ => format!("{name}::text"),
        }
    }

    fn write(
        sqlite: &mut SqliteConnection,
        table: &str,
        columns: &[Column],
        rows: &[Texts],
    ) -> QueryResult<()> {
        let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let places: Vec<&str> = columns
            .iter()
            .map(|column| if column.holds() == Some(Holds::Bytes) { "unhex(?)" } else { "?" })
            .collect();
        let row = format!("({})", places.join(", "));
        let all = vec![row; rows.len()].join(", ");
        let text = format!("INSERT INTO {} ({}) VALUES {all}", quoted(table), names.join(", "));
        let mut statement: BoxedSqlQuery<'_, Sqlite, _> = diesel::sql_query(text).into_boxed();
        for (value, column) in rows.iter().flat_map(|row| row.0.iter().zip(columns)) {
            let value = value.as_deref().map(|value| match column.holds() {
                Some(Holds::Time) => time(value),
                _ => value,
            });
            statement = statement.bind::<Nullable<Text>, _>(value);
        }
        statement.execute(sqlite).map(drop)
    }

    /// As SQLite's rows have a time: with 3 or 6 digits of the second's fraction if it has any, since times are compared
    /// as texts there.
    fn time(text: &str) -> &str {
        text.strip_suffix(".000000").or_else(|| text.strip_suffix("000")).unwrap_or(text)
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn a_time_is_written_as_diesel_writes_it() {
            let at = |fraction: &str| super::time(&format!("2026-11-22 21:45:40.{fraction}")).to_owned();
            assert_eq!(at("000000"), "2026-11-22 21:45:40");
            assert_eq!(at("120000"), "2026-11-22 21:45:40.120");
            assert_eq!(at("000120"), "2026-11-22 21:45:40.000120");
        }
    }
}
