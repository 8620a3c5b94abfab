//! The cursor of a stream: a file that says how far its target got, and whose it is. Must not know what a place is made of.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::storage::history::chain::hex;
use crate::storage::history::stream::Place;

/// A cursor is a few kilobytes, whoever wrote it.
const MAX_BYTES: u64 = 4 << 20;

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    /// Names the target without showing what may be a secret in its URL.
    target: String,
    place: Place,
}

/// Keeps a stream's place; without a file, only for as long as it runs.
pub struct Keeper {
    file: Option<(PathBuf, File)>,
    target: String,
}

impl Keeper {
    /// For the file `path`, and nobody else beside it.
    ///
    /// # Errors
    /// When the file cannot be used, or another stream uses it.
    pub fn open(path: Option<&Path>, target: &str) -> anyhow::Result<Self> {
        let target = hex(&Sha256::digest(target.as_bytes())).chars().take(16).collect();
        let Some(path) = path else { return Ok(Self { file: None, target }) };
        let lock_path = beside(path, "lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let lock = lock.with_context(|| lock_path.display().to_string())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            anyhow!("another stream uses the cursor {}; end it, or give this one its own", path.display())
        })?;
        Ok(Self { file: Some((path.to_owned(), lock)), target })
    }

    /// How far the target got; none at the beginning.
    ///
    /// # Errors
    /// When the file is no cursor, or another target's.
    pub fn read(&self) -> anyhow::Result<Option<Place>> {
        let Some((path, _)) = &self.file else { return Ok(None) };
        let shown = path.display();
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Ok(about) if about.len() <= MAX_BYTES => {}
            Ok(_) => return Err(anyhow!("{shown} is no cursor of a stream; give another name")),
            Err(error) => return Err(error).with_context(|| shown.to_string()),
        }
        let text = fs::read(path).with_context(|| shown.to_string())?;
        let cursor: Cursor = serde_json::from_slice(&text)
            .with_context(|| format!("{shown} is no cursor of a stream; give another name"))?;
        if cursor.target != self.target {
            return Err(anyhow!("the cursor {shown} is another target's; give this one its own"));
        }
        Ok(Some(cursor.place))
    }

    /// Writes it down for good: what is noted here was carried.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&mut self, place: &Place) -> anyhow::Result<()> {
        let Some((path, _)) = &self.file else { return Ok(()) };
        let cursor = Cursor { target: self.target.clone(), place: place.clone() };
        let text = serde_json::to_vec(&cursor)?;
        let draft = beside(path, "part");
        let write = || -> std::io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&draft, path)?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().with_context(|| format!("the cursor {} cannot be kept", path.display()))
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{end}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_kept_for_its_target_alone_and_one_stream_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("siem.cursor");
        let mut keeper = Keeper::open(Some(&path), "https://one").unwrap();
        assert_eq!(keeper.read().unwrap(), None);
        keeper.keep(&Place::default()).unwrap();
        assert_eq!(keeper.read().unwrap(), Some(Place::default()));
        assert!(Keeper::open(Some(&path), "https://one").is_err(), "it is in use");
        drop(keeper);
        let other = Keeper::open(Some(&path), "https://two").unwrap();
        assert!(other.read().unwrap_err().to_string().contains("another target's"));
        drop(other);
        fs::write(&path, "{}").unwrap();
        assert!(Keeper::open(Some(&path), "https://one").unwrap().read().is_err());
        assert!(!fs::read_to_string(&path).unwrap().contains("https"));
    }
}
