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
use crate::plugins::{Health, LifeError, Plugin, Pulse};
use crate::telemetry::metrics::METRICS;

/// How long a life may take to end what it started; then it is dropped.
pub const END_WITHIN: Duration = Duration::from_secs(10);
/// Between two lives of which the first only waited for another process to end.
const HELD_PAUSE: Duration = Duration::from_secs(1);
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
        let life = Life::begin(&desk.seat().plugin);
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
    future: BoxFuture<'static, Result<(), LifeError>>,
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
            Err(LifeError::Failed(format!("it panicked: {}", message_of(payload.as_ref()))))
        };
        let future: BoxFuture<'static, _> = match catch_unwind(AssertUnwindSafe(|| plugin.live(pulse))) {
            Ok(life) => {
                AssertUnwindSafe(life).catch_unwind().map(move |ended| ended.unwrap_or_else(panicked)).boxed()
            }
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
    why: LifeError,
    /// How long it had been ready.
    ready: Option<Duration>,
}

async fn keep(desk: Arc<Desk>, first: Life, early: bool, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    let mut next = Some((first, early));
    loop {
        let (life, told) = next.take().unwrap_or_else(|| (Life::begin(&desk.seat().plugin), false));
        let Some(failure) = live(&desk, life, told, &stop).await else { break };
        if !matches!(failure.why, LifeError::Held(_)) {
            desk.seat().meter.failed_to_live();
        }
        let pause = match failure.why {
            LifeError::Failed(_) => backoff.after(Instant::now(), failure.ready),
            // It is as well as it was, and would be given up for what another one does.
            LifeError::Held(_) => Some(HELD_PAUSE),
            // Nothing would be different the next time.
            LifeError::Misconfigured(_) => None,
        };
        let Some(pause) = pause else {
            let why = match failure.why {
                LifeError::Failed(why) | LifeError::Held(why) => {
                    format!("it failed too often without ever being ready, the last time: {why}")
                }
                LifeError::Misconfigured(why) => format!("{why}; mend that and reload"),
            };
            desk.seat().turn(PluginState::Quarantined, Some(why), None);
            desk.quarantine();
            stop.cancelled().await;
            break;
        };
        let returns = Instant::now() + pause;
        match failure.why {
            LifeError::Held(why) => desk.seat().wait_for_another(why),
            why => desk.seat().turn(PluginState::Starting, Some(why.to_string()), Some(returns)),
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(returns) => {}
        }
    }
    // One whose actor was given up is in quarantine, and shown there, though its life ends with its actor.
    if desk.seat().state() != PluginState::Quarantined {
        desk.seat().turn(PluginState::Stopped, None, None);
    }
}

/// Lives one life to its end; none when it was told to end.
async fn live(desk: &Arc<Desk>, mut life: Life, told: bool, stop: &CancellationToken) -> Option<Failure> {
    let limit_from_now =
        || desk.seat().limits.start_timeout.map(|limit| Instant::now() + limit + START_GRACE);
    let mut limit = limit_from_now();
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
                let well = !matches!(*life.health.borrow(), Health::Starting | Health::Waiting(_));
                let ready = ready_at.map(|at| at.elapsed()).or(well.then_some(Duration::ZERO));
                let why = ended.err().unwrap_or_else(|| LifeError::Failed("it ended by itself".to_owned()));
                return if stop.is_cancelled() { None } else { Some(Failure { why, ready }) };
            }
            () = stop.cancelled() => {
                life.end(&desk.seat().name).await;
                return None;
            }
            changed = life.health.changed(), if !told_all => {
                told_all = changed.is_err();
                let health = life.health.borrow_and_update().clone();
                limit = match health {
                    // It begins when it has waited, and holds the deadline of that by itself.
                    Health::Waiting(_) => None,
                    _ => limit.or_else(limit_from_now),
                };
                heed(desk, &health, &mut ready_at).await;
            }
            () = tokio::time::sleep_until(limit.unwrap_or(far)), if ready_at.is_none() && limit.is_some() => {
                let limit = desk.seat().limits.start_timeout.unwrap_or_default();
                life.end(&desk.seat().name).await;
                let why = format!("it was not ready within {} s", limit.as_secs_f64());
                return Some(Failure { why: LifeError::Failed(why), ready: None });
            }
        }
    }
}

/// Takes in how a life goes.
async fn heed(desk: &Arc<Desk>, health: &Health, ready_at: &mut Option<Instant>) {
    let trouble = match health {
        Health::Waiting(why) => {
            desk.seat().wait_for_another(why.clone());
            return;
        }
        // It may start what it needs anew while it lives, and serves no call meanwhile.
        Health::Starting => {
            if ready_at.is_some() {
                desk.seat().turn(PluginState::Starting, Some("it starts anew".to_owned()), None);
            } else if desk.seat().waits_for_another() {
                desk.seat().turn(PluginState::Starting, None, None);
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
            if let Err(fault) = tell_plugin(&desk.seat(), &watch).await {
                METRICS.errors.with_label_values(&[fault.code.name()]).inc();
                let name = &*desk.seat().name;
                log::warn!(plugin = name; "plugin {name} does not watch {} any more: {}", watch.uri, fault.message);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::task::LocalSet;

    use super::*;
    use crate::actors::plugin::watchers::Watchers;
    use crate::actors::session::Streams;
    use crate::actors::supervision::Roster;
    use crate::catalog::{Manner, Seat, SeatLimits, Shelf};
    use crate::config::plugin::{Curation, PluginLimits};
    use crate::plugins::{Context, Inventory, LifeError, Outcome, PluginError, Request};
    use crate::protocol::render::ServerInfo;

    /// Timers are this coarse.
    const TICK: Duration = Duration::from_millis(5);

    /// How the lives of a plugin go.
    enum Lives {
        /// They fail before they are ready.
        Stillborn,
        /// They fail so long after they were ready, which is longer where the number of the life says so.
        Fall(Duration, usize, Duration),
        /// They never say that they are ready.
        Idle,
        /// They wait so long for another process, and then begin or, where they may not, end.
        Wait(Duration, bool),
    }

    struct Mortal {
        lives: Lives,
        begun: Mutex<Vec<Instant>>,
    }

    impl Plugin for Mortal {
        fn inventory(&self) -> Inventory {
            Inventory::default()
        }
        fn handle(
            self: Arc<Self>,
            _: Request,
            _: Context,
        ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
            Box::pin(std::future::ready(Err(PluginError::Unknown("anything".to_owned()))))
        }
        fn live(self: Arc<Self>, pulse: Pulse) -> BoxFuture<'static, Result<(), LifeError>> {
            Box::pin(async move {
                let number = {
                    let mut begun = self.begun.lock().unwrap();
                    begun.push(Instant::now());
                    begun.len()
                };
                match self.lives {
                    Lives::Stillborn => {}
                    Lives::Fall(after, long, long_after) => {
                        pulse.ready();
                        tokio::time::sleep(if number == long { long_after } else { after }).await;
                    }
                    Lives::Idle => pulse.stop().cancelled().await,
                    Lives::Wait(so_long, begins) => {
                        pulse.waits("it waits for another");
                        tokio::time::sleep(so_long).await;
                        if !begins {
                            return Err(LifeError::Held("the other one goes on".to_owned()));
                        }
                        pulse.begins();
                        pulse.stop().cancelled().await;
                    }
                }
                Err(LifeError::Failed("it fell".to_owned()))
            })
        }
    }

    struct Kept {
        plugin: Arc<Mortal>,
        seat: Arc<Seat>,
        keeper: Keeper,
    }

    impl Kept {
        fn begin(lives: Lives, start_timeout: Option<Duration>) -> Self {
            let plugin = Arc::new(Mortal { lives, begun: Mutex::default() });
            let limits = SeatLimits {
                concurrency: 1,
                queue_max: 1,
                queue_timeout: None,
                blocking_threads: 1,
                lost_threads_max: 1,
                timeout_seconds: 1,
                breaker: None,
                start_timeout,
                own: PluginLimits::default(),
            };
            let curation = Arc::new(Curation::default());
            let seat = Arc::new(Seat::new("mortal", curation, Arc::<Mortal>::clone(&plugin), limits));
            let manner = Manner { page_size: 2, ttl_ms: 0, info: ServerInfo::new("s", "1") };
            let streams = Streams::new(1, Duration::from_secs(1), Arc::new(Roster::default()));
            let desk = Desk::new(
                Arc::clone(&seat),
                Arc::new(Shelf::new(manner)),
                streams,
                None,
                Watchers::default(),
            );
            let (keeper, _begins) = Keeper::begin(&Arc::new(desk));
            Self { plugin, seat, keeper }
        }

        fn lives(&self) -> usize {
            self.plugin.begun.lock().unwrap().len()
        }

        /// Seconds from each life's beginning to the next one's.
        fn gaps(&self) -> Vec<f64> {
            let begun = self.plugin.begun.lock().unwrap();
            begun.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
        }

        /// Lets time pass until so many lives have begun.
        async fn reach(&self, lives: usize) {
            while self.lives() < lives {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    fn is_about(gap: f64, lived: f64, pause: f64) -> bool {
        (lived + pause * 0.75..=lived + pause + TICK.as_secs_f64()).contains(&gap)
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_never_ready_is_tried_at_once_then_ever_later_and_then_given_up() {
        let test = async {
            let kept = Kept::begin(Lives::Stillborn, None);
            while kept.seat.state() != PluginState::Quarantined {
                tokio::time::sleep(TICK).await;
            }
            let gaps = kept.gaps();
            let pauses = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0];
            assert_eq!(gaps.len(), pauses.len(), "{gaps:?}");
            assert!(gaps.iter().zip(pauses).all(|(gap, pause)| is_about(*gap, 0.0, pause)), "{gaps:?}");
            assert!(kept.seat.why().is_some_and(|why| why.contains("the last time: it fell")));
            tokio::time::sleep(Duration::from_secs(86_400)).await;
            assert_eq!(kept.lives(), pauses.len() + 1, "nobody tries it any more");
            kept.keeper.stop().await;
            assert_eq!(kept.seat.state(), PluginState::Quarantined, "it is still to be mended");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_ready_is_never_given_up_and_a_long_life_makes_the_next_one_come_at_once() {
        let test = async {
            let (lived, long) = (1.0, 90.0);
            let fall = Lives::Fall(Duration::from_secs(1), 20, Duration::from_secs(90));
            let kept = Kept::begin(fall, None);
            kept.reach(22).await;
            let gaps = kept.gaps();
            assert!(is_about(gaps[0], lived, 0.0), "{gaps:?}");
            assert!(gaps[9..19].iter().all(|gap| is_about(*gap, lived, 60.0)), "{gaps:?}");
            assert!(is_about(gaps[19], long, 0.0), "{gaps:?}");
            assert!(is_about(gaps[20], lived, 0.5), "{gaps:?}");
            assert_ne!(kept.seat.state(), PluginState::Quarantined);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_told_to_stop_between_two_lives_begins_no_other() {
        let test = async {
            let Kept { plugin, seat, keeper } = {
                let kept = Kept::begin(Lives::Stillborn, None);
                kept.reach(5).await;
                kept
            };
            tokio::time::sleep(TICK).await;
            assert_eq!(seat.state(), PluginState::Starting);
            let told = Instant::now();
            keeper.stop().await;
            assert!(told.elapsed() < TICK, "it does not wait for the pause to end");
            assert_eq!(seat.state(), PluginState::Stopped);
            tokio::time::sleep(Duration::from_secs(600)).await;
            assert_eq!(plugin.begun.lock().unwrap().len(), 5);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_for_another_process_is_never_given_up_and_says_what_it_waits_for() {
        let test = async {
            let kept = Kept::begin(Lives::Wait(Duration::from_secs(20), false), Some(Duration::from_secs(2)));
            tokio::time::sleep(TICK).await;
            assert_eq!(
                kept.seat.settled().await,
                Err("it waits for another".to_owned()),
                "nobody waits with it"
            );
            let refusal = kept.seat.refusal().unwrap();
            assert!(refusal.message.contains("waits for another process"), "{}", refusal.message);
            kept.reach(40).await;
            assert!(kept.gaps().iter().all(|gap| is_about(*gap, 21.0, 0.0)), "{:?}", kept.gaps());
            assert_eq!(kept.seat.state(), PluginState::Starting);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_to_start_begins_when_the_wait_for_another_process_is_over() {
        let test = async {
            let (waits, limit) = (Duration::from_secs(50), Duration::from_secs(2));
            let kept = Kept::begin(Lives::Wait(waits, true), Some(limit));
            tokio::time::sleep(waits + TICK).await;
            assert_eq!((kept.lives(), kept.seat.waits_for_another(), kept.seat.why()), (1, false, None));
            kept.reach(2).await;
            let lived = (waits + limit + START_GRACE).as_secs_f64();
            assert!(is_about(kept.gaps()[0], lived, 0.0), "{:?}", kept.gaps());
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_life_that_does_not_say_that_it_is_ready_is_ended_at_its_deadline() {
        let test = async {
            let limit = Duration::from_secs(2);
            let kept = Kept::begin(Lives::Idle, Some(limit));
            kept.reach(3).await;
            let (gaps, lived) = (kept.gaps(), (limit + START_GRACE).as_secs_f64());
            assert!(is_about(gaps[0], lived, 0.0) && is_about(gaps[1], lived, 0.5), "{gaps:?}");
            assert!(kept.seat.why().is_some_and(|why| why.contains("was not ready within 2 s")));
        };
        LocalSet::new().run_until(test).await;
    }
}
