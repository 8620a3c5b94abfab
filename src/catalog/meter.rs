//! A plugin's numbers, found by their labels once and not with each call. Must not know what is counted, or why.

use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use crate::telemetry::metrics::METRICS;

/// The counters of one plugin.
#[derive(Debug)]
pub struct Meter {
    name: String,
    ok: IntCounter,
    time: Histogram,
    restarts: IntCounter,
    bytes_in: IntCounter,
    bytes_out: IntCounter,
}

impl Meter {
    /// Those of the plugin called `name`.
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ok: METRICS.plugin_calls.with_label_values(&[name, "ok"]),
            time: METRICS.plugin_time.with_label_values(&[name]),
            restarts: METRICS.plugin_restarts.with_label_values(&[name]),
            bytes_in: METRICS.plugin_bytes.with_label_values(&[name, "in"]),
            bytes_out: METRICS.plugin_bytes.with_label_values(&[name, "out"]),
        }
    }

    /// A call ended this way, and took so long.
    pub fn ended(&self, outcome: &str, took: Duration) {
        self.time.observe(took.as_secs_f64());
        if outcome == "ok" {
            self.ok.inc();
        } else {
            METRICS.plugin_calls.with_label_values(&[&*self.name, outcome]).inc();
        }
    }

    /// So many bytes went to the server behind it and came from there.
    pub fn carried(&self, bytes_out: u64, bytes_in: u64) {
        self.bytes_out.inc_by(bytes_out);
        self.bytes_in.inc_by(bytes_in);
    }

    /// One of its lives failed.
    pub fn failed_to_live(&self) {
        self.restarts.inc();
    }

    /// Lives of it that failed.
    pub fn restarts(&self) -> u64 {
        self.restarts.get()
    }
}
