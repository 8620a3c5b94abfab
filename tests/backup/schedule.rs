//! The schedule of a running server, and what its health and metrics say of it.

use std::fs;

use serde_json::json;

use crate::support::{Server, eventually};

#[test]
fn a_backup_is_made_when_one_is_due_and_old_ones_go() {
    let own = tempfile::tempdir().unwrap();
    let backups = own.path().join("elsewhere");
    fs::create_dir_all(&backups).unwrap();
    let old = backups.join("waygate-20200101T000000Z-aaaaaa.tar.zst");
    fs::write(&old, "old").unwrap();
    let settings = [("WAYGATE_BACKUP_EVERY_HOURS", "1"), ("WAYGATE_BACKUP_DIR", backups.to_str().unwrap())];
    let server = Server::on("echo", own.path(), &settings);
    let made = eventually("a backup is made", || {
        let names = fs::read_dir(&backups).unwrap().flatten().map(|entry| entry.file_name());
        let mut names = names.map(|name| name.to_string_lossy().into_owned());
        names.find(|name| name.ends_with(".tar.zst") && !name.contains("20200101"))
    });
    eventually("the old one is removed", || (!old.exists()).then_some(()));
    let size = fs::metadata(backups.join(made)).unwrap().len();
    eventually("the metrics tell of it", || {
        (server.metric("waygate_backup_size_bytes") == Some(size as f64)).then_some(())
    });
    assert!(server.metric("waygate_backup_last_success_timestamp_seconds").unwrap() > 1.7e9);
    assert_eq!(server.metric("waygate_backup_failures_total"), Some(0.0));
    eventually("the health says so", || (server.get("/health").1["checks"]["backup"] == "ok").then_some(()));
}

#[test]
fn a_backup_that_cannot_be_made_degrades_the_health_and_nothing_else() {
    let own = tempfile::tempdir().unwrap();
    fs::write(own.path().join("file"), "in the way").unwrap();
    let dir = own.path().join("file/backups");
    let settings = [("WAYGATE_BACKUP_EVERY_HOURS", "1"), ("WAYGATE_BACKUP_DIR", dir.to_str().unwrap())];
    let server = Server::on("echo", own.path(), &settings);
    let health = eventually("the health tells of it", || {
        let (status, health) = server.get("/health");
        (health["checks"]["backup"] == "degraded").then_some((status, health))
    });
    assert_eq!((health.0, &health.1["status"]), (200, &json!("degraded")));
    assert!(health.1["problems"]["backup"].as_str().unwrap().contains("file/backups"));
    assert_eq!(server.metric("waygate_backup_failures_total"), Some(1.0));
    assert_eq!(server.tool("echo", json!({"message": "hej"}))["content"][0]["text"], "hej");
}

#[test]
fn one_of_the_future_does_not_end_the_schedule_and_is_told_of() {
    let own = tempfile::tempdir().unwrap();
    let backups = own.path().join("elsewhere");
    fs::create_dir_all(&backups).unwrap();
    let ahead = "waygate-20990101T000000Z-cccccc.tar.zst";
    fs::write(backups.join(ahead), "later").unwrap();
    let settings = [("WAYGATE_BACKUP_EVERY_HOURS", "1"), ("WAYGATE_BACKUP_DIR", backups.to_str().unwrap())];
    let server = Server::on("echo", own.path(), &settings);
    eventually("one is made all the same, and the metrics tell of it", || {
        let last = server.metric("waygate_backup_last_success_timestamp_seconds").unwrap();
        (last > 1.7e9 && last < 4.0e9).then_some(())
    });
    let health = eventually("the health tells of the other", || {
        let health = server.get("/health").1;
        (health["checks"]["backup"] == "degraded").then_some(health)
    });
    let why = health["problems"]["backup"].as_str().unwrap();
    assert!(why.contains(ahead) && why.contains("future"), "{why}");
    fs::remove_file(backups.join(ahead)).unwrap();
}

#[test]
fn without_a_schedule_nothing_is_made() {
    let server = Server::start("echo");
    assert_eq!(server.get("/health").1["checks"]["backup"], "disabled");
    assert!(!server.folder.join("backups").exists());
}
