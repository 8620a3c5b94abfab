//! A key that is taken back while calls are made with it, wherever that is done: no call that begins a second later gets through.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::keys::{OWN, becomes, create, id_of, keys, with};
use crate::support::{Http, Server, eventually};

/// Clients at once, each of which rests for so long after each call: a server without optimisation is loaded by that.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(10);
/// The clock of these tests adds up the sleeps of a thread, each of so long, and none as more than the other: while the machine gives
/// nobody any time it stands, so that a machine that is busy with others is no server that is late.
const SLEEP: Duration = Duration::from_millis(5);
const SLEEP_MOST: Duration = Duration::from_millis(25);
/// What is promised.
const SECOND: Duration = Duration::from_secs(1);
/// Calls that are wanted before it is looked further.
const CALLS: usize = 50;

/// A call that was answered.
#[derive(Debug, Clone, Copy)]
struct Call {
    /// When, by the clock.
    began: Duration,
    status: u16,
}

/// What clients and clock share.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    micros: AtomicU64,
    calls: Mutex<Vec<Call>>,
}

impl Shared {
    fn is_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::SeqCst))
    }

    /// Has the clock go.
    fn run(&self) {
        while self.is_on() {
            let began = Instant::now();
            std::thread::park_timeout(SLEEP);
            let slept = began.elapsed().min(SLEEP_MOST).as_micros();
            self.micros.fetch_add(u64::try_from(slept).expect("it is short"), Ordering::SeqCst);
        }
    }
}

/// Clients that call with one key, until this is dropped.
struct Clients(Arc<Shared>, Vec<JoinHandle<()>>);

impl Clients {
    /// Begins them, and waits until they are let in.
    fn begin(address: SocketAddr, key: &str) -> Self {
        let mut clients = Self(Arc::default(), Vec::new());
        let shared = Arc::clone(&clients.0);
        let clock = std::thread::spawn(move || shared.run());
        clients.1.push(clock);
        for number in 0..CLIENTS {
            let shared = Arc::clone(&clients.0);
            let call = with(key, Http::tool("echo", json!({"message": format!("from {number}")})));
            clients.1.push(std::thread::spawn(move || {
                while shared.is_on() {
                    let began = shared.now();
                    let status = call.send(address).status;
                    shared.calls.lock().expect("no panic").push(Call { began, status });
                    std::thread::park_timeout(PAUSE);
                }
            }));
        }
        clients.wait_for("calls are let through", |call| call.status == 200);
        clients
    }

    fn wait_for(&self, what: &str, is_one: impl Fn(&Call) -> bool) {
        eventually(what, || {
            (self.0.calls.lock().expect("no panic").iter().filter(|call| is_one(call)).count() >= CALLS)
                .then_some(())
        });
    }

    /// Holds the server to it that no call gets through that began later than so long after a moment.
    #[track_caller]
    fn are_refused(self, answered: Duration, within: Duration) {
        let last = answered + within;
        self.wait_for("calls go on", |call| call.began > last);
        let mut calls = self.0.calls.lock().expect("no panic").clone();
        calls.sort_by_key(|call| call.began);
        let through = calls.iter().rfind(|call| call.status == 200).expect("there were some");
        assert!(
            through.began <= last,
            "a call got through that began {:?} after the key was taken back, and {within:?} are allowed",
            through.began - answered
        );
        let refused = calls.iter().map(|call| call.status).filter(|status| *status != 200);
        let refused: Vec<u16> = refused.collect();
        // Whoever goes on showing what is not taken is slowed down.
        assert!(refused.iter().all(|status| [401, 429].contains(status)), "{refused:?}");
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
        // The server goes after them.
        self.1.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn admin(server: &Server, head: &str, body: &str) -> serde_json::Value {
    let mut request = Http { head: head.to_owned(), ..Http::get("/") };
    if !body.is_empty() {
        request = request.header("Content-Type", "application/json");
        request.body = body.as_bytes().to_vec();
    }
    let request = with(OWN, request);
    // A database on a busy machine may be away for a moment, and then it is told to come back.
    let reply = eventually("the database answers", || {
        Some(request.send(server.address)).filter(|reply| reply.status != 503)
    });
    assert!(reply.status < 300, "{}", reply.text());
    reply.json()
}

fn revoke(server: &Server, key: &str) {
    admin(server, &format!("POST /admin/api/keys/{}/revoke", id_of(key)), "");
}

#[test]
fn a_key_that_is_revoked_here_is_refused_from_the_answer_on() {
    let server = Server::with("echo", &[("WAYGATE_API_KEY", OWN)]);
    let key = create(&server, &["app"]);
    becomes(&server, &key, 200);
    let clients = Clients::begin(server.address, &key);
    revoke(&server, &key);
    let answered = clients.0.now();
    clients.are_refused(answered, Duration::ZERO);
}

#[test]
fn a_key_that_is_revoked_or_deleted_by_the_command_line_is_refused_within_a_second() {
    let server = Server::with("echo", &[("WAYGATE_API_KEY", OWN)]);
    // Several, since how long it takes is a matter of when the server looked last.
    for (number, verb) in ["revoke", "delete", "revoke", "delete", "revoke"].into_iter().enumerate() {
        let name = format!("app{number}");
        let key = create(&server, &[&name]);
        becomes(&server, &key, 200);
        let clients = Clients::begin(server.address, &key);
        let (done, _, says) = keys(&server, &[verb, &name]);
        let answered = clients.0.now();
        assert!(done, "{says}");
        clients.are_refused(answered, SECOND);
    }
}

#[test]
#[cfg(feature = "postgres")]
fn a_key_that_is_revoked_at_another_server_is_refused_within_a_second() {
    let Some(cluster) = crate::support::postgres::Cluster::start(&[]) else { return };
    let settings = [
        ("WAYGATE_API_KEY", OWN),
        ("WAYGATE_DATABASE_URL", &*cluster.url),
        ("WAYGATE_SEALING_KEY", "6f1e2d3c4b5a69788796a5b4c3d2e1f0"),
    ];
    let (one, other) = (Server::with("echo", &settings), Server::with("echo", &settings));
    let made = admin(&one, "POST /admin/api/keys", r#"{"name": "app"}"#);
    let key = made["secret"].as_str().expect("a key").to_owned();
    becomes(&other, &key, 200);
    let (here, there) = (Clients::begin(one.address, &key), Clients::begin(other.address, &key));
    revoke(&other, &key);
    let (at_one, at_other) = (here.0.now(), there.0.now());
    here.are_refused(at_one, SECOND);
    there.are_refused(at_other, Duration::ZERO);
}
