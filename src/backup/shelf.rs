//! The folder of backups: their names, who may write there now, which there are, which are removed. Must not know what is
//! in them but their manifests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{FlockOperation, flock};

use super::manifest::Manifest;
use super::{BackupError, archive, files};

const BEGIN: &str = "waygate-";
const END: &str = ".tar.zst";
const STAMP: &str = "%Y%m%dT%H%M%SZ";
const CHANCE_BYTES: usize = 3;
const LOCK: &str = ".lock";
/// How the names of scratch folders end.
pub const SCRATCH_END: &str = ".scratch";
/// A name that lies no further in the future is another machine's, whose clock is not quite this one's.
const AHEAD_SECONDS_MAX: i64 = 600;
/// One that is younger may still be in use.
const SCRATCH_SETTLED: Duration = Duration::from_secs(86_400);

/// One backup of the folder.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Where.
    pub path: PathBuf,
    /// When it was made, as its name says.
    pub made_at: Timestamp,
    /// Its size.
    pub bytes: u64,
}

impl Listed {
    /// Its name.
    pub fn name(&self) -> String {
        super::places::name_of(&self.path)
    }

    /// Whether its name lies in the future: the clock was ahead when it was made, and when that was, nobody knows.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.made_at.as_second().saturating_sub(now.as_second()) > AHEAD_SECONDS_MAX
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// When it is damaged, or newer than this program.
    pub fn manifest(&self) -> Result<Manifest, BackupError> {
        archive::head(&self.path).map(|head| head.manifest)
    }
}

/// The folder, held by this process: nobody else makes or removes backups in it meanwhile.
#[derive(Debug)]
pub struct Held {
    folder: PathBuf,
    _lock: File,
}

impl Held {
    /// Which.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Takes the folder, making it if need be, and removes what was left half made there.
///
/// # Errors
/// `Busy` when another process has it.
pub fn hold(folder: &Path) -> Result<Held, BackupError> {
    files::make_folders(folder)?;
    let path = folder.join(LOCK);
    let lock = match files::make(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => File::open(&path),
        made => made,
    };
    let lock = lock.map_err(|error| BackupError::of_file(&path, &error))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(BackupError::Busy(folder.to_owned())),
        Err(error) => return Err(BackupError::of_file(&path, &error.into())),
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Who only looks through a backup does not hold the folder.
        let written = entry.metadata().and_then(|about| about.modified());
        let is_old = written.is_ok_and(|then| then.elapsed().is_ok_and(|age| age > SCRATCH_SETTLED));
        if name.starts_with(&format!(".{BEGIN}")) || (is_old && name.ends_with(SCRATCH_END)) {
            let path = entry.path();
            if path.is_dir() { files::remove_folder(&path) } else { files::remove(&path) }?;
        }
    }
    Ok(Held { folder: folder.to_owned(), _lock: lock })
}

/// The path of a backup that is made now.
///
/// # Errors
/// When the system has no randomness.
pub fn new_path(folder: &Path, now: Timestamp) -> Result<PathBuf, BackupError> {
    Ok(folder.join(format!("{BEGIN}{}-{}{END}", stamp(now), files::chance(CHANCE_BYTES)?)))
}

/// A moment as it stands in names.
pub fn stamp(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime(STAMP).to_string()
}

/// The backups of a folder, the oldest first; one that is not there has none. What is no backup is passed over.
///
/// # Errors
/// When it cannot be looked into.
pub fn list(folder: &Path) -> Result<Vec<Listed>, BackupError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| BackupError::of_file(folder, &error))?,
    };
    let found = entries.flatten().filter_map(|entry| {
        let made_at = made_at(&entry.file_name().to_string_lossy())?;
        let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some((about.modified().ok(), Listed { path: entry.path(), made_at, bytes: about.len() }))
    });
    let mut all: Vec<_> = found.collect();
    // A name has no more than seconds; which of two came later, the file tells.
    all.sort_by(|(a_wrote, a), (b_wrote, b)| {
        (a.made_at, a_wrote, &a.path).cmp(&(b.made_at, b_wrote, &b.path))
    });
    Ok(all.into_iter().map(|(_, listed)| listed).collect())
}

/// When the backup of this name was made; none when no backup has it.
fn made_at(name: &str) -> Option<Timestamp> {
    let (stamp, chance) = name.strip_prefix(BEGIN)?.strip_suffix(END)?.split_once('-')?;
    let is_chance = chance.len() == CHANCE_BYTES * 2 && chance.bytes().all(|byte| byte.is_ascii_hexdigit());
    let at = jiff::civil::DateTime::strptime(STAMP, stamp).ok().filter(|_| is_chance)?;
    at.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
}

/// The newest of those that [`list`] gave. One whose name lies in the future is none: it would stay the newest for as long,
/// and hide that no other is made.
pub fn newest(all: &[Listed], now: Timestamp) -> Option<&Listed> {
    all.iter().rev().find(|listed| !listed.is_ahead(now))
}

/// The path that somebody means: `latest`, a name in the folder, or a path.
///
/// # Errors
/// When there is none.
pub fn find(folder: &Path, said: &str, now: Timestamp) -> Result<PathBuf, BackupError> {
    if said == "latest" {
        let all = list(folder)?;
        // Where all are of the future, as at a machine whose clock is behind, there is no better one.
        let newest = newest(&all, now).or(all.last()).map(|listed| listed.path.clone());
        return newest.ok_or_else(|| BackupError::Empty(folder.to_owned()));
    }
    let named = folder.join(said);
    let is_name = !said.contains('/') && named.exists();
    let path = if is_name { named } else { PathBuf::from(said) };
    if path.exists() { Ok(path) } else { Err(BackupError::Missing(said.to_owned())) }
}

/// What came of removing old ones.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Those removed.
    pub gone: Vec<Listed>,
    /// Why each of them did not count that is newer than those that had to stay.
    pub unusable: Vec<BackupError>,
}

/// Removes backups that are older than so many days; the newest `keep_min` stay however old they are. One that is not whole,
/// or whose name lies in the future, is not counted among these; one that cannot be read is not, and stays; where none is left to
/// be counted, all stay.
///
/// # Errors
/// When the folder is another's now, or one cannot be removed.
pub fn prune(held: &Held, keep_days: u64, keep_min: usize, now: Timestamp) -> Result<Pruned, BackupError> {
    let mut all = list(held.folder())?;
    let (mut kept, mut unread, mut unusable) = (Vec::new(), Vec::new(), Vec::new());
    // From the newest on, and no further than need be: each look reads a little of a file.
    for listed in all.iter().rev().filter(|listed| !listed.is_ahead(now)) {
        if kept.len() >= keep_min.max(1) {
            break;
        }
        match archive::look_through(&listed.path) {
            Ok(()) => kept.push(listed.path.clone()),
            // Of one that this user cannot read, or another version made, nobody knows that it is not whole.
            Err(error) if !matches!(error, BackupError::Damaged { .. }) => {
                unread.push(listed.path.clone());
                unusable.push(error);
            }
            Err(error) => unusable.push(error),
        }
    }
    if kept.is_empty() {
        return Ok(Pruned { gone: Vec::new(), unusable });
    }
    let days = i64::try_from(keep_days).unwrap_or(i64::MAX);
    let seconds = days.saturating_mul(86_400);
    all.retain(|listed| {
        let age = now.as_second().saturating_sub(listed.made_at.as_second());
        age > seconds && !kept.contains(&listed.path) && !unread.contains(&listed.path)
    });
    for old in &all {
        files::remove(&old.path)?;
    }
    if !all.is_empty() {
        files::sync_folder(held.folder())?;
    }
    Ok(Pruned { gone: all, unusable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn lay(folder: &Path, name: &str) {
        fs::write(folder.join(name), "x").unwrap();
    }

    /// Of midnight on this day.
    fn name(day: &str) -> String {
        format!("waygate-{day}T000000Z-aaaaaa.tar.zst")
    }

    fn lay_whole(folder: &Path, day: &str) {
        archive::lay(&folder.join(name(day)), 100);
    }

    fn names(all: &[Listed]) -> Vec<String> {
        all.iter().map(Listed::name).collect()
    }

    #[test]
    fn names_carry_their_time_and_what_is_no_backup_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = new_path(folder.path(), at("2026-11-28T04:45:25Z")).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("waygate-20261128T044525Z-") && name.ends_with(".tar.zst"), "{name}");
        lay(folder.path(), name);
        lay(folder.path(), "waygate-20261127T000000Z-aaaaaa.tar.zst");
        for other in [
            "waygate-20261127T000000Z-aaaaaa.tar",
            "waygate-yesterday-aaaaaa.tar.zst",
            "notes.tar.zst",
            "waygate-20261127T000000Z-.tar.zst",
        ] {
            lay(folder.path(), other);
        }
        let all = list(folder.path()).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].made_at, at("2026-11-28T04:45:25Z"));
        let now = at("2026-11-28T05:00:00Z");
        assert_eq!(find(folder.path(), "latest", now).unwrap(), path);
        assert_eq!(find(folder.path(), name, now).unwrap(), path);
        assert!(matches!(find(folder.path(), "waygate-1", now), Err(BackupError::Missing(_))));
        assert!(matches!(find(&folder.path().join("none"), "latest", now), Err(BackupError::Empty(_))));
    }

    #[test]
    fn one_of_the_future_is_neither_the_newest_nor_counted_and_goes_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        for day in ["20261101", "20261120", "20990101"] {
            lay_whole(folder.path(), day);
        }
        let now = at("2026-11-19T23:59:00Z");
        let all = list(folder.path()).unwrap();
        assert_eq!(newest(&all, now).map(Listed::name), Some(name("20261120")), "clocks of machines differ");
        assert_eq!(find(folder.path(), "latest", now).unwrap(), folder.path().join(name("20261120")));
        let behind = at("2026-10-01T00:00:00Z");
        assert!(newest(&all, behind).is_none());
        let latest = find(folder.path(), "latest", behind).unwrap();
        assert_eq!(latest, folder.path().join(name("20990101")), "a clock that is behind hides no backup");
        let held = hold(folder.path()).unwrap();
        let gone = |now| names(&prune(&held, 7, 1, at(now)).unwrap().gone);
        assert_eq!(gone("2026-12-20T00:00:00Z"), [name("20261101")]);
        assert_eq!(gone("2099-02-01T00:00:00Z"), [name("20261120")]);
    }

    #[test]
    fn one_that_is_not_whole_pushes_none_out_and_goes_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let cut = |day: &str| {
            lay_whole(folder.path(), day);
            let path = folder.path().join(name(day));
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        };
        cut("20261103");
        cut("20261120");
        let held = hold(folder.path()).unwrap();
        let now = at("2027-11-21T00:00:00Z");
        let pruned = prune(&held, 7, 1, now).unwrap();
        assert_eq!((pruned.gone.len(), pruned.unusable.len()), (0, 2), "nothing better is there");
        lay_whole(folder.path(), "20261101");
        lay_whole(folder.path(), "20261102");
        let pruned = prune(&held, 7, 1, now).unwrap();
        assert_eq!(names(&pruned.gone), ["20261101", "20261103", "20261120"].map(name));
        assert!(pruned.unusable.iter().all(|error| error.to_string().contains("is damaged")));
        assert_eq!(names(&list(folder.path()).unwrap()), [name("20261102")]);
    }

    #[test]
    fn old_ones_go_and_the_newest_stays_however_old_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for day in ["01", "10", "20"] {
            lay_whole(folder.path(), &format!("202611{day}"));
        }
        lay(folder.path(), "mine.txt");
        let held = hold(folder.path()).unwrap();
        let gone = |keep_min, now| prune(&held, 7, keep_min, at(now)).unwrap().gone.len();
        assert_eq!(gone(2, "2026-11-21T00:00:00Z"), 1);
        assert_eq!(gone(1, "2027-11-21T00:00:00Z"), 1);
        assert_eq!(gone(0, "2027-11-21T00:00:00Z"), 0, "one always stays");
        assert_eq!(list(folder.path()).unwrap().len(), 1);
        assert!(folder.path().join("mine.txt").exists());
    }

    #[test]
    fn one_process_at_a_time_writes_there_and_finds_what_another_left_half_made() {
        let folder = tempfile::tempdir().unwrap();
        lay(folder.path(), ".waygate-20261127T000000Z-aaaaaa.tar.zst.partial");
        let held = hold(folder.path()).unwrap();
        assert!(!folder.path().join(".waygate-20261127T000000Z-aaaaaa.tar.zst.partial").exists());
        assert!(matches!(hold(folder.path()), Err(BackupError::Busy(_))));
        drop(held);
        assert!(hold(folder.path()).is_ok());
    }
}
