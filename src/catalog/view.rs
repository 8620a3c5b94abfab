//! The views of the catalog: of everything, of a bundle, of one plugin alone. What each takes in, and how it says it.
//!
//! Must not know how a view is built, nor who looks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use globset::GlobSet;

use super::curation::globs;
use super::entry::ToolEntry;
use super::offer::Offer;
use super::snapshot::Snapshot;
use crate::access::limits::{Allowance, Of};
use crate::config::Selection;
use crate::config::plugin::BundleFile;

/// Which view: of everything, or the one of this name; all of it, or what certain globs show of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewName {
    name: Option<Arc<str>>,
    through: Option<Arc<Selection>>,
}

impl ViewName {
    /// Of everything.
    pub const MAIN: Self = Self { name: None, through: None };

    /// The bundle or front of this name.
    pub fn of(name: &str) -> Self {
        Self { name: Some(name.into()), through: None }
    }

    /// What `selection` shows of it, by the names that tools and prompts have among all; without one, all.
    pub fn through(self, selection: Option<&Arc<Selection>>) -> Self {
        Self { through: selection.map(Arc::clone), ..self }
    }

    /// The bundle's or front's name; none of everything.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What shows a part of it only.
    pub fn selection(&self) -> Option<&Arc<Selection>> {
        self.through.as_ref()
    }

    /// Whether a tool or prompt that has this name among all may be seen.
    pub fn shows(&self, canonical: &str) -> bool {
        self.through.as_ref().is_none_or(|selection| selection.takes(canonical))
    }

    /// Whether anything of a plugin may be seen: whoever sees none of its tools and prompts sees nothing of it.
    pub(super) fn shows_of(&self, offer: &Offer, cut: &Cut) -> bool {
        let Some(selection) = &self.through else { return true };
        let tools = offer.tools.iter().filter(|tool| cut.takes(tool)).map(|tool| &tool.canonical);
        let prompts = offer.prompts.iter().filter(|_| cut.lists_all()).map(|prompt| &prompt.canonical);
        if offer.tools.is_empty() && offer.prompts.is_empty() {
            // It has no names but its own, before which all others would stand.
            return selection.takes(&format!("{}__", offer.seat.name));
        }
        tools.chain(prompts).any(|name| selection.takes(name))
    }
}

impl fmt::Display for ViewName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            None => f.write_str("/mcp"),
            Some(name) => write!(f, "/mcp/{name}"),
        }
    }
}

/// Which lists of a view differ from those before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds {
    /// The tools.
    pub tools: bool,
    /// The prompts.
    pub prompts: bool,
    /// The resources or templates.
    pub resources: bool,
}

impl Kinds {
    /// All of them.
    pub const ALL: Self = Self { tools: true, prompts: true, resources: true };
}

/// Which lists differ from those before, in which view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Of everything.
    pub main: Kinds,
    /// Of bundles and fronts; one that is not here is as it was, or was never looked at.
    pub views: BTreeMap<Arc<str>, Kinds>,
    /// Of what globs show of views; one that is not here was not compared, and may differ as its whole view does.
    pub culled: BTreeMap<ViewName, Kinds>,
}

impl Changed {
    /// What changed for those who look at `view`.
    pub fn of(&self, view: &ViewName) -> Kinds {
        if let Some(kinds) = self.culled.get(view).filter(|_| view.through.is_some()) {
            return *kinds;
        }
        view.name().map_or(self.main, |name| self.views.get(name).copied().unwrap_or_default())
    }
}

/// A bundle as the operator wrote it, its globs compiled.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) name: Arc<str>,
    pub(super) file: BundleFile,
    tools: Option<GlobSet>,
    allowance: Option<Arc<Allowance>>,
}

impl Bundle {
    /// Of this file, in the place of `before`.
    ///
    /// # Errors
    /// A sentence that names a malformed glob.
    pub(super) fn new(name: &str, file: BundleFile, before: Option<&Self>) -> Result<Self, String> {
        let tools = if file.tools.is_empty() { None } else { Some(globs(&file.tools)?) };
        let before = before.and_then(|before| before.allowance.as_ref());
        let allowance = Allowance::new(Of::Bundle, name, file.quota, before);
        Ok(Self { name: name.into(), file, tools, allowance })
    }

    fn names(&self, offer: &Offer) -> bool {
        self.file.plugins.iter().any(|plugin| **plugin == *offer.seat.name)
    }

    fn takes(&self, tool: &ToolEntry) -> bool {
        self.tools.as_ref().is_none_or(|tools| tools.is_match(&*tool.canonical))
    }
}

/// What a view takes in.
#[derive(Clone, Default)]
pub(super) enum Cut {
    /// Everything.
    #[default]
    All,
    /// One plugin, as if it were alone.
    Front,
    /// What the bundle says.
    Bundle(Arc<Bundle>),
}

impl Cut {
    /// Those of `offers` that belong to a bundle: those that it names, or, if it names none, those with tools that it takes.
    pub(super) fn of_bundle(bundle: &Arc<Bundle>, offers: &[Arc<Offer>]) -> (Self, Vec<Arc<Offer>>) {
        let by_tools = bundle.file.plugins.is_empty();
        let belongs = |offer: &&Arc<Offer>| {
            if by_tools { offer.tools.iter().any(|tool| bundle.takes(tool)) } else { bundle.names(offer) }
        };
        (Self::Bundle(Arc::clone(bundle)), offers.iter().filter(belongs).cloned().collect())
    }

    /// Whether this tool is in it.
    pub(super) fn takes(&self, tool: &ToolEntry) -> bool {
        match self {
            Self::All | Self::Front => true,
            Self::Bundle(bundle) => bundle.takes(tool),
        }
    }

    /// Whether names are as the plugins say them.
    pub(super) fn is_plain(&self) -> bool {
        match self {
            Self::All => false,
            Self::Front => true,
            Self::Bundle(bundle) => bundle.file.plain,
        }
    }

    /// Whether prompts are in it, and resources listed. Of tools that were picked one by one, resources can be read only.
    pub(super) fn lists_all(&self) -> bool {
        match self {
            Self::All | Self::Front => true,
            Self::Bundle(bundle) => !bundle.file.plugins.is_empty(),
        }
    }

    /// What all who use it may use up together; none means all.
    pub(super) fn allowance(&self) -> Option<&Arc<Allowance>> {
        match self {
            Self::All | Self::Front => None,
            Self::Bundle(bundle) => bundle.allowance.as_ref(),
        }
    }

    /// What the operator wrote of it.
    pub(super) fn bundle(&self) -> Option<&BundleFile> {
        match self {
            Self::All | Self::Front => None,
            Self::Bundle(bundle) => Some(&bundle.file),
        }
    }

    /// The instructions that were written for it.
    pub(super) fn instructions(&self) -> Option<&String> {
        match self {
            Self::All | Self::Front => None,
            Self::Bundle(bundle) => bundle.file.instructions.as_ref(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) | (Self::Front, Self::Front) => true,
            (Self::Bundle(one), Self::Bundle(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// A view that is built when somebody first looks.
pub(super) struct View {
    pub(super) cut: Cut,
    pub(super) parts: Vec<Arc<Offer>>,
    built: OnceLock<Arc<Snapshot>>,
}

impl View {
    /// A view of `parts`, in the place of `old`. One that somebody looked at is built at once, so that they learn of what
    /// changed, and is the same one if nothing did.
    pub(super) fn new(
        cut: Cut,
        parts: Vec<Arc<Offer>>,
        old: Option<&Self>,
        build: impl FnOnce(&Cut, &[Arc<Offer>], &Snapshot) -> Snapshot,
    ) -> Self {
        let built = OnceLock::new();
        if let Some((old, before)) = old.and_then(|old| Some((old, old.built.get()?))) {
            let same = cut.is(&old.cut)
                && parts.len() == old.parts.len()
                && parts.iter().zip(&old.parts).all(|(one, other)| Arc::ptr_eq(one, other));
            let now = if same { Arc::clone(before) } else { Arc::new(build(&cut, &parts, before)) };
            drop(built.set(now));
        }
        Self { cut, parts, built }
    }

    /// The view, built if nobody looked before.
    pub(super) fn look(&self, build: impl FnOnce(&Cut, &[Arc<Offer>]) -> Snapshot) -> &Arc<Snapshot> {
        self.built.get_or_init(|| Arc::new(build(&self.cut, &self.parts)))
    }

    /// The view, if somebody looked.
    pub(super) fn built(&self) -> Option<&Arc<Snapshot>> {
        self.built.get()
    }

    /// Its tools.
    pub(super) fn tools(&self) -> impl Iterator<Item = &Arc<ToolEntry>> {
        self.parts.iter().flat_map(|offer| &offer.tools).filter(|tool| self.cut.takes(tool))
    }
}
