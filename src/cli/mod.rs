//! What an operator can type; one file a verb.

pub mod db;
pub mod history;
