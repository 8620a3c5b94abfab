//! PluginActor: one per plugin. It publishes what the plugin offers, hears of changes, and counts who watches what.
//!
//! It owns the plugin's life and no call: its panic touches none. Must not know HTTP or the protocol's bytes.

mod backoff;
mod desk;
mod keeping;
pub mod messages;
pub mod reload;
pub mod roll;
mod watchers;
mod watching;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext, Context, Handler, ResponseActFuture,
    ResponseFuture, Supervised, WrapFuture as _,
};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::session::Streams;
use super::supervision::{Crash, Ping, Terms};
use crate::cache::Cache;
use crate::catalog::{Seat, Shelf};
use crate::error::{ErrorCode, Fault};
use crate::plugins::{CallerKey, Change, Context as CallContext, ContextParts, PluginError, Request};
use crate::protocol::{ClientCapabilities, Trace};
use desk::Desk;
pub use keeping::END_WITHIN;
use keeping::{Keeper, renew_watches};
use messages::{Publish, Reseat, Stop, Watch};
pub use roll::{Member, Roll};
use watchers::Turn;
pub use watchers::Watchers;
pub use watching::Watching;

/// What its parts are of.
pub const KIND: &str = "plugin";

/// A plugin's actor may be given up; the plugin is then quarantined and the process lives on.
pub const TERMS: Terms = Terms { mailbox: 1024, may_end: true, vital: false };

/// How long a plugin may take to begin or cease watching a resource.
const WATCH_WITHIN: Duration = Duration::from_secs(5);

/// One plugin's life.
pub struct PluginActor {
    desk: Arc<Desk>,
    /// None before the first life, and after the last.
    keeper: Option<Keeper>,
    /// Whether it was told to stop: then it leaves what it offered to whoever told it.
    leaves: bool,
}

impl PluginActor {
    /// The actor of the plugin on `seat`.
    pub fn new(
        seat: Arc<Seat>,
        shelf: Arc<Shelf>,
        streams: Arc<Streams>,
        cache: Option<Arc<Cache>>,
        watchers: Watchers,
    ) -> Self {
        Self { desk: Arc::new(Desk::new(seat, shelf, streams, cache, watchers)), keeper: None, leaves: false }
    }

    /// Begins the first life, unless there is one. What comes back ends when it has begun.
    fn live(&mut self) -> Option<oneshot::Receiver<()>> {
        if self.leaves || self.keeper.as_ref().is_some_and(Keeper::is_alive) {
            return None;
        }
        let (keeper, begun) = Keeper::begin(&self.desk);
        self.keeper = Some(keeper);
        Some(begun)
    }

    /// Waits for the next change, takes it in, and waits again.
    fn listen(&self, mut changes: Receiver<Change>, ctx: &mut Context<Self>) {
        let desk = Arc::clone(&self.desk);
        let next = async move {
            match changes.recv().await {
                Ok(change) => desk.take_in(change).await,
                Err(RecvError::Lagged(_)) => desk.resynchronise().await,
                Err(RecvError::Closed) => return None,
            }
            Some(changes)
        };
        ctx.spawn(actix::fut::wrap_future::<_, Self>(next).map(|changes, actor, ctx| {
            if let Some(changes) = changes {
                actor.listen(changes, ctx);
            }
        }));
    }
}

impl Actor for PluginActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.listen(self.desk.seat().plugin.changes(), ctx);
        // After a panic of the actor: its lives went on beside it, and are kept on.
        if self.keeper.is_some() {
            drop(self.live());
            let desk = Arc::clone(&self.desk);
            ctx.spawn(async move { desk.resynchronise().await }.into_actor(self));
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if !self.leaves {
            self.desk.quarantine();
        }
    }
}

impl Supervised for PluginActor {}

// === handlers, in the order of messages.rs ===

impl Handler<Publish> for PluginActor {
    type Result = ResponseFuture<Result<(), Infallible>>;
    fn handle(&mut self, _: Publish, _: &mut Self::Context) -> Self::Result {
        let (desk, again, begun) = (Arc::clone(&self.desk), self.keeper.is_some(), self.live());
        Box::pin(async move {
            if again {
                desk.publish().await;
                // It may have taken another's place, and meanwhile that one was told of what is watched.
                renew_watches(&desk);
            }
            if let Some(begun) = begun {
                // Of one that ended at once there is nothing to wait for.
                let _ended = begun.await;
            }
            Ok(())
        })
    }
}

impl Handler<Reseat> for PluginActor {
    type Result = ResponseFuture<Result<(), Infallible>>;
    fn handle(&mut self, Reseat(seat): Reseat, _: &mut Self::Context) -> Self::Result {
        let old = self.desk.seat();
        if !Arc::ptr_eq(&old, &seat) {
            // Of one that has not lived yet the life begins below.
            if self.keeper.is_some() {
                seat.stand_as(&old);
            }
            self.desk.reseat(seat);
        }
        let (desk, begun) = (Arc::clone(&self.desk), self.live());
        Box::pin(async move {
            match begun {
                Some(begun) => drop(begun.await),
                None => desk.publish().await,
            }
            Ok(())
        })
    }
}

impl Handler<Watch> for PluginActor {
    type Result = ResponseFuture<Result<(), Fault>>;
    fn handle(&mut self, watch: Watch, _: &mut Self::Context) -> Self::Result {
        let desk = Arc::clone(&self.desk);
        match self.desk.watchers.count(&watch) {
            Turn::None => Box::pin(std::future::ready(Ok(()))),
            Turn::Cease => Box::pin(async move { tell_plugin(&desk.seat(), &watch).await }),
            Turn::Ask(tell) => Box::pin(async move {
                let told = tell_plugin(&desk.seat(), &watch).await;
                desk.watchers.note(&watch.uri, &tell, &told);
                told
            }),
            Turn::Wait(mut told) => Box::pin(async move {
                let word = tokio::time::timeout(WATCH_WITHIN, told.wait_for(Option::is_some)).await;
                let word = word.ok().and_then(Result::ok).and_then(|word| word.clone());
                word.unwrap_or_else(|| Err(not_in_time()))
            }),
        }
    }
}

impl Handler<Stop> for PluginActor {
    type Result = ResponseActFuture<Self, Result<(), Infallible>>;
    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        self.leaves = true;
        let keeper = self.keeper.take();
        let stopped = async move {
            if let Some(keeper) = keeper {
                keeper.stop().await;
            }
        };
        Box::pin(stopped.into_actor(self).map(|(), _, ctx| {
            ctx.stop();
            Ok(())
        }))
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
        sees_all: true,
        foreign: None,
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
        Err(_) => Err(not_in_time()),
    }
}

fn not_in_time() -> Fault {
    Fault::new(ErrorCode::DeadlineExceeded, "the plugin did not begin to watch in time", "retry")
}
