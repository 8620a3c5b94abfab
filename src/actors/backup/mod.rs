//! BackupKeeper: makes a backup when one is due, and removes old ones; says when the last was made and what went wrong.
//!
//! What is due goes by the files in the folder, so that a restart forgets nothing and a backup that an operator made counts,
//! too. All of it happens on a thread that may block. Must not know HTTP, nor how backups are made.

pub mod messages;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use actix::{Actor, AsyncContext as _, Context, Handler, Supervised};
use jiff::Timestamp;

use super::clock::Clock;
use super::db::{Act, ITSELF, Recorder};
use super::health::Check;
use super::supervision::Terms;
use crate::backup::shelf::{self, Pruned};
use crate::backup::{self, BackupError, Places};
use crate::config::{Config, Secret};
use crate::storage::acts;
use crate::telemetry::metrics::METRICS;
use messages::{Crash, Ping};

/// The keeper never ends; without it the server serves on, and its health says what is missing.
pub const TERMS: Terms = Terms { mailbox: 16, may_end: false, vital: false };

/// Between two looks at the folder.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long one that failed is not tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(300);
/// How late a backup may be before somebody should look: a quarter of the time between two, and at least this.
const LATE_MIN: Duration = Duration::from_secs(900);
const HOUR: Duration = Duration::from_secs(3600);

/// What the schedule asks for, and how it stands; outlives the keeper.
pub struct Keeping {
    places: Places,
    /// None when there is no schedule.
    every: Option<Duration>,
    keep_days: u64,
    passphrase: Option<Secret>,
    began: SystemTime,
    clock: Clock,
    recorder: Recorder,
    state: Mutex<State>,
    /// Held by whoever is at it.
    work: Mutex<()>,
}

#[derive(Default)]
struct State {
    newest: Option<SystemTime>,
    /// The name of one that lies in the future.
    ahead: Option<String>,
    failure: Option<(Instant, String)>,
}

impl Keeping {
    /// As the configuration says.
    pub fn new(config: &Config, recorder: Recorder) -> Self {
        let hours = u32::try_from(config.backup.every_hours).unwrap_or(u32::MAX);
        Self {
            places: Places::of(config),
            every: (hours > 0).then(|| HOUR * hours),
            keep_days: config.backup.keep_days,
            passphrase: config.backup.passphrase.clone(),
            began: SystemTime::now(),
            clock: Clock::new(),
            recorder,
            state: Mutex::default(),
            work: Mutex::default(),
        }
    }

    /// How it stands now, for the health.
    pub fn check(&self) -> Check {
        let state = self.state();
        let failure = state.failure.as_ref().map(|(_, why)| why.as_str());
        let newest = state.newest.unwrap_or(self.began);
        judge(self.every, newest, failure, state.ahead.as_deref(), SystemTime::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the folder, and makes a backup if one is due. Blocks; one who finds another at it leaves it alone.
    fn look(&self) {
        let Ok(_work) = self.work.try_lock() else { return };
        self.measure();
        let Some(every) = self.every else { return };
        let is_due = {
            let state = self.state();
            let rests = state.failure.as_ref().is_some_and(|(at, _)| at.elapsed() < AGAIN_AFTER);
            let age = state.newest.map(|newest| newest.elapsed().unwrap_or_default());
            !rests && age.is_none_or(|age| age >= every)
        };
        if is_due {
            self.make();
        }
    }

    fn make(&self) {
        let began = Instant::now();
        let made = backup::create(&self.places, self.passphrase.as_ref(), &|_progress| ());
        let done = made.and_then(|made| {
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            log::info!(bytes = made.bytes, took_ms = took_ms; "a backup was made: {}", made.path.display());
            let detail = format!("{} bytes in {}, as the schedule wants it", made.bytes, made.path.display());
            self.recorder.act(Act::done(acts::BACKUP_CREATE, ITSELF, detail));
            METRICS.backup_time.set(began.elapsed().as_secs_f64());
            let held = shelf::hold(&self.places.backups)?;
            let Pruned { gone, unusable } = match self.clock.read() {
                Ok(_) => shelf::prune(&held, self.keep_days, 1, Timestamp::now())?,
                Err(why) => {
                    log::warn!("old backups are not removed: {why}");
                    Pruned::default()
                }
            };
            unusable.iter().for_each(|why| log::warn!("it does not count among those that are kept: {why}"));
            if !gone.is_empty() {
                let detail = format!("{} removed, older than {} days", gone.len(), self.keep_days);
                self.recorder.act(Act::done(acts::BACKUP_PRUNE, ITSELF, detail));
                log::info!("{} backups older than {} days were removed", gone.len(), self.keep_days);
            }
            Ok(())
        });
        match done {
            Ok(()) => self.state().failure = None,
            // Another one makes it, or removes what is old.
            Err(BackupError::Busy(_)) => {}
            Err(error) => {
                METRICS.backup_failures.inc();
                log::error!("a scheduled backup was not made: {error}");
                self.state().failure = Some((Instant::now(), error.to_string()));
            }
        }
        self.measure();
    }

    /// What is in the folder, into the metrics.
    fn measure(&self) {
        let (all, now) = (shelf::list(&self.places.backups).unwrap_or_default(), Timestamp::now());
        let newest = shelf::newest(&all, now);
        let at = newest.map(|newest| SystemTime::from(newest.made_at));
        let since = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
        METRICS.backup_last.set(since.as_secs_f64());
        let bytes = newest.map_or(0, |newest| newest.bytes);
        METRICS.backup_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let ahead = all.iter().find(|listed| listed.is_ahead(now)).map(shelf::Listed::name);
        let mut state = self.state();
        if ahead.is_some() && ahead != state.ahead {
            log::warn!("{}", of_the_future(ahead.as_deref().unwrap_or_default()));
        }
        (state.newest, state.ahead) = (at, ahead);
    }
}

/// `newest` is when the last was made, or the server began if there is none.
fn judge(
    every: Option<Duration>,
    newest: SystemTime,
    failure: Option<&str>,
    ahead: Option<&str>,
    now: SystemTime,
) -> Check {
    let Some(every) = every else { return Check::Disabled };
    if let Some(why) = failure {
        return Check::Degraded(format!("the last scheduled backup was not made: {why}"));
    }
    let age = now.duration_since(newest).unwrap_or_default();
    if age > every + (every / 4).max(LATE_MIN) {
        let (hours, wanted) = (age.as_secs() / 3600, every.as_secs() / 3600);
        return Check::Degraded(format!(
            "the newest backup is {hours} hours old, and there should be one every {wanted}; see the log for why"
        ));
    }
    ahead.map_or(Check::Ok, |name| Check::Degraded(of_the_future(name)))
}

/// Since nobody knows when it was made, it is not taken for the newest.
fn of_the_future(name: &str) -> String {
    format!(
        "the name of the backup {name} lies in the future, so it does not count; set the clock right, or move that file elsewhere"
    )
}

/// Keeps to the schedule.
pub struct BackupKeeper {
    keeping: Arc<Keeping>,
}

impl BackupKeeper {
    /// That of `keeping`.
    pub fn new(keeping: Arc<Keeping>) -> Self {
        Self { keeping }
    }

    fn look(&self) {
        let keeping = Arc::clone(&self.keeping);
        // Nobody waits for it: what comes of it is in what it keeps.
        drop(tokio::task::spawn_blocking(move || keeping.look()));
    }
}

impl Actor for BackupKeeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.look();
        context.run_interval(LOOK_EVERY, |keeper, _context| keeper.look());
    }
}

impl Supervised for BackupKeeper {
    // Nothing to renew: all that is known outlives it.
}

// === handlers, in the order of messages.rs ===

impl Handler<Ping> for BackupKeeper {
    type Result = ();
    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl Handler<Crash> for BackupKeeper {
    type Result = ();
    fn handle(&mut self, crash: Crash, _: &mut Self::Context) {
        crash.now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_failed_or_is_overdue_degrades_the_health_and_no_schedule_does_not() {
        let now = SystemTime::now();
        let old = |hours: u32| now - HOUR * hours;
        let daily = Some(HOUR * 24);
        assert_eq!(judge(None, old(1_000), None, None, now), Check::Disabled);
        assert_eq!(judge(daily, old(24), None, None, now), Check::Ok, "it may well be in the making");
        assert!(
            matches!(judge(daily, old(31), None, None, now), Check::Degraded(why) if why.contains("31 hours"))
        );
        assert!(
            matches!(judge(daily, old(1), Some("no room"), None, now), Check::Degraded(why) if why.contains("no room"))
        );
        assert_eq!(judge(Some(HOUR), now - HOUR - LATE_MIN, None, None, now), Check::Ok);
        assert_eq!(
            judge(daily, now + HOUR, None, None, now),
            Check::Ok,
            "a clock that was set back is no fault of ours"
        );
        let future = judge(daily, old(1), None, Some("waygate-2099"), now);
        assert!(matches!(future, Check::Degraded(why) if why.contains("waygate-2099")));
    }
}
