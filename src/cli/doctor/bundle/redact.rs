//! Takes secrets out of what a bundle holds: those that this machine's configuration knows, wherever they stand, and whatever looks
//! like one. Must not know what a bundle holds.

use std::fs;
use std::ops::Range;
use std::path::Path;

use toml::{Table, Value};

use crate::backup::Places;
use crate::cli::doctor::patient::Patient;
use crate::config::plugin::{Credential, Piece, PluginKind, Reach, read_folder};
use crate::config::settings::by_variable;
use crate::config::{Config, MASK, Secret};
use crate::telemetry::redaction::{is_secret_name, mask, secrets};

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
        if let Some(config) = patient.config() {
            known.extend(of_config(config));
        }
        // What a configuration says that makes no sense is a secret all the same.
        known.extend(patient.secrets.iter().map(Secret::expose).map(str::to_owned));
        let variables = variables_in(patient.env_file.as_deref());
        let environment: Vec<(String, String)> =
            patient.environment.iter().chain(&variables).cloned().collect();
        for (name, value) in &environment {
            let is_secret = by_variable(name).is_some_and(|setting| setting.is_secret());
            if is_secret || name == "DATABASE_URL" || is_secret_name(name, &[]) {
                known.push(value.clone());
            }
            if name == "WAYGATE_OTLP_HEADERS" {
                known.extend(values_in(value));
            }
        }
        if let Some(root) = &patient.root {
            known.extend(of_plugins(root, &environment));
        }
        if let Some(folder) = patient.data_folder() {
            known.extend(lines_of(&folder.join("sealing.key")));
        }
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
        // Both kinds are looked for in the text as it is: where one were taken out first, the other might not be known again.
        let mut hidden: Vec<Range<usize>> = Vec::new();
        if text.contains("-----BEGIN ") {
            hidden.extend(secrets(text));
        } else {
            let mut at = 0;
            for line in text.split_inclusive('\n') {
                let bare = line.strip_suffix('\n').unwrap_or(line);
                hidden.extend(secrets(bare).map(|secret| at + secret.start..at + secret.end));
                at += line.len();
            }
        }
        for secret in &self.0 {
            hidden.extend(text.match_indices(secret.as_str()).map(|(at, _)| at..at + secret.len()));
        }
        hidden.sort_unstable_by_key(|secret| secret.start);
        let (mut plain, mut from) = (String::with_capacity(text.len()), 0);
        for secret in hidden {
            // One that begins within the last, or right behind it, goes on with it.
            if from == 0 || secret.start > from {
                plain.push_str(text.get(from..secret.start).unwrap_or_default());
                plain.push_str(MASK);
            }
            from = from.max(secret.end);
        }
        plain + text.get(from..).unwrap_or_default()
    }

    /// A plugin's file without secrets and without comments; none when it is no TOML.
    pub fn plugin_file(&self, text: &str) -> Option<String> {
        let mut table: Table = text.parse().ok()?;
        hide(&mut table, false);
        toml::to_string(&table).ok().map(|text| self.text(&text))
    }
}

fn of_config(config: &Config) -> Vec<String> {
    let secrets = [
        &config.access.api_key,
        &config.access.sealing_key,
        &config.backup.passphrase,
        &config.database.url,
        &config.cache.redis_url,
        &config.telemetry.otlp_headers,
    ];
    let places = Places::of(config);
    let sealing = places.sealing_keys().unwrap_or_default();
    let secrets = secrets.into_iter().flatten().chain(&sealing).map(Secret::expose).map(str::to_owned);
    let shown = config.telemetry.otlp_headers.iter().flat_map(|headers| values_in(headers.expose()));
    secrets.chain(shown).collect()
}

/// The values of headers that are written as `name=value,name=value`, and what comes after a scheme as `Bearer`.
fn values_in(headers: &str) -> Vec<String> {
    let values = headers.split(',').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value.trim());
    values.flat_map(|value| [value].into_iter().chain(value.split(' ').skip(1))).map(str::to_owned).collect()
}

/// What stands in plugins' files, and what they take from variables and other files.
fn of_plugins(root: &Path, environment: &[(String, String)]) -> Vec<String> {
    let folder = read_folder(&root.join("plugins")).unwrap_or_default();
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
                    // Beside a variable it is a scheme or the like, which stands everywhere.
                    Piece::Text(text) if credential.is_literal() => known.push(text.to_owned()),
                    Piece::Text(_) => {}
                    Piece::Variable(name) => {
                        let values = environment.iter().filter(|(other, _)| other == name);
                        known.extend(values.map(|(_, value)| value.clone()));
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

/// What a file of variables says, whether or not it is sound.
fn variables_in(file: Option<&Path>) -> Vec<(String, String)> {
    let lines = file.map(lines_of).unwrap_or_default();
    let variables = lines.iter().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        let name = name.trim().trim_start_matches("export ").trim();
        Some((name.to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
    });
    variables.collect()
}

fn lines_of(path: &Path) -> Vec<String> {
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

    #[test]
    fn a_password_in_a_url_and_each_header_for_the_collector_are_secrets_alone_too() {
        assert_eq!(
            values_in("authorization=Bearer abc=, x-scope = a b"),
            ["Bearer abc=", "abc=", "a b", "b"]
        );
        assert_eq!(values_in("nothing"), [""; 0]);
        assert_eq!(password_in("redis://:hunter2@127.0.0.1:6379/0").as_deref(), Some("hunter2"));
    }

    #[test]
    fn what_is_known_does_not_hide_what_only_looks_like_a_secret() {
        let redactor = Redactor(["Bearer ", "https://", "one two", "two three"].map(str::to_owned).to_vec());
        let shown = redactor.text(
            "Authorization: Bearer abc123def456\nGET https://ada:hunter2@a.example/\none two three\nlast\n",
        );
        for secret in ["abc123", "hunter2", "three"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("@a.example/\n") && shown.ends_with("\nlast\n"), "{shown}");
        assert_eq!(Redactor(vec!["thirteen".to_owned()]).text("thirteen"), MASK);
    }
}
