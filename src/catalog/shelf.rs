//! The shelf: holds the current snapshot, and what it was made of.
//!
//! One change, of one plugin or of many things at once, makes one snapshot: whoever looks sees all of it or nothing.
//! Must not know who looks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;

use super::Manner;
use super::entry::ResourceEntry;
use super::links::Links;
use super::offer::{COMPILE_WITHIN, Offer};
use super::seat::Seat;
use super::sightings::{Sighting, Sightings};
use super::snapshot::{Refused, Snapshot};
use super::state::PluginState;
use super::view::{Bundle, Changed, Cut, View, ViewName};
use crate::access::limits::Allowance;
use crate::config::plugin::BundleFile;
use crate::plugins::Inventory;

/// One of several changes that are made at once.
pub enum Arrangement {
    /// The plugin on this seat offers this, in the place of what a plugin of its name offered.
    Put(Arc<Seat>, Inventory),
    /// The plugin on this seat is gone; another of its name may be there already.
    Remove(Arc<Seat>),
    /// There are these bundles, and no others.
    Bundles(Vec<(String, BundleFile)>),
}

/// What an operator sees of a bundle, or of a plugin served alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewSummary {
    /// Its name: it is served at `/mcp/{name}`.
    pub name: Arc<str>,
    /// Whether an operator made it; else it is a plugin alone.
    pub is_bundle: bool,
    /// Whose tools it has.
    pub plugins: Vec<Arc<str>>,
    /// Plugins that it names and that are not there.
    pub missing: Vec<String>,
    /// How many tools it has.
    pub tools: usize,
    /// About how many tokens they cost a model.
    pub tokens: usize,
}

/// What the snapshot is made of.
#[derive(Default)]
struct Stock {
    /// In the order of lists: those that the program brings as they were registered, then the others by name.
    offers: Vec<Arc<Offer>>,
    /// Of plugins that wait to take others' places: what was compiled of them is not compiled again then.
    held: Vec<Arc<Offer>>,
    bundles: Vec<Arc<Bundle>>,
    refused_bundles: Vec<Refused>,
    /// How each tool was last seen; of plugins that are gone, too.
    sightings: Sightings,
}

/// Holds the current snapshot.
pub struct Shelf {
    current: ArcSwap<Snapshot>,
    stock: Mutex<Stock>,
    links: Arc<Links>,
    manner: Manner,
    /// Told when a tool is seen that is new, or is not what it was.
    sighted: Notify,
}

impl Shelf {
    /// An empty shelf.
    pub fn new(manner: Manner) -> Self {
        let empty = Snapshot::build(ViewName::MAIN, &Cut::All, &[], &Snapshot::default(), &manner);
        Self {
            current: ArcSwap::from_pointee(empty),
            stock: Mutex::default(),
            links: Arc::default(),
            manner,
            sighted: Notify::new(),
        }
    }

    /// The current snapshot of everything, borrowed for a moment.
    pub fn current(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The current snapshot of everything, to be kept.
    pub fn keep(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The current snapshot of `view`, borrowed for a moment; none when there is no such view.
    pub fn view(&self, view: &ViewName) -> Option<Guard<Arc<Snapshot>>> {
        let whole = self.whole(view)?;
        Some(match view.selection() {
            None => whole,
            Some(selection) => Guard::from_inner(whole.through(selection, &self.manner)),
        })
    }

    /// All that there is to `view`, whatever is shown of it.
    fn whole(&self, view: &ViewName) -> Option<Guard<Arc<Snapshot>>> {
        let current = self.current.load();
        let Some(name) = view.name() else { return Some(current) };
        let view = current.views.get(name)?;
        let built = view.look(|cut, parts| {
            Snapshot::build(ViewName::of(name), cut, parts, &Snapshot::default(), &self.manner)
        });
        Some(Guard::from_inner(Arc::clone(built)))
    }

    /// All bundles and fronts, by name.
    pub fn views(&self) -> Vec<ViewSummary> {
        let current = self.current.load();
        current.views.iter().map(|(name, view)| summary(&current, name, view)).collect()
    }

    /// The limits of all bundles, by name.
    pub fn allowances(&self) -> Vec<(Arc<str>, Arc<Allowance>)> {
        let current = self.current.load();
        let limited =
            |(name, view): (&Arc<str>, &View)| Some((Arc::clone(name), Arc::clone(view.cut.allowance()?)));
        current.views.iter().filter_map(limited).collect()
    }

    /// The links that passed, by which a URI's plugin is found where lists do not name it.
    pub fn links(&self) -> &Arc<Links> {
        &self.links
    }

    /// Who has the resource `uri` in `catalog`: by a list, else by a template, else by a link that passed.
    pub fn owner(&self, catalog: &Snapshot, uri: &str) -> Option<Arc<ResourceEntry>> {
        if let Some(entry) = catalog.resource(uri) {
            return Some(Arc::clone(entry));
        }
        let plugin = self.links.owner(uri, |plugin| catalog.seat(plugin).is_some())?;
        let seat = catalog.seat(&plugin)?;
        Some(Arc::new(ResourceEntry::linked(seat, uri)))
    }

    /// Publishes what the plugin on `seat` offers now, in the place of what it offered before; of one in quarantine nothing.
    pub fn publish(&self, seat: &Arc<Seat>, inventory: Inventory) -> Changed {
        self.rearrange(vec![Arrangement::Put(Arc::clone(seat), inventory)])
    }

    /// Takes all that the plugin on `seat` offers off the shelf, for good; the plugin itself stays to be seen.
    pub fn quarantine(&self, seat: &Arc<Seat>) -> Changed {
        seat.quarantine();
        let nothing = Offer::make(seat, Inventory::default(), None, Instant::now());
        let mut stock = self.stock();
        if !seat.is_shown() {
            return Changed::default();
        }
        // Nothing is seen of it: no tool of it is new.
        let _no_news = stock.put(Arc::new(nothing));
        self.rebuild(&stock)
    }

    /// Has these bundles and no others.
    pub fn set_bundles(&self, bundles: Vec<(String, BundleFile)>) -> Changed {
        self.rearrange(vec![Arrangement::Bundles(bundles)])
    }

    /// Makes all these changes at once.
    pub fn rearrange(&self, changes: Vec<Arrangement>) -> Changed {
        // Schemas are compiled before the lock is taken: a plugin with many of them keeps no other waiting.
        let changes: Vec<Made> = changes.into_iter().filter_map(|change| self.make(change)).collect();
        if changes.is_empty() {
            return Changed::default();
        }
        let mut stock = self.stock();
        for change in changes {
            match change {
                // While its schemas were compiled, it was put there.
                Made::Put(offer) if offer.seat.state() == PluginState::Quarantined => {}
                // One that waits to take another's place, or has left its own, must not push away who is there.
                Made::Put(offer) if offer.seat.is_shown() => {
                    if stock.put(offer) {
                        self.sighted.notify_one();
                    }
                }
                Made::Put(offer) => stock.hold(offer),
                Made::Remove(seat) => stock.offers.retain(|offer| !Arc::ptr_eq(&offer.seat, &seat)),
                Made::Bundles(bundles, refused) => {
                    (stock.bundles, stock.refused_bundles) = (bundles, refused);
                }
            }
        }
        self.rebuild(&stock)
    }

    /// Forgets what a plugin would have offered that takes no place any more.
    pub fn let_go(&self, seat: &Arc<Seat>) {
        self.stock().let_go(seat);
    }

    /// Notes how tools were seen before this process: from now on a change of them is noticed.
    pub fn remember(&self, known: impl IntoIterator<Item = Sighting>) {
        let mut stock = self.stock();
        known.into_iter().for_each(|sighting| stock.sightings.remember(sighting));
    }

    /// How the tools of one plugin were last seen, by its own names.
    pub fn sightings(&self, plugin: &str) -> HashMap<Arc<str>, Sighting> {
        self.stock().sightings.of(plugin)
    }

    /// Waits until a tool is seen that is new, or is not what it was; whoever comes late does not wait.
    pub async fn sighted(&self) {
        self.sighted.notified().await;
    }

    /// Takes at most `most` sightings that nobody took before.
    pub fn take_unsaved(&self, most: usize) -> Vec<Sighting> {
        self.stock().sightings.take_unsaved(most)
    }

    /// Takes sightings back that could not be saved: they are given out once more.
    pub fn give_back(&self, unsaved: Vec<Sighting>) {
        self.stock().sightings.give_back(unsaved);
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, change: Arrangement) -> Option<Made> {
        Some(match change {
            Arrangement::Put(seat, _) if seat.state() == PluginState::Quarantined => return None,
            Arrangement::Put(seat, inventory) => {
                let old = self.stock().of(&seat);
                let until = Instant::now() + COMPILE_WITHIN;
                Made::Put(Arc::new(Offer::make(&seat, inventory, old.as_deref(), until)))
            }
            Arrangement::Remove(seat) => Made::Remove(seat),
            Arrangement::Bundles(bundles) => {
                let (mut made, mut refused) = (Vec::new(), Vec::new());
                let old = self.stock().bundles.clone();
                for (name, file) in bundles {
                    let before = old.iter().find(|bundle| *bundle.name == *name);
                    match Bundle::new(&name, file, before.map(|before| &**before)) {
                        Ok(bundle) => made.push(Arc::new(bundle)),
                        Err(why) => {
                            refused.push(Refused::of(&name.into(), format!("it is not served: {why}")))
                        }
                    }
                }
                Made::Bundles(made, refused)
            }
        })
    }

    fn rebuild(&self, stock: &Stock) -> Changed {
        let old = self.current.load_full();
        let mut new = Snapshot::build(ViewName::MAIN, &Cut::All, &stock.offers, &old, &self.manner);
        self.cut_views(stock, &old, &mut new);
        let changed = new.changes_since(&old);
        for (seat, _) in &new.plugins {
            let refused = |refused: &Refused| refused.degrades && refused.plugin == seat.name;
            seat.note_refused(new.refused.iter().any(refused));
        }
        self.current.store(Arc::new(new));
        changed
    }

    /// Gives `new` a view for each plugin that has a front, and for each bundle.
    fn cut_views(&self, stock: &Stock, old: &Snapshot, new: &mut Snapshot) {
        let mut views = BTreeMap::new();
        let mut add = |name: &Arc<str>, cut: Cut, parts: Vec<Arc<Offer>>| {
            let view = View::new(cut, parts, old.views.get(name), |cut, parts, before| {
                Snapshot::build(ViewName::of(name), cut, parts, before, &self.manner)
            });
            views.insert(Arc::clone(name), view);
        };
        for offer in stock.offers.iter().filter(|offer| offer.seat.curator.has_front()) {
            add(&offer.seat.name, Cut::Front, vec![Arc::clone(offer)]);
        }
        new.refused_bundles.clone_from(&stock.refused_bundles);
        for bundle in &stock.bundles {
            if stock.offers.iter().any(|offer| offer.seat.name == bundle.name) {
                let why = "it is not served: a plugin has its name; rename one of the two".to_owned();
                new.refused_bundles.push(Refused::of(&bundle.name, why));
                continue;
            }
            let (cut, parts) = Cut::of_bundle(bundle, &stock.offers);
            add(&bundle.name, cut, parts);
        }
        new.views = views;
        for refused in new.refused_bundles.iter().filter(|refused| !old.refused_bundles.contains(refused)) {
            log::warn!(bundle = &*refused.plugin; "bundle {}: {}", refused.plugin, refused.why);
        }
    }
}

/// A change, all that can be made before the lock is taken made.
enum Made {
    Put(Arc<Offer>),
    Remove(Arc<Seat>),
    Bundles(Vec<Arc<Bundle>>, Vec<Refused>),
}

impl Stock {
    /// Puts an offer into its place; says whether a tool of it is new, or is not what it was.
    fn put(&mut self, offer: Arc<Offer>) -> bool {
        self.let_go(&offer.seat);
        let news = self.sightings.look_at(&offer);
        let place =
            |offer: &Offer| (offer.seat.registered.unwrap_or(usize::MAX), Arc::clone(&offer.seat.name));
        self.offers.retain(|old| old.seat.name != offer.seat.name);
        let at = self.offers.partition_point(|other| place(other) < place(&offer));
        self.offers.insert(at, offer);
        news
    }

    /// Keeps an offer that must not be shown.
    fn hold(&mut self, offer: Arc<Offer>) {
        self.let_go(&offer.seat);
        self.held.push(offer);
    }

    fn let_go(&mut self, seat: &Arc<Seat>) {
        self.held.retain(|held| !Arc::ptr_eq(&held.seat, seat));
    }

    /// What was made of the plugin on `seat`, shown or not.
    fn of(&self, seat: &Arc<Seat>) -> Option<Arc<Offer>> {
        self.held.iter().chain(&self.offers).find(|offer| Arc::ptr_eq(&offer.seat, seat)).cloned()
    }
}

fn summary(current: &Snapshot, name: &Arc<str>, view: &View) -> ViewSummary {
    let named = match &view.cut {
        Cut::Bundle(bundle) => bundle.file.plugins.as_slice(),
        Cut::All | Cut::Front => &[],
    };
    let missing = named.iter().filter(|plugin| current.seat(plugin).is_none()).cloned().collect();
    ViewSummary {
        name: Arc::clone(name),
        is_bundle: matches!(view.cut, Cut::Bundle(_)),
        plugins: view.parts.iter().map(|offer| Arc::clone(&offer.seat.name)).collect(),
        missing,
        tools: view.tools().count(),
        tokens: view.tools().map(|tool| tool.tokens()).sum(),
    }
}
