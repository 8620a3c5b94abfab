//! `plugins logs`: what a plugin's program wrote to its stderr, as far as the running server remembers it.

use serde_json::{Value, json};

use super::list::Wanted;
use crate::cli::running::Running;
use crate::cli::{Exit, output};

/// Shows the last lines.
///
/// # Errors
/// When the server answers with an error, or stdout cannot be written.
pub fn logs(name: &str, lines_max: usize, running: &Running, json: bool) -> anyhow::Result<Exit> {
    let Some(shown) = super::show::of_server(Wanted::Plugins, name, running)? else {
        output::say(&format!(
            "waygate-mcp: {}, and it alone remembers these lines; the log file has all",
            running.none()
        ));
        return Ok(Exit::Unreachable);
    };
    let lines = stderr_of(&shown);
    let lines = lines.get(lines.len().saturating_sub(lines_max)..).unwrap_or_default();
    if json {
        output::print_json(&json!({"name": name, "lines": lines}))?;
    } else if lines.is_empty() {
        output::say(&match shown.pointer("/report/program") {
            Some(Value::Object(_)) => format!("{name} wrote nothing to stderr since the server runs"),
            _ => format!("{name} is no program, and has no stderr"),
        });
    } else {
        output::print(&output::for_stdout(&lines.join("\n")))?;
    }
    Ok(Exit::Ok)
}

/// The lines in a plugin's report; a server behind a URL has none.
fn stderr_of(shown: &Value) -> Vec<String> {
    let lines = shown.pointer("/report/program/stderr").and_then(Value::as_array);
    let line = |line: &Value| match line {
        Value::String(text) => text.clone(),
        other => other.get("line").and_then(Value::as_str).map_or_else(|| other.to_string(), str::to_owned),
    };
    lines.into_iter().flatten().map(line).collect()
}
