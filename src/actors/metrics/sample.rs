//! Taking the samples: the process, the pool, the queues, the actors, the plugins. Must not render.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::Sights;
use crate::catalog::Circuit;
use crate::telemetry::metrics::METRICS;

/// Takes all samples into the gauges.
pub fn all(sights: &Sights) {
    process();
    actors(sights);
    plugins(sights);
    history(sights);
    if let Some((answers, bytes)) = sights.cache.as_ref().and_then(|cache| cache.size()) {
        METRICS.cache_answers.set(whole(answers as u64));
        METRICS.cache_bytes.set(whole(bytes));
    }
    METRICS.uptime.set(sights.began.elapsed().as_secs_f64());
    METRICS.streams.set(whole(sights.streams.view().open as u64));
    if let Ok(disk) = rustix::fs::statvfs(&sights.data_folder) {
        METRICS.disk_free.set(whole(disk.f_bavail.saturating_mul(disk.f_frsize)));
    }
}

fn process() {
    let Ok(own) = procfs::process::Process::myself() else { return };
    if let Ok(stat) = own.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        METRICS.cpu.set((stat.utime + stat.stime) as f64 / ticks);
        METRICS.memory.set(whole(stat.rss.saturating_mul(procfs::page_size())));
        METRICS.threads.set(stat.num_threads);
    }
    if let Ok(open) = own.fd_count() {
        METRICS.open_files.set(whole(open as u64));
    }
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    METRICS.max_files.set(most.map_or(i64::MAX, whole));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    METRICS.processors.set(whole(processors as u64));
}

fn actors(sights: &Sights) {
    let mut alive: BTreeMap<&str, u64> = BTreeMap::from([("session", 0)]);
    for part in sights.roster.parts() {
        *alive.entry(part.kind()).or_default() += u64::from(!part.is_given_up());
        if part.kind() != "session" {
            METRICS.mailbox_depth.with_label_values(&[part.name()]).set(whole(part.waiting()));
        }
    }
    for (kind, count) in alive {
        METRICS.actors.with_label_values(&[kind]).set(whole(count));
    }
    for (kind, restarts) in sights.roster.restarts_by_kind() {
        METRICS.actor_restarts.with_label_values(&[kind]).set(whole(restarts));
    }
}

fn plugins(sights: &Sights) {
    // A plugin that went leaves no number behind.
    for gauge in [&METRICS.plugin_state, &METRICS.lost_threads, &METRICS.plugin_running] {
        gauge.reset();
    }
    for gauge in [&METRICS.plugin_queued, &METRICS.plugin_breaker] {
        gauge.reset();
    }
    for member in sights.plugins.all() {
        let seat = &member.seat;
        let label = [&*seat.name];
        METRICS.lost_threads.with_label_values(&label).set(whole(seat.blocking.lost() as u64));
        METRICS.plugin_running.with_label_values(&label).set(whole(seat.running() as u64));
        METRICS.plugin_queued.with_label_values(&label).set(whole(seat.queued() as u64));
        METRICS.plugin_state.with_label_values(&[&*seat.name, seat.state_name()]).set(1);
        METRICS.plugin_breaker.with_label_values(&label).set(match seat.circuit() {
            Circuit::Closed => 0,
            Circuit::HalfOpen => 1,
            Circuit::Open => 2,
        });
    }
}

/// Plugins whose processes were seen last.
pub type Seen = Mutex<BTreeSet<Arc<str>>>;

/// Takes samples of the processes behind the plugins: small files of the system for each process, so on a thread that may
/// wait. One that finds another at it leaves it alone.
pub fn processes(sights: &Sights, seen: &Seen) {
    let Ok(mut seen) = seen.try_lock() else { return };
    let mut now = BTreeSet::new();
    for member in sights.plugins.all() {
        let name = &member.seat.name;
        let report = member.seat.plugin.report();
        // A plugin says of its own processes, and a server's of all those of the server.
        let places = ["/program", "/process", ""];
        let number = |word: &str| places.iter().find_map(|place| report.pointer(place)?.get(word));
        let cpu = number("cpuSeconds").and_then(Value::as_f64);
        let memory = number("rssBytes").and_then(Value::as_u64);
        if let (Some(cpu), Some(memory)) = (cpu, memory) {
            METRICS.plugin_cpu.with_label_values(&[&**name]).set(cpu);
            METRICS.plugin_memory.with_label_values(&[&**name]).set(whole(memory));
            now.insert(Arc::clone(name));
        }
    }
    for gone in seen.difference(&now) {
        // One that was never there is as gone.
        let _was_there = METRICS.plugin_cpu.remove_label_values(&[&**gone]);
        let _was_there = METRICS.plugin_memory.remove_label_values(&[&**gone]);
    }
    *seen = now;
}

fn history(sights: &Sights) {
    let pool = sights.storage.pool_state();
    METRICS.pool_connections.with_label_values(&["idle"]).set(i64::from(pool.idle));
    METRICS.pool_connections.with_label_values(&["busy"]).set(i64::from(pool.open.saturating_sub(pool.idle)));
    let state = sights.recorder.state();
    METRICS.history_queue.set(whole(state.depth as u64));
    METRICS.history_batches.set(whole(state.batches));
    METRICS.history_rows.set(whole(state.rows));
    METRICS.history_dropped.set(whole(state.dropped));
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
