//! Counting what became of requests. The counters that every good request needs are found once, not by their labels each
//! time.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use crate::protocol::Method;
use crate::telemetry::metrics::METRICS;

struct Counters {
    ok: IntCounter,
    time: Histogram,
}

/// In the order of [`Method::all`].
static BY_METHOD: LazyLock<Vec<Counters>> = LazyLock::new(|| {
    let counters = |method: Method| Counters {
        ok: METRICS.requests.with_label_values(&[method.name(), "ok"]),
        time: METRICS.response_time.with_label_values(&[method.name()]),
    };
    Method::all().map(counters).collect()
});

/// A request ended this way.
pub fn ended(method: Method, outcome: &str) {
    match BY_METHOD.get(method as usize) {
        Some(counters) if outcome == "ok" => counters.ok.inc(),
        _ => METRICS.requests.with_label_values(&[method.name(), outcome]).inc(),
    }
}

/// A request took this long, from its parsed head to its answer.
pub fn took(method: Method, time: Duration) {
    if let Some(counters) = BY_METHOD.get(method as usize) {
        counters.time.observe(time.as_secs_f64());
    }
}
