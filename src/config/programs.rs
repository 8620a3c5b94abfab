//! Programs that the operator grants: where they are, and that they are there. The one check that looks at the disk.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::System;
use super::faults::Faults;
use super::layers::{Given, last_words};

/// Where a name is looked for, in order, as `PATH` writes it; and the `PATH` of every program that clients run.
pub const PROGRAM_FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program that the operator means: a whole path, or a name.
///
/// # Errors
/// Why there is none, to follow the name in a sentence.
pub fn find_program(granted: &str) -> Result<PathBuf, String> {
    if granted.starts_with('/') {
        return match std::fs::metadata(granted) {
            Err(error) => Err(format!("which cannot be used: {error}; correct the path")),
            Ok(found) if !found.is_file() => Err("which is no file; name the program itself".to_owned()),
            Ok(_) if !may_run(Path::new(granted)) => {
                Err("which the server may not run; change its permissions, or name another".to_owned())
            }
            Ok(_) => Ok(PathBuf::from(granted)),
        };
    }
    if granted.contains('/') {
        return Err("which is neither a whole path nor a name alone; write the whole path".to_owned());
    }
    let places = PROGRAM_FOLDERS.split(':').map(|folder| Path::new(folder).join(granted));
    let found = places.into_iter().find(|place| place.is_file() && may_run(place));
    found.ok_or_else(|| format!("which is in none of {PROGRAM_FOLDERS}; install it, or write its whole path"))
}

fn may_run(path: &Path) -> bool {
    access(path, Access::EXEC_OK).is_ok()
}

/// Checks what is granted to the plugin `system`.
pub fn check(system: &System, given: &[Given], faults: &mut Faults) {
    let last = last_words(given);
    let mut refuse = |key: &str, sentence: String| {
        let place = last.get(key).map(|given| given.origin.place.as_str()).filter(|place| !place.is_empty());
        faults.add(place.unwrap_or(key), sentence);
    };
    for (index, program) in system.programs.iter().enumerate() {
        if let Err(why) = find_program(program) {
            refuse("system.programs", format!("system.programs has {program:?}, {why}"));
        } else if system.programs.iter().take(index).any(|other| other == program) {
            refuse("system.programs", format!("system.programs has {program:?} twice; remove one"));
        }
    }
    for name in &system.environment {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.starts_with("WAYGATE_") {
            let sentence = format!(
                "system.environment has {name}, but what is Waygate's own, as its secrets, is given to no program; remove it"
            );
            refuse("system.environment", sentence);
        } else if name.is_empty() || !name.bytes().all(plain) {
            // What follows `=` might be a secret.
            let name = name.split('=').next().unwrap_or_default();
            let sentence = format!(
                "system.environment has {name:?}, but takes names of variables, as LC_ALL, without a value"
            );
            refuse("system.environment", sentence);
        }
    }
}
