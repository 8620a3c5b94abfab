//! Since when the operator's own key, `WAYGATE_API_KEY`, is the same: a file in the data folder holds when a server first had it,
//! and a fingerprint, by which another one is told. Must not know whom the key admits.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::config::Secret;

const NAME: &str = "own_key.seen";
const DRAFT: &str = ".own_key.seen.draft";
/// Bytes of a fingerprint: enough to tell keys apart.
const FINGERPRINT_BYTES: usize = 8;

/// Notes that a server has this key, if it is another one than before. What cannot be noted costs a warning of the doctor's later,
/// and no start.
pub(super) fn note(folder: &Path, key: &Secret) {
    if since(folder, key).is_some() {
        return;
    }
    let text = format!("{} {}\n", fingerprint(key), Timestamp::now());
    if let Err(error) = put(folder, &text) {
        let place = place(folder);
        log::warn!(
            "since when WAYGATE_API_KEY is the same could not be noted in {}: {error}",
            place.display()
        );
    }
}

/// Since when it is this one; none when no server is known to have had it.
pub fn since(folder: &Path, key: &Secret) -> Option<SystemTime> {
    let text = fs::read_to_string(place(folder)).ok()?;
    let (of, at) = text.trim().split_once(' ')?;
    (of == fingerprint(key)).then(|| at.parse::<Timestamp>().ok().map(SystemTime::from)).flatten()
}

fn put(folder: &Path, text: &str) -> std::io::Result<()> {
    let draft = folder.join(DRAFT);
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?
        .write_all(text.as_bytes())?;
    fs::rename(draft, place(folder))
}

fn place(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

fn fingerprint(key: &Secret) -> String {
    // With words of its own before it, so that it is no part of any other hash of the key.
    let hash = Sha256::new().chain_update("waygate own key\0").chain_update(key.expose()).finalize();
    hash.iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_as_old_as_when_it_was_noted_first_and_another_one_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Secret::new("one of them"), Secret::new("another"));
        assert_eq!(since(folder.path(), &one), None);
        note(folder.path(), &one);
        let first = since(folder.path(), &one).unwrap();
        note(folder.path(), &one);
        assert_eq!((since(folder.path(), &one), since(folder.path(), &other)), (Some(first), None));
        note(folder.path(), &other);
        assert_eq!(since(folder.path(), &one), None);
        let text = fs::read_to_string(place(folder.path())).unwrap();
        assert!(!text.contains("another"), "{text}");
    }
}
