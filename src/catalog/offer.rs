//! What one plugin offers, curated and published once: its part in every view of the catalog.
//!
//! Must not know other plugins, nor what is refused for their sake.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::{PromptEntry, ResourceEntry, ToolEntry};
use super::seat::Seat;
use super::snapshot::Refused;
use crate::plugins::Inventory;
use crate::protocol::Definition;

/// The schemas of one plugin may take so long to compile; tools whose turn does not come are refused.
pub(super) const COMPILE_WITHIN: Duration = Duration::from_secs(5);

/// Templates of one plugin: each URI that no list names is held against all of them.
const TEMPLATES_MAX: usize = 1_000;

/// One plugin's part.
pub(super) struct Offer {
    pub(super) seat: Arc<Seat>,
    /// What it was asked to publish.
    pub(super) inventory: Arc<Inventory>,
    pub(super) tools: Vec<Arc<ToolEntry>>,
    pub(super) prompts: Vec<Arc<PromptEntry>>,
    /// Resources and templates.
    pub(super) resources: Vec<Arc<ResourceEntry>>,
    /// What could not be published, whoever else is there.
    pub(super) refused: Vec<Refused>,
}

impl Offer {
    /// What the plugin on `seat` offers now. Of `old`, what did not change is kept: schemas are not compiled again. From
    /// `until` on none is.
    pub(super) fn make(seat: &Arc<Seat>, inventory: Inventory, old: Option<&Self>, until: Instant) -> Self {
        let mut new = Self {
            seat: Arc::clone(seat),
            inventory: Arc::default(),
            tools: Vec::with_capacity(inventory.tools.len()),
            prompts: Vec::with_capacity(inventory.prompts.len()),
            resources: Vec::with_capacity(inventory.resources.len() + inventory.templates.len()),
            refused: Vec::new(),
        };
        let malformed = seat.curator.malformed().map(|why| format!("nothing of it is published: {why}"));
        new.refused.extend(malformed.map(|why| Refused::of(&seat.name, why)));
        let kept = old.filter(|old| Arc::ptr_eq(&old.seat, seat));
        new.add_tools(&inventory.tools, kept, until);
        new.add_prompts(&inventory.prompts);
        new.add_resources(inventory.resources.iter().chain(&inventory.templates));
        new.inventory = Arc::new(inventory);
        new
    }

    fn add_tools(&mut self, definitions: &[Definition], old: Option<&Self>, until: Instant) {
        let old: HashMap<&str, &Arc<ToolEntry>> =
            old.iter().flat_map(|old| &old.tools).map(|tool| (&*tool.local, tool)).collect();
        for definition in definitions {
            let local = definition.name();
            if !self.seat.curator.shows(&local) {
                continue;
            }
            let kept = old.get(local.as_str()).filter(|kept| kept.definition == *definition);
            let entry = kept.map_or_else(
                || match Instant::now() < until {
                    true => ToolEntry::publish(&self.seat, definition).map(Arc::new),
                    false => Err(format!(
                        "the schemas before it took the {} s that all of one plugin may take",
                        COMPILE_WITHIN.as_secs()
                    )),
                },
                |kept| Ok(Arc::clone(kept)),
            );
            match entry {
                Ok(entry) => {
                    let name = &self.seat.name;
                    // It is served all the same: nothing is missing.
                    let uncached = entry.uncached.map(|why| Refused {
                        degrades: false,
                        ..Refused::of(name, format!("tool {local:?}: {why}"))
                    });
                    self.refused.extend(uncached);
                    self.tools.push(entry);
                }
                Err(why) => self.refused.push(Refused::entry(&self.seat.name, "tool", &local, &why)),
            }
        }
    }

    fn add_prompts(&mut self, definitions: &[Definition]) {
        for definition in definitions {
            let local = definition.name();
            if !self.seat.curator.allows(&local) {
                continue;
            }
            match PromptEntry::publish(&self.seat, definition) {
                Ok(entry) => self.prompts.push(Arc::new(entry)),
                Err(why) => self.refused.push(Refused::entry(&self.seat.name, "prompt", &local, &why)),
            }
        }
    }

    fn add_resources<'a>(&mut self, definitions: impl Iterator<Item = &'a Definition>) {
        let mut templates = 0;
        for definition in definitions {
            let published = ResourceEntry::publish(&self.seat, definition).and_then(|entry| {
                templates += usize::from(entry.template.is_some());
                let is_one_too_many = entry.template.is_some() && templates > TEMPLATES_MAX;
                let why = || format!("it comes after {TEMPLATES_MAX} other templates");
                if is_one_too_many { Err(why()) } else { Ok(entry) }
            });
            match published {
                Ok(entry) => self.resources.push(Arc::new(entry)),
                Err(why) => {
                    let refused = Refused::entry(&self.seat.name, "resource", &definition.uri(), &why);
                    self.refused.push(refused);
                }
            }
        }
    }

    /// What a model should know to use it.
    pub(super) fn instructions(&self) -> Option<&String> {
        self.seat.curator.instructions(self.inventory.instructions.as_ref())
    }
}
