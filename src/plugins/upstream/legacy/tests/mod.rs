//! A server with sessions, played by a script, and clients that use it.

mod asking;
mod sessions;
mod subscriptions;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::plugins::upstream::link::Link;
use crate::plugins::upstream::testing::{Asked, Reply, Scripted, until};
use crate::plugins::{Blocking, CallerKey, ContextParts, ConversationKey, Notice};
use crate::protocol::{InputRequest, LogLevel, Object, Trace};

type Script = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

fn ok() -> Reply {
    Reply::result(&json!({"content": []}))
}

/// Everything that a client can be asked.
fn all() -> Value {
    json!({"roots": {}, "sampling": {"tools": {}}, "elicitation": {"form": {}, "url": {}}})
}

/// Opens links to the played server and keeps them.
struct Doors {
    script: Script,
    links: Mutex<Vec<Arc<Scripted>>>,
    /// Trouble for the next that is opened.
    trouble: Mutex<Option<LinkError>>,
}

impl Doors {
    fn link(&self) -> Arc<Scripted> {
        let script = Arc::clone(&self.script);
        let link = Scripted::new(move |asked| match asked.method {
            "initialize" => welcome("2025-11-25"),
            // The script says what becomes of these.
            _ if asked.params["uri"].as_str().is_some_and(|uri| uri.contains('!')) => script(asked),
            "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => Reply::result(&json!({})),
            _ => script(asked),
        });
        self.links.lock().unwrap().push(Arc::clone(&link));
        link
    }
}

impl Ways for Doors {
    fn open(&self) -> BoxFuture<'static, Result<Arc<dyn Link>, LinkError>> {
        let opened = match self.trouble.lock().unwrap().take() {
            Some(error) => Err(error),
            None => Ok(self.link() as Arc<dyn Link>),
        };
        Box::pin(std::future::ready(opened))
    }
}

fn welcome(revision: &str) -> Reply {
    Reply::result(&json!({
        "protocolVersion": revision,
        "capabilities": {"tools": {}, "logging": {}, "resources": {"subscribe": true}},
        "serverInfo": {"name": "played", "version": "1"},
    }))
}

/// The house in front of the played server. `links[0]` is the main session.
struct House {
    legacy: Arc<Legacy>,
    doors: Arc<Doors>,
}

impl House {
    async fn new(isolation: Isolation, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(isolation, 8, script).await
    }

    async fn with(
        isolation: Isolation,
        sessions_max: usize,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let script: Script = Arc::new(script);
        let doors = Arc::new(Doors { script, links: Mutex::default(), trouble: Mutex::default() });
        let link: Arc<dyn Link> = doors.link();
        let ids = Ids::default();
        let deadline = Instant::now() + Duration::from_secs(5);
        let handshake = initialize(&*link, &Raw::empty_object(), &ids, deadline).await.unwrap();
        let manner = Manner {
            plugin: "played".into(),
            isolation,
            isolation_spoken: false,
            sessions_max,
            session_idle: Duration::from_secs(60),
            start_timeout: Duration::from_secs(5),
            input_timeout: Duration::from_secs(30),
        };
        let ways = Arc::clone(&doors) as Arc<dyn Ways>;
        Self { legacy: Legacy::new(manner, Opened { link, handshake, ids }, ways), doors }
    }

    fn links(&self) -> Vec<Arc<Scripted>> {
        self.doors.links.lock().unwrap().clone()
    }

    /// The link of the newest session.
    fn newest(&self) -> Arc<Scripted> {
        self.links().pop().unwrap()
    }

    async fn perform(&self, request: Request, context: Context) -> Result<Outcome, PluginError> {
        Arc::clone(&self.legacy).perform(request, context).await
    }

    /// The same in a task of its own.
    fn spawn(
        &self,
        request: Request,
        context: Context,
    ) -> tokio::task::JoinHandle<Result<Outcome, PluginError>> {
        tokio::spawn(Arc::clone(&self.legacy).perform(request, context))
    }

    /// How many calls the server was asked for, in all sessions.
    fn calls(&self) -> usize {
        self.links().iter().map(|link| link.asked_of("tools/call").len()).sum()
    }
}

/// A client.
struct Client {
    caller: u64,
    conversation: Option<u64>,
    can: Value,
    level: Option<LogLevel>,
    within: Duration,
}

impl Default for Client {
    fn default() -> Self {
        Self { caller: 1, conversation: None, can: all(), level: None, within: Duration::from_secs(600) }
    }
}

impl Client {
    fn of(caller: u64) -> Self {
        Self { caller, ..Self::default() }
    }

    fn context(&self) -> Context {
        self.heard().0
    }

    fn heard(&self) -> (Context, mpsc::Receiver<Notice>) {
        let (notices, heard) = mpsc::channel(64);
        let parts = ContextParts {
            deadline: Instant::now() + self.within,
            cancel: CancellationToken::new(),
            notices: Some(Arc::new(notices)),
            wants_progress: true,
            log_level: self.level,
            client: ClientCapabilities::read(&Raw::value(&self.can)).unwrap(),
            caller: CallerKey(self.caller),
            conversation: self.conversation.map(ConversationKey),
            operator: false,
            sees_all: true,
            foreign: None,
            trace: Trace::default(),
            blocking: Arc::new(Blocking::new(1)),
        };
        (Context::new(parts), heard)
    }
}

fn call(tool: &str) -> Request {
    retry(tool, &[], None)
}

/// The call again, with these answers and what it was given to carry.
fn retry(tool: &str, answers: &[(&str, Value)], state: Option<&Value>) -> Request {
    let mut responses = Object::default();
    answers.iter().for_each(|(key, answer)| responses.set(key, Raw::value(answer)));
    let answers = Answers::new(responses, state.map(Raw::value));
    Request::Call { tool: tool.into(), arguments: Raw::empty_object(), answers }
}

/// A request of the server for a form.
fn form(id: &str) -> String {
    let params = json!({"message": id, "requestedSchema": {"type": "object", "properties": {}}});
    json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params}).to_string()
}

fn request(id: &str, method: &str) -> Value {
    let params = json!({"messages": [], "maxTokens": 1});
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn done(text: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": "$id", "result": {"content": [{"type": "text", "text": text}]}})
}

fn asks(outcome: Result<Outcome, PluginError>) -> (Vec<(String, InputRequest)>, Value) {
    match outcome {
        Ok(Outcome::InputRequired { requests, state }) => (requests, state.unwrap()),
        other => panic!("it does not ask: {other:?}"),
    }
}

fn result(outcome: Result<Outcome, PluginError>) -> Value {
    match outcome {
        Ok(Outcome::Complete(result)) => result.read().unwrap(),
        other => panic!("it is not done: {other:?}"),
    }
}

/// What the server was answered to its request `id`.
fn answered(link: &Scripted, id: &str) -> Option<Value> {
    link.told().into_iter().find(|told| told["id"] == id)
}

/// Of which requests the server was told that they are not wanted any more.
fn cancelled(link: &Scripted) -> Vec<u64> {
    let told = link.told();
    let cancelled = told.iter().filter(|told| told["method"] == "notifications/cancelled");
    cancelled.map(|told| told["params"]["requestId"].as_u64().unwrap()).collect()
}
