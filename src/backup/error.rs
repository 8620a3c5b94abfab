//! Why a backup or a restore was not done, in sentences that say what to do. Must not know exit codes.

use std::io;
use std::path::{Path, PathBuf};

use crate::storage::StorageError;

/// Why it was not done. Each text stands alone.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database or the data folder.
    #[error(transparent)]
    Storage(StorageError),
    /// A file or folder cannot be read or written.
    #[error(
        "{path} cannot be used: {cause}; give the user that runs Waygate access to it, or name another place"
    )]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// No room.
    #[error(
        "there is not enough room at {path}{needs}; free disk space, or name another place; nothing was changed"
    )]
    Full {
        /// Where.
        path: PathBuf,
        /// How much it would take, if that is known.
        needs: String,
    },
    /// There is none.
    #[error("there is no backup in {0}; make one with `waygate-mcp backup create`")]
    Empty(PathBuf),
    /// There is no such one.
    #[error("there is no backup {0}; `waygate-mcp backup list` shows those there are")]
    Missing(String),
    /// It is no backup, or not whole, or changed.
    #[error(
        "the backup {name} is damaged: {what}; use another one, `waygate-mcp backup list` shows those there are"
    )]
    Damaged {
        /// Which.
        name: String,
        /// How.
        what: String,
    },
    /// It can be restored, and its ledger was tampered with before it was made, or in it.
    #[error(
        "the backup {name} can be restored, and its ledger does not hold ({what}); see by `waygate-mcp history verify` whether \
         that of the database holds, and keep older backups until it is known since when"
    )]
    Ledger {
        /// Which.
        name: String,
        /// The first row that is not as it was written.
        what: String,
    },
    /// Its seal does not fit.
    #[error(
        "the backup {0} was changed after it was made: its manifest does not bear the seal of this server's key; use \
         another one, and find out who could write there"
    )]
    Tampered(String),
    /// A newer version made it.
    #[error("the backup {name} was made by a newer version of Waygate ({version}); run that version")]
    Newer {
        /// Which.
        name: String,
        /// Which version, or what of it is newer.
        version: String,
    },
    /// The passphrase does not open it.
    #[error(
        "the passphrase does not open what is encrypted in the backup {0}; give the one that it was made with"
    )]
    Passphrase(String),
    /// A passphrase that is none.
    #[error("{0}; a passphrase has at least {min} characters, in a file of its own", min = super::seal::PASSPHRASE_CHARACTERS_MIN)]
    NoPassphrase(String),
    /// Somebody else is at it.
    #[error("another process makes or removes backups in {0}; try again when it is done")]
    Busy(PathBuf),
    /// Servers that are told nothing by the data folder's lock use the database.
    #[error("the database is in use: {0}; stop what uses it first")]
    InUse(String),
    /// It would not be right.
    #[error("{0}")]
    Refused(String),
}

impl From<StorageError> for BackupError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Full(place) => Self::Full { path: place.into(), needs: String::new() },
            other => Self::Storage(other),
        }
    }
}

impl BackupError {
    /// From what the system said of a file or folder.
    pub fn of_file(path: &Path, error: &io::Error) -> Self {
        if is_full(error) {
            return Self::Full { path: path.to_owned(), needs: String::new() };
        }
        Self::File { path: path.to_owned(), cause: error.to_string() }
    }

    /// From what the database said of a copy at `path`: no room there is not the database's fault.
    pub fn of_copy(path: &Path, error: StorageError) -> Self {
        match error {
            StorageError::Full(_) => Self::Full { path: path.to_owned(), needs: String::new() },
            other => Self::Storage(other),
        }
    }

    /// That something is wrong with the archive.
    pub fn damaged(archive: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { name: archive.display().to_string(), what: what.into() }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
