//! What a program and all that came from it use up. Must not know who asks.

use std::collections::HashSet;

use procfs::process::Process;

/// Processes looked at, at most: a program that has more is not counted further.
const PROCESSES_MAX: usize = 4096;

/// What a program's tree of processes uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor time so far, also of processes that have ended.
    pub cpu_seconds: f64,
    /// Memory in use now, counting what several share several times.
    pub rss_bytes: u64,
    /// How many live.
    pub processes: usize,
}

/// Where a program's processes are found, for as long as its life lasts.
#[derive(Debug, Clone, Copy)]
pub struct Tree {
    pub(super) guard: i32,
}

impl Tree {
    /// What all below the guard use now; none when the guard is gone or the system does not say. Reads a few small files
    /// for each process.
    pub fn usage(self) -> Option<Usage> {
        let guard = Process::new(self.guard).ok()?;
        let stat = guard.stat().ok()?;
        // Those that ended, and were buried by the guard.
        let mut ticks = waited(stat.cutime) + waited(stat.cstime);
        let mut usage = Usage::default();
        let mut seen = HashSet::from([self.guard]);
        let mut next = children(&guard);
        while let Some(pid) = next.pop() {
            if seen.len() > PROCESSES_MAX || !seen.insert(pid) {
                continue;
            }
            let Ok(process) = Process::new(pid) else { continue };
            let Ok(stat) = process.stat() else { continue };
            ticks += stat.utime + stat.stime + waited(stat.cutime) + waited(stat.cstime);
            if stat.state != 'Z' {
                usage.processes += 1;
                usage.rss_bytes += stat.rss.saturating_mul(procfs::page_size());
            }
            next.extend(children(&process));
        }
        #[expect(clippy::cast_precision_loss, reason = "a double is exact for thousands of years of ticks")]
        let seconds = ticks as f64 / procfs::ticks_per_second() as f64;
        usage.cpu_seconds = seconds;
        Some(usage)
    }
}

fn waited(ticks: i64) -> u64 {
    u64::try_from(ticks).unwrap_or(0)
}

/// Each thread has children of its own.
fn children(process: &Process) -> Vec<i32> {
    let tasks = process.tasks().into_iter().flatten().flatten();
    let found = tasks.filter_map(|task| task.children().ok()).flatten();
    found.filter_map(|pid| i32::try_from(pid).ok()).collect()
}
