//! A server as a plugin: one life after the other, what it offered last, and what an operator sees of it.
//!
//! Must not know transports, nor what an era's speaker says; only when it is begun, listened to, asked anew and ended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::exchange::ProbeError;
use super::inventory::{Amiss, Kinds};
use super::link::LinkError;
use super::modern::Modern;
use super::probe::{self, Found, Kind};
use super::speaker::Speaker;
use super::uris::Prefix;
use super::ways::{Claim, Opened, Unclaimed, Ways};
use crate::plugins::{Change, Context, Inventory, LifeError, Outcome, Plugin, PluginError, Pulse, Request};
use crate::protocol::{Object, Raw};

/// Changes that nobody took in yet; whoever lags is treated as if everything had changed.
const CHANGES_HELD: usize = 256;
/// Lists that change are asked for so long after the first word of it, so that several words are one.
const SETTLED_AFTER: Duration = Duration::from_millis(100);
/// … and no sooner than so long after the last time, so that a server that says it in a loop costs nothing.
const LISTED_EVERY: Duration = Duration::from_secs(1);
/// Lists that could not be had are asked for again so long after, and ever later …
const LISTED_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// … up to this.
const LISTED_AGAIN_AFTER_MOST: Duration = Duration::from_secs(300);
/// A server that does not tell when its lists change is asked for them again after this, where it does not say itself for
/// how long they hold …
const LOOKED_EVERY: Duration = Duration::from_secs(60);
/// … no sooner than this, whatever it says …
const LOOKED_EVERY_LEAST: Duration = Duration::from_secs(30);
/// … and no later than this, as is one that tells: it may be gone without a word.
const LOOKED_EVERY_MOST: Duration = Duration::from_secs(300);
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
    /// The same in the server's own words, through all lives: a list that cannot be had stays what it was.
    listed: Mutex<Inventory>,
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
    /// Whether that was only concluded from silence: then it is not believed another time.
    was_silent: bool,
    name: Option<String>,
    version: Option<String>,
    /// The last trouble, and when it was: it may be long over.
    last_error: Option<(String, jiff::Timestamp)>,
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
            listed: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES_HELD),
            lives: AtomicU64::new(0),
            seen: Mutex::default(),
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the server may be begun, where it may be there only once.
    async fn claim(&self, pulse: &Pulse) -> Result<Option<Box<dyn Claim>>, LifeError> {
        let waited = AtomicBool::new(false);
        let waits = |why: String| {
            waited.store(true, Ordering::Relaxed);
            pulse.waits(&why);
        };
        let claim = self.parts.ways.claim(&waits).await.map_err(|unclaimed| match unclaimed {
            Unclaimed::Held(why) => LifeError::Held(why),
            Unclaimed::Failed(why) => self.failed(LifeError::Failed(why)),
        })?;
        if waited.load(Ordering::Relaxed) {
            pulse.begins();
        }
        Ok(claim)
    }

    /// Comes to the server, finds out what it speaks, and asks for all that it offers.
    async fn begin(
        &self,
        deadline: Instant,
        begun: &OnceLock<Arc<dyn Speaker>>,
    ) -> Result<Arc<dyn Speaker>, LifeError> {
        let known = {
            let seen = self.seen();
            seen.kind.filter(|_| !seen.was_silent)
        };
        self.parts.ways.renew();
        let found = probe::probe(&*self.parts.ways, known, deadline).await;
        let found = found.map_err(|error| {
            // What worked before does not work now: the next life asks without prejudice.
            self.seen().kind = None;
            match error {
                ProbeError::Link(LinkError::Misconfigured(why)) => {
                    LifeError::Misconfigured(format!("the settings in its file cannot be used: {why}"))
                }
                error => LifeError::Failed(format!("the server cannot be spoken to: {error}")),
            }
        })?;
        let was_silent = matches!(found, Found::Silent(_));
        let (kind, info, speaker): (Kind, Raw, Arc<dyn Speaker>) = match found {
            Found::Modern { link, ids, discovered } => {
                let info = discovered.server_info.clone();
                let timeout = self.parts.start_timeout;
                (Kind::Modern, info, Modern::new(&self.parts.name, link, ids, discovered, timeout))
            }
            Found::Legacy(opened) | Found::Silent(opened) => {
                let info = opened.handshake.server_info.clone();
                (Kind::Legacy, info, (self.parts.sessions)(opened, Arc::clone(&self.parts.ways)))
            }
        };
        let info = Object::open(&info).unwrap_or_default();
        {
            let mut seen = self.seen();
            (seen.kind, seen.was_silent) = (Some(kind), was_silent);
            seen.name = info.text("name");
            seen.version = info.text("version");
        }
        // A life has one speaker.
        let _first = begun.set(Arc::clone(&speaker));
        let listed = timeout_at(deadline, self.list(&speaker, Kinds::ALL)).await;
        let why = match listed {
            Ok(Ok(inventory)) => {
                self.publish(inventory);
                return Ok(speaker);
            }
            Ok(Err(error)) => format!("the server does not say what it offers: {error}"),
            Err(_elapsed) => "the server did not say in time what it offers; raise start_timeout_seconds if it needs longer".to_owned(),
        };
        let _late = timeout(CLOSED_WITHIN, speaker.close()).await;
        Err(LifeError::Failed(why))
    }

    /// Asks for these lists; the others stay.
    fn list(
        &self,
        speaker: &Arc<dyn Speaker>,
        kinds: Kinds,
    ) -> BoxFuture<'static, Result<Inventory, LinkError>> {
        let before = self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Arc::clone(speaker).list(kinds, before)
    }

    /// Takes in what the server offers now, and tells what of it is new.
    fn publish(&self, inventory: Inventory) {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&inventory);
        let new = Arc::new(self.prefix.of_inventory(inventory));
        let old = self.inventory.swap(Arc::clone(&new));
        let told = [
            (
                // What else it says of itself is published with its tools.
                old.tools != new.tools
                    || old.instructions != new.instructions
                    || old.offers() != new.offers()
                    || old.ttl_ms != new.ttl_ms,
                Change::Tools,
            ),
            (old.prompts != new.prompts, Change::Prompts),
            (
                (&old.resources, &old.templates, old.subscribes)
                    != (&new.resources, &new.templates, new.subscribes),
                Change::Resources,
            ),
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
        let mut due = Due::default();
        let mut listed_at = Instant::now();
        let mut listing: Option<BoxFuture<'static, Result<Inventory, LinkError>>> = None;
        let mut look_at = listed_at + self.looked_every();
        due.look(speaker.amiss().map(|amiss| amiss.kinds));
        loop {
            let is_due = due.at.filter(|_| listing.is_none());
            tokio::select! {
                biased;
                () = pulse.stop().cancelled() => return Ok(()),
                end = &mut ended => return Err(match end {
                    Ok(()) => "the server ended".to_owned(),
                    Err(error) => error.to_string(),
                }),
                list = poll(&mut listing), if listing.is_some() => {
                    listing = None;
                    look_at = Instant::now() + self.looked_every();
                    due.look(self.take_in(speaker, list, pulse, due.asked));
                }
                Some(change) = told.recv() => match change {
                    Change::Updated(_) => self.tell(self.prefix.of_change(change)),
                    Change::Tools | Change::Prompts | Change::Resources => {
                        let at = (Instant::now() + SETTLED_AFTER).max(listed_at + LISTED_EVERY);
                        due.add(Kinds::default().and(&change), at);
                    }
                },
                () = sleep_until(look_at), if listing.is_none() && due.at.is_none() => {
                    due.add(Kinds::ALL, look_at);
                }
                () = sleep_until(is_due.unwrap_or_else(Instant::now)), if is_due.is_some() => {
                    listed_at = Instant::now();
                    listing = Some(self.list(speaker, due.take()));
                }
            }
        }
    }

    /// After what time the lists are asked for again though nobody said that they changed.
    fn looked_every(&self) -> Duration {
        let inventory = self.inventory.load();
        if inventory.declared.is_some_and(|declared| declared.announces) {
            return LOOKED_EVERY_MOST;
        }
        let holds = inventory.ttl_ms.map_or(LOOKED_EVERY, Duration::from_millis);
        holds.clamp(LOOKED_EVERY_LEAST, LOOKED_EVERY_MOST)
    }

    /// Takes in a listing that ended, and says how the server is now. Which lists are to be asked for again.
    fn take_in(
        &self,
        speaker: &Arc<dyn Speaker>,
        list: Result<Inventory, LinkError>,
        pulse: &Pulse,
        asked: Kinds,
    ) -> Option<Kinds> {
        match list {
            Ok(inventory) => {
                self.publish(inventory);
                say(speaker, pulse);
                speaker.amiss().map(|amiss| amiss.kinds)
            }
            Err(error) => {
                let why = format!("it did not list anew what it offers: {error}");
                self.note(&why);
                pulse.troubled(&why);
                Some(asked)
            }
        }
    }

    fn note(&self, error: &str) {
        log::warn!("plugin {}: {error}", self.parts.name);
        self.seen().last_error = Some((error.to_owned(), jiff::Timestamp::now()));
    }

    fn failed(&self, error: LifeError) -> LifeError {
        self.seen().last_error = Some((error.to_string(), jiff::Timestamp::now()));
        error
    }
}

/// Says that the server serves, and what of it could not be had.
fn say(speaker: &Arc<dyn Speaker>, pulse: &Pulse) {
    let unlisted = |amiss: Amiss| format!("not all that it offers could be listed: {}", amiss.why);
    let troubles: Vec<String> = speaker.trouble().into_iter().chain(speaker.amiss().map(unlisted)).collect();
    if troubles.is_empty() {
        pulse.ready();
    } else {
        pulse.troubled(&troubles.join("; "));
    }
}

/// Which lists are to be asked for, and when.
struct Due {
    kinds: Kinds,
    at: Option<Instant>,
    /// What is asked for now.
    asked: Kinds,
    /// Until lists that could not be had are asked for again.
    pause: Duration,
}

impl Default for Due {
    fn default() -> Self {
        Self { kinds: Kinds::default(), at: None, asked: Kinds::default(), pause: LISTED_AGAIN_AFTER }
    }
}

impl Due {
    fn add(&mut self, kinds: Kinds, at: Instant) {
        self.kinds = self.kinds.or(kinds);
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }

    fn take(&mut self) -> Kinds {
        self.at = None;
        self.asked = std::mem::take(&mut self.kinds);
        self.asked
    }

    /// Notes which lists could not be had; they are asked for again, ever later.
    fn look(&mut self, missing: Option<Kinds>) {
        let Some(missing) = missing else {
            self.pause = LISTED_AGAIN_AFTER;
            return;
        };
        self.add(missing, Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LISTED_AGAIN_AFTER_MOST);
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
            return Box::pin(std::future::ready(Err(PluginError::away(why))));
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

    fn hears_refusals(&self) -> bool {
        self.speaker.load().as_ref().is_some_and(|current| current.0.hears_refusals())
    }

    fn live(self: Arc<Self>, pulse: Pulse) -> BoxFuture<'static, Result<(), LifeError>> {
        Box::pin(async move {
            let claim = tokio::select! {
                biased;
                () = pulse.stop().cancelled() => return Ok(()),
                claim = self.claim(&pulse) => claim?,
            };
            self.lives.fetch_add(1, Ordering::Relaxed);
            let deadline = Instant::now() + self.parts.start_timeout;
            let opened = OnceLock::new();
            let begun = tokio::select! {
                biased;
                () = pulse.stop().cancelled() => {
                    // Its session was begun, though the server did not list yet what it offers.
                    if let Some(speaker) = opened.get() {
                        let _late = timeout(CLOSED_WITHIN, Arc::clone(speaker).close()).await;
                    }
                    return Ok(());
                }
                begun = timeout_at(deadline + CLOSED_WITHIN, self.begin(deadline, &opened)) => begun,
            };
            let begun = begun.unwrap_or_else(|_elapsed| {
                Err(LifeError::Failed("the server did not start in time".to_owned()))
            });
            let speaker = begun.map_err(|error| self.failed(error))?;
            drop(claim);
            let speaking = Speaking(&self);
            self.speaker.store(Some(Arc::new(Current(Arc::clone(&speaker)))));
            say(&speaker, &pulse);
            let end = self.attend(&speaker, &pulse).await;
            drop(speaking);
            let _late = timeout(CLOSED_WITHIN, speaker.close()).await;
            end.map_err(|why| self.failed(LifeError::Failed(why)))
        })
    }

    fn era(&self) -> Option<&'static str> {
        self.seen().kind.map(Kind::word)
    }

    fn waiting(&self) -> usize {
        self.speaker.load().as_ref().map_or(0, |current| current.0.waiting())
    }

    fn report(&self) -> Value {
        let speaker = self.speaker.load();
        let seen = self.seen();
        let revision = speaker.as_ref().map(|current| current.0.revision());
        json!({
            "era": seen.kind.map(Kind::word),
            "revision": revision,
            "server": {"name": seen.name, "version": seen.version},
            "lives": self.lives.load(Ordering::Relaxed),
            "lastError": seen.last_error.as_ref().map(|(error, _)| error),
            "lastErrorAt": seen.last_error.as_ref().map(|(_, at)| at.to_string()),
            "program": self.parts.ways.report(),
            "speaker": speaker.as_ref().map(|current| current.0.report()),
        })
    }
}
