//! One process at a time: a lock on a file that the guard of a program holds, so that it is held for exactly as long as anything
//! of the program can be there, whoever started it and however that one ended.
//!
//! Who started it holds the lock, too, until the guard is buried: should the guard be killed, the program is ended before the lock
//! is free. Must not know what is run, nor who waits for it.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// No number of a process is longer.
const NUMBER_BYTES_MAX: u64 = 20;

/// A lock that is held until this, and whatever it was handed to, is gone.
#[derive(Debug)]
pub struct Lock(OwnedFd);

/// What became of an attempt to have a lock.
#[derive(Debug)]
pub enum Taken {
    /// It is ours.
    Ours(Lock),
    /// Another process that was started has it: by the process of this number, where that can be told.
    Others(Option<u32>),
}

impl Lock {
    /// Tries to have the lock of this file, which is made if need be, with its folder (mode 0700). Blocks no longer than a disk does.
    ///
    /// # Errors
    /// When there can be no such file, or the file system knows no locks.
    pub fn take(path: &Path) -> io::Result<Taken> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut options = File::options();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Taken::Others(holder(&mut file))),
            Err(error) => return Err(error.into()),
        }
        // Only for those who wait to say whose end they wait for: a full disk keeps nobody from the lock.
        drop(file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())));
        Ok(Taken::Ours(Self(file.into())))
    }

    /// What whoever gets it holds the lock by.
    pub(super) fn file(&self) -> &OwnedFd {
        &self.0
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(NUMBER_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lock_is_had_once_and_again_when_all_that_hold_it_are_gone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("exclusive/some.lock");
        let Taken::Ours(lock) = Lock::take(&path).unwrap() else { panic!("nobody has it") };
        // As a guard has it.
        let copy = lock.file().try_clone().unwrap();
        let is_others =
            || matches!(Lock::take(&path).unwrap(), Taken::Others(Some(by)) if by == std::process::id());
        assert!(is_others());
        drop(lock);
        assert!(is_others(), "whom it was handed to has it still");
        drop(copy);
        assert!(matches!(Lock::take(&path).unwrap(), Taken::Ours(_)));
    }

    #[test]
    fn a_place_where_no_lock_can_be_is_told_of() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("exclusive"), "a file").unwrap();
        assert!(Lock::take(&place.path().join("exclusive/some.lock")).is_err());
    }
}
