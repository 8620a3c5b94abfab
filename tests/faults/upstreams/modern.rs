//! Servers of 2026-07-28 on HTTP that answer wrongly, too much, or not to the end: each costs its own call.

use serde_json::json;

use super::scripted::{Answer, Asked, EVENTS, Scripted, http, text};
use super::{House, remote};

const MAX_BYTES: usize = 100_000;
const JSON: &str = "Content-Type: application/json\r\n";
/// Where only Waygate may be able to go.
const INSIDE: &str = "Location: http://10.0.0.1/secrets\r\n";

/// What each tool of the server meets, by its name.
fn misbehave(asked: &Asked, away: &str) -> Option<Answer> {
    let id = &asked.body["id"];
    let said = |body: &str| http("200 OK", JSON, body);
    let endless = |kind: &str, begin: &str| {
        Answer::Endless(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n{begin}"
        ))
    };
    let whole = match asked.tool() {
        "garbage" => said("{\"jsonrpc\":\"2.0\",{{{"),
        "empty" => said(""),
        "no_result" => said(&json!({"jsonrpc": "2.0", "id": id}).to_string()),
        "nonsense" => {
            said(&json!({"jsonrpc": "2.0", "id": id, "result": {"resultType": "perhaps"}}).to_string())
        }
        "wrong_id" => said(&json!({"jsonrpc": "2.0", "id": 999_999, "result": {"content": []}}).to_string()),
        "html" => http("200 OK", "Content-Type: text/html\r\n", "<html>"),
        "401" => http("401 Unauthorized", "WWW-Authenticate: Bearer\r\n", "who are you?"),
        "403" => http("403 Forbidden", "", ""),
        "404" => http("404 Not Found", "", ""),
        "429" => http("429 Too Many Requests", "Retry-After: 7\r\n", ""),
        "500" => http("500 Internal Server Error", "", "the disk is full"),
        "503" => http("503 Service Unavailable", "Retry-After: 7\r\n", ""),
        "elsewhere" => http("307 Temporary Redirect", &format!("Location: {away}\r\n"), ""),
        "inside" => http("308 Permanent Redirect", INSIDE, ""),
        "half" => format!("{EVENTS}data: {{\"jsonrpc\":\"2.0\",\"id"),
        "silent_end" => format!("{EVENTS}: nothing comes\n\n"),
        "short" => format!("HTTP/1.1 200 OK\r\n{JSON}Content-Length: 500\r\n\r\n{{\"jsonrpc\""),
        "reset" => {
            let begun = format!("HTTP/1.1 200 OK\r\n{JSON}Content-Length: 500\r\n\r\n{{\"jsonrpc\"");
            return Some(Answer::Reset(begun));
        }
        "endless" => return Some(endless("application/json", "{\"jsonrpc\":\"2.0\",\"id\":\"")),
        "endless_event" => return Some(endless("text/event-stream", "data: {\"jsonrpc\":\"")),
        "announced" => {
            let head = format!("HTTP/1.1 200 OK\r\n{JSON}Content-Length: 1000000000\r\n\r\n");
            return Some(Answer::Endless(head));
        }
        _ => return None,
    };
    Some(Answer::Whole(whole))
}

#[test]
fn what_is_no_answer_of_2026_07_28_fails_its_own_call_and_says_what_it_was() {
    let tools = &[
        "garbage",
        "empty",
        "no_result",
        "nonsense",
        "wrong_id",
        "html",
        "401",
        "403",
        "404",
        "429",
        "500",
        "503",
        "elsewhere",
        "inside",
        "half",
        "silent_end",
        "short",
        "reset",
        "endless",
        "endless_event",
        "announced",
        "say",
    ];
    let other = Scripted::new(&[], |asked| Some(text(asked, "from elsewhere")));
    let away = other.url();
    let server = Scripted::modern(tools, move |asked| misbehave(asked, &away));
    let more = format!("response_max_bytes = {MAX_BYTES}\nbreaker = {{ failures = 1000 }}");
    let house = House::with(&[("bad", remote(&server.url(), &more))]);
    house.is_ready("bad");
    assert_eq!(house.plugin("bad")["report"]["revision"], "2026-07-28");
    for (tool, status, says) in [
        ("garbage", 500, "no message of the protocol"),
        ("empty", 500, "no message of the protocol"),
        ("no_result", 500, "no message of the protocol"),
        ("nonsense", 500, "nonsense"),
        ("wrong_id", 500, "no message of the protocol"),
        ("html", 500, "no message of the protocol"),
        ("401", 500, "credentials"),
        ("403", 500, "credentials"),
        ("404", 500, "404"),
        ("429", 503, "after 7 s"),
        ("500", 500, "the disk is full"),
        ("503", 503, "after 7 s"),
        ("elsewhere", 500, "a loopback address"),
        ("inside", 500, "a private address"),
        ("half", 500, "broke in the middle"),
        ("silent_end", 500, "broke in the middle"),
        ("short", 500, "broke in the middle"),
        ("reset", 500, "broke in the middle"),
        ("endless", 500, "response_max_bytes"),
        ("endless_event", 500, "response_max_bytes"),
        ("announced", 500, "response_max_bytes"),
    ] {
        house.fails(&format!("bad__{tool}"), json!({}), status, says);
        assert_eq!(house.says("bad__say", json!({})), "well", "after {tool} the server is asked as before");
    }
    assert_eq!(other.count("POST"), 0, "nobody goes where a server sends them");
    house.neighbour_is_well();
    let shown = house.plugin("bad");
    assert_eq!(
        (&shown["state"], &shown["restarts"], &shown["running"]),
        (&json!("ready"), &json!(0), &json!(0))
    );
}

#[test]
fn a_call_that_may_have_had_an_effect_is_never_sent_again() {
    let server = Scripted::modern(&["reset", "half", "say"], |asked| misbehave(asked, ""));
    let house = House::with(&[("bad", remote(&server.url(), "breaker = { failures = 1000 }"))]);
    house.is_ready("bad");
    for tool in ["reset", "half"] {
        house.fails(&format!("bad__{tool}"), json!({}), 500, "not known");
        assert_eq!(server.count(&format!("tools/call {tool}")), 1, "{tool}");
    }
    house.neighbour_is_well();
}

#[test]
fn a_server_that_refuses_everything_from_the_start_is_not_ready_and_says_why() {
    let refuses = |status: &'static str, more: &'static str| {
        Scripted::modern(&[], move |_| Some(Answer::Whole(http(status, more, ""))))
    };
    let (full, broken) = (refuses("503 Service Unavailable", "Retry-After: 7\r\n"), refuses("500 Oh", ""));
    let endless =
        Scripted::modern(&[], |_| Some(Answer::Endless(format!("HTTP/1.1 200 OK\r\n{JSON}\r\n{{"))));
    let more = format!("response_max_bytes = {MAX_BYTES}");
    let house = House::with(&[
        ("full", remote(&full.url(), &more)),
        ("broken", remote(&broken.url(), &more)),
        ("endless", remote(&endless.url(), &more)),
    ]);
    house.is_not_ready_because("full", "503");
    house.is_not_ready_because("broken", "500");
    house.is_not_ready_because("endless", &MAX_BYTES.to_string());
    house.fails("full__say", json!({}), 503, "full");
    house.neighbour_is_well();
}
