//! DbActor's mailbox: everything the database can be asked, reads first, then the end.
//!
//! | message         | from            | reply                      | may be lost |
//! |-----------------|-----------------|----------------------------|-------------|
//! | `Ping`          | health          | –                          | yes         |
//! | `Crash`         | http (test)     | –                          | yes         |
//! | `ListHistory`   | http, app       | `Page`, the newest first   | no          |
//! | `ShowCall`      | http, app       | `Vec<Entry>`, empty: none  | no          |
//! | `LoadDefinitions` | sightings   | `Vec<ToolDefinition>`      | no          |
//! | `SaveDefinitions` | sightings   | – once they are on disk    | no          |
//! | `LookAtKeys`    | keys        | the counter, raised by each change | yes |
//! | `LoadKeys`      | keys        | counter and `Vec<KeyRow>`  | yes         |
//! | `ActOnKeys`     | keys        | `Acted`, or why not        | no          |
//! | `SaveKeyUses`   | keys        | – once they are on disk    | yes         |
//! | `LoadSessions` | sessions      | `OfOthers`                 | no          |
//! | `SaveSessions` | sessions      | – once they are on disk    | no          |
//! | `CheckDatabase` | health, http    | `Duration` of a small read | no          |
//! | `GetPool`       | metrics         | `PoolState`                | yes         |
//! | `Flush`         | app             | – once all is on disk      | no          |
//! | `Close`         | app             | – once the file is whole   | no          |
//!
//! Recording is no message: see [`Recorder`](super::Recorder).

use std::time::Duration;

use actix::Message;
use chrono::NaiveDateTime;

use super::RecordError;
use crate::access::keys::{Act, Acted, KeyError};
pub use crate::actors::supervision::{Crash, Ping};
use crate::storage::definitions::ToolDefinition;
use crate::storage::history::{Entry, Filter, Page};
use crate::storage::keys::KeyRow;
use crate::storage::sessions::{OfOthers, SessionRow};
use crate::storage::{PoolState, StorageError};

/// Calls that a filter asks for, the newest first.
#[derive(Debug, Message)]
#[rtype(result = "Result<Page, StorageError>")]
pub struct ListHistory {
    /// Which.
    pub filter: Filter,
}

/// Every row of one call; none means that there is no such call.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Entry>, StorageError>")]
pub struct ShowCall {
    /// Which.
    pub call_id: String,
}

/// What is known of all tools' definitions.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<ToolDefinition>, StorageError>")]
pub struct LoadDefinitions;

/// Writes how tools were seen, all or none; the asker keeps them few.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StorageError>")]
pub struct SaveDefinitions {
    /// How.
    pub rows: Vec<ToolDefinition>,
}

/// How often something was changed that running servers keep in memory.
#[derive(Debug, Message)]
#[rtype(result = "Result<i64, StorageError>")]
pub struct LookAtKeys;

/// All keys, and the counter from before they were read.
#[derive(Debug, Message)]
#[rtype(result = "Result<(i64, Vec<KeyRow>), StorageError>")]
pub struct LoadKeys;

/// Does something to keys.
#[derive(Debug, Message)]
#[rtype(result = "Result<Result<Acted, KeyError>, StorageError>")]
pub struct ActOnKeys {
    /// What.
    pub act: Act,
}

/// Writes when keys were last used, by their ids.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StorageError>")]
pub struct SaveKeyUses {
    /// When.
    pub uses: Vec<(String, NaiveDateTime)>,
}

/// Sessions with clients of other servers that have not expired, and were used at a moment or later.
#[derive(Debug, Message)]
#[rtype(result = "Result<OfOthers, StorageError>")]
pub struct LoadSessions {
    /// What is now.
    pub now: NaiveDateTime,
    /// The moment.
    pub since: NaiveDateTime,
}

/// Writes how sessions stand, and forgets those that ended or expired; the asker keeps them few.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StorageError>")]
pub struct SaveSessions {
    /// How they stand.
    pub rows: Vec<SessionRow>,
    /// The hashes of the ids of those that ended.
    pub ended: Vec<String>,
    /// What is now.
    pub now: NaiveDateTime,
}

/// Reads one row, and tells how long the database took.
#[derive(Debug, Message)]
#[rtype(result = "Result<Duration, StorageError>")]
pub struct CheckDatabase;

/// How many connections there are.
#[derive(Debug, Message)]
#[rtype(result = "Result<PoolState, StorageError>")]
pub struct GetPool;

/// Waits until all that was recorded so far is on disk.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), RecordError>")]
pub struct Flush;

/// Writes what is left, marks this instance as stopped, makes the file whole, and closes the database. What is recorded
/// or asked later is refused.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), RecordError>")]
pub struct Close;
