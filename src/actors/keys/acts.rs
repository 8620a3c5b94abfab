//! Carries out what is done to keys, in one transaction: for the server, and for the command line beside it.
//!
//! Must not know who asks, nor what is kept in memory.

use std::sync::Arc;
use std::time::SystemTime;

use super::rows;
use crate::access::keys::{About, Act, Acted, KeyError, Made, Renewal, Standing, Wanted};
use crate::storage::definitions::written;
use crate::storage::keys::{self, KEYS_MAX, KeyRow};
use crate::storage::{DbConnection, QueryResult};

/// Does `act` and what `record` wants to be done with it, or nothing of both.
///
/// # Errors
/// What the database says; inside, why it cannot be done.
pub fn carry_out(
    connection: &mut DbConnection,
    act: &Act,
    now: SystemTime,
    record: impl FnOnce(&mut DbConnection, &Acted) -> QueryResult<()>,
) -> QueryResult<Result<Acted, KeyError>> {
    keys::change(connection, |connection| {
        let all = keys::all(connection)?;
        let acted = Deed { connection, all: &all, now }.of(act)?;
        if let Ok(acted) = &acted {
            record(connection, acted)?;
        }
        Ok(acted)
    })
}

/// One act on all keys that there are.
struct Deed<'a> {
    connection: &'a mut DbConnection,
    all: &'a [KeyRow],
    now: SystemTime,
}

impl Deed<'_> {
    fn of(mut self, act: &Act) -> QueryResult<Result<Acted, KeyError>> {
        match act {
            Act::Create(wanted) => self.create(wanted),
            Act::Rotate { which, grace_until, renewal } => self.rotate(which, *grace_until, *renewal),
            Act::Revoke { which } => self.revoke(which),
            Act::Delete { which } => self.delete(which),
        }
    }

    fn create(&mut self, wanted: &Wanted) -> QueryResult<Result<Acted, KeyError>> {
        let now = self.now;
        self.make(|id| wanted.clone().into_key(id, now))
    }

    fn make(&mut self, about: impl FnOnce(&str) -> About) -> QueryResult<Result<Acted, KeyError>> {
        if i64::try_from(self.all.len()).unwrap_or(i64::MAX) >= KEYS_MAX {
            return Ok(Err(KeyError::TooMany(self.all.len())));
        }
        let made = match Made::new() {
            Ok(made) => made,
            Err(error) => return Ok(Err(KeyError::Chance(error.to_string()))),
        };
        let key = about(&made.id);
        keys::insert(self.connection, &rows::row(&key, &made.hash))?;
        let is_first = self.all.is_empty();
        Ok(Ok(Acted { key, secret: Some(made.secret), others: Vec::new(), is_first, is_last: false }))
    }

    fn rotate(
        &mut self,
        which: &str,
        grace_until: SystemTime,
        renewal: Renewal,
    ) -> QueryResult<Result<Acted, KeyError>> {
        let old = match self.find(which) {
            Ok(old) => old,
            Err(error) => return Ok(Err(error)),
        };
        let standing = old.standing(self.now);
        if !matches!(standing, Standing::Active | Standing::Expired) {
            return Ok(Err(KeyError::Over { id: old.id.to_string(), standing: standing.name() }));
        }
        let now = self.now;
        let expires_at = match renewal {
            Renewal::Until(end) => end,
            Renewal::AsBefore => {
                old.expires_at.map(|end| now + end.duration_since(old.created_at).unwrap_or_default())
            }
        };
        let successor = |id: &str| About {
            id: id.into(),
            created_at: now,
            expires_at,
            last_used_at: None,
            ..old.clone()
        };
        let made = self.make(successor)?;
        if let Ok(acted) = &made {
            keys::replace(self.connection, &old.id, &acted.key.id, written(grace_until))?;
        }
        Ok(made.map(|acted| Acted { others: vec![Arc::clone(&old.id)], ..acted }))
    }

    fn revoke(&mut self, which: &str) -> QueryResult<Result<Acted, KeyError>> {
        let mut key = match self.find(which) {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        // Whoever lost a key may have lost the one before, too.
        let others = self.before(&key.id);
        for id in std::iter::once(&key.id).chain(&others) {
            keys::revoke(self.connection, id, written(self.now))?;
        }
        key.revoked_at = key.revoked_at.or(Some(self.now));
        Ok(Ok(Acted { key, secret: None, others, is_first: false, is_last: false }))
    }

    fn delete(&mut self, which: &str) -> QueryResult<Result<Acted, KeyError>> {
        let key = match self.find(which) {
            Ok(key) => key,
            // One that makes no sense must be got rid of.
            Err(KeyError::Broken(id)) => About::unreadable(&id, self.now),
            Err(error) => return Ok(Err(error)),
        };
        keys::delete(self.connection, &key.id)?;
        let is_last = self.all.len() == 1;
        Ok(Ok(Acted { key, secret: None, others: Vec::new(), is_first: false, is_last }))
    }

    /// The keys that this one took the place of, and which are taken still.
    fn before(&self, id: &str) -> Vec<Arc<str>> {
        let (mut found, mut next): (Vec<Arc<str>>, Vec<&str>) = (Vec::new(), vec![id]);
        while let Some(id) = next.pop() {
            for row in self.all.iter().filter(|row| row.replaced_by.as_deref() == Some(id)) {
                if row.revoked_at.is_none() && found.iter().all(|known| **known != *row.prefix) {
                    found.push(row.prefix.as_str().into());
                    next.push(&row.prefix);
                }
            }
        }
        found
    }

    /// The key of this id, or the one key of this name that is no other's predecessor.
    fn find(&self, which: &str) -> Result<About, KeyError> {
        let id = which.strip_prefix("key-").unwrap_or(which);
        let read = |row: &KeyRow| {
            rows::key(row).map(|(_, key)| key).map_err(|_| KeyError::Broken(row.prefix.clone()))
        };
        if let Some(row) = self.all.iter().find(|row| row.prefix == id) {
            return read(row);
        }
        let named: Vec<&KeyRow> = self.all.iter().filter(|row| row.name == which).collect();
        let current: Vec<&KeyRow> = named
            .iter()
            .copied()
            .filter(|row| row.revoked_at.is_none() && row.replaced_by.is_none())
            .collect();
        match (current.as_slice(), named.as_slice()) {
            ([row], _) | ([], [row]) => read(row),
            ([], []) => Err(KeyError::Unknown(which.to_owned())),
            (several, all) => {
                let rows = if several.is_empty() { all } else { several };
                let ids = rows.iter().map(|row| row.prefix.clone()).collect();
                Err(KeyError::Ambiguous { name: which.to_owned(), ids })
            }
        }
    }
}
