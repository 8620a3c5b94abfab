//! What plugins are read from and made of: the one place that knows the kinds of plugins that files describe.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::plugin::{McpServer, PluginFile};
use crate::plugins::Plugin;

/// What lies in the plugins' folder.
#[derive(Debug, Default)]
pub struct Found {
    /// By name: each file, or all that is wrong with it, with its place.
    pub files: Vec<(String, Result<PluginFile, String>)>,
    /// What the operator should know; one log line each.
    pub notes: Vec<String>,
}

/// Reads the folder of plugins, and makes a plugin of what a file says.
pub trait Maker: Send + Sync + 'static {
    /// Reads the folder; one that is not there is empty. May block.
    ///
    /// # Errors
    /// Why it cannot be looked into.
    fn read(&self, folder: &Path) -> Result<Found, String>;

    /// Makes a plugin. It does not live yet, and nothing is started. May block.
    ///
    /// # Errors
    /// What is wrong with the file, for the operator.
    fn make(&self, name: &str, server: &McpServer) -> Result<Arc<dyn Plugin>, String>;
}

/// The file of the plugin called `name`.
pub(super) fn file_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.toml"))
}
