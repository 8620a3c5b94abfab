//! How the process ends: THE TABLE of exit codes. Must not know why.

use std::process::ExitCode;

/// What an exit code says. The numbers from 64 on are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Asked for something that did not succeed, such as a tool that failed.
    Failure,
    /// The command line makes no sense.
    Usage,
    /// No server answers.
    Unreachable,
    /// Waygate's own fault.
    Internal,
    /// A file, folder or socket cannot be made.
    CannotCreate,
    /// The database cannot be used.
    Storage,
    /// Not now; worth a retry.
    Temporary,
    /// The key, or the file permissions, say no.
    NotPermitted,
    /// The configuration is wrong.
    Configuration,
}

const TABLE: [(Exit, u8, &str); 10] = [
    (Exit::Ok, 0, "done"),
    (Exit::Failure, 1, "it did not succeed, as a tool that fails"),
    (Exit::Usage, 2, "the command line makes no sense"),
    (Exit::Unreachable, 69, "no server answers"),
    (Exit::Internal, 70, "Waygate's own fault"),
    (Exit::CannotCreate, 73, "a file, folder or socket cannot be made"),
    (Exit::Storage, 74, "the database cannot be used"),
    (Exit::Temporary, 75, "not now; worth a retry"),
    (Exit::NotPermitted, 77, "the key or the file permissions say no"),
    (Exit::Configuration, 78, "the configuration is wrong"),
];

impl Exit {
    /// Its number.
    pub fn code(self) -> u8 {
        TABLE.iter().find(|(exit, ..)| *exit == self).map_or(70, |(_, code, _)| *code)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What was typed and makes no sense, where that shows only once all of it is known.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub &'static str);

/// The table: each number and what it says.
pub fn codes() -> impl Iterator<Item = (u8, &'static str)> {
    TABLE.iter().map(|(_, code, meaning)| (*code, *meaning))
}

/// The table as `--help` shows it.
pub fn help() -> String {
    let line = |(_, code, meaning): &(Exit, u8, &str)| format!("  {code:>2}  {meaning}\n");
    format!("Exit codes:\n{}", TABLE.iter().map(line).collect::<String>())
}
