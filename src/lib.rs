//! Waygate: an MCP server and gateway that is operated the way a database is.

pub mod http;
pub mod config;
pub mod protocol;
pub mod access;
pub mod actors;
pub mod catalog;
pub mod storage;
pub mod telemetry;
pub mod plugins;
pub mod error;
