//! What a server is made of: its name and its plugins. This is where others embed Waygate.

use std::sync::Arc;

use super::StartError;
use super::host::Slot;
use crate::actors::db::Render;
use crate::catalog::Names;
use crate::config::{self, Capture, Config};
use crate::plugins::Plugin;
use crate::plugins::builtin::files::{Files, Options, Root};
use crate::plugins::builtin::waygate::Waygate;
use crate::protocol::Raw;
use crate::telemetry::redaction;

/// A plugin under its name, with the way its names are published.
type Named = (String, Names, Arc<dyn Plugin>);

/// A server to be: its name, its plugins, how their names are published.
#[derive(Clone)]
pub struct Builder {
    name: String,
    names: Names,
    builtins: bool,
    plugins: Vec<(String, Arc<dyn Plugin>)>,
}

impl Builder {
    /// A server of this name (as clients see it), without any plugin.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), names: Names::Prefixed, builtins: false, plugins: Vec::new() }
    }

    /// Adds the built-in plugins: `files` and `waygate`.
    pub fn with_builtins(mut self) -> Self {
        self.builtins = true;
        self
    }

    /// Publishes names as the plugins say them, without the plugin's name before them.
    pub fn plain_names(mut self) -> Self {
        self.names = Names::Plain;
        self
    }

    /// Adds a plugin.
    pub fn plugin(mut self, name: &str, plugin: Arc<dyn Plugin>) -> Self {
        self.plugins.push((name.to_owned(), plugin));
        self
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All plugins; the built-in ones are made from the configuration.
    pub(super) fn plugins(self, config: &Config, host: &Slot) -> Result<Vec<Named>, StartError> {
        let names = self.names;
        let mut all: Vec<Named> = Vec::new();
        if self.builtins {
            if config.files.enabled {
                all.push(("files".to_owned(), names, files(config)?));
            }
            all.push(("waygate".to_owned(), names, Waygate::new(Arc::new(host.clone()))));
        }
        all.extend(self.plugins.into_iter().map(|(name, plugin)| (name, names, plugin)));
        Ok(all)
    }
}

/// The built-in `files` plugin on the roots that the operator granted, or on one empty folder of its own.
fn files(config: &Config) -> Result<Arc<dyn Plugin>, StartError> {
    let mut roots: Vec<Root> = config.files.roots.iter().filter_map(|root| read_root(root)).collect();
    if roots.is_empty() {
        let path = config.server.data_dir.join("files");
        make_folder(&path)
            .map_err(|error| StartError::Plugin(format!("{} cannot be made: {error}", path.display())))?;
        roots.push(Root { name: "files".to_owned(), path, writable: true });
    }
    let options = Options {
        roots,
        read_max_bytes: config.files.read_max_bytes,
        write_max_bytes: config.files.write_max_bytes,
        quota_bytes: config.files.quota_bytes,
        results_max: config.files.results_max,
    };
    let files = Files::new(options)
        .map_err(|error| StartError::Plugin(format!("the files plugin cannot start: {error}")))?;
    Ok(files)
}

/// Reads `name=path:ro|rw`, which the configuration has checked.
fn read_root(text: &str) -> Option<Root> {
    let (name, rest) = text.split_once('=')?;
    let (path, mode) = rest.rsplit_once(':')?;
    Some(Root { name: name.to_owned(), path: path.into(), writable: mode == "rw" })
}

fn make_folder(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What of a call's arguments goes into the history; rendered by the history's writer, not by the request.
pub(super) fn capture(history: &config::History) -> Render {
    let extra = history.redact_keys.clone();
    match history.arguments {
        Capture::None => Arc::new(|_: &Raw| None),
        Capture::Shape => Arc::new(|arguments: &Raw| Some(redaction::shape(arguments.as_str()))),
        Capture::Redacted => {
            Arc::new(move |arguments: &Raw| Some(redaction::redact(arguments.as_str(), &extra)))
        }
        Capture::Full => Arc::new(|arguments: &Raw| Some(arguments.as_str().to_owned())),
    }
}
