//! Answers that are kept for whoever asks the same again: in memory, or in Redis for several servers.
//!
//! Here stand what is asked of it and what it gives; the submodules know where answers lie, and who waits for one. Must
//! not know plugins, callers or calls: it is told what tells one question from another, and when answers are stale.

mod flight;
mod kept;
mod key;
mod marks;
mod memory;
#[cfg(feature = "redis")]
mod remote;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::plugin::CacheScope;
use crate::config::{self, CacheKind};
use crate::protocol::render::Finished;
use crate::telemetry::metrics::METRICS;
use flight::Flights;
pub use flight::{Boarding, CallOff, Lead, Wait};
pub use kept::Kept;
use key::Key;
use marks::{Marks, Stamp};
use memory::Memory;
#[cfg(feature = "redis")]
use remote::{Debt, Remote};

/// The share of all bytes that one answer may take.
const ANSWER_SHARE: usize = 16;
/// How long a clearing waits for Redis.
#[cfg(feature = "redis")]
const CLEAR_WITHIN: Duration = Duration::from_secs(3);

/// What answers differ by.
pub struct Question<'a> {
    /// Whom it is for.
    pub plugin: &'a Arc<str>,
    /// What that is made of; the same on every server that has the same one.
    pub definition: &'a str,
    /// Which one it is, in this process.
    pub seat: u64,
    /// What is asked of it, as a hash; of a tool with its definition.
    pub request: &'a [&'a str],
    /// Who asks.
    pub principal: &'a str,
    /// Which resource's contents are asked for, if it is that.
    pub uri: Option<&'a str>,
    /// Whom answers are for, where the operator says so.
    pub scope: Option<CacheScope>,
}

/// An answer that may be kept.
pub struct Answer<'a> {
    /// As it is sent.
    pub result: &'a Finished,
    /// How long it may be given again.
    pub lasts: Duration,
    /// How long it holds by its own word.
    pub says: Option<Duration>,
    /// Whether it is for all.
    pub public: bool,
}

/// What was found.
pub enum Looked {
    /// The answer.
    Hit(Arc<Kept>),
    /// None, and under what one may be kept.
    Miss(Miss),
}

/// A question without an answer yet.
pub struct Miss {
    private: Key,
    public: Key,
    /// The one under which it is asked once for all who ask it at the same time.
    first: Key,
    plugin: Arc<str>,
    uri: Option<Arc<str>>,
    stamp: Stamp,
    #[cfg(feature = "redis")]
    remote: Option<remote::Marks>,
}

/// Where answers lie.
enum Store {
    Memory(Memory),
    #[cfg(feature = "redis")]
    Remote(Arc<Remote>),
}

/// Answers that are kept.
pub struct Cache {
    store: Store,
    marks: Marks,
    flights: Arc<Flights>,
    /// The longest that any answer is kept.
    ttl: Duration,
    answer_max_bytes: usize,
    /// What keys of these servers differ by from those of others.
    salt: Vec<u8>,
    hits: AtomicU64,
    misses: AtomicU64,
    joined: AtomicU64,
}

/// What a clearing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleared {
    /// How many answers went, where that is known.
    pub answers: Option<usize>,
    /// Whether it is still to be done, since Redis is away; no answer is given meanwhile.
    pub pending: bool,
}

impl Cache {
    /// The cache of this configuration; none where there is to be none. Servers that share one have the same `salt`.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn open(config: &config::Cache, salt: &[u8]) -> Result<Option<Arc<Self>>, String> {
        let ttl = Duration::from_secs(config.ttl_seconds);
        let store = match config.kind {
            CacheKind::None => return Ok(None),
            CacheKind::Memory => Store::Memory(Memory::new(config.max_bytes)?),
            #[cfg(feature = "redis")]
            CacheKind::Redis => {
                let url = config.redis_url.as_ref();
                Store::Remote(Arc::new(Remote::new(url, &config.redis_prefix, salt, ttl)?))
            }
            #[cfg(not(feature = "redis"))]
            CacheKind::Redis => return Err("this program was built without Redis".to_owned()),
        };
        Ok(Some(Arc::new(Self {
            store,
            marks: Marks::default(),
            flights: Arc::default(),
            ttl,
            answer_max_bytes: config.max_bytes / ANSWER_SHARE,
            salt: salt.to_vec(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            joined: AtomicU64::new(0),
        })))
    }

    /// Looks for an answer.
    #[cfg_attr(
        not(feature = "redis"),
        expect(clippy::unused_async, reason = "Redis is asked, where it is built in")
    )]
    pub async fn look(&self, question: &Question<'_>) -> Looked {
        let (private, public) = (self.key(question, Some(question.principal)), self.key(question, None));
        let keys: &[Key] = match question.scope {
            Some(CacheScope::Public) => &[public],
            Some(CacheScope::Private) => &[private],
            Some(CacheScope::None) | None => &[private, public],
        };
        #[cfg_attr(
            not(feature = "redis"),
            expect(unused_mut, reason = "Redis gives marks, where it is built in")
        )]
        let mut miss = Miss {
            private,
            public,
            first: keys.first().copied().unwrap_or(private),
            plugin: Arc::clone(question.plugin),
            uri: question.uri.map(Arc::from),
            // Before it is looked for: what becomes stale from now on concerns the answer.
            stamp: self.marks.stamp(question.plugin),
            #[cfg(feature = "redis")]
            remote: None,
        };
        let kept = match &self.store {
            Store::Memory(memory) => keys.iter().find_map(|key| memory.get(key)),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => {
                let found = remote.get(keys, &miss.plugin, miss.uri.as_ref()).await;
                miss.remote = found.marks;
                found.kept.map(Arc::new)
            }
        };
        let (count, word) = if kept.is_some() { (&self.hits, "hit") } else { (&self.misses, "miss") };
        count.fetch_add(1, Ordering::Relaxed);
        METRICS.cache_lookups.with_label_values(&[&**question.plugin, word]).inc();
        kept.map_or(Looked::Miss(miss), Looked::Hit)
    }

    /// Joins those who ask the same now, or begins to ask.
    pub fn board(&self, miss: &Miss) -> Boarding {
        self.flights.board(miss.first)
    }

    /// The answer that came between the look and the boarding, if one did.
    pub fn look_again(&self, miss: &Miss) -> Option<Arc<Kept>> {
        match &self.store {
            Store::Memory(memory) => [miss.private, miss.public].iter().find_map(|key| memory.get(key)),
            #[cfg(feature = "redis")]
            Store::Remote(_) => None,
        }
    }

    /// Notes that somebody got the answer of another's call.
    pub fn note_joined(&self, plugin: &str) {
        self.joined.fetch_add(1, Ordering::Relaxed);
        METRICS.cache_lookups.with_label_values(&[plugin, "joined"]).inc();
    }

    /// Keeps an answer, unless it is too large, and gives it for those who wait for it, too. None when nobody else may have
    /// it: it does not last, or was on its way when others of its plugin became stale.
    pub fn keep(&self, miss: &Miss, answer: &Answer<'_>) -> Option<Arc<Kept>> {
        let kept = Arc::new(Kept {
            result: answer.result.clone(),
            plugin: Arc::clone(&miss.plugin),
            uri: miss.uri.clone(),
            born: Instant::now(),
            lasts: answer.lasts.min(self.ttl),
            says: answer.says,
        });
        if kept.lasts.is_zero() || self.is_stale(miss) {
            return None;
        }
        if kept.bytes() > self.answer_max_bytes {
            return Some(kept);
        }
        let key = if answer.public { miss.public } else { miss.private };
        match &self.store {
            Store::Memory(memory) => {
                memory.put(key, Arc::clone(&kept));
                // Whoever made it stale meanwhile may have looked for it before it was there.
                if self.is_stale(miss) {
                    memory.remove(&key);
                    return None;
                }
            }
            #[cfg(feature = "redis")]
            Store::Remote(remote) => {
                if let Some(marks) = miss.remote.clone() {
                    let (remote, kept) = (Arc::clone(remote), Arc::clone(&kept));
                    // Nobody waits for it.
                    tokio::spawn(async move { remote.put(&key, &kept, marks).await });
                }
            }
        }
        Some(kept)
    }

    fn is_stale(&self, miss: &Miss) -> bool {
        self.marks.stamp(&miss.plugin) != miss.stamp
    }

    /// All answers of this plugin are stale.
    pub fn forget_plugin(&self, plugin: &Arc<str>) -> Option<usize> {
        self.marks.move_plugin(plugin);
        match &self.store {
            Store::Memory(memory) => Some(memory.forget(|kept| kept.plugin == *plugin)),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => {
                remote.owe(Debt::Plugin(Arc::clone(plugin)));
                None
            }
        }
    }

    /// The contents of one of its resources are.
    pub fn forget_resource(&self, plugin: &Arc<str>, uri: &str) {
        self.marks.move_plugin(plugin);
        match &self.store {
            Store::Memory(memory) => {
                memory.forget(|kept| kept.plugin == *plugin && kept.uri.as_deref() == Some(uri));
            }
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.owe(Debt::Resource(Arc::clone(plugin), uri.into())),
        }
    }

    /// Forgets the answers of one plugin, or all.
    #[cfg_attr(
        not(feature = "redis"),
        expect(clippy::unused_async, reason = "Redis is waited for, where it is built in")
    )]
    pub async fn clear(&self, plugin: Option<&Arc<str>>) -> Cleared {
        let answers = match plugin {
            Some(plugin) => self.forget_plugin(plugin),
            None => self.forget_all(),
        };
        let pending = match &self.store {
            Store::Memory(_) => false,
            #[cfg(feature = "redis")]
            Store::Remote(remote) => {
                let settled = async {
                    while !remote.is_settled() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                // While it is away there is nothing to wait for.
                remote.trouble().is_some() || tokio::time::timeout(CLEAR_WITHIN, settled).await.is_err()
            }
        };
        Cleared { answers, pending }
    }

    fn forget_all(&self) -> Option<usize> {
        self.marks.move_all();
        match &self.store {
            Store::Memory(memory) => Some(memory.forget(|_| true)),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => {
                remote.owe(Debt::All);
                None
            }
        }
    }

    /// Looks after what needs it, for as long as the server runs.
    #[cfg_attr(
        not(feature = "redis"),
        expect(clippy::unused_async, reason = "Redis is tended, where it is built in")
    )]
    pub async fn tend(self: Arc<Self>) {
        match &self.store {
            Store::Memory(_) => {}
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.tend().await,
        }
    }

    /// Why nothing is kept now, though it should be.
    pub fn trouble(&self) -> Option<String> {
        match &self.store {
            Store::Memory(_) => None,
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.trouble().map(|why| format!("Redis is away: {why}")),
        }
    }

    /// How many answers lie in memory, and how many bytes they take; none where they lie elsewhere.
    pub fn size(&self) -> Option<(usize, u64)> {
        match &self.store {
            Store::Memory(memory) => Some(memory.size()),
            #[cfg(feature = "redis")]
            Store::Remote(_) => None,
        }
    }

    /// What an operator sees of it.
    pub fn report(&self) -> Value {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (kind, max_bytes) = match &self.store {
            Store::Memory(memory) => ("memory", Some(memory.max_bytes())),
            #[cfg(feature = "redis")]
            Store::Remote(_) => ("redis", None),
        };
        let (answers, bytes) = self.size().unzip();
        let trouble = self.trouble();
        json!({
            "type": kind,
            "state": if trouble.is_some() { "degraded" } else { "ok" },
            "why": trouble,
            "ttlSeconds": self.ttl.as_secs(),
            "answers": answers,
            "bytes": bytes,
            "maxBytes": max_bytes,
            "answerMaxBytes": self.answer_max_bytes,
            "hits": count(&self.hits),
            "misses": count(&self.misses),
            "joined": count(&self.joined),
            "evictions": METRICS.cache_evictions.get(),
            "failures": METRICS.cache_failures.get(),
        })
    }

    /// The key of a question, asked by this caller or by any. In memory no other process looks for it, and one plugin's
    /// answers are never those of the one that took its place.
    fn key(&self, question: &Question<'_>, principal: Option<&str>) -> Key {
        let seat = match &self.store {
            Store::Memory(_) => question.seat.to_be_bytes(),
            #[cfg(feature = "redis")]
            Store::Remote(_) => [0; 8],
        };
        let whose: [&[u8]; 2] = match principal {
            Some(principal) => [b"private", principal.as_bytes()],
            None => [b"public", b""],
        };
        let what: [&[u8]; 5] = [
            &self.salt,
            // What is sent names the version.
            env!("CARGO_PKG_VERSION").as_bytes(),
            question.plugin.as_bytes(),
            question.definition.as_bytes(),
            &seat,
        ];
        let request = question.request.iter().map(|part| part.as_bytes());
        let parts: Vec<&[u8]> = what.into_iter().chain(whose).chain(request).collect();
        Key::of(&parts)
    }
}

#[cfg(test)]
mod tests;
