//! What a server that stopped could not write into its database, noted beside it for whoever opens that next. Must not know what a row
//! is.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::file::{is_there, with_end};
use crate::storage::{Instance, Storage, StorageError};

/// The note's end.
const UNTOLD: &str = ".untold";
/// A note is a line for each stop that lost something; more than so many bytes are none of ours.
const NOTE_MAX_BYTES: u64 = 64 << 10;

/// What is missing of one server's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// Whose.
    pub instance: Instance,
    /// The last row that was written where the database should have been and was not; 0 where none was.
    pub seq: i64,
    /// Rows that were written nowhere.
    pub lost: u64,
}

impl Untold {
    fn line(&self) -> String {
        let began = self.instance.started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("{} {} {} {}\n", self.instance.id, began.as_millis(), self.seq, self.lost)
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let id = words.next()?.to_owned();
        let began = Duration::from_millis(words.next()?.parse().ok()?);
        let started_at = SystemTime::UNIX_EPOCH.checked_add(began)?;
        let (seq, lost) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self { instance: Instance { id, started_at }, seq, lost })
    }
}

impl Storage {
    fn note(&self) -> Option<PathBuf> {
        self.inner.site.as_ref().map(|site| with_end(&site.path, UNTOLD))
    }

    /// Notes what is missing, where the database is a file.
    ///
    /// # Errors
    /// When it cannot be written there.
    pub fn leave_untold(&self, untold: &Untold) -> Result<(), StorageError> {
        let Some(note) = self.note() else { return Ok(()) };
        let noted = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&note);
        noted
            .and_then(|mut file| {
                file.write_all(untold.line().as_bytes())?;
                file.sync_all()
            })
            .map_err(|error| StorageError::of_folder(&note, &error))
    }

    /// What was noted, once: whoever takes it tells of it.
    pub fn take_untold(&self) -> Vec<Untold> {
        let Some(note) = self.note().filter(|note| is_there(note)) else { return Vec::new() };
        if fs::metadata(&note).is_ok_and(|about| about.len() > NOTE_MAX_BYTES) {
            log::warn!("{} is no note of ours, and is left alone", note.display());
            return Vec::new();
        }
        // Of several processes one has it.
        let own = with_end(&note, &format!("-{}", std::process::id()));
        if fs::rename(&note, &own).is_err() {
            return Vec::new();
        }
        let text = fs::read_to_string(&own).unwrap_or_default();
        if let Err(error) = fs::remove_file(&own) {
            log::warn!("{} is done with, and cannot be removed: {error}", own.display());
        }
        text.lines().filter_map(Untold::read).collect()
    }
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_at_each_stop_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let storage = crate::storage::at_file(&folder.path().join("waygate.db")).unwrap();
        assert_eq!(storage.take_untold(), []);
        let started_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let one = Untold { instance: Instance { id: "0123456789".to_owned(), started_at }, seq: 5, lost: 2 };
        let other = Untold { seq: 0, ..one.clone() };
        storage.leave_untold(&one).unwrap();
        storage.leave_untold(&other).unwrap();
        assert_eq!(storage.take_untold(), [one, other]);
        assert_eq!(storage.take_untold(), []);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left of it");
    }
}
