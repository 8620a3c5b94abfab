//! Makes plugins of the MCP servers that files describe: the ways to them, and what speaks to those that have sessions.
//!
//! Must not know when a plugin is started, nor what it offers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::make::Maker;
use super::turns::Turns;
use crate::app::data_folder;
use crate::app::ending::succeeded_within;
use crate::config::Config;
use crate::config::plugin::{HttpReach, HttpTransport, McpServer, Reach, StdioReach};
use crate::plugins::Plugin;
use crate::plugins::child::Guard;
use crate::plugins::upstream::legacy::{Legacy, Manner};
use crate::plugins::upstream::link::http::{HttpCore, HttpLink};
use crate::plugins::upstream::link::sse::SseLink;
use crate::plugins::upstream::link::stdio::{Heard, StdioLink};
use crate::plugins::upstream::link::{Link, LinkError};
use crate::plugins::upstream::{Claim, Parts, Unclaimed, Upstream, Waits, Ways, credentials};

/// A parked call outlives the time that its client has by so much, for the way of the answer.
const SLACK: Duration = Duration::from_secs(5);

/// Makes plugins of MCP servers.
pub struct Servers {
    guard: Guard,
    data_root: PathBuf,
    /// Where the locks are of programs that bear no twin, and how long one is waited for.
    locks: (PathBuf, Duration),
    /// Folders that are no program's business.
    denied: Vec<PathBuf>,
    input_timeout: Duration,
}

impl Servers {
    /// Programs run under `guard`.
    pub fn new(config: &Config, guard: Guard) -> Self {
        let data_root = config.server.data_dir.clone();
        let own = ["data", "logs", "plugins", "files", "config"];
        let mut denied: Vec<PathBuf> = own.iter().map(|folder| data_root.join(folder)).collect();
        denied.extend(config.read_from.iter().cloned());
        let input_timeout = Duration::from_secs(config.mcp.input_timeout_seconds).saturating_add(SLACK);
        let locks = (data_folder(config), succeeded_within(config.server.drain_seconds));
        Self { guard, data_root, locks, denied, input_timeout }
    }

    /// A program may do as it likes in the folder that it works in, so none of Waygate's own may be in there.
    fn check_folder(&self, reach: &Reach) -> Result<(), String> {
        let Reach::Stdio(StdioReach { cwd: Some(cwd), .. }) = reach else { return Ok(()) };
        // Past links; what is not there yet is as it is written.
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = real(cwd);
        match std::iter::once(&self.data_root).chain(&self.denied).find(|own| real(own).starts_with(&folder))
        {
            None => Ok(()),
            Some(own) => Err(format!(
                "cwd {} holds {}, which is Waygate's own and no program's business; choose another folder, or leave cwd out \
                 for a private one",
                cwd.display(),
                own.display()
            )),
        }
    }

    fn ways(&self, name: &Arc<str>, server: &McpServer) -> Arc<dyn Ways> {
        let response_max_bytes = server.response_max_bytes;
        match &server.reach {
            Reach::Stdio(reach) => Arc::new(Programs(Arc::new(Program {
                heard: Heard::of(name),
                links: Mutex::default(),
                turns: reach.exclusive.then(|| Turns::of(name, &self.locks.0, self.locks.1)),
                reach: reach.clone(),
                folder: reach
                    .cwd
                    .clone()
                    .unwrap_or_else(|| self.data_root.join("plugins-data").join(&**name)),
                guard: self.guard.clone(),
                denied: self.denied.clone(),
                response_max_bytes,
            }))),
            Reach::Http(reach) => Arc::new(Urls(Arc::new(Url {
                reach: reach.clone(),
                response_max_bytes,
                core: Mutex::default(),
                is_older: AtomicBool::new(reach.transport == HttpTransport::Sse),
            }))),
        }
    }
}

impl Maker for Servers {
    fn make(&self, name: &str, server: &McpServer) -> Result<Arc<dyn Plugin>, String> {
        self.check_folder(&server.reach)?;
        let name: Arc<str> = name.into();
        let manner = Manner {
            plugin: Arc::clone(&name),
            isolation: server.isolation,
            isolation_spoken: server.isolation_spoken,
            sessions_max: server.sessions_max,
            session_idle: server.session_idle,
            start_timeout: server.start_timeout,
            input_timeout: self.input_timeout,
        };
        Ok(Upstream::new(Parts {
            ways: self.ways(&name, server),
            name,
            sessions: Box::new(move |opened, ways| Legacy::new(manner.clone(), opened, ways)),
            start_timeout: server.start_timeout,
            uri_prefix: server.curation.uri_prefix.clone(),
        }))
    }
}

/// A program, started anew for each link.
struct Programs(Arc<Program>);

struct Program {
    /// What it said, through all lives.
    heard: Arc<Heard>,
    /// Those that run, one or, with a session for each client, many.
    links: Mutex<Vec<Weak<StdioLink>>>,
    /// Where it bears no twin.
    turns: Option<Arc<Turns>>,
    reach: StdioReach,
    folder: PathBuf,
    guard: Guard,
    denied: Vec<PathBuf>,
    response_max_bytes: usize,
}

impl Program {
    async fn start(self: Arc<Self>) -> Result<Arc<dyn Link>, LinkError> {
        // A credential may be a file, on a disk that hangs.
        let program = Arc::clone(&self);
        let resolved =
            tokio::task::spawn_blocking(move || credentials::resolve_all(&program.reach.env, "env")).await;
        let resolved = resolved.map_err(|error| LinkError::Unreachable(error.to_string()))?;
        let resolved = resolved.map_err(|error| LinkError::Misconfigured(error.to_string()))?;
        let variable = |(name, value): (String, crate::config::Secret)| {
            (OsString::from(name), OsString::from(value.expose()))
        };
        let lock = match &self.turns {
            Some(turns) => Some(turns.next().await.map_err(|unclaimed| match unclaimed {
                Unclaimed::Held(why) | Unclaimed::Failed(why) => LinkError::Unreachable(why),
            })?),
            None => None,
        };
        let link = StdioLink::start(
            &self.heard,
            &self.reach,
            resolved.into_iter().map(variable).collect(),
            self.folder.clone(),
            (&self.guard, lock),
            &self.denied,
            self.response_max_bytes,
        );
        let link = Arc::new(link.await?);
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
        Ok(link)
    }

    /// All that run, together.
    fn report(&self) -> Value {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let running: Vec<Value> = links
            .iter()
            .filter_map(Weak::upgrade)
            .map(|link| link.report())
            .filter(|report| report.get("rssBytes").is_some())
            .collect();
        let whole = |key: &str| running.iter().filter_map(|report| report.get(key)?.as_u64()).sum::<u64>();
        let seconds = running.iter().filter_map(|report| report.get("cpuSeconds")?.as_f64()).sum::<f64>();
        let mut report = json!({
            "running": running.len(),
            "lastExit": self.heard.last_exit(),
            "stderr": self.heard.lines(),
        });
        if let (false, Some(members)) = (running.is_empty(), report.as_object_mut()) {
            members.insert("cpuSeconds".to_owned(), json!(seconds));
            for key in ["rssBytes", "processes", "noise", "late"] {
                members.insert(key.to_owned(), whole(key).into());
            }
        }
        report
    }
}

impl Ways for Programs {
    fn open(&self) -> BoxFuture<'static, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(Arc::clone(&self.0).start())
    }

    fn claim<'a>(&'a self, waits: Waits<'a>) -> BoxFuture<'a, Result<Option<Box<dyn Claim>>, Unclaimed>> {
        let Some(turns) = self.0.turns.clone() else { return Box::pin(std::future::ready(Ok(None))) };
        Box::pin(async move { turns.claim(waits).await.map(Some) })
    }

    fn report(&self) -> Value {
        self.0.report()
    }
}

/// A URL: the links of one life share its connections.
struct Urls(Arc<Url>);

struct Url {
    reach: HttpReach,
    response_max_bytes: usize,
    /// Made with what was read at the beginning of the life.
    core: Mutex<Option<HttpCore>>,
    /// Whether the server is spoken to over HTTP+SSE.
    is_older: AtomicBool,
}

impl Url {
    async fn core(self: &Arc<Self>) -> Result<HttpCore, LinkError> {
        let known = self.core.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(core) = known {
            return Ok(core);
        }
        let url = Arc::clone(self);
        // Certificates and credentials are read from files.
        let made = tokio::task::spawn_blocking(move || {
            let headers = credentials::headers(&url.reach.headers);
            let headers = headers.map_err(|error| LinkError::Misconfigured(error.to_string()))?;
            HttpCore::open(&url.reach, headers, url.response_max_bytes)
        });
        let core = made.await.map_err(|error| LinkError::Unreachable(error.to_string()))??;
        *self.core.lock().unwrap_or_else(PoisonError::into_inner) = Some(core.clone());
        Ok(core)
    }

    async fn open(self: Arc<Self>) -> Result<Arc<dyn Link>, LinkError> {
        let core = self.core().await?;
        Ok(match self.is_older.load(Ordering::Relaxed) {
            true => Arc::new(SseLink::open(&core).await?),
            false => Arc::new(HttpLink::over(&core)),
        })
    }
}

impl Ways for Urls {
    fn open(&self) -> BoxFuture<'static, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(Arc::clone(&self.0).open())
    }

    fn renew(&self) {
        *self.0.core.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // It may have been brought up to date.
        self.0.is_older.store(self.0.reach.transport == HttpTransport::Sse, Ordering::Relaxed);
    }

    fn fall_back(&self) -> Option<BoxFuture<'static, Result<Arc<dyn Link>, LinkError>>> {
        (self.0.reach.transport == HttpTransport::Auto).then(|| {
            self.0.is_older.store(true, Ordering::Relaxed);
            self.open()
        })
    }
}
