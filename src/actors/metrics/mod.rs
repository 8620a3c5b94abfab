//! MetricsActor: samples what nobody increments, reads percentiles, renders. It is no queue before a counter.
//!
//! Must not know HTTP, nor decide what is healthy.

pub mod messages;
mod sample;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Supervised};
use prometheus::{Encoder as _, Histogram, TextEncoder};
use serde_json::{Value, json};

use super::db::Recorder;
use super::plugin::Roll;
use super::session::Streams;
use super::supervision::{Crash, Ping, Roster, Terms};
use crate::cache::Cache;
use crate::catalog::{Shelf, ToolEntry};
use crate::protocol::Method;
use crate::storage::Storage;
use crate::telemetry::metrics::{METRICS, percentile};
use messages::{Performance, Render};

/// The metrics never end.
pub const TERMS: Terms = Terms { mailbox: 64, may_end: false, vital: true };

/// How often is sampled when nobody asks.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// The numbers could not be shown.
#[derive(Debug, thiserror::Error)]
#[error("the metrics could not be rendered: {0}")]
pub struct RenderError(String);

/// Where the samples are taken.
pub struct Sights {
    /// The actors.
    pub roster: Arc<Roster>,
    /// The tools.
    pub shelf: Arc<Shelf>,
    /// The plugins.
    pub plugins: Arc<Roll>,
    /// The listen streams.
    pub streams: Arc<Streams>,
    /// The history's queue.
    pub recorder: Recorder,
    /// Answers that are kept.
    pub cache: Option<Arc<Cache>>,
    /// The database's pool.
    pub storage: Storage,
    /// Where the data lies.
    pub data_folder: PathBuf,
    /// When the process began.
    pub began: Instant,
}

/// Samples and renders.
pub struct MetricsActor {
    sights: Arc<Sights>,
    seen: Arc<sample::Seen>,
}

impl MetricsActor {
    /// Looks at `sights`.
    pub fn new(sights: Arc<Sights>) -> Self {
        Self { sights, seen: Arc::default() }
    }
}

impl Actor for MetricsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        METRICS.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        self.sample();
        ctx.run_interval(SAMPLE_EVERY, |metrics, _| metrics.sample());
    }
}

impl Supervised for MetricsActor {}

// === handlers, in the order of messages.rs ===

impl Handler<Render> for MetricsActor {
    type Result = Result<String, RenderError>;
    fn handle(&mut self, _: Render, _: &mut Self::Context) -> Self::Result {
        sample::all(&self.sights);
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&METRICS.registry.gather(), &mut text);
        encoded.map_err(|error| RenderError(error.to_string()))?;
        String::from_utf8(text).map_err(|error| RenderError(error.to_string()))
    }
}

impl Handler<Performance> for MetricsActor {
    type Result = Result<Value, RenderError>;
    fn handle(&mut self, _: Performance, _: &mut Self::Context) -> Self::Result {
        sample::all(&self.sights);
        Ok(self.performance())
    }
}

impl Handler<Ping> for MetricsActor {
    type Result = ();
    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl Handler<Crash> for MetricsActor {
    type Result = ();
    fn handle(&mut self, crash: Crash, _: &mut Self::Context) {
        crash.now();
    }
}

impl MetricsActor {
    /// Takes all samples; those of processes beside this thread, so that the next scrape finds them.
    fn sample(&self) {
        sample::all(&self.sights);
        let (sights, seen) = (Arc::clone(&self.sights), Arc::clone(&self.seen));
        drop(tokio::task::spawn_blocking(move || sample::processes(&sights, &seen)));
    }

    fn performance(&self) -> Value {
        let uptime = self.sights.began.elapsed().as_secs_f64();
        let catalog = self.sights.shelf.keep();
        let timed = |entry| -> Option<(&Arc<ToolEntry>, &Histogram)> { Some((entry, entry.time()?)) };
        let mut tools: Vec<_> = catalog.tools().filter_map(timed).collect();
        tools.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        let tools: Vec<Value> =
            tools.iter().map(|(entry, time)| summary("tool", &entry.name, time)).collect();
        let methods: Vec<Value> = Method::all()
            .map(|method| (method.name(), METRICS.response_time.with_label_values(&[method.name()])))
            .filter(|(_, time)| time.get_sample_count() > 0)
            .map(|(name, time)| summary("method", name, &time))
            .collect();
        let history = self.sights.recorder.state();
        json!({
            "pid": std::process::id(),
            "uptimeSeconds": uptime,
            "cpuSeconds": METRICS.cpu.get(),
            "cpuShare": if uptime > 0.0 { METRICS.cpu.get() / uptime } else { 0.0 },
            "rssBytes": METRICS.memory.get(),
            "threads": METRICS.threads.get(),
            "openFiles": METRICS.open_files.get(),
            "openFilesMax": METRICS.max_files.get(),
            "diskFreeBytes": METRICS.disk_free.get(),
            "requestsInFlight": METRICS.in_flight.get(),
            "methods": methods,
            "tools": tools,
            "queues": {
                "history": {"depth": history.depth, "max": history.capacity, "dropped": history.dropped},
                "mailboxes": self.sights.roster.parts().iter()
                    .filter(|part| part.kind() != "session")
                    .map(|part| json!({"actor": part.name(), "depth": part.waiting()}))
                    .collect::<Vec<_>>(),
                "plugins": self.sights.plugins.all().iter().map(|member| &member.seat)
                    .map(|seat| json!({"plugin": &*seat.name, "running": seat.running(), "queued": seat.queued()}))
                    .collect::<Vec<_>>(),
            },
        })
    }
}

/// How long something took, in milliseconds.
fn summary(kind: &str, name: &str, time: &prometheus::Histogram) -> Value {
    let ms = |quantile| percentile(time, quantile).map(|seconds| (seconds * 1e6).round() / 1e3);
    json!({kind: name, "count": time.get_sample_count(), "p50Ms": ms(0.5), "p95Ms": ms(0.95), "p99Ms": ms(0.99)})
}
