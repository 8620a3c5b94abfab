//! The layers that values come from, and reading each of them: TOML text, `.env` text, variables, flags.
//!
//! Every value keeps its place. Must not know which files exist or what values mean together.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Mode;
use super::faults::{Faults, did_you_mean};
use super::kubernetes;
use super::settings::{NOT_YET, SECTIONS, SETTINGS, Setting, by_flag, by_key, by_variable};
use super::values::{self, Value};

/// Where a value comes from; later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Compiled in.
    Default,
    /// `default.toml` or `<env>.toml`.
    File,
    /// A `.env` file.
    EnvFile,
    /// The process's environment.
    Environment,
    /// The command line.
    Flag,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::EnvFile => ".env",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// Where exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Of which layer.
    pub layer: Layer,
    /// `file:line`, a variable, a flag; empty for a default.
    pub place: String,
}

/// A setting, its value and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Which setting.
    pub setting: &'static Setting,
    /// Its value.
    pub value: Value,
    /// Where it was found.
    pub origin: Origin,
}

/// What reading the layers found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is wrong.
    pub faults: Faults,
    /// What the operator should know; one log line each.
    pub notes: Vec<String>,
}

impl Findings {
    fn keep(
        &mut self,
        setting: &'static Setting,
        origin: Origin,
        value: Result<Option<Value>, String>,
    ) -> Option<Given> {
        match value {
            Ok(value) => value.map(|value| Given { setting, value, origin }),
            Err(sentence) => {
                self.faults.add(origin.place, sentence);
                None
            }
        }
    }
}

/// The compiled-in values for a mode.
pub fn of_defaults(mode: Mode, findings: &mut Findings) -> Vec<Given> {
    let mut layer = Vec::new();
    for setting in SETTINGS {
        let Some(text) = setting.built_in(mode) else { continue };
        let origin = Origin { layer: Layer::Default, place: String::new() };
        let value = DeValue::parse(text).map_err(|error| error.to_string());
        let value = value.and_then(|value| values::of_toml(setting, value.get_ref())).map(Some);
        layer.extend(findings.keep(setting, origin, value));
    }
    layer
}

/// The values of a TOML file, `name` being how it is called in places.
pub fn of_toml(name: &str, text: &str, findings: &mut Findings) -> Vec<Given> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let place = |at: usize| format!("{name}:{}", line_of(text, at));
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        findings.faults.add(place(at), format!("not TOML: {}", error.message()));
    }
    let mut found = Vec::new();
    for (section, value) in in_order(document.get_ref()) {
        match value.get_ref() {
            DeValue::Table(table) if SECTIONS.iter().any(|(known, _)| *known == section.get_ref()) => {
                for (key, value) in in_order(table) {
                    let path = format!("{}.{}", section.get_ref(), key.get_ref());
                    let origin = Origin { layer: Layer::File, place: place(key.span().start) };
                    match by_key(&path) {
                        Some(setting) => {
                            let value = values::of_toml(setting, value.get_ref()).map(Some);
                            found.extend(findings.keep(setting, origin, value));
                        }
                        None => findings.faults.add(origin.place, unknown_key(&path)),
                    }
                }
            }
            _ => findings
                .faults
                .add(place(section.span().start), unknown_section(section.get_ref(), value.get_ref())),
        }
    }
    found
}

/// A key and its value, each with its place in the text.
pub type Member<'a, 'i> = (&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>);

/// A table's members as they stand in the file.
pub fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Member<'a, 'i>> {
    let mut members: Vec<_> = table.iter().collect();
    members.sort_by_key(|(key, _)| key.span().start);
    members
}

/// The line, from 1, of what begins at this byte.
pub fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn unknown_key(path: &str) -> String {
    if let Some((_, _, advice)) = NOT_YET.iter().find(|(_, key, _)| *key == path) {
        return format!("{path} is not served by this version; {advice}");
    }
    format!("there is no setting {path}{}", did_you_mean(path, SETTINGS.iter().map(|setting| setting.key)))
}

fn unknown_section(section: &str, value: &DeValue<'_>) -> String {
    let later = NOT_YET.iter().find(|(_, key, _)| key.split('.').next() == Some(section));
    let known = |section: &str| SECTIONS.iter().any(|(name, _)| *name == section);
    match (value, later) {
        (_, Some((_, _, advice))) if !known(section) => {
            format!("{section} is not served by this version; {advice}")
        }
        (DeValue::Table(_), _) => {
            format!(
                "there is no section [{section}]{}",
                did_you_mean(section, SECTIONS.iter().map(|(name, _)| *name))
            )
        }
        _ if known(section) => format!("{section} is a section: write [{section}] on a line of its own"),
        _ => match SETTINGS.iter().find(|setting| setting.name() == section) {
            Some(setting) => format!("{section} stands in no section; put it under [{}]", setting.section()),
            None => format!("there is no setting {section}; settings stand in sections such as [server]"),
        },
    }
}

/// Our variables among those of an environment or a `.env` file: (name, value, place).
pub type Variables = Vec<(String, String, String)>;

/// The values of variables.
pub fn of_variables(
    layer: Layer,
    variables: &Variables,
    working_folder: &Path,
    findings: &mut Findings,
) -> Vec<Given> {
    let mut found: Vec<Given> = Vec::new();
    for (name, text, place) in variables {
        let origin = Origin { layer, place: place.clone() };
        if let Some(setting) = by_variable(name) {
            let value = values::of_text(setting, text);
            found.extend(findings.keep(setting, origin, value));
        } else if let Some(setting) = secret_of_file(name) {
            if variables.iter().any(|(other, text, _)| other == setting.variable && !text.is_empty()) {
                let sentence =
                    format!("{} is set too, and only one of the two can count; remove one", setting.variable);
                findings.faults.add(origin.place, sentence);
            } else if !text.is_empty() {
                let value = read_secret(setting, &working_folder.join(text));
                found.extend(findings.keep(setting, origin, value));
            }
        } else if name != CONFIG_DIR {
            findings.faults.add(place, unknown_variable(name));
        }
    }
    found
}

/// Not a setting, because it says where settings are.
pub const CONFIG_DIR: &str = "WAYGATE_CONFIG_DIR";

fn secret_of_file(name: &str) -> Option<&'static Setting> {
    by_variable(name.strip_suffix("_FILE")?).filter(|setting| setting.is_secret())
}

fn read_secret(setting: &Setting, path: &Path) -> Result<Option<Value>, String> {
    let text = super::files::read(path)
        .map_err(|error| format!("{} shall be read from {}, but {error}", setting.key, path.display()))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(format!("{} shall be read from {}, but that file is empty", setting.key, path.display()));
    }
    values::of_text(setting, secret)
}

fn unknown_variable(name: &str) -> String {
    if let Some((_, _, advice)) = NOT_YET.iter().find(|(variable, ..)| *variable == name) {
        return format!("not served by this version; {advice}");
    }
    if let Some(setting) = name.strip_suffix("_FILE").and_then(by_variable) {
        return format!("only secrets can be read from a file; set {} itself", setting.variable);
    }
    let known = SETTINGS.iter().map(|setting| setting.variable).chain([CONFIG_DIR]);
    format!("there is no such variable{}", did_you_mean(name, known))
}

/// Our variables of the process's environment; those that Kubernetes put there are left out and noted.
pub fn ours(environment: &[(String, String)], findings: &mut Findings) -> Variables {
    let mut variables = Variables::new();
    let mut injected = Vec::new();
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("WAYGATE_")) {
        if kubernetes::injects(name, value) {
            injected.push(name.as_str());
        } else {
            variables.push((name.clone(), value.clone(), name.clone()));
        }
    }
    injected.sort_unstable();
    variables.sort();
    if !injected.is_empty() {
        findings
            .notes
            .push(format!("ignored what Kubernetes injects for its Services: {}", injected.join(", ")));
    }
    variables
}

/// The values of flags, as typed.
pub fn of_flags(flags: &[(&'static str, String)], findings: &mut Findings) -> Vec<Given> {
    let mut found = Vec::new();
    for (flag, text) in flags {
        let origin = Origin { layer: Layer::Flag, place: (*flag).to_owned() };
        match by_flag(flag) {
            Some(setting) if text.is_empty() => {
                findings.faults.add(*flag, format!("it has no value, but takes {}", values::takes(setting)));
            }
            Some(setting) => found.extend(findings.keep(setting, origin, values::of_text(setting, text))),
            None => findings.faults.add(*flag, "there is no such flag"),
        }
    }
    found
}

/// One layer as a source for the `config` crate, which lays one over the other.
#[derive(Debug, Clone)]
pub struct Source(pub Vec<Given>);

impl ::config::Source for Source {
    fn clone_into_box(&self) -> Box<dyn ::config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<::config::Map<String, ::config::Value>, ::config::ConfigError> {
        let given = self.0.iter().map(|given| {
            let value = ::config::Value::new(Some(&given.origin.place), given.value.clone());
            (given.setting.key.to_owned(), value)
        });
        Ok(given.collect())
    }
}

/// The last word on each setting.
pub fn last_words(layers: &[Given]) -> HashMap<&'static str, &Given> {
    layers.iter().map(|given| (given.setting.key, given)).collect()
}
