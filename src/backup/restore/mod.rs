//! The way back. Reading order: [`restore`](restore()), what happens when; [`stage`], the new state beside the old one;
//! [`keys`], what becomes of keys that were revoked since; [`journal`], the moment from which on it counts, and how it is carried out, by whoever finds it.
//!
//! Everything is checked and laid ready before anything is touched; then the journal is written, by one rename, and what it
//! says is done by renames that can be done again. Killed before the journal, the old state stands; after it, the next who
//! takes the data folder finishes. Where the database is a server, one transaction of it takes the journal's part, and who
//! finds a journal asks the server whether that transaction was done. Must not know verbs.

mod journal;
mod keys;
mod stage;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

pub use journal::is_pending;
use journal::{Journal, Server, unfinished};
use keys::Now;
pub use keys::{Against, Keys, Named, foresee_keys};
use stage::Stage;

use super::create::plugin_files;
use super::files::{self, Passing};
use super::manifest::{Entry, Manifest, What};
use super::places::{keys_in, name_of};
use super::verify::{Authenticity, Taken, Verified, examine, settle as settle_database, take_out};
use super::{BackupError, Places, Progress, Told, archive, shelf};
use crate::config::Secret;
use crate::storage::acts::{self, Act};
use crate::storage::transfer::{is_replaced, replace};
use crate::storage::{self, DataFolder, Left, Notary, Owned, Storage, instances};

/// One part of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The database.
    Database,
    /// The files of the configuration.
    Config,
    /// The files of plugins and bundles.
    Plugins,
}

/// What is to be restored.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// From which backup.
    pub archive: &'a Path,
    /// One part of it; none means all.
    pub only: Option<Part>,
    /// Opens the secrets, which are restored then, too.
    pub passphrase: Option<&'a Secret>,
    /// Whether a backup will do of which nobody knows whether it was changed.
    pub foreign: bool,
    /// Whether keys are taken again that were revoked, deleted or replaced since.
    pub revive_keys: bool,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The backup, as it was found.
    pub verified: Verified,
    /// Where that is which was there before.
    pub kept: Option<PathBuf>,
    /// The schema of the database server with what was there before.
    pub aside: Option<String>,
    /// What became of keys; none when the database was not restored.
    pub keys: Option<Keys>,
}

/// Who is told what becomes of keys, before anything is touched.
pub type Foresee<'a> = &'a dyn Fn(&Keys);

/// What is called between two steps: only to be cut off there by a test.
pub type Step<'a> = &'a dyn Fn();

/// Restores into the places that the configuration names. Blocks.
///
/// # Errors
/// When a server runs, when the backup is not sound, when there is no room: then nothing was touched.
pub fn restore(
    places: &Places,
    request: &Request<'_>,
    told: Told<'_>,
    foresee: Foresee<'_>,
    step: Step<'_>,
) -> Result<Restored, BackupError> {
    let alone = DataFolder::own_alone(&places.data_folder)?;
    recover(places, alone.owned())?;
    let target = Target::of(places)?;
    let wants = |part: Part| request.only.is_none_or(|only| only == part);
    // Before anything is taken out, since it may well be refused.
    drop(wants(Part::Database).then(|| Now::at(places, request.revive_keys)).transpose()?);
    step();
    let stamp = format!("{}-{}", shelf::stamp(Timestamp::now()), files::chance(3)?);
    let mut stage = Stage::new(places, &stamp)?;
    let database = target.beside(&mut stage, places)?;
    let secrets = stage.folder_for(&places.default_database())?.join("secrets");
    let taken = {
        let mut place = |entry: &Entry| match entry.what() {
            // Looked through in any case: a backup is sound as a whole.
            Some(What::Database) => Ok(Some(database.clone())),
            Some(What::Config(name)) if wants(Part::Config) => {
                stage.put("config", &places.config_folder.join(name)).map(Some)
            }
            Some(What::Plugin(name)) if wants(Part::Plugins) => {
                stage.put("plugins", &places.plugins.join(name)).map(Some)
            }
            _ => Ok(None),
        };
        take_out(places, request.archive, request.passphrase, &secrets, told, &mut place)?
    };
    check_origin(places, request, &taken)?;
    step();
    told(Progress::Doing("looking through the database"));
    let migrated =
        examine(request.archive, &taken.manifest, &database, &stage.folder_for(&places.default_database())?)?;
    let mut keys = None;
    if wants(Part::Database) {
        let now = Now::at(places, request.revive_keys)?;
        keys = Some((now.settle(&database, request.revive_keys)?, now)).inspect(|(keys, _)| foresee(keys));
        // Those that will be there.
        let restored = taken.secrets.as_ref().and_then(|secrets| secrets.sealing_key.as_deref());
        let sealing = match restored.filter(|_| request.only.is_none() && !places.has_own_sealing_key()) {
            Some(text) => keys_in(text),
            None => places.sealing_keys()?,
        };
        let ended = keys.as_ref().map(|(keys, _)| keys.count()).unwrap_or_default();
        let detail = format!("{} of {}{ended}", name_of(request.archive), taken.manifest.made_at);
        note(&database, &sealing, acts::BACKUP_RESTORE, &detail)?;
    }
    step();
    let server = match &target {
        _ if !wants(Part::Database) => files::remove(&database).map(|()| None)?,
        Target::File(path) => stage.put_database(path).map(|()| None)?,
        Target::Server(storage) => Some(Server::new(storage, &stamp)),
    };
    stage.drop_others(places, wants(Part::Config), wants(Part::Plugins))?;
    if let (None, Some(secrets)) = (request.only, &taken.secrets) {
        stage.put_secrets(places, secrets)?;
    }
    let aside = server.as_ref().map(|server| server.aside.clone());
    let counter = keys.as_ref().and_then(|(_, now)| now.counter());
    let swap = server.zip(target.server()).map(|(server, storage)| Swap { server, storage, counter });
    let keys =
        keys.map(|(keys, now)| now.check_still(places, request.revive_keys).map(|()| keys)).transpose()?;
    let kept = commit(places, stage, swap, &database, told, step)?;
    let verified = verified(request, taken.manifest, taken.authenticity, migrated);
    Ok(Restored { verified, kept, aside, keys })
}

fn verified(
    request: &Request<'_>,
    manifest: Manifest,
    authenticity: Authenticity,
    migrated: Vec<String>,
) -> Verified {
    Verified { path: request.archive.to_owned(), manifest, authenticity, migrated }
}

/// Makes the database empty, of this version's schema; the rest stays. What was there is kept. Gives where.
///
/// # Errors
/// When a server runs, or there is no room: then nothing was touched.
pub fn reset(
    places: &Places,
    told: Told<'_>,
    step: Step<'_>,
) -> Result<(Option<PathBuf>, Option<String>), BackupError> {
    let alone = DataFolder::own_alone(&places.data_folder)?;
    recover(places, alone.owned())?;
    let target = Target::of(places)?;
    let stamp = format!("{}-{}", shelf::stamp(Timestamp::now()), files::chance(3)?);
    let mut stage = Stage::new(places, &stamp)?;
    let path = match &target {
        Target::File(path) => path.clone(),
        Target::Server(_) => places.default_database(),
    };
    let database = stage.folder_for(&path)?.join(name_of(&path));
    drop(settle_database(&database)?);
    note(&database, &places.sealing_keys()?, acts::DB_RESET, "it was made empty")?;
    let server = match &target {
        Target::File(path) => stage.put_database(path).map(|()| None)?,
        Target::Server(storage) => Some(Server::new(storage, &stamp)),
    };
    let aside = server.as_ref().map(|server| server.aside.clone());
    let swap = server.zip(target.server()).map(|(server, storage)| Swap { server, storage, counter: None });
    Ok((commit(places, stage, swap, &database, told, step)?, aside))
}

/// Has the database that is laid ready tell what is done here: it comes to be with that, or not at all.
fn note(database: &Path, keys: &[Secret], name: &str, detail: &str) -> Result<(), BackupError> {
    let file = storage::at_file(database)?;
    let mut connection = file.connect()?;
    let notary = Notary::new(keys.iter().map(|key| key.expose().as_bytes()));
    acts::record(&mut connection, &notary, Act { name, to: None, detail })
        .map_err(|error| file.failed(&error))?;
    drop(connection);
    // Whole by itself, and on the disk.
    drop(settle_database(database)?);
    Ok(())
}

/// What the database is that is restored to.
enum Target {
    File(PathBuf),
    Server(Storage),
}

impl Target {
    /// Refuses one that others use now.
    fn of(places: &Places) -> Result<Self, BackupError> {
        let file = places.database_file()?;
        // What a server that was killed had put beside, and is whole, is the database that is there.
        if let Some(Left::Whole(_)) = storage::left(&places.database, &places.default_database()) {
            storage::settle_left(&places.database, &places.default_database())?;
        }
        let storage = match &file {
            None => Some(storage::open(&places.database, &places.default_database())?),
            // One that is too damaged to be asked may well be what a restore is for.
            Some(_) => places.storage().ok(),
        };
        if let Some(storage) = &storage {
            let running =
                storage.connect().ok().and_then(|mut connection| instances::running(&mut connection).ok());
            if let Some(known) = running.unwrap_or_default().first() {
                let who = format!("process {} on {} says that it runs on it", known.pid, known.host);
                return Err(BackupError::InUse(who));
            }
        }
        match (file, storage) {
            (Some(path), storage) => {
                if let Some(storage) = storage {
                    storage.close();
                }
                Ok(Self::File(path))
            }
            (None, Some(storage)) => Ok(Self::Server(storage)),
            (None, None) => Err(BackupError::Refused("there is no database to restore to".to_owned())),
        }
    }

    /// Where the database is laid ready.
    fn beside(&self, stage: &mut Stage, places: &Places) -> Result<PathBuf, BackupError> {
        Ok(match self {
            Self::File(path) => stage.folder_for(path)?.join(name_of(path)),
            Self::Server(_) => stage.folder_for(&places.default_database())?.join("waygate.db"),
        })
    }

    fn server(&self) -> Option<&Storage> {
        match self {
            Self::File(_) => None,
            Self::Server(storage) => Some(storage),
        }
    }
}

/// A backup that nobody vouches for is restored only if that is said.
fn check_origin(places: &Places, request: &Request<'_>, taken: &Taken) -> Result<(), BackupError> {
    let is_known = taken.authenticity == Authenticity::Sealed || places.sealing_keys()?.is_empty();
    if is_known || request.foreign {
        return Ok(());
    }
    let what = match taken.authenticity {
        Authenticity::OtherKey => "bears the seal of another server's key",
        _ => "bears no seal",
    };
    Err(BackupError::Refused(format!(
        "the backup {} {what}, so that nobody can tell whether it was changed; if you know where it comes from, say --foreign",
        request.archive.display()
    )))
}

/// A database server, to be filled.
struct Swap<'a> {
    server: Server,
    storage: &'a Storage,
    /// How often something of its keys and the like was changed; if more often then, it is not filled.
    counter: Option<i64>,
}

/// From here on it counts.
fn commit(
    places: &Places,
    stage: Stage,
    swap: Option<Swap<'_>>,
    database: &Path,
    told: Told<'_>,
    step: Step<'_>,
) -> Result<Option<PathBuf>, BackupError> {
    told(Progress::Doing("keeping what was there"));
    let (server, storage) = swap.map(|swap| (swap.server, (swap.storage, swap.counter))).unzip();
    let mut journal = stage.into_journal(places, server, step)?;
    step();
    if let Err(error) = journal.write(&places.data_root) {
        if is_pending(&places.data_root) {
            return Err(unfinished(error));
        }
        journal.discard(&places.data_root)?;
        return Err(error);
    }
    step();
    if let (Some(server), Some((storage, counter))) = (&journal.server, storage) {
        told(Progress::Doing("filling the database"));
        let filled = replace(storage, database, &server.aside, counter, &|rows| told(Progress::Rows(rows)));
        let refusal = match filled {
            Ok(true) => None,
            Ok(false) => Some(keys::changed()),
            // A connection that broke at the very end leaves open whether it was done.
            Err(error) => (!is_replaced(storage, &server.aside)?).then(|| error.into()),
        };
        if let Some(refusal) = refusal {
            journal.discard(&places.data_root)?;
            return Err(refusal);
        }
        step();
        journal.is_committed = true;
        journal.write(&places.data_root).map_err(unfinished)?;
        step();
    }
    told(Progress::Doing("putting everything in its place"));
    journal.carry_out(&places.data_root, step)
}

/// Takes a backup out into a folder that is empty or not there: a data root of its own, with `data`, `config` and `plugins`.
///
/// # Errors
/// When the folder has something in it, when the backup is not sound, when there is no room.
pub fn unpack(
    places: &Places,
    request: &Request<'_>,
    into: &Path,
    told: Told<'_>,
) -> Result<Verified, BackupError> {
    if std::fs::read_dir(into).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BackupError::Refused(format!(
            "{} is not empty; name an empty folder, or a new one",
            into.display()
        )));
    }
    let into = std::path::absolute(into).map_err(|error| BackupError::of_file(into, &error))?;
    let parent = into.parent().unwrap_or(&into).to_owned();
    files::make_folders(&parent)?;
    let beside = Passing::new(archive::hidden(&into, &format!("{}.restoring", files::chance(3)?)));
    let of = |name: &str| beside.path().join(name);
    files::make_folder(beside.path())?;
    for folder in ["data", "config", "plugins"] {
        files::make_folder(&of(folder))?;
    }
    let database = of("data").join("waygate.db");
    let wants = |part: Part| request.only.is_none_or(|only| only == part);
    let mut place = |entry: &Entry| {
        Ok(match entry.what() {
            Some(What::Database) => Some(database.clone()),
            Some(What::Config(name)) if wants(Part::Config) => Some(of("config").join(name)),
            Some(What::Plugin(name)) if wants(Part::Plugins) => Some(of("plugins").join(name)),
            _ => None,
        })
    };
    let taken = take_out(places, request.archive, request.passphrase, &of("secrets"), told, &mut place)?;
    check_origin(places, request, &taken)?;
    told(Progress::Doing("looking through the database"));
    let migrated = examine(request.archive, &taken.manifest, &database, beside.path())?;
    if !wants(Part::Database) {
        files::remove(&database)?;
    }
    if let (None, Some(secrets)) = (request.only, &taken.secrets) {
        for (text, path) in
            [(&secrets.env, of(".env")), (&secrets.sealing_key, of("data").join("sealing.key"))]
        {
            if let Some(text) = text {
                files::write(&path, text.as_bytes())?;
            }
        }
    }
    std::fs::rename(beside.path(), &into).map_err(|error| BackupError::of_file(&into, &error))?;
    files::sync_folder(&parent)?;
    Ok(verified(request, taken.manifest, taken.authenticity, migrated))
}

/// What became of a restore that was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// It is done now.
    Finished,
    /// It had not begun to count; nothing of it is left.
    Undone,
}

impl Recovered {
    /// For people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Finished => "a restore that was cut off is finished now",
            Self::Undone => "a restore that was cut off before it counted is undone; what was there stands",
        }
    }
}

/// Finishes or undoes a restore that was cut off; for whoever has just taken the data folder.
///
/// # Errors
/// When a database server that must be asked does not answer; when a file cannot be moved.
pub fn recover(places: &Places, _owned: &Owned) -> Result<Option<Recovered>, BackupError> {
    let Some(mut journal) = Journal::read(&places.data_root)? else {
        stage::sweep(places);
        return Ok(None);
    };
    if let (false, Some(server)) = (journal.is_committed, &journal.server) {
        let storage = storage::open(&places.database, &places.default_database())?;
        if storage.place() != server.place {
            return Err(BackupError::Refused(format!(
                "a restore to {} was cut off, and the database is now {}; set database.url as it was, so that it can be \
                 finished",
                server.place,
                storage.place()
            )));
        }
        if !is_replaced(&storage, &server.aside)? {
            journal.discard(&places.data_root)?;
            return Ok(Some(Recovered::Undone));
        }
        journal.is_committed = true;
        journal.write(&places.data_root).map_err(unfinished)?;
    }
    journal.carry_out(&places.data_root, &|| ())?;
    Ok(Some(Recovered::Finished))
}

/// The same for whoever does not have the data folder; takes it for that long. Quick where there is nothing to do.
///
/// # Errors
/// `Taken` while a restore is under way; and as [`recover`].
pub fn settle(places: &Places) -> Result<Option<Recovered>, BackupError> {
    if !is_pending(&places.data_root) {
        return Ok(None);
    }
    let alone = DataFolder::own_alone(&places.data_folder)?;
    recover(places, alone.owned())
}

/// The same for whoever has no configuration yet, since its files may be what was being restored: finishes what counts
/// already, and leaves the rest.
///
/// # Errors
/// As [`settle`].
pub fn settle_files(data_root: &Path) -> Result<Option<Recovered>, BackupError> {
    if !is_pending(data_root) {
        return Ok(None);
    }
    let _alone = DataFolder::own_alone(&data_root.join("data"))?;
    match Journal::read(data_root)? {
        Some(journal) if journal.is_committed => {
            journal.carry_out(data_root, &|| ())?;
            Ok(Some(Recovered::Finished))
        }
        _ => Ok(None),
    }
}

/// The plugins' files that are there now and would not be afterwards.
fn surplus(found: Vec<PathBuf>, put: &[PathBuf]) -> Vec<PathBuf> {
    found.into_iter().filter(|path| !put.contains(path)).collect()
}

/// The files of one kind that are there now.
fn present(places: &Places, plugins: bool) -> Result<Vec<PathBuf>, BackupError> {
    if plugins { plugin_files(&places.plugins) } else { Ok(places.config_files.clone()) }
}
