//! A look into the database's file from outside: what is recorded, and what holds a lock on it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection, sql_types};

/// Where the database of a data folder is.
pub fn file(folder: &Path) -> PathBuf {
    folder.join("data/waygate.db")
}

/// Opens it; whatever is asked waits for locks as long as the server would.
pub fn open(file: &Path) -> SqliteConnection {
    let mut connection = SqliteConnection::establish(&file.to_string_lossy()).expect("the database opens");
    connection.batch_execute("PRAGMA busy_timeout = 10000").expect("a pragma");
    connection
}

/// One row of `command_history`, as far as these tests look.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct Row {
    #[diesel(sql_type = sql_types::Text)]
    pub call_id: String,
    #[diesel(sql_type = sql_types::Text)]
    pub kind: String,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Text>)]
    pub status: Option<String>,
}

/// All rows, in the order of their writing.
pub fn rows(folder: &Path) -> Vec<Row> {
    let query = "SELECT call_id, kind, status FROM command_history ORDER BY id";
    diesel::sql_query(query).load(&mut open(&file(folder))).expect("the history is read")
}

/// The messages (argument `message`) of calls whose outcome is one of `status`, by whichever row has the arguments.
pub fn messages(folder: &Path, status: &[&str]) -> BTreeSet<String> {
    #[derive(diesel::QueryableByName)]
    struct Message {
        #[diesel(sql_type = sql_types::Text)]
        message: String,
    }
    let query = format!(
        "SELECT DISTINCT json_extract(told.arguments, '$.message') AS message \
         FROM command_history AS ended JOIN command_history AS told USING (call_id) \
         WHERE ended.kind = 'outcome' AND ended.status IN ('{}') \
         AND json_extract(told.arguments, '$.message') IS NOT NULL",
        status.join("','")
    );
    let found: Vec<Message> =
        diesel::sql_query(query).load(&mut open(&file(folder))).expect("the history is read");
    found.into_iter().map(|found| found.message).collect()
}

/// What SQLite itself says of the file: `ok` when it is sound.
pub fn integrity(folder: &Path) -> String {
    #[derive(diesel::QueryableByName)]
    struct Line {
        #[diesel(sql_type = sql_types::Text)]
        integrity_check: String,
    }
    let lines: Vec<Line> = diesel::sql_query("PRAGMA integrity_check")
        .load(&mut open(&file(folder)))
        .expect("the file can be checked");
    lines.into_iter().map(|line| line.integrity_check).collect::<Vec<_>>().join("; ")
}

/// A write transaction of somebody else, held until dropped.
pub struct Held(SqliteConnection);

impl Held {
    pub fn on(file: &Path) -> Self {
        let mut connection = open(file);
        connection.batch_execute("BEGIN IMMEDIATE").expect("the lock is free");
        Self(connection)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.batch_execute("ROLLBACK").expect("a lock that was held is given back");
    }
}

/// Runs a statement on the file.
pub fn change(file: &Path, statement: &str) {
    open(file).batch_execute(statement).expect("the statement runs");
}
