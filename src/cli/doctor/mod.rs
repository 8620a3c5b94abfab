//! `doctor`: looks at everything that operators stumble over, says what mends it, and mends what is ours. Reading order: here,
//! how checks are run; `table`, which there are; `checks`, one file each; `patient`, what they look at; `bundle`, the file for
//! whoever helps.
//!
//! Works with the server running or stopped. Must not know what a check looks at.

mod bundle;
mod certificate;
mod checks;
mod finding;
mod patient;
mod report;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::{Exit, backup, output};
use crate::app::Builder;
use crate::config::Flags;
use crate::storage::acts::DOCTOR_FIX;
use finding::Finding;
use patient::Patient;
use report::{Outcome, Report};
use table::{CHECKS, Check};

pub const EXAMPLES: &str = "\
Examples:
  waygate-mcp doctor                                    what is amiss, why that matters, and what mends it
  waygate-mcp doctor --fix                              mends modes, leftovers and orphans of Waygate's own, and says so
  waygate-mcp doctor --url https://mcp.example.org      also whether event streams come through
  waygate-mcp doctor --bundle report.tar.zst            all of it in a file for whoever helps, without secrets
  waygate-mcp doctor --json

It works whether or not a server runs. The exit code is 0 when nothing is amiss, or all of it was mended, 1 when something is,
and 73 when the bundle cannot be written.
";

/// What the doctor is to do.
#[derive(Debug, Default, clap::Args)]
pub struct DoctorArgs {
    /// Mend what is Waygate's own: modes of its files, leftovers, orphaned guards
    #[arg(long)]
    fix: bool,
    /// Look whether event streams come through this URL, as clients have it
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Write all that was found, and what helps to understand it, into this file (.tar.zst), without secrets
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

/// The names of all checks, what each looks at, and what `--fix` mends of it.
pub fn checks() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    CHECKS.iter().map(|check| (check.id, check.looks_at, check.fixes))
}

/// Looks at everything.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: DoctorArgs, builder: &Builder, flags: Flags, json: bool) -> anyhow::Result<ExitCode> {
    let patient = Arc::new(Patient::gather(builder, flags, args.url));
    let mut report = examine(&patient);
    if args.fix {
        report.fix();
        note(&patient, &report);
    }
    if let Some(path) = &args.bundle {
        match bundle::write(path, &patient, &report) {
            Ok(written) => output::say(&format!(
                "wrote {} with {written} entries; its manifest.json lists them",
                path.display()
            )),
            Err(error) => {
                output::say(&format!("waygate-mcp: {error:#}"));
                return Ok(Exit::CannotCreate.into());
            }
        }
    }
    if json {
        output::print_json(&report.to_json(&patient))?;
    } else {
        output::print_coloured(&report.to_text())?;
    }
    Ok(if report.is_well() { Exit::Ok.into() } else { Exit::Failure.into() })
}

/// Has the history tell what was mended, where there is one.
fn note(patient: &Patient, report: &Report) {
    let done: Vec<&str> = report.mended().collect();
    let Some(config) = patient.config().filter(|_| !done.is_empty() && patient.foreign.is_none()) else {
        return;
    };
    if let Some(Ok(_)) = patient.storage() {
        backup::note(config, DOCTOR_FIX, &done.join("; "));
    }
}

/// Runs all checks side by side, each until its deadline.
fn examine(patient: &Arc<Patient>) -> Report {
    let is_sound = patient.config().is_some();
    let began: Vec<(&Check, Option<Begun>)> = CHECKS
        .iter()
        .map(|check| (check, (is_sound || !check.needs_config).then(|| begin(check, patient))))
        .collect();
    let outcomes = began.into_iter().map(|(check, begun)| {
        let (found, took) = begun.map(|begun| begun.end(check)).unzip();
        let took_ms = took.map_or(0, |took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        Outcome { id: check.id, found, took_ms }
    });
    Report { outcomes: outcomes.collect() }
}

/// A check that runs.
struct Begun {
    at: Instant,
    found: Receiver<(Vec<Finding>, Duration)>,
}

fn begin(check: &Check, patient: &Arc<Patient>) -> Begun {
    let (sender, found) = mpsc::sync_channel(1);
    let (look, patient, at) = (check.look, Arc::clone(patient), Instant::now());
    // One that does not end is left behind, and ends with the process.
    let thread = std::thread::Builder::new().name(format!("doctor-{}", check.id));
    drop(thread.spawn(move || drop(sender.send((look(&patient), at.elapsed())))));
    Begun { at, found }
}

impl Begun {
    fn end(self, check: &Check) -> (Vec<Finding>, Duration) {
        let left = check.within.saturating_sub(self.at.elapsed());
        self.found.recv_timeout(left).unwrap_or_else(|error| {
            let why = "what it looks at is not known to be well";
            let what = match error {
                mpsc::RecvTimeoutError::Timeout => {
                    format!("the check {} did not end within {} s", check.id, check.within.as_secs())
                }
                mpsc::RecvTimeoutError::Disconnected => format!("the check {} failed itself", check.id),
            };
            let command = "waygate-mcp doctor --bundle report.tar.zst";
            (vec![Finding::warning("doctor.unfinished", what, why, command)], self.at.elapsed())
        })
    }
}
