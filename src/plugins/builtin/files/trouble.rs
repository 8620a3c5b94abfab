//! What can go wrong with files, in sentences that tell a model what to do. Must not know tools, nor any host path.

use std::io;

use rustix::io::Errno;

use crate::protocol::content::ToolResult;

/// Why a file operation failed. Paths are always `root/relative`, never the host's.
#[derive(Debug, thiserror::Error)]
pub(in crate::plugins::builtin) enum Trouble {
    #[error("there is no {0}; list_directory shows what is there")]
    Missing(String),
    #[error("the path {path:?} cannot be used: {why}; write it as root/folder/file, below one of: {roots}")]
    BadPath { path: String, why: &'static str, roots: String },
    #[error("{0} is a directory; use list_directory to see what it holds, or name a file in it")]
    IsDirectory(String),
    #[error("{0} is not a directory; use read_file to read it, or name the directory that it lies in")]
    NotDirectory(String),
    #[error("{0} is a pipe, a socket or a device; only regular files and directories can be used")]
    NotRegular(String),
    #[error("{0} leads out of its root through a symbolic link; choose a path that stays inside the root")]
    Outside(String),
    #[error("{0} is a symbolic link that leads to itself; choose another path")]
    Loop(String),
    #[error("{path} is a symbolic link and is not written through; {advice}")]
    IsLink { path: String, advice: String },
    #[error(
        "the server may not access {0}; ask the operator to change its permissions, or choose another path"
    )]
    Denied(String),
    #[error("the root {root} is read-only; {advice}")]
    ReadOnly { root: String, advice: String },
    #[error("{path} is {size} bytes, more than the {max} that one read may return; {advice}")]
    TooLarge { path: String, size: u64, max: u64, advice: &'static str },
    #[error(
        "the content is {size} bytes, more than the {max} that one write may bring; write the first part with mode \
         create, then the others with mode append"
    )]
    WriteTooLarge { size: u64, max: u64 },
    #[error(
        "the root {root} holds {used} of its {quota} bytes, so {path} cannot become {size} bytes; make other files \
         smaller, or ask the operator to raise files.quota_bytes"
    )]
    Quota { root: String, used: u64, quota: u64, path: String, size: u64 },
    #[error("the root {root} holds {entries} entries, the most it may; ask the operator to clear it up")]
    TooMany { root: String, entries: u64 },
    #[error("{0} exists already; use mode overwrite to replace it, or mode append to add to it")]
    Exists(String),
    #[error("the folder of {0} does not exist; set create_parents to true to create it")]
    NoParent(String),
    #[error(
        "{path} is not what if_match says: its SHA-256 is {actual}; read it again, then write with that value as \
         if_match"
    )]
    Mismatch { path: String, actual: String },
    #[error(
        "{0} was changed by somebody else during the write, and was left as they made it; read it and try again"
    )]
    Changed(String),
    #[error("{path} is not UTF-8 text there ({at}); read it with encoding base64")]
    NotText { path: String, at: String },
    #[error("{0}")]
    BadArgument(String),
    #[error("the disk of the root {0} is full; ask the operator to make room")]
    DiskFull(String),
    #[error(
        "the work was given up before it was done: it was cancelled or its time ran out; ask for less at once"
    )]
    GivenUp,
    #[error("{path} could not be {doing}: {kind}; try again, and tell the operator if it fails again")]
    Io { path: String, doing: &'static str, kind: io::ErrorKind },
}

impl Trouble {
    /// What the system said about `path` (as the model knows it) while it was being `doing` ("read", "written").
    pub(super) fn of(error: &io::Error, path: &str, doing: &'static str) -> Self {
        let path = path.to_owned();
        match Errno::from_io_error(error) {
            Some(Errno::NOENT) => Self::Missing(path),
            Some(Errno::ISDIR) => Self::IsDirectory(path),
            Some(Errno::NOTDIR) => Self::NotDirectory(path),
            Some(Errno::LOOP) => Self::Loop(path),
            Some(Errno::NXIO | Errno::NODEV) => Self::NotRegular(path),
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied(path),
            Some(Errno::XDEV) => Self::Outside(path),
            Some(Errno::NAMETOOLONG) => {
                Self::BadArgument(format!("the path {} is too long; use a shorter one", shortened(&path)))
            }
            Some(Errno::ROFS) => {
                Self::Denied(format!("{path} for writing, because its file system is mounted read-only"))
            }
            Some(Errno::NOSPC | Errno::DQUOT) => Self::DiskFull(root_of(&path)),
            // cap-std's own refusal has no number of the system.
            None if error.kind() == io::ErrorKind::PermissionDenied => Self::Outside(path),
            None if error.kind() == io::ErrorKind::TimedOut => Self::GivenUp,
            _ => Self::Io { path, doing, kind: error.kind() },
        }
    }

    /// Whether nothing that could be read stands behind the path, as far as the caller may know.
    pub(super) fn hides(&self) -> bool {
        matches!(
            self,
            Self::Missing(_)
                | Self::BadPath { .. }
                | Self::NotDirectory(_)
                | Self::Outside(_)
                | Self::Loop(_)
                | Self::NotRegular(_)
        )
    }

    /// As the result of a tool.
    pub(super) fn into_result(self) -> ToolResult {
        ToolResult::failed(self.to_string())
    }
}

/// The first segment of a path that was shown.
fn root_of(path: &str) -> String {
    path.split('/').next().unwrap_or_default().to_owned()
}

/// The beginning of a text that may be very long.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(errno: Errno) -> String {
        Trouble::of(&errno.into(), "docs/a.txt", "read").to_string()
    }

    #[test]
    fn each_error_of_the_system_becomes_a_sentence_that_says_what_to_do() {
        assert!(says(Errno::NOENT).contains("there is no docs/a.txt; list_directory"));
        assert!(says(Errno::ISDIR).contains("use list_directory"));
        assert!(says(Errno::NOTDIR).contains("is not a directory"));
        assert!(says(Errno::LOOP).contains("leads to itself"));
        assert!(says(Errno::NXIO).contains("pipe"));
        assert!(says(Errno::ACCESS).contains("may not access docs/a.txt"));
        assert!(says(Errno::NAMETOOLONG).contains("too long"));
        assert!(says(Errno::NOSPC).contains("root docs is full"));
        assert!(says(Errno::IO).contains("could not be read"));
    }

    #[test]
    fn an_escape_is_told_from_a_lack_of_permission() {
        let escape = io::Error::new(io::ErrorKind::PermissionDenied, "a path led outside of the filesystem");
        assert!(matches!(Trouble::of(&escape, "docs/a", "read"), Trouble::Outside(_)));
        assert!(matches!(Trouble::of(&Errno::ACCESS.into(), "docs/a", "read"), Trouble::Denied(_)));
    }

    #[test]
    fn a_very_long_text_is_shown_by_its_beginning() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"ä".repeat(5000)).chars().count(), 81);
    }
}
