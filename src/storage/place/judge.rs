//! A database in a file: made anew, made whole, or judged where somebody else put it. Must not know what becomes of it then.

use std::path::Path;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::{QueryableByName, RunQueryDsl as _, sql_types};

use super::file::remove_with_beside;
use crate::storage::connection::{Connector, Target};
use crate::storage::{self, DbConnection, StorageError, history, keys, migrations};

/// How long a file that somebody put there may be locked while it is looked at.
const JUDGE_BUSY: Duration = Duration::from_millis(500);

/// Moves all of the write-ahead log into the file, and says whether nothing is left of it.
pub(super) fn make_whole(held: &mut DbConnection) -> bool {
    #[derive(QueryableByName)]
    struct Told {
        #[diesel(sql_type = sql_types::Integer)]
        busy: i32,
    }
    let told: Result<Told, _> = diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)").get_result(held);
    if let Err(error) = &told {
        log::debug!("the file that is not at its path could not be made whole: {error}");
    }
    told.is_ok_and(|told| told.busy == 0)
}

/// An empty database of this version in a file alone.
pub(super) fn make_anew(part: &Path, seen: i64) -> Result<(), StorageError> {
    remove_with_beside(part)?;
    let storage = storage::at_file(part)?;
    storage.migrate()?;
    let mut connection = storage.connect()?;
    keys::raise(&mut connection, seen)
        .and_then(|()| connection.leave_alone())
        .map_err(|error| storage.failed(&error))
}

/// Opens what somebody put there, if it is a database of this version; changes nothing in one that is not.
pub(super) fn judge(file: &Path) -> Result<DbConnection, String> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = sql_types::BigInt)]
        count: i64,
    }
    let place = file.display().to_string();
    let connector = Connector { target: Target::at(file.to_owned(), None), busy: JUDGE_BUSY };
    let mut connection = connector.establish().map_err(|error| error.to_string())?;
    let said = |error: diesel::result::Error| error.to_string();
    connection.batch_execute(&format!("PRAGMA busy_timeout = {}", JUDGE_BUSY.as_millis())).map_err(said)?;
    // Before the question that would make this table.
    let tables = "SELECT count(*) AS count FROM sqlite_schema WHERE name = '__diesel_schema_migrations'";
    let tables: Count = diesel::sql_query(tables).get_result(&mut connection).map_err(said)?;
    if tables.count == 0 {
        return Err("it is no database of Waygate's".to_owned());
    }
    match migrations::pending(&mut connection, &place) {
        Ok(pending) if pending.is_empty() => {}
        Ok(_) => {
            return Err(
                "it is of an older version, and `waygate-mcp db migrate up` brings it up to date".into()
            );
        }
        Err(StorageError::Newer { .. }) => return Err("it is of a newer version".to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    storage::ask(&mut connection).and_then(|()| history::newest(&mut connection)).map_err(said)?;
    Ok(connection)
}
