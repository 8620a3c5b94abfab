//! THE TABLE of settings: all that an operator can set, each with its names, its type and one sentence.
//!
//! The checked-in `config/default.toml`, `.env.example`, `docs/settings.md` and `config schema` are made from it.
//! Must not know where values come from.

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number within bounds, both included.
    Integer {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A whole number of at least 1, or the word `auto`: the number of processors.
    Workers,
    /// `true` or `false`.
    Bool,
    /// One of these words, in any case.
    Words(&'static [&'static str]),
    /// Any text.
    Text,
    /// A folder; `~/` is the home folder.
    Folder,
    /// A file; `~/` is the home folder.
    File,
    /// Any number of texts; comma-separated in the environment.
    List,
    /// A text that is never shown.
    Secret,
}

/// What holds when nobody sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Nothing.
    Unset,
    /// This, in TOML.
    Is(&'static str),
    /// These, in TOML, by `server.mode`.
    ByMode {
        /// With `local_vm`.
        local_vm: &'static str,
        /// With `container`.
        container: &'static str,
    },
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// `section.name`, as in the TOML files.
    pub key: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    /// The command line's flag, where there is one.
    pub flag: Option<&'static str>,
    /// What values it takes.
    pub kind: Kind,
    /// Of the number; empty where it has none.
    pub unit: &'static str,
    /// What holds when nobody sets it.
    pub fallback: Fallback,
    /// What it does, in one sentence.
    pub sentence: &'static str,
}

impl Setting {
    /// The section, the part of the key before the dot.
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(section, _)| section)
    }

    /// The part of the key after the dot.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// Whether its value must never be shown.
    pub fn is_secret(&self) -> bool {
        self.kind == Kind::Secret
    }

    /// The built-in value for a mode, in TOML.
    pub fn built_in(&self, mode: super::Mode) -> Option<&'static str> {
        match (self.fallback, mode) {
            (Fallback::Unset, _) => None,
            (Fallback::Is(value), _)
            | (Fallback::ByMode { local_vm: value, .. }, super::Mode::LocalVm)
            | (Fallback::ByMode { container: value, .. }, super::Mode::Container) => Some(value),
        }
    }
}

/// The setting with this key.
pub fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The setting with this environment variable.
pub fn by_variable(variable: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.variable == variable)
}

/// The setting with this flag, dashes included.
pub fn by_flag(flag: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.flag == Some(flag))
}

/// What a later version will serve: (variable, key or section, what to do today). Refused by name.
pub const NOT_YET: &[(&str, &str, &str)] = &[
    ("WAYGATE_SECRET_KEY", "access.secret_key", "remove it; the key that clients show is WAYGATE_API_KEY"),
    (
        "WAYGATE_RATE_LIMIT",
        "limits.rate",
        "remove it; WAYGATE_LIMITS_ADDRESS_REQUESTS_PER_MINUTE limits who has no key, `keys create --rate` who has one",
    ),
];

/// What each section is about, in the order of the table.
pub const SECTIONS: &[(&str, &str)] = &[
    ("server", "The process and its listener."),
    (
        "tls",
        "The certificate: with one, Waygate speaks https and nothing else. Renewed files are read at a reload.",
    ),
    ("access", "Who may come in."),
    ("mcp", "The protocol endpoint."),
    ("limits", "How much is let through; keys, tools and bundles have limits of their own."),
    ("cache", "Answers kept for whoever asks the same again."),
    ("plugins", "What every plugin gets."),
    ("files", "The built-in plugin `files`."),
    ("system", "The built-in plugin `system`: programs that clients may run."),
    ("database", "The database."),
    ("history", "The record of all calls."),
    ("backup", "Copies of all that matters."),
    ("log", "The log."),
    ("telemetry", "Traces for a collector of OpenTelemetry."),
    ("health", "Health checks."),
];

const fn setting(
    key: &'static str,
    variable: &'static str,
    kind: Kind,
    fallback: Fallback,
    sentence: &'static str,
) -> Setting {
    Setting { key, variable, flag: None, kind, unit: "", fallback, sentence }
}

impl Setting {
    const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }
}

const fn from_to(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

use Fallback::{ByMode, Is, Unset};
use Kind::{Bool, File, Folder, List, Secret, Text, Words, Workers};

const DAY: u64 = 86_400;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const MODES: Kind = Words(&["local_vm", "container"]);
const ENVIRONMENTS: Kind = Words(&["development", "production", "test"]);
const LEVELS: Kind = Words(&["OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"]);
const CAPTURES: Kind = Words(&["none", "shape", "redacted", "full"]);

/// All settings, by section.
#[rustfmt::skip] // a table: one setting a paragraph, names first, sentence last
pub const SETTINGS: &[Setting] = &[
    setting("server.mode", "WAYGATE_MODE", MODES, Is("\"local_vm\""),
        "Where Waygate runs: `local_vm` keeps its data in `~/.waygate` and logs text; `container` keeps it in `/var/lib/waygate` and logs JSON to stdout."),
    setting("server.env", "WAYGATE_ENV", ENVIRONMENTS, Is("\"development\""),
        "What it runs for: `production` refuses to start without a key, and weak ones; `test` has a data folder of its own and lets actors be crashed on purpose.").flag("--env"),
    setting("server.host", "WAYGATE_HOST", Text, Is("\"127.0.0.1\""),
        "The address or name to listen on; one that other machines reach needs a key.").flag("--host"),
    setting("server.port", "WAYGATE_PORT", from_to(0, 65_535), Is("8000"),
        "The port to listen on; 0 lets the kernel choose.").flag("--port"),
    setting("server.workers", "WAYGATE_WORKERS", Workers, Is("4"),
        "HTTP workers, each a thread; `auto` is the number of processors.").flag("--workers"),
    setting("server.data_dir", "WAYGATE_DATA_DIR", Folder, ByMode { local_vm: "\"~/.waygate\"", container: "\"/var/lib/waygate\"" },
        "The data root, with `data`, `logs`, `plugins` and `files` below it; with `server.env = \"test\"` the default is its subfolder `test`.").flag("--data-dir"),
    setting("server.timeout_seconds", "WAYGATE_TIMEOUT", from_to(1, DAY), Is("30"),
        "A call that takes longer is given up and answered with an error.").unit("seconds"),
    setting("server.drain_seconds", "WAYGATE_DRAIN_SECONDS", from_to(0, DAY), Is("20"),
        "How long a stop waits for calls in flight.").unit("seconds"),
    setting("server.connections_max", "WAYGATE_CONNECTIONS_MAX", from_to(1, 1_000_000), Is("25000"),
        "Open connections; more must wait to be accepted.").unit("connections"),
    setting("server.body_max_bytes", "WAYGATE_BODY_MAX_BYTES", from_to(1024, GIB), Is("4194304"),
        "A larger request body is refused with 413.").unit("bytes"),
    setting("server.receive_timeout_seconds", "WAYGATE_RECEIVE_TIMEOUT_SECONDS", from_to(1, 3600), Is("10"),
        "A request whose head or body takes longer to arrive is refused with 408.").unit("seconds"),
    setting("server.keep_alive_seconds", "WAYGATE_KEEP_ALIVE_SECONDS", from_to(1, DAY), Is("75"),
        "How long an idle connection is kept open.").unit("seconds"),
    setting("server.public_url", "WAYGATE_PUBLIC_URL", Text, Unset,
        "How clients reach Waygate when that is not `http://host:port`, as `https://mcp.example.org`."),
    setting("server.allowed_hosts", "WAYGATE_ALLOWED_HOSTS", List, Is("[]"),
        "Names accepted in the `Host` header beside the bound ones."),
    setting("server.allowed_origins", "WAYGATE_ALLOWED_ORIGINS", List, Is("[]"),
        "Origins of web pages accepted beside the server's own, as `https://app.example.org`."),
    setting("server.trusted_proxies", "WAYGATE_TRUSTED_PROXIES", List, Is("[]"),
        "Addresses or networks of proxies whose forwarding headers are believed, as `10.0.0.0/8`; what comes from there never counts as from this machine."),
    setting("server.cors_origins", "WAYGATE_CORS_ORIGINS", List, Is("[]"),
        "Origins of web pages whose scripts may speak MCP here and read the answers (CORS), as `https://app.example.org`; with none, only those of the server's own origin can."),
    setting("server.insecure_no_auth", "WAYGATE_INSECURE_NO_AUTH", Bool, Is("false"),
        "Serve real users, or an address that other machines reach, although there is no key.").flag("--insecure-no-auth"),

    setting("tls.cert", "WAYGATE_TLS_CERT", File, Unset,
        "A PEM file of the certificate that clients see, with those that lead to its authority after it."),
    setting("tls.key", "WAYGATE_TLS_KEY", File, Unset,
        "A PEM file of its private key, which nobody but this user and its group may read."),
    setting("tls.client_ca", "WAYGATE_TLS_CLIENT_CA", File, Unset,
        "A PEM file of authorities: who has no certificate of one of them is not let in, beside all that keys ask for."),

    setting("access.api_key", "WAYGATE_API_KEY", Secret, Unset,
        "The operator's own key, which opens everything, beside those of `waygate-mcp keys`; make one with `openssl rand -hex 32`."),
    setting("access.sealing_key", "WAYGATE_SEALING_KEY", Secret, Unset,
        "Seals the state that clients carry between rounds of a call, in place of `data/sealing.key`; the same on all replicas."),

    setting("mcp.page_size", "WAYGATE_MCP_PAGE_SIZE", from_to(1, 10_000), Is("100"),
        "Entries on one page of a list.").unit("entries"),
    setting("mcp.input_timeout_seconds", "WAYGATE_MCP_INPUT_TIMEOUT_SECONDS", from_to(1, 7 * DAY), Is("300"),
        "How long a client may take to answer when a tool asks for input.").unit("seconds"),
    setting("mcp.list_ttl_seconds", "WAYGATE_MCP_LIST_TTL_SECONDS", from_to(0, DAY), Is("60"),
        "How long clients may keep a list before they ask again.").unit("seconds"),
    setting("mcp.stream_keep_alive_seconds", "WAYGATE_MCP_STREAM_KEEP_ALIVE_SECONDS", from_to(1, 3600), Is("15"),
        "How often an idle stream gets a comment line, so that proxies keep it open.").unit("seconds"),
    setting("mcp.streams_max", "WAYGATE_MCP_STREAMS_MAX", from_to(1, 1_000_000), Is("20000"),
        "Open listen streams; more are refused with 503.").unit("streams"),
    setting("mcp.subscriptions_max", "WAYGATE_MCP_SUBSCRIPTIONS_MAX", from_to(1, 10_000), Is("100"),
        "Resources that one listen stream may watch.").unit("resources"),
    setting("mcp.sessions_max", "WAYGATE_MCP_SESSIONS_MAX", from_to(0, 1_000_000), Is("20000"),
        "Open sessions with clients of revisions before 2026-07-28; more are refused with 503.").unit("sessions"),
    setting("mcp.sessions_per_caller_max", "WAYGATE_MCP_SESSIONS_PER_CALLER_MAX", from_to(0, 1_000_000), Is("20000"),
        "Open sessions of one caller; without keys all callers are one.").unit("sessions"),
    setting("mcp.session_idle_seconds", "WAYGATE_MCP_SESSION_IDLE_SECONDS", from_to(1, 30 * DAY), Is("3600"),
        "A session that nobody used for so long ends.").unit("seconds"),
    setting("mcp.session_replay_bytes", "WAYGATE_MCP_SESSION_REPLAY_BYTES", from_to(1024, GIB), Is("262144"),
        "What each session keeps of what it said, so that a broken stream can be taken up again.").unit("bytes"),

    setting("limits.requests_per_minute", "WAYGATE_LIMITS_REQUESTS_PER_MINUTE", from_to(0, 100_000_000), Is("0"),
        "MCP requests a minute of all callers together; more are refused with 429, and 0 is no limit.").unit("requests"),
    setting("limits.burst", "WAYGATE_LIMITS_BURST", from_to(0, 100_000_000), Is("0"),
        "How many of them may come at once; 0 is as many as a minute gives.").unit("requests"),
    setting("limits.calls_max", "WAYGATE_LIMITS_CALLS_MAX", from_to(1, 1_000_000), Is("10000"),
        "Calls at once of all callers together; more are refused with 503 before their bodies are read.").unit("calls"),
    setting("limits.answers_max_bytes", "WAYGATE_LIMITS_ANSWERS_MAX_BYTES", from_to(1 << 20, 1 << 40), Is("268435456"),
        "Bytes of answers that their clients have not taken yet; while there are more, calls are refused with 503.").unit("bytes"),
    setting("limits.address_requests_per_minute", "WAYGATE_LIMITS_ADDRESS_REQUESTS_PER_MINUTE", from_to(0, 1_000_000), Is("0"),
        "MCP requests a minute of one address without a key; more are refused with 429, and 0 is no limit.").unit("requests"),
    setting("limits.address_burst", "WAYGATE_LIMITS_ADDRESS_BURST", from_to(0, 1_000_000), Is("0"),
        "How many of them may come at once; 0 is as many as a minute gives.").unit("requests"),
    setting("limits.address_concurrent", "WAYGATE_LIMITS_ADDRESS_CONCURRENT", from_to(0, 1_000_000), Is("0"),
        "Calls at once of one address without a key; more are refused with 429, and 0 is no limit.").unit("calls"),
    setting("limits.count_in", "WAYGATE_LIMITS_COUNT_IN", Words(&["memory", "redis"]), Is("\"memory\""),
        "Where requests of keys, bundles, tools and the server are counted: in `memory`, by each server for itself, or in `redis` (`cache.redis_url`), for several servers together."),

    setting("cache.type", "WAYGATE_CACHE_TYPE", Words(&["memory", "redis", "none"]), Is("\"memory\""),
        "Where answers of tools and resources are kept that say that they may be: in `memory`, in `redis` for several servers together, or nowhere (`none`)."),
    setting("cache.ttl_seconds", "WAYGATE_CACHE_TTL", from_to(1, 30 * DAY), Is("300"),
        "The longest that any answer is kept.").unit("seconds"),
    setting("cache.max_bytes", "WAYGATE_CACHE_MAX_BYTES", from_to(65_536, TIB), Is("67108864"),
        "The most that all kept answers take in memory; one that takes more than a sixteenth of it is not kept, in Redis either.").unit("bytes"),
    setting("cache.redis_url", "WAYGATE_REDIS_URL", Secret, Unset,
        "Where Redis is, as `redis://user:password@host:6379/0` or `unix:///path`; with `cache.type` or `limits.count_in` = `redis` only."),
    setting("cache.redis_prefix", "WAYGATE_REDIS_PREFIX", Text, Is("\"waygate\""),
        "What names of keys in Redis begin with."),

    setting("plugins.concurrency", "WAYGATE_PLUGINS_CONCURRENCY", from_to(1, 100_000), Is("64"),
        "Calls at once in one plugin.").unit("calls"),
    setting("plugins.queue_max", "WAYGATE_PLUGINS_QUEUE_MAX", from_to(0, 1_000_000), Is("256"),
        "Calls that may wait for a place in one plugin; more are refused with 503.").unit("calls"),
    setting("plugins.blocking_threads", "WAYGATE_PLUGINS_BLOCKING_THREADS", from_to(1, 512), Is("16"),
        "Threads for the blocking work of one plugin.").unit("threads"),
    setting("plugins.lost_threads_max", "WAYGATE_PLUGINS_LOST_THREADS_MAX", from_to(1, 512), Is("4"),
        "A plugin with so many threads that outlived their calls is closed until they end.").unit("threads"),

    setting("files.enabled", "WAYGATE_FILES_ENABLED", Bool, Is("true"),
        "Whether the plugin `files` is there."),
    setting("files.roots", "WAYGATE_FILES_ROOTS", List, Is("[]"),
        "Folders it may use, as `name=/path:ro` or `name=/path:rw`; none means one root `files` at `<data root>/files`, read-write."),
    setting("files.read_max_bytes", "WAYGATE_FILES_READ_MAX_BYTES", from_to(1, GIB), Is("4194304"),
        "The most that one call reads of a file.").unit("bytes"),
    setting("files.write_max_bytes", "WAYGATE_FILES_WRITE_MAX_BYTES", from_to(1, GIB), Is("4194304"),
        "The largest file that a call may write.").unit("bytes"),
    setting("files.quota_bytes", "WAYGATE_FILES_QUOTA_BYTES", from_to(1, 1024 * TIB), Is("1073741824"),
        "The most that may lie under one writable root.").unit("bytes"),
    setting("files.results_max", "WAYGATE_FILES_RESULTS_MAX", from_to(1, 100_000), Is("1000"),
        "Entries or matches in one answer.").unit("entries"),

    setting("system.programs", "WAYGATE_SYSTEM_PROGRAMS", List, Is("[]"),
        "Programs that clients may run, as whole paths, or as names found in the usual folders when Waygate starts; with none, the plugin `system` is not there."),
    setting("system.environment", "WAYGATE_SYSTEM_ENVIRONMENT", List, Is("[]"),
        "Names of Waygate's own environment variables that programs get beside `PATH`, `HOME` and `LANG`; no `WAYGATE_` variable can be one."),
    setting("system.timeout_seconds", "WAYGATE_SYSTEM_TIMEOUT_SECONDS", from_to(1, DAY), Is("60"),
        "The longest that a program may run; then it is ended with all that it started. A call may ask for less.").unit("seconds"),
    setting("system.output_max_bytes", "WAYGATE_SYSTEM_OUTPUT_MAX_BYTES", from_to(256, 16 << 20), Is("65536"),
        "What an answer shows of a program's stdout, and the same of its stderr: of more, the beginning and the end.").unit("bytes"),
    setting("system.programs_max", "WAYGATE_SYSTEM_PROGRAMS_MAX", from_to(1, 1000), Is("8"),
        "Programs that run at once; a call that finds no place within `server.timeout_seconds` is refused with 503.").unit("programs"),

    setting("database.url", "WAYGATE_DATABASE_URL", Secret, Unset,
        "`postgres://user:password@host/name`, `sqlite:path` or a path; none means `<data root>/data/waygate.db`."),
    setting("database.pool_size", "WAYGATE_DB_POOL_SIZE", from_to(1, 1000), Is("4"),
        "Connections to the database for reading; one more looks whether keys changed, and history is written on another.").unit("connections"),
    setting("database.wait_seconds", "WAYGATE_DB_WAIT_SECONDS", from_to(0, 3600), Is("30"),
        "How long a start waits for a database server that cannot be reached.").unit("seconds"),
    setting("database.busy_timeout_ms", "WAYGATE_DB_BUSY_TIMEOUT_MS", from_to(1, 600_000), Is("5000"),
        "How long a statement waits for a lock.").unit("milliseconds"),

    setting("history.durability", "WAYGATE_HISTORY_DURABILITY", Words(&["batched", "strict"]), Is("\"batched\""),
        "When a call is on disk: `batched` soon after its answer, `strict` before it."),
    setting("history.arguments", "WAYGATE_HISTORY_ARGUMENTS", CAPTURES, Is("\"redacted\""),
        "What of a call's arguments is recorded: `none`, their `shape`, all but what looks secret (`redacted`), or `full`."),
    setting("history.queue_max", "WAYGATE_HISTORY_QUEUE_MAX", from_to(1, 1_000_000), Is("8192"),
        "Records that may wait to be written.").unit("records"),
    setting("history.linger_ms", "WAYGATE_HISTORY_LINGER_MS", from_to(0, 1000), Is("20"),
        "How long records gather before they are written together, which a killed process loses; with `batched` only.").unit("milliseconds"),
    setting("history.redact_keys", "WAYGATE_HISTORY_REDACT_KEYS", List, Is("[]"),
        "Names of arguments to hide beside those that are always hidden, such as `password`."),
    setting("history.keep_days", "WAYGATE_HISTORY_KEEP_DAYS", from_to(0, 36_500), Is("0"),
        "Rows that are older are deleted, once an hour, so that the rest can still be proved; 0 keeps them for ever.").unit("days"),
    setting("history.max_rows", "WAYGATE_HISTORY_MAX_ROWS", from_to(0, 1_000_000_000_000), Is("0"),
        "The most rows that are kept; the oldest beyond them are deleted, once an hour; 0 is no limit.").unit("rows"),
    setting("history.max_bytes", "WAYGATE_HISTORY_MAX_BYTES", from_to(0, 1024 * TIB), Is("0"),
        "The most bytes that stand in the rows that are kept, without indexes and free room; the oldest beyond them are deleted, once an hour; 0 is no limit.").unit("bytes"),

    setting("backup.dir", "WAYGATE_BACKUP_DIR", Folder, Unset,
        "The folder of backups; none means `<data root>/backups`."),
    setting("backup.every_hours", "WAYGATE_BACKUP_EVERY_HOURS", from_to(0, 24 * 366), Is("0"),
        "How often a running server makes a backup; 0 is never.").unit("hours"),
    setting("backup.keep_days", "WAYGATE_BACKUP_KEEP_DAYS", from_to(1, 36_600), Is("7"),
        "Older backups are removed after a new one was made by the schedule, and by `backup prune`; the newest always stays.").unit("days"),
    setting("backup.passphrase", "WAYGATE_BACKUP_PASSPHRASE", Secret, Unset,
        "Encrypts `.env` and the sealing key within backups; without it they are left out."),

    setting("log.level", "WAYGATE_LOG_LEVEL", LEVELS, Is("\"INFO\""),
        "The least grave level that is logged.").flag("--log-level"),
    setting("log.format", "WAYGATE_LOG_FORMAT", Words(&["text", "json"]), ByMode { local_vm: "\"text\"", container: "\"json\"" },
        "`text` for people, in local time; `json` for collectors, in UTC."),
    setting("log.file", "WAYGATE_LOG_FILE", Bool, ByMode { local_vm: "true", container: "false" },
        "Whether `<data root>/logs/waygate.log` is written too."),

    setting("telemetry.otlp_endpoint", "WAYGATE_OTLP_ENDPOINT", Text, Unset,
        "The collector that takes traces over OTLP/HTTP, as `http://127.0.0.1:4318`; with none, no traces are made."),
    setting("telemetry.otlp_headers", "WAYGATE_OTLP_HEADERS", Secret, Unset,
        "Headers that it wants, as `name=value,name=value`."),
    setting("telemetry.sample_per_mille", "WAYGATE_TRACE_SAMPLE_PER_MILLE", from_to(0, 1000), Is("1000"),
        "How many of a thousand traces that begin here are collected; one that a client began is if the client says so.").unit("traces"),
    setting("telemetry.queue_max", "WAYGATE_TRACE_QUEUE_MAX", from_to(1, 1_000_000), Is("2048"),
        "Spans that may wait to be sent; more are dropped and counted.").unit("spans"),

    setting("health.beat_seconds", "WAYGATE_HEALTH_BEAT_SECONDS", from_to(1, 3600), Is("1"),
        "Time between two health checks.").unit("seconds"),
    setting("health.stuck_seconds", "WAYGATE_HEALTH_STUCK_SECONDS", from_to(2, 3600), Is("30"),
        "A part that has not answered for so long is stuck, and the process stops to be restarted; a plugin's part degrades its plugin only.").unit("seconds"),
    setting("health.disk_min_bytes", "WAYGATE_HEALTH_DISK_MIN_BYTES", from_to(0, 1024 * TIB), Is("104857600"),
        "Less free disk than this degrades the health.").unit("bytes"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_name_stands_once_and_there_are_fewer_than_a_hundred_settings() {
        let keys: HashSet<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
        let variables: HashSet<&str> = SETTINGS.iter().map(|setting| setting.variable).collect();
        assert_eq!((keys.len(), variables.len()), (SETTINGS.len(), SETTINGS.len()));
        assert!(SETTINGS.len() < 100, "{} settings", SETTINGS.len());
        for setting in SETTINGS {
            assert!(setting.variable.starts_with("WAYGATE_"), "{}", setting.variable);
            assert!(SECTIONS.iter().any(|(section, _)| *section == setting.section()), "{}", setting.key);
            // A secret's NAME_FILE must not be another setting's name.
            let file = format!("{}_FILE", setting.variable);
            assert!(!setting.is_secret() || by_variable(&file).is_none(), "{file}");
            for (variable, key, _) in NOT_YET {
                assert!(setting.variable != *variable && setting.key != *key, "{variable} is served");
            }
        }
    }
}
