//! `history verify`: proves the ledger, or names the first row that is not as it was written. Must not know how rows are hashed.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::super::running::Running;
use super::super::{Exit, output};
use super::CONNECTION_WAIT;
use super::table::shown;
use crate::storage::history::{Audit, Finding, Report, Testimony};
use crate::storage::{Notary, Storage};

/// The longest line of a log that is looked at; nobody writes longer ones.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Between two words about how far it is.
const SAY_EVERY: Duration = Duration::from_millis(250);

/// What is proved.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Only the rows that this instance wrote; `history show` says who wrote a row
    #[arg(long, value_name = "INSTANCE")]
    instance: Option<String>,
    /// Logs of the server: what they tell of the history's hashes is held against the rows, too
    #[arg(long, value_name = "FILE", num_args = 1..)]
    log: Vec<PathBuf>,
}

/// Proves. 0 means that all holds, 1 that something does not, 73 that a log cannot be read or tells nothing.
///
/// # Errors
/// What the database says.
pub fn run(
    storage: &Storage,
    args: &VerifyArgs,
    (notary, server): (&Notary, &Running),
    json: bool,
) -> anyhow::Result<ExitCode> {
    let only = args.instance.as_deref();
    let testimony = match hear(&args.log) {
        Ok(mut testimony) => {
            ask(server, storage, &mut testimony);
            testimony
        }
        // Nothing was found amiss: nothing was looked at.
        Err(why) => {
            output::say(&format!("waygate-mcp: {why:#}"));
            return Ok(Exit::CannotCreate.into());
        }
    };
    let mut audit = storage.run(CONNECTION_WAIT, |connection| {
        let mut audit = Audit::begin(connection, notary, only)?;
        audit.hear(connection, testimony.clone())?;
        Ok(audit)
    })?;
    let mut screen = Screen { is_shown: io::stderr().is_terminal(), said: Instant::now() };
    while storage.run(CONNECTION_WAIT, |connection| audit.page(connection))? {
        screen.say(&audit);
    }
    screen.wipe();
    let report = storage.run(CONNECTION_WAIT, |connection| audit.end(connection))?;
    let text = if json {
        let status = if report.broken.is_empty() { "ok" } else { "broken" };
        format!("{:#}", json!({ "database": storage.place(), "status": status, "report": report }))
    } else {
        sheet(&report, notary.has_key(), !args.log.is_empty())
    };
    output::print(&text)?;
    Ok(if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the logs tell.
fn hear(logs: &[PathBuf]) -> anyhow::Result<Testimony> {
    let mut testimony = Testimony::default();
    for log in logs {
        let cannot = || format!("the log {} cannot be read", log.display());
        let mut lines = BufReader::new(File::open(log).with_context(cannot)?);
        let mut line = Vec::new();
        while lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).with_context(cannot)? > 0 {
            testimony.hear(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
    }
    anyhow::ensure!(
        logs.is_empty() || !testimony.is_empty(),
        "no line of the log says where the history stands; give the server's own log, written at the level INFO"
    );
    Ok(testimony)
}

/// What the running server tells of its own last row, if one runs here and writes into this database. The rows are proved whether or
/// not it answers.
fn ask(server: &Running, storage: &Storage, testimony: &mut Testimony) {
    let shown = match server.get("/diagnostics/history") {
        Ok(Some(shown)) => {
            serde_json::from_value(shown).map_err(|error| format!("its answer is strange: {error}"))
        }
        Ok(None) => return,
        Err(error) => Err(error.to_string()),
    };
    match shown {
        Ok(Shown { stands: Some(Stands { database, instance_id, seq, hash }) })
            if database == storage.place() =>
        {
            testimony.take(&instance_id, seq, &hash);
        }
        // It writes elsewhere, or has written nothing yet.
        Ok(_) => {}
        Err(why) => output::say(&format!("the running server was not heard: {why}")),
    }
}

/// `/diagnostics/history`.
#[derive(Deserialize)]
struct Shown {
    stands: Option<Stands>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stands {
    database: String,
    instance_id: String,
    seq: i64,
    hash: String,
}

fn sheet(report: &Report, has_key: bool, has_log: bool) -> String {
    let mut lines: Vec<String> = report.broken.iter().map(broken).collect();
    let Report { rows, unchained, skipped, instances, checkpoints, .. } = report;
    let verdict = if lines.is_empty() { "all as they were written" } else { "not all as they were written" };
    lines.push(format!("{rows} rows of {instances} instances, {checkpoints} checkpoints: {verdict}"));
    if has_log {
        lines.push(format!("the server told of {} of them", report.told));
    }
    if *unchained > 0 {
        lines.push(format!(
            "{unchained} rows are older than the chain and have no hash; nothing can be told of them"
        ));
    }
    if *skipped > 0 {
        lines.push(format!("{skipped} numbers were left out by the writer itself; gap rows tell of them"));
    }
    if !has_key {
        lines.push(
            "the checkpoints could not be proved, since there is no sealing key here: whoever rewrote everything would \
             not be seen; set WAYGATE_SEALING_KEY, or run this beside data/sealing.key"
                .to_owned(),
        );
    }
    lines.join("\n")
}

fn broken(finding: &Finding) -> String {
    let Finding { instance_id, seq, id, call_id, what } = finding;
    let mut place = Vec::new();
    if let Some(seq) = seq {
        place.push(format!("row {seq}"));
    }
    if let Some(id) = id {
        place.push(format!("id {id}"));
    }
    if let Some(call_id) = call_id {
        place.push(format!("call {}", shown(call_id)));
    }
    format!("broken: instance {}, {}: {}", shown(instance_id), place.join(", "), shown(what))
}

/// How far it is, for somebody who waits.
struct Screen {
    is_shown: bool,
    said: Instant,
}

impl Screen {
    fn say(&mut self, audit: &Audit<'_>) {
        if self.is_shown && self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            let (rows, percent) = audit.progress();
            drop(write!(io::stderr(), "\r{rows} rows, {percent} %"));
        }
    }

    fn wipe(&self) {
        if self.is_shown {
            drop(write!(io::stderr(), "\r{:40}\r", ""));
        }
    }
}
