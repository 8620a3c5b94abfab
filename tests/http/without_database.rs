//! No request of MCP asks the database, whoever makes it and whatever becomes of it: with one that is frozen, one that is locked and
//! one whose tables are gone, all is answered as before.

use serde_json::{Value, json};

use crate::cache::{House, look};
use crate::keys::{OWN, becomes, with};
use crate::legacy::{NEWEST, Session, everything, handshake, request};
use crate::support::{Http, Open, Reply, Server, eventually};

/// How often each is asked while the database gives no answer: of any that waited for it, so many would take longer than whoever may
/// wait for it does.
const ROUNDS: usize = 10;
/// A lock is waited for longer than any test takes.
const PATIENT: (&str, &str) = ("WAYGATE_DB_BUSY_TIMEOUT_MS", "60000");

fn admin(head: &str, body: &str) -> Http {
    let mut request = with(OWN, Http { head: head.to_owned(), ..Http::get("/") });
    if !body.is_empty() {
        request = request.header("Content-Type", "application/json");
        request.body = body.as_bytes().to_vec();
    }
    request
}

/// A key that was made a moment ago, and is known.
fn key(server: &Server, form: &Value) -> String {
    let made = admin("POST /admin/api/keys", &form.to_string()).send(server.address);
    let key = made.json()["secret"].as_str().unwrap_or_else(|| panic!("no key: {}", made.text())).to_owned();
    becomes(server, &key, 200);
    key
}

/// A request of each kind, and how it was answered at first.
struct Kinds {
    server: std::net::SocketAddr,
    all: Vec<(&'static str, Http, Answer)>,
}

/// Status, and what a client goes by.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    code: i64,
    is_error: bool,
    /// Of a tool that is cached.
    text: Option<String>,
}

fn answer(what: &str, reply: &Reply) -> Answer {
    let text = reply.json()["result"]["content"][0]["text"].as_str().map(str::to_owned);
    Answer {
        status: reply.status,
        code: reply.code(),
        is_error: reply.json()["result"]["isError"] == true,
        text: text.filter(|_| what == "a cached answer"),
    }
}

impl Kinds {
    fn of(house: &House) -> Self {
        let server = &house.server;
        let plain = key(server, &json!({"name": "plain"}));
        let roomy = json!({"requestsPerMinute": 6000, "burst": 1000, "concurrent": 10});
        let limited = key(server, &json!({"name": "limited", "limits": roomy}));
        let spent = key(server, &json!({"name": "spent", "limits": {"requestsPerMinute": 1, "burst": 1}}));
        let narrow = key(server, &json!({"name": "narrow", "allow": ["w__look"]}));
        let header = format!("Bearer {plain}");
        let session = Session::with(server, NEWEST, everything(), &[("Authorization", &header)]);
        let call = || Http::tool("w__write", json!({}));
        let list = |method: &str| with(&plain, Http::modern(method, json!({})));
        let of_session = |method: &str, params: Value| session.request(&request(7, method, params));
        let no_object = Http::modern("tools/call", json!({"name": "w__write", "arguments": [1]}));
        let kinds = [
            ("a call with a key", with(&plain, call())),
            ("a call with the operator's key", with(OWN, call())),
            ("a call with a key that has limits", with(&limited, call())),
            ("a call with a key whose limit is reached", with(&spent, call())),
            ("a call of a tool that the key does not open", with(&narrow, call())),
            ("a call of no tool", with(&plain, Http::tool("w__nope", json!({})))),
            ("a call with bad arguments", with(&plain, no_object)),
            ("a call with a wrong key", with("a-guess", call())),
            ("a call without a key", call()),
            ("a cached answer", with(&plain, look())),
            ("tools/list", list("tools/list")),
            ("prompts/list", list("prompts/list")),
            ("resources/list", list("resources/list")),
            ("resources/templates/list", list("resources/templates/list")),
            ("server/discover", list("server/discover")),
            ("no method", list("no/method")),
            ("a call of a session", of_session("tools/call", json!({"name": "w__write", "arguments": {}}))),
            ("a list of a session", of_session("tools/list", json!({}))),
            ("a ping of a session", of_session("ping", json!({}))),
            ("a session's begin", with(&plain, Http::post(handshake(NEWEST, everything()).to_string()))),
        ];
        drop(with(&spent, call()).send(server.address));
        let first = kinds.map(|(what, request)| {
            let answered = answer(what, &request.send(server.address));
            (what, request, answered)
        });
        let kinds = Self { server: server.address, all: first.into() };
        kinds.are_of_all_kinds();
        kinds
    }

    /// They are what they are called: else nothing is shown by how they are answered.
    fn are_of_all_kinds(&self) {
        let statuses: Vec<u16> = self.all.iter().map(|(_, _, answer)| answer.status).collect();
        let told: Vec<_> = self.all.iter().map(|(what, _, answer)| (what, answer)).collect();
        assert_eq!(statuses[..4], [200, 200, 200, 429], "{told:#?}");
        assert_eq!(statuses[7..9], [401, 401], "{told:#?}");
        assert!(self.all[9].2.text.is_some(), "{told:#?}");
        for place in (9..15).chain(16..20) {
            assert_eq!((statuses[place], self.all[place].2.code), (200, 0), "{told:#?}");
        }
        for place in [4, 5, 6, 15] {
            assert!(self.all[place].2.code != 0 || self.all[place].2.is_error, "{told:#?}");
        }
    }

    /// Asks all of them again.
    #[track_caller]
    fn are_answered_as_before(&self, times: usize) {
        for _ in 0..times {
            for (what, request, before) in &self.all {
                assert_eq!(&answer(what, &request.send(self.server)), before, "{what}");
            }
        }
    }
}

/// Whether nothing was answered yet.
fn is_silent(asked: &Open) -> bool {
    let stream = asked.reader.get_ref();
    stream.set_nonblocking(true).expect("a stream");
    let seen = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("a stream");
    seen.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Asks all, while one that does ask the database waits for it; once more where the machine was too busy to show anything.
fn are_answered_before(asks_the_database: &Http, kinds: &Kinds) {
    let is_shown = || {
        let asked = asks_the_database.open(kinds.server);
        kinds.are_answered_as_before(ROUNDS);
        is_silent(&asked)
    };
    assert!(
        is_shown() || is_shown(),
        "who asked the database was answered: it gives answers, or others waited"
    );
}

#[test]
#[cfg(feature = "sqlite")]
fn while_the_database_is_locked_no_request_waits_for_it() {
    if crate::support::database::skips_on_postgres("a file is locked") {
        return;
    }
    use diesel::connection::SimpleConnection as _;
    let house = House::start(&[("WAYGATE_API_KEY", OWN), PATIENT]);
    let kinds = Kinds::of(&house);
    let mut connection = crate::support::database::open(&house.server.folder);
    connection.batch_execute("BEGIN IMMEDIATE").expect("locked");
    are_answered_before(&admin("POST /admin/api/keys", r#"{"name": "other"}"#), &kinds);
    connection.batch_execute("ROLLBACK").expect("given back");
}

#[test]
fn while_the_tables_of_the_database_are_gone_all_is_answered_as_before() {
    use diesel::connection::SimpleConnection as _;
    let house = House::start(&[("WAYGATE_API_KEY", OWN)]);
    let kinds = Kinds::of(&house);
    let tables = ["api_keys", "command_history", "generation", "instances", "sessions", "tool_definitions"];
    let mut connection = crate::support::database::open(&house.server.folder);
    for table in tables {
        connection.batch_execute(&format!("ALTER TABLE {table} RENAME TO {table}_gone")).expect("renamed");
    }
    let shown = admin("GET /admin/api/keys", "").send(house.server.address);
    assert_eq!(shown.status, 503, "whoever asks the database sees it: {}", shown.text());
    kinds.are_answered_as_before(1);
}

#[test]
#[cfg(feature = "postgres")]
fn while_postgresql_is_frozen_no_request_waits_for_it() {
    let Some(mut cluster) = crate::support::postgres::Cluster::start(&[]) else { return };
    let url = cluster.url.clone();
    let house = House::start(&[("WAYGATE_API_KEY", OWN), ("WAYGATE_DATABASE_URL", &url)]);
    let kinds = Kinds::of(&house);
    cluster.tell("freeze");
    are_answered_before(&admin("GET /admin/api/keys", ""), &kinds);
    cluster.tell("thaw");
    eventually("the database answers again", || {
        (admin("GET /admin/api/keys", "").send(house.server.address).status == 200).then_some(())
    });
}
