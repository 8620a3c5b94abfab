//! Keys as people read them: a line each, or a sheet for one. Must not know where they come from.

use std::fmt::Write as _;

use serde_json::Value;

use crate::telemetry::letters;

/// The columns, by the members that they show.
const COLUMNS: [(&str, &str); 7] = [
    ("id", "ID"),
    ("name", "NAME"),
    ("owner", "OWNER"),
    ("standing", "STANDING"),
    ("scopes", "SCOPES"),
    ("expiresAt", "EXPIRES"),
    ("lastUsedAt", "LAST USED"),
];

/// A table of keys.
pub fn of(keys: &[Value]) -> String {
    let mut lines = vec![COLUMNS.map(|(_, heading)| heading.to_owned())];
    lines.extend(keys.iter().map(|key| COLUMNS.map(|(member, _)| cell(key.get(member), member))));
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _infallible = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// All of one key, a line a member.
pub fn sheet(key: &Value) -> String {
    let mut text = String::new();
    for (member, value) in key.as_object().into_iter().flatten() {
        match value {
            Value::Object(parts) => {
                for (part, value) in parts {
                    let _infallible =
                        writeln!(text, "{:<26} {}", format!("{member}.{part}"), cell(Some(value), part));
                }
            }
            value => {
                let _infallible = writeln!(text, "{member:<26} {}", cell(Some(value), member));
            }
        }
    }
    text
}

fn cell(value: Option<&Value>, member: &str) -> String {
    let nothing = if member == "expiresAt" { "never" } else { "-" };
    match value {
        None | Some(Value::Null) => nothing.to_owned(),
        Some(Value::String(text)) => on_one_line(text),
        Some(Value::Array(all)) if all.is_empty() => nothing.to_owned(),
        Some(Value::Array(all)) => {
            all.iter().filter_map(Value::as_str).map(on_one_line).collect::<Vec<_>>().join(" ")
        }
        Some(other) => other.to_string(),
    }
}

/// Text of others that stays one line and commands no terminal: a row may have been written by hand.
pub fn on_one_line(text: &str) -> String {
    const LETTERS_MAX: usize = 100;
    let shown = letters::on_one_line(&text.chars().take(LETTERS_MAX).collect::<String>());
    if text.chars().count() > LETTERS_MAX { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_stays_in_its_cell_whatever_it_holds() {
        let hostile = format!("a\nb\u{1b}[31m\u{202e}{}", "x".repeat(10_000));
        let key = json!({"id": "abcdefgh", "name": hostile, "standing": "active", "scopes": ["mcp", "admin"], "expiresAt": null,
                         "limits": {"burst": 3}});
        let text = of(std::slice::from_ref(&key));
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            !text.contains('\u{1b}')
                && text.len() < 1_000
                && text.contains("mcp admin")
                && text.contains("never")
        );
        let sheet = sheet(&key);
        assert!(
            sheet.lines().any(|line| line.starts_with("limits.burst") && line.ends_with(" 3")),
            "{sheet}"
        );
        assert!(!sheet.contains(['\u{1b}', '\u{202e}']));
    }
}
