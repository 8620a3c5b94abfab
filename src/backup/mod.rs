//! Copies of all that matters, and the way back.
//!
//! A backup is one file, `waygate-<time>-<chance>.tar.zst`: a manifest first, then the database as one SQLite file whatever
//! it is here, the files of the configuration and of plugins, and, under a passphrase, `.env` and the sealing key. It
//! comes into being under another name and is renamed when it is whole. A restore checks everything before it touches
//! anything, keeps what was there, and leaves the old state or the new one, wherever it is cut off.
//!
//! Reading order: [`Places`], where everything is; [`manifest`], what a backup says of itself; [`archive`], its bytes;
//! [`create`](create()), [`shelf`], [`verify`](verify()), [`restore`], [`drill`](drill()). Must not know verbs or actors.

pub mod archive;
mod create;
mod drill;
mod error;
mod files;
pub mod manifest;
mod places;
pub mod restore;
mod seal;
pub mod shelf;
mod verify;

pub use create::{Made, create};
pub use drill::{Drilled, drill};
pub use error::BackupError;
pub use manifest::Manifest;
pub use places::Places;
pub use verify::{Authenticity, Verified, verify};

/// What long work says of how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// What it does now.
    Doing(&'static str),
    /// Rows so far.
    Rows(u64),
    /// Bytes so far, and in all.
    Bytes(u64, u64),
}

/// Who is told.
pub type Told<'a> = &'a dyn Fn(Progress);
