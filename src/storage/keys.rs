//! `api_keys`: keys as hashes, what they open, and what became of them; and the counter that tells running servers of changes.
//!
//! Must not know what a scope or a glob means, nor what a key looks like.

use chrono::NaiveDateTime;
use diesel::{
    BoolExpressionMethods as _, Connection as _, ExpressionMethods as _, Insertable, QueryDsl as _,
    QueryResult, Queryable, RunQueryDsl as _, Selectable, SelectableHelper as _,
};

use super::DbConnection;
use super::schema::{api_keys, generation};

/// Keys that there may be: all of them are kept in memory.
pub const KEYS_MAX: i64 = 10_000;

/// A key to be written.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = api_keys)]
pub struct KeyRow {
    /// What people call it.
    pub name: String,
    /// Names it everywhere; the first letters of the key.
    pub prefix: String,
    /// Of the whole key, in hexadecimal.
    pub hash: String,
    /// Words with blanks between them.
    pub scopes: String,
    /// UTC, as all times here.
    pub created_at: NaiveDateTime,
    /// None means never.
    pub expires_at: Option<NaiveDateTime>,
    /// None means that it is not.
    pub revoked_at: Option<NaiveDateTime>,
    /// Who has it.
    pub owner: Option<String>,
    /// A JSON array of globs.
    pub tools_allow: String,
    /// … of what is not.
    pub tools_deny: String,
    /// A JSON array of globs.
    pub bundles_allow: String,
    /// … of what is not.
    pub bundles_deny: String,
    /// None means no limit, as with the others.
    pub requests_per_minute: Option<i64>,
    /// Above the steady rate.
    pub burst: Option<i64>,
    /// Calls at once.
    pub concurrent: Option<i64>,
    /// The prefix of the key that took its place.
    pub replaced_by: Option<String>,
    /// Until when it is taken all the same.
    pub grace_until: Option<NaiveDateTime>,
    /// Written now and then.
    pub last_used_at: Option<NaiveDateTime>,
}

impl KeyRow {
    /// This key, ended as soon as either row says: nothing that ends it is ever taken off or put off.
    #[must_use]
    pub fn ended_as(&self, other: &Self) -> Self {
        let is_sooner = match (&self.replaced_by, &other.replaced_by) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(_), Some(_)) => {
                other.grace_until.zip(self.grace_until).is_some_and(|(other, own)| other < own)
            }
        };
        let replaced = if is_sooner { other } else { self };
        Self {
            revoked_at: [self.revoked_at, other.revoked_at].into_iter().flatten().min(),
            replaced_by: replaced.replaced_by.clone(),
            grace_until: replaced.grace_until,
            ..self.clone()
        }
    }
}

/// All keys, the oldest first.
///
/// # Errors
/// What the database says.
pub fn all(connection: &mut DbConnection) -> QueryResult<Vec<KeyRow>> {
    api_keys::table.order(api_keys::id.asc()).limit(KEYS_MAX).select(KeyRow::as_select()).load(connection)
}

/// All keys, and the counter's state before they were read: what changes meanwhile is seen at the next look.
///
/// # Errors
/// What the database says.
pub fn all_at(connection: &mut DbConnection) -> QueryResult<(i64, Vec<KeyRow>)> {
    let counter = counter(connection)?;
    Ok((counter, all(connection)?))
}

/// How often something was changed that running servers keep in memory.
///
/// # Errors
/// What the database says.
pub fn counter(connection: &mut DbConnection) -> QueryResult<i64> {
    generation::table.select(generation::counter).first(connection)
}

/// Has running servers look, whatever they have seen up to there.
///
/// # Errors
/// What the database says.
pub fn raise(connection: &mut DbConnection, seen: i64) -> QueryResult<()> {
    let next = counter(connection)?.max(seen).saturating_add(1);
    diesel::update(generation::table).set(generation::counter.eq(next)).execute(connection).map(drop)
}

/// Does all of `work` or nothing, and has running servers look. One such change waits for the other.
///
/// # Errors
/// What the database says; inside, why `work` refused.
pub fn change<T, E>(
    connection: &mut DbConnection,
    work: impl FnOnce(&mut DbConnection) -> QueryResult<Result<T, E>>,
) -> QueryResult<Result<T, E>> {
    let mut refused = None;
    let done = connection.transaction(|connection| {
        // First, since it takes the lock that all others need.
        diesel::update(generation::table)
            .set(generation::counter.eq(generation::counter + 1))
            .execute(connection)?;
        work(connection)?.map_err(|error| {
            refused = Some(error);
            diesel::result::Error::RollbackTransaction
        })
    });
    refused.map_or_else(|| done.map(Ok), |error| Ok(Err(error)))
}

/// Writes a new key.
///
/// # Errors
/// What the database says; a prefix or hash that is there already is refused.
pub fn insert(connection: &mut DbConnection, row: &KeyRow) -> QueryResult<()> {
    diesel::insert_into(api_keys::table).values(row.clone()).execute(connection).map(drop)
}

/// Notes that a key has a successor, and until when it is taken all the same.
///
/// # Errors
/// What the database says.
pub fn replace(
    connection: &mut DbConnection,
    prefix: &str,
    successor: &str,
    grace_until: NaiveDateTime,
) -> QueryResult<()> {
    diesel::update(api_keys::table.filter(api_keys::prefix.eq(prefix)))
        .set((api_keys::replaced_by.eq(Some(successor)), api_keys::grace_until.eq(Some(grace_until))))
        .execute(connection)
        .map(drop)
}

/// Notes what a key may use up: requests a minute, how many at once, calls at once.
///
/// # Errors
/// What the database says.
pub fn limit(
    connection: &mut DbConnection,
    prefix: &str,
    [requests_per_minute, burst, concurrent]: [Option<i64>; 3],
) -> QueryResult<()> {
    diesel::update(api_keys::table.filter(api_keys::prefix.eq(prefix)))
        .set((
            api_keys::requests_per_minute.eq(requests_per_minute),
            api_keys::burst.eq(burst),
            api_keys::concurrent.eq(concurrent),
        ))
        .execute(connection)
        .map(drop)
}

/// Revokes a key, unless it is already.
///
/// # Errors
/// What the database says.
pub fn revoke(connection: &mut DbConnection, prefix: &str, at: NaiveDateTime) -> QueryResult<()> {
    let key = api_keys::table.filter(api_keys::prefix.eq(prefix).and(api_keys::revoked_at.is_null()));
    diesel::update(key).set(api_keys::revoked_at.eq(Some(at))).execute(connection).map(drop)
}

/// Has a key end as another row of the same key says that it has ended, and never later than its own says.
///
/// # Errors
/// What the database says; when there is no such key.
pub fn end_as(connection: &mut DbConnection, row: &KeyRow) -> QueryResult<()> {
    let key = api_keys::table.filter(api_keys::prefix.eq(&row.prefix));
    let held: KeyRow = key.select(KeyRow::as_select()).first(connection)?;
    let ended = held.ended_as(row);
    diesel::update(key)
        .set((
            api_keys::revoked_at.eq(ended.revoked_at),
            api_keys::replaced_by.eq(ended.replaced_by),
            api_keys::grace_until.eq(ended.grace_until),
        ))
        .execute(connection)
        .map(drop)
}

/// Forgets a key.
///
/// # Errors
/// What the database says.
pub fn delete(connection: &mut DbConnection, prefix: &str) -> QueryResult<()> {
    diesel::delete(api_keys::table.filter(api_keys::prefix.eq(prefix))).execute(connection).map(drop)
}

/// Notes when keys were last used. Servers need not look for that.
///
/// # Errors
/// What the database says.
pub fn used(connection: &mut DbConnection, uses: &[(String, NaiveDateTime)]) -> QueryResult<()> {
    connection.transaction(|connection| {
        for (prefix, at) in uses {
            let older = api_keys::last_used_at.is_null().or(api_keys::last_used_at.lt(*at));
            diesel::update(api_keys::table.filter(api_keys::prefix.eq(prefix).and(older)))
                .set(api_keys::last_used_at.eq(Some(*at)))
                .execute(connection)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::{KeyRow, NaiveDateTime};

    fn at(second: i64) -> Option<NaiveDateTime> {
        chrono::DateTime::from_timestamp(second, 0).map(|at| at.naive_utc())
    }

    fn row(revoked: Option<i64>, replaced: Option<(&str, i64)>) -> KeyRow {
        KeyRow {
            name: "a".to_owned(),
            prefix: "wg_a".to_owned(),
            hash: String::new(),
            scopes: String::new(),
            created_at: at(0).unwrap(),
            expires_at: None,
            revoked_at: revoked.and_then(at),
            owner: None,
            tools_allow: String::new(),
            tools_deny: String::new(),
            bundles_allow: String::new(),
            bundles_deny: String::new(),
            requests_per_minute: None,
            burst: None,
            concurrent: None,
            replaced_by: replaced.map(|(by, _)| by.to_owned()),
            grace_until: replaced.and_then(|(_, until)| at(until)),
            last_used_at: None,
        }
    }

    #[test]
    fn a_key_ends_as_soon_as_either_row_says() {
        let replaced = |until| row(None, Some(("b", until)));
        assert_eq!(replaced(5).ended_as(&row(None, None)), replaced(5), "it is not taken back");
        assert_eq!(row(None, None).ended_as(&replaced(5)), replaced(5));
        assert_eq!(replaced(5).ended_as(&row(None, Some(("c", 9)))), replaced(5), "it is not put off");
        assert_eq!(replaced(5).ended_as(&replaced(3)), replaced(3));
        assert_eq!(row(Some(4), None).ended_as(&row(None, None)), row(Some(4), None));
        assert_eq!(row(Some(4), None).ended_as(&row(Some(6), Some(("b", 5)))), row(Some(4), Some(("b", 5))));
        assert_eq!(replaced(5).ended_as(&row(Some(6), None)), row(Some(6), Some(("b", 5))));
    }
}
