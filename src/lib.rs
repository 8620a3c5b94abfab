//! Waygate: an MCP server and gateway that is operated the way a database is.

pub mod config;
pub mod protocol;
pub mod actors;
pub mod plugins;
pub mod error;
