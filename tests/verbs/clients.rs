//! The snippets for clients: that they lead to a server, and that `docs/clients.md` shows what is printed.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::support::{Http, Server, program};
use super::{command, refused, said, waygate};

const NAMES: [&str; 5] = ["claude-code", "claude-desktop", "vscode", "cursor", "codex"];

fn json_of(folder: &Path, words: &[&str]) -> Value {
    serde_json::from_str(&said(folder, &[&["client"], words, &["--json"]].concat())).unwrap()
}

/// The entry of the one server in a snippet.
fn entry(snippet: &Value) -> Value {
    let servers = snippet.as_object().unwrap().iter().find(|(key, _)| *key != "inputs").unwrap().1;
    servers["waygate"].clone()
}

#[test]
fn the_printed_url_leads_to_the_running_server() {
    let server = Server::start("echo");
    let port = server.address.port().to_string();
    for client in NAMES.iter().filter(|client| **client != "claude-desktop") {
        let snippet = json_of(&server.folder, &[client, "--port", &port]);
        let url = entry(&snippet)["url"].as_str().unwrap().to_owned();
        let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut request = Http::modern("server/discover", json!({}));
        request.head = format!("POST /{path}");
        let reply = request.send(address.parse().unwrap());
        assert_eq!(reply.status, 200, "{client}: {}", reply.text());
        assert_eq!(reply.json()["result"]["resultType"], "complete", "{client}: {}", reply.text());
    }
}

#[test]
fn a_printed_process_is_this_program_on_this_folder() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let found = entry(&json_of(folder, &["claude-desktop"]));
    assert_eq!(
        found["command"],
        program("waygate-mcp").to_str().unwrap(),
        "absolute, so that it runs from anywhere"
    );
    assert_eq!(found["args"], json!(["stdio", "--data-dir", folder.to_str().unwrap()]));
    for client in NAMES {
        let other = entry(&json_of(folder, &[client, "--transport", "stdio"]));
        assert_eq!((&other["command"], &other["args"]), (&found["command"], &found["args"]), "{client}");
    }
}

#[test]
fn a_key_stays_hidden_unless_it_is_asked_for_and_opens_the_server() {
    const KEY: &str = "0123456789abcdef0123456789abcdef";
    let server = Server::with("echo", &[("WAYGATE_API_KEY", KEY)]);
    let port = server.address.port().to_string();
    for client in NAMES.iter().filter(|client| **client != "claude-desktop") {
        let printed = |more: &[&str]| {
            let mut command = command(&server.folder, &[&["client", client, "--port", &port], more].concat());
            let output = command.env("WAYGATE_API_KEY", KEY).output().unwrap();
            assert!(output.status.success());
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap())
        };
        let [hidden, guidance] = printed(&[]);
        assert!(!hidden.contains(KEY) && !guidance.contains(KEY), "{client}: {hidden}{guidance}");
        let [shown, _] = printed(&["--show-key", "--json"]);
        let entry = entry(&serde_json::from_str(&shown).unwrap());
        let headers = entry.get("headers").or(entry.get("http_headers")).unwrap();
        let discover = Http::modern("server/discover", json!({}));
        assert_eq!(discover.send(server.address).status, 401);
        let reply = discover.header("Authorization", headers["Authorization"].as_str().unwrap());
        assert_eq!(reply.send(server.address).status, 200, "{client}");
    }
}

#[test]
fn a_key_is_shown_to_its_own_server_only() {
    let home = tempfile::tempdir().unwrap();
    let printed = |url: &str, show: &[&str]| {
        let mut command = command(home.path(), &[&["client", "cursor", "--url", url], show].concat());
        command.env("WAYGATE_API_KEY", "0123456789abcdef0123456789abcdef");
        command.env("WAYGATE_PUBLIC_URL", "https://mcp.example.org").output().unwrap()
    };
    let refused = printed("https://evil.test/mcp", &["--show-key"]);
    assert!(refused.status.code() == Some(2) && refused.stdout.is_empty());
    assert!(String::from_utf8(refused.stderr).unwrap().contains("server.public_url"));
    let shown = printed("https://mcp.example.org/mcp", &["--show-key"]).stdout;
    assert!(String::from_utf8(shown).unwrap().contains("0123456789abcdef"));
    assert!(printed("https://evil.test/mcp", &[]).status.success());
}

#[test]
fn what_cannot_be_connected_is_refused_with_advice() {
    let home = tempfile::tempdir().unwrap();
    for (words, what) in [
        (&["claude-desktop", "--transport", "http"][..], "leave --transport http out"),
        (&["cursor", "--transport", "stdio", "--url", "http://a/mcp"], "there is no URL"),
        (&["cursor", "--port", "0"], "--url"),
        (&["cursor", "--name", "a b"], "1 to 64 letters"),
        (&["cursor", "--url", "example.org"], "http://"),
        (&["emacs"], "claude-desktop"),
    ] {
        let (code, why) = refused(home.path(), &[&["client"], words].concat());
        assert!(code == 2 && why.contains(what), "{words:?}: {code} {why}");
    }
    assert!(
        json_of(home.path(), &["cursor", "--port", "0", "--url", "https://a/mcp"])
            .to_string()
            .contains("https://a")
    );
}

/// The fenced blocks of a page: kind and text.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let mut parts = page.split("\n```");
    parts.next();
    let mut found = Vec::new();
    while let (Some(block), Some(_between)) = (parts.next(), parts.next()) {
        let (kind, text) = block.split_once('\n').unwrap();
        found.push((kind, format!("{text}\n")));
    }
    found
}

#[test]
fn the_chapter_shows_what_is_printed() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let as_shown = |text: &[u8]| {
        let text = String::from_utf8(text.to_vec()).unwrap();
        let text = text.replace(program("waygate-mcp").to_str().unwrap(), "/usr/local/bin/waygate-mcp");
        text.replace(folder.to_str().unwrap(), "/home/ada/.waygate")
    };
    let mut shown = Vec::new();
    let blocks = blocks(&page);
    for (at, (kind, text)) in blocks.iter().enumerate() {
        let Some(words) = text.strip_prefix("waygate-mcp client ").filter(|_| *kind == "sh") else {
            continue;
        };
        let words: Vec<&str> = ["client"].into_iter().chain(words.split_whitespace()).collect();
        let output = waygate(folder, &words);
        assert!(output.status.success(), "{words:?}");
        let (_, follows) = blocks.get(at + 1).unwrap();
        assert_eq!(*follows, as_shown(&output.stdout), "docs/clients.md, {words:?}");
        // The guidance sets off with two spaces what can be typed, and the places of files.
        for line in as_shown(&output.stderr).lines().filter_map(|line| line.strip_prefix("  ")) {
            let told = line.rsplit_once("  ").map_or(line, |(_, file)| file).trim();
            assert!(page.contains(&format!("`{told}`")), "docs/clients.md does not tell {told:?}");
        }
        shown.push(words[1]);
    }
    for client in NAMES {
        assert!(shown.contains(&client), "docs/clients.md does not show {client}");
    }
}
