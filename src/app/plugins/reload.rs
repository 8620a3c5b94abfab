//! Carries out reloads, one at a time: what files describe now is built beside what runs, waited for, and swapped in whole;
//! what is said of built-in plugins, and what is denied of others, holds before that is waited for.
//!
//! A bad file, or a plugin that does not become ready, costs nothing that runs. Must not know who asked.

mod deny;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

use super::builtins::{Builtins, OF_ANOTHER_KIND};
use super::make::Maker;
use super::teller::Teller;
use super::{Newcomer, Nursery};
use crate::actors::ask::ask;
use crate::actors::plugin::Member;
use crate::actors::plugin::messages::{Publish, Reseat};
use crate::actors::plugin::reload::{Asked, Failed, Reloaded};
use crate::actors::supervision::message_of;
use crate::catalog::{Arrangement, PluginState};
use crate::config::Faults;
use crate::config::plugin::{
    BundleFile, Folder, McpServer, PluginFile, PluginKind, Tuning, path_of, read_folder, render,
};
use crate::plugins::upstream::credentials::{self, Fingerprint};
use wait::failed_since;

/// How long an actor may take to begin a life, which it does not wait for.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// How long the folder may take to be read.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Carries out reloads.
pub(in crate::app) struct Reloader {
    nursery: Nursery,
    /// Plugins of the program itself, which no file takes away.
    builtins: Builtins,
    maker: Arc<dyn Maker>,
    folder: PathBuf,
    /// What each plugin that runs was made of.
    servers: BTreeMap<String, Made>,
    bundles: BTreeMap<String, BundleFile>,
    /// Bundles of the program itself, which no file takes away.
    own_bundles: Vec<(String, BundleFile)>,
    teller: Teller,
    /// Who asked while a reload waited, which read for them only what is denied.
    waiting: Vec<Asked>,
    /// Built-in plugins that changed meanwhile, for the next reload to tell of.
    early: Vec<String>,
    /// What each server's file denied when it could be read last.
    denied: BTreeMap<String, Vec<String>>,
}

/// What the folder wants, held against what runs.
#[derive(Default)]
struct Plan {
    report: Reloaded,
    /// To be made; with whether there is one of its name already.
    make: Vec<(String, Made, bool)>,
    /// Built-in plugins of which other things are said now, or nothing any more.
    tune: Vec<(String, Option<Box<Tuning>>)>,
    remove: Vec<String>,
    bundles: BTreeMap<String, BundleFile>,
}

/// What a plugin is made of: its file, and what its credentials came to when that was read.
#[derive(PartialEq)]
struct Made {
    server: Box<McpServer>,
    fingerprint: Fingerprint,
}

impl Made {
    /// All of it as a text, which is only to be hashed: it may hold secrets.
    fn definition(&self, name: &str) -> String {
        let kind = PluginKind::Mcp(self.server.clone());
        let file = PluginFile { name: name.to_owned(), enabled: true, kind };
        format!("{:02x?}\n{}", self.fingerprint, render(&file))
    }
}

/// One that was made and does not serve yet.
struct Candidate {
    made: Made,
    member: Arc<Member>,
    /// Whether it takes another's place.
    replaces: bool,
    /// Whether that one has ended for it, since two of them must never run at once.
    is_alone: bool,
}

impl Reloader {
    pub(super) fn new(
        (builtins, nursery): (Builtins, Nursery),
        maker: Arc<dyn Maker>,
        own_bundles: Vec<(String, BundleFile)>,
        folder: PathBuf,
        teller: Teller,
    ) -> Self {
        let (servers, bundles) = (BTreeMap::new(), BTreeMap::new());
        let (waiting, early) = (Vec::new(), Vec::new());
        let denied = BTreeMap::new();
        Self {
            nursery,
            builtins,
            maker,
            folder,
            servers,
            bundles,
            own_bundles,
            teller,
            waiting,
            early,
            denied,
        }
    }

    /// Starts all that the folder describes, lets go of `starts`, and then answers `asks` until nobody can ask any more.
    pub(in crate::app) async fn run(mut self, starts: oneshot::Sender<()>, mut asks: mpsc::Receiver<Asked>) {
        match self.reload_at_any_rate(true, &mut asks).await {
            Ok(first) => self.teller.started(&first),
            Err(why) => log::error!("no plugin was started: {why}"),
        }
        drop(starts);
        loop {
            let mut askers = std::mem::take(&mut self.waiting);
            if askers.is_empty() {
                let Some(first) = asks.recv().await else { return };
                askers.push(first);
            }
            while let Ok(further) = asks.try_recv() {
                askers.push(further);
            }
            let outcome = self.reload_at_any_rate(false, &mut asks).await;
            self.teller.reloaded(&askers, &outcome);
            for asker in askers {
                // Whoever went away does not care.
                let _gone = asker.tell.send(outcome.clone());
            }
        }
    }

    /// Reloads, and comes back even from a panic: there is only this one who reloads.
    async fn reload_at_any_rate(
        &mut self,
        at_start: bool,
        asks: &mut mpsc::Receiver<Asked>,
    ) -> Result<Reloaded, String> {
        let reloaded = AssertUnwindSafe(self.reload(at_start, asks)).catch_unwind().await;
        reloaded
            .unwrap_or_else(|payload| Err(format!("the reload panicked: {}", message_of(payload.as_ref()))))
    }

    /// What the files say now, and what the credentials in them come to.
    async fn read(&self) -> Result<(Folder, BTreeMap<String, Fingerprint>), String> {
        let folder = self.folder.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let found = read_folder(&folder)?;
            let fingerprints = fingerprints(&found);
            Ok::<_, String>((found, fingerprints))
        });
        let found = tokio::time::timeout(READ_WITHIN, reading).await.map_err(|_elapsed| {
            format!(
                "the folder could not be read within {} s: {}",
                READ_WITHIN.as_secs(),
                self.folder.display()
            )
        })?;
        found.map_err(|error| format!("the folder could not be read: {error}"))?
    }

    /// Reads the folder and makes what runs what it describes. At the start nothing is waited for.
    async fn reload(&mut self, at_start: bool, asks: &mut mpsc::Receiver<Asked>) -> Result<Reloaded, String> {
        let began = Instant::now();
        let (found, fingerprints) = self.read().await?;
        for note in &found.notes {
            log::warn!("{note}");
        }
        // Before anything is waited for: what is denied now must not be offered until a slow server is ready.
        self.deny(&found).await;
        let mut plan = self.plan(found, &fingerprints);
        self.tune(&mut plan).await;
        self.tell_early(&mut plan.report);
        let candidates = self.make(&mut plan, at_start).await;
        let ready = if at_start { Vec::new() } else { self.wait_for(&candidates, asks).await };
        let mut put = Vec::new();
        for (candidate, trouble) in
            candidates.into_iter().zip(ready.into_iter().chain(std::iter::repeat(None)))
        {
            let candidate = if at_start { candidate } else { self.deny_late(candidate).await };
            self.settle(candidate, trouble, !at_start, &mut plan.report, &mut put);
        }
        let bundles = (plan.bundles != self.bundles).then_some(&plan.bundles);
        // That it was not published is in the log.
        drop(self.swap(&put, &plan.remove, bundles).await);
        for name in &plan.remove {
            self.servers.remove(name);
        }
        self.bundles = std::mem::take(&mut plan.bundles);
        let mut report = plan.report;
        for names in [&mut report.added, &mut report.changed, &mut report.unchanged, &mut report.removed] {
            names.sort_unstable();
        }
        report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }

    fn plan(&self, found: Folder, fingerprints: &BTreeMap<String, Fingerprint>) -> Plan {
        let mut plan = Plan::default();
        let mut kept = BTreeSet::new();
        for (name, file) in found.files {
            match file {
                Err(faults) => {
                    self.keep_bundle(&name, &mut plan);
                    self.fail(&mut plan.report, &name, faults.on_one_line());
                    kept.insert(name);
                }
                // Be it enabled or not: it stands where what the plugin is denied would.
                Ok(PluginFile { kind: PluginKind::Mcp(_) | PluginKind::Bundle(_), .. })
                    if self.builtins.has(&name) =>
                {
                    self.fail(&mut plan.report, &name, OF_ANOTHER_KIND.to_owned());
                    kept.insert(name);
                }
                Ok(PluginFile { enabled: false, .. }) => {}
                Ok(PluginFile { kind: PluginKind::Builtin(tuning), .. }) => {
                    kept.insert(name.clone());
                    match self.builtins.is_news(&name, &tuning) {
                        Ok(true) => plan.tune.push((name, Some(tuning))),
                        Ok(false) => plan.report.unchanged.push(name),
                        Err(why) => self.fail(&mut plan.report, &name, why),
                    }
                }
                Ok(PluginFile { kind: PluginKind::Mcp(server), .. }) => {
                    kept.insert(name.clone());
                    let fingerprint = fingerprints.get(&name).copied().unwrap_or_default();
                    let made = Made { server, fingerprint };
                    match self.servers.get(&name) {
                        Some(running) if *running == made && !self.is_given_up(&name) => {
                            plan.report.unchanged.push(name);
                        }
                        running => plan.make.push((name, made, running.is_some())),
                    }
                }
                Ok(PluginFile { kind: PluginKind::Bundle(bundle), .. }) => {
                    let list = match self.bundles.get(&name) {
                        None => &mut plan.report.added,
                        Some(old) if *old == bundle => &mut plan.report.unchanged,
                        Some(_) => &mut plan.report.changed,
                    };
                    list.push(name.clone());
                    plan.bundles.insert(name, bundle);
                }
            }
        }
        plan.remove = self.servers.keys().filter(|name| !kept.contains(*name)).cloned().collect();
        plan.report.removed.clone_from(&plan.remove);
        plan.tune.extend(self.builtins.forsaken(&kept).into_iter().map(|name| (name, None)));
        let gone = self.bundles.keys().filter(|name| !plan.bundles.contains_key(*name)).cloned();
        plan.report.removed.extend(gone);
        plan
    }

    fn keep_bundle(&self, name: &str, plan: &mut Plan) {
        if let Some(bundle) = self.bundles.get(name) {
            plan.bundles.insert(name.to_owned(), bundle.clone());
        }
    }

    /// One in quarantine, or whose thread is held up, is started anew by a reload, as its operator expects.
    fn is_given_up(&self, name: &str) -> bool {
        let Some(member) = self.nursery.roll.get(name) else { return true };
        let lives =
            matches!(member.seat.state(), PluginState::Starting | PluginState::Ready | PluginState::Degraded);
        !lives || member.seat.is_stuck()
    }

    fn fail(&self, report: &mut Reloaded, name: &str, why: String) {
        report.failed.push(Failed { name: name.to_owned(), file: path_of(&self.folder, name), why });
    }

    /// Has built-in plugins be offered as is said of them now; their lives go on.
    async fn tune(&mut self, plan: &mut Plan) {
        let (mut put, mut said) = (Vec::new(), Vec::new());
        for (name, tuning) in std::mem::take(&mut plan.tune) {
            let reseated =
                self.builtins.reseat(&self.nursery, &self.folder, (&name, tuning.as_deref()), BEGIN_WITHIN);
            match reseated.await {
                Ok(member) => {
                    put.push(member);
                    said.push((name, tuning));
                }
                Err(why) => self.fail(&mut plan.report, &name, why),
            }
        }
        if put.is_empty() {
            return;
        }
        let published = self.swap(&put, &[], None).await;
        for (name, tuning) in said {
            if let Err(why) = &published {
                // It is not held, and so is news to the next reload.
                self.fail(&mut plan.report, &name, why.clone());
                continue;
            }
            if tuning.is_none() {
                log::warn!(plugin = &*name; "the file of plugin {name} is gone: what it denied is offered again");
            }
            plan.report.changed.push(name.clone());
            self.builtins.hold(name, tuning);
        }
    }

    /// Makes what is to be made and begins the lives, one after another; from there on they start side by side.
    async fn make(&self, plan: &mut Plan, at_start: bool) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for (name, made, replaces) in std::mem::take(&mut plan.make) {
            match self.make_one(&name, &made, replaces, at_start).await {
                Ok((member, is_alone)) => candidates.push(Candidate { made, member, replaces, is_alone }),
                Err(why) => self.fail(&mut plan.report, &name, why),
            }
        }
        candidates
    }

    async fn make_one(
        &self,
        name: &str,
        made: &Made,
        replaces: bool,
        at_start: bool,
    ) -> Result<(Arc<Member>, bool), String> {
        let server = &made.server;
        let (maker, named, made_of) = (Arc::clone(&self.maker), name.to_owned(), server.clone());
        let plugin = tokio::task::spawn_blocking(move || maker.make(&named, &made_of)).await;
        let plugin = plugin.map_err(|error| format!("it could not be made: {error}"))??;
        let newcomer = Newcomer {
            name: name.to_owned(),
            curation: Arc::new(server.curation.clone()),
            registered: None,
            plugin,
            limits: self.nursery.limits_of(&server.limits, server.start_timeout),
            kind: "mcp",
            origin: Some(path_of(&self.folder, name)),
            definition: made.definition(name),
            // In a reload all appears at once; at the start each as soon as it is ready.
            shown: at_start,
            exclusive: server.is_exclusive(),
        };
        let heir_of = replaces.then(|| self.nursery.roll.get(name)).flatten();
        let is_alone = match &heir_of {
            Some(old) => self.nursery.make_room(old, server.is_exclusive()).await,
            None => false,
        };
        let member =
            self.nursery.seat(newcomer, heir_of.as_deref()).await.map_err(|error| error.to_string())?;
        if replaces {
            self.nursery.roll.keep_aside(&member);
        } else {
            // It can be looked at while it starts.
            self.nursery.roll.change(vec![Arc::clone(&member)], &[]);
        }
        if let Err(error) = ask(&member.address, Publish, BEGIN_WITHIN).await {
            // What is not counted among the plugins must not live, or it would never be stopped.
            self.nursery.roll.remove(&member);
            self.nursery.retire(member, false);
            return Err(format!("it was not begun: {error}"));
        }
        Ok((member, is_alone))
    }

    /// Decides what becomes of one that is ready, or is not.
    fn settle(
        &mut self,
        candidate: Candidate,
        trouble: Option<String>,
        waited: bool,
        report: &mut Reloaded,
        put: &mut Vec<Arc<Member>>,
    ) {
        let Candidate { made, member, replaces, is_alone } = candidate;
        let may_go_back = replaces && !is_alone;
        let name = member.seat.name.to_string();
        // While others were waited for it may have failed again.
        let serves = matches!(member.seat.state(), PluginState::Ready | PluginState::Degraded);
        let trouble = trouble.or_else(|| (waited && !serves).then(|| failed_since(&member.seat)));
        let is_ready = trouble.is_none();
        if let Some(why) = trouble {
            let goes_on = if may_go_back { "what ran before it goes on" } else { "it is tried again" };
            self.fail(report, &name, format!("it did not become ready, and {goes_on}: {why}"));
        }
        if may_go_back && !is_ready {
            self.nursery.retire(member, false);
            return;
        }
        if is_ready {
            let list = if replaces { &mut report.changed } else { &mut report.added };
            list.push(name.clone());
        }
        self.servers.insert(name, made);
        put.push(member);
    }

    /// Puts the new ones in the places of the old, takes away what is to go, all at once, and sees the old ones off.
    ///
    /// # Errors
    /// Why what they offer was not published; all else was done.
    async fn swap(
        &self,
        put: &[Arc<Member>],
        removed: &[String],
        bundles: Option<&BTreeMap<String, BundleFile>>,
    ) -> Result<(), String> {
        let Nursery { roll, shelf, streams, cache, .. } = &self.nursery;
        let names = put.iter().map(|member| &*member.seat.name).chain(removed.iter().map(String::as_str));
        let leaves = |old: &Arc<Member>| !put.iter().any(|member| Arc::ptr_eq(member, old));
        let leaving: Vec<Arc<Member>> = names.filter_map(|name| roll.get(name)).filter(leaves).collect();
        let mut changes = Vec::new();
        for old in &leaving {
            old.seat.show(false);
            changes.push(Arrangement::Remove(Arc::clone(&old.seat)));
        }
        for member in put {
            member.seat.show(true);
            if matches!(member.seat.state(), PluginState::Ready | PluginState::Degraded) {
                changes.push(Arrangement::Put(Arc::clone(&member.seat), member.seat.plugin.inventory()));
            }
        }
        if let Some(bundles) = bundles {
            let files = bundles.iter().map(|(name, file)| (name.clone(), file.clone()));
            changes.push(Arrangement::Bundles(self.own_bundles.iter().cloned().chain(files).collect()));
        }
        // Schemas are compiled there, if they were not before.
        let (arranging, telling) = (Arc::clone(shelf), Arc::clone(streams));
        let arranged =
            tokio::task::spawn_blocking(move || telling.tell_changes(&arranging.rearrange(changes)));
        let published = arranged.await.map_err(|error| {
            log::error!("what the plugins offer could not be published: {error}");
            format!("what it offers could not be published: {error}")
        });
        let removed: Vec<Arc<str>> = removed.iter().map(|name| name.as_str().into()).collect();
        // Their answers may have come until now.
        for old in &leaving {
            let _count = cache.as_ref().and_then(|cache| cache.forget_plugin(&old.seat.name));
        }
        drop(roll.change(put.to_vec(), &removed));
        for old in leaving {
            // Of a plugin that lives on only the seat has changed.
            if put.iter().any(|member| member.address == old.address) {
                shelf.let_go(&old.seat);
            } else {
                self.nursery.retire(old, true);
            }
        }
        for member in put {
            // What it told of while it was kept back.
            let told = match member.kind {
                super::BUILTIN => ask(&member.address, Reseat(Arc::clone(&member.seat)), BEGIN_WITHIN).await,
                _ => ask(&member.address, Publish, BEGIN_WITHIN).await,
            };
            if let Err(error) = told {
                log::warn!(plugin = &*member.seat.name; "plugin {} did not publish what changed meanwhile: {error}", member.seat.name);
            }
        }
        published
    }
}

/// What the credentials of each server come to now, so that one whose file is the same is started anew when they changed.
fn fingerprints(found: &Folder) -> BTreeMap<String, Fingerprint> {
    let of = |(name, file): &(String, Result<PluginFile, Faults>)| match file {
        Ok(PluginFile { kind: PluginKind::Mcp(server), enabled: true, .. }) => {
            Some((name.clone(), credentials::fingerprint(&server.reach)))
        }
        _ => None,
    };
    found.files.iter().filter_map(of).collect()
}
