//! From what was said of a plugin or bundle to the values that the rooms use, with a default for what was not said.
//!
//! Must not judge: `check` does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::fields::FileKind;
use super::read::{Said, Value};
use super::{
    Breaker, BundleFile, CacheScope, Credential, Curation, HttpReach, HttpTransport, Isolation, McpServer,
    PluginFile, PluginKind, PluginLimits, Reach, Sandbox, Separator, StdioReach, Tls, ToolCuration, Tuning,
};
use crate::config::Quota;
use crate::config::values::Value as Plain;

/// Defaults that `render` leaves out again.
pub const SESSIONS_MAX: usize = 64;
pub const SESSION_IDLE: Duration = Duration::from_secs(300);
pub const START_TIMEOUT: Duration = Duration::from_secs(30);
pub const RESPONSE_MAX_BYTES: usize = 16 << 20;

/// The file; none when it does not say where its server is.
pub fn build(said: &Said) -> Option<PluginFile> {
    let kind = match said.kind {
        FileKind::Bundle => PluginKind::Bundle(bundle(said)),
        FileKind::Builtin => PluginKind::Builtin(Box::new(tuning(said))),
        FileKind::Mcp => PluginKind::Mcp(Box::new(server(said)?)),
    };
    Some(PluginFile { name: said.name.clone(), enabled: said.truth("enabled").unwrap_or(true), kind })
}

fn bundle(said: &Said) -> BundleFile {
    BundleFile {
        plugins: said.list("plugins"),
        tools: said.list("tools"),
        instructions: said.text("instructions"),
        plain: said.text("names").as_deref() == Some("plain"),
        quota: Quota {
            requests_per_minute: said.limit("requests_per_minute"),
            burst: said.limit("burst"),
            concurrent: said.limit("concurrent"),
        },
    }
}

fn server(said: &Said) -> Option<McpServer> {
    let reach = reach(said)?;
    let isolation = said.text("isolation");
    let tuning = tuning(said);
    let uri_prefix = said.text("uri_prefix").unwrap_or_default();
    Some(McpServer {
        isolation: match (isolation.as_deref(), &reach) {
            (Some("shared"), _) | (None, Reach::Stdio(_)) => Isolation::Shared,
            _ => Isolation::PerClient,
        },
        isolation_spoken: isolation.is_some(),
        reach,
        sessions_max: said.size("sessions_max").unwrap_or(SESSIONS_MAX),
        session_idle: said.seconds("session_idle_seconds").unwrap_or(SESSION_IDLE),
        start_timeout: said.seconds("start_timeout_seconds").unwrap_or(START_TIMEOUT),
        response_max_bytes: said.size("response_max_bytes").unwrap_or(RESPONSE_MAX_BYTES),
        limits: tuning.limits,
        curation: tuning.over(&Curation { uri_prefix, front: true, ..Curation::default() }),
    })
}

fn reach(said: &Said) -> Option<Reach> {
    if let Some(url) = said.text("url") {
        let transport = match said.text("transport").as_deref() {
            Some("http") => HttpTransport::Http,
            Some("sse") => HttpTransport::Sse,
            _ => HttpTransport::Auto,
        };
        let path = |key| said.text(key).map(PathBuf::from);
        return Some(Reach::Http(HttpReach {
            url,
            transport,
            headers: said.credentials("headers.*"),
            tls: Tls { ca: path("tls.ca"), cert: path("tls.cert"), key: path("tls.key") },
            proxy: said.truth("proxy").unwrap_or(true),
            allow_ranges: said.list("allow_ranges"),
        }));
    }
    Some(Reach::Stdio(StdioReach {
        command: said.text("command")?,
        args: said.list("args"),
        cwd: said.text("cwd").map(PathBuf::from),
        env: said.credentials("env.*"),
        inherit_env: said.list("inherit_env"),
        exclusive: said.truth("exclusive") == Some(true),
        sandbox: sandbox(said),
    }))
}

fn sandbox(said: &Said) -> Sandbox {
    let limit = |key| said.number(key).filter(|limit| *limit > 0);
    let folders = said.find("sandbox.folders");
    Sandbox {
        memory_max_bytes: limit("sandbox.memory_max_bytes"),
        files_max: limit("sandbox.files_max"),
        cpu_seconds_max: limit("sandbox.cpu_seconds_max"),
        folders: folders.map(|given| given.items().iter().filter_map(|folder| folder_of(folder)).collect()),
        no_network: said.truth("sandbox.network") == Some(false),
        required: said.truth("sandbox.required") == Some(true),
    }
}

/// `/path:ro` or `/path:rw`: the folder, and whether it may be written.
pub fn folder_of(text: &str) -> Option<(PathBuf, bool)> {
    let (path, access) = text.rsplit_once(':')?;
    let writes = match access {
        "ro" => false,
        "rw" => true,
        _ => return None,
    };
    (path.starts_with('/') && !path.contains('\0')).then(|| (PathBuf::from(path), writes))
}

fn limits(said: &Said) -> PluginLimits {
    let breaker = Breaker::default();
    let failures = said.number("breaker.failures").and_then(|failures| u32::try_from(failures).ok());
    PluginLimits {
        concurrency: said.size("concurrency"),
        queue_max: said.size("queue_max"),
        queue_timeout: said.seconds("queue_timeout_seconds"),
        timeout: said.seconds("timeout_seconds"),
        breaker: Breaker {
            failures: failures.unwrap_or(breaker.failures),
            open: said.seconds("breaker.open_seconds").unwrap_or(breaker.open),
        },
    }
}

fn tuning(said: &Said) -> Tuning {
    Tuning {
        limits: limits(said),
        plain: said.text("names").map(|word| word == "plain"),
        separator: said.text("separator").map(|word| match &*word {
            "." => Separator::Dot,
            _ => Separator::Underscores,
        }),
        instructions: said.text("instructions"),
        allow: said.list("allow"),
        deny: said.list("deny"),
        hidden: said.truth("hidden"),
        cache_scope: said.text("cache_scope").as_deref().and_then(CacheScope::of),
        front: said.truth("front"),
        tools: tools(said),
    }
}

fn tools(said: &Said) -> BTreeMap<String, ToolCuration> {
    let mut tools: BTreeMap<String, ToolCuration> = BTreeMap::new();
    for given in said.given.iter().filter(|given| given.field.key.starts_with("tools.*.")) {
        let tool = tools.entry(given.name.clone()).or_default();
        match (given.field.key, &given.value) {
            ("tools.*.rename", Value::Plain(Plain::Text(name))) => tool.rename = Some(name.clone()),
            ("tools.*.description", Value::Plain(Plain::Text(text))) => tool.description = Some(text.clone()),
            ("tools.*.annotations", Value::Object(object)) => tool.annotations = Some(object.clone()),
            ("tools.*.hidden", Value::Plain(Plain::Truth(hidden))) => tool.hidden = Some(*hidden),
            ("tools.*.timeout_seconds", Value::Plain(Plain::Number(seconds))) => {
                tool.timeout = Some(Duration::from_secs(*seconds));
            }
            ("tools.*.requests_per_minute", Value::Plain(Plain::Number(limit))) => {
                tool.quota.requests_per_minute = u32::try_from(*limit).ok();
            }
            ("tools.*.burst", Value::Plain(Plain::Number(limit))) => {
                tool.quota.burst = u32::try_from(*limit).ok()
            }
            ("tools.*.concurrent", Value::Plain(Plain::Number(limit))) => {
                tool.quota.concurrent = u32::try_from(*limit).ok();
            }
            ("tools.*.cache_seconds", Value::Plain(Plain::Number(seconds))) => {
                tool.cache = Some(Duration::from_secs(*seconds));
            }
            ("tools.*.cache_scope", Value::Plain(Plain::Text(word))) => {
                tool.cache_scope = CacheScope::of(word);
            }
            ("tools.*.redact", Value::Plain(Plain::List(pointers))) => tool.redact = pointers.clone(),
            _ => {}
        }
    }
    tools
}

impl Said {
    fn text(&self, key: &str) -> Option<String> {
        self.find(key).map(|given| given.text().to_owned())
    }

    fn list(&self, key: &str) -> Vec<String> {
        self.find(key).map(|given| given.items().to_vec()).unwrap_or_default()
    }

    fn truth(&self, key: &str) -> Option<bool> {
        self.find(key).and_then(|given| match given.value {
            Value::Plain(Plain::Truth(truth)) => Some(truth),
            _ => None,
        })
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.find(key).and_then(|given| match given.value {
            Value::Plain(Plain::Number(number)) => Some(number),
            _ => None,
        })
    }

    fn size(&self, key: &str) -> Option<usize> {
        self.number(key).and_then(|number| usize::try_from(number).ok())
    }

    fn limit(&self, key: &str) -> Option<u32> {
        self.number(key).and_then(|number| u32::try_from(number).ok())
    }

    fn seconds(&self, key: &str) -> Option<Duration> {
        self.number(key).map(Duration::from_secs)
    }

    fn credentials(&self, key: &str) -> BTreeMap<String, Credential> {
        self.each(key).map(|given| (given.name.clone(), Credential(given.text().to_owned()))).collect()
    }
}
