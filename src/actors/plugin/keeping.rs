//! Keeps a plugin alive: runs its lives one after another, never two at once, until it is told to stop or gives it up.
//!
//! It is a task beside the actor: a panic of the actor costs no life, a panic of a life costs that life. Must not know
//! what a plugin lives on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::desk::Desk;
use super::messages::Watch;
use super::tell_plugin;
use crate::actors::supervision::message_of;
use crate::catalog::PluginState;
use crate::plugins::{Health, Plugin, Pulse};
use crate::telemetry::metrics::METRICS;

/// How long a life may take to end what it started; then it is dropped.
pub const END_WITHIN: Duration = Duration::from_secs(10);
/// What a life gets beyond its own start deadline, which it should hold by itself.
const START_GRACE: Duration = Duration::from_secs(5);

/// The task that keeps one plugin alive; dropping it stops the plugin.
pub(super) struct Keeper {
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Begins the first life. What is given along ends when that has begun: a plugin that is ready at once is then published.
    pub(super) fn begin(desk: &Arc<Desk>) -> (Self, oneshot::Receiver<()>) {
        let stop = CancellationToken::new();
        let life = Life::begin(&desk.seat.plugin);
        let early = matches!(*life.health.borrow(), Health::Ready);
        let (begun, begins) = oneshot::channel();
        let (desk, stopped) = (Arc::clone(desk), stop.clone());
        let task = actix_rt::spawn(async move {
            if early {
                desk.ready(None, true).await;
                renew_watches(&desk);
            }
            // Whoever did not wait does not care.
            let _gone = begun.send(());
            keep(desk, life, early, stopped).await;
        });
        (Self { stop, task: Some(task) }, begins)
    }

    /// Whether it is at work.
    pub(super) fn is_alive(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
    }

    /// Stops the life that there is; what comes back ends when that has ended.
    pub(super) fn stop(mut self) -> impl Future<Output = ()> + use<> {
        self.stop.cancel();
        let task = self.task.take();
        async move {
            if let Some(mut task) = task {
                let ended = tokio::time::timeout(END_WITHIN + Duration::from_secs(1), &mut task).await;
                if ended.is_err() {
                    task.abort();
                }
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One life.
struct Life {
    future: BoxFuture<'static, Result<(), String>>,
    health: watch::Receiver<Health>,
    stop: CancellationToken,
}

impl Life {
    fn begin(plugin: &Arc<dyn Plugin>) -> Self {
        let stop = CancellationToken::new();
        let pulse = Pulse::begin(stop.clone());
        let health = pulse.watch();
        let plugin = Arc::clone(plugin);
        let panicked = |payload: Box<dyn std::any::Any + Send>| {
            Err(format!("it panicked: {}", message_of(payload.as_ref())))
        };
        let future: BoxFuture<'static, _> = match catch_unwind(AssertUnwindSafe(|| plugin.live(pulse))) {
            Ok(life) => AssertUnwindSafe(life)
                .catch_unwind()
                .map(move |ended| {
                    ended.map_or_else(panicked, |ended| ended.map_err(|error| error.to_string()))
                })
                .boxed(),
            Err(payload) => std::future::ready(panicked(payload)).boxed(),
        };
        Self { future, health, stop }
    }

    /// Tells it to end, and drops it when it does not.
    async fn end(mut self, name: &str) {
        self.stop.cancel();
        if tokio::time::timeout(END_WITHIN, &mut self.future).await.is_err() {
            log::warn!(plugin = name; "plugin {name} did not end within {} s, and is dropped", END_WITHIN.as_secs());
        }
    }
}

/// How a life failed.
struct Failure {
    why: String,
    /// How long it had been ready.
    ready: Option<Duration>,
}

async fn keep(desk: Arc<Desk>, first: Life, early: bool, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    let mut next = Some((first, early));
    loop {
        let (life, told) = next.take().unwrap_or_else(|| (Life::begin(&desk.seat.plugin), false));
        let Some(failure) = live(&desk, life, told, &stop).await else { break };
        desk.seat.meter.failed_to_live();
        let Some(pause) = backoff.after(Instant::now(), failure.ready) else {
            let why = format!("it failed too often without ever being ready, the last time: {}", failure.why);
            desk.seat.turn(PluginState::Quarantined, Some(why), None);
            desk.quarantine();
            stop.cancelled().await;
            break;
        };
        let returns = Instant::now() + pause;
        desk.seat.turn(PluginState::Starting, Some(failure.why), Some(returns));
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(returns) => {}
        }
    }
    // One whose actor was given up is in quarantine, and shown there, though its life ends with its actor.
    if desk.seat.state() != PluginState::Quarantined {
        desk.seat.turn(PluginState::Stopped, None, None);
    }
}

/// Lives one life to its end; none when it was told to end.
async fn live(desk: &Arc<Desk>, mut life: Life, told: bool, stop: &CancellationToken) -> Option<Failure> {
    let limit = desk.seat.limits.start_timeout.map(|limit| Instant::now() + limit + START_GRACE);
    let far = Instant::now() + Duration::from_secs(86_400 * 365);
    let mut ready_at = told.then(Instant::now);
    if told {
        life.health.mark_unchanged();
    }
    let mut told_all = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut life.future => {
                let well = !matches!(*life.health.borrow(), Health::Starting);
                let ready = ready_at.map(|at| at.elapsed()).or(well.then_some(Duration::ZERO));
                let why = ended.err().unwrap_or_else(|| "it ended by itself".to_owned());
                return if stop.is_cancelled() { None } else { Some(Failure { why, ready }) };
            }
            () = stop.cancelled() => {
                life.end(&desk.seat.name).await;
                return None;
            }
            changed = life.health.changed(), if !told_all => {
                told_all = changed.is_err();
                let health = life.health.borrow_and_update().clone();
                heed(desk, &health, &mut ready_at).await;
            }
            () = tokio::time::sleep_until(limit.unwrap_or(far)), if ready_at.is_none() && limit.is_some() => {
                let limit = desk.seat.limits.start_timeout.unwrap_or_default();
                life.end(&desk.seat.name).await;
                return Some(Failure { why: format!("it was not ready within {} s", limit.as_secs_f64()), ready: None });
            }
        }
    }
}

/// Takes in how a life goes.
async fn heed(desk: &Arc<Desk>, health: &Health, ready_at: &mut Option<Instant>) {
    let trouble = match health {
        // It may start what it needs anew while it lives, and serves no call meanwhile.
        Health::Starting => {
            if ready_at.is_some() {
                desk.seat.turn(PluginState::Starting, Some("it starts anew".to_owned()), None);
            }
            return;
        }
        Health::Ready => None,
        Health::Troubled(why) => Some(why.clone()),
    };
    let begins = ready_at.is_none();
    ready_at.get_or_insert_with(Instant::now);
    desk.ready(trouble, begins).await;
    if begins {
        renew_watches(desk);
    }
}

/// Asks a new life for what the one before it watched.
pub(super) fn renew_watches(desk: &Arc<Desk>) {
    let (watched, ceased) = desk.inherit();
    let begin = watched.into_iter().map(|uri| Watch { uri, begins: true });
    let watches: Vec<Watch> =
        begin.chain(ceased.into_iter().map(|uri| Watch { uri, begins: false })).collect();
    if watches.is_empty() {
        return;
    }
    let desk = Arc::clone(desk);
    actix_rt::spawn(async move {
        for watch in watches {
            if let Err(fault) = tell_plugin(&desk.seat, &watch).await {
                METRICS.errors.with_label_values(&[fault.code.name()]).inc();
                log::warn!(plugin = &*desk.seat.name; "plugin {} does not watch {} any more: {}", desk.seat.name, watch.uri, fault.message);
            }
        }
    });
}
