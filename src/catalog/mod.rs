//! What is on offer: one immutable snapshot of all tools, prompts and resources, swapped whole, with a view for each bundle
//! and each plugin alone.
//!
//! A plugin's inventory is published as a new snapshot beside the old one; calls in flight finish on the old one.
//! Must not know callers, calls or HTTP.

mod breaker;
mod caching;
mod counted;
mod culled;
mod curation;
mod digest;
mod document;
mod entry;
mod failed;
mod links;
mod meter;
mod names;
mod offer;
mod pages;
mod place;
mod schema;
mod seat;
mod secrets;
mod shelf;
mod sightings;
mod snapshot;
mod state;
mod template;
mod view;
mod weight;

#[cfg(test)]
mod tests;

use crate::protocol::render::ServerInfo;

pub use breaker::{Circuit, Verdict};
pub use caching::Caching;
pub use counted::Counted;
pub use curation::{Curator, Withheld};
pub use entry::{PromptEntry, ResourceEntry, ToolEntry};
pub use failed::Failed;
pub use links::Links;
pub use meter::Meter;
pub use pages::{CursorError, Listing, Page};
pub use place::Place;
pub use schema::{Check, Schema};
pub use seat::{Seat, SeatLimits};
pub use shelf::{Arrangement, Shelf, ViewSummary};
pub use sightings::Sighting;
pub use snapshot::{Refused, Snapshot};
pub use state::PluginState;
pub use view::{Changed, Kinds, ViewName};

/// How lists are shown.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Entries of one page.
    pub page_size: usize,
    /// `ttlMs` of lists.
    pub ttl_ms: u64,
    /// What the server is called.
    pub info: ServerInfo,
}
