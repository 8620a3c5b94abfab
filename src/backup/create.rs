//! Making a backup, whether or not a server runs. Must not know when.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::archive::{self, Source};
use super::files::{self, Passing, hex};
use super::manifest::{DATABASE, Entry, FILE_MAX_BYTES, FORMAT, LeftOut, Manifest, SECRETS, is_plain};
use super::places::name_of;
use super::{BackupError, Places, Progress, Told, seal, shelf};
use crate::config::Secret;
use crate::storage::transfer::{self, census};

/// A backup that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// Where.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What is in it.
    pub manifest: Manifest,
}

/// What is encrypted: each file's text, where there is one.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// `.env`
    pub env: Option<String>,
    /// `data/sealing.key`
    pub sealing_key: Option<String>,
}

/// What is gathered for an archive.
#[derive(Default)]
struct Gathered {
    entries: Vec<Entry>,
    sources: Vec<Source>,
    left_out: Vec<LeftOut>,
}

/// Makes a backup of all that `places` name; with a passphrase, of the secrets too. Blocks.
///
/// # Errors
/// When something cannot be read, or there is no room; then nothing of it is left.
pub fn create(places: &Places, passphrase: Option<&Secret>, told: Told<'_>) -> Result<Made, BackupError> {
    if let Some(passphrase) = passphrase {
        seal::check_passphrase(passphrase)?;
    }
    let storage = places.storage()?;
    let held = shelf::hold(&places.backups)?;
    if let Some(bytes) = storage.path().and_then(|path| fs::metadata(path).ok()).map(|about| about.len()) {
        files::check_room(held.folder(), bytes)?;
    }
    let now = Timestamp::now();
    let path = shelf::new_path(held.folder(), now)?;
    let copy = Passing::new(hidden_copy(&path));
    told(Progress::Doing("copying the database"));
    let copied = transfer::dump(&storage, copy.path(), &|rows| told(Progress::Rows(rows)));
    copied.map_err(|error| BackupError::of_copy(held.folder(), error))?;
    let backend = if storage.path().is_some() { "sqlite" } else { "postgres" };
    told(Progress::Doing("counting"));
    let counted = census::of(copy.path())?;

    let mut gathered = Gathered::default();
    gathered.take_file(DATABASE, copy.path())?;
    for file in &places.config_files {
        gathered.take_small("config", file)?;
    }
    for file in plugin_files(&places.plugins)? {
        gathered.take_small("plugins", &file)?;
    }
    let lock = gathered.take_secrets(places, passphrase)?;
    let key = places.sealing_keys()?.into_iter().next();
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        made_at: now.to_string(),
        backend: backend.to_owned(),
        database: counted,
        entries: gathered.entries,
        left_out: gathered.left_out,
        secrets: lock,
        sealed_by: key.as_ref().map(seal::key_id),
    };
    let text =
        serde_json::to_vec_pretty(&manifest).map_err(|error| BackupError::Refused(error.to_string()))?;
    let sealed = key.map(|key| seal::seal(&key, &text));
    told(Progress::Doing("compressing"));
    archive::write(&path, &manifest, &text, sealed.as_deref(), &gathered.sources, told)?;
    let bytes = fs::metadata(&path).map_err(|error| BackupError::of_file(&path, &error))?.len();
    Ok(Made { path, bytes, manifest })
}

fn hidden_copy(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.sqlite", name_of(path)))
}

/// What of the folder is a plugin's or bundle's file, as a server would read it; in the order of names.
pub fn plugin_files(folder: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| BackupError::of_file(folder, &error))?,
    };
    let is_one = |path: &PathBuf| {
        path.extension().is_some_and(|end| end == "toml") && !name_of(path).starts_with('.') && path.is_file()
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_one).collect();
    found.sort_unstable();
    Ok(found)
}

impl Gathered {
    fn take_file(&mut self, name: &str, path: &Path) -> Result<(), BackupError> {
        let (bytes, sha256) = hash_of(path).map_err(|error| BackupError::of_file(path, &error))?;
        self.entries.push(Entry { name: name.to_owned(), bytes, sha256 });
        self.sources.push(Source::File(path.to_owned()));
        Ok(())
    }

    fn take_bytes(&mut self, name: String, bytes: Vec<u8>) {
        let sha256 = hex(&Sha256::digest(&bytes));
        self.entries.push(Entry { name, bytes: bytes.len() as u64, sha256 });
        self.sources.push(Source::Bytes(bytes));
    }

    fn leave_out(&mut self, what: &str, why: &str) {
        self.left_out.push(LeftOut { what: what.to_owned(), why: why.to_owned() });
    }

    fn take_small(&mut self, folder: &str, path: &Path) -> Result<(), BackupError> {
        let name = name_of(path);
        if !is_plain(&name) {
            self.leave_out(&format!("{folder}/{name}"), "its name is not one that a backup carries");
        } else if let Some(bytes) = files::read_if_there(path, FILE_MAX_BYTES)? {
            self.take_bytes(format!("{folder}/{name}"), bytes);
        }
        Ok(())
    }

    fn take_secrets(
        &mut self,
        places: &Places,
        passphrase: Option<&Secret>,
    ) -> Result<Option<seal::Lock>, BackupError> {
        let text = |path: &Option<PathBuf>| -> Result<Option<String>, BackupError> {
            let Some(path) = path else { return Ok(None) };
            let bytes = files::read_if_there(path, FILE_MAX_BYTES)?;
            Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let secrets = Secrets { env: text(&places.env_file)?, sealing_key: text(&places.sealing_file)? };
        let known = [(".env", secrets.env.is_some()), ("data/sealing.key", secrets.sealing_key.is_some())];
        let Some(passphrase) = passphrase else {
            for (what, _) in known.iter().filter(|(_, is_there)| *is_there) {
                self.leave_out(what, "no passphrase was given to encrypt it with");
            }
            self.leave_out("secrets in the environment", "they are not kept in files of Waygate");
            return Ok(None);
        };
        let plain = serde_json::to_vec(&secrets).map_err(|error| BackupError::Refused(error.to_string()))?;
        let (lock, secret) = seal::lock(passphrase, &plain)?;
        self.take_bytes(SECRETS.to_owned(), secret);
        self.leave_out("secrets in the environment", "they are not kept in files of Waygate");
        Ok(Some(lock))
    }
}

fn hash_of(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { break };
        hash.update(part);
        bytes += count as u64;
    }
    Ok((bytes, hex(&hash.finalize())))
}
