//! How it ends: with stdin, when it is told to, or when nobody reads; what is in flight gets its time, and no more.

use std::process::Stdio;

use serde_json::json;

use crate::support::stdio::Client;
use crate::support::{eventually, message};

#[test]
fn what_is_in_flight_when_stdin_ends_is_answered_first() {
    let mut client = Client::start("faulty_server", &[]);
    let id = client.ask("tools/call", json!({"name": "sleep", "arguments": {"ms": 300}}));
    let (code, rest) = client.end();
    assert_eq!(code, Some(0));
    assert!(rest.len() == 1 && rest[0]["id"] == id && rest[0]["result"].is_object(), "{rest:?}");
    let left: Vec<_> = std::fs::read_dir(client.folder.join("data")).expect("a folder").flatten().collect();
    let left: Vec<_> = left.iter().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("beside-")), "{left:?}");
}

#[test]
fn a_signal_that_the_log_file_was_moved_ends_nothing() {
    let mut client = Client::start("faulty_server", &[]);
    client.tool("touch", json!({}));
    let (log, moved) = (client.folder.join("logs/waygate.log"), client.folder.join("logs/moved.log"));
    std::fs::rename(&log, &moved).expect("there is a log");
    client.signal("-USR1");
    eventually("the log is opened anew", || {
        client.tool("touch", json!({}));
        client.call("no/such", json!({}));
        log.exists().then_some(())
    });
    assert_eq!(client.end(), (Some(0), Vec::new()));
}

#[test]
fn the_last_line_counts_without_its_end() {
    let mut client = Client::start("faulty_server", &[]);
    client.write(message("tools/list", json!({})).to_string().as_bytes());
    let (code, rest) = client.end();
    assert_eq!(code, Some(0));
    assert!(rest.len() == 1 && rest[0]["result"]["tools"].is_array(), "{rest:?}");
}

#[test]
fn what_takes_too_long_after_the_end_is_told_so() {
    let mut client = Client::start("faulty_server", &[("WAYGATE_DRAIN_SECONDS", "1")]);
    let id = client.ask("tools/call", json!({"name": "hang", "arguments": {}}));
    let (code, rest) = client.end();
    assert_eq!(code, Some(0));
    assert!(rest.len() == 1 && rest[0]["id"] == id && rest[0]["error"]["code"] == -31503, "{rest:?}");
}

#[test]
fn a_call_of_a_session_that_takes_too_long_after_the_end_is_told_so() {
    let mut client = Client::start("faulty_server", &[("WAYGATE_DRAIN_SECONDS", "1")]);
    client.initialize("2025-11-25");
    let id = client.ask_in_session("tools/call", json!({"name": "hang", "arguments": {}}));
    let (code, rest) = client.end();
    assert_eq!(code, Some(0));
    assert!(rest.len() == 1 && rest[0]["id"] == id && rest[0]["error"]["code"] == -31503, "{rest:?}");
}

#[test]
fn listens_end_at_once_and_are_told_so() {
    let mut client = Client::start("faulty_server", &[]);
    let id = client.ask("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    client.notice("notifications/subscriptions/acknowledged");
    let (code, rest) = client.end();
    assert_eq!(code, Some(0));
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert_eq!((&rest[0]["id"], &rest[0]["result"]["resultType"]), (&json!(id), &json!("complete")));
    assert_eq!(rest[1]["method"], "notifications/cancelled");
    assert_eq!(rest[1]["params"]["requestId"], id);
}

#[test]
fn a_signal_ends_it_as_the_end_of_stdin_does() {
    for signal in ["-TERM", "-INT"] {
        let mut client = Client::start("faulty_server", &[]);
        let meta = json!({"progressToken": 1});
        let steps = json!({"name": "steps", "arguments": {"n": 2, "ms": 200}, "_meta": meta});
        let id = client.ask("tools/call", steps);
        client.notice("notifications/progress");
        client.signal(signal);
        let (code, rest) = client.ended();
        assert_eq!(code, Some(0));
        assert!(rest.iter().any(|message| message["id"] == id && message["result"].is_object()), "{rest:?}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut client = Client::start("faulty_server", &[("WAYGATE_DRAIN_SECONDS", "600")]);
    client.ask("tools/call", json!({"name": "hang", "arguments": {}}));
    client.tool("structured", json!({"n": 1}));
    client.signal("-TERM");
    eventually("it ends", || {
        client.signal("-TERM");
        client.child.try_wait().expect("a child can be waited for")
    });
}

#[test]
fn it_ends_when_nobody_reads_what_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Client::command("faulty_server", folder.path(), &[]);
    let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().expect("piped");
    let request = format!("{}\n", message("tools/list", json!({})));
    // Writing may fail as soon as it is gone.
    drop(std::io::Write::write_all(&mut stdin, request.as_bytes()));
    let status = eventually("it ends", || child.try_wait().expect("a child can be waited for"));
    assert_eq!(status.code(), Some(0));
}
