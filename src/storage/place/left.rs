//! What a server left beside a database's path that was killed while it put it back, and how that comes to its end. Must not know who
//! opens the database then.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::file::{BESIDE, alone_in, id_of, is_there, name_of_kept, put_where_none_is, sync, with_end};
use super::{PART, WHOLE, folder_of};
use crate::storage::StorageError;

/// How long another process is waited for that puts it back just now.
const ALONE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Links that lead to links.
const LINKS_MAX: usize = 8;

/// What is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// All of the database, and nothing at its path.
    Whole(PathBuf),
    /// Some of it, and nothing at its path.
    Half(PathBuf),
    /// All of it as it was then, and another one at its path.
    Beside(PathBuf),
}

/// What is left of putting back the database at `path`.
pub(in crate::storage) fn left_at(path: &Path) -> Option<Left> {
    let file = end_of(path);
    let (part, whole) = (with_end(&file, PART), with_end(&file, WHOLE));
    match (is_there(&file), is_there(&whole), is_there(&part)) {
        (false, true, _) => Some(Left::Whole(whole)),
        (false, false, true) => Some(Left::Half(part)),
        (true, true, _) => Some(Left::Beside(whole)),
        _ => None,
    }
}

/// Finishes what was begun: a whole database gets the name that it was made for; where another one has that by now, it is kept beside.
///
/// # Errors
/// `HalfPut` when there is but a part of it, and nothing at its path; then nobody may make an empty one there unasked.
pub(in crate::storage) fn settle_left(path: &Path) -> Result<(), StorageError> {
    let file = end_of(path);
    let (part, whole) = (with_end(&file, PART), with_end(&file, WHOLE));
    if !is_there(&part) && !is_there(&whole) {
        return Ok(());
    }
    let give_up = Instant::now() + ALONE_WITHIN;
    let _alone = loop {
        match alone_in(folder_of(&file))? {
            Some(alone) => break alone,
            None if Instant::now() < give_up => thread::sleep(LOOK_EVERY),
            None => {
                let place = file.display().to_string();
                return Err(StorageError::Moved { place, what: "was deleted or moved away" });
            }
        }
    };
    let unusable = |error: std::io::Error| StorageError::of_folder(&whole, &error);
    if is_there(&whole) && !is_there(&file) {
        set_aside_beside(&file)?;
        if put_where_none_is(&whole, &file)? {
            sync(folder_of(&file))?;
            log::warn!(
                "the database {} was missing, and is as a server had it that was killed while it put it back",
                file.display()
            );
        }
    } else if is_there(&whole) && id_of(&whole)? == id_of(&file)? {
        // It has both names, of which the second one was to go.
        fs::remove_file(&whole).map_err(unusable)?;
    } else if is_there(&whole) {
        let kept = name_of_kept(&file);
        fs::rename(&whole, &kept).map_err(unusable)?;
        log::warn!(
            "a server was killed while it put back the database {}, and another one stands there now; what it had is kept as {}",
            file.display(),
            kept.display()
        );
    }
    if is_there(&part) {
        if !is_there(&file) {
            return Err(StorageError::HalfPut { place: file.display().to_string(), part });
        }
        // It may be all of it, but for its name.
        let kept = name_of_kept(&file);
        fs::rename(&part, &kept).map_err(|error| StorageError::of_folder(&part, &error))?;
        log::warn!(
            "what was copied of a database before the one that stands there now is kept as {}",
            kept.display()
        );
    }
    Ok(())
}

/// Another process was killed when it had put all of it beside. That is what comes to the path, unless whoever finds it `has_more`.
pub(super) fn take_up(whole: &Path, file: &Path, has_more: bool) -> Result<(), StorageError> {
    if has_more {
        let kept = name_of_kept(file);
        fs::rename(whole, &kept).map_err(|error| StorageError::of_folder(whole, &error))?;
        log::warn!(
            "what a process that was killed had put beside the database is kept as {}",
            kept.display()
        );
        return Ok(());
    }
    set_aside_beside(file)?;
    put_where_none_is(whole, file).map(drop)
}

/// A log that was another file's would be taken for one of the file that comes now. It is in that already, and is kept all the same.
fn set_aside_beside(file: &Path) -> Result<(), StorageError> {
    let kept = name_of_kept(file);
    for (from, to) in BESIDE.map(|end| (with_end(file, end), with_end(&kept, end))) {
        if is_there(&from) {
            fs::rename(&from, &to).map_err(|error| StorageError::of_folder(&from, &error))?;
        }
    }
    Ok(())
}

/// Where a path leads, even if nothing is there.
fn end_of(path: &Path) -> PathBuf {
    let mut end = path.to_owned();
    for _link in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&end) else { break };
        end = folder_of(&end).join(next);
    }
    end
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use super::*;
    use crate::config::Database;
    use crate::storage::{self, Storage, keys};

    fn open(path: &Path) -> Result<Storage, StorageError> {
        storage::open(&Database { url: None, pool_size: 1, busy_timeout_ms: 1_000, wait_seconds: 0 }, path)
    }

    /// A database whose counter of changes is one more than that, closed.
    fn made(path: &Path, counter: i64) {
        let storage = storage::at_file(path).unwrap();
        storage.migrate().unwrap();
        let mut connection = storage.connect().unwrap();
        keys::raise(&mut connection, counter).unwrap();
        connection.leave_alone().unwrap();
    }

    fn counter(storage: &Storage) -> i64 {
        keys::counter(&mut storage.connect().unwrap()).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_whole_database_that_only_lacked_its_name_gets_it_without_the_log_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let (link, file) = (folder.path().join("waygate.db"), folder.path().join("real.db"));
        std::os::unix::fs::symlink("real.db", &link).unwrap();
        made(&with_end(&file, WHOLE), 41);
        fs::write(with_end(&file, "-wal"), "of the one before").unwrap();
        assert_eq!(left_at(&link), Some(Left::Whole(with_end(&file, WHOLE))));
        assert_eq!(counter(&open(&link).unwrap()), 42);
        assert_eq!(left_at(&link), None);
        let kept = names(folder.path()).into_iter().find(|name| name.contains(".lost-")).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join(kept)).unwrap(), "of the one before");
    }

    #[test]
    fn a_part_of_a_database_keeps_an_empty_one_from_being_made_until_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("waygate.db");
        let part = with_end(&file, PART);
        fs::write(&part, "half").unwrap();
        assert_eq!(left_at(&file), Some(Left::Half(part.clone())));
        let said = open(&file).err().unwrap().to_string();
        assert!(said.contains(part.to_str().unwrap()) && said.contains("backup restore latest"), "{said}");
        assert_eq!(
            names(folder.path()),
            ["waygate.db.putback-part"],
            "nothing was made, and nothing touched"
        );
        made(&file, 7);
        assert_eq!(counter(&open(&file).unwrap()), 8);
        assert!(!part.exists());
    }

    #[test]
    fn a_database_that_took_the_place_meanwhile_stays_and_the_other_one_is_kept_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("waygate.db");
        made(&with_end(&file, WHOLE), 41);
        made(&file, 7);
        assert_eq!(left_at(&file), Some(Left::Beside(with_end(&file, WHOLE))));
        assert_eq!(counter(&open(&file).unwrap()), 8);
        let kept = names(folder.path()).into_iter().find(|name| name.contains(".lost-")).unwrap();
        assert_eq!(counter(&open(&folder.path().join(kept)).unwrap()), 42);
        // Both names of one file are no two databases.
        fs::hard_link(&file, with_end(&file, WHOLE)).unwrap();
        assert_eq!(counter(&open(&file).unwrap()), 8);
        assert_eq!(left_at(&file), None);
    }
}
