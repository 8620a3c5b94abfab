//! Who descends from this process, and signals to all of them. Must not know why they are signalled.
//!
//! A process that called `setsid` or forked twice is still found: a guard is the subreaper of all that it started, so
//! whoever loses its parent becomes a child of the guard.

use std::collections::HashMap;

use procfs::process::{Process, all_processes};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal};

/// How often a session is looked through.
const ROUNDS_MAX: usize = 20;

/// A process, as told from another that gets its number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kin {
    pid: i32,
    parent: i32,
    session: i32,
    /// Whether it ended and only waits to be buried.
    ended: bool,
    /// In clock ticks since the machine started.
    born: u64,
}

impl Kin {
    /// As the process table tells of it.
    pub(super) fn of(process: &Process) -> Option<Self> {
        let stat = process.stat().ok()?;
        Some(Self {
            pid: stat.pid,
            parent: stat.ppid,
            session: stat.session,
            ended: stat.state == 'Z',
            born: stat.starttime,
        })
    }

    /// Its number.
    pub(super) fn pid(self) -> i32 {
        self.pid
    }

    /// Whose child it is.
    pub(super) fn parent(self) -> i32 {
        self.parent
    }

    /// Whether it only waits to be buried.
    pub(super) fn has_ended(self) -> bool {
        self.ended
    }

    /// Whether it is this very process.
    pub(super) fn is(self, other: Self) -> bool {
        (self.pid, self.born) == (other.pid, other.born)
    }
}

/// Sends `signals`, in order, to every process that descends from this one. Whoever is born meanwhile is missed: call
/// again. Nothing is sent when the processes cannot be listed; that gives `false`.
pub(super) fn signal_all(signals: &[Signal]) -> bool {
    let Some(all) = everyone() else { return false };
    for kin in below(getpid().as_raw_nonzero().get(), &all) {
        send(kin, signals);
    }
    true
}

/// Kills every process of the session that the process of this number leads or led, and all that descend from it while
/// it lives; last of all the leader itself. Nobody else may get the number meanwhile.
pub(super) fn kill_session(leader: i32) {
    // Again, for who was born while the others were killed; no more often than a program could be up to.
    for _ in 0..ROUNDS_MAX {
        let all = everyone().unwrap_or_default();
        let mut kin = below(leader, &all);
        kin.extend(all.iter().filter(|kin| kin.session == leader));
        kin.retain(|kin| !kin.ended && kin.pid != leader);
        if kin.is_empty() {
            break;
        }
        kin.into_iter().for_each(|kin| send(kin, &[Signal::KILL]));
    }
    // Whoever lost it could not be found below it.
    if let Some(kin) = Process::new(leader).ok().as_ref().and_then(Kin::of).filter(|kin| !kin.ended) {
        send(kin, &[Signal::KILL]);
    }
}

fn everyone() -> Option<Vec<Kin>> {
    Some(all_processes().ok()?.flatten().filter_map(|process| Kin::of(&process)).collect())
}

/// All that descend from `ancestor`, parents before their children.
fn below(ancestor: i32, all: &[Kin]) -> Vec<Kin> {
    let mut children: HashMap<i32, Vec<Kin>> = HashMap::new();
    for kin in all {
        children.entry(kin.parent).or_default().push(*kin);
    }
    let mut found = Vec::new();
    let mut next = vec![ancestor];
    while let Some(parent) = next.pop() {
        // Taken out, so that a list which changed while it was read cannot lead in a circle.
        let brood = children.remove(&parent).unwrap_or_default();
        next.extend(brood.iter().map(|kin| kin.pid));
        found.extend(brood);
    }
    found
}

/// Signals this very process, and not another that has its number by now.
pub(super) fn send(kin: Kin, signals: &[Signal]) {
    let Some(pid) = Pid::from_raw(kin.pid) else { return };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => Some(handle),
        // A kernel before 5.3: the number must do.
        Err(Errno::NOSYS) => None,
        Err(_gone) => return,
    };
    let now = Process::new(kin.pid).ok().as_ref().and_then(Kin::of);
    if now.is_none_or(|now| now.born != kin.born) {
        return;
    }
    for &signal in signals {
        // Who is gone need not be signalled, and nobody can forbid it: no descendant has more rights than its guard.
        let _gone = match &handle {
            Some(handle) => pidfd_send_signal(handle, signal),
            None => kill_process(pid, signal),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kin(pid: i32, parent: i32) -> Kin {
        Kin { pid, parent, session: 1, ended: false, born: 1 }
    }

    #[test]
    fn descendants_are_found_at_every_depth_and_nobody_else() {
        let all = [kin(1, 0), kin(10, 1), kin(11, 10), kin(12, 11), kin(13, 10), kin(20, 1), kin(21, 20)];
        let mut found: Vec<i32> = below(10, &all).iter().map(|kin| kin.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [11, 12, 13]);
        assert!(below(21, &all).is_empty());
    }

    #[test]
    fn a_list_that_contradicts_itself_is_walked_to_its_end() {
        assert_eq!(below(1, &[kin(2, 1), kin(1, 2)]).len(), 2);
    }
}
