//! A restore that touches nothing: the newest backup, taken out into an empty place, opened and asked.

use super::files::Passing;
use super::restore::{Request, unpack};
use super::verify::{Verified, scratch};
use super::{BackupError, Places, Progress, Told, shelf};
use crate::config::Secret;
use crate::storage::{self, history, upkeep};

/// What came of it.
#[derive(Debug, Clone)]
pub struct Drilled {
    /// The backup, and what a restore of it does.
    pub verified: Verified,
    /// Calls that were found in the restored history, at most one page of them.
    pub calls_read: usize,
    /// Rows of all its tables.
    pub rows: u64,
}

/// Restores the newest backup into scratch and verifies it; nothing is left of that.
///
/// # Errors
/// Whatever would stand in a restore's way.
pub fn drill(places: &Places, passphrase: Option<&Secret>, told: Told<'_>) -> Result<Drilled, BackupError> {
    let path = shelf::find(&places.backups, "latest")?;
    let folder = scratch(places, "drill")?;
    let into = Passing::new(folder.path().join("restored"));
    let request = Request { archive: &path, only: None, passphrase, foreign: true, revive_keys: true };
    let verified = unpack(places, &request, into.path(), told)?;
    told(Progress::Doing("asking the restored database"));
    let file = into.path().join("data").join("waygate.db");
    let restored = storage::at_file(&file)?;
    let mut connection = restored.connect()?;
    let faults = upkeep::check(&mut connection, restored.place())?;
    if let Some(fault) = faults.first() {
        return Err(BackupError::damaged(&path, format!("restored, its database is not whole: {fault}")));
    }
    let page = history::list(&mut connection, &history::Filter::default());
    let calls_read = page.map_err(|error| restored.failed(&error))?.calls.len();
    let rows = verified.manifest.database.rows.values().sum();
    Ok(Drilled { verified, calls_read, rows })
}
