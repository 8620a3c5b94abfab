//! Who may come in: keys, hosts, origins, and what strangers are not shown.

use serde_json::json;

use crate::support::{Http, Server};

const KEY: &str = "a-key-that-is-long-enough-to-be-one";
/// Every route, with the method that it takes.
const ROUTES: [&str; 13] = [
    "GET /",
    "GET /health",
    "GET /ready",
    "GET /metrics",
    "GET /plugins",
    "GET /plugins/many",
    "GET /diagnostics/connection",
    "GET /diagnostics/performance",
    "GET /diagnostics/errors",
    "GET /diagnostics/actors",
    "GET /mcp",
    "POST /mcp",
    "GET /nope",
];

fn with(head: &str) -> Http {
    if head == "POST /mcp" {
        return Http::modern("tools/list", json!({}));
    }
    Http { head: head.to_owned(), ..Http::get("/") }
}

fn locked() -> Server {
    Server::with("faulty_server", &[("WAYGATE_API_KEY", KEY)])
}

#[test]
fn without_the_key_nothing_opens_but_the_probes() {
    let heads: Vec<&str> = ROUTES
        .iter()
        .copied()
        .chain([
            "DELETE /mcp",
            "POST /diagnostics/actors/metrics/crash",
            "PUT /health",
            "POST /admin/api/keys",
        ])
        .filter(|head| !matches!(*head, "GET /health" | "GET /ready"))
        .collect();
    // Many wrong keys in a row would be answered otherwise.
    for heads in heads.chunks(5) {
        let server = locked();
        for head in heads {
            for request in [
                with(head),
                with(head).header("Authorization", "Bearer wrong"),
                with(head).header("Authorization", "Bearer"),
                with(head).header("Authorization", &format!("Basic {KEY}")),
                with(head).header("X-API-Key", ""),
                with(head).header("X-API-Key", &KEY[1..]),
                with(head).header("X-API-Key", &KEY.to_uppercase()),
            ] {
                let reply = request.send(server.address);
                assert_eq!(reply.status, 401, "{head} {:?}: {}", request.headers, reply.text());
                assert!(
                    reply.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")),
                    "{head}"
                );
                assert!(!reply.text().contains(KEY));
            }
        }
    }
    let server = locked();
    assert_eq!(with("GET /health").send(server.address).status, 200);
    assert_eq!(with("GET /ready").send(server.address).status, 200);
}

#[test]
fn a_stranger_is_refused_before_its_body_is_read() {
    let server = locked();
    let endless = Http::post("").header("Transfer-Encoding", "chunked");
    let reply = endless.send(server.address);
    assert_eq!((reply.status, reply.code()), (401, -31401));
    assert_eq!(Http::post("nonsense").send(server.address).status, 401);
}

#[test]
fn the_key_opens_everything_in_either_header() {
    let server = locked();
    for (name, value) in [
        ("Authorization", format!("Bearer {KEY}")),
        ("authorization", format!("bearer  {KEY}")),
        ("X-API-Key", KEY.to_owned()),
    ] {
        for head in ROUTES {
            let status = with(head).header(name, &value).send(server.address).status;
            let wanted = match head {
                "GET /mcp" => 405,
                "GET /nope" => 404,
                _ => 200,
            };
            assert_eq!(status, wanted, "{head} {name}: {value}");
        }
    }
    let who = Http::tool("whoami", json!({})).header("X-API-Key", KEY).send(server.address).result();
    assert_eq!(who["structuredContent"]["operator"], true);
    assert_ne!(who["structuredContent"]["caller"], "0");
}

#[test]
fn probes_show_details_to_the_machine_and_to_the_key_but_not_to_strangers() {
    for settings in [&[][..], &[("WAYGATE_API_KEY", KEY)]] {
        let server = Server::with("faulty_server", settings);
        for path in ["/health", "/ready"] {
            let local = Http::get(path).send(server.address).json();
            assert!(local.get("phase").is_some(), "{local}");
            for header in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host"] {
                let forwarded = Http::get(path).header(header, "203.0.113.7");
                let shown = forwarded.send(server.address).json();
                assert_eq!(shown.as_object().map(serde_json::Map::len), Some(1), "{path} {header}: {shown}");
                if !settings.is_empty() {
                    let known = forwarded.header("X-API-Key", KEY).send(server.address).json();
                    assert!(known.get("phase").is_some(), "{known}");
                }
            }
        }
    }
}

#[test]
fn a_foreign_host_is_refused_on_every_route() {
    let server = Server::start("faulty_server");
    for head in ROUTES {
        for host in
            ["evil.example.com", "evil.example.com:8000", "127.0.0.1.evil.example", "localhost.evil", ""]
        {
            let reply = with(head).set("Host", host).send(server.address);
            assert_eq!(reply.status, 403, "{head} {host}: {}", reply.text());
        }
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000"] {
            assert_ne!(with(head).set("Host", host).send(server.address).status, 403, "{head} {host}");
        }
    }
}

#[test]
fn a_foreign_origin_is_refused_on_every_route() {
    let server = Server::start("faulty_server");
    for head in ROUTES {
        for origin in
            ["http://evil.example.com", "https://localhost.evil", "null", "", "file://localhost", "localhost"]
        {
            let reply = with(head).header("Origin", origin).send(server.address);
            assert_eq!(reply.status, 403, "{head} {origin}: {}", reply.text());
        }
        let own = with(head).header("Origin", "http://localhost:3000");
        assert_ne!(own.send(server.address).status, 403, "{head}");
        let two = own.header("Origin", "http://evil.example.com");
        assert_eq!(two.send(server.address).status, 403, "{head}");
    }
    // Even with the key, and before it is looked at.
    let server = locked();
    let reply = with("POST /mcp").header("X-API-Key", KEY).header("Origin", "http://evil.example.com");
    assert_eq!(reply.send(server.address).status, 403);
}

#[test]
fn hosts_and_origins_that_the_operator_named_are_let_in() {
    let server = Server::with(
        "faulty_server",
        &[
            ("WAYGATE_ALLOWED_HOSTS", "mcp.example.com"),
            ("WAYGATE_ALLOWED_ORIGINS", "https://app.example.com"),
        ],
    );
    let request =
        with("POST /mcp").set("Host", "mcp.example.com:443").header("Origin", "https://app.example.com");
    assert_eq!(request.clone().send(server.address).status, 200);
    assert_eq!(request.clone().set("Origin", "http://app.example.com").send(server.address).status, 403);
    assert_eq!(request.set("Host", "example.com").send(server.address).status, 403);
}
