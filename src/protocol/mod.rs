//! MCP as data: parsing, checking and rendering messages. No actix, no I/O, no clock.

pub mod capabilities;
pub mod content;
mod definition;
mod envelope;
pub mod headers;
mod incoming;
mod input;
pub mod legacy;
mod level;
mod methods;
mod mirrors;
pub mod modern;
mod object;
mod raw;
pub mod render;
mod revision;
mod scan;
pub mod sse;

pub use definition::Definition;
pub use envelope::{Id, Malformed, Message};
pub use incoming::{Incoming, RpcError};
pub use input::{Answers, ClientCapabilities, InputMethod, InputRequest};
pub use level::{LogLevel, Trace};
pub use methods::{Eras, MODERN, Method, Named, SERVED};
pub use mirrors::{Mirror, mirrors};
pub use object::{Object, from_object};
pub use raw::{Raw, RawError};
pub use revision::{LEGACY_COUNT, Revision};
pub use scan::DEPTH_MAX;

/// The names of all revisions that a server speaks, newest first.
pub fn spoken() -> Vec<&'static str> {
    SERVED.iter().copied().chain(Revision::with_sessions()).collect()
}
