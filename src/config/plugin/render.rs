//! A plugin's or bundle's file as text: only what is not the default, in the order of the table of fields.
//!
//! What it writes, `parse` reads as the same.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::build::{RESPONSE_MAX_BYTES, SESSION_IDLE, SESSIONS_MAX, START_TIMEOUT};
use super::{
    Breaker, BundleFile, CacheScope, Credential, HttpReach, HttpTransport, Isolation, McpServer, PluginFile,
    PluginKind, PluginLimits, Reach, Sandbox, Separator, StdioReach, Tls, ToolCuration, Tuning,
};
use crate::config::Quota;

/// The text of a file.
pub fn render(file: &PluginFile) -> String {
    let mut text = Text::default();
    match &file.kind {
        PluginKind::Mcp(server) => {
            text.line("kind", "\"mcp\"");
            text.unless(file.enabled, "enabled", "false");
            text.server(server);
        }
        PluginKind::Builtin(tuning) => {
            text.line("kind", "\"builtin\"");
            text.tuning(tuning);
        }
        PluginKind::Bundle(bundle) => {
            text.line("kind", "\"bundle\"");
            text.unless(file.enabled, "enabled", "false");
            text.bundle(bundle);
        }
    }
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, name: &str, value: &str) {
        let _infallible = writeln!(self.0, "{} = {value}", key(name));
    }

    fn unless(&mut self, is_default: bool, name: &str, value: impl ToString) {
        if !is_default {
            self.line(name, &value.to_string());
        }
    }

    fn number(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.line(name, &value.to_string());
        }
    }

    fn truth(&mut self, name: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.line(name, &value.to_string());
        }
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.line(name, &quoted(value));
        }
    }

    fn list(&mut self, name: &str, items: &[String]) {
        self.unless(items.is_empty(), name, list(items));
    }

    /// An inline table of what is not the default.
    fn table(&mut self, name: &str, members: &[(&str, String)]) {
        self.unless(members.is_empty(), name, inline(members));
    }

    fn bundle(&mut self, bundle: &BundleFile) {
        self.list("plugins", &bundle.plugins);
        self.list("tools", &bundle.tools);
        self.unless(!bundle.plain, "names", "\"plain\"");
        self.text("instructions", bundle.instructions.as_deref());
        self.quota(bundle.quota);
    }

    fn quota(&mut self, quota: Quota) {
        self.number("requests_per_minute", quota.requests_per_minute.map(u64::from));
        self.number("burst", quota.burst.map(u64::from));
        self.number("concurrent", quota.concurrent.map(u64::from));
    }

    fn server(&mut self, server: &McpServer) {
        match &server.reach {
            Reach::Http(reach) => self.http(reach),
            Reach::Stdio(reach) => self.stdio(reach),
        }
        let isolation = match server.isolation {
            Isolation::PerClient => "\"per_client\"",
            Isolation::Shared => "\"shared\"",
        };
        self.unless(!server.isolation_spoken, "isolation", isolation);
        self.unless(server.sessions_max == SESSIONS_MAX, "sessions_max", server.sessions_max);
        self.unless(
            server.session_idle == SESSION_IDLE,
            "session_idle_seconds",
            server.session_idle.as_secs(),
        );
        self.unless(
            server.start_timeout == START_TIMEOUT,
            "start_timeout_seconds",
            server.start_timeout.as_secs(),
        );
        self.unless(
            server.response_max_bytes == RESPONSE_MAX_BYTES,
            "response_max_bytes",
            server.response_max_bytes,
        );
        self.breaker(server.limits.breaker);
        let curation = &server.curation;
        self.unless(curation.uri_prefix.is_empty(), "uri_prefix", quoted(&curation.uri_prefix));
        let mut tuning = Tuning::of(server.limits, curation);
        // What is the default of a server.
        tuning.plain = tuning.plain.filter(|plain| *plain);
        tuning.separator = tuning.separator.filter(|separator| *separator == Separator::Dot);
        tuning.hidden = tuning.hidden.filter(|hidden| *hidden);
        tuning.front = tuning.front.filter(|front| !front);
        self.tuning(&tuning);
    }

    fn http(&mut self, reach: &HttpReach) {
        self.line("url", &quoted(&reach.url));
        match reach.transport {
            HttpTransport::Auto => {}
            HttpTransport::Http => self.line("transport", "\"http\""),
            HttpTransport::Sse => self.line("transport", "\"sse\""),
        }
        self.table("headers", &credentials(&reach.headers));
        let Tls { ca, cert, key } = &reach.tls;
        let files = [("ca", ca), ("cert", cert), ("key", key)].into_iter();
        let files = files.filter_map(|(name, path)| Some((name, quoted(&path.as_ref()?.to_string_lossy()))));
        self.table("tls", &files.collect::<Vec<_>>());
        self.unless(reach.proxy, "proxy", "false");
        self.list("allow_ranges", &reach.allow_ranges);
    }

    fn stdio(&mut self, reach: &StdioReach) {
        self.line("command", &quoted(&reach.command));
        self.list("args", &reach.args);
        self.text("cwd", reach.cwd.as_ref().map(|path| path.to_string_lossy()).as_deref());
        self.table("env", &credentials(&reach.env));
        self.list("inherit_env", &reach.inherit_env);
        self.unless(!reach.exclusive, "exclusive", "true");
        let Sandbox { memory_max_bytes, files_max, cpu_seconds_max, folders, no_network, required } =
            &reach.sandbox;
        let limits = [
            ("memory_max_bytes", memory_max_bytes),
            ("files_max", files_max),
            ("cpu_seconds_max", cpu_seconds_max),
        ];
        let limits = limits.into_iter().filter_map(|(name, limit)| Some((name, limit.as_ref()?.to_string())));
        let mut members: Vec<(&str, String)> = limits.collect();
        members.extend(folders.as_ref().map(|folders| {
            let folder = |(path, writes): &(std::path::PathBuf, bool)| {
                format!("{}:{}", path.to_string_lossy(), if *writes { "rw" } else { "ro" })
            };
            ("folders", list(&folders.iter().map(folder).collect::<Vec<_>>()))
        }));
        members.extend(no_network.then(|| ("network", "false".to_owned())));
        members.extend(required.then(|| ("required", "true".to_owned())));
        self.table("sandbox", &members);
    }

    fn limits(&mut self, limits: &PluginLimits) {
        let seconds = |duration: Option<std::time::Duration>| duration.map(|duration| duration.as_secs());
        self.number("timeout_seconds", seconds(limits.timeout));
        self.number("concurrency", limits.concurrency.map(|calls| calls as u64));
        self.number("queue_max", limits.queue_max.map(|calls| calls as u64));
        self.number("queue_timeout_seconds", seconds(limits.queue_timeout));
    }

    fn breaker(&mut self, breaker: Breaker) {
        let (Breaker { failures, open }, default) = (breaker, Breaker::default());
        let mut members = Vec::new();
        if failures != default.failures {
            members.push(("failures", failures.to_string()));
        }
        if open != default.open {
            members.push(("open_seconds", open.as_secs().to_string()));
        }
        self.table("breaker", &members);
    }

    fn tuning(&mut self, tuning: &Tuning) {
        self.limits(&tuning.limits);
        self.text("names", tuning.plain.map(|plain| if plain { "plain" } else { "prefixed" }));
        let separator = |separator| if separator == Separator::Dot { "." } else { "__" };
        self.text("separator", tuning.separator.map(separator));
        self.text("instructions", tuning.instructions.as_deref());
        self.list("allow", &tuning.allow);
        self.list("deny", &tuning.deny);
        self.truth("hidden", tuning.hidden);
        self.text("cache_scope", tuning.cache_scope.map(CacheScope::name));
        self.truth("front", tuning.front);
        for (name, tool) in &tuning.tools {
            let _infallible = write!(self.0, "\n[tools.{}]\n", key(name));
            self.tool(tool);
        }
    }

    fn tool(&mut self, tool: &ToolCuration) {
        self.text("rename", tool.rename.as_deref());
        self.text("description", tool.description.as_deref());
        if let Some(annotations) = &tool.annotations {
            self.line("annotations", &of_json(annotations));
        }
        self.truth("hidden", tool.hidden);
        self.number("timeout_seconds", tool.timeout.map(|timeout| timeout.as_secs()));
        self.quota(tool.quota);
        self.number("cache_seconds", tool.cache.map(|cache| cache.as_secs()));
        self.text("cache_scope", tool.cache_scope.map(CacheScope::name));
        self.list("redact", &tool.redact);
    }
}

fn credentials(all: &std::collections::BTreeMap<String, Credential>) -> Vec<(&str, String)> {
    all.iter().map(|(name, credential)| (name.as_str(), quoted(&credential.0))).collect()
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}

fn inline(members: &[(&str, String)]) -> String {
    if members.is_empty() {
        return "{}".to_owned();
    }
    let members = members.iter().map(|(name, value)| format!("{} = {value}", key(name)));
    format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
}

fn of_json(value: &Json) -> String {
    match value {
        Json::String(text) => quoted(text),
        Json::Array(items) => format!("[{}]", items.iter().map(of_json).collect::<Vec<_>>().join(", ")),
        Json::Object(members) => {
            let members: Vec<(&str, String)> =
                members.iter().map(|(name, value)| (name.as_str(), of_json(value))).collect();
            inline(&members)
        }
        // TOML has no null, and no file that was read holds one.
        other => other.to_string(),
    }
}

/// A name as it is where TOML takes it so, else quoted.
fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// A basic string on one line, which can be a key, too.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            _ if char.is_control() => {
                let _infallible = write!(quoted, "\\u{:04X}", u32::from(char));
            }
            _ => quoted.push(char),
        }
    }
    quoted + "\""
}
