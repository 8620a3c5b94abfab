//! The table of metrics: every name, its labels, its meaning. `/metrics` shows these and nothing else of ours.
//!
//! Counters are statics next to what happens; what nobody increments is sampled by MetricsActor into the gauges.
//! Labels never hold a caller, an argument or a secret. Must not know who reads them.

use std::sync::LazyLock;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Upper bounds of latency buckets, in seconds: fine enough to read percentiles off them.
pub const LATENCY_BUCKETS: [f64; 22] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_35, 0.000_5, 0.000_75, 0.001, 0.002, 0.003_5, 0.005, 0.007_5, 0.01,
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Makes the struct and its constructor from one table; the help text is the doc comment.
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident = $name:literal $(, $label:literal)*;)+) => {
        /// All metrics of the process.
        pub struct Metrics {
            /// Where they are gathered.
            pub registry: Registry,
            $($(#[doc = $help])+ pub $field: $kind,)+
        }

        /// The table as text: name, kind, labels, help. For the documentation.
        pub const TABLE: &[(&str, &str, &[&str], &str)] =
            &[$(($name, stringify!($kind), &[$($label),*], concat!($($help),+))),+];

        impl Metrics {
            fn new() -> Self {
                let registry = Registry::new();
                Self { $($field: <$kind as Made>::made(&registry, $name, concat!($($help),+), &[$($label),*]),)+ registry }
            }
        }
    };
}

metrics! {
    /// Requests answered at /mcp, by method and by what became of them (`ok`, `tool_error`, `input_required` or an error's name).
    requests: IntCounterVec = "waygate_requests_total", "method", "outcome";
    /// Requests that failed through our fault or a plugin's, by error name; never the caller's fault.
    errors: IntCounterVec = "waygate_errors_total", "code";
    /// From a parsed head to the answer, by method, in seconds.
    response_time: HistogramVec = "waygate_response_time_seconds", "method";
    /// Time in a tool, by its published name, in seconds.
    tool_time: HistogramVec = "waygate_tool_duration_seconds", "tool";
    /// Requests in work.
    in_flight: IntGauge = "waygate_requests_in_flight";
    /// Requests refused before they were parsed, by reason.
    refused: IntCounterVec = "waygate_refused_total", "reason";
    /// Requests that were refused since a limit was reached, by whose it was (`server`, `address`, `key`, `bundle`, `tool`) and which (`requests`, `concurrent`, `answers`).
    limited: IntCounterVec = "waygate_limited_total", "of", "limit";
    /// Bytes of answers that their clients have not taken yet; small ones, of up to 64 KiB, do not count.
    unread: IntGauge = "waygate_answers_unread_bytes";
    /// Addresses whose limits are remembered.
    limited_addresses: IntGauge = "waygate_limited_addresses";
    /// Keys, by whether they are `taken` or `over` (revoked, expired, replaced); the operator's own counts.
    keys: IntGaugeVec = "waygate_keys", "standing";
    /// Calls cancelled by a client that went away.
    cancelled: IntCounter = "waygate_cancelled_total";
    /// Tools whose definition a plugin changed since it was last seen, also before this start, by plugin.
    tool_definition_changes: IntCounterVec = "waygate_tool_definition_changes_total", "plugin";
    /// Plugin calls that panicked, by plugin.
    plugin_panics: IntCounterVec = "waygate_plugin_panics_total", "plugin";
    /// Blocking threads that work on something already given up, by plugin.
    lost_threads: IntGaugeVec = "waygate_plugin_lost_threads", "plugin";
    /// Calls that run, by plugin.
    plugin_running: IntGaugeVec = "waygate_plugin_running", "plugin";
    /// Calls that wait for a place, by plugin.
    plugin_queued: IntGaugeVec = "waygate_plugin_queued", "plugin";
    /// Calls that a plugin answered or failed, by plugin and outcome (`ok`, `tool_error`, `input_required` or an error's name).
    plugin_calls: IntCounterVec = "waygate_plugin_calls_total", "plugin", "outcome";
    /// From a call's coming to its outcome, by plugin, in seconds.
    plugin_time: HistogramVec = "waygate_plugin_duration_seconds", "plugin";
    /// Lives of a plugin that failed, by plugin.
    plugin_restarts: IntCounterVec = "waygate_plugin_restarts_total", "plugin";
    /// Bytes between Waygate and the server behind a plugin, by plugin and direction (`in`, `out`).
    plugin_bytes: IntCounterVec = "waygate_plugin_bytes_total", "plugin", "direction";
    /// A plugin's breaker: 0 closed, 1 half open, 2 open.
    plugin_breaker: IntGaugeVec = "waygate_plugin_breaker", "plugin";
    /// Processor time that a plugin's processes used, in seconds.
    plugin_cpu: GaugeVec = "waygate_plugin_cpu_seconds", "plugin";
    /// Resident memory of a plugin's processes, in bytes.
    plugin_memory: IntGaugeVec = "waygate_plugin_resident_memory_bytes", "plugin";
    /// 1 for the state that a plugin is in, by plugin and state.
    plugin_state: IntGaugeVec = "waygate_plugin_state", "plugin", "state";
    /// Times that Redis was lost while requests were counted there for several servers.
    limits_losses: IntCounter = "waygate_limits_losses_total";
    /// Questions whose answers may be kept, by plugin and by whether the answer was there (`hit`), was not (`miss`), or came with another's call (`joined`, after a `miss`).
    cache_lookups: IntCounterVec = "waygate_cache_lookups_total", "plugin", "outcome";
    /// Answers kept in memory.
    cache_answers: IntGauge = "waygate_cache_answers";
    /// Bytes that they take.
    cache_bytes: IntGauge = "waygate_cache_bytes";
    /// Answers that made room for others before they were old.
    cache_evictions: IntCounter = "waygate_cache_evictions_total";
    /// Times that Redis gave no answer, or none in time, to a call.
    cache_failures: IntCounter = "waygate_cache_failures_total";
    /// Spans of traces, by what became of them (`sent`, `dropped` since too many waited, `failed` since the collector did not take them).
    spans: IntCounterVec = "waygate_trace_spans_total", "outcome";
    /// Actors alive, by kind.
    actors: IntGaugeVec = "waygate_actors", "kind";
    /// Restarts after a panic, by kind.
    actor_restarts: IntGaugeVec = "waygate_actor_restarts", "kind";
    /// Messages without an answer yet, by actor.
    mailbox_depth: IntGaugeVec = "waygate_mailbox_depth", "actor";
    /// Open listen streams.
    streams: IntGauge = "waygate_streams";
    /// Notifications written to listen streams.
    stream_events: IntCounter = "waygate_stream_events_total";
    /// Open sessions with clients of revisions before 2026-07-28.
    sessions: IntGauge = "waygate_sessions";
    /// Sessions opened.
    sessions_opened: IntCounter = "waygate_sessions_opened_total";
    /// Sessions ended because nobody used them.
    sessions_expired: IntCounter = "waygate_sessions_expired_total";
    /// Connections of the database pool, by state (`idle`, `busy`).
    pool_connections: IntGaugeVec = "waygate_db_pool_connections", "state";
    /// The last database round trip, in seconds.
    db_latency: Gauge = "waygate_db_latency_seconds";
    /// Times that the database was not at its path any more, by what was done (`saved`, `anew`, `adopted`).
    db_moved: IntCounterVec = "waygate_db_moved_total", "how";
    /// Records that wait for the writer.
    history_queue: IntGauge = "waygate_history_queue_depth";
    /// Groups of records committed.
    history_batches: IntGauge = "waygate_history_batches";
    /// Records committed.
    history_rows: IntGauge = "waygate_history_rows";
    /// Records dropped because the queue was full.
    history_dropped: IntGauge = "waygate_history_dropped";
    /// When the newest backup was made, in seconds since 1970; 0 when there is none.
    backup_last: Gauge = "waygate_backup_last_success_timestamp_seconds";
    /// Size of the newest backup.
    backup_bytes: IntGauge = "waygate_backup_size_bytes";
    /// How long the last scheduled backup took, in seconds.
    backup_time: Gauge = "waygate_backup_duration_seconds";
    /// Scheduled backups that were not made.
    backup_failures: IntCounter = "waygate_backup_failures_total";
    /// When the certificate that clients see ends, in seconds since 1970; 0 without TLS.
    certificate_expiry: Gauge = "waygate_tls_certificate_expiry_timestamp_seconds";
    /// Free bytes where the data lies.
    disk_free: IntGauge = "waygate_disk_free_bytes";
    /// 1 when healthy, by check.
    health: IntGaugeVec = "waygate_health", "check";
    /// Seconds since the start.
    uptime: Gauge = "waygate_uptime_seconds";
    /// Resident memory, in bytes.
    memory: IntGauge = "process_resident_memory_bytes";
    /// Processor time used, in seconds.
    cpu: Gauge = "process_cpu_seconds_total";
    /// Processors that it may use: what the system has, or what its container or service is allowed.
    processors: IntGauge = "waygate_processors";
    /// Open files.
    open_files: IntGauge = "process_open_fds";
    /// Most files that may be open.
    max_files: IntGauge = "process_max_fds";
    /// Threads of the process.
    threads: IntGauge = "process_threads";
    /// Always 1, by version.
    build: GaugeVec = "waygate_build_info", "version";
}

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// A kind of metric that can be made and registered.
trait Made: Sized {
    fn made(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Self;
}

macro_rules! made {
    ($($kind:ident: |$options:ident, $labels:ident| $make:expr;)+) => {$(
        impl Made for $kind {
            fn made(registry: &Registry, name: &str, help: &str, $labels: &[&str]) -> Self {
                let $options = Opts::new(name, help.trim());
                // The names stand in one table, and any test that starts a server reads it.
                let metric: $kind = ($make).unwrap_or_else(|error| unreachable!("metric {name}: {error}"));
                let registered = registry.register(Box::new(metric.clone()));
                registered.unwrap_or_else(|error| unreachable!("metric {name}: {error}"));
                metric
            }
        }
    )+};
}

made! {
    IntCounter: |options, _labels| IntCounter::with_opts(options);
    IntCounterVec: |options, labels| IntCounterVec::new(options, labels);
    IntGauge: |options, _labels| IntGauge::with_opts(options);
    IntGaugeVec: |options, labels| IntGaugeVec::new(options, labels);
    Gauge: |options, _labels| Gauge::with_opts(options);
    GaugeVec: |options, labels| GaugeVec::new(options, labels);
    HistogramVec: |options, labels| HistogramVec::new(HistogramOpts::from(options).buckets(LATENCY_BUCKETS.to_vec()), labels);
}

/// The value below which the share `quantile` of the observations lies, read off the buckets; none without any.
pub fn percentile(histogram: &Histogram, quantile: f64) -> Option<f64> {
    use prometheus::core::Metric as _;
    let metric = histogram.metric();
    let data = metric.get_histogram();
    let wanted = quantile * data.get_sample_count() as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for bucket in data.get_bucket() {
        let (count, upper) = (bucket.cumulative_count() as f64, bucket.upper_bound());
        if count >= wanted && count > 0.0 {
            let within = if count > below { (wanted - below) / (count - below) } else { 1.0 };
            return Some(lower + (upper - lower) * within);
        }
        (below, lower) = (count, upper);
    }
    (data.get_sample_count() > 0).then_some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_read_off_the_buckets() {
        let all = HistogramVec::made(&Registry::new(), "t", "h", &["x"]);
        let histogram = all.with_label_values(&["a"]);
        assert_eq!(percentile(&histogram, 0.5), None);
        for _ in 0..99 {
            histogram.observe(0.0015);
        }
        histogram.observe(4.0);
        assert!((0.001..=0.002).contains(&percentile(&histogram, 0.5).unwrap()));
        assert!((2.5..=5.0).contains(&percentile(&histogram, 0.995).unwrap()));
        histogram.observe(1e9);
        assert_eq!(percentile(&histogram, 1.0), Some(30.0));
    }

    #[test]
    fn every_metric_has_its_help() {
        assert!(METRICS.registry.gather().len() <= TABLE.len());
        assert!(TABLE.iter().all(|(_, _, _, help)| help.trim().len() > 10));
    }
}
