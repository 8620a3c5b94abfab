//! What a server's program finds when it starts: its variables, and itself.
//!
//! Of Waygate's own variables a program gets few, and never one that is Waygate's. Must not start anything.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::config::plugin::{Piece, StdioReach};
use crate::config::{PROGRAM_FOLDERS, find_program};
use crate::telemetry::redaction::is_secret_name;

/// What every program gets.
const USUAL: [&str; 7] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER"];
/// Where programs keep things below `HOME`: the variable, the usual place, and what of it must be there to be used.
const PLACES: [(&str, &str, &str); 5] = [
    ("XDG_CACHE_HOME", ".cache", ".cache"),
    ("XDG_CONFIG_HOME", ".config", ".config"),
    ("XDG_DATA_HOME", ".local/share", ".local"),
    ("XDG_STATE_HOME", ".local/state", ".local"),
    ("npm_config_cache", ".npm", ".npm"),
];

/// Variables with their values; each once.
pub(super) type Variables = Vec<(OsString, OsString)>;

/// The variables of a program: the usual ones and those to be inherited out of `own`, then its own.
pub(super) fn variables(
    reach: &StdioReach,
    resolved: Variables,
    own: impl Fn(&str) -> Option<OsString>,
) -> Variables {
    let mut variables = vec![(OsString::from("PATH"), OsString::from(PROGRAM_FOLDERS))];
    let inherited = USUAL.iter().copied().chain(reach.inherit_env.iter().map(String::as_str));
    for name in inherited.filter(|name| !name.starts_with("WAYGATE_")) {
        if let Some(value) = own(name) {
            set(&mut variables, name.into(), value);
        }
    }
    resolved.into_iter().for_each(|(name, value)| set(&mut variables, name, value));
    variables
}

/// Has a program that cannot make anything new in `HOME` use `private` for what is not there yet.
pub(super) fn make_at_home(
    variables: &mut Variables,
    reach: &StdioReach,
    denied: &[PathBuf],
    private: &Path,
) {
    let narrow = reach.sandbox.folders.is_some();
    let home = find(variables, "HOME").map(PathBuf::from);
    let home = home.and_then(|home| std::fs::canonicalize(home).ok());
    let beside_denied =
        home.as_ref().is_some_and(|home| denied.iter().any(|denied| denied.starts_with(home)));
    if !narrow && !beside_denied {
        return;
    }
    for (name, below, must_be) in PLACES {
        let there = !narrow && home.as_ref().is_some_and(|home| home.join(must_be).exists());
        if find(variables, name).is_none() && !there {
            variables.push((name.into(), private.join(below).into_os_string()));
        }
    }
    if narrow && !reach.env.contains_key("TMPDIR") {
        // The folder of everyone's temporary files is not among the granted ones.
        set(variables, "TMPDIR".into(), private.into());
    }
}

/// The program that is meant: a whole path, or a name found in its own `PATH` or the usual folders.
///
/// # Errors
/// Why there is none, in one sentence.
pub(super) fn program(command: &str, variables: &Variables) -> Result<PathBuf, String> {
    let searched = find(variables, "PATH").unwrap_or_default();
    if !command.contains('/') && !command.is_empty() {
        let places = std::env::split_paths(&searched).filter(|folder| folder.is_absolute());
        let found = places
            .map(|folder| folder.join(command))
            .find(|place| place.is_file() && access(place, Access::EXEC_OK).is_ok());
        if let Some(found) = found {
            return Ok(found);
        }
    }
    let asked = searched.to_string_lossy();
    find_program(command).map_err(|why| {
        let also = if command.contains('/') {
            String::new()
        } else {
            format!("; nor is it in its own PATH ({asked})")
        };
        format!("the command is {command:?}, {why}{also}")
    })
}

/// Values that must not be seen, should the program repeat them: what was resolved from elsewhere, whole and in its parts,
/// and what goes by the name of a secret. What every program gets is none.
pub(super) fn secrets(reach: &StdioReach, resolved: &Variables) -> Vec<String> {
    let is_secret = |piece: &Piece<'_>| match piece {
        Piece::Text(_) => false,
        Piece::Variable(name) => !USUAL.contains(name),
        Piece::File(_) => true,
    };
    let whole = |(name, value): &(OsString, OsString)| {
        let (name, value) = (name.to_str()?, value.to_str()?);
        let pieces = reach.env.get(name).and_then(|written| written.pieces().ok());
        let found = pieces.is_none_or(|pieces| pieces.iter().any(is_secret));
        (found || is_secret_name(name, &[])).then(|| value.to_owned())
    };
    let pieces = reach.env.values().flat_map(|written| written.pieces().unwrap_or_default());
    let part = |piece: Piece<'_>| match piece {
        Piece::Variable(name) => std::env::var(name).ok(),
        Piece::Text(_) | Piece::File(_) => None,
    };
    let parts = pieces.filter(is_secret).filter_map(part);
    resolved.iter().filter_map(whole).chain(parts).collect()
}

fn find<'a>(variables: &'a Variables, name: &str) -> Option<&'a OsStr> {
    variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_os_str())
}

fn set(variables: &mut Variables, name: OsString, value: OsString) {
    match variables.iter_mut().find(|(other, _)| *other == name) {
        Some((_, old)) => *old = value,
        None => variables.push((name, value)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::plugin::{Credential, Sandbox};

    fn reach(inherit: &[&str], env: &[(&str, &str)]) -> StdioReach {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), Credential((*value).to_owned())));
        StdioReach {
            command: "x".to_owned(),
            args: Vec::new(),
            cwd: None,
            env: env.collect(),
            inherit_env: inherit.iter().map(|name| (*name).to_owned()).collect(),
            exclusive: false,
            sandbox: Sandbox::default(),
        }
    }

    fn own(name: &str) -> Option<OsString> {
        let own = [("HOME", "/home/u"), ("WAYGATE_API_KEY", "k"), ("HTTP_PROXY", "p"), ("AWS_KEY", "a")];
        own.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value))
    }

    fn resolved(env: &[(&str, &str)]) -> Variables {
        env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn a_program_gets_what_is_listed_and_nothing_else() {
        let reach = reach(&["HTTP_PROXY", "WAYGATE_API_KEY", "MISSING"], &[("HOME", "/srv"), ("A", "b")]);
        let found = variables(&reach, resolved(&[("HOME", "/srv"), ("A", "b")]), own);
        let wanted =
            resolved(&[("PATH", PROGRAM_FOLDERS), ("HOME", "/srv"), ("HTTP_PROXY", "p"), ("A", "b")]);
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_command_is_found_in_the_programs_own_path_first() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("sh");
        std::fs::copy("/bin/sh", &place).unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(program("sh", &resolved(&[("PATH", path)])), Ok(place));
        assert!(program("sh", &resolved(&[("PATH", "/nowhere")])).unwrap().ends_with("sh"));
        for (command, wanted) in [("bin/sh", "whole path"), ("no-such-program", "in its own PATH (/nowhere)")]
        {
            let why = program(command, &resolved(&[("PATH", "/nowhere")])).unwrap_err();
            assert!(why.contains(wanted) && why.contains(command), "{why}");
        }
    }

    #[test]
    fn what_was_resolved_or_is_named_like_a_secret_is_one() {
        let reach = reach(
            &[],
            &[
                ("A", "${X}"),
                ("B", "plain"),
                ("TOKEN", "written"),
                ("C", "x:${CARGO_MANIFEST_DIR}"),
                ("D", "${HOME}"),
            ],
        );
        let found = secrets(
            &reach,
            &resolved(&[("A", "secret"), ("B", "plain"), ("TOKEN", "written"), ("D", "/root")]),
        );
        // What stands in the variable is one by itself, too.
        assert_eq!(found, ["secret".to_owned(), "written".to_owned(), env!("CARGO_MANIFEST_DIR").to_owned()]);
    }

    #[test]
    fn what_is_not_there_at_home_is_made_in_a_private_place() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".npm")).unwrap();
        let home = home.path().canonicalize().unwrap();
        let denied = [home.join(".waygate")];
        let mut seen = resolved(&[("HOME", home.to_str().unwrap())]);
        let none = seen.clone();
        make_at_home(&mut seen, &reach(&[], &[]), &[PathBuf::from("/elsewhere")], Path::new("/p"));
        assert_eq!(seen, none);
        make_at_home(&mut seen, &reach(&[], &[]), &denied, Path::new("/p"));
        let seen: BTreeMap<_, _> = seen.into_iter().collect();
        assert_eq!(seen.get(OsStr::new("XDG_CACHE_HOME")), Some(&OsString::from("/p/.cache")));
        assert!(!seen.contains_key(OsStr::new("npm_config_cache")));
        assert!(!seen.contains_key(OsStr::new("TMPDIR")));
    }
}
