//! What a copy of the database holds, and whether it is sound. A copy may be anybody's work: it is only read, and nothing
//! in it is run. Must not know where copies are kept.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::storage::StorageError;

/// What a copy holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Census {
    /// Rows, by table.
    pub rows: BTreeMap<String, u64>,
    /// The newest number of the ledger, by the instance that wrote it.
    pub heads: BTreeMap<String, i64>,
    /// Migrations that made its tables.
    pub migrations: Vec<String>,
}

#[cfg(not(feature = "sqlite"))]
mod on_file {
    use super::{Census, Path, StorageError};
    use crate::storage::transfer::without_sqlite;

    /// See the build with SQLite.
    ///
    /// # Errors
    /// Always.
    pub fn of(path: &Path) -> Result<Census, StorageError> {
        Err(without_sqlite(path))
    }

    /// See the build with SQLite.
    ///
    /// # Errors
    /// Always.
    pub fn faults(path: &Path) -> Result<Vec<String>, StorageError> {
        Err(without_sqlite(path))
    }

    /// See the build with SQLite.
    ///
    /// # Errors
    /// Always.
    pub fn active(path: &Path) -> Result<Option<String>, StorageError> {
        Err(without_sqlite(path))
    }

    /// See the build with SQLite.
    ///
    /// # Errors
    /// Always.
    pub fn strange(path: &Path, _pattern: &Path) -> Result<Option<String>, StorageError> {
        Err(without_sqlite(path))
    }
}

#[cfg(feature = "sqlite")]
mod on_file {
    use diesel::connection::SimpleConnection as _;
    use diesel::{Connection as _, QueryResult, RunQueryDsl as _, SqliteConnection};

    use super::{Census, Path, StorageError};
    use crate::storage::connection::escaped;
    use crate::storage::transfer::tables::{self, MIGRATIONS, Texts, quoted};

    /// Counts a copy.
    ///
    /// # Errors
    /// When it is no database of ours.
    pub fn of(path: &Path) -> Result<Census, StorageError> {
        read(path, |sqlite| {
            let mut census = Census::default();
            for table in tables::of_sqlite(sqlite)?.into_keys() {
                let counted: Vec<Texts> =
                    diesel::sql_query(format!("SELECT count(*) FROM {}", quoted(&table))).load(sqlite)?;
                census.rows.insert(table, number(counted).unwrap_or_default());
            }
            let versions = format!("SELECT version FROM {MIGRATIONS} ORDER BY version");
            let versions: Vec<Texts> = diesel::sql_query(versions).load(sqlite)?;
            census.migrations = versions.into_iter().map(|mut row| row.take(0)).collect();
            let heads = "SELECT instance_id, max(seq) FROM command_history GROUP BY instance_id";
            let heads: Vec<Texts> = diesel::sql_query(heads).load(sqlite)?;
            census.heads = heads
                .into_iter()
                .map(|mut row| (row.take(0), row.take(1).parse().unwrap_or_default()))
                .collect();
            Ok(census)
        })
    }

    fn number(rows: Vec<Texts>) -> Option<u64> {
        rows.into_iter().next()?.take(0).parse().ok()
    }

    /// What is wrong with a copy, in SQLite's words; empty when it is whole.
    ///
    /// # Errors
    /// When it cannot even be asked.
    pub fn faults(path: &Path) -> Result<Vec<String>, StorageError> {
        read(path, |sqlite| {
            let lines: Vec<Texts> = diesel::sql_query("PRAGMA integrity_check").load(sqlite)?;
            let mut faults: Vec<String> =
                lines.into_iter().map(|mut line| line.take(0)).filter(|line| line != "ok").collect();
            let strays: Vec<Texts> = diesel::sql_query("PRAGMA foreign_key_check").load(sqlite)?;
            faults.extend(
                strays.into_iter().map(|mut row| format!("a row of {} belongs to none", row.take(0))),
            );
            Ok(faults)
        })
    }

    /// What a copy has otherwise than `pattern`, a file of this version's schema: tables, columns, views.
    ///
    /// # Errors
    /// When one of them is no database.
    pub fn strange(path: &Path, pattern: &Path) -> Result<Option<String>, StorageError> {
        let wanted = read(pattern, |sqlite| Ok((tables::of_sqlite(sqlite)?, views(sqlite)?)))?;
        read(path, |sqlite| {
            let found = tables::of_sqlite(sqlite)?;
            if let Some(what) =
                tables::difference(&wanted.0, &found).or_else(|| tables::difference(&found, &wanted.0))
            {
                return Ok(Some(what));
            }
            Ok((views(sqlite)? != wanted.1).then(|| "its views are not those of this version".to_owned()))
        })
    }

    /// What in a copy would do something by itself, once it is written to.
    ///
    /// # Errors
    /// When it is no database.
    pub fn active(path: &Path) -> Result<Option<String>, StorageError> {
        read(path, |sqlite| {
            let active =
                "SELECT name FROM sqlite_schema WHERE type = 'trigger' OR sql LIKE 'CREATE VIRTUAL%'";
            let active: Vec<Texts> = diesel::sql_query(active).load(sqlite)?;
            Ok(active.into_iter().next().map(|mut one| one.take(0)))
        })
    }

    fn views(sqlite: &mut SqliteConnection) -> QueryResult<Vec<(String, String)>> {
        let query = "SELECT name, sql FROM sqlite_schema WHERE type = 'view' ORDER BY name";
        let views: Vec<Texts> = diesel::sql_query(query).load(sqlite)?;
        Ok(views.into_iter().map(|mut row| (row.take(0), row.take(1))).collect())
    }

    /// Opens a file to read it, and leaves nothing beside it.
    fn read<T>(
        path: &Path,
        work: impl FnOnce(&mut SqliteConnection) -> QueryResult<T>,
    ) -> Result<T, StorageError> {
        let shown = path.display().to_string();
        let name = format!("file://{}?mode=ro&immutable=1", escaped(&shown));
        let mut sqlite = SqliteConnection::establish(&name)
            .map_err(|error| StorageError::of_connection(&shown, &error))?;
        sqlite
            .batch_execute(
                "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY",
            )
            .and_then(|()| work(&mut sqlite))
            .map_err(|error| StorageError::of_query(&shown, &error))
    }
}

pub use on_file::{active, faults, of, strange};
