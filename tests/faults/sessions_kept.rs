//! Sessions of the older revisions live on when their server is replaced or killed: their clients go on as if it had not been.

use std::path::Path;

use diesel::{RunQueryDsl as _, sql_types};
use serde_json::{Value, json};

use crate::keys::keys;
use crate::legacy::{NEWEST, Session, Stream, answer, everything};
use crate::restart::{successor, successor_with};
use crate::support::database::open;
use crate::support::{Reply, Server, eventually};

const COUNTER: &str = "test://counter";
const OWN: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// How many sessions are written down of which this holds.
fn count(folder: &Path, holds: &str) -> i64 {
    #[derive(diesel::QueryableByName)]
    struct Count {
        #[diesel(sql_type = sql_types::BigInt)]
        count: i64,
    }
    let query = format!("SELECT COUNT(*) AS count FROM sessions WHERE {holds}");
    let counted: Vec<Count> = diesel::sql_query(query).load(&mut open(folder)).expect("sessions are counted");
    counted.first().map_or(0, |counted| counted.count)
}

fn written(folder: &Path, holds: &str, many: i64) {
    eventually("sessions are written down", || (count(folder, holds) == many).then_some(()));
}

#[track_caller]
fn unknown(reply: &Reply) {
    assert_eq!((reply.status, reply.code()), (404, -31404), "{}", reply.text());
    assert!(reply.text().contains("initialize"), "{}", reply.text());
}

/// A session in which everything was said that a server keeps.
fn settled(server: &Server) -> Session {
    let session = Session::newest(server);
    session.call("resources/subscribe", json!({"uri": COUNTER})).result();
    session.call("logging/setLevel", json!({"level": "alert"})).result();
    session
}

/// Holds that a session has what was settled in another server.
fn is_settled(server: &Server, session: &Session) {
    session.tool("repeat", json!({})).result();
    let mut logs = session.begin("logs", json!({}));
    assert_eq!(logs.rest().len(), 3, "the level holds");
    // It is known what the client can be asked.
    let mut asks = session.begin("ask", json!({}));
    let ask = asks.ask("elicitation/create");
    session.answer(&ask, json!({"action": "accept", "content": {"name": "Ada"}}));
    assert!(asks.last_message()["result"].is_object());
    is_watched(server, &mut session.stream());
}

/// Holds that a stream tells of changes of the resource, and not only once of those that may have been missed.
fn is_watched(server: &Server, stream: &mut Stream) {
    let is_update = |message: Value| {
        message["method"] == "notifications/resources/updated" && message["params"]["uri"] == COUNTER
    };
    let mut updates = 0;
    while updates < 5 {
        server.tool("touch", json!({}));
        updates += usize::from(is_update(stream.next()));
    }
}

#[test]
fn a_session_goes_on_in_the_server_that_takes_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    let session = settled(&server);
    let mut stream = session.stream();
    server.tool("touch", json!({}));
    stream.next();
    let seen = stream.last.clone().expect("an event has an id");
    // A connection that is kept would be waited for.
    drop(stream);
    for _ in 0..2 {
        let next = successor("faulty_server", folder.path());
        assert_eq!(server.wait(), Some(0));
        server = next;
        is_settled(&server, &session);
    }
    // The stream that ended is taken up as a new one: what was missed is not known, and that is told.
    let mut stream = session.resume(&seen);
    is_watched(&server, &mut stream);
    // What it does not watch any more, it is not told of by the next server either.
    session.call("resources/unsubscribe", json!({"uri": COUNTER})).result();
    written(folder.path(), "subscriptions NOT LIKE '%counter%'", 1);
    assert_eq!(session.end().status, 204);
    unknown(&session.call("ping", json!({})));
    written(folder.path(), "1 = 1", 0);
}

#[test]
fn a_session_goes_on_when_its_server_was_killed_and_one_that_ended_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    let (session, ended) = (settled(&server), settled(&server));
    written(folder.path(), "log_level = 'alert' AND subscriptions LIKE '%counter%'", 2);
    assert!(!session.id.is_empty() && count(folder.path(), &format!("id_hash LIKE '%{}%'", session.id)) == 0);
    assert_eq!(ended.end().status, 204);
    written(folder.path(), "1 = 1", 1);
    let mut call = session.begin("ask", json!({}));
    let ask = call.ask("elicitation/create");
    server.signal("-KILL");
    server.wait();
    let server = Server::on("faulty_server", folder.path(), &[]);
    let (session, ended) = (session.at(&server), ended.at(&server));
    unknown(&ended.call("ping", json!({})));
    // What was asked is lost with the call that asked, and an answer is one to nothing.
    let late = session.post(&answer(&ask, json!({"action": "accept", "content": {"name": "Ada"}})));
    assert_eq!(late.status, 400, "{}", late.text());
    // So is the answer to a call: nobody is let wait for it.
    let lost = session.resumption("0-0").send(server.address);
    assert_eq!(lost.status, 400, "{}", lost.text());
    is_settled(&server, &session);
    let again = session.call("initialize", json!({}));
    assert_eq!(again.status, 400, "it is one session still: {}", again.text());
}

#[test]
fn a_session_is_its_callers_alone_in_the_next_server_too_and_ends_with_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [("WAYGATE_API_KEY", OWN)];
    let mut server = Server::on("faulty_server", folder.path(), &settings);
    let make = |name: &str| {
        let (made, says, why) = keys(folder.path(), &["create", name]);
        assert!(made, "{why}");
        let key = says.lines().find(|line| line.starts_with("wg_")).unwrap_or(&says);
        format!("Bearer {}", key.trim())
    };
    let (one, other) = (make("one"), make("other"));
    let open = |server: &Server, key: &str| {
        eventually("the key is known", || {
            let ping = crate::support::Http::modern("tools/list", json!({})).header("Authorization", key);
            (ping.send(server.address).status == 200).then_some(())
        });
        Session::with(server, NEWEST, everything(), &[("Authorization", key)])
    };
    let (session, doomed) = (open(&server, &one), open(&server, &other));
    written(folder.path(), "1 = 1", 2);
    let next = successor_with("faulty_server", folder.path(), &settings);
    assert_eq!(server.wait(), Some(0));
    server = next;
    let ping = |session: &Session, key: &str| {
        let request = session.request(&crate::legacy::request(1, "ping", json!({})));
        request.set("Authorization", key).send(server.address)
    };
    unknown(&ping(&session, &other));
    unknown(&ping(&session, &format!("Bearer {OWN}")));
    assert_eq!(ping(&session, &one).status, 200);
    // Of a key that is revoked, nothing stays, though nobody has come to this server with it yet.
    assert!(keys(folder.path(), &["revoke", "other"]).0);
    eventually("it is revoked", || (ping(&doomed, &other).status == 401).then_some(()));
    written(folder.path(), "1 = 1", 1);
    assert_eq!(ping(&session, &one).status, 200);
}

#[test]
fn a_session_that_nobody_used_for_long_is_gone_in_the_next_server_and_from_the_database() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [("WAYGATE_MCP_SESSION_IDLE_SECONDS", "3")];
    let mut server = Server::on("faulty_server", folder.path(), &settings);
    let session = Session::newest(&server);
    let row = format!("id_hash = '{}'", waygate_mcp::access::session_hash(&session.id));
    written(folder.path(), &row, 1);
    server.signal("-KILL");
    server.wait();
    let server = Server::on("faulty_server", folder.path(), &settings);
    eventually("its row is gone", || {
        // It goes when another one is written.
        assert_eq!(Session::newest(&server).end().status, 204);
        (count(folder.path(), &row) == 0).then_some(())
    });
    unknown(&session.at(&server).call("ping", json!({})));
}

#[test]
fn a_session_that_ended_at_the_server_before_after_it_was_read_is_gone_once_that_server_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::on("faulty_server", folder.path(), &[]);
    let (stays, ends) = (Session::newest(&server), Session::newest(&server));
    written(folder.path(), "1 = 1", 2);
    server.signal("-KILL");
    server.wait();
    let sql = |statement: &str| {
        diesel::sql_query(statement).execute(&mut open(folder.path())).expect("it is done");
    };
    // A server elsewhere that still runs.
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S");
    sql(&format!(
        "INSERT INTO instances (instance_id, started_at, seen_at, host, pid, version) \
         VALUES ('before', '{now}', '{now}', 'elsewhere', 7, '0')"
    ));
    let server = Server::on("faulty_server", folder.path(), &[("WAYGATE_LOG_LEVEL", "DEBUG")]);
    // There one ends, and then that server.
    let hash = waygate_mcp::access::session_hash(&ends.id);
    sql(&format!("DELETE FROM sessions WHERE id_hash = '{hash}'"));
    let said = || server.log().contains("all sessions of the server before this one are known");
    sql(&format!("UPDATE instances SET stopped_at = '{now}' WHERE instance_id = 'before'"));
    eventually("nobody is followed any more", || said().then_some(()));
    unknown(&ends.at(&server).call("ping", json!({})));
    stays.at(&server).call("ping", json!({})).result();
}
