//! Looks whether keys changed, ends what belongs to keys that are not taken any more, and notes when keys were used.
//!
//! Must not know requests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::Addr;

use super::super::ask::{AskError, ask};
use super::super::db::DbActor;
use super::super::db::messages::{LookAtKeys, SaveKeyUses};
use super::super::session::Sessions;
use super::super::supervision::message_of;
use super::Keys;
use crate::access::keys::Key;
use crate::storage::StorageError;
use crate::storage::definitions::written;

/// Between two looks: a key that was revoked anywhere is not taken within a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long one look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(3);
/// Looks from one sweep to the next: what slipped in while a ring was swapped is found by it.
const SWEEP_EVERY: u32 = 3;
/// From one writing of uses to the next, and how long one may take.
const SAVE_EVERY: Duration = Duration::from_secs(5);
const SAVE_WITHIN: Duration = Duration::from_secs(3);
/// Uses that are written at once.
const USES_AT_ONCE: usize = 500;

/// Keeps watch for as long as the server runs, on the current arbiter.
pub async fn keep(keys: Arc<Keys>, db: Addr<DbActor>, sessions: Arc<Sessions>) {
    // Beside each other: a writing that waits for a lock must not hold up the look that finds a key revoked.
    let saves = save(&keys, &db);
    let watch = Watch {
        keys: Arc::clone(&keys),
        db: db.clone(),
        sessions,
        swept: SystemTime::now(),
        is_blind: false,
    };
    tokio::join!(watch.keep(), saves);
}

/// Has uses written for as long as the server runs.
async fn save(keys: &Keys, db: &Addr<DbActor>) {
    loop {
        tokio::time::sleep(SAVE_EVERY).await;
        save_uses(keys, db).await;
    }
}

/// Writes which keys were used since the last time; what cannot be written is tried again.
async fn save_uses(keys: &Keys, db: &Addr<DbActor>) {
    let ring = keys.ring.load_full();
    super::tell_count(&ring);
    let unsaved = ring.keys().filter_map(|key| Some((key, key.unsaved_use()?)));
    let uses: Vec<(&Arc<Key>, SystemTime)> = unsaved.take(USES_AT_ONCE).collect();
    if uses.is_empty() {
        return;
    }
    let rows = uses.iter().map(|(key, at)| (key.about().id.to_string(), written(*at))).collect();
    match ask(db, SaveKeyUses { uses: rows }, SAVE_WITHIN).await {
        Ok(()) => uses.iter().for_each(|(key, at)| key.saved(*at)),
        Err(error) => log::debug!("when keys were used could not be written yet: {error}"),
    }
}

struct Watch {
    keys: Arc<Keys>,
    db: Addr<DbActor>,
    sessions: Arc<Sessions>,
    swept: SystemTime,
    /// Whether the database did not answer the last time.
    is_blind: bool,
}

impl Watch {
    async fn keep(mut self) {
        let mut looks = 0_u32;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            looks = looks.wrapping_add(1);
            let changed = self.look().await;
            self.sweep(changed || looks.is_multiple_of(SWEEP_EVERY));
        }
    }

    /// Reads the keys anew if they changed; whether they did.
    async fn look(&mut self) -> bool {
        let seen = match ask(&self.db, LookAtKeys, LOOK_WITHIN).await {
            Ok(counter) if counter == self.keys.read_at() => Ok(false),
            Ok(_) => self.keys.refresh(&self.db).await.map(|()| true),
            // The server stops, and nobody can come with a key any more.
            Err(AskError::Reply(StorageError::Closed(_))) => return false,
            Err(error) => Err(error.to_string()),
        };
        match &seen {
            Ok(_) if std::mem::take(&mut self.is_blind) => log::info!("the database tells of keys again"),
            Err(why) if !std::mem::replace(&mut self.is_blind, true) => log::warn!(
                "keys that are made or revoked now are not noticed until the database answers; those that are known are taken: \
                 {why}"
            ),
            _ => {}
        }
        seen.unwrap_or(false)
    }

    /// Ends sessions and streams of whoever is not let in any more.
    fn sweep(&mut self, is_due: bool) {
        let (ring, now) = (self.keys.ring(), SystemTime::now());
        if !is_due && !ring.ends_between(self.swept, now) {
            return;
        }
        self.swept = now;
        let honours = |principal: &str| ring.honours(principal, now);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.sessions.end_unless(&honours))) {
            log::error!("the sweep of keys panicked, and goes on: {}", message_of(panic.as_ref()));
        }
    }
}
