//! Servers that ended without stopping, and parts of the running one that crashed. Must not close what they left open: the next
//! server does.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::patient::Patient;
use crate::cli::output;
use crate::storage::instances::{self, Known};

/// How far back servers are looked at that others found dead.
const RECENT: Duration = Duration::from_secs(86_400);
/// How long a connection is waited for.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);

/// What a server left behind that was killed is mended by the next one; whoever killed it is not.
const ENDED: &str = "nothing of it needs mending: find out who ended it (`journalctl -k --since -1d` names a lack of memory), and \
     have the calls made again that `waygate-mcp history list --since 1d --status interrupted` names";
const REPORT: &str =
    "report it with what `waygate-mcp doctor --bundle report.tar.zst` gathers; the part is at work again";

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(Ok(storage)) = patient.storage() {
        let since = patient.now.checked_sub(RECENT).unwrap_or(SystemTime::UNIX_EPOCH);
        let dead = storage.run(CONNECTION_WAIT, |connection| {
            let dead = instances::dead(connection, "")?;
            instances::not_by_restore(connection, dead)
        });
        let cut_off = storage.run(CONNECTION_WAIT, |connection| {
            let cut_off = instances::cut_off(connection, since)?;
            instances::not_by_restore(connection, cut_off)
        });
        // Who owns the data folder is there, however long it was silent: that it does not answer is told elsewhere.
        let is_owner = |known: &&Known| instances::is_here(known) && patient.pid() == Some(known.pid);
        let dead = dead.unwrap_or_default();
        found.extend(dead.iter().filter(|known| !is_owner(known)).map(|known| {
            let why = "calls that ran then are open in the history until the next server closes them as interrupted";
            Finding::warning("crashes.server", told(patient, known), why, "waygate-mcp serve")
        }));
        found.extend(cut_off.unwrap_or_default().iter().map(|known| {
            let why = "what ends a server so ends it again: a kill, too little memory, a fault of ours";
            Finding::warning("crashes.server", told(patient, known), why, ENDED)
        }));
    }
    let actors = patient.page("/diagnostics/actors").and_then(|page| page.get("actors"));
    for actor in actors.and_then(Value::as_array).into_iter().flatten() {
        let text = |place: &str| actor.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let restarts = actor.get("restarts").and_then(Value::as_u64).unwrap_or_default();
        if restarts == 0 {
            continue;
        }
        let what = format!(
            "the part {} crashed and came back {restarts} times, at last at {}: {}",
            text("/name"),
            text("/lastPanic/at"),
            text("/lastPanic/message")
        );
        let why = "it is a fault of ours, and costs the requests that it had";
        found.push(Finding::warning("crashes.part", what, why, REPORT));
    }
    found
}

fn told(patient: &Patient, known: &Known) -> String {
    let seen: SystemTime = known.seen_at.and_utc().into();
    format!(
        "process {} on {} was last seen {} ago, and never said that it stopped",
        known.pid,
        known.host,
        output::duration(patient.since(seen).as_secs_f64())
    )
}
