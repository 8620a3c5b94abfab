//! Configuration as the rooms use it: plain values, checked, read once. Must not know files, variables or flags.

mod secret;

pub use secret::Secret;

use std::path::PathBuf;

/// Where Waygate runs; decides the data root and the form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// On a machine of its own or a laptop: data in `~/.waygate`, text log to file and stderr.
    LocalVm,
    /// In a container: data in `/var/lib/waygate`, JSON log to stdout.
    Container,
}

/// What it runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// A developer's machine: open on loopback without a key.
    Development,
    /// Real users.
    Production,
    /// Tests: a data folder of its own, actors can be crashed on purpose.
    Test,
}

/// The whole configuration, by room.
#[derive(Debug, Clone)]
pub struct Config {
    /// The process and its listener.
    pub server: Server,
    /// Who may come in.
    pub access: Access,
    /// The protocol endpoint.
    pub mcp: Mcp,
    /// What every plugin gets.
    pub plugins: Plugins,
    /// The built-in `files` plugin.
    pub files: Files,
    /// The database.
    pub database: Database,
    /// The ledger of calls.
    pub history: History,
    /// The log.
    pub log: Log,
    /// Health checks.
    pub health: Health,
}

/// `[server]`
#[derive(Debug, Clone)]
pub struct Server {
    pub mode: Mode,
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
    pub connections_max: usize,
    pub body_max_bytes: usize,
    pub body_timeout_seconds: u64,
    pub head_timeout_seconds: u64,
    pub keep_alive_seconds: u64,
    /// How clients reach it, when that is not `http://host:port`.
    pub public_url: Option<String>,
    /// Names accepted in `Host` beside the bound ones.
    pub allowed_hosts: Vec<String>,
    /// Origins accepted beside the server's own.
    pub allowed_origins: Vec<String>,
    /// Addresses or networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<String>,
    /// Serve a non-loopback address without any key.
    pub insecure_no_auth: bool,
}

/// `[access]`
#[derive(Debug, Clone)]
pub struct Access {
    pub api_key: Option<Secret>,
    /// Overrides `data/sealing.key`.
    pub sealing_key: Option<Secret>,
}

/// `[mcp]`
#[derive(Debug, Clone)]
pub struct Mcp {
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
}

/// `[plugins]`
#[derive(Debug, Clone)]
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

/// `[files]`
#[derive(Debug, Clone)]
pub struct Files {
    pub enabled: bool,
    /// `name=path:ro` or `name=path:rw`; empty means one root `files` at `<data root>/files`, read-write.
    pub roots: Vec<String>,
    pub read_max_bytes: u64,
    pub write_max_bytes: u64,
    /// Of all that lies under one writable root.
    pub quota_bytes: u64,
    /// Entries or matches of one answer.
    pub results_max: usize,
}

/// `[database]`
#[derive(Debug, Clone)]
pub struct Database {
    /// `postgres://…`, `sqlite:path` or a path; none means `<data root>/data/waygate.db`.
    pub url: Option<Secret>,
    pub pool_size: u32,
    /// How long a statement waits for a lock.
    pub busy_timeout_ms: u64,
}

/// When a call counts as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Soon after its answer, in groups.
    Batched,
    /// Before its answer, on disk.
    Strict,
}

/// What of a call's arguments is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// `[history]`
#[derive(Debug, Clone)]
pub struct History {
    pub durability: Durability,
    pub arguments: Capture,
    /// Records that may wait for the writer.
    pub queue_max: usize,
    /// How long the writer lets records gather (batched only).
    pub linger_ms: u64,
    /// Argument names to hide beside the built-in ones.
    pub redact_keys: Vec<String>,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    pub level: log::LevelFilter,
    pub format: LogFormat,
    /// Whether `<data root>/logs/waygate.log` is written beside stderr or stdout.
    pub file: bool,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors.
    Json,
}

/// `[health]`
#[derive(Debug, Clone)]
pub struct Health {
    /// Between two beats.
    pub beat_seconds: u64,
    /// Without an answer for so long, a part is stuck and the process not live.
    pub stuck_seconds: u64,
    /// Free disk below this degrades.
    pub disk_min_bytes: u64,
}
