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
