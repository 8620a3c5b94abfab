//! TLS at the door: what is spoken, renewal without a restart, files that cannot be used, and the verbs that go on.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::tls::{Authority, ask, borrowed, connect, open, shown};
use crate::support::{Http, Server, database_of, eventually, program, raw};

const HOST: &str = "localhost";
const CONFIG: i32 = 78;

/// A server with the certificate `server.pem`.
fn secured(authority: &Authority, name: &str, more: &[(&str, &str)]) -> Server {
    Server::with(name, &borrowed(&authority.settings("server"), more))
}

/// Runs a verb of the program on the folder of a server, with the server's settings.
fn verb(server: &Server, authority: &Authority, words: &[&str]) -> Output {
    let mut command = Command::new(program("waygate-mcp"));
    command.args(words).args(["--env", "test", "--data-dir"]).arg(&server.folder).stdin(Stdio::null());
    command.env_clear().envs(database_of(&server.folder)).env("HOME", &server.folder);
    command.envs(authority.settings("server")).current_dir(&server.folder);
    command.output().expect("the program runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What `/health` says, as the folder's user sees it.
fn health(server: &Server, authority: &Authority) -> Value {
    let output = verb(server, authority, &["health", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn https_is_spoken_in_both_versions_and_no_other_protocol_is_agreed_to() {
    let authority = Authority::new();
    let wanted = authority.issue("server", HOST, 90);
    let server = secured(&authority, "faulty_server", &[]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = (*authority.client_of(&[version], None)).clone();
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut secure = connect(server.address, HOST, &client.into()).expect("a handshake");
        assert_eq!(secure.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(shown(&secure), wanted);
        for _ in 0..2 {
            let reply = ask(&mut secure, &Http::tool("steps", json!({})), server.address);
            assert_eq!(reply.result()["content"][0]["text"], "arrived");
        }
        let seen = ask(&mut secure, &Http::get("/diagnostics/connection"), server.address).json();
        assert_eq!(seen["listeners"][0], format!("https://{}", server.address));
        assert_eq!(seen["connections"]["open"], 1, "{seen}");
    }
    let mut client = (*authority.client()).clone();
    client.alpn_protocols = vec![b"h2".to_vec()];
    assert!(connect(server.address, HOST, &client.into()).is_err(), "HTTP/2 is not spoken");
    assert!(
        connect(server.address, HOST, &Authority::new().client()).is_err(),
        "a stranger to this authority"
    );
}

#[test]
fn a_stream_over_tls_tells_each_event_when_it_happens() {
    let authority = Authority::new();
    authority.issue("server", HOST, 90);
    let server = secured(&authority, "faulty_server", &[]);
    let secure = || connect(server.address, HOST, &authority.client()).expect("a handshake");
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let mut stream = open(secure(), &Http::modern("subscriptions/listen", wanted), server.address);
    assert_eq!(stream.event().expect("a word")["method"], "notifications/subscriptions/acknowledged");
    for _ in 0..3 {
        let touched = ask(&mut secure(), &Http::tool("touch", json!({"what": "tools"})), server.address);
        assert_eq!(touched.status, 200);
        assert_eq!(stream.event().expect("news")["method"], "notifications/tools/list_changed");
    }
}

#[test]
fn who_goes_away_over_tls_cancels_the_call() {
    let authority = Authority::new();
    authority.issue("server", HOST, 90);
    let server = secured(&authority, "faulty_server", &[]);
    let secure = || connect(server.address, HOST, &authority.client()).expect("a handshake");
    let call = open(secure(), &Http::tool("hang", json!({})), server.address);
    let metric = |name: &str| {
        let text = ask(&mut secure(), &Http::get("/metrics"), server.address).text();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
    };
    eventually("the call runs", || {
        (metric("waygate_plugin_running{plugin=\"faulty\"}") == Some(1.0)).then_some(())
    });
    drop(call);
    eventually("it is cancelled", || (metric("waygate_cancelled_total") == Some(1.0)).then_some(()));
}

#[test]
fn plain_http_is_refused_in_plain_words_and_nonsense_without_any() {
    let authority = Authority::new();
    authority.issue("server", HOST, 90);
    let server = secured(&authority, "faulty_server", &[]);
    for request in [Http::get("/health"), Http::tool("steps", json!({}))] {
        let reply = request.send(server.address);
        assert_eq!((reply.status, reply.header("connection")), (400, Some("close")), "{}", reply.text());
        let error = &reply.json()["error"];
        assert!(error["message"].as_str().is_some_and(|why| why.contains("https")), "{error}");
        assert!(error["advice"].as_str().is_some_and(|advice| advice.contains("https://")), "{error}");
    }
    // A handshake that is none, and one that breaks off.
    assert!(!raw(server.address, &[0x16, 3, 1, 0, 2, 9, 9]).contains("HTTP"));
    assert!(!raw(server.address, &[0xff; 64]).contains("HTTP"));
    let secure = || connect(server.address, HOST, &authority.client()).expect("a handshake");
    let metrics = ask(&mut secure(), &Http::get("/metrics"), server.address).text();
    for line in [
        "waygate_refused_total{reason=\"plain_http\"} 2",
        "waygate_refused_total{reason=\"tls_handshake\"} 2",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line}: {metrics}");
    }
}

#[test]
fn a_renewed_certificate_is_shown_from_the_reload_on_and_no_connection_ends() {
    let authority = Authority::new();
    let first = authority.issue("server", HOST, 90);
    let mut server = secured(&authority, "faulty_server", &[]);
    let connected = || connect(server.address, HOST, &authority.client()).expect("a handshake");
    let mut kept = connected();
    let mut still_served = || {
        let reply = ask(&mut kept, &Http::tool("steps", json!({})), server.address);
        assert_eq!(reply.status, 200);
    };
    still_served();
    let second = authority.issue("server", HOST, 60);
    assert_eq!(shown(&connected()), first, "nobody said that it changed");
    server.signal("-HUP");
    eventually("the new one is shown", || (shown(&connected()) == second).then_some(()));
    still_served();
    // A bad one changes nothing, and is told of.
    fs::write(authority.path("server.key"), "nonsense").expect("a file");
    server.signal("-HUP");
    let health = eventually("the health tells of it", || {
        let health = health(&server, &authority);
        (health["checks"]["certificate"] == "degraded").then_some(health)
    });
    let why = health["problems"]["certificate"].as_str().expect("a reason");
    assert!(why.contains("server.key") && why.contains("stays in use"), "{why}");
    assert!(server.log().contains("stays in use: tls.key"), "{}", server.log());
    assert_eq!(shown(&connected()), second);
    still_served();
    // A good one mends it.
    let third = authority.issue("server", HOST, 30);
    server.signal("-HUP");
    eventually("the third is shown", || (shown(&connected()) == third).then_some(()));
    still_served();
    let acts = verb(&server, &authority, &["history", "list", "--kind", "admin", "--method", "tls/reload"]);
    assert_eq!(said(&acts).matches("tls/reload").count(), 3, "{}", said(&acts));
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn the_verbs_go_on_over_the_socket_in_the_folder() {
    let authority = Authority::new();
    // Nobody trusts it here, and it is not for this machine's name.
    authority.issue("server", "mcp.example.org", 90);
    let server = secured(&authority, "waygate-mcp", &[]);
    let run = |words: &[&str]| {
        let output = verb(&server, &authority, words);
        (output.status.code(), said(&output))
    };
    let (code, says) = run(&["status"]);
    assert_eq!(code, Some(0), "{says}");
    assert!(says.contains(&format!("https://{}", server.address)), "{says}");
    let (code, says) = run(&["tools", "call", "waygate__status"]);
    assert_eq!(code, Some(0), "{says}");
    let (code, says) = run(&["tools", "list"]);
    assert!(code == Some(0) && says.contains("files__read_file"), "{says}");
    let (code, says) = run(&["plugins", "reload"]);
    assert!(code == Some(0) && !says.contains("certificate"), "{says}");
    authority.issue("server", "mcp.example.org", 80);
    let (code, says) = run(&["plugins", "reload"]);
    assert!(code == Some(0) && says.contains("changed: the certificate"), "{says}");
    fs::remove_file(authority.path("server.pem")).expect("it was there");
    let (code, says) = run(&["plugins", "reload"]);
    assert!(code == Some(1) && says.contains("server.pem is not there"), "{says}");
}

#[test]
fn a_reload_tells_of_the_certificate_also_where_the_plugins_cannot_be_read() {
    let authority = Authority::new();
    authority.issue("server", HOST, 90);
    let server = secured(&authority, "waygate-mcp", &[]);
    let plugins = server.folder.join("plugins");
    drop(fs::remove_dir_all(&plugins));
    fs::write(&plugins, "").expect("a file in the folder's place");
    let run = |wanted: &str| {
        let output = verb(&server, &authority, &["plugins", "reload"]);
        let says = said(&output);
        assert!(output.status.code() == Some(75) && says.contains("could not be read"), "{says}");
        assert!(says.contains(wanted), "{says}");
    };
    run("the certificate is the same");
    authority.issue("server", HOST, 80);
    run("a new certificate from ");
    fs::remove_file(authority.path("server.pem")).expect("it was there");
    run("server.pem is not there");
}

#[test]
fn a_certificate_that_ends_soon_is_told_of() {
    let authority = Authority::new();
    authority.issue("server", HOST, 5);
    let server = secured(&authority, "faulty_server", &[]);
    let health = health(&server, &authority);
    assert_eq!(
        (&health["status"], &health["checks"]["certificate"]),
        (&json!("degraded"), &json!("degraded"))
    );
    assert!(
        health["problems"]["certificate"].as_str().is_some_and(|why| why.contains("ends on")),
        "{health}"
    );
    let mut secure = connect(server.address, HOST, &authority.client()).expect("a handshake");
    let metrics = ask(&mut secure, &Http::get("/metrics"), server.address).text();
    let ends = metrics
        .lines()
        .find_map(|line| line.strip_prefix("waygate_tls_certificate_expiry_timestamp_seconds "));
    let left =
        ends.expect("a metric").parse::<f64>().expect("a number") - jiff::Timestamp::now().as_second() as f64;
    assert!((3.0 * 86400.0..=5.0 * 86400.0).contains(&left), "{left}");
}

#[test]
fn files_that_cannot_be_used_refuse_the_start_in_one_sentence() {
    let authority = Authority::new();
    authority.issue("server", HOST, 90);
    authority.issue("other", HOST, 90);
    authority.issue("ended", HOST, -1);
    let path = |name: &str| authority.path(name).display().to_string();
    let (good, key) = (path("server.pem"), path("server.key"));
    for (settings, says) in [
        (vec![("WAYGATE_TLS_CERT", path("nowhere.pem")), ("WAYGATE_TLS_KEY", key.clone())], "is not there"),
        (vec![("WAYGATE_TLS_CERT", good.clone())], "goes with tls.key"),
        (vec![("WAYGATE_TLS_KEY", key.clone())], "goes with tls.cert"),
        (vec![("WAYGATE_TLS_CERT", good.clone()), ("WAYGATE_TLS_KEY", path("other.key"))], "belong together"),
        (vec![("WAYGATE_TLS_CERT", path("ended.pem")), ("WAYGATE_TLS_KEY", path("ended.key"))], "ended on"),
        (vec![("WAYGATE_TLS_CERT", key.clone()), ("WAYGATE_TLS_KEY", key.clone())], "holds no certificate"),
        (vec![("WAYGATE_TLS_CERT", good.clone()), ("WAYGATE_TLS_KEY", good.clone())], "holds no private key"),
    ] {
        let place = tempfile::tempdir().expect("a folder");
        let output = Server::command("faulty_server", place.path(), &borrowed(&settings, &[])).output();
        let output = output.expect("it ends");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(CONFIG), "{told}");
        let line = told.lines().rev().find(|line| line.contains(says));
        assert!(line.is_some_and(|line| line.contains("; ")), "{says}: {told}");
        assert!(!place.path().join("data/waygate.db").exists(), "nothing was begun");
    }
}

#[test]
fn where_clients_need_a_certificate_nobody_without_one_comes_in() {
    let authority = Authority::new();
    authority.issue("server", HOST, 90);
    authority.issue("ada", "ada", 90);
    let strangers = Authority::new();
    strangers.issue("eve", "eve", 90);
    let ca = authority.path("ca.pem").display().to_string();
    let server = secured(&authority, "faulty_server", &[("WAYGATE_TLS_CLIENT_CA", &ca)]);
    let known = authority.client_of(rustls::ALL_VERSIONS, Some("ada"));
    let mut secure = connect(server.address, HOST, &known).expect("a handshake");
    assert_eq!(ask(&mut secure, &Http::tool("steps", json!({})), server.address).status, 200);
    // In TLS 1.3 the client learns of it with the first answer.
    let mut nobody = authority.client();
    for _ in 0..2 {
        let refused = connect(server.address, HOST, &nobody).and_then(|mut secure| {
            let mut byte = [0];
            secure.read_exact(&mut byte)
        });
        let why = refused.expect_err("it is refused").to_string();
        assert!(why.contains("alert") || why.contains("CertificateRequired"), "{why}");
        nobody = authority.client_of(&[&rustls::version::TLS12], None);
    }
    assert_eq!(health(&server, &authority)["checks"]["certificate"], "ok", "the folder's user needs none");
}

#[test]
fn a_server_over_tls_is_replaced_and_no_request_fails() {
    let authority = Authority::new();
    authority.issue("server", HOST, 90);
    let folder = tempfile::tempdir().expect("a folder");
    let settings = authority.settings("server");
    let start = || {
        let mut command = Server::command("echo", folder.path(), &borrowed(&settings, &[]));
        command.args(["serve", "--take-over"]);
        Server::by(command, folder.path())
    };
    let mut old = start();
    let address = old.address;
    let secure = || connect(address, HOST, &authority.client()).expect("a handshake");
    let echo = Http::tool("echo", json!({"message": "x"}));
    let mut kept = secure();
    assert_eq!(ask(&mut kept, &echo, address).status, 200);
    let new = start();
    assert_eq!(new.address, address);
    // It is answered until the old one has heard of the new one, and with that answer it ends.
    eventually("the old server sends its clients away", || {
        let reply = ask(&mut kept, &echo, address);
        assert_eq!(reply.status, 200, "{}", reply.text());
        (reply.header("connection") == Some("close")).then_some(())
    });
    drop(kept);
    assert_eq!(old.wait(), Some(0));
    assert_eq!(ask(&mut secure(), &echo, address).status, 200);
    // One whose certificate is bad does not get as far as to take over.
    fs::write(authority.path("server.key"), "nonsense").expect("a file");
    let mut command = Server::command("echo", folder.path(), &borrowed(&settings, &[]));
    let output = command.args(["serve", "--take-over"]).output().expect("it ends");
    assert_eq!(output.status.code(), Some(CONFIG), "{}", said(&output));
    assert_eq!(ask(&mut secure(), &echo, address).status, 200);
}

#[test]
fn browsers_are_told_to_stay_with_tls_where_others_come_from() {
    const KEY: &str = "a-key-that-is-long-enough-to-be-one";
    let authority = Authority::new();
    authority.issue("server", HOST, 90);
    for (host, wanted) in [("127.0.0.1", None), ("0.0.0.0", Some("max-age=31536000"))] {
        let more = [("WAYGATE_HOST", host), ("WAYGATE_API_KEY", KEY)];
        let server = secured(&authority, "faulty_server", &more);
        let mut secure = connect(server.address, HOST, &authority.client()).expect("a handshake");
        for request in [Http::get("/health"), Http::get("/nope"), Http::post("x")] {
            let reply = ask(&mut secure, &request.header("Host", HOST), server.address);
            assert_eq!(reply.header("strict-transport-security"), wanted, "{host}");
        }
    }
    let plain = Server::with("faulty_server", &[("WAYGATE_HOST", "0.0.0.0"), ("WAYGATE_API_KEY", KEY)]);
    assert_eq!(Http::get("/health").send(plain.address).header("strict-transport-security"), None);
}

#[cfg(feature = "postgres")]
#[test]
fn who_calls_while_the_server_starts_is_told_so_over_tls_too() {
    let authority = Authority::new();
    authority.issue("server", HOST, 90);
    let place = tempfile::tempdir().expect("a folder");
    // Nobody is there, so that it waits for its database.
    let settings = borrowed(
        &authority.settings("server"),
        &[("WAYGATE_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"), ("WAYGATE_DB_WAIT_SECONDS", "60")],
    )
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect::<Vec<_>>();
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let mut command = Command::new(program("faulty_server"));
    command.args(["--env", "test", "--port", &port.port().to_string(), "--data-dir"]).arg(place.path());
    command.env_clear().env("HOME", place.path()).envs(settings).current_dir(place.path());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let reply = eventually("the doorman answers", || {
        let mut secure = connect(port, HOST, &authority.client()).ok()?;
        let request = Http::get("/health").bytes(port);
        std::io::Write::write_all(&mut secure, &request).ok()?;
        let mut text = String::new();
        drop(secure.read_to_string(&mut text));
        (!text.is_empty()).then_some(text)
    });
    drop(child.kill());
    drop(child.wait());
    assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("the server is starting"), "{reply}");
}

#[test]
fn a_session_of_an_older_revision_lives_over_tls() {
    let authority = Authority::new();
    authority.issue("server", HOST, 90);
    let server = secured(&authority, "faulty_server", &[]);
    let mut secure = connect(server.address, HOST, &authority.client()).expect("a handshake");
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let reply = ask(&mut secure, &Http::post(hello.to_string()), server.address);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let session = reply.header("mcp-session-id").expect("a session").to_owned();
    let listening = Http { head: "GET /mcp".to_owned(), ..Http::post("") };
    let listening = listening.set("Accept", "text/event-stream").header("Mcp-Session-Id", &session);
    let mut stream = open(secure, &listening.header("MCP-Protocol-Version", "2025-11-25"), server.address);
    assert_eq!(stream.head().0, 200);
}
