//! The whole database as one SQLite file, and back: whichever database it is, a copy of it is of one kind.
//!
//! Reading order: [`tables`], which tables there are and their rows as texts; [`dump`], the way out; [`census`], what a
//! copy holds and whether it is sound; [`load`], the way into a database server. Which tables and columns there are is
//! asked of the databases themselves, so that none can be forgotten. Must not know where copies are kept.

pub mod census;
mod dump;
mod load;
pub(super) mod tables;

pub use census::Census;
pub use dump::dump;
pub use load::{is_replaced, replace};

#[cfg(not(feature = "sqlite"))]
use std::path::Path;

#[cfg(not(feature = "sqlite"))]
use super::StorageError;

/// What copies need, whichever database they are of.
#[cfg(not(feature = "sqlite"))]
fn without_sqlite(path: &Path) -> StorageError {
    StorageError::Unsupported {
        place: format!("a copy of the database ({})", path.display()),
        feature: "sqlite",
    }
}
