//! Whether the configuration is sound, as `serve` reads it. Must not know settings.

use std::path::Path;

use crate::cli::doctor::finding::{Finding, edits, quoted};
use crate::cli::doctor::patient::Patient;

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let mut found = Vec::new();
    match &patient.loaded {
        Err(faults) => found.extend(faults.iter().map(|fault| {
            let what = format!("{}: {}", fault.place, fault.sentence);
            let why = "the server does not start with it, and no verb that needs its settings works";
            Finding::error("config.fault", what, why, command(&fault.place))
        })),
        // What a secret's file lets others read is told by the check of permissions.
        Ok(loaded) => {
            found.extend(loaded.notes.iter().filter(|note| note.contains("is never read")).map(|note| {
                let why = "whoever wrote it believes that it holds";
                let path = note.split(" is never read").next().unwrap_or_default();
                let path = quoted(Path::new(path));
                Finding::warning("config.unread", note.clone(), why, format!("mv {path} {path}.unused"))
            }))
        }
    }
    if patient.restore_is_pending() {
        let why = "what is there is neither the old state nor the new one until it is finished";
        let what = "a restore was cut off; the next verb that needs the settings finishes it";
        found.push(Finding::error("config.restore", what, why, "waygate-mcp status"));
    }
    found
}

/// What mends a fault at this place: a file with its line, a variable, a flag.
fn command(place: &str) -> String {
    if let Some((file, line)) = place.rsplit_once(':')
        && line.bytes().all(|byte| byte.is_ascii_digit())
    {
        return edits(Path::new(file), Some(line));
    }
    if place.starts_with("WAYGATE_") || place == "DATABASE_URL" {
        return format!("unset {place}");
    }
    if place.starts_with("--") {
        return format!("take {place} away, or give it what it takes: `waygate-mcp help serve` says what");
    }
    format!("mend {place}; `waygate-mcp config check` says when it is well")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_mended_where_it_stands() {
        assert_eq!(command("/srv/.env:3"), "${EDITOR:-vi} +3 /srv/.env");
        assert_eq!(command("WAYGATE_PORT"), "unset WAYGATE_PORT");
        assert!(command("--port").starts_with("take --port away"));
        assert!(command("/etc/waygate").starts_with("mend /etc/waygate"));
    }
}
