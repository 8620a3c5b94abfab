//! What is done with files themselves: which one it is, who has it open, how it gets a name, what is beside it. Must not know what a
//! database is.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use crate::storage::StorageError;

/// What SQLite has beside a file.
pub(super) const BESIDE: [&str; 2] = ["-wal", "-shm"];
/// What was open and is nowhere any more is kept under such a name.
const KEPT: &str = ".lost-";

/// Device and inode: what a file is, whatever its name.
pub(super) type FileId = (u64, u64);

/// The folder, for one process at a time; none while another one has it.
pub(super) fn alone_in(folder: &Path) -> Result<Option<File>, StorageError> {
    let unusable = |error: io::Error| StorageError::of_folder(folder, &error);
    let lock = File::open(folder).map_err(unusable)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(unusable(error.into())),
    }
}

/// Whether another process has a connection to that file, as far as the kernel tells: each has a lock on it.
pub(super) fn is_open_elsewhere(id: FileId) -> bool {
    // In doubt, it is theirs.
    procfs::locks().map_or(true, |locks| is_anothers(&locks, id.1, std::process::id()))
}

/// Whether one of these locks is another process's on the file of that inode. The numbers of devices here are not those of `stat` on
/// every file system; where this process has a lock on the file, too, that one tells which device it is, and else any may be.
fn is_anothers(locks: &[procfs::Lock], inode: u64, own: u32) -> bool {
    let own = i32::try_from(own).ok();
    let is_of_it = |lock: &&procfs::Lock| lock.lock_type != procfs::LockType::FLock && lock.inode == inode;
    let (ours, theirs): (Vec<_>, Vec<_>) = locks.iter().filter(is_of_it).partition(|lock| lock.pid == own);
    let device = |lock: &procfs::Lock| (lock.devmaj, lock.devmin);
    theirs.iter().any(|lock| ours.is_empty() || ours.iter().any(|own| device(own) == device(lock)))
}

/// Gives a file its name if nobody has it yet.
pub(super) fn put_where_none_is(part: &Path, file: &Path) -> Result<bool, StorageError> {
    let unusable = |error: io::Error| StorageError::of_folder(file, &error);
    match renameat_with(CWD, part, CWD, file, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // Some file systems know no such renaming.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match fs::hard_link(part, file) {
            Ok(()) => fs::remove_file(part).map(|()| true).map_err(unusable),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(unusable(error)),
        },
        Err(error) => Err(unusable(error.into())),
    }
}

pub(super) fn name_of_kept(file: &Path) -> PathBuf {
    let now = chrono::Utc::now().format("%Y%m%dT%H%M%S%.3f");
    with_end(file, &format!("{KEPT}{now}"))
}

/// What is open here of a file without a name, byte by byte, with its log if that still stands there. It ends the locks that this
/// process has on it, so that it is only for a file that is done with.
pub(super) fn keep_bytes(id: FileId, file: &Path) -> Result<PathBuf, StorageError> {
    let kept = name_of_kept(file);
    let open = fs::read_dir("/proc/self/fd")
        .map(|open| open.filter_map(Result::ok).map(|entry| entry.path()).find(|path| is_file(path, id)));
    let open = open.and_then(|open| open.ok_or_else(|| io::ErrorKind::NotFound.into()));
    let log = with_end(file, "-wal");
    let is_ours = id_of(&log).is_ok_and(|id| open_here(id).is_some());
    let copied = open.and_then(|open| {
        fs::copy(open, &kept)?;
        if is_ours {
            fs::copy(&log, with_end(&kept, "-wal"))?;
        }
        Ok(())
    });
    copied
        .map_err(|error| StorageError::of_folder(&kept, &error))
        .and_then(|()| sync(&kept))
        .and_then(|()| sync(file.parent().unwrap_or(Path::new("/"))))
        .inspect_err(|_| drop(remove_with_beside(&kept)))?;
    Ok(kept)
}

pub(super) fn is_file(path: &Path, id: FileId) -> bool {
    id_of(path).is_ok_and(|found| found == id)
}

/// Whether anything has that name, even a link that leads nowhere.
pub(super) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Whether this process has that file open, and how many names it still has.
pub(super) fn open_here(id: FileId) -> Option<u64> {
    let open = fs::read_dir("/proc/self/fd").ok()?;
    open.filter_map(|entry| {
        let path = entry.ok()?.path();
        let about = fs::metadata(&path).ok()?;
        let names = if is_hidden(&path) { 0 } else { about.nlink() };
        ((about.dev(), about.ino()) == id).then_some(names)
    })
    .next()
}

/// Whether a file was deleted where NFS or FUSE keep it, as long as it is open, under a name of their own.
fn is_hidden(open: &Path) -> bool {
    let path = fs::read_link(open).unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(".nfs") || name.starts_with(".fuse_hidden")
}

pub(super) fn id_of(path: &Path) -> Result<FileId, StorageError> {
    fs::metadata(path)
        .map(|about| (about.dev(), about.ino()))
        .map_err(|error| StorageError::of_folder(path, &error))
}

pub(super) fn real(path: &Path) -> Result<PathBuf, StorageError> {
    fs::canonicalize(path).map_err(|error| StorageError::of_folder(path, &error))
}

pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

pub(super) fn remove_with_beside(path: &Path) -> Result<(), StorageError> {
    for path in [path.to_owned()].into_iter().chain(BESIDE.map(|end| with_end(path, end))) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::of_folder(&path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn sync(path: &Path) -> Result<(), StorageError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| StorageError::of_folder(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel tells of locks: the process, the device and the inode of each.
    fn locks(all: &[(u32, &str, u64)]) -> Vec<procfs::Lock> {
        let lines = all.iter().enumerate().map(|(number, (pid, device, inode))| {
            format!("{number}: POSIX  ADVISORY  READ {pid} {device}:{inode} 1073741826 1073742335\n")
        });
        let text: String = lines.collect();
        <procfs::Locks as procfs::FromBufRead>::from_buf_read(text.as_bytes()).unwrap().0
    }

    #[test]
    fn a_lock_of_another_process_is_on_this_file_unless_it_is_on_another_device_for_sure() {
        let is_anothers = |all: &[(u32, &str, u64)]| is_anothers(&locks(all), 7, 1);
        assert!(!is_anothers(&[(1, "fd:00", 7), (2, "fd:00", 8)]));
        assert!(is_anothers(&[(1, "fd:00", 7), (2, "fd:00", 7)]));
        assert!(!is_anothers(&[(1, "fd:00", 7), (2, "fd:01", 7)]), "the same number on another device");
        assert!(is_anothers(&[(2, "fd:01", 7)]), "which device it is cannot be told");
    }
}
