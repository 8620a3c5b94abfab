//! What checks look at: the configuration, the data folder, and what the running server says of itself. Gathered once, before any
//! check. Must not judge.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{Access, access};
use rustix::process::geteuid;
use serde_json::Value;

use super::finding::quoted;
use crate::app::Builder;
use crate::app::plugins::make::Maker;
use crate::backup::Places;
use crate::backup::restore;
use crate::cli::remote::ClientError;
use crate::cli::running::Running;
use crate::config::{
    Config, Faults, Flags, Layer, Loaded, Secret, Sources, find_data_root, find_env_file, find_secrets, load,
};
use crate::storage::{self, DataFolder, Storage, StorageError, socket};

/// What is asked of the server, and under which name it is kept.
const PAGES: [&str; 6] = [
    "/health",
    "/diagnostics/performance",
    "/diagnostics/connection",
    "/diagnostics/actors",
    "/plugins",
    "/bundles",
];

/// How the server on the data folder is.
pub enum Server {
    /// None runs.
    Stopped,
    /// This user may not ask.
    Barred {
        /// The user who may, if that can be told.
        by: Option<u32>,
        /// What was heard.
        why: String,
    },
    /// One owns the folder, and does not answer.
    Silent {
        /// Its process, if that is known, and by a number that means the same here.
        pid: Option<i32>,
        /// Whether it listens already; one that waits for its database or changes its tables does not.
        listens: bool,
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
    /// The user of the data folder, where a server of this one would not be at home.
    pub foreign: Option<u32>,
    /// The file of variables, whether or not it is there.
    pub env_file: Option<PathBuf>,
    /// That file, where somebody named it.
    pub named_env_file: Option<PathBuf>,
    /// All that the configuration says of secret settings, sound or not.
    pub secrets: Vec<Secret>,
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
        let env_file = find_env_file(&sources);
        Self {
            foreign: root.as_deref().and_then(owner_elsewhere),
            named_env_file: env_file.clone().filter(|_| sources.flags.env_file.is_some()),
            env_file,
            secrets: find_secrets(&sources),
            root,
            loaded,
            maker,
            server,
            url,
            environment: sources.environment,
            now: SystemTime::now(),
        }
    }

    /// The command by which that user does this.
    pub fn as_user(&self, user: u32) -> String {
        let mut command = match user {
            0 => "sudo waygate-mcp doctor".to_owned(),
            _ => format!("sudo -u '#{user}' waygate-mcp doctor"),
        };
        for (flag, path) in [("--env-file", &self.named_env_file), ("--data-dir", &self.root)] {
            if let Some(path) = path {
                command.push_str(&format!(" {flag} {}", quoted(path)));
            }
        }
        command
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
            Server::Stopped | Server::Barred { .. } => None,
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

/// The user of the data folder of this root, unless it is this one. As a server has it: what is root's is of anybody who may
/// write there, as a container's volume is.
fn owner_elsewhere(root: &Path) -> Option<u32> {
    let folder = root.join("data");
    // Where it may not be looked at, what is above it tells.
    let owner = fs::metadata(&folder).or_else(|_| fs::metadata(root)).ok()?.uid();
    let is_usable = || access(&folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    (owner != geteuid().as_raw() && !(owner == 0 && is_usable())).then_some(owner)
}

fn barred(root: &Path, folder: &Path, why: String) -> Server {
    let own = geteuid().as_raw();
    let by = fs::metadata(folder.join(socket::SERVER)).ok().map(|about| about.uid());
    Server::Barred { by: by.filter(|by| *by != own).or_else(|| owner_elsewhere(root)), why }
}

fn silent(folder: &Path, why: &ClientError) -> Server {
    let nobody = |kind| matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused);
    let listens = !socket::connect(folder, socket::SERVER).is_err_and(|error| nobody(error.kind()));
    // The number that a server in a container wrote there is another process's here.
    let pid = DataFolder::owner(folder).filter(|_| DataFolder::is_owned(folder));
    Server::Silent { pid, listens, why: why.to_string() }
}

fn ask(root: &Path) -> Server {
    let folder = root.join("data");
    let running = Running::at(root).at_hand();
    let mut pages = Vec::new();
    for page in PAGES {
        match running.get(page) {
            Ok(Some(shown)) => pages.push((page, shown)),
            Ok(None) => return Server::Stopped,
            Err(ClientError::Refused { status: 403, message }) => return barred(root, &folder, message),
            Err(error) => return silent(&folder, &error),
        }
    }
    Server::Running(pages)
}
