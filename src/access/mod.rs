//! Who may do what: callers, the key, origins and hosts, and the seal on state that clients carry. Decisions are pure.
//!
//! Must not know HTTP types, actors or the clock's source.

mod caller;
mod origins;
mod seal;
mod session;

pub use caller::{Caller, Keys};
pub use origins::Gate;
pub use seal::{SealError, Sealed, Sealer, digest_of};
pub use session::session_handle;
