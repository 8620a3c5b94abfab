//! `serve`: the server, from its start to its end.

use std::process::ExitCode;

use super::{Exit, output};
use crate::config::Loaded;

/// Runs the server until it is told to stop.
pub fn run(loaded: Loaded) -> ExitCode {
    output::say(&format!("waygate-mcp: nothing serves {} yet", loaded.config.server.host));
    Exit::Internal.into()
}
