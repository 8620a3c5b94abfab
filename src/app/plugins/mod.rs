//! The plugins of a house: seats and actors for those of the binary, and for those that files describe, which come and go
//! while it runs. Must not know HTTP, nor what any plugin does.

pub(super) mod begin;
pub mod check;
pub mod make;
pub(super) mod reload;
pub(super) mod servers;
mod teller;
pub(super) mod watch;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_rt::Arbiter;

use super::builder::Guest;
use super::{StartError, on};
use crate::actors::ask::ask;
use crate::actors::plugin::messages::Publish;
use crate::actors::plugin::{self, Member, PluginActor, Roll};
use crate::actors::session::Streams;
use crate::actors::supervision::Roster;
use crate::catalog::{Seat, SeatLimits, Shelf};
use crate::config::Config;
use crate::config::plugin::{Curation, PluginLimits};
use crate::plugins::Plugin;

/// How long a plugin of the binary may take to say what it offers at start.
const PUBLISH_WITHIN: Duration = Duration::from_secs(10);
/// How long the thread that a plugin shall live on may take to take it.
const SEAT_WITHIN: Duration = Duration::from_secs(10);
/// Threads that plugins live on, those of the binary apart.
const ARBITERS: usize = 2;

/// Where plugins are given their seats and actors.
pub(super) struct Nursery {
    /// The bulkhead of a plugin that has none of its own.
    limits: SeatLimits,
    roster: Arc<Roster>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) streams: Arc<Streams>,
    pub(super) roll: Arc<Roll>,
    /// The first is for the plugins of the binary.
    arbiters: [OnceLock<Arbiter>; 1 + ARBITERS],
    next: AtomicUsize,
}

/// A plugin to be given a seat.
pub(super) struct Newcomer {
    pub(super) name: String,
    pub(super) curation: Arc<Curation>,
    /// Its place among the plugins of the binary.
    pub(super) registered: Option<usize>,
    pub(super) plugin: Arc<dyn Plugin>,
    pub(super) limits: SeatLimits,
    pub(super) kind: &'static str,
    pub(super) origin: Option<PathBuf>,
    /// Whether what it offers may be published, or is kept back until it takes another's place.
    pub(super) shown: bool,
}

impl Nursery {
    pub(super) fn new(
        config: &Config,
        roster: &Arc<Roster>,
        shelf: &Arc<Shelf>,
        streams: &Arc<Streams>,
        roll: &Arc<Roll>,
    ) -> Self {
        Self {
            limits: SeatLimits {
                concurrency: config.plugins.concurrency,
                queue_max: config.plugins.queue_max,
                queue_timeout: None,
                blocking_threads: config.plugins.blocking_threads,
                lost_threads_max: config.plugins.lost_threads_max,
                timeout_seconds: config.server.timeout_seconds,
                breaker: None,
                start_timeout: None,
            },
            roster: Arc::clone(roster),
            shelf: Arc::clone(shelf),
            streams: Arc::clone(streams),
            roll: Arc::clone(roll),
            arbiters: Default::default(),
            next: AtomicUsize::new(0),
        }
    }

    /// The bulkhead of a plugin that a file describes.
    pub(super) fn limits_of(&self, own: &PluginLimits, start_timeout: Duration) -> SeatLimits {
        SeatLimits {
            concurrency: own.concurrency.unwrap_or(self.limits.concurrency),
            queue_max: own.queue_max.unwrap_or(self.limits.queue_max),
            queue_timeout: own.queue_timeout,
            timeout_seconds: own
                .timeout
                .map_or(self.limits.timeout_seconds, |timeout| timeout.as_secs().max(1)),
            breaker: Some(own.breaker),
            start_timeout: Some(start_timeout),
            ..self.limits
        }
    }

    /// Gives a plugin its seat and its actor; it does not live yet.
    pub(super) async fn seat(
        &self,
        newcomer: Newcomer,
        heir_of: Option<&Member>,
    ) -> Result<Arc<Member>, StartError> {
        let Newcomer { name, curation, registered, plugin, limits, kind, origin, shown } = newcomer;
        let seat = Seat::new(&name, curation, plugin, limits);
        let seat = Arc::new(match registered {
            Some(number) => seat.registered(number),
            None => seat,
        });
        seat.show(shown);
        let watchers = heir_of.map(|old| old.watchers.clone()).unwrap_or_default();
        let (shelf, streams) = (Arc::clone(&self.shelf), Arc::clone(&self.streams));
        let actor = PluginActor::new(Arc::clone(&seat), shelf, streams, watchers.clone());
        let roster = Arc::clone(&self.roster);
        let number = match kind {
            BUILTIN => 0,
            _ => 1 + self.next.fetch_add(1, Ordering::Relaxed) % ARBITERS,
        };
        let arbiter =
            self.arbiters.get(number).ok_or_else(|| StartError::Part("no thread for plugins".to_owned()))?;
        let arbiter = arbiter.get_or_init(Arbiter::new);
        let part = format!("plugin-{name}");
        let started = on(arbiter, move || roster.start(part, "plugin", plugin::TERMS, |_| actor).0);
        let address = tokio::time::timeout(SEAT_WITHIN, started).await.map_err(|_elapsed| {
            StartError::Part(format!("its thread did not take it within {} s", SEAT_WITHIN.as_secs()))
        })??;
        Ok(Arc::new(Member { seat, address, watchers, kind, origin }))
    }

    /// Seats the plugins of the binary and has each publish what it offers. One that does not is quarantined.
    pub(super) async fn seat_guests(&self, guests: Vec<Guest>) -> Result<(), StartError> {
        for (number, Guest { name, curation, plugin, timeout_seconds }) in guests.into_iter().enumerate() {
            let timeout_seconds = timeout_seconds.unwrap_or(self.limits.timeout_seconds);
            let limits = SeatLimits { timeout_seconds, ..self.limits };
            let newcomer = Newcomer {
                name,
                curation,
                registered: Some(number),
                plugin,
                limits,
                kind: BUILTIN,
                origin: None,
                shown: true,
            };
            let member = self.seat(newcomer, None).await?;
            if let Err(error) = ask(&member.address, Publish, PUBLISH_WITHIN).await {
                let name = &*member.seat.name;
                log::error!(plugin = name; "plugin {name} does not say what it offers and is left out: {error}");
                self.shelf.quarantine(&member.seat);
            }
            self.roll.change(vec![member], &[]);
        }
        Ok(())
    }
}

/// The kind of a plugin of the binary.
pub(super) const BUILTIN: &str = "builtin";
