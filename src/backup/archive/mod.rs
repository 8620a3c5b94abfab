//! The bytes of a backup: `tar` within `zstd`, the manifest first, its seal, then exactly what the manifest lists.
//!
//! Whoever reads believes nothing: names, kinds and sizes are held against the manifest before a byte is written anywhere,
//! the hash of each entry behind it, and the whole against zstd's own checksum. Must not know what entries mean.

mod read;
mod whole;
mod write;

pub use read::{Head, Place, head, take};
pub use whole::look_through;
#[cfg(test)]
pub(in crate::backup) use whole::tests::lay;
pub use write::{Source, hidden, write};
