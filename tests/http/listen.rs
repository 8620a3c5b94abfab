//! Listen streams: what was agreed to and nothing else, each by itself, until somebody closes.

use serde_json::{Value, json};

use crate::support::{Http, Open, Server, eventually};

const ID: &str = "io.modelcontextprotocol/subscriptionId";
const COUNTER: &str = "test://counter";

fn request(notifications: Value) -> Http {
    Http::modern("subscriptions/listen", json!({"notifications": notifications}))
}

/// Under another id.
fn under(id: &Value, notifications: Value) -> Http {
    let mut request = request(notifications);
    let mut body: Value = serde_json::from_slice(&request.body).expect("JSON");
    body["id"] = id.clone();
    request.body = body.to_string().into_bytes();
    request
}

/// Opens a stream and reads what was agreed to.
#[track_caller]
fn listen(server: &Server, notifications: Value) -> (Open, Value) {
    let mut open = request(notifications).open(server.address);
    let first = open.event().expect("an acknowledgement");
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
    assert!(first.get("id").is_none(), "{first}");
    assert_eq!(first["params"]["_meta"][ID], 1, "{first}");
    (open, first["params"]["notifications"].clone())
}

fn touch(server: &Server, what: &str) {
    server.tool("touch", json!({"what": what}));
}

fn open_streams(server: &Server) -> Value {
    server.get("/diagnostics/connection").1["streams"]["open"].clone()
}

#[test]
fn the_first_word_is_what_was_agreed_to() {
    let server = Server::start("faulty_server");
    for (wanted, agreed) in [
        (json!({}), json!({})),
        (json!({"toolsListChanged": true}), json!({"toolsListChanged": true})),
        (json!({"toolsListChanged": false, "promptsListChanged": true}), json!({"promptsListChanged": true})),
        (json!({"resourcesListChanged": true, "unheardOf": true}), json!({"resourcesListChanged": true})),
        (json!({"resourceSubscriptions": []}), json!({})),
        (
            json!({"resourceSubscriptions": [COUNTER, "test://no_such", "test://asks", COUNTER]}),
            json!({"resourceSubscriptions": [COUNTER]}),
        ),
    ] {
        let (mut open, said) = listen(&server, wanted.clone());
        assert_eq!(said, agreed, "{wanted}");
        let (status, headers) = open.head();
        let find =
            |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!((status, find("content-type")), (200, Some("text/event-stream")));
        assert_eq!((find("x-accel-buffering"), find("cache-control")), (Some("no"), Some("no-cache")));
    }
}

#[test]
fn the_subscription_carries_the_id_of_its_request_in_its_own_type() {
    let server = Server::start("faulty_server");
    for id in [json!(7), json!("7"), json!(""), json!(-1), json!(9_007_199_254_740_991_i64), json!("grüße")]
    {
        let mut open = under(&id, json!({"resourceSubscriptions": [COUNTER]})).open(server.address);
        assert_eq!(open.event().expect("an acknowledgement")["params"]["_meta"][ID], id);
        touch(&server, "counter");
        assert_eq!(open.event().expect("an update")["params"]["_meta"][ID], id);
    }
}

#[test]
fn a_watched_resource_is_told_of_and_another_is_not() {
    let server = Server::start("faulty_server");
    let (mut watcher, _) = listen(&server, json!({"resourceSubscriptions": [COUNTER]}));
    let (mut other, _) = listen(&server, json!({"toolsListChanged": true}));
    touch(&server, "counter");
    let update = watcher.event().expect("an update");
    assert_eq!(update["method"], "notifications/resources/updated");
    assert_eq!(update["params"]["uri"], COUNTER);
    // The other stream's next word is about the tools, though the counter changed before.
    touch(&server, "tools");
    assert_eq!(other.event().expect("news")["method"], "notifications/tools/list_changed");
}

#[test]
fn each_stream_hears_its_own_kinds_and_they_are_independent() {
    let server = Server::start("faulty_server");
    let (mut prompts, _) = listen(&server, json!({"promptsListChanged": true}));
    let (mut both, _) = listen(&server, json!({"promptsListChanged": true, "resourcesListChanged": true}));
    touch(&server, "resources");
    assert_eq!(both.event().expect("news")["method"], "notifications/resources/list_changed");
    drop(both);
    eventually("one stream is gone", || (open_streams(&server) == 1).then_some(()));
    touch(&server, "prompts");
    assert_eq!(prompts.event().expect("news")["method"], "notifications/prompts/list_changed");
}

#[test]
fn news_that_nobody_read_in_time_are_told_once() {
    let server = Server::start("faulty_server");
    let (mut open, _) =
        listen(&server, json!({"resourceSubscriptions": [COUNTER], "toolsListChanged": true}));
    for _ in 0..200 {
        touch(&server, "counter");
    }
    touch(&server, "tools");
    let mut updates = 0;
    while open.event().expect("news")["method"] == "notifications/resources/updated" {
        updates += 1;
    }
    assert!((1..=200).contains(&updates), "{updates}");
}

#[test]
fn a_stream_never_carries_progress_or_log() {
    let server = Server::start("faulty_server");
    let mut params = json!({"notifications": {"toolsListChanged": true}, "_meta": {"progressToken": 1}});
    params["_meta"]["io.modelcontextprotocol/logLevel"] = json!("debug");
    let mut open = Http::modern("subscriptions/listen", params).open(server.address);
    open.event().expect("an acknowledgement");
    server.tool("logs", json!({}));
    touch(&server, "tools");
    assert_eq!(open.event().expect("news")["method"], "notifications/tools/list_changed");
}

#[test]
fn a_closed_stream_is_forgotten() {
    let server = Server::start("faulty_server");
    let open: Vec<_> =
        (0..10).map(|_| listen(&server, json!({"resourceSubscriptions": [COUNTER]})).0).collect();
    assert_eq!(open_streams(&server), 10);
    assert_eq!(server.metric("waygate_streams"), Some(10.0));
    drop(open);
    eventually("all streams are gone", || (open_streams(&server) == 0).then_some(()));
    eventually("their actors are gone", || {
        let (_, actors) = server.get("/diagnostics/actors");
        let left = actors["actors"].as_array()?.iter().filter(|actor| actor["kind"] == "session").count();
        (left == 0).then_some(())
    });
    // What is changed now is told to nobody, and harms nobody.
    touch(&server, "counter");
    let (mut again, _) = listen(&server, json!({"resourceSubscriptions": [COUNTER]}));
    touch(&server, "counter");
    assert_eq!(again.event().expect("an update")["params"]["uri"], COUNTER);
}

#[test]
fn more_streams_than_allowed_are_refused_until_one_closes() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_STREAMS_MAX", "2")]);
    let wanted = json!({"resourceSubscriptions": [COUNTER]});
    let (first, _) = listen(&server, wanted.clone());
    let (_second, _) = listen(&server, wanted.clone());
    let reply = request(wanted.clone()).send(server.address);
    assert_eq!((reply.status, reply.code()), (503, -31503), "{}", reply.text());
    assert_eq!(reply.header("retry-after"), Some("1"));
    drop(first);
    eventually("a place is free", || (open_streams(&server) == 1).then_some(()));
    let (mut third, _) = listen(&server, wanted);
    touch(&server, "counter");
    third.event().expect("an update");
}

#[test]
fn one_stream_watches_so_many_resources_and_no_more() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_SUBSCRIPTIONS_MAX", "2")]);
    listen(&server, json!({"resourceSubscriptions": [COUNTER, "test://asks"]}));
    let reply = request(json!({"resourceSubscriptions": [COUNTER, "a:1", "a:2"]})).send(server.address);
    assert_eq!((reply.status, reply.code()), (400, -32602), "{}", reply.text());
    assert!(reply.text().contains("mcp.subscriptions_max"));
}

#[test]
fn a_filter_of_the_wrong_shape_is_refused() {
    let server = Server::shared();
    for wanted in [
        json!(null),
        json!(7),
        json!("tools"),
        json!({"toolsListChanged": "yes"}),
        json!({"resourceSubscriptions": "test://counter"}),
        json!({"resourceSubscriptions": [7]}),
        json!({"resourceSubscriptions": {}}),
    ] {
        let reply = request(wanted.clone()).send(server.address);
        assert_eq!((reply.status, reply.code()), (400, -32602), "{wanted}: {}", reply.text());
    }
    let none = Http::modern("subscriptions/listen", json!({})).send(server.address);
    assert_eq!((none.status, none.code()), (400, -32602));
}

#[test]
fn a_client_that_takes_no_events_cannot_listen() {
    let server = Server::shared();
    let reply =
        request(json!({"toolsListChanged": true})).set("Accept", "application/json").send(server.address);
    assert_eq!((reply.status, reply.code()), (406, -31406));
    assert_eq!(reply.json()["id"], 1);
}

#[test]
fn a_server_that_stops_ends_its_streams_with_their_results() {
    let mut server = Server::start("faulty_server");
    let streams: Vec<_> = [json!(1), json!("two")]
        .into_iter()
        .map(|id| {
            let mut open = under(&id, json!({"toolsListChanged": true})).open(server.address);
            open.event().expect("an acknowledgement");
            (id, open)
        })
        .collect();
    server.signal("-TERM");
    for (id, mut open) in streams {
        let last = open.event().expect("a result");
        assert_eq!((&last["id"], &last["result"]["resultType"]), (&id, &json!("complete")), "{last}");
        assert_eq!(last["result"]["_meta"][ID], id);
        assert!(last["result"]["_meta"]["io.modelcontextprotocol/serverInfo"].is_object());
        assert_eq!(open.event(), None, "nothing comes after the result");
    }
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn an_idle_stream_gets_signs_of_life() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_STREAM_KEEP_ALIVE_SECONDS", "1")]);
    let (mut open, _) = listen(&server, json!({"toolsListChanged": true}));
    let comment =
        std::io::BufRead::lines(&mut open.reader).map_while(Result::ok).find(|line| line.starts_with(':'));
    assert!(comment.is_some());
    touch(&server, "tools");
    assert_eq!(open.event().expect("news")["method"], "notifications/tools/list_changed");
}
