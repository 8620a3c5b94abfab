//! Files as backups need them: read whole up to a limit, written for their user alone and onto the disk, removed when
//! something goes wrong. Must not know what is in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::BackupError;

/// Reads a file whole; none when it is not there.
///
/// # Errors
/// When it cannot be read, is no plain file, or is too large.
pub fn read_if_there(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, BackupError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BackupError::of_file(path, &error)),
        Ok(about) if !about.is_file() => {
            return Err(BackupError::File { path: path.to_owned(), cause: "it is no plain file".to_owned() });
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes));
    match read {
        Ok(count) if count as u64 > max_bytes => {
            let cause = format!("it is larger than {max_bytes} bytes");
            Err(BackupError::File { path: path.to_owned(), cause })
        }
        Ok(_) => Ok(Some(bytes)),
        Err(error) => Err(BackupError::of_file(path, &error)),
    }
}

/// A new file, for its user alone.
///
/// # Errors
/// When it cannot be made, or is there.
pub fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A new folder, for its user alone.
///
/// # Errors
/// When it cannot be made, or is there.
pub fn make_folder(path: &Path) -> Result<(), BackupError> {
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    made.map_err(|error| BackupError::of_file(path, &error))
}

/// A folder and those above it, for their user alone; one that is there stays as it is.
///
/// # Errors
/// When it cannot be made.
pub fn make_folders(path: &Path) -> Result<(), BackupError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| BackupError::of_file(path, &error))
}

/// Writes a new file, onto the disk.
///
/// # Errors
/// As [`make`], and when there is no room.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let written = make(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| BackupError::of_file(path, &error))
}

/// Has a folder's names be on the disk.
///
/// # Errors
/// When the system cannot.
pub fn sync_folder(path: &Path) -> Result<(), BackupError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| BackupError::of_file(path, &error))
}

/// Removes a file; one that is not there is removed.
///
/// # Errors
/// When the system does not let it go.
pub fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(BackupError::of_file(path, &error)),
        _ => Ok(()),
    }
}

/// Removes a folder and all in it; one that is not there is removed.
///
/// # Errors
/// When the system does not let it go.
pub fn remove_folder(path: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(BackupError::of_file(path, &error)),
        _ => Ok(()),
    }
}

/// How many bytes are free for this user where `path` is.
pub fn free_bytes(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Refuses what would not fit where `path` is, with a little left over for others.
///
/// # Errors
/// `Full`.
pub fn check_room(path: &Path, bytes: u64) -> Result<(), BackupError> {
    const LEFT_OVER: u64 = 1 << 20;
    match free_bytes(path) {
        Some(free) if free < bytes.saturating_add(LEFT_OVER) => {
            let needs = format!(": {bytes} bytes are needed, and {free} are free");
            Err(BackupError::Full { path: path.to_owned(), needs })
        }
        _ => Ok(()),
    }
}

/// A file or folder that goes when this does, unless it is kept: nothing half made stays behind.
pub struct Passing {
    path: PathBuf,
}

impl Passing {
    /// Whether or not it is there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Which.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // Whichever it is; what was renamed away or kept by another name is not there.
        if fs::remove_file(&self.path).is_err() {
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// Some hexadecimal digits of chance.
///
/// # Errors
/// When the system has no randomness.
pub fn chance(bytes: usize) -> Result<String, BackupError> {
    Ok(hex(&random(bytes)?))
}

/// Bytes of chance.
///
/// # Errors
/// When the system has no randomness.
pub fn random(bytes: usize) -> Result<Vec<u8>, BackupError> {
    let mut given = vec![0; bytes];
    getrandom::fill(&mut given).map_err(|error| {
        BackupError::Refused(format!("the system gives no randomness ({error}); try again"))
    })?;
    Ok(given)
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of hexadecimal digits.
pub fn of_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}
