//! What is said to a server of 2026-07-28, byte for byte, and what becomes of what it answers.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::plugins::upstream::testing::{Asked, Reply, Scripted, context, context_of, until};
use crate::plugins::{ConversationKey, Notice};
use crate::protocol::{Answers, Object};

fn speaking(link: &Arc<Scripted>, capabilities: &Value) -> Arc<Modern> {
    let discovered = Discovered {
        capabilities: Raw::value(capabilities),
        server_info: Raw::empty_object(),
        instructions: None,
    };
    let link: Arc<dyn Link> = Arc::<Scripted>::clone(link);
    Modern::new("p", link, Ids::default(), discovered, Duration::from_secs(5))
}

fn call(tool: &str, arguments: &str, answers: Answers) -> Request {
    Request::Call { tool: tool.into(), arguments: Raw::parse(arguments.to_owned().into()).unwrap(), answers }
}

async fn perform(modern: &Arc<Modern>, request: Request) -> Result<Outcome, PluginError> {
    let (context, _heard) = context(&json!({"elicitation": {}}));
    Arc::clone(modern).perform(request, context).await
}

fn complete(outcome: Result<Outcome, PluginError>) -> String {
    match outcome {
        Ok(Outcome::Complete(result)) => result.as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn arguments_and_results_go_through_byte_for_byte() {
    let link = Scripted::new(|_| {
        Reply::text(
            r#"{"resultType":"complete","content":[],"z":1.50,"big":123456789012345678901234567890,"a":"\u00e9"}"#,
        )
    });
    let modern = speaking(&link, &json!({}));
    let arguments = r#"{"z": 1.0, "n": 98765432109876543210987654321, "a": "\u00e9", "nul": null}"#;
    let result = complete(perform(&modern, call("t", arguments, Answers::default())).await);
    assert_eq!(result, r#"{"content":[],"z":1.50,"big":123456789012345678901234567890,"a":"\u00e9"}"#);
    let asked = link.asked().remove(0);
    assert!(asked.text.contains(arguments), "{}", asked.text);
    assert_eq!(asked.outgoing.name.as_deref(), Some("t"));
    let meta = &asked.params["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({"elicitation": {"form": {}}}));
    assert_eq!(meta["progressToken"], asked.id);
}

#[tokio::test]
async fn what_the_server_asks_is_asked_and_its_state_comes_back_to_it_unchanged() {
    let link = Scripted::new(|asked| match asked.params.get("inputResponses") {
        None => Reply::result(&json!({"resultType": "input_required", "requestState": "s\"1",
            "inputRequests": {"k": {"method": "elicitation/create", "params": {"message": "m"}}}})),
        Some(_) => Reply::result(&json!({"resultType": "complete", "content": []})),
    });
    let modern = speaking(&link, &json!({}));
    let first = perform(&modern, call("t", r#"{"a":1}"#, Answers::default())).await;
    let Ok(Outcome::InputRequired { requests, state: Some(state) }) = first else { panic!("{first:?}") };
    assert_eq!((requests.len(), requests[0].0.as_str()), (1, "k"));
    let mut responses = Object::default();
    responses.put("k", json!({"action": "accept", "content": {"x": 1}}));
    let answers = Answers::new(responses, Some(Raw::value(&state)));
    complete(perform(&modern, call("t", r#"{"a":1}"#, answers)).await);
    let [one, two] = <[Asked; 2]>::try_from(link.asked()).unwrap();
    assert_ne!(one.id, two.id);
    assert_eq!(two.params["requestState"], "s\"1");
    assert_eq!(two.params["inputResponses"], json!({"k": {"action": "accept", "content": {"x": 1}}}));
    assert_eq!(two.params["arguments"], json!({"a": 1}));
}

#[tokio::test]
async fn a_server_that_gave_no_state_gets_none() {
    let link = Scripted::new(|_| {
        Reply::result(&json!({"resultType": "input_required",
        "inputRequests": {"k": {"method": "roots/list"}}}))
    });
    let modern = speaking(&link, &json!({}));
    let first = perform(&modern, call("t", "{}", Answers::default())).await;
    assert!(matches!(first, Ok(Outcome::InputRequired { state: None, .. })), "{first:?}");
    let mut responses = Object::default();
    responses.put("k", json!({"roots": []}));
    drop(perform(&modern, call("t", "{}", Answers::new(responses, None))).await);
    let again = link.asked().remove(1);
    assert!(again.params.get("requestState").is_none());
    assert_eq!(again.params["inputResponses"], json!({"k": {"roots": []}}));
}

#[tokio::test]
async fn progress_and_log_come_before_the_result_and_others_answers_are_passed_over() {
    let link = Scripted::new(|_| {
        let progress = json!({"method": "notifications/progress", "params": {"progressToken": 1, "progress": 5, "total": 10}});
        let log = json!({"method": "notifications/message", "params": {"level": "error", "data": {"a": 1}}});
        let other = json!({"id": 4711, "result": {"content": ["not mine"]}});
        let request = json!({"id": 1, "method": "roots/list"});
        Reply::result(&json!({"resultType": "complete", "content": []}))
            .after(&request)
            .after(&other)
            .after(&log)
            .after(&progress)
    });
    let (context, mut heard) = context(&json!({}));
    let modern = speaking(&link, &json!({}));
    let outcome = Arc::clone(&modern).perform(call("t", "{}", Answers::default()), context.clone()).await;
    assert_eq!(complete(outcome), r#"{"content":[]}"#);
    let said = |notice: Option<Notice>| match notice {
        Some(Notice::Progress { said: Some(said), .. } | Notice::Log { said: Some(said), .. }) => {
            said.read::<Value>().unwrap()
        }
        other => panic!("{other:?}"),
    };
    let (progress, log) = (said(heard.recv().await), said(heard.recv().await));
    assert_eq!((&progress["progress"], &progress["total"]), (&json!(5), &json!(10)));
    assert_eq!(log["data"], json!({"a": 1}));
    assert!(link.told().is_empty());
    let hop = context.hop().unwrap();
    assert_eq!((hop.instance.as_deref(), hop.bridged), (Some("memory"), None));
    assert!(hop.bytes_out > 0 && hop.bytes_in > 0);
}

#[tokio::test]
async fn a_call_out_of_a_session_is_recorded_as_bridged() {
    let link = Scripted::new(|_| Reply::result(&json!({"resultType": "complete", "content": []})));
    let modern = speaking(&link, &json!({}));
    let (context, _heard) = context_of(&json!({}), Some(ConversationKey(7)));
    complete(Arc::clone(&modern).perform(call("t", "{}", Answers::default()), context.clone()).await);
    assert_eq!(context.hop().and_then(|hop| hop.bridged), Some("legacy-modern"));
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_by_closing_or_on_a_pipe_by_saying_so() {
    for link in [Scripted::new(|_| Reply::Open(vec![])), Scripted::pipe(|_| Reply::Open(vec![]))] {
        let modern = speaking(&link, &json!({}));
        let running = tokio::spawn({
            let modern = Arc::clone(&modern);
            async move { perform(&modern, call("t", "{}", Answers::default())).await }
        });
        until("the call", || !link.asked().is_empty()).await;
        let id = link.asked()[0].id;
        running.abort();
        until("the end of its flow", || !link.listens(id)).await;
        if link.closing_cancels {
            assert!(link.told().is_empty());
        } else {
            until("the word of it", || !link.told().is_empty()).await;
            let told = link.told().remove(0);
            assert_eq!(
                (&told["method"], &told["params"]["requestId"]),
                (&json!("notifications/cancelled"), &json!(id))
            );
        }
    }
}

#[tokio::test]
async fn errors_say_what_the_server_said_and_nothing_is_called_twice() {
    let refuse = |code: i64| {
        let link = Scripted::new(move |_| Reply::error(code, "because"));
        (speaking(&link, &json!({})), link)
    };
    let (modern, link) = refuse(-32000);
    let error = perform(&modern, call("t", "{}", Answers::default())).await.unwrap_err();
    assert_eq!(error.to_string(), "the server behind plugin p answered with error -32000: because");
    assert_eq!(link.asked().len(), 1);
    let (modern, _) = refuse(-32602);
    let error = perform(&modern, call("t", "{}", Answers::default())).await.unwrap_err();
    assert!(matches!(error, PluginError::InvalidParams(_)), "{error:?}");
    let (modern, _) = refuse(-32021);
    let error = perform(&modern, call("t", "{}", Answers::default())).await.unwrap_err();
    assert!(matches!(error, PluginError::MissingCapability(_)), "{error:?}");
    let link = Scripted::new(|_| Reply::Fail(LinkError::Broken("secret path".into())));
    let error = perform(&speaking(&link, &json!({})), call("t", "{}", Answers::default())).await.unwrap_err();
    assert!(error.to_string().ends_with("whether it had an effect is not known"), "{error}");
    assert_eq!(link.asked().len(), 1);
    let link = Scripted::new(|_| Reply::result(&json!({"resultType": "task"})));
    let error = perform(&speaking(&link, &json!({})), call("t", "{}", Answers::default())).await.unwrap_err();
    assert!(error.to_string().contains("\"task\""), "{error}");
}

#[tokio::test]
async fn headers_follow_the_tools_schema_and_are_computed_anew_when_the_server_says_they_differ() {
    let lists = Arc::new(AtomicUsize::new(0));
    let link = Scripted::new({
        let lists = Arc::clone(&lists);
        move |asked| match asked.method {
            "tools/list" => {
                let header = if lists.fetch_add(1, Ordering::SeqCst) == 0 { "Old" } else { "New" };
                Reply::result(
                    &json!({"tools": [{"name": "t", "inputSchema": {"type": "object", "properties": {
                    "a": {"type": "integer", "x-mcp-header": header}, "b": {"type": "string", "x-mcp-header": "B"}}}}]}),
                )
            }
            _ if asked.outgoing.params.iter().any(|(name, _)| &**name == "New") => {
                Reply::result(&json!({"content": []}))
            }
            _ => Reply::error(-32020, "differs"),
        }
    });
    let modern = speaking(&link, &json!({"tools": {}}));
    Arc::clone(&modern).list(Kinds::ALL, Inventory::default()).await.unwrap();
    complete(
        perform(&modern, call("t", r#"{"a": 12345678901234567890123, "b": null}"#, Answers::default())).await,
    );
    let calls = link.asked_of("tools/call");
    assert_eq!(calls[1].outgoing.params, [(Arc::from("New"), "12345678901234567890123".to_owned())]);
    assert_eq!((calls.len(), lists.load(Ordering::SeqCst)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn calls_whose_headers_are_refused_at_once_have_the_tools_listed_once_and_told_as_changed() {
    let refuses = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let link = Scripted::new({
        let refuses = Arc::clone(&refuses);
        move |asked| match asked.method {
            "tools/list" => {
                let header = if refuses.load(Ordering::SeqCst) { "New" } else { "Old" };
                let properties = json!({"a": {"type": "integer", "x-mcp-header": header}});
                Reply::result(
                    &json!({"tools": [{"name": "t", "inputSchema": {"type": "object", "properties": properties}}]}),
                )
            }
            _ => Reply::error(-32020, "differs"),
        }
    });
    let modern = speaking(&link, &json!({"tools": {}}));
    let (changes, mut told) = mpsc::channel(16);
    let attending = tokio::spawn(Arc::clone(&modern).attend(changes));
    Arc::clone(&modern).list(Kinds::ALL, Inventory::default()).await.unwrap();
    refuses.store(true, Ordering::SeqCst);
    for _again in 0..2 {
        let calls = (0..20).map(|_| perform(&modern, call("t", r#"{"a": 42}"#, Answers::default())));
        assert!(futures_util::future::join_all(calls).await.iter().all(Result::is_err));
    }
    assert_eq!((link.asked_of("tools/list").len(), link.asked_of("tools/call").len()), (2, 80));
    assert_eq!(told.recv().await, Some(Change::Tools));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(told.try_recv().is_err());
    attending.abort();
}

fn listening(asked: &Asked) -> Reply {
    let filter = &asked.params["notifications"];
    let acknowledged =
        json!({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": filter}});
    Reply::Open(vec![acknowledged.to_string()])
}

#[tokio::test]
async fn another_watched_resource_is_a_new_listen_and_the_old_one_ends_after_it() {
    let link = Scripted::new(listening);
    let modern = speaking(&link, &json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}}));
    let (changes, mut told) = mpsc::channel(16);
    let attending = tokio::spawn(Arc::clone(&modern).attend(changes));
    until("the first listen", || link.asked().len() == 1).await;
    let first = link.asked().remove(0);
    assert_eq!(first.params["notifications"], json!({"toolsListChanged": true}));
    perform(&modern, Request::Subscribe { uri: "x://1".into(), begins: true }).await.unwrap();
    let second = link.asked().remove(1);
    assert_eq!(
        second.params["notifications"],
        json!({"toolsListChanged": true, "resourceSubscriptions": ["x://1"]})
    );
    until("the end of the first", || !link.listens(first.id)).await;
    assert!(link.listens(second.id));
    link.say(second.id, &json!({"method": "notifications/resources/updated", "params": {"uri": "x://1"}}));
    assert_eq!(told.recv().await, Some(Change::Updated("x://1".into())));
    attending.abort();
}

#[tokio::test]
async fn a_listen_that_ends_is_taken_up_again_and_everything_is_told_as_changed() {
    let link = Scripted::new(listening);
    let modern = speaking(&link, &json!({"tools": {"listChanged": true}}));
    let (changes, mut told) = mpsc::channel(16);
    let attending = tokio::spawn(Arc::clone(&modern).attend(changes));
    until("the first listen", || link.asked().len() == 1).await;
    let first = link.asked().remove(0);
    link.say(first.id, &json!({"id": "$id", "result": {"resultType": "complete"}}));
    until("the second listen", || link.asked().len() == 2).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(told.recv().await.unwrap());
    }
    assert_eq!(seen, [Change::Tools, Change::Prompts, Change::Resources]);
    attending.abort();
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_the_server_does_not_take_note_of_is_not_watched() {
    let link = Scripted::new(|_| {
        let filter = json!({"toolsListChanged": true, "resourceSubscriptions": ["x://1"]});
        let acknowledged = json!({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": filter}});
        Reply::Open(vec![acknowledged.to_string()])
    });
    let modern = speaking(&link, &json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}}));
    let (changes, _told) = mpsc::channel(16);
    let attending = tokio::spawn(Arc::clone(&modern).attend(changes));
    let watch = |uri: &str| perform(&modern, Request::Subscribe { uri: uri.into(), begins: true });
    watch("x://1").await.unwrap();
    assert!(matches!(watch("x://2").await, Err(PluginError::Unknown(uri)) if uri == "x://2"));
    until("a listen without it", || {
        let last = link.asked().pop().unwrap();
        link.asked().len() > 2 && last.params["notifications"]["resourceSubscriptions"] == json!(["x://1"])
    })
    .await;
    attending.abort();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_acknowledges_and_ends_its_listen_is_asked_ever_more_seldom() {
    let link = Scripted::new(|asked| {
        let Reply::Open(mut said) = listening(asked) else { unreachable!() };
        said.push(json!({"id": asked.id, "result": {"resultType": "complete"}}).to_string());
        Reply::Say(said)
    });
    let modern = speaking(&link, &json!({"tools": {"listChanged": true}}));
    let (changes, mut told) = mpsc::channel(16);
    let attending = tokio::spawn(Arc::clone(&modern).attend(changes));
    let draining = tokio::spawn(async move { while told.recv().await.is_some() {} });
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!((10..70).contains(&link.asked().len()), "{}", link.asked().len());
    attending.abort();
    draining.abort();
}

#[tokio::test]
async fn a_server_that_changed_its_era_ends_the_life() {
    let link = Scripted::new(|asked| match asked.method {
        "server/discover" => Reply::error(-32601, "what?"),
        _ => Reply::error(-32022, "no such revision"),
    });
    let modern = speaking(&link, &json!({}));
    let (changes, _told) = mpsc::channel(16);
    let attending = tokio::spawn(Arc::clone(&modern).attend(changes));
    let error = perform(&modern, call("t", "{}", Answers::default())).await.unwrap_err();
    assert!(matches!(error, PluginError::Away { .. }), "{error:?}");
    assert!(attending.await.unwrap().unwrap_err().to_string().contains("2026-07-28 any more"));
}

#[tokio::test(start_paused = true)]
async fn that_nobody_is_reached_once_ends_no_life_and_that_nobody_is_reached_any_more_does() {
    let away = Arc::new(AtomicUsize::new(1));
    let left = Arc::clone(&away);
    let link = Scripted::new(move |asked| {
        let is_away = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match asked.method {
            _ if is_away.is_ok() => Reply::Fail(LinkError::Unreachable("no route".to_owned())),
            "server/discover" => {
                Reply::result(&json!({"supportedVersions": ["2026-07-28"], "capabilities": {}}))
            }
            _ => Reply::result(&json!({"content": []})),
        }
    });
    let modern = speaking(&link, &json!({"tools": {}}));
    let (changes, _told) = mpsc::channel(16);
    let attending = tokio::spawn(Arc::clone(&modern).attend(changes));
    assert!(perform(&modern, call("t", "{}", Answers::default())).await.is_err());
    until("the question", || link.asked_of("server/discover").len() == 1).await;
    complete(perform(&modern, call("t", "{}", Answers::default())).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!attending.is_finished() && link.asked_of("server/discover").len() == 1);
    away.store(usize::MAX, Ordering::SeqCst);
    // Nobody calls: the lists, which are looked at time and again, show it, too.
    assert!(Arc::clone(&modern).list(Kinds::ALL, Inventory::default()).await.is_err());
    assert_eq!(attending.await.unwrap().unwrap_err().to_string(), "no route");
    assert_eq!(link.asked_of("server/discover").len(), 4);
}
