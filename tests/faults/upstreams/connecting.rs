//! Servers on HTTP that refuse, redirect, break off, and forget.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::scripted::{Asked, EVENTS, Scripted, http, text};
use super::{House, remote};
use crate::legacy::{NEWEST, Session, everything};
use crate::support::{Http, eventually};

#[test]
fn a_status_that_is_no_answer_is_told_for_what_it_is() {
    let tools = &["401", "403", "429", "500", "503", "half", "html", "elsewhere", "say"];
    let other = Scripted::new(&[], |asked| Some(text(asked, "from elsewhere")));
    let away = other.url();
    let server = Scripted::new(tools, move |asked| {
        match asked.tool() {
        "401" => Some(http("401 Unauthorized", "", "who are you?")),
        "403" => Some(http("403 Forbidden", "", "")),
        "429" => Some(http("429 Too Many Requests", "Retry-After: 7\r\n", "")),
        "500" => Some(http("500 Internal Server Error", "", "the disk is full")),
        "503" => Some(http("503 Service Unavailable", "Retry-After: 7\r\n", "")),
        "html" => Some(http("200 OK", "Content-Type: text/html\r\n", "<html>")),
        "half" => Some("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: {\"jsonrpc\":\"2.0\",\"id".to_owned()),
        "elsewhere" => Some(http("307 Temporary Redirect", &format!("Location: {away}\r\n"), "")),
        _ => None,
    }
    });
    let more = "breaker = { failures = 1000 }";
    let house = House::with(&[("bad", remote(&server.url(), more))]);
    house.is_ready("bad");
    for (tool, status, says) in [
        ("401", 500, "credentials"),
        ("403", 500, "credentials"),
        ("429", 503, "after 7 s"),
        ("500", 500, "the disk is full"),
        ("503", 503, "after 7 s"),
        ("html", 500, "no message of the protocol"),
        ("half", 500, "broke in the middle"),
        ("elsewhere", 500, "it is not followed"),
    ] {
        house.fails(&format!("bad__{tool}"), json!({}), status, says);
        house.neighbour_is_well();
    }
    assert_eq!(other.count("POST"), 0, "nobody goes where a server of another origin sends them");
    assert!(house.says("bad__say", json!({})).starts_with("session-"));
}

#[test]
fn a_redirect_within_the_origin_is_followed() {
    let hops = AtomicUsize::new(0);
    let server = Scripted::new(&["moved"], move |asked| {
        let first = asked.tool() == "moved" && hops.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| http("307 Temporary Redirect", "Location: /mcp/there\r\n", ""))
    });
    let house = House::with(&[("moving", remote(&server.url(), ""))]);
    house.is_ready("moving");
    assert!(house.says("moving__moved", json!({})).starts_with("session-"));
    house.neighbour_is_well();
}

#[test]
fn a_session_that_is_lost_is_made_again_and_the_call_with_it() {
    let lost = AtomicUsize::new(0);
    let server = Scripted::new(&["say"], move |asked| {
        let loses = asked.tool() == "say" && lost.fetch_add(1, Ordering::Relaxed) == 1;
        loses.then(|| http("404 Not Found", "", ""))
    });
    let house = House::with(&[("forgetful", remote(&server.url(), ""))]);
    house.is_ready("forgetful");
    let first = house.says("forgetful__say", json!({}));
    let second = house.says("forgetful__say", json!({}));
    assert_ne!(first, second, "the server knew the first session no more");
    house.neighbour_is_well();
}

#[test]
fn a_call_whose_session_is_lost_while_it_runs_is_not_sent_again_and_the_next_one_has_another() {
    let is_lost = AtomicBool::new(false);
    // The call's stream breaks behind an event that it could be resumed from, and by then the server knows nobody any more.
    let server = Scripted::new(&["say", "vanish"], move |asked| {
        if asked.tool() == "vanish" {
            is_lost.store(true, Ordering::Relaxed);
            return Some(format!("{EVENTS}id: 1\nretry: 10\ndata: \n\n"));
        }
        let greets = asked.body["method"] == "initialize" || asked.body["method"] == "server/discover";
        if greets {
            is_lost.store(false, Ordering::Relaxed);
        }
        is_lost.load(Ordering::Relaxed).then(|| http("404 Not Found", "", ""))
    });
    let house = House::with(&[("forgetful", remote(&server.url(), ""))]);
    house.is_ready("forgetful");
    let first = house.says("forgetful__say", json!({}));
    house.fails("forgetful__vanish", json!({}), 500, "whether it had an effect is not known");
    assert_eq!(server.count("tools/call vanish"), 1, "it may have had an effect");
    let second = eventually("the next call is answered", || {
        let reply = house.call("forgetful__say", json!({}));
        assert!(matches!(reply.status, 200 | 503), "{}", reply.text());
        (reply.status == 200).then(|| super::text_of(&reply))
    });
    assert!(second.starts_with("session-") && second != first, "{first}, then {second}");
    house.neighbour_is_well();
}

#[test]
fn what_a_client_proves_itself_by_reaches_no_server() {
    let secrets = [
        ("Authorization", "Bearer secret-of-the-client"),
        ("Cookie", "session=secret-of-the-client"),
        ("X-API-Key", "secret-of-the-client"),
        ("Proxy-Authorization", "Basic secret-of-the-client"),
    ];
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listening = || {
        let heard = Arc::clone(&heard);
        move |asked: &Asked| {
            let all = format!("{:?} {} {}", asked.headers, asked.path, asked.body);
            heard.lock().expect("no panic").push((all, asked.header("authorization").map(str::to_owned)));
            None
        }
    };
    let (old, new) = (Scripted::legacy(&["say"], listening()), Scripted::modern(&["say"], listening()));
    let own = "headers = { Authorization = \"Bearer of-waygate\" }";
    let house = House::with(&[("old", remote(&old.url(), own)), ("new", remote(&new.url(), own))]);
    house.is_ready("old");
    house.is_ready("new");
    let session = Session::with(&house.server, NEWEST, everything(), &secrets);
    for tool in ["old__say", "new__say"] {
        let call =
            secrets.iter().fold(Http::tool(tool, json!({})), |call, (name, value)| call.header(name, value));
        let reply = call.send(house.server.address);
        assert_eq!(reply.status, 200, "{tool}: {}", reply.text());
        assert_eq!(session.tool(tool, json!({})).status, 200, "{tool}");
    }
    let calls = old.count("tools/call say") + new.count("tools/call say");
    assert_eq!(calls, 4, "each call came to its server");
    for (all, credential) in &*heard.lock().expect("no panic") {
        assert!(!all.contains("secret-of-the-client"), "{all}");
        assert_eq!(credential.as_deref(), Some("Bearer of-waygate"), "{all}");
    }
}

#[test]
fn a_proxy_of_the_environment_is_used_unless_the_file_says_otherwise() {
    // It is asked for a server elsewhere, and answers in its place.
    let proxy = Scripted::new(&["say"], |_| None);
    let url = "http://mcp.waygate.invalid/mcp";
    let at = format!("http://{}", proxy.address);
    let near = Scripted::new(&["say"], |_| None);
    let house = House::under(
        &[("HTTP_PROXY", &at), ("http_proxy", &at)],
        &[
            ("proxied", remote(url, "proxy = true")),
            ("unsaid", remote(url, "")),
            ("direct", remote(url, "proxy = false")),
            ("near", remote(&near.url(), "")),
        ],
    );
    for name in ["proxied", "unsaid", "near"] {
        house.is_ready(name);
        assert!(house.says(&format!("{name}__say"), json!({})).starts_with("session-"), "{name}");
    }
    assert_eq!(proxy.count("tools/call say"), 2);
    assert_eq!(near.count("tools/call say"), 1, "what is on this machine is asked without a proxy");
    house.is_not_ready_because("direct", "mcp.waygate.invalid");
    house.neighbour_is_well();
}

#[test]
fn a_server_that_refuses_everything_is_not_ready_and_says_why() {
    let refuses = |status: &'static str| Scripted::new(&[], move |_| Some(http(status, "", "")));
    let (locked, gone) = (refuses("401 Unauthorized"), refuses("404 Not Found"));
    let house = House::with(&[("locked", remote(&locked.url(), "")), ("gone", remote(&gone.url(), ""))]);
    house.is_not_ready_because("locked", "it wants a credential");
    house.is_not_ready_because("gone", "404");
    house.fails("locked__say", json!({}), 503, "locked");
    house.neighbour_is_well();
}
