//! BackupKeeper's mailbox: nobody asks it for anything; what it knows, others read off [`Keeping`](super::Keeping).
//!
//! | message         | from             | reply | may be lost |
//! |-----------------|------------------|-------|-------------|
//! | `Ping`, `Crash` | health, operator | –     | yes         |

pub use crate::actors::supervision::{Crash, Ping};
