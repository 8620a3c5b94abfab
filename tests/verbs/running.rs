//! Verbs that ask a server find the one that runs on the data folder, whatever address is configured, and say so where none does.

use serde_json::Value;

use super::support::Server;
use super::{command, refused};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Exit code, stdout and stderr of a verb to which another address is configured than that of the server.
fn asked(server: &Server, words: &[&str], key: Option<&str>) -> (Option<i32>, String, String) {
    let mut command = command(&server.folder, words);
    let output =
        command.env("WAYGATE_PORT", "1").envs(key.map(|key| ("WAYGATE_API_KEY", key))).output().unwrap();
    let [told, why] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), told, why)
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
    let load = ["loadtest", "-c", "1", "-d", "200ms", "--warm-up", "0s", "--json"];
    let (code, told, why) = asked(&server, &load, None);
    assert!(code == Some(0) && told.contains(&address), "{code:?}: {told}{why}");
}

#[test]
fn a_key_that_is_shown_is_tried_as_others_show_it_and_without_one_the_folder_opens() {
    let server = Server::with("echo", &[("WAYGATE_API_KEY", KEY)]);
    let list = ["tools", "list"];
    assert_eq!(asked(&server, &list, None).0, Some(0), "over the socket in the folder");
    assert_eq!(asked(&server, &list, Some(KEY)).0, Some(0));
    let (code, _, why) = asked(&server, &list, Some("another-key-of-thirty-two-letters-or-more"));
    assert!(code == Some(77) && why.contains("key"), "{code:?}: {why}");
    // It is this server's own, at whatever port.
    let shown = ["client", "cursor", "--show-key", "--json", "--url", &server.url("/mcp")];
    let (code, told, why) = asked(&server, &shown, Some(KEY));
    assert!(code == Some(0) && told.contains(KEY), "{code:?}: {told}{why}");
}

#[test]
fn where_none_runs_the_folder_and_the_address_are_named() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let none = format!("no server runs on {}", folder.display());
    for words in [&["tools", "list"][..], &["tools", "call", "echo"]] {
        let (code, why) = refused(folder, &[words, &["--port", "1"]].concat());
        assert!(code == 69 && why.contains(&none) && why.contains("http://127.0.0.1:1/mcp"), "{code}: {why}");
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
