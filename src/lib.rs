//! Waygate: an MCP server and gateway that is operated the way a database is.

pub mod actors;
pub mod cli;
pub mod config;
pub mod error;
pub mod plugins;
pub mod protocol;
pub mod storage;
