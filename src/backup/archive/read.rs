//! Reading an archive that may be anybody's work.

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tar::{Archive, Entries, EntryType};
use zstd::Decoder;

use crate::backup::files::{self, hex};
use crate::backup::manifest::{Entry, MANIFEST, MANIFEST_MAX_BYTES, SEAL};
use crate::backup::{BackupError, Manifest, Progress, Told};

const BUFFER_BYTES: usize = 256 << 10;
/// The memory that an archive may make zstd use: 16 MiB; those that this program writes need 2.
const WINDOW_LOG_MAX: u32 = 24;
/// A seal is 64 digits.
const SEAL_MAX_BYTES: u64 = 256;
/// What may stand behind the last entry: the end of a tar, which fills up a block.
const TAIL_MAX_BYTES: u64 = 64 << 10;

/// What stands before the entries.
#[derive(Debug, Clone)]
pub struct Head {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The same as it stands there: what is sealed.
    pub text: Vec<u8>,
    /// Its seal.
    pub seal: Option<String>,
}

/// What is done with the head, before anything is read that it lists: the place to refuse.
pub type Begin<'a> = &'a mut dyn FnMut(&Head) -> Result<(), BackupError>;
/// Where an entry is written to; none for one that is only checked.
pub type Place<'a> = &'a mut dyn FnMut(&Entry) -> Result<Option<PathBuf>, BackupError>;

type Tar = Archive<Decoder<'static, BufReader<File>>>;

/// Reads the head alone.
///
/// # Errors
/// When it is no archive of ours, or a newer one.
pub fn head(path: &Path) -> Result<Head, BackupError> {
    let mut tar = open(path)?;
    let mut entries = tar.entries().map_err(|error| damaged(path, &error))?.raw(true);
    read_head(path, &mut entries)
}

/// Reads all of it, and checks it all. What is written is on the disk then.
///
/// # Errors
/// When anything is not as the manifest says; when there is no room; and what `begin` and `place` say.
pub fn take(path: &Path, begin: Begin<'_>, place: Place<'_>, told: Told<'_>) -> Result<Head, BackupError> {
    let mut tar = open(path)?;
    let mut entries = tar.entries().map_err(|error| damaged(path, &error))?.raw(true);
    let head = read_head(path, &mut entries)?;
    begin(&head)?;
    let all = head.manifest.bytes();
    let mut before = 0;
    for wanted in &head.manifest.entries {
        let mut found = next(path, &mut entries)?;
        check(path, &found, &wanted.name, wanted.bytes)?;
        let mut copy = Copy::begin(place(wanted)?)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = found.read(&mut buffer).map_err(|error| damaged(path, &error))?;
            let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { break };
            copy.write(part)?;
            told(Progress::Bytes(before + copy.bytes, all));
        }
        if copy.end()? != (wanted.bytes, wanted.sha256.clone()) {
            return Err(BackupError::damaged(path, format!("{} is not what its manifest says", wanted.name)));
        }
        before += wanted.bytes;
    }
    if entries.next().is_some() {
        return Err(BackupError::damaged(path, "it has more in it than its manifest lists"));
    }
    read_out(path, tar)?;
    Ok(head)
}

/// An entry on its way to where it is wanted, hashed as it goes.
struct Copy {
    to: Option<(File, PathBuf)>,
    hash: Sha256,
    bytes: u64,
}

impl Copy {
    fn begin(path: Option<PathBuf>) -> Result<Self, BackupError> {
        let made = path.map(|path| match files::make(&path) {
            Ok(file) => Ok((file, path)),
            Err(error) => Err(BackupError::of_file(&path, &error)),
        });
        Ok(Self { to: made.transpose()?, hash: Sha256::new(), bytes: 0 })
    }

    fn write(&mut self, part: &[u8]) -> Result<(), BackupError> {
        self.hash.update(part);
        self.bytes += part.len() as u64;
        match &mut self.to {
            Some((file, path)) => file.write_all(part).map_err(|error| BackupError::of_file(path, &error)),
            None => Ok(()),
        }
    }

    fn end(self) -> Result<(u64, String), BackupError> {
        if let Some((file, path)) = self.to {
            file.sync_all().map_err(|error| BackupError::of_file(&path, &error))?;
        }
        Ok((self.bytes, hex(&self.hash.finalize())))
    }
}

fn open(path: &Path) -> Result<Tar, BackupError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BackupError::Missing(path.display().to_string()),
        _ => BackupError::of_file(path, &error),
    })?;
    let about = file.metadata().map_err(|error| BackupError::of_file(path, &error))?;
    if !about.is_file() {
        return Err(BackupError::damaged(path, "it is no plain file"));
    }
    let mut decoder = Decoder::new(file).map_err(|error| damaged(path, &error))?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(|error| damaged(path, &error))?;
    Ok(Archive::new(decoder))
}

fn read_head<R: Read>(path: &Path, entries: &mut Entries<'_, R>) -> Result<Head, BackupError> {
    let text = small(path, next(path, entries)?, MANIFEST, MANIFEST_MAX_BYTES)?;
    let manifest = Manifest::read(&path.display().to_string(), &text)?;
    let seal = match manifest.sealed_by {
        None => None,
        Some(_) => {
            let seal = small(path, next(path, entries)?, SEAL, SEAL_MAX_BYTES)?;
            Some(String::from_utf8_lossy(&seal).trim().to_owned())
        }
    };
    Ok(Head { manifest, text, seal })
}

fn next<'a, R: Read>(path: &Path, entries: &mut Entries<'a, R>) -> Result<tar::Entry<'a, R>, BackupError> {
    match entries.next() {
        Some(found) => found.map_err(|error| damaged(path, &error)),
        None => Err(BackupError::damaged(path, "it ends too early")),
    }
}

fn small<R: Read>(
    path: &Path,
    found: tar::Entry<'_, R>,
    name: &str,
    most: u64,
) -> Result<Vec<u8>, BackupError> {
    let bytes = found.size();
    if bytes > most {
        return Err(BackupError::damaged(path, format!("its {name} is larger than {most} bytes")));
    }
    check(path, &found, name, bytes)?;
    let mut text = Vec::new();
    let read = found.take(most).read_to_end(&mut text).map_err(|error| damaged(path, &error))?;
    if read as u64 != bytes {
        return Err(BackupError::damaged(path, "it ends too early"));
    }
    Ok(text)
}

/// Links, devices, sparse files and whatever else a tar can hold are none of ours.
fn check<R: Read>(path: &Path, found: &tar::Entry<'_, R>, name: &str, bytes: u64) -> Result<(), BackupError> {
    let is_it = found.path_bytes().as_ref() == name.as_bytes();
    if !is_it || found.header().entry_type() != EntryType::Regular || found.size() != bytes {
        let shown = String::from_utf8_lossy(&found.path_bytes()).chars().take(100).collect::<String>();
        return Err(BackupError::damaged(path, format!("it has {shown:?} where {name} should be")));
    }
    Ok(())
}

/// Reads on to the end, so that zstd's checksum is held against all of it.
fn read_out(path: &Path, tar: Tar) -> Result<(), BackupError> {
    let mut rest = Vec::new();
    let mut tail = tar.into_inner().take(TAIL_MAX_BYTES);
    tail.read_to_end(&mut rest).map_err(|error| damaged(path, &error))?;
    if tail.limit() == 0 || rest.iter().any(|byte| *byte != 0) {
        return Err(BackupError::damaged(path, "something stands behind its end"));
    }
    Ok(())
}

fn damaged(path: &Path, error: &io::Error) -> BackupError {
    BackupError::damaged(path, format!("it cannot be read on ({error})"))
}
