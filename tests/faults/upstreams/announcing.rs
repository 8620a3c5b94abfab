//! Clients of both eras that listen while plugins come, change and go: each of them hears of each list that is another one.

use serde_json::{Value, json};

use super::{House, hostile};
use crate::legacy::{Session, Stream};
use crate::support::{Http, Open};

/// A modern client that waits at a path for what it may hear of.
fn listen(house: &House, path: &str, wanted: Value) -> Open {
    let mut request = Http::modern("subscriptions/listen", json!({"notifications": wanted}));
    request.head = format!("POST {path}");
    let mut open = request.open(house.server.address);
    let first = open.event().expect("an acknowledgement");
    assert_eq!(first["params"]["notifications"], wanted, "{first}");
    open
}

/// All who listen at one moment: they hear of nothing that was before.
struct Listeners {
    modern: Vec<(&'static str, Open)>,
    legacy: Stream,
    _session: Session,
}

impl Listeners {
    fn at(house: &House, paths: &[&'static str]) -> Self {
        let session = Session::newest(&house.server);
        let modern = paths
            .iter()
            .map(|path| (*path, listen(house, path, json!({"toolsListChanged": true}))))
            .collect();
        Self { modern, legacy: session.stream(), _session: session }
    }

    #[track_caller]
    fn hear(mut self, what: &str) {
        let is_news = |said: &Value| said["method"] == "notifications/tools/list_changed";
        for (path, open) in &mut self.modern {
            let said = open.event().expect("news before the end");
            assert!(is_news(&said), "{what}, at {path}: {said}");
        }
        let said = self.legacy.next();
        assert!(is_news(&said), "{what}: {said}");
    }
}

#[test]
fn clients_of_both_eras_hear_of_each_plugin_that_a_reload_adds_changes_or_removes() {
    let house = House::with(&[]);
    let names = || house.names_of("coming");

    let listeners = Listeners::at(&house, &["/mcp"]);
    house.describe("coming", &hostile("good", ""));
    house.reload();
    listeners.hear("one was added");
    assert!(names().contains(&"coming__say".to_owned()));

    let listeners = Listeners::at(&house, &["/mcp", "/mcp/coming"]);
    house.describe("coming", &hostile("good", "deny = [\"say\"]"));
    house.reload();
    listeners.hear("one has a tool less");
    assert!(!names().contains(&"coming__say".to_owned()) && names().contains(&"coming__pid".to_owned()));

    let listeners = Listeners::at(&house, &["/mcp"]);
    house.remove("coming");
    house.reload();
    listeners.hear("one is gone");
    assert_eq!(names(), Vec::<String>::new());
    house.neighbour_is_well();
}

#[test]
fn at_the_path_of_a_plugin_nobody_hears_of_a_reload_of_another() {
    let house = House::with(&[("changing", hostile("good", "")), ("watched", hostile("watched", ""))]);
    house.is_ready("changing");
    house.is_ready("watched");
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["note://1"]});
    let mut beside = listen(&house, "/mcp/watched", wanted);
    let listeners = Listeners::at(&house, &["/mcp/changing"]);
    house.describe("changing", &hostile("good", "deny = [\"say\"]"));
    house.reload();
    listeners.hear("one has a tool less");
    assert_eq!(house.says("watched__touch", json!({"uri": "note://1"})), "[\"note://1\"]");
    let said = beside.event().expect("news before the end");
    assert_eq!(said["method"], "notifications/resources/updated", "the first word is of its own: {said}");
    house.neighbour_is_well();
}
