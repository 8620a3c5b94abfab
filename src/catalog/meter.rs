//! A plugin's numbers, found by their labels once and not with each call. Must not know what is counted, or why.
//!
//! What a plugin is called and how it calls its tools is not ours to choose: there is a limit on how many of its tools are
//! counted apart, and when the last seat of its name goes, its numbers go.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use crate::telemetry::metrics::METRICS;

/// Tools of one plugin that are counted apart; all others are counted as `other`.
const TOOLS_MAX: usize = 1_000;
/// What the other tools of all plugins are counted as.
const OTHER: &str = "other";

/// The series of all plugins, by their names.
static SERIES: LazyLock<Mutex<HashMap<String, Weak<Series>>>> = LazyLock::new(Mutex::default);

/// The counters of one plugin.
#[derive(Debug)]
pub struct Meter {
    series: Arc<Series>,
    ok: IntCounter,
    time: Histogram,
    restarts: IntCounter,
    bytes_in: IntCounter,
    bytes_out: IntCounter,
}

/// The labels under which a plugin is counted; shared by it and what takes its place. The last one removes them.
#[derive(Debug)]
struct Series {
    name: String,
    outcomes: Mutex<BTreeSet<String>>,
    tools: Mutex<BTreeSet<String>>,
}

impl Meter {
    /// Those of the plugin called `name`.
    pub fn of(name: &str) -> Self {
        let mut all = lock(&SERIES);
        let known = all.get(name).and_then(Weak::upgrade);
        let series = known.unwrap_or_else(|| {
            let (outcomes, tools) = (Mutex::new(BTreeSet::from(["ok".to_owned()])), Mutex::default());
            let series = Arc::new(Series { name: name.to_owned(), outcomes, tools });
            all.insert(name.to_owned(), Arc::downgrade(&series));
            series
        });
        // Still under the lock: else one that goes could remove what was just found.
        Self {
            series,
            ok: METRICS.plugin_calls.with_label_values(&[name, "ok"]),
            time: METRICS.plugin_time.with_label_values(&[name]),
            restarts: METRICS.plugin_restarts.with_label_values(&[name]),
            bytes_in: METRICS.plugin_bytes.with_label_values(&[name, "in"]),
            bytes_out: METRICS.plugin_bytes.with_label_values(&[name, "out"]),
        }
    }

    /// The time of its tool of this published name.
    pub fn tool(&self, name: &str) -> Histogram {
        let mut tools = lock(&self.series.tools);
        if tools.len() >= TOOLS_MAX && !tools.contains(name) {
            return METRICS.tool_time.with_label_values(&[OTHER]);
        }
        tools.insert(name.to_owned());
        METRICS.tool_time.with_label_values(&[name])
    }

    /// A call ended this way, and took so long.
    pub fn ended(&self, outcome: &str, took: Duration) {
        self.time.observe(took.as_secs_f64());
        if outcome == "ok" {
            self.ok.inc();
        } else {
            let mut outcomes = lock(&self.series.outcomes);
            if !outcomes.contains(outcome) {
                outcomes.insert(outcome.to_owned());
            }
            METRICS.plugin_calls.with_label_values(&[&*self.series.name, outcome]).inc();
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

impl Drop for Series {
    fn drop(&mut self) {
        let mut all = lock(&SERIES);
        let name = &*self.name;
        // Another one of its name may have come in between, and counts on.
        if all.get(name).is_none_or(|there| !std::ptr::eq(there.as_ptr(), self)) {
            return;
        }
        all.remove(name);
        // What is not there is as good as removed.
        for outcome in lock(&self.outcomes).iter() {
            let _gone = METRICS.plugin_calls.remove_label_values(&[name, outcome]);
        }
        for tool in lock(&self.tools).iter() {
            let _gone = METRICS.tool_time.remove_label_values(&[tool]);
        }
        for direction in ["in", "out"] {
            let _gone = METRICS.plugin_bytes.remove_label_values(&[name, direction]);
        }
        let _gone = METRICS.plugin_time.remove_label_values(&[name]);
        let _gone = METRICS.plugin_restarts.remove_label_values(&[name]);
        let _gone = METRICS.plugin_panics.remove_label_values(&[name]);
        let _gone = METRICS.tool_definition_changes.remove_label_values(&[name]);
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> String {
        prometheus::TextEncoder::new().encode_to_string(&METRICS.registry.gather()).unwrap()
    }

    #[test]
    fn a_plugin_that_is_gone_for_good_is_not_counted_any_more() {
        let (old, new) = (Meter::of("meter-gone"), Meter::of("meter-gone"));
        old.ended("tool_error", Duration::ZERO);
        old.tool("meter-gone__t").observe(1.0);
        drop(old);
        assert!(shown().contains("meter-gone__t"));
        new.ended("ok", Duration::ZERO);
        drop(new);
        assert!(!shown().contains("meter-gone"));
    }

    #[test]
    fn of_names_without_end_only_so_many_are_counted() {
        let meter = Meter::of("meter-many");
        for number in 0..2 * TOOLS_MAX {
            meter.tool(&format!("meter-many__{number}")).observe(1.0);
        }
        assert_eq!(lock(&meter.series.tools).len(), TOOLS_MAX);
        assert!(!shown().contains(&format!("meter-many__{TOOLS_MAX}\"")));
    }
}
