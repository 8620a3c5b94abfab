//! Profiles: for the operator alone, one at a time, within bounds, and with the functions that really run.

#[cfg(feature = "profile")]
use std::process::Command;
#[cfg(feature = "profile")]
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::keys::{OWN, becomes, create, with};
use crate::support::{Http, Reply, Server};
#[cfg(feature = "profile")]
use crate::support::{database_of, eventually, program};

const CPU: &str = "/diagnostics/profile/cpu";
const HEAP: &str = "/diagnostics/profile/heap";

fn ask(server: &Server, key: &str, url: &str) -> Reply {
    with(key, Http { head: format!("POST {url}"), ..Http::get("/") }).send(server.address)
}

/// Calls as fast as it can for as long as `work` takes.
#[cfg(feature = "profile")]
fn under_load<T>(server: &Server, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let reply = with(OWN, Http::tool("repeat", json!({"text": "x"}))).send(server.address);
                assert_eq!(reply.status, 200, "{}", reply.text());
            }
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        done
    })
}

#[test]
fn profiles_are_the_operators_alone() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let watcher = create(&server, &["watcher", "--scope", "ops:read"]);
    becomes(&server, &watcher, 403);
    for url in [CPU, HEAP] {
        assert_eq!(ask(&server, "", url).status, 401, "{url}");
        let reply = ask(&server, &watcher, url);
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (403, &json!("forbidden")), "{url}");
        assert_eq!(with(OWN, Http::get(url)).send(server.address).status, 405, "{url}");
    }
}

#[test]
fn a_heap_profile_says_what_memory_is_taken_by() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let reply = ask(&server, OWN, HEAP);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let heap = reply.json();
    let bytes = |value: &Value| value.as_u64().unwrap_or_default();
    let parts = heap["mappings"].as_object().expect("mappings");
    let resident: u64 = parts.values().map(|part| bytes(&part["residentBytes"])).sum();
    assert_eq!(resident, bytes(&heap["residentBytes"]), "{heap}");
    assert!(bytes(&heap["peakBytes"]) > 0 && bytes(&parts["anonymous"]["privateBytes"]) > 1 << 20, "{heap}");
}

#[test]
fn a_cpu_profile_that_is_malformed_or_out_of_bounds_is_refused_at_once() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    for (query, said) in [
        ("seconds=0", "from 1 to 60"),
        ("seconds=61", "from 1 to 60"),
        ("seconds=-1", "malformed"),
        ("seconds=18446744073709551616", "malformed"),
        ("format=svg", "malformed"),
        ("second=1", "malformed"),
    ] {
        let reply = ask(&server, OWN, &format!("{CPU}?{query}"));
        assert_eq!(reply.status, 400, "{query}: {}", reply.text());
        assert!(reply.text().contains(said), "{query}: {}", reply.text());
    }
}

#[cfg(not(feature = "profile"))]
#[test]
fn a_build_that_cannot_sample_says_so() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let reply = ask(&server, OWN, &format!("{CPU}?seconds=1"));
    assert_eq!(reply.status, 404);
    assert!(reply.text().contains("build it with the feature profile"), "{}", reply.text());
}

#[cfg(feature = "profile")]
#[test]
fn a_cpu_profile_under_load_names_the_functions_that_run() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let folded = under_load(&server, || ask(&server, OWN, &format!("{CPU}?seconds=2&format=folded")));
    assert_eq!((folded.status, folded.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    let text = folded.text();
    assert!(text.contains("waygate_mcp::http::mcp::"), "{text}");
    for line in text.lines() {
        let (stack, count) = line.rsplit_once(' ').expect("a stack and its count");
        assert!(stack.contains(';') && count.parse::<u64>().is_ok_and(|count| count > 0), "{line}");
    }
    let pprof = under_load(&server, || ask(&server, OWN, &format!("{CPU}?seconds=1")));
    assert_eq!((pprof.status, pprof.header("content-type")), (200, Some("application/octet-stream")));
    let names = |name: &str| pprof.body.windows(name.len()).any(|found| found == name.as_bytes());
    assert!(names("waygate_mcp::http::") && names("nanoseconds"));
    eventually("the history tells of both", || {
        let mut history = Command::new(program("waygate-mcp"));
        history.args(["history", "list", "--json", "--kind", "admin", "--data-dir"]).arg(&server.folder);
        history.env_clear().envs(database_of(&server.folder)).env("HOME", &server.folder);
        let told = history.output().expect("the history");
        (String::from_utf8_lossy(&told.stdout).matches("profile/cpu").count() == 2).then_some(())
    });
}

#[cfg(feature = "profile")]
#[test]
fn two_cpu_profiles_at_once_are_one_too_many_and_a_stop_waits_for_none() {
    let mut server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let address = server.address;
    let first = std::thread::spawn(move || {
        // The other one may come before it, and be at it for its second.
        eventually("it is its turn", || {
            let head = format!("POST {CPU}?seconds=60&format=folded");
            let reply = with(OWN, Http { head, ..Http::get("/") }).send(address);
            (reply.status != 429).then_some(reply)
        })
    });
    let refused = eventually("the first one is taken", || {
        let reply = ask(&server, OWN, &format!("{CPU}?seconds=1"));
        (reply.status != 200).then_some(reply)
    });
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("60")), "{}", refused.text());
    assert!(refused.text().contains("is being sampled for somebody else"), "{}", refused.text());
    server.signal("-TERM");
    assert_eq!(first.join().expect("an answer").status, 200, "what there is so far");
    assert_eq!(server.wait(), Some(0));
}
