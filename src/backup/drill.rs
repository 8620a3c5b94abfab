//! A restore that touches nothing: the newest backup, taken out into an empty place, opened and asked, its ledger walked.

use std::path::Path;

use jiff::Timestamp;

use super::files::{self, Passing};
use super::manifest::FILE_MAX_BYTES;
use super::places::keys_in;
use super::restore::{Request, unpack};
use super::verify::{Authenticity, Verified, scratch};
use super::{BackupError, Places, Progress, Told, shelf};
use crate::config::Secret;
use crate::storage::history::{self, Audit, Finding, Report};
use crate::storage::{self, DbConnection, Notary, QueryResult, upkeep};
use crate::telemetry::letters::on_one_line;

/// What came of it.
#[derive(Debug, Clone)]
pub struct Drilled {
    /// The backup, and what a restore of it does.
    pub verified: Verified,
    /// Calls that were found in the restored history, at most one page of them.
    pub calls_read: usize,
    /// Rows of all its tables.
    pub rows: u64,
    /// What the walk along the restored ledger found; nothing in it is broken.
    pub ledger: Report,
}

/// Restores the newest backup into scratch and verifies it; nothing is left of that.
///
/// # Errors
/// Whatever would stand in a restore's way; a ledger that does not hold.
pub fn drill(places: &Places, passphrase: Option<&Secret>, told: Told<'_>) -> Result<Drilled, BackupError> {
    let path = shelf::find(&places.backups, "latest", Timestamp::now())?;
    let folder = scratch(places, "drill")?;
    let into = Passing::new(folder.path().join("restored"));
    let request = Request { archive: &path, only: None, passphrase, foreign: true, revive_keys: true };
    let verified = unpack(places, &request, into.path(), told)?;
    told(Progress::Doing("asking the restored database"));
    let data = into.path().join("data");
    let restored = storage::at_file(&data.join("waygate.db"))?;
    let mut connection = restored.connect()?;
    let faults = upkeep::check(&mut connection, restored.place())?;
    if let Some(fault) = faults.first() {
        return Err(BackupError::damaged(&path, format!("restored, its database is not whole: {fault}")));
    }
    let page = history::list(&mut connection, &history::Filter::default());
    let calls_read = page.map_err(|error| restored.failed(&error))?.calls.len();
    let rows = verified.manifest.database.rows.values().sum();
    told(Progress::Doing("walking along the ledger"));
    let notary = notary(places, &verified.authenticity, &data)?;
    let ledger = walk(&mut connection, &notary, told).map_err(|error| restored.failed(&error))?;
    match ledger.broken.first() {
        None => Ok(Drilled { verified, calls_read, rows, ledger }),
        Some(first) => Err(BackupError::Ledger { name: path.display().to_string(), what: sentence(first) }),
    }
}

/// With the keys that can have sealed its checkpoints: those that came with it, and those of this server unless another made it.
fn notary(places: &Places, made_by: &Authenticity, data: &Path) -> Result<Notary, BackupError> {
    let with_it = files::read_if_there(&data.join("sealing.key"), FILE_MAX_BYTES)?.unwrap_or_default();
    let mut keys = keys_in(&String::from_utf8_lossy(&with_it));
    if *made_by != Authenticity::OtherKey {
        keys.extend(places.sealing_keys()?);
    }
    Ok(Notary::new(keys.iter().map(|key| key.expose().as_bytes())))
}

/// As `history verify` does it.
fn walk(connection: &mut DbConnection, notary: &Notary, told: Told<'_>) -> QueryResult<Report> {
    let mut audit = Audit::begin(connection, notary, None)?;
    while audit.page(connection)? {
        told(Progress::Rows(audit.progress().0));
    }
    audit.end(connection)
}

/// Where the ledger does not hold, and why. Anything may stand in a database that was tampered with.
fn sentence(Finding { instance_id, seq, what, .. }: &Finding) -> String {
    let row = seq.map(|seq| format!(", row {seq}")).unwrap_or_default();
    on_one_line(&format!("instance {instance_id}{row}: {what}"))
}
