//! THE TABLE of fields: all that a plugin's or bundle's file may say, each with its type, default and one sentence.
//!
//! `docs/plugin-files.md` is made from it. Must not know how a file is read.

use crate::config::QUOTA_MAX;
use crate::config::settings::{Fallback, Kind, Setting};

/// What has a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Every file.
    Any,
    /// Every plugin: an MCP server, or a built-in plugin.
    Plugin,
    /// An MCP server.
    Server,
    /// … that is a program.
    Program,
    /// … that has a URL.
    Url,
    /// A bundle.
    Bundle,
}

/// What a file describes, as its `kind` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FileKind {
    /// An MCP server.
    #[default]
    Mcp,
    /// What is different of a plugin that the program brings.
    Builtin,
    /// A bundle.
    Bundle,
}

impl FileKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mcp, Self::Builtin, Self::Bundle];

    /// In a file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::Builtin => "builtin",
            Self::Bundle => "bundle",
        }
    }

    /// In a sentence.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Mcp => "an MCP server",
            Self::Builtin => "a built-in plugin",
            Self::Bundle => "a bundle",
        }
    }
}

/// What a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// As a setting does.
    Plain(Kind),
    /// A text that may be secret, and may be empty.
    Credential,
    /// A table of anything.
    Object,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// With dots between tables and their members; `*` is any name.
    pub key: &'static str,
    /// What has it.
    pub of: Of,
    /// What it takes.
    pub takes: Takes,
    /// Of the number; empty where it has none.
    pub unit: &'static str,
    /// What holds when it is not said, as Markdown.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub sentence: &'static str,
}

impl Field {
    /// Whether a file of this kind may have it.
    pub fn is_for(&self, kind: FileKind) -> bool {
        match self.of {
            Of::Any => true,
            Of::Plugin => kind != FileKind::Bundle,
            Of::Server | Of::Program | Of::Url => kind == FileKind::Mcp,
            Of::Bundle => kind == FileKind::Bundle,
        }
    }

    /// As a setting, whose values are read in the same way; a credential's is never repeated.
    pub fn as_setting(&self) -> Setting {
        let kind = match self.takes {
            Takes::Plain(kind) => kind,
            Takes::Credential | Takes::Object => Kind::Secret,
        };
        let Self { key, unit, sentence, .. } = *self;
        Setting { key, variable: "", flag: None, kind, unit, fallback: Fallback::Unset, sentence }
    }
}

/// The field with this key in files of this kind.
pub fn by_key(key: &str, kind: FileKind) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.key == key && field.is_for(kind))
}

/// What a group of fields is about, in the order of the document.
pub const GROUPS: &[(Of, &str, &str)] = &[
    (Of::Any, "Every file", "What it is, and whether it is there."),
    (
        Of::Server,
        "Every MCP server",
        "`kind = \"mcp\"`. Exactly one of `url` and `command` says where it is.",
    ),
    (
        Of::Plugin,
        "Every plugin",
        "Of an MCP server, and of a built-in plugin (`kind = \"builtin\"`): how it is used, and what of it is offered.",
    ),
    (Of::Program, "A program", "With `command`: Waygate starts it and speaks to it on its standard streams."),
    (Of::Url, "A URL", "With `url`: somebody else runs it."),
    (Of::Bundle, "A bundle", "`kind = \"bundle\"`: a part of all that is offered, served at `/mcp/NAME`."),
];

const fn field(
    key: &'static str,
    of: Of,
    takes: Takes,
    default: &'static str,
    sentence: &'static str,
) -> Field {
    Field { key, of, takes, unit: "", default, sentence }
}

impl Field {
    const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }
}

const fn from_to(min: u64, max: u64) -> Takes {
    Takes::Plain(Kind::Integer { min, max })
}

use Of::{Any, Bundle, Plugin, Program, Server, Url};
use Takes::{Credential, Object};

const BOOL: Takes = Takes::Plain(Kind::Bool);
const TEXT: Takes = Takes::Plain(Kind::Text);
const LIST: Takes = Takes::Plain(Kind::List);
const KINDS: Takes = Takes::Plain(Kind::Words(&["mcp", "builtin", "bundle"]));
const TRANSPORTS: Takes = Takes::Plain(Kind::Words(&["auto", "stdio", "http", "sse"]));
const ISOLATIONS: Takes = Takes::Plain(Kind::Words(&["per_client", "shared"]));
const NAMES: Takes = Takes::Plain(Kind::Words(&["prefixed", "plain"]));
const CACHE_SCOPES: Takes = Takes::Plain(Kind::Words(&["none", "private", "public"]));
const SEPARATORS: Takes = Takes::Plain(Kind::Words(&["__", "."]));
const LIMIT: Takes = from_to(1, QUOTA_MAX as u64);
const DAY: u64 = 86_400;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// All fields, by what has them.
#[rustfmt::skip] // a table: one field a paragraph, names first, sentence last
pub const FIELDS: &[Field] = &[
    field("kind", Any, KINDS, "`\"mcp\"`",
        "What the file describes: an MCP server, what is different of a built-in plugin, or a bundle."),
    field("enabled", Any, BOOL, "`true`",
        "Whether it is there at all; a built-in plugin is, and takes `true` alone."),

    field("url", Server, TEXT, "none",
        "Where the server is: `https://` or `http://`; keys belong into `headers`."),
    field("command", Server, TEXT, "none",
        "The program that is the server: a whole path, or a name that is found in the usual folders."),
    field("transport", Server, TRANSPORTS, "`\"auto\"`",
        "How it is spoken to: `stdio` with `command`; with `url`, `http` is Streamable HTTP, `sse` is HTTP+SSE of 2024-11-05, and `auto` falls back from the one to the other."),
    field("isolation", Server, ISOLATIONS, "`\"per_client\"` with `url`, `\"shared\"` with `command`",
        "Whom a session with the server serves, where it speaks a revision that has sessions: one client, or all; a shared server can ask clients for nothing."),
    field("sessions_max", Server, from_to(1, 100_000), "`64`",
        "Sessions at once with a server of `per_client`.").unit("sessions"),
    field("session_idle_seconds", Server, from_to(1, 30 * DAY), "`300`",
        "A session that nobody used for so long is closed.").unit("seconds"),
    field("start_timeout_seconds", Server, from_to(1, 3600), "`30`",
        "How long it may take to start or connect, shake hands and list what it offers.").unit("seconds"),
    field("response_max_bytes", Server, from_to(1024, GIB), "`16777216`",
        "A larger answer of the server is given up and becomes an error.").unit("bytes"),
    field("breaker.failures", Server, from_to(1, 1000), "`5`",
        "After so many failures in a row the plugin is left alone for a while.").unit("failures"),
    field("breaker.open_seconds", Server, from_to(1, DAY), "`30`",
        "How long that while is; then one call tries again.").unit("seconds"),
    field("uri_prefix", Server, TEXT, "none",
        "Put before the URI of every resource."),

    field("timeout_seconds", Plugin, from_to(1, DAY), "`server.timeout_seconds`",
        "A call that takes longer is given up and answered with an error.").unit("seconds"),
    field("concurrency", Plugin, from_to(1, 100_000), "`plugins.concurrency`",
        "Calls at once.").unit("calls"),
    field("queue_max", Plugin, from_to(0, 1_000_000), "`plugins.queue_max`",
        "Calls that may wait for a place; more are refused with 503.").unit("calls"),
    field("queue_timeout_seconds", Plugin, from_to(1, DAY), "the call's deadline",
        "How long a call may wait for a place.").unit("seconds"),
    field("names", Plugin, NAMES, "`\"prefixed\"`",
        "Whether its names get the plugin's name in front, as `github__create_issue`, or stay as they are."),
    field("separator", Plugin, SEPARATORS, "`\"__\"`",
        "What stands between the plugin's name and the tool's."),
    field("instructions", Plugin, TEXT, "the plugin's own",
        "What a model should know to use it, in place of what the plugin says."),
    field("allow", Plugin, LIST, "all",
        "Globs over the plugin's own names of tools and prompts: only these are offered."),
    field("deny", Plugin, LIST, "none",
        "Globs over the same: these are not offered, whatever `allow` says."),
    field("hidden", Plugin, BOOL, "`false`",
        "Whether tools are left out unless `hidden = false` is said of them."),
    field("cache_scope", Plugin, CACHE_SCOPES, "as the plugin says, else `\"private\"`",
        "For whom its answers are kept that may be: for the same caller alone (`private`), for all (`public`), or for nobody (`none`); see [the cache](cache.md)."),
    field("front", Plugin, BOOL, "`true`",
        "Whether it is also served alone at `/mcp/NAME`, with its own names."),
    field("tools.*.rename", Plugin, TEXT, "none",
        "Another name for the tool that the plugin calls `*`."),
    field("tools.*.description", Plugin, TEXT, "the plugin's own",
        "What the tool does, in place of what the plugin says."),
    field("tools.*.annotations", Plugin, Object, "the plugin's own",
        "Put over the tool's annotations, as `{ readOnlyHint = true }`."),
    field("tools.*.hidden", Plugin, BOOL, "as `hidden` says",
        "Whether the tool is left out."),
    field("tools.*.timeout_seconds", Plugin, from_to(1, DAY), "`timeout_seconds`",
        "How long a call of the tool may take.").unit("seconds"),
    field("tools.*.requests_per_minute", Plugin, LIMIT, "no limit",
        "Calls of it a minute, of all callers together; more are refused with 429.").unit("calls"),
    field("tools.*.burst", Plugin, LIMIT, "as many as a minute gives",
        "How many of them may come at once.").unit("calls"),
    field("tools.*.concurrent", Plugin, LIMIT, "no limit",
        "Calls of it at once, of all callers together; more are refused with 429.").unit("calls"),
    field("tools.*.cache_seconds", Plugin, from_to(0, DAY), "as the plugin says",
        "How long answers of the tool are kept, if it is read-only by its annotations; 0 is not at all.").unit("seconds"),
    field("tools.*.cache_scope", Plugin, CACHE_SCOPES, "`cache_scope`",
        "For whom they are kept."),
    field("tools.*.redact", Plugin, LIST, "none",
        "JSON pointers into its arguments, as `/card/number` or `/items/*/secret`, where `*` is every element or member: the history has `(hidden)` in place of what stands there, whatever it is."),

    field("args", Program, LIST, "`[]`",
        "What the program gets, word by word; nothing is expanded."),
    field("cwd", Program, TEXT, "a private folder",
        "The folder that it works in, which must hold nothing of Waygate's own."),
    field("env.*", Program, Credential, "none",
        "A variable that it gets; see [secrets](#secrets)."),
    field("inherit_env", Program, LIST, "`[]`",
        "Names of Waygate's variables that it gets beside `PATH`, `HOME`, `LANG`, `LC_ALL`, `TZ`, `TMPDIR` and `USER`."),
    field("exclusive", Program, BOOL, "`false`",
        "Whether two processes of it never run at once, whichever servers with this data folder start them: a new one waits until the one before it has ended, also when a server is replaced; not with `isolation = \"per_client\"`; see [plugins](plugins.md#a-program-that-bears-no-twin)."),
    field("sandbox.memory_max_bytes", Program, from_to(0, TIB), "no limit",
        "Address space of each of its processes; 0 is no limit.").unit("bytes"),
    field("sandbox.files_max", Program, from_to(0, 1_048_576), "no limit",
        "Files that each of its processes may have open; 0 is no limit.").unit("files"),
    field("sandbox.cpu_seconds_max", Program, from_to(0, 365 * DAY), "no limit",
        "Processor time of each of its processes; 0 is no limit.").unit("seconds"),
    field("sandbox.folders", Program, LIST, "all but Waygate's own",
        "The only folders that it may use, as `/srv:ro` or `/data:rw`, beside those of the system and the one that it works in."),
    field("sandbox.network", Program, BOOL, "`true`",
        "Whether it may use TCP."),
    field("sandbox.required", Program, BOOL, "`false`",
        "Whether it is not run where the kernel cannot hold it in the folders and off the network; else it runs, and is degraded."),

    field("headers.*", Url, Credential, "none",
        "A header of each request; see [secrets](#secrets)."),
    field("tls.ca", Url, TEXT, "the system's",
        "A PEM file of further authorities that may vouch for the server."),
    field("tls.cert", Url, TEXT, "none",
        "A PEM file of the certificate that Waygate shows."),
    field("tls.key", Url, TEXT, "none",
        "A PEM file of its key."),
    field("proxy", Url, BOOL, "`true`",
        "Whether `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` of Waygate's environment count."),
    field("allow_ranges", Url, LIST, "`[]`",
        "Networks that may be reached although they are guarded, as `169.254.0.0/16`."),

    field("plugins", Bundle, LIST, "`[]`",
        "Plugins that belong to it."),
    field("tools", Bundle, LIST, "all of those plugins",
        "Globs over published names of tools, as `github__list_*`: only these, of `plugins` if it says any."),
    field("names", Bundle, NAMES, "`\"prefixed\"`",
        "Whether names are those that all clients see, or those of the plugins; refused when two plugins have the same."),
    field("instructions", Bundle, TEXT, "none",
        "What a model should know to use it."),
    field("requests_per_minute", Bundle, LIMIT, "no limit",
        "Requests a minute at its path, of all callers together; more are refused with 429.").unit("requests"),
    field("burst", Bundle, LIMIT, "as many as a minute gives",
        "How many of them may come at once.").unit("requests"),
    field("concurrent", Bundle, LIMIT, "no limit",
        "Calls at once at its path, of all callers together; more are refused with 429.").unit("calls"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_stands_twice_and_every_group_has_some() {
        for (at, field) in FIELDS.iter().enumerate() {
            let same = |other: &Field| {
                other.key == field.key
                    && FileKind::ALL.iter().any(|kind| other.is_for(*kind) && field.is_for(*kind))
            };
            assert!(!FIELDS[at + 1..].iter().any(same), "{}", field.key);
            assert!(field.sentence.ends_with('.'), "{}", field.key);
        }
        for (of, title, _) in GROUPS {
            assert!(FIELDS.iter().any(|field| field.of == *of), "{title}");
        }
    }
}
