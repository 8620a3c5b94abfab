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
    /// Whose guard it is: by it one that lost its server is known in the table of processes
    #[arg(long, value_name = "PID")]
    server: Option<u32>,
    /// What the program may use, in JSON
    #[arg(long, value_name = "JSON")]
    confine: Option<OsString>,
    /// Do not guard the program, but become it, and use no more than this
    #[arg(long, value_name = "JSON", conflicts_with = "confine")]
    enter: Option<OsString>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Guards the program and ends with its status.
pub fn run(guard: &Guard) -> ExitCode {
    if let Some(confinement) = &guard.enter {
        // It comes back only when it cannot, which the guard knows by now.
        output::say(&format!("waygate-mcp: {}", app::enter_confinement(confinement, &guard.command)));
        return Exit::Usage.into();
    }
    let grace = Duration::from_millis(guard.grace_ms);
    match app::keep_guard(&guard.command, grace, guard.confine.as_deref()) {
        Ok(status) => status.into(),
        Err(why) => {
            output::say(&format!("waygate-mcp: {why}"));
            Exit::Usage.into()
        }
    }
}
