//! The built-in `files` plugin: tools and resources for the files below the roots that the operator granted.
//!
//! Reading order: `roots` (what a path means), `definitions` (what is offered), then a file for each thing done. Must
//! not know actors, storage, HTTP or the configuration.

mod definitions;
mod list;
mod mime;
mod read;
mod resources;
pub(in crate::plugins::builtin) mod roots;
mod search;
mod sweep;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub(in crate::plugins::builtin) mod trouble;
mod uri;
mod usage;
mod walk;
mod watch;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

use self::roots::Roots;
use self::trouble::Trouble;
use self::watch::Watches;
use crate::plugins::{Change, Context, Inventory, Outcome, Plugin, PluginError, Reference, Request};
use crate::protocol::Raw;
use crate::protocol::content::{self, ToolResult};

/// Changes that a slow receiver may have before it.
const CHANGES_MAX: usize = 256;

/// What the operator grants.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directories that exist; at least one.
    pub roots: Vec<Root>,
    /// What one read may return.
    pub read_max_bytes: u64,
    /// What one write may bring.
    pub write_max_bytes: u64,
    /// What may lie below each writable root.
    pub quota_bytes: u64,
    /// Entries or matches of one answer.
    pub results_max: usize,
}

/// One granted directory.
#[derive(Debug, Clone)]
pub struct Root {
    /// How paths and URIs begin: 1 to 64 letters, digits, `-`, `_`, `.`; not with a dot first.
    pub name: String,
    /// On the host. Never shown to a client.
    pub path: PathBuf,
    /// Whether it may be written to.
    pub writable: bool,
}

/// Why the plugin cannot start.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// There is nothing to serve.
    #[error("no root is granted; name one in files.roots, or switch the files plugin off")]
    NoRoot,
    /// A root's name does not fit into paths and URIs.
    #[error(
        "the root name {0:?} in files.roots must be 1 to 64 letters, digits, '-', '_' or '.', no dot first"
    )]
    Name(String),
    /// Two roots have the same name; case does not count.
    #[error("two roots in files.roots are named {0:?}; rename one")]
    NameTwice(String),
    /// A root is not there, is no directory, or may not be entered.
    #[error(
        "the root {name} at {path} in files.roots cannot be opened ({source}); create it or correct its path"
    )]
    Open {
        /// The root.
        name: String,
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The plugin.
#[derive(Debug)]
pub struct Files {
    options: Options,
    roots: Roots,
    changes: broadcast::Sender<Change>,
    watches: Watches,
}

impl Files {
    /// Opens the roots. They are held open: a root that is moved later is still the one served.
    ///
    /// # Errors
    /// When a root cannot be opened, or a name does not fit or stands twice.
    pub fn new(options: Options) -> Result<Arc<Self>, FilesError> {
        let roots = Roots::open(options.roots.clone())?;
        sweep::begin(roots.all());
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let watches = Watches::new(changes.clone());
        Ok(Arc::new(Self { options, roots, changes, watches }))
    }

    async fn call(self: Arc<Self>, tool: &str, arguments: Raw, context: Context) -> Result<Raw, PluginError> {
        let result = match tool {
            "read_file" => {
                self.work(&arguments, context, |files, arguments: &read::Arguments, context| {
                    let place = files.roots.place(&arguments.path)?;
                    read::run(&place, arguments, files.options.read_max_bytes, context)
                })
                .await
            }
            "list_directory" => {
                self.work(&arguments, context, |files, arguments: &list::Arguments, context| {
                    list::run(&files.roots, arguments, files.options.results_max, context)
                })
                .await
            }
            "search_files" => {
                self.work(&arguments, context, |files, arguments: &search::Arguments, context| {
                    let results_max = files.options.results_max;
                    let limits = search::Limits { results_max, text_max_bytes: files.options.read_max_bytes };
                    search::run(&files.roots, arguments, limits, context)
                })
                .await
            }
            "write_file" if self.roots.all().iter().any(|root| root.writable) => {
                self.write(&arguments, context).await
            }
            _ => return Err(PluginError::Unknown(tool.to_owned())),
        };
        result.map(ToolResult::into_raw)
    }

    /// Runs a tool where it may block. Its troubles are results that a model can read.
    async fn work<A, F>(
        self: Arc<Self>,
        arguments: &Raw,
        context: Context,
        work: F,
    ) -> Result<ToolResult, PluginError>
    where
        A: DeserializeOwned + Send + 'static,
        F: FnOnce(&Self, &A, &Context) -> Result<ToolResult, Trouble> + Send + 'static,
    {
        let arguments: A = open(arguments)?;
        let inner = context.clone();
        let done = context.blocking(move || work(&self, &arguments, &inner)).await?;
        Ok(done.unwrap_or_else(Trouble::into_result))
    }

    /// Writers of one root wait for each other here, not on a blocking thread.
    async fn write(self: Arc<Self>, arguments: &Raw, context: Context) -> Result<ToolResult, PluginError> {
        let arguments: write::Arguments = open(arguments)?;
        let place = match self.roots.place(&arguments.path) {
            Ok(place) if place.root.writable => place,
            Ok(place) => {
                let (root, advice) = (place.root.name.clone(), self.roots.advice_to_write());
                return Ok(Trouble::ReadOnly { root, advice }.into_result());
            }
            Err(trouble) => return Ok(trouble.into_result()),
        };
        let turn = Arc::clone(&place.root.usage).lock_owned();
        let Ok(mut usage) = tokio::time::timeout_at(context.deadline(), turn).await else {
            return Err(PluginError::Unavailable("other writes took all the time; try again".to_owned()));
        };
        let (write_max_bytes, quota_bytes) = (self.options.write_max_bytes, self.options.quota_bytes);
        let limits = write::Limits { write_max_bytes, quota_bytes };
        let inner = context.clone();
        let done =
            context.blocking(move || write::run(&place, &arguments, limits, &mut usage, &inner)).await?;
        Ok(done.unwrap_or_else(Trouble::into_result))
    }

    async fn read(self: Arc<Self>, uri: String, context: Context) -> Result<Raw, PluginError> {
        let inner = context.clone();
        context.blocking(move || resources::read(&self.roots, &uri, &self.options, &inner)).await?
    }

    async fn complete(
        self: Arc<Self>,
        of: Reference,
        argument: String,
        typed: String,
        context: Context,
    ) -> Result<Raw, PluginError> {
        let template = match of {
            Reference::Resource(template) => template,
            Reference::Prompt(name) => return Err(PluginError::Unknown(name)),
        };
        let root = Arc::clone(resources::template_root(&self.roots, &template, &argument)?);
        let inner = context.clone();
        let values =
            context.blocking(move || resources::complete(&self.roots, &root, &typed, &inner)).await?;
        Ok(content::completion(values))
    }

    async fn subscribe(
        self: Arc<Self>,
        uri: String,
        begins: bool,
        context: Context,
    ) -> Result<Raw, PluginError> {
        let work = move || match self.roots.place_of_uri(&uri) {
            Some(place) if begins => self.watches.begin(&uri, place),
            Some(_) => {
                self.watches.end(&uri);
                Ok(())
            }
            None => Err(PluginError::Unknown(uri)),
        };
        context.blocking(work).await?.map(|()| Raw::value(&serde_json::json!({})))
    }
}

impl Plugin for Files {
    fn inventory(&self) -> Inventory {
        definitions::inventory(&self.roots, &self.options)
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn handle(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(async move {
            let result = match request {
                Request::Call { tool, arguments, .. } => self.call(&tool, arguments, context).await,
                Request::Prompt { name, .. } => Err(PluginError::Unknown(name.to_string())),
                Request::Read { uri, .. } => self.read(uri, context).await,
                Request::Complete { of, argument, typed, .. } => {
                    self.complete(of, argument, typed, context).await
                }
                Request::Subscribe { uri, begins } => self.subscribe(uri, begins, context).await,
            };
            result.map(Outcome::Complete)
        })
    }
}

fn open<A: DeserializeOwned>(arguments: &Raw) -> Result<A, PluginError> {
    arguments.read().map_err(|error| PluginError::InvalidParams(format!("the arguments do not fit: {error}")))
}

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
