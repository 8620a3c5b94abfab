//! Deletes the oldest rows, and says under seal where it stopped, so that what is left can still be proved. Must not know when
//! that is wanted.
//!
//! What is deleted is a prefix by `id`, and so a prefix of each instance's chain.

use std::collections::BTreeMap;

use chrono::NaiveDateTime;
use diesel::{
    Connection as _, ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, QueryResult,
    RunQueryDsl as _,
};

use super::super::DbConnection;
use super::super::checkpoints::{self, Mark, Notary};
use super::super::schema::command_history;
use super::chain::Head;
use super::last_id;

/// Rows of one transaction: the writer waits for it.
const AT_ONCE: i64 = 2_000;

/// What may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Surplus {
    /// Rows from before this, UTC.
    pub before: Option<NaiveDateTime>,
    /// Rows up to this id.
    pub up_to: Option<i64>,
}

/// A row as far as it matters here: id, instance, number, hash, time.
type Old = (i64, String, i64, Option<Vec<u8>>, NaiveDateTime);

/// The newest row of those that are too many, if only `most` shall stay. Whoever asks at the same time gets the same answer, so that
/// several who prune at once delete no more than one.
///
/// # Errors
/// What the database says.
pub fn beyond(connection: &mut DbConnection, most: u64) -> QueryResult<Option<i64>> {
    let count: i64 = command_history::table.count().get_result(connection)?;
    let surplus = count.saturating_sub(i64::try_from(most).unwrap_or(i64::MAX));
    if surplus <= 0 {
        return Ok(None);
    }
    command_history::table
        .order(command_history::id.asc())
        .offset(surplus - 1)
        .select(command_history::id)
        .first(connection)
        .optional()
}

/// Deletes some of what may go and gives their number; 0 when nothing is left that may. The newest row stays, whatever its age:
/// SQLite would give its id again.
///
/// # Errors
/// What the database says; then nothing was deleted.
pub fn prune(connection: &mut DbConnection, notary: &Notary, surplus: Surplus) -> QueryResult<u64> {
    let newest = last_id(connection)?;
    let oldest: Vec<Old> = command_history::table
        .filter(command_history::id.lt(newest))
        .order(command_history::id.asc())
        .limit(AT_ONCE)
        .select((
            command_history::id,
            command_history::instance_id,
            command_history::seq,
            command_history::hash,
            command_history::created_at,
        ))
        .load(connection)?;
    let may_go = |old: &Old| {
        surplus.up_to.is_some_and(|up_to| old.0 <= up_to)
            || surplus.before.is_some_and(|before| old.4 < before)
    };
    let going: Vec<Old> = oldest.into_iter().take_while(may_go).collect();
    let Some(last) = going.last().map(|old| old.0) else { return Ok(0) };
    let mut heads: BTreeMap<&str, Head> = BTreeMap::new();
    for (_, instance_id, seq, hash, _) in &going {
        // A row that is older than the chain leaves nothing to prove.
        if let Some(hash) = hash.as_deref().and_then(|hash| hash.try_into().ok()) {
            heads.insert(instance_id, Head { seq: *seq, hash });
        }
    }
    connection.transaction(|connection| {
        let all = command_history::table.filter(command_history::id.le(last));
        let gone = diesel::delete(all).execute(connection)?;
        for (instance_id, head) in &heads {
            checkpoints::forget(connection, instance_id, head.seq)?;
            notary.write(connection, instance_id, *head, Mark::Pruned)?;
        }
        Ok(gone as u64)
    })
}
