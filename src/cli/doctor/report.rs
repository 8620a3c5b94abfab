//! What the doctor says: to people, worst first, and to programs. Must not know checks.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use serde_json::{Value, json};

use super::finding::{Finding, Severity};
use super::patient::{Patient, Server};
use crate::telemetry::letters::on_one_line;

/// What came of one check.
pub struct Outcome {
    /// Which.
    pub id: &'static str,
    /// What it found; none when it was not done.
    pub found: Option<Vec<Finding>>,
    /// How long it took.
    pub took_ms: u64,
}

/// What came of all.
pub struct Report {
    /// In the order of the table.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// All findings.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.outcomes.iter().filter_map(|outcome| outcome.found.as_ref()).flatten()
    }

    /// Mends what is ours to mend.
    pub fn fix(&mut self) {
        self.outcomes
            .iter_mut()
            .filter_map(|outcome| outcome.found.as_mut())
            .flatten()
            .for_each(Finding::fix);
    }

    /// What was done.
    pub fn mended(&self) -> impl Iterator<Item = &str> {
        self.findings().filter_map(|finding| finding.mended.as_ref()?.as_deref().ok())
    }

    /// Whether nothing is amiss, or all of it was mended.
    pub fn is_well(&self) -> bool {
        !self.findings().any(Finding::stands)
    }

    /// For programs.
    pub fn to_json(&self, patient: &Patient) -> Value {
        let checks = self.outcomes.iter().map(|outcome| {
            let status = match outcome.found.as_deref() {
                None => "skipped",
                Some([]) => "ok",
                Some(_) => "findings",
            };
            json!({"id": outcome.id, "status": status, "tookMs": outcome.took_ms})
        });
        let server = match &patient.server {
            Server::Stopped => "stopped",
            Server::Barred { .. } => "barred",
            Server::Silent { .. } => "silent",
            Server::Running(_) => "running",
        };
        json!({
            "status": if self.is_well() { "ok" } else { "findings" },
            "server": server,
            "pid": patient.pid(),
            "dataRoot": patient.root,
            "version": env!("CARGO_PKG_VERSION"),
            "findings": self.findings().map(Finding::to_json).collect::<Vec<_>>(),
            "checks": checks.collect::<Vec<_>>(),
        })
    }

    /// For people. What is found may be named by others: with a line break or a control character in it, it would pass for
    /// another finding, or command the terminal.
    pub fn to_text(&self) -> String {
        let colours = Colours::of_stdout();
        let mut text = String::new();
        let mut all: Vec<&Finding> = self.findings().collect();
        all.sort_by_key(|finding| finding.severity);
        for finding in &all {
            let severity = colours.severity(finding.severity);
            let (what, command) = (on_one_line(&finding.what), on_one_line(&finding.command));
            let _infallible = writeln!(text, "{severity} {}: {what}", finding.id);
            let _infallible = writeln!(text, "        why:  {}", finding.why);
            match &finding.mended {
                Some(Ok(done)) => {
                    let _infallible = writeln!(text, "        done: {}", on_one_line(done));
                }
                Some(Err(why)) => {
                    let _infallible =
                        writeln!(text, "        not mended: {}; mend: {command}", on_one_line(why));
                }
                None => {
                    let _infallible = writeln!(text, "        mend: {command}");
                }
            }
        }
        let skipped = self.outcomes.iter().filter(|outcome| outcome.found.is_none());
        let skipped: Vec<&str> = skipped.map(|outcome| outcome.id).collect();
        if !skipped.is_empty() {
            let _infallible =
                writeln!(text, "not looked at, since the configuration is not sound: {}", skipped.join(", "));
        }
        let done = self.outcomes.len() - skipped.len();
        let mended = all.iter().filter(|finding| !finding.stands()).count();
        let fixable = all.iter().filter(|finding| finding.stands() && finding.mend.is_some()).count();
        let _infallible = match all.len() - mended {
            0 if mended == 0 => write!(text, "{done} checks, and nothing is amiss"),
            0 => write!(text, "{done} checks; all that was amiss is mended: {mended}"),
            left => write!(text, "{done} checks; amiss: {left}, mended: {mended}"),
        };
        if fixable > 0 && mended == 0 {
            let _infallible = write!(text, "; `waygate-mcp doctor --fix` mends {fixable} of it");
        }
        text
    }
}

/// Whether severities are coloured: on a terminal alone, and where nobody said that they are not to be.
struct Colours(bool);

impl Colours {
    fn of_stdout() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(std::io::stdout().is_terminal() && !plain)
    }

    fn severity(&self, severity: Severity) -> String {
        let word = format!("{:<7}", severity.name());
        match (self.0, severity) {
            (false, _) => word,
            (true, Severity::Error) => format!("\u{1b}[31m{word}\u{1b}[0m"),
            (true, Severity::Warning) => format!("\u{1b}[33m{word}\u{1b}[0m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(found: Vec<Finding>) -> Report {
        Report {
            outcomes: vec![
                Outcome { id: "disk", found: Some(found), took_ms: 1 },
                Outcome { id: "keys", found: None, took_ms: 0 },
            ],
        }
    }

    #[test]
    fn the_worst_comes_first_and_what_was_not_looked_at_is_told() {
        let found = vec![
            Finding::warning("a.b", "a little", "so it is", "mend a"),
            Finding::error("c.d", "much", "so it is", "mend c"),
        ];
        let text = report(found).to_text();
        assert!(text.starts_with("error   c.d: much\n") && text.contains("mend: mend a"), "{text}");
        assert!(
            text.contains("not sound: keys") && text.ends_with("1 checks; amiss: 2, mended: 0"),
            "{text}"
        );
        assert!(report(Vec::new()).to_text().ends_with("nothing is amiss"));
    }

    #[test]
    fn who_names_a_file_commands_no_terminal_and_adds_no_finding() {
        let hostile = "a\u{1b}[31mEVIL\u{202e}\nerror   c.d: forged";
        let mut refused = Finding::error("a.b", hostile, "so it is", hostile);
        refused.mended = Some(Err(hostile.to_owned()));
        let mut mended = Finding::error("a.b", hostile, "so it is", hostile);
        mended.mended = Some(Ok(hostile.to_owned()));
        let text =
            report(vec![Finding::warning("a.b", hostile, "so it is", hostile), refused, mended]).to_text();
        let severities = ["\u{1b}[31merror  \u{1b}[0m", "\u{1b}[33mwarning\u{1b}[0m"];
        let text = severities.iter().fold(text, |text, severity| text.replace(severity, "coloured"));
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        assert!(text.lines().all(|line| !line.starts_with("error   c.d")), "{text}");
        assert_eq!(text.matches("EVIL").count(), 7, "{text}");
    }
}
