//! `status` and `health`: how the server on this data folder is, for people, scripts and containers.
//!
//! Must not know how it is found out.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::running::Running;
use super::{Exit, output};

/// THE TABLE of what `status` tells: its name, where the server shows it, and as what.
const FACTS: [(&str, &str, &str); 17] = [
    ("pid", "/diagnostics/performance", "/pid"),
    ("status", "/health", "/status"),
    ("problems", "/health", "/problems"),
    ("phase", "/health", "/phase"),
    ("version", "/health", "/version"),
    ("uptimeSeconds", "/diagnostics/performance", "/uptimeSeconds"),
    ("cpuSeconds", "/diagnostics/performance", "/cpuSeconds"),
    ("cpuShare", "/diagnostics/performance", "/cpuShare"),
    ("rssBytes", "/diagnostics/performance", "/rssBytes"),
    ("openFiles", "/diagnostics/performance", "/openFiles"),
    ("openFilesMax", "/diagnostics/performance", "/openFilesMax"),
    ("diskFreeBytes", "/diagnostics/performance", "/diskFreeBytes"),
    ("listeners", "/diagnostics/connection", "/listeners"),
    ("connections", "/diagnostics/connection", "/connections/open"),
    ("sessions", "/diagnostics/connection", "/sessions/open"),
    ("streams", "/diagnostics/connection", "/streams/open"),
    ("requestsInFlight", "/diagnostics/connection", "/requestsInFlight"),
];

/// `status`: process, memory, connections.
///
/// # Errors
/// When the server does not answer, or stdout cannot be written.
pub fn run(running: &Running, json: bool) -> anyhow::Result<ExitCode> {
    let mut pages: BTreeMap<&str, Value> = BTreeMap::new();
    let mut status = Map::new();
    for (name, page, place) in FACTS {
        if !pages.contains_key(page) {
            let Some(shown) = running.get(page)? else { return none(running, json) };
            pages.insert(page, shown);
        }
        let fact = pages.get(page).and_then(|shown| shown.pointer(place));
        status.insert(name.to_owned(), fact.cloned().unwrap_or_default());
    }
    let status = Value::Object(status);
    if json {
        output::print_json(&status)?;
    } else {
        output::print(&output::for_stdout(&shown(&status)))?;
    }
    Ok(verdict(&status))
}

/// `health`: the answer in one word, and the exit code that a container's health check wants.
///
/// # Errors
/// As [`run`].
pub fn health(running: &Running, json: bool) -> anyhow::Result<ExitCode> {
    let Some(health) = running.get("/health")? else { return none(running, json) };
    if json {
        output::print_json(&health)?;
    } else {
        output::print(&output::for_stdout(&judged(&health)))?;
    }
    Ok(verdict(&health))
}

fn none(running: &Running, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        output::print_json(&json!({"status": "stopped"}))?;
    }
    output::say(&format!("waygate-mcp: {}", running.none()));
    Ok(Exit::Unreachable.into())
}

fn verdict(health: &Value) -> ExitCode {
    if text(health, "status") == "unhealthy" { Exit::Failure.into() } else { Exit::Ok.into() }
}

/// The status, and a line for each problem.
fn judged(health: &Value) -> String {
    let problems = health.get("problems").and_then(Value::as_object).into_iter().flatten();
    let line = |(check, why): (&String, &Value)| format!("\n  {check}: {}", why.as_str().unwrap_or_default());
    text(health, "status") + &problems.map(line).collect::<String>()
}

fn shown(status: &Value) -> String {
    let number = |name: &str| status.get(name).and_then(Value::as_f64).unwrap_or_default();
    let text = |name: &str| text(status, name);
    let listeners = status.get("listeners").and_then(Value::as_array).into_iter().flatten();
    let listeners: Vec<&str> = listeners.filter_map(Value::as_str).collect();
    let clients = [
        (text("connections"), "connections"),
        (text("sessions"), "sessions"),
        (text("streams"), "streams"),
        (text("requestsInFlight"), "requests in work"),
    ];
    let lines = [
        ("pid", text("pid")),
        ("version", text("version")),
        ("up", output::duration(number("uptimeSeconds"))),
        ("phase", text("phase")),
        ("listens", listeners.join(", ")),
        ("processor", format!("{:.1} % ({:.1} s)", number("cpuShare") * 100.0, number("cpuSeconds"))),
        ("memory", output::bytes(number("rssBytes"))),
        ("files", format!("{} of {} open", text("openFiles"), text("openFilesMax"))),
        ("disk", format!("{} free", output::bytes(number("diskFreeBytes")))),
        ("clients", clients.map(|(count, what)| format!("{count} {what}")).join(", ")),
    ];
    let lines = lines.iter().map(|(name, value)| format!("\n  {name:<10} {value}"));
    judged(status) + &lines.collect::<String>()
}

fn text(status: &Value, name: &str) -> String {
    let value = status.get(name).unwrap_or(&Value::Null);
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_what_is_wrong_first() {
        let status = json!({
            "pid": 7, "status": "degraded", "problems": {"plugins": "files is open"}, "phase": "serving", "version": "1",
            "uptimeSeconds": 3700.4, "cpuSeconds": 1.25, "cpuShare": 0.011, "rssBytes": 23_068_672, "openFiles": 5,
            "openFilesMax": 9, "diskFreeBytes": 5_368_709_120_u64, "listeners": ["http://a", "unix:b"], "connections": 1,
            "sessions": 0, "streams": 0, "requestsInFlight": 0,
        });
        let shown = shown(&status);
        assert!(shown.starts_with("degraded\n  plugins: files is open\n  pid        7\n"), "{shown}");
        for part in ["up         1 h 1 min", "1.1 % (1.2 s)", "22.0 MiB", "5.0 GiB free", "http://a, unix:b"]
        {
            assert!(shown.contains(part), "{shown}");
        }
        assert_eq!(verdict(&status), ExitCode::from(Exit::Ok));
    }
}
