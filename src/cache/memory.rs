//! Answers in memory, never more than so many bytes: those that nobody asked for again make room first.
//!
//! Must not know who asks.

use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::kept::Kept;
use super::key::Key;
use crate::telemetry::metrics::METRICS;

/// Parts that are locked for themselves; each has its share of the bytes.
const PARTS: usize = 4;
/// What an answer is expected to weigh: tables are made for so many of them, and grow.
const ANSWER_USUAL_BYTES: usize = 4096;
/// For how many answers tables are made at first, at most.
const ANSWERS_FORESEEN_MAX: usize = 16_384;

/// Answers in memory.
pub struct Memory {
    answers: Cache<Key, Arc<Kept>, Weigh, DefaultHashBuilder, Count>,
    max_bytes: usize,
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Key, Arc<Kept>> for Weigh {
    fn weight(&self, _: &Key, kept: &Arc<Kept>) -> u64 {
        kept.bytes() as u64
    }
}

#[derive(Clone)]
struct Count;

impl Lifecycle<Key, Arc<Kept>> for Count {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Key, _: Arc<Kept>) {
        METRICS.cache_evictions.inc();
    }
}

impl Memory {
    /// Room for so many bytes.
    ///
    /// # Errors
    /// What is wrong with that.
    pub fn new(max_bytes: usize) -> Result<Self, String> {
        let foreseen = (max_bytes / ANSWER_USUAL_BYTES).clamp(PARTS, ANSWERS_FORESEEN_MAX);
        let options = OptionsBuilder::new()
            .shards(PARTS)
            .estimated_items_capacity(foreseen)
            .weight_capacity(max_bytes as u64)
            .build();
        let options = options.map_err(|error| format!("there is no cache of {max_bytes} bytes: {error}"))?;
        let answers = Cache::with_options(options, Weigh, DefaultHashBuilder::default(), Count);
        Ok(Self { answers, max_bytes })
    }

    /// The answer to this question, if it still holds.
    pub fn get(&self, key: &Key) -> Option<Arc<Kept>> {
        let kept = self.answers.get(key)?;
        if kept.is_fresh() {
            return Some(kept);
        }
        self.remove(key);
        None
    }

    /// Keeps an answer, in the place of what was there.
    pub fn put(&self, key: Key, kept: Arc<Kept>) {
        // What is replaced is not evicted, and would be counted so.
        self.remove(&key);
        self.answers.insert(key, kept);
    }

    /// Forgets one answer.
    pub fn remove(&self, key: &Key) {
        let _was_there = self.answers.remove(key);
    }

    /// Forgets all answers of which `is_stale` says so, and how many these were.
    pub fn forget(&self, is_stale: impl Fn(&Kept) -> bool) -> usize {
        let before = self.answers.len();
        self.answers.retain(|_, kept| !is_stale(kept));
        before.saturating_sub(self.answers.len())
    }

    /// How many answers there are, and how many bytes they take.
    pub fn size(&self) -> (usize, u64) {
        (self.answers.len(), self.answers.weight())
    }

    /// How many bytes they may take.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::protocol::Raw;
    use crate::protocol::render::{self, ServerInfo};

    fn kept(plugin: &str, bytes: usize, lasts: Duration) -> Arc<Kept> {
        let raw = Raw::trusted(format!("{{\"content\":[\"{}\"]}}", "x".repeat(bytes)));
        let result = render::complete(&raw, &ServerInfo::new("w", "1")).unwrap();
        Arc::new(Kept { result, plugin: plugin.into(), uri: None, born: Instant::now(), lasts, says: None })
    }

    fn key(number: usize) -> Key {
        Key::of(&[&number.to_be_bytes()])
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn it_never_holds_more_than_its_bytes_and_keeps_the_newest() {
        let memory = Memory::new(64 << 10).unwrap();
        for number in 0..1000 {
            memory.put(key(number), kept("p", 1000, LONG));
            let (answers, bytes) = memory.size();
            assert!(bytes <= 64 << 10 && answers <= 64, "{answers} answers in {bytes} bytes");
        }
        assert!(memory.size().0 > 20, "{:?}", memory.size());
        assert!(memory.get(&key(999)).is_some() || memory.get(&key(998)).is_some());
    }

    #[test]
    fn what_is_old_or_forgotten_is_not_there_and_takes_no_room() {
        let memory = Memory::new(1 << 20).unwrap();
        memory.put(key(1), kept("a", 10, Duration::ZERO));
        memory.put(key(2), kept("a", 10, LONG));
        memory.put(key(3), kept("b", 10, LONG));
        assert!(memory.get(&key(1)).is_none() && memory.get(&key(2)).is_some());
        assert_eq!(memory.size().0, 2, "what is old went when it was looked at");
        assert_eq!(memory.forget(|kept| &*kept.plugin == "a"), 1);
        assert!(memory.get(&key(2)).is_none() && memory.get(&key(3)).is_some());
        memory.put(key(3), kept("b", 20, LONG));
        assert_eq!(memory.forget(|_| true), 1);
        assert_eq!(memory.size(), (0, 0));
    }
}
