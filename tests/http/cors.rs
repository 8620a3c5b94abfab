//! What browsers are told: the headers of every reply, and what pages of other origins may do, where they are listed.

use serde_json::json;

use crate::support::{Http, Reply, Server};

const KEY: &str = "a-key-that-is-long-enough-to-be-one";
const PAGE: &str = "https://app.example.org";

/// A server that listens to one page, with a key.
fn open_to_a_page(more: &[(&str, &str)]) -> Server {
    let settings = [&[("WAYGATE_CORS_ORIGINS", PAGE), ("WAYGATE_API_KEY", KEY)], more].concat();
    Server::with("bundled_server", &settings)
}

fn preflight(path: &str, origin: &str) -> Http {
    Http { head: format!("OPTIONS {path}"), ..Http::get("/") }
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "POST")
        .header(
            "Access-Control-Request-Headers",
            "authorization,content-type,mcp-method,Mcp-Param-City,x-evil",
        )
}

fn names(reply: &Reply, header: &str) -> Vec<String> {
    let value = reply.header(header).unwrap_or_default();
    value.split(',').map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// What it tells a page of another origin.
fn told(reply: &Reply) -> Option<&str> {
    let begins = |(name, _): &&(String, String)| name.starts_with("access-control-");
    assert!(reply.header("access-control-allow-credentials").is_none(), "cookies are nothing here");
    reply.headers.iter().find(begins).and(reply.header("access-control-allow-origin"))
}

#[test]
fn a_browser_that_asks_is_told_what_a_listed_page_may_send_and_needs_no_key_for_it() {
    let server = open_to_a_page(&[]);
    for path in ["/mcp", "/mcp/main", "/mcp/nowhere", "/sse", "/messages"] {
        let reply = preflight(path, PAGE).send(server.address);
        assert_eq!((reply.status, told(&reply)), (204, Some(PAGE)), "{path}: {}", reply.text());
        assert!(reply.body.is_empty());
        assert_eq!(names(&reply, "access-control-allow-methods"), ["get", "post", "delete"]);
        let sent = names(&reply, "access-control-allow-headers");
        for wanted in [
            "authorization",
            "content-type",
            "accept",
            "x-api-key",
            "last-event-id",
            "mcp-protocol-version",
            "mcp-session-id",
            "mcp-method",
            "mcp-name",
            "mcp-param-city",
            "traceparent",
            "tracestate",
        ] {
            assert!(sent.iter().any(|name| name == wanted), "{wanted}: {sent:?}");
        }
        assert!(!sent.iter().any(|name| name == "x-evil" || name == "*"), "{sent:?}");
        assert!(names(&reply, "vary").contains(&"origin".to_owned()));
    }
}

#[test]
fn a_listed_page_may_read_answers_and_refusals_and_what_they_say_in_headers() {
    let server = open_to_a_page(&[]);
    let list = Http::modern("tools/list", json!({})).header("Origin", PAGE);
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "page", "version": "1"}}});
    let hello = Http::post(hello.to_string()).header("Origin", PAGE);
    let with_key = |request: &Http| request.clone().header("Authorization", &format!("Bearer {KEY}"));
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    for (request, status) in [
        (with_key(&list), 200),
        (with_key(&hello), 200),
        (list.clone(), 401),
        (list.clone().header("X-API-Key", "wrong"), 401),
        (with_key(&Http { head: "PUT /mcp".to_owned(), ..list.clone() }), 405),
        (with_key(&Http { head: "POST /mcp/nowhere".to_owned(), ..list.clone() }), 404),
        (with_key(&Http { head: "POST /mcp?token=x".to_owned(), ..list.clone() }), 400),
        (with_key(&Http::post("nonsense").header("Origin", PAGE)), 400),
    ] {
        let reply = request.send(server.address);
        assert_eq!((reply.status, told(&reply)), (status, Some(PAGE)), "{}", reply.text());
        let read = names(&reply, "access-control-expose-headers");
        for wanted in ["mcp-session-id", "www-authenticate", "retry-after", "ratelimit", "ratelimit-policy"] {
            assert!(read.iter().any(|name| name == wanted), "{wanted}: {read:?}");
        }
        assert_eq!(reply.header("vary"), Some("Origin"));
    }
    let stream = with_key(&Http::modern("subscriptions/listen", wanted).header("Origin", PAGE));
    let (status, headers) = stream.open(server.address).head();
    let head = Reply { status, headers, body: Vec::new() };
    assert_eq!((status, told(&head)), (200, Some(PAGE)));
    assert!(with_key(&hello).send(server.address).header("mcp-session-id").is_some());
}

#[test]
fn no_other_page_and_no_other_url_is_opened() {
    let server = open_to_a_page(&[]);
    for origin in
        ["https://evil.example.com", "https://app.example.org.evil.test", "http://app.example.org", "null"]
    {
        for request in
            [preflight("/mcp", origin), Http::modern("tools/list", json!({})).header("Origin", origin)]
        {
            let reply = request.header("X-API-Key", KEY).send(server.address);
            assert_eq!((reply.status, told(&reply)), (403, None), "{origin}: {}", reply.text());
            assert_eq!(
                reply.header("vary"),
                Some("Origin"),
                "a cache must not take it for the listed page's"
            );
        }
    }
    // One of the server's own host may call, as before, and reads nothing through a browser.
    let own = preflight("/mcp", "http://localhost:3000").header("X-API-Key", KEY).send(server.address);
    assert_eq!((own.status, told(&own)), (405, None));
    for path in ["/", "/health", "/metrics", "/plugins", "/admin/api/keys", "/nope"] {
        for request in [preflight(path, PAGE), Http::get(path).header("Origin", PAGE)] {
            let reply = request.header("X-API-Key", KEY).send(server.address);
            assert_eq!((told(&reply), reply.header("vary")), (None, None), "{path}");
        }
    }
    // The guard against rebinding asks for the host all the same.
    for request in [preflight("/mcp", PAGE), Http::modern("tools/list", json!({})).header("Origin", PAGE)] {
        assert_eq!(request.set("Host", "evil.example.com").send(server.address).status, 403);
    }
}

#[test]
fn without_the_setting_nothing_is_said_to_pages() {
    let server = Server::with("bundled_server", &[("WAYGATE_ALLOWED_ORIGINS", PAGE)]);
    let reply = preflight("/mcp", PAGE).send(server.address);
    assert_eq!((reply.status, told(&reply), reply.header("vary")), (405, None, None));
    let reply = Http::modern("tools/list", json!({})).header("Origin", PAGE).send(server.address);
    assert_eq!((reply.status, told(&reply), reply.header("vary")), (200, None, None));
}

#[test]
fn every_page_in_the_world_is_not_a_list() {
    for (origins, says) in
        [("*", "any page in the world"), ("https://app.example.org/x", "no path"), ("null", "takes origins")]
    {
        let place = tempfile::tempdir().expect("a folder");
        let output =
            Server::command("bundled_server", place.path(), &[("WAYGATE_CORS_ORIGINS", origins)]).output();
        let output = output.expect("it ends");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(told.contains(says) && told.contains("server.cors_origins"), "{told}");
    }
}

#[test]
fn every_reply_says_what_it_is_and_is_kept_by_nobody() {
    let server = Server::with("faulty_server", &[("WAYGATE_BODY_MAX_BYTES", "1024")]);
    for (request, status) in [
        (Http::get("/"), 200),
        (Http::get("/health"), 200),
        (Http::get("/ready"), 200),
        (Http::get("/metrics"), 200),
        (Http::get("/nope"), 404),
        (Http { head: "PUT /health".to_owned(), ..Http::get("/") }, 405),
        (Http::get("/mcp"), 405),
        (Http::get("/?token=x"), 400),
        (Http::get("/").set("Host", "evil.example.com"), 403),
        (Http::get("/diagnostics/errors?nonsense=1"), 400),
        (Http::modern("tools/list", json!({})), 200),
        (Http::tool("panic", json!({})), 500),
        (Http::post("nonsense"), 400),
        (Http::post(vec![b' '; 2000]), 413),
        (Http::post("{}").set("Content-Type", "text/plain"), 415),
    ] {
        let reply = request.send(server.address);
        assert_eq!(reply.status, status, "{}: {}", request.head, reply.text());
        for (name, wanted) in [
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            let said: Vec<_> = reply.headers.iter().filter(|(known, _)| known == name).collect();
            assert_eq!(said.len(), 1, "{} {name}", request.head);
            assert_eq!(reply.header(name), Some(wanted), "{}", request.head);
        }
        assert_eq!(reply.header("strict-transport-security"), None, "{}", request.head);
    }
}
