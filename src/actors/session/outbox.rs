//! What a session has yet to say, on which of its streams, and what it said of late: so that a stream that broke can be
//! taken up again where it broke.
//!
//! MCP 2025-11-25, basic/transports#resumability-and-redelivery. Every message stands on one lane; a lane is one stream
//! of the session, whichever connection carries it. Bounded in bytes. Must not know JSON, sockets or who speaks.

mod lane;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use lane::Lane;

/// Streams that a client may hold open with GET; one more closes the oldest.
const STANDING_MAX: usize = 16;
/// Lanes that were sent whole and are kept for clients that missed their end.
const ENDED_MAX: usize = 32;
/// Lanes that have ended and whose clients have yet to come back.
const UNSENT_MAX: usize = 1024;
/// How many times the room may be owed to connections that read slowly.
const OWED_TIMES: usize = 16;

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

#[derive(Debug, Default)]
struct Lanes {
    lanes: BTreeMap<LaneNumber, Lane>,
    next: LaneNumber,
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

    /// Numbers lanes from anywhere on: its session had others in a server before this one, which are not to be mistaken for
    /// those of now.
    pub(super) fn begin_anywhere(&self) {
        self.lock().next = getrandom::u32().unwrap_or(LaneNumber::MAX / 2) / 8;
    }

    /// Opens a lane and holds it.
    pub fn open(&self, kind: LaneKind) -> Hold {
        let mut lanes = self.lock();
        let moved = if kind == LaneKind::Standing { lanes.retire_standing() } else { Vec::new() };
        // Odd ones are standing, so that this is known of a lane that is not there any more, too.
        let number = lanes.next.wrapping_mul(2) | LaneNumber::from(kind == LaneKind::Standing);
        lanes.next = lanes.next.wrapping_add(1);
        let mut lane = Lane::new(kind);
        moved.into_iter().for_each(|message| lane.push(message, false));
        let hold = Hold { lane: number, turn: lane.turn };
        lanes.lanes.insert(number, lane);
        lanes.forget_ended();
        hold
    }

    /// Whether a lane of this number is one on which no request is answered.
    pub fn is_standing(number: LaneNumber) -> bool {
        number % 2 == 1
    }

    /// Takes up a lane behind its `after`th message; whoever held it holds it no more.
    ///
    /// # Errors
    /// See [`ResumeError`].
    pub fn resume(&self, number: LaneNumber, after: u64) -> Result<Hold, ResumeError> {
        let mut lanes = self.lock();
        let lane = lanes.lanes.get_mut(&number).ok_or(ResumeError::Unknown)?;
        let turn = lane.resume(after)?;
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
        let waker = self.lock().put(number, message.into(), may_be_lost, self.max_bytes);
        wake(waker);
    }

    /// Puts a message that belongs to no request on one standing lane, once: what waits there already is not doubled.
    /// Nobody hears it when there is no such lane.
    pub fn tell(&self, message: impl Into<Bytes>) {
        let message = message.into();
        let mut lanes = self.lock();
        let standing = lanes.lanes.iter().filter(|(_, lane)| lane.kind == LaneKind::Standing && !lane.ended);
        let Some((number, lane)) = standing.max_by_key(|(_, lane)| lane.held) else { return };
        if lane.waits(&message) {
            return;
        }
        let number = *number;
        let waker = lanes.put(number, message, false, self.max_bytes);
        drop(lanes);
        wake(waker);
    }

    /// Asks the lane's client to hang up and to come back after `retry`.
    pub fn pause(&self, number: LaneNumber, retry: Duration) {
        let mut lanes = self.lock();
        let Some(lane) = lanes.lanes.get_mut(&number).filter(|lane| lane.held && !lane.ended) else { return };
        lane.pause(retry);
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
        if let Some(said) = lane.next() {
            // What was owed is kept from now on, as far as there is room.
            lanes.make_room(0, self.max_bytes);
            return Poll::Ready(Some(said));
        }
        if lane.ended {
            return Poll::Ready(None);
        }
        lane.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    /// Puts a message on a lane, and keeps all of them within bounds; gives whom to wake.
    fn put(
        &mut self,
        number: LaneNumber,
        message: Bytes,
        may_be_lost: bool,
        max_bytes: usize,
    ) -> Option<Waker> {
        if may_be_lost && !self.make_room(message.len(), max_bytes) {
            return None;
        }
        let lane = self.lanes.get_mut(&number).filter(|lane| !lane.ended)?;
        lane.push(message, may_be_lost);
        let waker = lane.waker.take();
        if !self.make_room(0, max_bytes) {
            self.give_up_what_nobody_waits_for(number, max_bytes);
        }
        self.give_up_a_client_that_does_not_read(number, max_bytes);
        waker
    }

    fn room(&self) -> usize {
        self.lanes.values().map(Lane::room).sum()
    }

    /// Forgets what was sent, oldest lanes first, until `more` bytes have room; whether they have.
    fn make_room(&mut self, more: usize, max_bytes: usize) -> bool {
        let mut room = self.room() + more;
        for lane in self.lanes.values_mut() {
            while room > max_bytes {
                let before = lane.room();
                if !lane.forget_sent() {
                    break;
                }
                room = room + lane.room() - before;
            }
        }
        room <= max_bytes
    }

    /// Forgets what lies on lanes that no connection holds, the oldest first; of `newest` all but its last message.
    fn give_up_what_nobody_waits_for(&mut self, newest: LaneNumber, max_bytes: usize) {
        let mut room = self.room();
        for (number, lane) in self.lanes.iter_mut().filter(|(_, lane)| !lane.held) {
            let keep = usize::from(*number == newest);
            while room > max_bytes && lane.len() > keep {
                let before = lane.room();
                lane.forget_first();
                room = room + lane.room() - before;
            }
        }
    }

    /// Ends the connection of `newest` when the session owes far more than it keeps: its client sees that something is
    /// missing. One message, however large, is no reason.
    fn give_up_a_client_that_does_not_read(&mut self, newest: LaneNumber, max_bytes: usize) {
        let owed: usize = self.lanes.values().map(Lane::owed).sum();
        let Some(lane) = self.lanes.get_mut(&newest) else { return };
        if owed <= max_bytes.saturating_mul(OWED_TIMES) || !lane.is_behind() {
            return;
        }
        (lane.turn, lane.held, lane.ended) = (lane.turn + 1, false, true);
        while lane.len() > 0 {
            lane.forget_first();
        }
        wake(lane.waker.take());
    }

    /// Makes room for a new standing lane: lanes that nobody holds give what they have not sent to the new one, and the
    /// oldest ends when there are too many.
    fn retire_standing(&mut self) -> Vec<Bytes> {
        let mut unsent = Vec::new();
        let standing = self.lanes.iter().filter(|(_, lane)| lane.kind == LaneKind::Standing);
        let (held, let_go): (Vec<_>, Vec<_>) =
            standing.map(|(number, lane)| (*number, lane.held)).partition(|(_, held)| *held);
        let surplus = (held.len() + 1).saturating_sub(STANDING_MAX);
        for (number, _) in let_go.iter().chain(held.iter().take(surplus)) {
            if let Some(mut lane) = self.lanes.remove(number) {
                wake(lane.waker.take());
                unsent.extend(lane.take_unsent());
            }
        }
        unsent
    }

    /// Drops the oldest lanes that have ended, beyond those that are kept: those that were sent whole long before those
    /// whose clients have yet to come back.
    fn forget_ended(&mut self) {
        let ended = self.lanes.iter().filter(|(_, lane)| lane.ended && !lane.held);
        let (delivered, unsent): (Vec<_>, Vec<_>) =
            ended.map(|(number, lane)| (*number, lane.is_delivered())).partition(|(_, delivered)| *delivered);
        let surplus = |lanes: &Vec<_>, most: usize| lanes.len().saturating_sub(most);
        let old = delivered.iter().take(surplus(&delivered, ENDED_MAX));
        for (number, _) in old.chain(unsent.iter().take(surplus(&unsent, UNSENT_MAX))) {
            self.lanes.remove(number);
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
