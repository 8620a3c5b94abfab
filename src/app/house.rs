//! Builds the house behind the door: every actor, what they share, the plugins. Must not know how requests come in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use actix_rt::Arbiter;

use super::means::Means;
use super::plugins::Nursery;
use super::plugins::begin::reloading;
use super::{StartError, builder, data_folder, on};
use crate::access::Sealer;
use crate::actors::House;
use crate::actors::backup::{self, BackupKeeper, Keeping};
use crate::actors::certificate::Certificate;
use crate::actors::db::{self, Recorder};
use crate::actors::executor::Bench;
use crate::actors::health::{self, HealthMonitor, Watchlist};
use crate::actors::keys::{self, Keys};
use crate::actors::metrics::{self, MetricsActor, Sights};
use crate::actors::phase::{Phase, RequestIds};
use crate::actors::plugin::Roll;
use crate::actors::session::{SessionLimits, Sessions, Streams, keeping};
use crate::actors::sightings;
use crate::actors::supervision::Roster;
use crate::actors::upkeep::keep_up;
use crate::cache::Cache;
use crate::catalog::{Manner, Shelf};
use crate::config::{Config, Durability};
use crate::protocol::render::ServerInfo;
use crate::replicas::Replicas;
use crate::storage::{Instance, Notary, Storage};

/// Everyone who works behind the door.
pub(super) async fn build(
    means: Means,
    config: &Config,
    (storage, keys): (Storage, Arc<Keys>),
    instance: &Instance,
    phase: Arc<Phase>,
    began: Instant,
) -> Result<Arc<House>, StartError> {
    let Means { info, host, guests, bundles, sealer, notary, certificate, maker, salt, .. } = means;
    let roster = Arc::new(Roster::default());
    let shelf = Arc::new(Shelf::new(manner(config, &info)));
    let roll = Arc::new(Roll::default());
    let streams = open_streams(config, &roster);

    let house_arbiter = Arbiter::new();
    let sessions = open_sessions(&house_arbiter, config, &streams);
    let (cache, replicas) = open_shared(&house_arbiter, config, &salt)?;
    let (db, recorder) = start_db(&house_arbiter, &roster, &storage, instance, config, notary).await?;
    let sights = Arc::new(Sights {
        roster: Arc::clone(&roster),
        shelf: Arc::clone(&shelf),
        plugins: Arc::clone(&roll),
        streams: Arc::clone(&streams),
        recorder: recorder.clone(),
        cache: cache.clone(),
        storage,
        data_folder: data_folder(config),
        began,
    });
    let metrics = start_metrics(&house_arbiter, &roster, sights);
    let backups = Arc::new(Keeping::new(config, recorder.clone()));
    let keeper = start_backups(&house_arbiter, &roster, &backups);
    let seldom = ((cache.clone(), replicas.clone()), certificate.clone());
    let watchlist = watchlist(config, (&roster, &roll), (&db, &recorder), backups, seldom);
    // Before anything is published: what it is compared with.
    keep_watch(&house_arbiter, &shelf, &db, (&keys, &sessions)).await;
    let nursery = Nursery::new(config, &roster, &shelf, &streams, &roll, cache.as_ref());
    let plugins = (nursery.seat_guests(guests).await?, nursery);
    drop(shelf.set_bundles(bundles.clone()));
    let reloading = maker.map(|maker| reloading(plugins, maker, bundles, config, recorder.clone()));
    let (reload, reloading) = reloading.transpose()?.unzip();
    // Last, so that its first judgement finds the plugins published; on a thread of its own, so that no other can block it.
    let health = start_health(&Arbiter::new(), &roster, watchlist);
    drop(keeper.await?);
    let bench = Arc::new(bench(config, (recorder, cache), info, sealer, (&shelf, &roll)));
    let house = Arc::new(House {
        metrics: metrics.await?,
        health: health.await?,
        roster,
        shelf,
        streams,
        keys,
        sessions,
        plugins: roll,
        reload,
        certificate,
        replicas,
        bench,
        db,
        phase,
        ids: RequestIds::new(&instance.id),
        began,
    });
    host.fill(&house);
    if let Some(reloading) = reloading {
        reloading.begin();
    }
    Ok(house)
}

/// What may lie in Redis: answers that are kept, tended on the thread of `arbiter`, and how much of the limits is used.
fn open_shared(arbiter: &Arbiter, config: &Config, salt: &[u8]) -> Result<Shared, StartError> {
    let cache = Cache::open(&config.cache, salt).map_err(StartError::Part)?;
    if let Some(cache) = &cache {
        let cache = Arc::clone(cache);
        arbiter.spawn(keep_up("the cache", move || Arc::clone(&cache).tend()));
    }
    Ok((cache, Replicas::open(config, salt).map_err(StartError::Part)?))
}

/// The sessions with legacy clients, swept on the thread of `arbiter`.
fn open_sessions(arbiter: &Arbiter, config: &Config, streams: &Arc<Streams>) -> Arc<Sessions> {
    let limits = SessionLimits {
        most: config.mcp.sessions_max,
        most_of_one: config.mcp.sessions_per_caller_max,
        idle: Duration::from_secs(config.mcp.session_idle_seconds),
        replay_max_bytes: config.mcp.session_replay_bytes,
    };
    let sessions = Sessions::new(limits, Arc::clone(streams));
    let swept = Arc::clone(&sessions);
    arbiter.spawn_fn(move || swept.keep_swept());
    sessions
}

/// Has the shelf know how tools were seen before and the sessions that there were, what happens to both from now on saved, and
/// the keys looked after.
async fn keep_watch(
    arbiter: &Arbiter,
    shelf: &Arc<Shelf>,
    db: &Addr<db::DbActor>,
    (keys, sessions): (&Arc<Keys>, &Arc<Sessions>),
) {
    sightings::load(shelf, db).await;
    let (seen, at) = (Arc::clone(shelf), db.clone());
    arbiter.spawn(keep_up("how tools look", move || sightings::keep(Arc::clone(&seen), at.clone())));
    let (keys, used, at) = (Arc::clone(keys), Arc::clone(sessions), db.clone());
    arbiter.spawn(keep_up("the keys", move || keys::keep(Arc::clone(&keys), at.clone(), Arc::clone(&used))));
    let more = keeping::load(sessions, db).await;
    let (sessions, at) = (Arc::clone(sessions), db.clone());
    arbiter.spawn(keep_up("the sessions", move || keeping::keep(Arc::clone(&sessions), at.clone(), more)));
}

/// The listen streams, none of them open.
fn open_streams(config: &Config, roster: &Arc<Roster>) -> Arc<Streams> {
    let keep_alive = Duration::from_secs(config.mcp.stream_keep_alive_seconds);
    Streams::new(config.mcp.streams_max, keep_alive, Arc::clone(roster))
}

fn manner(config: &Config, info: &ServerInfo) -> Manner {
    let ttl_ms = config.mcp.list_ttl_seconds.saturating_mul(1000);
    Manner { page_size: config.mcp.page_size, ttl_ms, info: info.clone() }
}

async fn start_db(
    arbiter: &Arbiter,
    roster: &Arc<Roster>,
    storage: &Storage,
    instance: &Instance,
    config: &Config,
    notary: Notary,
) -> Result<(Addr<db::DbActor>, Recorder), StartError> {
    let (roster, storage, instance) = (Arc::clone(roster), storage.clone(), instance.clone());
    let (history, render) = (config.history.clone(), builder::capture(&config.history));
    on(arbiter, move || db::start(&roster, storage, instance, &history, render, notary)).await
}

fn bench(
    config: &Config,
    (recorder, cache): (Recorder, Option<Arc<Cache>>),
    info: ServerInfo,
    sealer: Sealer,
    (shelf, roll): (&Shelf, &Arc<Roll>),
) -> Bench {
    Bench {
        links: Arc::clone(shelf.links()),
        plugins: Arc::clone(roll),
        sealer,
        cache,
        recorder,
        info,
        input_timeout_seconds: config.mcp.input_timeout_seconds,
        strict: config.history.durability == Durability::Strict,
    }
}

fn start_metrics(
    arbiter: &Arbiter,
    roster: &Arc<Roster>,
    sights: Arc<Sights>,
) -> impl Future<Output = Result<Addr<MetricsActor>, StartError>> + use<> {
    let roster = Arc::clone(roster);
    on(arbiter, move || {
        roster.start("metrics".to_owned(), "metrics", metrics::TERMS, |_| MetricsActor::new(sights)).0
    })
}

/// What a server has only if the configuration says so.
type Shared = (Option<Arc<Cache>>, Option<Arc<Replicas>>);

fn watchlist(
    config: &Config,
    (roster, roll): (&Arc<Roster>, &Arc<Roll>),
    (db, recorder): (&Addr<db::DbActor>, &Recorder),
    backups: Arc<Keeping>,
    ((cache, replicas), certificate): (Shared, Option<Arc<Certificate>>),
) -> Watchlist {
    Watchlist {
        roster: Arc::clone(roster),
        plugins: Arc::clone(roll),
        db: db.clone(),
        recorder: recorder.clone(),
        backups,
        cache,
        replicas,
        certificate,
        data_folder: data_folder(config),
        disk_min_bytes: config.health.disk_min_bytes,
        beat: Duration::from_secs(config.health.beat_seconds),
        stuck: Duration::from_secs(config.health.stuck_seconds),
    }
}

fn start_backups(
    arbiter: &Arbiter,
    roster: &Arc<Roster>,
    keeping: &Arc<Keeping>,
) -> impl Future<Output = Result<Addr<BackupKeeper>, StartError>> + use<> {
    let (roster, keeping) = (Arc::clone(roster), Arc::clone(keeping));
    on(arbiter, move || {
        roster.start("backup".to_owned(), "backup", backup::TERMS, |_| BackupKeeper::new(keeping)).0
    })
}

fn start_health(
    arbiter: &Arbiter,
    roster: &Arc<Roster>,
    watchlist: Watchlist,
) -> impl Future<Output = Result<Addr<HealthMonitor>, StartError>> + use<> {
    let roster = Arc::clone(roster);
    on(arbiter, move || {
        roster
            .start("health".to_owned(), "health", health::TERMS, |_| {
                HealthMonitor::new(watchlist, super::service::alive)
            })
            .0
    })
}
