//! What a restore does to API keys: one that was revoked, deleted or replaced since the backup was made stays so, unless it is
//! said that it shall be taken again. Must not know what a key opens.
//!
//! What became of a key is told by the database that the backup takes the place of, if it is the one that the backup was made of:
//! the two know a common instance or key then. Of any other nothing can be said, and that is said. That a key is not there proves
//! nothing by itself, since the one that is there may be the older of the two: see [`Known::is_deleted`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

use chrono::NaiveDateTime;
use serde::Serialize;

use super::{Part, Request};
use crate::backup::manifest::What;
use crate::backup::verify::{examine, scratch, take_out};
use crate::backup::{BackupError, Places, Told};
use crate::storage::acts::{self, OfKeys};
use crate::storage::history::moment;
use crate::storage::keys::{self, KeyRow};
use crate::storage::{self, DbConnection, Left, QueryResult, Storage, StorageError, instances, migrations};

/// What is known of the keys that are there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// The database that the backup was made of, as it is now.
    Same,
    /// Another one, or none: nothing is known of what became of these keys.
    Other,
    /// One that cannot be read.
    Unreadable,
}

/// What became of a key since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It was taken back.
    Revoked,
    /// It was forgotten.
    Deleted,
    /// Another took its place, at once or after a while.
    Replaced,
}

impl Ended {
    /// As a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Deleted => "deleted",
            Self::Replaced => "replaced",
        }
    }
}

/// A key, as people know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Named {
    /// Its first letters.
    pub id: String,
    /// What people call it.
    pub name: String,
}

impl Named {
    fn of(row: &KeyRow) -> Self {
        Self { id: row.prefix.clone(), name: row.name.clone() }
    }
}

/// A key that the backup holds as one that is taken, and that is not taken any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndedKey {
    /// Which.
    #[serde(flatten)]
    pub key: Named,
    /// What became of it since.
    pub since: Ended,
}

/// What becomes of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    /// What the backup's keys were held against.
    pub against: Against,
    /// Those that were revoked, deleted or replaced since.
    pub ended: Vec<EndedKey>,
    /// Whether these are taken again.
    #[serde(rename = "revived")]
    pub is_revived: bool,
    /// Those of the backup that are taken, where nobody knows what became of them.
    pub unknown: Vec<Named>,
    /// Those that were made since, and are gone.
    pub gone: Vec<Named>,
}

impl Keys {
    /// For the history: nothing where nothing ended.
    pub fn count(&self) -> String {
        let what = if self.is_revived { "taken again" } else { "still not taken" };
        match self.ended.len() {
            0 => String::new(),
            count => format!(", {count} keys that ended since are {what}"),
        }
    }
}

/// The keys that are there now.
#[derive(Debug, PartialEq, Eq)]
pub enum Now {
    /// There is no database, or nothing in it.
    Nothing,
    /// It cannot be read, and it was said that all keys are taken.
    Unreadable,
    /// These.
    Known(Box<Known>),
}

/// What a database knows of keys.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    keys: Vec<KeyRow>,
    /// Who has ever written there.
    instances: BTreeSet<String>,
    /// How often something was changed.
    counter: i64,
    /// What was done to keys.
    acts: OfKeys,
}

impl Known {
    fn of(connection: &mut DbConnection) -> QueryResult<Self> {
        let (counter, keys) = keys::all_at(connection)?;
        let (instances, acts) = (instances::all_ids(connection)?, acts::of_keys(connection)?);
        Ok(Self { keys, instances, counter, acts })
    }

    /// When something was first done to this key, as far as it is told.
    fn told_of(&self, row: &KeyRow) -> Option<NaiveDateTime> {
        // As the caller who shows the key is called.
        self.acts.first.get(&format!("key-{}", row.prefix)).copied()
    }

    /// Whether a key that is not here was deleted here, as far as anybody can know: its making or its end is told here, or this
    /// is what became of the database that had it.
    fn is_deleted(&self, row: &KeyRow, held: &Self) -> bool {
        // What was made within the time that this history tells of, and is not told, was made elsewhere.
        let is_made_elsewhere =
            || held.told_of(row).zip(self.acts.since).is_some_and(|(at, since)| at >= since);
        let is_later = || {
            !held.instances.is_empty()
                && held.instances.is_subset(&self.instances)
                && held.counter <= self.counter
        };
        self.told_of(row).is_some() || (is_later() && !is_made_elsewhere())
    }
}

impl Now {
    /// Those of the database that a backup would take the place of.
    fn of(storage: &Storage) -> Result<Self, StorageError> {
        let mut connection = storage.connect()?;
        match migrations::is_blank(&mut connection, storage.place()) {
            Ok(true) => return Ok(Self::Nothing),
            // A newer version's may have the same keys: they are asked for as ever.
            Ok(false) | Err(StorageError::Newer { .. }) => {}
            Err(error) => return Err(error),
        }
        let known = Known::of(&mut connection).map_err(|error| storage.failed(&error))?;
        Ok(Self::Known(Box::new(known)))
    }

    /// Those of the database that is there.
    ///
    /// # Errors
    /// When it cannot be read, unless keys are to be taken all the same.
    pub fn at(places: &Places, is_revived: bool) -> Result<Self, BackupError> {
        let file = places.database_file()?;
        if file.as_ref().is_some_and(|path| !path.exists()) {
            return match storage::left(&places.database, &places.default_database()) {
                // It is the database, but for its name.
                Some(Left::Whole(whole)) => {
                    let storage = storage::at_file(&whole)?;
                    let now = Self::of(&storage);
                    storage.close();
                    Ok(now?)
                }
                // There was one, of which keys may have been revoked since.
                Some(_) if !is_revived => Err(BackupError::Refused(
                    "which keys were revoked since the backup cannot be told, because a server was killed while it put the database \
                     back, and not all of it is there; if that server's disk has it nowhere else, say --revive-keys, and look through \
                     `waygate-mcp keys list` afterwards: all keys of the backup are taken then. Nothing was changed"
                        .to_owned(),
                )),
                Some(_) => Ok(Self::Unreadable),
                None => Ok(Self::Nothing),
            };
        }
        let opened = match storage::open_existing(&places.database, &places.default_database()) {
            // A server that is away is nothing to restore to either, and comes back.
            Err(error) if file.is_none() => return Err(error.into()),
            opened => opened,
        };
        let read = opened.and_then(|storage| {
            let now = Self::of(&storage);
            storage.close();
            now
        });
        match read {
            Ok(now) => Ok(now),
            Err(error @ StorageError::Full(_)) => Err(error.into()),
            Err(_) if is_revived => Ok(Self::Unreadable),
            Err(error) => Err(BackupError::Refused(format!(
                "which keys were revoked since the backup cannot be told, because the database that is there cannot be read: \
                 {error}; if it is of an older version, run `waygate-mcp db migrate up` first; if nothing brings it back, say \
                 --revive-keys, and look through `waygate-mcp keys list` afterwards: all keys of the backup are taken then. \
                 Nothing was changed"
            ))),
        }
    }

    /// Refuses when a key was changed since this was read, as by `keys revoke`, which waits for no restore.
    ///
    /// # Errors
    /// Then, and as [`Now::at`].
    pub fn check_still(&self, places: &Places, is_revived: bool) -> Result<(), BackupError> {
        let is_still = match (self, Self::at(places, is_revived)?) {
            (Self::Known(now), Self::Known(later)) => now.counter == later.counter,
            (now, later) => *now == later,
        };
        if is_still {
            return Ok(());
        }
        Err(changed())
    }

    /// How often something was changed, as far as that is known.
    pub fn counter(&self) -> Option<i64> {
        match self {
            Self::Known(known) => Some(known.counter),
            Self::Nothing | Self::Unreadable => None,
        }
    }

    /// Has the database that is laid ready hold the keys as they shall be, and gives what became of them.
    ///
    /// # Errors
    /// What that database says.
    pub fn settle(&self, database: &Path, is_revived: bool) -> Result<Keys, BackupError> {
        let file = storage::at_file(database)?;
        let mut connection = file.connect()?;
        let keys = self.compare(&mut connection, is_revived).map_err(|error| file.failed(&error))?;
        self.carry_over(&mut connection, &keys).map_err(|error| file.failed(&error))?;
        Ok(keys)
    }

    /// What becomes of keys when the database of this connection takes the place of what is there now.
    ///
    /// # Errors
    /// What the database of the connection says.
    fn compare(&self, connection: &mut DbConnection, is_revived: bool) -> QueryResult<Keys> {
        let held = Known::of(connection)?;
        let valid: Vec<&KeyRow> = held.keys.iter().filter(|row| is_valid(row)).collect();
        let mut keys =
            Keys { against: Against::Other, ended: vec![], is_revived, unknown: vec![], gone: vec![] };
        let of_backup: BTreeSet<&str> = held.keys.iter().map(|row| row.prefix.as_str()).collect();
        let is_held = |row: &KeyRow| of_backup.contains(row.prefix.as_str());
        match self {
            Self::Known(now)
                if !now.instances.is_disjoint(&held.instances) || now.keys.iter().any(is_held) =>
            {
                keys.against = Against::Same;
                let of: BTreeMap<&str, &KeyRow> =
                    now.keys.iter().map(|row| (row.prefix.as_str(), row)).collect();
                for row in valid {
                    let since = match of.get(row.prefix.as_str()) {
                        Some(now) => ended(row, now),
                        None if now.is_deleted(row, &held) => Some(Ended::Deleted),
                        None => {
                            keys.unknown.push(Named::of(row));
                            None
                        }
                    };
                    keys.ended.extend(since.map(|since| EndedKey { key: Named::of(row), since }));
                }
                let gone = now.keys.iter().filter(|row| is_valid(row) && !is_held(row));
                keys.gone = gone.map(Named::of).collect();
            }
            _ => {
                if matches!(self, Self::Unreadable) {
                    keys.against = Against::Unreadable;
                }
                keys.unknown = valid.into_iter().map(Named::of).collect();
            }
        }
        Ok(keys)
    }

    /// Has the keys that ended since end in the database of this connection, too.
    ///
    /// # Errors
    /// What the database says; then nothing was done.
    fn carry_over(&self, connection: &mut DbConnection, keys: &Keys) -> QueryResult<()> {
        let Self::Known(now) = self else { return Ok(()) };
        if keys.is_revived || keys.ended.is_empty() {
            return Ok(());
        }
        let done = keys::change(connection, |connection| {
            for EndedKey { key, .. } in &keys.ended {
                match now.keys.iter().find(|row| row.prefix == key.id) {
                    None => keys::delete(connection, &key.id)?,
                    Some(row) => keys::end_as(connection, row)?,
                }
            }
            Ok(Ok::<_, std::convert::Infallible>(()))
        });
        done.map(|done| match done {
            Ok(()) => (),
            Err(never) => match never {},
        })
    }
}

/// That a key was changed while nobody may.
pub fn changed() -> BackupError {
    BackupError::Refused(
        "keys were changed while the backup was read; nothing was restored: do it again".to_owned(),
    )
}

/// What became of a key that was taken when the backup was made. What is there may be the older of the two: only what ends the key
/// sooner became of it since.
fn ended(held: &KeyRow, now: &KeyRow) -> Option<Ended> {
    let after = held.ended_as(now);
    if after.revoked_at != held.revoked_at {
        return Some(Ended::Revoked);
    }
    let is_replaced = (&after.replaced_by, after.grace_until) != (&held.replaced_by, held.grace_until);
    is_replaced.then_some(Ended::Replaced)
}

/// Whether a key is taken now, as its row says.
fn is_valid(row: &KeyRow) -> bool {
    let now = moment(SystemTime::now());
    let is_left = || row.grace_until.is_some_and(|end| end > now);
    row.revoked_at.is_none()
        && row.expires_at.is_none_or(|end| end > now)
        && (row.replaced_by.is_none() || is_left())
}

/// What would become of keys, for whoever has not said yet that it shall be done; none where the database is no part of it. Touches
/// nothing.
///
/// # Errors
/// Whatever is wrong with the backup.
pub fn foresee_keys(
    places: &Places,
    request: &Request<'_>,
    told: Told<'_>,
) -> Result<Option<Keys>, BackupError> {
    if request.only.is_some_and(|only| only != Part::Database) {
        return Ok(None);
    }
    let now = Now::at(places, request.revive_keys)?;
    let scratch = scratch(places, "keys")?;
    let (database, secrets) = (scratch.path().join("database.sqlite"), scratch.path().join("secrets"));
    let taken = take_out(places, request.archive, request.passphrase, &secrets, told, &mut |entry| {
        Ok((entry.what() == Some(What::Database)).then(|| database.clone()))
    })?;
    drop(examine(request.archive, &taken.manifest, &database, scratch.path())?);
    let copy = storage::at_file(&database)?;
    let keys = now.compare(&mut copy.connect()?, request.revive_keys);
    keys.map(Some).map_err(|error| copy.failed(&error).into())
}
