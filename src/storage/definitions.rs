//! `tool_definitions`: what each tool looked like when it was last seen, and before. Must not know who offers tools.

use std::time::{Duration, SystemTime};

use chrono::NaiveDateTime;
use diesel::sql_types::{Nullable, Text, Timestamp};
use diesel::{
    Connection as _, ExpressionMethods as _, QueryDsl as _, QueryResult, Queryable, RunQueryDsl as _,
    Selectable, SelectableHelper as _,
};

use super::DbConnection;
use super::history::moment;
use super::schema::tool_definitions;

/// Rows that are read at most, the newest: hashes of far more tools than anybody has.
const ROWS_MAX: i64 = 200_000;

/// Both databases take it as it is. A row that says the same already is not written.
const UPSERT: &str = "INSERT INTO tool_definitions (plugin, tool, digest, first_seen_at, changed_at, previous_digest) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (plugin, tool) DO UPDATE SET digest = excluded.digest, \
     changed_at = COALESCE(excluded.changed_at, excluded.first_seen_at), \
     previous_digest = COALESCE(excluded.previous_digest, tool_definitions.digest) \
     WHERE tool_definitions.digest <> excluded.digest";

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = tool_definitions)]
pub struct ToolDefinition {
    /// Whose it is.
    pub plugin: String,
    /// What its plugin calls it.
    pub tool: String,
    /// The hash of its definition.
    pub digest: String,
    /// When it was there for the first time, UTC.
    pub first_seen_at: NaiveDateTime,
    /// When its definition last changed, UTC.
    pub changed_at: Option<NaiveDateTime>,
    /// The hash before.
    pub previous_digest: Option<String>,
}

/// All that is known.
///
/// # Errors
/// What the database says.
pub fn all(connection: &mut DbConnection) -> QueryResult<Vec<ToolDefinition>> {
    tool_definitions::table
        .order(tool_definitions::first_seen_at.desc())
        .limit(ROWS_MAX)
        .select(ToolDefinition::as_select())
        .load(connection)
}

/// Writes how tools were seen, all or none. When a tool was first seen stays; what it was before this is known of a row that
/// does not say so itself.
///
/// # Errors
/// What the database says.
pub fn save(connection: &mut DbConnection, seen: &[ToolDefinition]) -> QueryResult<()> {
    connection.transaction(|connection| {
        for row in seen {
            diesel::sql_query(UPSERT)
                .bind::<Text, _>(storable(&row.plugin))
                .bind::<Text, _>(storable(&row.tool))
                .bind::<Text, _>(&row.digest)
                .bind::<Timestamp, _>(row.first_seen_at)
                .bind::<Nullable<Timestamp>, _>(row.changed_at)
                .bind::<Nullable<Text>, _>(&row.previous_digest)
                .execute(connection)?;
        }
        Ok(())
    })
}

/// A clock's time, as the table keeps it.
pub fn written(at: SystemTime) -> NaiveDateTime {
    moment(at)
}

/// The clock's time of what the table keeps.
pub fn read(at: NaiveDateTime) -> SystemTime {
    let micros = u64::try_from(at.and_utc().timestamp_micros()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

/// PostgreSQL holds no NUL.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
