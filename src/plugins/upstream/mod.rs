//! Plugins that are other MCP servers, of any era, over any transport.
//!
//! Reading order: `server`, a server's lives as a plugin; `probe`, which era it is of; `handshake`, how sessions begin;
//! `speaker`, what is said to a server of one era; `modern`, what is said to one of 2026-07-28; `legacy`, what is said to
//! one with sessions; `inventory`, what it offers; `uris`, a prefix for its resources; `failures`, what its errors mean to
//! callers; `compose` and `exchange`, messages as they are written and answered; `ways` and `link`, how it is reached;
//! `credentials`, what its file names but does not hold; `spans`, what collectors of traces see of a call.
//! Must not know clients' eras, callers' identities, or HTTP's other side.

pub mod compose;
pub mod credentials;
pub mod exchange;
pub mod failures;
pub mod handshake;
pub mod ids;
pub mod inventory;
pub mod legacy;
pub mod link;
pub mod modern;
pub mod probe;
pub mod server;
pub mod spans;
pub mod speaker;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod uris;
pub mod ways;

pub use server::{Parts, Sessions, Upstream};
pub use ways::{Claim, Opened, Unclaimed, Waits, Ways};
