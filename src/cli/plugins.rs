//! `plugins list | show | add | remove | check | reload | logs | import`: the MCP servers behind Waygate, one file each.
//!
//! Must not know how they are run, and never prints a value of `env` or of `headers`.

mod add;
mod check;
mod files;
mod import;
mod list;
mod logs;
mod reload;
mod remove;
mod show;

use std::process::ExitCode;

use super::remote::ClientError;
use super::running::Running;
use super::{Exit, output};
use crate::app::Builder;
use crate::config::Loaded;
pub use files::PluginsFolder;
pub use list::{Wanted, list};
pub use show::show;

const EXAMPLES: &str = "\
Examples:
  waygate-mcp plugins import ~/.claude.json --dry-run
  waygate-mcp plugins add everything --command npx --arg -y --arg @modelcontextprotocol/server-everything
  waygate-mcp plugins add github --url https://api.githubcopilot.com/mcp/ --header 'Authorization=Bearer ${GITHUB_TOKEN}'
  waygate-mcp plugins list
  waygate-mcp plugins logs everything

Each plugin is a file, <data root>/plugins/NAME.toml, to be edited by hand as well; docs/plugin-files.md lists its fields.
";

/// What can be done with plugins.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// List all plugins: those of the running server, else the files
    List,
    /// Show everything about one plugin
    Show {
        /// Its name
        name: String,
    },
    /// Add an MCP server as a plugin
    #[command(after_help = add::EXAMPLES)]
    Add(add::AddArgs),
    /// Remove a plugin's file
    Remove {
        /// The plugin's name
        name: String,
    },
    /// Report everything that is wrong with a plugin's file; when nothing is, try the server and show what clients would see
    #[command(after_help = check::EXAMPLES)]
    Check {
        /// The file, or the name of a plugin
        #[arg(value_name = "FILE|NAME")]
        which: String,
    },
    /// Bid the running server to read the files again, and tell what changed
    Reload,
    /// Show the last lines that a plugin's program wrote to its stderr
    Logs {
        /// The plugin's name
        name: String,
        /// At most so many
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        lines: usize,
    },
    /// Make plugins of the servers in an MCP client's JSON
    #[command(after_help = import::EXAMPLES)]
    Import(import::ImportArgs),
}

/// Does it. `variables` are what `--env` said with a `=`.
///
/// # Errors
/// When stdout, or a file, cannot be written.
pub fn run(
    command: Command,
    variables: &[String],
    builder: &Builder,
    loaded: &Loaded,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let running = Running::of(&loaded.config);
    let folder = PluginsFolder::of(&loaded.config);
    let done = match command {
        Command::List => list(Wanted::Plugins, &running, &folder, json),
        Command::Show { name } => show(Wanted::Plugins, &name, &running, &folder, json),
        Command::Add(args) => add::add(&args, variables, &running, &folder, json),
        Command::Remove { name } => remove::remove(&name, &running, &folder, json),
        Command::Check { which } => check::check(&which, builder, &loaded.config, &folder, json),
        Command::Reload => reload::reload(&running, json),
        Command::Logs { name, lines } => logs::logs(&name, lines, &running, json),
        Command::Import(args) => import::import(&args, &running, &folder, json),
    };
    ended(done)
}

/// The exit code of what was done, with a sentence where it was not.
///
/// # Errors
/// What is no answer of a server.
pub fn ended(done: anyhow::Result<Exit>) -> anyhow::Result<ExitCode> {
    done.map(ExitCode::from).or_else(|error| match error.downcast::<ClientError>() {
        Ok(error) => {
            output::say(&format!("waygate-mcp: {error}"));
            Ok(error.exit().into())
        }
        Err(other) => Err(other),
    })
}
