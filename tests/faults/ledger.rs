//! A look into the database from outside: what is recorded, and what holds a lock on it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection as _;
use diesel::{QueryResult, RunQueryDsl as _, sql_types};
use waygate_mcp::storage::history::Audit;
use waygate_mcp::storage::{DbConnection, Notary};

use crate::support::database::{is_on_postgres, open};

/// Where the database of a data folder is, unless on PostgreSQL.
pub fn file(folder: &Path) -> PathBuf {
    folder.join("data/waygate.db")
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

/// All rows of calls and gaps, in the order of their writing.
pub fn rows(folder: &Path) -> Vec<Row> {
    let query = "SELECT call_id, kind, status FROM command_history WHERE kind <> 'admin' ORDER BY id";
    diesel::sql_query(query).load(&mut open(folder)).expect("the history is read")
}

/// The messages (argument `message`) of calls whose outcome is one of `status`, by whichever row has the arguments.
pub fn messages(folder: &Path, status: &[&str]) -> BTreeSet<String> {
    #[derive(diesel::QueryableByName)]
    struct Message {
        #[diesel(sql_type = sql_types::Text)]
        message: String,
    }
    let message = if is_on_postgres() {
        "told.arguments::jsonb->>'message'"
    } else {
        "json_extract(told.arguments, '$.message')"
    };
    let query = format!(
        "SELECT DISTINCT {message} AS message \
         FROM command_history AS ended JOIN command_history AS told USING (call_id) \
         WHERE ended.kind = 'outcome' AND ended.status IN ('{}') AND {message} IS NOT NULL",
        status.join("','")
    );
    let found: Vec<Message> = diesel::sql_query(query).load(&mut open(folder)).expect("the history is read");
    found.into_iter().map(|found| found.message).collect()
}

/// What is recorded of the arguments of calls of this tool, in the order of their writing.
pub fn arguments(folder: &Path, tool: &str) -> Vec<String> {
    #[derive(diesel::QueryableByName)]
    struct Arguments {
        #[diesel(sql_type = sql_types::Text)]
        arguments: String,
    }
    let query = format!(
        "SELECT arguments FROM command_history WHERE tool = '{tool}' AND arguments IS NOT NULL ORDER BY id"
    );
    let found: Vec<Arguments> =
        diesel::sql_query(query).load(&mut open(folder)).expect("the history is read");
    found.into_iter().map(|found| found.arguments).collect()
}

/// What the chain says of the history: nothing when every row is as it was written, and none is gone.
fn touched(folder: &Path) -> Vec<String> {
    let keys = std::fs::read_to_string(folder.join("data/sealing.key")).expect("the sealing key is read");
    let notary = Notary::new(keys.lines().map(|key| key.trim().as_bytes()));
    let mut connection = open(folder);
    let mut audit = Audit::begin(&mut connection, &notary, None).expect("it can be walked");
    while audit.page(&mut connection).expect("it can be walked") {}
    let report = audit.end(&mut connection).expect("it can be walked");
    report.broken.iter().map(|finding| format!("{finding:?}")).collect()
}

/// What the database itself and its chains say of the history: `ok` when it is sound.
pub fn integrity(folder: &Path) -> String {
    let found = waygate_mcp::storage::upkeep::check(&mut open(folder), "the history");
    let found = found.expect("it can be checked");
    let found = [found, touched(folder)].concat();
    if found.is_empty() { "ok".to_owned() } else { found.join("; ") }
}

/// A write transaction of somebody else, held until dropped.
pub struct Held(DbConnection);

impl Held {
    pub fn on(folder: &Path) -> Self {
        let mut connection = open(folder);
        let begun: QueryResult<()> = match &mut connection {
            // Nobody else writes; reading goes on.
            #[cfg(feature = "postgres")]
            DbConnection::Postgres(postgres) => {
                postgres.batch_execute("BEGIN; LOCK TABLE command_history IN EXCLUSIVE MODE")
            }
            DbConnection::Sqlite(sqlite) => sqlite.batch_execute("BEGIN IMMEDIATE"),
        };
        begun.expect("the lock is free");
        Self(connection)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.batch_execute("ROLLBACK").expect("a lock that was held is given back");
    }
}

/// Runs a statement.
pub fn change(folder: &Path, statement: &str) {
    open(folder).batch_execute(statement).expect("the statement runs");
}
