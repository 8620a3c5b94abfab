//! Files of built-in plugins: what an operator says of plugins that the program brings holds from the first request on, changes while they
//! live, and a bad file costs nothing that runs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Http, Reply, Server, eventually};

/// A folder with the file of one plugin in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(name: &str, text: &str) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir_all(folder.path().join("plugins")).expect("the folder of plugins");
        folder.write(name, text);
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(format!("plugins/{name}.toml"))
    }

    fn write(&self, name: &str, text: &str) {
        // Whole or not at all: the folder is watched.
        let draft = self.path().join("draft");
        fs::write(&draft, format!("kind = \"builtin\"\n{text}")).expect("a file");
        fs::rename(draft, self.file(name)).expect("it is there");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).expect("it was there");
    }
}

fn reload(server: &Server) -> Value {
    Http { head: "POST /plugins/reload".to_owned(), ..Http::post("") }.send(server.address).json()
}

/// All tools, page for page.
fn tools(server: &Server) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
        let page = server.call("tools/list", params).result();
        let listed = page["tools"].as_array().expect("tools").iter();
        names.extend(listed.map(|tool| tool["name"].as_str().expect("a name").to_owned()));
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            return names;
        }
    }
}

fn has(server: &Server, tool: &str) -> bool {
    tools(server).iter().any(|name| name == tool)
}

fn call(server: &Server, tool: &str, arguments: Value) -> Reply {
    Http::tool(tool, arguments).send(server.address)
}

#[test]
fn what_a_file_says_of_a_built_in_plugin_holds_from_the_first_request_on() {
    let text = "deny = [\"write_*\"]\n[tools.read_file]\nrename = \"open\"\n[tools.list_directory]\nrequests_per_minute = 6\nburst = 2\n";
    let folder = Folder::with("files", text);
    let server = Server::on("waygate-mcp", folder.path(), &[]);
    let names = tools(&server);
    let has = |tool: &str| names.iter().any(|name| name == tool);
    assert!(has("files__open") && !has("files__read_file") && has("files__list_directory"), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("files__write")), "{names:?}");
    assert_eq!(call(&server, "files__write_file", json!({"path": "/x", "content": ""})).code(), -32602);
    for _ in 0..2 {
        let listed = call(&server, "files__list_directory", json!({"path": "/"}));
        assert_eq!(listed.status, 200, "{}", listed.text());
    }
    let refused = call(&server, "files__list_directory", json!({"path": "/"}));
    assert_eq!((refused.status, refused.code()), (429, -31429), "{}", refused.text());
    let data = &refused.json()["error"]["data"];
    assert_eq!((&data["of"], &data["whose"]), (&json!("tool"), &json!("files__list_directory")));
    let (_, shown) = server.get("/plugins/files");
    assert_eq!((&shown["kind"], &shown["state"]), (&json!("builtin"), &json!("ready")), "{shown:#}");
    assert_eq!(reload(&server)["unchanged"], json!(["files"]), "the first reload found what holds already");
}

#[test]
fn what_changes_of_a_plugin_that_an_embedder_brings_changes_while_it_lives() {
    let folder = Folder::with("faulty", "[tools.hang]\ntimeout_seconds = 1\n");
    let server = Server::on("faulty_server", folder.path(), &[]);
    let lives = || {
        let (_, shown) = server.get("/plugins/faulty");
        (shown["since"].clone(), shown["restarts"].clone(), shown["state"].clone())
    };
    let life = lives();
    let late = call(&server, "hang", json!({}));
    assert_eq!((late.status, late.code()), (504, -31504), "{}", late.text());
    assert!(late.text().contains("within 1 s"), "{}", late.text());

    // A call that runs ends where it began; from then on the other file holds.
    let mut runs = Http::modern(
        "tools/call",
        json!({"name": "steps", "arguments": {"n": 2, "ms": 300}, "_meta": {"progressToken": 1}}),
    )
    .open(server.address);
    assert!(runs.event().is_some());
    folder.write("faulty", "names = \"prefixed\"\ndeny = [\"repeat\"]\nconcurrency = 3\n");
    assert_eq!(reload(&server)["failed"], json!([]));
    let last = std::iter::from_fn(|| runs.event()).last().expect("an answer");
    assert!(last["result"].is_object(), "{last}");
    assert!(has(&server, "faulty__steps") && !has(&server, "steps") && !has(&server, "faulty__repeat"));
    assert_eq!(server.get("/plugins/faulty").1["limits"]["concurrency"], 3);
    assert_eq!(lives(), life, "it lives on");

    // A bad file costs nothing that runs.
    folder.write("faulty", "deny = \"steps\"\n");
    let told = reload(&server);
    let why = told["failed"][0]["why"].as_str().expect("why");
    assert!(why.contains("faulty.toml:2: deny is \"steps\", but takes a list of strings"), "{told:#}");
    assert!(has(&server, "faulty__steps") && !has(&server, "faulty__repeat"));
    // Nor does one that goes: the plugin is as the program has it.
    folder.remove("faulty");
    eventually("the file is gone", || has(&server, "repeat").then_some(()));
    assert!(has(&server, "steps") && !has(&server, "faulty__steps"));
    assert_eq!(lives(), life, "it lives on");
}

#[test]
fn who_watches_a_built_in_plugin_goes_on_when_its_file_changes() {
    let folder = Folder::with("faulty", "");
    let server = Server::on("faulty_server", folder.path(), &[]);
    let listens =
        json!({"notifications": {"resourceSubscriptions": ["test://counter"], "toolsListChanged": true}});
    let mut stream = Http::modern("subscriptions/listen", listens).open(server.address);
    assert!(stream.event().is_some(), "it is acknowledged");
    folder.write("faulty", "deny = [\"repeat\"]\n");
    assert_eq!(reload(&server)["changed"], json!(["faulty"]));
    let told = stream.event().expect("news");
    assert_eq!(told["method"], "notifications/tools/list_changed", "{told}");
    call(&server, "touch", json!({}));
    let told = std::iter::from_fn(|| stream.event())
        .find(|told| told["method"] == "notifications/resources/updated")
        .expect("it is watched");
    assert_eq!(told["params"]["uri"], "test://counter");
}

#[test]
fn a_plugin_of_which_it_cannot_be_told_what_is_denied_offers_nothing_until_its_file_is_mended() {
    let folder = Folder::with("faulty", "deny = \"repeat\"\n");
    let server = Server::on("faulty_server", folder.path(), &[]);
    assert!(!has(&server, "steps") && !tools(&server).is_empty(), "another plugin serves");
    let (_, shown) = server.get("/plugins/faulty");
    assert_eq!(shown["state"], "quarantined", "{shown:#}");
    let why = shown["why"].as_str().expect("why");
    assert!(why.contains("faulty.toml:2") && why.contains("mend it"), "{why}");
    folder.write("faulty", "deny = [\"repeat\"]\n");
    eventually("it is mended", || has(&server, "steps").then_some(()));
    assert!(!has(&server, "repeat"));
    assert_eq!(call(&server, "precise", json!({})).status, 200);
    assert_ne!(server.get("/plugins/faulty").1["state"], "quarantined");
}

#[test]
fn a_file_of_a_built_in_plugin_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let folder = Folder::with("nobody", "deny = [\"x\"]\n");
    let server = Server::on("faulty_server", folder.path(), &[]);
    let told = reload(&server);
    let why = told["failed"][0]["why"].as_str().expect("why");
    assert!(why.contains("no built-in plugin nobody") && why.contains("faulty, many"), "{told:#}");
    fs::write(folder.file("many"), "command = \"/bin/true\"\n").expect("a file");
    let told = reload(&server);
    let why = told["failed"][0]["why"].as_str().expect("why");
    assert!(why.contains("kind = \"builtin\""), "{told:#}");
    assert!(server.get("/plugins/many").1["state"] == "ready");
}
