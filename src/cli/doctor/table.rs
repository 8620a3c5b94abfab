//! THE TABLE of checks: what each looks at, how long it may take, and whether it needs a configuration that is sound.
//!
//! `docs/doctor.md` shows it. Must not know how a check is done.

use std::time::Duration;

use super::checks::{
    backups, clock, config, crashes, database, disk, files, keys, logs, orphans, permissions, plugins, port,
    server, stale, streaming, tls, ulimits,
};
use super::finding::Finding;
use super::patient::Patient;

/// One check.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name, and the beginning of the names of what it finds.
    pub id: &'static str,
    /// What it looks at, in one sentence.
    pub looks_at: &'static str,
    /// What `--fix` mends of what it finds; empty when nothing.
    pub fixes: &'static str,
    /// How long it may take.
    pub within: Duration,
    /// Whether it needs a configuration that is sound.
    pub needs_config: bool,
    /// Looks.
    pub look: fn(&Patient) -> Vec<Finding>,
}

const QUICK: Duration = Duration::from_secs(15);
const LONG: Duration = Duration::from_secs(120);

const fn check(id: &'static str, look: fn(&Patient) -> Vec<Finding>, looks_at: &'static str) -> Check {
    Check { id, looks_at, fixes: "", within: QUICK, needs_config: true, look }
}

impl Check {
    const fn fixing(self, fixes: &'static str) -> Self {
        Self { fixes, ..self }
    }

    const fn taking(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    const fn in_any_case(self) -> Self {
        Self { needs_config: false, ..self }
    }
}

/// All checks, in the order in which their findings are told.
#[rustfmt::skip] // a table: one check a line
pub const CHECKS: &[Check] = &[
    check("config", config::look, "TOML files, `.env`, variables and flags, as `serve` reads them: unknown names, wrong values, files that are never read; a restore that was cut off").in_any_case(),
    check("server", server::look, "whether the data folder is this user's, whether the server that owns it answers, and what its health says").in_any_case(),
    check("port", port::look, "whether somebody else listens where the server is to listen, and who"),
    check("permissions", permissions::look, "who may read and write the data folder, database, sealing key, `.env`, files of configuration and plugins, log, backups; files that belong to another user").fixing("modes"),
    check("disk", disk::look, "free space and inodes where the data and the backups lie"),
    check("database", database::look, "whether it can be opened, is whole, has this version's schema, and is the one that the running server works on").taking(LONG),
    check("clock", clock::look, "a clock that is behind the newest row of the history, or was set while the server runs"),
    check("files", files::look, "the limit of open files against connections, streams and plugins, and how many are open"),
    check("ulimits", ulimits::look, "limits of file size, processes and address space"),
    check("plugins", plugins::look, "every plugin's file, and its state; while no server runs, each server is started and asked what it offers").taking(LONG),
    check("orphans", orphans::look, "guards of child processes whose server is gone").fixing("ends them, with what they guard").in_any_case(),
    check("tls", tls::look, "the certificate of the server, judged as a start judges it; certificates, keys and authorities of plugins: there, readable, for 14 days yet"),
    check("logs", logs::look, "the folder and the file of the log: there, writable, not grown beyond a gigabyte"),
    check("stale", stale::look, "sockets, folders and half-made files that a server or a backup left behind when it was killed").fixing("removes them").in_any_case(),
    check("crashes", crashes::look, "servers that ended without stopping, parts of the running one that crashed"),
    check("keys", keys::look, "keys that are older than 30 days, the operator's own too, have expired, or will within a week"),
    check("backups", backups::look, "the age of the newest backup against the schedule"),
    check("streaming", streaming::look, "with `--url`: whether an event stream comes through as it is written, or a proxy holds it back").taking(LONG),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_check_stands_twice_and_each_says_what_it_looks_at() {
        for (at, check) in CHECKS.iter().enumerate() {
            assert!(CHECKS.iter().skip(at + 1).all(|other| other.id != check.id), "{}", check.id);
            assert!(!check.looks_at.is_empty() && !check.looks_at.ends_with('.') && !check.within.is_zero());
        }
    }
}
