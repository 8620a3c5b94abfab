//! What each tool's definition looked like when it was last seen, and before: a server may change what a person agreed to.
//!
//! Tools that are gone are remembered: one that comes back as another is noticed, too. Must not know where this is kept.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use super::offer::Offer;
use crate::telemetry::metrics::METRICS;

/// Tools that are remembered of one plugin: a server that invents names without end costs no more than this.
const TOOLS_MAX: usize = 10_000;

/// How a tool was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Whose it is.
    pub plugin: Arc<str>,
    /// What its plugin calls it.
    pub tool: Arc<str>,
    /// The canonical hash of its definition.
    pub digest: Arc<str>,
    /// The one that it had before.
    pub previous: Option<Arc<str>>,
    /// When it was there for the first time.
    pub first_seen_at: SystemTime,
    /// When its definition last changed.
    pub changed_at: Option<SystemTime>,
}

/// All tools that were ever seen.
#[derive(Default)]
pub(super) struct Sightings {
    plugins: HashMap<Arc<str>, HashMap<Arc<str>, Known>>,
    /// Plugins and their tools whose sightings are new.
    unsaved: BTreeSet<(Arc<str>, Arc<str>)>,
}

struct Known {
    sighting: Sighting,
    /// Whether it is from before this process.
    is_old: bool,
}

impl Sightings {
    /// Takes in what was seen before this process; what this process saw itself is newer.
    pub(super) fn remember(&mut self, sighting: Sighting) {
        let tools = self.plugins.entry(Arc::clone(&sighting.plugin)).or_default();
        tools.entry(Arc::clone(&sighting.tool)).or_insert(Known { sighting, is_old: true });
    }

    /// Looks at all that a plugin offers now; says whether anything is new.
    pub(super) fn look_at(&mut self, offer: &Offer) -> bool {
        // A plugin that is down offers nothing, and has changed nothing: it is looked at when it is back.
        let plugin = &offer.seat.name;
        let tools = self.plugins.entry(Arc::clone(plugin)).or_default();
        let mut room = TOOLS_MAX.saturating_sub(tools.len());
        let mut news = false;
        for tool in &offer.tools {
            let is_new = match tools.get_mut(&tool.local) {
                Some(known) if known.sighting.digest == tool.digest => false,
                Some(known) => {
                    // What comes with the program changes with it, and was trusted with it.
                    if !(known.is_old && offer.seat.registered.is_some()) {
                        METRICS.tool_definition_changes.with_label_values(&[&**plugin]).inc();
                        log::warn!(plugin = &**plugin, tool = &*tool.canonical;
                            "plugin {plugin} changed the definition of its tool {}: look at it before you trust it", tool.local);
                    }
                    let before = std::mem::replace(&mut known.sighting.digest, Arc::clone(&tool.digest));
                    known.sighting.previous = Some(before);
                    known.sighting.changed_at = Some(SystemTime::now());
                    known.is_old = false;
                    true
                }
                None if room == 0 => false,
                None => {
                    room -= 1;
                    let sighting = Sighting {
                        plugin: Arc::clone(plugin),
                        tool: Arc::clone(&tool.local),
                        digest: Arc::clone(&tool.digest),
                        previous: None,
                        first_seen_at: SystemTime::now(),
                        changed_at: None,
                    };
                    tools.insert(Arc::clone(&tool.local), Known { sighting, is_old: false });
                    true
                }
            };
            if is_new {
                news = true;
                self.unsaved.insert((Arc::clone(plugin), Arc::clone(&tool.local)));
            }
        }
        news
    }

    /// Those of one plugin, by its own names.
    pub(super) fn of(&self, plugin: &str) -> HashMap<Arc<str>, Sighting> {
        let tools = self.plugins.get(plugin).into_iter().flatten();
        tools.map(|(tool, known)| (Arc::clone(tool), known.sighting.clone())).collect()
    }

    /// Takes at most `most` of those that were not taken yet.
    pub(super) fn take_unsaved(&mut self, most: usize) -> Vec<Sighting> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((plugin, tool)) = self.unsaved.pop_first()
        {
            let known = self.plugins.get(&plugin).and_then(|tools| tools.get(&tool));
            taken.extend(known.map(|known| known.sighting.clone()));
        }
        taken
    }

    /// Takes some back that could not be saved.
    pub(super) fn give_back(&mut self, unsaved: Vec<Sighting>) {
        self.unsaved.extend(unsaved.into_iter().map(|sighting| (sighting.plugin, sighting.tool)));
    }
}
