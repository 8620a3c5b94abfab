//! The new state, laid ready beside the old one: each file in a hidden folder where it will be, so that it is one rename away.
//! Must not know what is restored.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::journal::{Journal, Move, Server};
use super::{Step, present, surplus};
use crate::backup::create::Secrets;
use crate::backup::files::{self, Passing};
use crate::backup::places::name_of;
use crate::backup::{BackupError, Places};

/// How the names of staging folders begin.
const STAGING: &str = ".waygate-restore-";
/// How the names of folders begin in which what was there is gathered.
const KEEPING: &str = ".before-restore-";

/// What is laid ready. Dropped, nothing of it is left.
pub struct Stage {
    stamp: String,
    /// By the folder that they lie in.
    folders: BTreeMap<PathBuf, Passing>,
    puts: Vec<Put>,
    /// Files that will not be there any more, and what they are kept as.
    removes: Vec<(PathBuf, String)>,
}

/// A file that lies ready.
struct Put {
    from: PathBuf,
    to: PathBuf,
    /// What that is kept as which is there now.
    kept_as: String,
}

impl Stage {
    /// With nothing in it.
    ///
    /// # Errors
    /// When the data root cannot be made.
    pub fn new(places: &Places, stamp: &str) -> Result<Self, BackupError> {
        files::make_folders(&places.data_root)?;
        Ok(Self { stamp: stamp.to_owned(), folders: BTreeMap::new(), puts: Vec::new(), removes: Vec::new() })
    }

    /// The staging folder for a file that will be at `to`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder_for(&mut self, to: &Path) -> Result<PathBuf, BackupError> {
        let parent = to.parent().unwrap_or(to).to_owned();
        if let Some(folder) = self.folders.get(&parent) {
            return Ok(folder.path().to_owned());
        }
        files::make_folders(&parent)?;
        let folder = Passing::new(parent.join(format!("{STAGING}{}", self.stamp)));
        files::make_folder(folder.path())?;
        let path = folder.path().to_owned();
        self.folders.insert(parent, folder);
        Ok(path)
    }

    /// Where to write the file that will be at `to`.
    ///
    /// # Errors
    /// As [`Stage::folder_for`].
    pub fn put(&mut self, part: &str, to: &Path) -> Result<PathBuf, BackupError> {
        let from = self.folder_for(to)?.join(name_of(to));
        let kept_as = format!("{part}/{}", name_of(to));
        self.puts.push(Put { from: from.clone(), to: to.to_owned(), kept_as });
        Ok(from)
    }

    /// Has the database that lies ready take the place of the one at `to`, and of what SQLite keeps beside that.
    ///
    /// # Errors
    /// As [`Stage::folder_for`].
    pub fn put_database(&mut self, to: &Path) -> Result<(), BackupError> {
        drop(self.put("data", to)?);
        for end in ["-wal", "-shm", "-journal"] {
            let mut beside = to.as_os_str().to_owned();
            beside.push(end);
            let beside = PathBuf::from(beside);
            self.removes.push((beside.clone(), format!("data/{}", name_of(&beside))));
        }
        Ok(())
    }

    /// Has the secrets' files lie ready.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put_secrets(&mut self, places: &Places, secrets: &Secrets) -> Result<(), BackupError> {
        let files =
            [(&secrets.env, &places.env_file, "env"), (&secrets.sealing_key, &places.sealing_file, "data")];
        for (text, to, part) in files {
            if let (Some(text), Some(to)) = (text, to) {
                let from = self.put(part, to)?;
                files::write(&from, text.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Has the files go that are there now and that the backup does not have.
    ///
    /// # Errors
    /// When a folder cannot be looked into.
    pub fn drop_others(&mut self, places: &Places, config: bool, plugins: bool) -> Result<(), BackupError> {
        let put: Vec<PathBuf> = self.puts.iter().map(|put| put.to.clone()).collect();
        for (wanted, is_plugins, part) in [(config, false, "config"), (plugins, true, "plugins")] {
            if wanted {
                let gone = surplus(present(places, is_plugins)?, &put);
                self.removes.extend(
                    gone.into_iter().map(|path| (path.clone(), format!("{part}/{}", name_of(&path)))),
                );
            }
        }
        Ok(())
    }

    /// Keeps what is there, and says what is to be done; it is not yet said where others find it.
    ///
    /// # Errors
    /// When something cannot be kept: then nothing of the stage is left.
    pub fn into_journal(
        self,
        places: &Places,
        server: Option<Server>,
        step: Step<'_>,
    ) -> Result<Journal, BackupError> {
        let keeping = Passing::new(places.data_root.join(format!("{KEEPING}{}", self.stamp)));
        let kept = places.data_root.join(format!("before-restore-{}", self.stamp));
        let now = self.puts.iter().map(|put| (&put.to, &put.kept_as));
        let gone = self.removes.iter().map(|(path, kept_as)| (path, kept_as));
        let mut is_anything_kept = false;
        for (path, kept_as) in now.chain(gone) {
            if path.exists() {
                keep(path, &keeping.path().join(kept_as))?;
                is_anything_kept = true;
                step();
            }
        }
        for put in &self.puts {
            like(&put.to, &put.from);
        }
        for folder in self.folders.iter().flat_map(|(parent, folder)| [parent.as_path(), folder.path()]) {
            files::sync_folder(folder)?;
        }
        let removes = self.removes.iter().map(|(path, _)| Move { from: None, to: path.clone() });
        let puts = self.puts.iter().map(|put| Move { from: Some(put.from.clone()), to: put.to.clone() });
        let journal = Journal {
            // Without a server, the journal itself is what counts.
            is_committed: server.is_none(),
            server,
            keeping: is_anything_kept.then(|| keeping.path().to_owned()),
            kept,
            moves: removes.chain(puts).collect(),
            staging: self.folders.values().map(|folder| folder.path().to_owned()).collect(),
        };
        // From here on it is the journal's to say when they go.
        std::mem::forget(keeping);
        self.folders.into_values().for_each(std::mem::forget);
        Ok(journal)
    }
}

/// Keeps a file as it is now: by a second name, which costs nothing, or else by a copy.
fn keep(path: &Path, kept: &Path) -> Result<(), BackupError> {
    let folder = kept.parent().unwrap_or(kept);
    files::make_folders(folder)?;
    if fs::hard_link(path, kept).is_err() {
        let about = fs::metadata(path).map_err(|error| BackupError::of_file(path, &error))?;
        files::check_room(folder, about.len())?;
        fs::copy(path, kept)
            .and_then(|_| fs::File::open(kept)?.sync_all())
            .map_err(|error| BackupError::of_file(kept, &error))?;
    }
    files::sync_folder(folder)
}

/// Gives a file the permissions of the one whose place it takes; they are a matter of the operator's.
fn like(old: &Path, new: &Path) {
    if let Ok(about) = fs::metadata(old) {
        drop(fs::set_permissions(new, about.permissions()));
    }
}

/// Elsewhere than in the data root, what is younger may be what another server's restore has just laid ready.
const SETTLED: Duration = Duration::from_secs(3600);

/// Removes what restores left behind that were cut off before they counted. What cannot be removed costs its place.
pub fn sweep(places: &Places) {
    let database = places.database_file().ok().flatten();
    let folders = [Some(places.data_folder.as_path()), Some(&places.config_folder), Some(&places.plugins)];
    let of_files = [database.as_deref(), places.env_file.as_deref()].map(|file| file.and_then(Path::parent));
    let sweep_in = |folder: &Path, begin: &str| {
        let is_ours = folder.starts_with(&places.data_root);
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let written = entry.metadata().and_then(|about| about.modified());
            let is_old = written.is_ok_and(|then| then.elapsed().is_ok_and(|age| age > SETTLED));
            if (is_ours || is_old) && entry.file_name().to_string_lossy().starts_with(begin) {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    };
    folders.into_iter().chain(of_files).flatten().for_each(|folder| sweep_in(folder, STAGING));
    sweep_in(&places.data_root, KEEPING);
}
