//! Sessions of the older revisions: how they begin, whose they are, what they know, and how they end.

use std::collections::BTreeSet;

use diesel::{QueryableByName, RunQueryDsl as _, sql_query, sql_types};
use serde_json::{Value, json};

use crate::legacy::{NEWEST, REVISIONS, Session, everything, handshake, notification, request};
use crate::support::database::open;
use crate::support::{Http, MODERN, Reply, Server, eventually, raw};

const COUNTER: &str = "test://counter";

fn hello(revision: &str) -> Http {
    Http::post(handshake(revision, json!({})).to_string())
}

#[track_caller]
fn refused(reply: &Reply, status: u16, code: i64) {
    assert_eq!((reply.status, reply.code()), (status, code), "{}", reply.text());
    assert!(reply.json()["error"]["message"].as_str().is_some_and(|says| !says.is_empty()));
}

/// A refusal inside a session: an answer like any other.
#[track_caller]
fn answered_with(reply: &Reply, code: i64) -> Value {
    refused(reply, 200, code);
    reply.json()["error"].clone()
}

#[test]
fn each_revision_is_agreed_to_in_its_own_words() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        let welcome = &session.welcome;
        assert_eq!(welcome["protocolVersion"], revision);
        assert_eq!(welcome["serverInfo"]["name"], "faulty");
        assert!(welcome["serverInfo"]["version"].is_string());
        assert!(welcome["instructions"].as_str().is_some_and(|says| says.contains("tests")));
        let offers = &welcome["capabilities"];
        assert_eq!(offers["tools"], json!({"listChanged": true}));
        assert_eq!(offers["prompts"], json!({"listChanged": true}));
        assert_eq!(offers["resources"], json!({"subscribe": true, "listChanged": true}));
        assert_eq!(offers["logging"], json!({}));
        let completes = revision > "2024-11-05";
        assert_eq!(offers.get("completions"), completes.then_some(&json!({})), "{revision}");
        // Nothing of the stateless revision.
        for foreign in ["resultType", "ttlMs", "cacheScope", "supportedVersions"] {
            assert!(welcome.get(foreign).is_none(), "{foreign}");
        }
        if revision < "2025-06-18" {
            assert!(welcome["serverInfo"].get("title").is_none());
        }
        assert!(!session.call("tools/list", json!({})).result()["tools"].as_array().unwrap().is_empty());
    }
}

#[test]
fn an_unknown_revision_is_answered_with_the_newest_that_has_sessions() {
    let server = Server::shared();
    for revision in [MODERN, "2099-01-01", "2024-01-01", "1.0", "", "draft"] {
        let reply = hello(revision).send(server.address);
        assert_eq!(reply.result()["protocolVersion"], NEWEST, "{revision}");
        assert!(reply.header("mcp-session-id").is_some());
    }
}

#[test]
fn a_handshake_that_is_none_opens_no_session() {
    let server = Server::start("faulty_server");
    for params in [
        json!({}),
        json!({"capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}),
        json!({"protocolVersion": 20_251_125, "capabilities": {}}),
        json!({"protocolVersion": NEWEST}),
        json!({"protocolVersion": NEWEST, "capabilities": []}),
        json!({"protocolVersion": NEWEST, "capabilities": {"sampling": true}}),
    ] {
        let reply = Http::post(request(0, "initialize", params.clone()).to_string()).send(server.address);
        refused(&reply, 400, -32602);
        assert!(reply.header("mcp-session-id").is_none(), "{params}");
    }
    // As a notification it is no request for a session.
    let reply = Http::post(notification("initialize", json!({})).to_string()).send(server.address);
    assert!(reply.header("mcp-session-id").is_none());
    assert_eq!(server.metric("waygate_sessions"), Some(0.0));
    hello(NEWEST).send(server.address).result();
    assert_eq!(server.metric("waygate_sessions"), Some(1.0));
}

#[test]
fn a_session_id_is_visible_and_cannot_be_guessed() {
    let server = Server::shared();
    let ids: BTreeSet<String> = (0..50).map(|_| Session::open(&server, NEWEST, json!({})).id).collect();
    assert_eq!(ids.len(), 50);
    for id in &ids {
        assert!(id.len() >= 22 && id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{id}");
    }
    // No two begin alike: there is no counter or clock in them.
    let beginnings: BTreeSet<&str> = ids.iter().map(|id| &id[..6]).collect();
    assert_eq!(beginnings.len(), 50, "{ids:?}");
}

/// What the history says of whoever called, row by row.
fn history(server: &Server) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = sql_types::Text)]
        says: String,
    }
    let rows = sql_query(
        "SELECT COALESCE(caller, '') || COALESCE(client, '') || COALESCE(detail, '') AS says FROM command_history",
    );
    // Locked for a moment now and then: whoever asks, asks again.
    let rows: Vec<Row> = rows.load(&mut open(&server.folder)).unwrap_or_default();
    rows.into_iter().map(|row| row.says).collect()
}

#[test]
fn a_session_id_is_in_no_log_and_in_no_view() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    session.tool("fail", json!({})).result();
    session.tool("refuse", json!({"kind": "failed"}));
    session.call("no/such", json!({}));
    let _stream = session.stream();
    for path in ["/diagnostics/connection", "/diagnostics/errors", "/diagnostics/actors", "/metrics"] {
        let shown = Http::get(path).send(server.address).text();
        assert!(!shown.contains(&session.id), "{path}: {shown}");
    }
    let counted = server.get("/diagnostics/connection").1["sessions"].clone();
    assert_eq!(counted, json!({"open": 1, "byRevision": {NEWEST: 1}}));
    session.end();
    assert!(!server.log().contains(&session.id));
    let known = eventually("the calls are in the history", || {
        let known = history(&server);
        (known.len() >= 2).then_some(known)
    });
    assert!(known.iter().all(|row| !row.contains(&session.id)), "{known:?}");
}

#[test]
fn a_request_without_its_session_is_refused_and_one_of_an_unknown_session_is_not_found() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let list = request(1, "tools/list", json!({}));
    let anonymous = session.request(&list).without("Mcp-Session-Id").send(server.address);
    refused(&anonymous, 400, -32600);
    let twice = session.request(&list).header("Mcp-Session-Id", &session.id).send(server.address);
    refused(&twice, 400, -32600);
    let last = session.id.len() - 1;
    let other = if session.id.ends_with('A') { "B" } else { "A" };
    for wrong in [
        "x".to_owned(),
        session.id[..last].to_owned(),
        format!("{}{other}", &session.id[..last]),
        session.id.to_lowercase() + "x",
        "../../etc/passwd".to_owned(),
        "ü".to_owned(),
        "a".repeat(4000),
    ] {
        let reply = session.request(&list).set("Mcp-Session-Id", &wrong).send(server.address);
        refused(&reply, 404, -31404);
        for request in [session.listen(), session.ending()] {
            refused(&request.set("Mcp-Session-Id", &wrong).send(server.address), 404, -31404);
        }
    }
    session.post(&list).result();
}

#[test]
fn a_session_is_of_no_use_without_the_key_that_opened_it() {
    const KEY: &str = "a-key-that-is-long-enough-to-be-one";
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", KEY)]);
    let session = Session::with(&server, NEWEST, json!({}), &[("X-API-Key", KEY)]);
    let list = session.request(&request(1, "tools/list", json!({})));
    list.send(server.address).result();
    for request in [list, session.listen(), session.ending()] {
        assert_eq!(request.clone().without("X-API-Key").send(server.address).status, 401);
        assert_eq!(request.set("X-API-Key", "wrong").send(server.address).status, 401);
    }
    session.call("ping", json!({})).result();
}

#[test]
fn a_deleted_session_is_not_found_whatever_is_asked_of_it() {
    let server = Server::start("faulty_server");
    let session = Session::newest(&server);
    let mut stream = session.stream();
    let ended = session.end();
    assert_eq!((ended.status, ended.body.len()), (204, 0));
    assert_eq!(stream.rest(), Vec::<Value>::new(), "its streams end");
    refused(&session.call("ping", json!({})), 404, -31404);
    refused(&session.notify("notifications/cancelled", json!({"requestId": 1})), 404, -31404);
    refused(&session.post(&json!({"jsonrpc": "2.0", "id": 1, "result": {}})), 404, -31404);
    refused(&session.listen().send(server.address), 404, -31404);
    refused(&session.resumption("0-0").send(server.address), 404, -31404);
    refused(&session.end(), 404, -31404);
    assert_eq!(server.metric("waygate_sessions"), Some(0.0));
    // Ended by its client, it did not expire.
    assert_eq!(server.metric("waygate_sessions_expired_total"), Some(0.0));
}

#[test]
fn sessions_are_counted_in_all_and_one_that_ends_makes_room() {
    for setting in ["WAYGATE_MCP_SESSIONS_MAX", "WAYGATE_MCP_SESSIONS_PER_CALLER_MAX"] {
        let server = Server::with("faulty_server", &[(setting, "2")]);
        let first = Session::newest(&server);
        let second = Session::newest(&server);
        for _ in 0..3 {
            let reply = hello(NEWEST).send(server.address);
            refused(&reply, 503, -31503);
            assert!(reply.header("retry-after").is_some() && reply.header("mcp-session-id").is_none());
            assert!(reply.text().contains(&setting["WAYGATE_MCP_".len()..].to_lowercase()));
        }
        let sse = Http::get("/sse").header("Accept", "text/event-stream").send(server.address);
        refused(&sse, 503, -31503);
        first.call("ping", json!({})).result();
        second.end();
        Session::newest(&server).call("ping", json!({})).result();
        refused(&hello(NEWEST).send(server.address), 503, -31503);
        // Whoever needs no session is not concerned.
        server.tool("repeat", json!({}));
    }
}

#[test]
fn each_revision_has_its_rules_for_the_version_header() {
    let server = Server::shared();
    let list = request(1, "tools/list", json!({}));
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        let with = |version: &str| session.request(&list).set("MCP-Protocol-Version", version);
        assert_eq!(with(revision).send(server.address).status, 200, "{revision}");
        let without = session.request(&list).without("MCP-Protocol-Version");
        assert_eq!(without.send(server.address).status, 200, "{revision}");
        for other in REVISIONS.iter().filter(|other| **other != revision) {
            let reply = with(other).send(server.address);
            if revision >= "2025-06-18" {
                // A change in the middle of a session.
                refused(&reply, 400, -32600);
                assert!(reply.text().contains(revision));
                let stream = session.listen().set("MCP-Protocol-Version", other).send(server.address);
                refused(&stream, 400, -32600);
                let end = session.ending().set("MCP-Protocol-Version", other).send(server.address);
                refused(&end, 400, -32600);
            } else {
                assert_eq!(reply.status, 200, "{revision} does not know the header");
            }
        }
        refused(&with("1999-01-01").send(server.address), 400, -32022);
        let twice = with(revision).header("MCP-Protocol-Version", revision);
        if revision >= "2025-06-18" {
            refused(&twice.send(server.address), 400, -32600);
        }
        session.call("ping", json!({})).result();
    }
}

#[test]
fn a_session_is_initialized_once() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        let again = session.post(&handshake("2024-11-05", everything()));
        refused(&again, 400, -32600);
        assert!(again.text().contains("initialized before") && again.header("mcp-session-id").is_none());
        // What was agreed holds on.
        let asks = session.tool("ask", json!({})).result();
        assert_eq!(asks["isError"], true, "{asks}");
    }
}

#[test]
fn a_client_that_does_not_say_that_it_is_initialized_is_served() {
    let server = Server::shared();
    let id = hello(NEWEST).send(server.address).header("mcp-session-id").expect("an id").to_owned();
    let list = Http::post(request(1, "tools/list", json!({})).to_string()).header("Mcp-Session-Id", &id);
    assert!(list.send(server.address).result()["tools"].is_array());
}

#[test]
fn eras_share_a_connection_and_do_not_see_each_other() {
    let server = Server::shared();
    let (old, older) = (Session::newest(&server), Session::open(&server, "2025-03-26", json!({})));
    let bad = json!({"name": "structured", "arguments": {"n": "x"}});
    let all = [
        Http::modern("tools/list", json!({})),
        old.request(&request(1, "tools/call", bad.clone())),
        older.request(&request(1, "tools/call", bad)),
        Http::modern("ping", json!({})),
        old.request(&request(1, "ping", json!({}))),
        Http::modern("tools/list", json!({})).header("Mcp-Session-Id", &old.id),
        Http::post(request(1, "tools/list", json!({})).to_string()).header("Connection", "close"),
    ];
    let bytes: Vec<u8> = all.iter().flat_map(|request| request.bytes(server.address)).collect();
    let text = raw(server.address, &bytes);
    let statuses: Vec<&str> =
        text.split("HTTP/1.1 ").skip(1).filter_map(|reply| reply.split(' ').next()).collect();
    assert_eq!(statuses, ["200", "200", "200", "404", "200", "200", "400"], "{text}");
    let replies: Vec<&str> = text.split("HTTP/1.1 ").skip(1).collect();
    assert!(replies[0].contains("resultType") && replies[5].contains("resultType"));
    assert!(replies[1].contains(r#""isError":true"#) && replies[2].contains("-32602"), "{text}");
}

#[test]
fn a_request_in_modern_words_is_modern_even_with_a_session() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let modern = Http::modern("tools/list", json!({})).header("Mcp-Session-Id", &session.id);
    assert_eq!(modern.send(server.address).result()["resultType"], "complete");
    // The session's revision in a modern `_meta` is a contradiction.
    let meta = json!({"io.modelcontextprotocol/protocolVersion": NEWEST, "io.modelcontextprotocol/clientCapabilities": {}});
    refused(&session.call("tools/list", json!({"_meta": meta})), 400, -32022);
}

#[test]
fn a_session_that_nobody_uses_ends() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_SESSION_IDLE_SECONDS", "1")]);
    let (idle, used) = (Session::newest(&server), Session::newest(&server));
    eventually("one of two ends", || {
        used.call("ping", json!({})).result();
        (server.metric("waygate_sessions") == Some(1.0)).then_some(())
    });
    refused(&idle.call("ping", json!({})), 404, -31404);
    used.call("ping", json!({})).result();
    assert_eq!(server.metric("waygate_sessions_expired_total"), Some(1.0));
}

#[test]
fn a_session_is_in_use_while_a_call_of_its_runs() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_SESSION_IDLE_SECONDS", "1")]);
    let (session, idle) = (Session::newest(&server), Session::newest(&server));
    // Longer than a session may be idle, and than two looks for idle ones.
    let call =
        session.request(&request(1, "tools/call", json!({"name": "sleep", "arguments": {"ms": 2500}})));
    let reply = call.set("Accept", "application/json").send(server.address);
    assert_eq!(reply.result()["content"][0]["text"], "slept");
    session.call("ping", json!({})).result();
    refused(&idle.call("ping", json!({})), 404, -31404);
}

#[test]
fn a_listening_session_lives_as_long_as_its_client_answers_pings() {
    let server = Server::with("faulty_server", &[("WAYGATE_MCP_SESSION_IDLE_SECONDS", "1")]);
    let (lives, dies) = (Session::newest(&server), Session::newest(&server));
    let (mut hears, mut ignores) = (lives.stream(), dies.stream());
    for _ in 0..4 {
        let ping = hears.ask("ping");
        assert!(ping.get("params").is_none_or(Value::is_object), "{ping}");
        lives.answer(&ping, json!({}));
    }
    let told = ignores.rest();
    assert!(told.len() == 1 && told[0]["method"] == "ping", "asked once: {told:?}");
    refused(&dies.call("ping", json!({})), 404, -31404);
    lives.call("ping", json!({})).result();
}

#[test]
fn whatever_is_not_of_the_revision_is_an_unknown_method() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, everything());
        for method in ["subscriptions/listen", "tasks/list", "no/such", "", "Tools/List"] {
            let error = answered_with(&session.call(method, json!({})), -32601);
            assert!(error["message"].as_str().is_some_and(|says| says.contains(revision)), "{error}");
        }
        assert_eq!(session.call("ping", json!({})).result(), json!({}));
        // A notification that nobody knows is passed over.
        for method in ["notifications/roots/list_changed", "notifications/no_such", "x"] {
            assert_eq!(session.notify(method, json!({})).status, 202);
        }
    }
}

#[test]
fn a_ping_without_parameters_is_answered() {
    let server = Server::shared();
    let session = Session::newest(&server);
    for id in [json!("p"), json!(""), json!(0), json!(-7), json!(9_007_199_254_740_991_i64)] {
        let reply = session.post(&json!({"jsonrpc": "2.0", "id": id, "method": "ping"}));
        assert_eq!(reply.json(), json!({"jsonrpc": "2.0", "id": id, "result": {}}));
    }
}

#[test]
fn the_level_of_the_log_is_the_sessions_and_may_change() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let other = Session::newest(&server);
    let heard = |session: &Session| -> Vec<Value> {
        let mut stream = session.begin("logs", json!({}));
        let told = stream.rest();
        told.iter()
            .filter(|message| message["method"] == "notifications/message")
            .map(|message| message["params"]["level"].clone())
            .collect()
    };
    assert!(heard(&session).is_empty(), "nobody asked for a log");
    for (level, count) in [("debug", 8), ("error", 4), ("emergency", 1), ("info", 7)] {
        assert_eq!(session.call("logging/setLevel", json!({"level": level})).result(), json!({}));
        assert_eq!(heard(&session).len(), count, "{level}");
        assert!(heard(&other).is_empty(), "another session's level is its own");
    }
    for bad in [json!({}), json!({"level": "loud"}), json!({"level": 3}), json!({"level": "DEBUG"})] {
        answered_with(&session.call("logging/setLevel", bad), -32602);
    }
    assert_eq!(heard(&session).len(), 7, "a level that was refused changes nothing");
}

#[test]
fn what_is_unknown_has_the_code_of_the_older_revisions() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        for uri in ["test://no_such", "test://item/missing"] {
            let error = answered_with(&session.call("resources/read", json!({"uri": uri})), -32002);
            assert_eq!(error["data"]["uri"], uri, "{error}");
            assert!(error["message"].as_str().is_some_and(|says| says.contains(uri)));
        }
        answered_with(&session.tool("no_such", json!({})), -32602);
        answered_with(&session.call("prompts/get", json!({"name": "no_such"})), -32602);
        answered_with(&session.call("tools/list", json!({"cursor": "nonsense"})), -32602);
        answered_with(&session.call("resources/read", json!({})), -32602);
        answered_with(&session.call("prompts/get", json!({"name": "greeting", "arguments": {}})), -32602);
    }
}

#[test]
fn bad_arguments_are_told_to_models_since_2025_11_25_and_to_programs_before() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        let reply = session.tool("structured", json!({"n": "seven"}));
        if revision == NEWEST {
            let result = reply.result();
            assert_eq!(result["isError"], true);
            assert!(
                result["content"][0]["text"]
                    .as_str()
                    .is_some_and(|says| says.contains("seven") || says.contains("integer"))
            );
        } else {
            answered_with(&reply, -32602);
        }
    }
}

#[test]
fn a_tool_that_fails_says_so_and_what_fails_in_a_plugin_says_nothing_of_its_inside() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        assert_eq!(session.tool("fail", json!({})).result()["isError"], true);
        for (kind, code) in [("failed", -32603), ("invalid", -32602), ("unknown", -32602)] {
            let error = answered_with(&session.tool("refuse", json!({"kind": kind})), code);
            assert!(!error.to_string().contains("swordfish"), "{error}");
        }
        let error = session.tool("refuse", json!({"kind": "unavailable"})).json()["error"].clone();
        assert!(error["code"].is_i64() && !error.to_string().contains("swordfish"), "{error}");
        // A missing capability is something that a model can read.
        let result = session.tool("refuse", json!({"kind": "capability"})).result();
        assert!(result["isError"] == true && result.to_string().contains("sampling"), "{result}");
        answered_with(&session.tool("panic", json!({})), -32603);
    }
}

#[test]
fn arguments_are_completed_in_every_revision() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        let params = json!({"ref": {"type": "ref/prompt", "name": "greeting"},
                            "argument": {"name": "style", "value": "f"}});
        let result = session.call("completion/complete", params).result();
        assert_eq!(result["completion"]["values"], json!(["formal", "friendly"]));
        assert!(result.get("resultType").is_none());
        let params = json!({"ref": {"type": "ref/resource", "uri": "test://item/{id}"},
                            "argument": {"name": "id", "value": ""}, "context": {"arguments": {}}});
        let result = session.call("completion/complete", params).result();
        assert!(result["completion"]["values"].as_array().is_some_and(|values| values.len() <= 100));
        let unknown =
            json!({"ref": {"type": "ref/prompt", "name": "no_such"}, "argument": {"name": "a", "value": ""}});
        answered_with(&session.call("completion/complete", unknown), -32602);
        answered_with(&session.call("completion/complete", json!({})), -32602);
    }
}

/// The names of the members of the entry `name` of a list.
fn members(session: &Session, method: &str, key: &str, name: &str) -> BTreeSet<String> {
    let mut params = json!({});
    loop {
        let page = session.call(method, params).result();
        for foreign in ["ttlMs", "cacheScope", "resultType"] {
            assert!(page.get(foreign).is_none(), "{method}: {foreign}");
        }
        let entries = page[key].as_array().expect("a list");
        if let Some(entry) = entries.iter().find(|entry| entry["name"] == name) {
            return entry.as_object().expect("an entry").keys().cloned().collect();
        }
        params = json!({"cursor": page["nextCursor"].as_str().expect("it is on a later page")});
    }
}

#[test]
fn lists_lose_what_a_revision_does_not_know() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        let since = |first: &str| revision >= first;
        let has = |members: &BTreeSet<String>, member: &str, wanted: bool| {
            assert_eq!(members.contains(member), wanted, "{revision} {member}: {members:?}");
        };
        let tool = members(&session, "tools/list", "tools", "rich");
        has(&tool, "icons", since("2025-11-25"));
        has(&tool, "title", since("2025-06-18"));
        has(&tool, "_meta", since("2025-06-18"));
        has(&tool, "annotations", since("2025-03-26"));
        has(&tool, "inputSchema", true);
        let structured = members(&session, "tools/list", "tools", "structured");
        has(&structured, "outputSchema", since("2025-06-18"));
        for (method, key, name) in [
            ("prompts/list", "prompts", "rich"),
            ("resources/list", "resources", "empty"),
            ("resources/templates/list", "resourceTemplates", "item"),
        ] {
            let entry = members(&session, method, key, name);
            has(&entry, "icons", since("2025-11-25"));
            has(&entry, "title", since("2025-06-18"));
        }
    }
}

#[test]
fn results_say_in_text_what_a_revision_cannot_carry() {
    let server = Server::shared();
    for revision in REVISIONS {
        let session = Session::open(&server, revision, json!({}));
        let rich = session.tool("rich", json!({})).result();
        assert!(rich.get("structuredContent").is_none(), "no object, so no revision with sessions knows it");
        assert!(rich.get("resultType").is_none());
        let kinds = |blocks: &Value| -> Vec<String> {
            blocks.as_array().expect("blocks").iter().map(|block| block["type"].to_string()).collect()
        };
        let (audio, link) = match revision {
            "2024-11-05" => ("\"text\"", "\"text\""),
            "2025-03-26" => ("\"audio\"", "\"text\""),
            _ => ("\"audio\"", "\"resource_link\""),
        };
        assert_eq!(kinds(&rich["content"])[..2], [audio, link], "{revision}: {rich}");
        assert!(rich.to_string().contains(COUNTER), "the link is not lost: {rich}");
        let says_structure = rich["content"]
            .as_array()
            .unwrap()
            .iter()
            .any(|block| block["text"].as_str().is_some_and(|text| text.contains("\"one\"")));
        assert!(says_structure, "{revision}: {rich}");
        let object = session.tool("structured", json!({"n": 7})).result();
        let wanted = (revision >= "2025-06-18").then(|| json!({"n": 7}));
        assert_eq!(object.get("structuredContent"), wanted.as_ref(), "{revision}");
        assert_eq!(object["content"][0]["text"], r#"{"n":7}"#);
        let prompt = session.call("prompts/get", json!({"name": "rich"})).result();
        let spoken: Vec<String> = prompt["messages"]
            .as_array()
            .expect("messages")
            .iter()
            .map(|message| message["content"]["type"].to_string())
            .collect();
        assert_eq!(spoken, [audio, link], "{revision}: {prompt}");
    }
}

#[test]
fn what_nobody_must_round_is_not_rounded_for_older_clients() {
    let server = Server::shared();
    let session = Session::newest(&server);
    let text = session.tool("precise", json!({})).text();
    for piece in ["123456789012345678901234567890", "1e-400", r#""example.org/deep":1.50"#] {
        assert!(text.contains(piece), "{text}");
    }
    let echoed = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"repeat","arguments":{"n":1.10,"big":12345678901234567890123}}}"#;
    let reply = session.request(&Value::Null);
    let reply = Http { body: echoed.as_bytes().to_vec(), ..reply }.send(server.address);
    assert_eq!(reply.result()["content"][0]["text"], r#"{"n":1.10,"big":12345678901234567890123}"#);
}

#[test]
fn a_body_that_is_no_message_is_refused_in_a_session_as_outside() {
    let server = Server::shared();
    let session = Session::newest(&server);
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        ("7", -32600),
        (r#"{"jsonrpc":"2.0"}"#, -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
    ] {
        let request = Http { body: body.as_bytes().to_vec(), ..session.request(&Value::Null) };
        refused(&request.send(server.address), 400, code);
    }
    session.call("ping", json!({})).result();
}

#[test]
fn an_answer_that_nobody_asked_for_is_refused() {
    let server = Server::shared();
    let session = Session::newest(&server);
    for answer in [
        json!({"jsonrpc": "2.0", "id": 1, "result": {}}),
        json!({"jsonrpc": "2.0", "id": 99, "error": {"code": -1, "message": "no"}}),
        json!({"jsonrpc": "2.0", "id": "1", "result": {}}),
        json!({"jsonrpc": "2.0", "id": 0, "result": {}}),
        json!({"jsonrpc": "2.0", "id": -1, "result": {}}),
    ] {
        refused(&session.post(&answer), 400, -32600);
    }
    session.call("ping", json!({})).result();
}
