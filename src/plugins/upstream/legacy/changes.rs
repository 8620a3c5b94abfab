//! What a server told of its own accord and has not been passed on yet: each change once, however often it was told.
//!
//! Must not know who told it, nor who is told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};

use crate::plugins::Change;

/// Updated resources that are remembered one by one; beyond that the resources changed as a whole.
const UPDATED_MAX: usize = 256;

/// Changes on their way. A server that tells in a loop fills neither memory nor queues.
#[derive(Default)]
pub struct Changes {
    pending: Mutex<Vec<Change>>,
    news: Notify,
    deaf: AtomicBool,
}

impl Changes {
    /// Takes in what a notification says, if it tells of a change.
    pub fn hear(&self, method: &str, uri: Option<String>) {
        match method {
            "notifications/tools/list_changed" => self.push(Change::Tools),
            "notifications/prompts/list_changed" => self.push(Change::Prompts),
            "notifications/resources/list_changed" => self.push(Change::Resources),
            "notifications/resources/updated" => {
                if let Some(uri) = uri {
                    self.push(Change::Updated(uri));
                }
            }
            _ => {}
        }
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
        let lists = [Change::Tools, Change::Prompts, Change::Resources];
        lists.into_iter().chain(uris.into_iter().map(Change::Updated)).for_each(|change| self.push(change));
    }

    /// Passes changes on for as long as somebody takes them.
    pub async fn pass_on(&self, to: &mpsc::Sender<Change>) {
        loop {
            let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
            for change in pending {
                if to.send(change).await.is_err() {
                    return;
                }
            }
            self.news.notified().await;
        }
    }

    fn push(&self, change: Change) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let change = if pending.len() >= UPDATED_MAX && matches!(change, Change::Updated(_)) {
            Change::Resources
        } else {
            change
        };
        if !pending.contains(&change) {
            pending.push(change);
            self.news.notify_one();
        }
    }
}
