//! Who may do what: callers, their keys, origins and hosts, and the seal on state that clients carry;
//! and how much of it. Decisions are pure.
//!
//! Must not know HTTP types, actors or, but for `limits::clock`, the clock's source.

mod caller;
mod failures;
pub mod keys;
pub mod limits;
mod origins;
mod seal;
mod session;

pub use caller::Caller;
pub use failures::{Failures, WRONG_KEYS, slowed_down};
pub use origins::Gate;
pub use seal::{SealError, Sealed, Sealer, digest_of};
pub use session::{session_handle, session_hash};
