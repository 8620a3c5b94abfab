//! What the history's writer does when the database's file is not at its path any more: waits a moment, has it put back, says so.
//! Must not know how files are put anywhere.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::writer::{Link, Writer};
use super::{Act, ITSELF};
use crate::storage::acts::DB_MOVED;
use crate::storage::{DbConnection, Mended, StorageError, Untold, history};
use crate::telemetry::metrics::METRICS;

/// Who moves files may not have come to the end of it yet.
const SETTLE: Duration = Duration::from_secs(2);
/// Whoever works on the file before has ended by then, or nobody waits for it any more.
const WORK_ENDS: Duration = Duration::from_secs(12);
/// Between two attempts: each copies all of it.
const AGAIN: Duration = Duration::from_secs(5);
/// The same while somebody else is at it.
const SOON: Duration = Duration::from_millis(250);

/// Since when a file is not at its path, and what was tried.
pub(super) struct Astray {
    since: Instant,
    next: Instant,
    is_tried: bool,
    /// What the last attempt said.
    told: Option<String>,
}

impl Writer {
    /// Sees to it that what is written next goes into the file at the path.
    ///
    /// # Errors
    /// While it does not; then nothing may be written, and the connection is to be kept.
    pub(super) fn stay_in_place(&self, link: &mut Link) -> Result<(), StorageError> {
        let Err(moved) = self.storage.look() else {
            // What is open may be the file before, of which the last attempt came to its end but for its last word.
            if link.astray.take().is_some_and(|astray| astray.is_tried) {
                *link = Link::default();
            }
            return Ok(());
        };
        let now = Instant::now();
        let Link { connection, astray, .. } = link;
        let astray =
            astray.get_or_insert(Astray { since: now, next: now + SETTLE, is_tried: false, told: None });
        // What waits is safe in a file that stands where it stood, and there is no more time to wait for the link to it.
        if astray.is_tried && self.shared.is_closing() && self.is_safe_unlinked(connection.is_some()) {
            return Ok(());
        }
        let is_due = now >= astray.next && (!self.storage.is_in_use() || now >= astray.since + WORK_ENDS);
        // Who stops does not wait for the first attempt, but no more than others between two.
        if !is_due && (astray.is_tried || !self.shared.is_closing()) {
            return Err(moved);
        }
        astray.is_tried = true;
        let mended = self.storage.mend(connection, self.counter.load(Ordering::Relaxed));
        let mended = mended.inspect_err(|error| {
            let is_soon = matches!(error, StorageError::Moved { .. });
            astray.next = Instant::now() + if is_soon { SOON } else { AGAIN };
            let told = Some(error.to_string());
            if astray.told != told {
                log::error!("the database is not at its path, and it is tried again: {error}");
                astray.told = told;
            }
        })?;
        // The connection to the file before is closed here.
        *link = Link::default();
        self.tell_mended(&mended);
        Ok(())
    }

    fn is_safe_unlinked(&self, is_open: bool) -> bool {
        is_open && self.storage.stands_unlinked()
    }

    /// Whether what was written is where the next start finds it, or can be led to.
    pub(super) fn is_settled(&self, link: &Link) -> bool {
        self.storage.look().is_ok() || self.is_safe_unlinked(link.connection.is_some())
    }

    /// After a panic: the transaction was cut in the middle, and closing its connection rolls it back. Where the file is not at its path,
    /// that connection may be the last hold on all that is in it, and is kept.
    pub(super) fn after_cut(&self, link: &mut Link) {
        let is_kept =
            self.storage.look().is_err() && link.connection.as_mut().is_some_and(DbConnection::roll_back);
        if !is_kept {
            *link = Link::default();
        }
    }

    /// Notes for the next start what no row will tell of: records that were `lost`, and those up to `seq` that are not where the
    /// database should be.
    pub(super) fn leave_word(&self, lost: u64, seq: i64) {
        if lost == 0 && seq == 0 {
            return;
        }
        let untold = Untold { instance: self.instance.clone(), seq, lost };
        if let Err(error) = self.storage.leave_untold(&untold) {
            log::error!("the next start will not know that history rows are missing: {error}");
        }
    }

    /// What servers before could not write is told by a gap row, but for what has come back since.
    pub(super) fn hear_untold(&self, connection: &mut DbConnection) {
        for Untold { instance, seq, lost } in self.storage.take_untold() {
            let there = match seq {
                0 => None,
                // Where that cannot be told, too much is said to be missing rather than nothing: the note is gone.
                _ => history::last_seq(connection, &instance.id, instance.started_at).unwrap_or_default(),
            };
            let away = u64::try_from(seq - there.unwrap_or_default()).unwrap_or_default();
            if lost + away > 0 {
                log::error!(
                    "the server before could not write {lost} history rows, and {away} that it wrote are not in this database; a gap \
                     row tells of them"
                );
                self.shared.lose(lost + away);
            }
        }
    }

    fn tell_mended(&self, mended: &Mended) {
        METRICS.db_moved.with_label_values(&[mended.name()]).inc();
        let place = self.storage.place();
        let detail = match mended {
            Mended::Saved => {
                format!(
                    "the file {place} was gone; all that was in it was put back from what the server had open"
                )
            }
            Mended::Anew(None) => format!(
                "the file {place} was gone, and nothing of it could be saved: there is an empty one now, and history, keys and \
                 sessions from before are not in it"
            ),
            Mended::Anew(Some(kept)) => format!(
                "the file {place} was gone, and what the server had open of it is damaged: there is an empty one now, and history, \
                 keys and sessions from before are not in it; the damaged one is kept as {}",
                kept.display()
            ),
            Mended::Adopted(None) => format!(
                "the file {place} was replaced by another database of Waygate's, which is used from now on; what was written since \
                 it was made is not in it"
            ),
            Mended::Adopted(Some(kept)) => format!(
                "the file {place} was replaced by another database of Waygate's, which is used from now on; the one before is kept \
                 as {}",
                kept.display()
            ),
        };
        log::warn!(how = mended.name(); "{detail}");
        // Who stops takes nothing more.
        if !self.shared.is_closing() {
            self.shared.push(SystemTime::now(), Act::done(DB_MOVED, ITSELF, detail).into_record());
        }
    }
}
