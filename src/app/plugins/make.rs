//! What plugins that files describe are made of: the one seam between the files and the kinds of plugins.

use std::sync::Arc;

use crate::config::plugin::McpServer;
use crate::plugins::Plugin;

/// Makes a plugin of what a file says.
pub trait Maker: Send + Sync + 'static {
    /// Makes a plugin. It does not live yet, and nothing is started. May block.
    ///
    /// # Errors
    /// What is wrong with the file, for the operator.
    fn make(&self, name: &str, server: &McpServer) -> Result<Arc<dyn Plugin>, String>;
}
