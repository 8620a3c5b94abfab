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

/// Why what somebody put there is not used; nothing when it is locked, and may well be used soon.
pub(super) type Doubt = Option<String>;

/// What an error says of a file.
pub(super) fn doubt(error: &StorageError) -> Doubt {
    (!matches!(error, StorageError::Locked(_) | StorageError::Busy(_))).then(|| error.to_string())
}

/// Opens what somebody put there, if it is a database of this version; changes nothing in one that is not.
pub(super) fn judge(file: &Path) -> Result<DbConnection, Doubt> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = sql_types::BigInt)]
        count: i64,
    }
    let place = file.display().to_string();
    let connector = Connector { target: Target::at(file.to_owned(), None), busy: JUDGE_BUSY };
    let mut connection = connector.establish().map_err(|error| Some(error.to_string()))?;
    let said = |error: diesel::result::Error| {
        doubt(&StorageError::of_query(&place, &error)).map(|_| error.to_string())
    };
    connection.batch_execute(&format!("PRAGMA busy_timeout = {}", JUDGE_BUSY.as_millis())).map_err(said)?;
    // Before the question that would make this table.
    let tables = "SELECT count(*) AS count FROM sqlite_schema WHERE name = '__diesel_schema_migrations'";
    let tables: Count = diesel::sql_query(tables).get_result(&mut connection).map_err(said)?;
    if tables.count == 0 {
        return Err(Some("it is no database of Waygate's".to_owned()));
    }
    match migrations::pending(&mut connection, &place) {
        Ok(pending) if pending.is_empty() => {}
        Ok(_) => {
            let why = "it is of an older version, and `waygate-mcp db migrate up` brings it up to date";
            return Err(Some(why.to_owned()));
        }
        Err(StorageError::Newer { .. }) => return Err(Some("it is of a newer version".to_owned())),
        Err(error) => return Err(doubt(&error)),
    }
    storage::ask(&mut connection).and_then(|()| history::newest(&mut connection)).map_err(said)?;
    Ok(connection)
}
