//! Writing an archive under a name that nobody takes for one, and renaming it when it is whole and on the disk.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tar::{Builder, EntryType, Header};
use zstd::Encoder;

use crate::backup::files::{self, Passing};
use crate::backup::manifest::{MANIFEST, SEAL};
use crate::backup::{BackupError, Manifest, Progress, Told};

/// How hard zstd tries: its own default, faster than most disks.
const LEVEL: i32 = 3;
const BUFFER_BYTES: usize = 256 << 10;

/// Where the bytes of an entry come from.
pub enum Source {
    /// From memory.
    Bytes(Vec<u8>),
    /// From a file.
    File(PathBuf),
}

/// Writes an archive to `path`: `sources` are what the entries of the manifest are made from, in their order.
///
/// # Errors
/// When it cannot be written; then nothing of it is left.
pub fn write(
    path: &Path,
    manifest: &Manifest,
    text: &[u8],
    seal: Option<&str>,
    sources: &[Source],
    told: Told<'_>,
) -> Result<(), BackupError> {
    let partial = Passing::new(hidden(path, "partial"));
    let file = files::make(partial.path()).map_err(|error| BackupError::of_file(path, &error))?;
    let written = fill(&file, manifest, text, seal, sources, told).and_then(|()| file.sync_all());
    written
        .and_then(|()| fs::rename(partial.path(), path))
        .map_err(|error| BackupError::of_file(path, &error))?;
    files::sync_folder(path.parent().unwrap_or(path))
}

/// A hidden name beside `path`, for what is in the making.
pub fn hidden(path: &Path, end: &str) -> PathBuf {
    path.with_file_name(format!(".{}.{end}", path.file_name().unwrap_or_default().to_string_lossy()))
}

fn fill(
    file: &File,
    manifest: &Manifest,
    text: &[u8],
    seal: Option<&str>,
    sources: &[Source],
    told: Told<'_>,
) -> io::Result<()> {
    let mut encoder = Encoder::new(BufWriter::with_capacity(BUFFER_BYTES, file), LEVEL)?;
    encoder.include_checksum(true)?;
    let mut tar = Builder::new(encoder);
    append(&mut tar, MANIFEST, text.len() as u64, text)?;
    if let Some(seal) = seal {
        append(&mut tar, SEAL, seal.len() as u64, seal.as_bytes())?;
    }
    let all = manifest.bytes();
    let mut before = 0;
    for (entry, source) in manifest.entries.iter().zip(sources) {
        match source {
            Source::Bytes(bytes) => append(&mut tar, &entry.name, entry.bytes, bytes.as_slice())?,
            Source::File(path) => {
                let heard = Heard { inner: File::open(path)?, before, read: 0, all, told };
                append(&mut tar, &entry.name, entry.bytes, heard)?;
            }
        }
        before += entry.bytes;
    }
    tar.into_inner()?.finish()?.flush()
}

fn append(tar: &mut Builder<impl Write>, name: &str, bytes: u64, from: impl Read) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(bytes);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    header.set_mtime(now.as_secs());
    header.set_cksum();
    let mut from = from.take(bytes);
    tar.append(&header, &mut from)?;
    // A file that has become shorter would shift all that comes after it.
    if from.limit() > 0 {
        return Err(io::Error::other(format!("{name} became shorter while it was read")));
    }
    Ok(())
}

/// Tells how much was read.
struct Heard<'a, R> {
    inner: R,
    before: u64,
    read: u64,
    all: u64,
    told: Told<'a>,
}

impl<R: Read> Read for Heard<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        (self.told)(Progress::Bytes(self.before + self.read, self.all));
        Ok(count)
    }
}
