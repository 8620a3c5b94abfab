//! The load generator: many clients of one server, what each of their requests took, and what they cost the server. Reading order:
//! here, the plan and its errors; `run`, from the first question to the last answer; `crew`, the threads; `link`, one client;
//! `wire`, `request` and `answer`, its bytes; `pace` and `mix`, what is due when; `tally`, what is seen; `results`, what came of it;
//! `report`, the same as a page; `sweep`, one server after another with ever more workers.
//!
//! It speaks to a server as any client does. Must not know verbs, terminals, or how Waygate is built.

mod answer;
mod crew;
mod fault;
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
    /// This machine gives no more.
    #[error("{0}")]
    Machine(String),
}

/// What shall be done.
#[derive(Clone)]
pub struct Plan {
    /// To whom.
    pub target: Target,
    /// What opens it.
    pub key: Option<Secret>,
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
    fn renderer(&self) -> Renderer<'_> {
        Renderer { target: &self.target, key: self.key.as_ref(), era: self.era }
    }
}
