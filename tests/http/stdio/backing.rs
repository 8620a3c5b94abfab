//! Who serves: the server that runs on the data folder, over a socket that is its user's alone, or a stack of its own.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::stdio::Client;
use crate::support::{Http, PATIENCE, Server, eventually};

const KEY: &str = "a-key-that-nobody-could-guess-0123456789";

/// How often the counter was touched, as somebody else sees it.
fn counter(server: &Server) -> Value {
    let read = Http::modern("resources/read", json!({"uri": "test://counter"}));
    read.header("X-API-Key", KEY).send(server.address).result()["contents"][0]["text"].clone()
}

/// The status of a request over the socket.
fn over_socket(folder: &Path, headers: &str) -> String {
    let mut stream = UnixStream::connect(folder.join("data/waygate.sock")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request =
        format!("GET /plugins HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("it answers");
    said.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_running_server_serves_and_the_folder_is_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::on("faulty_server", folder.path(), &[("WAYGATE_API_KEY", KEY)]);
    // The process behind the client does not know the key.
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    client.tool("touch", json!({}));
    assert_eq!(counter(&server), "1", "it was touched where others see it");
    let who = client.tool("whoami", json!({}))["structuredContent"].clone();
    assert_eq!(who["operator"], true, "{who}");
    let (status, _) = server.get("/plugins");
    assert_eq!(status, 401, "others need the key");
    assert_eq!(client.end(), (Some(0), Vec::new()));
}

#[test]
fn a_client_that_says_nothing_holds_no_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::on("faulty_server", folder.path(), &[("WAYGATE_RECEIVE_TIMEOUT_SECONDS", "120")]);
    let connections = || {
        let counts = server.get("/diagnostics/connection").1["connections"].clone();
        ["open", "accepted"].map(|count| counts[count].as_u64().unwrap_or_else(|| panic!("{counts}")))
    };
    let [_, mut accepted] = connections();
    let client = Client::on("faulty_server", folder.path(), &[]);
    eventually("it has looked for the server", || {
        client.stderr().contains("the server that runs on the data folder").then_some(())
    });
    eventually("only the one that asks is open, and the client's was seen", || {
        let [open, seen] = connections();
        // One more since the last look is the one that asks.
        accepted += 1;
        (open == 1 && seen > accepted).then_some(())
    });
}

#[test]
fn the_socket_is_its_users_alone_and_trusts_nobody_who_forwards() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[("WAYGATE_API_KEY", KEY)]);
    let socket = folder.path().join("data/waygate.sock");
    let about = std::fs::metadata(&socket).expect("a socket");
    assert!(about.file_type().is_socket());
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    assert_eq!(over_socket(folder.path(), ""), "HTTP/1.1 200 OK");
    assert_eq!(over_socket(folder.path(), "X-Forwarded-For: 192.0.2.1\r\n"), "HTTP/1.1 403 Forbidden");
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(!socket.exists(), "a clean stop takes it away");
}

#[test]
fn headers_over_the_socket_may_be_absent_and_may_not_be_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::on("faulty_server", folder.path(), &[]);
    let ask = |request: Http| {
        let mut stream = UnixStream::connect(folder.path().join("data/waygate.sock")).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request = request.header("Connection", "close");
        stream.write_all(&request.bytes(server.address)).expect("it reads");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("it answers");
        said
    };
    let whole = Http::tool("mirrored", json!({"city": "Rom"}));
    let bare = whole.clone().without("MCP-Protocol-Version").without("Mcp-Method").without("Mcp-Name");
    assert!(ask(bare.clone()).contains("Rom"));
    for (name, value) in [
        ("Mcp-Method", "tools/list"),
        ("Mcp-Name", "structured"),
        ("Mcp-Param-City", "Paris"),
        ("MCP-Protocol-Version", "2025-11-25"),
    ] {
        let said = ask(bare.clone().header(name, value));
        assert!(said.contains("-32020"), "{name}: {said}");
    }
    let over_tcp = bare.header("MCP-Protocol-Version", "2026-07-28").send(server.address);
    assert_eq!(over_tcp.code(), -32020, "over the network they are required");
}

#[test]
fn a_socket_that_was_left_behind_hinders_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    server.signal("-KILL");
    server.wait();
    assert!(folder.path().join("data/waygate.sock").exists());
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    client.tool("structured", json!({"n": 1}));
    assert!(client.stderr().contains("a stack of its own"), "{}", client.stderr());
    let server = Server::on("faulty_server", folder.path(), &[]);
    let mut other = Client::on("faulty_server", folder.path(), &[]);
    other.tool("touch", json!({}));
    assert_eq!(counter(&server), "1");
}

#[test]
fn a_server_that_can_have_no_socket_serves_the_network_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("data/waygate.sock/in the way")).expect("a folder");
    let server = Server::on("faulty_server", folder.path(), &[]);
    assert_eq!(server.get("/ready").0, 200);
    assert!(server.log().contains("waygate.sock"), "{}", server.log());
}

#[test]
fn a_worker_has_one_executor_for_all_its_entrances() {
    let server = Server::start("faulty_server");
    let actors = server.get("/diagnostics/actors").1;
    let executors = actors["actors"].as_array().expect("actors").iter();
    assert_eq!(executors.filter(|actor| actor["kind"] == "executor").count(), 2, "{actors}");
}

#[test]
fn several_serve_beside_each_other_and_a_server_may_come() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut clients: Vec<Client> = (0..3).map(|_| Client::on("faulty_server", folder.path(), &[])).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.tool("structured", json!({"n": n}))["structuredContent"]["n"], n);
    }
    let server = Server::on("faulty_server", folder.path(), &[]);
    for client in &mut clients {
        client.tool("touch", json!({}));
        let read = client.call("resources/read", json!({"uri": "test://counter"}));
        assert_eq!(read["result"]["contents"][0]["text"], "1", "each has a stack of its own");
    }
    assert_eq!(counter(&server), "0");
    for client in &mut clients {
        assert_eq!(client.end(), (Some(0), Vec::new()));
    }
    // What they recorded is all in the one history.
    drop(server);
    let mut last = Client::on("waygate-mcp", folder.path(), &[]);
    let history = last.tool("waygate__history", json!({"limit": 100})).to_string();
    assert!(history.matches("structured").count() >= 3, "{history}");
}

#[test]
fn a_data_folder_with_a_long_path_is_no_hindrance() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("long".repeat(50));
    std::fs::create_dir(&folder).expect("a folder");
    let mut alone = Client::on("faulty_server", &folder, &[]);
    alone.tool("structured", json!({"n": 1}));
    let server = Server::on("faulty_server", &folder, &[]);
    let mut client = Client::on("faulty_server", &folder, &[]);
    client.tool("touch", json!({}));
    assert_eq!(counter(&server), "1");
}

#[test]
fn what_keeps_it_from_starting_is_said_by_stderr_and_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("data"), "no folder").expect("a file");
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    let (code, said) = client.ended();
    assert_eq!((code, said), (Some(74), Vec::new()));
    assert!(client.stderr().contains("data"), "{}", client.stderr());
}

#[test]
fn the_help_teaches() {
    let help =
        std::process::Command::new(crate::support::program("waygate-mcp")).args(["stdio", "--help"]).output();
    let help = String::from_utf8(help.expect("it runs").stdout).expect("text");
    for word in ["one JSON-RPC message a line", "mcpServers", "server.drain_seconds", "nothing else"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
