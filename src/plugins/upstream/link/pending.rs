//! Who waits for what on a link where everything comes through one pipe: each message is given to the request that it
//! belongs to, the rest is kept for whoever listens.
//!
//! Must not know the pipe. All that is kept has a limit: what nobody fetches in time is dropped and counted.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::task::AtomicWaker;
use serde::Deserialize;

use super::{LinkError, id_of};
use crate::protocol::{Incoming, Raw};

/// Notices that one request may have waiting; its response always finds room.
const NOTICES_MAX: usize = 256;
/// Messages that belong to no request and wait to be fetched.
const STRAYS_MAX: usize = 1024;

type Item = Result<Incoming, LinkError>;

/// All requests of a link that wait.
pub struct Pending {
    state: Mutex<State>,
    strays: Arc<Queue>,
    dropped: AtomicU64,
    unasked: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, Arc<Queue>>,
    /// Why nothing comes any more.
    ended: Option<LinkError>,
}

/// Messages for one who waits.
#[derive(Default)]
struct Queue {
    held: Mutex<Held>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Held {
    items: VecDeque<Item>,
    /// Nothing comes after what is there.
    over: bool,
}

/// What belongs to one request, up to and including its response. Dropping it forgets the request.
pub struct Waiting {
    pending: Arc<Pending>,
    id: u64,
    queue: Arc<Queue>,
}

/// What belongs to none.
pub struct Unclaimed(Arc<Queue>);

impl Queue {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in; returns whether there was room.
    fn put(&self, item: Item, most: usize) -> bool {
        let mut held = self.held();
        let fits = !held.over && held.items.len() < most;
        if fits {
            held.items.push_back(item);
        }
        drop(held);
        self.waker.wake();
        fits
    }

    /// Puts the last message in, if there is one.
    fn end(&self, item: Option<Item>) {
        let mut held = self.held();
        if !std::mem::replace(&mut held.over, true) {
            held.items.extend(item);
        }
        drop(held);
        self.waker.wake();
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<Item>> {
        // Registered before it is looked at, so that nothing slips in between.
        self.waker.register(cx.waker());
        let mut held = self.held();
        match held.items.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if held.over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Pending {
    /// Nobody waits yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            strays: Arc::default(),
            dropped: AtomicU64::new(0),
            unasked: AtomicU64::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait for what belongs to the request `id`: before it is sent, so that no answer can be quicker.
    ///
    /// # Errors
    /// When the link has ended.
    pub fn wait(self: &Arc<Self>, id: u64) -> Result<Waiting, LinkError> {
        let queue = Arc::<Queue>::default();
        let mut state = self.state();
        if let Some(ended) = &state.ended {
            // Of this request nothing was sent, and what ended the link was another one's.
            return Err(match ended {
                LinkError::SessionLost => LinkError::SessionLost,
                LinkError::Broken(why) => LinkError::Unreachable(why.clone()),
                other => LinkError::Unreachable(other.to_string()),
            });
        }
        state.waiting.insert(id, Arc::clone(&queue));
        drop(state);
        Ok(Waiting { pending: Arc::clone(self), id, queue })
    }

    /// Gives a message to whom it belongs.
    pub fn route(&self, message: Incoming) {
        match &message {
            Incoming::Response { id, .. } => {
                let waiting = id.as_ref().and_then(id_of).and_then(|id| self.state().waiting.remove(&id));
                match waiting {
                    Some(queue) => queue.end(Some(Ok(message))),
                    // Late, doubled, or invented.
                    None => {
                        self.unasked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            Incoming::Notification { method, params } => {
                let of = params.as_ref().and_then(|params| owner(method, params));
                let waiting = of.and_then(|id| self.state().waiting.get(&id).cloned());
                self.keep(waiting.as_ref(), message);
            }
            Incoming::Request { .. } => self.keep(None, message),
        }
    }

    fn keep(&self, waiting: Option<&Arc<Queue>>, message: Incoming) {
        let kept = match waiting {
            Some(queue) => queue.put(Ok(message), NOTICES_MAX),
            None => self.strays.put(Ok(message), STRAYS_MAX),
        };
        if !kept {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the link for all who wait. An orderly end is none for whoever listens to the rest.
    pub fn end(&self, why: LinkError, orderly: bool) {
        let mut state = self.state();
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(why.clone());
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for queue in waiting.values() {
            queue.end(Some(Err(why.clone())));
        }
        self.strays.end((!orderly).then_some(Err(why)));
    }

    /// What belongs to no request; for one listener.
    pub fn strays(&self) -> Unclaimed {
        Unclaimed(Arc::clone(&self.strays))
    }

    /// Requests that wait; messages that were dropped for want of room; responses that nobody waited for.
    pub fn counts(&self) -> (usize, u64, u64) {
        let (dropped, unasked) = (self.dropped.load(Ordering::Relaxed), self.unasked.load(Ordering::Relaxed));
        (self.state().waiting.len(), dropped, unasked)
    }
}

/// The request that a notification belongs to, which a progress token or a subscription repeats.
fn owner(method: &str, params: &Raw) -> Option<u64> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(rename = "progressToken", borrow)]
        progress: Option<&'a serde_json::value::RawValue>,
        #[serde(rename = "_meta", borrow)]
        meta: Option<Meta<'a>>,
    }
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(rename = "io.modelcontextprotocol/subscriptionId", borrow)]
        subscription: Option<&'a serde_json::value::RawValue>,
    }
    let params: Params<'_> = params.read().ok()?;
    let raw = match method {
        "notifications/progress" => params.progress,
        _ => params.meta.and_then(|meta| meta.subscription),
    };
    raw?.get().parse().ok()
}

impl Stream for Waiting {
    type Item = Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.queue.poll(cx)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.pending.state();
        // An id is never used twice, so that this can be no other's.
        state.waiting.remove(&self.id);
    }
}

impl Stream for Unclaimed {
    type Item = Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    fn message(text: &str) -> Incoming {
        Incoming::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn now<S: Stream<Item = Item> + Unpin>(stream: &mut S) -> Option<Item> {
        stream.next().now_or_never().flatten()
    }

    #[test]
    fn each_message_finds_the_request_it_belongs_to() {
        let pending = Pending::new();
        let (mut first, mut second) = (pending.wait(1).unwrap(), pending.wait(2).unwrap());
        let mut strays = pending.strays();
        pending.route(message(
            r#"{"method":"notifications/progress","params":{"progressToken":2,"progress":1}}"#,
        ));
        pending.route(message(
            r#"{"method":"notifications/x","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}"#,
        ));
        pending.route(message(
            r#"{"method":"notifications/progress","params":{"progressToken":9,"progress":1}}"#,
        ));
        pending.route(message(r#"{"method":"notifications/message","params":{"level":"info"}}"#));
        pending.route(message(r#"{"id":2,"method":"ping"}"#));
        pending.route(message(r#"{"id":2,"result":{}}"#));
        assert!(matches!(now(&mut first), Some(Ok(Incoming::Notification { .. }))));
        assert!(now(&mut first).is_none());
        assert!(matches!(now(&mut second), Some(Ok(Incoming::Notification { .. }))));
        assert!(matches!(now(&mut second), Some(Ok(Incoming::Response { .. }))));
        assert!(matches!(second.next().now_or_never(), Some(None)), "it ends with its response");
        let mut stray = || now(&mut strays);
        assert!(matches!(stray(), Some(Ok(Incoming::Notification { .. }))));
        assert!(matches!(stray(), Some(Ok(Incoming::Notification { .. }))));
        assert!(matches!(stray(), Some(Ok(Incoming::Request { .. }))));
        assert!(stray().is_none());
    }

    #[test]
    fn a_response_that_nobody_waits_for_is_counted() {
        let pending = Pending::new();
        drop(pending.wait(1).unwrap());
        for late in
            [r#"{"id":1,"result":{}}"#, r#"{"id":"1","result":{}}"#, r#"{"id":null,"error":{"code":1}}"#]
        {
            pending.route(message(late));
        }
        assert_eq!(pending.counts(), (0, 0, 3));
    }

    #[test]
    fn notices_have_a_limit_and_a_response_has_room_all_the_same() {
        let pending = Pending::new();
        let mut one = pending.wait(1).unwrap();
        for _ in 0..NOTICES_MAX + 10 {
            pending.route(message(
                r#"{"method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#,
            ));
        }
        pending.route(message(r#"{"id":1,"result":{}}"#));
        assert_eq!(pending.counts(), (0, 10, 0));
        let all = std::iter::from_fn(|| now(&mut one)).collect::<Vec<_>>();
        assert_eq!(all.len(), NOTICES_MAX + 1);
        assert!(matches!(all.last(), Some(Ok(Incoming::Response { .. }))));
    }

    #[test]
    fn an_end_is_told_to_all_who_wait_and_to_all_who_come_later() {
        let pending = Pending::new();
        let mut one = pending.wait(1).unwrap();
        let mut strays = pending.strays();
        pending.end(LinkError::Broken("it died".into()), false);
        assert!(matches!(now(&mut one), Some(Err(LinkError::Broken(_)))));
        assert!(matches!(now(&mut strays), Some(Err(LinkError::Broken(_)))));
        assert!(matches!(strays.next().now_or_never(), Some(None)));
        assert!(matches!(pending.wait(2), Err(LinkError::Unreachable(_))), "nothing was sent of it");
    }
}
