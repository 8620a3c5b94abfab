//! One state of a view: who offers what, found by name, and the lists as they are sent.
//!
//! Must not change once it is built; the views of bundles and fronts are built when somebody first looks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::json;

use super::Manner;
use super::culled::Culled;
use super::entry::{PromptEntry, ResourceEntry, ToolEntry};
use super::offer::Offer;
use super::pages::{Listing, Page};
use super::seat::Seat;
use super::view::{Changed, Cut, Kinds, View, ViewName};
use crate::access::limits::Allowance;
use crate::config::Selection;
use crate::config::plugin::BundleFile;
use crate::plugins::Inventory;
use crate::protocol::capabilities::Offers;
use crate::protocol::render::{self, Finished};
use crate::protocol::{Raw, SERVED};

/// Instructions of all plugins together are cut at this.
const INSTRUCTIONS_MAX_BYTES: usize = 16 * 1024;

/// Something that a plugin or bundle offers and that could not be published.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refused {
    /// Whose.
    pub plugin: Arc<str>,
    /// What, and why.
    pub why: String,
    /// Whether less is served than the plugin says: then it is degraded.
    pub degrades: bool,
}

impl Refused {
    pub(super) fn of(plugin: &Arc<str>, why: String) -> Self {
        Self { plugin: Arc::clone(plugin), why, degrades: true }
    }

    pub(super) fn entry(plugin: &Arc<str>, kind: &str, what: &str, why: &str) -> Self {
        Self::of(plugin, format!("{kind} {what:?} is not published: {why}"))
    }
}

/// One state of a view of the catalog.
#[derive(Default)]
pub struct Snapshot {
    view: ViewName,
    tools: HashMap<Arc<str>, Arc<ToolEntry>>,
    in_order: Vec<Arc<ToolEntry>>,
    prompts: HashMap<Arc<str>, Arc<PromptEntry>>,
    resources: HashMap<Arc<str>, Arc<ResourceEntry>>,
    templates: Vec<Arc<ResourceEntry>>,
    templates_by_text: HashMap<Arc<str>, Arc<ResourceEntry>>,
    parts: Vec<Arc<Offer>>,
    cut: Cut,
    /// What callers with globs see of it.
    culled: Culled,
    pub(super) views: BTreeMap<Arc<str>, View>,
    /// The plugins and what each was asked to publish.
    pub plugins: Vec<(Arc<Seat>, Arc<Inventory>)>,
    /// What could not be published.
    pub refused: Vec<Refused>,
    /// Bundles that are not served.
    pub refused_bundles: Vec<Refused>,
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
    /// What is served here.
    pub offers: Offers,
}

impl Snapshot {
    /// Which view it is a state of.
    pub fn view(&self) -> &ViewName {
        &self.view
    }

    /// What all who use this view may use up together; none means all.
    pub fn allowance(&self) -> Option<&Arc<Allowance>> {
        self.cut.allowance()
    }

    /// What the operator wrote of the bundle that this is the view of.
    pub fn bundle(&self) -> Option<&BundleFile> {
        self.cut.bundle()
    }

    /// The tool of this published name.
    pub fn tool(&self, name: &str) -> Option<&Arc<ToolEntry>> {
        self.tools.get(name)
    }

    /// All tools, as they are listed.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<ToolEntry>> {
        self.in_order.iter()
    }

    /// About how many tokens all its tools cost a model.
    pub fn tokens(&self) -> usize {
        self.tools().map(|tool| tool.tokens()).sum()
    }

    /// Every tool that a plugin publishes, by the plugin's name and its own, and the canonical hash of its definition.
    pub fn digests(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &Arc<str>)> {
        let tools = self.parts.iter().flat_map(|offer| &offer.tools);
        tools.map(|tool| (&tool.seat.name, &tool.local, &tool.digest))
    }

    /// The prompt of this published name.
    pub fn prompt(&self, name: &str) -> Option<&Arc<PromptEntry>> {
        self.prompts.get(name)
    }

    /// All prompts, in no order.
    pub fn prompts(&self) -> impl Iterator<Item = &Arc<PromptEntry>> {
        self.prompts.values()
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
        self.templates_by_text.get(uri_template).or_else(|| self.resources.get(uri_template))
    }

    /// The offer of the plugin on `seat`.
    pub fn offer(&self, seat: &Seat) -> Option<&Arc<Inventory>> {
        self.plugins.iter().find(|(other, _)| other.name == seat.name).map(|(_, inventory)| inventory)
    }

    /// The seat of the plugin of this name, if it has a part in this view.
    pub fn seat(&self, plugin: &str) -> Option<&Arc<Seat>> {
        self.plugins.iter().map(|(seat, _)| seat).find(|seat| &*seat.name == plugin)
    }

    /// Builds the view in which exactly what `cut` takes of `parts` is published, in their order. Pages of `old` that show
    /// the same are kept.
    pub(super) fn build(
        view: ViewName,
        cut: &Cut,
        parts: &[Arc<Offer>],
        old: &Self,
        manner: &Manner,
    ) -> Self {
        let parts: Vec<Arc<Offer>> =
            parts.iter().filter(|offer| view.shows_of(offer, cut)).cloned().collect();
        let plugins =
            parts.iter().map(|offer| (Arc::clone(&offer.seat), Arc::clone(&offer.inventory))).collect();
        let mut new = Self { view, plugins, cut: cut.clone(), ..Self::default() };
        let mut lists = Lists::default();
        let claims = Claims::of(cut, &parts);
        for offer in &parts {
            if matches!(cut, Cut::All) {
                new.refused.extend(offer.refused.iter().cloned());
            }
            new.add_tools(offer, cut, old, &claims);
            new.add_prompts(offer, cut, &mut lists, &claims);
            new.add_resources(offer, cut, &mut lists);
        }
        lists.tools = new.in_order.iter().map(|tool| tool.shown.clone()).collect();
        new.parts = parts;
        new.finish(cut, lists, old, manner);
        if new.view.selection().is_none() {
            new.warn(old);
            new.culled.carry(&old.culled, |selection, before| new.cull(selection, before, manner));
        }
        new
    }

    /// What `selection` shows of it; built when somebody first looks.
    pub(super) fn through(&self, selection: &Arc<Selection>, manner: &Manner) -> Arc<Self> {
        let build = || self.culled.keep(selection, self.cull(selection, &Self::default(), manner));
        self.culled.look(selection).unwrap_or_else(build)
    }

    #[cfg(test)]
    pub(super) fn culled(&self) -> usize {
        self.culled.len()
    }

    fn cull(&self, selection: &Arc<Selection>, old: &Self, manner: &Manner) -> Self {
        Self::build(self.view.clone().through(Some(selection)), &self.cut, &self.parts, old, manner)
    }

    /// Renders what is sent.
    fn finish(&mut self, cut: &Cut, lists: Lists, old: &Self, manner: &Manner) {
        let manner = &held_for(&self.parts, manner);
        let list = |key, items, old: &Listing| Listing::render(key, &self.view, items, old, manner);
        let tools = list("tools", lists.tools, &old.tools_list);
        let prompts = list("prompts", lists.prompts, &old.prompts_list);
        let resources = list("resources", lists.resources, &old.resources_list);
        let templates = list("resourceTemplates", lists.templates, &old.templates_list);
        (self.tools_list, self.prompts_list) = (tools, prompts);
        (self.resources_list, self.templates_list) = (resources, templates);
        self.instructions = instructions(cut, &self.parts);
        self.offers = offers(cut, &self.parts);
        let same = old.instructions == self.instructions
            && old.offers == self.offers
            && old.tools_list.ttl_ms() == manner.ttl_ms;
        let kept = old.discover.clone().filter(|_| same);
        self.discover = kept.or_else(|| {
            let finished = discover(self.offers, self.instructions.as_deref(), manner);
            finished.map(|finished| Arc::new(Page::new(finished)))
        });
    }

    fn add_tools(&mut self, offer: &Offer, cut: &Cut, old: &Self, claims: &Claims) {
        for tool in offer.tools.iter().filter(|tool| cut.takes(tool)) {
            if !self.view.shows(&tool.canonical) {
                continue;
            }
            let entry = if cut.is_plain() { alone(tool, old) } else { Arc::clone(tool) };
            let taken = self.tools.get(&entry.name).map(|taken| &taken.seat);
            match taken.or_else(|| Claims::of_another(&claims.tools, &entry.name, &offer.seat)) {
                None => {
                    self.in_order.push(Arc::clone(&entry));
                    self.tools.insert(Arc::clone(&entry.name), entry);
                }
                Some(taken) => {
                    let why = taken_by(&entry.name, taken, &offer.seat);
                    self.refused.push(Refused::entry(&offer.seat.name, "tool", &tool.local, &why));
                }
            }
        }
    }

    fn add_prompts(&mut self, offer: &Offer, cut: &Cut, lists: &mut Lists, claims: &Claims) {
        for prompt in offer.prompts.iter().filter(|_| cut.lists_all()) {
            if !self.view.shows(&prompt.canonical) {
                continue;
            }
            let entry = if cut.is_plain() { Arc::new(prompt.alone()) } else { Arc::clone(prompt) };
            let taken = self.prompts.get(&entry.name).map(|taken| &taken.seat);
            match taken.or_else(|| Claims::of_another(&claims.prompts, &entry.name, &offer.seat)) {
                None => {
                    lists.prompts.push(entry.shown.clone());
                    self.prompts.insert(Arc::clone(&entry.name), entry);
                }
                Some(taken) => {
                    let why = taken_by(&entry.name, taken, &offer.seat);
                    self.refused.push(Refused::entry(&offer.seat.name, "prompt", &prompt.local, &why));
                }
            }
        }
    }

    fn add_resources(&mut self, offer: &Offer, cut: &Cut, lists: &mut Lists) {
        for entry in &offer.resources {
            if let Some(taken) = self.template(&entry.uri) {
                let (first, second) = (&taken.seat.name, &offer.seat.name);
                let why =
                    format!("plugin {first:?} has this URI before plugin {second:?}, and is asked for it");
                // It can be read all the same: nothing is missing.
                let refused = Refused::entry(second, "resource", &entry.uri, &why);
                self.refused.push(Refused { degrades: false, ..refused });
                continue;
            }
            let shown = cut.lists_all().then(|| entry.shown.clone());
            if entry.template.is_some() {
                lists.templates.extend(shown);
                self.templates_by_text.insert(Arc::clone(&entry.uri), Arc::clone(entry));
                self.templates.push(Arc::clone(entry));
            } else {
                lists.resources.extend(shown);
                self.resources.insert(Arc::clone(&entry.uri), Arc::clone(entry));
            }
        }
    }

    /// Warns of what is refused now and was not before.
    fn warn(&self, old: &Self) {
        let before: HashSet<&Refused> = old.refused.iter().collect();
        for refused in self.refused.iter().filter(|refused| !before.contains(refused)) {
            let view = self.view.to_string();
            log::warn!(plugin = &*refused.plugin, view = view.as_str(); "plugin {}: {}", refused.plugin, refused.why);
        }
    }

    /// Which lists differ from those of `old`.
    fn differs_from(&self, old: &Self) -> Kinds {
        Kinds {
            tools: self.tools_list != old.tools_list,
            prompts: self.prompts_list != old.prompts_list,
            resources: self.resources_list != old.resources_list || self.templates_list != old.templates_list,
        }
    }

    /// Which lists of which views differ from those of `old`.
    pub(super) fn changes_since(&self, old: &Self) -> Changed {
        let mut changed = Changed { main: self.differs_from(old), ..Changed::default() };
        let mut note = |name: &Arc<str>, kinds: Kinds| {
            if kinds != Kinds::default() {
                changed.views.insert(Arc::clone(name), kinds);
            }
        };
        for (name, view) in &self.views {
            match (view.built(), old.views.get(name)) {
                (Some(now), Some(before)) => {
                    note(name, before.built().map_or(Kinds::ALL, |before| now.differs_from(before)));
                }
                // Whoever looked at one of this name before it went must look again.
                (_, None) => note(name, Kinds::ALL),
                (None, Some(_)) => {}
            }
        }
        for name in old.views.keys().filter(|name| !self.views.contains_key(*name)) {
            note(name, Kinds::ALL);
        }
        self.note_culled(old, &mut changed.culled);
        for (name, view) in &self.views {
            let before = old.views.get(name).and_then(View::built);
            if let (Some(now), Some(before)) = (view.built(), before) {
                now.note_culled(before, &mut changed.culled);
            }
        }
        changed
    }

    fn note_culled(&self, old: &Self, culled: &mut BTreeMap<ViewName, Kinds>) {
        for (selection, now, before) in self.culled.beside(&old.culled) {
            culled.insert(self.view.clone().through(Some(&selection)), now.differs_from(&before));
        }
    }
}

/// Names that are not to be had by the choice of a plain name, whatever the order of plugins: those that stand behind another
/// plugin's prefix. Clients know them, and send what is meant for that plugin.
#[derive(Default)]
struct Claims {
    tools: HashMap<Arc<str>, Arc<Seat>>,
    prompts: HashMap<Arc<str>, Arc<Seat>>,
}

impl Claims {
    fn of(cut: &Cut, parts: &[Arc<Offer>]) -> Self {
        let mut claims = Self::default();
        // Without any plain names nobody can take one, and where all are plain the order says whose they are.
        if cut.is_plain() || !parts.iter().any(|offer| offer.seat.curator.is_plain()) {
            return claims;
        }
        for offer in parts.iter().filter(|offer| !offer.seat.curator.is_plain()) {
            let claim = |name: &Arc<str>| (Arc::clone(name), Arc::clone(&offer.seat));
            claims.tools.extend(offer.tools.iter().map(|tool| claim(&tool.name)));
            claims.prompts.extend(offer.prompts.iter().map(|prompt| claim(&prompt.name)));
        }
        claims
    }

    /// Who has claimed `name`, if that is not the plugin on `seat`.
    fn of_another<'a>(
        claims: &'a HashMap<Arc<str>, Arc<Seat>>,
        name: &str,
        seat: &Seat,
    ) -> Option<&'a Arc<Seat>> {
        claims.get(name).filter(|claimed| claimed.name != seat.name)
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

/// The tool under its plain name; the one that `old` made of it, if it is the same tool.
fn alone(tool: &Arc<ToolEntry>, old: &Snapshot) -> Arc<ToolEntry> {
    let kept = old.tool(tool.seat.curator.name_alone(&tool.local));
    let kept = kept.filter(|kept| Arc::ptr_eq(&kept.input, &tool.input));
    kept.map_or_else(|| Arc::new(tool.alone()), Arc::clone)
}

/// Why a name cannot be had twice, with both owners.
fn taken_by(name: &str, first: &Seat, second: &Seat) -> String {
    if first.name == second.name {
        return format!("another one of plugin {:?} is published as {name:?}", first.name);
    }
    format!(
        "{name:?} is what plugin {:?} publishes, too; have plugin {:?} use a prefix, rename or deny it",
        first.name, second.name
    )
}

/// What those who have a part say of themselves, or what was written for the view.
fn instructions(cut: &Cut, parts: &[Arc<Offer>]) -> Option<String> {
    if let Some(written) = cut.instructions() {
        return Some(written.clone());
    }
    let told = parts.iter().filter_map(|offer| {
        let text = offer.instructions()?;
        Some(if matches!(cut, Cut::Front) { text.clone() } else { format!("{}: {text}", offer.seat.name) })
    });
    let mut instructions = told.collect::<Vec<_>>().join("\n\n");
    if instructions.len() > INSTRUCTIONS_MAX_BYTES {
        let cut =
            (0..=INSTRUCTIONS_MAX_BYTES).rev().find(|at| instructions.is_char_boundary(*at)).unwrap_or(0);
        instructions.truncate(cut);
    }
    (!instructions.is_empty()).then_some(instructions)
}

/// What is served. The front of a plugin serves what that plugin does; elsewhere plugins come and go, and with them what
/// their lists show, so that lists are there even while they are empty.
fn offers(cut: &Cut, parts: &[Arc<Offer>]) -> Offers {
    let served = parts.iter().map(|offer| offer.inventory.offers()).fold(Offers::default(), Offers::or);
    match cut {
        Cut::Front => served,
        Cut::All | Cut::Bundle(_) => {
            let lists = Offers { prompts: cut.lists_all(), ..Offers::LISTS };
            lists.or(Offers { prompts: false, ..served })
        }
    }
}

/// Lists hold no longer than the shortest of those that they are made of.
fn held_for(parts: &[Arc<Offer>], manner: &Manner) -> Manner {
    let shortest = parts.iter().filter_map(|offer| offer.inventory.ttl_ms).min();
    Manner { ttl_ms: shortest.unwrap_or(u64::MAX).min(manner.ttl_ms), ..manner.clone() }
}

/// `server/discover`.
fn discover(offers: Offers, instructions: Option<&str>, manner: &Manner) -> Option<Finished> {
    let mut result = json!({
        "supportedVersions": SERVED,
        "capabilities": offers.to_value(),
        "ttlMs": manner.ttl_ms,
        "cacheScope": "private",
    });
    if let (Some(instructions), Some(result)) = (instructions, result.as_object_mut()) {
        result.insert("instructions".to_owned(), instructions.into());
    }
    render::complete(&Raw::value(&result), &manner.info).ok()
}
