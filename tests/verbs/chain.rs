//! `history verify` and `prune`: whoever touches the ledger by hand is named, and who prunes it properly is not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use diesel::RunQueryDsl as _;
use serde_json::{Value, json};
use waygate_mcp::storage::checkpoints::{self, Mark};
use waygate_mcp::storage::history::{self, Head};
use waygate_mcp::storage::{DbConnection, Notary};

use super::queries::{open, row};
use super::{refused, waygate};

const KEY: &str = "0123456789abcdef0123456789abcdef";
pub const ROWS: i64 = 2_500;

/// Of rows `1..=ROWS` of an instance that has not stopped, with a checkpoint in the middle and one at the end.
pub fn ledger(folder: &Path) -> DbConnection {
    let storage = open(folder);
    storage.migrate().unwrap();
    let mut connection = storage.connect().unwrap();
    write(&mut connection, &Notary::new([KEY.as_bytes()]), |_| "echo");
    let key = folder.join("data/sealing.key");
    fs::write(&key, KEY).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    connection
}

fn write(connection: &mut DbConnection, notary: &Notary, tool: impl Fn(i64) -> &'static str) {
    let mut head = Head::default();
    let names: Vec<String> = (1..=ROWS).map(|seq| format!("call-{seq}")).collect();
    for (group, mark) in [(1..=1_000, Mark::Checkpoint), (1_001..=ROWS, Mark::Head)] {
        let rows = group.map(|seq| {
            let mut row = row(seq, &names[usize::try_from(seq - 1).unwrap()]);
            row.tool = Some(tool(seq).into());
            row
        });
        history::append(connection, &mut head, rows).unwrap();
        notary.write(connection, "01", head, mark).unwrap();
    }
}

pub fn run(connection: &mut DbConnection, statements: &[&str]) {
    for statement in statements {
        diesel::sql_query(*statement).execute(connection).unwrap();
    }
}

fn verify(folder: &Path) -> (Option<i32>, Value) {
    let output = waygate(folder, &["history", "verify", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let told = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {:?}", output.stderr));
    (output.status.code(), told)
}

/// What verify says first after something was done by hand.
fn found_after(statements: &[&str]) -> Value {
    let home = tempfile::tempdir().unwrap();
    let mut connection = ledger(home.path());
    assert_eq!(verify(home.path()).0, Some(0), "before it is touched");
    run(&mut connection, statements);
    let (code, told) = verify(home.path());
    assert_eq!((code, &told["status"]), (Some(1), &json!("broken")), "{told}");
    told["report"]["broken"][0].clone()
}

#[test]
fn a_row_that_was_touched_is_named() {
    for (statements, seq, what) in [
        (&["UPDATE command_history SET tool = 'other' WHERE seq = 1500"][..], 1500, "changed"),
        (&["UPDATE command_history SET arguments = '' WHERE seq = 1"], 1, "changed"),
        (&["UPDATE command_history SET hash = NULL WHERE seq = 7"], 7, "no hash"),
        (&["UPDATE command_history SET created_at = '2020-01-01 00:00:00' WHERE seq = 9"], 9, "changed"),
        (&["DELETE FROM command_history WHERE seq = 1200"], 1201, "row 1200 is gone"),
        (&["DELETE FROM command_history WHERE seq <= 10"], 11, "the 10 rows 1 to 10 are gone"),
        (
            &[
                "UPDATE command_history SET id = -1 WHERE seq = 40",
                "UPDATE command_history SET id = 40 WHERE seq = 41",
                "UPDATE command_history SET id = 41 WHERE seq = 40",
            ],
            41,
            "row 40 is gone",
        ),
        (
            &["INSERT INTO command_history (instance_id, seq, call_id, kind, created_at, hash) \
               SELECT instance_id, seq, 'made', kind, created_at, hash FROM command_history WHERE seq = 2500"],
            2500,
            "stands behind row 2500",
        ),
        (
            &["INSERT INTO command_history (instance_id, seq, call_id, kind, created_at, hash) \
               SELECT instance_id, 2501, 'made', kind, created_at, hash FROM command_history WHERE seq = 2500"],
            2501,
            "after the instance had stopped",
        ),
    ] {
        let found = found_after(statements);
        assert_eq!(found["seq"], json!(seq), "{found}");
        assert!(found["what"].as_str().unwrap().contains(what), "{found}");
        assert!(found["call_id"].is_string() && found["id"].is_i64(), "{found}");
    }
}

#[test]
fn an_end_that_was_cut_off_is_missed_by_its_checkpoint() {
    let found = found_after(&["DELETE FROM command_history WHERE seq > 2000"]);
    assert!(found["what"].as_str().unwrap().contains("the rows 2001 to 2500 are gone"), "{found}");
    let found = found_after(&["DELETE FROM command_history"]);
    assert!(found["what"].as_str().unwrap().contains("the rows 1 to 2500 are gone"), "{found}");
}

#[test]
fn who_writes_everything_anew_is_found_by_the_seal() {
    let home = tempfile::tempdir().unwrap();
    let mut connection = ledger(home.path());
    run(&mut connection, &["DELETE FROM command_history"]);
    // Right hashes, and the old checkpoints.
    write(&mut connection, &Notary::default(), |seq| if seq == 900 { "other" } else { "echo" });
    let (code, told) = verify(home.path());
    let found = &told["report"]["broken"][0];
    assert_eq!((code, &found["seq"]), (Some(1), &json!(1_000)), "{told}");
    assert!(found["what"].as_str().unwrap().contains("written anew"), "{told}");
    // And with checkpoints that fit, but for the key.
    run(
        &mut connection,
        &["UPDATE ledger_checkpoints SET hash = \
        (SELECT hash FROM command_history WHERE command_history.seq = ledger_checkpoints.seq)"],
    );
    let (code, told) = verify(home.path());
    let found = &told["report"]["broken"][0];
    assert!(code == Some(1) && found["what"].as_str().unwrap().contains("does not have our seal"), "{told}");
}

#[test]
fn who_takes_the_checkpoints_away_is_found_by_what_they_do_not_tell() {
    let stopped = "INSERT INTO instances (instance_id, started_at, seen_at, stopped_at, host, pid, version) \
                   VALUES ('01', '2026-11-28 00:00:00', '2026-11-28 00:00:00', '2026-11-28 00:00:01', 'here', 1, '1')";
    for (taken, from) in [("kind = 'head'", 1_001), ("1 = 1", 1)] {
        let home = tempfile::tempdir().unwrap();
        let mut connection = ledger(home.path());
        run(&mut connection, &[stopped]);
        assert_eq!(verify(home.path()).0, Some(0), "before they are taken");
        run(&mut connection, &[&format!("DELETE FROM ledger_checkpoints WHERE {taken}")]);
        let (code, told) = verify(home.path());
        let found = &told["report"]["broken"][0];
        assert_eq!((code, &found["seq"]), (Some(1), &json!(from)), "{told}");
        assert!(found["what"].as_str().unwrap().contains("no checkpoint tells of its last rows"), "{told}");
    }
}

/// What the server's log says of the ledger, among other lines.
fn log(folder: &Path, connection: &mut DbConnection) -> PathBuf {
    let mut lines = "2026-11-29 01:28:28 INFO  waygate_mcp::app serving http://127.0.0.1:8000\n".to_owned();
    let until = checkpoints::last_id(connection).unwrap();
    for told in checkpoints::some_of(connection, "01", (-1, 0), until, 10).unwrap() {
        let head = Head { seq: told.seq, hash: told.hash.as_slice().try_into().unwrap() };
        lines += &format!(
            "2026-11-29 01:28:28 INFO  waygate_mcp::actors::db::writer {} instance=01 seq={}\n",
            history::say(head),
            told.seq
        );
    }
    let file = folder.join("shipped.log");
    fs::write(&file, lines).unwrap();
    file
}

#[test]
fn who_has_the_key_or_takes_the_checkpoints_along_is_found_by_what_the_log_tells() {
    let all = |connection: &mut DbConnection| {
        run(connection, &["DELETE FROM command_history", "DELETE FROM ledger_checkpoints"]);
    };
    let anew = |connection: &mut DbConnection| {
        all(connection);
        write(connection, &Notary::new([KEY.as_bytes()]), |seq| if seq == 900 { "other" } else { "echo" });
    };
    let cut = |connection: &mut DbConnection| {
        let taken = "DELETE FROM ledger_checkpoints WHERE kind = 'head'";
        run(connection, &["DELETE FROM command_history WHERE seq > 1000", taken]);
    };
    type Way<'a> = &'a dyn Fn(&mut DbConnection);
    let ways: [(Way<'_>, i64, &str); 3] = [
        (&anew, 1_000, "another than that which the server told"),
        (&cut, 1_001, "the rows 1001 to 2500 are gone from its end, as the server told"),
        (&all, 1, "the rows 1 to 2500 are gone from its end, as the server told"),
    ];
    for (change, seq, what) in ways {
        let home = tempfile::tempdir().unwrap();
        let mut connection = ledger(home.path());
        let log = log(home.path(), &mut connection);
        let verify_with = || {
            let output =
                waygate(home.path(), &["history", "verify", "--json", "--log", log.to_str().unwrap()]);
            (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
        };
        let (code, told) = verify_with();
        assert_eq!((code, &told["report"]["told"]), (Some(0), &json!(2)), "{told}");
        change(&mut connection);
        assert_eq!(verify(home.path()).0, Some(0), "nothing but the log tells");
        let (code, told) = verify_with();
        let found = &told["report"]["broken"][0];
        assert_eq!((code, &found["seq"]), (Some(1), &json!(seq)), "{told}");
        assert!(found["what"].as_str().unwrap().contains(what), "{told}");
    }
}

#[test]
fn what_was_pruned_is_not_missed_by_the_log_and_a_log_that_tells_nothing_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut connection = ledger(home.path());
    let log = log(home.path(), &mut connection);
    for keep in ["2000", "1"] {
        assert_eq!(waygate(home.path(), &["history", "prune", "--max-rows", keep]).status.code(), Some(0));
        let output = waygate(home.path(), &["history", "verify", "--log", log.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    fs::write(&log, "nothing\n").unwrap();
    for (log, why) in [(log.to_str().unwrap(), "no line of the log"), ("nowhere.log", "cannot be read")] {
        let (_, said) = refused(home.path(), &["history", "verify", "--log", log]);
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_time_that_was_written_by_hand_ends_the_counting_with_a_word_and_not_never() {
    let home = tempfile::tempdir().unwrap();
    let mut connection = ledger(home.path());
    let changed =
        format!("UPDATE command_history SET created_at = created_at || '.000000' WHERE seq = {ROWS}");
    run(&mut connection, &[&changed]);
    let (_, why) = refused(home.path(), &["history", "stats"]);
    assert!(why.contains("written by somebody else"), "{why}");
}

#[test]
fn what_is_left_by_prune_is_proved_and_what_is_older_than_the_chain_is_counted() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let mut connection = ledger(folder);
    run(
        &mut connection,
        &["INSERT INTO command_history (id, instance_id, seq, call_id, kind, created_at) \
         VALUES (-1, '00', 1, 'old', 'outcome', '2020-01-01 00:00:00')"],
    );
    let (code, told) = verify(folder);
    assert_eq!((code, &told["report"]["unchained"]), (Some(0), &json!(1)), "{told}");
    let prune = |keep: &str| {
        let output = waygate(folder, &["history", "prune", "--max-rows", keep, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["deleted"].clone()
    };
    assert_eq!(prune("2000"), json!(501));
    // The rest, and the row that tells of it.
    let (code, told) = verify(folder);
    let report = &told["report"];
    assert_eq!((code, &report["rows"], &report["unchained"]), (Some(0), &json!(2_001), &json!(0)), "{told}");
    assert_eq!(prune("1"), json!(2_000));
    assert_eq!(verify(folder).0, Some(0));
    // By what stands in the rows, beside the one that tells of it.
    let home = tempfile::tempdir().unwrap();
    drop(ledger(home.path()));
    let bytes = || {
        let output = waygate(home.path(), &["db", "stats", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["history_bytes"].as_u64().unwrap()
    };
    let (all, told) = (bytes(), 400);
    let output = waygate(home.path(), &["history", "prune", "--max-bytes", &(all / 2).to_string()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stays = bytes();
    assert!(stays > all / 2 - told && stays <= all / 2 + told, "{stays} of {all}");
    assert_eq!(verify(home.path()).0, Some(0));
    // One row beyond what was pruned is missed all the same.
    let home = tempfile::tempdir().unwrap();
    let mut connection = ledger(home.path());
    assert_eq!(waygate(home.path(), &["history", "prune", "--max-rows", "2000"]).status.code(), Some(0));
    run(&mut connection, &["DELETE FROM command_history WHERE seq = 501"]);
    let (code, told) = verify(home.path());
    assert_eq!((code, &told["report"]["broken"][0]["seq"]), (Some(1), &json!(502)), "{told}");
}

#[test]
fn a_key_that_cannot_be_used_is_not_told_as_a_broken_row() {
    let home = tempfile::tempdir().unwrap();
    drop(ledger(home.path()));
    let key = home.path().join("data/sealing.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, why) = refused(home.path(), &["history", "verify"]);
    assert!(code == 73 && why.contains("chmod 600"), "{code}: {why}");
}

#[test]
fn without_a_key_nothing_is_pruned_and_verify_says_what_it_could_not_prove() {
    let home = tempfile::tempdir().unwrap();
    drop(ledger(home.path()));
    fs::remove_file(home.path().join("data/sealing.key")).unwrap();
    let output = waygate(home.path(), &["history", "prune", "--keep-days", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no sealing key"));
    let (code, told) = verify(home.path());
    assert_eq!((code, &told["report"]["unproved"]), (Some(0), &json!(2)), "{told}");
}
