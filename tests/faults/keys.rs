//! Starts without a key where there must be one, and keys while their database is locked or away.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::database::refused;
use crate::ledger::{self, Held};
use crate::support::{Http, Server, database_of, eventually, program};

const OWN: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
const CONFIG: i32 = 78;

pub fn keys(folder: &std::path::Path, words: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(program("waygate-mcp"));
    command.arg("keys").args(words).arg("--data-dir").arg(folder).stdin(Stdio::null());
    command.env_clear().envs(database_of(folder)).env("HOME", folder).current_dir(folder);
    let output = command.output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// A server's command with `flags`, in no environment but theirs.
fn command(folder: &std::path::Path, flags: &[&str]) -> Command {
    let mut command = Command::new(program("echo"));
    command.args(["--port", "0", "--data-dir"]).arg(folder).args(flags);
    command.env_clear().envs(database_of(folder)).env("HOME", folder).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn list(server: &Server, key: &str) -> u16 {
    Http::modern("tools/list", json!({})).header("X-API-Key", key).send(server.address).status
}

/// Waits until a key is answered so; not looking too often, since wrong keys are counted.
pub fn becomes(what: &str, server: &Server, key: &str, status: u16) {
    eventually(what, || {
        std::thread::park_timeout(std::time::Duration::from_millis(100));
        (list(server, key) == status).then_some(())
    });
}

#[test]
fn production_and_an_open_address_start_with_a_key_of_any_kind_or_a_word_and_not_without() {
    for flags in [&["--env", "production"][..], &["--env", "development", "--host", "0.0.0.0"]] {
        let folder = tempfile::tempdir().expect("a folder");
        let (code, says) = refused(command(folder.path(), flags));
        assert_eq!(code, Some(CONFIG), "{says}");
        for way in ["WAYGATE_API_KEY", "keys create", "--insecure-no-auth"] {
            assert!(says.contains(way), "{says}");
        }
        let insecure =
            Server::by(command(folder.path(), &[flags, &["--insecure-no-auth"]].concat()), folder.path());
        assert_eq!(Http::modern("tools/list", json!({})).send(insecure.address).status, 200);
        drop(insecure);
        let mut own = command(folder.path(), flags);
        own.env("WAYGATE_API_KEY", OWN);
        let own = Server::by(own, folder.path());
        assert_eq!((list(&own, OWN), list(&own, "")), (200, 401));
        drop(own);
        let (done, key, says) = keys(folder.path(), &["create", "first"]);
        assert!(done, "{says}");
        let server = Server::by(command(folder.path(), flags), folder.path());
        assert_eq!((list(&server, key.trim()), list(&server, "")), (200, 401));
    }
}

#[test]
fn a_key_can_be_made_before_the_first_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let (done, _, says) = keys(folder.path(), &["list"]);
    assert!(!done && !folder.path().join("data/waygate.db").exists(), "looking makes nothing: {says}");
    let (done, key, says) = keys(folder.path(), &["create", "first"]);
    assert!(done && says.contains("this is the first key"), "{says}");
    let server = Server::on("echo", folder.path(), &[]);
    assert_eq!((list(&server, key.trim()), list(&server, "")), (200, 401));
}

#[test]
fn while_the_database_is_locked_keys_that_are_known_are_taken_and_none_is_made() {
    let server = Server::with("echo", &[("WAYGATE_API_KEY", OWN), ("WAYGATE_DB_BUSY_TIMEOUT_MS", "50")]);
    let (_, key, _) = keys(&server.folder, &["create", "app"]);
    let key = key.trim();
    becomes("it is taken", &server, key, 200);
    let held = Held::on(&server.folder);
    for _ in 0..50 {
        assert_eq!((list(&server, key), list(&server, OWN)), (200, 200));
    }
    if !crate::support::database::is_on_postgres() {
        let make = |body: &str| {
            let request = Http { head: "POST /admin/api/keys".to_owned(), ..Http::post(body) };
            request.header("X-API-Key", OWN).send(server.address)
        };
        let refused = make(r#"{"name": "other"}"#);
        assert_eq!(refused.status, 503, "{}", refused.text());
    }
    drop(held);
    assert!(keys(&server.folder, &["revoke", "app"]).0);
    becomes("it is refused", &server, key, 401);
}

#[test]
fn keys_whose_table_is_gone_are_taken_as_they_were_last_known() {
    let server = Server::with("echo", &[("WAYGATE_API_KEY", OWN)]);
    let (_, key, _) = keys(&server.folder, &["create", "app"]);
    let key = key.trim();
    becomes("it is taken", &server, key, 200);
    ledger::change(&server.folder, "ALTER TABLE api_keys RENAME TO elsewhere");
    ledger::change(&server.folder, "UPDATE generation SET counter = counter + 1");
    eventually("the server looked in vain", || {
        server.log().contains("not noticed until the database answers").then_some(())
    });
    assert_eq!((list(&server, key), list(&server, "wrong")), (200, 401), "no request asks the database");
    ledger::change(&server.folder, "ALTER TABLE elsewhere RENAME TO api_keys");
    ledger::change(&server.folder, "UPDATE api_keys SET scopes = 'nonsense'");
    ledger::change(&server.folder, "UPDATE generation SET counter = counter + 1");
    becomes("a record that makes no sense opens nothing", &server, key, 401);
    let (done, _, says) = keys(&server.folder, &["delete", &key[3..11]]);
    assert!(done, "and can be got rid of: {says}");
}
