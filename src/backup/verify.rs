//! Whether a backup is whole, unchanged and fit to be restored: it is taken out into scratch and looked through, exactly as a
//! restore does it before it touches anything.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::archive::{self, Head, hidden};
use super::create::Secrets;
use super::files::{self, Passing};
use super::manifest::{Entry, FILE_MAX_BYTES, Manifest, What};
use super::places::keys_in;
use super::{BackupError, Places, Progress, Told, seal, shelf};
use crate::config::Secret;
use crate::storage::transfer::census;
use crate::storage::{self, StorageError};

/// Whether it is known that nobody changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authenticity {
    /// The seal fits.
    Sealed,
    /// It bears the seal of a key that is not here.
    OtherKey,
    /// It bears none.
    Unsealed,
}

impl Authenticity {
    /// As a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::OtherKey => "other_key",
            Self::Unsealed => "unsealed",
        }
    }
}

/// A backup that was looked through and is sound.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Which.
    pub path: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
    /// Whether it is known that nobody changed it.
    pub authenticity: Authenticity,
    /// Migrations that a restore would run.
    pub migrated: Vec<String>,
}

/// Looks a backup through. With a passphrase, whether that opens the secrets too.
///
/// # Errors
/// Whatever is wrong with it.
pub fn verify(
    places: &Places,
    path: &Path,
    passphrase: Option<&Secret>,
    told: Told<'_>,
) -> Result<Verified, BackupError> {
    let scratch = scratch(places, "verify")?;
    let (database, secrets) = (scratch.path().join("database.sqlite"), scratch.path().join("secrets"));
    let taken = take_out(places, path, passphrase, &secrets, told, &mut |entry| {
        Ok((entry.what() == Some(What::Database)).then(|| database.clone()))
    })?;
    told(Progress::Doing("looking through the database"));
    let migrated = examine(path, &taken.manifest, &database, scratch.path())?;
    Ok(Verified {
        path: path.to_owned(),
        manifest: taken.manifest,
        authenticity: taken.authenticity,
        migrated,
    })
}

/// A folder of its own where backups lie, which is where there is room for one; gone with the guard.
pub fn scratch(places: &Places, what: &str) -> Result<Passing, BackupError> {
    files::make_folders(&places.backups)?;
    let name = places.backups.join(format!("{what}-{}", files::chance(6)?));
    let folder = Passing::new(hidden(&name, shelf::SCRATCH_END.trim_start_matches('.')));
    files::make_folder(folder.path())?;
    Ok(folder)
}

/// An archive that was read whole.
pub struct Taken {
    /// What is in it.
    pub manifest: Manifest,
    /// Whether it is known that nobody changed it.
    pub authenticity: Authenticity,
    /// The secrets, if there are any and the passphrase was given.
    pub secrets: Option<Secrets>,
}

/// Reads an archive whole and checks all that can be checked of it; its entries go where `place` says, the secrets, still
/// encrypted, to `secrets_path` for as long as they are read.
///
/// # Errors
/// Whatever is wrong with it.
pub fn take_out(
    places: &Places,
    path: &Path,
    passphrase: Option<&Secret>,
    secrets_path: &Path,
    told: Told<'_>,
    place: archive::Place<'_>,
) -> Result<Taken, BackupError> {
    let keys = places.sealing_keys()?;
    let name = path.display().to_string();
    let mut sealed = Authenticity::Unsealed;
    let mut secrets = None;
    told(Progress::Doing("reading the backup"));
    let mut begin = |head: &Head| {
        sealed = judge(head, &keys, &name)?;
        let room_at = secrets_path.parent().unwrap_or(secrets_path);
        files::check_room(room_at, head.manifest.bytes())
    };
    let mut aside = |entry: &Entry| match entry.what() {
        Some(What::Secrets) => Ok(passphrase.is_some().then(|| secrets_path.to_owned())),
        _ => place(entry),
    };
    let head = archive::take(path, &mut begin, &mut aside, told)?;
    if let (Some(lock), Some(passphrase)) = (&head.manifest.secrets, passphrase) {
        let bytes = files::read_if_there(secrets_path, FILE_MAX_BYTES * 4)?.unwrap_or_default();
        files::remove(secrets_path)?;
        let plain = seal::unlock(lock, passphrase, &bytes).ok_or(BackupError::Passphrase(name.clone()))?;
        let opened: Secrets = serde_json::from_slice(&plain)
            .map_err(|error| BackupError::damaged(path, format!("its secrets make no sense ({error})")))?;
        // Its own key vouches for it where this server has another one: only who knows the passphrase could put it there.
        if sealed == Authenticity::OtherKey {
            sealed = judge(&head, &keys_in(opened.sealing_key.as_deref().unwrap_or_default()), &name)?;
        }
        secrets = Some(opened);
    }
    Ok(Taken { manifest: head.manifest, authenticity: sealed, secrets })
}

fn judge(head: &Head, keys: &[Secret], name: &str) -> Result<Authenticity, BackupError> {
    let (Some(id), Some(claimed)) = (&head.manifest.sealed_by, &head.seal) else {
        return Ok(Authenticity::Unsealed);
    };
    match keys.iter().find(|key| seal::key_id(key) == *id) {
        None => Ok(Authenticity::OtherKey),
        Some(key) if seal::is_sealed(key, &head.text, claimed) => Ok(Authenticity::Sealed),
        Some(_) => Err(BackupError::Tampered(name.to_owned())),
    }
}

/// Looks through the database that was taken out, and brings it to this version's schema; gives the migrations that were run.
///
/// # Errors
/// When it is not sound, not what the manifest says, or newer than this program.
pub fn examine(
    archive: &Path,
    manifest: &Manifest,
    database: &Path,
    scratch: &Path,
) -> Result<Vec<String>, BackupError> {
    let damaged = |what: String| BackupError::damaged(archive, what);
    let unsound = |error: StorageError| match error {
        StorageError::Newer { .. } => {
            BackupError::Newer { name: archive.display().to_string(), version: manifest.version.clone() }
        }
        StorageError::Full(_) => BackupError::of_copy(scratch, error),
        StorageError::Unsupported { .. } => BackupError::Storage(error),
        other => damaged(format!("its database cannot be used: {other}")),
    };
    let faults = census::faults(database).map_err(unsound)?;
    if let Some(fault) = faults.first() {
        return Err(damaged(format!("its database is not whole: {fault}")));
    }
    if let Some(active) = census::active(database).map_err(unsound)? {
        return Err(damaged(format!("its database holds {active}, which is none of ours")));
    }
    let counted = census::of(database).map_err(unsound)?;
    if counted != manifest.database {
        return Err(damaged("its database holds other rows than its manifest says".to_owned()));
    }
    let migrated = settle(database).map_err(unsound)?;
    let pattern = scratch.join("pattern.sqlite");
    drop(settle(&pattern).map_err(unsound)?);
    let strange = census::strange(database, &pattern).map_err(unsound);
    files::remove(&pattern)?;
    match strange? {
        Some(what) => Err(damaged(format!("its database is not of this version's schema: {what}"))),
        None => Ok(migrated),
    }
}

/// Brings a file to this version's schema, whole by itself and on the disk; an empty one becomes an empty database.
pub fn settle(path: &Path) -> Result<Vec<String>, StorageError> {
    let file = storage::at_file(path)?;
    let migrated = file.migrate()?;
    let mut connection = file.connect()?;
    connection.leave_alone().map_err(|error| file.failed(&error))?;
    drop(connection);
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| StorageError::of_folder(path, &error))?;
    Ok(migrated)
}
