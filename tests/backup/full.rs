//! Restores into the place of what is there on a disk that is full, of bytes or of files: wherever that is noticed, the old state
//! stands whole, and the refusal says what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::places::Home;

/// The disk of a data root, which is mounted there for as long as this lives.
struct Disk(PathBuf);

impl Disk {
    /// None, having said so, where this user may not mount one.
    fn at(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m,nr_inodes=200", "tmpfs"]).arg(folder);
        if !mount.output().is_ok_and(|output| output.status.success()) {
            use std::io::Write as _;
            drop(std::io::stderr().write_all(b"NOT RUN on a full disk: only root can mount one\n"));
            return None;
        }
        Some(Self(folder.to_owned()))
    }

    /// Leaves this many bytes.
    fn leave_bytes(&self, left: u64) {
        let free = rustix::fs::statvfs(&self.0).unwrap();
        let taken = usize::try_from((free.f_bavail * free.f_frsize).saturating_sub(left)).unwrap();
        fs::write(self.ballast().join("one"), vec![0; taken]).unwrap();
    }

    /// Leaves room for this many files and folders.
    fn leave_files(&self, left: u64) {
        let free = rustix::fs::statvfs(&self.0).unwrap().f_favail;
        // The folder itself is one.
        for number in left..free.saturating_sub(1) {
            fs::write(self.ballast().join(number.to_string()), "").unwrap();
        }
    }

    fn ballast(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        fs::create_dir_all(&ballast).unwrap();
        ballast
    }

    fn make_room(&self) {
        drop(fs::remove_dir_all(self.0.join("ballast")));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// A home on a small disk in the state `old`, and a backup of the state `new` that lies elsewhere.
fn prepared() -> Option<(Home, Disk, PathBuf)> {
    let home = Home::new();
    let disk = Disk::at(&home.root())?;
    home.fill("new");
    let archive = home.path().join("kept.tar.zst");
    fs::copy(home.backup(), &archive).unwrap();
    fs::remove_dir_all(home.backups()).unwrap();
    home.fill("old");
    Some((home, disk, archive))
}

/// Restores with more and more room until there is enough, and gives how often there was not.
fn restored_at_last(home: &Home, disk: &Disk, archive: &Path, leave: impl Fn(u64)) -> u64 {
    let (calls, files) = (home.calls(), home.files());
    for room in 0..200 {
        leave(room);
        let output = home.run(&["backup", "restore", archive.to_str().unwrap(), "--yes", "--foreign"]);
        disk.make_room();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            assert!(home.calls() != calls && home.files() != files);
            return room;
        }
        assert_eq!((home.calls(), home.files()), (calls.clone(), files.clone()), "{room}: {said}");
        assert_eq!(home.litter(), [""; 0], "{room}: {said}");
        assert_eq!(output.status.code(), Some(73), "{room}: {said}");
        for what in ["not enough room", "free disk space", "nothing was changed"] {
            assert!(said.contains(what), "{room}: {said}");
        }
    }
    panic!("there was never enough room");
}

#[test]
fn a_restore_without_room_for_its_bytes_leaves_what_is_there_and_says_what_to_do() {
    let Some((home, disk, archive)) = prepared() else { return };
    let refused = restored_at_last(&home, &disk, &archive, |room| disk.leave_bytes(room * (128 << 10)));
    assert!(refused > 8, "only {refused} were without room");
}

#[test]
fn a_restore_without_room_for_its_files_leaves_what_is_there_and_says_what_to_do() {
    let Some((home, disk, archive)) = prepared() else { return };
    let refused = restored_at_last(&home, &disk, &archive, |room| disk.leave_files(room));
    assert!(refused > 8, "only {refused} were without room");
}
