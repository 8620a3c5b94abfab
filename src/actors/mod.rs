//! Who does what, when.

pub mod ask;
pub mod supervision;
