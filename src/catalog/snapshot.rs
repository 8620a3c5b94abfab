//! One state of the catalog: who offers what, found by name, and the lists as they are sent.
//!
//! Must not change once it is built.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use super::entry::{PromptEntry, ResourceEntry, ToolEntry, shown};
use super::pages::{Listing, Page};
use super::seat::Seat;
use super::{Changed, Manner};
use crate::plugins::Inventory;
use crate::protocol::render::{self, Finished};
use crate::protocol::{Definition, Raw, SERVED, capabilities};

/// Instructions of all plugins together are cut at this.
const INSTRUCTIONS_MAX_BYTES: usize = 16 * 1024;

/// Something that a plugin offers and that could not be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Whose.
    pub plugin: Arc<str>,
    /// What, and why.
    pub why: String,
}

/// One state of the catalog.
#[derive(Default)]
pub struct Snapshot {
    tools: HashMap<Arc<str>, Arc<ToolEntry>>,
    prompts: HashMap<Arc<str>, Arc<PromptEntry>>,
    resources: HashMap<Arc<str>, Arc<ResourceEntry>>,
    templates: Vec<Arc<ResourceEntry>>,
    /// The plugins and what each was asked to publish.
    pub plugins: Vec<(Arc<Seat>, Arc<Inventory>)>,
    /// What could not be published.
    pub refused: Vec<Refused>,
    /// `tools/list`.
    pub tools_list: Listing,
    /// `prompts/list`.
    pub prompts_list: Listing,
    /// `resources/list`.
    pub resources_list: Listing,
    /// `resources/templates/list`.
    pub templates_list: Listing,
    /// `server/discover`.
    pub discover: Option<Arc<Page>>,
    /// What a model should know to use it all.
    pub instructions: Option<String>,
}

impl Snapshot {
    /// The tool of this published name.
    pub fn tool(&self, name: &str) -> Option<&Arc<ToolEntry>> {
        self.tools.get(name)
    }

    /// All tools, in no order.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<ToolEntry>> {
        self.tools.values()
    }

    /// The prompt of this published name.
    pub fn prompt(&self, name: &str) -> Option<&Arc<PromptEntry>> {
        self.prompts.get(name)
    }

    /// Who has the resource `uri`: by itself, else by the first template that covers it.
    pub fn resource(&self, uri: &str) -> Option<&Arc<ResourceEntry>> {
        let covers = |entry: &&Arc<ResourceEntry>| {
            entry.template.as_ref().is_some_and(|template| template.covers(uri))
        };
        self.resources.get(uri).or_else(|| self.templates.iter().find(covers))
    }

    /// The template written exactly so.
    pub fn template(&self, uri_template: &str) -> Option<&Arc<ResourceEntry>> {
        self.templates
            .iter()
            .find(|entry| &*entry.uri == uri_template)
            .or_else(|| self.resources.get(uri_template))
    }

    /// The offer of the plugin on `seat`.
    pub fn offer(&self, seat: &Seat) -> Option<&Arc<Inventory>> {
        self.plugins.iter().find(|(other, _)| other.name == seat.name).map(|(_, inventory)| inventory)
    }

    /// Builds the state in which exactly `offers` are published. Entries of `old` that did not change are kept, so
    /// that their schemas are not compiled again.
    pub(super) fn build(offers: &[(Arc<Seat>, Arc<Inventory>)], old: &Self, manner: &Manner) -> Self {
        let mut new = Self { plugins: offers.to_vec(), ..Self::default() };
        let mut lists = Lists::default();
        for (seat, inventory) in offers {
            new.add_tools(seat, inventory, old, &mut lists);
            new.add_prompts(seat, inventory, &mut lists);
            new.add_resources(seat, inventory, &mut lists);
        }
        for refused in &new.refused {
            if !old.refused.contains(refused) {
                log::warn!(plugin = &*refused.plugin; "plugin {}: {}", refused.plugin, refused.why);
            }
        }
        new.tools_list = Listing::render("tools", &lists.tools, manner);
        new.prompts_list = Listing::render("prompts", &lists.prompts, manner);
        new.resources_list = Listing::render("resources", &lists.resources, manner);
        new.templates_list = Listing::render("resourceTemplates", &lists.templates, manner);
        new.instructions = instructions(offers);
        new.discover =
            discover(new.instructions.as_deref(), manner).map(|finished| Arc::new(Page::new(finished)));
        new
    }

    fn add_tools(&mut self, seat: &Arc<Seat>, inventory: &Inventory, old: &Self, lists: &mut Lists) {
        for definition in &inventory.tools {
            let kept = old.tool(&seat.publish(&definition.name()));
            let kept = kept.filter(|kept| Arc::ptr_eq(&kept.seat, seat) && kept.definition == *definition);
            let entry = kept.map_or_else(
                || ToolEntry::publish(seat, definition).map(Arc::new),
                |kept| Ok(Arc::clone(kept)),
            );
            match entry {
                Ok(entry) if !self.tools.contains_key(&entry.name) => {
                    lists.tools.push(shown(definition, Some(&entry.name)));
                    self.tools.insert(Arc::clone(&entry.name), entry);
                }
                Ok(_) => self.refuse(seat, "tool", definition, "the name is taken"),
                Err(why) => self.refuse(seat, "tool", definition, &why),
            }
        }
    }

    fn add_prompts(&mut self, seat: &Arc<Seat>, inventory: &Inventory, lists: &mut Lists) {
        for definition in &inventory.prompts {
            match PromptEntry::publish(seat, definition) {
                Ok(entry) if !self.prompts.contains_key(&entry.name) => {
                    lists.prompts.push(shown(definition, Some(&entry.name)));
                    self.prompts.insert(Arc::clone(&entry.name), Arc::new(entry));
                }
                Ok(_) => self.refuse(seat, "prompt", definition, "the name is taken"),
                Err(why) => self.refuse(seat, "prompt", definition, &why),
            }
        }
    }

    fn add_resources(&mut self, seat: &Arc<Seat>, inventory: &Inventory, lists: &mut Lists) {
        for definition in inventory.resources.iter().chain(&inventory.templates) {
            match ResourceEntry::publish(seat, definition).map(Arc::new) {
                Ok(entry) if self.template(&entry.uri).is_some() => {
                    self.refuse(seat, "resource", definition, "the URI is taken");
                }
                Ok(entry) if entry.template.is_some() => {
                    lists.templates.push(shown(definition, None));
                    self.templates.push(entry);
                }
                Ok(entry) => {
                    lists.resources.push(shown(definition, None));
                    self.resources.insert(Arc::clone(&entry.uri), entry);
                }
                Err(why) => self.refuse(seat, "resource", definition, &why),
            }
        }
    }

    fn refuse(&mut self, seat: &Seat, kind: &str, definition: &Definition, why: &str) {
        let why = format!("{kind} {:?} is not published: {why}", definition.name());
        self.refused.push(Refused { plugin: Arc::clone(&seat.name), why });
    }

    /// Which lists differ from those of `old`.
    pub(super) fn differs_from(&self, old: &Self) -> Changed {
        Changed {
            tools: self.tools_list != old.tools_list,
            prompts: self.prompts_list != old.prompts_list,
            resources: self.resources_list != old.resources_list || self.templates_list != old.templates_list,
        }
    }
}

/// What the lists show.
#[derive(Default)]
struct Lists {
    tools: Vec<Raw>,
    prompts: Vec<Raw>,
    resources: Vec<Raw>,
    templates: Vec<Raw>,
}

/// What all plugins say of themselves.
fn instructions(offers: &[(Arc<Seat>, Arc<Inventory>)]) -> Option<String> {
    let told = offers.iter().filter_map(|(seat, inventory)| {
        inventory.instructions.as_ref().map(|text| format!("{}: {text}", seat.name))
    });
    let mut instructions = told.collect::<Vec<_>>().join("\n\n");
    if instructions.len() > INSTRUCTIONS_MAX_BYTES {
        let cut =
            (0..=INSTRUCTIONS_MAX_BYTES).rev().find(|at| instructions.is_char_boundary(*at)).unwrap_or(0);
        instructions.truncate(cut);
    }
    (!instructions.is_empty()).then_some(instructions)
}

/// `server/discover`.
fn discover(instructions: Option<&str>, manner: &Manner) -> Option<Finished> {
    let mut result = json!({
        "supportedVersions": SERVED,
        "capabilities": capabilities::of_server(),
        "ttlMs": manner.ttl_ms,
        "cacheScope": "private",
    });
    if let (Some(instructions), Some(result)) = (instructions, result.as_object_mut()) {
        result.insert("instructions".to_owned(), instructions.into());
    }
    render::complete(&Raw::value(&result), &manner.info).ok()
}
