//! SessionActor: one per open listen stream, and one per session with a legacy client that needs an order of its own:
//! what it watches, what its client was asked, what is told to it.
//!
//! MCP 2026-07-28, basic/patterns/subscriptions; MCP 2025-11-25, basic/lifecycle and basic/transports. Calls do not go
//! through it. Must not know HTTP or other sessions.

mod feed;
mod handle;
pub mod keeping;
mod kept;
pub mod messages;
pub mod outbox;
mod sessions;
mod streams;
mod voice;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Supervised};
use tokio::sync::oneshot;

use super::plugin::Watching;
use super::supervision::{Crash, Ping, Terms};
use crate::catalog::ViewName;
use crate::error::{ErrorCode, Fault};
use crate::protocol::Raw;
use crate::protocol::legacy::asks::Answer;
use messages::{Answered, Ask, Asking, Close, End, Forget, Probe, Subscribe, Tell, Unsubscribe};
use voice::Voice;

pub use feed::{Event, Feed};
pub use handle::{InFlight, SessionHandle};
pub use sessions::{SessionLimits, Sessions};
pub use streams::{Opened, StreamView, Streams};

/// A listen stream may end; the process lives on without it.
pub const TERMS: Terms = Terms { mailbox: 64, may_end: true, vital: false };

/// A change, as streams tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// `notifications/tools/list_changed`
    Tools,
    /// `notifications/prompts/list_changed`
    Prompts,
    /// `notifications/resources/list_changed`
    Resources,
    /// `notifications/resources/updated`
    Updated(Arc<str>),
    /// News may have been missed: everything watched is told, since one notification too many does no harm.
    Unknown,
}

/// What a stream watches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Whose lists: of everything, or of a bundle.
    pub view: ViewName,
    /// The list of tools.
    pub tools: bool,
    /// The list of prompts.
    pub prompts: bool,
    /// The lists of resources and templates.
    pub resources: bool,
    /// The contents of these resources.
    pub uris: Vec<Arc<str>>,
}

impl Filter {
    /// Whether it watches what `news` is about.
    pub fn watches(&self, news: &News) -> bool {
        match news {
            News::Tools => self.tools,
            News::Prompts => self.prompts,
            News::Resources => self.resources,
            News::Updated(uri) => self.uris.contains(uri),
            News::Unknown => true,
        }
    }
}

/// Questions to one client that may wait for their answers.
const ASKS_MAX: usize = 1024;

/// One listen stream, or one session.
pub struct SessionActor {
    /// What it watches.
    filter: Filter,
    /// How it speaks to its client.
    voice: Voice,
    /// Between two signs of life on the wire; none where the connection sees to that.
    keep_alive: Option<Duration>,
    /// The watches of its resources, which end with it.
    watched: Vec<Watching>,
    /// Takes it off the list of those that are told news.
    entry: streams::Entry,
    /// What the client was asked, and who waits for the answer.
    asks: HashMap<u64, oneshot::Sender<Answer>>,
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(keep_alive) = self.keep_alive {
            ctx.run_interval(keep_alive, |session, _| session.voice.keep_alive());
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.watched.clear();
        self.asks.clear();
        self.entry.leave();
        // Given up, it has a client that still listens and must learn that nothing more comes.
        self.voice.end();
    }
}

impl Supervised for SessionActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        // Whoever waits for an answer learns that it is lost; the session and its subscriptions go on.
        self.asks.clear();
        // The message that crashed it may have been news.
        self.voice.tell(&self.filter, &News::Unknown);
    }
}

// === handlers, in the order of messages.rs ===

impl Handler<Tell> for SessionActor {
    type Result = ();
    fn handle(&mut self, Tell(news): Tell, _: &mut Self::Context) {
        self.voice.tell(&self.filter, &news);
    }
}

impl Handler<Subscribe> for SessionActor {
    type Result = Result<(), Fault>;
    fn handle(&mut self, Subscribe { watching, most }: Subscribe, _: &mut Self::Context) -> Self::Result {
        if self.filter.uris.contains(watching.uri()) {
            return Ok(());
        }
        if self.filter.uris.len() >= most {
            return Err(Fault::invalid_params(
                format!("one session may watch {most} resources"),
                "unsubscribe from some, or have the operator raise mcp.subscriptions_max",
            ));
        }
        self.filter.uris.push(Arc::clone(watching.uri()));
        self.voice.note_watch(watching.uri(), true);
        self.watched.push(watching);
        self.entry.watch(&self.filter);
        Ok(())
    }
}

impl Handler<Unsubscribe> for SessionActor {
    type Result = Result<(), Infallible>;
    fn handle(&mut self, Unsubscribe(uri): Unsubscribe, _: &mut Self::Context) -> Self::Result {
        self.filter.uris.retain(|known| *known != uri);
        self.voice.note_watch(&uri, false);
        self.watched.retain(|watching| *watching.uri() != uri);
        self.entry.watch(&self.filter);
        Ok(())
    }
}

impl Handler<Ask> for SessionActor {
    type Result = Result<Asking, Fault>;
    fn handle(&mut self, ask: Ask, _: &mut Self::Context) -> Self::Result {
        let Voice::Session(session) = &self.voice else {
            return Err(Fault::internal("a listen stream was asked to ask its client"));
        };
        self.asks.retain(|_, waiting| !waiting.is_closed());
        if self.asks.len() >= ASKS_MAX {
            let why = format!("the client has {ASKS_MAX} questions to answer");
            return Err(Fault::new(ErrorCode::Unavailable, why, "answer some of them"));
        }
        let id = session.next_ask();
        let (sender, answer) = oneshot::channel();
        self.asks.insert(id, sender);
        self.voice.ask(ask.lane, id, ask.method, &ask.params);
        Ok(Asking { id, answer })
    }
}

impl Handler<Answered> for SessionActor {
    type Result = ();
    fn handle(&mut self, answered: Answered, _: &mut Self::Context) {
        // Late and doubled answers find nobody who waits.
        if let Some(waiting) = self.asks.remove(&answered.id) {
            drop(waiting.send(answered.answer));
        }
    }
}

impl Handler<Forget> for SessionActor {
    type Result = ();
    fn handle(&mut self, Forget(id): Forget, _: &mut Self::Context) {
        self.asks.remove(&id);
    }
}

impl Handler<Probe> for SessionActor {
    type Result = ();
    fn handle(&mut self, _: Probe, _: &mut Self::Context) {
        if let Voice::Session(session) = &self.voice {
            session.outbox.tell(crate::protocol::legacy::request(
                session.next_ask(),
                "ping",
                &Raw::trusted("{}"),
            ));
        }
    }
}

impl Handler<End> for SessionActor {
    type Result = ();
    fn handle(&mut self, _: End, ctx: &mut Self::Context) {
        self.voice.end();
        if let Voice::Session(_) = self.voice {
            // No answer can arrive any more.
            ctx.stop();
        }
    }
}

impl Handler<Close> for SessionActor {
    type Result = ();
    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<Ping> for SessionActor {
    type Result = ();
    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl Handler<Crash> for SessionActor {
    type Result = ();
    fn handle(&mut self, crash: Crash, _: &mut Self::Context) {
        crash.now();
    }
}
