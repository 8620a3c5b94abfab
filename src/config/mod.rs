//! Configuration as the rooms use it: plain values, checked, read once. Below stand the values; the submodules know
//! the table of settings, and how files, variables and flags become these values.

mod checks;
mod collector;
mod faults;
mod files;
pub mod generated;
mod kubernetes;
mod layers;
mod load;
mod network;
pub mod plugin;
mod programs;
mod quota;
mod secret;
mod selection;
pub mod settings;
mod values;

pub use checks::{is_loopback, weak_key};
pub use faults::{Fault, Faults, did_you_mean};
pub use files::forbidden_mode;
pub use layers::{Layer, Origin};
pub use load::{Flags, Loaded, MASK, Shown, Sources, find_data_root, find_env_file, find_secrets, load};
pub use network::Network;
pub use programs::{PROGRAM_FOLDERS, find_program};
pub use quota::{QUOTA_MAX, Quota};
pub use secret::Secret;
pub use selection::Selection;
pub use values::Value;

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

/// Where Waygate runs; decides the data root and the form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// On a machine of its own or a laptop: data in `~/.waygate`, text log to file and stderr.
    LocalVm,
    /// In a container: data in `/var/lib/waygate`, JSON log to stdout.
    Container,
}

/// What it runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// A developer's machine: open on loopback without a key.
    Development,
    /// Real users.
    Production,
    /// Tests: a data folder of its own, actors can be crashed on purpose.
    Test,
}

/// The whole configuration, by room.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The files that it was read from.
    #[serde(skip)]
    pub read_from: Vec<PathBuf>,
    /// The folder of its TOML files, if there is one.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
    /// The file of variables that is read if it is there.
    #[serde(skip)]
    pub env_file: Option<PathBuf>,
    /// Every setting as it is, with where it comes from; secrets are masked.
    #[serde(skip)]
    pub shown: Arc<[Shown]>,
    /// The process and its listener.
    pub server: Server,
    /// The certificate.
    #[serde(default)]
    pub tls: Tls,
    /// Who may come in.
    #[serde(default)]
    pub access: Access,
    /// The protocol endpoint.
    pub mcp: Mcp,
    /// How much is let through.
    pub limits: Limits,
    /// Answers that are kept.
    pub cache: Cache,
    /// What every plugin gets.
    pub plugins: Plugins,
    /// The built-in `files` plugin.
    pub files: Files,
    /// The built-in `system` plugin.
    pub system: System,
    /// The database.
    pub database: Database,
    /// The ledger of calls.
    pub history: History,
    /// Copies of all that matters.
    pub backup: Backup,
    /// The log.
    pub log: Log,
    /// Traces.
    pub telemetry: Telemetry,
    /// Health checks.
    pub health: Health,
}

/// `[server]`: the process and its listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where it runs.
    pub mode: Mode,
    /// What it runs for.
    pub env: Environment,
    /// Address or name to bind.
    pub host: String,
    /// 0 lets the kernel choose.
    pub port: u16,
    /// HTTP workers, at least 1; `auto` became the number of processors.
    pub workers: usize,
    /// The data root; `data`, `logs`, `plugins` and `files` lie below it.
    pub data_dir: PathBuf,
    /// Deadline of a call.
    pub timeout_seconds: u64,
    /// How long a stop waits for calls in flight.
    pub drain_seconds: u64,
    /// Open connections; more wait to be accepted.
    pub connections_max: usize,
    /// Of a request body; more is 413.
    pub body_max_bytes: usize,
    /// For a request head, and then a body, to arrive; longer is 408.
    pub receive_timeout_seconds: u64,
    /// How long an idle connection stays open.
    pub keep_alive_seconds: u64,
    /// How clients reach it, when that is not `http://host:port`.
    pub public_url: Option<String>,
    /// Names accepted in `Host` beside the bound ones.
    pub allowed_hosts: Vec<String>,
    /// Origins accepted beside the server's own.
    pub allowed_origins: Vec<String>,
    /// Addresses or networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<String>,
    /// Origins whose pages may speak MCP and read the answers.
    pub cors_origins: Vec<String>,
    /// Serve a non-loopback address without any key.
    pub insecure_no_auth: bool,
}

/// `[tls]`: the certificate; both files or none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// With the chain to its authority.
    pub cert: Option<PathBuf>,
    /// Of the certificate.
    pub key: Option<PathBuf>,
    /// Whose certificates clients must have, if they need one.
    pub client_ca: Option<PathBuf>,
}

impl Config {
    /// How the network is spoken to: `https` with a certificate, else `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.cert.is_some() { "https" } else { "http" }
    }
}

/// `[access]`: who may come in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// What clients must show, if anything.
    pub api_key: Option<Secret>,
    /// Overrides `data/sealing.key`.
    pub sealing_key: Option<Secret>,
}

/// `[mcp]`: the protocol endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mcp {
    /// Entries on one page of a list.
    pub page_size: usize,
    /// How long a client may take to answer an input request.
    pub input_timeout_seconds: u64,
    /// `ttlMs` of lists, in seconds.
    pub list_ttl_seconds: u64,
    /// Comment lines on idle streams.
    pub stream_keep_alive_seconds: u64,
    /// Open listen streams in all.
    pub streams_max: usize,
    /// Resource subscriptions of one stream.
    pub subscriptions_max: usize,
    /// Open sessions with legacy clients.
    pub sessions_max: usize,
    /// … of one caller.
    pub sessions_per_caller_max: usize,
    /// How long a session may go unused.
    pub session_idle_seconds: u64,
    /// What each session keeps of what it said.
    pub session_replay_bytes: usize,
}

/// Where requests are counted for the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountIn {
    /// In this process, for it alone.
    Memory,
    /// In Redis, for several servers together.
    Redis,
}

/// `[limits]`: how much is let through; 0 is no limit, but for `calls_max`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Of all callers together.
    pub requests_per_minute: u32,
    /// How many of them at once.
    pub burst: u32,
    /// Calls at once of all callers together.
    pub calls_max: u32,
    /// Bytes of answers that nobody has taken yet.
    pub answers_max_bytes: u64,
    /// Of one address without a key.
    pub address_requests_per_minute: u32,
    /// How many of them at once.
    pub address_burst: u32,
    /// Calls at once of one address without a key.
    pub address_concurrent: u32,
    /// Where requests are counted.
    pub count_in: CountIn,
}

impl Limits {
    /// What all callers together may use up.
    pub fn of_all(&self) -> Quota {
        let some = |limit: u32| (limit > 0).then_some(limit);
        Quota {
            requests_per_minute: some(self.requests_per_minute),
            burst: some(self.burst),
            concurrent: some(self.calls_max),
        }
    }

    /// What one address without a key may use up.
    pub fn of_one_address(&self) -> Quota {
        let some = |limit: u32| (limit > 0).then_some(limit);
        Quota {
            requests_per_minute: some(self.address_requests_per_minute),
            burst: some(self.address_burst),
            concurrent: some(self.address_concurrent),
        }
    }
}

/// Where answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheKind {
    /// In this process.
    Memory,
    /// In Redis, for several servers together.
    Redis,
    /// Nowhere.
    None,
}

/// `[cache]`: answers kept for whoever asks the same again.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Where.
    #[serde(rename = "type")]
    pub kind: CacheKind,
    /// The longest that any is kept.
    pub ttl_seconds: u64,
    /// Of all of them in memory.
    pub max_bytes: usize,
    /// Where Redis is.
    pub redis_url: Option<Secret>,
    /// What names of keys there begin with.
    pub redis_prefix: String,
}

/// `[plugins]`: what every plugin gets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugins {
    /// Calls at once in one plugin.
    pub concurrency: usize,
    /// Calls that may wait for a place in one plugin.
    pub queue_max: usize,
    /// Threads for blocking work of one plugin.
    pub blocking_threads: usize,
    /// Lost threads at which the plugin is closed until they end.
    pub lost_threads_max: usize,
}

/// `[files]`: the built-in plugin.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Whether the plugin is there.
    pub enabled: bool,
    /// `name=path:ro` or `name=path:rw`; empty means one root `files` at `<data root>/files`, read-write.
    pub roots: Vec<String>,
    /// That one call reads.
    pub read_max_bytes: u64,
    /// Of a file that a call writes.
    pub write_max_bytes: u64,
    /// Of all that lies under one writable root.
    pub quota_bytes: u64,
    /// Entries or matches of one answer.
    pub results_max: usize,
}

/// `[system]`: programs that clients may run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Whole paths, or names to be found with [`find_program`]; each was found once. Empty: the plugin is not there.
    pub programs: Vec<String>,
    /// Names of variables that programs get from Waygate's own environment.
    pub environment: Vec<String>,
    /// The longest that a program may run.
    pub timeout_seconds: u64,
    /// Shown of stdout, and of stderr.
    pub output_max_bytes: usize,
    /// Programs at once.
    pub programs_max: usize,
}

/// `[database]`: where history and state lie.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgres://…`, `sqlite:path` or a path; none means `<data root>/data/waygate.db`.
    pub url: Option<Secret>,
    /// Connections for reading; history is written on one more.
    pub pool_size: u32,
    /// How long a start waits for a database server that cannot be reached.
    pub wait_seconds: u64,
    /// How long a statement waits for a lock.
    pub busy_timeout_ms: u64,
}

/// When a call counts as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Soon after its answer, in groups.
    Batched,
    /// Before its answer, on disk.
    Strict,
}

/// What of a call's arguments is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// Nothing.
    None,
    /// Keys and types.
    Shape,
    /// Values, but for what looks secret.
    Redacted,
    /// Everything.
    Full,
}

/// `[history]`: the record of all calls.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// When a call counts as recorded.
    pub durability: Durability,
    /// What of its arguments is recorded.
    pub arguments: Capture,
    /// Records that may wait for the writer.
    pub queue_max: usize,
    /// How long the writer lets records gather (batched only).
    pub linger_ms: u64,
    /// Argument names to hide beside the built-in ones.
    pub redact_keys: Vec<String>,
    /// Days after which rows are deleted; 0 is never.
    pub keep_days: u32,
    /// Rows that are kept at most; 0 is no limit.
    pub max_rows: u64,
    /// Bytes that the kept rows take at most; 0 is no limit.
    pub max_bytes: u64,
}

/// `[backup]`: copies of all that matters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// None means `<data root>/backups`.
    pub dir: Option<PathBuf>,
    /// Between two that a server makes; 0 is never.
    pub every_hours: u64,
    /// Older ones are removed.
    pub keep_days: u64,
    /// What `.env` and the sealing key are encrypted with.
    pub passphrase: Option<Secret>,
}

/// `[log]`: what is logged, and how.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The least grave level that is logged.
    pub level: log::LevelFilter,
    /// The form of its lines.
    pub format: LogFormat,
    /// Whether `<data root>/logs/waygate.log` is written beside stderr or stdout.
    pub file: bool,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors.
    Json,
}

/// `[telemetry]`: traces for a collector.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Where it is.
    pub otlp_endpoint: Option<String>,
    /// What it wants to be shown.
    pub otlp_headers: Option<Secret>,
    /// Of traces that begin here, so many are collected.
    pub sample_per_mille: u32,
    /// Spans that may wait to be sent.
    pub queue_max: usize,
}

/// `[health]`: when a part counts as stuck.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Between two beats.
    pub beat_seconds: u64,
    /// Without an answer for so long, a part is stuck and the process not live.
    pub stuck_seconds: u64,
    /// Free disk below this degrades.
    pub disk_min_bytes: u64,
}

#[cfg(test)]
mod tests;
