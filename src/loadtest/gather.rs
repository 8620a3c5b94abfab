//! Puts together what came of a run: each interval as soon as it is over, so that a long run takes no more memory than a short one,
//! and all of it at the end. Must not know how it was measured.

use std::time::Duration;

use super::Plan;
use super::results::{Cost, Errors, Generator, Idle, Interval, Kind, Requests, Results, Spread, ms};
use super::run::Ending;
use super::server::{Sample, Told};
use super::tally::{Faults, Latencies, Ledger, Seen};

/// One interval as it was seen.
pub struct Slice {
    /// Its end, from the beginning of what is measured.
    pub at: Duration,
    /// Its length.
    pub took: Duration,
    /// What was seen of the clients.
    pub seen: Seen,
    /// What the server told at its end.
    pub told: Option<Told>,
    /// Processor time of the generator.
    pub own_cpu_seconds: f64,
}

/// What is kept of all intervals so far.
pub struct Record {
    seen: Seen,
    seconds: f64,
    own_cpu_seconds: f64,
    intervals: Vec<Interval>,
    bill: Bill,
}

impl Record {
    /// Of nothing yet, for so many kinds of requests.
    pub fn new(kinds: usize, before: Option<Told>) -> Self {
        let mut bill = Bill::default();
        bill.add(0, before);
        Self { seen: Seen::none(kinds), seconds: 0.0, own_cpu_seconds: 0.0, intervals: Vec::new(), bill }
    }

    /// Whether there is no interval yet.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// Adds an interval.
    pub fn add(&mut self, slice: &Slice) {
        let took = slice.took.as_secs_f64();
        let latencies = slice.seen.latencies();
        let ms = |ns: u64| (!latencies.is_empty()).then(|| ms(ns));
        self.intervals.push(Interval {
            at_seconds: (slice.at.as_secs_f64() * 1e3).round() / 1e3,
            per_second: slice.seen.answered() as f64 / took.max(f64::EPSILON),
            failed: slice.seen.failed(),
            p50_ms: ms(latencies.value_at_quantile(0.5)),
            p99_ms: ms(latencies.value_at_quantile(0.99)),
            max_ms: ms(latencies.max()),
            server_cores: slice.told.zip(self.bill.newest()).and_then(|(now, last)| cores(last, now)),
            server_rss_bytes: slice.told.map(|told| told.sample.rss_bytes),
            generator_cores: slice.own_cpu_seconds / took.max(f64::EPSILON),
        });
        self.seen.add(&slice.seen);
        self.seconds += took;
        self.own_cpu_seconds += slice.own_cpu_seconds;
        self.bill.add(slice.seen.answered(), slice.told);
    }
}

/// Processors that were busy between two looks at one process.
fn cores(last: Told, now: Told) -> Option<f64> {
    let seconds = now.at.saturating_duration_since(last.at).as_secs_f64();
    let cpu = (now.sample.cpu_seconds - last.sample.cpu_seconds).max(0.0);
    (now.sample.pid == last.sample.pid && seconds > 0.0).then_some(cpu / seconds)
}

/// What the server told, from the first time to the last, and how many were answered between.
#[derive(Default)]
struct Bill {
    first: Option<Told>,
    last: Option<Told>,
    /// Answered between the first and the last.
    answered: u64,
    /// Answered since the last.
    since: u64,
    rss_most: u64,
    queue_most: u64,
}

impl Bill {
    fn newest(&self) -> Option<Told> {
        self.last.or(self.first)
    }

    fn add(&mut self, answered: u64, told: Option<Told>) {
        self.since += answered;
        let Some(now) = told else { return };
        match self.first {
            // What was answered before nobody knows the cost of.
            None => self.first = Some(now),
            Some(_) => {
                self.answered += self.since;
                self.last = Some(now);
            }
        }
        self.since = 0;
        self.rss_most = self.rss_most.max(now.sample.rss_bytes);
        self.queue_most = self.queue_most.max(now.sample.queues.history.depth);
    }

    /// None where the server told less than twice, or was another process in the end.
    fn cost(&self, after: Option<Sample>) -> Option<Cost> {
        let (first, last) = self.first.zip(self.last)?;
        let cores = cores(first, last)?;
        let (before, last) = (first.sample, last.sample);
        let cpu = (last.cpu_seconds - before.cpu_seconds).max(0.0);
        let after = after.filter(|after| after.pid == before.pid).unwrap_or(last);
        Some(Cost {
            cpu_us_per_request: (self.answered > 0).then(|| cpu * 1e6 / self.answered as f64),
            cores,
            rss_before_bytes: before.rss_bytes,
            rss_most_bytes: self.rss_most,
            rss_after_bytes: after.rss_bytes,
            history_dropped: after.queues.history.dropped.saturating_sub(before.queues.history.dropped),
            history_queue_most: self.queue_most,
            history_queue_max: after.queues.history.max,
        })
    }
}

/// Puts it together, with what was seen after the last interval.
pub fn gather(
    plan: &Plan,
    record: Record,
    rest: &Seen,
    after: Option<Told>,
    idle: Option<Idle>,
    ending: &Ending,
) -> Results {
    let Record { seen: mut all, seconds, own_cpu_seconds, intervals, bill } = record;
    let rate = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
    let (per_second, bytes_per_second) = (rate(all.answered() as f64), rate(all.bytes as f64));
    // What was in flight at the end took as long as it took; it does not count for the rate.
    all.add(rest);
    all.faults.merge(&ending.stream_faults);
    let latencies = all.latencies();
    let server = bill.cost(after.map(|told| told.sample));
    let untold = || ending.why_not.clone().unwrap_or_else(|| "the server did not tell in time".to_owned());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let own_cores = rate(own_cpu_seconds);
    Results {
        version: env!("CARGO_PKG_VERSION"),
        ended_at: jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(),
        url: plan.target.url().to_owned(),
        era: plan.era.name(),
        r#loop: if plan.rate.is_some() { "open" } else { "closed" },
        connections: plan.connections,
        rate: plan.rate,
        threads: plan.threads,
        processors,
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
        calls: kinds(plan, &all),
        errors: errors(&all.faults),
        idle_streams: idle.map(|idle| Idle { lost: ending.streams_lost, ..idle }),
        server_unknown: server.is_none().then(untold),
        server,
        generator: Generator {
            cores: own_cores,
            is_limit: own_cores > 0.9 * plan.threads.min(processors) as f64,
            lag_p99_ms: (!all.lag.is_empty()).then(|| ms(all.lag.value_at_quantile(0.99))),
        },
        intervals,
        is_near: plan.target.is_near(),
        curve: curve(&latencies),
    }
}

fn kinds(plan: &Plan, seen: &Seen) -> Vec<Kind> {
    let kinds = plan.calls.iter().zip(&seen.calls).map(|(call, latencies)| Kind {
        name: call.label.clone(),
        weight: call.weight,
        answered: latencies.len(),
        latency_ms: Spread::of(latencies),
    });
    kinds.collect()
}

/// What went wrong, most often first.
fn errors(faults: &Ledger) -> Vec<Errors> {
    let error = |(what, faults): (&str, &Faults)| Errors {
        what: what.to_owned(),
        count: faults.count,
        example: faults.example.clone(),
    };
    let mut errors: Vec<Errors> = faults.iter().map(error).collect();
    errors.sort_by_key(|errors| std::cmp::Reverse(errors.count));
    errors
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::fault::Fault;
    use super::super::server::{HistoryQueue, Queues};
    use super::super::tally::Tally;
    use super::super::{Call, Target};
    use super::*;

    const KINDS: usize = 1;

    /// What process 7 tells after so many seconds, of so much processor time.
    fn told(start: Instant, seconds: u64, cpu_seconds: f64) -> Told {
        let queues = Queues { history: HistoryQueue { depth: seconds, max: 100, dropped: 0 } };
        let sample = Sample { pid: 7, cpu_seconds, rss_bytes: 1000 * seconds, threads: 1, queues };
        Told { at: start + Duration::from_secs(seconds), sample }
    }

    /// A second in which so many were answered, and so many failed.
    fn slice(at: u64, answered: u64, failed: u64, told: Option<Told>) -> Slice {
        let tally = Tally::new(KINDS);
        (0..answered).for_each(|_| tally.answered(0, Duration::from_millis(2), 10, 0));
        (0..failed).for_each(|_| tally.failed(&Fault::status(503, b"busy")));
        let took = Duration::from_secs(1);
        Slice { at: Duration::from_secs(at), took, seen: tally.take(), told, own_cpu_seconds: 0.5 }
    }

    fn near(one: Option<f64>, other: f64) -> bool {
        one.is_some_and(|one| (one - other).abs() < 1e-9)
    }

    async fn gathered(record: Record, stream_faults: Ledger) -> Results {
        let target = Target::find("http://127.0.0.1:9/mcp", false).await.unwrap();
        let (label, method) = ("echo".to_owned(), "tools/call".to_owned());
        let call = Call { label, method, params: serde_json::Map::new(), headers: Vec::new(), weight: 1 };
        let plan = Plan::of(target, vec![call]);
        let ending = Ending {
            is_early: false,
            unanswered: 0,
            unsent: 0,
            streams_lost: 0,
            stream_faults,
            why_not: None,
        };
        gather(&plan, record, &Seen::none(KINDS), None, None, &ending)
    }

    #[tokio::test]
    async fn a_look_that_was_missed_spreads_the_processor_time_over_both_intervals() {
        let start = Instant::now();
        let mut record = Record::new(KINDS, Some(told(start, 0, 1.0)));
        record.add(&slice(1, 10, 0, Some(told(start, 1, 1.5))));
        record.add(&slice(2, 10, 0, None));
        record.add(&slice(3, 10, 0, Some(told(start, 3, 2.5))));
        let results = gathered(record, Ledger::default()).await;
        let cores: Vec<Option<f64>> = results.intervals.iter().map(|at| at.server_cores).collect();
        assert!(near(cores[0], 0.5) && cores[1].is_none() && near(cores[2], 0.5), "{cores:?}");
        let server = results.server.unwrap();
        assert!(near(server.cpu_us_per_request, 1.5e6 / 30.0) && near(Some(server.cores), 0.5), "{server:?}");
        assert_eq!((server.rss_most_bytes, server.history_queue_most), (3000, 3));
    }

    #[tokio::test]
    async fn the_cost_begins_with_the_first_that_the_server_tells_and_ends_with_the_last() {
        let start = Instant::now();
        let mut record = Record::new(KINDS, None);
        record.add(&slice(1, 1000, 0, None));
        record.add(&slice(2, 1000, 0, Some(told(start, 2, 4.0))));
        record.add(&slice(3, 10, 0, Some(told(start, 3, 4.5))));
        record.add(&slice(4, 1000, 0, None));
        let server = gathered(record, Ledger::default()).await.server.unwrap();
        assert!(near(server.cpu_us_per_request, 0.5e6 / 10.0), "{server:?}");
        assert_eq!(server.rss_before_bytes, 2000);
        let mut once = Record::new(KINDS, None);
        once.add(&slice(1, 10, 0, Some(told(start, 1, 1.0))));
        assert!(gathered(once, Ledger::default()).await.server.is_none());
        let mut another = Record::new(KINDS, Some(told(start, 0, 1.0)));
        let mut anew = told(start, 1, 0.1);
        anew.sample.pid = 8;
        another.add(&slice(1, 10, 0, Some(anew)));
        let results = gathered(another, Ledger::default()).await;
        assert!(results.server.is_none() && results.server_unknown.is_some());
    }

    #[tokio::test]
    async fn what_failed_makes_no_request_cheaper_and_is_told() {
        let start = Instant::now();
        let mut record = Record::new(KINDS, Some(told(start, 0, 0.0)));
        record.add(&slice(1, 10, 90, Some(told(start, 1, 1.0))));
        let results = gathered(record, Ledger::default()).await;
        assert!(near(results.server.unwrap().cpu_us_per_request, 1e5), "{results:?}");
        assert!(results.remarks().iter().any(|remark| remark.starts_with("90 % of the requests")));
        assert_eq!((results.requests.failed, results.errors[0].count, results.is_well()), (90, 90, false));
        let mut few = Record::new(KINDS, Some(told(start, 0, 0.0)));
        few.add(&slice(1, 1000, 1, Some(told(start, 1, 1.0))));
        let remarks = gathered(few, Ledger::default()).await.remarks();
        assert!(!remarks.iter().any(|remark| remark.contains("of the requests failed")), "{remarks:?}");
    }

    #[tokio::test]
    async fn an_interval_without_answers_has_no_latency() {
        let mut record = Record::new(KINDS, None);
        record.add(&slice(1, 0, 0, None));
        record.add(&slice(2, 5, 0, None));
        let results = gathered(record, Ledger::default()).await;
        let told: Vec<bool> = results.intervals.iter().map(|at| at.p99_ms.is_some()).collect();
        assert_eq!(told, [false, true]);
        assert!(results.to_csv().contains("1.000,0.0,0,,,,,,0.500\n"), "{}", results.to_csv());
        let nothing = gathered(Record::new(KINDS, None), Ledger::default()).await;
        assert!(nothing.latency_ms.is_none() && nothing.calls[0].latency_ms.is_none() && !nothing.is_well());
    }

    #[tokio::test]
    async fn idle_streams_that_did_not_come_about_are_failures() {
        let mut record = Record::new(KINDS, None);
        record.add(&slice(1, 5, 0, None));
        let mut faults = Ledger::default();
        faults.add("no idle stream: status 503", "too many", 3);
        let results = gathered(record, faults).await;
        assert_eq!((results.requests.answered, results.requests.failed), (5, 3));
        assert_eq!(results.errors[0].example, "too many");
        assert!(!results.is_well());
    }

    #[tokio::test]
    async fn a_server_on_another_machine_shares_no_processors_with_the_generator() {
        let start = Instant::now();
        let mut record = Record::new(KINDS, Some(told(start, 0, 0.0)));
        record.add(&slice(1, 5, 0, Some(told(start, 1, 10_000.0))));
        let mut results = gathered(record, Ledger::default()).await;
        let shared = |results: &Results| results.remarks().iter().any(|remark| remark.contains("shared"));
        assert!(shared(&results));
        results.is_near = false;
        assert!(!shared(&results));
    }
}
