//! `history list | show | tail | export | stats | stream | verify | prune`: the ledger, straight from the database, whether a server runs or
//! not.
//!
//! Only `prune` changes anything in it.

mod export;
mod filter;
mod follow;
mod lines;
mod prune;
mod stats;
mod stream;
mod table;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Zoned;

use super::output;
use super::running::Running;
use crate::app;
use crate::config::Config;
use crate::storage::history::{self, Cursor};
use crate::storage::{self, Storage};
use export::ExportArgs;
use filter::Which;
use follow::TailArgs;
use lines::{Lines, Shape};
use prune::PruneArgs;
use stream::StreamArgs;
use verify::VerifyArgs;

/// How long a verb waits for a connection.
const CONNECTION_WAIT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  waygate-mcp history list --since 2h --status failed
  waygate-mcp history list --tool 'files__*' --slower-than 500ms
  waygate-mcp history tail --follow --client claude-code
  waygate-mcp history export --since 2026-11-01 --format csv --output november.csv
  waygate-mcp history stats --since 7d
  waygate-mcp history stream --to https://siem.example/in --cursor siem.cursor
  waygate-mcp history verify
  waygate-mcp history prune --keep-days 90

A time is 15m, 2h or 7d (ago), 2026-11-22 or 2026-11-22T08:00 (local), or has a zone (2026-11-22T08:00Z).
In names, `*` stands for anything: quote it, or the shell takes it for file names.
";

/// What can be read from the ledger.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum HistoryCommand {
    /// List calls, the newest first
    List(ListArgs),
    /// Show every row of one call
    Show {
        /// The call's id, as `history list` shows it
        call_id: String,
    },
    /// Show the newest calls, the newest last, and follow what is added
    Tail(TailArgs),
    /// Write all calls that are asked for, the oldest first, one a line
    Export(ExportArgs),
    /// Count calls and errors, by status, name, caller and hour, and tell how long they took
    Stats {
        #[command(flatten)]
        which: Which,
    },
    /// Carry every row to a file, to stdout or to a URL, at least once, and go on where it ended
    Stream(StreamArgs),
    /// Prove that every row is as it was written, or name the first one that is not
    Verify(VerifyArgs),
    /// Delete the oldest rows so that the rest can still be proved
    Prune(PruneArgs),
}

/// Which calls, and how they are shown.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    #[command(flatten)]
    which: Which,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = history::LIMIT_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(history::LIMIT_MAX)))]
    limit: u32,
    /// Go on where a page ended: the `next` that it gave
    #[arg(long, value_name = "CURSOR")]
    before: Option<Cursor>,
    /// How to write them; --json is the same as --format json
    #[arg(long, value_name = "FORMAT", value_enum, conflicts_with = "json")]
    format: Option<Format>,
}

/// How calls are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table for people
    Text,
    /// JSON for programs
    Json,
    /// CSV (RFC 4180) for spreadsheets
    Csv,
}

impl Format {
    fn of(asked: Option<Self>, json: bool) -> Self {
        asked.unwrap_or(if json { Self::Json } else { Self::Text })
    }
}

/// Where the database is when the configuration does not say.
pub fn default_path(config: &Config) -> PathBuf {
    config.server.data_dir.join("data").join("waygate.db")
}

/// Runs one of them. 0 means that it was answered, 1 that there is no such call, or that something does not hold.
///
/// # Errors
/// A time that cannot be read; what the database says, with what to do.
pub fn run(command: HistoryCommand, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let storage = storage::open_existing(&config.database, &default_path(config))?;
    let now = Zoned::now();
    match command {
        HistoryCommand::List(args) => list(&storage, &args, &now, json),
        HistoryCommand::Show { call_id } => show(&storage, &call_id, json),
        HistoryCommand::Tail(args) => follow::run(&storage, &args, &now, json),
        HistoryCommand::Export(args) => export::run(&storage, &args, &now),
        HistoryCommand::Stats { which } => stats::run(&storage, &which, &now, json),
        HistoryCommand::Stream(args) => stream::run(&storage, &args),
        HistoryCommand::Verify(args) => {
            let server = Running::of(config).at_hand();
            verify::run(&storage, &args, (&app::notary(config)?, &server), json)
        }
        HistoryCommand::Prune(args) => prune::run(&storage, &args, &app::notary(config)?, json),
    }
}

fn list(storage: &Storage, args: &ListArgs, now: &Zoned, json: bool) -> anyhow::Result<ExitCode> {
    let mut filter = args.which.filter(now)?;
    (filter.limit, filter.before) = (args.limit, args.before);
    let page = storage.run(CONNECTION_WAIT, |connection| history::list(connection, &filter))?;
    match Format::of(args.format, json) {
        Format::Json => output::print_document(&serde_json::to_string_pretty(&page)?)?,
        Format::Text => output::print(&table::page(&page))?,
        Format::Csv => {
            let mut lines = Lines::on_stdout(Shape::Csv, &history::Call::COLUMNS);
            if lines.write_all(&page.calls)?
                && let Some(next) = page.next
            {
                output::say(&format!("older calls: --before {next}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(storage: &Storage, call_id: &str, json: bool) -> anyhow::Result<ExitCode> {
    let rows = storage.run(CONNECTION_WAIT, |connection| history::show(connection, call_id))?;
    if rows.is_empty() {
        let advice = anyhow!(
            "there is no call {call_id:?} in {}; `history list` shows those there are",
            storage.place()
        );
        return Err(advice);
    }
    if json {
        output::print_document(&serde_json::to_string_pretty(&rows)?)?;
    } else {
        output::print(&rows.iter().map(table::sheet).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::storage::history::{Kind, Status};

    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: HistoryCommand,
        #[arg(long, global = true)]
        json: bool,
    }

    #[test]
    fn the_options_are_what_clap_takes() {
        let line =
            ["x", "list", "--since", "2h", "--status", "input_required", "--before", "17-4", "--limit", "5"];
        let HistoryCommand::List(args) = Line::try_parse_from(line).ok().unwrap().command else { panic!() };
        assert_eq!((args.which.status, args.limit), (Some(Status::InputRequired), 5));
        assert_eq!(args.before.map(|cursor| cursor.to_string()).as_deref(), Some("17-4"));
        let line = ["x", "stats", "--kind", "outcome", "--slower-than", "1.5s", "--session", "s-1"];
        let HistoryCommand::Stats { which } = Line::try_parse_from(line).ok().unwrap().command else {
            panic!()
        };
        assert_eq!(which.kind, Some(Kind::Outcome));
        for bad in [["--status", "done"], ["--limit", "0"], ["--before", "soon"], ["--kind", "x"]] {
            assert!(Line::try_parse_from(["x", "list"].into_iter().chain(bad)).is_err(), "{bad:?}");
        }
        let twice = Line::try_parse_from(["x", "list", "--json", "--format", "csv"]);
        assert!(twice.is_err(), "two formats at once");
        assert!(Line::try_parse_from(["x", "list", "--json"]).is_ok_and(|line| line.json));
    }
}
