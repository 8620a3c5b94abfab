//! `.env` of the working folder: it counts for `serve` and what looks after the same, and for nothing that is typed anywhere.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;

use super::{command, command_in, waygate};

const KEY: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn it_counts_for_serve_and_what_looks_after_the_same() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    fs::write(folder.join(".env"), "WAYGATE_PROT=1\n").unwrap();
    for words in [
        &["serve"][..],
        &["history", "list"],
        &["keys", "list"],
        &["client", "cursor"],
        &["config", "check"],
        &["backup", "list"],
        &["db", "stats"],
    ] {
        let output = waygate(folder, words);
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(78) && why.contains("/.env:1:"), "{words:?}: {why}");
    }
    let found = waygate(folder, &["doctor", "--json"]);
    assert!(String::from_utf8_lossy(&found.stdout).contains("/.env:1"));
}

#[test]
fn it_counts_for_no_other_verb_unless_it_is_named() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    fs::write(folder.join(".env"), "WAYGATE_PROT=1\n").unwrap();
    for words in [
        &["status"][..],
        &["health"],
        &["explain", "--tool", "files__read_file"],
        // Its client leaves at once.
        &["stdio"],
        &["tools", "list"],
        &["plugins", "list"],
        &["bundles", "list"],
        &["cache", "stats"],
        &["loadtest", "http://127.0.0.1:1/mcp"],
    ] {
        let run = |more: &[&str]| {
            let output = command(folder, words).args(more).env("WAYGATE_PORT", "1").output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, why) = run(&[]);
        assert!(code != Some(78) && !why.contains(".env"), "{words:?}: {code:?} {why}");
        let (code, why) = run(&["--env-file", ".env"]);
        assert!(code == Some(78) && why.contains(".env:1:"), "{words:?}: {code:?} {why}");
    }
}

#[test]
fn a_folder_that_somebody_else_wrote_gets_no_key_and_names_no_data() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let elsewhere = TcpListener::bind("127.0.0.2:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let port = elsewhere.local_addr().unwrap().port().to_string();
    fs::write(folder.join(".env"), "WAYGATE_HOST=127.0.0.2\nWAYGATE_DATA_DIR=./theirs\n").unwrap();
    for words in [&["tools", "list"][..], &["tools", "call", "files__read_file"], &["status"], &["health"]] {
        let mut command = command_in(folder, words);
        let output = command.env("WAYGATE_API_KEY", KEY).env("WAYGATE_PORT", &port).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && !why.contains("theirs"), "{words:?}: {why}");
    }
    assert_eq!(elsewhere.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody knocked there");
}
