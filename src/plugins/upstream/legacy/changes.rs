//! What a server told of its own accord and has not been passed on yet: each change once, however often it was told.
//!
//! Must not know who told it, nor who is told.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use crate::plugins::Change;

/// Updated resources that are remembered one by one; beyond that any may be.
const UPDATED_MAX: usize = 256;

#[derive(Default)]
struct Pending {
    lists: Vec<Change>,
    updated: BTreeSet<String>,
}

/// Changes on their way. A server that tells in a loop fills neither memory nor queues.
#[derive(Default)]
pub struct Changes {
    pending: Mutex<Pending>,
    news: Notify,
    /// Told when more was told than is remembered.
    missed: Notify,
    deaf: AtomicBool,
}

impl Changes {
    /// Takes in what a notification says, if it tells of a change.
    pub fn hear(&self, method: &str, uri: Option<String>) {
        let mut pending = self.lock();
        match (method, uri) {
            ("notifications/tools/list_changed", _) => pending.list(Change::Tools),
            ("notifications/prompts/list_changed", _) => pending.list(Change::Prompts),
            ("notifications/resources/list_changed", _) => pending.list(Change::Resources),
            ("notifications/resources/updated", Some(uri)) => {
                if pending.updated.len() >= UPDATED_MAX && !pending.updated.contains(&uri) {
                    return self.missed.notify_one();
                }
                pending.updated.insert(uri);
            }
            _ => return,
        }
        self.news.notify_one();
    }

    /// Returns when more was told than is remembered.
    pub async fn missed(&self) {
        self.missed.notified().await;
    }

    /// Notes whether the main session has no stream on which it could hear of changes.
    pub fn note_deaf(&self, is_deaf: bool) {
        self.deaf.store(is_deaf, Ordering::Relaxed);
    }

    /// Whether the main session hears of no changes.
    pub fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// As if everything had changed, and these resources, too.
    pub fn all(&self, uris: impl IntoIterator<Item = String>) {
        let mut pending = self.lock();
        [Change::Tools, Change::Prompts, Change::Resources]
            .into_iter()
            .for_each(|change| pending.list(change));
        pending.updated.extend(uris);
        self.news.notify_one();
    }

    /// Passes changes on for as long as somebody takes them.
    pub async fn pass_on(&self, to: &mpsc::Sender<Change>) {
        loop {
            let Pending { lists, updated } = std::mem::take(&mut *self.lock());
            for change in lists.into_iter().chain(updated.into_iter().map(Change::Updated)) {
                if to.send(change).await.is_err() {
                    return;
                }
            }
            self.news.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn list(&mut self, change: Change) {
        if !self.lists.contains(&change) {
            self.lists.push(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn more_updates_than_are_remembered_are_a_gap_and_not_lost() {
        let changes = Changes::default();
        let tell = |n: usize| changes.hear("notifications/resources/updated", Some(format!("x:{n}")));
        (0..UPDATED_MAX).for_each(tell);
        tell(0);
        assert!(changes.missed().now_or_never().is_none());
        tell(UPDATED_MAX);
        assert!(changes.missed().now_or_never().is_some());
        changes.all((0..UPDATED_MAX * 2).map(|n| format!("x:{n}")));
        let (to, mut told) = mpsc::channel(UPDATED_MAX * 4);
        assert!(tokio::task::unconstrained(changes.pass_on(&to)).now_or_never().is_none());
        assert_eq!(std::iter::from_fn(|| told.try_recv().ok()).count(), 3 + UPDATED_MAX * 2);
    }
}
