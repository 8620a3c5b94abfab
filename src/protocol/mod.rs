//! MCP as data: parsing, checking and rendering messages. No actix, no I/O, no clock.

pub mod content;
mod definition;
mod input;
mod level;
mod object;
mod raw;

pub use definition::Definition;
pub use input::{Answers, ClientCapabilities, InputMethod, InputRequest};
pub use level::{LogLevel, Trace};
pub use object::Object;
pub use raw::{DEPTH_MAX, Raw, RawError};
