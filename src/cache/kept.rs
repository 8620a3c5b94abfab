//! One answer that is kept, and for how long it holds. Must not know where it lies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::protocol::render::Finished;

/// What an answer costs beside its bytes: its key, its place, what is noted of it.
const OVERHEAD_BYTES: usize = 256;

/// An answer that is kept.
#[derive(Debug)]
pub struct Kept {
    /// As it was sent when it was new.
    pub(super) result: Finished,
    /// Whose it is.
    pub(super) plugin: Arc<str>,
    /// Of which resource, if it is one's contents.
    pub(super) uri: Option<Arc<str>>,
    /// When it was given.
    pub(super) born: Instant,
    /// How long it is given again.
    pub(super) lasts: Duration,
    /// How long it holds by its own word, which is told to clients.
    pub(super) says: Option<Duration>,
}

impl Kept {
    /// Whether it may be given again.
    pub(super) fn is_fresh(&self) -> bool {
        self.born.elapsed() < self.lasts
    }

    /// As it is sent now: of the time that it holds by its own word, what is left.
    pub fn now(&self) -> Finished {
        let Some(says) = self.says else { return self.result.clone() };
        let left = says.saturating_sub(self.born.elapsed());
        let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        // It was read as an object when it was new.
        self.result.holding(left_ms).unwrap_or_else(|_| self.result.clone())
    }

    /// What it weighs.
    pub(super) fn bytes(&self) -> usize {
        OVERHEAD_BYTES + self.result.bytes().len() + self.uri.as_ref().map_or(0, |uri| uri.len())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::Raw;
    use crate::protocol::render::{self, ServerInfo};

    fn kept(text: &'static str, age: Duration, says: Option<Duration>) -> Kept {
        let raw = Raw::parse(Bytes::from_static(text.as_bytes())).unwrap();
        Kept {
            result: render::complete(&raw, &ServerInfo::new("w", "1")).unwrap(),
            plugin: "p".into(),
            uri: None,
            born: Instant::now().checked_sub(age).unwrap(),
            lasts: Duration::from_secs(60),
            says,
        }
    }

    #[test]
    fn what_says_how_long_it_holds_says_what_is_left_of_it() {
        let old = kept(
            r#"{"contents":[{}],"ttlMs":60000,"cacheScope":"private"}"#,
            Duration::from_secs(20),
            Some(Duration::from_secs(60)),
        );
        let now: serde_json::Value = serde_json::from_slice(old.now().bytes()).unwrap();
        let left = now["ttlMs"].as_u64().unwrap();
        assert!((30_000..=40_000).contains(&left), "{now}");
        assert_eq!((&now["cacheScope"], &now["resultType"]), (&"private".into(), &"complete".into()));
        let silent = kept(r#"{"content":[]}"#, Duration::from_secs(20), None);
        assert_eq!(silent.now().bytes(), silent.result.bytes());
        assert!(silent.is_fresh() && !kept("{}", Duration::from_secs(61), None).is_fresh());
    }
}
