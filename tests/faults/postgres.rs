//! A PostgreSQL that is absent, killed, restarted, full, read-only, frozen, or wants TLS: each on a private one, so that it
//! can be hurt. What any database can suffer is in `database.rs`, which is run on PostgreSQL as well.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use diesel::{Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, sql_query, sql_types};
use serde_json::json;

use crate::database::{becomes, refused};
use crate::load::{Load, Tally, echo};
use crate::start::port_of;
use crate::support::database::skips_on_postgres;
use crate::support::postgres::{Cluster, PASSWORD};
use crate::support::{Http, Server, eventually};

const FULL: (&str, &str) = ("WAYGATE_HISTORY_ARGUMENTS", "full");
const STRICT: (&str, &str) = ("WAYGATE_HISTORY_DURABILITY", "strict");
const ROOMY: (&str, &str) = ("WAYGATE_HISTORY_QUEUE_MAX", "1000000");
const AT_ONCE: (&str, &str) = ("WAYGATE_DB_WAIT_SECONDS", "0");
const KEY: &str = "a-key-of-the-test-that-is-long-enough";
const DENIED: i32 = 74;
const TEMPORARY: i32 = 75;

/// A cluster, unless there is none to be had, or the run on PostgreSQL has it all tested already.
fn cluster(options: &[&str]) -> Option<Cluster> {
    if skips_on_postgres("it has its own in every run") { None } else { Cluster::start(options) }
}

fn server(name: &str, url: &str, settings: &[(&str, &str)]) -> Server {
    let settings = [&[("WAYGATE_DATABASE_URL", url)], settings].concat();
    Server::with(name, &settings)
}

/// A start that must fail: its exit code and sentence, which never has the password.
fn refused_at(url: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, says) =
        refused(Server::command("echo", folder.path(), &[("WAYGATE_DATABASE_URL", url), AT_ONCE]));
    let log = std::fs::read_to_string(folder.path().join("logs/waygate.log")).unwrap_or_default();
    for text in [&says, &log] {
        assert!(!text.contains(PASSWORD) && !text.contains("a-secret"), "{text}");
    }
    (code, says)
}

fn number(cluster: &Cluster, query: &str) -> i64 {
    number_on(&mut cluster.connect(), query)
}

fn number_on(connection: &mut PgConnection, query: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Number {
        #[diesel(sql_type = sql_types::BigInt)]
        number: i64,
    }
    let query = format!("SELECT ({query})::bigint AS number");
    sql_query(query).get_result::<Number>(connection).expect("the query runs").number
}

/// How many calls of `tally` that were answered have no row, and how many rows the gaps tell of.
fn missing(cluster: &Cluster, tally: &Tally) -> (usize, i64) {
    #[derive(QueryableByName)]
    struct Message {
        #[diesel(sql_type = sql_types::Text)]
        message: String,
    }
    let query = "SELECT DISTINCT arguments::jsonb->>'message' AS message FROM command_history \
                 WHERE arguments IS NOT NULL";
    let rows: Vec<Message> = sql_query(query).load(&mut cluster.connect()).expect("the history is read");
    let known: std::collections::BTreeSet<String> = rows.into_iter().map(|row| row.message).collect();
    let told = "SELECT coalesce(sum(substring(detail from '^[0-9]+')::bigint), 0) FROM command_history WHERE kind = 'gap'";
    (tally.answered.iter().filter(|message| !known.contains(*message)).count(), number(cluster, told))
}

fn problem(server: &Server) -> String {
    server.get("/health").1["problems"]["database"].as_str().unwrap_or_default().to_owned()
}

fn stop(mut server: Server) {
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0), "{}", server.log());
}

const OWN: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waygate-mcp'";
const CUT_OFF: &str =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'waygate-mcp'";

#[test]
fn a_database_that_is_absent_at_start_is_named_without_its_password() {
    if skips_on_postgres("it has its own in every run") {
        return;
    }
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let (code, says) = refused_at(&format!("postgres://waygate:{PASSWORD}@127.0.0.1:{free}/waygate"));
    assert_eq!(code, Some(TEMPORARY), "{says}");
    assert!(says.contains("cannot be reached") && says.contains(&free.to_string()), "{says}");
}

#[test]
fn a_start_waits_for_a_database_that_comes_up_later_and_callers_are_told_so() {
    let Some(mut cluster) = cluster(&[]) else { return };
    cluster.tell("stop");
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [("WAYGATE_DATABASE_URL", &*cluster.url), ("WAYGATE_DB_WAIT_SECONDS", "600")];
    let mut child = Server::command("echo", folder.path(), &settings).spawn().expect("it starts");
    let port = eventually("it listens first of all", || port_of(&child));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let reply = Http::get("/ready").send(address);
    assert_eq!(reply.status, 503, "{}", reply.text());
    let log = || std::fs::read_to_string(folder.path().join("logs/waygate.log")).unwrap_or_default();
    eventually("it says what it waits for", || log().contains("waits for the database").then_some(()));
    cluster.tell("start");
    eventually("it serves", || (echo(address, "x").ok()?.0 == 200).then_some(()));
    child.kill().expect("ends");
    child.wait().expect("ended");
    assert!(!log().contains(PASSWORD));
}

#[test]
fn what_postgresql_refuses_is_named_without_the_password() {
    let Some(cluster) = cluster(&[]) else { return };
    let wrong = cluster.url.replace(PASSWORD, "a-secret-that-is-wrong");
    let nobody = cluster.url.replace("waygate:", "nobody:");
    let nowhere = cluster.url.replace("/postgres", "/nowhere").replace("nowhere://", "postgres://");
    let plain = cluster.with("sslmode=require");
    let senseless = cluster.with(&format!("password={PASSWORD}&{PASSWORD}"));
    let cases = [
        (wrong, "password authentication failed"),
        (nobody, "password authentication failed"),
        (nowhere, "does not exist"),
        (plain, "does not support SSL"),
        (senseless, "make no sense"),
    ];
    for (url, expected) in cases {
        let (code, says) = refused_at(&url);
        assert_eq!(code, Some(DENIED), "{says}");
        assert!(says.contains(expected), "{says}");
    }
}

#[test]
fn batched_calls_go_on_while_postgresql_is_killed_and_what_it_lost_is_told() {
    let Some(mut cluster) = cluster(&[]) else { return };
    let server = server("echo", &cluster.url, &[FULL, ROOMY]);
    becomes(&server, "healthy");
    let load = Load::begin(server.address, "killed", 3);
    load.wait_for(100);
    cluster.tell("crash");
    load.wait_for(100);
    becomes(&server, "degraded");
    assert_eq!(server.get("/health").0, 200, "it works");
    // The first to notice may have been cut off in the middle of its question.
    eventually("it says why", || problem(&server).contains("cannot be reached").then_some(()));
    assert!(!problem(&server).contains(PASSWORD));
    cluster.tell("start");
    load.wait_for(100);
    let tally = load.finish();
    assert!(tally.refused.is_empty() && tally.broken.is_empty(), "{tally:?}");
    // What the crash took back stays a reason to look for a minute.
    let well_again = |says: String| (says.is_empty() || says.contains("dropped")).then_some(());
    eventually("it is written again", || well_again(problem(&server)));
    stop(server);
    let (missing, told) = missing(&cluster, &tally);
    assert!(missing as i64 <= told, "{missing} are missing, and gaps tell of {told}");
}

/// Rows of what an operator does, of a server's start among them.
const ACTS: &str = "SELECT count(*) FROM command_history WHERE kind = 'admin'";

/// How many of those there are, once the start is told.
fn told_acts(cluster: &Cluster) -> i64 {
    eventually("its start is told", || Some(number(cluster, ACTS)).filter(|acts| *acts > 0))
}

#[test]
fn what_a_crash_took_back_is_told_by_a_gap() {
    let Some(mut cluster) = cluster(&["wal_writer_delay=10s", "wal_writer_flush_after=0"]) else { return };
    // Written to disk by nobody for a while: the crash then loses what was said to be written.
    let server = server("echo", &cluster.url, &[FULL]);
    let acts = told_acts(&cluster);
    let load = Load::begin(server.address, "lost", 3);
    load.wait_for(50);
    let tally = load.finish();
    eventually("all is said to be written", || {
        let rows = tally.answered.len() as f64 + acts as f64;
        (server.metric("waygate_history_rows") == Some(rows)).then_some(())
    });
    cluster.tell("crash");
    cluster.tell("start");
    assert_eq!(echo(server.address, "after").expect("an answer").0, 200);
    eventually("a gap tells of the loss", || (missing(&cluster, &tally).1 > 0).then_some(()));
    let (missing, told) = missing(&cluster, &tally);
    assert!(missing > 0, "nothing was lost, so this shows nothing");
    let lost_acts = acts - number(&cluster, ACTS);
    assert_eq!(missing as i64 + lost_acts, told);
    assert_eq!(server.metric("waygate_history_dropped"), Some(told as f64));
}

#[test]
fn strict_calls_that_were_answered_survive_the_killing_of_postgresql() {
    let Some(mut cluster) = cluster(&[]) else { return };
    let server = server("echo", &cluster.url, &[FULL, STRICT]);
    let load = Load::begin(server.address, "killed", 6);
    load.wait_for(50);
    for _ in 0..2 {
        cluster.tell("crash");
        cluster.tell("start");
        load.wait_for(50);
    }
    let tally = load.finish();
    tally.all_answered();
    becomes(&server, "healthy");
    stop(server);
    assert_eq!(missing(&cluster, &tally), (0, 0));
}

#[test]
fn while_postgresql_is_away_strict_calls_are_refused_before_and_told_after() {
    let Some(mut cluster) = cluster(&[]) else { return };
    let server = server("faulty_server", &cluster.url, &[STRICT]);
    let counter = || {
        let params = json!({"uri": "test://counter"});
        server.call("resources/read", params).json()["result"]["contents"][0]["text"].clone()
    };
    assert_eq!(counter(), "0");
    let running = Http::tool("sleep", json!({"ms": 1500})).open(server.address);
    eventually("it runs", || (server.get("/plugins/faulty").1["running"] == 1).then_some(()));
    cluster.tell("stop");
    let ran = running.finish();
    assert!(ran.text().contains("the call ran, but its outcome could not be recorded"), "{}", ran.text());
    let refused = server.call("tools/call", json!({"name": "touch", "arguments": {}}));
    assert_eq!((refused.status, refused.code()), (503, -31503), "{}", refused.text());
    assert!(refused.text().contains("the call was not run"), "{}", refused.text());
    assert!(!refused.text().contains(PASSWORD));
    cluster.tell("start");
    eventually("it is written again", || (counter() == "0").then_some(()));
    server.tool("touch", json!({}));
    assert_eq!(counter(), "1");
    eventually("the database is well again", || problem(&server).is_empty().then_some(()));
}

#[test]
fn connections_that_are_cut_off_are_opened_again_and_nothing_is_lost() {
    let Some(mut cluster) = cluster(&[]) else { return };
    let server = server("echo", &cluster.url, &[FULL, ROOMY]);
    let load = Load::begin(server.address, "cut", 3);
    for _ in 0..5 {
        load.wait_for(30);
        number(&cluster, CUT_OFF);
    }
    // An orderly restart, as at a failover behind one address.
    cluster.tell("stop");
    cluster.tell("start");
    load.wait_for(30);
    let tally = load.finish();
    assert!(tally.refused.is_empty() && tally.broken.is_empty(), "{tally:?}");
    becomes(&server, "healthy");
    stop(server);
    assert_eq!(missing(&cluster, &tally), (0, 0));
    assert_eq!(number(&cluster, "SELECT count(*) FROM instances WHERE stopped_at IS NULL"), 0);
}

#[test]
fn at_a_failover_the_one_that_takes_writes_is_found_and_what_it_lacks_is_told() {
    let (Some(mut primary), Some(standby)) = (cluster(&[]), cluster(&[])) else { return };
    stop(server("echo", &standby.url, &[]));
    let acts_of_its_own = number(&standby, ACTS);
    let writable = |how: &str| {
        let past = standby.with("options=-cdefault_transaction_read_only%3Doff");
        let mut connection = PgConnection::establish(&past).expect("PostgreSQL answers");
        let says = format!("ALTER DATABASE postgres SET default_transaction_read_only = {how}");
        sql_query(says).execute(&mut connection).expect("it is set");
    };
    writable("on");
    let (_, second) = primary.url.rsplit_once('@').expect("a host");
    let both =
        format!("{},{second}?target_session_attrs=read-write", standby.url.trim_end_matches("/postgres"));
    let server = server("echo", &both, &[FULL]);
    becomes(&server, "healthy");
    let acts = told_acts(&primary);
    let load = Load::begin(server.address, "failover", 3);
    load.wait_for(30);
    let before = load.finish();
    eventually("all is written", || {
        let rows = before.answered.len() as f64 + acts as f64;
        (server.metric("waygate_history_rows") == Some(rows)).then_some(())
    });
    assert_eq!(missing(&primary, &before), (0, 0));
    primary.tell("crash");
    writable("off");
    assert_eq!(echo(server.address, "after").expect("an answer").0, 200);
    eventually("a gap tells what was left behind", || (missing(&standby, &before).1 > 0).then_some(()));
    let lost_acts = acts - number(&standby, ACTS) + acts_of_its_own;
    assert_eq!(missing(&standby, &before), (before.answered.len(), before.answered.len() as i64 + lost_acts));
    let after = "SELECT count(*) FROM command_history WHERE arguments LIKE '%after%'";
    assert_eq!(number(&standby, after), 1);
}

#[test]
fn a_postgresql_without_a_free_connection_is_named_and_waited_for() {
    let Some(cluster) = cluster(&["max_connections=8", "superuser_reserved_connections=3"]) else { return };
    cluster
        .run("CREATE ROLE guest LOGIN PASSWORD 'a-secret-of-the-test'; GRANT ALL ON SCHEMA public TO guest");
    let guest = cluster.url.replace("waygate:", "guest:");
    let server = server("echo", &guest, &[FULL]);
    becomes(&server, "healthy");
    // One that is kept: of many that come and go PostgreSQL may still hold the last.
    let (mut operator, mut others) = (cluster.connect(), Vec::new());
    // The server tries again and again: whoever comes first has the place.
    let mut crowd = || {
        number_on(&mut operator, CUT_OFF);
        while let Ok(other) = PgConnection::establish(&guest) {
            others.push(other);
        }
        problem(&server).contains("no connection free").then_some(())
    };
    eventually("it is told", &mut crowd);
    assert_eq!(echo(server.address, "crowded").expect("an answer").0, 200);
    let (code, says) = refused_at(&guest);
    assert_eq!(code, Some(TEMPORARY), "{says}");
    assert!(says.contains("no connection free") && says.contains("max_connections"), "{says}");
    drop(others);
    becomes(&server, "healthy");
    stop(server);
    assert_eq!(number(&cluster, "SELECT count(*) FROM command_history WHERE arguments LIKE '%crowded%'"), 1);
}

#[test]
fn a_read_only_postgresql_is_named_from_the_start_and_written_once_it_can_be() {
    let Some(cluster) = cluster(&[]) else { return };
    stop(server("echo", &cluster.url, &[]));
    cluster.run("ALTER DATABASE postgres SET default_transaction_read_only = on");
    let server = server("echo", &cluster.url, &[FULL]);
    becomes(&server, "degraded");
    assert!(problem(&server).contains("is read-only"), "{}", problem(&server));
    assert_eq!(echo(server.address, "kept").expect("an answer").0, 200);
    let on = PgConnection::establish(&cluster.with("options=-cdefault_transaction_read_only%3Doff"));
    sql_query("ALTER DATABASE postgres SET default_transaction_read_only = off")
        .execute(&mut on.expect("PostgreSQL answers"))
        .expect("it is writable again");
    becomes(&server, "healthy");
    stop(server);
    assert_eq!(number(&cluster, "SELECT count(*) FROM command_history WHERE arguments LIKE '%kept%'"), 1);
}

#[test]
fn a_read_only_postgresql_without_our_tables_is_named_and_nothing_starts() {
    let Some(cluster) = cluster(&["default_transaction_read_only=on"]) else { return };
    let (code, says) = refused_at(&cluster.url);
    assert_eq!(code, Some(DENIED), "{says}");
    assert!(says.contains("is read-only") && says.contains("takes writes"), "{says}");
}

#[test]
fn a_frozen_postgresql_holds_up_nobody_and_gets_its_rows_later() {
    let Some(mut cluster) = cluster(&[]) else { return };
    let server = server("echo", &cluster.url, &[FULL, ROOMY]);
    becomes(&server, "healthy");
    let load = Load::begin(server.address, "frozen", 3);
    load.wait_for(30);
    cluster.tell("freeze");
    load.wait_for(100);
    becomes(&server, "degraded");
    assert_eq!(server.get("/ready").0, 200);
    cluster.tell("thaw");
    let tally = load.finish();
    assert!(tally.refused.is_empty() && tally.broken.is_empty(), "{tally:?}");
    becomes(&server, "healthy");
    stop(server);
    assert_eq!(missing(&cluster, &tally), (0, 0));
}

#[test]
fn tls_is_spoken_and_the_certificate_is_checked_as_the_url_says() {
    let Some(cluster) = cluster(&["--tls"]) else { return };
    let authority = cluster.authority.as_deref().and_then(Path::to_str).expect("a path").replace('/', "%2F");
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'waygate-mcp' AND ssl";
    for parameters in ["sslmode=require", &format!("sslmode=verify-full&sslrootcert={authority}")] {
        let server = server("echo", &cluster.with(parameters), &[]);
        becomes(&server, "healthy");
        assert!(number(&cluster, encrypted) > 0, "{parameters}");
        assert_eq!(number(&cluster, encrypted), number(&cluster, OWN));
        stop(server);
    }
    // Its certificate names localhost alone; and nobody here knows its authority by itself.
    let elsewhere = cluster.url.replace("@localhost", "@127.0.0.1");
    let (code, says) = refused_at(&format!("{elsewhere}?sslmode=verify-full&sslrootcert={authority}"));
    assert_eq!(code, Some(DENIED), "{says}");
    assert!(says.contains("certificate") && says.contains("127.0.0.1"), "{says}");
    let (code, says) = refused_at(&cluster.with("sslmode=verify-full&sslrootcert=system"));
    assert_ne!(code, Some(0));
    assert!(says.contains("certificate") || says.contains("make no sense"), "{says}");
}

#[test]
fn no_more_connections_are_opened_than_the_pool_may_have() {
    let Some(cluster) = cluster(&[]) else { return };
    let server =
        server("waygate-mcp", &cluster.url, &[("WAYGATE_DB_POOL_SIZE", "2"), ("WAYGATE_API_KEY", KEY)]);
    let holder = Held::on(&cluster);
    let ask = || {
        let request = Http::tool("waygate__history", json!({"limit": 1}));
        request.header("Authorization", &format!("Bearer {KEY}")).open(server.address)
    };
    let readers: Vec<_> = (0..6).map(|_| ask()).collect();
    eventually("all readers wait", || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waygate-mcp' AND wait_event_type = 'Lock'";
        (number(&cluster, waiting) >= 2).then_some(())
    });
    let most = 4;
    assert!(
        number(&cluster, OWN) <= most,
        "two to read, one to see whether keys changed and one to write: {}",
        number(&cluster, OWN)
    );
    drop(holder);
    for reader in readers {
        let reply = reader.finish();
        assert!(reply.status == 200 && reply.json()["result"]["isError"].is_null(), "{}", reply.text());
    }
    assert!(number(&cluster, OWN) <= most);
}

#[test]
fn a_key_that_is_revoked_is_refused_while_all_who_read_the_history_wait() {
    let Some(cluster) = cluster(&[]) else { return };
    let settings =
        [("WAYGATE_DB_POOL_SIZE", "2"), ("WAYGATE_DB_BUSY_TIMEOUT_MS", "60000"), ("WAYGATE_API_KEY", KEY)];
    let server = server("waygate-mcp", &cluster.url, &settings);
    let with = |key: &str, request: Http| request.header("Authorization", &format!("Bearer {key}"));
    let make = Http { head: "POST /admin/api/keys".to_owned(), ..Http::post(r#"{"name": "app"}"#) };
    let made = with(KEY, make).send(server.address).json();
    let key = made["secret"].as_str().expect("a key").to_owned();
    let list = || with(&key, Http::modern("tools/list", json!({}))).send(server.address).status;
    assert_eq!(list(), 200);
    let holder = Held::on(&cluster);
    let ask = || with(KEY, Http::tool("waygate__history", json!({"limit": 1}))).open(server.address);
    let readers: Vec<_> = (0..2).map(|_| ask()).collect();
    let all_wait = || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waygate-mcp' AND wait_event_type = 'Lock'";
        (number(&cluster, waiting) >= 2).then_some(())
    };
    eventually("all readers wait", all_wait);
    // As another server does it: whoever writes it down waits for the history, too.
    cluster.run("UPDATE api_keys SET revoked_at = now(); UPDATE generation SET counter = counter + 1");
    eventually("it is refused", || (list() == 401).then_some(()));
    assert!(all_wait().is_some(), "they wait no more, so this shows nothing");
    drop(holder);
    drop(readers);
}

/// Nobody reads or writes the history while this is held.
struct Held(PgConnection);

impl Held {
    fn on(cluster: &Cluster) -> Self {
        let mut connection = cluster.connect();
        sql_query("BEGIN").execute(&mut connection).expect("begun");
        sql_query("LOCK TABLE command_history").execute(&mut connection).expect("locked");
        Self(connection)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(sql_query("ROLLBACK").execute(&mut self.0));
    }
}

#[test]
fn the_configuration_is_shown_without_the_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("postgres://waygate:{PASSWORD}@db.invalid/waygate");
    for verb in [&["config", "show"][..], &["db", "check"], &["history", "list"]] {
        let mut command = Command::new(crate::support::program("waygate-mcp"));
        command.args(verb).arg("--data-dir").arg(folder.path());
        command.env_clear().env("HOME", folder.path()).env("WAYGATE_DATABASE_URL", &url);
        let output = command.output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!said.is_empty() && !said.contains(PASSWORD), "{verb:?}: {said}");
    }
}
