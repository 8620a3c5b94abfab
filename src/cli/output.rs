//! Writing to whoever typed the command: results to stdout, everything else to stderr. Must not know what is written.

use std::io::{self, IsTerminal, Write};

use crate::telemetry::letters::{harmless, harmless_json};

/// Writes a result and a line break to stdout. A reader that went away, as `| head` does, is no error.
///
/// # Errors
/// When stdout cannot be written, as on a full disk.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_coloured(&for_stdout(text))
}

/// The same for what has colours of ours, and in which the text of others is harmless already.
///
/// # Errors
/// As [`print`].
pub fn print_coloured(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to stdout"))
        }
        _ => Ok(()),
    }
}

/// Writes a result as JSON to stdout.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print_document(&format!("{value:#}"))
}

/// The same for what is written as JSON already.
///
/// # Errors
/// As [`print`].
pub fn print_document(json: &str) -> anyhow::Result<()> {
    if is_terminal() { print_coloured(&harmless_json(json)) } else { print_coloured(json) }
}

/// Whether somebody looks at stdout on a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Says something to the person on stderr. Nobody can be told when that fails.
pub fn say(text: &str) {
    drop(writeln!(io::stderr(), "{}", harmless(text)));
}

/// Text of others, made fit for where it is written: on a terminal, control characters could do anything.
pub fn for_stdout(text: &str) -> String {
    if is_terminal() { harmless(text) } else { text.to_owned() }
}

/// A number of bytes for people.
pub fn bytes(count: f64) -> String {
    let (mut left, mut unit) = (count, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if left < 1024.0 {
            break;
        }
        (left, unit) = (left / 1024.0, larger);
    }
    if unit == "B" { format!("{left:.0} B") } else { format!("{left:.1} {unit}") }
}

/// A time for people, in its two largest units.
pub fn duration(seconds: f64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    // Whole seconds: the cast takes what lies beyond to the nearest that there is.
    let mut left = seconds as u64;
    let mut parts = Vec::new();
    for (size, unit) in UNITS {
        if left >= size || unit == "s" && parts.is_empty() {
            parts.push(format!("{} {unit}", left / size));
            left %= size;
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_said_in_units_that_fit() {
        assert_eq!([0.0, 1023.0, 1024.0, 1.5e9].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.4 GiB"]);
        assert_eq!([0.2, 61.0, 7200.0, 90_000.0].map(duration), ["0 s", "1 min 1 s", "2 h", "1 d 1 h"]);
    }
}
