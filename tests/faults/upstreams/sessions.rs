//! Whose a session with a server is: two clients never share one, unless the operator said so.

use serde_json::json;

use super::scripted::Scripted;
use super::{House, hostile, remote};
use crate::legacy::Session;
use crate::support::eventually;

#[test]
fn two_clients_never_share_a_session_of_single_clients() {
    let server = Scripted::new(&["say"], |_| None);
    let house = House::with(&[("private", remote(&server.url(), "isolation = \"per_client\""))]);
    house.is_ready("private");
    let (one, other) = (Session::newest(&house.server), Session::newest(&house.server));
    let says = |session: &Session| {
        let reply = session.tool("private__say", json!({}));
        reply.result()["content"][0]["text"].as_str().expect("a text").to_owned()
    };
    let (first, second) = (says(&one), says(&other));
    assert_ne!(first, second);
    for _ in 0..3 {
        assert_eq!((says(&one), says(&other)), (first.clone(), second.clone()), "each keeps its own");
    }
    house.neighbour_is_well();
}

#[test]
fn a_session_that_clients_share_unsaid_is_warned_of() {
    let house = House::with(&[("said", hostile("good", "isolation = \"shared\""))]);
    house.is_ready("said");
    for session in [Session::newest(&house.server), Session::newest(&house.server)] {
        for tool in ["said__say", "neighbour__say"] {
            assert_eq!(session.tool(tool, json!({})).status, 200);
        }
    }
    eventually("a hint", || {
        house.plugin("neighbour")["report"].to_string().contains("per_client").then_some(())
    });
    assert!(!house.plugin("said")["report"].to_string().contains("mix up"), "it was said");
    house.neighbour_is_well();
}

#[test]
fn a_server_hears_at_once_that_a_client_refuses_what_it_asked_or_leaves_it_alone() {
    let house = House::with(&[("asks", hostile("good", "isolation = \"per_client\""))]);
    house.is_ready("asks");
    let session = Session::newest(&house.server);
    let mut call = session.begin("asks__ask", json!({"method": "sampling/createMessage"}));
    let ask = call.ask("sampling/createMessage");
    let error = json!({"code": -1, "message": "not today"});
    assert_eq!(session.post(&json!({"jsonrpc": "2.0", "id": ask["id"], "error": error})).status, 202);
    let said = call.rest().pop().expect("an end").to_string();
    assert!(said.contains("not today") && said.contains("-1") && said.contains("content"), "{said}");

    let mut call = session.begin_as("x", "asks__ask", json!({"method": "roots/list"}), json!({}));
    call.ask("roots/list");
    let parked = || house.plugin("asks")["report"]["speaker"]["parked"].clone();
    assert_eq!(parked(), 1);
    assert_eq!(session.notify("notifications/cancelled", json!({"requestId": "x"})).status, 202);
    eventually("nothing is parked", || (parked() == 0).then_some(()));
    house.neighbour_is_well();
}
