//! What checks look at: the configuration, the data folder, and what the running server says of itself. Gathered once, before any
//! check. Must not judge.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::app::Builder;
use crate::app::plugins::make::Maker;
use crate::backup::Places;
use crate::backup::restore;
use crate::cli::remote::ClientError;
use crate::cli::running::Running;
use crate::config::{Config, Faults, Flags, Layer, Loaded, Sources, find_data_root, load};
use crate::storage::{self, DataFolder, Storage, StorageError};

/// What is asked of the server, and under which name it is kept.
const PAGES: [&str; 6] = [
    "/health",
    "/diagnostics/performance",
    "/diagnostics/connection",
    "/diagnostics/actors",
    "/plugins",
    "/bundles",
];

/// A server that is well answers these at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How the server on the data folder is.
pub enum Server {
    /// None runs.
    Stopped,
    /// One owns the folder, and does not answer.
    Silent {
        /// Its process, if that is known.
        pid: Option<i32>,
        /// What was heard.
        why: String,
    },
    /// It answers.
    Running(Vec<(&'static str, Value)>),
}

/// All that checks look at.
pub struct Patient {
    /// The data root, where it can be told.
    pub root: Option<PathBuf>,
    /// The configuration, or all that is wrong with it.
    pub loaded: Result<Loaded, Faults>,
    /// What makes plugins of files.
    pub maker: Option<Arc<dyn Maker>>,
    /// How the server is.
    pub server: Server,
    /// A URL that streams are looked at through.
    pub url: Option<String>,
    /// The environment of this process.
    pub environment: Vec<(String, String)>,
    /// What time it is.
    pub now: SystemTime,
}

impl Patient {
    /// Looks at what `serve` would look at, and asks the server if one runs.
    pub fn gather(builder: &Builder, flags: Flags, url: Option<String>) -> Self {
        let sources = Sources::of_process(flags, true);
        let root = find_data_root(&sources);
        let loaded = load(&sources);
        let maker = loaded.as_ref().ok().and_then(|loaded| builder.maker(&loaded.config));
        let server = root.as_deref().map_or(Server::Stopped, ask);
        Self { root, loaded, maker, server, url, environment: sources.environment, now: SystemTime::now() }
    }

    /// The configuration, if it is sound.
    pub fn config(&self) -> Option<&Config> {
        self.loaded.as_ref().ok().map(|loaded| &loaded.config)
    }

    /// Whether somebody chose the value of a setting.
    pub fn is_chosen(&self, key: &str) -> bool {
        let settings = self.loaded.as_ref().map(|loaded| loaded.settings.as_slice()).unwrap_or_default();
        let shown = settings.iter().find(|shown| shown.setting.key == key);
        shown.and_then(|shown| shown.origin.as_ref()).is_some_and(|origin| origin.layer != Layer::Default)
    }

    /// The folder of database, keys and lock.
    pub fn data_folder(&self) -> Option<PathBuf> {
        self.root.as_ref().map(|root| root.join("data"))
    }

    /// What the running server shows there.
    pub fn page(&self, page: &str) -> Option<&Value> {
        let Server::Running(pages) = &self.server else { return None };
        pages.iter().find(|(name, _)| *name == page).map(|(_, shown)| shown)
    }

    /// Whether a server runs, be it that it does not answer.
    pub fn is_running(&self) -> bool {
        !matches!(self.server, Server::Stopped)
    }

    /// The process of the server.
    pub fn pid(&self) -> Option<i64> {
        match &self.server {
            Server::Stopped => None,
            Server::Silent { pid, .. } => pid.map(i64::from),
            Server::Running(_) => self.page("/diagnostics/performance")?.get("pid")?.as_i64(),
        }
    }

    /// The database, opened; none when there is none yet.
    ///
    /// # Errors
    /// What the database says.
    pub fn storage(&self) -> Option<Result<Storage, StorageError>> {
        let places = Places::of(self.config()?);
        match storage::open_existing(&places.database, &places.default_database()) {
            Err(StorageError::Missing(_)) => None,
            opened => Some(opened),
        }
    }

    /// How long ago that was; nothing for what lies in the future.
    pub fn since(&self, at: SystemTime) -> Duration {
        self.now.duration_since(at).unwrap_or_default()
    }

    /// Whether a restore was cut off.
    pub fn restore_is_pending(&self) -> bool {
        self.root.as_deref().is_some_and(restore::is_pending)
    }
}

fn ask(root: &Path) -> Server {
    let folder = root.join("data");
    let silent =
        |error: &ClientError| Server::Silent { pid: DataFolder::owner(&folder), why: error.to_string() };
    let running = Running::at(root).within(ANSWER_WITHIN);
    let mut pages = Vec::new();
    for page in PAGES {
        match running.get(page) {
            Ok(Some(shown)) => pages.push((page, shown)),
            Ok(None) => return Server::Stopped,
            Err(error) => return silent(&error),
        }
    }
    Server::Running(pages)
}
