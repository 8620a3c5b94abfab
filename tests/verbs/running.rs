//! Verbs that ask a server find the one that runs on the data folder, whatever address is configured, and say so where none does.

use std::fs;
use std::process::Output;

use serde_json::Value;

use super::support::Server;
use super::{command, refused, said};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Exit code, stdout and stderr of a verb to which another address is configured than that of the server.
fn asked(server: &Server, words: &[&str], key: Option<&str>) -> (Option<i32>, String, String) {
    let mut command = command(&server.folder, words);
    let output =
        command.env("WAYGATE_PORT", "1").envs(key.map(|key| ("WAYGATE_API_KEY", key))).output().unwrap();
    heard(output)
}

fn heard(output: Output) -> (Option<i32>, String, String) {
    let [told, why] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), told, why)
}

/// The same where the port is the server's own, by this name.
fn asked_there(server: &Server, words: &[&str], host: &str, key: &str) -> (Option<i32>, String, String) {
    let mut command = command(&server.folder, words);
    let port = server.address.port().to_string();
    command.env("WAYGATE_HOST", host).env("WAYGATE_PORT", port).env("WAYGATE_API_KEY", key);
    heard(command.output().unwrap())
}

#[test]
fn a_server_is_found_by_its_data_folder_whatever_port_is_configured() {
    let server = Server::start("echo");
    let call = ["tools", "call", "echo", "--arg", "message=hello"];
    let (code, told, why) = asked(&server, &call, None);
    assert!(code == Some(0) && told.contains("hello"), "{code:?}: {told}{why}");
    let (code, told, why) = asked(&server, &["tools", "list"], None);
    assert!(code == Some(0) && told.contains("echo message"), "{code:?}: {told}{why}");
    let address = server.address.to_string();
    let (code, told, why) = asked(&server, &["client", "cursor", "--json"], None);
    assert!(code == Some(0) && told.contains(&format!("http://{address}/mcp")), "{code:?}: {told}{why}");
    let load = ["loadtest", "-c", "1", "-d", "1s", "--warm-up", "0s", "--json"];
    let (code, told, why) = asked(&server, &load, None);
    assert!(code == Some(0) && told.contains(&address), "{code:?}: {told}{why}");
}

#[test]
fn version_names_every_revision_that_a_server_speaks() {
    let server = Server::start("echo");
    let spoken = server.get("/").1["protocolVersions"].clone();
    let told: Value = serde_json::from_str(&said(&server.folder, &["version", "--json"])).unwrap();
    assert!(
        told["protocolVersions"] == spoken && spoken.as_array().unwrap().len() > 1,
        "{told} and {spoken}"
    );
    let text = said(&server.folder, &["version"]);
    assert!(spoken.as_array().unwrap().iter().all(|one| text.contains(one.as_str().unwrap())), "{text}");
}

#[test]
fn a_key_that_is_shown_is_tried_as_others_show_it_and_without_one_the_folder_opens() {
    let server = Server::with("echo", &[("WAYGATE_API_KEY", KEY)]);
    let list = ["tools", "list"];
    assert_eq!(asked(&server, &list, None).0, Some(0), "over the socket in the folder");
    assert_eq!(asked_there(&server, &list, "127.0.0.1", KEY).0, Some(0));
    let another = "another-key-of-thirty-two-letters-or-more";
    let (code, _, why) = asked_there(&server, &list, "127.0.0.1", another);
    assert!(code == Some(77) && why.contains("key"), "{code:?}: {why}");
    // Where nobody configured its address, the folder opens all the same.
    assert_eq!(asked(&server, &list, Some(another)).0, Some(0));
    // It is this server's own, at whatever port.
    let shown = ["client", "cursor", "--show-key", "--json", "--url", &server.url("/mcp")];
    let (code, told, why) = asked(&server, &shown, Some(KEY));
    assert!(code == Some(0) && told.contains(KEY), "{code:?}: {told}{why}");
}

#[test]
fn a_server_goes_by_the_name_that_is_configured() {
    let server = Server::with("echo", &[("WAYGATE_API_KEY", KEY)]);
    let url = format!("http://localhost:{}/mcp", server.address.port());
    assert_eq!(asked_there(&server, &["tools", "list"], "localhost", KEY).0, Some(0));
    for words in [
        &["client", "cursor", "--show-key", "--json"][..],
        &["loadtest", "-c", "1", "-d", "1s", "--warm-up", "0s", "--json"],
    ] {
        let (code, told, why) = asked_there(&server, words, "localhost", KEY);
        assert!(code == Some(0) && told.contains(&url), "{words:?}, {code:?}: {told}{why}");
    }
}

#[test]
fn a_key_goes_to_no_address_that_only_the_folder_names() {
    let server = Server::with("echo", &[("WAYGATE_API_KEY", KEY)]);
    for words in [&["client", "cursor", "--show-key"][..], &["loadtest"]] {
        let (code, told, why) = asked(&server, words, Some(KEY));
        assert!(code == Some(2) && told.is_empty() && why.contains(&server.url("/mcp")), "{words:?}: {why}");
    }
    let named = ["loadtest", &server.url("/mcp"), "-c", "1", "-d", "1s", "--warm-up", "0s"];
    let (code, _, why) = asked(&server, &named, Some(KEY));
    assert_eq!(code, Some(0), "{why}");
}

#[test]
fn an_address_that_is_typed_is_gone_to_whoever_runs_on_the_folder() {
    let server = Server::start("echo");
    for words in [&["tools", "call", "echo", "--arg", "message=hello"][..], &["tools", "list"], &["loadtest"]]
    {
        let (code, told, why) = asked(&server, &[words, &["--port", "2"]].concat(), None);
        assert!(code == Some(69) && told.is_empty() && why.contains("127.0.0.1:2"), "{words:?}: {why}");
    }
    let (code, told, _) = asked(&server, &["client", "cursor", "--json", "--host", "localhost"], None);
    assert!(code == Some(0) && told.contains("http://localhost:1/mcp"), "{told}");
    let port = server.address.port().to_string();
    assert_eq!(asked(&server, &["tools", "list", "--port", &port], None).0, Some(0));
}

#[test]
fn one_that_has_no_socket_is_asked_at_the_configured_address() {
    let server = Server::start("echo");
    fs::remove_file(server.folder.join("data/waygate.sock")).unwrap();
    let mut command = command(&server.folder, &["tools", "list"]);
    let port = server.address.port().to_string();
    let (code, told, why) = heard(command.env("WAYGATE_PORT", port).output().unwrap());
    assert!(code == Some(0) && told.contains("echo message"), "{code:?}: {told}{why}");
}

#[test]
fn where_none_runs_the_folder_and_the_address_are_named() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let none = format!("no server runs on {}", folder.display());
    for words in [&["tools", "list"][..], &["tools", "call", "echo"]] {
        let mut command = command(folder, words);
        let (code, _, why) = heard(command.env("WAYGATE_PORT", "1").output().unwrap());
        let is_told = why.contains(&none) && why.contains("http://127.0.0.1:1/mcp");
        assert!(code == Some(69) && is_told, "{code:?}: {why}");
        let (code, why) = refused(folder, &[words, &["--port", "0"]].concat());
        assert!(code == 69 && why.contains(&none) && why.contains("--url"), "{code}: {why}");
    }
    for words in [&["loadtest", "--port", "0"][..], &["client", "cursor", "--port", "0"]] {
        let (code, why) = refused(folder, words);
        assert!(code == 2 && why.contains(&none), "{words:?}, {code}: {why}");
    }
}

#[test]
fn one_that_is_named_is_asked_and_no_other() {
    let server = Server::start("echo");
    let (code, told, why) = asked(&server, &["tools", "list", "--url", "http://127.0.0.1:1/mcp"], None);
    assert!(code == Some(69) && told.is_empty() && why.contains("127.0.0.1:1"), "{code:?}: {why}");
    let other = Server::start("greet");
    let (code, told, _) = asked(&server, &["tools", "list", "--json", "--url", &other.url("/mcp")], None);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(code == Some(0) && told["tools"][0]["name"] != "echo", "{told}");
}

#[test]
fn a_server_is_as_well_as_it_is_whatever_became_of_its_configuration_since() {
    let server = Server::start("echo");
    for verb in ["status", "health"] {
        let output = command(&server.folder, &[verb]).env("WAYGATE_PROT", "1").output().unwrap();
        let (code, told, why) = heard(output);
        assert!(code == Some(0) && told.starts_with("healthy"), "{verb} {code:?}: {told}{why}");
        assert!(why.contains("did you mean WAYGATE_PORT?"), "{why}");
    }
}

#[test]
fn a_server_that_hangs_is_told_from_one_that_is_well_and_nobody_waits_for_it_for_ever() {
    let server = Server::start("echo");
    server.signal("-STOP");
    let (code, told, why) = heard(command(&server.folder, &["health"]).output().unwrap());
    server.signal("-CONT");
    assert!(
        code == Some(75) && told.is_empty() && why.contains("did not answer in time"),
        "{code:?}: {told}{why}"
    );
    assert_eq!(heard(command(&server.folder, &["health"]).output().unwrap()).0, Some(0));
}
