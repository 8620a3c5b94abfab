//! Plugins that are other MCP servers, of any era, over any transport.
//!
//! Reading order: `link`, the ways to a server. Must not know clients' eras, callers' identities, or HTTP's other side.

pub mod link;
