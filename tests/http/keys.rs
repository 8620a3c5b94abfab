//! Keys from their making to their end: by the command line beside a running server, in every way that they can be wrong, and
//! with what they do not show.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::legacy::{NEWEST, Session, everything, handshake};
use crate::support::{Http, Reply, Server, database_of, eventually, program};

/// The operator's own key in these tests.
pub const OWN: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// Runs `waygate-mcp keys …` on the folder of a server.
pub fn keys(server: &Server, words: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(program("waygate-mcp"));
    command.arg("keys").args(words).arg("--data-dir").arg(&server.folder).stdin(Stdio::null());
    command.env_clear().envs(database_of(&server.folder)).env("HOME", &server.folder).env("TZ", "UTC");
    let output = command.current_dir(&server.folder).output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// Makes a key and gives it.
#[track_caller]
pub fn create(server: &Server, words: &[&str]) -> String {
    let (done, key, says) = keys(server, &[&["create"], words].concat());
    assert!(done, "{says}");
    assert!(!says.contains(key.trim()), "the key itself is on stdout alone: {says}");
    key.trim().to_owned()
}

pub fn id_of(key: &str) -> String {
    key.split('_').nth(1).expect("an id").to_owned()
}

pub fn with(key: &str, request: Http) -> Http {
    request.header("Authorization", &format!("Bearer {key}"))
}

fn list(server: &Server, key: &str) -> Reply {
    with(key, Http::modern("tools/list", json!({}))).send(server.address)
}

/// Waits until a key is answered so; it must not take a second, but a busy machine may take its time.
#[track_caller]
pub fn becomes(server: &Server, key: &str, status: u16) -> Reply {
    eventually("the key is answered otherwise", || {
        // Not too often: wrong keys are counted.
        std::thread::park_timeout(std::time::Duration::from_millis(100));
        let reply = list(server, key);
        (reply.status == status).then_some(reply)
    })
}

fn reason(reply: &Reply) -> String {
    reply.json()["error"]["data"]["refusal"].as_str().unwrap_or_default().to_owned()
}

fn names(reply: &Reply, list: &str) -> Vec<String> {
    let result = reply.result();
    let names = result[list].as_array().expect("a list").iter();
    names.map(|one| one["name"].as_str().or(one["uri"].as_str()).expect("a name").to_owned()).collect()
}

#[test]
fn the_first_key_closes_an_open_server_and_opens_it_to_who_has_it() {
    let server = Server::start("faulty_server");
    assert_eq!(Http::modern("tools/list", json!({})).send(server.address).status, 200);
    assert!(server.log().contains("there is no key"), "{}", server.log());
    assert_eq!(server.get("/health").1["auth"], json!({"required": false, "keys": 0}));
    let mut stream =
        Http::modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}))
            .open(server.address);
    assert!(stream.event().is_some());
    let session = Session::newest(&server);
    let (done, key, says) = keys(&server, &["create", "first"]);
    assert!(done && says.contains("this is the first key"), "{says}");
    let key = key.trim();
    becomes(&server, key, 200);
    let refused = becomes(&server, "", 401);
    assert_eq!(reason(&refused), "key_missing");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"waygate\""));
    assert!(server.log().contains("the first key was made"), "{}", server.log());
    // Who was let in without a key is not any more.
    assert!(
        stream.event().is_some_and(|event| event["result"].is_object()),
        "the stream ends with its result"
    );
    assert!(stream.event().is_none());
    assert_eq!(session.call("tools/list", json!({})).status, 401);
    let shown = with(key, Http::get("/diagnostics/connection")).send(server.address);
    assert_eq!(shown.status, 403, "a key for MCP reads no diagnostics: {}", shown.text());
    let reader = create(&server, &["reader", "--scope", "ops:read"]);
    becomes(&server, &reader, 403);
    let shown = with(&reader, Http::get("/diagnostics/connection")).send(server.address).json();
    assert_eq!(shown["auth"], json!({"required": true, "keys": 2}));
    assert!(!server.log().contains(key) && !server.log().contains(&key[13..]));
}

#[test]
fn a_revoked_key_is_refused_and_what_it_had_open_ends() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let (gone, stays) = (create(&server, &["gone"]), create(&server, &["stays"]));
    becomes(&server, &gone, 200);
    becomes(&server, &stays, 200);
    let header = format!("Bearer {gone}");
    let session = Session::with(&server, NEWEST, everything(), &[("Authorization", &header)]);
    let listen = json!({"notifications": {"toolsListChanged": true}});
    let listening =
        |key: &str| with(key, Http::modern("subscriptions/listen", listen.clone())).open(server.address);
    let (mut ends, mut goes_on) = (listening(&gone), listening(&stays));
    assert!(ends.event().is_some() && goes_on.event().is_some());
    assert_eq!(session.call("tools/list", json!({})).status, 200);
    let stolen = with(
        &stays,
        session.request(&crate::legacy::request(9, "tools/list", json!({}))).without("Authorization"),
    );
    assert_eq!(stolen.send(server.address).status, 404, "a session is its key's alone");
    let (done, _, says) = keys(&server, &["revoke", &id_of(&gone)]);
    assert!(done, "{says}");
    let refused = becomes(&server, &gone, 401);
    assert_eq!(reason(&refused), "key_revoked");
    let wanted = "Bearer realm=\"waygate\", error=\"invalid_token\", error_description=\"key_revoked\"";
    assert_eq!(refused.header("www-authenticate"), Some(wanted));
    assert!(ends.event().is_some_and(|event| event["result"].is_object()));
    eventually("its session is gone", || {
        let shown = with(OWN, Http::get("/diagnostics/connection")).send(server.address).json();
        (shown["sessions"]["open"] == 0).then_some(())
    });
    assert_eq!(list(&server, &stays).status, 200);
    let (_, told, _) = keys(&server, &["list", "--json"]);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let standings: Vec<&str> = told["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|key| key["standing"].as_str().expect("one"))
        .collect();
    assert_eq!(standings, ["revoked", "active"]);
    assert!(told["keys"].as_array().is_some_and(|keys| keys.iter().all(|key| key.get("hash").is_none())));
}

#[test]
fn a_rotated_key_is_taken_beside_its_successor_until_its_grace_is_over() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let old = create(&server, &["app", "--deny", "panics"]);
    becomes(&server, &old, 200);
    let rotate = |grace: &str| {
        let (done, key, says) = keys(&server, &["rotate", "app", "--grace", grace]);
        assert!(done, "{says}");
        key.trim().to_owned()
    };
    let new = rotate("24h");
    becomes(&server, &new, 200);
    assert_eq!(list(&server, &old).status, 200, "both are taken");
    let newest = rotate("0");
    becomes(&server, &newest, 200);
    let over = becomes(&server, &new, 401);
    assert_eq!(reason(&over), "key_replaced");
    let (done, _, says) = keys(&server, &["rotate", &id_of(&new)]);
    assert!(!done && says.contains("nothing can take its place"), "{says}");
    // Who revokes the last of them revokes all that are still taken.
    let (done, _, says) = keys(&server, &["revoke", "app"]);
    assert!(done && says.contains(&id_of(&old)), "{says}");
    for key in [&newest, &old] {
        assert_eq!(reason(&becomes(&server, key, 401)), "key_revoked");
    }
}

#[test]
fn a_key_that_expires_ends_by_itself_with_what_it_had_open() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let key = create(&server, &["brief", "--expires", "4s"]);
    becomes(&server, &key, 200);
    let listen = json!({"notifications": {"toolsListChanged": true}});
    let mut stream = with(&key, Http::modern("subscriptions/listen", listen)).open(server.address);
    assert!(stream.event().is_some());
    let over = becomes(&server, &key, 401);
    assert_eq!(reason(&over), "key_expired");
    assert!(stream.event().is_some_and(|event| event["result"].is_object()));
}

#[test]
fn keys_that_are_not_whole_foreign_or_shown_twice_are_told_apart() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let key = create(&server, &["whole"]);
    let foreign = create(&Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]), &["elsewhere"]);
    becomes(&server, &key, 200);
    for (bad, why) in [
        (&key[..59], "key_mutilated"),
        (&key[..12], "key_mutilated"),
        (&*key.repeat(2), "key_mutilated"),
        (&*format!("{key}x"), "key_mutilated"),
        (&foreign, "key_unknown"),
        ("somebody-elses", "key_unknown"),
    ] {
        let reply = list(&server, bad);
        assert_eq!((reply.status, reason(&reply).as_str()), (401, why), "{bad}");
        assert!(!reply.text().contains(bad), "{}", reply.text());
    }
    let request = || Http::modern("tools/list", json!({}));
    let twice = with(&key, request()).header("X-API-Key", &key).send(server.address);
    assert_eq!(twice.status, 200, "the same in both headers is one");
    for unclear in [
        with(&key, request()).header("X-API-Key", OWN),
        with(&key, with(&key, request())),
        request().header("X-API-Key", &key).header("X-API-Key", OWN),
    ] {
        let reply = unclear.send(server.address);
        assert_eq!((reply.status, reply.code()), (400, -32600), "{}", reply.text());
    }
}

#[test]
fn a_key_in_a_url_is_refused_whatever_else_is_sent_and_stands_in_no_log() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN), ("WAYGATE_LOG_LEVEL", "DEBUG")]);
    for name in ["api_key", "key", "access_token", "token", "API_KEY", "%61pi_key"] {
        for path in ["/mcp", "/metrics", "/health", "/nope"] {
            let mut request = with(OWN, Http::modern("tools/list", json!({})));
            request.head = format!("{} {path}?a=b&{name}={OWN}", if path == "/mcp" { "POST" } else { "GET" });
            let reply = request.send(server.address);
            assert_eq!(reply.status, 400, "{path} {name}: {}", reply.text());
            assert!(
                reply.text().contains("Authorization") && !reply.text().contains(OWN),
                "{}",
                reply.text()
            );
        }
    }
    let ours = create(&server, &["ours"]);
    becomes(&server, &ours, 200);
    let escaped = ours.replace('_', "%5F").replace('w', "%77");
    for url in [
        format!("/health?authorization=Bearer%20{ours}"),
        format!("/metrics?foo={escaped}"),
        format!("/mcp/{ours}"),
        format!("/plugins/{escaped}"),
        format!("/admin/api/keys/{ours}"),
        format!("/nope/{ours}/more"),
    ] {
        let reply = with(OWN, Http::get(&url)).send(server.address);
        assert_eq!(reply.status, 400, "{url}: {}", reply.text());
        assert!(
            reply.text().contains("Authorization") && !reply.text().contains(&ours[4..]),
            "{}",
            reply.text()
        );
    }
    let by_id = with(OWN, Http::get(&format!("/admin/api/keys/{}", id_of(&ours)))).send(server.address);
    assert_eq!(by_id.status, 200, "what a key is called is no key: {}", by_id.text());
    let metrics = with(OWN, Http::get("/metrics")).send(server.address).text();
    assert!(metrics.contains("waygate_refused_total{reason=\"key_in_query\"} 30"), "{metrics}");
    assert!(metrics.contains("waygate_keys{standing=\"taken\"} 2"), "{metrics}");
    for secret in [OWN, &ours[13..]] {
        assert!(!metrics.contains(secret) && !server.log().contains(secret), "{}", server.log());
    }
}

#[test]
fn whoever_shows_many_wrong_keys_waits_and_a_right_one_passes_all_the_same() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let slowed = eventually("guessing is slowed down", || {
        let reply = list(&server, "a-guess");
        (reply.status == 429).then_some(reply)
    });
    assert_eq!((slowed.code(), slowed.json()["error"]["data"]["retryAfterSeconds"].is_u64()), (-31429, true));
    let wait = slowed.header("retry-after").expect("when it is worth coming back");
    assert!(wait.parse::<u64>().is_ok_and(|wait| wait > 0), "{wait}");
    let data = &slowed.json()["error"]["data"];
    assert_eq!((&data["limit"], &data["of"]), (&json!("wrongKeysPerMinute"), &json!("address")));
    assert_eq!(data["whose"], "127.0.0.1");
    assert_eq!(data["quota"], json!({"wrongKeysPerMinute": 20, "burst": 20}));
    assert_eq!(slowed.header("ratelimit-policy"), Some("\"wrong-keys\";q=20;w=60"));
    assert_eq!(slowed.header("ratelimit"), Some(&*format!("\"wrong-keys\";r=0;t={wait}")));
    let elsewhere = eventually("it is slowed down elsewhere, too", || {
        let reply = with("a-guess", Http::get("/metrics")).send(server.address);
        (reply.status == 429).then_some(reply)
    });
    assert_eq!(elsewhere.header("ratelimit-policy"), slowed.header("ratelimit-policy"));
    assert_eq!(list(&server, OWN).status, 200);
    let nobody = Http::modern("tools/list", json!({})).send(server.address);
    assert_eq!(nobody.status, 401, "who shows no key guesses none");
}

#[test]
fn a_key_that_can_be_guessed_is_warned_of_where_other_machines_reach_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(program("faulty_server"));
    command
        .args(["--env", "development", "--host", "0.0.0.0", "--port", "0", "--data-dir"])
        .arg(folder.path());
    command
        .env_clear()
        .envs(database_of(folder.path()))
        .env("HOME", folder.path())
        .current_dir(folder.path());
    command
        .env("WAYGATE_API_KEY", "guess-me")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let server = Server::by(command, folder.path());
    let log = eventually("it is warned of", || {
        Some(server.log()).filter(|log| log.contains("WAYGATE_API_KEY is a placeholder or shorter"))
    });
    assert!(log.contains("WARN") && !log.contains("guess-me"), "{log}");
}

#[test]
fn each_scope_opens_its_urls_and_no_others() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let mcp = create(&server, &["m"]);
    let ops = create(&server, &["o", "--scope", "ops:read"]);
    let admin = create(&server, &["a", "--scope", "admin"]);
    becomes(&server, &admin, 200);
    let ask = |key: &str, head: &str| {
        let request = if head == "POST /mcp" {
            Http::modern("tools/list", json!({}))
        } else {
            Http { head: head.to_owned(), ..Http::get("/") }
        };
        with(key, request).send(server.address)
    };
    for (head, wanted) in [
        ("POST /mcp", [200, 403, 200]),
        ("GET /", [200, 200, 200]),
        ("GET /metrics", [403, 200, 200]),
        ("GET /plugins", [403, 200, 200]),
        ("GET /bundles", [403, 200, 200]),
        ("GET /diagnostics/errors", [403, 200, 200]),
        ("POST /plugins/reload", [403, 403, 200]),
        ("GET /admin/api/keys", [403, 403, 200]),
        ("GET /nope", [404, 404, 404]),
    ] {
        for (key, wanted) in [&mcp, &ops, &admin].into_iter().zip(wanted) {
            let reply = ask(key, head);
            assert_eq!(reply.status, wanted, "{head}: {}", reply.text());
            if wanted == 403 {
                let challenge = reply.header("www-authenticate").unwrap_or_default();
                assert!(
                    challenge.contains("insufficient_scope") && challenge.contains("scope=\""),
                    "{challenge}"
                );
            }
        }
    }
    let probe = |key: &str| with(key, Http::get("/health").header("X-Forwarded-For", "203.0.113.7"));
    assert!(probe(&mcp).send(server.address).json().get("checks").is_none());
    assert!(probe(&ops).send(server.address).json().get("checks").is_some());
}

#[test]
fn what_globs_do_not_show_is_in_no_list_and_answered_like_what_is_not_there() {
    let server = Server::with("bundled_server", &[("WAYGATE_API_KEY", OWN)]);
    let key = create(&server, &["some", "--allow", "alpha__*", "--deny", "*__speak", "--deny", "*__touch"]);
    becomes(&server, &key, 200);
    let ask = |path: &str, method: &str, params: Value| {
        let mut request = with(&key, Http::modern(method, params));
        request.head = format!("POST {path}");
        request.send(server.address)
    };
    let tools = names(&ask("/mcp", "tools/list", json!({})), "tools");
    assert!(
        tools.contains(&"alpha__add".to_owned()) && tools.iter().all(|name| name.starts_with("alpha__")),
        "{tools:?}"
    );
    assert!(!tools.contains(&"alpha__speak".to_owned()));
    assert_eq!(names(&ask("/mcp", "prompts/list", json!({})), "prompts"), ["alpha__hello"]);
    assert_eq!(names(&ask("/mcp", "resources/list", json!({})), "resources").len(), 2);
    let says = ask("/mcp", "server/discover", json!({})).result()["instructions"].to_string();
    assert!(says.contains("alpha") && !says.contains("beta"), "{says}");
    let call = |path: &str, name: &str| ask(path, "tools/call", json!({"name": name, "arguments": {}}));
    assert_eq!(call("/mcp", "alpha__add").status, 200);
    assert_eq!(call("/mcp/alpha", "add").status, 200, "by its name there, allowed by its name among all");
    for (path, hidden) in [
        ("/mcp", "alpha__speak"),
        ("/mcp", "beta__add"),
        ("/mcp/alpha", "speak"),
        ("/mcp/few", "alpha__touch"),
    ] {
        let (refused, unknown) = (call(path, hidden).json(), call(path, "no__such").json());
        let said = |answer: &Value| {
            let error = &answer["error"];
            (error["code"].clone(), error["message"].to_string(), error["data"]["advice"].to_string())
        };
        let (code, message, advice) = said(&unknown);
        assert_eq!(said(&refused), (code, message.replace("no__such", hidden), advice), "{path} {hidden}");
    }
    assert_eq!(ask("/mcp", "resources/read", json!({"uri": "beta://note"})).code(), -32602);
    assert_eq!(ask("/mcp", "prompts/get", json!({"name": "beta__hello"})).code(), -32602);
    for name in ["beta__hello", "no__such"] {
        let reference = json!({"type": "ref/prompt", "name": name});
        let complete = json!({"ref": reference, "argument": {"name": "a", "value": ""}});
        let refused = ask("/mcp", "completion/complete", complete);
        assert_eq!(refused.code(), -32601, "none of these plugins completes: {}", refused.text());
    }
    // The same in a session.
    let header = format!("Bearer {key}");
    let session = Session::with(&server, NEWEST, everything(), &[("Authorization", &header)]);
    assert_eq!(names(&session.call("tools/list", json!({})), "tools"), tools);
    let hidden = session.call("tools/call", json!({"name": "alpha__speak", "arguments": {}}));
    assert_eq!(hidden.code(), -32602, "{}", hidden.text());
    assert!(session.welcome["instructions"].to_string().contains("alpha"));
    assert!(!session.welcome["instructions"].to_string().contains("beta"));
    // And the operator sees all of it.
    assert!(names(&list(&server, OWN), "tools").contains(&"beta__add".to_owned()));
}

#[test]
fn who_sees_a_part_hears_of_changes_of_that_part_alone() {
    let server = Server::with("bundled_server", &[("WAYGATE_API_KEY", OWN)]);
    let alpha = create(&server, &["alpha", "--allow", "alpha__*"]);
    let beta = create(&server, &["beta", "--allow", "beta__*"]);
    becomes(&server, &alpha, 200);
    becomes(&server, &beta, 200);
    let listen = |key: &str| {
        let wanted = json!({"notifications": {"toolsListChanged": true}});
        let mut open = with(key, Http::modern("subscriptions/listen", wanted)).open(server.address);
        assert!(open.event().is_some());
        open
    };
    let (mut hears, mut also) = (listen(&alpha), listen(&beta));
    let touch = |name: &str| with(OWN, Http::tool(name, json!({}))).send(server.address).result();
    touch("beta__touch");
    assert_eq!(also.event().expect("news")["method"], "notifications/tools/list_changed");
    touch("alpha__touch");
    assert_eq!(hears.event().expect("news")["method"], "notifications/tools/list_changed");
    let revoked = keys(&server, &["revoke", "alpha"]);
    assert!(revoked.0, "{}", revoked.2);
    assert!(hears.event().expect("the end")["result"].is_object(), "it heard of nothing else");
}

#[test]
fn a_key_for_bundles_opens_these_and_others_are_not_there() {
    let server = Server::with("bundled_server", &[("WAYGATE_API_KEY", OWN)]);
    let key = create(&server, &["few", "--bundle", "fe*"]);
    let most = create(&server, &["most", "--deny-bundle", "few"]);
    becomes(&server, &key, 403);
    becomes(&server, &most, 200);
    let at = |key: &str, path: &str, mut request: Http| {
        request.head = format!("{} {path}", request.head.split(' ').next().unwrap_or_default());
        with(key, request).send(server.address)
    };
    let list = || Http::modern("tools/list", json!({}));
    let hello = || Http::post(handshake(NEWEST, json!({})).to_string());
    assert_eq!(names(&at(&key, "/mcp/few", list()), "tools"), ["alpha__add", "alpha__touch", "alpha__ask"]);
    for request in [list(), hello()] {
        let (hidden, unknown) = (at(&key, "/mcp/alpha", request.clone()), at(&key, "/mcp/nobody", request));
        assert_eq!((hidden.status, hidden.code()), (404, -31404));
        assert_eq!(hidden.json()["error"]["message"], "there is no bundle \"alpha\"");
        assert_eq!(hidden.json()["error"]["data"]["advice"], unknown.json()["error"]["data"]["advice"]);
    }
    assert_eq!(at(&key, "/mcp", hello()).status, 403);
    assert_eq!(at(&key, "/sse", Http::get("/").header("Accept", "text/event-stream")).status, 403);
    assert_eq!(at(&most, "/mcp/few", list()).status, 404);
    assert_eq!(at(&most, "/mcp/alpha", list()).status, 200);
}

#[test]
fn the_use_of_a_key_is_noted_some_time_and_every_act_stands_in_the_history() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let key =
        create(&server, &["app", "--owner", "Ada", "--rate", "60/min", "--burst", "5", "--concurrent", "2"]);
    let id = id_of(&key);
    becomes(&server, &key, 200);
    let shown = eventually("its use is written", || {
        let (_, told, _) = keys(&server, &["show", "app", "--json"]);
        let told: Value = serde_json::from_str(&told).ok()?;
        (!told["keys"][0]["lastUsedAt"].is_null()).then_some(told["keys"][0].clone())
    });
    assert_eq!(shown["limits"], json!({"requestsPerMinute": 60, "burst": 5, "concurrent": 2}));
    assert_eq!(
        (&shown["owner"], &shown["id"], &shown["expiresAt"]),
        (&json!("Ada"), &json!(id), &Value::Null)
    );
    assert!(keys(&server, &["rotate", "app"]).0 && keys(&server, &["delete", &id]).0);
    let mut history = Command::new(program("waygate-mcp"));
    history.args(["history", "list", "--json", "--kind", "admin", "--data-dir"]).arg(&server.folder);
    history.env_clear().envs(database_of(&server.folder)).env("HOME", &server.folder);
    let told = String::from_utf8(history.output().expect("it runs").stdout).expect("text");
    assert!(!told.contains(&key[13..]), "the secret stands nowhere: {told}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let is_done = |call: &&Value| {
        let act = call["method"].as_str().expect("a method");
        act.starts_with("keys/") && act != "keys/refuse"
    };
    let calls: Vec<&Value> = told["calls"].as_array().expect("rows").iter().filter(is_done).collect();
    let acts: Vec<&str> = calls.iter().map(|call| call["method"].as_str().expect("a method")).collect();
    assert_eq!(acts, ["keys/delete", "keys/rotate", "keys/create"], "{told}");
    assert!(calls.iter().all(|call| call["caller"] == "local" && call["status"] == "success"), "{told}");
    let detail = calls[2]["detail"].as_str().expect("a detail");
    assert!(detail.contains(&id) && detail.contains("app") && detail.contains("by user"), "{detail}");
}

#[test]
fn wrong_keys_stand_in_the_history_and_a_flood_of_them_does_not_fill_it() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    for _ in 0..100 {
        let wrong = Http::modern("tools/list", json!({})).header("authorization", "Bearer wrong");
        assert!([401, 429].contains(&wrong.send(server.address).status));
    }
    let told = || {
        let mut history = Command::new(program("waygate-mcp"));
        history.args(["history", "list", "--json", "--kind", "admin", "--limit", "1000", "--data-dir"]);
        history.arg(&server.folder).env_clear().envs(database_of(&server.folder)).env("HOME", &server.folder);
        let page: Value = serde_json::from_slice(&history.output().expect("it runs").stdout).expect("JSON");
        let all = page["calls"].as_array().expect("rows").clone();
        let refused = all.into_iter().filter(|call| call["method"] == "keys/refuse");
        Some(refused.collect::<Vec<Value>>()).filter(|refused| refused.len() >= 20)
    };
    let refused = eventually("they are written", told);
    assert!(refused.len() <= 21, "{refused:?}");
    for row in &refused {
        assert_eq!((&row["status"], &row["caller"]), (&json!("failed"), &json!("anonymous")), "{row}");
        let detail = row["detail"].as_str().expect("a detail");
        assert!(detail.contains("127.0.0.1") && !detail.contains("wrong"), "{detail}");
    }
}

#[test]
fn hostile_names_are_refused_before_anything_is_made() {
    let server = Server::start("faulty_server");
    for bad in ["", " x", "a\nb", "a\u{1b}[2J", "a\u{202e}b", &"x".repeat(10_240)] {
        let (done, key, says) = keys(&server, &["create", bad]);
        assert!(!done && key.is_empty() && !says.contains('\u{1b}') && says.len() < 1_000, "{says}");
        assert!(!keys(&server, &["create", "x", "--owner", bad]).0);
    }
    assert!(!keys(&server, &["create", "x", "--allow", "[a"]).0);
    assert_eq!(
        Http::modern("tools/list", json!({})).send(server.address).status,
        200,
        "it is open as before"
    );
}
