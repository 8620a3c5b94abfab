//! Which plugins there are now: swapped whole, read without waiting. Must not know what they offer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::Addr;
use arc_swap::ArcSwap;
use futures_util::future::join_all;

use super::messages::Stop;
use super::{END_WITHIN, PluginActor, Watchers};
use crate::actors::ask::ask;
use crate::actors::supervision::Part;
use crate::catalog::Seat;
use crate::error::Fault;

/// One plugin that there is.
pub struct Member {
    /// Its seat.
    pub seat: Arc<Seat>,
    /// Its actor.
    pub address: Addr<PluginActor>,
    /// The same as a part that is watched.
    pub part: Arc<Part>,
    /// Who watches its resources.
    pub watchers: Watchers,
    /// `builtin` or `mcp`.
    pub kind: &'static str,
    /// The file that describes it, if one does.
    pub origin: Option<PathBuf>,
    /// Whether two processes of it must never run at once.
    pub exclusive: bool,
}

/// Between two looks at whether the calls of one have ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What an actor gets beyond the time of the life that it ends.
const STOP_GRACE: Duration = Duration::from_secs(1);

impl Member {
    /// Makes room for another process of it: no call begins any more, those that there are may end until `deadline`, and then it is
    /// ended. Returns when nothing of it is left.
    pub async fn leave(&self, deadline: Instant) {
        self.seat.leave();
        while self.seat.calls() > 0 && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let stopped = ask(&self.address, Stop, END_WITHIN + STOP_GRACE).await;
        if stopped.is_err() && !self.seat.has_left() {
            let name = &*self.seat.name;
            log::warn!(plugin = name; "plugin {name} did not end in time for the process that takes its place");
        }
    }
}

/// All plugins, by name.
#[derive(Default)]
pub struct Roll {
    members: ArcSwap<BTreeMap<Arc<str>, Arc<Member>>>,
    /// Those that live and serve no new call: they wait to take another's place, or lost their own.
    aside: Mutex<Vec<Arc<Member>>>,
}

impl Roll {
    /// The plugin of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Member>> {
        self.members.load().get(name).cloned()
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Member>> {
        self.members.load().values().cloned().collect()
    }

    /// What a call hears of the tool of this published name, if that is one of a plugin that serves nothing now.
    pub fn away(&self, tool: &str) -> Option<Fault> {
        let roll = self.members.load();
        let owns = |plugin: &str| {
            let rest = tool.strip_prefix(plugin);
            rest.is_some_and(|rest| rest.starts_with("__") || rest.starts_with('.'))
        };
        roll.iter().filter(|(name, _)| owns(name)).find_map(|(_, member)| member.seat.refusal())
    }

    /// What whoever comes to the front of this plugin hears while it serves nothing; none when it has no front.
    pub fn away_from_front(&self, plugin: &str) -> Option<Fault> {
        let member = self.get(plugin)?;
        member.seat.curator.has_front().then(|| member.seat.refusal()).flatten()
    }

    /// Puts members in, in the places of those of their names, and takes others out; gives those that are not in it any more.
    pub fn change(&self, put: Vec<Arc<Member>>, removed: &[Arc<str>]) -> Vec<Arc<Member>> {
        let mut next = BTreeMap::clone(&self.members.load());
        let mut gone: Vec<_> = removed.iter().filter_map(|name| next.remove(name)).collect();
        for member in put {
            self.let_go(&member);
            gone.extend(next.insert(Arc::clone(&member.seat.name), member));
        }
        self.members.store(Arc::new(next));
        gone
    }

    /// Takes this one out, if it is it that has its name.
    pub fn remove(&self, member: &Arc<Member>) {
        if self.get(&member.seat.name).is_some_and(|there| Arc::ptr_eq(&there, member)) {
            drop(self.change(Vec::new(), &[Arc::clone(&member.seat.name)]));
        }
    }

    /// Remembers one that lives beside those that serve.
    pub fn keep_aside(&self, member: &Arc<Member>) {
        let mut aside = self.aside();
        if !aside.iter().any(|other| Arc::ptr_eq(other, member)) {
            aside.push(Arc::clone(member));
        }
    }

    /// The one that had this name, and sits on the seat of this number, while it lives beside its successor.
    pub fn retiring(&self, name: &str, number: u64) -> Option<Arc<Member>> {
        let is_it = |member: &&Arc<Member>| member.seat.number == number && &*member.seat.name == name;
        self.aside().iter().find(is_it).cloned()
    }

    /// Forgets one that has ended, or serves now.
    pub fn let_go(&self, member: &Arc<Member>) {
        self.aside().retain(|other| !Arc::ptr_eq(other, member));
    }

    fn aside(&self) -> MutexGuard<'_, Vec<Arc<Member>>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has each leave that bears no twin, as soon as its calls have ended, and at `deadline` at the latest; also those that take another's
    /// place, or lost their own.
    pub async fn leave_exclusive(&self, deadline: Instant) {
        let aside = self.aside().clone();
        let members: Vec<_> = self.all().into_iter().chain(aside).collect();
        let leaving = members.iter().filter(|member| member.exclusive).map(|member| member.leave(deadline));
        join_all(leaving).await;
    }

    /// Stops all, those that serve no call any more or not yet, too, side by side, and says which did not end within `within`.
    pub async fn stop_all(&self, within: Duration) -> Vec<Arc<str>> {
        let aside = self.aside().clone();
        let stopped = self.all().into_iter().chain(aside).map(|member| async move {
            let stopped = ask(&member.address, Stop, within).await;
            // One that has left is gone already.
            (stopped.is_err() && !member.seat.has_left()).then(|| Arc::clone(&member.seat.name))
        });
        join_all(stopped).await.into_iter().flatten().collect()
    }
}
