//! What files deny holds at once, whatever a reload still waits for: what runs goes on without it until it is started anew. Must not know
//! how a reload ends.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::wait::is_ready;
use super::{BEGIN_WITHIN, Candidate, Reloader};
use crate::actors::plugin::reload::{Asked, Reloaded};
use crate::catalog::Seat;
use crate::config::plugin::{Curation, Folder, PluginFile, PluginKind, path_of};

/// Who asked while a reload waits; more than so many wait where they asked.
const ASKERS_MAX: usize = 16;

impl Reloader {
    /// Waits until those are ready who start, or are known not to be. Who asks for a reload meanwhile has to wait as long; what the files
    /// deny by then does not.
    pub(super) async fn wait_for(
        &mut self,
        candidates: &[Candidate],
        asks: &mut mpsc::Receiver<Asked>,
    ) -> Vec<Option<String>> {
        let mut ready = std::pin::pin!(join_all(candidates.iter().map(is_ready)));
        loop {
            tokio::select! {
                ready = &mut ready => return ready,
                Some(asked) = asks.recv(), if self.waiting.len() < ASKERS_MAX => {
                    // Who does not wait for an answer need not ask twice.
                    let is_known = asked.tell.is_closed() && self.waiting.iter().any(|other| other.by == asked.by);
                    if !is_known {
                        self.waiting.push(asked);
                    }
                    self.deny_early().await;
                }
            }
        }
    }

    async fn deny_early(&mut self) {
        let (found, fingerprints) = match self.read().await {
            Ok(read) => read,
            Err(why) => {
                return log::warn!("what is denied now holds once the reload that runs has ended: {why}");
            }
        };
        self.deny(&found).await;
        let mut plan = self.plan(found, &fingerprints);
        plan.report.changed.clear();
        self.tune(&mut plan).await;
        self.early.append(&mut plan.report.changed);
    }

    /// Nothing is news of these any more, and nobody has heard of it yet.
    pub(super) fn tell_early(&mut self, report: &mut Reloaded) {
        let early = std::mem::take(&mut self.early);
        report.unchanged.retain(|name| !early.contains(name));
        for name in early {
            if !report.changed.contains(&name) {
                report.changed.push(name);
            }
        }
    }

    /// Has each server that runs be offered without what its file denies, which can be read; it lives on.
    pub(super) async fn deny(&mut self, found: &Folder) {
        let mut put = Vec::new();
        for (name, file) in &found.files {
            let Ok(PluginFile { enabled: true, kind: PluginKind::Mcp(server), .. }) = file else { continue };
            self.denied.insert(name.clone(), server.curation.deny.clone());
            let Some(curation) = self.denying(name, &server.curation.deny) else { continue };
            let Some(old) = self.nursery.roll.get(name) else { continue };
            let mut seat = Seat::anew(&old.seat, curation.into(), old.seat.limits);
            seat.definition = old.seat.definition.clone();
            let origin = Some(path_of(&self.folder, name));
            match self.nursery.reseat(&old, seat, origin, BEGIN_WITHIN).await {
                Ok(member) => put.push(member),
                Err(why) => {
                    log::warn!(plugin = &**name; "what the file of plugin {name} denies waits until it is started anew: {why}");
                }
            }
        }
        if !put.is_empty() {
            // That it was not published is in the log.
            drop(self.swap(&put, &[], None).await);
        }
    }

    /// Has one that was waited for be offered without what its file denied meanwhile, as far as that could be read.
    pub(super) async fn deny_late(&self, mut candidate: Candidate) -> Candidate {
        let (old, mut wanted) = (Arc::clone(&candidate.member), candidate.made.server.curation.clone());
        let Some(deny) = self.denied.get(&*old.seat.name) else { return candidate };
        let more: Vec<String> = deny.iter().filter(|glob| !wanted.deny.contains(glob)).cloned().collect();
        if more.is_empty() {
            return candidate;
        }
        wanted.deny.extend(more);
        let mut seat = Seat::anew(&old.seat, wanted.into(), old.seat.limits);
        seat.definition = old.seat.definition.clone();
        match self.nursery.reseat(&old, seat, old.origin.clone(), BEGIN_WITHIN).await {
            Ok(member) => {
                self.nursery.roll.let_go(&old);
                self.nursery.roll.keep_aside(&member);
                candidate.member = member;
            }
            Err(why) => {
                let name = &*old.seat.name;
                log::warn!(plugin = name; "what the file of plugin {name} denies holds after the next reload: {why}");
            }
        }
        candidate
    }

    /// How what runs is to be offered from now on, if that is news: as it was made, without what is denied. What is denied no more, before
    /// it was started anew for that, is offered again.
    fn denying(&self, name: &str, deny: &[String]) -> Option<Curation> {
        let mut wanted = self.servers.get(name)?.server.curation.clone();
        let more = deny.iter().filter(|glob| !wanted.deny.contains(glob)).cloned();
        wanted.deny.extend(more.collect::<Vec<_>>());
        let member = self.nursery.roll.get(name)?;
        (*member.seat.curator.curation() != wanted).then_some(wanted)
    }
}
