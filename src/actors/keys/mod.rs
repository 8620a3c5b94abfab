//! The keys of a running server: the ring that every request looks at, swapped when the database says that keys changed, and
//! what follows from a key that is not taken any more. Beside all requests: no request waits for any of this.
//!
//! Must not know how a key is shown to the server.

pub mod acts;
mod keeper;
pub mod rows;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use actix::Addr;
use arc_swap::{ArcSwap, Guard};

use super::ask::{AskError, ask};
use super::db::messages::{ActOnKeys, LoadKeys};
use super::db::{self, DbActor, Record, Recorder};
use crate::access::Caller;
use crate::access::keys::About;
use crate::access::keys::{Act, Acted, Hash, KeyRing};
use crate::config::Secret;
use crate::error::{ErrorCode, Fault};
use crate::storage::acts::KEYS_REFUSE;
use crate::storage::history::{Kind, Status};
use crate::storage::keys::KeyRow;
use crate::telemetry::metrics::METRICS;

pub use keeper::keep;

/// How long the database may take for an act.
const ACT_WITHIN: Duration = Duration::from_secs(10);

/// The keys of a running server.
pub struct Keys {
    ring: ArcSwap<KeyRing>,
    /// The operator's own.
    bootstrap: Option<Secret>,
    /// The database's counter when the ring was read; whoever swaps holds it.
    read_at: Mutex<i64>,
}

impl Keys {
    /// Of the operator's own key and those of the database, as they were read when its counter stood so.
    pub fn new(bootstrap: Option<Secret>, (counter, rows): (i64, &[KeyRow])) -> Arc<Self> {
        let ring = KeyRing::new(bootstrap.as_ref(), read(rows), None, !rows.is_empty());
        tell_count(&ring);
        Arc::new(Self { ring: ArcSwap::from_pointee(ring), bootstrap, read_at: Mutex::new(counter) })
    }

    /// The ring, borrowed for a moment.
    pub fn ring(&self) -> Guard<Arc<KeyRing>> {
        self.ring.load()
    }

    /// Swaps the ring for one of these keys, unless a newer one is there.
    fn swap(&self, counter: i64, rows: &[KeyRow]) {
        let mut read_at = self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
        if counter < *read_at {
            return;
        }
        *read_at = counter;
        let old = self.ring.load_full();
        let closed = !rows.is_empty() || !old.is_open();
        let ring = KeyRing::new(self.bootstrap.as_ref(), read(rows), Some(&old), closed);
        tell_count(&ring);
        if old.is_open() && !ring.is_open() {
            log::warn!(
                "the first key was made: this server was open, and from now on everybody must show a key"
            );
        }
        self.ring.store(Arc::new(ring));
    }

    fn read_at(&self) -> i64 {
        *self.read_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all keys anew.
    ///
    /// # Errors
    /// Why the database did not give them.
    pub async fn refresh(&self, db: &Addr<DbActor>) -> Result<(), String> {
        let (counter, rows) = ask(db, LoadKeys, ACT_WITHIN).await.map_err(|error| error.to_string())?;
        self.swap(counter, &rows);
        Ok(())
    }

    /// Does something to keys, for `by`; it holds here once this returns, and in other servers soon after.
    ///
    /// # Errors
    /// Why it cannot be done; `Unavailable` when the database does not answer.
    pub async fn act(
        &self,
        db: &Addr<DbActor>,
        recorder: &Recorder,
        act: Act,
        (by, request_id): (&Arc<str>, &Arc<str>),
    ) -> Result<Acted, Fault> {
        let name = act.name();
        let acted = match ask(db, ActOnKeys { act }, ACT_WITHIN).await {
            Ok(acted) => acted?,
            Err(error) => return Err(no_database(&error)),
        };
        log::info!(key = &*acted.key.id, by = &**by, request_id = &**request_id; "{name}: {}", acted.detail());
        let mut record = Record::new(Kind::Admin, Arc::clone(request_id), name);
        record.caller = Some(Arc::clone(by));
        record.tool = Some(acted.key.principal());
        record.status = Some(Status::Success);
        record.request_id = Some(Arc::clone(request_id));
        record.detail = Some(acted.detail().into());
        if let Err(error) = recorder.record_durably(record).await {
            log::error!("what was done to key {} may be missing in the history: {error}", acted.key.id);
        }
        if let Err(why) = self.refresh(db).await {
            log::error!("keys were changed and could not be read anew, it is tried again: {why}");
        }
        Ok(acted)
    }

    /// All keys as the database has them, and as they were used since.
    ///
    /// # Errors
    /// `Unavailable` when the database does not answer.
    pub async fn all(&self, db: &Addr<DbActor>) -> Result<Vec<About>, Fault> {
        let (counter, rows) = ask(db, LoadKeys, ACT_WITHIN).await.map_err(|error| no_database(&error))?;
        self.swap(counter, &rows);
        let ring = self.ring();
        let mut all: Vec<About> =
            ring.keys().map(|key| About { last_used_at: key.used_at(), ..key.about().clone() }).collect();
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(all)
    }
}

/// Has the history tell of a key that was not taken, and of how many before it were left out. Waits for nothing.
pub fn tell_refusal(recorder: &Recorder, client: &str, reason: &str, untold: u64) {
    let mut detail = format!("{reason}, from {client}");
    if untold > 0 {
        // Writing to a string cannot fail.
        let _infallible = write!(detail, "; {untold} more were refused since the last row of this kind");
    }
    let act = db::Act::done(KEYS_REFUSE, Caller::ANONYMOUS, detail);
    recorder.act(db::Act { refused: Some(ErrorCode::Unauthenticated), ..act });
}

fn no_database<E: std::fmt::Display>(error: &AskError<E>) -> Fault {
    Fault::new(
        ErrorCode::Unavailable,
        "the database that keeps the keys does not answer",
        "retry after a moment; /health says how it is. Keys that are known are taken meanwhile",
    )
    .because(error)
}

/// Those of the rows that make sense; the others open nothing.
fn read(rows: &[KeyRow]) -> Vec<(Hash, About)> {
    let key = |row: &KeyRow| {
        rows::key(row)
            .inspect_err(|why| {
                log::warn!("key {} is not taken, since its record makes no sense: {why}", row.prefix)
            })
            .ok()
    };
    rows.iter().filter_map(key).collect()
}

fn tell_count(ring: &KeyRing) {
    let (taken, over) = ring.count(SystemTime::now());
    for (standing, count) in [("taken", taken), ("over", over)] {
        METRICS.keys.with_label_values(&[standing]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::keys::{Form, Made};

    fn row() -> KeyRow {
        let made = Made::new().unwrap();
        let form = Form { name: "a".to_owned(), ..Form::default() };
        let wanted = form.check(&jiff::Zoned::now()).unwrap();
        rows::row(&wanted.into_key(&made.id, SystemTime::now()), &made.hash)
    }

    #[test]
    fn an_open_server_is_closed_by_its_first_key_and_by_no_deletion_opened_again() {
        let keys = Keys::new(None, (0, &[]));
        assert!(keys.ring().is_open());
        keys.swap(1, &[row()]);
        assert!(!keys.ring().is_open());
        keys.swap(2, &[]);
        assert!(!keys.ring().is_open(), "deleting the last key opens nothing");
    }

    #[test]
    fn what_was_read_before_does_not_take_the_place_of_what_was_read_after() {
        let keys = Keys::new(None, (5, &[row()]));
        keys.swap(4, &[]);
        assert_eq!(keys.ring().keys().count(), 1);
        let mut broken = row();
        broken.scopes = "root".to_owned();
        keys.swap(5, &[broken]);
        assert_eq!(keys.ring().keys().count(), 0, "a record that makes no sense opens nothing");
        assert!(!keys.ring().is_open(), "and closes all the same");
        assert!(
            !Keys::new(
                None,
                (
                    0,
                    &[{
                        let mut row = row();
                        row.scopes = "x".to_owned();
                        row
                    }]
                )
            )
            .ring()
            .is_open()
        );
    }
}
