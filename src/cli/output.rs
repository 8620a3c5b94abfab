//! Writing to whoever typed the command: results to stdout, everything else to stderr. Must not know what is written.

use std::io::{self, IsTerminal, Write};

/// Writes a result and a line break to stdout. A reader that went away, as `| head` does, is no error.
///
/// # Errors
/// When stdout cannot be written, as on a full disk.
pub fn print(text: &str) -> anyhow::Result<()> {
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
    print(&format!("{value:#}"))
}

/// Says something to the person on stderr. Nobody can be told when that fails.
pub fn say(text: &str) {
    drop(writeln!(io::stderr(), "{}", harmless(text)));
}

/// Text of others, made fit for where it is written: on a terminal, control characters could do anything.
pub fn for_stdout(text: &str) -> String {
    if io::stdout().is_terminal() { harmless(text) } else { text.to_owned() }
}

fn harmless(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() && !matches!(char, '\n' | '\t') {
            plain.extend(char.escape_unicode());
        } else {
            plain.push(char);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_cannot_command_the_terminal() {
        assert_eq!(harmless("a\u{1b}]0;x\u{7}b\n\tc\r"), "a\\u{1b}]0;x\\u{7}b\n\tc\\u{d}");
    }
}
