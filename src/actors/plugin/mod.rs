//! PluginActor: one per plugin. It publishes what the plugin offers, hears of changes, and counts who watches what.
//!
//! It owns the plugin's life and no call: its panic touches none. Must not know HTTP or the protocol's bytes.

pub mod messages;
mod watching;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor, ActorFutureExt as _, AsyncContext, Context, Handler, ResponseFuture, Supervised};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::session::{News, Streams};
use super::supervision::{Crash, Ping, Terms};
use crate::catalog::{Seat, Shelf};
use crate::error::{ErrorCode, Fault};
use crate::plugins::{CallerKey, Change, Context as CallContext, ContextParts, PluginError, Request};
use crate::protocol::{ClientCapabilities, Trace};
use messages::{Publish, Watch};
pub use watching::Watching;

/// A plugin's actor may be given up; the plugin is then quarantined and the process lives on.
pub const TERMS: Terms = Terms { mailbox: 1024, may_end: true, vital: false };

/// How long a plugin may take to begin or cease watching a resource.
const WATCH_WITHIN: Duration = Duration::from_secs(5);

/// One plugin's life.
pub struct PluginActor {
    seat: Arc<Seat>,
    shelf: Arc<Shelf>,
    streams: Arc<Streams>,
    /// How many streams watch each resource; kept through restarts, as the plugin's own watches are.
    watchers: Arc<Mutex<HashMap<Arc<str>, usize>>>,
    published: bool,
}

impl PluginActor {
    /// The actor of the plugin on `seat`.
    pub fn new(seat: Arc<Seat>, shelf: Arc<Shelf>, streams: Arc<Streams>) -> Self {
        Self { seat, shelf, streams, watchers: Arc::default(), published: false }
    }

    fn publish(&mut self) {
        let changed = self.shelf.publish(&self.seat, self.seat.plugin.inventory());
        self.streams.tell_changes(&changed);
        self.published = true;
    }

    /// Waits for the next change, takes it in, and waits again.
    fn listen(changes: Receiver<Change>, ctx: &mut Context<Self>) {
        let next = async move {
            let mut changes = changes;
            let change = changes.recv().await;
            (change, changes)
        };
        ctx.spawn(actix::fut::wrap_future::<_, Self>(next).map(|(change, changes), actor, ctx| {
            match change {
                Ok(Change::Updated(uri)) => actor.streams.tell(&News::Updated(uri.into())),
                Ok(Change::Tools | Change::Prompts | Change::Resources) => actor.publish(),
                Err(RecvError::Lagged(_)) => actor.resynchronise(),
                Err(RecvError::Closed) => return,
            }
            Self::listen(changes, ctx);
        }));
    }

    /// Changes were missed: publishes anew and tells all that is watched.
    fn resynchronise(&mut self) {
        self.publish();
        let watched: Vec<Arc<str>> =
            self.watchers.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        for uri in watched {
            self.streams.tell(&News::Updated(uri));
        }
    }

    /// Counts a watch; whether the plugin must be told of it.
    fn count(&self, watch: &Watch) -> bool {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if !watch.begins && !watchers.contains_key(&watch.uri) {
            return false;
        }
        let count = watchers.entry(Arc::clone(&watch.uri)).or_insert(0);
        *count = if watch.begins { *count + 1 } else { count.saturating_sub(1) };
        let tell = *count == usize::from(watch.begins);
        if *count == 0 {
            watchers.remove(&watch.uri);
        }
        tell
    }
}

impl Actor for PluginActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        Self::listen(self.seat.plugin.changes(), ctx);
        if self.published {
            self.resynchronise();
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.streams.tell_changes(&self.shelf.quarantine(&self.seat));
    }
}

impl Supervised for PluginActor {}

// === handlers, in the order of messages.rs ===

impl Handler<Publish> for PluginActor {
    type Result = Result<(), Infallible>;
    fn handle(&mut self, _: Publish, _: &mut Self::Context) -> Self::Result {
        self.publish();
        Ok(())
    }
}

impl Handler<Watch> for PluginActor {
    type Result = ResponseFuture<Result<(), Fault>>;
    fn handle(&mut self, watch: Watch, _: &mut Self::Context) -> Self::Result {
        if !self.count(&watch) {
            return Box::pin(std::future::ready(Ok(())));
        }
        let (seat, watchers) = (Arc::clone(&self.seat), Arc::clone(&self.watchers));
        Box::pin(async move {
            let told = tell_plugin(&seat, &watch).await;
            if told.is_err() && watch.begins {
                watchers.lock().unwrap_or_else(PoisonError::into_inner).remove(&watch.uri);
            }
            told
        })
    }
}

impl Handler<Ping> for PluginActor {
    type Result = ();
    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl Handler<Crash> for PluginActor {
    type Result = ();
    fn handle(&mut self, crash: Crash, _: &mut Self::Context) {
        crash.now();
    }
}

async fn tell_plugin(seat: &Seat, watch: &Watch) -> Result<(), Fault> {
    let deadline = Instant::now() + WATCH_WITHIN;
    let context = CallContext::new(ContextParts {
        deadline,
        cancel: CancellationToken::new(),
        notices: None,
        wants_progress: false,
        log_level: None,
        client: ClientCapabilities::default(),
        caller: CallerKey(0),
        conversation: None,
        operator: false,
        trace: Trace::default(),
        blocking: Arc::clone(&seat.blocking),
    });
    let request = Request::Subscribe { uri: watch.uri.to_string(), begins: watch.begins };
    match tokio::time::timeout_at(deadline, Arc::clone(&seat.plugin).handle(request, context)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(PluginError::Unknown(_))) => {
            Err(Fault::invalid_params("there is no such resource", "list the resources"))
        }
        Ok(Err(error)) => Err(Fault::internal(error.to_string())),
        Err(_) => {
            Err(Fault::new(ErrorCode::DeadlineExceeded, "the plugin did not begin to watch in time", "retry"))
        }
    }
}
