//! The plugins of a house: seats and actors for those of the binary, and for those that files describe, which come and go
//! while it runs. Must not know HTTP, nor what any plugin does.

pub(super) mod begin;
pub mod builtins;
pub mod check;
mod leaving;
pub mod make;
pub(super) mod reload;
pub(super) mod servers;
mod teller;
mod threads;
mod turns;
pub(super) mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use super::builder::Guest;
use crate::actors::ask::ask;
use crate::actors::plugin::messages::{Publish, Reseat};
use crate::actors::plugin::{self, Member, PluginActor, Roll};
use crate::actors::session::Streams;
use crate::actors::supervision::Roster;
use crate::cache::Cache;
use crate::catalog::{PluginState, Seat, SeatLimits, Shelf};
use crate::config::Config;
use crate::config::plugin::{Curation, PluginLimits};
use crate::plugins::Plugin;
use builtins::{Builtins, Own};
use threads::Threads;

/// How long a plugin of the binary may take to say what it offers at start.
const PUBLISH_WITHIN: Duration = Duration::from_secs(10);

/// Where plugins are given their seats and actors.
pub(super) struct Nursery {
    /// The bulkhead of a plugin that has none of its own.
    limits: SeatLimits,
    roster: Arc<Roster>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) streams: Arc<Streams>,
    pub(super) roll: Arc<Roll>,
    pub(super) cache: Option<Arc<Cache>>,
    threads: Threads,
    /// Where the files are.
    folder: PathBuf,
    /// How long calls may take to end where they are waited for.
    drain: Duration,
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
    /// What it is made of, as a text that is the same wherever the same plugin is.
    pub(super) definition: String,
    /// Whether what it offers may be published, or is kept back until it takes another's place.
    pub(super) shown: bool,
    /// Whether two processes of it must never run at once.
    pub(super) exclusive: bool,
}

impl Nursery {
    pub(super) fn new(
        config: &Config,
        roster: &Arc<Roster>,
        shelf: &Arc<Shelf>,
        streams: &Arc<Streams>,
        roll: &Arc<Roll>,
        cache: Option<&Arc<Cache>>,
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
                own: PluginLimits::default(),
            },
            roster: Arc::clone(roster),
            shelf: Arc::clone(shelf),
            streams: Arc::clone(streams),
            roll: Arc::clone(roll),
            cache: cache.cloned(),
            threads: Threads::default(),
            folder: folder_of(config),
            drain: Duration::from_secs(config.server.drain_seconds),
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
            own: *own,
            ..self.limits
        }
    }

    /// Has the plugin of a member sit on another seat, which is not shown yet; its life goes on.
    pub(super) async fn reseat(
        &self,
        old: &Member,
        seat: Seat,
        origin: Option<PathBuf>,
        within: Duration,
    ) -> Result<Arc<Member>, String> {
        seat.show(false);
        let seat = Arc::new(seat);
        if let Err(error) = ask(&old.address, Reseat(Arc::clone(&seat)), within).await {
            // It may yet hear of the new seat.
            old.address.do_send(Reseat(Arc::clone(&old.seat)));
            return Err(format!("it goes on as before, since nothing is heard of it: {error}"));
        }
        Ok(Arc::new(Member {
            seat,
            address: old.address.clone(),
            part: Arc::clone(&old.part),
            watchers: old.watchers.clone(),
            kind: old.kind,
            origin,
            exclusive: old.exclusive,
        }))
    }

    /// Gives a plugin its seat and its actor; it does not live yet.
    pub(super) async fn seat(
        &self,
        newcomer: Newcomer,
        heir_of: Option<&Member>,
    ) -> Result<Arc<Member>, StartError> {
        let Newcomer {
            name,
            curation,
            registered,
            plugin,
            limits,
            kind,
            origin,
            definition,
            shown,
            exclusive,
        } = newcomer;
        let mut seat = Seat::new(&name, curation, plugin, limits);
        seat.definition = definition.into();
        let seat = Arc::new(match registered {
            Some(number) => seat.registered(number),
            None => seat,
        });
        seat.show(shown);
        let watchers = heir_of.map(|old| old.watchers.clone()).unwrap_or_default();
        let number = if kind == BUILTIN { Threads::FIRST } else { self.threads.next() };
        let make = || {
            let (shelf, streams) = (Arc::clone(&self.shelf), Arc::clone(&self.streams));
            let actor =
                PluginActor::new(Arc::clone(&seat), shelf, streams, self.cache.clone(), watchers.clone());
            let (roster, part) = (Arc::clone(&self.roster), format!("plugin-{name}"));
            move || roster.start(part, plugin::KIND, plugin::TERMS, |_| actor)
        };
        let (address, part) = self.threads.make(number, make).await?;
        Ok(Arc::new(Member { seat, address, part, watchers, kind, origin, exclusive }))
    }

    /// Seats the plugins of the binary and has each publish what it offers. One that does not is quarantined, and so is one of whose
    /// file it cannot be told what it denies.
    pub(super) async fn seat_guests(&self, guests: Vec<Guest>) -> Result<Builtins, StartError> {
        let mut builtins = Builtins::default();
        for (number, guest) in guests.into_iter().enumerate() {
            builtins.note(&guest);
            let Guest { name, curation, plugin, timeout_seconds, told } = guest;
            let own = Own { curation, timeout_seconds };
            let tuning = told.as_ref().and_then(|told| told.as_deref().ok());
            let newcomer = Newcomer {
                curation: own.curation_with(tuning),
                registered: Some(number),
                plugin,
                limits: own.limits(self.limits, tuning),
                kind: BUILTIN,
                origin: builtins::origin(&self.folder, &name, &told),
                definition: builtins::definition(&name, tuning),
                shown: true,
                exclusive: false,
                name,
            };
            let member = self.seat(newcomer, None).await?;
            if let Some(Err(why)) = &told {
                let why =
                    format!("its file is not as it should be: {why}; mend it, or remove it, and reload");
                member.seat.turn(PluginState::Quarantined, Some(why), None);
                self.shelf.quarantine(&member.seat);
            } else if let Err(error) = ask(&member.address, Publish, PUBLISH_WITHIN).await {
                let name = &*member.seat.name;
                log::error!(plugin = name; "plugin {name} does not say what it offers and is left out: {error}");
                self.shelf.quarantine(&member.seat);
            }
            self.roll.change(vec![member], &[]);
        }
        Ok(builtins)
    }
}

/// Where plugins' files are.
pub(super) fn folder_of(config: &Config) -> PathBuf {
    config.server.data_dir.join("plugins")
}

/// The kind of a plugin of the binary.
pub(super) const BUILTIN: &str = "builtin";
