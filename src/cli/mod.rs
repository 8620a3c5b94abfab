//! What an operator can type: the tree of verbs, on one screen, and one file a verb.
//!
//! Must not know how anything is done; it reads the command line, loads the configuration and hands over.

mod backup;
mod bundles;
mod cache;
mod clients;
mod config;
mod db;
mod doctor;
mod exit;
mod explain;
mod generated;
mod guard;
mod history;
mod keys;
mod loadtest;
mod local;
mod output;
mod pinned;
mod plugins;
mod progress;
mod remote;
mod running;
mod serve;
mod status;
mod stdio;
mod tools;
mod tree;
mod version;
mod whereabouts;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::Builder;
use crate::backup::Places;
use crate::backup::restore::{self, Recovered};
use crate::config::{Flags, Loaded, Sources, find_data_root, load};
pub use doctor::checks as doctor_checks;
use exit::Misuse;
pub use exit::{Exit, codes as exit_codes};
pub use generated::cli_md;
use remote::ClientError;
use running::Running;
pub use tree::{read as read_line, verbs};

const ABOUT: &str = "An MCP server and gateway that is operated the way a database is.";

const EXAMPLES: &str = "\
Examples:
  waygate-mcp                                      start the server on http://127.0.0.1:8000/mcp
  waygate-mcp --port 9000 --data-dir /srv/waygate  the same elsewhere
  waygate-mcp serve --take-over                    a new server in the running one's place, without a gap
  waygate-mcp status                               how the running server is
  waygate-mcp stdio                                the same server for one desktop client
  waygate-mcp tools list                           what the running server offers
  waygate-mcp tools call files__list_directory --arg path=files
  waygate-mcp client claude-code                   what connects that client
  waygate-mcp plugins import ~/.claude.json        the MCP servers that a client has, as plugins
  waygate-mcp plugins list                         what stands behind this server, and how it is
  waygate-mcp keys create laptop                   a key for one who calls
  waygate-mcp cache stats                          how often an answer was at hand
  waygate-mcp history tail --follow                what is called, as it happens
  waygate-mcp explain --tool files__read_file      what would become of that call, and what decides it
  waygate-mcp doctor                               what is amiss on this machine, and what mends it
  waygate-mcp loadtest --connections 64            how it bears so many clients at once
  waygate-mcp backup create                        a copy of database, configuration and plugins
  waygate-mcp config show                          what holds, and where each value comes from
  waygate-mcp help tools call                      everything about one verb

Settings come from defaults, default.toml, <env>.toml, .env, WAYGATE_ variables and flags; later ones win.
";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "waygate-mcp", version, about = ABOUT, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n{}", exit::help()))]
struct Line {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    globals: Globals,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start the server; what happens when no verb is given
    Serve(serve::ServeArgs),
    /// Tell how the server on this data folder is: process, memory, connections
    Status,
    /// Tell whether everything works; ends with 0 if so, for scripts and containers
    Health,
    /// Tell what would become of a call now, step by step, and what decides it
    #[command(after_long_help = explain::EXAMPLES)]
    Explain(explain::ExplainArgs),
    /// Look at everything that operators stumble over, and say what mends it
    #[command(after_long_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// Serve one client on stdin and stdout, as desktop clients want it
    #[command(long_about = stdio::ABOUT, after_long_help = stdio::EXAMPLES)]
    Stdio,
    /// List and call the tools of a running server
    Tools {
        #[command(subcommand)]
        command: tools::Command,
    },
    /// Add, remove and look after the MCP servers behind this one
    Plugins {
        #[command(subcommand)]
        command: plugins::Command,
    },
    /// Look at bundles: parts of all that is offered, each at a path of its own
    Bundles {
        #[command(subcommand)]
        command: bundles::Command,
    },
    /// Look at the answers that the running server keeps, and forget them
    Cache {
        #[command(subcommand)]
        command: cache::CacheCommand,
    },
    /// Read the history of calls, whether or not a server runs
    History {
        #[command(subcommand)]
        command: history::HistoryCommand,
    },
    /// Make, rotate and revoke the keys that callers show
    Keys {
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// Print what connects an MCP client to this server
    Client(clients::ClientArgs),
    /// Load a server as many clients at once do, and tell how it bears it
    #[command(after_long_help = loadtest::EXAMPLES)]
    Loadtest(Box<loadtest::LoadtestArgs>),
    /// Show and check the configuration
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// Make backups, look after them, and restore them
    Backup {
        #[command(subcommand)]
        command: backup::BackupCommand,
    },
    /// Look after the database: sound, up to date, tidy
    Db {
        #[command(subcommand)]
        command: db::DbCommand,
    },
    /// Tell version, protocol revisions and what is built in
    Version,
    /// Run a program for Waygate and end it with all that it started
    #[command(hide = true)]
    Guard(guard::Guard),
}

/// Flags of every verb. Values are texts here: the configuration checks them, with all else that is wrong.
#[derive(Debug, Default, Args)]
struct Globals {
    /// What it runs for: development, production or test
    #[arg(long, global = true, value_name = "ENV", help_heading = "Configuration")]
    env: Vec<String>,
    /// Address or name to listen on
    #[arg(long, global = true, value_name = "HOST", help_heading = "Configuration")]
    host: Option<String>,
    /// Port to listen on; 0 lets the kernel choose
    #[arg(long, global = true, value_name = "PORT", help_heading = "Configuration")]
    port: Option<String>,
    /// HTTP workers; `auto` is the number of processors
    #[arg(long, global = true, value_name = "N", help_heading = "Configuration")]
    workers: Option<String>,
    /// Least grave level to log: ERROR, WARN, INFO, DEBUG or TRACE
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Configuration")]
    log_level: Option<String>,
    /// Folder of all data
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Configuration")]
    data_dir: Option<String>,
    /// Folder of default.toml and <env>.toml
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Configuration")]
    config_dir: Option<PathBuf>,
    /// File of WAYGATE_ variables, in place of .env
    #[arg(long, global = true, value_name = "FILE", help_heading = "Configuration")]
    env_file: Option<PathBuf>,
    /// Serve real users, or an address that other machines reach, although there is no key
    #[arg(long, global = true, help_heading = "Configuration")]
    insecure_no_auth: bool,
    /// Answer in JSON, for programs
    #[arg(long, global = true)]
    json: bool,
}

impl Globals {
    /// `plugins add` has an `--env` of its own, `KEY=VALUE`: those are taken out, so that the other one is what is left.
    fn take_variables(&mut self, verb: Option<&Verb>) -> Vec<String> {
        if !matches!(verb, Some(Verb::Plugins { command: plugins::Command::Add(_) })) {
            return Vec::new();
        }
        let (variables, rest) =
            std::mem::take(&mut self.env).into_iter().partition(|text| text.contains('='));
        self.env = rest;
        variables
    }

    fn flags(&self) -> Flags {
        let insecure = self.insecure_no_auth.then(|| "true".to_owned());
        let typed = [
            ("--env", &self.env.last().cloned()),
            ("--host", &self.host),
            ("--port", &self.port),
            ("--workers", &self.workers),
            ("--log-level", &self.log_level),
            ("--data-dir", &self.data_dir),
            ("--insecure-no-auth", &insecure),
        ];
        let settings = typed.into_iter().filter_map(|(flag, value)| Some((flag, value.clone()?))).collect();
        Flags { settings, config_dir: self.config_dir.clone(), env_file: self.env_file.clone() }
    }
}

/// Reads the command line of this process, does what it says, and tells how it went. `serve` serves what `builder` is.
pub fn main(builder: Builder) -> ExitCode {
    main_of(builder, std::env::args_os())
}

/// The same, for these arguments, the program's own name first: for embedders that have flags of their own.
pub fn main_of(builder: Builder, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Line::try_parse_from(arguments) {
        // This program has the verb `guard`, by being here.
        Ok(line) => run(line, builder.or_guarded_here()),
        Err(error) => {
            // Help and version are asked for; there is nowhere to say that they cannot be printed.
            drop(error.print());
            if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() }
        }
    }
}

fn run(mut line: Line, builder: Builder) -> ExitCode {
    let Globals { json, .. } = line.globals;
    let variables = line.globals.take_variables(line.verb.as_ref());
    if line.globals.env.len() > 1 {
        output::say("waygate-mcp: --env stands twice, and it runs for one thing only; remove one");
        return Exit::Usage.into();
    }
    let flags = line.globals.flags();
    let done = match line.verb.unwrap_or(Verb::Serve(serve::ServeArgs::default())) {
        Verb::Serve(args) => with_config(flags, true, |loaded| Ok(serve::run(&args, builder, &loaded))),
        Verb::Status => with_server(flags, |server| status::run(server, json)),
        Verb::Health => with_server(flags, |server| status::health(server, json)),
        // A configuration that makes no sense is what it may be asked about.
        Verb::Doctor(args) => doctor::run(args, &builder, flags, json),
        Verb::Explain(args) => with_config(flags, false, |loaded| explain::run(&args, &loaded.config, json)),
        Verb::Stdio => with_config(flags, false, |loaded| Ok(stdio::run(builder, &loaded))),
        Verb::Tools { command } => with_config(flags, false, |loaded| tools::run(command, &loaded, json)),
        Verb::Plugins { command } => {
            with_config(flags, false, |loaded| plugins::run(command, &variables, &builder, &loaded, json))
        }
        Verb::Bundles { command } => with_config(flags, false, |loaded| bundles::run(command, &loaded, json)),
        Verb::Cache { command } => {
            with_config(flags, false, |loaded| cache::run(&command, &loaded.config, json))
        }
        Verb::Backup { command } => {
            with_config(flags, true, |loaded| backup::run(command, &loaded.config, json))
        }
        // Of the same database as `serve`, whose `.env` may say which.
        Verb::History { command } => {
            with_config(flags, true, |loaded| history::run(command, &loaded.config, json))
        }
        Verb::Db { command } => with_config(flags, true, |loaded| db::run(command, &loaded.config, json)),
        Verb::Keys { command } => with_config(flags, true, |loaded| keys::run(command, &loaded.config, json)),
        Verb::Client(args) => {
            let typed = flags.clone();
            with_config(flags, true, |loaded| clients::run(&args, &loaded, &typed, json))
        }
        Verb::Loadtest(args) => with_config(flags, false, |loaded| loadtest::run(&args, &loaded, json)),
        Verb::Config { command } => config::run(command, flags, json),
        Verb::Version => version::run(json),
        Verb::Guard(guard) => Ok(guard::run(&guard)),
    };
    done.unwrap_or_else(|error| {
        output::say(&format!("waygate-mcp: {error:#}"));
        exit_of(&error).into()
    })
}

fn exit_of(error: &anyhow::Error) -> Exit {
    if error.is::<Misuse>() {
        return Exit::Usage;
    }
    if let Some(error) = error.downcast_ref() {
        return serve::exit_of(error);
    }
    let of_storage = || error.downcast_ref().map(serve::exit_of_storage);
    let of_server = || error.downcast_ref().map(ClientError::exit);
    error.downcast_ref().map(backup::exit_of).or_else(of_storage).or_else(of_server).unwrap_or(Exit::Failure)
}

/// Loads the configuration for a verb. `.env` of the working folder counts for `serve` and what looks after the same alone: the
/// others are typed anywhere, and in a folder that somebody else wrote it could name the machine that their key is sent to.
/// A restore that was cut off is finished first, since it may be of the configuration's own files.
fn with_config(
    flags: Flags,
    reads_env_file: bool,
    verb: impl FnOnce(Loaded) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let sources = Sources::of_process(flags, reads_env_file);
    if let Some(root) = find_data_root(&sources) {
        tell(restore::settle_files(&root)?);
    }
    let mut loaded = load(&sources);
    if let Ok(before) = &loaded
        && let Some(recovered) = restore::settle(&Places::of(&before.config))?
    {
        tell(Some(recovered));
        loaded = load(&sources);
    }
    match loaded {
        Ok(loaded) => verb(loaded),
        Err(faults) => {
            output::say(&format!("waygate-mcp: {faults}"));
            Ok(Exit::Configuration.into())
        }
    }
}

/// Finds the running server for who only asks how it is. It runs whatever became of its configuration since: faults there are told,
/// and no reason to call it unwell.
fn with_server(
    flags: Flags,
    verb: impl FnOnce(&Running) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let sources = Sources::of_process(flags, false);
    let faults = load(&sources).err();
    if let Some(faults) = &faults {
        output::say(&format!("waygate-mcp: {faults}"));
    }
    let Some(root) = find_data_root(&sources) else { return Ok(Exit::Configuration.into()) };
    let code = verb(&Running::at(&root).at_hand())?;
    // Where none runs, they may be why.
    let is_why = faults.is_some() && code == ExitCode::from(Exit::Unreachable);
    Ok(if is_why { Exit::Configuration.into() } else { code })
}

fn tell(recovered: Option<Recovered>) {
    if let Some(recovered) = recovered {
        output::say(&format!("waygate-mcp: {}", recovered.sentence()));
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::settings::SETTINGS;

    #[test]
    fn the_tree_holds_and_its_help_has_examples_and_exit_codes() {
        Line::command().debug_assert();
        let help = Line::command().render_long_help().to_string();
        assert!(help.contains("waygate-mcp tools call") && help.contains("78  the configuration is wrong"));
    }

    #[test]
    fn flags_without_a_verb_mean_serve_and_flags_may_follow_the_verb() {
        let line = Line::try_parse_from(["waygate-mcp", "--port", "9000"]).unwrap();
        assert!(line.verb.is_none());
        assert_eq!(line.globals.flags().settings, [("--port", "9000".to_owned())]);
        let line =
            Line::try_parse_from(["waygate-mcp", "config", "show", "--env", "test", "--insecure-no-auth"])
                .unwrap();
        let wanted = [("--env", "test".to_owned()), ("--insecure-no-auth", "true".to_owned())];
        assert_eq!(line.globals.flags().settings, wanted);
    }

    #[test]
    fn env_with_an_equals_sign_is_a_variable_of_an_added_plugin_and_of_nothing_else() {
        let typed = |words: &[&str]| {
            let mut line = Line::try_parse_from(["waygate-mcp"].iter().chain(words)).unwrap();
            let variables = line.globals.take_variables(line.verb.as_ref());
            (variables, line.globals.flags().settings)
        };
        let words =
            ["--env", "test", "plugins", "add", "a", "--command", "x", "--env", "A=1", "--env", "B=2"];
        // Where it stands on both sides of the verb, the nearer one counts.
        assert_eq!(typed(&words).0, ["A=1", "B=2"]);
        let (variables, settings) =
            typed(&["plugins", "add", "a", "--command", "x", "--env", "A=1", "--env", "test"]);
        assert_eq!((variables, settings), (vec!["A=1".to_owned()], vec![("--env", "test".to_owned())]));
        let (variables, settings) = typed(&["plugins", "list", "--env", "A=1"]);
        assert_eq!((variables, settings), (vec![], vec![("--env", "A=1".to_owned())]));
    }

    #[test]
    fn every_flag_of_the_table_of_settings_can_be_typed() {
        let command = Line::command();
        for flag in SETTINGS.iter().filter_map(|setting| setting.flag) {
            let typed = flag.trim_start_matches('-');
            assert!(command.get_arguments().any(|argument| argument.get_long() == Some(typed)), "{flag}");
        }
        let error = Line::try_parse_from(["waygate-mcp", "--prot", "1"]).unwrap_err();
        assert!(error.to_string().contains("--port"), "{error}");
    }
}
