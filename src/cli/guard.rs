//! `guard`: the hidden verb under which Waygate runs child processes. Nobody types it.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use super::{Exit, output};
use crate::app;

/// What Waygate says to its guard.
#[derive(Debug, clap::Args)]
pub struct Guard {
    /// How long processes may take to end once they are asked to, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    grace_ms: u64,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Guards the program and ends with its status.
pub fn run(guard: &Guard) -> ExitCode {
    match app::keep_guard(&guard.command, Duration::from_millis(guard.grace_ms)) {
        Ok(status) => status.into(),
        Err(why) => {
            output::say(&format!("waygate-mcp: {why}"));
            Exit::Usage.into()
        }
    }
}
