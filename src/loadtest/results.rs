//! What came of a run, in numbers that anybody can read: put together here, and written as JSON, CSV and a table. Must not know how
//! it was measured.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::Plan;
use super::run::Ending;
use super::server::Sample;
use super::tally::{Faults, Latencies, Seen, no_latencies};
use super::words::many;

/// One interval as it was seen.
pub struct Slice {
    /// Its end, from the beginning of what is measured.
    pub at: Duration,
    /// Its length.
    pub took: Duration,
    /// What was seen of the clients.
    pub seen: Seen,
    /// What the server told at its end.
    pub sample: Option<Sample>,
    /// What it had told last before.
    pub last: Option<Sample>,
    /// Processor time of the generator.
    pub own_cpu_seconds: f64,
}

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
    /// Of all of them.
    pub latency_ms: Spread,
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
    /// How long it took.
    pub latency_ms: Spread,
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
    /// Processor time of one answered request, in microseconds.
    pub cpu_us_per_request: f64,
    /// Processors that it kept busy.
    pub cores: f64,
    /// Resident memory before, at its most, and after, in bytes.
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
    /// How long requests took.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Processors that the server kept busy.
    pub server_cores: Option<f64>,
    /// Its resident memory.
    pub server_rss_bytes: Option<u64>,
    /// Processors that the generator kept busy.
    pub generator_cores: f64,
}

/// Puts it together.
pub fn gather(
    plan: &Plan,
    slices: Vec<Slice>,
    rest: &Seen,
    (before, after): (Option<Sample>, Option<Sample>),
    idle: Option<Idle>,
    ending: &Ending,
) -> Results {
    let mut in_time = Seen::none(plan.calls.len());
    slices.iter().for_each(|slice| in_time.add(&slice.seen));
    let seconds = slices.iter().map(|slice| slice.took.as_secs_f64()).sum::<f64>();
    let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    let (per_second, bytes_per_second) = (rate(in_time.answered()), rate(in_time.bytes));
    let server = cost(&slices, before, after);
    let own = slices.iter().map(|slice| slice.own_cpu_seconds).sum::<f64>();
    let cores = if seconds > 0.0 { own / seconds } else { 0.0 };
    let mut all = in_time;
    // What was in flight at the end took as long as it took; it does not count for the rate.
    all.add(rest);
    let latencies = all.latencies();
    let kinds = plan.calls.iter().zip(&all.calls);
    let server_unknown = server
        .is_none()
        .then(|| ending.why_not.clone().unwrap_or_else(|| "the server did not tell in time".to_owned()));
    Results {
        version: env!("CARGO_PKG_VERSION"),
        ended_at: jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(),
        url: plan.target.url().to_owned(),
        era: plan.era.name(),
        r#loop: if plan.rate.is_some() { "open" } else { "closed" },
        connections: plan.connections,
        rate: plan.rate,
        threads: plan.threads,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        measured_seconds: seconds,
        interrupted: ending.is_early,
        requests: Requests {
            answered: all.answered(),
            failed: all.failed(),
            unanswered: ending.unanswered,
            unsent: ending.unsent,
            per_second,
            bytes_per_second,
            events_per_stream: (all.streams > 0).then(|| all.events as f64 / all.streams as f64),
        },
        latency_ms: Spread::of(&latencies),
        calls: kinds
            .map(|(call, latencies)| Kind {
                name: call.label.clone(),
                weight: call.weight,
                answered: latencies.len(),
                latency_ms: Spread::of(latencies),
            })
            .collect(),
        errors: errors(&all),
        idle_streams: idle.map(|idle| Idle { lost: ending.streams_lost, ..idle }),
        server,
        server_unknown,
        generator: Generator {
            cores,
            is_limit: cores > 0.9 * plan.threads as f64,
            lag_p99_ms: (!all.lag.is_empty()).then(|| ms(all.lag.value_at_quantile(0.99))),
        },
        intervals: slices.iter().map(Interval::of).collect(),
        curve: curve(&latencies),
    }
}

/// What went wrong, most often first.
fn errors(seen: &Seen) -> Vec<Errors> {
    let error = |(what, faults): (&String, &Faults)| Errors {
        what: what.clone(),
        count: faults.count,
        example: faults.example.clone(),
    };
    let mut errors: Vec<Errors> = seen.faults.iter().map(error).collect();
    errors.sort_by_key(|errors| std::cmp::Reverse(errors.count));
    errors
}

fn ms(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 1e3).round() / 1e3
}

impl Spread {
    fn of(latencies: &Latencies) -> Self {
        let at = |quantile| ms(latencies.value_at_quantile(quantile));
        Self {
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
        }
    }

    /// The percentiles by name, for tables.
    pub fn named(&self) -> [(&'static str, f64); 10] {
        [
            ("least", self.min),
            ("mean", self.mean),
            ("p50", self.p50),
            ("p75", self.p75),
            ("p90", self.p90),
            ("p95", self.p95),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("p99.99", self.p9999),
            ("most", self.max),
        ]
    }
}

impl Interval {
    fn of(slice: &Slice) -> Self {
        let took = slice.took.as_secs_f64().max(f64::EPSILON);
        let mut latencies = no_latencies();
        for calls in &slice.seen.calls {
            // Of the same bounds, it takes all that the other one holds.
            let _infallible = latencies.add(calls);
        }
        let used = slice.sample.zip(slice.last).filter(|(now, before)| now.pid == before.pid);
        Self {
            at_seconds: (slice.at.as_secs_f64() * 1e3).round() / 1e3,
            per_second: slice.seen.answered() as f64 / took,
            failed: slice.seen.failed(),
            p50_ms: ms(latencies.value_at_quantile(0.5)),
            p99_ms: ms(latencies.value_at_quantile(0.99)),
            max_ms: ms(latencies.max()),
            server_cores: used.map(|(now, before)| (now.cpu_seconds - before.cpu_seconds).max(0.0) / took),
            server_rss_bytes: slice.sample.map(|sample| sample.rss_bytes),
            generator_cores: slice.own_cpu_seconds / took,
        }
    }
}

/// From what the server told at both ends; none where it did not, or was another process then.
fn cost(slices: &[Slice], before: Option<Sample>, after: Option<Sample>) -> Option<Cost> {
    let before = before?;
    // The last that lies within what was measured: what came after it is not of it.
    let (count, last) =
        slices.iter().enumerate().rev().find_map(|(at, slice)| Some((at + 1, slice.sample?)))?;
    if last.pid != before.pid {
        return None;
    }
    let told = slices.iter().take(count);
    let answered: u64 = told.clone().map(|slice| slice.seen.answered() + slice.seen.failed()).sum();
    let seconds: f64 = told.map(|slice| slice.took.as_secs_f64()).sum();
    let cpu = (last.cpu_seconds - before.cpu_seconds).max(0.0);
    let samples = || slices.iter().filter_map(|slice| slice.sample).chain([before]);
    let after = after.filter(|after| after.pid == before.pid).unwrap_or(last);
    Some(Cost {
        cpu_us_per_request: if answered > 0 { cpu * 1e6 / answered as f64 } else { 0.0 },
        cores: if seconds > 0.0 { cpu / seconds } else { 0.0 },
        rss_before_bytes: before.rss_bytes,
        rss_most_bytes: samples().map(|sample| sample.rss_bytes).max().unwrap_or(before.rss_bytes),
        rss_after_bytes: after.rss_bytes,
        history_dropped: after.queues.history.dropped.saturating_sub(before.queues.history.dropped),
        history_queue_most: samples().map(|sample| sample.queues.history.depth).max().unwrap_or(0),
        history_queue_max: after.queues.history.max,
    })
}

/// Percentiles ever closer to all of them, and how long requests took there.
fn curve(latencies: &Latencies) -> Vec<(f64, f64)> {
    const STEPS_EACH: u32 = 20;
    let count = latencies.len();
    let mut points = Vec::new();
    for step in 0.. {
        // 0, 90, 99 and 99.9 % are as far from each other.
        let beyond = 10_f64.powf(-f64::from(step) / f64::from(STEPS_EACH));
        if count == 0 || beyond * (count as f64) < 1.0 {
            break;
        }
        points.push((1.0 - beyond, ms(latencies.value_at_quantile(1.0 - beyond))));
    }
    points
}

impl Results {
    /// Whether every request was answered rightly, and there were some.
    pub fn is_well(&self) -> bool {
        let lost = self.idle_streams.is_some_and(|idle| idle.opened < idle.asked || idle.lost > 0);
        self.requests.answered > 0 && self.requests.failed == 0 && !lost
    }

    /// What whoever reads the figures should know before.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.interrupted {
            remarks.push("It was ended early; this is what was measured by then.".to_owned());
        }
        if self.generator.is_limit {
            remarks.push(format!(
                "The generator used {:.1} processors with {}, so the figures may be its own limit; give it more \
                 --threads, or another machine.",
                self.generator.cores,
                many(self.threads, "thread")
            ));
        } else if let Some(server) = &self.server
            && self.generator.cores + server.cores > 0.9 * self.processors as f64
        {
            remarks.push(format!(
                "Server and generator shared {} processors and used them up ({:.1} and {:.1}); alone the server could do more.",
                self.processors, server.cores, self.generator.cores
            ));
        }
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
        if let Some(dropped) = self.server.map(|server| server.history_dropped).filter(|dropped| *dropped > 0)
        {
            remarks.push(format!(
                "{dropped} records of the history found no room: raise WAYGATE_HISTORY_QUEUE_MAX."
            ));
        }
        remarks.extend(
            self.server_unknown
                .as_ref()
                .map(|why| format!("Its processor time and memory are not known: {why}.")),
        );
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
            let _infallible = writeln!(
                text,
                "{:.3},{:.1},{},{:.3},{:.3},{:.3},{cores},{rss},{:.3}",
                at.at_seconds, at.per_second, at.failed, at.p50_ms, at.p99_ms, at.max_ms, at.generator_cores
            );
        }
        text
    }
}
