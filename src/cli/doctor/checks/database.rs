//! Whether the database can be opened, is whole and of this version, and is the one that the running server has. Must not change it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::backup::Places;
use crate::cli::doctor::finding::{Finding, quoted};
use crate::cli::doctor::patient::Patient;
use crate::storage::{self, DataFolder, Left, Storage, StorageError, migrations, upkeep};

/// What the database says tells what to do; this tells when it is done.
const NEXT: &str = "do what it says; `waygate-mcp db check` ends with 0 when that was enough";

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let file = patient.config().and_then(|config| Places::of(config).database_file().ok().flatten());
    if let Some(moved) = file.as_deref().and_then(|file| moved(patient, file)) {
        return vec![moved];
    }
    if let Some(left) = left(patient) {
        return vec![left];
    }
    let found = match patient.storage() {
        // None is made before the first start.
        None => return Vec::new(),
        Some(opened) => opened.and_then(|storage| examine(&storage)),
    };
    found.unwrap_or_else(|error| vec![unusable(&error, file.as_deref())])
}

/// The file under a server that runs, if it is not at its path: nobody then opens what the server works on.
fn moved(patient: &Patient, file: &Path) -> Option<Finding> {
    let pid = patient.pid()?;
    match fs::metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let what = format!(
                "{} is not there, and process {pid} works on it: it was deleted or moved away; within seconds the server puts back \
                 what it has",
                file.display()
            );
            let why = "what is recorded waits, and is lost if the server is killed before";
            Some(Finding::error("database.moved", what, why, "waygate-mcp health"))
        }
        // A server whose database fails may have none open: its health says so, of that and of this.
        Ok(about) if !is_open_by(pid, (about.dev(), about.ino()))? => {
            let said = patient.page("/health")?.get("problems")?.get("database")?.as_str()?;
            let what = format!("process {pid} does not work on the file at {}: {said}", file.display());
            let why = "what is recorded waits, and keys that are made or revoked on the command line are not the server's";
            let command = match said {
                // Only of such a file does the server itself say that it is nothing to go on with.
                said if said.contains("is not used") => format!("mv {0} {0}.aside", quoted(file)),
                said if said.contains("was replaced") || said.contains("is not at its path") => {
                    "waygate-mcp health".to_owned()
                }
                _ => return None,
            };
            Some(Finding::error("database.moved", what, why, command))
        }
        _ => None,
    }
}

/// What a server left that was killed while it put the database back; of one that runs it is work in hand.
fn left(patient: &Patient) -> Option<Finding> {
    let places = Places::of(patient.config()?);
    if patient.is_running() || DataFolder::is_owned(&places.data_folder) {
        return None;
    }
    let finishes = "waygate-mcp db migrate up";
    Some(match storage::left(&patient.config()?.database, &places.data_folder.join("waygate.db"))? {
        Left::Whole(whole) => {
            let what = format!(
                "{} is the whole database, and nothing stands at its path: a server was killed while it put it back",
                whole.display()
            );
            let why = "only a start of the server, or this command, puts it in its place";
            Finding::error("database.putback", what, why, finishes)
        }
        Left::Half(part) => {
            let what = format!(
                "{} is a part of the database, and nothing stands at its path: a server was killed while it put it back",
                part.display()
            );
            let why =
                "no server starts: an empty database would hide that history, keys and sessions are missing";
            Finding::error(
                "database.putback",
                what,
                why,
                "waygate-mcp backup restore latest --yes --revive-keys",
            )
        }
        Left::Beside(whole) => {
            let what = format!(
                "{} is a database that a server was killed over while it put it back, and another one stands in its place",
                whole.display()
            );
            let why = "what is only in there is not seen; this command, or a start of the server, keeps it as .lost-…";
            Finding::warning("database.putback", what, why, finishes)
        }
    })
}

/// Whether a process has that file open; none where it may not be looked at.
fn is_open_by(pid: i64, id: (u64, u64)) -> Option<bool> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut open = open.filter_map(|entry| fs::metadata(entry.ok()?.path()).ok());
    Some(open.any(|about| (about.dev(), about.ino()) == id))
}

fn examine(storage: &Storage) -> Result<Vec<Finding>, StorageError> {
    let mut connection = storage.connect()?;
    let pending = migrations::pending(&mut connection, storage.place())?;
    if !pending.is_empty() {
        let what = format!("{} lacks {}", storage.place(), pending.join(", "));
        let why = "its tables are those of an older version; most verbs refuse it until a server or this command has run";
        return Ok(vec![Finding::warning("database.old", what, why, "waygate-mcp db migrate up")]);
    }
    let faults = upkeep::check(&mut connection, storage.place())?;
    Ok(faults.iter().map(|fault| damaged(storage.place(), fault)).collect())
}

fn damaged(place: &str, fault: &str) -> Finding {
    let why = "what is read from it may be wrong, and what is written lost";
    let what = format!("{place} is damaged: {fault}");
    Finding::error("database.damaged", what, why, "waygate-mcp backup restore latest --yes")
}

/// What lets this user write a file of the database, and those beside it.
fn writes(file: &Path) -> String {
    let folder = file.parent().unwrap_or(file);
    format!("chmod u+rw {} && chmod u+rwx {}", quoted(file), quoted(folder))
}

fn unusable(error: &StorageError, file: Option<&Path>) -> Finding {
    let why = "calls are answered and not recorded, or no server starts";
    match error {
        StorageError::Corrupt { place, cause } => damaged(place, cause),
        StorageError::Newer { .. } => Finding::error(
            "database.newer",
            error.to_string(),
            why,
            "waygate-mcp backup restore latest --yes",
        ),
        StorageError::Locked(_) => {
            let who = match file {
                Some(file) => format!("`fuser -v {}` names it", quoted(file)),
                None => "pg_stat_activity names it".to_owned(),
            };
            let command = format!("end what holds its lock, unless that is the server at work: {who}");
            Finding::error("database.locked", error.to_string(), why, command)
        }
        StorageError::Unreachable { .. } => {
            let command =
                "start the database, or mend database.url; a server that runs comes back to it by itself";
            Finding::error("database.unusable", error.to_string(), why, command)
        }
        StorageError::Forbidden(file) => {
            let command = format!("chmod u+rw {}", quoted(file));
            Finding::error("database.unusable", error.to_string(), why, command)
        }
        StorageError::ReadOnly(_) | StorageError::Folder { .. } => {
            let command = file.map_or_else(|| NEXT.to_owned(), writes);
            Finding::error("database.unusable", error.to_string(), why, command)
        }
        _ => Finding::error("database.unusable", error.to_string(), why, NEXT),
    }
}
