//! What a restore does to API keys: one that was revoked, deleted or replaced since the backup was made stays so, unless it is
//! said that it shall be taken again. Must not know what a key opens.
//!
//! What became of a key is told by the database that the backup takes the place of, if it can be read and is the one that the
//! backup was made of: the two know a common instance or key then. Of any other nothing can be said, and that is said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

use super::{Part, Request};
use crate::backup::manifest::What;
use crate::backup::verify::{examine, scratch, take_out};
use crate::backup::{BackupError, Places, Told};
use crate::storage::history::moment;
use crate::storage::keys::{self, KeyRow};
use crate::storage::{self, DbConnection, QueryResult, Storage, instances, migrations};

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
pub enum Now {
    /// There is no database, or nothing in it.
    Nothing,
    /// It cannot be read.
    Unreadable,
    /// These, and who has ever written there.
    Known(Vec<KeyRow>, BTreeSet<String>),
}

impl Now {
    /// Those of the database that a backup would take the place of.
    fn of(storage: &Storage) -> Self {
        let read = || {
            let mut connection = storage.connect().ok()?;
            if migrations::is_blank(&mut connection, storage.place()).ok()? {
                return Some(Self::Nothing);
            }
            let known = (keys::all(&mut connection).ok()?, instances::all_ids(&mut connection).ok()?);
            Some(Self::Known(known.0, known.1))
        };
        read().unwrap_or(Self::Unreadable)
    }

    /// Those of the database that is this file, or that was opened.
    pub fn at(file: Option<&Path>, storage: Option<&Storage>) -> Self {
        match storage {
            Some(storage) => Self::of(storage),
            None if file.is_some_and(|path| !path.exists()) => Self::Nothing,
            None => Self::Unreadable,
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
        let (held, instances) = (keys::all(connection)?, instances::all_ids(connection)?);
        let valid: Vec<&KeyRow> = held.iter().filter(|row| is_valid(row)).collect();
        let mut keys =
            Keys { against: Against::Other, ended: vec![], is_revived, unknown: vec![], gone: vec![] };
        let held: BTreeSet<&str> = held.iter().map(|row| row.prefix.as_str()).collect();
        let is_held = |row: &KeyRow| held.contains(row.prefix.as_str());
        match self {
            Self::Known(now, known) if !known.is_disjoint(&instances) || now.iter().any(is_held) => {
                keys.against = Against::Same;
                let of: BTreeMap<&str, &KeyRow> = now.iter().map(|row| (row.prefix.as_str(), row)).collect();
                let now_of = |row: &KeyRow| of.get(row.prefix.as_str()).copied();
                keys.ended = valid.iter().filter_map(|row| ended(row, now_of(row))).collect();
                let gone = now.iter().filter(|row| is_valid(row) && !is_held(row));
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
        let Self::Known(now, _) = self else { return Ok(()) };
        if keys.is_revived || keys.ended.is_empty() {
            return Ok(());
        }
        let done = keys::change(connection, |connection| {
            for EndedKey { key, .. } in &keys.ended {
                match now.iter().find(|row| row.prefix == key.id) {
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

/// What became of a key that was taken when the backup was made.
fn ended(held: &KeyRow, now: Option<&KeyRow>) -> Option<EndedKey> {
    let since = match now {
        None => Ended::Deleted,
        Some(row) if row.revoked_at.is_some() => Ended::Revoked,
        Some(row) if (&row.replaced_by, row.grace_until) != (&held.replaced_by, held.grace_until) => {
            Ended::Replaced
        }
        Some(_) => return None,
    };
    Some(EndedKey { key: Named::of(held), since })
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
    let scratch = scratch(places, "keys")?;
    let (database, secrets) = (scratch.path().join("database.sqlite"), scratch.path().join("secrets"));
    let taken = take_out(places, request.archive, request.passphrase, &secrets, told, &mut |entry| {
        Ok((entry.what() == Some(What::Database)).then(|| database.clone()))
    })?;
    drop(examine(request.archive, &taken.manifest, &database, scratch.path())?);
    let now = Now::at(places.database_file()?.as_deref(), places.storage().ok().as_ref());
    let copy = storage::at_file(&database)?;
    let keys = now.compare(&mut copy.connect()?, request.revive_keys);
    keys.map(Some).map_err(|error| copy.failed(&error).into())
}
