//! The limit of open files against what is configured, and how many are open. Must not change the limit.

use serde_json::Value;

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::patient::Patient;
use crate::config::plugin::{PluginKind, Reach, read_folder};
use crate::config::{Config, Environment};

/// For the program itself: database, log, listeners, its threads.
const BASE: u64 = 128;
/// Of each program that is a plugin: its pipes, its guard's socket.
const OF_A_PROGRAM: u64 = 8;
/// What a laptop needs whose owner said nothing else.
const FEW: u64 = 256;

/// Where what is added to the unit stands; `systemctl edit --stdin` would do, and is not in every systemd.
const DROP_IN: &str = "/etc/systemd/system/waygate-mcp.service.d";

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let Some(config) = patient.config() else { return Vec::new() };
    let page = patient.page("/diagnostics/performance");
    let number = |name: &str| page.and_then(|page| page.get(name)).and_then(Value::as_u64);
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    // Of the server that runs, not of this process.
    let most = number("openFilesMax").or(own).unwrap_or(u64::MAX);
    let mut found = Vec::new();
    let needed = needed(patient, config);
    let command = |files: u64| match config.server.env {
        Environment::Production => format!(
            "mkdir -p {DROP_IN} && printf '[Service]\\nLimitNOFILE={files}\\n' >{DROP_IN}/files.conf && \
             systemctl daemon-reload && systemctl restart waygate-mcp"
        ),
        Environment::Development | Environment::Test => format!("ulimit -n {files}"),
    };
    if most < needed {
        let what =
            format!("{most} files may be open, and connections, plugins and database need up to {needed}");
        let why = "beyond the limit no connection is accepted, and no plugin started";
        found.push(Finding::warning("files.limit", what, why, command(needed.next_power_of_two())));
    }
    if let Some(open) = number("openFiles").filter(|open| open.saturating_mul(10) >= most.saturating_mul(9)) {
        let what = format!("{open} of {most} files are open");
        let why = "beyond the limit no connection is accepted, and no plugin started";
        found.push(Finding::error("files.used", what, why, command(most.saturating_mul(2))));
    }
    found
}

fn needed(patient: &Patient, config: &Config) -> u64 {
    let is_meant = config.server.env == Environment::Production
        || ["server.connections_max", "mcp.streams_max", "mcp.sessions_max"]
            .iter()
            .any(|key| patient.is_chosen(key));
    // A stream is a connection.
    let connections = if is_meant { config.server.connections_max as u64 } else { FEW };
    let folder = read_folder(&config.server.data_dir.join("plugins")).unwrap_or_default();
    let of_plugins = folder.files.iter().filter_map(|(_, file)| file.as_ref().ok()).map(|file| {
        let PluginKind::Mcp(server) = &file.kind else { return 0 };
        let programs = match server.isolation {
            crate::config::plugin::Isolation::PerClient => server.sessions_max as u64,
            crate::config::plugin::Isolation::Shared => 1,
        };
        let concurrency = server.limits.concurrency.unwrap_or(config.plugins.concurrency) as u64;
        match &server.reach {
            Reach::Stdio(_) => programs.saturating_mul(OF_A_PROGRAM),
            Reach::Http(_) => concurrency,
        }
    });
    let pool = u64::from(config.database.pool_size).saturating_mul(3);
    BASE + connections + pool + of_plugins.sum::<u64>()
}
