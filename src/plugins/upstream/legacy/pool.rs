//! The sessions of a server that serve one client each: made when they are needed, kept while they are, ended when idle.
//!
//! A session is never shared between two callers, two conversations, or clients that can be asked different things. When
//! all places are taken, the session idle longest makes room; when none is idle, whoever came first waits first.
//! Must not know what is said in a session, nor how one is made.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::session::Session;
use crate::plugins::upstream::link::LinkError;
use crate::plugins::{CallerKey, Context, ConversationKey};
use crate::protocol::ClientCapabilities;

/// Clients that may wait for a place, at most.
const WAITING_MAX: usize = 1024;

/// Makes a session that declares these capabilities.
pub type Make =
    Arc<dyn Fn(ClientCapabilities) -> BoxFuture<'static, Result<Arc<Session>, LinkError>> + Send + Sync>;

/// Whose a session is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    caller: CallerKey,
    conversation: Option<ConversationKey>,
    /// Roots, sampling, sampling with tools, forms, URLs.
    can: [bool; 5],
}

impl Key {
    /// That of a call's client.
    pub fn of(context: &Context) -> Self {
        let client = context.client();
        let can = [
            client.roots,
            client.sampling,
            client.sampling_tools,
            client.elicitation_form,
            client.elicitation_url,
        ];
        Self { caller: context.caller(), conversation: context.conversation(), can }
    }

    /// What the session declares: exactly what its client can be asked.
    fn capabilities(&self) -> ClientCapabilities {
        let [roots, sampling, sampling_tools, elicitation_form, elicitation_url] = self.can;
        ClientCapabilities { roots, sampling, sampling_tools, elicitation_form, elicitation_url, raw: None }
    }
}

/// The pool.
pub struct Pool {
    /// For those that outlive a borrow: leases, tasks.
    this: Weak<Self>,
    make: Make,
    sessions_max: usize,
    runtime: Handle,
    reaper: AbortHandle,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    seats: HashMap<Key, Seat>,
    /// Those that wait for a place, first come first.
    queue: VecDeque<Key>,
    /// Sessions that are over and have calls in them, which may still come to something: how many.
    leaving: Vec<(Arc<Session>, usize)>,
    closed: bool,
}

/// One client's place. Its calls watch `state`, so that one of them opens the session and all get it.
struct Seat {
    state: watch::Sender<State>,
    in_use: usize,
    idle_since: Instant,
}

#[derive(Clone)]
enum State {
    /// In the queue.
    Queued,
    /// It is being made.
    Opening,
    /// It is there.
    Open(Arc<Session>),
    /// It could not be made.
    Failed(LinkError),
}

/// Why a client has no session.
#[derive(Debug)]
pub enum NoSession {
    /// So many are in use.
    Full(usize),
    /// It cannot be made.
    Link(LinkError),
}

/// The use of a session by one call. Giving it back is dropping it.
pub struct Lease {
    session: Arc<Session>,
    key: Key,
    pool: Weak<Pool>,
}

impl Lease {
    /// Which session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(&self.key, &self.session);
        }
    }
}

impl Pool {
    /// A pool of at most `sessions_max`, each ended after `idle` without a call.
    pub fn new(make: Make, sessions_max: usize, idle: Duration) -> Arc<Self> {
        let runtime = Handle::current();
        Arc::new_cyclic(|this: &Weak<Self>| {
            let reaper = runtime.spawn(reap(Weak::clone(this), idle)).abort_handle();
            let inner = Mutex::new(Inner::default());
            Self { this: Weak::clone(this), make, sessions_max: sessions_max.max(1), runtime, reaper, inner }
        })
    }

    /// The session of this client, made if need be.
    ///
    /// # Errors
    /// When it cannot be made, or no place is free by the deadline.
    pub async fn lease(&self, key: &Key, deadline: Instant) -> Result<Lease, NoSession> {
        let full = || NoSession::Full(self.sessions_max);
        loop {
            let mut state = {
                let mut inner = self.lock();
                if let Some(session) = inner.take(key) {
                    return Ok(Lease { session, key: key.clone(), pool: Weak::clone(&self.this) });
                }
                if inner.dismiss(key) {
                    self.admit(&mut inner);
                }
                self.seat(&mut inner, key).ok_or_else(full)?
            };
            let settled = |state: &State| matches!(state, State::Open(_) | State::Failed(_));
            let settled = timeout_at(deadline, state.wait_for(settled)).await.map_err(|_elapsed| full())?;
            if let Ok(State::Failed(error)) = settled.as_deref() {
                return Err(NoSession::Link(error.clone()));
            }
            // It is open, or was and is gone again: look once more.
        }
    }

    /// What an operator sees of the sessions.
    pub fn report(&self) -> Value {
        let inner = self.lock();
        let mut sessions = Vec::with_capacity(inner.seats.len());
        for seat in inner.seats.values() {
            if let State::Open(session) = &*seat.state.borrow() {
                let idle = if seat.in_use == 0 { seat.idle_since.elapsed().as_secs() } else { 0 };
                sessions.push(session.report(idle));
            }
        }
        json!({"max": self.sessions_max, "waiting": inner.queue.len(), "open": sessions})
    }

    /// Ends all sessions. None is made any more.
    pub async fn close(&self) {
        self.reaper.abort();
        let (seats, leaving): (Vec<Seat>, _) = {
            let mut inner = self.lock();
            inner.closed = true;
            inner.queue.clear();
            (inner.seats.drain().map(|(_, seat)| seat).collect(), std::mem::take(&mut inner.leaving))
        };
        let open = seats.into_iter().filter_map(|seat| {
            let state = seat.state.send_replace(State::Failed(closed()));
            if let State::Open(session) = state { Some(session) } else { None }
        });
        let all = open.chain(leaving.into_iter().map(|(session, _)| session));
        futures_util::future::join_all(all.map(|session| async move { session.close().await })).await;
    }

    /// Where to wait for the session of `key`; none when too many wait already.
    fn seat(&self, inner: &mut Inner, key: &Key) -> Option<watch::Receiver<State>> {
        if inner.closed {
            return Some(watch::Sender::new(State::Failed(closed())).subscribe());
        }
        if let Some(seat) = inner.seats.get(key) {
            return Some(seat.state.subscribe());
        }
        let placed = inner.seats.len().saturating_sub(inner.queue.len());
        let has_room = inner.queue.is_empty() && (placed < self.sessions_max || self.evict(inner));
        if !has_room && inner.queue.len() >= WAITING_MAX {
            return None;
        }
        let state = watch::Sender::new(if has_room { State::Opening } else { State::Queued });
        let waiting = state.subscribe();
        inner.seats.insert(key.clone(), Seat { state, in_use: 0, idle_since: Instant::now() });
        if has_room {
            self.open(key.clone());
        } else {
            inner.queue.push_back(key.clone());
        }
        Some(waiting)
    }

    /// Ends the session that was idle longest. Whether there was one.
    fn evict(&self, inner: &mut Inner) -> bool {
        let idle = inner.seats.iter().filter(|(_, seat)| seat.is_idle());
        let Some(key) = idle.min_by_key(|(_, seat)| seat.idle_since).map(|(key, _)| key.clone()) else {
            return false;
        };
        if let Some(seat) = inner.seats.remove(&key) {
            seat.end();
        }
        true
    }

    /// Makes the session in a task of its own: the client that asked first may leave, others wait for it, too.
    fn open(&self, key: Key) {
        let making = (self.make)(key.capabilities());
        let this = Weak::clone(&self.this);
        self.runtime.spawn(async move {
            let made = making.await;
            match this.upgrade() {
                Some(pool) => pool.settle(&key, made),
                None => {
                    if let Ok(session) = made {
                        session.close().await;
                    }
                }
            }
        });
    }

    fn settle(&self, key: &Key, made: Result<Arc<Session>, LinkError>) {
        let mut inner = self.lock();
        match (made, inner.seats.get_mut(key)) {
            (Ok(session), Some(seat)) => {
                seat.idle_since = Instant::now();
                seat.state.send_replace(State::Open(session));
            }
            (Ok(session), None) => session.retire(),
            (Err(error), _) => {
                if let Some(seat) = inner.seats.remove(key) {
                    seat.state.send_replace(State::Failed(error));
                }
            }
        }
        self.admit(&mut inner);
    }

    fn give_back(&self, key: &Key, session: &Arc<Session>) {
        let mut inner = self.lock();
        let Some(seat) = inner.seats.get_mut(key).filter(|seat| seat.holds(session)) else {
            return inner.leave(session);
        };
        seat.in_use = seat.in_use.saturating_sub(1);
        seat.idle_since = Instant::now();
        self.admit(&mut inner);
    }

    /// Gives places that are free, or that idle sessions hold, to those who wait.
    fn admit(&self, inner: &mut Inner) {
        while let Some(key) = inner.queue.front().cloned() {
            // Whoever waited for it may have left meanwhile.
            if inner.seats.get(&key).is_none_or(|seat| seat.state.receiver_count() == 0) {
                inner.queue.pop_front();
                inner.seats.remove(&key);
                continue;
            }
            let placed = inner.seats.len().saturating_sub(inner.queue.len());
            if placed >= self.sessions_max && !self.evict(inner) {
                return;
            }
            inner.queue.pop_front();
            if let Some(seat) = inner.seats.get(&key) {
                seat.state.send_replace(State::Opening);
            }
            self.open(key);
        }
    }

    fn sweep(&self, idle: Duration) {
        let mut inner = self.lock();
        let over = inner.seats.extract_if(|_, seat| {
            (seat.is_idle() && seat.idle_since.elapsed() >= idle) || (seat.in_use == 0 && seat.is_over())
        });
        let over: Vec<_> = over.collect();
        for (_, seat) in over {
            seat.end();
        }
        self.admit(&mut inner);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.reaper.abort();
    }
}

impl Inner {
    /// The session of `key`, if it is there and well, marked as in use.
    fn take(&mut self, key: &Key) -> Option<Arc<Session>> {
        let seat = self.seats.get_mut(key)?;
        let session = match &*seat.state.borrow() {
            State::Open(session) => Arc::clone(session),
            State::Queued | State::Opening | State::Failed(_) => return None,
        };
        if session.is_over() {
            return None;
        }
        seat.in_use = seat.in_use.saturating_add(1);
        Some(session)
    }

    /// Takes its place from a session that is over; the calls in it go on. Whether there was one.
    fn dismiss(&mut self, key: &Key) -> bool {
        if !self.seats.get(key).is_some_and(Seat::is_over) {
            return false;
        }
        if let Some(seat) = self.seats.remove(key)
            && let State::Open(session) = &*seat.state.borrow()
        {
            match seat.in_use {
                0 => session.retire(),
                calls => self.leaving.push((Arc::clone(session), calls)),
            }
        }
        true
    }

    /// A call is done in a session that has no place any more.
    fn leave(&mut self, session: &Arc<Session>) {
        let Some(at) = self.leaving.iter().position(|(leaving, _)| Arc::ptr_eq(leaving, session)) else {
            return;
        };
        let Some((_, calls)) = self.leaving.get_mut(at) else { return };
        *calls = calls.saturating_sub(1);
        if *calls == 0 {
            self.leaving.swap_remove(at).0.retire();
        }
    }
}

impl Seat {
    fn end(&self) {
        if let State::Open(session) = &*self.state.borrow() {
            session.retire();
        }
    }

    fn is_idle(&self) -> bool {
        // A session that was just made for somebody is not idle, though no call is in it yet.
        self.in_use == 0
            && self.state.receiver_count() == 0
            && matches!(&*self.state.borrow(), State::Open(_))
    }

    fn is_over(&self) -> bool {
        matches!(&*self.state.borrow(), State::Open(session) if session.is_over())
    }

    fn holds(&self, session: &Arc<Session>) -> bool {
        matches!(&*self.state.borrow(), State::Open(held) if Arc::ptr_eq(held, session))
    }
}

/// Ends sessions that were idle for too long, and lets the pool go when nobody holds it.
async fn reap(pool: Weak<Pool>, idle: Duration) {
    let every = (idle / 4).clamp(Duration::from_millis(100), Duration::from_secs(30));
    loop {
        tokio::time::sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.sweep(idle);
    }
}

fn closed() -> LinkError {
    LinkError::Unreachable("the plugin stops".to_owned())
}
