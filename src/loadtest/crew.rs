//! The threads of the load: each with a runtime of its own, its part of the connections and of the idle streams, and a tally.
//!
//! Must not know what becomes of what is tallied.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

use super::Plan;
use super::fault::Fault;
use super::link::Link;
use super::mix::Turns;
use super::pace::{Pacer, Schedule};
use super::tally::Tally;

/// Idle streams that one thread opens at once.
const OPENED_AT_ONCE: usize = 64;
/// After a connection that did not come about, until the next is tried: ever longer.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MOST: Duration = Duration::from_secs(1);
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
    number: usize,
    go: watch::Receiver<Option<Span>>,
    ending: CancellationToken,
) -> std::io::Result<Member> {
    let tally = Arc::new(Tally::new(plan.calls.len()));
    let gauges = Arc::new(Gauges::default());
    let (tell, ended) = oneshot::channel();
    let (own_plan, own_tally, own_gauges) = (Arc::clone(plan), Arc::clone(&tally), Arc::clone(&gauges));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("load-{number}")).spawn(move || {
        let desk = Rc::new(Desk {
            turns: RefCell::new(Turns::new(own_plan.calls.iter().map(|call| call.weight))),
            plan: own_plan,
            tally: own_tally,
            gauges: own_gauges,
            ending,
        });
        LocalSet::new().block_on(&runtime, work(desk, number, go));
        // Whoever waits may have given up.
        let _nobody_waits = tell.send(());
    })?;
    Ok(Member { tally, gauges, ended })
}

/// What the tasks of a thread share.
struct Desk {
    plan: Arc<Plan>,
    tally: Arc<Tally>,
    gauges: Arc<Gauges>,
    turns: RefCell<Turns>,
    ending: CancellationToken,
}

/// How many of `all` are of the thread of this number.
fn share(all: usize, number: usize, threads: usize) -> usize {
    (all + threads - 1 - number) / threads
}

async fn work(desk: Rc<Desk>, number: usize, mut go: watch::Receiver<Option<Span>>) {
    let threads = desk.plan.threads;
    let mut idle = JoinSet::new();
    let gate = Rc::new(Semaphore::new(OPENED_AT_ONCE));
    for _ in 0..share(desk.plan.idle_streams, number, threads) {
        idle.spawn_local(idle_stream(Rc::clone(&desk), Rc::clone(&gate)));
    }
    let begun = tokio::select! {
        () = desk.ending.cancelled() => return,
        span = go.wait_for(Option::is_some) => span.ok().and_then(|span| *span),
    };
    let Some(span) = begun else { return };
    let schedule = desk.plan.rate.map(|rate| Schedule { rate, ramp: desk.plan.ramp });
    let turn = (number as u64, threads as u64);
    let pacer = schedule.map(|schedule| Pacer::new(schedule, (span.start, span.until), turn)).transpose();
    let pacer = match pacer {
        Ok(pacer) => pacer.map(Rc::new),
        Err(error) => return desk.tally.failed(&Fault::unconnected(&error)),
    };
    let mut clients = JoinSet::new();
    let own = share(desk.plan.connections, number, threads);
    for nth in 0..own {
        let place = nth * threads + number;
        clients.spawn_local(client(Rc::clone(&desk), span, pacer.clone(), place));
    }
    let all = async { while clients.join_next().await.is_some() {} };
    within(&desk, span, all).await;
    if let Some(pacer) = &pacer {
        desk.gauges.unsent.store(pacer.left_over(), Ordering::Relaxed);
    }
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

/// One connection's life.
async fn client(desk: Rc<Desk>, span: Span, pacer: Option<Rc<Pacer>>, place: usize) {
    let plan = &desk.plan;
    let mut pause = PAUSE_FIRST;
    let mut link = None;
    // At a rate, it is the rate that grows; else the connections come one by one.
    let turn = plan.ramp.mul_f64(place as f64 / plan.connections.max(1) as f64);
    let first = if plan.rate.is_some() { span.start } else { span.start + turn };
    sleep_until(&desk, first).await;
    while Instant::now() < span.until && !desk.ending.is_cancelled() {
        let Some(open) = &mut link else {
            match Link::open(plan).await {
                Ok(open) => (link, pause) = (Some(open), PAUSE_FIRST),
                Err(fault) => {
                    desk.tally.failed(&fault);
                    sleep_until(&desk, span.until.min(Instant::now() + pause)).await;
                    pause = (pause * 2).min(PAUSE_MOST);
                }
            }
            continue;
        };
        let due = match &pacer {
            None => Instant::now(),
            Some(pacer) => match pacer.next(&desk.ending).await {
                None => break,
                Some(due) => {
                    due.lag.iter().for_each(|lag| desk.tally.lagged(*lag));
                    due.at
                }
            },
        };
        if !ask(&desk, open, due).await {
            link = None;
        }
    }
    if let Some(open) = link {
        open.close(plan).await;
    }
}

/// One request; false when the connection is of no use any more.
async fn ask(desk: &Desk, link: &mut Link, due: Instant) -> bool {
    let kind = desk.turns.borrow_mut().take();
    desk.gauges.in_flight.fetch_add(1, Ordering::Relaxed);
    let answered = link.call(kind, desk.plan.timeout).await;
    desk.gauges.in_flight.fetch_sub(1, Ordering::Relaxed);
    match answered {
        Ok(answered) => {
            desk.tally.answered(kind, due.elapsed(), answered.bytes, answered.judged.events);
            !answered.is_last
        }
        Err(fault) => {
            desk.tally.failed(&fault);
            fault.keeps_connection
        }
    }
}

/// One stream that is opened and held.
async fn idle_stream(desk: Rc<Desk>, gate: Rc<Semaphore>) {
    let opened = async {
        let _place = gate.acquire().await;
        let mut link = Link::open(&desk.plan).await?;
        link.listen(&desk.plan).await?;
        Ok::<_, Fault>(link)
    };
    let opened = opened.await;
    desk.gauges.streams_settled.fetch_add(1, Ordering::Relaxed);
    match opened {
        Err(fault) => desk.tally.failed(&Fault { what: format!("no idle stream: {}", fault.what), ..fault }),
        Ok(mut link) => {
            desk.gauges.streams_open.fetch_add(1, Ordering::Relaxed);
            link.hold().await;
            desk.gauges.streams_open.fetch_sub(1, Ordering::Relaxed);
            desk.gauges.streams_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn sleep_until(desk: &Desk, time: Instant) {
    tokio::select! {
        () = desk.ending.cancelled() => {}
        () = tokio::time::sleep_until(time.into()) => {}
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
