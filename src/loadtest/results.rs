//! What came of a run, in numbers that anybody can read, written as JSON, CSV and a table. Must not know how it was measured.

use std::fmt::Write as _;

use serde::Serialize;

use super::tally::Latencies;
use super::words::many;

/// Of more failures than this part, it is told that they are in the server's cost.
const FEW: f64 = 0.01;

/// All of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// Of this program.
    pub version: &'static str,
    /// When it ended, in UTC.
    pub ended_at: String,
    /// The server.
    pub url: String,
    /// How it was spoken to.
    pub era: &'static str,
    /// `closed`: each client asks again as soon as it has its answer; `open`: requests come at a rate.
    pub r#loop: &'static str,
    /// Clients.
    pub connections: usize,
    /// Requests a second that were to come.
    pub rate: Option<f64>,
    /// Threads of the generator.
    pub threads: usize,
    /// Processors of this machine.
    pub processors: usize,
    /// How long it was measured.
    pub measured_seconds: f64,
    /// Whether somebody ended it.
    pub interrupted: bool,
    /// Requests.
    pub requests: Requests,
    /// Of all of them; none when nothing was answered.
    pub latency_ms: Option<Spread>,
    /// Of each kind.
    pub calls: Vec<Kind>,
    /// What went wrong, most often first.
    pub errors: Vec<Errors>,
    /// Idle streams, where there were to be any.
    pub idle_streams: Option<Idle>,
    /// What it cost the server.
    pub server: Option<Cost>,
    /// Why that is not known.
    pub server_unknown: Option<String>,
    /// What it cost this machine.
    pub generator: Generator,
    /// Interval by interval.
    pub intervals: Vec<Interval>,
    /// Whether the server is on this machine.
    #[serde(skip)]
    pub is_near: bool,
    /// For the plot: how long requests took at each of many percentiles.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
}

/// Requests.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// Answered rightly, those too that were in flight at the end.
    pub answered: u64,
    /// Answered wrongly, or not in time.
    pub failed: u64,
    /// In flight when somebody ended it.
    pub unanswered: usize,
    /// Due and never sent, since all clients waited.
    pub unsent: u64,
    /// Answers a second.
    pub per_second: f64,
    /// Bytes of answers a second.
    pub bytes_per_second: f64,
    /// Events of each answer that was a stream.
    pub events_per_stream: Option<f64>,
}

/// How long requests took, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p75: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub p9999: f64,
    pub max: f64,
}

/// One kind of request.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// The tool or the method.
    pub name: String,
    /// How often it was to be asked, against the others.
    pub weight: u32,
    /// Answered rightly.
    pub answered: u64,
    /// How long it took; none when nothing was answered.
    pub latency_ms: Option<Spread>,
}

/// What went wrong in one way.
#[derive(Debug, Clone, Serialize)]
pub struct Errors {
    /// In which.
    pub what: String,
    /// How often.
    pub count: u64,
    /// What was said the first time.
    pub example: String,
}

/// Streams on which nothing came.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// So many were wanted.
    pub asked: usize,
    /// So many were opened.
    pub opened: usize,
    /// So many ended too early.
    pub lost: u64,
    /// What each took of the server's memory.
    pub bytes_each: Option<f64>,
}

/// What it cost the server.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Processor time of one request that was answered rightly, in microseconds; what others took is in it, too.
    pub cpu_us_per_request: Option<f64>,
    /// Processors that it kept busy.
    pub cores: f64,
    /// Resident memory at first, at its most, and after, in bytes.
    pub rss_before_bytes: u64,
    pub rss_most_bytes: u64,
    pub rss_after_bytes: u64,
    /// History records that found no room.
    pub history_dropped: u64,
    /// The most that waited to be written, and how many may.
    pub history_queue_most: u64,
    pub history_queue_max: u64,
}

/// What it cost this machine.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Generator {
    /// Processors that it kept busy.
    pub cores: f64,
    /// Whether its threads had little time left: then the figures are its own limit.
    pub is_limit: bool,
    /// How late it woke for what was due, all but a hundredth of the times, in milliseconds.
    pub lag_p99_ms: Option<f64>,
}

/// One interval.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    /// Its end, in seconds.
    pub at_seconds: f64,
    /// Answers a second.
    pub per_second: f64,
    /// What went wrong.
    pub failed: u64,
    /// How long requests took; none when nothing was answered.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
    /// Processors that the server kept busy since it told that last.
    pub server_cores: Option<f64>,
    /// Its resident memory.
    pub server_rss_bytes: Option<u64>,
    /// Processors that the generator kept busy.
    pub generator_cores: f64,
}

/// Nanoseconds in milliseconds, to the microsecond.
pub fn ms(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 1e3).round() / 1e3
}

impl Spread {
    /// Of these; none where there are none.
    pub fn of(latencies: &Latencies) -> Option<Self> {
        let at = |quantile| ms(latencies.value_at_quantile(quantile));
        (!latencies.is_empty()).then(|| Self {
            min: ms(latencies.min()),
            mean: (latencies.mean() / 1e3).round() / 1e3,
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: ms(latencies.max()),
        })
    }

    /// The columns of a table.
    pub const NAMES: [&'static str; 10] =
        ["least", "mean", "p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "most"];

    /// What stands in them; nothing where nothing was answered.
    pub fn columns(spread: Option<Self>) -> [Option<f64>; 10] {
        let Some(ms) = spread else { return [None; 10] };
        [ms.min, ms.mean, ms.p50, ms.p75, ms.p90, ms.p95, ms.p99, ms.p999, ms.p9999, ms.max].map(Some)
    }
}

impl Results {
    /// Whether every request was answered rightly, and there were some.
    pub fn is_well(&self) -> bool {
        let lost = self.idle_streams.is_some_and(|idle| idle.opened < idle.asked || idle.lost > 0);
        self.requests.answered > 0 && self.requests.failed == 0 && !lost
    }

    /// Whether no request was asked in any interval.
    pub fn is_of_nothing(&self) -> bool {
        self.intervals.is_empty() || self.requests.answered == 0 && self.requests.failed == 0
    }

    /// What whoever reads the figures should know before.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.interrupted {
            remarks.push("It was ended early; this is what was measured by then.".to_owned());
        }
        remarks.extend(self.remark_on_limits());
        if self.requests.unsent > 0 {
            remarks.push(format!(
                "{} requests were due and never sent, since {} waited for answers all the time: the rate was more than \
                 the server, or so many of them, could do. Latencies count from when each was due.",
                self.requests.unsent,
                many(self.connections, "connection")
            ));
        }
        if let Some(lag) = self.generator.lag_p99_ms.filter(|lag| *lag > 1.0) {
            remarks.push(format!(
                "This machine woke up to {lag:.1} ms late for what was due (p99), which is part of the latencies."
            ));
        }
        if self.era == "streamed" && self.requests.events_per_stream.is_none() && self.requests.answered > 0 {
            remarks.push("No answer came as a stream: the tool tells nothing of its progress.".to_owned());
        }
        remarks.extend(self.remarks_on_cost());
        remarks
    }

    /// Whether it was the generator, or the machine, that could do no more.
    fn remark_on_limits(&self) -> Option<String> {
        let own = self.generator.cores;
        if self.generator.is_limit {
            return Some(format!(
                "The generator used {own:.1} processors with {}, so the figures may be its own limit; give it more \
                 --threads, or another machine.",
                many(self.threads, "thread")
            ));
        }
        let all = self.processors;
        let server = self.server.filter(|server| self.is_near && own + server.cores > 0.9 * all as f64)?;
        Some(format!(
            "Server and generator shared {all} processors and used them up ({:.1} and {own:.1}); alone the server could do more.",
            server.cores
        ))
    }

    fn remarks_on_cost(&self) -> Vec<String> {
        let Some(server) = self.server else {
            let why = self.server_unknown.iter();
            return why.map(|why| format!("Its processor time and memory are not known: {why}.")).collect();
        };
        let mut remarks = Vec::new();
        let idle = self.idle_streams;
        let streams = idle.map_or(0, |idle| idle.asked.saturating_sub(idle.opened) as u64 + idle.lost);
        let failed = self.requests.failed.saturating_sub(streams);
        let failed = failed as f64 / (self.requests.answered + failed).max(1) as f64;
        if failed > FEW {
            remarks.push(format!(
                "{:.0} % of the requests failed; what those cost the server is in its processor time a request, which \
                 counts those alone that were answered rightly.",
                failed * 100.0
            ));
        }
        if server.history_dropped > 0 {
            remarks.push(format!(
                "{} records of the history found no room: raise WAYGATE_HISTORY_QUEUE_MAX.",
                server.history_dropped
            ));
        }
        remarks
    }

    /// Interval by interval, for spreadsheets.
    pub fn to_csv(&self) -> String {
        let mut text = String::from(
            "at_seconds,per_second,failed,p50_ms,p99_ms,max_ms,server_cores,server_rss_bytes,generator_cores\n",
        );
        for at in &self.intervals {
            let cores = at.server_cores.map(|cores| format!("{cores:.3}")).unwrap_or_default();
            let rss = at.server_rss_bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
            let [p50, p99, max] = [at.p50_ms, at.p99_ms, at.max_ms]
                .map(|ms| ms.map(|ms| format!("{ms:.3}")).unwrap_or_default());
            let _infallible = writeln!(
                text,
                "{:.3},{:.1},{},{p50},{p99},{max},{cores},{rss},{:.3}",
                at.at_seconds, at.per_second, at.failed, at.generator_cores
            );
        }
        text
    }
}

/// A second in which ten were answered.
#[cfg(test)]
pub fn example() -> Results {
    let mut latencies = super::tally::no_latencies();
    latencies.saturating_record_n(2_000_000, 10);
    let kind = Kind { name: "echo".to_owned(), weight: 1, answered: 10, latency_ms: Spread::of(&latencies) };
    Results {
        version: "0",
        ended_at: "2026-01-01T00:00:00Z".to_owned(),
        url: "http://127.0.0.1:9/mcp".to_owned(),
        era: "modern",
        r#loop: "closed",
        connections: 1,
        rate: None,
        threads: 1,
        processors: 2,
        measured_seconds: 1.0,
        interrupted: false,
        requests: Requests {
            answered: 10,
            failed: 0,
            unanswered: 0,
            unsent: 0,
            per_second: 10.0,
            bytes_per_second: 100.0,
            events_per_stream: None,
        },
        latency_ms: Spread::of(&latencies),
        calls: vec![kind],
        errors: Vec::new(),
        idle_streams: None,
        server: None,
        server_unknown: None,
        generator: Generator { cores: 0.1, is_limit: false, lag_p99_ms: None },
        intervals: Vec::new(),
        is_near: true,
        curve: Vec::new(),
    }
}
