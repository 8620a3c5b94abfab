//! `bundles list | show`: named parts of all that is offered, each served at a path of its own.

use std::process::ExitCode;

use super::plugins::{PluginsFolder, Wanted, ended, list, show};
use super::running::Running;
use crate::config::Loaded;

const EXAMPLES: &str = "\
Examples:
  waygate-mcp bundles list
  waygate-mcp bundles show reading

A bundle is a file beside those of plugins, <data root>/plugins/reading.toml:
  kind = \"bundle\"
  plugins = [\"files\", \"github\"]
  tools = [\"files__read_*\", \"github__get_*\"]
Clients find it at /mcp/reading.
";

/// What can be done with bundles.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// List all bundles: those of the running server, else the files
    List,
    /// Show everything about one bundle
    Show {
        /// Its name
        name: String,
    },
}

/// Does it.
///
/// # Errors
/// When stdout cannot be written, or the folder not read.
pub fn run(command: Command, loaded: &Loaded, json: bool) -> anyhow::Result<ExitCode> {
    let running = Running::of(&loaded.config);
    let folder = PluginsFolder::of(&loaded.config);
    ended(match command {
        Command::List => list(Wanted::Bundles, &running, &folder, json),
        Command::Show { name } => show(Wanted::Bundles, &name, &running, &folder, json),
    })
}
