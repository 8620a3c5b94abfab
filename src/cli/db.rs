//! `db migrate` and `db check`: the database, looked after from outside. Must not know a running server.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Subcommand;

use crate::config::Config;
use crate::storage::{self, Storage, StorageError, migrations};

/// What can be done to the database.
#[derive(Debug, Clone, Subcommand)]
pub enum DbCommand {
    /// Bring the database to this version's schema; made if it is not there
    Migrate,
    /// Say whether the database is whole and of this version's schema
    Check,
}

/// Runs one of them. 0 means all is well; 1 that the check found something.
///
/// # Errors
/// What the database says, with what to do.
pub fn run(command: DbCommand, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let path = super::history::default_path(config);
    match command {
        DbCommand::Migrate => migrate(&storage::open(&config.database, &path)?, json),
        DbCommand::Check => check(&storage::open_existing(&config.database, &path)?, json),
    }
}

fn migrate(storage: &Storage, json: bool) -> anyhow::Result<ExitCode> {
    let ran = storage.migrate()?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::json!({ "database": storage.place(), "migrated": ran }))?;
    } else if ran.is_empty() {
        writeln!(out, "{} is up to date", storage.place())?;
    } else {
        writeln!(out, "{}: {} migrations done ({})", storage.place(), ran.len(), ran.join(", "))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(storage: &Storage, json: bool) -> anyhow::Result<ExitCode> {
    let mut connection = storage.connect()?;
    let pending = migrations::pending(&mut connection, storage.place())?;
    // Without the tables there is nothing to look into.
    let faults = if pending.is_empty() { faults(&mut connection, storage)? } else { Vec::new() };
    let is_whole = pending.is_empty() && faults.is_empty();
    let mut out = std::io::stdout().lock();
    if json {
        let status = if is_whole { "ok" } else { "faulty" };
        let told = serde_json::json!({
            "database": storage.place(), "status": status, "pending": pending, "faults": faults,
        });
        writeln!(out, "{told}")?;
    } else if is_whole {
        writeln!(out, "{} is whole and up to date", storage.place())?;
    } else {
        for name in &pending {
            writeln!(out, "pending: {name}; run `waygate-mcp db migrate`, or start the server")?;
        }
        for fault in &faults {
            writeln!(out, "damaged: {fault}; move the file away to start afresh, or restore a backup")?;
        }
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file can be too damaged even to be checked: that is a finding, too.
fn faults(connection: &mut storage::DbConnection, storage: &Storage) -> Result<Vec<String>, StorageError> {
    match migrations::check(connection, storage.place()) {
        Err(StorageError::Corrupt { cause, .. }) => Ok(vec![cause]),
        other => other,
    }
}
