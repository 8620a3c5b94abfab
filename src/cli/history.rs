//! `history list` and `history show`: the ledger, read straight from the database, whether a server runs or not.
//!
//! Must not write anything.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use chrono::NaiveDateTime;
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned, civil};

use crate::config::Config;
use crate::storage::history::{self, Call, Cursor, Entry, Filter, Page, Status};
use crate::storage::{self, Storage};

/// How long a verb waits for a connection.
const CONNECTION_WAIT: Duration = Duration::from_secs(10);

/// What can be read from the ledger.
#[derive(Debug, Clone, Subcommand)]
pub enum HistoryCommand {
    /// List calls, the newest first
    List(ListArgs),
    /// Show every row of one call
    Show {
        /// The call's id, as `history list` shows it
        call_id: String,
    },
}

/// Which calls.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    /// From this time on: `15m`, `2h`, `7d` ago, `2026-11-22`, `2026-11-22T08:00` (local) or with a zone (`…Z`)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Before this time, written in the same ways
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only this tool, prompt or resource, by its published name or URI
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// Only this method, for instance `tools/call`
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Only calls that stand so: pending, success, failed, timeout, cancelled, interrupted, input_required, gap
    #[arg(long, value_name = "STATUS")]
    pub status: Option<Status>,
    /// Only this client, by name or by `name/version`
    #[arg(long, value_name = "CLIENT")]
    pub client: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = history::LIMIT_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(history::LIMIT_MAX)))]
    pub limit: u32,
    /// Go on where a page ended: the `next` that it gave
    #[arg(long, value_name = "CURSOR")]
    pub before: Option<Cursor>,
}

/// Where the database is when the configuration does not say.
pub fn default_path(config: &Config) -> PathBuf {
    config.server.data_dir.join("data").join("waygate.db")
}

/// Runs one of them. 0 means that it was answered, 1 that there is no such call.
///
/// # Errors
/// A time that cannot be read; what the database says, with what to do.
pub fn run(command: HistoryCommand, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let storage = storage::open_existing(&config.database, &default_path(config))?;
    match command {
        HistoryCommand::List(args) => list(&storage, &args, json),
        HistoryCommand::Show { call_id } => show(&storage, &call_id, json),
    }
}

fn list(storage: &Storage, args: &ListArgs, json: bool) -> anyhow::Result<ExitCode> {
    let filter = filter_of(args, &Zoned::now())?;
    let page = storage.run(CONNECTION_WAIT, |connection| history::list(connection, &filter))?;
    print(&if json { format!("{}\n", serde_json::to_string_pretty(&page)?) } else { table(&page) })?;
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
    let text = if json {
        format!("{}\n", serde_json::to_string_pretty(&rows)?)
    } else {
        rows.iter().map(sheet).collect::<Vec<_>>().join("\n")
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A reader that has seen enough (`| head`) is no fault.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn filter_of(args: &ListArgs, now: &Zoned) -> anyhow::Result<Filter> {
    let time = |option: &'static str, text: &Option<String>| {
        text.as_deref()
            .map(|text| moment_of(text, now).with_context(|| format!("--{option} {text}")))
            .transpose()
    };
    Ok(Filter {
        since: time("since", &args.since)?,
        until: time("until", &args.until)?,
        tool: args.tool.clone(),
        method: args.method.clone(),
        status: args.status,
        client: args.client.clone(),
        caller: None,
        call_id: None,
        limit: args.limit,
        before: args.before,
    })
}

/// Reads a time as people write one: how long ago, a day, a day and a time, or an exact one.
fn moment_of(text: &str, now: &Zoned) -> anyhow::Result<NaiveDateTime> {
    let at = if let Ok(ago) = text.trim_end_matches(" ago").parse::<Span>() {
        now.checked_sub(ago.abs())?.timestamp()
    } else if let Ok(exact) = text.parse::<Timestamp>() {
        exact
    } else if let Ok(local) = text.parse::<civil::DateTime>() {
        local.to_zoned(now.time_zone().clone())?.timestamp()
    } else {
        return Err(anyhow!(
            "this is no time; write 15m, 2h or 7d (ago), 2026-11-22, 2026-11-22T08:00 or 2026-11-22T08:00Z"
        ));
    };
    let moment = chrono::DateTime::from_timestamp_micros(at.as_microsecond());
    Ok(moment.ok_or_else(|| anyhow!("this time is out of range; write one of this age"))?.naive_utc())
}

/// A stored time in local time, as the log writes it.
fn local(at: NaiveDateTime) -> String {
    let at = Timestamp::from_microsecond(at.and_utc().timestamp_micros()).unwrap_or_default();
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn table(page: &Page) -> String {
    let Page { calls, next } = page;
    if calls.is_empty() {
        return "no calls\n".to_owned();
    }
    let head = ["TIME", "STATUS", "TOOK", "METHOD", "NAME", "CLIENT", "CALL"].map(str::to_owned);
    let lines: Vec<[String; 7]> = std::iter::once(head).chain(calls.iter().map(line)).collect();
    let widths: [usize; 7] = std::array::from_fn(|column| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    });
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    if let Some(next) = next {
        text.push_str(&format!("older calls: --before {next}\n"));
    }
    text
}

fn line(call: &Call) -> [String; 7] {
    let took = call.duration_us.map_or_else(String::new, |us| format!("{}.{:03} ms", us / 1000, us % 1000));
    let status = match &call.error_code {
        Some(code) => format!("{} ({})", call.status, shown(code)),
        None => call.status.clone(),
    };
    let cell = |text: &Option<String>| text.as_deref().map(shown).unwrap_or_default();
    [
        local(call.created_at),
        status,
        took,
        cell(&call.method),
        cell(&call.tool),
        cell(&call.client),
        shown(&call.call_id),
    ]
}

/// What clients say must not move the operator's cursor or pass for another line.
fn shown(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn sheet(row: &Entry) -> String {
    let number = |value: Option<i64>, unit: &str| value.map(|value| format!("{value} {unit}"));
    let fields = [
        ("time", Some(local(row.created_at))),
        ("call", Some(row.call_id.clone())),
        ("round", Some(row.round.to_string())),
        ("status", row.status.clone()),
        ("error", row.error_code.clone()),
        ("took", number(row.duration_us, "us")),
        ("method", row.method.clone()),
        ("plugin", row.plugin.clone()),
        ("name", row.tool.clone()),
        ("arguments", row.arguments.clone()),
        ("result", number(row.result_bytes, "bytes")),
        ("client", row.client.clone()),
        ("caller", row.caller.clone()),
        ("protocol", row.protocol_version.clone()),
        ("request", row.request_id.clone()),
        ("trace", row.trace_id.clone()),
        ("detail", row.detail.clone()),
        ("written by", Some(format!("{} (row {})", row.instance_id, row.seq))),
    ];
    let mut text = format!("{}\n", row.kind);
    for (name, value) in fields {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "  {name:<10}  {}", shown(&value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-22T12:00:00+01:00[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn a_time_may_be_written_as_people_do() {
        for (text, expected) in [
            ("15m", "2026-11-22T10:45:00"),
            ("2h", "2026-11-22T09:00:00"),
            ("7d", "2026-11-15T11:00:00"),
            ("1 day ago", "2026-11-21T11:00:00"),
            ("2026-11-22", "2026-11-21T23:00:00"),
            ("2026-11-22 08:30", "2026-11-22T07:30:00"),
            ("2026-11-22T08:30:00Z", "2026-11-22T08:30:00"),
            ("2026-11-22T08:30:00+02:00", "2026-11-22T06:30:00"),
        ] {
            let moment = moment_of(text, &now()).unwrap();
            assert_eq!(moment.format("%Y-%m-%dT%H:%M:%S").to_string(), expected, "{text}");
        }
        for bad in ["", "yesterday", "2026-13-01", "5"] {
            assert!(moment_of(bad, &now()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_client_cannot_write_on_the_operators_screen() {
        assert_eq!(shown("evil\u{1b}[2J\r\nname\u{9b}"), r"evil\u{1b}[2J\r\nname\u{9b}");
        assert_eq!(shown("großer Name"), "großer Name");
    }

    #[test]
    fn the_options_are_what_clap_takes() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(subcommand)]
            command: HistoryCommand,
        }
        let line =
            ["x", "list", "--since", "2h", "--status", "input_required", "--before", "17-4", "--limit", "5"];
        let HistoryCommand::List(args) = Line::try_parse_from(line).ok().unwrap().command else { panic!() };
        assert_eq!((args.status, args.limit), (Some(Status::InputRequired), 5));
        assert_eq!(args.before.map(|cursor| cursor.to_string()).as_deref(), Some("17-4"));
        for bad in [["--status", "done"], ["--limit", "0"], ["--before", "soon"]] {
            assert!(Line::try_parse_from(["x", "list"].into_iter().chain(bad)).is_err(), "{bad:?}");
        }
    }
}
