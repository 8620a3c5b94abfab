//! What a plugin's actor and the keeper of its lives share: its seat, the shelf, who is told, and who watches what.
//!
//! Must not know mailboxes, nor when a life begins.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::watchers::Watchers;
use crate::actors::session::{News, Streams};
use crate::cache::Cache;
use crate::catalog::{Changed, PluginState, Seat, Shelf};
use crate::plugins::Change;

/// Plugins whose schemas are compiled at once; the others wait for their turn.
static COMPILING: Semaphore = Semaphore::const_new(2);
/// How long a publication is waited for. What is late is published all the same.
const PUBLISH_WITHIN: Duration = Duration::from_secs(30);

/// One plugin's desk.
pub(super) struct Desk {
    /// Swapped where the plugin is offered otherwise from now on, and lives on.
    seat: ArcSwap<Seat>,
    shelf: Arc<Shelf>,
    streams: Arc<Streams>,
    /// What was kept of it is stale when it changes.
    cache: Option<Arc<Cache>>,
    pub(super) watchers: Watchers,
    /// Whether it was ever ready: before, it has nothing to offer.
    published: AtomicBool,
    /// Held while something of it is published, so that what is newest comes last.
    publishing: Arc<tokio::sync::Mutex<()>>,
    /// What this plugin was asked to go on watching, for which another one was asked before.
    inherited: Mutex<HashSet<Arc<str>>>,
}

impl Desk {
    pub(super) fn new(
        seat: Arc<Seat>,
        shelf: Arc<Shelf>,
        streams: Arc<Streams>,
        cache: Option<Arc<Cache>>,
        watchers: Watchers,
    ) -> Self {
        let (published, publishing) = (AtomicBool::new(false), Arc::default());
        let seat = ArcSwap::new(seat);
        Self { seat, shelf, streams, cache, watchers, published, publishing, inherited: Mutex::default() }
    }

    /// Its seat.
    pub(super) fn seat(&self) -> Arc<Seat> {
        self.seat.load_full()
    }

    /// Sits on `seat` from now on. What is kept of it is forgotten by whoever swaps the seats for all.
    pub(super) fn reseat(&self, seat: Arc<Seat>) {
        self.seat.store(seat);
    }

    /// Has all forgotten that was kept of it. Before anybody is told of a change: whoever then asks again finds what is new.
    fn forget(&self) {
        if let Some(cache) = &self.cache {
            let _count = cache.forget_plugin(&self.seat().name);
        }
    }

    /// Notes that a life is ready, or ready with trouble, and publishes at its beginning.
    pub(super) async fn ready(&self, trouble: Option<String>, begins: bool) {
        let state = if trouble.is_some() { PluginState::Degraded } else { PluginState::Ready };
        // Whoever finds it listed may call it, and whoever hears that it is ready finds it listed.
        if begins {
            self.seat().open_early();
            let again = self.published.swap(true, Ordering::AcqRel);
            if again { self.resynchronise().await } else { self.publish().await }
        }
        self.seat().turn(state, trouble, None);
    }

    /// Publishes what it offers now, on a thread of its own: the schemas are a server's, and this thread is many plugins'.
    pub(super) async fn publish(&self) {
        if !self.published.load(Ordering::Acquire) {
            return;
        }
        let (seat, shelf, streams) = (self.seat(), Arc::clone(&self.shelf), Arc::clone(&self.streams));
        let publishing = Arc::clone(&self.publishing);
        let made = async move {
            let turn = publishing.lock_owned().await;
            let room = COMPILING.acquire().await;
            let make = move || {
                let (_turn, _room) = (turn, room);
                streams.tell_changes(&shelf.publish(&seat, seat.plugin.inventory()));
            };
            tokio::task::spawn_blocking(make).await
        };
        let why = match tokio::time::timeout(PUBLISH_WITHIN, made).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it was not published within {} s", PUBLISH_WITHIN.as_secs()),
        };
        let name = &*self.seat().name;
        log::error!(plugin = name; "what plugin {name} offers is not shown as it is now: {why}");
    }

    /// Takes all of it off the shelf.
    pub(super) fn quarantine(&self) {
        self.tell(&self.shelf.quarantine(&self.seat()));
    }

    /// Tells the streams which lists changed.
    fn tell(&self, changed: &Changed) {
        self.streams.tell_changes(changed);
    }

    /// Takes in a change that the plugin told of.
    pub(super) async fn take_in(&self, change: Change) {
        match (&change, &self.cache) {
            (Change::Updated(uri), Some(cache)) => cache.forget_resource(&self.seat().name, uri),
            (Change::Updated(_), None) => {}
            (Change::Tools | Change::Prompts | Change::Resources, _) => self.forget(),
        }
        match change {
            // Of what it was not asked to watch it has nothing to say: it might be another plugin's.
            Change::Updated(uri) if self.watchers.has(&uri) => {
                self.streams.tell(&News::Updated(uri.into()));
            }
            Change::Updated(_) => {}
            Change::Tools | Change::Prompts | Change::Resources => self.publish().await,
        }
    }

    /// Changes were missed: publishes anew and tells all that is watched.
    pub(super) async fn resynchronise(&self) {
        self.forget();
        self.publish().await;
        for uri in self.watchers.all() {
            self.streams.tell(&News::Updated(uri));
        }
    }

    /// What is watched that this plugin shall go on watching, and what it was asked to and nobody watches any more.
    pub(super) fn inherit(&self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let watched = self.watchers.all();
        let now: HashSet<Arc<str>> = watched.iter().cloned().collect();
        let mut inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner);
        let ceased = inherited.difference(&now).cloned().collect();
        *inherited = now;
        (watched, ceased)
    }
}
