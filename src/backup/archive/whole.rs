//! Whether an archive is all there, told without unpacking it: its head is read, and the frame of zstd walked along from one
//! block's size to the next. A byte that changed within a block is not found so, nor is the checksum held against anything:
//! that is what `verify` is for. Must not know what entries mean.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::head;
use crate::backup::BackupError;

/// How a frame of zstd begins, RFC 8878.
const MAGIC: u32 = 0xFD2F_B528;
/// A block whose one byte stands for all of it.
const REPEATED: u32 = 1;
/// A kind of block that there is not.
const RESERVED: u32 = 3;
const BLOCK_HEAD_BYTES: u64 = 3;
const CHECKSUM_BYTES: u64 = 4;

/// Looks whether it has a head that makes sense, and is neither cut off nor goes on behind its end.
///
/// # Errors
/// When it is not whole, is newer, or cannot be read.
pub fn look_through(path: &Path) -> Result<(), BackupError> {
    head(path)?;
    let unusable = |error: io::Error| BackupError::of_file(path, &error);
    let file = File::open(path).map_err(unusable)?;
    let bytes = file.metadata().map_err(unusable)?.len();
    let end = end_of(&file).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::damaged(path, "it ends too early"),
        io::ErrorKind::InvalidData => BackupError::damaged(path, "it is no frame of zstd"),
        _ => unusable(error),
    })?;
    match end.cmp(&bytes) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(BackupError::damaged(path, "it ends too early")),
        std::cmp::Ordering::Less => Err(BackupError::damaged(path, "something stands behind its end")),
    }
}

/// Where the frame ends by what its blocks say of themselves, whether or not the file is as long.
fn end_of(file: &File) -> io::Result<u64> {
    let mut head = [0; 5];
    file.read_exact_at(&mut head, 0)?;
    let [a, b, c, d, descriptor] = head;
    if u32::from_le_bytes([a, b, c, d]) != MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let is_single = descriptor & 0b10_0000 != 0;
    let window = u64::from(!is_single);
    let dictionary = [0, 1, 2, 4].into_iter().nth(usize::from(descriptor & 0b11)).unwrap_or_default();
    let content = match (descriptor >> 6, is_single) {
        (0, false) => 0,
        (0, true) => 1,
        (flag, _) => 1_u64 << flag,
    };
    let mut at = head.len() as u64 + window + dictionary + content;
    loop {
        let mut block = [0; BLOCK_HEAD_BYTES as usize];
        file.read_exact_at(&mut block, at)?;
        let [a, b, c] = block;
        let block = u32::from_le_bytes([a, b, c, 0]);
        let bytes = match (block >> 1) & 0b11 {
            REPEATED => 1,
            RESERVED => return Err(io::ErrorKind::InvalidData.into()),
            _ => u64::from(block >> 3),
        };
        at += BLOCK_HEAD_BYTES + bytes;
        if block & 1 == 1 {
            break;
        }
    }
    Ok(at + if descriptor & 0b100 == 0 { 0 } else { CHECKSUM_BYTES })
}

#[cfg(test)]
pub(in crate::backup) mod tests {
    use std::fs;

    use super::*;
    use crate::backup::Manifest;
    use crate::backup::archive::{Source, write};
    use crate::backup::manifest::{DATABASE, Entry, FORMAT};
    use crate::storage::transfer::Census;

    /// Lays a backup there whose database is of so many bytes and makes no sense.
    pub(in crate::backup) fn lay(path: &Path, bytes: usize) {
        // Not one that zstd makes small, so that it has several blocks.
        let database: Vec<u8> =
            (0..bytes as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
        let entry = Entry { name: DATABASE.to_owned(), bytes: bytes as u64, sha256: String::new() };
        let manifest = Manifest {
            format: FORMAT,
            version: "0.1.0".to_owned(),
            made_at: "2026-11-28T00:00:00Z".to_owned(),
            backend: "sqlite".to_owned(),
            database: Census::default(),
            entries: vec![entry],
            left_out: Vec::new(),
            secrets: None,
            sealed_by: None,
        };
        let text = serde_json::to_vec(&manifest).unwrap();
        write(path, &manifest, &text, None, &[Source::Bytes(database)], &|_progress| ()).unwrap();
    }

    #[test]
    fn one_that_was_cut_off_or_goes_on_behind_its_end_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        for bytes in [0, 10, 1_000_000] {
            lay(&path, bytes);
            look_through(&path).unwrap();
            let whole = fs::read(&path).unwrap();
            for left in [0, 40, whole.len() / 2, whole.len() - 5, whole.len() - 1] {
                fs::write(&path, &whole[..left]).unwrap();
                let looked = look_through(&path);
                assert!(matches!(looked, Err(BackupError::Damaged { .. })), "{left} of {}", whole.len());
            }
            fs::write(&path, &whole[..whole.len() / 2]).unwrap();
            assert_eq!(head(&path).is_ok(), bytes > 1_000, "the head alone tells nothing of a long one");
            fs::write(&path, [&*whole, b"x"].concat()).unwrap();
            let error = look_through(&path).unwrap_err().to_string();
            assert!(error.contains("behind its end"), "{error}");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_is_no_archive_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        fs::write(&path, [0; 4096]).unwrap();
        assert!(matches!(look_through(&path), Err(BackupError::Damaged { .. })));
        assert_eq!(end_of(&File::open(&path).unwrap()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(matches!(look_through(folder.path()), Err(BackupError::Damaged { .. })));
        assert!(matches!(look_through(&folder.path().join("none")), Err(BackupError::Missing(_))));
    }
}
