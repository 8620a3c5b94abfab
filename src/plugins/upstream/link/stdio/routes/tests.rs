//! Whom each message reaches, and what happens to those that reach nobody.

use futures_util::FutureExt as _;

use super::*;

fn routes() -> Arc<Routes> {
    Routes::new("files".into(), Arc::default(), 1000)
}

fn line(routes: &Routes, text: &str) {
    routes.line(&Bytes::copy_from_slice(text.as_bytes())).unwrap();
}

/// What waits, in words.
fn fetch(flow: &mut Flow) -> Option<String> {
    let message = flow.next().now_or_never()?;
    Some(match message {
        None => "the end".to_owned(),
        Some(Err(error)) => error.to_string(),
        Some(Ok(Incoming::Response { outcome: Ok(result), .. })) => result.as_str().to_owned(),
        Some(Ok(Incoming::Response { outcome: Err(error), .. })) => error.message,
        Some(Ok(Incoming::Notification { method, .. })) => method,
        Some(Ok(Incoming::Request { id, method, .. })) => format!("{method} {}", id.as_str()),
    })
}

fn count(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[test]
fn each_answer_reaches_its_request_in_whatever_order_they_come() {
    let routes = routes();
    let [mut one, mut two] = [1, 2].map(|id| routes.wait_for(id).unwrap());
    line(&routes, r#"{"jsonrpc":"2.0","id":2,"result":{"n":2}}"#);
    line(&routes, r#" {"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}} "#);
    assert_eq!(fetch(&mut one).as_deref(), Some("no"));
    assert_eq!(fetch(&mut two).as_deref(), Some(r#"{"n":2}"#));
    assert_eq!(fetch(&mut two).as_deref(), Some("the end"));
}

#[test]
fn progress_and_what_is_subscribed_to_reach_the_request_they_name() {
    let routes = routes();
    let (mut call, mut listen, mut strays) =
        (routes.wait_for(1).unwrap(), routes.wait_for(2).unwrap(), routes.strays());
    line(&routes, r#"{"method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#);
    line(&routes, r#"{"method":"a","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"2"}}}"#);
    line(&routes, r#"{"method":"notifications/progress","params":{"progressToken":9,"progress":1}}"#);
    line(&routes, r#"{"method":"b"}"#);
    line(&routes, r#"{"id":1,"method":"sampling/createMessage","params":{}}"#);
    assert_eq!(fetch(&mut call).as_deref(), Some("notifications/progress"));
    assert_eq!(fetch(&mut call), None);
    assert_eq!(fetch(&mut listen).as_deref(), Some("a"));
    let rest: Vec<_> = std::iter::from_fn(|| fetch(&mut strays)).collect();
    assert_eq!(rest, ["notifications/progress", "b", "sampling/createMessage 1"]);
}

#[test]
fn answers_that_nobody_waits_for_are_counted_and_dropped() {
    let routes = routes();
    let mut call = routes.wait_for(1).unwrap();
    drop(routes.wait_for(2).unwrap());
    for id in ["1", "1", "2", "77", "\"x\"", "null"] {
        line(&routes, &format!(r#"{{"id":{id},"result":{{}}}}"#));
    }
    assert_eq!(fetch(&mut call).as_deref(), Some("{}"));
    assert_eq!(count(&routes.counts.late), 5);
    assert_eq!(routes.pending(), 0);
}

#[test]
fn what_is_no_message_is_counted_and_harms_nobody() {
    let routes = routes();
    let mut call = routes.wait_for(1).unwrap();
    for noise in ["Starting…", "{", "[1]", "[]x", "", "   "] {
        line(&routes, noise);
    }
    routes.line(&Bytes::from_static(b"\xff\xfe")).unwrap();
    assert_eq!(fetch(&mut call), None);
    assert_eq!(count(&routes.counts.noise), 5);
    line(&routes, r#"[{"id":1,"result":{}},{"method":"a"}]"#);
    assert_eq!(fetch(&mut call).as_deref(), Some("{}"));
}

#[test]
fn a_broken_answer_fails_the_request_that_it_names() {
    let routes = routes();
    let [mut one, mut two, mut three] = [1, 2, 3].map(|id| routes.wait_for(id).unwrap());
    line(&routes, r#"{"jsonrpc":"2.0","id":1,"result":3}"#);
    routes.line(&Bytes::from_static(b"{\"result\":{\"text\":\"\xff\"},\"id\":2}")).unwrap();
    assert!(fetch(&mut one).unwrap().contains("no JSON-RPC message"));
    assert!(fetch(&mut two).unwrap().contains("UTF-8"));
    assert!(routes.cut(br#"{"result":{"#));
    routes.rest(br#"xxx"},"jsonrpc":"2.0","id":3}"#).unwrap();
    assert!(fetch(&mut three).unwrap().contains("more than 1000 bytes"));
    assert!(routes.rest(b"xxx").is_err(), "nobody knows who waits for it");
}

#[test]
fn who_reads_too_slowly_loses_the_oldest_and_never_the_answer() {
    let routes = routes();
    let (mut call, mut strays) = (routes.wait_for(1).unwrap(), routes.strays());
    for n in 0..=FLOW_MAX {
        line(
            &routes,
            &format!(
                r#"{{"method":"notifications/progress","params":{{"progressToken":1,"progress":{n}}}}}"#
            ),
        );
    }
    line(&routes, r#"{"id":1,"result":{}}"#);
    assert_eq!(count(&routes.counts.dropped), 1);
    let seen: Vec<_> = std::iter::from_fn(|| fetch(&mut call)).take(FLOW_MAX + 1).collect();
    assert_eq!(seen.last().map(String::as_str), Some("{}"));
    line(&routes, r#"{"method":"a"}"#);
    for n in 0..STRAYS_MAX {
        line(&routes, &format!(r#"{{"id":{n},"method":"ask"}}"#));
    }
    let more = Bytes::from_static(br#"{"id":5000,"method":"ask"}"#);
    assert!(routes.line(&more).is_err(), "requests are never dropped");
    assert_eq!(
        fetch(&mut strays).as_deref(),
        Some("ask 0"),
        "the notification was, for the last that fitted"
    );
}

#[test]
fn at_the_end_all_that_wait_learn_why_and_nothing_more_is_begun() {
    let routes = routes();
    let (mut call, mut strays) = (routes.wait_for(1).unwrap(), routes.strays());
    line(&routes, r#"{"method":"a"}"#);
    routes.end("it exited with code 3", false);
    assert_eq!(fetch(&mut call).as_deref(), Some("it exited with code 3"));
    assert_eq!(fetch(&mut strays).as_deref(), Some("a"), "what came before the end is still there");
    assert_eq!(fetch(&mut strays).as_deref(), Some("it exited with code 3"));
    assert!(matches!(routes.wait_for(2), Err(LinkError::Unreachable(_))));
}
