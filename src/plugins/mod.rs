//! The seam: what a plugin is, and what it is given with each call.
//!
//! Everyone behind the seam speaks the stateless revision (2026-07-28): a call carries all it needs, and a plugin that
//! needs input says so and is called again with the answers. Must not know eras, sessions, HTTP or who is calling.

pub mod builtin;
pub mod child;
mod context;
mod host;
mod life;
pub mod upstream;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::protocol::capabilities::Offers;
use crate::protocol::{Answers, Definition, InputRequest, Raw};

pub use context::{Blocking, CallerKey, Context, ContextParts, ConversationKey, Hop, Listener, Notice};
pub use host::{Host, HostError};
pub use life::{Health, LifeError, Pulse};

/// Something that offers tools, prompts and resources, and does the work when they are used.
///
/// **Everything before an ask may run again**: after [`Outcome::InputRequired`] the same request comes back with
/// answers, and a client may also retry a request whose answer it never saw. Effects belong after the last ask.
pub trait Plugin: Send + Sync + 'static {
    /// What it offers now. Called at start and after each [`Change`]; must not block.
    fn inventory(&self) -> Inventory;

    /// Tells of changes. A receiver that lags is treated as if everything had changed. A plugin that offers the same for as long as it
    /// lives need not say so.
    fn changes(&self) -> broadcast::Receiver<Change> {
        // Closed from the beginning: nothing will ever come.
        broadcast::Sender::new(1).subscribe()
    }

    /// Does one thing. Dropped at its deadline or when the client is gone; what must not be cut off in the middle
    /// belongs into [`Context::blocking`]. A panic costs this call only.
    fn handle(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>>;

    /// Whether it goes on with a call whose client answered a question with an error. Else the call ends with that error,
    /// and the plugin hears nothing of it.
    fn hears_refusals(&self) -> bool {
        false
    }

    /// One life of it: starts what it needs, says that it is ready, and goes on until it is told to stop or cannot go on.
    /// Its actor begins the next life after one that failed. A plugin that needs nothing is ready at once.
    ///
    /// # Errors
    /// Why it cannot start, or cannot go on.
    fn live(self: Arc<Self>, pulse: Pulse) -> BoxFuture<'static, Result<(), LifeError>> {
        pulse.ready();
        Box::pin(async move {
            pulse.stop().cancelled().await;
            Ok(())
        })
    }

    /// `modern` or `legacy`, where it is a server whose era is known; none for what has none.
    fn era(&self) -> Option<&'static str> {
        None
    }

    /// Calls that wait for what their clients will answer, and need it then: one that is replaced lives as long.
    fn waiting(&self) -> usize {
        0
    }

    /// What an operator sees of it in `/plugins/{name}` beside what every plugin shows; an object, or null. No secrets.
    fn report(&self) -> Value {
        Value::Null
    }
}

/// All that a plugin offers.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// In the order they shall be listed.
    pub tools: Vec<Definition>,
    /// In the order they shall be listed.
    pub prompts: Vec<Definition>,
    /// In the order they shall be listed.
    pub resources: Vec<Definition>,
    /// In the order they shall be listed.
    pub templates: Vec<Definition>,
    /// What a model should know to use them; joined with those of other plugins.
    pub instructions: Option<String>,
    /// Whether [`Request::Complete`] is answered.
    pub completes: bool,
    /// Whether [`Request::Subscribe`] is answered and [`Change::Updated`] told.
    pub subscribes: bool,
    /// What it says that it serves, where it says so; else that is seen by what is there.
    pub declared: Option<Declared>,
    /// For how long its lists hold, where it says so: in milliseconds.
    pub ttl_ms: Option<u64>,
}

/// What a plugin says that it serves, be there any of it now or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    /// Tools.
    pub tools: bool,
    /// Prompts.
    pub prompts: bool,
    /// Resources.
    pub resources: bool,
    /// Messages for the client's log.
    pub logs: bool,
    /// Whether it tells of every change of its lists.
    pub announces: bool,
}

impl Inventory {
    /// All that is served of it.
    pub fn offers(&self) -> Offers {
        let declared = self.declared.unwrap_or(Declared { logs: true, ..Declared::default() });
        Offers {
            tools: declared.tools || !self.tools.is_empty(),
            prompts: declared.prompts || !self.prompts.is_empty(),
            resources: declared.resources || !(self.resources.is_empty() && self.templates.is_empty()),
            subscribes: self.subscribes,
            completes: self.completes,
            logs: declared.logs,
        }
    }
}

/// What changed in a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Its tools.
    Tools,
    /// Its prompts.
    Prompts,
    /// Its resources or templates.
    Resources,
    /// The contents of the resource with this URI.
    Updated(String),
}

/// One thing to do. Names and URIs are the plugin's own.
#[derive(Debug, Clone)]
pub enum Request {
    /// `tools/call`; the arguments were checked against the tool's schema.
    Call {
        /// The tool.
        tool: Arc<str>,
        /// An object; `{}` when the client sent none.
        arguments: Raw,
        /// Of earlier rounds.
        answers: Answers,
    },
    /// `prompts/get`; required arguments are there.
    Prompt {
        /// The prompt.
        name: Arc<str>,
        /// An object of strings; `{}` when the client sent none.
        arguments: Raw,
        /// Of earlier rounds.
        answers: Answers,
    },
    /// `resources/read`.
    Read {
        /// A listed URI, or one that a template covers.
        uri: String,
        /// Of earlier rounds.
        answers: Answers,
    },
    /// `completion/complete`.
    Complete {
        /// Of what.
        of: Reference,
        /// The argument to complete.
        argument: String,
        /// What was typed so far.
        typed: String,
        /// Arguments already chosen, an object of strings.
        chosen: Raw,
    },
    /// Somebody began (`true`) or ceased to watch a resource; counted, so that each URI begins and ends once.
    Subscribe {
        /// Which resource.
        uri: String,
        /// Whether it begins.
        begins: bool,
    },
}

/// What a completion is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A prompt's argument.
    Prompt(String),
    /// A resource template's variable.
    Resource(String),
}

/// What a plugin answers.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Done: the result object of the method, without `resultType`. Make it with [`crate::protocol::content`].
    Complete(Raw),
    /// Not without the client: ask these and call again.
    InputRequired {
        /// Under keys of the plugin's choice. May be empty when `state` is given: "come back".
        requests: Vec<(String, InputRequest)>,
        /// What the plugin wants to find again. The client carries it sealed: it can neither read nor change it.
        state: Option<Value>,
    },
}

/// Why there is no outcome. A tool that ran and failed is not this: it is a result with `isError`.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The name or URI is not (or no longer) the plugin's.
    #[error("there is no {0}")]
    Unknown(String),
    /// The caller's fault; the sentence is shown to it.
    #[error("{0}")]
    InvalidParams(String),
    /// It must ask for something that this client cannot give; in the shape of `data.requiredCapabilities`.
    #[error("the client did not declare a capability that this needs")]
    MissingCapability(Value),
    /// Not now; worth a retry. The sentence goes to the log, not to the caller.
    #[error("{0}")]
    Unavailable(String),
    /// The server behind the plugin cannot be asked now; worth a retry. The sentence, which says why, is shown to the
    /// caller.
    #[error("{why}")]
    Away {
        /// Why.
        why: String,
        /// When it is worth asking again, where the server said so.
        returns: Option<Duration>,
    },
    /// A limit of Waygate's own is reached, and says nothing of how the plugin is. The sentence, which names the limit, is
    /// shown to the caller.
    #[error("{why}")]
    Full {
        /// Which limit, and what can be done.
        why: String,
        /// When it is worth asking again.
        returns: Duration,
    },
    /// The server behind the plugin answered with an error of its own, and so is well. All of it is shown to the caller.
    #[error("{why}")]
    Answered {
        /// The server's code.
        code: i64,
        /// What it says, and whose word it is.
        why: String,
        /// Its `data`, as it came.
        data: Option<Raw>,
    },
    /// The server behind the plugin failed; the sentence, which says so, is shown to the caller.
    #[error("{0}")]
    Upstream(String),
    /// The plugin's own fault; the sentence goes to the log, not to the caller.
    #[error("{0}")]
    Failed(String),
}

impl PluginError {
    /// The server behind the plugin cannot be asked now, and does not say when it can.
    pub fn away(why: String) -> Self {
        Self::Away { why, returns: None }
    }
}
