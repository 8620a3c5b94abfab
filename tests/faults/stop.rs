//! Stopping: what runs may finish, what comes is sent away, what was answered is on disk; and the log follows its file.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::ledger;
use crate::load::Load;
use crate::support::{Http, Open, Reply, Server, eventually};

fn begin(server: &Server, name: &str, arguments: Value) -> Open {
    let open = Http::modern("tools/call", json!({"name": name, "arguments": arguments})).open(server.address);
    eventually("the call runs", || (server.get("/plugins/faulty").1["running"] == 1).then_some(()));
    open
}

/// Waits until a new call is sent away, and gives the answer.
fn refusal(server: &Server) -> Reply {
    eventually("the server drains", || {
        let reply = server.call("tools/call", json!({"name": "repeat", "arguments": {}}));
        (reply.status != 200).then_some(reply)
    })
}

fn is_whole(server: &Server) {
    let left: Vec<String> = fs::read_dir(server.folder.join("data"))
        .expect("the folder is there")
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with("-wal") || name.ends_with("-shm"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(ledger::integrity(&server.folder), "ok");
}

#[test]
fn a_clean_stop_warns_of_nothing() {
    let mut server = Server::start("echo");
    server.tool("echo", json!({"message": "hej"}));
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let log = server.log();
    let stop = log.find("stopping: ").expect("it says that it stops");
    let bad: Vec<&str> =
        log[stop..].lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    assert_eq!(bad, [""; 0], "{log}");
}

#[test]
fn a_server_that_was_stopped_for_longer_than_its_parts_may_be_silent_goes_on() {
    let settings = [("WAYGATE_HEALTH_BEAT_SECONDS", "1"), ("WAYGATE_HEALTH_STUCK_SECONDS", "4")];
    let mut server = Server::with("echo", &settings);
    let looked = |server: &Server| server.get("/health").1["checkedAt"].as_str().map(str::to_owned);
    let first = looked(&server);
    eventually("it watches", || (looked(&server) != first).then_some(()));
    server.signal("-STOP");
    // As long as a machine may be suspended, or somebody looks into a process: the watch itself stands still, too.
    std::thread::park_timeout(Duration::from_secs(6));
    server.signal("-CONT");
    for _ in 0..2 {
        let before = looked(&server);
        eventually("it watches again", || (looked(&server) != before).then_some(()));
    }
    assert_eq!(server.tool("echo", json!({"message": "hej"}))["content"][0]["text"], "hej");
    assert!(server.log().contains("stood still"), "{}", server.log());
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0), "{}", server.log());
    assert!(!server.log().contains("not live any more"), "{}", server.log());
}

/// A stop lets the call in flight finish, refuses others meanwhile, ends the streams, and leaves all on disk.
fn an_orderly_stop(signal: &str) {
    let mut server = Server::start("faulty_server");
    let mut stream =
        Http::modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}))
            .open(server.address);
    assert!(stream.event().is_some());
    let running = begin(&server, "sleep", json!({"ms": 1500}));
    server.signal(signal);
    let refused = refusal(&server);
    assert_eq!((refused.status, refused.code()), (503, -31503), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert_eq!(server.get("/ready").0, 503);
    let last = std::iter::from_fn(|| stream.event()).last().expect("the stream ends with its result");
    assert_eq!(last["result"]["resultType"], "complete", "{last}");
    let reply = running.finish();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(server.wait(), Some(0));
    is_whole(&server);
    let rows = ledger::rows(&server.folder);
    assert!(rows.iter().any(|row| row.status.as_deref() == Some("success")), "{rows:?}");
    assert!(server.log().contains("everything is on disk"));
}

#[test]
fn sigterm_lets_calls_finish_and_exits_0() {
    an_orderly_stop("-TERM");
}

#[test]
fn sigint_lets_calls_finish_and_exits_0() {
    an_orderly_stop("-INT");
}

#[test]
fn a_stop_under_load_keeps_all_that_was_answered() {
    for durability in ["batched", "strict"] {
        let settings = [("WAYGATE_HISTORY_ARGUMENTS", "full"), ("WAYGATE_HISTORY_DURABILITY", durability)];
        let mut server = Server::with("echo", &settings);
        let load = Load::begin(server.address, "stop", 6);
        load.wait_for(60);
        server.signal("-TERM");
        assert_eq!(server.wait(), Some(0));
        let tally = load.finish();
        assert!(tally.refused.values().all(|(status, _)| *status == 503), "{:?}", tally.refused);
        let half: Vec<_> = tally.broken.values().filter(|error| error.contains("HTTP/1.1")).collect();
        assert!(half.is_empty(), "answers were cut in the middle: {half:?}");
        is_whole(&server);
        let known = ledger::messages(&server.folder, &["success"]);
        let missing: BTreeSet<_> =
            tally.answered.iter().filter(|message| !known.contains(*message)).collect();
        assert!(missing.is_empty(), "{durability}: answered and not recorded: {missing:?}");
    }
}

#[test]
fn a_call_that_does_not_end_is_cut_off_and_the_exit_code_says_so() {
    let mut server = Server::with("faulty_server", &[("WAYGATE_DRAIN_SECONDS", "1")]);
    let _hanging = begin(&server, "hang", json!({}));
    server.signal("-TERM");
    let code = server.wait();
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert!(server.log().contains("1 requests did not end within 1 s"), "{}", server.log());
    assert_eq!(ledger::integrity(&server.folder), "ok");
}

#[test]
fn a_blocked_thread_does_not_hold_the_process() {
    let settings = [("WAYGATE_DRAIN_SECONDS", "1"), ("WAYGATE_TIMEOUT", "1")];
    let mut server = Server::with("faulty_server", &settings);
    let hanging = begin(&server, "hang_blocking", json!({}));
    assert_eq!(hanging.finish().status, 504);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0), "nobody waits for that call any more");
    is_whole(&server);
}

#[test]
fn a_blocked_worker_does_not_hold_the_process() {
    let mut server = Server::with("faulty_server", &[("WAYGATE_DRAIN_SECONDS", "1")]);
    let hanging =
        Http::modern("tools/call", json!({"name": "flood", "arguments": {"n": 1_000_000_000_000_u64}}))
            .open(server.address);
    eventually("a request waits behind it", || {
        let open = Http::get("/health").open(server.address);
        let wire = open.reader.get_ref();
        wire.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        wire.peek(&mut [0]).is_err().then_some(())
    });
    server.signal("-TERM");
    let code = server.wait();
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    drop(hanging);
}

#[test]
fn a_second_interrupt_ends_it_at_once() {
    let mut server = Server::with("faulty_server", &[("WAYGATE_DRAIN_SECONDS", "3600")]);
    let _hanging = begin(&server, "hang", json!({}));
    server.signal("-INT");
    refusal(&server);
    server.signal("-INT");
    assert_eq!(server.wait(), Some(70));
    assert!(server.log().contains("a second interrupt"), "{}", server.log());
    assert_eq!(ledger::integrity(&server.folder), "ok");
}

#[test]
fn idle_connections_do_not_hold_up_the_stop() {
    let mut server = Server::with("faulty_server", &[("WAYGATE_DRAIN_SECONDS", "3600")]);
    let idle: Vec<Open> = (0..8)
        .map(|_| {
            let mut open = Http::get("/health").open(server.address);
            assert_eq!(open.head().0, 200);
            open
        })
        .collect();
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    is_whole(&server);
    drop(idle);
}

#[test]
fn a_half_sent_request_does_not_hold_up_the_stop() {
    use std::io::Write as _;
    let mut server = Server::with("faulty_server", &[("WAYGATE_DRAIN_SECONDS", "3600")]);
    let request = Http::modern("tools/call", json!({"name": "repeat", "arguments": {}}));
    let bytes = request.bytes(server.address);
    let halves = [20, bytes.len() - 5].map(|cut| {
        let mut stream = std::net::TcpStream::connect(server.address).expect("accepted");
        stream.write_all(&bytes[..cut]).expect("written");
        stream
    });
    eventually("both came", || {
        (server.get("/diagnostics/connection").1["connections"]["open"].as_u64() >= Some(2)).then_some(())
    });
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    drop(halves);
}

/// Makes a line in the log: a failure of ours is logged each time.
fn make_a_line(server: &Server) {
    assert_eq!(server.call("tools/call", json!({"name": "panic", "arguments": {}})).status, 500);
}

#[test]
fn sigusr1_opens_the_log_anew_after_it_was_moved() {
    let server = Server::start("faulty_server");
    let (log, moved) = (server.folder.join("logs/waygate.log"), server.folder.join("logs/waygate.log.1"));
    make_a_line(&server);
    eventually("the line is written", || server.log().contains("panicked").then_some(()));
    fs::rename(&log, &moved).expect("a log can be moved");
    server.signal("-USR1");
    // A line that comes before the signal is taken goes to the old one, as it may.
    eventually("a new file is there", || log.exists().then_some(()));
    make_a_line(&server);
    eventually("lines go to a new file", || server.log().contains("panicked").then_some(()));
    assert!(fs::read_to_string(&moved).expect("the old log").contains("serving"));
    make_a_line(&server);
    assert_eq!(server.get("/ready").0, 200, "the signal does nothing else");
}

#[test]
fn a_log_that_was_moved_and_touched_is_found_without_a_signal() {
    let server = Server::start("faulty_server");
    let log = server.folder.join("logs/waygate.log");
    fs::rename(&log, server.folder.join("logs/old")).expect("a log can be moved");
    fs::write(&log, "").expect("touched");
    eventually("lines go to the new file", || {
        make_a_line(&server);
        server.log().contains("panicked").then_some(())
    });
}
