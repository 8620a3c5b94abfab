//! One value: from text or TOML to what its setting takes. Must not know layers.

use toml::de::DeValue;

use super::faults::did_you_mean;
use super::settings::{Kind, Setting};

/// A value that its setting takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of an integer, or of workers.
    Number(u64),
    /// Of a bool.
    Truth(bool),
    /// Of a text, a word (as the table writes it), a folder, a secret, or `auto`.
    Text(String),
    /// Of a list.
    List(Vec<String>),
}

impl Value {
    /// As TOML writes it; also how values are shown.
    pub fn to_toml(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
            Self::Text(text) => quoted(text),
            Self::List(items) => {
                format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Number(number) => (*number).into(),
            Self::Truth(truth) => (*truth).into(),
            Self::Text(text) => text.as_str().into(),
            Self::List(items) => items.clone().into(),
        }
    }
}

impl From<Value> for ::config::ValueKind {
    fn from(value: Value) -> Self {
        match value {
            Value::Number(number) => Self::U64(number),
            Value::Truth(truth) => Self::Boolean(truth),
            Value::Text(text) => Self::String(text),
            Value::List(items) => items.into(),
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Reads a variable's or a flag's text. `Ok(None)`: an empty text, which sets nothing (but empties a list).
///
/// # Errors
/// What is wrong with it; a secret's text is not repeated.
pub fn of_text(setting: &Setting, text: &str) -> Result<Option<Value>, String> {
    if text.is_empty() {
        return Ok((setting.kind == Kind::List).then(|| Value::List(Vec::new())));
    }
    let value = match setting.kind {
        Kind::Integer { .. } | Kind::Workers => match text.parse() {
            Ok(number) => within(setting, number)?,
            Err(_) => word(setting, text)?,
        },
        Kind::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Value::Truth(true),
            "false" | "0" | "no" | "off" => Value::Truth(false),
            _ => return Err(refusal(setting, text)),
        },
        Kind::Words(_) => word(setting, text)?,
        Kind::List => Value::List(
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect(),
        ),
        Kind::Text | Kind::Folder | Kind::File | Kind::Secret => Value::Text(text.to_owned()),
    };
    Ok(Some(value))
}

/// Reads a value of a TOML file.
///
/// # Errors
/// What is wrong with it; a secret's value is not repeated.
pub fn of_toml(setting: &Setting, value: &DeValue<'_>) -> Result<Value, String> {
    match (setting.kind, value) {
        (Kind::Integer { .. } | Kind::Workers, DeValue::Integer(digits)) => {
            let number = u64::from_str_radix(digits.as_str(), digits.radix());
            within(setting, number.map_err(|_negative_or_huge| refusal(setting, digits.as_str()))?)
        }
        (Kind::Workers | Kind::Words(_), DeValue::String(text)) => word(setting, text),
        (Kind::Bool, DeValue::Boolean(truth)) => Ok(Value::Truth(*truth)),
        (Kind::Text | Kind::Folder | Kind::File | Kind::Secret, DeValue::String(text))
            if !text.is_empty() =>
        {
            Ok(Value::Text(text.clone().into_owned()))
        }
        (Kind::List, DeValue::Array(items)) => {
            let texts = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.clone().into_owned()),
                other => Err(format!("{} holds {}, but takes strings only", setting.key, kind_of(other))),
            });
            texts.collect::<Result<_, _>>().map(Value::List)
        }
        (_, DeValue::String(text)) => Err(refusal(setting, text)),
        (_, other) => Err(format!("{} is {}, but takes {}", setting.key, kind_of(other), takes(setting))),
    }
}

fn within(setting: &Setting, number: u64) -> Result<Value, String> {
    let (min, max) = match setting.kind {
        Kind::Integer { min, max } => (min, max),
        _ => (1, WORKERS_MAX),
    };
    if (min..=max).contains(&number) {
        Ok(Value::Number(number))
    } else {
        Err(refusal(setting, &number.to_string()))
    }
}

/// More would only be a slip of the finger.
pub const WORKERS_MAX: u64 = 1024;

fn word(setting: &Setting, text: &str) -> Result<Value, String> {
    let words: &[&str] = match setting.kind {
        Kind::Words(words) => words,
        Kind::Workers => &["auto"],
        _ => &[],
    };
    match words.iter().find(|word| word.eq_ignore_ascii_case(text.trim())) {
        Some(word) => Ok(Value::Text((*word).to_owned())),
        None => Err(refusal(setting, text) + &did_you_mean(text, words.iter().copied())),
    }
}

fn refusal(setting: &Setting, given: &str) -> String {
    if setting.is_secret() {
        return format!("{} takes {}", setting.key, takes(setting));
    }
    format!("{} is {}, but takes {}", setting.key, quoted(given), takes(setting))
}

/// What a setting takes, in words.
pub fn takes(setting: &Setting) -> String {
    let unit = if setting.unit.is_empty() { String::new() } else { format!(" ({})", setting.unit) };
    match setting.kind {
        Kind::Integer { min, max } => format!("a whole number from {min} to {max}{unit}"),
        Kind::Workers => format!("a whole number from 1 to {WORKERS_MAX} or `auto`"),
        Kind::Bool => "true or false".to_owned(),
        Kind::Words(words) => format!("one of {}", words.join(", ")),
        Kind::Text => "a text".to_owned(),
        Kind::Folder => "a folder".to_owned(),
        Kind::File => "a file".to_owned(),
        Kind::List => "a list of strings".to_owned(),
        Kind::Secret => "a text that is not empty".to_owned(),
    }
}

/// What a TOML value is, in words.
pub fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::by_key;
    use super::*;

    fn text(key: &str, text: &str) -> Result<Option<Value>, String> {
        of_text(by_key(key).unwrap(), text)
    }

    #[test]
    fn texts_become_what_the_setting_takes() {
        assert_eq!(text("server.port", "0"), Ok(Some(Value::Number(0))));
        assert_eq!(text("log.level", "debug"), Ok(Some(Value::Text("DEBUG".into()))));
        assert_eq!(text("server.workers", "AUTO"), Ok(Some(Value::Text("auto".into()))));
        assert_eq!(
            text("files.roots", "a=/x:ro, b=/y:rw"),
            Ok(Some(Value::List(vec!["a=/x:ro".into(), "b=/y:rw".into()])))
        );
        assert_eq!(text("files.roots", ""), Ok(Some(Value::List(vec![]))));
        assert_eq!(text("access.api_key", ""), Ok(None));
        assert_eq!(text("log.file", "off"), Ok(Some(Value::Truth(false))));
    }

    #[test]
    fn a_refusal_names_the_bounds_or_the_words_and_the_nearest() {
        for bad in ["65536", "-1", "abc", "80.5"] {
            assert!(
                text("server.port", bad).unwrap_err().contains("a whole number from 0 to 65535"),
                "{bad}"
            );
        }
        assert!(text("server.workers", "0").is_err());
        assert!(text("server.env", "produktion").unwrap_err().ends_with("did you mean production?"));
        assert!(text("log.file", "perhaps").is_err());
    }
}
