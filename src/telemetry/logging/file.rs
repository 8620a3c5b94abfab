//! The log's file: opened anew when somebody moved or removed it, or asked for it. Must not know what a line says.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::outlet::Sink;

/// How often the file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why lines do not come to the path that they should come to; none while they do.
pub type Trouble = Arc<Mutex<Option<String>>>;

/// A file that lines are added to.
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// Device and number of the file that is open.
    identity: (u64, u64),
    looked_at: Instant,
    reopen: Arc<AtomicBool>,
    trouble: Trouble,
}

impl LogFile {
    /// Opens it, and makes it (0600) and its folder (0700) where they are missing. When `reopen` is set, it is opened
    /// anew with the next line.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path, reopen: Arc<AtomicBool>) -> io::Result<Self> {
        let file = open(path)?;
        let identity = identity(&file.metadata()?);
        let path = path.to_owned();
        Ok(Self { path, file, identity, looked_at: Instant::now(), reopen, trouble: Trouble::default() })
    }

    /// Where it says what is amiss.
    pub fn trouble(&self) -> Trouble {
        Arc::clone(&self.trouble)
    }

    /// Follows the path to a new file when the old one is no longer there. Until that works, lines go to the old one.
    fn follow(&mut self) {
        let asked = self.reopen.swap(false, Ordering::AcqRel);
        if !asked && self.looked_at.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked_at = Instant::now();
        let there = std::fs::metadata(&self.path).map(|about| identity(&about)).ok();
        let opened = if !asked && there == Some(self.identity) { Ok(()) } else { self.open_anew() };
        let trouble = opened.err().map(|error| {
            let path = self.path.display();
            format!("the log {path} cannot be written: {error}; move what is in its place, or let this user write there")
        });
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn open_anew(&mut self) -> io::Result<()> {
        let file = open(&self.path)?;
        self.identity = identity(&file.metadata()?);
        self.file = file;
        Ok(())
    }
}

impl Sink for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.follow();
        self.file.write_all(line)
    }

    fn tick(&mut self) {
        self.follow();
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // Non-blocking, so that a pipe that somebody put there cannot hold us.
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags.cast_signed()).open(path)
}

fn identity(about: &std::fs::Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_was_moved_and_touched_or_removed_is_found_again_within_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/waygate.log");
        let mut log = LogFile::open(&path, Arc::default()).unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        log.write(b"one\n").unwrap();
        fs::rename(&path, folder.path().join("old")).unwrap();
        log.write(b"two\n").unwrap();
        assert_eq!(read(&folder.path().join("old")), "one\ntwo\n", "looked at again before its time");
        fs::write(&path, "").unwrap();
        let long_ago = |log: &mut LogFile| log.looked_at = Instant::now().checked_sub(LOOK_EVERY).unwrap();
        long_ago(&mut log);
        log.write(b"three\n").unwrap();
        assert_eq!(read(&path), "three\n");
        assert_eq!(log.identity, identity(&fs::metadata(&path).unwrap()), "would be opened anew each second");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        long_ago(&mut log);
        log.tick();
        log.write(b"four\n").unwrap();
        assert_eq!(read(&path), "four\n");
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_told_of_until_the_log_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        let mut log = LogFile::open(&logs.join("waygate.log"), Arc::default()).unwrap();
        let trouble = log.trouble();
        let mut look = || {
            log.looked_at = Instant::now().checked_sub(LOOK_EVERY).unwrap();
            log.tick();
            log.write(b"line\n").unwrap();
            trouble.lock().unwrap().clone()
        };
        assert_eq!(look(), None);
        fs::rename(&logs, folder.path().join("old")).unwrap();
        fs::write(&logs, "in the way").unwrap();
        let why = look().unwrap();
        assert!(why.contains("logs/waygate.log") && why.contains("cannot be written"), "{why}");
        fs::remove_file(&logs).unwrap();
        assert_eq!(look(), None);
        assert_eq!(fs::read_to_string(logs.join("waygate.log")).unwrap(), "line\n");
    }
}
