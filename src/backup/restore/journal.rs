//! What is to be done, on the disk before any of it is done: whoever finds it does it, from wherever it was cut off. Must not
//! know why.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Step;
use crate::backup::BackupError;
use crate::backup::files;
use crate::storage::Storage;

const NAME: &str = "restore.journal";
const DRAFT: &str = ".restore.journal.draft";
const JOURNAL_MAX_BYTES: u64 = 16 << 20;

/// All of it. Every word of it can be carried out twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// Whether it is to be done. If not, the database server knows.
    pub is_committed: bool,
    /// The database server that is filled, if it is one.
    pub server: Option<Server>,
    /// Where that was gathered which was there before; none when nothing was.
    pub keeping: Option<PathBuf>,
    /// What that folder is called when all is done.
    pub kept: PathBuf,
    /// In this order.
    pub moves: Vec<Move>,
    /// Folders that go at the end.
    pub staging: Vec<PathBuf>,
}

/// A file that takes a place, or that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// Where it lies ready; none when the place is to be empty.
    pub from: Option<PathBuf>,
    /// The place.
    pub to: PathBuf,
}

/// A database server that is filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Without secrets.
    pub place: String,
    /// The schema that what is there moves to; it is there when all was done.
    pub aside: String,
}

impl Server {
    /// For a restore of this stamp.
    pub fn new(storage: &Storage, stamp: &str) -> Self {
        let name = stamp.to_ascii_lowercase().replace('-', "_");
        Self { place: storage.place().to_owned(), aside: format!("waygate_before_{name}") }
    }
}

/// Whether a restore was cut off, or is under way.
pub fn is_pending(data_root: &Path) -> bool {
    data_root.join(NAME).exists()
}

/// What stood in the way of what counts already.
pub fn unfinished(error: BackupError) -> BackupError {
    let why = match error {
        // As it would say itself, but that nothing was changed.
        BackupError::Full { path, .. } => {
            format!("there is not enough room at {}; free disk space", path.display())
        }
        other => other.to_string(),
    };
    BackupError::Refused(format!("{why}; the restore goes on with the next command that finds it can"))
}

impl Journal {
    /// The one that is there, if one is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(data_root: &Path) -> Result<Option<Self>, BackupError> {
        let path = data_root.join(NAME);
        let Some(bytes) = files::read_if_there(&path, JOURNAL_MAX_BYTES)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            BackupError::Refused(format!(
                "{} says how a restore goes on that was cut off, and makes no sense ({error}); run the version that wrote it",
                path.display()
            ))
        })
    }

    /// Puts it where others find it, whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, data_root: &Path) -> Result<(), BackupError> {
        let (draft, path) = (data_root.join(DRAFT), data_root.join(NAME));
        files::remove(&draft)?;
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| BackupError::Refused(error.to_string()))?;
        files::write(&draft, &text)?;
        fs::rename(&draft, &path).map_err(|error| BackupError::of_file(&path, &error))?;
        files::sync_folder(data_root)
    }

    /// Does what it says, and removes it. Gives where that is which was there before.
    ///
    /// # Errors
    /// When a file cannot be moved; the journal stays then, and the next one goes on.
    pub fn carry_out(&self, data_root: &Path, step: Step<'_>) -> Result<Option<PathBuf>, BackupError> {
        self.move_all(step).map_err(unfinished)?;
        for folder in &self.staging {
            files::remove_folder(folder)?;
            step();
        }
        self.remove(data_root)?;
        Ok(self.keeping.is_some().then(|| self.kept.clone()))
    }

    fn move_all(&self, step: Step<'_>) -> Result<(), BackupError> {
        if let Some(keeping) = self.keeping.as_ref().filter(|keeping| keeping.exists()) {
            fs::rename(keeping, &self.kept).map_err(|error| BackupError::of_file(keeping, &error))?;
            step();
        }
        let mut changed = BTreeSet::new();
        for Move { from, to } in &self.moves {
            match from {
                None => files::remove(to)?,
                // One that does not lie ready any more has its place already.
                Some(from) if from.exists() => {
                    fs::rename(from, to).map_err(|error| BackupError::of_file(to, &error))?;
                }
                Some(_) => {}
            }
            changed.extend(to.parent().map(Path::to_owned));
            step();
        }
        changed.iter().try_for_each(|folder| files::sync_folder(folder))
    }

    /// Leaves what was there as it is.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn discard(&self, data_root: &Path) -> Result<(), BackupError> {
        files::remove(&data_root.join(DRAFT))?;
        for folder in self.staging.iter().chain(&self.keeping) {
            files::remove_folder(folder)?;
        }
        self.remove(data_root)
    }

    fn remove(&self, data_root: &Path) -> Result<(), BackupError> {
        files::remove(&data_root.join(NAME))?;
        files::sync_folder(data_root)
    }
}
