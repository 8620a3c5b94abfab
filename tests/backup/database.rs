//! The verbs that look after the database.

use std::fs;

use serde_json::json;

use crate::places::Home;

#[test]
fn the_database_is_measured_checked_and_tidied() {
    let home = Home::filled("a");
    let stats = home.json(&["db", "stats"]);
    assert_eq!(stats["tables"]["command_history"]["rows"], 2);
    assert!(stats["bytes"].as_u64().unwrap() > 4096 && stats["wal_bytes"].is_u64(), "{stats}");
    assert!(stats["tables"]["command_history"]["bytes"].as_u64().unwrap() > 0, "{stats}");
    assert_eq!(
        (&stats["oldest"], &stats["newest"]),
        (&json!("2026-11-22 21:45:40.120"), &json!("2026-11-22 21:45:41"))
    );
    home.sql("CREATE TABLE ballast (x TEXT); INSERT INTO ballast SELECT hex(randomblob(2000)) FROM (SELECT 1 FROM pragma_function_list LIMIT 100); DROP TABLE ballast");
    let tidy = home.json(&["db", "vacuum"]);
    assert!(tidy["bytes"].as_u64() < tidy["bytesBefore"].as_u64(), "{tidy}");
    assert_eq!(home.json(&["db", "check"])["status"], "ok");
    home.sql("CREATE TABLE parent (x INTEGER PRIMARY KEY); CREATE TABLE child (y REFERENCES parent (x)); PRAGMA foreign_keys = OFF; INSERT INTO child VALUES (5)");
    let output = home.run(&["db", "check", "--json"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("child"), "{said}");
}

#[test]
fn a_reset_is_meant_and_undone_by_a_restore() {
    let home = Home::filled("a");
    let calls = home.calls();
    let (code, why) = home.refused(&["db", "reset"]);
    assert!(code == 2 && why.contains("--yes"), "{code} {why}");
    let reset = home.json(&["db", "reset", "--yes"]);
    assert_eq!(home.calls(), [""; 0]);
    assert_eq!(home.json(&["db", "check"])["status"], "ok");
    let kept = reset["kept"].as_str().unwrap();
    assert!(fs::metadata(format!("{kept}/data/waygate.db")).is_ok());
    assert!(fs::metadata(home.root().join("plugins/both.toml")).is_ok(), "nothing but the database");
    home.said(&["backup", "restore", reset["backup"].as_str().unwrap(), "--yes"]);
    assert_eq!(home.calls(), calls);
    fs::write(home.database_file(), "no database").unwrap();
    assert!(home.refused(&["db", "reset", "--yes"]).1.contains("damaged"));
    home.said(&["db", "reset", "--yes", "--no-backup"]);
    assert_eq!(home.json(&["db", "check"])["status"], "ok");
}

#[test]
fn migrations_are_told_taken_back_and_run_again() {
    let home = Home::filled("a");
    let status = || home.json(&["db", "migrate", "status"]);
    let done = |status: &serde_json::Value| -> Vec<bool> {
        status["migrations"].as_array().unwrap().iter().map(|one| one["done"] == true).collect()
    };
    let all = done(&status());
    assert!(all.len() >= 2 && all.iter().all(|done| *done));
    let (code, why) = home.refused(&["db", "migrate", "down"]);
    assert!(code == 2 && why.contains("--yes"), "{code} {why}");
    let taken = home.json(&["db", "migrate", "down", "--yes"]);
    assert!(taken["takenBack"].is_string() && fs::metadata(taken["backup"].as_str().unwrap()).is_ok());
    assert_eq!(done(&status()), [vec![true; all.len() - 1], vec![false]].concat());
    let output = home.run(&["db", "check"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("db migrate up"));
    // A backup of an older schema is brought up to date where it is restored.
    home.backup();
    let up = home.json(&["db", "migrate", "up"]);
    assert_eq!(up["migrated"].as_array().unwrap().len(), 1);
    let restored = home.json(&["backup", "restore", "latest", "--yes"]);
    assert_eq!(restored["migrated"].as_array().unwrap().len(), 1);
    assert_eq!(home.json(&["db", "check"])["status"], "ok");
    home.sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('99999999999999')");
    assert_eq!(status()["unknown"], json!(["99999999999999"]));
    home.backup();
    for words in [&["backup", "verify", "latest"][..], &["backup", "restore", "latest", "--yes"]] {
        let (code, why) = home.refused(words);
        assert!(code != 0 && why.contains("newer version"), "{code} {why}");
    }
}

/// Takes back one migration after the other until there is none, and restores a backup that was made between.
pub fn all_migrations_are_taken_back(home: &Home) {
    let status = home.json(&["db", "migrate", "status"]);
    let count = status["migrations"].as_array().unwrap().len();
    // A backup takes its time: one when some are gone, one of the last that there is, and none by the others.
    let mut saved = None;
    for gone in 0..count {
        let is_saved = gone == 3 || gone + 1 == count;
        let more = if is_saved { &[][..] } else { &["--no-backup"] };
        let taken = home.json(&[&["db", "migrate", "down", "--yes"], more].concat());
        assert!(taken["takenBack"].is_string() && taken["backup"].is_string() == is_saved, "{taken}");
        if gone == 3 {
            saved = taken["backup"].as_str().map(str::to_owned);
        }
    }
    // Nothing is left to take back, nor to save.
    let taken = home.json(&["db", "migrate", "down", "--yes"]);
    assert!(taken["takenBack"].is_null() && taken["backup"].is_null(), "{taken}");
    let up = home.json(&["db", "migrate", "up"]);
    assert_eq!(up["migrated"].as_array().unwrap().len(), count);
    let restored = home.json(&["backup", "restore", &saved.unwrap(), "--yes"]);
    assert_eq!(restored["migrated"].as_array().unwrap().len(), 3, "{restored}");
    assert_eq!(home.json(&["db", "check"])["status"], "ok");
}

#[test]
fn migrations_are_taken_back_one_after_the_other() {
    let home = Home::filled("a");
    let calls = home.calls();
    all_migrations_are_taken_back(&home);
    assert_eq!(home.calls(), calls);
}
