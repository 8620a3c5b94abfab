//! Limits that several servers count together in Redis: that all of them let through what one would, that a restart gives
//! nothing back, and that nothing depends on Redis.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::keys::{OWN, becomes, create, with};
use crate::scripted::{Answer, Scripted, result};
use crate::support::redis::{PASSWORD, Redis};
use crate::support::{Http, Reply, Server, database_of, eventually};

const SEALING: &str = "6f1e2d3c4b5a69788796a5b4c3d2e1f0";

fn shared(redis: &Redis) -> Vec<(&str, &str)> {
    vec![
        ("WAYGATE_LIMITS_COUNT_IN", "redis"),
        ("WAYGATE_REDIS_URL", &redis.url),
        ("WAYGATE_SEALING_KEY", SEALING),
        ("WAYGATE_LIMITS_REQUESTS_PER_MINUTE", "1"),
    ]
}

fn list() -> Http {
    Http::modern("tools/list", json!({}))
}

fn health(server: &Server) -> Value {
    with(OWN, Http::get("/health")).send(server.address).json()
}

fn counts_together(server: &Server) {
    eventually("requests are counted together", || {
        (health(server)["checks"]["limits"] == "ok").then_some(())
    });
}

/// Sends so many, all of which are let through.
#[track_caller]
fn passes(server: &Server, count: usize, request: &Http) {
    for n in 0..count {
        let reply = request.send(server.address);
        assert_eq!(reply.status, 200, "{n}: {}", reply.text());
    }
}

/// What would become of a call now; nothing is taken.
fn explained(server: &Server, query: &str) -> Value {
    with(OWN, Http::get(&format!("/diagnostics/explain?{query}"))).send(server.address).json()
}

/// Waits until a call would be refused since nothing is left of the limit of such an owner.
fn has_heard(server: &Server, query: &str, of: &str) {
    eventually("it hears that nothing is left", || {
        let told = explained(server, query);
        let message = told["answer"]["message"].as_str().unwrap_or_default();
        (told["decidedBy"] == "limit" && message.contains(of)).then_some(())
    });
}

/// All are refused, but for those that come back meanwhile, at one a minute.
#[track_caller]
fn refuses(server: &Server, request: &Http, of: &str, began: Instant) {
    let replies: Vec<Reply> = (0..5).map(|_| request.send(server.address)).collect();
    let through = replies.iter().filter(|reply| reply.status == 200).count();
    assert!(u64::try_from(through).expect("a number") <= began.elapsed().as_secs() / 60, "{through} of {of}");
    let refused = replies.iter().find(|reply| reply.status == 429).expect("one that was refused");
    assert_eq!(refused.json()["error"]["data"]["of"], of, "{}", refused.text());
}

#[test]
fn all_servers_together_let_through_what_one_would_and_a_restart_gives_nothing_back() {
    let Some(redis) = Redis::start() else { return };
    let mut settings = shared(&redis);
    settings.push(("WAYGATE_LIMITS_BURST", "6"));
    let (one, other) = (Server::with("faulty_server", &settings), Server::with("faulty_server", &settings));
    counts_together(&one);
    counts_together(&other);
    let began = Instant::now();
    passes(&one, 6, &list());
    has_heard(&other, "tool=repeat", "of all callers together");
    refuses(&other, &list(), "server", began);
    drop(one);
    let again = Server::with("faulty_server", &settings);
    has_heard(&again, "tool=repeat", "of all callers together");
    refuses(&again, &list(), "server", began);
    let contents = redis.contents();
    assert!(contents.contains("waygate:limits:1:"), "{contents}");
    for secret in ["all callers", "server", SEALING] {
        assert!(!contents.contains(secret), "{secret} in {contents}");
    }
}

#[test]
fn servers_with_another_sealing_key_or_another_limit_count_apart() {
    let Some(redis) = Redis::start() else { return };
    let mut settings = shared(&redis);
    settings.push(("WAYGATE_LIMITS_BURST", "3"));
    let one = Server::with("faulty_server", &settings);
    settings[2].1 = OWN;
    let stranger = Server::with("faulty_server", &settings);
    counts_together(&one);
    counts_together(&stranger);
    passes(&one, 3, &list());
    eventually("it is told", || redis.contents().contains("waygate:limits:1:").then_some(()));
    passes(&stranger, 3, &list());
}

fn upstream() -> Scripted {
    Scripted::modern(&["look"], |asked| match asked.body["method"].as_str() {
        Some("tools/call") => {
            let says = json!({"resultType": "complete", "content": []});
            Some(Answer::Whole(result(asked, "", &says)))
        }
        _ => None,
    })
}

#[test]
fn the_limits_of_tools_and_bundles_are_counted_together_too() {
    let Some(redis) = Redis::start() else { return };
    let (settings, upstream) = (shared(&redis)[..3].to_vec(), upstream());
    let start = |folder: &Path| {
        let plugins = folder.join("plugins");
        std::fs::create_dir_all(&plugins).expect("a folder");
        let plugin =
            format!("url = {:?}\n[tools.look]\nrequests_per_minute = 1\nburst = 3\n", upstream.url());
        std::fs::write(plugins.join("w.toml"), plugin).expect("a file");
        let bundle = "kind = \"bundle\"\nplugins = [\"w\"]\nrequests_per_minute = 1\nburst = 4\n";
        std::fs::write(plugins.join("few.toml"), bundle).expect("a file");
        let server = Server::on("waygate-mcp", folder, &settings);
        eventually("the plugin is there", || (server.get("/plugins/w").1["state"] == "ready").then_some(()));
        counts_together(&server);
        server
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (start(&folder.path().join("one")), start(&folder.path().join("other")));
    let began = Instant::now();
    let call = Http::tool("w__look", json!({}));
    passes(&one, 3, &call);
    has_heard(&other, "tool=w__look", "tool");
    refuses(&other, &call, "tool", began);
    let listed = Http { head: "POST /mcp/few".to_owned(), ..list() };
    passes(&other, 4, &listed);
    has_heard(&one, "tool=w__look&bundle=few", "bundle");
    refuses(&one, &listed, "bundle", began);
    passes(&one, 3, &list());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a kind").is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().expect("a kind").is_file() {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[test]
fn a_key_that_two_servers_know_has_one_limit_for_both_and_another_of_its_name_has_its_own() {
    let Some(redis) = Redis::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    if database_of(folder.path()).is_some() {
        // Each server of a test has a database of its own there, and its folder holds none.
        return;
    }
    let mut settings = shared(&redis)[..3].to_vec();
    settings.push(("WAYGATE_API_KEY", OWN));
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    std::fs::create_dir_all(&here).expect("a folder");
    let one = Server::on("faulty_server", &here, &settings);
    let make = || create(&one, &["ci", "--rate", "1/min", "--burst", "4"]);
    let (key, namesake) = (make(), make());
    becomes(&one, &namesake, 200);
    drop(one);
    copy(&here, &there);
    let one = Server::on("faulty_server", &here, &settings);
    let other = Server::on("faulty_server", &there, &settings);
    counts_together(&one);
    counts_together(&other);
    let began = Instant::now();
    passes(&one, 4, &with(&key, list()));
    let id = crate::keys::id_of(&key);
    has_heard(&other, &format!("tool=repeat&key={id}"), "key");
    refuses(&other, &with(&key, list()), "key", began);
    passes(&other, 4, &with(&namesake, list()));
}

#[test]
fn no_request_fails_or_waits_while_redis_is_away_and_what_was_let_through_meanwhile_counts() {
    let Some(mut redis) = Redis::start() else { return };
    let url = redis.url.clone();
    let settings = |burst| {
        let shared = [
            ("WAYGATE_LIMITS_COUNT_IN", "redis"),
            ("WAYGATE_REDIS_URL", &*url),
            ("WAYGATE_SEALING_KEY", SEALING),
        ];
        [&shared[..], &[("WAYGATE_LIMITS_REQUESTS_PER_MINUTE", "1"), ("WAYGATE_LIMITS_BURST", burst)]]
            .concat()
    };
    for (ends, comes, burst) in [("crash", "start", "8"), ("freeze", "thaw", "9")] {
        let half = 4;
        let (one, other) = (
            Server::with("faulty_server", &settings(burst)),
            Server::with("faulty_server", &settings(burst)),
        );
        counts_together(&one);
        counts_together(&other);
        let began = Instant::now();
        passes(&one, half, &list());
        redis.tell(ends);
        passes(&one, burst.parse::<usize>().expect("a number") - half, &list());
        refuses(&one, &list(), "server", began);
        let why = eventually("it is told", || {
            let told = health(&one);
            (told["checks"]["limits"] == "degraded").then(|| told["problems"]["limits"].to_string())
        });
        assert!(why.contains("Redis") && why.contains("by itself") && !why.contains(PASSWORD), "{why}");
        assert_eq!(health(&one)["status"], "degraded", "and no more than that");
        assert!(one.metric("waygate_limits_losses_total").is_some_and(|count| count >= 1.0));
        redis.tell(comes);
        counts_together(&one);
        counts_together(&other);
        // It let nothing through, and hears of what the one did alone.
        has_heard(&other, "tool=repeat", "of all callers together");
        refuses(&other, &list(), "server", began);
        assert!(!one.log().contains(PASSWORD));
    }
}

#[test]
fn a_server_starts_and_counts_without_the_redis_that_it_was_told_of() {
    let Some(mut redis) = Redis::start() else { return };
    redis.tell("crash");
    let url = redis.url.clone();
    let settings = [
        ("WAYGATE_LIMITS_COUNT_IN", "redis"),
        ("WAYGATE_REDIS_URL", &*url),
        ("WAYGATE_SEALING_KEY", SEALING),
        ("WAYGATE_LIMITS_REQUESTS_PER_MINUTE", "1"),
        ("WAYGATE_LIMITS_BURST", "2"),
    ];
    let server = Server::with("faulty_server", &settings);
    let began = Instant::now();
    passes(&server, 2, &list());
    refuses(&server, &list(), "server", began);
    redis.tell("start");
    counts_together(&server);
    refuses(&server, &list(), "server", began);
}
