//! A server in memory, played by a script: for tests of what speaks to servers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::link::{Flow, Link, LinkError, Outgoing};
use crate::plugins::{Blocking, CallerKey, Context, ContextParts, Notice};
use crate::protocol::{ClientCapabilities, Incoming, Raw, Trace};

type Message = Result<Incoming, LinkError>;
type Script = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A request, as the server sees it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub id: u64,
    pub method: &'static str,
    pub params: Value,
    /// All of it, byte for byte.
    pub text: String,
    pub outgoing: Outgoing,
}

/// What the script does with a request.
pub enum Reply {
    /// These messages and the end; `$id` in them is the request's number.
    Say(Vec<String>),
    /// The request does not get through.
    Fail(LinkError),
    /// These messages, and then nothing until the test says more with [`Scripted::say`].
    Open(Vec<String>),
}

impl Reply {
    pub fn result(result: &Value) -> Self {
        Self::text(&result.to_string())
    }

    /// A result given as text, to be seen byte for byte.
    pub fn text(result: &str) -> Self {
        Self::Say(vec![format!(r#"{{"jsonrpc":"2.0","id":$id,"result":{result}}}"#)])
    }

    pub fn error(code: i64, message: &str) -> Self {
        let error = json!({"code": code, "message": message});
        Self::Say(vec![format!(r#"{{"jsonrpc":"2.0","id":$id,"error":{error}}}"#)])
    }

    /// The same, after this message.
    pub fn after(self, message: &Value) -> Self {
        match self {
            Self::Say(mut messages) => {
                messages.insert(0, message.to_string());
                Self::Say(messages)
            }
            other => other,
        }
    }
}

/// A link to a server that follows a script.
pub struct Scripted {
    script: Box<Script>,
    asked: Mutex<Vec<Asked>>,
    told: Mutex<Vec<Value>>,
    open: Mutex<HashMap<u64, mpsc::UnboundedSender<Message>>>,
    stray: Mutex<Option<mpsc::UnboundedSender<Message>>>,
    strays: Mutex<Option<mpsc::UnboundedReceiver<Message>>>,
    /// Told when a test says that something did not come.
    pub missed: Arc<Notify>,
    /// What befalls notifications and answers.
    pub tell_trouble: Mutex<Option<LinkError>>,
    closed: AtomicBool,
    /// What [`Link::cancels_by_closing`] says.
    pub closing_cancels: bool,
}

impl Scripted {
    pub fn new(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self::made(script))
    }

    /// The same for a pipe, where the end of a flow tells the server nothing.
    pub fn pipe(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { closing_cancels: false, ..Self::made(script) })
    }

    fn made(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let (stray, strays) = mpsc::unbounded_channel();
        Self {
            script: Box::new(script),
            asked: Mutex::default(),
            told: Mutex::default(),
            open: Mutex::default(),
            stray: Mutex::new(Some(stray)),
            strays: Mutex::new(Some(strays)),
            missed: Arc::default(),
            tell_trouble: Mutex::default(),
            closed: AtomicBool::new(false),
            closing_cancels: true,
        }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.asked).clone()
    }

    /// The requests of this method so far.
    pub fn asked_of(&self, method: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.method == method).collect()
    }

    /// All notifications and answers so far.
    pub fn told(&self) -> Vec<Value> {
        lock(&self.told).clone()
    }

    /// Says one more thing on the open flow of request `id`; false when nobody listens there any more.
    pub fn say(&self, id: u64, message: &Value) -> bool {
        let text = message.to_string().replace("\"$id\"", &id.to_string());
        lock(&self.open).get(&id).is_some_and(|open| open.send(Ok(incoming(&text))).is_ok())
    }

    /// Ends the open flow of request `id`; with an error, if there is one.
    pub fn hang_up(&self, id: u64, error: Option<LinkError>) {
        if let (Some(open), Some(error)) = (lock(&self.open).remove(&id), error) {
            drop(open.send(Err(error)));
        }
    }

    /// Whether whoever asked `id` still listens to its open flow.
    pub fn listens(&self, id: u64) -> bool {
        lock(&self.open).get(&id).is_some_and(|open| !open.is_closed())
    }

    /// Says something that belongs to no request.
    pub fn stray(&self, message: &Value) {
        if let Some(stray) = &*lock(&self.stray) {
            drop(stray.send(Ok(incoming(&message.to_string()))));
        }
    }

    /// Ends what belongs to no request, and thereby the link; with an error, if there is one.
    pub fn end(&self, error: Option<LinkError>) {
        if let (Some(stray), Some(error)) = (lock(&self.stray).take(), error) {
            drop(stray.send(Err(error)));
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

impl Link for Scripted {
    fn ask(&self, request: Outgoing) -> BoxFuture<'static, Result<Flow, LinkError>> {
        let text = String::from_utf8(request.body.to_vec()).unwrap();
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["id"], json!(request.id));
        assert_eq!(body["method"], request.method);
        let asked = Asked {
            id: request.id,
            method: request.method,
            params: body["params"].clone(),
            text,
            outgoing: request,
        };
        lock(&self.asked).push(asked.clone());
        let number = asked.id.to_string();
        let message = move |text: &String| Ok(incoming(&text.replace("$id", &number)));
        let flow = match (self.script)(&asked) {
            Reply::Fail(error) => Err(error),
            Reply::Say(messages) => {
                let messages: Vec<Message> = messages.iter().map(message).collect();
                Ok(Flow::of(futures_util::stream::iter(messages)))
            }
            Reply::Open(messages) => {
                let (say, said) = mpsc::unbounded_channel();
                messages.iter().map(message).for_each(|message| drop(say.send(message)));
                lock(&self.open).insert(asked.id, say);
                Ok(flow_of(said))
            }
        };
        Box::pin(std::future::ready(flow))
    }

    fn tell(&self, message: Bytes, _: Option<&'static str>) -> BoxFuture<'static, Result<(), LinkError>> {
        let told = lock(&self.tell_trouble).clone().map_or(Ok(()), Err);
        if told.is_ok() {
            lock(&self.told).push(serde_json::from_slice(&message).unwrap());
        }
        Box::pin(std::future::ready(told))
    }

    fn strays(&self) -> Flow {
        lock(&self.strays).take().map_or_else(Flow::none, flow_of)
    }

    fn missed(&self) -> BoxFuture<'static, ()> {
        let missed = Arc::clone(&self.missed);
        Box::pin(async move { missed.notified().await })
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.closed.store(true, Ordering::SeqCst);
        self.end(None);
        lock(&self.open).clear();
        Box::pin(std::future::ready(()))
    }

    fn report(&self) -> Value {
        json!({"transport": "memory"})
    }

    fn cancels_by_closing(&self) -> bool {
        self.closing_cancels
    }
}

fn flow_of(messages: mpsc::UnboundedReceiver<Message>) -> Flow {
    Flow::of(futures_util::stream::unfold(messages, |mut messages| async move {
        messages.recv().await.map(|message| (message, messages))
    }))
}

fn incoming(text: &str) -> Incoming {
    Incoming::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call's context whose client declared these capabilities, and what it hears.
pub fn context(capabilities: &Value) -> (Context, mpsc::Receiver<Notice>) {
    let (notices, heard) = mpsc::channel(64);
    let parts = ContextParts {
        deadline: Instant::now() + Duration::from_secs(10),
        cancel: CancellationToken::new(),
        notices: Some(Arc::new(notices)),
        wants_progress: true,
        log_level: Some(crate::protocol::LogLevel::Info),
        client: ClientCapabilities::read(&Raw::value(capabilities)).unwrap(),
        caller: CallerKey(1),
        conversation: None,
        operator: false,
        sees_all: true,
        trace: Trace::default(),
        blocking: Arc::new(Blocking::new(1)),
    };
    (Context::new(parts), heard)
}

/// Polls until `done`, for no longer than a generous while.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
