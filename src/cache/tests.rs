//! What is kept for whom, until when. Without plugins, callers or calls.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::{Answer, Cache, Looked, Miss, Question};
use crate::config;
use crate::config::CacheKind;
use crate::config::plugin::CacheScope;
use crate::protocol::Raw;
use crate::protocol::render::{self, Finished, ServerInfo};

fn config() -> config::Cache {
    config::Cache {
        kind: CacheKind::Memory,
        ttl_seconds: 60,
        max_bytes: 1 << 20,
        redis_url: None,
        redis_prefix: "waygate".to_owned(),
    }
}

fn cache() -> Arc<Cache> {
    Cache::open(&config(), b"salt").unwrap().unwrap()
}

fn result(bytes: usize) -> Finished {
    let raw = Raw::trusted(format!("{{\"content\":[\"{}\"]}}", "x".repeat(bytes)));
    render::complete(&raw, &ServerInfo::new("w", "1")).unwrap()
}

struct Asks {
    plugin: Arc<str>,
    seat: u64,
    what: &'static str,
    who: &'static str,
    scope: Option<CacheScope>,
}

const SCOPES: [Option<CacheScope>; 3] = [None, Some(CacheScope::Private), Some(CacheScope::Public)];

fn asks(who: &'static str) -> Asks {
    Asks { plugin: "p".into(), seat: 1, what: "a:1", who, scope: None }
}

fn look(cache: &Cache, asks: &Asks) -> Looked {
    let question = Question {
        plugin: &asks.plugin,
        definition: "d",
        seat: asks.seat,
        request: &[asks.what],
        principal: asks.who,
        uri: Some(asks.what),
        scope: asks.scope,
    };
    cache.look(&question).now_or_never().unwrap()
}

fn miss(cache: &Cache, asks: &Asks) -> Miss {
    match look(cache, asks) {
        Looked::Miss(miss) => miss,
        Looked::Hit(_) => panic!("it is there"),
    }
}

fn hits(cache: &Cache, asks: &Asks) -> bool {
    matches!(look(cache, asks), Looked::Hit(_))
}

fn keep(cache: &Cache, miss: &Miss, public: bool) -> bool {
    let answer = Answer { result: &result(10), lasts: Duration::from_secs(600), says: None, public };
    cache.keep(miss, &answer).is_some()
}

#[test]
fn an_answer_is_for_its_caller_alone_unless_it_is_for_all() {
    for scope in SCOPES {
        let cache = cache();
        let asks = |who| Asks { scope, ..asks(who) };
        let public = scope == Some(CacheScope::Public);
        assert!(keep(&cache, &miss(&cache, &asks("a")), public));
        assert!(hits(&cache, &asks("a")));
        assert_eq!(hits(&cache, &asks("b")), public, "{scope:?}");
    }
    // What a server says is for all is found by all, where the operator says nothing.
    let cache = cache();
    assert!(keep(&cache, &miss(&cache, &asks("a")), true));
    assert!(hits(&cache, &asks("b")));
    assert!(!hits(&cache, &Asks { scope: Some(CacheScope::Private), ..asks("b") }));
}

#[test]
fn another_question_and_another_plugin_on_another_seat_have_other_answers() {
    let cache = cache();
    assert!(keep(&cache, &miss(&cache, &asks("a")), false));
    for other in [
        Asks { what: "a:2", ..asks("a") },
        Asks { seat: 2, ..asks("a") },
        Asks { plugin: "q".into(), ..asks("a") },
        asks("b"),
    ] {
        assert!(!hits(&cache, &other));
    }
    assert!(hits(&cache, &asks("a")));
}

#[test]
fn what_becomes_stale_is_gone_and_what_was_on_its_way_then_is_not_kept() {
    let cache = cache();
    let (one, other) = (asks("a"), Asks { what: "a:2", ..asks("a") });
    for asks in [&one, &other] {
        assert!(keep(&cache, &miss(&cache, asks), false));
    }
    cache.forget_resource(&one.plugin, "a:1");
    assert!(!hits(&cache, &one) && hits(&cache, &other));
    let on_its_way = miss(&cache, &one);
    cache.forget_resource(&one.plugin, "a:1");
    assert!(!keep(&cache, &on_its_way, false) && !hits(&cache, &one));
    let of_another = miss(&cache, &one);
    assert_eq!(cache.forget_plugin(&"q".into()), Some(0));
    assert!(keep(&cache, &of_another, false));
    assert_eq!(cache.forget_plugin(&one.plugin), Some(2));
    assert!(!hits(&cache, &one) && !hits(&cache, &other));
    assert!(keep(&cache, &miss(&cache, &one), false));
    let on_its_way = miss(&cache, &other);
    let cleared = cache.clear(None).now_or_never().unwrap();
    assert_eq!((cleared.answers, cleared.pending), (Some(1), false));
    assert!(!keep(&cache, &on_its_way, false) && !hits(&cache, &one));
    assert_eq!(cache.size(), Some((0, 0)));
}

#[test]
fn an_answer_that_is_too_large_or_does_not_last_is_not_kept_and_none_lasts_longer_than_any_may() {
    let cache = cache();
    let miss = miss(&cache, &asks("a"));
    let keep =
        |result: &Finished, lasts| cache.keep(&miss, &Answer { result, lasts, says: None, public: false });
    assert!(keep(&result(1 << 16), Duration::from_secs(1)).is_some(), "who waits for it has it all the same");
    assert!(keep(&result(1), Duration::ZERO).is_none());
    assert!(!hits(&cache, &asks("a")));
    assert_eq!(keep(&result(1), Duration::from_secs(600)).unwrap().lasts, Duration::from_secs(60));
}

#[test]
fn there_is_none_where_there_is_to_be_none() {
    let none = config::Cache { kind: CacheKind::None, ..config() };
    assert!(Cache::open(&none, b"").unwrap().is_none());
}
