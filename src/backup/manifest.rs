//! What a backup says of itself, first of all that is in it. Must not know how it is written or read.

use serde::{Deserialize, Serialize};

use super::BackupError;
use super::seal::Lock;
use crate::storage::transfer::Census;

/// The form of archives that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// A manifest is never larger.
pub const MANIFEST_MAX_BYTES: u64 = 8 << 20;
/// A file of the configuration or of a plugin is never larger, nor are the secrets.
pub const FILE_MAX_BYTES: u64 = 1 << 20;
/// More files than this are none of ours.
const ENTRIES_MAX: usize = 20_000;
const NAME_CHARACTERS_MAX: usize = 90;

/// The names that are not those of entries.
pub const MANIFEST: &str = "manifest.json";
/// The manifest's seal, right behind it.
pub const SEAL: &str = "manifest.seal";
/// The database.
pub const DATABASE: &str = "database.sqlite";
/// What is encrypted.
pub const SECRETS: &str = "secrets";

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of the archive.
    pub format: u32,
    /// The version of Waygate that made it.
    pub version: String,
    /// When, RFC 3339 in UTC.
    pub made_at: String,
    /// Which database it was copied from: `sqlite` or `postgres`.
    pub backend: String,
    /// What the database holds.
    pub database: Census,
    /// What follows, in this order and nothing else.
    pub entries: Vec<Entry>,
    /// What is not in it, and why.
    pub left_out: Vec<LeftOut>,
    /// How the secrets are encrypted, if they are in it.
    pub secrets: Option<Lock>,
    /// Which key sealed the manifest, if there was one.
    pub sealed_by: Option<String>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// As in the archive.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its hash, in hexadecimal digits.
    pub sha256: String,
}

/// What is not in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What an entry is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// The database.
    Database,
    /// A file of the configuration.
    Config(&'a str),
    /// A plugin's or bundle's file.
    Plugin(&'a str),
    /// What is encrypted.
    Secrets,
}

impl Entry {
    /// None when the name is none that this version writes.
    pub fn what(&self) -> Option<What<'_>> {
        match (self.name.as_str(), self.name.split_once('/')) {
            (DATABASE, _) => Some(What::Database),
            (SECRETS, _) => Some(What::Secrets),
            (_, Some(("config", name))) if is_plain(name) => Some(What::Config(name)),
            (_, Some(("plugins", name))) if is_plain(name) => Some(What::Plugin(name)),
            _ => None,
        }
    }
}

/// Whether a file's name can mean nothing but a file in its folder.
pub fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= NAME_CHARACTERS_MAX
        && name.strip_suffix(".toml").is_some_and(|stem| !stem.is_empty())
        && !name.starts_with('.')
        && name.bytes().all(plain)
}

impl Manifest {
    /// Reads one. `name` is the archive's.
    ///
    /// # Errors
    /// `Newer` when its form is a later one; `Damaged` when it makes no sense.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, BackupError> {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
            #[serde(default)]
            version: String,
        }
        let damaged = |what: String| BackupError::Damaged { name: name.to_owned(), what };
        let senseless = |error: serde_json::Error| damaged(format!("its manifest makes no sense ({error})"));
        let form: Form = serde_json::from_slice(bytes).map_err(senseless)?;
        if form.format > FORMAT {
            return Err(BackupError::Newer { name: name.to_owned(), version: form.version });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(senseless)?;
        manifest.check().map_err(damaged)?;
        Ok(manifest)
    }

    /// The entry of the database.
    pub fn database_entry(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.what() == Some(What::Database))
    }

    /// The bytes of all entries.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.bytes))
    }

    fn check(&self) -> Result<(), String> {
        if self.entries.len() > ENTRIES_MAX {
            return Err(format!("its manifest lists more than {ENTRIES_MAX} files"));
        }
        let mut names = std::collections::HashSet::new();
        for entry in &self.entries {
            let Some(what) = entry.what() else {
                return Err(format!("its manifest lists {:?}, which no backup has", entry.name));
            };
            if !names.insert(entry.name.as_str()) {
                return Err(format!("its manifest lists {} twice", entry.name));
            }
            if what != What::Database && entry.bytes > FILE_MAX_BYTES * 4 {
                return Err(format!("its manifest says that {} has {} bytes", entry.name, entry.bytes));
            }
        }
        if !names.contains(DATABASE) {
            return Err("its manifest lists no database".to_owned());
        }
        if names.contains(SECRETS) != self.secrets.is_some() {
            return Err("its manifest contradicts itself about the secrets".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sample() -> Value {
        json!({
            "format": 1, "version": "0.1.0", "made_at": "2026-11-28T00:00:00Z", "backend": "sqlite",
            "database": {"rows": {}, "heads": {}, "migrations": []},
            "entries": [{"name": "database.sqlite", "bytes": 1, "sha256": ""}],
            "left_out": [], "secrets": null, "sealed_by": null,
        })
    }

    fn with(name: &str, bytes: u64) -> Value {
        let mut value = sample();
        let entry = json!({"name": name, "bytes": bytes, "sha256": ""});
        value["entries"].as_array_mut().unwrap().push(entry);
        value
    }

    fn read(value: &Value) -> Result<Manifest, BackupError> {
        Manifest::read("x", value.to_string().as_bytes())
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        assert!(
            read(&with("config/default.toml", 3)).is_ok() && read(&with("plugins/a-b_c.toml", 3)).is_ok()
        );
        let long = format!("plugins/{}.toml", "a".repeat(200));
        for name in [
            "../x.toml",
            "config/../x.toml",
            "/etc/passwd",
            "config/",
            "config/a/b.toml",
            "config/.toml",
            "plugins/.a.toml",
            "plugins/a\0.toml",
            "plugins/ä.toml",
            "plugins/a.sh",
            "data/sealing.key",
            "",
            "config\\a.toml",
            &long,
            "database.sqlite",
        ] {
            assert!(matches!(read(&with(name, 3)), Err(BackupError::Damaged { .. })), "{name:?}");
        }
    }

    #[test]
    fn sizes_are_bounded_where_they_can_be_and_a_database_is_always_there() {
        assert!(read(&with("plugins/a.toml", 1 << 40)).is_err());
        let mut value = sample();
        value["entries"] = json!([]);
        assert!(read(&value).is_err());
    }

    #[test]
    fn a_newer_form_is_told_as_that_whatever_else_it_has() {
        let newer = json!({"format": 2, "version": "9.0.0", "whatever": []});
        let error = read(&newer).unwrap_err();
        assert!(matches!(&error, BackupError::Newer { version, .. } if version == "9.0.0"), "{error}");
        let mut odd = sample();
        odd["whatever"] = json!(1);
        assert!(matches!(read(&odd), Err(BackupError::Damaged { .. })));
    }
}
