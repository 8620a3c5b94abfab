//! What every handler of one worker has at hand, and what is known of its connections.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Addr;

use crate::access::{Failures, Gate};
use crate::actors::House;
use crate::actors::executor::CommandExecutor;
use crate::actors::supervision::Part;
use crate::config::{Network, Shown};
use crate::protocol::Eras;

pub use super::quotas::Quotas;
pub use super::safety::Safety;

/// Shared by all workers.
pub struct Frame {
    /// Everyone who does the work.
    pub house: Arc<House>,
    /// Who showed wrong keys lately.
    pub failures: Mutex<Failures>,
    /// Which hosts and origins may call.
    pub gate: Gate,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Every setting, for who asks what decided.
    pub settings: Arc<[Shown]>,
    /// What is said to browsers.
    pub safety: Safety,
    /// Limits of a request.
    pub limits: Limits,
    /// How much is let through.
    pub quotas: Quotas,
    /// Open connections.
    pub connections: Arc<Connections>,
    /// Where the server listens.
    pub listeners: Vec<String>,
    /// Which eras of the protocol are spoken.
    pub eras: Eras,
}

/// Limits of a request, from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest body.
    pub body_max_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Between signs of life on a stream.
    pub stream_keep_alive: Duration,
    /// Resources that one stream may watch.
    pub subscriptions_max: usize,
    /// Whether actors may be crashed on demand.
    pub crash_allowed: bool,
}

/// What the handlers of one worker have at hand.
pub struct Door {
    /// Shared by all workers.
    pub frame: Arc<Frame>,
    /// The executor on this worker's thread.
    pub executor: Addr<CommandExecutor>,
    /// Its entry on the roster.
    pub part: Arc<Part>,
}

/// The eras that a connection may speak, as diagnostics name them.
pub const ERAS: [&str; 3] = ["unknown", "2026-07-28", "legacy"];

/// How many connections are open, by what they last spoke.
#[derive(Debug, Default)]
pub struct Connections {
    by_era: [AtomicUsize; 3],
    accepted: AtomicU64,
}

impl Connections {
    /// Counts a connection until the returned value is dropped.
    pub fn open(self: &Arc<Self>, from: From) -> Connection {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.add(0, 1);
        Connection { all: Arc::clone(self), era: AtomicU8::new(0), from }
    }

    fn add(&self, era: u8, by: isize) {
        if let Some(count) = self.by_era.get(usize::from(era)) {
            count.fetch_add(by.cast_unsigned(), Ordering::Relaxed);
        }
    }

    /// Open connections, in the order of [`ERAS`].
    pub fn by_era(&self) -> [usize; 3] {
        self.by_era.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Open connections of all eras.
    pub fn count(&self) -> usize {
        self.by_era().iter().sum()
    }

    /// Connections since the start.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The network, which this machine's loopback is a part of.
    Network,
    /// The socket in the data folder, which the file system opens to the user whose server this is, and nobody else.
    ThisUser,
}

/// One open connection.
#[derive(Debug)]
pub struct Connection {
    all: Arc<Connections>,
    era: AtomicU8,
    from: From,
}

impl Connection {
    /// Whether whoever called is the user whose server this is.
    pub fn is_of_this_user(&self) -> bool {
        self.from == From::ThisUser
    }

    /// Notes what it spoke last.
    pub fn speaks(&self, era: u8) {
        let before = self.era.swap(era, Ordering::Relaxed);
        if before != era {
            self.all.add(before, -1);
            self.all.add(era, 1);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.add(self.era.load(Ordering::Relaxed), -1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_counted_under_what_it_spoke_last() {
        let all = Arc::new(Connections::default());
        let one = all.open(From::Network);
        one.speaks(1);
        assert_eq!(all.by_era(), [0, 1, 0]);
        drop(one);
        assert_eq!((all.by_era(), all.accepted()), ([0, 0, 0], 1));
    }
}
