//! What the fixtures answer when they are called as the house calls them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use waygate_mcp::plugins::{Blocking, CallerKey, ContextParts, Notice, Reference};
use waygate_mcp::protocol::{ClientCapabilities, LogLevel, Object, Trace};

use super::*;

/// A context of a client that declared `capabilities` and wants to hear everything, and what it hears.
fn context(capabilities: Value) -> (Context, mpsc::Receiver<Notice>) {
    let (notices, heard) = mpsc::channel(16);
    let parts = ContextParts {
        deadline: tokio::time::Instant::now() + Duration::from_secs(60),
        cancel: Default::default(),
        notices: Some(Arc::new(notices)),
        wants_progress: true,
        log_level: Some(LogLevel::Debug),
        client: ClientCapabilities::read(&Raw::value(&capabilities)).unwrap(),
        caller: CallerKey(1),
        conversation: None,
        operator: false,
        sees_all: true,
        trace: Trace::default(),
        blocking: Arc::new(Blocking::new(1)),
    };
    (Context::new(parts), heard)
}

fn answers(responses: Value, state: Option<Value>) -> Answers {
    Answers::new(Object::open(&Raw::value(&responses)).unwrap(), state.as_ref().map(Raw::value))
}

async fn ask_fixture(request: Request) -> Result<Outcome, PluginError> {
    let all = json!({"sampling": {}, "elicitation": {}, "roots": {}});
    Arc::new(Fixtures::new()).handle(request, context(all).0).await
}

async fn call(tool: &str, answers: Answers) -> Outcome {
    ask_fixture(Request::Call { tool: tool.into(), arguments: Raw::value(&json!({})), answers })
        .await
        .unwrap()
}

/// A complete result's JSON.
fn complete(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Complete(raw) => raw.read().unwrap(),
        asks @ Outcome::InputRequired { .. } => panic!("it asks: {asks:?}"),
    }
}

/// The keys that were asked for, and the state.
fn asked(outcome: Outcome) -> (Vec<String>, Option<Value>) {
    match outcome {
        Outcome::InputRequired { requests, state } => {
            (requests.into_iter().map(|(key, _)| key).collect(), state)
        }
        Outcome::Complete(raw) => panic!("it is complete: {}", raw.as_str()),
    }
}

fn text(outcome: Outcome) -> String {
    complete(outcome)["content"][0]["text"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn every_listed_tool_answers_and_the_first_needs_no_arguments() {
    let inventory = Fixtures::new().inventory();
    assert_eq!(inventory.tools[0].name(), "test_simple_text");
    for tool in &inventory.tools {
        let name = tool.name();
        let answer = call(&name, Answers::default()).await;
        assert_eq!(
            matches!(answer, Outcome::InputRequired { .. }),
            ["sampling", "elicitation", "input_required"].iter().any(|word| name.contains(word)),
            "{name}"
        );
        assert!(!tool.object().text("description").unwrap().is_empty());
    }
    let unknown =
        Request::Call { tool: "no".into(), arguments: Raw::value(&json!({})), answers: Answers::default() };
    assert!(matches!(ask_fixture(unknown).await, Err(PluginError::Unknown(_))));
}

#[tokio::test]
async fn content_tools_answer_as_the_suite_expects() {
    let mixed = complete(call("test_multiple_content_types", Answers::default()).await);
    let kinds: Vec<&str> =
        mixed["content"].as_array().unwrap().iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["text", "image", "resource"]);
    let failed = complete(call("test_error_handling", Answers::default()).await);
    assert_eq!(failed["isError"], true);
    let audio = complete(call("test_audio_content", Answers::default()).await);
    assert_eq!(audio["content"][0]["mimeType"], "audio/wav");
}

#[tokio::test(start_paused = true)]
async fn progress_rises_from_nothing_to_all() {
    let (context, mut heard) = context(json!({}));
    let fixtures = Arc::new(Fixtures::new());
    let tool = |name: &str| Request::Call {
        tool: name.into(),
        arguments: Raw::value(&json!({})),
        answers: Answers::default(),
    };
    Arc::clone(&fixtures).handle(tool("test_tool_with_progress"), context.clone()).await.unwrap();
    for step in [0.0, 50.0, 100.0] {
        let said = heard.try_recv().unwrap();
        assert!(matches!(said, Notice::Progress { progress, total: Some(100.0), .. } if progress == step));
    }
    fixtures.handle(tool("test_tool_with_logging"), context).await.unwrap();
    let levels = std::iter::from_fn(|| heard.try_recv().ok());
    assert_eq!(levels.filter(|said| matches!(said, Notice::Log { level: LogLevel::Info, .. })).count(), 3);
}

#[tokio::test]
async fn a_name_is_asked_for_until_it_is_one() {
    let tool = "test_input_required_result_elicitation";
    let given = |response: Value| answers(response, None);
    let good = given(json!({"user_name": {"action": "accept", "content": {"name": "Alice"}}, "extra": 1}));
    assert_eq!(text(call(tool, good).await), "Hello, Alice!");
    for bad in [
        json!({}),
        json!({"wrong_key": {"action": "accept", "content": {"name": "Alice"}}}),
        json!({"user_name": 123}),
        json!({"user_name": null}),
        json!({"user_name": {"action": "accept"}}),
        json!({"user_name": {"action": "accept", "content": {"name": 5}}}),
    ] {
        assert_eq!(asked(call(tool, given(bad.clone())).await).0, ["user_name"], "{bad}");
    }
    let refused = complete(call(tool, given(json!({"user_name": {"action": "decline"}}))).await);
    assert_eq!(refused["isError"], true);
}

#[tokio::test]
async fn sampling_and_roots_are_read_back() {
    let sampled =
        json!({"capital_question": {"role": "assistant", "content": {"type": "text", "text": "Paris"}}});
    let answer = text(call("test_input_required_result_sampling", answers(sampled, None)).await);
    assert!(answer.contains("Paris"));
    let roots = json!({"client_roots": {"roots": [{"uri": "file:///home", "name": "home"}]}});
    let answer = text(call("test_input_required_result_list_roots", answers(roots, None)).await);
    assert!(answer.contains("file:///home"));
}

#[tokio::test]
async fn a_state_must_come_back_with_the_answer() {
    let tool = "test_input_required_result_request_state";
    let yes = json!({"confirm": {"action": "accept", "content": {"ok": true}}});
    let (keys, state) = asked(call(tool, Answers::default()).await);
    assert_eq!(keys, ["confirm"]);
    asked(call(tool, answers(yes.clone(), None)).await);
    asked(call(tool, answers(yes.clone(), Some(json!({"asked": "other"})))).await);
    assert!(text(call(tool, answers(yes, state)).await).contains("state-ok"));
}

#[tokio::test]
async fn two_rounds_have_different_states_and_then_end() {
    let tool = "test_input_required_result_multi_round";
    let (keys, first) = asked(call(tool, Answers::default()).await);
    assert_eq!(keys, ["step1"]);
    let name = json!({"step1": {"action": "accept", "content": {"name": "Alice"}}});
    let (keys, second) = asked(call(tool, answers(name, first.clone())).await);
    assert_eq!(keys, ["step2"]);
    assert_ne!(first, second);
    let color = json!({"step2": {"action": "accept", "content": {"color": "green"}}});
    assert_eq!(text(call(tool, answers(color, second)).await), "Alice likes green.");
}

#[tokio::test]
async fn three_things_are_asked_at_once() {
    let tool = "test_input_required_result_multiple_inputs";
    let (keys, state) = asked(call(tool, Answers::default()).await);
    assert_eq!(keys, ["user_name", "greeting", "client_roots"]);
    let mut given = json!({
        "user_name": {"action": "accept", "content": {"name": "Alice"}},
        "greeting": {"role": "assistant", "content": [{"type": "text", "text": "Good day"}]},
        "client_roots": {"roots": []}
    });
    assert!(text(call(tool, answers(given.clone(), state.clone())).await).starts_with("Good day"));
    given.as_object_mut().unwrap().remove("greeting");
    asked(call(tool, answers(given, state)).await);
}

#[tokio::test]
async fn only_declared_capabilities_are_asked_for() {
    let fixtures = Arc::new(Fixtures::new());
    let call = |tool: &str, capabilities: Value| {
        let request = Request::Call {
            tool: tool.into(),
            arguments: Raw::value(&json!({})),
            answers: Answers::default(),
        };
        Arc::clone(&fixtures).handle(request, context(capabilities).0)
    };
    let tool = "test_input_required_result_capabilities";
    assert_eq!(asked(call(tool, json!({"sampling": {}})).await.unwrap()).0, ["capital_question"]);
    assert_eq!(asked(call(tool, json!({"roots": {}, "elicitation": {}})).await.unwrap()).0.len(), 2);
    complete(call(tool, json!({})).await.unwrap());
    let missing = call("test_missing_capability", json!({"elicitation": {}})).await;
    assert!(
        matches!(missing, Err(PluginError::MissingCapability(needs)) if needs == json!({"sampling": {}}))
    );
    complete(call("test_missing_capability", json!({"sampling": {}})).await.unwrap());
}

#[tokio::test]
async fn an_announced_list_is_a_different_list() {
    let fixtures = Arc::new(Fixtures::new());
    let mut heard = fixtures.changes();
    let announce = |tool: &str| {
        let request = Request::Call {
            tool: tool.into(),
            arguments: Raw::value(&json!({})),
            answers: Answers::default(),
        };
        Arc::clone(&fixtures).handle(request, context(json!({})).0)
    };
    let before = fixtures.inventory();
    announce("test_trigger_tool_change").await.unwrap();
    assert_eq!(heard.try_recv().unwrap(), Change::Tools);
    announce("test_trigger_prompt_change").await.unwrap();
    assert_eq!(heard.try_recv().unwrap(), Change::Prompts);
    announce("test_trigger_resource_update").await.unwrap();
    assert_eq!(heard.try_recv().unwrap(), Change::Updated("test://watched-resource".to_owned()));
    let after = fixtures.inventory();
    assert_ne!(before.tools, after.tools);
    assert_ne!(before.prompts, after.prompts);
}

#[tokio::test]
async fn prompts_repeat_what_they_are_given() {
    let prompt = |name: &str, arguments: Value, answers: Answers| {
        ask_fixture(Request::Prompt { name: name.into(), arguments: Raw::value(&arguments), answers })
    };
    let given = json!({"arg1": "hello", "arg2": "world"});
    let answer = complete(prompt("test_prompt_with_arguments", given, Answers::default()).await.unwrap());
    let said = &answer["messages"][0]["content"]["text"];
    assert_eq!(*said, "Prompt with arguments: arg1='hello', arg2='world'");
    let given = json!({"resourceUri": "test://x"});
    let answer =
        complete(prompt("test_prompt_with_embedded_resource", given, Answers::default()).await.unwrap());
    assert_eq!(answer["messages"][0]["content"]["resource"]["uri"], "test://x");
    let name = "test_input_required_result_prompt";
    assert_eq!(asked(prompt(name, json!({}), Answers::default()).await.unwrap()).0, ["user_context"]);
    let context = json!({"user_context": {"action": "accept", "content": {"context": "a test"}}});
    let answer = complete(prompt(name, json!({}), answers(context, None)).await.unwrap());
    assert!(answer["messages"][0]["content"]["text"].as_str().unwrap().contains("a test"));
}

#[tokio::test]
async fn resources_are_read_by_uri_and_by_template() {
    let read = |uri: &str| ask_fixture(Request::Read { uri: uri.to_owned(), answers: Answers::default() });
    for listed in Fixtures::new().inventory().resources {
        assert_eq!(complete(read(&listed.uri()).await.unwrap())["contents"][0]["uri"], listed.uri());
    }
    let contents = complete(read("test://template/123/data").await.unwrap());
    let data: Value = serde_json::from_str(contents["contents"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(data, json!({"id": "123", "templateTest": true, "data": "Data for ID: 123"}));
    for unknown in ["test://nonexistent-resource-for-conformance-testing", "test://template//data"] {
        assert!(matches!(read(unknown).await, Err(PluginError::Unknown(_))), "{unknown}");
    }
}

#[tokio::test]
async fn completions_begin_with_what_was_typed() {
    let complete_of = |of: Reference, argument: &str, typed: &str| {
        let (argument, typed) = (argument.to_owned(), typed.to_owned());
        ask_fixture(Request::Complete { of, argument, typed, chosen: Raw::value(&json!({})) })
    };
    let prompt = || Reference::Prompt("test_prompt_with_arguments".to_owned());
    let words = complete(complete_of(prompt(), "arg1", "par").await.unwrap());
    assert_eq!(words["completion"]["values"], json!(["paris", "park", "parsley", "party"]));
    let template = Reference::Resource("test://template/{id}/data".to_owned());
    let ids = complete(complete_of(template, "id", "").await.unwrap());
    assert_eq!((&ids["completion"]["total"], &ids["completion"]["hasMore"]), (&json!(200), &json!(true)));
    assert_eq!(complete(complete_of(prompt(), "arg2", "").await.unwrap())["completion"]["total"], 0);
}
