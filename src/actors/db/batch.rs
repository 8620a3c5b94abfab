//! The rows of one group, and those who wait for its commit. Must not know the database.

use std::time::{Instant, SystemTime};

use tokio::sync::oneshot;

use super::recorder::{Record, RecordError};
use crate::storage::history::Head;

/// A record with its place in the instance's row of rows.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) seq: i64,
    pub(super) at: SystemTime,
    pub(super) record: Record,
}

/// Somebody who waits for a commit, and where it is told.
pub(super) type Waiter = oneshot::Sender<Result<(), RecordError>>;
pub(super) type Told = oneshot::Receiver<Result<(), RecordError>>;

/// What the writer has in hand. It lies here, not on the writer's stack, so that it survives the writer.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<Queued>,
    /// Each with the row it waits for; that one and all before it.
    pub(super) waiters: Vec<(i64, Waiter)>,
    /// How often it was begun.
    pub(super) tries: u32,
    /// The newest row that was said to be on disk, with its time.
    pub(super) kept: Option<(i64, SystemTime)>,
    /// How often the writer panicked over it.
    pub(super) panics: u32,
    /// Whether anything was ever tried to be written: before that the chain stands at its beginning.
    pub(super) begun: bool,
    /// Where the chain stands; not known after a failure, until the database was asked.
    pub(super) head: Option<Head>,
    /// The row that the last checkpoint told of, and when that was.
    pub(super) marked: (i64, Option<Instant>),
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.waiters.is_empty()
    }

    /// The first `count` rows are done with, the `lost` among them for good.
    pub(super) fn leave(&mut self, count: usize, lost: &[i64]) {
        self.rows.drain(..count.min(self.rows.len()));
        for (_, waiter) in self.waiters.extract_if(.., |(seq, _)| lost.contains(seq)) {
            let _given_up = waiter.send(Err(RecordError::Lost));
        }
    }

    /// Tells all who wait, and empties itself.
    pub(super) fn settle(&mut self, result: Result<(), RecordError>) {
        for (_, waiter) in self.waiters.drain(..) {
            // One who no longer waits has given up.
            let _given_up = waiter.send(result);
        }
        self.rows.clear();
        (self.tries, self.panics) = (0, 0);
    }
}
