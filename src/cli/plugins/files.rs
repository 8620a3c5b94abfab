//! The folder of plugins' files, as verbs use it: read whole, written whole or not at all. Must not know servers.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::config::plugin::{Folder, path_of, read_folder};
use crate::config::{Config, did_you_mean};

/// `<data root>/plugins`
pub struct PluginsFolder {
    path: PathBuf,
}

impl PluginsFolder {
    /// That of this configuration.
    pub fn of(config: &Config) -> Self {
        Self { path: config.server.data_dir.join("plugins") }
    }

    /// Where the file of a plugin is, or would be.
    pub fn file(&self, name: &str) -> PathBuf {
        path_of(&self.path, name)
    }

    /// All that lies there.
    ///
    /// # Errors
    /// When it cannot be looked into.
    pub fn read(&self) -> anyhow::Result<Folder> {
        read_folder(&self.path).map_err(anyhow::Error::msg)
    }

    /// That there is no such file, with the nearest that there is.
    pub fn missing(&self, name: &str) -> String {
        let names: Vec<String> = self
            .read()
            .map(|found| found.files.into_iter().map(|(name, _)| name).collect())
            .unwrap_or_default();
        let nearest = did_you_mean(name, names.iter().map(String::as_str));
        format!("there is no file {}{nearest}", self.file(name).display())
    }

    /// Puts a file there, for this user alone; what is there is replaced if that is wanted.
    ///
    /// # Errors
    /// When it is there already, or cannot be written.
    pub fn write(&self, name: &str, text: &str, replaces: bool) -> anyhow::Result<PathBuf> {
        let path = self.file(name);
        self.try_write(&path, name, text, replaces)
            .with_context(|| format!("{} was not written", path.display()))?;
        Ok(path)
    }

    fn try_write(&self, path: &Path, name: &str, text: &str, replaces: bool) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        // Begins with a dot: who watches the folder passes it over.
        let draft = self.path.join(format!(".{name}.{}.part", std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            if replaces {
                return fs::rename(&draft, path);
            }
            // Unlike a rename, a link does not replace what came there meanwhile.
            match fs::hard_link(&draft, path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(taken()),
                // Not every file system has links.
                Err(_) if !path.exists() => fs::rename(&draft, path),
                linked => linked,
            }
        })();
        // Renamed away, it is not there any more.
        drop(fs::remove_file(&draft));
        written?;
        File::open(&self.path)?.sync_all()
    }

    /// Removes a file; whether there was one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: &str) -> anyhow::Result<bool> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("{} was not removed", path.display())),
        }
    }
}

fn taken() -> io::Error {
    io::Error::new(
        ErrorKind::AlreadyExists,
        "it is there already; take another name, or --force to replace it",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_private_and_whole_and_replaced_only_when_that_is_wanted() {
        let root = tempfile::tempdir().unwrap();
        let folder = PluginsFolder { path: root.path().join("deep/plugins") };
        let path = folder.write("a", "one", false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder.path).unwrap().permissions().mode() & 0o777, 0o700);
        let refused = format!("{:#}", folder.write("a", "two", false).unwrap_err());
        assert!(refused.contains("--force"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        folder.write("a", "two", true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(&folder.path).unwrap().count(), 1, "nothing is left beside it");
        assert!(folder.remove("a").unwrap() && !folder.remove("a").unwrap());
    }
}
