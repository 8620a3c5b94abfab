//! One record as one line, text or JSON. No line break, control character or secret gets through.

use std::fmt::Write as _;
use std::io;

use env_logger::fmt::style::Style;
use log::Record;
use log::kv::{Error, Key, Value, VisitSource};
use serde_json::{Map, Value as Json};

use crate::telemetry::letters::is_harmful;
use crate::telemetry::redaction::{MASK, is_secret_name, mask};

/// No message or field is longer, in bytes.
const PART_MAX_BYTES: usize = 8192;

/// `2026-01-31 12:00:00 INFO  target message key=value`, in local time.
///
/// # Errors
/// Never in truth: writing to a text cannot fail.
pub fn text(record: &Record<'_>, style: Style) -> io::Result<String> {
    let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
    let (level, target) = (record.level(), escape(record.target()));
    let message = escape(&mask(&short(record.args().to_string())));
    let mut line = format!("{now} {style}{level:<5}{style:#} {target} {message}");
    let mut fields = Fields::default();
    let read = record.key_values().visit(&mut fields);
    for (key, value) in fields.0 {
        let value = match &value {
            Json::String(text) if is_plain(text) => text.clone(),
            Json::String(text) => format!("\"{}\"", escape(&text.replace('\\', "\\\\").replace('"', "\\\""))),
            other => escape(&other.to_string()),
        };
        write!(line, " {}={value}", escape(&key)).map_err(io::Error::other)?;
    }
    if read.is_err() {
        line.push_str(" fields=unreadable");
    }
    line.push('\n');
    Ok(line)
}

/// One JSON object, its time in UTC.
pub fn json(record: &Record<'_>) -> String {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let message = mask(&short(record.args().to_string())).into_owned();
    let mut line = serde_json::json!({
        "time": now,
        "level": record.level().as_str(),
        "target": record.target(),
        "message": message,
    });
    let mut fields = Fields::default();
    let read = record.key_values().visit(&mut fields);
    if let (Some(members), false) = (line.as_object_mut(), fields.0.is_empty() && read.is_ok()) {
        if read.is_err() {
            fields.0.push(("fields".to_owned(), "unreadable".into()));
        }
        members.insert("fields".to_owned(), fields.0.into_iter().collect::<Map<_, _>>().into());
    }
    // JSON escapes control characters below U+0020 by itself; the other line breaks of Unicode are left to us.
    escape_json(&line.to_string()) + "\n"
}

/// The fields of a record, secrets masked.
#[derive(Default)]
struct Fields(Vec<(String, Json)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let key = key.as_str().to_owned();
        let value = if is_secret_name(&key, &[]) {
            MASK.into()
        } else {
            match serde_json::to_value(&value) {
                Ok(scalar @ (Json::Null | Json::Bool(_) | Json::Number(_))) => scalar,
                Ok(Json::String(text)) => mask(&short(text)).into_owned().into(),
                // Of objects and arrays the text is masked: they are rare, and their secrets look the same.
                Ok(other) => mask(&short(other.to_string())).into_owned().into(),
                Err(_) => mask(&short(value.to_string())).into_owned().into(),
            }
        };
        self.0.push((key, value));
        Ok(())
    }
}

/// Whether a value can stand in a text line without quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|char| !char.is_whitespace() && !is_harmful(char) && !matches!(char, '"' | '=' | '\\'))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            _ if is_harmful(char) => escaped.extend(char.escape_unicode()),
            _ => escaped.push(char),
        }
    }
    escaped
}

fn escape_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if is_harmful(char) {
            let _infallible = write!(escaped, "\\u{:04x}", u32::from(char));
        } else {
            escaped.push(char);
        }
    }
    escaped
}

fn short(text: String) -> String {
    if text.len() <= PART_MAX_BYTES {
        return text;
    }
    let end = text.floor_char_boundary(PART_MAX_BYTES);
    format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(message: &str, fields: &[(&str, &str)]) -> (String, Json) {
        let (mut text_line, mut json_line) = (String::new(), String::new());
        let mut render = |record: &Record<'_>| {
            text_line = text(record, Style::new()).unwrap();
            json_line = json(record);
        };
        let fields: Vec<(&str, &str)> = fields.to_vec();
        render(
            &Record::builder()
                .level(log::Level::Info)
                .target("waygate::http")
                .key_values(&fields)
                .args(format_args!("{message}"))
                .build(),
        );
        assert!(text_line.ends_with('\n') && text_line.lines().count() == 1, "{text_line:?}");
        assert!(json_line.ends_with('\n') && json_line.lines().count() == 1, "{json_line:?}");
        (text_line.trim_end().to_owned(), serde_json::from_str(&json_line).unwrap())
    }

    #[test]
    fn a_text_line_begins_with_the_local_time_and_ends_with_its_fields() {
        let (line, json) = lines("listening", &[("port", "8000"), ("note", "two words"), ("empty", "")]);
        let (time, rest) = line.split_at(19);
        let digits: String =
            time.chars().map(|char| if char.is_ascii_digit() { '9' } else { char }).collect();
        assert_eq!(digits, "9999-99-99 99:99:99");
        assert_eq!(rest, " INFO  waygate::http listening port=8000 note=\"two words\" empty=\"\"");
        assert_eq!(json["message"], "listening");
        assert_eq!(json["fields"], serde_json::json!({"port": "8000", "note": "two words", "empty": ""}));
        assert!(json["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{json}");
    }

    #[test]
    fn nobody_can_forge_a_line() {
        let forged = "ok\n2026-01-01 00:00:00 ERROR x\r\u{85}\u{2028}\u{1b}[2J\u{202e}";
        let (line, json) = lines(forged, &[("name", forged), ("a\nb", "c")]);
        assert!(line.chars().all(|char| !is_harmful(char)), "{line:?}");
        assert!(line.contains("ok\\n2026-01-01") && line.contains("a\\nb=c"), "{line}");
        assert_eq!(json["message"], forged);
    }

    #[test]
    fn no_secret_gets_into_a_line() {
        let secret = "sk-abcdefghijklmnopqrstuvwxyz";
        let (line, json) = lines(
            &format!("refused {secret}"),
            &[("api_key", "hunter2"), ("header", &format!("Bearer {secret}"))],
        );
        for text in [line, json.to_string()] {
            assert!(!text.contains("abcdefg") && !text.contains("hunter2") && text.contains(MASK), "{text}");
        }
    }

    #[test]
    fn a_part_that_is_long_is_cut() {
        let (line, _) = lines(&"ä".repeat(PART_MAX_BYTES), &[]);
        assert!(line.len() < PART_MAX_BYTES + 100 && line.ends_with("… (16384 bytes)"));
    }
}
