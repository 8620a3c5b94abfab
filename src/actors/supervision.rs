//! Supervision: an actor that panics is restarted in place, with the same address and the same mailbox.
//!
//! `actix::Supervisor` restarts on `ctx.stop()` only; a panic closes the mailbox for good. So a supervised actor's
//! `ContextFut` is polled here inside `catch_unwind`, and after a panic `ContextFut::restart()` is called on it: the
//! poison's sender sees `Closed`, everything queued behind it is handled. `Supervised::restarting` must put a fresh
//! state in; `started` runs again. All of it needs unwinding. Must not know what any actor does.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::time::{Duration, Instant, SystemTime};

use actix::dev::ContextFut;
use actix::{Actor, Addr, Context, Handler, Message, Recipient, Supervised};
use tokio::sync::watch;

/// Asks an actor for a sign of life.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Ping;

/// Makes an actor panic; sent only where `WAYGATE_ENV=test`.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Crash;

impl Crash {
    /// What every actor's handler does with it.
    ///
    /// # Panics
    /// Always: that is what it is for.
    #[expect(clippy::panic, reason = "a crash on demand is this message's purpose")]
    pub fn now(self) {
        panic!("crashed on demand");
    }
}

/// How a kind of actor is supervised.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Messages that may wait before `send` waits and `try_send` fails.
    pub mailbox: usize,
    /// Whether `ctx.stop()` ends the actor; otherwise it is restarted then, too.
    pub may_end: bool,
    /// Whether the process cannot live without it.
    pub vital: bool,
}

/// At most so many restarts …
pub const RESTARTS_MAX: u32 = 10;
/// … within this; past that the actor is given up.
pub const RESTARTS_WITHIN: Duration = Duration::from_secs(60);

/// What is known of one supervised actor.
pub struct Part {
    name: String,
    kind: &'static str,
    restarts: AtomicU64,
    given_up: AtomicBool,
    /// When the last panic was, what it said, and how long the restart took.
    last_panic: Mutex<Option<Panic>>,
    waiting: AtomicU64,
    ping: Recipient<Ping>,
    crash: Recipient<Crash>,
}

/// One panic of an actor.
#[derive(Debug, Clone)]
pub struct Panic {
    /// When.
    pub at: SystemTime,
    /// What it said.
    pub message: String,
    /// From the panic to the restarted actor.
    pub restarted_in: Duration,
}

impl Part {
    /// Its name, unique and safe in a URL: `executor-0`, `db`, `session-7`.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Which actor it is.
    pub fn kind(&self) -> &'static str {
        self.kind
    }
    /// How often it was restarted.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }
    /// Whether it used up its restarts.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
    /// Its last panic.
    pub fn last_panic(&self) -> Option<Panic> {
        self.last_panic.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Messages sent by [`ask`](super::ask::ask) through this part that have no answer yet.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
    /// Where to ask for a sign of life.
    pub fn ping(&self) -> &Recipient<Ping> {
        &self.ping
    }
    /// Where to send the poison.
    pub fn crash(&self) -> &Recipient<Crash> {
        &self.crash
    }
    /// Counts a message as waiting until the guard is dropped.
    pub fn waits(self: &Arc<Self>) -> Waits {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waits(Arc::clone(self))
    }
}

/// One message that waits for its answer.
pub struct Waits(Arc<Part>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Everyone who is supervised, and the word that something vital was given up.
pub struct Roster {
    parts: Mutex<BTreeMap<String, Arc<Part>>>,
    restarts_of_the_gone: Mutex<BTreeMap<&'static str, u64>>,
    doom: watch::Sender<Option<String>>,
}

impl Default for Roster {
    fn default() -> Self {
        Self { parts: Mutex::default(), restarts_of_the_gone: Mutex::default(), doom: watch::channel(None).0 }
    }
}

impl Roster {
    /// All parts, by name.
    pub fn parts(&self) -> Vec<Arc<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The part of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Restarts by kind, those of actors that ended included.
    pub fn restarts_by_kind(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = self.restarts_of_the_gone.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for part in self.parts() {
            *sums.entry(part.kind).or_default() += part.restarts();
        }
        sums
    }

    /// Says that the process must go down, and why. The first word stands.
    pub fn doom(&self, why: String) {
        self.doom.send_if_modified(|doom| {
            let first = doom.is_none();
            if first {
                *doom = Some(why);
            }
            first
        });
    }

    /// Tells when and why the process must go down.
    pub fn doomed(&self) -> watch::Receiver<Option<String>> {
        self.doom.subscribe()
    }

    /// Starts an actor under supervision on the current arbiter.
    pub fn start<A>(
        self: &Arc<Self>,
        name: String,
        kind: &'static str,
        terms: Terms,
        make: impl FnOnce(&mut Context<A>) -> A,
    ) -> (Addr<A>, Arc<Part>)
    where
        A: Supervised + Actor<Context = Context<A>> + Handler<Ping> + Handler<Crash> + Unpin,
    {
        use actix::AsyncContext as _;
        let mut context = Context::new();
        context.set_mailbox_capacity(terms.mailbox);
        let actor = make(&mut context);
        let address = context.address();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        // One that shall take another's place lives beside it for a while, and both are watched.
        let name = (1_u32..)
            .map(|number| if number == 1 { name.clone() } else { format!("{name}-{number}") })
            .find(|name| !parts.contains_key(name))
            .unwrap_or_else(|| name.clone());
        let part = Arc::new(Part {
            name: name.clone(),
            kind,
            restarts: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            last_panic: Mutex::new(None),
            waiting: AtomicU64::new(0),
            ping: address.clone().recipient(),
            crash: address.clone().recipient(),
        });
        parts.insert(name, Arc::clone(&part));
        drop(parts);
        let life = Life {
            future: Some(context.into_future(actor)),
            part: Arc::clone(&part),
            roster: Arc::clone(self),
            terms,
            window: Instant::now(),
            used: 0,
        };
        actix_rt::spawn(life);
        (address, part)
    }

    fn ended(&self, part: &Part) {
        if part.restarts() > 0 {
            let mut gone = self.restarts_of_the_gone.lock().unwrap_or_else(PoisonError::into_inner);
            *gone.entry(part.kind).or_default() += part.restarts();
        }
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        // A plugin that was replaced has left its name to its successor.
        if parts.get(&part.name).is_some_and(|there| std::ptr::eq(&**there, part)) {
            parts.remove(&part.name);
        }
    }
}

/// The future that polls one actor through all its restarts.
struct Life<A: Supervised + Actor<Context = Context<A>>> {
    future: Option<ContextFut<A, Context<A>>>,
    part: Arc<Part>,
    roster: Arc<Roster>,
    terms: Terms,
    window: Instant,
    used: u32,
}

// Nothing in it is structurally pinned: a `ContextFut` is `Unpin` when its actor is.
impl<A: Supervised + Actor<Context = Context<A>>> Unpin for Life<A> {}

impl<A: Supervised + Actor<Context = Context<A>> + Unpin> Future for Life<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let Some(future) = this.future.as_mut() else { return Poll::Ready(()) };
            match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *future).poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => {
                    if this.terms.may_end || !future.restart() {
                        this.roster.ended(&this.part);
                        return Poll::Ready(());
                    }
                }
                Err(payload) => {
                    if !this.restart_after(&message_of(payload.as_ref())) {
                        this.give_up();
                        return Poll::Ready(());
                    }
                }
            }
        }
    }
}

impl<A: Supervised + Actor<Context = Context<A>> + Unpin> Life<A> {
    /// Restarts the actor after a panic, unless it has used up its restarts.
    fn restart_after(&mut self, message: &str) -> bool {
        let began = Instant::now();
        if began.duration_since(self.window) > RESTARTS_WITHIN {
            (self.window, self.used) = (began, 0);
        }
        self.used += 1;
        let Some(future) = self.future.as_mut() else { return false };
        let restarted =
            self.used <= RESTARTS_MAX && catch_unwind(AssertUnwindSafe(|| future.restart())).unwrap_or(false);
        self.part.restarts.fetch_add(u64::from(restarted), Ordering::Relaxed);
        let panic =
            Panic { at: SystemTime::now(), message: message.to_owned(), restarted_in: began.elapsed() };
        *self.part.last_panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        restarted
    }

    fn give_up(&mut self) {
        // Dropping the context runs `stopping` and `stopped`, which may panic as well.
        let dead = self.future.take();
        drop(catch_unwind(AssertUnwindSafe(move || drop(dead))));
        self.part.given_up.store(true, Ordering::Relaxed);
        let why = format!(
            "actor {} panicked more than {RESTARTS_MAX} times in {} s",
            self.part.name,
            RESTARTS_WITHIN.as_secs()
        );
        log::error!(actor = self.part.name.as_str(); "{why}, and is given up");
        if self.terms.vital {
            self.roster.doom(why);
        } else {
            self.roster.ended(&self.part);
        }
    }
}

/// What a panic said.
pub fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}
