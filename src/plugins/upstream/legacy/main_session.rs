//! The session of the plugin's life: for lists, subscriptions and what the server tells of its own accord; in shared
//! isolation for all calls, too. When the server forgets it, it is made again, and what was subscribed is again.
//!
//! Must not know sessions of single clients, nor parked calls.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

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

/// How long the server may take to take one subscription up again.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(10);

/// The session, and what it takes to make it again.
pub struct MainSession {
    make: Maker,
    shared: bool,
    tally: Arc<Tally>,
    changes: Arc<Changes>,
    session: Mutex<Arc<Session>>,
    /// Held while it is made again, so that this happens once.
    making: tokio::sync::Mutex<()>,
    subscribed: Mutex<BTreeSet<String>>,
    lister: Lister,
}

impl MainSession {
    /// Over a link whose handshake was made.
    pub fn new(opened: Opened, shared: bool, tally: Arc<Tally>, make: Maker) -> Self {
        let changes = Arc::new(Changes::default());
        let session = begin(opened, shared, &tally, &changes);
        Self {
            make,
            shared,
            tally,
            changes,
            session: Mutex::new(session),
            making: tokio::sync::Mutex::default(),
            subscribed: Mutex::default(),
            lister: Lister::default(),
        }
    }

    /// The session as it is.
    pub fn now(&self) -> Arc<Session> {
        Arc::clone(&self.session.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The session, made again if the server forgot it.
    ///
    /// # Errors
    /// When it broke, which ends the plugin's life, or cannot be made again.
    pub async fn well(&self) -> Result<Arc<Session>, LinkError> {
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
        &self,
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
        self.lister.list(source, kinds, before, deadline).await.inspect_err(|error| session.learn(error))
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
        &self,
        plugin: &str,
        request: &Request,
        deadline: Instant,
    ) -> Result<Outcome, PluginError> {
        let failed = |error: LinkError| failures::not_carried(plugin, &error);
        let Request::Subscribe { uri, begins } = request else {
            return Err(PluginError::Failed("that is no subscription".to_owned()));
        };
        let (uri, begins) = (uri.as_str(), *begins);
        let method = if begins { "resources/subscribe" } else { "resources/unsubscribe" };
        {
            let mut subscribed = self.subscribed.lock().unwrap_or_else(PoisonError::into_inner);
            if begins {
                subscribed.insert(uri.to_owned());
            } else {
                subscribed.remove(uri);
            }
        }
        let json = serde_json::Value::from(uri).to_string();
        let mut session = self.well().await.map_err(failed)?;
        let mut answer = session.request(method, &[("uri", &json)], deadline).await;
        if matches!(answer, Err(ProbeError::Link(LinkError::SessionLost))) {
            // Renewing took up again what is subscribed, but this answer is what the caller wants to know.
            session = self.well().await.map_err(failed)?;
            answer = session.request(method, &[("uri", &json)], deadline).await;
        }
        answer.map(|_| Outcome::Complete(Raw::empty_object())).map_err(|error| match error {
            ProbeError::Link(error) => failed(error),
            ProbeError::Refused(error) => failures::refused(plugin, request, &error),
            error => failures::nonsense(plugin, &error.to_string()),
        })
    }

    /// Passes on what the server tells, until the session breaks.
    ///
    /// # Errors
    /// How it broke.
    pub async fn attend(&self, to: &mpsc::Sender<Change>) -> Result<(), LinkError> {
        loop {
            let session = self.now();
            let error = tokio::select! {
                () = self.changes.pass_on(to) => return Ok(()),
                error = session.ended() => error,
            };
            match error {
                LinkError::SessionLost => drop(self.renew(&session).await?),
                error => return Err(error),
            }
        }
    }

    /// Ends it.
    pub async fn close(&self) {
        self.now().close().await;
    }

    /// Makes it again, unless somebody else did.
    async fn renew(&self, lost: &Arc<Session>) -> Result<Arc<Session>, LinkError> {
        let _making = self.making.lock().await;
        let now = self.now();
        if !Arc::ptr_eq(&now, lost) {
            return Ok(now);
        }
        let opened = (self.make)(ClientCapabilities::default()).await?;
        let session = begin(opened, self.shared, &self.tally, &self.changes);
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&session);
        lost.retire();
        let subscribed: Vec<String> =
            self.subscribed.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        for uri in &subscribed {
            let json = serde_json::Value::from(uri.as_str()).to_string();
            let deadline = Instant::now() + SUBSCRIBE_WITHIN;
            if let Err(error) = session.request("resources/subscribe", &[("uri", &json)], deadline).await {
                log::warn!("a subscription was not taken up again in a new session: {error}");
            }
        }
        // Whatever happened between the two sessions was not heard.
        self.changes.all(subscribed);
        Ok(session)
    }
}

fn begin(opened: Opened, shared: bool, tally: &Arc<Tally>, changes: &Arc<Changes>) -> Arc<Session> {
    let Opened { link, handshake, ids } = opened;
    let (tally, changes) = (Arc::clone(tally), Some(Arc::clone(changes)));
    Session::begin(Parts { name: "main".into(), link, handshake, ids, shared, changes, tally })
}
