//! How a SessionActor speaks: into the feed of a listen stream, or into the outbox of a session.
//!
//! Must not know sockets.

use std::sync::Arc;

use super::handle::SessionHandle;
use super::outbox::LaneNumber;
use super::{Feed, Filter, News};
use crate::protocol::legacy;
use crate::protocol::{Object, Raw};

/// To whom an actor speaks.
pub(super) enum Voice {
    /// The client of a listen stream; the response body words it.
    Listen(Arc<Feed>),
    /// The client of a session.
    Session(Arc<SessionHandle>),
}

impl Voice {
    /// Tells of a change that `filter` watches.
    pub(super) fn tell(&self, filter: &Filter, news: &News) {
        match self {
            Self::Listen(feed) => feed.tell(filter, news),
            Self::Session(session) => {
                for (method, params) in worded(filter, news) {
                    session.outbox.tell(legacy::notification(method, &params));
                }
            }
        }
    }

    /// Notes that a session's client watches a resource, or does not any more; a listen stream ends with its connection.
    pub(super) fn note_watch(&self, uri: &Arc<str>, watches: bool) {
        if let Self::Session(session) = self {
            session.note_watch(uri, watches);
        }
    }

    /// Gives a sign of life.
    pub(super) fn keep_alive(&self) {
        if let Self::Listen(feed) = self {
            feed.keep_alive();
        }
    }

    /// Says that nothing more comes of its own accord; answers to calls may.
    pub(super) fn end(&self) {
        match self {
            Self::Listen(feed) => feed.end(),
            Self::Session(session) => session.end_standing(),
        }
    }

    /// Asks the client something.
    pub(super) fn ask(&self, lane: LaneNumber, id: u64, method: &str, params: &Raw) {
        if let Self::Session(session) = self {
            session.outbox.put(lane, legacy::request(id, method, params), false);
        }
    }
}

/// The notifications that say `news` to whoever watches what `filter` does.
fn worded(filter: &Filter, news: &News) -> Vec<(&'static str, Object)> {
    let updated = |uri: &Arc<str>| {
        let mut params = Object::default();
        params.put("uri", &**uri);
        ("notifications/resources/updated", params)
    };
    let plain = |method| (method, Object::default());
    match news {
        News::Tools => vec![plain("notifications/tools/list_changed")],
        News::Prompts => vec![plain("notifications/prompts/list_changed")],
        News::Resources => vec![plain("notifications/resources/list_changed")],
        News::Updated(uri) if filter.watches(news) => vec![updated(uri)],
        News::Updated(_) => Vec::new(),
        News::Unknown => {
            let lists = [News::Tools, News::Prompts, News::Resources];
            let lists =
                lists.iter().filter(|list| filter.watches(list)).flat_map(|list| worded(filter, list));
            lists.chain(filter.uris.iter().map(updated)).collect()
        }
    }
}
