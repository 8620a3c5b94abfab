//! `db migrate | check | vacuum | stats | reset`: the database, looked after from outside. Must not know a running server.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::progress::Line;
use super::{Exit, backup, output};
use crate::backup::{Places, restore};
use crate::config::Config;
use crate::storage::{self, DataFolder, Storage, StorageError, acts, instances, migrations, upkeep};

const EXAMPLES: &str = "\
Examples:
  waygate-mcp db check                    is it whole, and of this version
  waygate-mcp db migrate status
  waygate-mcp db stats
  waygate-mcp db vacuum                   with the server stopped, where it is a file
  waygate-mcp db reset --yes              empty; a backup is made first, and what was there is kept
";

/// What can be done to the database.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum DbCommand {
    /// Bring the database to this version's schema, which is what happens without a further word, or back by a step
    Migrate {
        #[command(subcommand)]
        command: Option<MigrateCommand>,
    },
    /// Say whether the database is whole and of this version's schema
    Check,
    /// Give back what is not used any more, and count anew what queries are planned by
    Vacuum,
    /// Say how large the database is, and what is in it
    Stats,
    /// Make the database empty; a backup is made first, and what was there is kept
    Reset {
        #[command(flatten)]
        sure: Sure,
    },
}

/// What can be done to its schema.
#[derive(Debug, Clone, Subcommand)]
pub enum MigrateCommand {
    /// Say which migrations there are, and which were run
    Status,
    /// Run those that were not run yet; the database is made if it is not there
    Up,
    /// Take the last one back, with what only it could hold; a backup is made first
    Down {
        #[command(flatten)]
        sure: Sure,
    },
}

/// Whether it is meant.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Sure {
    /// Yes, it is meant
    #[arg(long)]
    yes: bool,
    /// Make no backup first, as of a database that is too damaged for one
    #[arg(long)]
    no_backup: bool,
}

/// Runs one of them. 0 means all is well; 1 that the check found something.
///
/// # Errors
/// What the database says, with what to do.
pub fn run(command: DbCommand, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let path = super::history::default_path(config);
    let existing = || storage::open_existing(&config.database, &path);
    match command {
        DbCommand::Migrate { command: None | Some(MigrateCommand::Up) } => {
            let folder = Places::of(config).data_folder;
            migrate(&storage::open_beside(&config.database, &path, &folder)?, config, json)
        }
        DbCommand::Migrate { command: Some(MigrateCommand::Status) } => standing(&existing()?, json),
        DbCommand::Migrate { command: Some(MigrateCommand::Down { sure }) } => take_back(sure, config, json),
        DbCommand::Check => check(&existing()?, json),
        DbCommand::Vacuum => vacuum(&existing()?, config, json),
        DbCommand::Stats => stats(&existing()?, json),
        DbCommand::Reset { sure } => reset(sure, config, json),
    }
}

fn migrate(storage: &Storage, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let ran = storage.migrate()?;
    if !ran.is_empty() {
        backup::note_in(storage, config, acts::DB_MIGRATE, &format!("up: {}", ran.join(", ")));
    }
    output::print(&if json {
        json!({ "database": storage.place(), "migrated": ran }).to_string()
    } else if ran.is_empty() {
        format!("{} is up to date", storage.place())
    } else {
        format!("{}: {} migrations done ({})", storage.place(), ran.len(), ran.join(", "))
    })?;
    Ok(Exit::Ok.into())
}

fn standing(storage: &Storage, json: bool) -> anyhow::Result<ExitCode> {
    let standing = migrations::standing(&mut storage.connect()?, storage.place())?;
    if json {
        let known = standing.known.iter().map(|(name, ran)| json!({"name": name, "done": ran}));
        output::print_json(&json!({
            "database": storage.place(), "migrations": known.collect::<Vec<_>>(), "unknown": standing.unknown,
        }))?;
        return Ok(Exit::Ok.into());
    }
    let word = |ran: bool| if ran { "done   " } else { "pending" };
    let mut text = format!("{}\n", storage.place());
    for (name, ran) in &standing.known {
        let _infallible = writeln!(text, "  {}  {name}", word(*ran));
    }
    for version in &standing.unknown {
        let _infallible = writeln!(text, "  unknown  {version}: a newer version of Waygate has run it");
    }
    output::print(&text)?;
    Ok(Exit::Ok.into())
}

fn take_back(sure: Sure, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    if !sure.yes {
        return Ok(ask_for_yes("the last migration would be taken back, with what only it could hold"));
    }
    let places = Places::of(config);
    let alone = DataFolder::own_alone(&places.data_folder)?;
    restore::recover(&places, alone.owned())?;
    let storage = places.storage()?;
    let mut connection = storage.connect()?;
    // Without tables there is nobody to look for, and nothing to save.
    if migrations::is_blank(&mut connection, storage.place())? {
        return told_taken_back(&storage, None, None, json);
    }
    let running = instances::running(&mut connection).map_err(|error| storage.failed(&error))?;
    if let Some(known) = running.first() {
        let who = format!("process {} on {} says that it runs on it", known.pid, known.host);
        return Err(crate::backup::BackupError::InUse(who).into());
    }
    let saved = save(sure, &places, config)?;
    let taken = migrations::take_back(&mut connection, storage.place())?;
    drop(connection);
    if let Some(version) = &taken {
        backup::note_in(&storage, config, acts::DB_MIGRATE, &format!("down: {version} was taken back"));
    }
    told_taken_back(&storage, taken, saved, json)
}

fn told_taken_back(
    storage: &Storage,
    taken: Option<String>,
    saved: Option<String>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    output::print(&if json {
        json!({"database": storage.place(), "takenBack": taken, "backup": saved}).to_string()
    } else {
        let what = taken.map_or_else(
            || "there is no migration to take back".to_owned(),
            |version| format!("the migration {version} is taken back; a server that starts runs it again"),
        );
        format!("{}: {what}{}", storage.place(), saved_at(saved.as_deref()))
    })?;
    Ok(Exit::Ok.into())
}

fn check(storage: &Storage, json: bool) -> anyhow::Result<ExitCode> {
    let mut connection = storage.connect()?;
    let pending = migrations::pending(&mut connection, storage.place())?;
    // Without the tables there is nothing to look into.
    let faults = if pending.is_empty() { faults(&mut connection, storage)? } else { Vec::new() };
    let is_whole = pending.is_empty() && faults.is_empty();
    if json {
        let status = if is_whole { "ok" } else { "faulty" };
        output::print(
            &json!({
                "database": storage.place(), "status": status, "pending": pending, "faults": faults,
            })
            .to_string(),
        )?;
    } else if is_whole {
        output::print(&format!("{} is whole and up to date", storage.place()))?;
    } else {
        let mut text = String::new();
        for name in &pending {
            let _infallible =
                writeln!(text, "pending: {name}; run `waygate-mcp db migrate up`, or start the server");
        }
        for fault in &faults {
            let _infallible = writeln!(
                text,
                "damaged: {fault}; restore a backup (`waygate-mcp backup restore latest`), or move the file away to start afresh"
            );
        }
        output::print(&text)?;
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file can be too damaged even to be checked: that is a finding, too.
fn faults(connection: &mut storage::DbConnection, storage: &Storage) -> Result<Vec<String>, StorageError> {
    match upkeep::check(connection, storage.place()) {
        Err(StorageError::Corrupt { cause, .. }) => Ok(vec![cause]),
        other => other,
    }
}

/// A file is written anew as a whole, and a server beside it would lose the records that cannot wait for so long.
fn vacuum(storage: &Storage, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let is_file = storage.path().is_some();
    let _alone = is_file.then(|| DataFolder::own_alone(&Places::of(config).data_folder)).transpose()?;
    let before = upkeep::stats(storage)?.bytes;
    upkeep::vacuum(storage)?;
    let after = upkeep::stats(storage)?.bytes;
    backup::note(config, acts::DB_VACUUM, &format!("{after} bytes, {before} before"));
    output::print(&if json {
        json!({"database": storage.place(), "bytesBefore": before, "bytes": after}).to_string()
    } else {
        format!("{} is tidy: {after} bytes, {before} before", storage.place())
    })?;
    Ok(Exit::Ok.into())
}

fn stats(storage: &Storage, json: bool) -> anyhow::Result<ExitCode> {
    let stats = upkeep::stats(storage)?;
    if json {
        let mut told = serde_json::to_value(&stats)?;
        if let Some(told) = told.as_object_mut() {
            told.insert("database".to_owned(), storage.place().into());
        }
        output::print_json(&told)?;
        return Ok(Exit::Ok.into());
    }
    let mut text = format!("{}\n", storage.place());
    let mut line = |what: &str, value: String| {
        let _infallible = writeln!(text, "  {what:<22} {value}");
    };
    line("bytes", stats.bytes.to_string());
    if let Some(unused) = stats.unused_bytes {
        line("of these unused", unused.to_string());
    }
    if let Some(wal) = stats.wal_bytes {
        line("bytes beside it (-wal)", wal.to_string());
    }
    line("bytes in history rows", stats.history_bytes.to_string());
    line("oldest record", stats.oldest.clone().unwrap_or_else(|| "none".to_owned()));
    line("newest record", stats.newest.clone().unwrap_or_else(|| "none".to_owned()));
    for (name, table) in &stats.tables {
        let bytes = table.bytes.map(|bytes| format!(", {bytes} bytes")).unwrap_or_default();
        line(name, format!("{} rows{bytes}", table.rows));
    }
    output::print(&text)?;
    Ok(Exit::Ok.into())
}

fn reset(sure: Sure, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    if !sure.yes {
        return Ok(ask_for_yes("all history, keys and whatever else is in the database would go"));
    }
    let places = Places::of(config);
    // A running server is told of before a backup is made for nothing.
    drop(DataFolder::own_alone(&places.data_folder)?);
    let saved = save(sure, &places, config)?;
    let line = Line::new();
    let done = restore::reset(&places, &|progress| line.tell(progress), &|| ());
    drop(line);
    let (kept, schema) = done?;
    let kept = kept.map(|kept| kept.display().to_string()).or(schema);
    output::print(&if json {
        json!({"backup": saved, "kept": kept}).to_string()
    } else {
        let kept = kept.map(|kept| format!("; what was there is in {kept}")).unwrap_or_default();
        format!("the database is empty{kept}{}", saved_at(saved.as_deref()))
    })?;
    Ok(Exit::Ok.into())
}

fn ask_for_yes(what: &str) -> ExitCode {
    output::say(&format!("waygate-mcp: {what}; say --yes if it is meant"));
    Exit::Usage.into()
}

/// The backup that is made first.
fn save(sure: Sure, places: &Places, config: &Config) -> anyhow::Result<Option<String>> {
    if sure.no_backup {
        return Ok(None);
    }
    let made = backup::create(places, config.backup.passphrase.as_ref())?;
    Ok(Some(made.path.display().to_string()))
}

fn saved_at(path: Option<&str>) -> String {
    path.map(|path| format!("; before that, a backup was made: {path}")).unwrap_or_default()
}
