//! `explain`: what the running server says would become of a call, for people and for scripts.

use serde_json::{Value, json};

use super::support::Server;
use super::{refused, said, waygate};

#[test]
fn a_call_is_explained_to_people_and_by_the_exit_code_to_scripts() {
    let server = Server::start("waygate-mcp");
    let folder = &server.folder;
    let text = said(folder, &["explain", "--tool", "files__read_file"]);
    assert!(text.starts_with("files__read_file at /mcp for local would be let through\n"), "{text}");
    for part in
        ["deadline  passes   it would be given up after 30 s", "server.timeout_seconds = 30 by default"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    let output = waygate(folder, &["explain", "--tool", "files__raed_file", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &told["decidedBy"]), (Some(1), &json!("filter")), "{told}");
    let text = String::from_utf8(waygate(folder, &["explain", "--tool", "files__raed_file"]).stdout).unwrap();
    assert!(text.contains("refused at the step filter, with status 400 and invalid_params"), "{text}");
    assert!(text.contains("did you mean files__read_file?") && text.contains("to do: "), "{text}");
    let alone = said(folder, &["explain", "--tool", "read_file", "--bundle", "files"]);
    assert!(alone.contains("read_file at /mcp/files for local"), "{alone}");
}

#[test]
fn a_key_is_named_by_its_id_or_name_and_never_sent() {
    let server = Server::start("waygate-mcp");
    let folder = &server.folder;
    let key = said(folder, &["keys", "create", "ci", "--deny", "files__*"]);
    let id = key.split('_').nth(1).unwrap();
    for which in ["ci", id, key.trim()] {
        let output = super::support::eventually("the server knows it", || {
            let output = waygate(folder, &["explain", "--tool", "files__read_file", "--key", which]);
            (!output.stdout.is_empty()).then_some(output)
        });
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(&format!("for ci (key-{id})")) && text.contains("tools.deny = [\"files__*\"]"),
            "{text}"
        );
    }
    let (code, why) = refused(folder, &["explain", "--tool", "x", "--key", "nobody"]);
    assert!(code == 1 && why.contains("there is no key"), "{code} {why}");
    assert!(!server.log().contains(key.trim()));
}

#[test]
fn without_a_server_there_is_nobody_to_ask() {
    let home = tempfile::tempdir().unwrap();
    let (code, why) = refused(home.path(), &["explain", "--tool", "x"]);
    assert!(code == 69 && why.contains("no server runs"), "{code} {why}");
    assert_eq!(refused(home.path(), &["explain"]).0, 2);
}
