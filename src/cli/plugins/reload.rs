//! `plugins reload`, and what follows a change of files: the running server reads them again and tells what changed.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cli::remote::ClientError;
use crate::cli::running::Running;
use crate::cli::{Exit, output};

/// Bids the server to reload. 1 means that some file is not as it should be.
///
/// # Errors
/// When the server answers with an error, or stdout cannot be written.
pub fn reload(running: &Running, json: bool) -> anyhow::Result<Exit> {
    let Some(answer) = running.post("/plugins/reload")? else {
        output::say(&format!("waygate-mcp: {}; the files are read when one starts", running.none()));
        return Ok(Exit::Unreachable);
    };
    if json {
        output::print_json(&answer)?;
    } else {
        output::print(&output::for_stdout(&told(&answer)))?;
    }
    let is_well =
        failed(&answer).is_empty() && answer.pointer("/certificate/failed").is_none_or(Value::is_null);
    Ok(if is_well { Exit::Ok } else { Exit::Failure })
}

/// Has a change of these plugins' files noticed, and says what came of it on stderr. Whatever else failed is not their fault.
///
/// # Errors
/// When stdout cannot be written.
pub fn after_change(running: &Running, names: &[&str]) -> anyhow::Result<(Exit, Option<Value>)> {
    match running.post("/plugins/reload") {
        Ok(None) => {
            output::say(&format!("{}; it takes effect at the next start", running.none()));
            Ok((Exit::Ok, None))
        }
        Ok(Some(answer)) => {
            output::say(told(&answer).trim_end());
            let is_ours = |failed: &&Value| {
                failed.get("name").and_then(Value::as_str).is_some_and(|name| names.contains(&name))
            };
            let exit =
                if failed(&answer).iter().any(|failed| is_ours(&failed)) { Exit::Failure } else { Exit::Ok };
            Ok((exit, Some(answer)))
        }
        // The file is as it should be all the same, in what follows, too.
        Err(error @ (ClientError::TooSlow(_) | ClientError::Refused { status: 503 | 504, .. })) => {
            output::say(&late(&error));
            Ok((Exit::Ok, None))
        }
        Err(error @ ClientError::Refused { .. }) => {
            output::say(&format!(
                "the running server did not reload ({error}); it takes effect at its next start"
            ));
            Ok((Exit::Ok, None))
        }
        Err(error) => Err(error.into()),
    }
}

/// What is said when the server did not come to an end with it.
fn late(error: &ClientError) -> String {
    format!("the running server has not reloaded yet ({error}); it goes on with it: see `plugins list`")
}

fn failed(answer: &Value) -> &[Value] {
    answer.get("failed").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// What changed, a line each.
fn told(answer: &Value) -> String {
    let mut text = String::new();
    for word in ["added", "removed", "changed"] {
        let names: Vec<&str> = answer
            .get(word)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !names.is_empty() {
            let _infallible = writeln!(text, "{word}: {}", names.join(", "));
        }
    }
    for failed in failed(answer) {
        let member = |key: &str| failed.get(key).and_then(Value::as_str).unwrap_or_default();
        let _infallible = writeln!(text, "failed: {}: {}", member("name"), member("why"));
    }
    if let Some(certificate) = answer.get("certificate") {
        text.push_str(&certificate_told(certificate));
    }
    let unchanged = answer.get("unchanged").and_then(Value::as_array).map_or(0, Vec::len);
    let took_ms = answer.get("tookMs").and_then(Value::as_u64).unwrap_or_default();
    let _infallible = writeln!(text, "unchanged: {unchanged}, reloaded in {took_ms} ms");
    text
}

/// What became of the certificate; nothing where it is the same.
fn certificate_told(certificate: &Value) -> String {
    let member = |key: &str| certificate.get(key).and_then(Value::as_str).unwrap_or_default();
    let changed = certificate.get("changed").and_then(Value::as_bool).unwrap_or_default();
    match (member("failed"), changed) {
        ("", false) => String::new(),
        ("", true) => format!("changed: the certificate, which ends on {}\n", member("expiresAt")),
        (why, _) => format!("failed: the certificate, so that the one from before stays in use: {why}\n"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reload_is_told_by_what_changed() {
        let answer = json!({"added": ["a", "b"], "removed": [], "changed": ["c"], "unchanged": ["e", "f"], "tookMs": 7,
                            "failed": [{"name": "d", "file": "/d.toml", "why": "d.toml:1: bad"}]});
        assert_eq!(
            told(&answer),
            "added: a, b\nchanged: c\nfailed: d: d.toml:1: bad\nunchanged: 2, reloaded in 7 ms\n"
        );
        assert_eq!(failed(&answer).len(), 1);
    }

    #[test]
    fn a_certificate_is_told_of_when_it_changed_or_could_not() {
        let told = |changed, failed| {
            certificate_told(
                &json!({"file": "/c", "changed": changed, "expiresAt": "2027-01-01T00:00:00Z", "failed": failed}),
            )
        };
        assert_eq!(told(false, Value::Null), "");
        assert_eq!(told(true, Value::Null), "changed: the certificate, which ends on 2027-01-01T00:00:00Z\n");
        assert!(told(false, "it ended".into()).starts_with("failed: the certificate"));
    }

    #[test]
    fn a_reload_that_takes_long_is_said_to_go_on() {
        let error = ClientError::Refused { status: 504, message: "it takes long".to_owned() };
        assert!(late(&error).contains("it takes long") && late(&error).contains("goes on"));
    }
}
