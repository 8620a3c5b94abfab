//! What a session has yet to say, on which of its streams, and what it said of late: so that a stream that broke can be
//! taken up again where it broke.
//!
//! MCP 2025-11-25, basic/transports#resumability-and-redelivery. Every message stands on one lane; a lane is one stream
//! of the session, whichever connection carries it. Bounded in bytes. Must not know JSON, sockets or who speaks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

/// Streams that a client may hold open with GET; one more closes the oldest.
const STANDING_MAX: usize = 16;
/// Lanes that have ended and are kept for clients that missed their end.
const ENDED_MAX: usize = 32;

/// Which stream of the session.
pub type LaneNumber = u32;

/// What a lane is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneKind {
    /// The answer to one POST.
    Reply,
    /// A stream that the client opened to hear of what belongs to no request.
    Standing,
}

/// The next thing to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A message, the `number`th of its lane.
    Message {
        /// From 1.
        number: u64,
        /// Its JSON.
        message: Bytes,
    },
    /// The connection is given up; come back after so long.
    Pause(Duration),
}

/// Why a lane cannot be taken up where the client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// No such event was sent.
    #[error("no event of this session has that id")]
    Unknown,
    /// What followed is no longer kept.
    #[error("what followed that event is no longer kept")]
    Gone,
}

/// One connection's hold on a lane; another that takes the lane up ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Which lane.
    pub lane: LaneNumber,
    turn: u64,
}

#[derive(Debug)]
enum Entry {
    Message { number: u64, message: Bytes, may_be_lost: bool },
    Pause(Duration),
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Self::Message { message, .. } => message.len(),
            Self::Pause(_) => 0,
        }
    }
}

#[derive(Debug)]
struct Lane {
    kind: LaneKind,
    /// Sent ones first, for those who come back; then those to be sent.
    entries: VecDeque<Entry>,
    sent: usize,
    last_number: u64,
    /// The number up to which nothing is kept any more.
    forgotten: u64,
    /// The number of the last message that is no longer kept and that nobody may miss.
    missed: u64,
    turn: u64,
    held: bool,
    ended: bool,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Lanes {
    lanes: BTreeMap<LaneNumber, Lane>,
    next: LaneNumber,
    bytes: usize,
}

/// All lanes of one session.
#[derive(Debug)]
pub struct Outbox {
    lanes: Mutex<Lanes>,
    max_bytes: usize,
}

impl Outbox {
    /// One that keeps so many bytes of messages.
    pub fn new(max_bytes: usize) -> Self {
        Self { lanes: Mutex::default(), max_bytes }
    }

    /// Opens a lane and holds it.
    pub fn open(&self, kind: LaneKind) -> Hold {
        let mut lanes = self.lock();
        let moved = if kind == LaneKind::Standing { lanes.retire_standing() } else { VecDeque::new() };
        let number = lanes.next;
        lanes.next = lanes.next.wrapping_add(1);
        let mut lane = Lane {
            kind,
            entries: VecDeque::new(),
            sent: 0,
            last_number: 0,
            forgotten: 0,
            missed: 0,
            turn: 1,
            held: true,
            ended: false,
            waker: None,
        };
        for message in moved {
            lane.push(message, true);
        }
        lanes.lanes.insert(number, lane);
        lanes.forget_ended();
        Hold { lane: number, turn: 1 }
    }

    /// Takes up a lane behind its `after`th message; whoever held it holds it no more.
    ///
    /// # Errors
    /// See [`ResumeError`].
    pub fn resume(&self, number: LaneNumber, after: u64) -> Result<Hold, ResumeError> {
        let mut lanes = self.lock();
        let lane = lanes.lanes.get_mut(&number).ok_or(ResumeError::Unknown)?;
        if after > lane.last_number {
            return Err(ResumeError::Unknown);
        }
        if after < lane.missed {
            return Err(ResumeError::Gone);
        }
        lane.entries.retain(|entry| matches!(entry, Entry::Message { .. }));
        lane.sent = usize::try_from(after.saturating_sub(lane.forgotten))
            .unwrap_or(usize::MAX)
            .min(lane.entries.len());
        lane.turn += 1;
        lane.held = true;
        let turn = lane.turn;
        wake(lane.waker.take());
        Ok(Hold { lane: number, turn })
    }

    /// Lets go of a lane; it is kept for whoever takes it up again.
    pub fn release(&self, hold: Hold) {
        let mut lanes = self.lock();
        if let Some(lane) = lanes.lanes.get_mut(&hold.lane).filter(|lane| lane.turn == hold.turn) {
            lane.held = false;
            lane.waker = None;
        }
    }

    /// Puts a message on a lane. One that may be lost is, when the session's room is full.
    pub fn put(&self, number: LaneNumber, message: impl Into<Bytes>, may_be_lost: bool) {
        let message = message.into();
        let mut lanes = self.lock();
        if may_be_lost
            && lanes.bytes + message.len() > self.max_bytes
            && !lanes.make_room(message.len(), self.max_bytes)
        {
            return;
        }
        let bytes = message.len();
        let Some(lane) = lanes.lanes.get_mut(&number).filter(|lane| !lane.ended) else { return };
        lane.push(message, may_be_lost);
        let waker = lane.waker.take();
        lanes.bytes += bytes;
        lanes.shrink(self.max_bytes, number);
        drop(lanes);
        wake(waker);
    }

    /// Puts a message that belongs to no request on one standing lane, once: what waits there already is not doubled.
    /// Nobody hears it when there is no such lane.
    pub fn tell(&self, message: impl Into<Bytes>) {
        let message = message.into();
        let lanes = self.lock();
        let standing = lanes.lanes.iter().filter(|(_, lane)| lane.kind == LaneKind::Standing && !lane.ended);
        let Some(number) = standing.max_by_key(|(_, lane)| lane.held).map(|(number, _)| *number) else {
            return;
        };
        let waits = lanes.lanes.get(&number).is_some_and(|lane| {
            let mut waiting = lane.entries.iter().skip(lane.sent);
            waiting.any(|entry| matches!(entry, Entry::Message { message: known, .. } if *known == message))
        });
        drop(lanes);
        if !waits {
            self.put(number, message, false);
        }
    }

    /// Asks the lane's client to hang up and to come back after `retry`.
    pub fn pause(&self, number: LaneNumber, retry: Duration) {
        let mut lanes = self.lock();
        let Some(lane) = lanes.lanes.get_mut(&number).filter(|lane| lane.held && !lane.ended) else { return };
        lane.entries.push_back(Entry::Pause(retry));
        let waker = lane.waker.take();
        drop(lanes);
        wake(waker);
    }

    /// Nothing more comes on this lane.
    pub fn end(&self, number: LaneNumber) {
        let mut lanes = self.lock();
        let waker = lanes.lanes.get_mut(&number).and_then(|lane| {
            lane.ended = true;
            lane.waker.take()
        });
        drop(lanes);
        wake(waker);
    }

    /// Nothing more comes on the standing lanes.
    pub fn end_standing(&self) {
        self.end_where(|lane| lane.kind == LaneKind::Standing);
    }

    /// Nothing more comes on any lane.
    pub fn end_all(&self) {
        self.end_where(|_| true);
    }

    fn end_where(&self, which: impl Fn(&Lane) -> bool) {
        let mut wakers = Vec::new();
        for lane in self.lock().lanes.values_mut().filter(|lane| which(lane)) {
            lane.ended = true;
            wakers.extend(lane.waker.take());
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether a connection holds any lane, and whether one holds a standing lane.
    pub fn is_held(&self) -> (bool, bool) {
        let lanes = self.lock();
        let held = lanes.lanes.values().any(|lane| lane.held);
        (held, held && lanes.lanes.values().any(|lane| lane.held && lane.kind == LaneKind::Standing))
    }

    /// The next thing to write on a connection; none when it holds its lane no more or nothing more comes.
    pub fn poll_next(&self, hold: Hold, cx: &Context<'_>) -> Poll<Option<Said>> {
        let mut lanes = self.lock();
        let Some(lane) = lanes.lanes.get_mut(&hold.lane).filter(|lane| lane.turn == hold.turn) else {
            return Poll::Ready(None);
        };
        match lane.entries.get(lane.sent) {
            Some(Entry::Message { number, message, .. }) => {
                let said = Said::Message { number: *number, message: message.clone() };
                lane.sent += 1;
                Poll::Ready(Some(said))
            }
            Some(Entry::Pause(retry)) => {
                let retry = *retry;
                lane.entries.remove(lane.sent);
                // It holds the lane no more: the next poll ends the connection.
                (lane.turn, lane.held) = (lane.turn + 1, false);
                Poll::Ready(Some(Said::Pause(retry)))
            }
            None if lane.ended => Poll::Ready(None),
            None => {
                lane.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn push(&mut self, message: Bytes, may_be_lost: bool) {
        self.last_number += 1;
        self.entries.push_back(Entry::Message { number: self.last_number, message, may_be_lost });
    }

    /// Forgets its oldest entry; the bytes that gives.
    fn forget_first(&mut self) -> usize {
        let Some(entry) = self.entries.pop_front() else { return 0 };
        if let Entry::Message { number, may_be_lost, .. } = entry {
            self.forgotten = number;
            if !may_be_lost {
                self.missed = number;
            }
        }
        if self.sent == 0 {
            // What was not sent is lost: the connection ends, so that its client sees that something is missing.
            self.turn += 1;
            (self.held, self.ended) = (false, true);
            wake(self.waker.take());
        }
        self.sent = self.sent.saturating_sub(1);
        entry.bytes()
    }
}

impl Lanes {
    /// Makes room for a new standing lane: lanes that nobody holds give what they have not sent to the new one, and the
    /// oldest ends when there are too many.
    fn retire_standing(&mut self) -> VecDeque<Bytes> {
        let mut unsent = VecDeque::new();
        let standing = self.lanes.iter().filter(|(_, lane)| lane.kind == LaneKind::Standing);
        let (held, let_go): (Vec<_>, Vec<_>) =
            standing.map(|(number, lane)| (*number, lane.held)).partition(|(_, held)| *held);
        let surplus = (held.len() + 1).saturating_sub(STANDING_MAX);
        for (number, _) in let_go.iter().chain(held.iter().take(surplus)) {
            let Some(mut lane) = self.lanes.remove(number) else { continue };
            wake(lane.waker.take());
            for entry in lane.entries.drain(lane.sent..) {
                if let Entry::Message { message, .. } = entry {
                    unsent.push_back(message);
                }
            }
            self.bytes -= lane.entries.iter().map(Entry::bytes).sum::<usize>();
        }
        unsent
    }

    /// Drops the oldest lanes that have ended, beyond those that are kept.
    fn forget_ended(&mut self) {
        let ended: Vec<LaneNumber> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.ended && !lane.held)
            .map(|(number, _)| *number)
            .collect();
        for number in ended.iter().take(ended.len().saturating_sub(ENDED_MAX)) {
            if let Some(lane) = self.lanes.remove(number) {
                self.bytes -= lane.entries.iter().map(Entry::bytes).sum::<usize>();
            }
        }
    }

    /// Forgets what was sent, oldest lanes first, until `more` bytes have room; whether they have.
    fn make_room(&mut self, more: usize, max_bytes: usize) -> bool {
        for lane in self.lanes.values_mut() {
            while self.bytes + more > max_bytes && lane.sent > 0 {
                self.bytes -= lane.forget_first();
            }
        }
        self.bytes + more <= max_bytes
    }

    /// Forgets until the bytes are within bounds: what was sent, then notices, then whole lanes, the oldest first; never
    /// the last message of `newest`.
    fn shrink(&mut self, max_bytes: usize, newest: LaneNumber) {
        if self.bytes <= max_bytes || self.make_room(0, max_bytes) {
            return;
        }
        for lane in self.lanes.values_mut() {
            // Numbers must stay without gaps behind what was forgotten, so only the beginning may go.
            while self.bytes > max_bytes
                && matches!(lane.entries.front(), Some(Entry::Message { may_be_lost: true, .. }))
                && lane.entries.len() > 1
            {
                if let Some(Entry::Message { number, message, .. }) = lane.entries.pop_front() {
                    (lane.forgotten, self.bytes) = (number, self.bytes - message.len());
                }
            }
        }
        for (number, lane) in &mut self.lanes {
            let keep = usize::from(*number == newest);
            while self.bytes > max_bytes && lane.entries.len() > keep {
                self.bytes -= lane.forget_first();
            }
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
