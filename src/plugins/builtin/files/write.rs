//! `write_file`: a new file beside the old one, made durable, then put in its place in one step.
//!
//! A reader sees the old contents or the new, never a mixture; a crash leaves one of both. Writers of one root wait for
//! each other (the caller holds its [`Usage`]). Must not know the gateway.

use std::io::{Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cap_std::fs::{
    Dir, File, Metadata, MetadataExt, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt,
};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::hex;
use super::read::Wanted;
use super::roots::{Place, open_file_at};
use super::trouble::Trouble;
use super::usage::{Growth, Usage};
use crate::plugins::Context;
use crate::protocol::content::ToolResult;

const TEMPORARY: &str = ".waygate-write-";
/// A sweep passes a folder once: it meets a new file of ours twice at most by a rare chance.
const CREATE_TRIES: usize = 8;
const BUFFER_BYTES: usize = 64 * 1024;

/// What a write does to what is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    #[default]
    Create,
    Overwrite,
    Append,
}

/// How the content is written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Encoding {
    #[default]
    #[serde(rename = "utf-8")]
    Text,
    #[serde(rename = "base64")]
    Base64,
}

/// The arguments of `write_file`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    pub(super) path: String,
    pub(super) content: String,
    #[serde(default)]
    pub(super) encoding: Encoding,
    #[serde(default)]
    pub(super) mode: Mode,
    pub(super) if_match: Option<String>,
    #[serde(default)]
    pub(super) create_parents: bool,
}

/// What the operator allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) write_max_bytes: u64,
    pub(super) quota_bytes: u64,
}

/// Whether a name is one that an unfinished write uses.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// Runs the tool.
pub(super) fn run(
    place: &Place,
    arguments: &Arguments,
    limits: Limits,
    usage: &mut Usage,
    context: &Context,
) -> Result<ToolResult, Trouble> {
    let added = content(arguments, limits)?;
    let (parent_place, name) = place.split().ok_or_else(|| Trouble::IsDirectory(place.shown()))?;
    if is_temporary(name) {
        return Err(Trouble::BadArgument(format!("names that begin with {TEMPORARY} are the server's own")));
    }
    let parent = match parent_place.open_dir() {
        Err(Trouble::Missing(_)) => None,
        opened => Some(opened?),
    };
    let old = match &parent {
        Some(parent) => open_old(parent, name, place)?,
        None if !arguments.create_parents => return Err(Trouble::NoParent(place.shown())),
        None => None,
    };
    check_old(old.as_ref(), arguments, place, context)?;
    let old_bytes = old.as_ref().map(|(_, metadata)| metadata.len());
    let kept_bytes = if arguments.mode == Mode::Append { old_bytes.unwrap_or_default() } else { 0 };
    let growth = Growth { old_bytes, new_bytes: kept_bytes.saturating_add(added.len() as u64) };
    usage.check(place, growth, limits.quota_bytes, context)?;
    let parent = match parent {
        Some(parent) => parent,
        None => create_parent(&parent_place)?,
    };
    let target = Target { parent: &parent, name, place };
    let written = target.write(old, &added, arguments, context)?;
    usage.note(Growth { old_bytes, new_bytes: written.size });
    let is_new = old_bytes.is_none();
    Ok(render(place, &written, added.len(), is_new))
}

fn content(arguments: &Arguments, limits: Limits) -> Result<Vec<u8>, Trouble> {
    let bytes = match arguments.encoding {
        Encoding::Text => arguments.content.as_bytes().to_vec(),
        Encoding::Base64 => STANDARD.decode(arguments.content.trim()).map_err(|error| {
            Trouble::BadArgument(format!(
                "the content is not Base64 ({error}); encode it, or use encoding utf-8"
            ))
        })?,
    };
    let size = bytes.len() as u64;
    let max = limits.write_max_bytes;
    if size > max { Err(Trouble::WriteTooLarge { size, max }) } else { Ok(bytes) }
}

/// What stands there now. Links are not written through: the file would be another than the one named.
fn open_old(parent: &Dir, name: &str, place: &Place) -> Result<Option<(File, Metadata)>, Trouble> {
    let shown = place.shown();
    let metadata = match parent.symlink_metadata(name) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(|error| Trouble::of(&error, &shown, "examined"))?,
    };
    if metadata.is_symlink() {
        let target = place.root.dir.canonicalize(place.as_path()).ok();
        let advice = match target.as_deref().and_then(Path::to_str) {
            Some(target) => format!("write to {}/{target} instead", place.root.name),
            None => "choose another path".to_owned(),
        };
        return Err(Trouble::IsLink { path: shown, advice });
    }
    if metadata.is_file() && metadata.mode() & 0o222 == 0 {
        return Err(Trouble::Denied(format!("{shown} for writing, because the file is marked read-only")));
    }
    open_file_at(parent, Path::new(name), OFlags::NOFOLLOW, &shown).map(Some)
}

fn check_old(
    old: Option<&(File, Metadata)>,
    arguments: &Arguments,
    place: &Place,
    context: &Context,
) -> Result<(), Trouble> {
    if arguments.mode == Mode::Create && old.is_some() {
        return Err(Trouble::Exists(place.shown()));
    }
    let (Some(expected), old) = (&arguments.if_match, old) else {
        return Ok(());
    };
    let (file, _) = old.ok_or_else(|| Trouble::Missing(place.shown()))?;
    let mut hasher = Sha256::new();
    copy(file, place, context, &mut |bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    let actual = hex(&hasher.finalize());
    if actual.eq_ignore_ascii_case(expected.trim()) {
        Ok(())
    } else {
        Err(Trouble::Mismatch { path: place.shown(), actual })
    }
}

/// Hands a file from its beginning to `take`, piece by piece.
fn copy(
    file: &File,
    place: &Place,
    context: &Context,
    take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<u64, Trouble> {
    let trouble = |error: std::io::Error| Trouble::of(&error, &place.shown(), "read");
    let mut file = file.try_clone().map_err(trouble)?;
    std::io::Seek::rewind(&mut file).map_err(trouble)?;
    let mut source = Wanted { inner: file, context };
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut total = 0;
    loop {
        let count = source.read(&mut buffer).map_err(trouble)?;
        if count == 0 {
            return Ok(total);
        }
        take(buffer.get(..count).unwrap_or_default()).map_err(trouble)?;
        total += count as u64;
    }
}

fn create_parent(parent: &Place) -> Result<Dir, Trouble> {
    let made = parent.root.dir.create_dir_all(parent.as_path());
    made.map_err(|error| Trouble::of(&error, &parent.shown(), "created"))?;
    parent.open_dir()
}

/// What a write left behind.
#[derive(Debug)]
struct Written {
    size: u64,
    sha256: String,
}

/// Where a write goes.
struct Target<'a> {
    parent: &'a Dir,
    name: &'a str,
    place: &'a Place,
}

impl Target<'_> {
    fn write(
        &self,
        old: Option<(File, Metadata)>,
        added: &[u8],
        arguments: &Arguments,
        context: &Context,
    ) -> Result<Written, Trouble> {
        let trouble = |error: std::io::Error| Trouble::of(&error, &self.place.shown(), "written");
        let mut temporary = Temporary::create(self.parent).map_err(trouble)?;
        let mut hasher = Sha256::new();
        let mut size = added.len() as u64;
        if let (Mode::Append, Some((file, _))) = (arguments.mode, &old) {
            size += copy(file, self.place, context, &mut |bytes| {
                hasher.update(bytes);
                temporary.file.write_all(bytes)
            })?;
        }
        hasher.update(added);
        temporary.file.write_all(added).map_err(trouble)?;
        if let Some((_, metadata)) = &old {
            // Neither setuid nor setgid: the contents are no longer those that were trusted with it.
            let mode = Permissions::from_mode(metadata.mode() & 0o777);
            temporary.file.set_permissions(mode).map_err(trouble)?;
        }
        temporary.file.sync_all().map_err(trouble)?;
        let relies_on_old = arguments.mode == Mode::Append || arguments.if_match.is_some();
        if relies_on_old && !self.is_still(old.as_ref()) {
            return Err(Trouble::Changed(self.place.shown()));
        }
        if !context.is_wanted() {
            return Err(Trouble::GivenUp);
        }
        match arguments.mode {
            Mode::Create => temporary.put_if_absent(self.name),
            Mode::Overwrite | Mode::Append => temporary.put(self.name),
        }
        .map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::EXIST) => Trouble::Exists(self.place.shown()),
            _ => trouble(error),
        })?;
        sync_dir(self.parent).map_err(trouble)?;
        Ok(Written { size, sha256: hex(&hasher.finalize()) })
    }

    /// Whether the name still means the file that was looked at, unchanged. Between this and the rename lies a moment
    /// in which another program (not another writer of ours) can still interfere: no system call does both.
    fn is_still(&self, old: Option<&(File, Metadata)>) -> bool {
        let identity = |metadata: &Metadata| {
            (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
        };
        let now = self.parent.symlink_metadata(self.name);
        match (old, now) {
            (Some((_, old)), Ok(now)) => identity(old) == identity(&now),
            (None, Err(error)) => error.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

/// A file that is not there yet; removed unless it is put in its place.
struct Temporary<'a> {
    parent: &'a Dir,
    name: String,
    file: File,
}

impl<'a> Temporary<'a> {
    /// Only we may read it, like all that we make; what replaces a file gets the mode of that one later. Locked as long as
    /// we write, so that it is known for one of the living; made anew if a sweep took it before it was.
    fn create(parent: &'a Dir) -> std::io::Result<Self> {
        for _ in 0..CREATE_TRIES {
            let temporary = Self::open(parent)?;
            if temporary.hold()? {
                return Ok(temporary);
            }
        }
        Err(std::io::Error::other("what sweeps unfinished writes away took each new one, too"))
    }

    fn open(parent: &'a Dir) -> std::io::Result<Self> {
        let name = format!("{TEMPORARY}{}", uuid::Uuid::now_v7().simple());
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = parent.open_with(&name, &options)?;
        Ok(Self { parent, name, file })
    }

    /// Whether it is ours now: locked, and still there.
    fn hold(&self) -> std::io::Result<bool> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(self.file.metadata()?.nlink() > 0),
            Err(Errno::WOULDBLOCK) => Ok(false),
            // A file system without locks has one server at most that sweeps it.
            Err(_) => Ok(true),
        }
    }

    /// Replaces what has the name now, whatever it is; a link itself, not what it points to.
    fn put(&self, name: &str) -> std::io::Result<()> {
        self.parent.rename(&self.name, self.parent, name)
    }

    /// Takes the name only if nothing has it.
    fn put_if_absent(&self, name: &str) -> std::io::Result<()> {
        match self.parent.hard_link(&self.name, self.parent, name) {
            // A file system without hard links: look, then rename. Our own writers wait for each other.
            Err(error) if is_without_links(&error) => {
                if self.parent.symlink_metadata(name).is_ok() {
                    return Err(Errno::EXIST.into());
                }
                self.put(name)
            }
            linked => linked,
        }
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // Gone already where it was renamed.
        let _ = self.parent.remove_file(&self.name);
    }
}

fn is_without_links(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK))
}

fn sync_dir(dir: &Dir) -> std::io::Result<()> {
    match dir.open(".")?.sync_all() {
        // Some file systems cannot; there the rename is as durable as it gets.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::OPNOTSUPP)) => Ok(()),
        synced => synced,
    }
}

fn render(place: &Place, written: &Written, added: usize, is_new: bool) -> ToolResult {
    let shown = place.shown();
    let did = if is_new { "created" } else { "replaced" };
    let says = format!(
        "{shown} was {did}: {added} bytes written, {} bytes in all, SHA-256 {}",
        written.size, written.sha256
    );
    ToolResult::text(says).with_structured(json!({
        "path": shown,
        "uri": place.uri(),
        "created": is_new,
        "bytes_written": added,
        "size_bytes": written.size,
        "sha256": written.sha256,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bed;
    use super::*;

    /// What happens when somebody else acts between our look at the file and our rename.
    fn write_after(interfere: impl FnOnce(&Bed), arguments: &Arguments) -> (Bed, Result<Written, Trouble>) {
        let bed = Bed::new();
        bed.put("a", "old");
        let place = bed.place("a");
        let parent = bed.place("").open_dir().unwrap();
        let old = open_old(&parent, "a", &place).unwrap();
        interfere(&bed);
        let target = Target { parent: &parent, name: "a", place: &place };
        let written = target.write(old, b"new", arguments, &bed.context());
        (bed, written)
    }

    #[test]
    fn what_somebody_else_changed_meanwhile_is_left_as_they_made_it() {
        let if_match = Some(hex(&Sha256::digest("old")));
        for (mode, if_match) in [(Mode::Append, None), (Mode::Overwrite, if_match)] {
            let arguments = Arguments { mode, if_match, ..Arguments::default() };
            let (bed, written) = write_after(|bed| bed.put("a", "theirs"), &arguments);
            assert!(matches!(written, Err(Trouble::Changed(_))));
            assert_eq!(bed.get("a"), "theirs");
            let (bed, _) = write_after(|_| (), &arguments);
            assert!(bed.get("a").ends_with("new"));
        }
    }

    #[test]
    fn a_file_that_appeared_meanwhile_is_not_replaced_by_create() {
        let (bed, written) = write_after(|bed| bed.put("a", "theirs"), &Arguments::default());
        assert!(matches!(written, Err(Trouble::Exists(_))));
        assert_eq!(bed.get("a"), "theirs");
    }

    #[test]
    fn an_unfinished_file_that_was_swept_before_it_was_locked_is_made_anew() {
        let bed = Bed::new();
        let parent = bed.place("").open_dir().unwrap();
        let swept = Temporary::open(&parent).unwrap();
        parent.remove_file(&swept.name).unwrap();
        assert!(!swept.hold().unwrap());
        let sweeping = Temporary::open(&parent).unwrap();
        let other = File::from_std(std::fs::File::open(bed.path(&sweeping.name)).unwrap());
        flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(!sweeping.hold().unwrap());
        drop(other);
        assert!(sweeping.hold().unwrap());
        assert!(Temporary::create(&parent).is_ok());
    }

    #[test]
    fn a_link_that_appeared_meanwhile_is_replaced_and_not_written_through() {
        let arguments = Arguments { mode: Mode::Overwrite, ..Arguments::default() };
        let swap = |bed: &Bed| {
            bed.put("other", "untouched");
            std::fs::remove_file(bed.path("a")).unwrap();
            bed.link("other", "a");
        };
        let (bed, written) = write_after(swap, &arguments);
        written.unwrap();
        assert_eq!((bed.get("a"), bed.get("other")), ("new".to_owned(), "untouched".to_owned()));
    }
}
