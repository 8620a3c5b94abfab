//! A run as the client reads it: structured, and the same in plain words. Must not know how it was run.

use std::time::Duration;

use serde_json::{Value, json};

use super::capture::Shown;
use super::run::Ran;
use crate::plugins::child::Ended;
use crate::protocol::Raw;
use crate::protocol::content::ToolResult;

/// The tool's result: failed unless the program ended by itself, with 0.
pub(super) fn result(ran: Ran, timeout: Duration) -> Raw {
    let ended = match ran.ended {
        Ok(ended) => ended,
        Err(error) => return ToolResult::failed(error.to_string()).into_raw(),
    };
    let mut notes = Vec::new();
    for (name, shown) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        notes.extend(loss(name, shown));
    }
    let took_ms = u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX);
    let (exit_code, signal) = match ended {
        Ended::Exited(code) => (Some(code), None),
        Ended::Signaled(number) => (None, Some(signal_name(number))),
    };
    let head = match (&signal, exit_code) {
        _ if ran.timed_out => format!(
            "It was ended, with all that it started, because it ran longer than {} s; ask for less at once.",
            timeout.as_secs()
        ),
        (Some(signal), _) => format!("It was killed by {signal}."),
        (None, code) => format!("exit code {}", code.unwrap_or_default()),
    };
    let text = in_words(&head, &notes, &ran.stdout.text, &ran.stderr.text);
    let structured = json!({
        "exit_code": exit_code, "signal": signal, "timed_out": ran.timed_out, "duration_ms": took_ms,
        "stdout": stream(ran.stdout), "stderr": stream(ran.stderr), "notes": notes,
    });
    let succeeded = ended == Ended::Exited(0) && !ran.timed_out;
    let result = if succeeded { ToolResult::text(text) } else { ToolResult::failed(text) };
    result.with_structured(structured).into_raw()
}

fn stream(shown: Shown) -> Value {
    json!({"text": shown.text, "bytes": shown.bytes, "lost_bytes": shown.lost})
}

/// What the caller must know of a stream that is not shown as it was.
fn loss(name: &str, shown: &Shown) -> Vec<String> {
    let mut notes = Vec::new();
    if shown.lost > 0 {
        notes.push(format!(
            "{name} was {} bytes, of which {} in the middle are left out; have the program write less, or into a file",
            shown.bytes, shown.lost
        ));
    }
    if shown.mended {
        notes.push(format!("{name} holds bytes that are not UTF-8; U+FFFD stands for them"));
    }
    notes
}

fn in_words(head: &str, notes: &[String], stdout: &str, stderr: &str) -> String {
    let mut text = head.to_owned();
    for note in notes {
        text.push_str("\nnote: ");
        text.push_str(note);
    }
    for (name, says) in [("stdout", stdout), ("stderr", stderr)] {
        if !says.is_empty() {
            text.push_str("\n\n--- ");
            text.push_str(name);
            text.push('\n');
            text.push_str(says);
        }
    }
    if stdout.is_empty() && stderr.is_empty() {
        text.push_str("\nIt wrote nothing.");
    }
    text
}

/// The name of a signal, or its number where it has another name on another machine.
fn signal_name(number: i32) -> String {
    const NAMES: [(i32, &str); 12] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (5, "SIGTRAP"),
    ];
    let name = NAMES.iter().find(|(known, _)| *known == number).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| format!("signal {number}"))
}
