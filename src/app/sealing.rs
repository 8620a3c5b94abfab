//! The file of sealing keys: made at the first start, readable by its owner alone, one key a line, the newest first.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::config::Secret;

/// Bytes of a new key.
const KEY_BYTES: usize = 32;

/// Reads the keys, making the file if there is none.
///
/// # Errors
/// A sentence, when it can be neither read nor made, or has no key.
pub fn keys(path: &Path) -> Result<Vec<Secret>, String> {
    let shown = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(path)?,
        Err(error) => {
            return Err(format!("the sealing key {shown} cannot be read: {error}; mend its permissions"));
        }
    };
    let open = fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
    if open {
        return Err(format!("the sealing key {shown} can be read by others; run: chmod 600 {shown}"));
    }
    let keys: Vec<Secret> =
        text.lines().map(str::trim).filter(|key| !key.is_empty()).map(Secret::new).collect();
    if keys.iter().any(|key| key.expose().len() < KEY_BYTES) || keys.is_empty() {
        return Err(format!(
            "the sealing key {shown} is empty or too short; delete it and a new one is made"
        ));
    }
    Ok(keys)
}

fn make(path: &Path) -> Result<String, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("the sealing key {} cannot be made: {error}", path.display());
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| failed(&error))?;
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Written aside and then put there whole: of several that start at once, one makes the key, and all read it.
    let aside = path.with_extension(format!("{}.new", uuid::Uuid::now_v7().simple()));
    let written = write(&aside, &key).and_then(|()| match fs::hard_link(&aside, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    drop(fs::remove_file(&aside));
    written.and_then(|()| fs::read_to_string(path)).map_err(|error| failed(&error))
}

fn write(path: &Path, key: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{key}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sealing.key");
        let made = keys(&path).unwrap();
        assert_eq!(keys(&path).unwrap(), made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(keys(&path).unwrap_err().contains("chmod 600"));
    }
}
