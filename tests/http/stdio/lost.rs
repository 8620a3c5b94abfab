//! The server behind goes away: what was in flight is told so, and what comes next is served.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::support::stdio::Client;
use crate::support::{Server, eventually};

fn killed(server: &mut Server) {
    server.signal("-KILL");
    server.wait();
}

#[test]
fn a_call_in_flight_gets_an_error_that_can_be_retried_and_the_next_one_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    let listen = client.ask("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    client.notice("notifications/subscriptions/acknowledged");
    let meta = json!({"progressToken": 1});
    let steps = json!({"name": "steps", "arguments": {"n": 2, "ms": 60_000}, "_meta": meta});
    let call = client.ask("tools/call", steps);
    client.notice("notifications/progress");
    killed(&mut server);
    for id in [call, listen] {
        let answer = client.answer(id);
        assert_eq!(answer["error"]["code"], -31503, "{answer}");
        assert!(answer["error"]["data"]["advice"].as_str().is_some_and(|advice| advice.contains("retry")));
    }
    assert_eq!(client.notice("notifications/cancelled")["params"]["requestId"], listen);
    client.tool("structured", json!({"n": 1}));
    assert!(client.stderr().contains("a stack of its own"), "{}", client.stderr());
    assert_eq!(client.end(), (Some(0), Vec::new()));
}

/// The threads of a process that arbiters run on.
fn arbiters(client: &Client) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", client.child.id())).expect("it lives").flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("actix-rt|")).count()
}

#[test]
fn a_stack_of_its_own_that_cannot_be_started_is_told_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    client.tool("touch", json!({}));
    killed(&mut server);
    let key = folder.path().join("data/sealing.key");
    let open_to = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode));
    open_to(0o644).expect("a mode");
    let before = arbiters(&client);
    for _ in 0..5 {
        let answer = client.call("tools/list", json!({}));
        assert_eq!(answer["error"]["code"], -31503, "{answer}");
    }
    eventually("the log says why", || client.stderr().contains("chmod 600").then_some(()));
    assert_eq!(arbiters(&client), before);
    let beside = std::fs::read_dir(folder.path().join("data")).expect("a folder").flatten();
    assert!(beside.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with("beside-")));
    open_to(0o600).expect("a mode");
    eventually("it is tried again", || {
        client.call("tools/list", json!({}))["result"].is_object().then_some(())
    });
    assert!(arbiters(&client) > before, "these are the threads of a stack");
}

#[test]
fn a_server_that_is_back_serves_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    client.tool("touch", json!({}));
    killed(&mut server);
    let server = Server::on("faulty_server", folder.path(), &[]);
    client.tool("touch", json!({}));
    let seen = server.call("resources/read", json!({"uri": "test://counter"})).result();
    assert_eq!(seen["contents"][0]["text"], "1", "the new server was touched");
    assert!(!client.stderr().contains("a stack of its own"), "{}", client.stderr());
}

#[test]
fn a_stop_in_order_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    let meta = json!({"progressToken": 1});
    let steps = json!({"name": "steps", "arguments": {"n": 2, "ms": 200}, "_meta": meta});
    let call = client.ask("tools/call", steps);
    client.notice("notifications/progress");
    server.signal("-TERM");
    assert!(client.answer(call)["result"].is_object(), "the server lets it finish");
    assert_eq!(server.wait(), Some(0));
    client.tool("structured", json!({"n": 1}));
}

#[test]
fn a_session_goes_on_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    client.initialize("2025-11-25");
    client.call_in_session("resources/subscribe", json!({"uri": "test://counter"}));
    client.call_in_session("logging/setLevel", json!({"level": "emergency"}));
    killed(&mut server);
    let touched = client.call_in_session("tools/call", json!({"name": "touch", "arguments": {}}));
    assert!(touched["result"].is_object(), "{touched}");
    // The subscription, the log level and the stream for what nobody asked for are all there again.
    client.call_in_session("tools/call", json!({"name": "touch", "arguments": {}}));
    client.notice("notifications/resources/updated");
    client.call_in_session("tools/call", json!({"name": "logs", "arguments": {}}));
    assert_eq!(client.notice("notifications/message")["params"]["level"], "emergency");
    let call = client.ask_in_session("tools/call", json!({"name": "ask", "arguments": {"city": "Rom"}}));
    let asked = client.notice("elicitation/create");
    let accepted = json!({"action": "accept", "content": {"name": "Ada"}});
    client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": accepted}));
    assert!(client.answer(call).to_string().contains("Hello, Ada of Rom!"));
}

#[test]
fn an_answer_to_what_a_lost_server_asked_answers_nobody_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    client.initialize("2025-11-25");
    let call = client.ask_in_session("tools/call", json!({"name": "ask", "arguments": {"city": "Rom"}}));
    let old = client.notice("elicitation/create");
    killed(&mut server);
    assert_eq!(client.answer(call)["error"]["code"], -31503);
    let call = client.ask_in_session("tools/call", json!({"name": "ask", "arguments": {"city": "Rom"}}));
    let new = client.notice("elicitation/create");
    for (asked, name) in [(old, "Eve"), (new, "Ada")] {
        let accepted = json!({"action": "accept", "content": {"name": name}});
        client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": accepted}));
    }
    assert!(client.answer(call).to_string().contains("Hello, Ada of Rom!"));
}

#[test]
fn changes_are_told_to_a_client_that_only_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    client.initialize("2025-11-25");
    client.call_in_session("resources/subscribe", json!({"uri": "test://counter"}));
    killed(&mut server);
    let server = Server::on("faulty_server", folder.path(), &[]);
    // It finds its way back to the new server by itself.
    crate::support::eventually("the change is told", || {
        server.tool("touch", json!({}));
        let told = client.kept().iter().any(|message| message["method"] == "notifications/resources/updated");
        told.then_some(())
    });
}

#[test]
fn a_stack_of_its_own_that_is_beyond_repair_ends_the_process() {
    let mut client = Client::start("faulty_server", &[("WAYGATE_DRAIN_SECONDS", "1")]);
    client.tool("structured", json!({"n": 1}));
    let places = std::fs::read_dir(client.folder.join("data")).expect("a folder").flatten();
    let nook = places.map(|place| place.path()).find(|path| path.to_string_lossy().contains("beside-"));
    let socket = nook.expect("a place of its own").join("waygate.sock");
    let crash = "POST /diagnostics/actors/db/crash HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let ended = crate::support::eventually("it ends", || {
        // The budget of restarts is used up by and by, and then nobody listens.
        if let Ok(mut stream) = UnixStream::connect(&socket) {
            drop(stream.write_all(crash.as_bytes()));
            drop(stream.read(&mut [0; 64]));
        }
        client.child.try_wait().expect("a child can be waited for")
    });
    assert_eq!(ended.code(), Some(70), "{}", client.stderr());
}
