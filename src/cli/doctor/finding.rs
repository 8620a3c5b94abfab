//! What a check finds: what is amiss, why that matters, and the command that mends it, or the next step. Must not know checks.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::app::Stray;
use crate::storage::{DataFolder, socket};

/// How long an orphan may take to end.
const END_WITHIN: Duration = Duration::from_secs(15);

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something does not work, or is not safe.
    Error,
    /// Something will not work soon, or should not be so.
    Warning,
}

impl Severity {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// What `--fix` does: to our own files, modes, sockets and orphans, and to nothing else.
#[derive(Debug, Clone)]
pub enum Mend {
    /// Gives a file or folder this mode.
    Mode(PathBuf, u32),
    /// Removes a file that nobody has written to since then.
    Remove(PathBuf, SystemTime),
    /// Removes a socket that nobody listens on.
    RemoveSocket(PathBuf),
    /// Removes a folder that nobody uses.
    RemoveFolder(PathBuf),
    /// Ends a guard without a server, and all that it guards.
    End(Stray),
}

impl Mend {
    /// Does it; says what was done.
    ///
    /// # Errors
    /// Why it could not be done, as a sentence.
    pub fn carry_out(&self) -> Result<String, String> {
        let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        match self {
            Self::Mode(path, mode) => fs::set_permissions(path, fs::Permissions::from_mode(*mode))
                .map(|()| format!("gave {} the mode {mode:04o}", path.display()))
                .map_err(|error| failed(path, error)),
            Self::Remove(path, written) => fs::metadata(path)
                .and_then(|about| about.modified())
                .and_then(|now| if now == *written { fs::remove_file(path) } else { Err(in_use()) })
                .map(|()| format!("removed {}", path.display()))
                .map_err(|error| failed(path, error)),
            Self::RemoveSocket(path) => remove_socket(path),
            Self::RemoveFolder(path) => {
                let is_left =
                    path.parent().is_some_and(|above| DataFolder::left_behind(above).contains(path));
                // Whoever takes the folder above it, as the mend of a socket does, removes it, too.
                let is_gone =
                    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
                let removed = match (is_left, is_gone) {
                    (_, true) => Ok(()),
                    (true, false) => fs::remove_dir_all(path),
                    (false, false) => Err(in_use()),
                };
                removed.map(|()| format!("removed {}", path.display())).map_err(|error| failed(path, error))
            }
            Self::End(stray) if stray.end(END_WITHIN) => {
                Ok(format!("ended process {} and all that it guarded", stray.pid()))
            }
            Self::End(stray) => Err(format!("process {} does not end", stray.pid())),
        }
    }
}

fn in_use() -> io::Error {
    io::Error::other("somebody uses it by now")
}

/// Whoever looked saw nobody, and that was a while ago: it is looked at again, and as the owner of the folder, so that no server
/// begins meanwhile.
fn remove_socket(path: &Path) -> Result<String, String> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return Err(format!("{} has no name", path.display()));
    };
    let _owned = DataFolder::own(folder).map_err(|error| error.to_string())?;
    let gone = match socket::connect(folder, name) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_somebody) => Err(in_use()),
    };
    gone.map(|()| format!("removed {}", path.display()))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// One thing that is amiss.
#[derive(Debug, Clone)]
pub struct Finding {
    /// `check.fault`
    pub id: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// What is amiss, and where.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// The command that mends it; where none could, what to do next. One that only looks is neither.
    pub command: String,
    /// What `--fix` does, if it is ours to mend.
    pub mend: Option<Mend>,
    /// What came of mending it.
    pub mended: Option<Result<String, String>>,
}

impl Finding {
    /// Something that does not work, or is not safe.
    pub fn error(
        id: &'static str,
        what: impl Into<String>,
        why: &'static str,
        command: impl Into<String>,
    ) -> Self {
        let severity = Severity::Error;
        Self { id, severity, what: what.into(), why, command: command.into(), mend: None, mended: None }
    }

    /// Something that should not be so.
    pub fn warning(
        id: &'static str,
        what: impl Into<String>,
        why: &'static str,
        command: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(id, what, why, command) }
    }

    /// The same, which is ours to mend.
    pub fn mended_by(self, mend: Mend) -> Self {
        Self { mend: Some(mend), ..self }
    }

    /// Mends it, if it is ours to.
    pub fn fix(&mut self) {
        self.mended = self.mend.as_ref().map(Mend::carry_out);
    }

    /// Whether it still stands.
    pub fn stands(&self) -> bool {
        !matches!(self.mended, Some(Ok(_)))
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let (fixed, failed) = match &self.mended {
            None => (None, None),
            Some(Ok(done)) => (Some(done.as_str()), None),
            Some(Err(why)) => (None, Some(why.as_str())),
        };
        json!({
            "id": self.id,
            "severity": self.severity.name(),
            "what": self.what,
            "why": self.why,
            "command": self.command,
            "fixable": self.mend.is_some(),
            "fixed": fixed,
            "fixFailed": failed,
        })
    }
}

/// What opens a file where its fault stands.
pub fn edits(path: &Path, line: Option<&str>) -> String {
    let at = line.map(|line| format!("+{line} ")).unwrap_or_default();
    format!("${{EDITOR:-vi}} {at}{}", quoted(path))
}

/// What has the file system written to again on which this lies.
pub fn remounts(path: &Path) -> String {
    format!("sudo mount -o remount,rw \"$(findmnt -n -o TARGET -T {})\"", quoted(path))
}

/// A path as a shell takes it for one word.
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'+');
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_mended_stands_no_more_and_what_could_not_be_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left");
        fs::write(&path, "x").unwrap();
        let finding = Finding::error("a.b", "what", "why", "command");
        assert!(finding.stands());
        let mut ours = finding.mended_by(Mend::Mode(path.clone(), 0o600));
        ours.fix();
        assert!(!ours.stands() && fs::metadata(&path).unwrap().permissions().mode() & 0o777 == 0o600);
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        ours.mend = Some(Mend::Remove(path.clone(), written));
        ours.fix();
        assert!(!path.exists() && !ours.stands());
        ours.fix();
        assert!(ours.stands() && ours.to_json()["fixFailed"].as_str().unwrap().contains("left"));
    }

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        assert_eq!(quoted(Path::new("/a/b-c.d")), "/a/b-c.d");
        assert_eq!(quoted(Path::new("/a b/c'd")), "'/a b/c'\\''d'");
    }

    #[test]
    fn what_somebody_uses_by_now_is_not_removed() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("data");
        let path = folder.join(socket::SERVER);
        let mend = Mend::RemoveSocket(path.clone());
        let owned = DataFolder::own(&folder).unwrap();
        let (listener, name) = socket::bind(&folder, socket::SERVER).unwrap();
        assert!(mend.carry_out().unwrap_err().contains("process"), "a server owns the folder");
        drop(owned);
        assert!(mend.carry_out().unwrap_err().contains("by now"), "somebody listens");
        drop(listener);
        assert!(mend.carry_out().is_ok() && !path.exists());
        drop(name);
        let half = place.path().join("half");
        fs::write(&half, "").unwrap();
        let written = fs::metadata(&half).unwrap().modified().unwrap();
        assert!(Mend::Remove(half.clone(), SystemTime::UNIX_EPOCH).carry_out().is_err() && half.exists());
        assert!(Mend::Remove(half.clone(), written).carry_out().is_ok() && !half.exists());
        let nook = DataFolder::nook(&folder, "1").unwrap();
        assert!(Mend::RemoveFolder(nook.path().to_owned()).carry_out().is_err() && nook.path().exists());
    }
}
