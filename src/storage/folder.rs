//! The data folder: made for its user alone, and owned by one server at a time. Must not know what lies in it.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StorageError;

const LOCK_NAME: &str = "waygate.lock";

/// The folder that a server keeps its database, keys and lock in.
pub struct DataFolder;

/// A folder owned by this process until dropped.
#[derive(Debug)]
pub struct Owned {
    /// The kernel releases the lock with the file, however the process ends.
    _lock: File,
    folder: PathBuf,
}

impl DataFolder {
    /// Makes the folder if need be (mode 0700) and takes its lock.
    ///
    /// # Errors
    /// `Taken`, naming the owner's process, when a server runs on it; `Folder` when it cannot be made or written.
    pub fn own(path: &Path) -> Result<Owned, StorageError> {
        make(path)?;
        let lock_path = path.join(LOCK_NAME);
        let unusable = |cause: std::io::Error| StorageError::Folder {
            path: lock_path.clone(),
            cause: cause.to_string(),
        };
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(&lock_path).map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(StorageError::Taken { folder: path.to_owned(), owner: owner_of(&mut lock) });
            }
            Err(error) => return Err(unusable(error.into())),
        }
        let written = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.and_then(|()| lock.rewind()).map_err(unusable)?;
        Ok(Owned { _lock: lock, folder: path.to_owned() })
    }
}

impl Owned {
    /// Which folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

/// Makes a folder and those above it, for this user alone; one that is there stays as it is.
pub(super) fn make(path: &Path) -> Result<(), StorageError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| StorageError::Folder { path: path.to_owned(), cause: error.to_string() })
}

/// The owner writes its process id just after it has the lock: a reader may be that much too early.
fn owner_of(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(32).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "a process that has not said its number yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time_and_says_who() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/data");
        let owned = DataFolder::own(&folder).unwrap();
        let refused = DataFolder::own(&folder).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(owned);
        let again = DataFolder::own(&folder).unwrap();
        assert_eq!(again.path(), folder);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(LOCK_NAME))), (0o700, 0o600));
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DataFolder::own(&file.join("data")).unwrap_err();
        assert!(matches!(error, StorageError::Folder { .. }), "{error}");
    }
}
