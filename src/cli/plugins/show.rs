//! `plugins show` and `bundles show`: what the running server tells of one, else its file without its secrets.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::files::PluginsFolder;
use super::list::Wanted;
use crate::cli::running::Running;
use crate::cli::{Exit, output};
use crate::config::MASK;
use crate::config::plugin::{Credential, PluginFile, PluginKind, Reach, read_file, render};

/// Shows one.
///
/// # Errors
/// When the server answers with an error, or stdout cannot be written.
pub fn show(
    wanted: Wanted,
    name: &str,
    running: &Running,
    folder: &PluginsFolder,
    json: bool,
) -> anyhow::Result<Exit> {
    if let Some(shown) = of_server(wanted, name, running)? {
        if json {
            output::print_json(&shown)?;
        } else {
            output::print(&output::for_stdout(&sheet(&shown)))?;
        }
        return Ok(Exit::Ok);
    }
    let path = folder.file(name);
    if !path.exists() {
        output::say(&format!("waygate-mcp: {}, and {}", running.none(), folder.missing(name)));
        return Ok(Exit::Failure);
    }
    let file = match read_file(&path, name) {
        Ok(file) if wanted == Wanted::Bundles && !matches!(file.kind, PluginKind::Bundle(_)) => {
            output::say(&format!(
                "waygate-mcp: {name} is a plugin and no bundle; `waygate-mcp plugins show {name}` shows it"
            ));
            return Ok(Exit::Failure);
        }
        Ok(file) => masked(file),
        Err(faults) => return super::check::refuse(&path, &faults, json),
    };
    if json {
        let text = render(&file).parse::<toml::Table>()?;
        output::print_json(&json!({"running": false, "name": name, "file": path, "says": text}))?;
    } else {
        output::print(&output::for_stdout(&format!("# {}\n{}", path.display(), render(&file))))?;
        output::say(&format!("not running: {}; this is the file", running.none()));
    }
    Ok(Exit::Ok)
}

/// What the server tells of one; none when no server runs.
///
/// # Errors
/// As it answers.
pub fn of_server(wanted: Wanted, name: &str, running: &Running) -> anyhow::Result<Option<Value>> {
    // Whatever else is typed, it is no name, and must not become another URL.
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    if plain != name || plain.is_empty() {
        anyhow::bail!("there is no plugin or bundle {name:?}: a name is lower-case letters, digits, - and _");
    }
    Ok(running.get(&format!("/{}/{name}", wanted.word()))?)
}

/// The file without what it says of secrets.
pub fn masked(mut file: PluginFile) -> PluginFile {
    if let PluginKind::Mcp(server) = &mut file.kind {
        let all = match &mut server.reach {
            Reach::Http(reach) => &mut reach.headers,
            Reach::Stdio(reach) => &mut reach.env,
        };
        all.values_mut().for_each(|credential| *credential = Credential(MASK.to_owned()));
    }
    file
}

/// An object as a person reads it: a line a member, what is deeper set off.
fn sheet(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    let blanks = "  ".repeat(depth);
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        let _infallible = writeln!(text, "{blanks}{name}:");
                        write(value, depth + 1, text);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        let _infallible = writeln!(text, "{blanks}{name}:");
                        write(value, depth + 1, text);
                    }
                    Value::Array(_) | Value::Object(_) | Value::Null => {
                        let _infallible = writeln!(text, "{blanks}{name}: -");
                    }
                    _ => {
                        let _infallible = writeln!(text, "{blanks}{name}: {}", plain(value));
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let _infallible = writeln!(text, "{blanks}{}", plain(item));
            }
        }
        _ => {
            let _infallible = writeln!(text, "{blanks}{}", plain(value));
        }
    }
}

/// A text without its quotes, an object as its members on one line, anything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| format!("{name} {}", plain(value)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_has_a_line_a_member() {
        let value = json!({"name": "a", "none": null, "tools": [{"name": "x", "tokens": 5}], "report": {"era": "legacy", "stderr": ["one"]}});
        assert_eq!(
            sheet(&value),
            "name: a\nnone: -\ntools:\n  name x, tokens 5\nreport:\n  era: legacy\n  stderr:\n    one\n"
        );
    }
}
