//! Limits: what keys, tools, bundles, addresses and the server itself let through. Decisions are pure; whoever asks is told
//! at once, without a lock that all share, and nobody waits here.
//!
//! ```text
//! budget      what is left of one quota: requests (by governor's algorithm), places for calls
//! allowance   a budget with its owner, and what is said when it is spent
//! addresses   a budget for each address, as many as memory may hold
//! clock       the time that does not jump
//! ```
//!
//! Budgets count what comes to this process, and can be told what came to others ([`Allowance::reach`]): the room `replicas` does
//! that. Must not know requests, nor where they came in.

mod addresses;
mod allowance;
mod budget;
mod clock;

pub use addresses::{ADDRESSES_MAX, Addresses};
pub use allowance::{Allowance, Excess, LIMIT, OF, Of, QUOTA, WHOSE};
pub use budget::{Limit, Pace, Running};
pub use clock::Steady;

/// The places of one call with all whose calls are limited, given back on drop.
#[derive(Debug, Default)]
pub struct Places {
    /// Of its key or address.
    pub caller: Option<Running>,
    /// Of the bundle that it came by.
    pub bundle: Option<Running>,
    /// Of the server.
    pub server: Option<Running>,
}
