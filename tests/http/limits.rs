//! Limits: whose they are, what is said when one is reached, that they come back, and what no limit touches.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::keys::{OWN, becomes, create, id_of, keys, with};
use crate::legacy::{NEWEST, Session, everything, handshake, request};
use crate::support::{Http, Reply, Server, eventually};

fn list() -> Http {
    Http::modern("tools/list", json!({}))
}

fn data(reply: &Reply) -> Value {
    reply.json()["error"]["data"].clone()
}

/// What a refusal says of the limit: of what kind, whose, and which.
fn limit(reply: &Reply) -> (String, String, String) {
    let data = data(reply);
    let text = |member: &str| data[member].as_str().unwrap_or_default().to_owned();
    (text("of"), text("whose"), text("limit"))
}

fn is_limited(reply: &Reply, of: &str, whose: &str, which: &str) {
    assert_eq!((reply.status, reply.code()), (429, -31429), "{}", reply.text());
    assert_eq!(limit(reply), (of.to_owned(), whose.to_owned(), which.to_owned()));
    let seconds = data(reply)["retryAfterSeconds"].as_u64().expect("when to come back");
    assert_eq!(reply.header("retry-after"), Some(&*seconds.to_string()));
}

/// Waits until it is let through again.
fn comes_back(server: &Server, request: &Http) {
    eventually("it is let through again", || (request.send(server.address).status == 200).then_some(()));
}

/// Waits until so many calls run in a plugin.
fn runs(server: &Server, plugin: &str, calls: u64) {
    let shown = with(OWN, Http::get(&format!("/plugins/{plugin}")));
    eventually("the calls run", || (shown.send(server.address).json()["running"] == calls).then_some(()));
}

/// How often a limit was reached, as the metrics tell it.
fn counted(server: &Server, of: &str, limit: &str) -> Option<f64> {
    let begins = format!("waygate_limited_total{{limit=\"{limit}\",of=\"{of}\"}} ");
    let metrics = with(OWN, Http::get("/metrics")).send(server.address).text();
    metrics.lines().find_map(|line| line.strip_prefix(&begins)?.parse().ok())
}

#[test]
fn a_key_that_has_used_up_its_requests_is_told_so_and_when_to_come_back() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let (key, other) =
        (create(&server, &["ci", "--rate", "6/min", "--burst", "2"]), create(&server, &["other"]));
    becomes(&server, &other, 200);
    for _ in 0..2 {
        assert_eq!(with(&key, list()).send(server.address).status, 200);
    }
    let refused = with(&key, Http::tool("repeat", json!({}))).send(server.address);
    is_limited(&refused, "key", "ci", "requestsPerMinute");
    assert_eq!(refused.json()["id"], 1, "it answers the request: {}", refused.text());
    assert_eq!(data(&refused)["quota"], json!({"requestsPerMinute": 6, "burst": 2}));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"key\";q=6;w=60"));
    let left = refused.header("ratelimit").expect("what is left");
    assert!(left.starts_with("\"key\";r=0;t="), "{left}");
    assert!(!refused.text().contains(key.trim()), "no secret is told");
    assert_eq!(with(&other, list()).send(server.address).status, 200, "others are not limited");
    assert_eq!(with(OWN, list()).send(server.address).status, 200);
    assert_eq!(counted(&server, "key", "requests"), Some(1.0));
    // It stands in the history, with which limit it was.
    let id = id_of(&key);
    eventually("it is recorded", || {
        let shown = crate::cancel::history(&server.folder);
        shown.contains(&"repeat failed".to_owned()).then_some(())
    });
    // The limit is changed while the server runs.
    let (done, _, says) = keys(&server, &["limit", &id, "--rate", "60000/min"]);
    assert!(done && says.contains("these limits"), "{says}");
    comes_back(&server, &with(&key, list()));
    let (done, _, says) = keys(&server, &["limit", &id, "--burst", "2"]);
    assert!(!done && says.contains("set one"), "{says}");
    let body = json!({"requestsPerMinute": 1}).to_string();
    let put = Http { head: format!("PUT /admin/api/keys/{id}/limits"), ..Http::post(body) };
    let put = with(OWN, put).send(server.address);
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(put.json()["key"]["limits"]["requestsPerMinute"], 1);
    assert_eq!(with(&key, list()).send(server.address).status, 200);
    is_limited(&with(&key, list()).send(server.address), "key", "ci", "requestsPerMinute");
}

#[test]
fn a_limit_comes_back_by_itself() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let key = create(&server, &["fast", "--rate", "120/min", "--burst", "1"]);
    eventually("the limit is reached", || {
        (with(&key, list()).send(server.address).status == 429).then_some(())
    });
    comes_back(&server, &with(&key, list()));
}

#[test]
fn calls_at_once_of_a_key_are_counted_until_they_end_and_a_cancel_is_an_end() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let key = create(&server, &["one", "--concurrent", "1"]);
    becomes(&server, &key, 200);
    let call = |tool: &str| with(&key, Http::tool(tool, json!({})));
    for round in 0..3 {
        let hangs = call("hang").open(server.address);
        runs(&server, "faulty", 1);
        let refused = call("repeat").send(server.address);
        is_limited(&refused, "key", "one", "concurrent");
        assert_eq!(refused.header("ratelimit-policy"), Some("\"key\";q=1;qu=\"concurrent-requests\""));
        assert_eq!(with(&key, list()).send(server.address).status, 200, "a list takes no place");
        drop(hangs);
        comes_back(&server, &call("repeat"));
        assert_eq!(call("panic").send(server.address).status, 500, "round {round}");
    }
    // One that speaks before its answer keeps its place until its stream is closed.
    let params = json!({"name": "steps", "arguments": {"n": 2, "ms": 60_000}, "_meta": {"progressToken": 1}});
    let mut speaks = with(&key, Http::modern("tools/call", params)).open(server.address);
    assert!(speaks.event().is_some());
    is_limited(&call("repeat").send(server.address), "key", "one", "concurrent");
    drop(speaks);
    comes_back(&server, &call("repeat"));
}

#[test]
fn an_address_without_a_key_has_its_own_limit_and_a_header_makes_no_other_of_it() {
    let settings =
        [("WAYGATE_LIMITS_ADDRESS_REQUESTS_PER_MINUTE", "6"), ("WAYGATE_LIMITS_ADDRESS_BURST", "2")];
    let server = Server::with("faulty_server", &settings);
    for _ in 0..2 {
        assert_eq!(list().send(server.address).status, 200);
    }
    is_limited(&list().send(server.address), "address", "address of IPv4", "requestsPerMinute");
    // Nobody is believed who is no proxy.
    for forged in ["203.0.113.7", "203.0.113.8"] {
        let refused = list().header("X-Forwarded-For", forged).send(server.address);
        assert_eq!(refused.status, 429, "{}", refused.text());
    }
    // What is no request is charged, too; what nobody limits answers.
    assert_eq!(Http::post("nonsense").send(server.address).status, 429);
    assert_eq!(server.get("/health").0, 200);
    assert_eq!(server.get("/ready").0, 200);
    assert!(server.metrics().contains("waygate_limited_total{limit=\"requests\",of=\"address\"} 4"));
}

#[test]
fn a_stranger_without_a_key_is_limited_by_address_where_keys_are_asked_for() {
    let settings = [
        ("WAYGATE_API_KEY", OWN),
        ("WAYGATE_LIMITS_ADDRESS_REQUESTS_PER_MINUTE", "6"),
        ("WAYGATE_LIMITS_ADDRESS_BURST", "2"),
    ];
    let server = Server::with("faulty_server", &settings);
    for _ in 0..2 {
        assert_eq!(list().send(server.address).status, 401);
    }
    is_limited(&list().send(server.address), "address", "address of IPv4", "requestsPerMinute");
    assert_eq!(with(OWN, list()).send(server.address).status, 200, "a key is let in at once");
}

#[test]
fn a_flood_of_addresses_behind_a_proxy_fills_no_memory() {
    const ADDRESSES: u32 = 20_000;
    let settings = [
        ("WAYGATE_API_KEY", OWN),
        ("WAYGATE_TRUSTED_PROXIES", "127.0.0.1"),
        ("WAYGATE_LIMITS_ADDRESS_REQUESTS_PER_MINUTE", "1"),
        ("WAYGATE_LIMITS_ADDRESS_BURST", "10"),
        ("WAYGATE_LOG_LEVEL", "ERROR"),
    ];
    let server = Server::with("faulty_server", &settings);
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    let mut buffer = [0; 65_536];
    for some in (0..ADDRESSES).collect::<Vec<_>>().chunks(50) {
        let mut text = String::new();
        for n in some {
            let address = std::net::Ipv4Addr::from(0x0b00_0000 + n);
            let written =
                write!(text, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {address}\r\n\r\n");
            written.expect("text");
        }
        stream.write_all(text.as_bytes()).expect("it is taken");
        let mut answers = Vec::new();
        while answers.windows(9).filter(|bytes| bytes == b"HTTP/1.1 ").count() < some.len() {
            let read = stream.read(&mut buffer).expect("answers");
            assert!(read > 0, "the server goes on");
            answers.extend_from_slice(&buffer[..read]);
        }
        // The rest of the last one is read with the next ones.
    }
    let metrics = with(OWN, Http::get("/metrics")).send(server.address).text();
    let number = |begins: &str| -> f64 {
        metrics.lines().find_map(|line| line.strip_prefix(begins)?.trim().parse().ok()).unwrap_or_default()
    };
    let remembered = number("waygate_limited_addresses ");
    assert!(remembered > 1000.0 && remembered <= 16_384.0, "{remembered}");
    assert!(number("waygate_limited_total{limit=\"requests\",of=\"address\"} ") > 2000.0, "{metrics}");
    assert_eq!(with(OWN, list()).send(server.address).status, 200);
}

#[test]
fn all_callers_together_have_a_limit_that_operators_do_not_meet() {
    let settings = [
        ("WAYGATE_API_KEY", OWN),
        ("WAYGATE_LIMITS_REQUESTS_PER_MINUTE", "1"),
        ("WAYGATE_LIMITS_BURST", "3"),
    ];
    let server = Server::with("faulty_server", &settings);
    let narrow = create(&server, &["narrow", "--rate", "1/min"]);
    // Whoever is over their own limit takes nothing from what all share.
    becomes(&server, &narrow, 200);
    for _ in 0..10 {
        is_limited(&with(&narrow, list()).send(server.address), "key", "narrow", "requestsPerMinute");
    }
    for _ in 0..2 {
        assert_eq!(with(OWN, list()).send(server.address).status, 200);
    }
    let refused = with(OWN, list()).send(server.address);
    is_limited(&refused, "server", "all callers", "requestsPerMinute");
    for path in ["/health", "/ready", "/metrics", "/plugins", "/admin/api/keys"] {
        assert_eq!(with(OWN, Http::get(path)).send(server.address).status, 200, "{path}");
    }
}

#[test]
fn a_full_server_sheds_calls_before_they_are_read_and_stays_open_to_its_operator() {
    let server = Server::with("faulty_server", &[("WAYGATE_LIMITS_CALLS_MAX", "2")]);
    let hang = || Http::tool("hang", json!({})).open(server.address);
    let running = [hang(), hang()];
    runs(&server, "faulty", 2);
    // A body that never comes is not waited for.
    let endless = Http::post("").header("Transfer-Encoding", "chunked").send(server.address);
    assert_eq!((endless.status, endless.code()), (503, -31503));
    assert_eq!(endless.header("retry-after"), Some("1"));
    assert_eq!(limit(&endless), ("server".to_owned(), "all callers".to_owned(), "concurrent".to_owned()));
    for path in ["/health", "/ready", "/metrics", "/plugins"] {
        assert_eq!(server.get(path).0, 200, "{path}");
    }
    eventually("it is said in the log", || server.log().contains("limits.calls_max").then_some(()));
    assert_eq!(
        server.get("/diagnostics/errors").1["errors"],
        json!([]),
        "it is no error of its own each time"
    );
    drop(running);
    comes_back(&server, &Http::tool("repeat", json!({})));
}

#[test]
fn answers_that_nobody_reads_are_bounded_and_calls_are_shed_while_they_wait() {
    let settings = [("WAYGATE_LIMITS_ANSWERS_MAX_BYTES", "1048576"), ("WAYGATE_BODY_MAX_BYTES", "33554432")];
    let server = Server::with("echo", &settings);
    // More than the kernel keeps of what nobody reads.
    let large = Http::tool("echo", json!({"message": "x".repeat(16 << 20)}));
    let small = Http::tool("echo", json!({"message": "hej"}));
    let unread = large.open(server.address);
    let refused = eventually("a call is shed", || {
        // Whoever shares its thread waits while a debug build reads the large one.
        let reply = small.send(server.address);
        (reply.status == 503).then_some(reply)
    });
    assert_eq!((refused.status, refused.code()), (503, -31503), "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["error"]["data"]["limit"], "answers");
    let metrics = Http::get("/metrics").send(server.address).text();
    assert!(metrics.contains("waygate_limited_total{limit=\"answers\",of=\"server\"}"), "{metrics}");
    eventually("it is said in the log", || server.log().contains("limits.answers_max_bytes").then_some(()));
    // Who reads it after all has all of it.
    let last = unread.finish();
    assert!(last.status == 200 && last.body.len() > 16 << 20);
    comes_back(&server, &small);
}

#[test]
fn a_session_hears_of_a_limit_as_an_answer_and_a_batch_counts_each_of_its_requests() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let key = create(&server, &["old", "--rate", "6/min", "--burst", "3"]);
    eventually("the key is known", || {
        let refused = with(&key, Http::get("/")).send(server.address);
        (refused.status == 200).then_some(())
    });
    let header = format!("Bearer {key}");
    let session = Session::with(&server, "2025-03-26", everything(), &[("Authorization", &header)]);
    // Its handshake was the first.
    let batch: Vec<Value> = (1..=4).map(|n| request(n, "tools/list", json!({}))).collect();
    let post = session.request(&json!(batch)).set("Accept", "application/json");
    let answers = post.send(server.address).json();
    let answers = answers.as_array().expect("an array");
    let refused = answers.iter().filter(|answer| answer["error"]["code"] == -31429).count();
    assert_eq!((answers.len(), refused), (4, 2), "{answers:?}");
    let reply = session.call("tools/list", json!({}));
    assert_eq!((reply.status, reply.code()), (200, -31429), "{}", reply.text());
    assert!(reply.header("retry-after").is_some() && reply.header("ratelimit-policy").is_some());
    assert_eq!(limit(&reply).1, "old");
    // What opens a session belongs to none, and is refused by its status.
    let again = Http::post(handshake(NEWEST, everything()).to_string()).header("Authorization", &header);
    is_limited(&again.send(server.address), "key", "old", "requestsPerMinute");
}

#[test]
fn a_call_of_a_session_keeps_its_place_until_it_is_cancelled() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let key = create(&server, &["old", "--concurrent", "1"]);
    becomes(&server, &key, 200);
    let header = format!("Bearer {key}");
    let session = Session::with(&server, NEWEST, everything(), &[("Authorization", &header)]);
    let hangs = session.begin_as(77, "hang", json!({}), json!({}));
    runs(&server, "faulty", 1);
    assert_eq!(limit(&session.tool("repeat", json!({}))).2, "concurrent");
    assert_eq!(session.notify("notifications/cancelled", json!({"requestId": 77})).status, 202);
    eventually("its place is free", || {
        session.tool("repeat", json!({})).json()["result"].is_object().then_some(())
    });
    drop(hangs);
}

#[test]
fn a_listen_stream_is_one_request_and_takes_no_place() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let key = create(&server, &["ear", "--rate", "6/min", "--burst", "2", "--concurrent", "1"]);
    eventually("the key is known", || {
        (with(&key, Http::get("/")).send(server.address).status == 200).then_some(())
    });
    let listen = json!({"notifications": {"toolsListChanged": true}});
    let listen = || with(&key, Http::modern("subscriptions/listen", listen.clone()));
    let mut stream = listen().open(server.address);
    assert!(stream.event().is_some());
    assert_eq!(with(&key, Http::tool("repeat", json!({}))).send(server.address).status, 200);
    is_limited(&listen().send(server.address), "key", "ear", "requestsPerMinute");
}

#[test]
fn a_limit_is_told_to_who_posts_beside_an_sse_stream_on_that_stream() {
    let server = Server::with("faulty_server", &[("WAYGATE_LIMITS_ADDRESS_REQUESTS_PER_MINUTE", "2")]);
    let mut stream = crate::legacy::Stream::open(&Http::get("/sse"), server.address);
    let url = stream.event().and_then(|event| event.data).expect("the other URL");
    let post = |message: &Value| {
        let post = Http { head: format!("POST {url}"), ..Http::post(message.to_string()) };
        post.send(server.address).status
    };
    assert_eq!(post(&handshake("2024-11-05", everything())), 202);
    assert!(stream.next()["result"].is_object());
    assert_eq!(post(&request(5, "tools/list", json!({}))), 202);
    let refused = stream.next();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(5), &json!(-31429)), "{refused}");
}

#[test]
fn tools_and_bundles_have_limits_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugins = folder.path().join("plugins");
    std::fs::create_dir_all(&plugins).expect("the folder of plugins");
    let file = |name: &str, text: &str| std::fs::write(plugins.join(name), text).expect("a file");
    file(
        "fake.toml",
        "command = \"/bin/true\"\n[tools.say]\nrequests_per_minute = 6\nburst = 2\n[tools.slow]\nconcurrent = 1\n",
    );
    file("few.toml", "kind = \"bundle\"\nplugins = [\"fake\"]\nrequests_per_minute = 6\nburst = 3\n");
    let server = Server::on("faulty_server", folder.path(), &[]);
    eventually("the plugin is there", || (server.get("/plugins/fake").1["state"] == "ready").then_some(()));
    let call = |name: &str| Http::tool(name, json!({})).send(server.address);
    for _ in 0..2 {
        let reply = call("fake__say");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    is_limited(&call("fake__say"), "tool", "fake__say", "requestsPerMinute");
    eventually("it is recorded", || {
        crate::cancel::history(folder.path()).contains(&"fake__say failed".to_owned()).then_some(())
    });
    // At whatever path it is called.
    let front =
        Http { head: "POST /mcp/fake".to_owned(), ..Http::tool("say", json!({})) }.send(server.address);
    is_limited(&front, "tool", "fake__say", "requestsPerMinute");
    let slow = Http::tool("fake__slow", json!({})).open(server.address);
    runs(&server, "fake", 1);
    let refused = call("fake__slow");
    is_limited(&refused, "tool", "fake__slow", "concurrent");
    assert_eq!(slow.finish().status, 200);
    comes_back(&server, &Http::tool("fake__slow", json!({})));

    let at = |path: &str| Http { head: format!("POST {path}"), ..list() };
    for _ in 0..3 {
        let reply = at("/mcp/few").send(server.address);
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    is_limited(&at("/mcp/few").send(server.address), "bundle", "few", "requestsPerMinute");
    assert_eq!(at("/mcp").send(server.address).status, 200, "the rest is not limited");
    // A reload that changes nothing of it gives nothing back.
    let reload = Http { head: "POST /plugins/reload".to_owned(), ..Http::get("/") };
    assert_eq!(reload.send(server.address).status, 200);
    is_limited(&at("/mcp/few").send(server.address), "bundle", "few", "requestsPerMinute");
    is_limited(&call("fake__say"), "tool", "fake__say", "requestsPerMinute");
}
