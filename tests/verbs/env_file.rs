//! `.env` of the working folder: it counts for whatever is typed there, and not for what a client starts somewhere.

use std::fs;

use super::{command, waygate};

#[test]
fn it_counts_for_every_verb_that_is_typed_there_and_not_for_stdio() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    fs::write(folder.join(".env"), "WAYGATE_PROT=1\n").unwrap();
    for words in [
        &["serve"][..],
        &["status"],
        &["health"],
        &["explain", "--tool", "files__read_file"],
        &["tools", "list"],
        &["plugins", "list"],
        &["bundles", "list"],
        &["cache", "stats"],
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
    // Its client leaves at once.
    let output = command(folder, &["stdio"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let output = command(folder, &["stdio", "--env-file", ".env"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "named, it counts there, too");
}
