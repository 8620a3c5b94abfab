//! One run: asks once whether there is anything to measure, opens the idle streams, lets the threads begin, looks at them and at
//! the server each interval, and gathers what came of it. Must not know terminals or files.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::crew::{self, Gauges, Member, Span};
use super::gather::{Record, Slice, gather};
use super::link::Link;
use super::results::{Idle, Results};
use super::server::{Told, Watcher};
use super::tally::{Ledger, Seen};
use super::{LoadError, Plan};

/// Between two looks, of a run that is long enough for many, and of a short one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY_OF_SHORT: Duration = Duration::from_millis(250);
const SHORT: Duration = Duration::from_secs(10);
/// Nobody can see more of them in a plot.
const LOOKS_MAX: u32 = 3600;
/// Between two looks at streams that are opened.
const STREAMS_LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long each stream may take beyond the deadline of the first ones.
const STREAM_WITHIN: Duration = Duration::from_millis(5);
/// Files that are open for other reasons.
const OTHER_FILES: u64 = 64;
/// Beyond its own deadlines, until a thread is left behind.
const THREAD_SLACK: Duration = Duration::from_secs(3);

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Idle streams are opened: so many of so many.
    Streams(usize, usize),
    /// Nothing is measured yet.
    WarmUp,
    /// It counts.
    Measured,
    /// What is in flight is waited for: so many requests.
    Ending(usize),
}

/// What is seen at one look, for who watches.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// How far it is.
    pub phase: Phase,
    /// Since the first request.
    pub since: Duration,
    /// Of so much, with ramp and warm-up.
    pub of: Duration,
    /// Answers a second, in the last interval.
    pub per_second: f64,
    /// Half of them took no longer, in milliseconds; none when nothing was answered.
    pub p50_ms: Option<f64>,
    /// All but a hundredth of them did.
    pub p99_ms: Option<f64>,
    /// What went wrong so far.
    pub failed: u64,
}

/// Carries the plan out. `watch` is told how far it is; `stop` ends it early, and what was measured by then is told.
///
/// # Errors
/// When nothing could be measured.
pub async fn run(
    mut plan: Plan,
    stop: &CancellationToken,
    watch: &mut dyn FnMut(&Moment),
) -> Result<Results, LoadError> {
    let in_vain = || LoadError::Interrupted("it was ended before anything was measured".to_owned());
    let bodies = plan.bodies();
    tokio::select! {
        () = stop.cancelled() => return Err(in_vain()),
        begun = begin(&mut plan, &bodies) => begun?,
    }
    let plan = Arc::new(plan);
    let mut watcher = Watcher::default();
    let first = watcher.look(&plan).await;
    let ending = CancellationToken::new();
    let (go, waits) = watch::channel(None);
    let members =
        (0..plan.threads).map(|number| crew::start(&plan, &bodies, number, waits.clone(), ending.clone()));
    let members: std::io::Result<Vec<Member>> = members.collect();
    // However this ends, the threads do.
    let _ends = ending.clone().drop_guard();
    let members =
        members.map_err(|error| LoadError::Machine(format!("no thread can be started: {error}")))?;
    let stream_faults = Ledger::default();
    let mut course =
        Course { plan: &plan, members, watcher, ending, stop, looked: Instant::now(), stream_faults };
    let idle = course.open_streams(first, watch).await;
    let start = Instant::now();
    let measured = start + plan.ramp + plan.warm_up;
    let until = measured + plan.duration;
    go.send_replace(Some(Span { start, until }));
    let (record, rest) = course.measure((start, measured, until), watch).await;
    let after = course.watcher.look(&plan).await;
    let results = gather(&plan, record, &rest, after, idle, &course.ending_of(stop));
    if results.interrupted && results.is_of_nothing() { Err(in_vain()) } else { Ok(results) }
}

/// Finds out whether there is anything to measure, and whether this machine can.
async fn begin(plan: &mut Plan, bodies: &[Bytes]) -> Result<(), LoadError> {
    let url = plan.target.url().to_owned();
    let unreachable = |why: std::io::Error| LoadError::Unreachable { url: url.clone(), why: why.to_string() };
    let settled = timeout(plan.timeout, plan.target.clone().settled()).await;
    let in_time = settled.map_err(|_elapsed| unreachable(std::io::ErrorKind::TimedOut.into()))?;
    plan.target = in_time.map_err(unreachable)?;
    allow_files(plan)?;
    probe(plan, bodies).await
}

/// How it ended.
pub struct Ending {
    /// Before its time.
    pub is_early: bool,
    /// Requests that nobody waited for any more.
    pub unanswered: usize,
    /// What was due and never sent.
    pub unsent: u64,
    /// Idle streams that ended too early.
    pub streams_lost: u64,
    /// The same, and why others were not opened.
    pub stream_faults: Ledger,
    /// Why the server's own figures are missing.
    pub why_not: Option<String>,
}

struct Course<'a> {
    plan: &'a Plan,
    members: Vec<Member>,
    watcher: Watcher,
    ending: CancellationToken,
    stop: &'a CancellationToken,
    looked: Instant,
    stream_faults: Ledger,
}

impl Course<'_> {
    /// Waits until each idle stream is open, or never will be, and says what they take of the server's memory.
    async fn open_streams(&mut self, first: Option<Told>, watch: &mut dyn FnMut(&Moment)) -> Option<Idle> {
        let asked = self.plan.idle_streams;
        if asked == 0 {
            return None;
        }
        let began = Instant::now();
        // Of some that do not come about, the others do not wait for ever; and what is not open by then is told.
        let within = self.plan.timeout * 2 + STREAM_WITHIN * u32::try_from(asked).unwrap_or(u32::MAX);
        let settled = loop {
            let settled = self.sum(|gauges| &gauges.streams_settled);
            watch(&self.moment(Phase::Streams(settled, asked), began.elapsed(), None));
            if settled >= asked || began.elapsed() >= within || self.stop.is_cancelled() {
                break settled;
            }
            sleep(STREAMS_LOOK_EVERY).await;
        };
        let opened = self.sum(|gauges| &gauges.streams_open);
        self.note_stream_faults(asked - settled.min(asked), within);
        let held = self.watcher.look(self.plan).await;
        let grown =
            first.zip(held).map(|(first, held)| held.sample.rss_bytes.saturating_sub(first.sample.rss_bytes));
        let bytes_each = grown.filter(|_| opened > 0).map(|bytes| bytes as f64 / opened as f64);
        Some(Idle { asked, opened, lost: 0, bytes_each })
    }

    /// Why those are missing that are not open: what is said of them later is of no matter to what is measured.
    fn note_stream_faults(&mut self, late: usize, within: Duration) {
        for member in &self.members {
            let faults = member.gauges.stream_faults.lock().unwrap_or_else(PoisonError::into_inner);
            self.stream_faults.merge(&faults);
        }
        if late > 0 && !self.stop.is_cancelled() {
            let waited = format!("they were waited for {} s", within.as_secs());
            self.stream_faults.add("no idle stream: not open in time", &waited, late as u64);
        }
    }

    /// Looks at everything each interval, until time is up and what is in flight has ended.
    async fn measure(
        &mut self,
        (start, measured, until): (Instant, Instant, Instant),
        watch: &mut dyn FnMut(&Moment),
    ) -> (Record, Seen) {
        let step = if self.plan.duration < SHORT { LOOK_EVERY_OF_SHORT } else { LOOK_EVERY };
        let step = step.max(self.plan.duration / LOOKS_MAX);
        while Instant::now() < measured && !self.stop.is_cancelled() {
            self.wait(measured.min(Instant::now() + step)).await;
            let (seen, took) = self.take();
            watch(&self.moment(Phase::WarmUp, start.elapsed(), Some((&seen, took))));
        }
        let is_begun = Instant::now() >= measured;
        drop(self.take());
        let (from, mut own, mut failed) = (self.looked, cpu_seconds(), 0);
        let mut record = Record::new(self.plan.calls.len(), self.watcher.look(self.plan).await);
        // Whoever ends it while the server is first looked at is told what was measured meanwhile.
        let stop = self.stop;
        let is_due = |record: &Record| !stop.is_cancelled() || is_begun && record.is_empty();
        while Instant::now() < until && is_due(&record) {
            self.wait(until.min(self.looked + step)).await;
            let ((seen, took), used) = (self.take(), cpu_seconds());
            failed += seen.failed();
            let moment = self.moment(Phase::Measured, start.elapsed(), Some((&seen, took)));
            watch(&Moment { failed, ..moment });
            let at = self.looked.duration_since(from);
            let told = self.watcher.look(self.plan).await;
            record.add(&Slice { at, took, seen, told, own_cpu_seconds: used - own });
            own = used;
        }
        if self.stop.is_cancelled() {
            self.ending.cancel();
        }
        self.wait_for_ends(start, failed, watch).await;
        (record, self.take().0)
    }

    async fn wait(&self, until: Instant) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep_until(until.into()) => {}
        }
    }

    /// Waits for the threads, each of which has deadlines of its own.
    async fn wait_for_ends(&mut self, start: Instant, failed: u64, watch: &mut dyn FnMut(&Moment)) {
        let last = Instant::now() + self.plan.timeout + THREAD_SLACK;
        for at in 0..self.members.len() {
            loop {
                let in_flight = self.sum(|gauges| &gauges.in_flight);
                let moment = self.moment(Phase::Ending(in_flight), start.elapsed(), None);
                watch(&Moment { failed, ..moment });
                let Some(member) = self.members.get_mut(at) else { break };
                let ended = timeout(LOOK_EVERY, &mut member.ended).await;
                if ended.is_ok() || Instant::now() >= last {
                    break;
                }
                if self.stop.is_cancelled() {
                    self.ending.cancel();
                }
            }
        }
    }

    fn ending_of(&self, stop: &CancellationToken) -> Ending {
        let sum = |what: fn(&Gauges) -> u64| self.members.iter().map(|member| what(&member.gauges)).sum();
        let streams_lost = sum(|gauges| gauges.streams_lost.load(Ordering::Relaxed));
        let mut stream_faults = self.stream_faults.clone();
        if streams_lost > 0 {
            stream_faults.add("an idle stream ended early", "", streams_lost);
        }
        Ending {
            is_early: stop.is_cancelled(),
            unanswered: self.sum(|gauges| &gauges.in_flight),
            unsent: sum(|gauges| gauges.unsent.load(Ordering::Relaxed)),
            streams_lost,
            stream_faults,
            why_not: self.watcher.why_not().map(str::to_owned),
        }
    }

    /// What was seen since the last time, and how long that is ago.
    fn take(&mut self) -> (Seen, Duration) {
        let mut all = Seen::none(self.plan.calls.len());
        self.members.iter().for_each(|member| all.add(&member.tally.take()));
        let now = Instant::now();
        let took = now.duration_since(self.looked);
        self.looked = now;
        (all, took)
    }

    fn sum(&self, what: fn(&Gauges) -> &AtomicUsize) -> usize {
        self.members.iter().map(|member| what(&member.gauges).load(Ordering::Relaxed)).sum()
    }

    fn moment(&self, phase: Phase, since: Duration, seen: Option<(&Seen, Duration)>) -> Moment {
        let latencies = seen.map(|(seen, _)| seen.latencies()).filter(|latencies| !latencies.is_empty());
        let ms = |quantile| latencies.as_ref().map(|all| all.value_at_quantile(quantile) as f64 / 1e6);
        let rate =
            |(seen, took): (&Seen, Duration)| seen.answered() as f64 / took.as_secs_f64().max(f64::EPSILON);
        Moment {
            phase,
            since,
            of: self.plan.ramp + self.plan.warm_up + self.plan.duration,
            per_second: seen.map_or(0.0, rate),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            failed: seen.map_or(0, |(seen, _)| seen.failed()),
        }
    }
}

/// Processor time of this process.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Has as many files open as there are connections to be, as far as the system lets us.
fn allow_files(plan: &Plan) -> Result<(), LoadError> {
    let needed = (plan.connections + plan.idle_streams) as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    match limit.maximum.is_none_or(|most| most >= needed).then(|| setrlimit(Resource::Nofile, raised)) {
        Some(Ok(())) => Ok(()),
        _ => Err(LoadError::Machine(format!(
            "{needed} open files are needed, and this user may have fewer; raise `ulimit -n`, or ask for fewer \
             connections and streams"
        ))),
    }
}

/// Asks each kind of request once, and opens a connection with each key: where that fails, a million of them would.
async fn probe(plan: &Plan, bodies: &[Bytes]) -> Result<(), LoadError> {
    let url = plan.target.url();
    let told = |what: &str, fault: super::fault::Fault| {
        let (url, what) = (url.to_owned(), what.to_owned());
        let says = if fault.example.is_empty() { fault.what } else { fault.example };
        match fault.status {
            Some(401 | 403) => LoadError::NotPermitted { url, what, says },
            _ if says.starts_with("no answer within") => {
                LoadError::TooSlow { url, seconds: plan.timeout.as_secs_f64() }
            }
            _ => LoadError::Refused { url, what, says },
        }
    };
    for place in 0..plan.keys.len().clamp(1, plan.connections.max(1)) {
        let open = Link::open(plan, place, bodies, Instant::now() + plan.timeout).await;
        let mut link = open.map_err(|fault| told("a connection", fault))?;
        // Another key may do other things; that it does anything is asked once.
        let kinds = if place == 0 { plan.calls.len() } else { 1 };
        for (kind, call) in plan.calls.iter().enumerate().take(kinds) {
            let asked = link.call(kind, plan, Instant::now() + plan.timeout).await;
            asked.map_err(|fault| told(&call.label, fault))?;
        }
        link.close(plan).await;
    }
    Ok(())
}
