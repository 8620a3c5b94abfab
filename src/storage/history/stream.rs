//! The ledger in the order of its rows, for whoever carries it elsewhere and must forget none. Must not know where it goes.
//!
//! Of one instance, ids rise with `seq` and come to light in that order. Several instances may write to PostgreSQL at once, and
//! then a lower id may come to light after a higher one: so far back is looked again, and what was carried of each instance is
//! remembered. SQLite has one writer at a time.

use std::collections::BTreeMap;

use diesel::{
    ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, QueryResult, RunQueryDsl as _,
    SelectableHelper as _,
};
use serde::{Deserialize, Serialize};

use super::super::DbConnection;
use super::super::schema::command_history;
use super::chain::hex;
use super::{Entry, last_id};

/// Rows that are looked at again.
const LOOK_BACK: i64 = 10_000;

/// A row with its hash, so that the chain can be proved elsewhere, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// The row.
    #[serde(flatten)]
    pub entry: Entry,
    /// In hexadecimal; none of rows that are older than the chain.
    pub hash: Option<String>,
}

/// How far the ledger was carried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// What is not newer was left out from the beginning.
    floor: i64,
    /// The newest row that was carried.
    newest: i64,
    /// Who wrote that row, and its number there: a restored database has another one in its place.
    newest_is: Option<(String, i64)>,
    /// Of each instance whose rows are looked at again: the number and the id of its last row that was carried.
    seen: BTreeMap<String, (i64, i64)>,
}

impl Place {
    /// Behind all rows that there are.
    ///
    /// # Errors
    /// What the database says.
    pub fn at_end(connection: &mut DbConnection) -> QueryResult<Self> {
        let newest = last_id(connection)?;
        let newest_is = at(connection, newest)?;
        Ok(Self { floor: newest, newest, newest_is, seen: BTreeMap::new() })
    }

    /// Whether the database is the one that was carried so far, and not an older state of it or another one.
    ///
    /// # Errors
    /// What the database says.
    pub fn fits(&self, connection: &mut DbConnection) -> QueryResult<bool> {
        Ok(match at(connection, self.newest)? {
            Some(found) => self.newest_is.as_ref().is_none_or(|own| *own == found),
            // It may have been deleted on purpose, but then a newer one is there.
            None => last_id(connection)? >= self.newest,
        })
    }

    /// Notes that these rows were carried, in the order in which [`next`] gave them.
    pub fn advance(&mut self, rows: &[Carried]) {
        self.advance_by(rows.iter().map(|row| &row.entry), LOOK_BACK);
    }

    fn advance_by<'r>(&mut self, rows: impl Iterator<Item = &'r Entry>, look_back: i64) {
        for row in rows {
            self.seen.insert(row.instance_id.clone(), (row.seq, row.id));
            if row.id >= self.newest {
                self.newest = row.id;
                self.newest_is = Some((row.instance_id.clone(), row.seq));
            }
        }
        let from = self.from(look_back);
        self.seen.retain(|_, (_, id)| *id > from);
    }

    /// The next look begins after this row.
    fn from(&self, look_back: i64) -> i64 {
        self.floor.max(self.newest.saturating_sub(look_back))
    }

    fn is_fresh(&self, instance_id: &str, seq: i64) -> bool {
        self.seen.get(instance_id).is_none_or(|(seen, _)| seq > *seen)
    }
}

/// Whose row this is, and its number there.
fn at(connection: &mut DbConnection, id: i64) -> QueryResult<Option<(String, i64)>> {
    command_history::table
        .find(id)
        .select((command_history::instance_id, command_history::seq))
        .first(connection)
        .optional()
}

/// The rows that come next, `limit` at most.
///
/// # Errors
/// What the database says.
pub fn next(connection: &mut DbConnection, place: &Place, limit: usize) -> QueryResult<Vec<Carried>> {
    let look_back: i64 = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => 0,
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(_) => LOOK_BACK,
    };
    // No more than this is known already: the rest is new.
    let most = look_back.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX));
    let there: Vec<(i64, String, i64)> = command_history::table
        .filter(command_history::id.gt(place.from(look_back)))
        .order(command_history::id.asc())
        .limit(most)
        .select((command_history::id, command_history::instance_id, command_history::seq))
        .load(connection)?;
    let fresh: Vec<i64> = there
        .into_iter()
        .filter(|(_, instance_id, seq)| place.is_fresh(instance_id, *seq))
        .map(|(id, ..)| id)
        .take(limit)
        .collect();
    if fresh.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(Entry, Option<Vec<u8>>)> = command_history::table
        .filter(command_history::id.eq_any(fresh))
        .order(command_history::id.asc())
        .select((Entry::as_select(), command_history::hash))
        .load(connection)?;
    Ok(rows.into_iter().map(|(entry, hash)| Carried { entry, hash: hash.as_deref().map(hex) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, instance: &str, seq: i64) -> Entry {
        Entry {
            id,
            instance_id: instance.to_owned(),
            seq,
            call_id: String::new(),
            round: 0,
            kind: String::new(),
            created_at: chrono::NaiveDateTime::default(),
            method: None,
            plugin: None,
            tool: None,
            caller: None,
            client: None,
            session: None,
            protocol_version: None,
            status: None,
            error_code: None,
            duration_us: None,
            arguments: None,
            result_bytes: None,
            request_id: None,
            trace_id: None,
            detail: None,
            plugin_instance: None,
            queue_us: None,
            upstream_us: None,
            bytes_out: None,
            bytes_in: None,
            bridged: None,
        }
    }

    #[test]
    fn a_row_that_comes_to_light_late_is_carried_and_none_is_forgotten_or_carried_again() {
        let mut place = Place::default();
        place.advance_by([row(1, "a", 1), row(4, "a", 2)].iter(), 10);
        assert_eq!((place.newest, place.from(10)), (4, 0));
        assert!(!place.is_fresh("a", 1) && !place.is_fresh("a", 2), "they were carried");
        assert!(place.is_fresh("a", 3) && place.is_fresh("b", 1), "the rows 2 and 3 came to light late");
        place.advance_by([row(2, "b", 1), row(3, "b", 2)].iter(), 10);
        assert_eq!(place.newest, 4, "late ones do not set it back");
        assert!(!place.is_fresh("b", 2));
        place.advance_by([row(30, "a", 3)].iter(), 10);
        assert_eq!((place.from(10), place.seen.len()), (20, 1), "only what is looked at again is remembered");
    }
}
