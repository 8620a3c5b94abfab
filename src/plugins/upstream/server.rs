//! A server as a plugin: one life after the other, what it offered last, and what an operator sees of it.
//!
//! Must not know transports, nor what an era's speaker says; only when it is begun, listened to, asked anew and ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::link::LinkError;
use super::modern::Modern;
use super::probe::{self, Found, Kind};
use super::speaker::Speaker;
use super::uris::Prefix;
use super::ways::{Opened, Ways};
use crate::plugins::{Change, Context, Inventory, LifeError, Outcome, Plugin, PluginError, Pulse, Request};
use crate::protocol::{Object, Raw};

/// Changes that nobody took in yet; whoever lags is treated as if everything had changed.
const CHANGES_HELD: usize = 256;
/// Lists that change are asked for so long after the first word of it, so that several words are one.
const SETTLED_AFTER: Duration = Duration::from_millis(100);
/// … and no sooner than so long after the last time, so that a server that says it in a loop costs nothing.
const LISTED_EVERY: Duration = Duration::from_secs(1);
/// How long a speaker may take to end in order.
const CLOSED_WITHIN: Duration = Duration::from_secs(15);

/// Makes what speaks to a server with sessions, after the first handshake, which declared no capabilities.
pub type Sessions = Box<dyn Fn(Opened, Arc<dyn Ways>) -> Arc<dyn Speaker> + Send + Sync>;

/// What a server is made of, as a plugin.
pub struct Parts {
    /// The plugin's name.
    pub name: Arc<str>,
    /// How to come to it.
    pub ways: Arc<dyn Ways>,
    /// What speaks to it, should it have sessions.
    pub sessions: Sessions,
    /// How long a connection, its handshake and the lists may take.
    pub start_timeout: Duration,
    /// Put before each of its URIs.
    pub uri_prefix: String,
}

/// A server as a plugin.
pub struct Upstream {
    parts: Parts,
    prefix: Prefix,
    /// Of the life that goes on; none while there is none that is ready.
    speaker: ArcSwapOption<Current>,
    inventory: ArcSwap<Inventory>,
    changes: broadcast::Sender<Change>,
    lives: AtomicU64,
    seen: Mutex<Seen>,
}

/// What speaks now.
struct Current(Arc<dyn Speaker>);

/// What is known of the server from its lives so far.
#[derive(Default)]
struct Seen {
    /// The era that worked last.
    kind: Option<Kind>,
    name: Option<String>,
    version: Option<String>,
    last_error: Option<String>,
}

/// Takes the speaker of a life away when the life ends, however it ends.
struct Speaking<'a>(&'a Upstream);

impl Drop for Speaking<'_> {
    fn drop(&mut self) {
        self.0.speaker.store(None);
    }
}

impl Upstream {
    /// A server made of these parts; it is not spoken to before its life begins.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            prefix: Prefix::new(&parts.uri_prefix),
            parts,
            speaker: ArcSwapOption::empty(),
            inventory: ArcSwap::default(),
            changes: broadcast::Sender::new(CHANGES_HELD),
            lives: AtomicU64::new(0),
            seen: Mutex::default(),
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes to the server, finds out what it speaks, and asks for all that it offers.
    async fn begin(&self, deadline: Instant) -> Result<Arc<dyn Speaker>, String> {
        let known = self.seen().kind;
        self.parts.ways.renew();
        let found = probe::probe(&*self.parts.ways, known, deadline).await;
        let found = found.map_err(|error| {
            // What worked before does not work now: the next life asks without prejudice.
            self.seen().kind = None;
            format!("the server cannot be spoken to: {error}")
        })?;
        let (kind, info, speaker): (Kind, Raw, Arc<dyn Speaker>) = match found {
            Found::Modern { link, ids, discovered } => {
                let info = discovered.server_info.clone();
                let timeout = self.parts.start_timeout;
                (Kind::Modern, info, Modern::new(&self.parts.name, link, ids, discovered, timeout))
            }
            Found::Legacy(opened) => {
                let info = opened.handshake.server_info.clone();
                (Kind::Legacy, info, (self.parts.sessions)(opened, Arc::clone(&self.parts.ways)))
            }
        };
        let info = Object::open(&info).unwrap_or_default();
        {
            let mut seen = self.seen();
            seen.kind = Some(kind);
            seen.name = info.text("name");
            seen.version = info.text("version");
        }
        let listed = timeout_at(deadline, Arc::clone(&speaker).list()).await;
        let why = match listed {
            Ok(Ok(inventory)) => {
                self.publish(inventory);
                return Ok(speaker);
            }
            Ok(Err(error)) => format!("the server does not say what it offers: {error}"),
            Err(_elapsed) => "the server did not say in time what it offers; raise start_timeout_seconds if it needs longer".to_owned(),
        };
        let _late = timeout(CLOSED_WITHIN, speaker.close()).await;
        Err(why)
    }

    /// Takes in what the server offers now, and tells what of it is new.
    fn publish(&self, inventory: Inventory) {
        let new = Arc::new(self.prefix.of_inventory(inventory));
        let old = self.inventory.swap(Arc::clone(&new));
        let told = [
            (old.tools != new.tools || old.instructions != new.instructions, Change::Tools),
            (old.prompts != new.prompts, Change::Prompts),
            (old.resources != new.resources || old.templates != new.templates, Change::Resources),
        ];
        told.into_iter().filter(|(changed, _)| *changed).for_each(|(_, change)| self.tell(change));
    }

    fn tell(&self, change: Change) {
        let _nobody_listens = self.changes.send(change);
    }

    /// Attends to the server until it ends or shall end.
    async fn attend(&self, speaker: &Arc<dyn Speaker>, pulse: &Pulse) -> Result<(), String> {
        let (changes, mut told) = mpsc::channel(CHANGES_HELD);
        let mut ended = Arc::clone(speaker).attend(changes);
        let mut due: Option<Instant> = None;
        let mut listed_at = Instant::now();
        let mut listing: Option<BoxFuture<'static, Result<Inventory, LinkError>>> = None;
        loop {
            let is_due = due.filter(|_| listing.is_none());
            tokio::select! {
                biased;
                () = pulse.stop().cancelled() => return Ok(()),
                end = &mut ended => return Err(match end {
                    Ok(()) => "the server ended".to_owned(),
                    Err(error) => error.to_string(),
                }),
                list = poll(&mut listing), if listing.is_some() => {
                    listing = None;
                    match list {
                        Ok(inventory) => self.publish(inventory),
                        Err(error) => self.note(&format!("it did not list anew what it offers: {error}")),
                    }
                }
                Some(change) = told.recv() => match change {
                    Change::Updated(_) => self.tell(self.prefix.of_change(change)),
                    Change::Tools | Change::Prompts | Change::Resources => {
                        due.get_or_insert((Instant::now() + SETTLED_AFTER).max(listed_at + LISTED_EVERY));
                    }
                },
                () = sleep_until(is_due.unwrap_or_else(Instant::now)), if is_due.is_some() => {
                    due = None;
                    listed_at = Instant::now();
                    listing = Some(Arc::clone(speaker).list());
                }
            }
        }
    }

    fn note(&self, error: &str) {
        log::warn!("plugin {}: {error}", self.parts.name);
        self.seen().last_error = Some(error.to_owned());
    }

    fn failed(&self, why: String) -> LifeError {
        self.seen().last_error = Some(why.clone());
        LifeError(why)
    }
}

/// Goes on with what is under way; never done when nothing is.
async fn poll<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

impl Plugin for Upstream {
    fn inventory(&self) -> Inventory {
        Inventory::clone(&self.inventory.load())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn handle(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        let Some(current) = self.speaker.load_full() else {
            let why =
                format!("the server behind plugin {} is not running, or not yet ready", self.parts.name);
            return Box::pin(std::future::ready(Err(PluginError::Away(why))));
        };
        match self.prefix.strip(request) {
            Err(error) => Box::pin(std::future::ready(Err(error))),
            Ok(request) => Box::pin(async move {
                let outcome = Arc::clone(&current.0).perform(request, context).await?;
                Ok(match outcome {
                    Outcome::Complete(result) => Outcome::Complete(self.prefix.of_result(result)),
                    asks => asks,
                })
            }),
        }
    }

    fn live(self: Arc<Self>, pulse: Pulse) -> BoxFuture<'static, Result<(), LifeError>> {
        Box::pin(async move {
            self.lives.fetch_add(1, Ordering::Relaxed);
            let deadline = Instant::now() + self.parts.start_timeout;
            let begun = tokio::select! {
                biased;
                () = pulse.stop().cancelled() => return Ok(()),
                begun = timeout_at(deadline + CLOSED_WITHIN, self.begin(deadline)) => begun,
            };
            let begun = begun.unwrap_or_else(|_elapsed| Err("the server did not start in time".to_owned()));
            let speaker = begun.map_err(|why| self.failed(why))?;
            let speaking = Speaking(&self);
            self.speaker.store(Some(Arc::new(Current(Arc::clone(&speaker)))));
            pulse.ready();
            let end = self.attend(&speaker, &pulse).await;
            drop(speaking);
            let _late = timeout(CLOSED_WITHIN, speaker.close()).await;
            end.map_err(|why| self.failed(why))
        })
    }

    fn waiting(&self) -> usize {
        self.speaker.load().as_ref().map_or(0, |current| current.0.waiting())
    }

    fn report(&self) -> Value {
        let speaker = self.speaker.load();
        let seen = self.seen();
        let revision = speaker.as_ref().map(|current| current.0.revision());
        json!({
            "era": seen.kind.map(|kind| match kind {
                Kind::Modern => "modern",
                Kind::Legacy => "legacy",
            }),
            "revision": revision,
            "server": {"name": seen.name, "version": seen.version},
            "lives": self.lives.load(Ordering::Relaxed),
            "last_error": seen.last_error,
            "speaker": speaker.as_ref().map(|current| current.0.report()),
        })
    }
}
