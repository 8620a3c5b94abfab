//! Keeps the history as short as the settings want it, beside everything else. Must not know how rows are deleted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{Act, ITSELF, READ_DEADLINE, Recorder, read};
use crate::actors::clock::Clock;
use crate::config;
use crate::storage::history::moment;
use crate::storage::history::prune::{self, Surplus};
use crate::storage::history::size;
use crate::storage::{Notary, Storage, StorageError, acts};

/// How often it is looked.
pub(super) const EVERY: Duration = Duration::from_secs(3600);
/// Between two transactions, for the writer.
const PAUSE: Duration = Duration::from_millis(50);
const DAY: Duration = Duration::from_secs(86_400);

/// What is kept, and what deletes the rest.
#[derive(Clone)]
pub(super) struct Retention {
    pub(super) storage: Storage,
    pub(super) recorder: Recorder,
    pub(super) readers: Arc<Semaphore>,
    pub(super) notary: Notary,
    clock: Arc<Clock>,
    /// 0 is for ever.
    pub(super) keep_days: u32,
    /// 0 is no limit.
    pub(super) max_rows: u64,
    /// 0 is no limit.
    pub(super) max_bytes: u64,
}

impl Retention {
    pub(super) fn new(
        storage: &Storage,
        recorder: &Recorder,
        readers: &Arc<Semaphore>,
        notary: &Notary,
        config: &config::History,
    ) -> Self {
        Self {
            storage: storage.clone(),
            recorder: recorder.clone(),
            readers: Arc::clone(readers),
            notary: notary.clone(),
            clock: Arc::default(),
            keep_days: config.keep_days,
            max_rows: config.max_rows,
            max_bytes: config.max_bytes,
        }
    }

    /// Deletes what is too old or too much. What fails is tried again the next time.
    pub(super) async fn run(self) {
        if self.keep_days == 0 && self.max_rows == 0 && self.max_bytes == 0 {
            return;
        }
        match self.prune().await {
            Ok(0) => {}
            Ok(deleted) => {
                log::info!(rows = deleted; "{deleted} history rows were deleted, as history.keep_days, history.max_rows and history.max_bytes want it");
                let detail = format!("{deleted} rows were deleted, as the settings want it");
                self.recorder.act(Act::done(acts::HISTORY_PRUNE, ITSELF, detail));
            }
            Err(error) => {
                log::warn!("the history could not be pruned, it is tried again in an hour: {error}")
            }
        }
    }

    async fn prune(&self) -> Result<u64, StorageError> {
        // What is too much goes, whatever the clock says.
        let now = self.clock.read().inspect_err(|why| log::warn!("the history is not pruned: {why}")).ok();
        let oldest = now.and_then(|now| now.checked_sub(DAY * self.keep_days));
        let before = oldest.filter(|_| self.keep_days > 0);
        let mut surplus = Surplus { before: before.map(moment), up_to: None };
        if self.max_rows > 0 {
            let most = self.max_rows;
            surplus.up_to = self.read(move |connection| prune::beyond(connection, most)).await?;
        }
        if self.max_bytes > 0 {
            match self.too_much().await {
                Ok(up_to) => surplus.up_to = surplus.up_to.max(up_to),
                Err(error) => {
                    log::warn!("what is beyond history.max_bytes is looked for again in an hour: {error}")
                }
            }
        }
        let mut deleted = 0;
        loop {
            let notary = self.notary.clone();
            let gone = self.read(move |connection| prune::prune(connection, &notary, surplus)).await?;
            if gone == 0 {
                return Ok(deleted);
            }
            deleted += gone;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The newest row of those that are too many for `max_bytes`. Many rows take many reads, each with its own deadline.
    async fn too_much(&self) -> Result<Option<i64>, StorageError> {
        let mut walk = size::Walk::of(self.max_bytes);
        loop {
            let weighed = self.read(move |connection| walk.step(connection).map(|step| (walk, step))).await?;
            walk = weighed.0;
            match weighed.1 {
                size::Step::Further => {}
                size::Step::Beyond(id) => return Ok(Some(id)),
                size::Step::End => return Ok(None),
            }
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut crate::storage::DbConnection) -> crate::storage::QueryResult<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        read(self.storage.clone(), Arc::clone(&self.readers), READ_DEADLINE, work).await
    }
}
