//! Closing the connection is how a client of this revision cancels.

use std::path::Path;

use diesel::{QueryableByName, RunQueryDsl as _, sql_query, sql_types};
use serde_json::json;

use crate::support::database::open;
use crate::support::{Http, Server, eventually};

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = sql_types::Text)]
    tool: String,
    #[diesel(sql_type = sql_types::Text)]
    status: String,
}

/// What the history says of all calls, oldest first, as `tool status`.
pub fn history(folder: &Path) -> Vec<String> {
    let rows = sql_query(
        "SELECT COALESCE(tool, '') AS tool, COALESCE(status, '') AS status FROM command_history ORDER BY id",
    );
    // Locked for a moment now and then: whoever asks, asks again.
    let rows: Vec<Row> = rows.load(&mut open(folder)).unwrap_or_default();
    rows.iter().map(|row| format!("{} {}", row.tool, row.status)).collect()
}

fn is_idle(server: &Server) -> bool {
    let (_, plugin) = server.get("/plugins/faulty");
    plugin["running"] == 0 && plugin["queued"] == 0
}

fn running(server: &Server, count: u64) {
    eventually("the calls run", || (server.get("/plugins/faulty").1["running"] == count).then_some(()));
}

#[test]
fn closing_the_connection_cancels_a_call_that_has_said_nothing() {
    let server = Server::start("faulty_server");
    let open = Http::tool("hang", json!({})).open(server.address);
    running(&server, 1);
    drop(open);
    eventually("the call is cancelled", || is_idle(&server).then_some(()));
    eventually("it is in the history", || {
        history(&server.folder).contains(&"hang cancelled".to_owned()).then_some(())
    });
    eventually("it is counted", || (server.metric("waygate_cancelled_total") == Some(1.0)).then_some(()));
    // A client that leaves is nobody's fault.
    assert_eq!(server.get("/diagnostics/errors").1["errors"], json!([]));
    assert_eq!(server.metric("waygate_requests_in_flight"), Some(0.0));
}

#[test]
fn closing_the_connection_cancels_a_call_that_streams() {
    let server = Server::start("faulty_server");
    let params = json!({"name": "steps", "arguments": {"n": 2, "ms": 60_000}, "_meta": {"progressToken": 1}});
    let mut open = Http::modern("tools/call", params).open(server.address);
    assert_eq!(open.event().expect("a first step")["params"]["progress"], 1);
    drop(open);
    eventually("the call is cancelled", || is_idle(&server).then_some(()));
    eventually("it is in the history", || {
        history(&server.folder).contains(&"steps cancelled".to_owned()).then_some(())
    });
    assert_eq!(server.metric("waygate_requests_in_flight"), Some(0.0));
}

#[test]
fn a_call_that_is_cancelled_while_it_waits_gives_its_place_to_another() {
    let server = Server::with(
        "faulty_server",
        &[("WAYGATE_PLUGINS_CONCURRENCY", "1"), ("WAYGATE_PLUGINS_QUEUE_MAX", "1")],
    );
    let first = Http::tool("hang", json!({})).open(server.address);
    running(&server, 1);
    let second = Http::tool("touch", json!({})).open(server.address);
    eventually("the second waits", || (server.get("/plugins/faulty").1["queued"] == 1).then_some(()));
    assert_eq!(Http::tool("repeat", json!({})).send(server.address).status, 503, "the queue is full");
    drop(second);
    eventually("its place is free", || (server.get("/plugins/faulty").1["queued"] == 0).then_some(()));
    drop(first);
    eventually("nothing runs", || is_idle(&server).then_some(()));
    // What was cancelled before it began had no effect.
    let counter = server.call("resources/read", json!({"uri": "test://counter"})).result();
    assert_eq!(counter["contents"][0]["text"], "0");
    eventually("it is in the history", || {
        history(&server.folder).contains(&"touch cancelled".to_owned()).then_some(())
    });
}

#[test]
fn a_cancelled_call_costs_the_others_nothing() {
    let server = Server::start("faulty_server");
    let kept = Http::tool("sleep", json!({"ms": 300})).open(server.address);
    let gone: Vec<_> = (0..50).map(|_| Http::tool("hang", json!({})).open(server.address)).collect();
    running(&server, 51);
    drop(gone);
    assert_eq!(kept.finish().result()["content"][0]["text"], "slept");
    eventually("all are cancelled", || is_idle(&server).then_some(()));
}
