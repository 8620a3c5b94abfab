//! The threads of the load: each with a runtime of its own, its part of the connections and of the idle streams, and a tally.
//!
//! Must not know what becomes of what is tallied.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

use super::Plan;
use super::client::Client;
use super::farewell::Sessions;
use super::fault::Fault;
use super::link::Link;
use super::mix::Turns;
use super::pace::{Pacer, Schedule};
use super::tally::{Ledger, Tally};

/// Idle streams that one thread opens at once.
const OPENED_AT_ONCE: usize = 64;
/// Beyond the deadline of what is in flight, until it is left behind.
const SLACK: Duration = Duration::from_millis(500);
/// What is in flight when somebody said stop is waited for so long.
const STOPPED_WITHIN: Duration = Duration::from_secs(1);

/// When the load begins and ends.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// The first request.
    pub start: Instant,
    /// No request is sent from then on.
    pub until: Instant,
}

/// What is known of a thread while it runs.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Requests that wait for their answers.
    pub in_flight: AtomicUsize,
    /// Idle streams that are open.
    pub streams_open: AtomicUsize,
    /// Idle streams that are open or will never be.
    pub streams_settled: AtomicUsize,
    /// Idle streams that ended too early.
    pub streams_lost: AtomicU64,
    /// Why idle streams were not opened.
    pub stream_faults: Mutex<Ledger>,
    /// What was due and never sent.
    pub unsent: AtomicU64,
}

/// One thread as seen from outside.
pub struct Member {
    /// What it sees.
    pub tally: Arc<Tally>,
    /// How it is.
    pub gauges: Arc<Gauges>,
    /// Told when it has ended.
    pub ended: oneshot::Receiver<()>,
}

/// Starts a thread for its share of the plan. It opens its idle streams at once, and begins to send when `go` says so.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    plan: &Arc<Plan>,
    bodies: &[Bytes],
    number: usize,
    go: watch::Receiver<Option<Span>>,
    ending: CancellationToken,
) -> std::io::Result<Member> {
    let tally = Arc::new(Tally::new(plan.calls.len()));
    let gauges = Arc::new(Gauges::default());
    let (tell, ended) = oneshot::channel();
    let (own_plan, own_tally, own_gauges) = (Arc::clone(plan), Arc::clone(&tally), Arc::clone(&gauges));
    let bodies = bodies.to_vec();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("load-{number}")).spawn(move || {
        let desk = Rc::new(Desk {
            turns: RefCell::new(Turns::new(own_plan.calls.iter().map(|call| call.weight))),
            plan: own_plan,
            bodies,
            tally: own_tally,
            gauges: own_gauges,
            sessions: Sessions::default(),
            ending,
        });
        LocalSet::new().block_on(&runtime, work(desk, number, go));
        // Whoever waits may have given up.
        let _nobody_waits = tell.send(());
    })?;
    Ok(Member { tally, gauges, ended })
}

/// What the tasks of a thread share.
pub struct Desk {
    /// What is to be done.
    pub plan: Arc<Plan>,
    /// The body of each kind of request.
    pub bodies: Vec<Bytes>,
    /// What is seen.
    pub tally: Arc<Tally>,
    /// How the thread is.
    pub gauges: Arc<Gauges>,
    /// Which kind of request is next.
    pub turns: RefCell<Turns>,
    /// What is left to be ended.
    pub sessions: Sessions,
    /// Told when all is to end.
    pub ending: CancellationToken,
}

impl Desk {
    /// Waits until then, or until all is to end.
    pub async fn sleep_until(&self, time: Instant) {
        tokio::select! {
            () = self.ending.cancelled() => {}
            () = tokio::time::sleep_until(time.into()) => {}
        }
    }
}

/// How many of `all` are of the thread of this number.
fn share(all: usize, number: usize, threads: usize) -> usize {
    (all + threads - 1 - number) / threads
}

async fn work(desk: Rc<Desk>, number: usize, mut go: watch::Receiver<Option<Span>>) {
    let threads = desk.plan.threads;
    let mut idle = JoinSet::new();
    let gate = Rc::new(Semaphore::new(OPENED_AT_ONCE));
    for nth in 0..share(desk.plan.idle_streams, number, threads) {
        idle.spawn_local(idle_stream(Rc::clone(&desk), Rc::clone(&gate), nth * threads + number));
    }
    let begun = tokio::select! {
        () = desk.ending.cancelled() => None,
        span = go.wait_for(Option::is_some) => span.ok().and_then(|span| *span),
    };
    if let Some(span) = begun {
        load(&desk, number, span).await;
    }
    // Before their sessions: a stream that ends with its session would be taken for lost.
    idle.shutdown().await;
    desk.sessions.end(&desk.plan).await;
}

async fn load(desk: &Rc<Desk>, number: usize, span: Span) {
    let threads = desk.plan.threads;
    let schedule = desk.plan.rate.map(|rate| Schedule { rate, ramp: desk.plan.ramp });
    let turn = (number as u64, threads as u64);
    let pacer = schedule.map(|schedule| Pacer::new(schedule, (span.start, span.until), turn)).transpose();
    let pacer = match pacer {
        Ok(pacer) => pacer.map(Rc::new),
        Err(error) => return desk.tally.failed(&Fault::unconnected(&error)),
    };
    let mut clients = JoinSet::new();
    for nth in 0..share(desk.plan.connections, number, threads) {
        let place = nth * threads + number;
        clients.spawn_local(client(Rc::clone(desk), span, pacer.clone(), place));
    }
    let all = async { while clients.join_next().await.is_some() {} };
    within(desk, span, all).await;
    if let Some(pacer) = &pacer {
        desk.gauges.unsent.store(pacer.left_over(), Ordering::Relaxed);
    }
    // Those that are left behind lay nothing down any more.
    clients.shutdown().await;
}

/// One client's life. At a rate, it is the rate that grows; else the clients come one by one.
async fn client(desk: Rc<Desk>, span: Span, pacer: Option<Rc<Pacer>>, place: usize) {
    if pacer.is_none() {
        let turn = desk.plan.ramp.mul_f64(place as f64 / desk.plan.connections.max(1) as f64);
        desk.sleep_until(span.start + turn).await;
    }
    Client::new(desk, place).live(span, pacer).await;
}

/// Waits until all is done, or what is in flight is beyond its deadline, or somebody said stop.
async fn within(desk: &Desk, span: Span, all: impl Future<Output = ()>) {
    let last = span.until + desk.plan.timeout + SLACK;
    let stopped = async {
        desk.ending.cancelled().await;
        tokio::time::sleep(STOPPED_WITHIN).await;
    };
    tokio::select! {
        () = all => {}
        () = stopped => {}
        () = tokio::time::sleep_until(last.into()) => {}
    }
}

/// One stream that is opened and held.
async fn idle_stream(desk: Rc<Desk>, gate: Rc<Semaphore>, place: usize) {
    let opened = async {
        let _place = gate.acquire().await;
        let until = Instant::now() + desk.plan.timeout;
        // It asks for nothing else.
        let mut link = Link::open(&desk.plan, place, &[], until).await?;
        desk.sessions.opened(link.session(), place);
        link.listen(&desk.plan, Instant::now() + desk.plan.timeout).await?;
        Ok::<_, Fault>(link)
    };
    match opened.await {
        Err(fault) => {
            let mut faults = desk.gauges.stream_faults.lock().unwrap_or_else(PoisonError::into_inner);
            faults.add(&format!("no idle stream: {}", fault.what), &fault.example, 1);
            desk.gauges.streams_settled.fetch_add(1, Ordering::Relaxed);
        }
        Ok(mut link) => {
            desk.gauges.streams_open.fetch_add(1, Ordering::Relaxed);
            desk.gauges.streams_settled.fetch_add(1, Ordering::Relaxed);
            link.hold().await;
            desk.gauges.streams_open.fetch_sub(1, Ordering::Relaxed);
            desk.gauges.streams_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_shared_among_threads_and_none_is_left_out() {
        for (all, threads) in [(64, 1), (7, 3), (2, 4), (0, 2)] {
            let shares: Vec<usize> = (0..threads).map(|number| share(all, number, threads)).collect();
            assert_eq!(shares.iter().sum::<usize>(), all, "{shares:?}");
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
        }
    }
}
