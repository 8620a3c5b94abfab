//! The `waygate` plugin against a host that repeats what it was asked.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::plugins::{Blocking, CallerKey, ContextParts};
use crate::protocol::{Answers, ClientCapabilities, Trace};

/// Answers each question with the question, or not at all.
struct Echoing {
    fails: bool,
}

impl Echoing {
    fn say(&self, said: Value) -> BoxFuture<'static, Result<Value, HostError>> {
        let answer = if self.fails { Err(HostError("the database is busy".to_owned())) } else { Ok(said) };
        Box::pin(std::future::ready(answer))
    }
}

impl Host for Echoing {
    fn status(&self) -> BoxFuture<'static, Result<Value, HostError>> {
        self.say(json!({"asked": "status"}))
    }
    fn diagnostics(&self, topic: &str) -> BoxFuture<'static, Result<Value, HostError>> {
        self.say(json!({"asked": topic}))
    }
    fn plugins(&self) -> BoxFuture<'static, Result<Value, HostError>> {
        self.say(json!({"asked": "plugins"}))
    }
    fn history(&self, limit: u32) -> BoxFuture<'static, Result<Value, HostError>> {
        self.say(json!({"asked": "history", "limit": limit}))
    }
    fn errors(&self, limit: u32) -> BoxFuture<'static, Result<Value, HostError>> {
        self.say(json!({"asked": "errors", "limit": limit}))
    }
}

fn context(operator: bool, hidden: bool) -> Context {
    Context::new(ContextParts {
        deadline: tokio::time::Instant::now() + Duration::from_secs(60),
        cancel: Default::default(),
        notices: None,
        wants_progress: false,
        log_level: None,
        client: ClientCapabilities::default(),
        caller: CallerKey(1),
        conversation: None,
        operator,
        sees_all: !hidden,
        trace: Trace::default(),
        blocking: Arc::new(Blocking::new(1)),
    })
}

async fn ask(request: Request, operator: bool, fails: bool) -> Result<Value, PluginError> {
    match Waygate::new(Arc::new(Echoing { fails })).handle(request, context(operator, false)).await? {
        Outcome::Complete(raw) => Ok(raw.read().unwrap()),
        asks @ Outcome::InputRequired { .. } => panic!("it asks: {asks:?}"),
    }
}

fn call(tool: &str, arguments: Value) -> Request {
    Request::Call { tool: tool.into(), arguments: Raw::value(&arguments), answers: Answers::default() }
}

fn read(uri: &str) -> Request {
    Request::Read { uri: uri.to_owned(), answers: Answers::default() }
}

fn operate(arguments: Value) -> Request {
    Request::Prompt { name: "operate".into(), arguments: Raw::value(&arguments), answers: Answers::default() }
}

#[tokio::test]
async fn each_tool_and_each_resource_asks_the_host_its_question() {
    for (tool, arguments, question) in [
        ("status", json!({}), json!({"asked": "status"})),
        ("diagnostics", json!({"topic": "actors"}), json!({"asked": "actors"})),
        ("plugins", json!({}), json!({"asked": "plugins"})),
        ("recent_errors", json!({}), json!({"asked": "errors", "limit": LIMIT_DEFAULT})),
        ("history", json!({"limit": 7}), json!({"asked": "history", "limit": 7})),
        ("history", json!({"limit": 100_000}), json!({"asked": "history", "limit": LIMIT_MAX})),
    ] {
        let answer = ask(call(tool, arguments), true, false).await.unwrap();
        assert_eq!(answer["structuredContent"], question, "{tool}");
        assert!(answer.get("isError").is_none(), "{tool}");
    }
    for listed in offers::inventory().resources {
        let answer = ask(read(&listed.uri()), true, false).await.unwrap();
        let said: Value = serde_json::from_str(answer["contents"][0]["text"].as_str().unwrap()).unwrap();
        assert!(listed.uri().ends_with(said["asked"].as_str().unwrap()), "{said}");
    }
}

#[tokio::test]
async fn every_offered_tool_is_served() {
    for tool in offers::inventory().tools {
        ask(call(&tool.name(), json!({"topic": "performance"})), true, false).await.unwrap();
    }
    assert!(matches!(ask(call("no", json!({})), true, false).await, Err(PluginError::Unknown(_))));
    assert!(matches!(ask(read("waygate://no"), true, false).await, Err(PluginError::Unknown(_))));
    let sleepy = call("diagnostics", json!({"topic": "weather"}));
    assert!(
        matches!(ask(sleepy, true, false).await, Err(PluginError::InvalidParams(says)) if says.contains("actors"))
    );
}

#[tokio::test]
async fn what_others_did_is_shown_to_the_operator_only() {
    for tool in ["recent_errors", "history"] {
        let answer = ask(call(tool, json!({})), false, false).await.unwrap();
        assert_eq!(answer["isError"], true, "{tool}");
        assert!(answer["content"][0]["text"].as_str().unwrap().contains("WAYGATE_API_KEY"), "{tool}");
    }
    for uri in ["waygate://errors", "waygate://history"] {
        let refused = ask(read(uri), false, false).await;
        assert!(
            matches!(refused, Err(PluginError::InvalidParams(says)) if says.contains("WAYGATE_API_KEY")),
            "{uri}"
        );
    }
    for tool in ["status", "plugins"] {
        assert!(ask(call(tool, json!({})), false, false).await.unwrap().get("isError").is_none(), "{tool}");
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_a_failed_call_and_not_a_broken_one() {
    let answer = ask(call("status", json!({})), false, true).await.unwrap();
    assert_eq!(answer["isError"], true);
    assert!(answer["content"][0]["text"].as_str().unwrap().contains("the database is busy"));
    assert!(matches!(ask(read("waygate://status"), false, true).await, Err(PluginError::Unavailable(_))));
    let prompt = ask(operate(json!({})), false, true).await.unwrap();
    assert_eq!(prompt["messages"][1]["content"]["type"], "text");
}

#[tokio::test]
async fn the_prompt_holds_the_symptom_and_the_status_of_this_moment() {
    let prompt = ask(operate(json!({"symptom": "slow since noon"})), true, false).await.unwrap();
    assert!(prompt["messages"][0]["content"]["text"].as_str().unwrap().contains("slow since noon"));
    let seen = &prompt["messages"][1]["content"]["resource"];
    assert_eq!((&seen["uri"], &seen["text"]), (&json!("waygate://status"), &json!(r#"{"asked":"status"}"#)));
    let stranger = ask(operate(json!({})), false, false).await.unwrap();
    assert!(stranger["messages"][0]["content"]["text"].as_str().unwrap().contains("WAYGATE_API_KEY"));
}

#[tokio::test]
async fn topics_are_completed() {
    let complete = |template: &str, typed: &str| {
        let of = Reference::Resource(template.to_owned());
        let (argument, chosen) = ("topic".to_owned(), Raw::value(&json!({})));
        ask(Request::Complete { of, argument, typed: typed.to_owned(), chosen }, false, false)
    };
    let fitting = complete(offers::TOPIC_TEMPLATE, "p").await.unwrap();
    assert_eq!(fitting["completion"]["values"], json!(["performance"]));
    assert_eq!(complete(offers::TOPIC_TEMPLATE, "").await.unwrap()["completion"]["total"], TOPICS.len());
    assert_eq!(complete("other://{topic}", "").await.unwrap()["completion"]["total"], 0);
}

#[tokio::test]
async fn who_sees_a_part_of_the_tools_hears_nothing_that_names_others() {
    let partly = |request: Request| async {
        let plugin = Waygate::new(Arc::new(Echoing { fails: false }));
        match plugin.handle(request, context(true, true)).await? {
            Outcome::Complete(raw) => Ok::<Value, PluginError>(raw.read().unwrap()),
            asks @ Outcome::InputRequired { .. } => panic!("it asks: {asks:?}"),
        }
    };
    for tool in ["plugins", "diagnostics", "recent_errors", "history"] {
        let told = partly(call(tool, json!({"topic": "actors"}))).await.unwrap();
        assert_eq!(told["isError"], true, "{tool}");
        assert!(told["content"][0]["text"].as_str().unwrap().contains("no globs"), "{told}");
    }
    let status = partly(call("status", json!({}))).await.unwrap();
    assert_eq!(status["structuredContent"], json!({}), "the host's answer names what it likes");
    assert!(partly(read("waygate://plugins")).await.is_err());
}
