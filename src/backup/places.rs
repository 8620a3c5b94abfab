//! Where everything is that a backup holds, as the configuration says. Must not know what is done with it.

use std::path::{Path, PathBuf};

use super::BackupError;
use crate::config::{Config, Database, Secret};
use crate::storage::{self, Storage};

/// A file of sealing keys is never larger.
const KEYS_MAX_BYTES: u64 = 64 << 10;

/// All places of one configuration.
#[derive(Debug, Clone)]
pub struct Places {
    /// Below it lies the rest, unless it was said otherwise.
    pub data_root: PathBuf,
    /// With the lock, and the database unless that is elsewhere.
    pub data_folder: PathBuf,
    /// The folder of backups.
    pub backups: PathBuf,
    /// Which database.
    pub database: Database,
    /// The folder of TOML files, or where it would be.
    pub config_folder: PathBuf,
    /// Those that were read.
    pub config_files: Vec<PathBuf>,
    /// The file of variables, if one counts.
    pub env_file: Option<PathBuf>,
    /// The folder of plugins' files.
    pub plugins: PathBuf,
    /// The file of sealing keys, unless the key is a setting.
    pub sealing_file: Option<PathBuf>,
    sealing_key: Option<Secret>,
}

impl Places {
    /// Those of this configuration.
    pub fn of(config: &Config) -> Self {
        let root = &config.server.data_dir;
        let data_folder = root.join("data");
        let is_toml = |path: &&PathBuf| path.extension().is_some_and(|end| end == "toml");
        let key = config.access.sealing_key.clone();
        Self {
            backups: config.backup.dir.clone().unwrap_or_else(|| root.join("backups")),
            database: config.database.clone(),
            config_folder: config.folder.clone().unwrap_or_else(|| root.join("config")),
            config_files: config.read_from.iter().filter(is_toml).cloned().collect(),
            env_file: config.env_file.clone(),
            plugins: root.join("plugins"),
            sealing_file: key.is_none().then(|| data_folder.join("sealing.key")),
            sealing_key: key,
            data_root: root.clone(),
            data_folder,
        }
    }

    /// The file of the database that nobody chose.
    pub fn default_database(&self) -> PathBuf {
        self.data_folder.join("waygate.db")
    }

    /// Opens the database, which must be there.
    ///
    /// # Errors
    /// What the database says.
    pub fn storage(&self) -> Result<Storage, BackupError> {
        Ok(storage::open_existing(&self.database, &self.default_database())?)
    }

    /// The database's file; none when it is a server.
    ///
    /// # Errors
    /// When its address makes no sense.
    pub fn database_file(&self) -> Result<Option<PathBuf>, BackupError> {
        Ok(storage::file_of(&self.database, &self.default_database())?)
    }

    /// Whether the sealing key is none of the files, and so no part of a backup.
    pub fn has_own_sealing_key(&self) -> bool {
        self.sealing_key.is_some()
    }

    /// The keys that manifests are sealed with, the newest first; none where there is no key yet.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn sealing_keys(&self) -> Result<Vec<Secret>, BackupError> {
        match (&self.sealing_key, &self.sealing_file) {
            (Some(key), _) => Ok(vec![key.clone()]),
            (None, Some(file)) => Ok(super::files::read_if_there(file, KEYS_MAX_BYTES)?
                .map(|text| keys_in(&String::from_utf8_lossy(&text)))
                .unwrap_or_default()),
            (None, None) => Ok(Vec::new()),
        }
    }
}

/// The keys in the text of a file of keys: one a line.
pub fn keys_in(text: &str) -> Vec<Secret> {
    text.lines().map(str::trim).filter(|key| !key.is_empty()).map(Secret::new).collect()
}

/// The name of a file, as a text.
pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
