//! Takes secrets out of what a bundle holds: those that this machine's configuration knows, wherever they stand, and whatever looks
//! like one. Must not know what a bundle holds.

use std::fs;

use toml::{Table, Value};

use crate::backup::Places;
use crate::cli::doctor::patient::Patient;
use crate::config::plugin::{Credential, Piece, PluginKind, Reach, read_folder};
use crate::config::settings::by_variable;
use crate::config::{Config, MASK, Secret};
use crate::telemetry::redaction::{is_secret_name, mask};

/// What is shorter stands by chance in too many places.
const SECRET_MIN_BYTES: usize = 5;
/// A file that a credential names is never larger.
const FILE_MAX_BYTES: u64 = 64 << 10;

/// All secrets that are known here, the longest first.
pub struct Redactor(Vec<String>);

impl Redactor {
    /// Of all that the configuration, its files and the environment say.
    pub fn of(patient: &Patient) -> Self {
        let mut known = Vec::new();
        for (name, value) in &patient.environment {
            let is_secret = by_variable(name).is_some_and(|setting| setting.is_secret());
            if is_secret || name == "DATABASE_URL" || is_secret_name(name, &[]) {
                known.push(value.clone());
            }
        }
        if let Some(config) = patient.config() {
            known.extend(of_config(config));
            known.extend(of_plugins(patient, config));
        }
        if let Some(folder) = patient.data_folder() {
            known.extend(lines_of(&folder.join("sealing.key")));
        }
        // One that the configuration refuses is a secret all the same.
        known.extend(lines_of(std::path::Path::new(".env")).into_iter().filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            let name = name.trim().trim_start_matches("export ").trim();
            let is_secret =
                by_variable(name).is_some_and(|setting| setting.is_secret()) || is_secret_name(name, &[]);
            is_secret.then(|| value.trim().trim_matches(['"', '\'']).to_owned())
        }));
        let passwords: Vec<String> = known.iter().filter_map(|secret| password_in(secret)).collect();
        known.extend(passwords);
        let escaped = known.iter().map(|secret| serde_json::Value::from(secret.as_str()).to_string());
        let escaped: Vec<String> = escaped.map(|text| text.trim_matches('"').to_owned()).collect();
        known.extend(escaped);
        known.retain(|secret| secret.len() >= SECRET_MIN_BYTES);
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        known.dedup();
        Self(known)
    }

    /// The text without secrets.
    pub fn text(&self, text: &str) -> String {
        let mut plain = text.to_owned();
        for secret in &self.0 {
            if plain.contains(secret.as_str()) {
                plain = plain.replace(secret.as_str(), MASK);
            }
        }
        if plain.contains("-----BEGIN ") {
            return mask(&plain).into_owned();
        }
        let lines: Vec<_> = plain.split('\n').map(mask).collect();
        lines.join("\n")
    }

    /// A plugin's file without secrets and without comments; none when it is no TOML.
    pub fn plugin_file(&self, text: &str) -> Option<String> {
        let mut table: Table = text.parse().ok()?;
        hide(&mut table, false);
        toml::to_string(&table).ok().map(|text| self.text(&text))
    }
}

fn of_config(config: &Config) -> Vec<String> {
    let secrets =
        [&config.access.api_key, &config.access.sealing_key, &config.backup.passphrase, &config.database.url];
    let places = Places::of(config);
    let sealing = places.sealing_keys().unwrap_or_default();
    secrets.into_iter().flatten().chain(&sealing).map(Secret::expose).map(str::to_owned).collect()
}

/// What stands in plugins' files, and what they take from variables and other files.
fn of_plugins(patient: &Patient, config: &Config) -> Vec<String> {
    let folder = read_folder(&config.server.data_dir.join("plugins")).unwrap_or_default();
    let mut known = Vec::new();
    for (_, file) in folder.files {
        let Ok(file) = file else { continue };
        let PluginKind::Mcp(server) = file.kind else { continue };
        let credentials: Vec<Credential> = match server.reach {
            Reach::Http(reach) => reach.headers.into_values().collect(),
            Reach::Stdio(reach) => reach.env.into_values().collect(),
        };
        for credential in credentials {
            known.push(credential.0.clone());
            for piece in credential.pieces().unwrap_or_default() {
                match piece {
                    Piece::Text(text) => known.push(text.to_owned()),
                    Piece::Variable(name) => {
                        let value = patient.environment.iter().find(|(other, _)| other == name);
                        known.extend(value.map(|(_, value)| value.clone()));
                    }
                    Piece::File(path) => known.extend(lines_of(path)),
                }
            }
        }
    }
    // `Bearer x` is one credential, and `x` alone no less of one.
    let words: Vec<String> =
        known.iter().flat_map(|text| text.split_whitespace().skip(1)).map(str::to_owned).collect();
    known.extend(words);
    known
}

fn lines_of(path: &std::path::Path) -> Vec<String> {
    let is_small = fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() <= FILE_MAX_BYTES);
    let text = if is_small { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// The password of a URL.
fn password_in(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (user, _) = rest.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password.to_owned())
}

/// Masks what is secret by its place or its name, and what looks so.
fn hide(table: &mut Table, all: bool) {
    for (key, value) in table.iter_mut() {
        let secret = all || matches!(key.as_str(), "env" | "headers") || is_secret_name(key, &[]);
        hide_value(value, secret);
        if let ("url", Value::String(url)) = (key.as_str(), &mut *value)
            && let Some((place, _)) = url.split_once('?')
        {
            *url = format!("{place}?{MASK}");
        }
    }
}

fn hide_value(value: &mut Value, secret: bool) {
    match value {
        Value::String(text) if secret => MASK.clone_into(text),
        Value::String(text) => *text = mask(text).into_owned(),
        Value::Table(table) => hide(table, secret),
        Value::Array(words) => {
            // What follows a flag that names a secret is one.
            let mut follows = false;
            for word in words {
                let names =
                    word.as_str().is_some_and(|word| word.starts_with('-') && is_secret_name(word, &[]));
                hide_value(word, secret || (follows && word.is_str()));
                follows = names;
            }
        }
        _ if secret => *value = Value::String(MASK.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugins_file_keeps_its_form_and_loses_what_is_secret() {
        let text = r#"
command = "npx" # hunter1
args = ["-y", "thing", "--api-key", "hunter2", "--token=hunter3", "--verbose", "plain"]
url = "https://a.example/mcp?q=hunter4"
env = { ANY = "hunter5", OTHER = "${X}" }
[headers]
X-Anything = "hunter6"
"#;
        let redactor = Redactor(vec!["thirteen".to_owned()]);
        let shown = redactor.plugin_file(text).unwrap();
        assert!(!shown.contains("hunter"), "{shown}");
        for kept in [
            "command = \"npx\"",
            "\"thing\"",
            "\"plain\"",
            "--api-key",
            "https://a.example/mcp?",
            "ANY",
            "X-Anything",
        ] {
            assert!(shown.contains(kept), "{kept} in {shown}");
        }
        assert!(redactor.plugin_file("not = [toml").is_none());
        assert_eq!(
            redactor.text("a thirteen b\nAuthorization: Bearer 0123456789"),
            format!("a {MASK} b\nAuthorization: Bearer {MASK}")
        );
    }
}
