//! The load generator: many clients of one server, what each of their requests took, and what they cost the server. Reading order:
//! here, the plan and its errors; `run`, from the first question to the last answer; `crew`, the threads; `client`, what each of
//! them does many times; `link`, its connection; `wire`, `request` and `answer`, the bytes; `pace` and `mix`, what is due when; `tally`,
//! what is seen; `gather` and `results`, what came of it; `report`, the same as a page; `sweep`, one server after another with ever
//! more workers.
//!
//! It speaks to a server as any client does. Must not know verbs, terminals, or how Waygate is built.

mod answer;
mod client;
mod crew;
mod farewell;
mod fault;
mod gather;
mod link;
mod mix;
mod pace;
pub mod report;
mod request;
pub mod results;
mod run;
mod server;
pub mod sweep;
mod tally;
mod target;
mod wire;
pub mod words;

use std::time::Duration;

use bytes::Bytes;

pub use mix::{Entry, PLACEHOLDER, read as read_mix};
pub use request::{Call, Era};
pub use run::{Moment, Phase, run};
pub use target::Target;

use crate::config::Secret;
use request::Renderer;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// What is asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Nobody is there.
    #[error("no server answers at {url} ({why}); start one with `waygate-mcp`, or name another")]
    Unreachable {
        /// Where nobody is.
        url: String,
        /// What the network says.
        why: String,
    },
    /// It does not answer at all.
    #[error(
        "the server at {url} did not answer the first request within {seconds} s; look at its log, or raise --timeout"
    )]
    TooSlow {
        /// Which.
        url: String,
        /// How long it was waited for.
        seconds: f64,
    },
    /// The key does not do.
    #[error("the server at {url} refuses {what}: {says}; show another key by WAYGATE_API_KEY or --key-file")]
    NotPermitted {
        /// Which.
        url: String,
        /// What was asked.
        what: String,
        /// What it says.
        says: String,
    },
    /// The first request was not answered as it should be; many would not be, either.
    #[error(
        "the server at {url} does not answer {what} as it should, so there is nothing to measure: {says}"
    )]
    Refused {
        /// Which.
        url: String,
        /// What was asked.
        what: String,
        /// What it says.
        says: String,
    },
    /// Somebody ended it too early.
    #[error("{0}")]
    Interrupted(String),
    /// This machine gives no more.
    #[error("{0}")]
    Machine(String),
}

/// What shall be done.
#[derive(Clone)]
pub struct Plan {
    /// To whom.
    pub target: Target,
    /// What opens it: each connection uses one of them in turn, and what is not load the first. Where there are none, none is shown.
    pub keys: Vec<Secret>,
    /// How it is spoken to.
    pub era: Era,
    /// What is asked; at least one.
    pub calls: Vec<Call>,
    /// Clients, each with one connection and one request at a time.
    pub connections: usize,
    /// Requests a second; none means that each client asks again as soon as it has its answer.
    pub rate: Option<f64>,
    /// Threads of the generator; at least one.
    pub threads: usize,
    /// Until all clients are there, or the whole rate is.
    pub ramp: Duration,
    /// What is not measured after that.
    pub warm_up: Duration,
    /// What is.
    pub duration: Duration,
    /// A request that takes longer is given up.
    pub timeout: Duration,
    /// Streams that are opened before and held.
    pub idle_streams: usize,
}

impl Plan {
    /// For the connection at this place among all.
    fn renderer(&self, place: usize) -> Renderer<'_> {
        let key = self.keys.get(place.checked_rem(self.keys.len()).unwrap_or(0));
        Renderer { target: &self.target, key, era: self.era }
    }

    /// The body of each kind of request.
    fn bodies(&self) -> Vec<Bytes> {
        self.calls.iter().map(|call| request::body(call, self.era)).collect()
    }
}

#[cfg(test)]
impl Plan {
    /// The least there can be.
    fn of(target: Target, calls: Vec<Call>) -> Self {
        Self {
            target,
            keys: Vec::new(),
            era: Era::Modern,
            calls,
            connections: 1,
            rate: None,
            threads: 1,
            ramp: Duration::ZERO,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            idle_streams: 0,
        }
    }
}
