//! `kill -9` under load: what `strict` promised is there, what was cut off shows as interrupted, and the file is sound.

use std::collections::BTreeSet;

use serde_json::json;

use crate::ledger;
use crate::load::{Load, Tally};
use crate::support::{Http, Server, eventually};

const FULL: (&str, &str) = ("WAYGATE_HISTORY_ARGUMENTS", "full");
const STRICT: (&str, &str) = ("WAYGATE_HISTORY_DURABILITY", "strict");

/// Runs load, kills the server in the middle of it, and tells what was answered.
fn kill_under_load(server: &mut Server) -> Tally {
    let load = Load::begin(server.address, "kill", 6);
    load.wait_for(150);
    server.signal("-KILL");
    assert_eq!(server.wait(), None, "a killed process has no exit code");
    let tally = load.finish();
    assert!(tally.refused.is_empty(), "{:?}", tally.refused);
    tally
}

/// Stops a server in order, so that what it learned at its start is on disk.
fn stop(mut server: Server) {
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

/// How many calls have an intent and no outcome.
fn open_calls(folder: &std::path::Path) -> usize {
    let rows = ledger::rows(folder);
    let ended: BTreeSet<&str> =
        rows.iter().filter(|row| row.kind == "outcome").map(|row| row.call_id.as_str()).collect();
    rows.iter().filter(|row| row.kind == "intent" && !ended.contains(row.call_id.as_str())).count()
}

#[test]
fn strict_history_has_every_answered_call_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..3 {
        let mut server = Server::on("echo", folder.path(), &[FULL, STRICT]);
        let tally = kill_under_load(&mut server);
        assert_eq!(ledger::integrity(folder.path()), "ok");
        let known = ledger::messages(folder.path(), &["success"]);
        let missing: BTreeSet<_> =
            tally.answered.iter().filter(|message| !known.contains(*message)).collect();
        assert!(missing.is_empty(), "round {round}: answered and not recorded: {missing:?}");
        stop(Server::on("echo", folder.path(), &[FULL, STRICT]));
        ledger::change(folder.path(), "DELETE FROM command_history");
        // Else these would tell that it was.
        ledger::change(folder.path(), "DELETE FROM ledger_checkpoints");
    }
}

#[test]
fn calls_cut_off_by_a_kill_are_interrupted_after_the_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[FULL, STRICT]);
    let params = json!({"name": "hang", "arguments": {}});
    let hanging = [(); 3].map(|()| Http::modern("tools/call", params.clone()).open(server.address));
    eventually("all three run", || (server.get("/plugins/faulty").1["running"] == 3).then_some(()));
    server.signal("-KILL");
    assert_eq!(server.wait(), None);
    drop(hanging);
    assert_eq!(open_calls(folder.path()), 3);
    let server = Server::on("faulty_server", folder.path(), &[FULL, STRICT]);
    eventually("the dead instance's calls are closed", || (open_calls(folder.path()) == 0).then_some(()));
    let rows = ledger::rows(folder.path());
    let interrupted: Vec<_> =
        rows.iter().filter(|row| row.status.as_deref() == Some("interrupted")).collect();
    assert_eq!(interrupted.len(), 3, "{rows:?}");
    assert_eq!(server.get("/ready").0, 200);
    eventually("the operator is told", || server.log().contains("without a clean stop").then_some(()));
    stop(server);
    stop(Server::on("faulty_server", folder.path(), &[FULL, STRICT]));
    let again = ledger::rows(folder.path());
    assert_eq!(again.len(), rows.len(), "they are closed once");
}

#[test]
fn batched_history_is_sound_after_a_kill_and_lacks_the_last_moments_at_most() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("echo", folder.path(), &[FULL]);
    let load = Load::begin(server.address, "before", 6);
    load.wait_for(150);
    let before = load.finish();
    // A flush is due within milliseconds of the last call; once it is seen, it must survive.
    eventually("the rows are written", || {
        let known = ledger::messages(folder.path(), &["success"]);
        before.answered.iter().all(|message| known.contains(message)).then_some(())
    });
    let tally = kill_under_load(&mut server);
    assert_eq!(ledger::integrity(folder.path()), "ok");
    let known = ledger::messages(folder.path(), &["success"]);
    assert!(before.answered.iter().all(|message| known.contains(message)), "rows seen before are gone");
    let there = tally.answered.iter().filter(|message| known.contains(*message)).count();
    assert!(there > 0, "none of {} calls was written while the load ran", tally.answered.len());
    stop(Server::on("echo", folder.path(), &[FULL]));
    assert_eq!(ledger::integrity(folder.path()), "ok");
}

#[test]
fn a_killed_server_leaves_no_lock_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..3 {
        let mut server = Server::on("echo", folder.path(), &[]);
        server.tool("echo", json!({"message": "x"}));
        server.signal("-KILL");
        assert_eq!(server.wait(), None);
    }
    let server = Server::on("echo", folder.path(), &[]);
    assert_eq!(server.tool("echo", json!({"message": "x"}))["content"][0]["text"], "x");
}
