//! Limits that the system sets to a process: of file size, processes and address space. Must not change them.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::patient::Patient;

/// Less of any of these is too little.
const FILE_MIN_BYTES: u64 = 1 << 30;
const MEMORY_MIN_BYTES: u64 = 1 << 30;
const PROCESSES_MIN: u64 = 256;

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let of_server = patient.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/limits")).ok());
    let limit = |line: &str, resource: Resource| match &of_server {
        Some(limits) => soft(limits, line),
        None => getrlimit(resource).current,
    };
    let all = [
        (
            limit("Max file size", Resource::Fsize),
            FILE_MIN_BYTES,
            "ulimits.file_size",
            "files may have",
            "bytes",
            "ulimit -f unlimited",
            "the database and the log cannot grow, and what writes beyond it is killed",
        ),
        (
            limit("Max address space", Resource::As),
            MEMORY_MIN_BYTES,
            "ulimits.memory",
            "the address space may have",
            "bytes",
            "ulimit -v unlimited",
            "the server is ended for want of memory, though the machine has it",
        ),
        (
            limit("Max processes", Resource::Nproc),
            PROCESSES_MIN,
            "ulimits.processes",
            "this user may have",
            "processes and threads",
            "ulimit -u 4096",
            "workers, plugins and their guards cannot be started",
        ),
    ];
    let low = all.into_iter().filter_map(|(limit, least, id, what, unit, command, why)| {
        let limit = limit.filter(|limit| *limit < least)?;
        Some(Finding::warning(id, format!("{what} {limit} {unit}"), why, command))
    });
    low.collect()
}

/// The soft limit on its line of `/proc/<pid>/limits`; none when there is none.
fn soft(limits: &str, line: &str) -> Option<u64> {
    let line = limits.lines().find_map(|text| text.strip_prefix(line))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_off_its_line() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max file size             4096                 unlimited            bytes     \n\
                      Max processes             unlimited            unlimited            processes \n";
        assert_eq!((soft(limits, "Max file size"), soft(limits, "Max processes")), (Some(4096), None));
    }
}
