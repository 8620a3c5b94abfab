//! What an operator types, as the built program answers it: the verbs of the history and of plugins, and the snippets for
//! clients; what is explained, and what the doctor finds; how a server bears load.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod chain;
#[cfg(test)]
mod checks;
#[cfg(test)]
mod clients;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod doctor;
#[cfg(test)]
mod env_file;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod history;
#[cfg(test)]
mod install;
#[cfg(test)]
mod loadtest;
#[cfg(test)]
mod plugins;
#[cfg(test)]
mod queries;
#[cfg(test)]
mod running;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod stream;

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `waygate-mcp` on a data folder, in the environment of a test and in no other.
fn waygate(folder: &Path, words: &[&str]) -> Output {
    command(folder, words).output().unwrap()
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = command_in(folder, words);
    command.arg("--data-dir").arg(folder);
    command
}

/// The same, which says nothing of where the data are.
fn command_in(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(support::program("waygate-mcp"));
    command.args(words).stdin(Stdio::null());
    command.env_clear().env("HOME", folder).env("TZ", "UTC").current_dir(folder);
    command
}

/// What it wrote, when all went well.
fn said(folder: &Path, words: &[&str]) -> String {
    let output = waygate(folder, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Its exit code and what it wrote to stderr, when it refused.
fn refused(folder: &Path, words: &[&str]) -> (i32, String) {
    let output = waygate(folder, words);
    assert!(!output.status.success() && output.stdout.is_empty(), "{words:?} should be refused");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}
