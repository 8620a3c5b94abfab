//! Plugins that are other MCP servers, of any era, over any transport.
//!
//! Reading order: `speaker`, what is said to a server of one era; `link`, the ways to a server; `compose`, messages as
//! they are written; `handshake`, how sessions begin. Must not know clients' eras, callers' identities, or HTTP's other side.

pub mod compose;
pub mod exchange;
pub mod handshake;
pub mod ids;
pub mod legacy;
pub mod link;
pub mod speaker;
#[cfg(test)]
pub mod testing;
