//! The file of sealing keys: made at the first start, readable by its owner alone, one key a line, the newest first.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::config::Secret;

/// Bytes of a new key.
const KEY_BYTES: usize = 32;
/// How long a file that another process has made may stay empty.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Reads the keys, making the file if there is none.
///
/// # Errors
/// A sentence, when it can be neither read nor made, or has no key.
pub fn keys(path: &Path) -> Result<Vec<Secret>, String> {
    let shown = path.display();
    let text = match read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => make(path)?,
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
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let made = match made {
        // Another one that starts at the same moment was quicker.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => read(path),
        made => made.and_then(|mut file| {
            file.write_all(format!("{key}\n").as_bytes())?;
            file.sync_all()?;
            Ok(key)
        }),
    };
    made.map_err(|error| failed(&error))
}

/// Reads the file. One that is empty was perhaps made just now, and is about to be written.
fn read(path: &Path) -> std::io::Result<String> {
    let until = Instant::now() + WRITTEN_WITHIN;
    loop {
        let text = fs::read_to_string(path)?;
        if !text.trim().is_empty() || Instant::now() >= until {
            return Ok(text);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_that_start_at_once_one_makes_the_key_and_all_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sealing.key");
        let all: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| keys(&path).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(all.windows(2).all(|two| two[0] == two[1]));
    }

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
