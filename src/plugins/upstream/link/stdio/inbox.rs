//! What came and was not fetched yet: for one request, or for nobody in particular.
//!
//! It has a limit; what tells something may be lost at it, what ends it never is. Must not know where messages come from.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::super::LinkError;
use crate::protocol::Incoming;

type Message = Result<Incoming, LinkError>;

/// A queue of messages with one reader.
#[derive(Debug)]
pub(super) struct Inbox {
    messages_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Incoming>,
    last: Option<Message>,
    over: bool,
    reader: Option<Waker>,
}

/// How a message was taken in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It waits, or nobody waits for it any more.
    Whole,
    /// An older one was dropped for it.
    ForAnother,
    /// Nothing could be dropped for it: only requests wait.
    Not,
}

impl Inbox {
    pub(super) fn new(messages_max: usize) -> Self {
        Self { messages_max, state: Mutex::default() }
    }

    /// Takes in a message that is not the last.
    pub(super) fn push(&self, message: Incoming) -> Taken {
        let mut state = self.lock();
        let mut taken = Taken::Whole;
        if state.over {
            return taken;
        }
        if state.waiting.len() >= self.messages_max {
            let tells = |message: &Incoming| matches!(message, Incoming::Notification { .. });
            let Some(oldest) = state.waiting.iter().position(tells) else { return Taken::Not };
            state.waiting.remove(oldest);
            taken = Taken::ForAnother;
        }
        state.waiting.push_back(message);
        wake(state);
        taken
    }

    /// Nothing more will come but what waits, and `last`.
    pub(super) fn finish(&self, last: Option<Message>) {
        let mut state = self.lock();
        if !state.over {
            state.last = last;
            state.over = true;
            wake(state);
        }
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let mut state = self.lock();
        if let Some(message) = state.waiting.pop_front() {
            return Poll::Ready(Some(Ok(message)));
        }
        if state.over {
            return Poll::Ready(state.last.take());
        }
        if state.reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
            state.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes outside of the lock, which the reader wants next.
fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}
