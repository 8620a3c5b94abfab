//! Which database the servers of this run have, and a look into it past them. Must not know what is tested.

use std::io::Write as _;
use std::path::Path;

use diesel::Connection as _;
#[cfg(feature = "sqlite")]
use diesel::connection::SimpleConnection as _;
use waygate_mcp::storage::DbConnection;

/// Whether this run's servers keep their history in PostgreSQL (`WAYGATE_TEST_DATABASE=postgres`).
pub fn is_on_postgres() -> bool {
    match std::env::var("WAYGATE_TEST_DATABASE").as_deref() {
        Ok("postgres") => true,
        Ok("sqlite") | Err(_) => false,
        Ok(other) => panic!("WAYGATE_TEST_DATABASE is postgres or sqlite, not {other}"),
    }
}

/// Says that a test is not for this run, if that one is on PostgreSQL, and why.
pub fn skips_on_postgres(why: &str) -> bool {
    if is_on_postgres() {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        // Past the harness, which would keep it to itself.
        drop(std::io::stderr().write_all(format!("skipped on PostgreSQL: {test}: {why}\n").as_bytes()));
    }
    is_on_postgres()
}

/// The database of a data folder, where that is no file in it.
#[cfg(feature = "postgres")]
pub fn url_of(folder: &Path) -> Option<String> {
    is_on_postgres()
        .then(|| super::postgres::schema_for(folder).expect("PostgreSQL, which this run is about"))
}

#[cfg(not(feature = "postgres"))]
pub fn url_of(_folder: &Path) -> Option<String> {
    assert!(!is_on_postgres(), "this build is without the feature postgres");
    None
}

/// Opens the database of a data folder; whatever is asked waits for locks as long as the server would.
pub fn open(folder: &Path) -> DbConnection {
    #[cfg(feature = "postgres")]
    if let Some(url) = url_of(folder) {
        return DbConnection::Postgres(diesel::PgConnection::establish(&url).expect("PostgreSQL answers"));
    }
    #[cfg(feature = "sqlite")]
    {
        let path = folder.join("data/waygate.db");
        let mut connection =
            diesel::SqliteConnection::establish(&path.to_string_lossy()).expect("the database opens");
        connection.batch_execute("PRAGMA busy_timeout = 10000").expect("a pragma");
        DbConnection::Sqlite(connection)
    }
    #[cfg(not(feature = "sqlite"))]
    panic!("this build has no database for {}", folder.display())
}
