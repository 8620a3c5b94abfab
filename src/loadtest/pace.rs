//! When requests are due: at a rate, whatever becomes of those before. Latency counts from then, so that a server that stalls is
//! seen to make wait all who would have come meanwhile.
//!
//! Must not know what is sent.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Arrivals at a rate that first grows evenly from nothing.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Requests a second.
    pub rate: f64,
    /// Until there are so many.
    pub ramp: Duration,
}

impl Schedule {
    /// When the request of this number is due, from the start.
    pub fn due(&self, number: u64) -> Duration {
        let (number, ramp) = (number as f64, self.ramp.as_secs_f64());
        // At a rate that grows from 0 to R in T, R·t²/2T have come by t.
        let within_ramp = self.rate * ramp / 2.0;
        let seconds = if number < within_ramp {
            (2.0 * number * ramp / self.rate).sqrt()
        } else {
            ramp + (number - within_ramp) / self.rate
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// How many are due before this time.
    pub fn due_before(&self, time: Duration) -> u64 {
        let (time, ramp) = (time.as_secs_f64(), self.ramp.as_secs_f64());
        let count = if time < ramp {
            self.rate * time * time / (2.0 * ramp)
        } else {
            self.rate * ramp / 2.0 + (time - ramp) * self.rate
        };
        // Whole requests: the cast takes what lies beyond to the nearest that there is.
        count.ceil() as u64
    }
}

/// One that is due.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// Since when.
    pub at: Instant,
    /// How late this machine woke for it, where it had to be waited for.
    pub lag: Option<Duration>,
}

/// Hands out what is due on one thread: each `step`th of all.
pub struct Pacer {
    schedule: Schedule,
    start: Instant,
    until: Instant,
    next: Cell<u64>,
    first: u64,
    step: u64,
    /// Who holds it waits for the next one; the others wait in line.
    turn: Mutex<Timer>,
}

impl Pacer {
    /// For the thread of this number among so many. Must be made within its runtime.
    ///
    /// # Errors
    /// When the system has no timer left.
    pub fn new(
        schedule: Schedule,
        (start, until): (Instant, Instant),
        (thread, threads): (u64, u64),
    ) -> std::io::Result<Self> {
        let turn = Mutex::new(Timer::new()?);
        Ok(Self { schedule, start, until, next: Cell::new(thread), first: thread, step: threads, turn })
    }

    /// Waits for the next one; none when time is up, or all is to end.
    pub async fn next(&self, ending: &CancellationToken) -> Option<Due> {
        let mut timer = self.turn.lock().await;
        let now = Instant::now();
        let at = self.start.checked_add(self.schedule.due(self.next.get()))?;
        if at >= self.until || now >= self.until || ending.is_cancelled() {
            return None;
        }
        let mut lag = None;
        if at > now {
            tokio::select! {
                () = ending.cancelled() => return None,
                done = timer.wait(at - now) => done.ok()?,
            }
            lag = Some(at.elapsed());
        }
        self.next.set(self.next.get() + self.step);
        Some(Due { at, lag })
    }

    /// How many of this thread's were due by now, or by the end, and were not handed out.
    pub fn left_over(&self) -> u64 {
        let by = Instant::now().min(self.until).saturating_duration_since(self.start);
        let all = self.schedule.due_before(by);
        let own = all.saturating_sub(self.first).div_ceil(self.step);
        own.saturating_sub((self.next.get() - self.first) / self.step)
    }
}

/// Finer than the runtime's, which wakes once a millisecond. The kernel's timer is read as a pipe is.
struct Timer(Receiver);

impl Timer {
    fn new() -> std::io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(timer)?))
    }

    async fn wait(&mut self, time: Duration) -> std::io::Result<()> {
        const NOTHING: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Nothing at all would disarm it.
        let time = time.max(Duration::from_nanos(1));
        let it_value = Timespec::try_from(time).unwrap_or(Timespec { tv_sec: i64::MAX, ..NOTHING });
        let once = Itimerspec { it_interval: NOTHING, it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        // How often it went off: once.
        let mut count = [0; 8];
        self.0.read(&mut count).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_evenly_and_ever_closer_while_the_rate_grows() {
        let even = Schedule { rate: 100.0, ramp: Duration::ZERO };
        assert_eq!([0, 1, 250].map(|n| even.due(n).as_millis()), [0, 10, 2500]);
        assert_eq!([0, 5, 10, 11].map(|ms| even.due_before(Duration::from_millis(ms))), [0, 1, 1, 2]);
        let ramped = Schedule { rate: 100.0, ramp: Duration::from_secs(2) };
        // Half as many come while it grows, and the last of them at its end.
        assert_eq!([0, 25, 100, 101, 200].map(|n| ramped.due(n).as_millis()), [0, 1000, 2000, 2010, 3000]);
        assert_eq!(ramped.due_before(Duration::from_secs(3)), 200);
        assert_eq!(ramped.due_before(Duration::from_secs(1)), 25);
    }

    #[tokio::test]
    async fn what_waited_is_due_since_it_should_have_been_sent_and_nothing_is_left_out() {
        let schedule = Schedule { rate: 1000.0, ramp: Duration::ZERO };
        // Begun a second ago, as after a stall: all of it is due at once, each since its own time.
        let start = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let until = start + Duration::from_secs(3600);
        let pacer = Pacer::new(schedule, (start, until), (1, 2)).unwrap();
        let ending = CancellationToken::new();
        let mut due = Vec::new();
        for _ in 0..3 {
            due.push(pacer.next(&ending).await.unwrap());
        }
        let since: Vec<u128> = due.iter().map(|due| (due.at - start).as_millis()).collect();
        assert_eq!(since, [1, 3, 5], "each second one is this thread's");
        assert!(due.iter().all(|due| due.lag.is_none()));
        assert!(pacer.left_over() >= 497, "{}", pacer.left_over());
        ending.cancel();
        assert!(pacer.next(&ending).await.is_none());
        let over = Pacer::new(schedule, (start, start + Duration::from_millis(10)), (0, 2)).unwrap();
        assert!(over.next(&CancellationToken::new()).await.is_none());
        assert_eq!(over.left_over(), 5);
    }
}
