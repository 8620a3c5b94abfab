//! HealthMonitor: asks every part for a sign of life, looks at the database and the disk, and judges.
//!
//! It lives on a thread of its own, so that a blocked worker or actor thread is found by the beat that it misses: then
//! the process is not live, drains and exits, and whoever started it starts it again. Must not know HTTP.

pub mod messages;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use actix::{Actor, Addr, AsyncContext, Context, Handler, ResponseFuture, Supervised};

use super::ask::{AskError, ask};
use super::backup::Keeping;
use super::certificate::Certificate;
use super::db::messages::CheckDatabase;
use super::db::{DbActor, Recorder};
use super::plugin::{self, Roll};
use super::supervision::{Crash, Part, Ping, Roster, Terms};
use crate::cache::Cache;
use crate::catalog::PluginState;
use crate::replicas::Replicas;
use crate::telemetry::logging;
use crate::telemetry::metrics::METRICS;
use messages::Judge;

/// The monitor never ends.
pub const TERMS: Terms = Terms { mailbox: 64, may_end: false, vital: true };

/// How long a check may take.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// What is watched, and how strictly.
pub struct Watchlist {
    /// The actors.
    pub roster: Arc<Roster>,
    /// The plugins.
    pub plugins: Arc<Roll>,
    /// The database.
    pub db: Addr<DbActor>,
    /// The history's queue.
    pub recorder: Recorder,
    /// The schedule of backups.
    pub backups: Arc<Keeping>,
    /// Answers that are kept.
    pub cache: Option<Arc<Cache>>,
    /// The other servers, where requests are counted for all of them together.
    pub replicas: Option<Arc<Replicas>>,
    /// What the network is spoken to with, where that is over TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// Where the data lies.
    pub data_folder: PathBuf,
    /// Free disk below this fails the check.
    pub disk_min_bytes: u64,
    /// Between two beats.
    pub beat: Duration,
    /// Without a sign of life for so long, a part is stuck.
    pub stuck: Duration,
}

/// How one check stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// As it should be.
    Ok,
    /// Not in use.
    Disabled,
    /// Works, but somebody should look.
    Degraded(String),
    /// Does not work.
    Failed(String),
}

/// The state of everything at one beat.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// When.
    pub at: SystemTime,
    /// By name.
    pub checks: BTreeMap<&'static str, Check>,
    /// The last database round trip.
    pub db_latency: Option<Duration>,
}

impl Judgement {
    /// `healthy`, `degraded` or `unhealthy`: the worst of the checks.
    pub fn status(&self) -> &'static str {
        let any = |bad: fn(&Check) -> bool| self.checks.values().any(bad);
        if any(|check| matches!(check, Check::Failed(_))) {
            "unhealthy"
        } else if any(|check| matches!(check, Check::Degraded(_))) {
            "degraded"
        } else {
            "healthy"
        }
    }
}

/// The signs of life of all parts.
struct Signs {
    /// When each part last gave one.
    seen: HashMap<String, Instant>,
    /// When they were last looked at.
    looked_at: Instant,
}

impl Default for Signs {
    fn default() -> Self {
        Self { seen: HashMap::new(), looked_at: Instant::now() }
    }
}

impl Signs {
    /// Where this look is itself late, the whole process stood still, as one that was stopped or whose machine was
    /// suspended: nobody could give a sign of life meanwhile, so that each part has its time from now on.
    fn look(&mut self, now: Instant, beat: Duration, stuck: Duration) {
        let since = now.duration_since(std::mem::replace(&mut self.looked_at, now));
        if since > beat + stuck.saturating_sub(beat) / 2 {
            log::warn!(
                "the watch over all parts stood still for {} s, so each of them has its time anew",
                since.as_secs()
            );
            self.seen.clear();
        }
    }
}

/// Judges at every beat.
pub struct HealthMonitor {
    watch: Arc<Watchlist>,
    /// None before the first beat has come to its end.
    last: Arc<Mutex<Option<Arc<Judgement>>>>,
    alive: Arc<Mutex<Signs>>,
    /// Told at every beat at which no part is stuck that the process needs.
    tell: fn(),
}

impl HealthMonitor {
    /// Watches `watch`, and tells whoever keeps the process alive that it is.
    pub fn new(watch: Watchlist, tell: fn()) -> Self {
        Self { watch: Arc::new(watch), last: Arc::default(), alive: Arc::default(), tell }
    }

    fn beat(&self) {
        let (watch, last, alive) = (Arc::clone(&self.watch), Arc::clone(&self.last), Arc::clone(&self.alive));
        let tell = self.tell;
        actix_rt::spawn(async move {
            let judgement = judge(&watch).await;
            publish(&judgement);
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(judgement));
            let doomed = find_stuck(&watch, &alive);
            note_stuck(&watch.plugins);
            if !doomed {
                tell();
            }
        });
    }
}

impl Actor for HealthMonitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.beat();
        ctx.run_interval(self.watch.beat, |monitor, _| monitor.beat());
    }
}

impl Supervised for HealthMonitor {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

// === handlers, in the order of messages.rs ===

impl Handler<Judge> for HealthMonitor {
    type Result = ResponseFuture<Result<Arc<Judgement>, Infallible>>;
    fn handle(&mut self, _: Judge, _: &mut Self::Context) -> Self::Result {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let watch = Arc::clone(&self.watch);
        Box::pin(async move {
            match last {
                Some(last) => Ok(last),
                // Whoever asks before the first beat must not hear that all is ill, only because nobody looked yet.
                None => Ok(Arc::new(judge(&watch).await)),
            }
        })
    }
}

impl Handler<Ping> for HealthMonitor {
    type Result = ();
    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl Handler<Crash> for HealthMonitor {
    type Result = ();
    fn handle(&mut self, crash: Crash, _: &mut Self::Context) {
        crash.now();
    }
}

async fn judge(watch: &Watchlist) -> Judgement {
    let latency = ask(&watch.db, CheckDatabase, CHECK_WITHIN).await;
    let history = watch.recorder.state();
    let database = match &latency {
        // Calls go on meanwhile, so that nobody should end the process for it; history says of itself what it lost.
        Err(AskError::Reply(error)) if error.may_pass() => Check::Degraded(error.to_string()),
        Err(error) => Check::Failed(error.to_string()),
        Ok(_) if history.degraded => {
            Check::Degraded(history.last_error.unwrap_or_else(|| "history records were dropped".to_owned()))
        }
        Ok(_) => Check::Ok,
    };
    let folder = (watch.data_folder.clone(), watch.disk_min_bytes);
    let filesystem = tokio::time::timeout(
        CHECK_WITHIN,
        tokio::task::spawn_blocking(move || check_folder(&folder.0, folder.1)),
    );
    let filesystem = filesystem.await.ok().and_then(Result::ok);
    let checks = BTreeMap::from([
        ("database", database),
        ("backup", watch.backups.check()),
        ("cache", check_used(watch.cache.as_ref().map(|cache| cache.trouble()))),
        ("limits", check_used(watch.replicas.as_ref().map(|replicas| replicas.trouble()))),
        ("certificate", watch.certificate.as_ref().map_or(Check::Disabled, |shown| shown.check())),
        (
            "filesystem",
            filesystem.unwrap_or_else(|| Check::Failed("the data folder did not answer".to_owned())),
        ),
        ("log", check_used(logging::file_trouble())),
        ("plugins", check_plugins(&watch.plugins)),
    ]);
    Judgement { at: SystemTime::now(), checks, db_latency: latency.ok() }
}

fn check_folder(folder: &std::path::Path, least: u64) -> Check {
    if let Err(error) = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK) {
        return Check::Failed(format!("the data folder cannot be written: {error}"));
    }
    match rustix::fs::statvfs(folder) {
        Err(error) => Check::Failed(format!("the data folder cannot be looked at: {error}")),
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let low = format!("{free} bytes are free where the data lies, fewer than {least}");
            if free < least { Check::Degraded(low) } else { Check::Ok }
        }
    }
}

/// What calls go on without, if it is in use: the log's file, and what may lie in Redis, which works by itself then.
fn check_used(trouble: Option<Option<String>>) -> Check {
    match trouble {
        None => Check::Disabled,
        Some(None) => Check::Ok,
        Some(Some(why)) => Check::Degraded(why),
    }
}

/// One plugin's trouble is no reason to end the process: it degrades, and no more.
fn check_plugins(plugins: &Roll) -> Check {
    let members = plugins.all();
    let bad = members.iter().map(|member| &member.seat);
    let bad = bad.filter(|seat| seat.is_open() || seat.state() != PluginState::Ready).map(|seat| {
        let why = seat.why().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{} is {}{why}", seat.name, seat.state_name())
    });
    let bad: Vec<String> = bad.collect();
    if bad.is_empty() { Check::Ok } else { Check::Degraded(bad.join(", ")) }
}

fn publish(judgement: &Judgement) {
    for (name, check) in &judgement.checks {
        let well = matches!(check, Check::Ok | Check::Disabled);
        METRICS.health.with_label_values(&[name]).set(i64::from(well));
    }
    if let Some(latency) = judgement.db_latency {
        METRICS.db_latency.set(latency.as_secs_f64());
    }
}

/// Asks every part for a sign of life, and calls the process doomed when one has given none for too long. A plugin's is
/// no such part: whatever holds up the thread that it lives on costs the plugins there, and nobody else.
fn find_stuck(watch: &Watchlist, alive: &Arc<Mutex<Signs>>) -> bool {
    let parts: Vec<Arc<Part>> = watch
        .roster
        .parts()
        .into_iter()
        .filter(|part| part.kind() != "session" && !part.is_given_up())
        .collect();
    let mut signs = alive.lock().unwrap_or_else(PoisonError::into_inner);
    signs.look(Instant::now(), watch.beat, watch.stuck);
    let seen = &mut signs.seen;
    seen.retain(|name, _| parts.iter().any(|part| part.name() == name));
    for part in parts {
        let last = *seen.entry(part.name().to_owned()).or_insert_with(Instant::now);
        let is_stuck = last.elapsed() > watch.stuck;
        part.note_stuck(is_stuck);
        if is_stuck && part.kind() != plugin::KIND {
            watch.roster.doom(format!(
                "{} has given no sign of life for {} s",
                part.name(),
                watch.stuck.as_secs()
            ));
            return true;
        }
        let alive = Arc::clone(alive);
        let stuck = watch.stuck;
        actix_rt::spawn(async move {
            if matches!(tokio::time::timeout(stuck, part.ping().send(Ping)).await, Ok(Ok(()))) {
                alive
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .seen
                    .insert(part.name().to_owned(), Instant::now());
            }
        });
    }
    false
}

/// Tells the plugins' seats which of them give no sign of life.
fn note_stuck(plugins: &Roll) {
    for member in plugins.all() {
        member.seat.note_stuck(member.part.is_stuck());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_stood_still_itself_gives_all_parts_their_time_anew() {
        let (beat, stuck) = (Duration::from_secs(1), Duration::from_secs(30));
        let began = Instant::now();
        let mut signs = Signs { seen: HashMap::from([("db".to_owned(), began)]), looked_at: began };
        for second in 1..=40 {
            // As late as a database that does not answer makes it.
            signs.look(began + Duration::from_secs(second * 5), beat, stuck);
        }
        assert_eq!(signs.seen.get("db"), Some(&began), "who gives no sign while the watch goes on is found");
        signs.look(began + Duration::from_secs(200 + 31), beat, stuck);
        assert!(signs.seen.is_empty());
        // And where the limit is as low as can be, any pause that would look like a part's end is the watch's own.
        let stuck = Duration::from_secs(2);
        signs = Signs { seen: HashMap::from([("db".to_owned(), began)]), looked_at: began };
        signs.look(began + stuck, beat, stuck);
        assert!(signs.seen.is_empty());
    }
}
