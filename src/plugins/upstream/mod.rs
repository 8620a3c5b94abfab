//! Plugins that are other MCP servers, of any era, over any transport.
//!
//! Reading order: `credentials`, what the file names but does not hold; `speaker`, what is said to a server of one era; `link`, the ways to a server. Must not know clients' eras, callers' identities, or HTTP's other side.

pub mod credentials;
pub mod link;
pub mod speaker;
