//! `explain`: what would become of a call now, and what decides it, as the running server says. Must not know the rules.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::remote::ClientError;
use super::running::Running;
use super::{Exit, output};
use crate::config::Config;

pub const EXAMPLES: &str = "\
Examples:
  waygate-mcp explain --tool files__read_file                  for the user whose server this is
  waygate-mcp explain --tool files__read_file --key ci         for who shows the key that is called ci
  waygate-mcp explain --tool get_issue --bundle github         at the path /mcp/github
  waygate-mcp explain --tool files__read_file --key anonymous  for who shows no key

Nothing is called and nothing charged. The exit code is 0 when the call would be let through, 1 when it would be refused, and
69 when no server runs.
";

/// How every key begins.
const KEY_MARK: &str = "wg_";

/// Which call.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The tool, as clients call it
    #[arg(long, value_name = "NAME")]
    tool: String,
    /// The key, by its id or its name; `anonymous` is none, `local` the socket in the data folder
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The bundle, or the plugin that is served alone, at whose path it is called
    #[arg(long, value_name = "NAME")]
    bundle: Option<String>,
}

/// Asks the server on this data folder.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &ExplainArgs, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let running = Running::of(config);
    let told = match running.get(&path(args)) {
        Ok(Some(told)) => told,
        Ok(None) => {
            let why = format!("{}; start one with `waygate-mcp`", running.none());
            output::say(&format!("waygate-mcp: {why}"));
            return Ok(Exit::Unreachable.into());
        }
        Err(error) => return Ok(refuse(&error)),
    };
    if json {
        output::print_json(&told)?;
    } else {
        output::print(&output::for_stdout(&sheet(&told)))?;
    }
    let is_allowed = told.get("allowed").and_then(Value::as_bool).unwrap_or_default();
    Ok(if is_allowed { Exit::Ok.into() } else { Exit::Failure.into() })
}

fn refuse(error: &ClientError) -> ExitCode {
    output::say(&format!("waygate-mcp: {error}"));
    error.exit().into()
}

fn path(args: &ExplainArgs) -> String {
    // A key itself has no place in a URL, even one that only its own server sees.
    let key = args.key.as_deref().map(|key| match key.strip_prefix(KEY_MARK) {
        Some(rest) => rest.split('_').next().unwrap_or_default(),
        None => key,
    });
    let mut path = format!("/diagnostics/explain?tool={}", escaped(&args.tool));
    for (name, value) in [("key", key), ("bundle", args.bundle.as_deref())] {
        if let Some(value) = value {
            let _infallible = write!(path, "&{name}={}", escaped(value));
        }
    }
    path
}

/// A value as a query carries it.
fn escaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            plain.push(char::from(byte));
        } else {
            let _infallible = write!(plain, "%{byte:02X}");
        }
    }
    plain
}

fn text<'a>(value: &'a Value, place: &str) -> &'a str {
    value.pointer(place).and_then(Value::as_str).unwrap_or_default()
}

fn sheet(told: &Value) -> String {
    let who = match text(told, "/caller/key/name") {
        "" => text(told, "/caller/principal").to_owned(),
        name => format!("{name} ({})", text(told, "/caller/principal")),
    };
    let verdict = match text(told, "/decidedBy") {
        "" => "would be let through".to_owned(),
        step => format!(
            "would be refused at the step {step}, with status {} and {}",
            told.pointer("/answer/status").unwrap_or(&Value::Null),
            text(told, "/answer/reason"),
        ),
    };
    let mut sheet = format!("{} at {} for {who} {verdict}\n", text(told, "/tool"), text(told, "/path"));
    for step in told.get("steps").and_then(Value::as_array).into_iter().flatten() {
        let verdict = match text(step, "/verdict") {
            "not_reached" => "-",
            verdict => verdict,
        };
        let _infallible = write!(sheet, "\n  {:<9} {verdict:<8} {}", text(step, "/step"), text(step, "/why"));
        let by = step.get("by").and_then(Value::as_array).into_iter().flatten();
        for by in by {
            let _infallible = write!(sheet, "\n  {:<18} {}", "", text(by, "/text"));
        }
        if !text(step, "/advice").is_empty() {
            let _infallible = write!(sheet, "\n  {:<18} to do: {}", "", text(step, "/advice"));
        }
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_pasted_whole_is_sent_as_its_id_and_names_are_escaped() {
        let key = Some("wg_abcdefgh_verysecretindeed".to_owned());
        let args = ExplainArgs { tool: "a b&c".to_owned(), key, bundle: Some("x".to_owned()) };
        assert_eq!(path(&args), "/diagnostics/explain?tool=a%20b%26c&key=abcdefgh&bundle=x");
    }
}
