//! Who does what, when.

pub mod ask;
pub mod db;
pub mod supervision;
