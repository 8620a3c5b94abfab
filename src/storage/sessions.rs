//! `sessions`: what was agreed with clients of revisions with sessions, for the server that comes after this one.
//!
//! Must not know what any of it means, nor the ids of sessions: a row has the hash of one.

use chrono::NaiveDateTime;
use diesel::sql_types::{Nullable, Text, Timestamp};
use diesel::{
    Connection as _, ExpressionMethods as _, QueryDsl as _, QueryResult, Queryable, RunQueryDsl as _,
    Selectable, SelectableHelper as _,
};

use super::schema::sessions;
use super::{DbConnection, instances};

/// Rows that are read at most, those that were used last: no server has as many sessions.
const ROWS_MAX: i64 = 100_000;

/// Both databases take it as it is. Of two servers that follow each other, the one where it was used later knows better.
const UPSERT: &str = "INSERT INTO sessions (id_hash, principal, path, view, revision, client, capabilities, log_level, subscriptions, \
     instance_id, used_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
     ON CONFLICT (id_hash) DO UPDATE SET log_level = excluded.log_level, subscriptions = excluded.subscriptions, \
     instance_id = excluded.instance_id, used_at = excluded.used_at, expires_at = excluded.expires_at \
     WHERE sessions.instance_id = excluded.instance_id OR sessions.used_at <= excluded.used_at";

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub struct SessionRow {
    /// Of the id, in hexadecimal.
    pub id_hash: String,
    /// Who opened it.
    pub principal: String,
    /// The path that it is bound to.
    pub path: String,
    /// The bundle or front that it is bound to.
    pub view: Option<String>,
    /// The revision that was agreed.
    pub revision: String,
    /// What the client calls itself.
    pub client: Option<String>,
    /// A JSON object.
    pub capabilities: String,
    /// Of messages that the client wants.
    pub log_level: Option<String>,
    /// A JSON array of URIs.
    pub subscriptions: String,
    /// Which server wrote it last.
    pub instance_id: String,
    /// UTC, as all times here.
    pub used_at: NaiveDateTime,
    /// When it is nobody's any more.
    pub expires_at: NaiveDateTime,
}

/// What servers other than the one that asks have written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfOthers {
    /// How their sessions stand, the one that was used last first.
    pub rows: Vec<SessionRow>,
    /// Whether no other server runs: nothing more will come.
    pub is_final: bool,
}

/// Those of servers other than `own` that have not expired `now`, and were used at `since` or later.
///
/// # Errors
/// What the database says.
pub fn load(
    connection: &mut DbConnection,
    own: &str,
    now: NaiveDateTime,
    since: NaiveDateTime,
) -> QueryResult<OfOthers> {
    // Looked at first: one that stops between the two has written all before it did.
    let is_final = instances::running(connection)?.iter().all(|known| known.instance_id == own);
    let rows = sessions::table
        .filter(sessions::expires_at.gt(now))
        .filter(sessions::used_at.ge(since))
        .filter(sessions::instance_id.ne(own))
        .order(sessions::used_at.desc())
        .limit(ROWS_MAX)
        .select(SessionRow::as_select())
        .load(connection)?;
    Ok(OfOthers { rows, is_final })
}

/// Writes how sessions stand, and forgets those that `ended` and those that have expired `now`; all or nothing.
///
/// # Errors
/// What the database says.
pub fn save(
    connection: &mut DbConnection,
    rows: &[SessionRow],
    ended: &[String],
    now: NaiveDateTime,
) -> QueryResult<()> {
    connection.transaction(|connection| {
        for row in rows {
            diesel::sql_query(UPSERT)
                .bind::<Text, _>(&row.id_hash)
                .bind::<Text, _>(&row.principal)
                .bind::<Text, _>(&row.path)
                .bind::<Nullable<Text>, _>(&row.view)
                .bind::<Text, _>(&row.revision)
                .bind::<Nullable<Text>, _>(&row.client)
                .bind::<Text, _>(&row.capabilities)
                .bind::<Nullable<Text>, _>(&row.log_level)
                .bind::<Text, _>(&row.subscriptions)
                .bind::<Text, _>(&row.instance_id)
                .bind::<Timestamp, _>(row.used_at)
                .bind::<Timestamp, _>(row.expires_at)
                .execute(connection)?;
        }
        for hash in ended {
            diesel::delete(sessions::table.filter(sessions::id_hash.eq(hash))).execute(connection)?;
        }
        diesel::delete(sessions::table.filter(sessions::expires_at.le(now))).execute(connection).map(drop)
    })
}
