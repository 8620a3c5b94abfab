//! The session of the plugin's life: for lists, subscriptions and what the server tells of its own accord; in shared
//! isolation for all calls, too. When the server forgets it, it is made again, and what was subscribed is again.
//!
//! Must not know sessions of single clients, nor parked calls.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Maker;
use super::changes::Changes;
use super::session::{Parts, Session, Tally};
use crate::plugins::upstream::exchange::ProbeError;
use crate::plugins::upstream::failures;
use crate::plugins::upstream::inventory::{Kinds, Lister, Source};
use crate::plugins::upstream::link::LinkError;
use crate::plugins::upstream::ways::Opened;
use crate::plugins::{Change, Inventory, Outcome, PluginError, Request};
use crate::protocol::{ClientCapabilities, Raw};

/// How long the server may take to take all subscriptions up again, or to hear that one ends.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(10);
/// So many subscriptions are on their way at once when they are taken up again.
const SUBSCRIBING_MAX: usize = 8;
/// Resources that are watched at once.
const WATCHED_MAX: usize = 10_000;
/// So many turns there are for what is told of watched resources; those of one resource are always the same one.
const TURNS: usize = 16;
/// A session that lasts shorter than this was forgotten at once: the next one is made after a pause, which grows.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(60);
/// The first such pause.
const RENEWED_AFTER: Duration = Duration::from_secs(1);
/// So many sessions in a row may be forgotten at once, before the server is taken for broken.
const FORGOTTEN_MAX: u32 = 6;
/// How long the server may take to say that it is well, when that is doubted.
const WELL_WITHIN: Duration = Duration::from_secs(5);
/// Between two such questions.
const DOUBT_PAUSE: Duration = Duration::from_secs(5);
/// So often in a row nobody may be reached who could be asked, before the server is taken for gone.
const UNREACHED_MAX: u32 = 6;

/// The session, and what it takes to make it again.
pub struct MainSession {
    make: Maker,
    shared: bool,
    tally: Arc<Tally>,
    changes: Arc<Changes>,
    session: Mutex<Arc<Session>>,
    /// Held while it is made again, so that this happens once.
    making: tokio::sync::Mutex<()>,
    /// What the server took note of, or is asked to.
    watched: Mutex<BTreeSet<String>>,
    /// Held while the server is told of a resource, so that a later word cannot overtake an earlier one.
    turns: [tokio::sync::Mutex<()>; TURNS],
    /// Told when calls look as if the server had been replaced, which a session without a stream would never hear.
    doubt: Notify,
    closed: CancellationToken,
    lister: Lister,
}

/// A subscription that was not confirmed: whoever drops it has given it up, and it is not kept, nor made again.
struct Unconfirmed<'a> {
    main: &'a Arc<MainSession>,
    uri: &'a str,
    /// Whether the server may have taken note of it.
    may_stand: bool,
    confirmed: bool,
}

impl Drop for Unconfirmed<'_> {
    fn drop(&mut self) {
        if self.confirmed {
            return;
        }
        self.main.watched().remove(self.uri);
        if self.may_stand {
            let (main, uri) = (Arc::clone(self.main), self.uri.to_owned());
            self.main.now().runtime().spawn(async move {
                if let Err(error) = main.settle(&uri, Instant::now() + SUBSCRIBE_WITHIN).await {
                    log::debug!("a server was not told that a subscription is given up: {error}");
                }
            });
        }
    }
}

impl MainSession {
    /// Over a link whose handshake was made.
    pub fn new(opened: Opened, shared: bool, tally: Arc<Tally>, make: Maker) -> Arc<Self> {
        let changes = Arc::new(Changes::default());
        let session = begin(opened, shared, &tally, &changes);
        Arc::new(Self {
            make,
            shared,
            tally,
            changes,
            session: Mutex::new(session),
            making: tokio::sync::Mutex::default(),
            watched: Mutex::default(),
            turns: Default::default(),
            doubt: Notify::new(),
            closed: CancellationToken::new(),
            lister: Lister::default(),
        })
    }

    /// Where goes what the server tells of its own accord.
    pub fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// The session as it is.
    pub fn now(&self) -> Arc<Session> {
        Arc::clone(&self.session.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The session, made again if the server forgot it.
    ///
    /// # Errors
    /// When it broke, which ends the plugin's life, or cannot be made again.
    pub async fn well(self: &Arc<Self>) -> Result<Arc<Session>, LinkError> {
        let session = self.now();
        if !session.is_over() {
            return Ok(session);
        }
        match session.ended().await {
            LinkError::SessionLost => self.renew(&session).await,
            error => Err(LinkError::Unreachable(error.to_string())),
        }
    }

    /// What the server offers of these kinds, and the rest as it was `before`.
    ///
    /// # Errors
    /// When the link does not carry.
    pub async fn list(
        self: &Arc<Self>,
        plugin: &str,
        kinds: Kinds,
        before: Inventory,
        limit: Duration,
    ) -> Result<Inventory, LinkError> {
        let deadline = Instant::now() + limit;
        let session = self.well().await?;
        match self.list_in(&session, plugin, kinds, before.clone(), deadline).await {
            Err(LinkError::SessionLost) => {
                self.list_in(&*self.well().await?, plugin, kinds, before, deadline).await
            }
            listed => listed,
        }
    }

    async fn list_in(
        &self,
        session: &Session,
        plugin: &str,
        kinds: Kinds,
        before: Inventory,
        deadline: Instant,
    ) -> Result<Inventory, LinkError> {
        let handshake = session.handshake();
        let source = Source {
            plugin,
            link: &**session.link(),
            ids: session.ids(),
            legacy: Some(handshake.header()),
            capabilities: &handshake.capabilities,
            instructions: handshake.instructions.as_deref(),
        };
        self.lister.list(source, kinds, before, deadline).await.inspect_err(|error| {
            session.learn(error);
            self.learn(error);
        })
    }

    /// What was amiss in the lists.
    pub fn lister(&self) -> &Lister {
        &self.lister
    }

    /// Begins or ceases to watch a resource.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses.
    pub async fn subscribe(
        self: &Arc<Self>,
        plugin: &str,
        request: &Request,
        deadline: Instant,
    ) -> Result<Outcome, PluginError> {
        let Request::Subscribe { uri, begins } = request else {
            return Err(PluginError::Failed("that is no subscription".to_owned()));
        };
        let mut unconfirmed = None;
        if *begins {
            if !self.watch(uri) {
                return Err(PluginError::Failed(format!(
                    "{WATCHED_MAX} resources of the server behind plugin {plugin} are watched already: end some \
                     subscriptions"
                )));
            }
            unconfirmed = Some(Unconfirmed { main: self, uri, may_stand: true, confirmed: false });
        } else {
            self.watched().remove(uri);
        }
        let answer = self.settle(uri, deadline).await;
        if let Some(unconfirmed) = &mut unconfirmed {
            unconfirmed.confirmed = answer.is_ok();
            unconfirmed.may_stand = !matches!(answer, Err(ProbeError::Refused(_)));
        }
        answer.map(|()| Outcome::Complete(Raw::empty_object())).map_err(|error| match error {
            ProbeError::Link(error) => failures::not_carried(plugin, &error),
            ProbeError::Refused(error) => failures::refused(plugin, request, &error),
            error => failures::nonsense(plugin, &error.to_string()),
        })
    }

    fn watched(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a resource in among those that are watched; whether there was room for it.
    fn watch(&self, uri: &str) -> bool {
        let mut watched = self.watched();
        let has_room = watched.len() < WATCHED_MAX || watched.contains(uri);
        if has_room {
            watched.insert(uri.to_owned());
        }
        has_room
    }

    /// Tells the server whether this resource is watched, as it is when its turn comes.
    async fn settle(self: &Arc<Self>, uri: &str, deadline: Instant) -> Result<(), ProbeError> {
        let _turn = self.turn(uri, deadline).await?;
        let session = self.well().await?;
        match self.settle_in(&session, uri, deadline).await {
            // Making it anew takes up again what is watched, but this answer is what the caller wants to know.
            Err(ProbeError::Link(LinkError::SessionLost)) => {
                self.settle_in(&*self.well().await?, uri, deadline).await
            }
            settled => settled,
        }
    }

    async fn settle_in(&self, session: &Session, uri: &str, deadline: Instant) -> Result<(), ProbeError> {
        let begins = self.watched().contains(uri);
        let method = if begins { "resources/subscribe" } else { "resources/unsubscribe" };
        let uri = serde_json::Value::from(uri).to_string();
        let answer = session.request(method, &[("uri", &uri)], deadline).await;
        if let Err(ProbeError::Link(error)) = &answer {
            self.learn(error);
        }
        answer.map(drop)
    }

    async fn turn(
        &self,
        uri: &str,
        deadline: Instant,
    ) -> Result<Option<tokio::sync::MutexGuard<'_, ()>>, ProbeError> {
        let sum = uri.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        let Some(turn) = self.turns.get(sum % TURNS) else { return Ok(None) };
        let late = |_elapsed| ProbeError::Late("an earlier subscription");
        timeout_at(deadline, turn.lock()).await.map(Some).map_err(late)
    }

    /// Passes on what the server tells, until the session breaks.
    ///
    /// # Errors
    /// How it broke.
    pub async fn attend(self: &Arc<Self>, to: &mpsc::Sender<Change>) -> Result<(), LinkError> {
        tokio::select! {
            () = self.changes.pass_on(to) => Ok(()),
            broke = self.keep_well() => broke,
        }
    }

    /// Makes the session again whenever the server forgot it, until it breaks.
    async fn keep_well(self: &Arc<Self>) -> Result<(), LinkError> {
        let mut forgotten = 0;
        let mut asked = Instant::now();
        loop {
            let session = self.now();
            let error = tokio::select! {
                error = session.ended() => error,
                () = self.missed(&session) => {
                    let watched = self.watched().clone();
                    self.changes.all(watched);
                    continue;
                }
                () = self.doubt.notified() => {
                    tokio::select! {
                        _over = session.ended() => {}
                        cleared = self.clear_up(&session, asked) => cleared?,
                    }
                    asked = Instant::now() + DOUBT_PAUSE;
                    continue;
                }
            };
            if !matches!(error, LinkError::SessionLost) {
                return Err(error);
            }
            forgotten = if session.age() < FORGOTTEN_WITHIN { forgotten + 1 } else { 0 };
            if forgotten > FORGOTTEN_MAX {
                let why = format!("it forgot {forgotten} sessions in a row, each soon after it began");
                return Err(LinkError::Broken(why));
            }
            if let Some(doublings) = forgotten.checked_sub(1) {
                sleep(RENEWED_AFTER * (1 << doublings)).await;
            }
            self.renew(&session).await?;
        }
    }

    /// Returns when something that the server told is not known.
    async fn missed(&self, session: &Session) {
        tokio::select! {
            () = session.link().missed() => {}
            () = self.changes.missed() => {}
        }
    }

    /// Draws conclusions from what a call ran into, in whichever session: where the server lost one or is not reached, it
    /// may have been begun anew, and be another.
    pub fn learn(&self, error: &LinkError) {
        if matches!(error, LinkError::SessionLost | LinkError::Unreachable(_)) {
            self.doubt();
        }
    }

    /// Has the server asked whether it is still what it was.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Asks the server, not before `from`, whether it is well. One that answers anything else is made a session with anew,
    /// or not, should it be of another era now. One that is not reached is asked again, since it may come back as another.
    async fn clear_up(self: &Arc<Self>, session: &Arc<Session>, from: Instant) -> Result<(), LinkError> {
        sleep_until(from).await;
        let mut unreached = 0_u32;
        loop {
            match session.request("ping", &[], Instant::now() + WELL_WITHIN).await {
                Ok(_) | Err(ProbeError::Late(_) | ProbeError::Link(LinkError::SessionLost)) => return Ok(()),
                Err(ProbeError::Link(error @ LinkError::Unreachable(_))) => {
                    unreached += 1;
                    if unreached >= UNREACHED_MAX {
                        return Err(error);
                    }
                }
                Err(ProbeError::Link(
                    LinkError::Broken(_) | LinkError::Status { status: 429 | 500..=599, .. },
                )) => unreached = 0,
                Err(error) => {
                    log::debug!("a server does not answer as it did: {error}");
                    return self.renew(session).await.map(drop);
                }
            }
            sleep(DOUBT_PAUSE).await;
        }
    }

    /// Ends it. None is made any more.
    pub async fn close(&self) {
        self.closed.cancel();
        self.now().close().await;
    }

    /// Makes it again, unless somebody else did: in a task of its own, since whoever waits for it may leave.
    async fn renew(self: &Arc<Self>, lost: &Arc<Session>) -> Result<Arc<Session>, LinkError> {
        let (main, lost) = (Arc::clone(self), Arc::clone(lost));
        let making = self.now().runtime().spawn(async move { main.make_again(&lost).await });
        making.await.unwrap_or_else(|_gone| Err(LinkError::Unreachable("the plugin stops".to_owned())))
    }

    async fn make_again(self: &Arc<Self>, lost: &Arc<Session>) -> Result<Arc<Session>, LinkError> {
        let _making = self.making.lock().await;
        let now = self.now();
        if !Arc::ptr_eq(&now, lost) {
            return Ok(now);
        }
        let opened = (self.make)(ClientCapabilities::default()).await?;
        let session = begin(opened, self.shared, &self.tally, &self.changes);
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&session);
        lost.retire();
        if self.closed.is_cancelled() {
            session.retire();
        } else {
            let (main, session) = (Arc::clone(self), Arc::clone(&session));
            session.runtime().clone().spawn(async move { main.take_up(&session).await });
        }
        Ok(session)
    }

    /// Subscribes in a new session to all that is watched, and tells as changed what was not heard between the two.
    async fn take_up(&self, session: &Session) {
        let until = Instant::now() + SUBSCRIBE_WITHIN;
        let watched: Vec<String> = self.watched().iter().cloned().collect();
        let taking_up =
            futures_util::stream::iter(&watched).for_each_concurrent(SUBSCRIBING_MAX, |uri| async {
                let taken_up = async {
                    let _turn = self.turn(uri, until).await?;
                    // Whoever ended it meanwhile tells the server so.
                    if self.watched().contains(uri) {
                        self.settle_in(session, uri, until).await
                    } else {
                        Ok(())
                    }
                };
                if let Err(error) = taken_up.await {
                    log::warn!("a subscription was not taken up again in a new session: {error}");
                }
            });
        taking_up.await;
        self.changes.all(watched);
    }
}

fn begin(opened: Opened, shared: bool, tally: &Arc<Tally>, changes: &Arc<Changes>) -> Arc<Session> {
    let Opened { link, handshake, ids } = opened;
    let (tally, changes) = (Arc::clone(tally), Arc::clone(changes));
    changes.note_deaf(false);
    Session::begin(Parts { name: "main".into(), link, handshake, ids, shared, is_main: true, changes, tally })
}
