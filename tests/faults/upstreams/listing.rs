//! Servers whose lists are not what lists should be.

use std::net::TcpListener;

use serde_json::json;

use super::{House, hostile, hostile_with};
use crate::support::eventually;

#[test]
fn a_list_without_end_is_cut_and_the_rest_of_it_serves() {
    let house = House::with(&[("endless", hostile("endless", "")), ("circle", hostile("same_cursor", ""))]);
    for (name, least) in [("endless", 50), ("circle", 1)] {
        house.is_ready(name);
        assert!(house.names_of(name).len() >= least, "{name}");
        let troubles = house.plugin(name)["report"]["speaker"]["lists"]["troubles"].to_string();
        assert!(troubles.contains("without end"), "{name}: {troubles}");
        assert_eq!(house.says(&format!("{name}__say"), json!({})), "said");
    }
    house.neighbour_is_well();
}

#[test]
fn a_schema_that_refers_to_elsewhere_is_never_fetched() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let url = format!("http://{}/schema.json", listener.local_addr().expect("an address"));
    let house = House::with(&[("remote", hostile_with("remote_ref", &url, ""))]);
    let shown = eventually("it is looked at", || {
        Some(house.plugin("remote")).filter(|shown| shown["state"] == "degraded")
    });
    let refused = shown["refused"].to_string();
    assert!(refused.contains("nothing is ever fetched") && refused.contains("schema.json"), "{refused}");
    house.fails("remote__say", json!({"text": "unread"}), 400, "remote__say");
    assert!(house.says("remote__pid", json!({})).parse::<u32>().is_ok(), "its other tools serve");
    let met = listener.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(met, Err(std::io::ErrorKind::WouldBlock), "somebody came for the schema");
    house.neighbour_is_well();
}

#[test]
fn a_tool_of_any_name_is_listed_under_one_that_fits_and_can_be_called() {
    let house = House::with(&[("odd", hostile("odd_names", ""))]);
    house.is_ready("odd");
    let names = house.names_of("odd");
    let mut own = Vec::new();
    for name in &names {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
        assert!(name.len() <= 64 && name.chars().all(fits), "{name}");
        own.push(house.says(name, json!({})));
    }
    own.sort();
    let mut wanted = vec!["a/b/c".to_owned(), "grüße".to_owned(), "say".to_owned(), "x".repeat(300)];
    wanted.sort();
    assert_eq!(own, wanted, "each name leads to its own tool");
    house.neighbour_is_well();
}

#[test]
fn of_two_tools_of_one_name_the_first_serves_and_the_other_is_told_of() {
    let house = House::with(&[("double", hostile("two_of_one", ""))]);
    house.is_ready("double");
    assert_eq!(house.names_of("double").len(), 2);
    assert_eq!(house.says("double__say", json!({})), "said");
    let lists = house.plugin("double")["report"]["speaker"]["lists"].clone();
    assert_eq!(lists["dropped"], 1, "{lists}");
    assert!(lists["droppedFirst"].to_string().contains("twice"), "{lists}");
    house.neighbour_is_well();
}

#[test]
fn a_server_that_says_for_ever_that_its_list_changed_is_asked_now_and_then() {
    let house = House::with(&[("restless", hostile("changes_for_ever", ""))]);
    house.is_ready("restless");
    for _ in 0..50 {
        assert_eq!(house.says("restless__say", json!({})), "said");
        house.neighbour_is_well();
    }
    let shown = house.plugin("restless");
    assert_eq!((&shown["state"], &shown["restarts"]), (&json!("ready"), &json!(0)), "{shown}");
}
