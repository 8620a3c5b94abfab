//! The verbs of plugins and bundles, without a server and beside one.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::support::{Server, eventually, program};
use super::{command, refused, said, waygate};

fn file(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(format!("plugins/{name}.toml"))).unwrap()
}

fn json_of(folder: &Path, words: &[&str]) -> Value {
    serde_json::from_str(&said(folder, &[words, &["--json"]].concat())).unwrap()
}

#[test]
fn what_is_added_is_a_private_file_that_is_listed_shown_checked_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let add = [
        "plugins",
        "add",
        "db",
        "--command",
        "npx",
        "--arg",
        "-y",
        "--arg",
        "a b",
        "--env",
        "TOKEN=hunter2",
        "--env",
        "B=${C}",
        "--cwd",
        "here",
    ];
    let output = waygate(folder, &add);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && told.contains("at the next start") && told.contains("env.TOKEN"),
        "{told}"
    );
    let cwd = folder.canonicalize().unwrap().join("here");
    let text = file(folder, "db");
    assert_eq!(
        text,
        format!(
            "kind = \"mcp\"\ncommand = \"npx\"\nargs = [\"-y\", \"a b\"]\ncwd = {cwd:?}\nenv = {{ B = \"${{C}}\", TOKEN = \"hunter2\" }}\n"
        )
    );
    let path = folder.join("plugins/db.toml");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    said(
        folder,
        &[
            "plugins",
            "add",
            "web",
            "--url",
            "https://a.example/mcp?q=hunter2",
            "--header",
            "Authorization=Bearer hunter2",
            "--transport",
            "http",
            "--isolation",
            "shared",
        ],
    );
    assert!(file(folder, "web").contains("isolation = \"shared\""));
    let list = json_of(folder, &["plugins", "list"]);
    assert_eq!((&list["running"], &list["plugins"][0]["env"]), (&json!(false), &json!(["B", "TOKEN"])));
    assert_eq!(list["plugins"][1]["where"], "https://a.example/mcp");
    for words in [
        &["plugins", "list"][..],
        &["plugins", "list", "--json"],
        &["plugins", "show", "db"],
        &["plugins", "show", "db", "--json"],
    ] {
        let output = waygate(folder, words);
        let all = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success() && !all.contains("hunter2"), "{words:?}: {all}");
    }
    let (code, why) = refused(folder, &add);
    assert!(code == 1 && why.contains("--force"), "{code} {why}");
    said(folder, &[&add[..], &["--force"]].concat());
    said(folder, &["plugins", "remove", "db"]);
    assert!(!path.exists());
    let (code, why) = refused(folder, &["plugins", "remove", "wep"]);
    assert!(code == 1 && why.contains("did you mean web?"), "{why}");
}

#[test]
fn what_makes_no_plugin_is_refused_with_advice() {
    let home = tempfile::tempdir().unwrap();
    for (words, code, what) in [
        (&["add", "a"][..], 2, "--url"),
        (&["add", "a", "--url", "https://a/", "--command", "x"], 2, "cannot be used with"),
        (&["add", "files", "--command", "x"], 2, "built-in"),
        (&["add", "A", "--command", "x"], 2, "lower-case"),
        (&["add", "a", "--url", "https://u:hunter2@a/"], 2, "--url: url has a user"),
        (&["add", "a", "--url", "https://a/", "--header", "Host=x"], 2, "Waygate's own"),
        (&["add", "a", "--url", "https://a/", "--header", "hunter2"], 2, "no `=`"),
        (&["add", "a", "--url", "https://a/", "--transport", "stdio"], 2, "goes with command"),
        (&["add", "a", "--url", "https://a/", "--isolation", "per-client"], 2, "did you mean per_client?"),
        (&["add", "a", "--command", "x", "--env", "A=${WAYGATE_API_KEY}"], 2, "Waygate's own"),
        (&["remove", "../x"], 2, "no name"),
        (&["reload"], 69, "no server runs"),
        (&["logs", "a"], 69, "no server runs"),
        (&["show", "a"], 1, "there is no file"),
        (&["check", "a"], 1, "there is no file"),
    ] {
        let (found, why) = refused(home.path(), &[&["plugins"], words].concat());
        assert!(found == code && why.contains(what) && !why.contains("hunter2"), "{words:?}: {found} {why}");
    }
    assert!(!home.path().join("plugins").exists(), "nothing was written");
}

#[test]
fn a_check_starts_the_server_and_shows_what_clients_would_see_and_what_it_costs() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let echo = program("echo");
    let add = ["plugins", "add", "small", "--command", echo.to_str().unwrap(), "--arg", "stdio"];
    said(folder, &[&add[..], &["--arg=--data-dir", "--arg", "."]].concat());
    let shown = said(folder, &["plugins", "check", "small"]);
    for what in
        ["small is echo", "2026-07-28 over stdio", "small__echo", "Gives back the message", "1 tool, "]
    {
        assert!(shown.contains(what), "{what} in {shown}");
    }
    let shown = json_of(folder, &["plugins", "check", "small"]);
    assert_eq!((&shown["starts"], &shown["tools"][0]["name"]), (&json!(true), &json!("small__echo")));
    assert!(
        shown["tokens"].as_u64().unwrap() > 0 && shown["tokens"] == shown["tools"][0]["tokens"],
        "{shown}"
    );
    fs::write(folder.join("plugins/few.toml"), "kind = \"bundle\"\nplugins = [\"small\"]\n").unwrap();
    assert!(said(folder, &["plugins", "check", "few"]).contains("is valid: the bundle few"));
}

#[test]
fn a_check_says_why_a_server_does_not_start_and_tells_no_secret() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let add =
        ["plugins", "add", "bad", "--env", "TOKEN=hunter2-and-more", "--command", "sh", "--arg=-c", "--arg"];
    said(folder, &[&add[..], &["echo \"boom $TOKEN\" >&2; exit 3"]].concat());
    let (code, why) = refused(folder, &["plugins", "check", "bad"]);
    assert!(code == 1 && why.contains("does not start") && !why.contains("hunter2"), "{code} {why}");
    let output = waygate(folder, &["plugins", "check", "bad", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &told["valid"], &told["starts"]),
        (Some(1), &json!(true), &json!(false))
    );
    assert!(told["why"].is_string() && !told.to_string().contains("hunter2"), "{told}");
}

#[test]
fn what_a_server_wrote_to_stderr_is_shown_while_it_runs() {
    let server = Server::start("waygate-mcp");
    let echo = program("echo");
    let add = ["plugins", "add", "small", "--command", echo.to_str().unwrap(), "--arg", "stdio"];
    said(&server.folder, &[&add[..], &["--arg=--data-dir", "--arg", "."]].concat());
    let lines = eventually("it has written", || {
        let lines = json_of(&server.folder, &["plugins", "logs", "small"])["lines"].clone();
        lines.as_array().is_some_and(|lines| !lines.is_empty()).then_some(lines)
    });
    assert!(lines.to_string().contains("INFO"), "{lines}");
    let told = said(&server.folder, &["plugins", "reload"]);
    assert!(told.starts_with("unchanged: 1, reloaded in"), "{told}");
}

#[test]
fn a_check_tells_every_fault_of_a_file_with_its_line() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("some.toml");
    fs::write(&path, "comand = \"x\"\ntimeout_seconds = 0\n").unwrap();
    let (code, why) = refused(home.path(), &["plugins", "check", path.to_str().unwrap()]);
    assert_eq!(code, 78);
    for what in [
        "some.toml:1: there is no field comand; did you mean command?",
        "some.toml:2: timeout_seconds",
        "neither url nor command",
    ] {
        assert!(why.contains(what), "{what} in {why}");
    }
    let output = waygate(home.path(), &["plugins", "check", path.to_str().unwrap(), "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["valid"], told["faults"].as_array().unwrap().len()), (&json!(false), 3));
}

#[test]
fn a_clients_file_is_imported_as_far_as_it_can_be() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let source = folder.join("mcp.json");
    let servers = json!({"mcpServers": {
        "Every Thing": {"command": "npx", "args": ["-y", "x"], "env": {"KEY": "hunter2"}},
        "web": {"type": "http", "url": "https://a/mcp", "headers": {"A": "${env:B}"}},
        "ask": {"url": "https://a/", "headers": {"A": "${input:x}"}},
    }});
    fs::write(&source, servers.to_string()).unwrap();
    let import = ["plugins", "import", source.to_str().unwrap()];
    let output = waygate(folder, &[&import[..], &["--dry-run"]].concat());
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("VS Code asks") && told.contains("every-thing") && !told.contains("hunter2"),
        "{told}"
    );
    assert!(!folder.join("plugins").exists());
    said(folder, &[&import[..], &["--only", "web,every-thing"]].concat());
    assert!(file(folder, "every-thing").contains("command = \"npx\""));
    assert!(file(folder, "web").contains("headers = { A = \"${B}\" }"));
    let (code, why) = refused(folder, &["plugins", "import", "/nowhere/x.json"]);
    assert!(code == 73 && why.contains("/nowhere/x.json was not read"), "{code}: {why}");
    let (code, why) = refused(folder, &[&import[..], &["--only", "wep"]].concat());
    assert!(code == 1 && why.contains("did you mean web?"), "{why}");
    let (code, why) = refused(folder, &[&import[..], &["--only", "web"]].concat());
    assert!(code == 1 && why.contains("--force"), "{why}");
    let mut stdin = command(folder, &["plugins", "import", "-", "--force"]);
    let mut stdin = stdin.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    stdin.stdin.take().unwrap().write_all(br#"{"servers": {"web": {"url": "https://b/"}}}"#).unwrap();
    assert!(stdin.wait().unwrap().success());
    assert!(file(folder, "web").contains("https://b/"));
}

#[test]
fn bundles_are_files_beside_plugins() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    fs::create_dir(folder.join("plugins")).unwrap();
    fs::write(folder.join("plugins/reading.toml"), "kind = \"bundle\"\nplugins = [\"files\"]\n").unwrap();
    said(folder, &["plugins", "add", "a", "--command", "x"]);
    let names = |word: &str| -> Vec<String> {
        let list = json_of(folder, &[word, "list"]);
        list[word].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (names("bundles"), names("plugins")),
        (vec!["reading".to_owned()], vec!["a".to_owned(), "reading".to_owned()])
    );
    assert!(said(folder, &["bundles", "show", "reading"]).contains("plugins = [\"files\"]"));
    let (_, why) = refused(folder, &["bundles", "show", "a"]);
    assert!(why.contains("a is a plugin and no bundle"), "{why}");
}

#[test]
fn a_running_server_is_asked_over_its_socket_and_without_a_key() {
    let server = Server::with("echo", &[("WAYGATE_API_KEY", "0123456789abcdef0123456789abcdef")]);
    let list = json_of(&server.folder, &["plugins", "list"]);
    assert_eq!(list["running"], true);
    let shown = json_of(&server.folder, &["plugins", "show", "echo"]);
    assert_eq!((&shown["name"], &shown["toolCount"]), (&json!("echo"), &json!(1)));
    assert!(said(&server.folder, &["plugins", "list"]).starts_with("NAME"));
    assert!(said(&server.folder, &["plugins", "show", "echo"]).contains("name: echo"));
    for name in ["none", "../health", "a b"] {
        let (code, why) = refused(&server.folder, &["plugins", "show", name]);
        assert!(code == 1 && why.contains("no plugin") && why.contains(name), "{name}: {code} {why}");
    }
    assert_eq!(said(&server.folder, &["plugins", "logs", "echo"]), "");
}

#[test]
fn a_running_server_takes_what_is_imported_and_tells_of_its_bundles() {
    let (server, behind) = (Server::start("waygate-mcp"), Server::start("echo"));
    let source = server.folder.join("mcp.json");
    let servers = json!({"mcpServers": {"Up": {"type": "http", "url": behind.url("/mcp")}}});
    fs::write(&source, servers.to_string()).unwrap();
    said(&server.folder, &["plugins", "import", source.to_str().unwrap()]);
    eventually("the imported server is ready", || {
        let shown = json_of(&server.folder, &["plugins", "show", "up"]);
        (shown["state"] == "ready" && shown["toolCount"] == 1).then_some(())
    });
    fs::write(
        server.folder.join("plugins/small.toml"),
        "kind = \"bundle\"\nplugins = [\"up\"]\ninstructions = \"Say it once.\"\n",
    )
    .unwrap();
    said(&server.folder, &["plugins", "reload"]);
    let list = json_of(&server.folder, &["bundles", "list"]);
    assert_eq!(list["running"], true);
    assert!(list["bundles"].as_array().unwrap().iter().any(|one| one["name"] == "small"), "{list}");
    let shown = json_of(&server.folder, &["bundles", "show", "small"]);
    assert_eq!((&shown["name"], &shown["toolCount"]), (&json!("small"), &json!(1)), "{shown}");
    assert!(said(&server.folder, &["bundles", "show", "small"]).contains("name: small"));
    let (code, why) = refused(&server.folder, &["bundles", "show", "smal"]);
    assert!(code == 1 && why.contains("no bundle") && why.contains("smal"), "{code} {why}");
}

#[test]
fn a_file_of_a_built_in_plugin_is_checked_listed_shown_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    fs::create_dir(folder.join("plugins")).unwrap();
    let text = "kind = \"builtin\"\ndeny = [\"write_*\"]\n";
    for name in ["files", "nobody"] {
        fs::write(folder.join(format!("plugins/{name}.toml")), text).unwrap();
    }
    let shown = json_of(folder, &["plugins", "check", "files"]);
    assert_eq!((&shown["valid"], &shown["kind"]), (&json!(true), &json!("builtin")), "{shown}");
    let (code, why) = refused(folder, &["plugins", "check", "nobody"]);
    assert!(code == 78 && why.contains("those that there are: files, waygate;"), "{why}");
    let listed = json_of(folder, &["plugins", "list"]);
    assert_eq!(listed["plugins"][0]["kind"], "builtin", "{listed}");
    assert!(said(folder, &["plugins", "show", "files"]).ends_with(text));
    said(folder, &["plugins", "remove", "files"]);
    assert!(!folder.join("plugins/files.toml").exists());
}
