//! CommandExecutor's mailbox: calls, and nothing else.
//!
//! | message   | from                     | reply         | may be lost |
//! |-----------|--------------------------|---------------|-------------|
//! | `Perform` | http, on the same thread | [`Begun`]     | no          |
//! | `Ping`, `Crash` | health, operator   | –             | yes         |

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix::Message;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::access::Caller;
use crate::access::limits::{Allowance, Places};
use crate::catalog::{Caching, PromptEntry, ResourceEntry, Seat, ToolEntry, ViewName};
use crate::error::Fault;
pub use crate::plugins::{Listener, Notice, Reference};
use crate::protocol::modern::Foreign;
use crate::protocol::render::Finished;
use crate::protocol::{
    ClientCapabilities, InputRequest, LogLevel, Method, Object, Raw, Revision, RpcError, Trace,
};
use crate::telemetry::redaction::places::Hidden;

/// One call to carry out; it travels in a box, since it is large and goes through several hands.
#[derive(Message)]
#[rtype(result = "Begun")]
pub struct Perform {
    /// What to do, already found in the catalog.
    pub task: Task,
    /// In which view of the catalog it was found.
    pub view: ViewName,
    /// Who wants it.
    pub caller: Caller,
    /// This request, in errors, logs and history.
    pub request_id: Arc<str>,
    /// `inputResponses` of a retry.
    pub responses: Object,
    /// What the client of a session answered with an error, under the keys of the questions.
    pub refusals: Vec<(String, RpcError)>,
    /// `requestState` of a retry, still sealed.
    pub state: Option<String>,
    /// What the client speaks.
    pub revision: Revision,
    /// What logs and history call its session, if it has one.
    pub session: Option<Arc<str>>,
    /// What the client can be asked.
    pub client: ClientCapabilities,
    /// `name/version` of the client, unverified.
    pub client_name: Option<Arc<str>>,
    /// W3C trace context.
    pub trace: Trace,
    /// What the request says that Waygate does not know, for the server behind the plugin.
    pub foreign: Option<Arc<Foreign>>,
    /// Where notices go, when the client wants any.
    pub notices: Option<Arc<dyn Listener>>,
    /// Whether it gave a progress token.
    pub wants_progress: bool,
    /// The least level of log messages it wants.
    pub log_level: Option<LogLevel>,
    /// Trips when the client is gone.
    pub cancel: CancellationToken,
    /// Its places with all whose calls are limited, held until it has ended.
    pub places: Places,
}

/// What to do.
pub enum Task {
    /// `tools/call`
    Tool {
        /// Which.
        entry: Arc<ToolEntry>,
        /// As they came.
        arguments: Raw,
        /// Read once, for headers and schema.
        value: Value,
    },
    /// `prompts/get`
    Prompt {
        /// Which.
        entry: Arc<PromptEntry>,
        /// As they came.
        arguments: Raw,
    },
    /// `resources/read`
    Read {
        /// Whose.
        entry: Arc<ResourceEntry>,
        /// Which.
        uri: String,
    },
    /// `completion/complete`
    Complete {
        /// Whose.
        seat: Arc<Seat>,
        /// Of what, in the plugin's own names.
        of: Reference,
        /// Which argument.
        argument: String,
        /// What was typed.
        typed: String,
        /// Other arguments.
        chosen: Raw,
    },
}

/// What a task is for, found once, so that a later round of it goes where the first went, whatever is offered by then.
pub enum Goal {
    /// A tool.
    Tool(Arc<ToolEntry>),
    /// A prompt.
    Prompt(Arc<PromptEntry>),
    /// A resource.
    Read(Arc<ResourceEntry>),
    /// A completion, of this plugin.
    Complete(Arc<Seat>),
}

impl Task {
    /// What it is for.
    pub fn goal(&self) -> Goal {
        match self {
            Self::Tool { entry, .. } => Goal::Tool(Arc::clone(entry)),
            Self::Prompt { entry, .. } => Goal::Prompt(Arc::clone(entry)),
            Self::Read { entry, .. } => Goal::Read(Arc::clone(entry)),
            Self::Complete { seat, .. } => Goal::Complete(Arc::clone(seat)),
        }
    }

    /// The same for `goal`, as long as what that is of still serves.
    pub fn towards(mut self, goal: &Goal) -> Self {
        match (&mut self, goal) {
            (Self::Tool { entry, .. }, Goal::Tool(first)) if first.seat.refusal().is_none() => {
                *entry = Arc::clone(first);
            }
            (Self::Prompt { entry, .. }, Goal::Prompt(first)) if first.seat.refusal().is_none() => {
                *entry = Arc::clone(first);
            }
            (Self::Read { entry, .. }, Goal::Read(first)) if first.seat.refusal().is_none() => {
                *entry = Arc::clone(first);
            }
            (Self::Complete { seat, .. }, Goal::Complete(first)) if first.refusal().is_none() => {
                *seat = Arc::clone(first);
            }
            _ => {}
        }
        self
    }

    /// The same for the plugin that sits on `seat`.
    pub fn on(mut self, seat: &Arc<Seat>) -> Self {
        match &mut self {
            Self::Tool { entry, .. } => *entry = Arc::new(entry.on(seat)),
            Self::Prompt { entry, .. } => *entry = Arc::new(entry.on(seat)),
            Self::Read { entry, .. } => *entry = Arc::new(entry.on(seat)),
            Self::Complete { seat: of, .. } => *of = Arc::clone(seat),
        }
        self
    }

    /// The plugin that does it.
    pub fn seat(&self) -> &Arc<Seat> {
        match self {
            Self::Tool { entry, .. } => &entry.seat,
            Self::Prompt { entry, .. } => &entry.seat,
            Self::Read { entry, .. } => &entry.seat,
            Self::Complete { seat, .. } => seat,
        }
    }

    /// The method.
    pub fn method(&self) -> Method {
        match self {
            Self::Tool { .. } => Method::ToolsCall,
            Self::Prompt { .. } => Method::PromptsGet,
            Self::Read { .. } => Method::ResourcesRead,
            Self::Complete { .. } => Method::Complete,
        }
    }

    /// The published name or the URI.
    pub fn target(&self) -> Arc<str> {
        match self {
            Self::Tool { entry, .. } => Arc::clone(&entry.name),
            Self::Prompt { entry, .. } => Arc::clone(&entry.name),
            Self::Read { uri, .. } => uri.as_str().into(),
            Self::Complete { of: Reference::Prompt(name) | Reference::Resource(name), .. } => {
                name.as_str().into()
            }
        }
    }

    /// The same whatever view it was found in, for the history.
    pub fn canonical(&self) -> Arc<str> {
        match self {
            Self::Tool { entry, .. } => Arc::clone(&entry.canonical),
            Self::Prompt { entry, .. } => Arc::clone(&entry.canonical),
            Self::Read { .. } | Self::Complete { .. } => self.target(),
        }
    }

    /// Seconds that it may take.
    pub fn timeout_seconds(&self) -> u64 {
        match self {
            Self::Tool { entry, .. } => entry.seconds(),
            Self::Prompt { .. } | Self::Read { .. } | Self::Complete { .. } => {
                self.seat().limits.timeout_seconds
            }
        }
    }

    /// What all calls of what it is for may use up together; none means all.
    pub fn allowance(&self) -> Option<&Allowance> {
        match self {
            Self::Tool { entry, .. } => entry.allowance.as_deref(),
            Self::Prompt { .. } | Self::Read { .. } | Self::Complete { .. } => None,
        }
    }

    /// Whether answers of what it is for are kept, where any are.
    pub fn caching(&self) -> Option<&Caching> {
        match self {
            Self::Tool { entry, .. } => Some(&entry.caching),
            Self::Read { entry, .. } => Some(&entry.seat.reads),
            Self::Prompt { .. } | Self::Complete { .. } => None,
        }
    }

    /// The arguments, for the history.
    pub fn arguments(&self) -> Option<&Raw> {
        match self {
            Self::Tool { arguments, .. } | Self::Prompt { arguments, .. } => Some(arguments),
            Self::Read { .. } | Self::Complete { .. } => None,
        }
    }

    /// What of them is hidden there; none for nearly all.
    pub fn hidden(&self) -> Option<&Arc<Hidden>> {
        match self {
            Self::Tool { entry, .. } => entry.hidden.as_ref(),
            Self::Prompt { .. } | Self::Read { .. } | Self::Complete { .. } => None,
        }
    }
}

/// A call that was begun: most end at once. Another one goes on in whoever awaits it, whom its end thus wakes directly.
pub enum Begun {
    /// It ended.
    Ended(Result<Done, Fault>),
    /// It goes on.
    Running(Running),
}

impl Begun {
    /// What becomes of it.
    ///
    /// # Errors
    /// Why there is no result.
    pub fn end(self) -> impl Future<Output = Result<Done, Fault>> {
        match self {
            Self::Ended(done) => Either::Left(ready(done)),
            Self::Running(running) => Either::Right(running),
        }
    }
}

/// The rest of a call. Dropped before its end it goes on by itself, so that it hears that it was cancelled and is recorded.
pub struct Running(Option<BoxFuture<'static, Result<Done, Fault>>>);

impl Running {
    /// The rest of this call.
    pub(super) fn new(rest: BoxFuture<'static, Result<Done, Fault>>) -> Self {
        Self(Some(rest))
    }
}

impl Future for Running {
    type Output = Result<Done, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(rest) = self.0.as_mut() else { return Poll::Pending };
        let polled = rest.as_mut().poll(cx);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(rest), Ok(runtime)) = (self.0.take(), Handle::try_current()) else { return };
        // Nobody waits for it: its end is told to its record alone.
        runtime.spawn(rest.map(drop));
    }
}

/// What became of a call.
#[derive(Debug)]
pub struct Done {
    /// The result.
    pub result: Finished,
    /// `ok`, `tool_error` or `input_required`.
    pub outcome: &'static str,
    /// What the client is asked, for those who ask it by other means than the result.
    pub asks: Option<Asks>,
    /// What the answer says of itself, where that counts.
    pub hints: Option<Hints>,
}

impl Done {
    /// One that cannot go on without its client.
    pub fn asking(result: Finished, asks: Asks) -> Self {
        Self { result, outcome: "input_required", asks: Some(asks), hints: None }
    }
}

/// What an answer says of how long it may be given again, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hints {
    /// For so long.
    pub lasts: Duration,
    /// To all who ask, and not to the same caller alone.
    pub public: bool,
}

/// What a call needs of its client before it can go on.
#[derive(Debug)]
pub struct Asks {
    /// Under the plugin's keys.
    pub requests: Vec<(String, InputRequest)>,
    /// The sealed `requestState` of the next round.
    pub state: String,
}
