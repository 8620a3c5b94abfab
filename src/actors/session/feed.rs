//! What a listen stream has yet to tell its client: bounded by what it watches, since news of one kind are one news.
//!
//! The actor puts in, the response body takes out. Must not know JSON or sockets.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{Filter, News};

/// The next thing to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A change.
    News(News),
    /// Nothing; keep the connection open.
    KeepAlive,
    /// The result, and then nothing more.
    End,
}

#[derive(Default)]
struct Pending {
    tools: bool,
    prompts: bool,
    resources: bool,
    updated: BTreeSet<Arc<str>>,
    keep_alive: bool,
    ended: bool,
    finished: bool,
    waker: Option<Waker>,
}

/// What is pending for one stream.
#[derive(Default)]
pub struct Feed(Mutex<Pending>);

impl Feed {
    /// Puts in a change, if `filter` watches it.
    pub fn tell(&self, filter: &Filter, news: &News) {
        if !filter.watches(news) {
            return;
        }
        let mut pending = self.lock();
        match news {
            News::Tools => pending.tools = true,
            News::Prompts => pending.prompts = true,
            News::Resources => pending.resources = true,
            News::Updated(uri) => drop(pending.updated.insert(Arc::clone(uri))),
            News::Unknown => {
                pending.tools |= filter.tools;
                pending.prompts |= filter.prompts;
                pending.resources |= filter.resources;
                pending.updated.extend(filter.uris.iter().cloned());
            }
        }
        wake(pending);
    }

    /// Asks for a sign of life on the wire.
    pub fn keep_alive(&self) {
        let mut pending = self.lock();
        pending.keep_alive = true;
        wake(pending);
    }

    /// Asks for the end, after what is pending.
    pub fn end(&self) {
        let mut pending = self.lock();
        pending.ended = true;
        wake(pending);
    }

    /// Takes out the next event; none after the end.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Event>> {
        let mut pending = self.lock();
        if pending.finished {
            return Poll::Ready(None);
        }
        let keep_alive = std::mem::take(&mut pending.keep_alive);
        if let Some(news) = pending.take_news() {
            return Poll::Ready(Some(Event::News(news)));
        }
        if pending.ended {
            pending.finished = true;
            return Poll::Ready(Some(Event::End));
        }
        if keep_alive {
            return Poll::Ready(Some(Event::KeepAlive));
        }
        pending.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn take_news(&mut self) -> Option<News> {
        if std::mem::take(&mut self.tools) {
            return Some(News::Tools);
        }
        if std::mem::take(&mut self.prompts) {
            return Some(News::Prompts);
        }
        if std::mem::take(&mut self.resources) {
            return Some(News::Resources);
        }
        self.updated.pop_first().map(News::Updated)
    }
}

/// Wakes the body, after the lock is given back.
fn wake(mut pending: MutexGuard<'_, Pending>) {
    let waker = pending.waker.take();
    drop(pending);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(feed: &Feed) -> Vec<Event> {
        let cx = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| match feed.poll_next(&cx) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        })
        .collect()
    }

    #[test]
    fn the_same_news_twice_is_told_once_and_what_is_not_watched_never() {
        let filter = Filter { tools: true, uris: vec!["a:1".into()], ..Filter::default() };
        let feed = Feed::default();
        for news in [
            News::Tools,
            News::Prompts,
            News::Tools,
            News::Updated("a:1".into()),
            News::Updated("a:2".into()),
        ] {
            feed.tell(&filter, &news);
        }
        assert_eq!(drain(&feed), [Event::News(News::Tools), Event::News(News::Updated("a:1".into()))]);
        feed.tell(&filter, &News::Unknown);
        assert_eq!(drain(&feed).len(), 2);
    }

    #[test]
    fn the_end_comes_after_the_news_and_once() {
        let feed = Feed::default();
        feed.end();
        feed.tell(&Filter { tools: true, ..Filter::default() }, &News::Tools);
        assert_eq!(drain(&feed), [Event::News(News::Tools), Event::End]);
        assert!(drain(&feed).is_empty());
    }
}
