//! Servers that do not come up.

use serde_json::json;

use super::{House, hostile};

const SOON: &str = "start_timeout_seconds = 2";

#[test]
fn a_server_that_does_not_come_up_says_why_and_holds_up_nobody() {
    let house = House::with(&[
        ("absent", format!("command = \"no-such-program-anywhere\"\n{SOON}\n")),
        ("quits", hostile("quits", SOON)),
        ("mute", hostile("mute", SOON)),
        ("babbles", hostile("babbles", SOON)),
    ]);
    house.neighbour_is_well();
    for (name, why) in [
        ("absent", "no-such-program-anywhere"),
        ("quits", "exit"),
        ("mute", "did not answer"),
        ("babbles", "did not answer"),
    ] {
        house.is_not_ready_because(name, why);
        let refused = house.fails(&format!("{name}__say"), json!({}), 503, &format!("plugin {name:?}"));
        assert!(refused.header("retry-after").is_some(), "{}", refused.text());
    }
    house.neighbour_is_well();
}
