//! Carries what was seen of tools from the shelf to the database, and back at the next start: so a definition that changed
//! while Waygate did not run is noticed, too. Beside all requests. Must not know what a change means.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;

use super::ask::ask;
use super::db::DbActor;
use super::db::messages::{LoadDefinitions, SaveDefinitions};
use crate::catalog::{Shelf, Sighting};
use crate::storage::definitions::{self, ToolDefinition};

/// Sightings that are written at once.
const AT_ONCE: usize = 500;
/// How long the database may take for them.
const ANSWER_WITHIN: Duration = Duration::from_secs(12);
/// How long a database that failed is left alone.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Tells the shelf what the database knows. Without it nothing is noticed but what changes from now on.
pub async fn load(shelf: &Shelf, db: &Addr<DbActor>) {
    match ask(db, LoadDefinitions, ANSWER_WITHIN).await {
        Ok(rows) => shelf.remember(rows.into_iter().map(sighting)),
        Err(error) => log::warn!(
            "tools whose definitions changed since the last start cannot be told, since it is not known what they were: {error}"
        ),
    }
}

/// Saves whatever is seen, for as long as the program runs.
pub async fn keep(shelf: Arc<Shelf>, db: Addr<DbActor>) {
    loop {
        shelf.sighted().await;
        let mut told = false;
        while let Err(why) = save(&shelf, &db, ANSWER_WITHIN).await {
            let level = if std::mem::replace(&mut told, true) { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "what tools look like could not be saved yet, it is tried again: {why}");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

/// Saves what is not saved yet; the database may take so long for each part of it.
///
/// # Errors
/// Why it is still not saved.
pub async fn save(shelf: &Shelf, db: &Addr<DbActor>, within: Duration) -> Result<(), String> {
    loop {
        let seen = shelf.take_unsaved(AT_ONCE);
        if seen.is_empty() {
            return Ok(());
        }
        let rows = seen.iter().map(row).collect();
        if let Err(error) = ask(db, SaveDefinitions { rows }, within).await {
            shelf.give_back(seen);
            return Err(error.to_string());
        }
    }
}

fn row(sighting: &Sighting) -> ToolDefinition {
    ToolDefinition {
        plugin: sighting.plugin.to_string(),
        tool: sighting.tool.to_string(),
        digest: sighting.digest.to_string(),
        first_seen_at: definitions::written(sighting.first_seen_at),
        changed_at: sighting.changed_at.map(definitions::written),
        previous_digest: sighting.previous.as_deref().map(str::to_owned),
    }
}

fn sighting(row: ToolDefinition) -> Sighting {
    Sighting {
        plugin: row.plugin.into(),
        tool: row.tool.into(),
        digest: row.digest.into(),
        previous: row.previous_digest.map(Into::into),
        first_seen_at: definitions::read(row.first_seen_at),
        changed_at: row.changed_at.map(definitions::read),
    }
}
