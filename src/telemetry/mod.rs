//! What is told about the work while it goes on: the log, and what must never be told.

pub mod logging;
pub mod redaction;
