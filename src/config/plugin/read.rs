//! From the text of a plugin's file to what it says, field by field, each with its place.
//!
//! Must not know what values mean together.

use serde_json::{Map, Value as Json};
use toml::de::{DeTable, DeValue};

use super::PluginFile;
use super::fields::{FIELDS, Field, FileKind, Takes, by_key};
use crate::config::faults::{Faults, did_you_mean};
use crate::config::layers::{in_order, line_of};
use crate::config::values::{self, Value as Plain};

/// A value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// As settings have them.
    Plain(Plain),
    /// A table of anything.
    Object(Json),
}

/// A field, its value and where it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// Which field.
    pub field: &'static Field,
    /// What stands for the `*` of its key; empty where it has none.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// `github.toml:3`, or the flag.
    pub place: String,
}

/// All that was said of one plugin or bundle, wherever it was said.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// The plugin's name.
    pub name: String,
    /// The place of what is missing.
    pub whole: String,
    /// What it is.
    pub kind: FileKind,
    /// What was said.
    pub given: Vec<Given>,
    /// Keys of fields that were said in vain, so that no second fault follows from the first.
    pub broken: Vec<&'static str>,
    /// What is wrong so far.
    pub faults: Faults,
}

impl Said {
    /// Nothing yet.
    pub fn new(name: &str, whole: &str) -> Self {
        Self { name: name.to_owned(), whole: whole.to_owned(), ..Self::default() }
    }

    /// Says one thing of an MCP server; `name` stands for the `*` of the key.
    pub fn say(&mut self, key: &str, name: &str, value: Plain, place: impl Into<String>) {
        if let Some(field) = by_key(key, FileKind::Mcp) {
            let (name, value) = (name.to_owned(), Value::Plain(value));
            self.given.push(Given { field, name, value, place: place.into() });
        }
    }

    /// Says what was typed for a field of an MCP server, in its own type.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn type_in(&mut self, key: &str, text: &str, flag: &str) -> Result<(), String> {
        let Some(field) = by_key(key, FileKind::Mcp) else { return Ok(()) };
        let value = values::of_text(&field.as_setting(), text).map_err(|why| format!("{flag}: {why}"))?;
        match value {
            Some(value) => self.say(key, "", value, flag),
            None => return Err(format!("{flag} is empty; it takes {}", values::takes(&field.as_setting()))),
        }
        Ok(())
    }

    /// Makes a file of it.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place.
    pub fn finish(mut self) -> Result<PluginFile, Faults> {
        let mut faults = std::mem::take(&mut self.faults);
        super::check::check(&self, &mut faults);
        match super::build::build(&self) {
            Some(file) if faults.is_empty() => Ok(file),
            _ => Err(faults),
        }
    }

    /// The one thing that was said of a field without a `*`.
    pub fn find(&self, key: &str) -> Option<&Given> {
        self.given.iter().find(|given| given.field.key == key)
    }

    /// The things that were said of a field with a `*`.
    pub fn each<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Given> {
        self.given.iter().filter(move |given| given.field.key == key)
    }
}

impl Given {
    /// As it stands in a file.
    pub fn key(&self) -> String {
        shown(self.field.key, &self.name)
    }

    /// Its text; empty when it is none.
    pub fn text(&self) -> &str {
        match &self.value {
            Value::Plain(Plain::Text(text)) => text,
            _ => "",
        }
    }

    /// Its items; none when it is no list.
    pub fn items(&self) -> &[String] {
        match &self.value {
            Value::Plain(Plain::List(items)) => items,
            _ => &[],
        }
    }
}

fn shown(key: &str, name: &str) -> String {
    key.replacen('*', name, 1)
}

/// Reads the text of the file of the plugin or bundle `name`.
///
/// # Errors
/// Everything that is wrong with it, each with its place: `NAME.toml:LINE`.
pub fn parse(name: &str, text: &str) -> Result<PluginFile, Faults> {
    let file = format!("{name}.toml");
    let mut reader = Reader { said: Said::new(name, &file), file: &file, text };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        let place = reader.place(at);
        reader.said.faults.add(place, format!("not TOML: {}", error.message()));
    }
    let table = document.get_ref();
    if let Some((key, value)) = table.get_key_value("kind")
        && let Some(field) = by_key("kind", FileKind::Mcp)
    {
        let place = reader.place(key.span().start);
        match values::of_toml(&field.as_setting(), value.get_ref()) {
            Ok(word) => {
                let is_it = |kind: &FileKind| word == Plain::Text(kind.name().to_owned());
                reader.said.kind = FileKind::ALL.into_iter().find(is_it).unwrap_or_default();
            }
            // Which fields there are depends on it.
            Err(sentence) => {
                reader.said.faults.add(place, sentence);
                return Err(reader.said.faults);
            }
        }
    }
    reader.table(table, "", "");
    reader.said.finish()
}

struct Reader<'a> {
    said: Said,
    file: &'a str,
    text: &'a str,
}

impl Reader<'_> {
    fn place(&self, at: usize) -> String {
        format!("{}:{}", self.file, line_of(self.text, at))
    }

    /// Reads a table whose own key ends with a dot, or is empty for the whole file.
    fn table(&mut self, table: &DeTable<'_>, prefix: &str, name: &str) {
        for (key, value) in in_order(table) {
            let word = key.get_ref().as_ref();
            let place = self.place(key.span().start);
            let (path, name) = match self.holds(&format!("{prefix}*")) {
                true => (format!("{prefix}*"), word),
                false => (format!("{prefix}{word}"), name),
            };
            let inner = format!("{path}.");
            if let Some(field) = by_key(&path, self.said.kind) {
                self.value(field, name, value.get_ref(), place);
            } else if !self.holds(&inner) {
                let sentence = self.unknown(prefix, &path, name);
                self.said.faults.add(place, sentence);
            } else if let DeValue::Table(table) = value.get_ref() {
                self.table(table, &inner, name);
            } else {
                let sentence = self.no_table(&shown(&path, name), &inner, value.get_ref());
                self.said.faults.add(place, sentence);
            }
        }
    }

    /// Whether any field of this kind of file begins so.
    fn holds(&self, prefix: &str) -> bool {
        FIELDS.iter().any(|field| field.is_for(self.said.kind) && field.key.starts_with(prefix))
    }

    fn value(&mut self, field: &'static Field, name: &str, value: &DeValue<'_>, place: String) {
        let read = match (field.takes, value) {
            (Takes::Credential, DeValue::String(text)) => {
                Ok(Value::Plain(Plain::Text(text.clone().into_owned())))
            }
            (Takes::Object, DeValue::Table(table)) => object(table).map(Value::Object),
            (Takes::Object, other) => {
                Err(format!("{} is {}, but takes a table", field.key, values::kind_of(other)))
            }
            (Takes::Credential, other) => {
                Err(format!("{} is {}, but takes a text", field.key, values::kind_of(other)))
            }
            (Takes::Plain(_), value) => values::of_toml(&field.as_setting(), value).map(Value::Plain),
        };
        match read {
            Ok(value) => self.said.given.push(Given { field, name: name.to_owned(), value, place }),
            Err(sentence) => {
                let sentence = sentence.replacen(field.key, &shown(field.key, name), 1);
                self.said.faults.add(place, sentence);
                self.said.broken.push(field.key);
            }
        }
    }

    fn unknown(&self, prefix: &str, path: &str, name: &str) -> String {
        let own = self.said.kind;
        let key = shown(path, name);
        let begins = format!("{path}.");
        let has = |kind: &FileKind| {
            let is_it = |field: &&Field| field.key == path || field.key.starts_with(&begins);
            FIELDS.iter().filter(is_it).any(|field| field.is_for(*kind))
        };
        if let Some(other) = FileKind::ALL.into_iter().find(has) {
            return format!(
                "{key} belongs to {}, and this is {}; remove it, or write kind = {:?}",
                other.in_words(),
                own.in_words(),
                other.name()
            );
        }
        let siblings = FIELDS.iter().filter(|field| field.is_for(own)).filter_map(|field| {
            let word = field.key.strip_prefix(prefix)?.split('.').next()?;
            Some(shown(&format!("{prefix}{word}"), name))
        });
        let siblings: Vec<String> = siblings.collect();
        format!("there is no field {key}{}", did_you_mean(&key, siblings.iter().map(String::as_str)))
    }

    fn no_table(&self, key: &str, inner: &str, value: &DeValue<'_>) -> String {
        let kind = values::kind_of(value);
        match inner {
            "tools." => format!(
                "tools is {kind}, but takes a table for each tool, as [tools.create_issue]; which tools are offered says `allow`"
            ),
            "env." | "headers." => format!("{key} is {kind}, but takes a table, as {{ NAME = \"value\" }}"),
            _ => {
                let members = FIELDS.iter().filter_map(|field| field.key.strip_prefix(inner));
                let members: Vec<&str> = members.filter(|rest| !rest.contains('.')).collect();
                format!("{key} is {kind}, but takes a table with {}", members.join(", "))
            }
        }
    }
}

fn object(table: &DeTable<'_>) -> Result<Json, String> {
    let members = in_order(table).into_iter();
    let members =
        members.map(|(key, value)| Ok((key.get_ref().clone().into_owned(), json_of(value.get_ref())?)));
    members.collect::<Result<Map<String, Json>, String>>().map(Json::Object)
}

fn json_of(value: &DeValue<'_>) -> Result<Json, String> {
    let unfit = |what: &str| Err(format!("tools.*.annotations holds {what}, which JSON does not have"));
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned().into()),
        DeValue::Boolean(truth) => Ok((*truth).into()),
        DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => Ok(number.into()),
            Err(_) => unfit("a number of more than 64 bits"),
        },
        DeValue::Float(digits) => match digits.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number.into()),
            _ => unfit("a number that is not finite"),
        },
        DeValue::Datetime(_) => unfit("a date"),
        DeValue::Array(items) => {
            items.iter().map(|item| json_of(item.get_ref())).collect::<Result<Vec<_>, _>>().map(Json::Array)
        }
        DeValue::Table(table) => object(table),
    }
}
