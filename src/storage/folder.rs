//! The data folder: made for its user alone, and owned by one server at a time. Must not know what lies in it.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::LockType;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StorageError;

const LOCK_NAME: &str = "waygate.lock";
/// Held by each process that works beside the owner, and alone by one that bears nobody beside it.
const BESIDE_LOCK_NAME: &str = "beside.lock";
/// How the names of nooks begin.
const NOOK: &str = "beside-";
/// A nook that is younger may just be about to be locked.
const NOOK_SETTLED: Duration = Duration::from_secs(60);

/// The folder that a server keeps its database, keys and lock in.
pub struct DataFolder;

/// A folder in the data folder for a process that works there beside its owner; removed when dropped.
#[derive(Debug)]
pub struct Nook {
    path: PathBuf,
    /// Held for as long as the process lives: one that nobody holds was left behind.
    _lock: File,
    /// Shared with the other nooks.
    _beside: File,
}

impl Nook {
    /// Which folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Nook {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path));
    }
}

/// A folder owned by this process until dropped.
#[derive(Debug)]
pub struct Owned {
    /// The kernel releases the lock with the last copy of the file, however the processes end that hold one.
    lock: File,
    folder: PathBuf,
}

/// A folder owned by this process, with nobody beside it, until dropped.
#[derive(Debug)]
pub struct Sole {
    owned: Owned,
    _beside: File,
}

impl Sole {
    /// The folder.
    pub fn owned(&self) -> &Owned {
        &self.owned
    }
}

impl DataFolder {
    /// The file whose lock tells that a server runs on this folder.
    pub fn lock_in(path: &Path) -> PathBuf {
        path.join(LOCK_NAME)
    }

    /// Takes the folder for what no other process may be there for, not even one for a client of its own.
    ///
    /// # Errors
    /// As [`DataFolder::own`]; `Taken` also when a process works beside.
    pub fn own_alone(path: &Path) -> Result<Sole, StorageError> {
        let owned = Self::own(path)?;
        let beside = beside(path, FlockOperation::NonBlockingLockExclusive, BESIDE)?;
        Ok(Sole { owned, _beside: beside })
    }

    /// Makes the folder if need be (mode 0700) and takes its lock.
    ///
    /// # Errors
    /// `Taken`, naming the owner's process, when a server runs on it; `Exposed` when others may write there; `Folder` when
    /// it cannot be made or written.
    pub fn own(path: &Path) -> Result<Owned, StorageError> {
        make(path)?;
        check_privacy(path)?;
        let lock_path = path.join(LOCK_NAME);
        let unusable = |cause: std::io::Error| StorageError::of_folder(&lock_path, &cause);
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
        let owned = Owned { lock, folder: path.to_owned() };
        owned.sign()?;
        sweep(path);
        Ok(owned)
    }

    /// Owns the folder together with the process whose lock this is, and alone when that one has ended.
    ///
    /// # Errors
    /// `Folder` when it is the lock of another folder.
    pub fn inherit(path: &Path, lock: File) -> Result<Owned, StorageError> {
        let identity = |about: fs::Metadata| (about.dev(), about.ino());
        let here = fs::metadata(path.join(LOCK_NAME)).map(identity);
        match (here, lock.metadata().map(identity)) {
            (Ok(here), Ok(handed)) if here == handed => Ok(Owned { lock, folder: path.to_owned() }),
            _ => Err(StorageError::Folder {
                path: path.to_owned(),
                cause: "the server that runs there handed over the lock of another folder".to_owned(),
            }),
        }
    }

    /// Whether a server owns the folder, as far as the kernel tells. It does not touch the lock: a server that starts
    /// at this moment gets it.
    pub fn is_owned(path: &Path) -> bool {
        let Ok(mut lock) = File::open(path.join(LOCK_NAME)) else { return false };
        let Ok(inode) = lock.metadata().map(|about| about.ino()) else { return false };
        let pid = pid_in(&mut lock);
        let locks = procfs::locks().unwrap_or_default();
        // Some file systems have another device number here than there: the owner's process tells their files apart.
        let is_it = |held: &procfs::Lock| {
            held.lock_type == LockType::FLock && held.inode == inode && (pid.is_none() || held.pid == pid)
        };
        locks.iter().any(is_it)
    }

    /// The process that owns the folder, or that did last.
    pub fn owner(path: &Path) -> Option<i32> {
        pid_in(&mut File::open(path.join(LOCK_NAME)).ok()?)
    }

    /// Whether a server would take the folder for its own.
    ///
    /// # Errors
    /// `Exposed` when others may write there, or it is another user's; `Folder` when it cannot be looked at.
    pub fn look(path: &Path) -> Result<(), StorageError> {
        check_privacy(path)
    }

    /// Nooks of processes that ended without removing them.
    pub fn left_behind(path: &Path) -> Vec<PathBuf> {
        abandoned(path).into_iter().map(|(nook, _lock)| nook).collect()
    }

    /// Makes the folder if need be, and a nook of this name in it; removes those that others left behind.
    ///
    /// # Errors
    /// `Exposed` when others may write there; `Folder` when it cannot be made or written.
    pub fn nook(path: &Path, name: &str) -> Result<Nook, StorageError> {
        make(path)?;
        check_privacy(path)?;
        sweep(path);
        let beside = beside(path, FlockOperation::NonBlockingLockShared, RESTORE)?;
        let nook = path.join(format!("{NOOK}{name}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&nook).and_then(|()| {
            let lock = File::open(&nook)?;
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            Ok(lock)
        });
        match made {
            Ok(lock) => Ok(Nook { path: nook, _lock: lock, _beside: beside }),
            Err(error) => Err(StorageError::of_folder(&nook, &error)),
        }
    }
}

/// Who has the lock of those beside, when it cannot be had.
const BESIDE: &str = "one that `waygate-mcp stdio` runs for a client";
const RESTORE: &str = "a restore that is under way";

fn beside(path: &Path, how: FlockOperation, otherwise: &str) -> Result<File, StorageError> {
    let lock_path = path.join(BESIDE_LOCK_NAME);
    let unusable = |cause: std::io::Error| StorageError::of_folder(&lock_path, &cause);
    let mut options = File::options();
    let lock = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
    let lock = lock.map_err(unusable)?;
    match flock(&lock, how) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => {
            Err(StorageError::Taken { folder: path.to_owned(), owner: otherwise.to_owned() })
        }
        Err(error) => Err(unusable(error.into())),
    }
}

/// Removes the nooks of processes that ended without doing it. What cannot be removed costs nothing but its place.
fn sweep(path: &Path) {
    for (nook, _lock) in abandoned(path) {
        drop(fs::remove_dir_all(nook));
    }
}

/// The nooks of processes that ended, each with its lock.
fn abandoned(path: &Path) -> Vec<(PathBuf, File)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let settled = entry.metadata().and_then(|about| about.modified());
        let settled = settled.is_ok_and(|then| then.elapsed().is_ok_and(|age| age > NOOK_SETTLED));
        if !settled || !entry.file_name().to_string_lossy().starts_with(NOOK) {
            continue;
        }
        let Ok(lock) = File::open(entry.path()) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            found.push((entry.path(), lock));
        }
    }
    found
}

impl Owned {
    /// Which folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// A copy of the lock, for the process that takes over.
    ///
    /// # Errors
    /// When no more files can be opened.
    pub fn lock(&self) -> std::io::Result<File> {
        self.lock.try_clone()
    }

    /// Writes into the lock whose it is, for those who are refused.
    ///
    /// # Errors
    /// `Folder` when it cannot be written.
    pub fn sign(&self) -> Result<(), StorageError> {
        let mut lock = &self.lock;
        let signed = lock.set_len(0).and_then(|()| lock.rewind());
        let signed =
            signed.and_then(|()| writeln!(lock, "{}", std::process::id())).and_then(|()| lock.rewind());
        signed.map_err(|error| StorageError::of_folder(&self.folder.join(LOCK_NAME), &error))
    }
}

/// Makes a folder and those above it, for this user alone; one that is there stays as it is.
///
/// # Errors
/// When it cannot be made.
pub fn make(path: &Path) -> Result<(), StorageError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| StorageError::of_folder(path, &error))
}

/// Refuses a folder in which others could lay a database, a key or a socket of theirs.
fn check_privacy(path: &Path) -> Result<(), StorageError> {
    let about = fs::metadata(path)
        .map_err(|error| StorageError::Folder { path: path.to_owned(), cause: error.to_string() })?;
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::Gid::from_raw(about.gid());
    let is_ours = rustix::process::getegid() == group
        || rustix::process::getgroups().is_ok_and(|groups| groups.contains(&group));
    judge(user, about.uid(), about.mode(), is_ours).map_err(|(why, advice)| StorageError::Exposed {
        folder: path.to_owned(),
        why,
        advice,
    })
}

fn judge(user: u32, owner: u32, mode: u32, group_is_ours: bool) -> Result<(), (String, &'static str)> {
    if owner != user && owner != 0 {
        let why = format!("belongs to user {owner}, and this process runs as user {user}");
        return Err((
            why,
            "run it as that user, give the folder to this one with chown, or use another --data-dir",
        ));
    }
    // A container's volume belongs to a group of its process, which may write there.
    let others = if group_is_ours { 0o002 } else { 0o022 };
    if mode & others != 0 {
        let why = format!("may be written by others than its owner (mode {:04o})", mode & 0o7777);
        return Err((why, "take that away with `chmod go-w` on it"));
    }
    Ok(())
}

/// The owner writes its process id just after it has the lock: a reader may be that much too early.
fn owner_of(lock: &mut File) -> String {
    pid_in(lock).map_or_else(
        || "a process that has not said its number yet".to_owned(),
        |pid| format!("process {pid}"),
    )
}

fn pid_in(lock: &mut File) -> Option<i32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time_and_says_who() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/data");
        let owned = DataFolder::own(&folder).unwrap();
        let refused = DataFolder::own(&folder).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        assert!(DataFolder::is_owned(&folder));
        drop(owned);
        assert!(!DataFolder::is_owned(&folder));
        let again = DataFolder::own(&folder).unwrap();
        assert_eq!(again.path(), folder);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(LOCK_NAME))), (0o700, 0o600));
    }

    #[test]
    fn a_nook_goes_with_its_process_and_one_that_was_left_behind_with_the_next() {
        let place = tempfile::tempdir().unwrap();
        let kept = DataFolder::nook(place.path(), "1").unwrap();
        let left = place.path().join("beside-2");
        fs::create_dir(&left).unwrap();
        for nook in [kept.path(), &left] {
            File::open(nook).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        let fresh = place.path().join("beside-3");
        fs::create_dir(&fresh).unwrap();
        drop(DataFolder::own(place.path()).unwrap());
        assert!(kept.path().exists() && fresh.exists() && !left.exists());
        let path = kept.path().to_owned();
        drop(kept);
        assert!(!path.exists());
    }

    #[test]
    fn who_wants_a_folder_alone_waits_for_those_beside_and_keeps_them_out() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) =
            (DataFolder::nook(place.path(), "1").unwrap(), DataFolder::nook(place.path(), "2").unwrap());
        drop(DataFolder::own(place.path()).unwrap());
        drop(one);
        let refused = DataFolder::own_alone(place.path()).unwrap_err().to_string();
        assert!(refused.contains("stdio"), "{refused}");
        drop(two);
        let alone = DataFolder::own_alone(place.path()).unwrap();
        assert_eq!(alone.owned().path(), place.path());
        assert!(matches!(DataFolder::nook(place.path(), "3"), Err(StorageError::Taken { .. })));
        drop(alone);
        assert!(DataFolder::nook(place.path(), "3").is_ok());
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused_and_one_that_they_may_read_is_not() {
        let place = tempfile::tempdir().unwrap();
        let set = |mode| fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o702, 0o1777] {
            set(mode);
            let refused = DataFolder::own(place.path()).unwrap_err().to_string();
            assert!(refused.contains(&format!("{mode:04o}")) && refused.contains("chmod go-w"), "{refused}");
            assert!(matches!(DataFolder::nook(place.path(), "1"), Err(StorageError::Exposed { .. })));
        }
        // The group is this process's own.
        for mode in [0o700, 0o755, 0o2750, 0o2770] {
            set(mode);
            assert!(DataFolder::own(place.path()).is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn a_folder_is_its_users_or_roots() {
        assert!(judge(7, 7, 0o770, false).is_err());
        for (user, owner, is_fine) in [(7, 7, true), (7, 0, true), (0, 0, true), (7, 8, false), (0, 7, false)]
        {
            assert_eq!(judge(user, owner, 0o700, false).is_ok(), is_fine, "{user} on the folder of {owner}");
        }
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
