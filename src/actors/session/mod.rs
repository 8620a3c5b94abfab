//! SessionActor: one per open listen stream. It keeps the stream's order, its keep-alive and its subscriptions.
//!
//! MCP 2026-07-28, basic/patterns/subscriptions. Must not know JSON, HTTP or other streams.

mod feed;
pub mod messages;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Supervised};

use super::plugin::Watching;
use super::supervision::{Crash, Ping, Terms};
use messages::{Close, End, Tell};

pub use feed::{Event, Feed};
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

/// One listen stream.
pub struct SessionActor {
    /// What it watches.
    filter: Filter,
    /// Shared with the response body.
    feed: Arc<Feed>,
    /// Between two signs of life on the wire.
    keep_alive: Duration,
    /// The watches of its resources, which end with it.
    watched: Vec<Watching>,
    /// Takes the stream off the list of open ones.
    entry: streams::Entry,
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.keep_alive, |session, _| session.feed.keep_alive());
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.watched.clear();
        self.entry.leave();
        // Given up, it has a client that still listens and must learn that nothing more comes.
        self.feed.end();
    }
}

impl Supervised for SessionActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        // The message that crashed it may have been news.
        self.feed.tell(&self.filter, &News::Unknown);
    }
}

// === handlers, in the order of messages.rs ===

impl Handler<Tell> for SessionActor {
    type Result = ();
    fn handle(&mut self, Tell(news): Tell, _: &mut Self::Context) {
        self.feed.tell(&self.filter, &news);
    }
}

impl Handler<End> for SessionActor {
    type Result = ();
    fn handle(&mut self, _: End, _: &mut Self::Context) {
        self.feed.end();
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
