//! What an operator may say of one plugin or bundle: the contents of `<data root>/plugins/NAME.toml`, checked.
//!
//! Here stand the values; the submodules know the table of fields and how texts become these values. But for `folder`,
//! nothing here reads files; nothing resolves credentials, or knows what is made of it.

mod build;
mod check;
mod credential;
pub mod fields;
mod folder;
mod import;
mod json;
pub mod pointer;
mod read;
mod render;
mod tuning;

pub use credential::Piece;
pub use folder::{Folder, path_of, read_file, read_folder};
pub use import::{Imported, Imports, import, open_secrets};
pub use read::{Said, parse};
pub use render::render;
pub use tuning::Tuning;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::Quota;

/// Plugins of the binary: no server and no bundle can have one of these names.
pub const BUILT_INS: [&str; 3] = ["files", "system", "waygate"];

/// What stands where the name of a plugin stands in `/plugins/{name}`, and is none.
const RELOAD: &str = "reload";

const NAME_CHARACTERS_MAX: usize = 32;

/// Whether a file can have this name, but for those of the built-in plugins.
pub fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    name.len() <= NAME_CHARACTERS_MAX
        && name.bytes().all(inner)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// Checks the name of a plugin or bundle.
///
/// # Errors
/// What is wrong with it, and what a name is.
pub fn check_name(name: &str) -> Result<(), String> {
    if BUILT_INS.contains(&name) {
        return Err(format!(
            "{name} is the name of a built-in plugin; take another, or write kind = \"builtin\" to say how that one is used"
        ));
    }
    if name == RELOAD {
        return Err(format!("{name:?} is what /plugins/{name} does; take another name"));
    }
    if is_name(name) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name for a plugin or bundle; take 1 to {NAME_CHARACTERS_MAX} lower-case letters, digits, - and _, a \
         letter or digit first"
    ))
}

/// One file, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginFile {
    /// The plugin's or bundle's name: that of its file.
    pub name: String,
    /// Whether it is to be there at all.
    pub enabled: bool,
    /// What it is.
    pub kind: PluginKind,
}

/// What a file describes.
#[derive(Debug, Clone, PartialEq)]
pub enum PluginKind {
    /// An MCP server.
    Mcp(Box<McpServer>),
    /// What is different of a plugin that the program brings.
    Builtin(Box<Tuning>),
    /// A named part of all that is offered.
    Bundle(BundleFile),
}

/// An MCP server behind Waygate.
#[derive(Debug, Clone, PartialEq)]
pub struct McpServer {
    /// Where it is.
    pub reach: Reach,
    /// Whom its sessions serve, if it has sessions.
    pub isolation: Isolation,
    /// Whether the operator said so, or it is the default.
    pub isolation_spoken: bool,
    /// Sessions at once, where each client has its own.
    pub sessions_max: usize,
    /// A session that nobody used for so long is closed.
    pub session_idle: Duration,
    /// How long a start, handshake and lists may take.
    pub start_timeout: Duration,
    /// The largest answer.
    pub response_max_bytes: usize,
    /// The bulkhead.
    pub limits: PluginLimits,
    /// What of it is offered, and how.
    pub curation: Curation,
}

impl McpServer {
    /// Whether two processes of it never run at once.
    pub fn is_exclusive(&self) -> bool {
        matches!(&self.reach, Reach::Stdio(reach) if reach.exclusive)
    }
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq)]
pub enum Reach {
    /// A program that speaks on its standard streams.
    Stdio(StdioReach),
    /// A URL.
    Http(HttpReach),
}

/// A program to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct StdioReach {
    /// A path, or a name found in the usual folders.
    pub command: String,
    /// What it gets.
    pub args: Vec<String>,
    /// The folder that it works in; without one, a private one.
    pub cwd: Option<PathBuf>,
    /// Its own variables.
    pub env: BTreeMap<String, Credential>,
    /// Names of Waygate's variables that it gets beside the usual ones.
    pub inherit_env: Vec<String>,
    /// Whether two processes of it never run at once.
    pub exclusive: bool,
    /// What it may use.
    pub sandbox: Sandbox,
}

/// A URL to be called.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpReach {
    /// `http` or `https`.
    pub url: String,
    /// How it is spoken to.
    pub transport: HttpTransport,
    /// Headers of each request.
    pub headers: BTreeMap<String, Credential>,
    /// Beside the system's certificates.
    pub tls: Tls,
    /// Whether the proxies that the environment names are used.
    pub proxy: bool,
    /// Networks that may be reached although they are guarded, as `169.254.0.0/16`.
    pub allow_ranges: Vec<String>,
}

/// Which HTTP transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpTransport {
    /// Streamable HTTP, else HTTP+SSE.
    Auto,
    /// Streamable HTTP.
    Http,
    /// HTTP+SSE of 2024-11-05.
    Sse,
}

/// Certificates, as PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Further authorities.
    pub ca: Option<PathBuf>,
    /// Waygate's own certificate.
    pub cert: Option<PathBuf>,
    /// And its key.
    pub key: Option<PathBuf>,
}

/// A text that may be secret, as it was written: with `${VAR}`, or `env:NAME`, or `file:PATH`. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(pub String);

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Whom a session with a server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// One client: its capabilities are the server's to use.
    PerClient,
    /// All: the server may ask none of them.
    Shared,
}

/// What a program may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Of address space, each process.
    pub memory_max_bytes: Option<u64>,
    /// Open files, each process.
    pub files_max: Option<u64>,
    /// Processor time, each process.
    pub cpu_seconds_max: Option<u64>,
    /// The only folders that it may use, besides those of the system; each with whether it may write there.
    pub folders: Option<Vec<(PathBuf, bool)>>,
    /// Whether TCP is denied.
    pub no_network: bool,
    /// Whether it is not run where the walls around it do not stand.
    pub required: bool,
}

/// A plugin's bulkhead, where it is not that of all plugins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PluginLimits {
    /// Calls at once.
    pub concurrency: Option<usize>,
    /// Calls that may wait.
    pub queue_max: Option<usize>,
    /// How long they may wait.
    pub queue_timeout: Option<Duration>,
    /// How long a call may take.
    pub timeout: Option<Duration>,
    /// The breaker.
    pub breaker: Breaker,
}

/// When a plugin that fails is left alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// So many failures in a row open it.
    pub failures: u32,
    /// For so long; then one call tries.
    pub open: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, open: Duration::from_secs(30) }
    }
}

/// What of a plugin is offered, and how.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curation {
    /// Names as the plugin says them, without its own before them.
    pub plain: bool,
    /// Between the plugin's name and a tool's.
    pub separator: Separator,
    /// Put before every resource URI.
    pub uri_prefix: String,
    /// Instead of what the plugin says of itself.
    pub instructions: Option<String>,
    /// Globs over the plugin's own names of tools and prompts; empty means all.
    pub allow: Vec<String>,
    /// Globs over the same; stronger than `allow`.
    pub deny: Vec<String>,
    /// Whether a tool is hidden unless it is said otherwise.
    pub hidden: bool,
    /// For whom answers are kept that may be; as the plugin says, where nothing is said.
    pub cache_scope: Option<CacheScope>,
    /// Whether the plugin is served alone, too, under its own path.
    pub front: bool,
    /// By the plugin's own name of a tool.
    pub tools: BTreeMap<String, ToolCuration>,
}

/// Between a plugin's name and a tool's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Separator {
    /// `__`
    #[default]
    Underscores,
    /// `.`
    Dot,
}

/// What is changed of one tool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolCuration {
    /// Its name in place of its own.
    pub rename: Option<String>,
    /// Its description in place of its own.
    pub description: Option<String>,
    /// Annotations, an object; put over its own.
    pub annotations: Option<Value>,
    /// Whether it is hidden.
    pub hidden: Option<bool>,
    /// How long a call of it may take.
    pub timeout: Option<Duration>,
    /// What all its callers together may use up.
    pub quota: Quota,
    /// How long its answers are kept; as the plugin says, where nothing is said.
    pub cache: Option<Duration>,
    /// For whom.
    pub cache_scope: Option<CacheScope>,
    /// Pointers to what of its arguments is recorded nowhere.
    pub redact: Vec<String>,
}

/// For whom answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheScope {
    /// For nobody.
    None,
    /// For the caller who asked.
    Private,
    /// For all who may ask.
    Public,
}

impl CacheScope {
    /// In a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Private => "private",
            Self::Public => "public",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::None, Self::Private, Self::Public].into_iter().find(|scope| scope.name() == word)
    }
}

/// A named part of all that is offered, served at a path of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleFile {
    /// Plugins that belong to it.
    pub plugins: Vec<String>,
    /// Globs over published names of tools; empty means all of those plugins.
    pub tools: Vec<String>,
    /// What a model should know to use it.
    pub instructions: Option<String>,
    /// Names as the plugins say them.
    pub plain: bool,
    /// What all its callers together may use up.
    pub quota: Quota,
}

#[cfg(test)]
mod tests;
