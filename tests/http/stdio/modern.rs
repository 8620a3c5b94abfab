//! Revision 2026-07-28 on one channel: ids tell answers apart, cancelling is a notification, a listen's end is told.
//!
//! MCP 2026-07-28, basic/transports/stdio, basic/patterns/cancellation and basic/patterns/subscriptions.

use serde_json::{Value, json};

use crate::support::stdio::Client;
use crate::support::{Server, eventually};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

fn subscription(message: &Value) -> &Value {
    &message["params"]["_meta"][SUBSCRIPTION]
}

#[test]
fn everything_is_served_and_needs_no_header() {
    let mut client = Client::start("faulty_server", &[]);
    let discovered = client.call("server/discover", json!({}));
    assert!(discovered["result"]["supportedVersions"].to_string().contains("2026-07-28"), "{discovered}");
    assert!(client.call("tools/list", json!({}))["result"]["tools"].is_array());
    assert_eq!(client.tool("structured", json!({"n": 7}))["structuredContent"], json!({"n": 7}));
    // Over HTTP, headers must repeat name and arguments.
    let mirrored = client.tool("mirrored", json!({"city": "Köln", "count": 42}));
    assert!(mirrored.to_string().contains("Köln"), "{mirrored}");
    let read = client.call("resources/read", json!({"uri": "test://grüße"}));
    assert_eq!(read["result"]["contents"][0]["text"], "grüße");
    let unknown = client.call("tools/call", json!({"name": "no_such", "arguments": {}}));
    assert_eq!(unknown["error"]["code"], -32602);
    assert_eq!(client.call("no/such", json!({}))["error"]["code"], -32601);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "1900-01-01"});
    let foreign = client.call("tools/list", json!({"_meta": meta}));
    assert_eq!(foreign["error"]["code"], -32022);
    assert_eq!(client.end(), (Some(0), Vec::new()));
}

#[test]
fn requests_are_answered_as_they_end_and_not_in_their_order() {
    let mut client = Client::start("faulty_server", &[]);
    let hangs = client.ask("tools/call", json!({"name": "hang", "arguments": {}}));
    client.tool("structured", json!({"n": 1}));
    client.notify("notifications/cancelled", json!({"requestId": hangs, "reason": "enough"}));
    assert_eq!(client.end(), (Some(0), Vec::new()));
}

#[test]
fn a_cancelled_call_stops_and_is_not_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::on("faulty_server", folder.path(), &[]);
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    let in_flight = |wanted: f64| {
        eventually("the calls in flight", || {
            (server.metric("waygate_requests_in_flight") == Some(wanted)).then_some(())
        })
    };
    let hangs = client.ask("tools/call", json!({"name": "hang", "arguments": {}}));
    in_flight(1.0);
    client.notify("notifications/cancelled", json!({"requestId": hangs}));
    in_flight(0.0);
    // Late, doubled, malformed and unknown ones do nothing.
    for id in [json!(hangs), json!("no such"), json!(null), json!({})] {
        client.notify("notifications/cancelled", json!({"requestId": id}));
    }
    client.notify("notifications/cancelled", json!({}));
    client.tool("structured", json!({"n": 1}));
    assert_eq!(client.end(), (Some(0), Vec::new()));
}

#[test]
fn an_id_may_not_be_used_twice_at_once_and_may_be_used_again() {
    let mut client = Client::start("faulty_server", &[]);
    let mut hangs = crate::support::message("tools/call", json!({"name": "hang", "arguments": {}}));
    hangs["id"] = json!("one");
    client.send(&hangs);
    client.send(&hangs);
    let refused = client.answer("one");
    assert_eq!(refused["error"]["code"], -32600, "{refused}");
    client.notify("notifications/cancelled", json!({"requestId": "one"}));
    let mut again = crate::support::message("tools/list", json!({}));
    again["id"] = json!("one");
    client.send(&again);
    assert!(client.answer("one")["result"]["tools"].is_array());
}

#[test]
fn progress_and_log_messages_are_lines_before_the_answer() {
    let mut client = Client::start("faulty_server", &[]);
    let meta = json!({"progressToken": "t", "io.modelcontextprotocol/logLevel": "warning"});
    client.call("tools/call", json!({"name": "steps", "arguments": {"n": 3}, "_meta": meta}));
    let progress: Vec<Value> = (0..3).map(|_| client.notice("notifications/progress")).collect();
    let steps: Vec<&Value> = progress.iter().map(|notice| &notice["params"]["progress"]).collect();
    assert_eq!(steps, [&json!(1), &json!(2), &json!(3)]);
    assert!(progress.iter().all(|notice| notice["params"]["progressToken"] == "t"));
    client.call("tools/call", json!({"name": "logs", "arguments": {}, "_meta": meta}));
    assert_eq!(client.notice("notifications/message")["params"]["level"], "warning");
}

#[test]
fn a_tool_that_asks_is_called_again_with_the_answer() {
    let mut client = Client::start("faulty_server", &[]);
    let asks = client.tool("ask", json!({"city": "London"}));
    assert_eq!(asks["resultType"], "input_required", "{asks}");
    let answers = json!({"name": {"action": "accept", "content": {"name": "Ada"}}});
    let params = json!({"name": "ask", "arguments": {"city": "London"}, "inputResponses": answers, "requestState": asks["requestState"]});
    let greeted = client.call("tools/call", params);
    assert!(greeted.to_string().contains("Hello, Ada of London!"), "{greeted}");
}

#[test]
fn listens_share_the_channel_until_each_is_cancelled() {
    let mut client = Client::start("faulty_server", &[]);
    let counter = json!({"notifications": {"resourceSubscriptions": ["test://counter"]}});
    let lists = json!({"notifications": {"toolsListChanged": true}});
    let (first, second) =
        (client.ask("subscriptions/listen", counter), client.ask("subscriptions/listen", lists));
    for id in [first, second] {
        let acknowledged = client.wait_for("acknowledgement", |message| subscription(message) == &json!(id));
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    }
    client.tool("touch", json!({}));
    let updated = client.notice("notifications/resources/updated");
    assert_eq!(subscription(&updated), &json!(first));
    client.tool("touch", json!({"what": "tools"}));
    assert_eq!(subscription(&client.notice("notifications/tools/list_changed")), &json!(second));
    client.notify("notifications/cancelled", json!({"requestId": first}));
    client.tool("touch", json!({}));
    client.tool("touch", json!({"what": "tools"}));
    assert_eq!(subscription(&client.notice("notifications/tools/list_changed")), &json!(second));
    let (code, rest) = client.end();
    assert_eq!(code, Some(0));
    assert!(rest.iter().all(|message| message["method"] != "notifications/resources/updated"), "{rest:?}");
}

#[test]
fn a_listen_that_the_server_ends_gets_its_result_and_the_word_that_stdio_has_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    let mut client = Client::on("faulty_server", folder.path(), &[]);
    let listen = client.ask("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    client.notice("notifications/subscriptions/acknowledged");
    server.signal("-TERM");
    let ended = client.answer(listen);
    assert_eq!(ended["result"]["_meta"][SUBSCRIPTION], listen, "{ended}");
    assert_eq!(client.notice("notifications/cancelled")["params"], json!({"requestId": listen}));
    assert_eq!(server.wait(), Some(0));
}
