//! A file that results are written to: begun before the load, so that nothing is measured in vain, and whole or as it was. Must not
//! know what is written.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::usage;

/// A file in the making, beside the place where it will be; gone unless it is published.
pub struct Sheet(Option<Draft>);

struct Draft {
    file: File,
    beside: PathBuf,
    path: PathBuf,
}

impl Sheet {
    /// Begins it, where one is wanted.
    ///
    /// # Errors
    /// When it cannot be written there.
    pub fn new(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        let wrong = |why: &str| usage(&format!("{} cannot be written: {why}", path.display()));
        if fs::symlink_metadata(path).is_ok_and(|known| !known.is_file()) {
            return Err(wrong("this is no plain file; give another name"));
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.part", std::process::id()));
        let beside = PathBuf::from(beside);
        let file = OpenOptions::new().write(true).create_new(true).open(&beside);
        let file = file.map_err(|error| wrong(&error.to_string()))?;
        Ok(Self(Some(Draft { file, beside, path: path.to_owned() })))
    }

    /// Writes it and puts it into its place.
    ///
    /// # Errors
    /// When that fails, as on a full disk.
    pub fn publish(self, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let Some(mut draft) = self.0 else { return Ok(()) };
        let written =
            draft.file.write_all(text().as_bytes()).and_then(|()| fs::rename(&draft.beside, &draft.path));
        written.map_err(|error| anyhow::anyhow!("{} cannot be written: {error}", draft.path.display()))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Renamed away, it is not there any more.
        drop(fs::remove_file(&self.beside));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_as_it_was_and_refused_before_anything_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        fs::write(&path, "old").unwrap();
        drop(Sheet::new(Some(&path)).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        Sheet::new(Some(&path)).unwrap().publish(|| "new".to_owned()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        assert!(Sheet::new(Some(folder.path())).is_err());
        assert!(Sheet::new(Some(&folder.path().join("no/where"))).is_err());
    }
}
