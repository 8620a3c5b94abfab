//! The folder of plugins' files: what of it is read, in which order, and what the operator should know of the rest.
//!
//! The one file here that looks at the disk. Must not know what a file says.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{PluginFile, PluginKind, Reach, parse};
use crate::config::faults::Faults;
use crate::config::files;

/// More files than this are no folder of plugins.
const FILES_MAX: usize = 10_000;

/// What lies in the folder.
#[derive(Debug, Default)]
pub struct Folder {
    /// By name: each file, or all that is wrong with it.
    pub files: Vec<(String, Result<PluginFile, Faults>)>,
    /// What the operator should know; one log line each.
    pub notes: Vec<String>,
}

/// Reads the folder; one that is not there is empty.
///
/// # Errors
/// Why it cannot be looked into, as a sentence that names it.
pub fn read_folder(folder: &Path) -> Result<Folder, String> {
    let unusable = |why: std::io::Error| {
        format!("{} cannot be looked into ({why}); let this user read it", folder.display())
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Folder::default()),
        Err(error) => return Err(unusable(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        if paths.len() == FILES_MAX {
            return Err(format!(
                "{} has more than {FILES_MAX} files; name the folder of plugins",
                folder.display()
            ));
        }
        paths.push(entry.map_err(unusable)?.path());
    }
    paths.sort_unstable();
    let mut found = Folder::default();
    for path in paths {
        found.take(&path);
    }
    Ok(found)
}

impl Folder {
    fn take(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // What editors, and writers of files, leave beside a file.
        if name.starts_with('.') || name.ends_with('~') {
            return;
        }
        let Some(name) = name.strip_suffix(".toml") else {
            self.notes.push(format!("{} is never read; plugins stand in NAME.toml", path.display()));
            return;
        };
        let outcome = read_file(path, name);
        if let Ok(file) = &outcome
            && files::is_open_to_others(path)
            && holds_credentials(file)
        {
            self.notes.push(format!("{} holds secrets and others may read it; chmod 600 it", path.display()));
        }
        self.files.push((name.to_owned(), outcome));
    }
}

/// The path of a plugin's file.
pub fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.toml"))
}

/// Reads one file as that of the plugin or bundle `name`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_file(path: &Path, name: &str) -> Result<PluginFile, Faults> {
    let refuse = |sentence: String| {
        let mut faults = Faults::default();
        faults.add(path.file_name().unwrap_or_default().to_string_lossy(), sentence);
        Err(faults)
    };
    match std::fs::metadata(path) {
        // It says which programs run as this user.
        Ok(about) if about.permissions().mode() & 0o002 != 0 => {
            refuse("anybody may write it, and it says what is run; chmod 600 it".to_owned())
        }
        _ => match files::read(path) {
            Ok(text) => parse(name, &text),
            Err(why) => refuse(format!("the file was not read: {why}")),
        },
    }
}

fn holds_credentials(file: &PluginFile) -> bool {
    let PluginKind::Mcp(server) = &file.kind else { return false };
    match &server.reach {
        Reach::Http(reach) => reach.headers.values().any(super::Credential::is_literal),
        Reach::Stdio(reach) => reach.env.values().any(super::Credential::is_literal),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_read_by_name_and_what_is_passed_over_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert!(read_folder(&path("none")).unwrap().files.is_empty());
        for (name, text) in [
            ("b.toml", "command = \"x\"\nenv = { TOKEN = \"hunter2\" }"),
            ("a.toml", "url = \"http://a/\""),
            ("Bad Name.toml", "url = \"http://a/\""),
            ("files.toml", "url = \"http://a/\""),
            ("c.toml~", "left"),
            (".c.toml", "left"),
            ("c.tml", "slip"),
        ] {
            fs::write(path(name), text).unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        fs::create_dir(path("d.toml")).unwrap();
        let found = read_folder(folder.path()).unwrap();
        let said: Vec<(&str, bool)> =
            found.files.iter().map(|(name, file)| (name.as_str(), file.is_ok())).collect();
        assert_eq!(said, [("Bad Name", false), ("a", true), ("b", true), ("d", false), ("files", false)]);
        assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
        assert!(
            found.notes[0].contains("b.toml holds secrets") && found.notes[1].contains("c.tml is never read")
        );
        assert!(!format!("{found:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_that_anybody_may_write_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        fs::write(&path, "command = \"x\"").unwrap();
        for (mode, believed) in [(0o600, true), (0o664, true), (0o646, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_file(&path, "a").is_ok(), believed, "{mode:o}");
        }
        fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read_file(&path, "a").unwrap_err().on_one_line().contains("larger than"));
    }
}
