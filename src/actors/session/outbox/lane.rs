//! One stream of a session: what was sent of late, what is to be sent, and how much of each there is.
//!
//! Must not know other lanes.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;

use super::{LaneKind, ResumeError, Said};

#[derive(Debug)]
enum Entry {
    Message { number: u64, message: Bytes, may_be_lost: bool },
    Pause(Duration),
}

/// How many bytes a lane keeps, and why.
#[derive(Debug, Default, Clone, Copy)]
struct Bytewise {
    /// Sent, for those who come back.
    sent: usize,
    /// To be sent, unless there is no room.
    notices: usize,
    /// To be sent.
    owed: usize,
}

/// One lane.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) kind: LaneKind,
    /// Whoever holds it has this number.
    pub(super) turn: u64,
    pub(super) held: bool,
    pub(super) ended: bool,
    pub(super) waker: Option<Waker>,
    /// Sent ones first; numbers follow each other without a gap.
    entries: VecDeque<Entry>,
    sent: usize,
    bytes: Bytewise,
    last_number: u64,
    /// The number up to which nothing is kept any more.
    forgotten: u64,
    /// The number of the last message that is no longer kept and that nobody may miss.
    missed: u64,
}

impl Lane {
    pub(super) fn new(kind: LaneKind) -> Self {
        Self {
            kind,
            turn: 1,
            held: true,
            ended: false,
            waker: None,
            entries: VecDeque::new(),
            sent: 0,
            bytes: Bytewise::default(),
            last_number: 0,
            forgotten: 0,
            missed: 0,
        }
    }

    /// Puts a message at its end.
    pub(super) fn push(&mut self, message: Bytes, may_be_lost: bool) {
        self.last_number += 1;
        *(if may_be_lost { &mut self.bytes.notices } else { &mut self.bytes.owed }) += message.len();
        self.entries.push_back(Entry::Message { number: self.last_number, message, may_be_lost });
    }

    /// Puts a pause at its end.
    pub(super) fn pause(&mut self, retry: Duration) {
        self.entries.push_back(Entry::Pause(retry));
    }

    /// Whether this message waits to be sent.
    pub(super) fn waits(&self, message: &Bytes) -> bool {
        let mut waiting = self.entries.iter().skip(self.sent);
        waiting.any(|entry| matches!(entry, Entry::Message { message: known, .. } if known == message))
    }

    /// The next thing to send, which counts as sent from now on. After a pause nobody holds the lane.
    pub(super) fn next(&mut self) -> Option<Said> {
        match self.entries.get(self.sent)? {
            Entry::Message { number, message, may_be_lost } => {
                *(if *may_be_lost { &mut self.bytes.notices } else { &mut self.bytes.owed }) -= message.len();
                self.bytes.sent += message.len();
                self.sent += 1;
                Some(Said::Message { number: *number, message: message.clone() })
            }
            Entry::Pause(retry) => {
                let retry = *retry;
                self.entries.remove(self.sent);
                (self.turn, self.held) = (self.turn + 1, false);
                Some(Said::Pause(retry))
            }
        }
    }

    /// Goes back to behind the `after`th message, for a new holder.
    ///
    /// # Errors
    /// See [`ResumeError`].
    pub(super) fn resume(&mut self, after: u64) -> Result<u64, ResumeError> {
        if after > self.last_number {
            return Err(ResumeError::Unknown);
        }
        if after < self.missed {
            return Err(ResumeError::Gone);
        }
        self.entries.retain(|entry| matches!(entry, Entry::Message { .. }));
        let sent = usize::try_from(after.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
        self.sent = sent.min(self.entries.len());
        self.count();
        (self.turn, self.held) = (self.turn + 1, true);
        Ok(self.turn)
    }

    fn count(&mut self) {
        let mut bytes = Bytewise::default();
        for (at, entry) in self.entries.iter().enumerate() {
            match entry {
                Entry::Message { message, .. } if at < self.sent => bytes.sent += message.len(),
                Entry::Message { message, may_be_lost: true, .. } => bytes.notices += message.len(),
                Entry::Message { message, .. } => bytes.owed += message.len(),
                Entry::Pause(_) => {}
            }
        }
        self.bytes = bytes;
    }

    /// What it takes of the room for those who come back, and for notices. What is owed to a connection is not of it.
    pub(super) fn room(&self) -> usize {
        let kept = self.bytes.sent + self.bytes.notices;
        if self.held { kept } else { kept + self.bytes.owed }
    }

    /// What is owed to the connection that holds it.
    pub(super) fn owed(&self) -> usize {
        if self.held { self.bytes.owed } else { 0 }
    }

    /// Whether more than one thing is to be sent.
    pub(super) fn is_behind(&self) -> bool {
        self.entries.len() > self.sent + 1
    }

    /// Whether all of it was sent.
    pub(super) fn is_delivered(&self) -> bool {
        self.sent == self.entries.len()
    }

    /// Forgets its oldest entry that was sent; whether there was one.
    pub(super) fn forget_sent(&mut self) -> bool {
        let was_sent = self.sent > 0;
        if was_sent {
            self.forget_first();
        }
        was_sent
    }

    /// Forgets its oldest entry. Nobody may hold the lane, unless the entry was sent.
    pub(super) fn forget_first(&mut self) {
        let Some(Entry::Message { number, message, may_be_lost }) = self.entries.pop_front() else { return };
        self.forgotten = number;
        if !may_be_lost {
            self.missed = number;
        }
        let counted = match (self.sent > 0, may_be_lost) {
            (true, _) => &mut self.bytes.sent,
            (false, true) => &mut self.bytes.notices,
            (false, false) => &mut self.bytes.owed,
        };
        *counted -= message.len();
        self.sent = self.sent.saturating_sub(1);
    }

    /// How many entries it keeps.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes out what is to be sent, to be sent elsewhere.
    pub(super) fn take_unsent(&mut self) -> impl Iterator<Item = Bytes> + '_ {
        self.entries.drain(self.sent..).filter_map(|entry| match entry {
            Entry::Message { message, .. } => Some(message),
            Entry::Pause(_) => None,
        })
    }
}
