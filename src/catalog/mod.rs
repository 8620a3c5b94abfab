//! What is on offer: one immutable snapshot of all tools, prompts and resources, swapped whole.
//!
//! A plugin's inventory is published as a new snapshot beside the old one; calls in flight finish on the old one.
//! Must not know callers, calls or HTTP.

mod breaker;
mod entry;
mod meter;
mod pages;
mod schema;
mod seat;
mod snapshot;
mod template;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use crate::plugins::Inventory;
use crate::protocol::render::ServerInfo;

pub use breaker::{Circuit, Verdict};
pub use entry::{PromptEntry, ResourceEntry, ToolEntry};
pub use meter::Meter;
pub use pages::{CursorError, Listing, Page};
pub use seat::{Names, Place, PluginState, Seat, SeatLimits};
pub use snapshot::{Refused, Snapshot};

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

/// What one plugin offers, as it was last published.
#[derive(Clone)]
struct Offer {
    seat: Arc<Seat>,
    inventory: Arc<Inventory>,
}

/// Which lists differ from those before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// The tools.
    pub tools: bool,
    /// The prompts.
    pub prompts: bool,
    /// The resources or templates.
    pub resources: bool,
}

/// Holds the current snapshot.
pub struct Shelf {
    current: ArcSwap<Snapshot>,
    offers: Mutex<Vec<Offer>>,
    manner: Manner,
}

impl Shelf {
    /// An empty shelf.
    pub fn new(manner: Manner) -> Self {
        let empty = Snapshot::build(&[], &Snapshot::default(), &manner);
        Self { current: ArcSwap::from_pointee(empty), offers: Mutex::default(), manner }
    }

    /// The current snapshot, borrowed for a moment.
    pub fn current(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The current snapshot, to be kept.
    pub fn keep(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Publishes what the plugin on `seat` offers now, in the place of what it offered before; of one in quarantine nothing.
    pub fn publish(&self, seat: &Arc<Seat>, inventory: Inventory) -> Changed {
        if seat.state() == PluginState::Quarantined {
            return Changed::default();
        }
        self.put(seat, inventory)
    }

    /// Takes the plugin on `seat` off the shelf, and leaves nothing of it.
    pub fn remove(&self, seat: &Arc<Seat>) -> Changed {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers.retain(|offer| !Arc::ptr_eq(&offer.seat, seat));
        self.rebuild(&offers)
    }

    /// Takes all that the plugin on `seat` offers off the shelf, for good; the plugin itself stays to be seen.
    pub fn quarantine(&self, seat: &Arc<Seat>) -> Changed {
        seat.quarantine();
        self.put(seat, Inventory::default())
    }

    fn put(&self, seat: &Arc<Seat>, inventory: Inventory) -> Changed {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        // One that waits to take another's place, or has left its own, must not push away who is there.
        if !seat.is_shown() {
            return Changed::default();
        }
        let offer = Offer { seat: Arc::clone(seat), inventory: Arc::new(inventory) };
        match offers.iter_mut().find(|old| old.seat.name == seat.name) {
            Some(old) => *old = offer,
            None => offers.push(offer),
        }
        self.rebuild(&offers)
    }

    fn rebuild(&self, offers: &[Offer]) -> Changed {
        let old = self.current.load_full();
        let offers: Vec<(Arc<Seat>, Arc<Inventory>)> =
            offers.iter().map(|offer| (Arc::clone(&offer.seat), Arc::clone(&offer.inventory))).collect();
        let new = Snapshot::build(&offers, &old, &self.manner);
        let changed = new.differs_from(&old);
        for (seat, _) in &offers {
            seat.note_refused(new.refused.iter().any(|refused| refused.plugin == seat.name));
        }
        self.current.store(Arc::new(new));
        changed
    }
}
