//! HTTP+SSE, the transport of 2024-11-05: one stream that says where to POST and on which everything is answered.

use serde_json::{Value, json};

use crate::legacy::{Session, Stream, answer, everything, handshake, notification, request};
use crate::support::{Http, Reply, Server, eventually};

/// A client on two URLs.
struct Client {
    server: std::sync::Arc<Server>,
    stream: Stream,
    url: String,
}

fn listen() -> Http {
    Http::get("/sse").header("Accept", "text/event-stream")
}

impl Client {
    #[track_caller]
    fn connect(server: &std::sync::Arc<Server>) -> Self {
        let mut stream = Stream::open(&listen(), server.address);
        assert_eq!(stream.status, 200);
        assert_eq!(stream.header("content-type"), Some("text/event-stream"));
        assert_eq!(stream.header("mcp-session-id"), None);
        let first = stream.event().expect("a first event");
        assert_eq!(first.name.as_deref(), Some("endpoint"));
        let url = first.data.expect("a URL");
        assert!(url.starts_with("/messages?"), "{url}");
        Self { server: std::sync::Arc::clone(server), stream, url }
    }

    /// Connected and initialized.
    #[track_caller]
    fn open(server: &std::sync::Arc<Server>) -> Self {
        let mut client = Self::connect(server);
        client.say(&handshake("2024-11-05", everything()));
        let welcome = client.next();
        assert_eq!(
            (&welcome["id"], &welcome["result"]["protocolVersion"]),
            (&json!(0), &json!("2024-11-05"))
        );
        client.say(&notification("notifications/initialized", json!({})));
        client
    }

    fn post(&self, message: &Value) -> Reply {
        let head = format!("POST {}", self.url);
        Http { head, ..Http::post(message.to_string()) }.send(self.server.address)
    }

    #[track_caller]
    fn say(&self, message: &Value) {
        let reply = self.post(message);
        assert_eq!(reply.status, 202, "{}", reply.text());
    }

    /// The next message; its event has a name and no id.
    #[track_caller]
    fn next(&mut self) -> Value {
        let event = self.stream.event().expect("an event");
        assert_eq!((event.name.as_deref(), &event.id), (Some("message"), &None));
        event.message()
    }

    #[track_caller]
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.say(&request("r", method, params));
        let answer = self.next();
        assert_eq!(answer["id"], "r", "{answer}");
        answer
    }

    #[track_caller]
    fn tool(&mut self, name: &str, arguments: Value) {
        self.say(&request("t", "tools/call", json!({"name": name, "arguments": arguments})));
    }
}

#[test]
fn everything_is_answered_on_the_one_stream() {
    let server = Server::shared();
    let mut client = Client::open(&server);
    assert_eq!(client.call("ping", json!({}))["result"], json!({}));
    assert!(client.call("tools/list", json!({}))["result"]["tools"].is_array());
    let params = json!({"name": "repeat", "arguments": {"n": 1}});
    assert_eq!(client.call("tools/call", params)["result"]["content"][0]["text"], r#"{"n":1}"#);
    assert_eq!(client.call("no/such", json!({}))["error"]["code"], -32601);
    assert_eq!(client.call("resources/read", json!({"uri": "test://no_such"}))["error"]["code"], -32002);
    assert_eq!(
        client.call("tools/call", json!({"name": "structured", "arguments": {"n": "x"}}))["error"]["code"],
        -32602
    );
    let rich = client.call("tools/call", json!({"name": "rich", "arguments": {}}));
    assert!(!rich.to_string().contains("resource_link") && rich["result"].get("structuredContent").is_none());
}

#[test]
fn calls_run_side_by_side_and_tell_their_progress() {
    let server = Server::shared();
    let mut client = Client::open(&server);
    let slow = json!({"name": "steps", "arguments": {"n": 3, "ms": 100}, "_meta": {"progressToken": "p"}});
    client.say(&request(1, "tools/call", slow));
    assert_eq!(client.next()["params"]["progress"], 1);
    client.say(&request(2, "ping", json!({})));
    let (mut progress, mut answers) = (Vec::new(), Vec::new());
    while answers.len() < 2 {
        let message = client.next();
        match message.get("id") {
            Some(id) => answers.push(id.clone()),
            None => {
                assert!(message["params"].get("message").is_none(), "progress says no more in 2024-11-05");
                progress.push(message["params"]["progress"].clone());
            }
        }
    }
    assert_eq!((progress, answers), (vec![json!(2), json!(3)], vec![json!(2), json!(1)]));
}

#[test]
fn calls_that_ask_are_answered_by_post() {
    let server = Server::shared();
    let mut client = Client::open(&server);
    client.tool("ask_sampling", json!({}));
    let ask = client.next();
    assert_eq!(ask["method"], "sampling/createMessage");
    client.say(&answer(
        &ask,
        json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "Yes"}}),
    ));
    assert_eq!(client.next()["result"]["content"][0]["text"], "Yes");
    client.tool("ask_roots", json!({}));
    let ask = client.next();
    assert_eq!(ask["method"], "roots/list");
    client.say(&answer(&ask, json!({"roots": []})));
    assert!(client.next()["result"]["content"].is_array());
    // What came later is not asked.
    client.tool("ask", json!({}));
    assert_eq!(client.next()["result"]["isError"], true);
    let nobody = client.post(&json!({"jsonrpc": "2.0", "id": 99, "result": {}}));
    assert_eq!((nobody.status, nobody.code()), (400, -32600));
}

#[test]
fn news_come_on_the_same_stream() {
    let server = std::sync::Arc::new(Server::start("faulty_server"));
    let mut client = Client::open(&server);
    assert_eq!(client.call("resources/subscribe", json!({"uri": "test://counter"}))["result"], json!({}));
    for (what, method) in [("counter", "resources/updated"), ("prompts", "prompts/list_changed")] {
        server.tool("touch", json!({"what": what}));
        assert_eq!(client.next()["method"], format!("notifications/{method}"));
    }
}

#[test]
fn a_call_is_cancelled_by_a_message_and_by_the_end_of_the_stream() {
    let server = std::sync::Arc::new(Server::start("faulty_server"));
    let running = |count: u64| {
        eventually("the calls run", || (server.get("/plugins/faulty").1["running"] == count).then_some(()));
    };
    let mut client = Client::open(&server);
    client.tool("hang", json!({}));
    running(1);
    client.say(&notification("notifications/cancelled", json!({"requestId": "t"})));
    running(0);
    assert_eq!(client.call("ping", json!({}))["result"], json!({}), "nothing was answered before");
    client.tool("hang", json!({}));
    running(1);
    let Client { stream, .. } = client;
    drop(stream);
    running(0);
    eventually("the session has ended", || (server.metric("waygate_sessions") == Some(0.0)).then_some(()));
}

#[test]
fn a_session_is_its_stream_and_ends_with_it() {
    let server = std::sync::Arc::new(Server::start("faulty_server"));
    let client = Client::open(&server);
    assert_eq!(server.metric("waygate_sessions"), Some(1.0));
    let Client { stream, url, .. } = client;
    drop(stream);
    eventually("the session has ended", || (server.metric("waygate_sessions") == Some(0.0)).then_some(()));
    let head = format!("POST {url}");
    let late = Http { head, ..Http::post(request(1, "ping", json!({})).to_string()) }.send(server.address);
    assert_eq!((late.status, late.code()), (404, -31404));
}

#[test]
fn a_post_to_another_session_or_none_is_not_found() {
    let server = Server::shared();
    let client = Client::open(&server);
    let ping = request(1, "ping", json!({}));
    let to = |path: &str| Http { head: format!("POST {path}"), ..Http::post(ping.to_string()) };
    let newer = Session::newest(&server);
    for path in [
        "/messages".to_owned(),
        "/messages?session_id=".to_owned(),
        "/messages?session_id=x".to_owned(),
        format!("{}x", client.url),
        format!("/messages?session_id={}", newer.id),
    ] {
        let reply = to(&path).send(server.address);
        assert_eq!((reply.status, reply.code()), (404, -31404), "{path}: {}", reply.text());
    }
    // Nor is a session of this transport one of the other.
    let id = client.url.split_once("session_id=").expect("an id").1;
    let reply = Http::post(ping.to_string()).header("Mcp-Session-Id", id).send(server.address);
    assert_eq!((reply.status, reply.code()), (404, -31404));
    client.say(&ping);
}

#[test]
fn nothing_but_a_ping_is_answered_before_the_handshake_and_there_is_one_handshake() {
    let server = Server::shared();
    let mut client = Client::connect(&server);
    assert_eq!(client.call("ping", json!({}))["result"], json!({}));
    let early = client.call("tools/list", json!({}));
    assert_eq!(early["error"]["code"], -32600, "{early}");
    let bad = client.post(&request(5, "initialize", json!({})));
    assert_eq!((bad.status, bad.code(), &bad.json()["id"]), (400, -32602, &json!(5)));
    client.say(&handshake("2024-11-05", json!({})));
    assert!(client.next()["result"].is_object());
    client.say(&handshake("2025-11-25", json!({})));
    let again = client.next();
    assert_eq!(again["error"]["code"], -32600, "{again}");
    assert!(client.call("tools/list", json!({}))["result"]["tools"].is_array());
}

#[test]
fn what_is_no_message_is_refused_at_once() {
    let server = Server::shared();
    let client = Client::open(&server);
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        ("7", -32600),
        ("[]", -32600),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600),
    ] {
        let head = format!("POST {}", client.url);
        let reply = Http { head, ..Http::post(body) }.send(server.address);
        assert_eq!((reply.status, reply.code()), (400, code), "{body}: {}", reply.text());
    }
    let head = format!("POST {}", client.url);
    let text = Http { head, ..Http::post("{}") }.set("Content-Type", "text/plain").send(server.address);
    assert_eq!(text.status, 415);
    client.say(&request(1, "ping", json!({})));
}

#[test]
fn the_stream_is_for_those_who_take_one_and_may_come_in() {
    let server = Server::shared();
    let json = listen().set("Accept", "application/json").send(server.address);
    assert_eq!((json.status, json.code()), (406, -31406));
    for (name, value) in [("Host", "evil.example.com"), ("Origin", "http://evil.example.com")] {
        assert_eq!(listen().set(name, value).send(server.address).status, 403);
    }
    for head in ["POST /sse", "DELETE /sse", "GET /messages"] {
        let reply = Http { head: head.to_owned(), ..Http::post("{}") }.send(server.address);
        assert_eq!(reply.status, 405, "{head}: {}", reply.text());
    }
    let locked = Server::with("faulty_server", &[("WAYGATE_API_KEY", "a-key-that-is-long-enough-to-be-one")]);
    assert_eq!(listen().send(locked.address).status, 401);
    let post = Http { head: "POST /messages?session_id=x".to_owned(), ..Http::post("{}") };
    assert_eq!(post.send(locked.address).status, 401);
}

#[test]
fn a_client_of_a_newer_revision_may_speak_over_two_urls() {
    let server = Server::shared();
    let mut client = Client::connect(&server);
    client.say(&handshake("2025-11-25", everything()));
    assert_eq!(client.next()["result"]["protocolVersion"], "2025-11-25");
    client.tool("ask", json!({"city": "Ulm"}));
    let ask = client.next();
    client.say(&answer(&ask, json!({"action": "accept", "content": {"name": "Ada"}})));
    assert_eq!(client.next()["result"]["content"][0]["text"], "Hello, Ada of Ulm!");
    client.tool("quiet", json!({"ms": 10}));
    assert_eq!(client.next()["result"]["content"][0]["text"], "quiet is over", "nobody hangs up here");
}

#[test]
fn an_idle_client_is_pinged_and_its_session_ends_without_an_answer() {
    let settings = [("WAYGATE_MCP_SESSION_IDLE_SECONDS", "1")];
    let server = std::sync::Arc::new(Server::with("faulty_server", &settings));
    let mut lives = Client::open(&server);
    let mut dies = Client::open(&server);
    for _ in 0..4 {
        let ping = lives.next();
        assert_eq!(ping["method"], "ping");
        lives.say(&answer(&ping, json!({})));
    }
    let told = dies.stream.rest();
    assert!(told.iter().all(|message| message["method"] == "ping") && !told.is_empty(), "{told:?}");
    lives.say(&notification("notifications/initialized", json!({})));
}

/// What the server's process holds in memory, in kilobytes.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse().ok()).expect("a number")
}

#[test]
fn a_client_that_never_reads_its_answers_costs_no_more_than_its_room() {
    let server = std::sync::Arc::new(Server::start("faulty_server"));
    let client = Client::open(&server);
    let before = memory(&server);
    let large = json!({"name": "repeat", "arguments": {"text": "x".repeat(200_000)}});
    for id in 0..600 {
        let reply = client.post(&request(id, "tools/call", large.clone()));
        assert!(matches!(reply.status, 202 | 404), "{}", reply.text());
    }
    // 120 MB were answered to nobody.
    let kept = memory(&server).saturating_sub(before);
    assert!(kept < 60_000, "{kept} KB");
    Client::open(&server).call("ping", json!({}));
    drop(client);
    eventually("the session has ended", || (server.metric("waygate_sessions") == Some(0.0)).then_some(()));
}
