//! `cache stats | clear`: what the running server keeps of answers, and how often that helped.
//!
//! Must not know what is kept.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::plugins::ended;
use super::running::Running;
use super::{Exit, output};
use crate::config::Config;

const EXAMPLES: &str = "\
Examples:
  waygate-mcp cache stats                   how many answers are kept, and how often one was found
  waygate-mcp cache clear                   forget them all
  waygate-mcp cache clear --plugin github   forget those of one plugin
";

/// What can be done with the cache.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum CacheCommand {
    /// Tell how many answers are kept, and how often one was found
    Stats,
    /// Forget all answers
    Clear {
        /// Only those of this plugin
        #[arg(long, value_name = "NAME")]
        plugin: Option<String>,
    },
}

/// Does it.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(command: &CacheCommand, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let running = Running::of(config);
    ended(match command {
        CacheCommand::Stats => stats(&running, json),
        CacheCommand::Clear { plugin } => clear(plugin.as_deref(), &running, json),
    })
}

fn stats(running: &Running, json: bool) -> anyhow::Result<Exit> {
    let Some(report) = running.get("/diagnostics/cache")? else { return Ok(none(running)) };
    if json {
        output::print_json(&report)?;
    } else {
        output::print(&output::for_stdout(&sheet(&report)))?;
    }
    Ok(Exit::Ok)
}

fn clear(plugin: Option<&str>, running: &Running, json: bool) -> anyhow::Result<Exit> {
    // No other character can be in the name of a plugin, and in a URL others would mean something.
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if let Some(name) = plugin.filter(|name| !is_name(name)) {
        output::say(&format!(
            "waygate-mcp: there is no plugin {name:?}; `waygate-mcp plugins list` shows them"
        ));
        return Ok(Exit::Failure);
    }
    let query = plugin.map(|name| format!("?plugin={name}")).unwrap_or_default();
    let Some(answer) = running.post(&format!("/admin/api/cache/clear{query}"))? else {
        return Ok(none(running));
    };
    if json {
        output::print_json(&answer)?;
    } else {
        output::say(&told(&answer));
    }
    Ok(Exit::Ok)
}

fn none(running: &Running) -> Exit {
    output::say(&format!("waygate-mcp: {}; what is kept in memory ends with the server", running.none()));
    Exit::Unreachable
}

fn told(answer: &Value) -> String {
    let is_pending = answer.get("pending").and_then(Value::as_bool) == Some(true);
    match answer.get("cleared").and_then(Value::as_u64) {
        Some(1) => "1 answer was forgotten".to_owned(),
        Some(count) => format!("{count} answers were forgotten"),
        None if is_pending => {
            "Redis is away: its answers are forgotten when it is back, and none is given before".to_owned()
        }
        None => "what was kept in Redis was forgotten".to_owned(),
    }
}

/// All of it, for people.
fn sheet(report: &Value) -> String {
    let text = |key: &str| report.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| report.get(key).and_then(Value::as_u64);
    let mut sheet = format!("type       {}, {}\n", text("type"), text("state"));
    if !text("why").is_empty() {
        let _infallible = writeln!(sheet, "problem    {}", text("why"));
    }
    if let (Some(answers), Some(bytes), Some(most)) = (number("answers"), number("bytes"), number("maxBytes"))
    {
        let (bytes, most) = (output::bytes(bytes as f64), output::bytes(most as f64));
        let _infallible = writeln!(sheet, "answers    {answers}, {bytes} of {most}");
    }
    if let (Some(hits), Some(misses)) = (number("hits"), number("misses")) {
        let _infallible = writeln!(sheet, "found      {}", share(hits, hits + misses));
    }
    for (word, key) in [("joined", "joined"), ("evicted", "evictions"), ("failures", "failures")] {
        if let Some(count) = number(key) {
            let _infallible = writeln!(sheet, "{word:<10} {count}");
        }
    }
    for plugin in report.get("plugins").and_then(Value::as_array).into_iter().flatten() {
        let number = |key: &str| plugin.get(key).and_then(Value::as_u64).unwrap_or_default();
        let name = plugin.get("name").and_then(Value::as_str).unwrap_or_default();
        let found = share(number("hits"), number("hits") + number("misses"));
        let _infallible = writeln!(sheet, "  {name:<16} {found}");
    }
    sheet
}

fn share(hits: u64, all: u64) -> String {
    let percent = if all == 0 { 0.0 } else { hits as f64 / all as f64 * 100.0 };
    format!("{hits} of {all}, {percent:.1} %")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sheet_tells_what_there_is_and_nothing_of_what_is_not_known() {
        let report = json!({
            "type": "memory", "state": "ok", "why": null, "answers": 2, "bytes": 2048, "maxBytes": 1048576,
            "hits": 3, "misses": 1, "joined": 4, "evictions": 5, "failures": 0,
            "plugins": [{"name": "github", "hits": 3, "misses": 1, "joined": 4}],
        });
        let sheet = sheet(&report);
        for line in [
            "type       memory, ok",
            "answers    2, 2.0 KiB of 1.0 MiB",
            "found      3 of 4, 75.0 %",
            "  github           3 of 4, 75.0 %",
        ] {
            assert!(sheet.lines().any(|shown| shown == line), "{line} in {sheet}");
        }
        let away =
            json!({"type": "redis", "state": "degraded", "why": "Redis is away: gone", "answers": null});
        assert_eq!(super::sheet(&away), "type       redis, degraded\nproblem    Redis is away: gone\n");
        assert_eq!(
            super::sheet(&json!({"type": "none", "state": "disabled"})),
            "type       none, disabled\n"
        );
    }

    #[test]
    fn a_clearing_tells_what_it_came_to() {
        assert_eq!(told(&json!({"cleared": 1, "pending": false})), "1 answer was forgotten");
        assert!(told(&json!({"cleared": null, "pending": true})).contains("when it is back"));
        assert!(told(&json!({"cleared": null, "pending": false})).ends_with("was forgotten"));
    }
}
