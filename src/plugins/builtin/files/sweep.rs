//! Takes away what writes of a server that was killed left behind, once at start and beside everything else.
//!
//! A writer holds a lock on its unfinished file, and a dead one holds none: what another server is writing is left alone.
//! Must not know how files are written.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::Dir;
use rustix::fs::{FlockOperation, OFlags, flock};

use super::roots::{OpenRoot, open_file_at};
use super::usage::ENTRIES_MAX;
use super::walk::DEPTH_MAX;
use super::write::is_temporary;

/// Sweeps the writable ones of these roots on a thread of its own.
pub(super) fn begin(roots: &[Arc<OpenRoot>]) {
    let writable: Vec<Arc<OpenRoot>> = roots.iter().filter(|root| root.writable).cloned().collect();
    if writable.is_empty() {
        return;
    }
    let sweep = move || {
        for root in writable {
            let mut sweep = Sweep { left: ENTRIES_MAX, swept: 0 };
            sweep.below(&root.dir, DEPTH_MAX);
            if sweep.swept > 0 {
                log::warn!(
                    "{} unfinished writes of a server that ended too early were taken away below the root {}",
                    sweep.swept,
                    root.name
                );
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("files-sweep".to_owned()).spawn(sweep) {
        log::warn!("unfinished writes are not looked for, since there is no thread for it: {error}");
    }
}

/// One walk.
struct Sweep {
    /// Entries that may still be looked at.
    left: u64,
    swept: u64,
}

impl Sweep {
    /// What cannot be read is passed over: nobody waits for this.
    fn below(&mut self, dir: &Dir, depth: usize) {
        let Ok(entries) = dir.entries() else { return };
        for entry in entries.flatten() {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            let name = entry.file_name();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth > 1 {
                if let Ok(inner) = entry.open_dir() {
                    self.below(&inner, depth - 1);
                }
            } else if kind.is_file() && name.to_str().is_some_and(is_temporary) {
                self.swept += u64::from(remove_if_left(dir, &name));
            }
        }
    }
}

/// Removes it if nobody holds it. The lock is ours until it is gone: who made it just now finds that it is not theirs.
fn remove_if_left(dir: &Dir, name: &OsStr) -> bool {
    let Ok((file, _)) = open_file_at(dir, Path::new(name), OFlags::NOFOLLOW, "") else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && dir.remove_file(name).is_ok()
}
