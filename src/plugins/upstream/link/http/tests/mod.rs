//! Streamable HTTP against scripted servers.

mod secure;

use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use hyper::header::HeaderMap;

use super::*;
use crate::plugins::upstream::link::testing::{
    Act, Heard, all, answer, chunk, chunked_events, events, in_words, json, outgoing, reach, serve, soon,
    until,
};
use crate::telemetry::redaction::MASK;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
type Acts = fn() -> Vec<Act>;
const LEGACY: Option<&str> = Some("2025-11-25");

fn link(url: &str) -> HttpLink {
    HttpLink::open(&reach(url), HeaderMap::new(), 1 << 16).unwrap()
}

fn with_key(url: &str, change: impl FnOnce(&mut HttpReach)) -> HttpLink {
    let mut reach = reach(url);
    change(&mut reach);
    let headers =
        HeaderMap::from_iter([("authorization".parse().unwrap(), "Bearer s3cret".parse().unwrap())]);
    HttpLink::open(&reach, headers, 1 << 16).unwrap()
}

/// What a call of request 1 brings, in words.
async fn call(link: &HttpLink, version: Option<&'static str>) -> Vec<String> {
    all(soon(link.ask(outgoing(1, "tools/call", version))).await).await
}

/// A link with a session.
async fn in_session(url: &str) -> HttpLink {
    let link = link(url);
    assert_eq!(all(soon(link.ask(outgoing(1, "initialize", None))).await).await, ["result {}"]);
    link
}

fn with_session() -> Vec<Act> {
    vec![answer(200, "application/json", "mcp-session-id: s-1\r\n", RESULT)]
}

#[tokio::test]
async fn a_modern_request_carries_what_its_body_says_and_nothing_else() {
    let (url, log) = serve(|_, _: &Heard| vec![json(RESULT)]).await;
    let link = with_key(&format!("{url}/mcp?key=q"), |_| {});
    let mut request = outgoing(1, "tools/call", Some(MODERN));
    request.name = Some("grüße".into());
    request.params = vec![("Region".into(), "us".into()), ("Empty".into(), String::new())];
    assert_eq!(all(soon(link.ask(request)).await).await, ["result {}"]);
    let heard = log.heard().remove(0);
    assert_eq!(heard.line, "POST /mcp?key=q");
    for (name, value) in [
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-protocol-version", MODERN),
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?Z3LDvMOfZQ==?="),
        ("mcp-param-region", "us"),
        ("mcp-param-empty", ""),
        ("authorization", "Bearer s3cret"),
        ("user-agent", concat!("waygate-mcp/", env!("CARGO_PKG_VERSION"))),
        ("host", url.strip_prefix("http://").unwrap()),
    ] {
        assert_eq!(heard.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(heard.headers.len(), 11, "{heard:?}");
    let report = link.report();
    assert_eq!((&report["url"], &report["session"]), (&json!(format!("{url}/mcp")), &json!(false)));
    assert!(!report.to_string().contains("s3cret") && !report.to_string().contains("key=q"));
}

#[tokio::test]
async fn a_legacy_request_does_not_repeat_its_body() {
    let (url, log) = serve(|_, _: &Heard| vec![json(RESULT)]).await;
    assert_eq!(call(&link(&url), LEGACY).await, ["result {}"]);
    let heard = log.heard().remove(0);
    assert!(heard.header("mcp-protocol-version") == "2025-11-25" && heard.header("mcp-method").is_empty());
}

#[tokio::test]
async fn events_are_read_however_they_are_cut_and_their_connection_is_used_again() {
    let text = format!(
        ":\n\nid: 1\ndata: \n\nevent: message\ndata: {{\"method\":\"notifications/progress\"}}\n\nevent: ping\ndata: x\n\n\
         data: {{\"id\":5,\"result\":{{}}}}\n\ndata: {RESULT}\n\n"
    );
    let (url, log) = serve(move |_, _: &Heard| {
        let pieces: String = text.chars().map(|letter| chunk(&letter.to_string())).collect();
        vec![chunked_events(), Act::Dribble(pieces), Act::Send("0\r\n\r\n".into())]
    })
    .await;
    let link = link(&url);
    assert_eq!(call(&link, Some(MODERN)).await, ["notice notifications/progress", "result {}"]);
    // The end of the body may come a moment after the response, and only then is the connection free again.
    soon(async {
        while log.heard().len() == log.accepted() {
            assert_eq!(call(&link, Some(MODERN)).await.len(), 2);
        }
    })
    .await;
}

#[tokio::test]
async fn connections_are_kept_between_calls() {
    let (url, log) = serve(|_, _: &Heard| vec![json(RESULT)]).await;
    let link = link(&url);
    for _ in 0..5 {
        assert_eq!(call(&link, Some(MODERN)).await, ["result {}"]);
    }
    assert_eq!((log.accepted(), log.heard().len()), (1, 5));
}

#[tokio::test]
async fn dropping_a_flow_or_a_call_closes_its_connection() {
    let (url, log) = serve(|number, _: &Heard| match number {
        0 => vec![events("data: {\"method\":\"notifications/progress\"}\n\n"), Act::Hang],
        _ => vec![Act::Hang],
    })
    .await;
    let link = link(&url);
    let mut flow = soon(link.ask(outgoing(1, "tools/call", Some(MODERN)))).await.unwrap();
    assert!(soon(flow.next()).await.is_some());
    drop(flow);
    until("the stream is closed", || log.deserted.load(Ordering::SeqCst) == 1).await;
    let asking = tokio::spawn(link.ask(outgoing(2, "tools/call", Some(MODERN))));
    until("it was sent", || log.heard().len() == 2).await;
    asking.abort();
    until("the call is closed", || log.deserted.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn a_session_is_remembered_lost_and_closed() {
    let (url, log) = serve(|number, heard: &Heard| match number {
        0 => with_session(),
        1 => vec![answer(202, "text/plain", "", "")],
        _ if heard.line.starts_with("DELETE") => vec![answer(405, "text/plain", "", "")],
        2 => {
            vec![answer(404, "application/json", "", r#"{"id":null,"error":{"code":-32001,"message":"no"}}"#)]
        }
        3 => vec![answer(
            400,
            "application/json",
            "",
            r#"{"error":{"code":-1,"message":"Bad: No valid session ID"}}"#,
        )],
        _ => vec![answer(
            404,
            "application/json",
            "",
            r#"{"id":1,"error":{"code":-32601,"message":"unknown"}}"#,
        )],
    })
    .await;
    let link = in_session(&url).await;
    soon(link.tell("{}".into(), LEGACY)).await.unwrap();
    let lost = || async { soon(link.ask(outgoing(1, "tools/call", LEGACY))).await.err() };
    assert!(matches!(lost().await, Some(LinkError::SessionLost)));
    assert!(matches!(lost().await, Some(LinkError::SessionLost)));
    assert_eq!(call(&link, LEGACY).await, ["error -32601"], "a method that is unknown is no lost session");
    soon(link.close()).await;
    let heard = log.heard();
    assert!(heard[0].header("mcp-session-id").is_empty());
    assert!(heard[1..].iter().all(|heard| heard.header("mcp-session-id") == "s-1"));
    let last = heard.last().unwrap();
    assert!(last.line.starts_with("DELETE /") && last.header("mcp-protocol-version") == "2025-11-25");
    assert_eq!(link.report()["session"], json!(true));
}

#[tokio::test]
async fn each_refusal_says_what_it_was() {
    for (status, more, body, says, after) in [
        (
            401,
            "www-authenticate: Bearer realm=\"theirs\"\r\n",
            "theirs",
            "`headers` of the plugin's file was refused",
            None,
        ),
        (403, "", "theirs", "`headers` of the plugin's file was refused", None),
        (404, "", "<h1>\n not  here</h1>", "404: <h1> not here</h1>", None),
        (429, "retry-after: 7\r\n", "slow down", "429: slow down", Some(7)),
        (500, "", "", "500", None),
        (503, "retry-after: 3\r\n", r#"{"id":1,"error":{"code":1,"message":"busy"}}"#, "503", Some(3)),
        (302, "location: /elsewhere?token=x\r\n", "", "write the new address as the url", None),
    ] {
        let (url, _) = serve(move |_, _: &Heard| vec![answer(status, "text/html", more, body)]).await;
        let asked = soon(with_key(&url, |_| {}).ask(outgoing(1, "tools/call", Some(MODERN)))).await;
        let error = asked.err().unwrap();
        let LinkError::Status { retry_after_seconds, .. } = &error else { panic!("{error:?}") };
        let text = error.to_string();
        assert!(text.contains(says) && *retry_after_seconds == after, "{text}");
        assert!(!text.contains("theirs") && !text.contains("token"), "{text}");
    }
}

#[tokio::test]
async fn a_page_that_repeats_what_it_was_asked_with_is_shown_without_it() {
    let (url, _) = serve(move |_, heard: &Heard| {
        let page = format!("{} with {}", heard.line, heard.header("authorization"));
        vec![answer(500, "text/html", "", &page)]
    })
    .await;
    let link = with_key(&format!("{url}/mcp?plain=1&key=hunter22"), |_| {});
    let error = soon(link.ask(outgoing(1, "tools/call", Some(MODERN)))).await.err().unwrap().to_string();
    assert!(error.ends_with(&format!("POST /mcp?plain=1&key={MASK} with {MASK}")), "{error}");
}

#[tokio::test]
async fn an_error_in_json_is_a_message_whatever_its_status() {
    for status in [400, 404, 500] {
        let (url, _) = serve(move |_, _: &Heard| {
            vec![answer(
                status,
                "application/json",
                "",
                r#"{"jsonrpc":"2.0","error":{"code":-32022,"message":""}}"#,
            )]
        })
        .await;
        assert_eq!(call(&link(&url), Some(MODERN)).await, ["error -32022"]);
    }
}

#[tokio::test]
async fn what_is_no_answer_is_told_from_what_broke() {
    let half = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"id\":1";
    let cases: [(Acts, &str); 9] = [
        (|| vec![answer(200, "text/html", "", "<html>")], "garbage: it has the content type \"text/html\""),
        (|| vec![answer(202, "application/json", "", "")], "garbage: it is empty"),
        (|| vec![json("{\"id\":1,")], "garbage: "),
        (|| vec![json(r#"{"id":2,"result":{}}"#)], "garbage: it answers another request"),
        (|| vec![json(r#"{"method":"notifications/x"}"#)], "garbage: it answers another request"),
        (|| vec![events("data: nonsense\n\n"), Act::Hang], "garbage: "),
        (
            || vec![events("data: {\"id\":1,\"resu"), Act::Close],
            "broken: its event stream ended in the middle of an event",
        ),
        (|| vec![events(""), Act::Close], "broken: its event stream ended before"),
        (|| vec![Act::Send("SSH-2.0-OpenSSH\r\n\r\n".into()), Act::Close], "garbage: "),
    ];
    for (acts, says) in cases {
        let (url, _) = serve(move |_, _: &Heard| acts()).await;
        let said = call(&link(&url), Some(MODERN)).await;
        assert!(said.len() == 1 && said[0].starts_with(says), "{says}: {said:?}");
    }
    let (url, _) = serve(move |_, _: &Heard| vec![Act::Send(half.into()), Act::Close]).await;
    let said = call(&link(&url), Some(MODERN)).await;
    assert!(said[0].starts_with("broken: its answer broke off"), "{said:?}");
    let (url, _) = serve(|_, _: &Heard| vec![Act::Close]).await;
    let said = call(&link(&url), Some(MODERN)).await;
    assert!(said[0].starts_with("broken: the connection to http://127.0.0.1:"), "{said:?}");
    let said = call(&link("http://127.0.0.1:1/"), Some(MODERN)).await;
    assert!(said[0].starts_with("unreachable: http://127.0.0.1:1 cannot be reached"), "{said:?}");
}

#[tokio::test]
async fn an_array_of_messages_is_taken_apart() {
    let body = format!(r#"[{{"method":"notifications/x"}},{RESULT}]"#);
    let in_json = body.clone();
    let (url, _) = serve(move |_, _: &Heard| vec![json(&in_json)]).await;
    assert_eq!(call(&link(&url), Some("2025-03-26")).await, ["notice notifications/x", "result {}"]);
    let (url, _) = serve(move |_, _: &Heard| vec![events(&format!("data: {body}\n\n")), Act::Hang]).await;
    assert_eq!(call(&link(&url), Some("2025-03-26")).await, ["notice notifications/x", "result {}"]);
}

#[tokio::test]
async fn no_answer_is_held_that_is_larger_than_may_be() {
    let cases: [Acts; 3] = [
        || {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000000\r\n\r\n{";
            vec![Act::Send(head.into()), Act::Hang]
        },
        || {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
            let more = (0..20).map(|_| Act::Send(chunk(&" ".repeat(8192))));
            std::iter::once(Act::Send(head.into())).chain(more).chain([Act::Hang]).collect()
        },
        || {
            let more = (0..20).map(|_| Act::Send("x".repeat(8192)));
            std::iter::once(events("data: ")).chain(more).chain([Act::Hang]).collect()
        },
    ];
    for acts in cases {
        let (url, log) = serve(move |_, _: &Heard| acts()).await;
        assert_eq!(call(&link(&url), Some(MODERN)).await, ["its answer has more than 65536 bytes"]);
        assert_eq!(log.accepted(), 1);
    }
}

#[tokio::test]
async fn a_legacy_answer_that_breaks_is_taken_up_again_behind_its_last_event() {
    let (url, log) = serve(|number, _: &Heard| match number {
        0 => with_session(),
        1 => vec![events("id: a\nretry: 50\ndata: \n\n"), Act::Close],
        2 => vec![answer(503, "text/plain", "", "")],
        3 => vec![events("id: b\ndata: {\"method\":\"notifications/progress\"}\n\ndata: {\"id"), Act::Close],
        _ => vec![events(&format!("id: c\ndata: {RESULT}\n\n")), Act::Hang],
    })
    .await;
    let link = in_session(&url).await;
    assert_eq!(call(&link, LEGACY).await, ["notice notifications/progress", "result {}"]);
    let heard = log.heard();
    let resumed: Vec<_> = heard[2..]
        .iter()
        .map(|heard| (heard.line.as_str(), heard.header("last-event-id"), heard.header("mcp-session-id")))
        .collect();
    assert_eq!(resumed, [("GET /", "a", "s-1"), ("GET /", "a", "s-1"), ("GET /", "b", "s-1")]);
    assert_eq!(heard[2].header("accept"), "text/event-stream");
}

#[tokio::test]
async fn an_answer_that_cannot_be_taken_up_again_is_broken() {
    // Without an id; in the modern era; when the server refuses; when its session is gone.
    for (first, version, then) in [
        ("retry: 50\ndata: \n\n", LEGACY, 405),
        ("id: a\nretry: 50\ndata: \n\n", Some(MODERN), 405),
        ("id: a\nretry: 50\ndata: \n\n", LEGACY, 405),
        ("id: a\nretry: 50\ndata: \n\n", LEGACY, 404),
    ] {
        let (url, log) = serve(move |number, _: &Heard| match number {
            0 => with_session(),
            1 => vec![events(first), Act::Close],
            _ => vec![answer(then, "text/plain", "", "")],
        })
        .await;
        let said = call(&in_session(&url).await, version).await;
        assert!(said.len() == 1 && said[0].starts_with("broken: its event stream ended"), "{said:?}");
        let resumable = first.starts_with("id") && version == LEGACY;
        assert_eq!(log.heard().len(), if resumable { 3 } else { 2 });
    }
}

#[tokio::test]
async fn what_a_server_says_of_its_own_accord_comes_by_a_stream_that_is_taken_up_again() {
    let (url, log) = serve(|number, _: &Heard| match number {
        0 => with_session(),
        1 => vec![
            events("id: a\nretry: 50\ndata: {\"method\":\"notifications/a\"}\n\ndata: rubbish\n\n"),
            Act::Close,
        ],
        2 => vec![
            events("data: {\"id\":1,\"result\":{}}\n\ndata: {\"id\":3,\"method\":\"ping\"}\n\n"),
            Act::Close,
        ],
        _ => vec![answer(404, "text/plain", "", "")],
    })
    .await;
    let link = in_session(&url).await;
    let said = all(Ok(link.strays())).await;
    assert_eq!(said, ["notice notifications/a", "request ping", "it does not know the session any more"]);
    assert_eq!((log.heard()[2].line.as_str(), log.heard()[2].header("last-event-id")), ("GET /", "a"));
    assert!(all(Ok(link.strays())).await.is_empty(), "they can be had once");
    assert_eq!(link.report()["getStream"], json!("broken"));
}

#[tokio::test]
async fn trouble_with_that_stream_is_not_the_end_and_what_may_have_been_missed_is_told() {
    let (url, log) = serve(|number, _: &Heard| match number {
        0 => with_session(),
        1 => vec![events("retry: 50\ndata: {\"method\":\"notifications/a\"}\n\n"), Act::Close],
        // The stream before is still there, for all it knows.
        2 => vec![answer(409, "text/plain", "", "Only one SSE stream is allowed per session")],
        3 => vec![
            events("id: b\ndata: {\"method\":\"notifications/b\"}\n\ndata: "),
            Act::Send("x".repeat(1 << 17)),
            Act::Close,
        ],
        4 => vec![events("id: c\ndata: {\"method\":\"notifications/c\"}\n\n"), Act::Close],
        // It was begun anew, and does not know the event.
        5 => vec![answer(400, "text/plain", "", "unknown event")],
        _ => vec![events("data: {\"method\":\"notifications/d\"}\n\n"), Act::Hang],
    })
    .await;
    let link = in_session(&url).await;
    let mut strays = link.strays();
    for (notice, last_id, is_gap) in [("a", "", false), ("b", "", true), ("c", "", true), ("d", "", true)] {
        let said = in_words(&soon(strays.next()).await.unwrap());
        assert_eq!(said, format!("notice notifications/{notice}"));
        assert_eq!(log.heard().last().unwrap().header("last-event-id"), last_id, "{notice}");
        assert_eq!(link.missed().now_or_never().is_some(), is_gap, "{notice}");
    }
    assert_eq!(log.heard()[5].header("last-event-id"), "c");
    assert_eq!(link.report()["getStream"], json!("open"));
}

#[tokio::test]
async fn a_server_without_such_a_stream_is_left_alone_and_a_closed_link_ends_it() {
    for status in [405, 404, 401, 501] {
        let (url, log) = serve(move |_, _: &Heard| vec![answer(status, "text/plain", "", "")]).await;
        let link = link(&url);
        assert!(all(Ok(link.strays())).await.is_empty());
        assert_eq!((link.report()["getStream"].as_str(), log.heard().len()), (Some("refused"), 1));
    }
    // With a session, too: no route for GET is no lost session.
    for (status, says) in [(404, "Cannot GET /mcp"), (400, "No valid session ID")] {
        let (url, log) = serve(move |number, _: &Heard| match number {
            0 => with_session(),
            1 => vec![answer(status, "text/plain", "", says)],
            _ => vec![json(RESULT)],
        })
        .await;
        let link = in_session(&url).await;
        assert!(all(Ok(link.strays())).await.is_empty(), "{status}");
        assert_eq!(call(&link, LEGACY).await, ["result {}"]);
        assert_eq!((link.report()["getStream"].as_str(), log.heard().len()), (Some("refused"), 3));
    }
    let (url, log) = serve(|_, _: &Heard| vec![events(""), Act::Hang]).await;
    let link = link(&url);
    let mut strays = link.strays();
    let waiting = tokio::spawn(async move { strays.next().await.is_none() });
    until("it is open", || link.report()["getStream"] == json!("open")).await;
    soon(link.close()).await;
    assert!(soon(waiting).await.unwrap());
    until("it is closed", || log.deserted.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed_with_all_headers() {
    for status in [307, 308] {
        let (url, log) = serve(move |_, heard: &Heard| match heard.line.as_str() {
            "POST /a/b" => vec![answer(status, "text/plain", "location: ../c?d\r\n", "")],
            _ => vec![json(RESULT)],
        })
        .await;
        assert_eq!(call(&with_key(&format!("{url}/a/b"), |_| {}), Some(MODERN)).await, ["result {}"]);
        let second = log.heard().remove(1);
        assert_eq!((second.line.as_str(), second.header("authorization")), ("POST /c?d", "Bearer s3cret"));
        assert!(second.body.contains("tools/call"));
    }
    let (url, log) = serve(|_, _: &Heard| vec![answer(307, "text/plain", "location: /\r\n", "")]).await;
    let said = call(&link(&url), Some(MODERN)).await;
    assert!(said[0].contains("more than 5 redirects"), "{said:?}");
    assert_eq!(log.heard().len(), 6);
}

#[tokio::test]
async fn a_redirect_to_another_origin_is_guarded_and_gets_no_credential() {
    let (inside, inner) = serve(|_, _: &Heard| vec![json(RESULT)]).await;
    let port = inside.rsplit(':').next().unwrap().to_owned();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let location = format!("location: http://{host}:{port}/x\r\n");
        let (url, _) = serve(move |_, _: &Heard| vec![answer(307, "text/plain", &location, "")]).await;
        let said = call(&with_key(&url, |_| {}), Some(MODERN)).await;
        assert!(said[0].contains("307") && said[0].contains("it is not followed"), "{said:?}");
    }
    assert_eq!(inner.accepted(), 0);
    // Where the operator says so, it is: but the credential stays at home.
    let location = format!("location: {inside}/x\r\n");
    let (url, _) = serve(move |number, _: &Heard| match number {
        0 => with_session(),
        _ => vec![answer(307, "text/plain", &location, "")],
    })
    .await;
    let link = with_key(&url, |reach| reach.allow_ranges = vec!["127.0.0.0/8".into()]);
    all(soon(link.ask(outgoing(1, "initialize", None))).await).await;
    assert_eq!(call(&link, LEGACY).await, ["result {}"]);
    let heard = inner.heard().remove(0);
    assert_eq!((heard.header("authorization"), heard.header("mcp-session-id")), ("", ""));
    assert_eq!(heard.header("host"), inside.strip_prefix("http://").unwrap());
}

#[tokio::test]
async fn addresses_that_nobody_means_are_refused_before_anything_is_sent() {
    for url in ["http://169.254.169.254/latest", "http://[fe80::1]/", "http://[::ffff:169.254.1.1]/"] {
        let said = call(&link(url), Some(MODERN)).await;
        assert!(said[0].starts_with("unreachable: ") && said[0].contains("allow_ranges"), "{said:?}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_refused_at_once() {
    let opened = |change: fn(&mut HttpReach), header: &str| {
        let mut reach = reach("http://127.0.0.1:1/");
        change(&mut reach);
        let headers = HeaderMap::from_iter([(header.parse().unwrap(), "x".parse().unwrap())]);
        HttpLink::open(&reach, headers, 1).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(opened(|_| {}, "x-key"), "");
    assert!(opened(|_| {}, "mcp-session-id").contains("headers.mcp-session-id"));
    assert!(opened(|_| {}, "content-length").contains("headers.content-length"));
    let secret = opened(|reach| reach.url = "http://me:s3cret@a.example/".into(), "x-key");
    assert!(secret.contains("put credentials into `headers`") && !secret.contains("s3cret"), "{secret}");
    assert!(opened(|reach| reach.url = "ftp://a.example/".into(), "x-key").contains("http://"));
    assert!(opened(|reach| reach.allow_ranges = vec!["x".into()], "x-key").contains("allow_ranges"));
}
