//! The operations endpoints: what an operator, a probe and a collector are shown.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use waygate_mcp::telemetry::metrics::TABLE;

use crate::support::{Http, Reply, Server, eventually};

fn with(method: &str, path: &str) -> Http {
    Http { head: format!("{method} {path}"), ..Http::get(path) }
}

/// Every error outside MCP has this one shape.
#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (status, Some("application/json")),
        "{}",
        reply.text()
    );
    let body = reply.json();
    let keys: Vec<&String> = body["error"].as_object().expect("an error").keys().collect();
    assert_eq!(keys, ["code", "message", "advice", "requestId"], "{body}");
    assert_eq!(body["error"]["code"], code, "{body}");
    assert!(!body.to_string().contains("Path("), "{body}");
}

#[test]
fn the_index_leads_to_everything() {
    let server = Server::shared();
    let (status, index) = server.get("/");
    assert_eq!((status, &index["service"]), (200, &json!("waygate-mcp")));
    let served = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
    assert_eq!(index["protocolVersions"], json!(served));
    let links = index["links"].as_object().expect("links").values();
    for link in links.flat_map(|link| link.as_array().cloned().unwrap_or_else(|| vec![link.clone()])) {
        let link = link.as_str().expect("a path");
        let found = Http::get(link).send(server.address).status;
        // The one wants to be told what, the other speaks by POST.
        let other = [("/diagnostics/explain", 400), ("/mcp", 405)];
        assert!(found == 200 || other.contains(&(link, found)), "{link}: {found}");
    }
}

#[test]
fn health_names_each_check_and_ready_tries_the_real_path() {
    let server = Server::start("echo");
    let (status, health) = server.get("/health");
    assert_eq!((status, &health["status"]), (200, &json!("healthy")));
    for check in ["backup", "cache", "certificate", "database", "filesystem", "limits", "log", "plugins"] {
        assert!(matches!(health["checks"][check].as_str(), Some("ok" | "disabled")), "{health}");
    }
    assert!(
        health["uptimeSeconds"].is_u64() && health["checkedAt"].is_string() && health["version"].is_string()
    );
    assert_eq!(server.get("/ready"), (200, json!({"ready": true, "phase": "serving"})));
}

#[test]
fn a_server_that_stops_is_not_ready_and_takes_no_new_request() {
    let server = Server::start("faulty_server");
    let kept = Http::tool("sleep", json!({"ms": 1500})).open(server.address);
    eventually("the call runs", || (server.get("/plugins/faulty").1["running"] == 1).then_some(()));
    server.signal("-TERM");
    let unready = eventually("it is not ready", || {
        let reply = Http::get("/ready").send(server.address);
        (reply.status == 503).then_some(reply)
    });
    assert_eq!((unready.header("retry-after"), &unready.json()["ready"]), (Some("1"), &json!(false)));
    let refused = Http::tool("repeat", json!({})).send(server.address);
    assert_eq!((refused.status, refused.code()), (503, -31503));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(kept.finish().result()["content"][0]["text"], "slept", "what was begun is finished");
}

/// Makes everything happen once that is counted.
fn provoke(server: &Server) {
    server.tool("repeat", json!({}));
    for tool in ["panic", "fail", "refuse"] {
        server.call("tools/call", json!({"name": tool}));
    }
    Http::get("/").set("Host", "evil.example.com").send(server.address);
    // From the second on they are looked for where answers are kept.
    for _ in 0..2 {
        server.call("resources/read", json!({"uri": "test://item/kept"}));
    }
    let mut open = Http::modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}))
        .open(server.address);
    open.event().expect("an acknowledgement");
    server.tool("touch", json!({"what": "tools"}));
    open.event().expect("news");
}

#[test]
fn every_metric_of_the_table_is_shown_and_no_other() {
    let server = Server::start("faulty_server");
    provoke(&server);
    let reply = Http::get("/metrics").send(server.address);
    assert!(reply.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    let text = reply.text();
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    // What a plugin's processes use is shown where a plugin has processes, what limits refused where there are limits, what
    // became of spans where they are collected, and how a database came back where it was gone.
    let elsewhere = [
        "waygate_db_moved_total",
        "waygate_plugin_cpu_seconds",
        "waygate_plugin_resident_memory_bytes",
        "waygate_limited_total",
        "waygate_trace_spans_total",
    ];
    let known = TABLE.iter().map(|(name, ..)| *name).filter(|name| !elsewhere.contains(name));
    assert_eq!(shown, known.collect::<BTreeSet<_>>());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn metrics_count_what_happened() {
    let server = Server::start("faulty_server");
    provoke(&server);
    for (name, value) in [
        (r#"waygate_requests_total{method="tools/call",outcome="ok"}"#, 2.0),
        (r#"waygate_requests_total{method="tools/call",outcome="tool_error"}"#, 1.0),
        (r#"waygate_requests_total{method="tools/call",outcome="internal"}"#, 2.0),
        (r#"waygate_requests_total{method="subscriptions/listen",outcome="ok"}"#, 1.0),
        (r#"waygate_errors_total{code="internal"}"#, 2.0),
        (r#"waygate_refused_total{reason="foreign"}"#, 1.0),
        (r#"waygate_plugin_panics_total{plugin="faulty"}"#, 1.0),
        (r#"waygate_tool_duration_seconds_count{tool="repeat"}"#, 1.0),
        (r#"waygate_response_time_seconds_count{method="tools/call"}"#, 3.0),
        ("waygate_stream_events_total", 1.0),
        ("waygate_requests_in_flight", 0.0),
    ] {
        assert_eq!(server.metric(name), Some(value), "{name}");
    }
}

#[test]
fn a_name_that_a_caller_made_up_is_no_label() {
    let server = Server::start("faulty_server");
    server.call("no/such/method", json!({}));
    server.call("tools/call", json!({"name": "no_such_tool"}));
    let text = server.metrics();
    assert!(!text.contains("no_such_tool") && !text.contains("no/such/method"));
    assert_eq!(
        server.metric(r#"waygate_requests_total{method="unknown",outcome="method_not_found"}"#),
        Some(1.0)
    );
}

#[test]
fn diagnostics_show_connections_times_actors_and_errors() {
    let server = Server::start("faulty_server");
    provoke(&server);
    let (_, connection) = server.get("/diagnostics/connection");
    let socket = server.folder.join("data/waygate.sock");
    let listeners = [format!("http://{}", server.address), format!("unix:{}", socket.display())];
    assert_eq!(connection["listeners"], json!(listeners));
    assert!(
        connection["connections"]["open"].as_u64() >= Some(1)
            && connection["connections"]["byEra"].is_object()
            && connection["sessions"]["open"].is_u64()
    );
    assert!(connection["database"]["latencyMs"].is_number(), "{connection}");
    let (_, performance) = server.get("/diagnostics/performance");
    for key in ["uptimeSeconds", "rssBytes", "threads", "openFiles", "requestsInFlight", "queues"] {
        assert!(performance.get(key).is_some(), "{key}: {performance}");
    }
    let tools = performance["tools"].as_array().expect("tools");
    assert!(tools.iter().any(|tool| tool["tool"] == "repeat" && tool["count"] == 1), "{performance}");
    let (_, errors) = server.get("/diagnostics/errors");
    assert_eq!(errors["errors"].as_array().map(Vec::len), Some(2), "{errors}");
    assert_eq!(server.get("/diagnostics/errors?limit=1").1["errors"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.get("/diagnostics/errors?since=3600").1["errors"].as_array().map(Vec::len), Some(2));
    assert_eq!(server.get("/diagnostics/errors?since=2099-01-01T00:00:00Z").1["errors"], json!([]));
    for query in ["?limit=x", "?since=yesterday", "?unheard=1", "?limit=-1"] {
        let reply = Http::get(&format!("/diagnostics/errors{query}")).send(server.address);
        refused(&reply, 400, "invalid_params");
    }
}

#[test]
fn plugins_are_shown_with_their_tools_and_limits() {
    let server = Server::start("faulty_server");
    let (_, plugins) = server.get("/plugins");
    let names: Vec<&Value> =
        plugins["plugins"].as_array().expect("plugins").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, [&json!("faulty"), &json!("many")]);
    let (_, many) = server.get("/plugins/many");
    assert_eq!((&many["state"], &many["toolCount"]), (&json!("ready"), &json!(250)));
    assert_eq!(many["tools"].as_array().map(Vec::len), Some(250));
    assert_eq!(many["limits"]["timeoutSeconds"], 30);
}

#[test]
fn what_is_not_there_is_not_found_and_what_cannot_be_done_is_not_allowed() {
    let server = Server::shared();
    for path in
        ["/nope", "/plugins/nope", "/mcp/", "/health/", "/diagnostics", "/%2e%2e/etc/passwd", "/plugins/%00"]
    {
        refused(&Http::get(path).send(server.address), 404, "not_found");
    }
    refused(&with("POST", "/diagnostics/actors/nobody/crash").send(server.address), 404, "not_found");
    for path in ["/", "/health", "/ready", "/metrics", "/plugins", "/plugins/many", "/diagnostics/actors"] {
        for method in ["POST", "DELETE", "PUT"] {
            let reply = with(method, path).send(server.address);
            refused(&reply, 405, "method_not_allowed");
            assert_eq!(reply.header("allow"), Some("GET"), "{method} {path}");
        }
    }
    let reply = Http::get("/diagnostics/actors/health/crash").send(server.address);
    refused(&reply, 405, "method_not_allowed");
    assert_eq!(reply.header("allow"), Some("POST"));
}

#[test]
fn actors_can_be_crashed_in_the_test_environment_and_come_back() {
    let server = Server::start("faulty_server");
    for actor in ["metrics", "health", "plugin-faulty", "executor-0", "executor-1", "db"] {
        let reply = with("POST", &format!("/diagnostics/actors/{actor}/crash")).send(server.address);
        assert_eq!(reply.json()["crashed"], actor, "{}", reply.text());
        let restarted = eventually("it is back", || {
            let (_, actors) = server.get("/diagnostics/actors");
            let part = actors["actors"].as_array()?.iter().find(|part| part["name"] == actor)?.clone();
            (part["restarts"] == 1).then_some(part)
        });
        assert_eq!(restarted["state"], "running");
        assert!(restarted["lastPanic"]["message"].is_string());
    }
    server.tool("repeat", json!({}));
    eventually("it is ready", || (server.get("/ready").0 == 200).then_some(()));
}

#[test]
fn health_is_looked_at_before_it_is_judged() {
    let server = Server::start("echo");
    // The first words of a server, and of a monitor that has just come back.
    assert_eq!(server.get("/health").1["problems"], json!({}));
    with("POST", "/diagnostics/actors/health/crash").send(server.address);
    assert_eq!(server.get("/health").1["problems"], json!({}));
}

#[test]
fn outside_the_test_environment_nothing_can_be_crashed() {
    let server = Server::in_environment("echo", "development");
    refused(&with("POST", "/diagnostics/actors/metrics/crash").send(server.address), 404, "not_found");
}
