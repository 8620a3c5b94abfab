//! What is said to Redis: names of keys, marks, and answers as bytes. Must not know connections.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::debts::Debt;
use crate::cache::kept::Kept;
use crate::cache::key::Key;
use crate::protocol::Raw;
use crate::protocol::render::Finished;

/// How answers are written: another number, and nobody reads them as these.
const VERSION: &str = "1";

/// Under which names things lie.
pub struct Names {
    /// With the version and what tells these servers from others that use the same Redis.
    stem: String,
}

impl Names {
    /// Names that begin with `prefix`; those of another `salt` are others.
    pub fn new(prefix: &str, salt: &[u8]) -> Self {
        let own: String = Key::of(&[b"names", salt]).text().chars().take(16).collect();
        Self { stem: format!("{prefix}:cache:{VERSION}:{own}") }
    }

    /// Of an answer.
    pub fn answer(&self, key: &Key) -> String {
        format!("{}:a:{}", self.stem, key.text())
    }

    /// Of the marks that an answer is kept under, in their order.
    pub fn marks(&self, plugin: &Arc<str>, uri: Option<&Arc<str>>) -> Vec<String> {
        let resource = uri.map(|uri| Debt::Resource(Arc::clone(plugin), Arc::clone(uri)));
        let marks = [Some(Debt::All), Some(Debt::Plugin(Arc::clone(plugin))), resource];
        marks.into_iter().flatten().map(|debt| self.mark(&debt)).collect()
    }

    /// Of the mark of what becomes stale together.
    pub fn mark(&self, debt: &Debt) -> String {
        let key = match debt {
            Debt::All => Key::of(&[]),
            Debt::Plugin(plugin) => Key::of(&[plugin.as_bytes()]),
            Debt::Resource(plugin, uri) => Key::of(&[plugin.as_bytes(), uri.as_bytes()]),
        };
        format!("{}:m:{}", self.stem, key.text())
    }
}

/// A mark unlike any other.
pub fn new_mark() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// The marks that there are, in their order; none where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks(Vec<Option<String>>);

impl Marks {
    /// As Redis gave them.
    pub fn read(marks: Vec<Option<Vec<u8>>>) -> Self {
        let text = |mark: Option<Vec<u8>>| mark.and_then(|bytes| String::from_utf8(bytes).ok());
        Self(marks.into_iter().map(text).collect())
    }

    /// Makes those that are not there; gives, in their order, those that were made.
    pub fn complete(&mut self) -> Vec<Option<String>> {
        let make = |mark: &mut Option<String>| match mark {
            Some(_) => None,
            None => mark.insert(new_mark()).clone().into(),
        };
        self.0.iter_mut().map(make).collect()
    }
}

/// What stands before an answer, on a line of its own.
#[derive(Serialize, Deserialize)]
struct Head {
    /// In milliseconds since 1970.
    born: u64,
    lasts: u64,
    says: Option<u64>,
    /// Where its own members begin.
    plain: usize,
    marks: Vec<Option<String>>,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, ms)
}

/// An answer as bytes.
pub fn write(kept: &Kept, marks: &Marks) -> Vec<u8> {
    let head = Head {
        born: now_ms().saturating_sub(ms(kept.born.elapsed())),
        lasts: ms(kept.lasts),
        says: kept.says.map(ms),
        plain: kept.result.plain_from(),
        marks: marks.0.clone(),
    };
    let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend_from_slice(kept.result.bytes());
    bytes
}

/// The answer that these bytes are, if it holds under these marks.
pub fn read(bytes: Vec<u8>, marks: &Marks, plugin: &Arc<str>, uri: Option<&Arc<str>>) -> Option<Kept> {
    let bytes = Bytes::from(bytes);
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(bytes.get(..end)?).ok()?;
    // A mark that is gone says nothing of what was stale meanwhile.
    if head.marks != marks.0 || head.marks.iter().any(Option::is_none) {
        return None;
    }
    let json = Raw::parse(bytes.slice(end + 1..)).ok()?;
    // The clocks of two servers may differ: what seems to come from later is new.
    let age = Duration::from_millis(now_ms().saturating_sub(head.born));
    let kept = Kept {
        result: Finished::restored(json, head.plain),
        plugin: Arc::clone(plugin),
        uri: uri.cloned(),
        born: Instant::now().checked_sub(age)?,
        lasts: Duration::from_millis(head.lasts),
        says: head.says.map(Duration::from_millis),
    };
    kept.is_fresh().then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::render::{self, ServerInfo};

    fn kept() -> Kept {
        let raw = Raw::trusted(r#"{"content":[],"x":1}"#);
        Kept {
            result: render::complete(&raw, &ServerInfo::new("w", "1")).unwrap(),
            plugin: "p".into(),
            uri: None,
            born: Instant::now(),
            lasts: Duration::from_secs(60),
            says: Some(Duration::from_secs(5)),
        }
    }

    fn marks() -> Marks {
        let mut marks = Marks(vec![None, Some("m".to_owned())]);
        assert_eq!(marks.complete().iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
        marks
    }

    #[test]
    fn an_answer_is_read_as_it_was_written_under_the_same_marks_alone() {
        let (kept, marks) = (kept(), marks());
        let bytes = write(&kept, &marks);
        let read = |bytes: Vec<u8>, marks: &Marks| super::read(bytes, marks, &"p".into(), None);
        let back = read(bytes.clone(), &marks).unwrap();
        assert_eq!(back.result.bytes(), kept.result.bytes());
        assert_eq!(back.result.plain_inner(), kept.result.plain_inner());
        assert_eq!((back.says, back.lasts), (kept.says, kept.lasts));
        let mut other = marks.clone();
        other.0[0] = Some("another".to_owned());
        assert!(read(bytes.clone(), &other).is_none());
        other.0[0] = None;
        assert!(read(bytes.clone(), &other).is_none(), "a mark that is gone");
        let cut = bytes.len() - 1;
        assert!(read(bytes[..cut].to_vec(), &marks).is_none(), "cut off");
        assert!(read(b"nonsense".to_vec(), &marks).is_none());
        let old = Kept { lasts: Duration::ZERO, ..self::kept() };
        assert!(read(write(&old, &marks), &marks).is_none(), "too old");
    }

    #[test]
    fn names_tell_servers_of_different_keys_apart_and_show_nothing_of_a_question() {
        let (one, other) = (Names::new("w", b"one"), Names::new("w", b"other"));
        let key = Key::of(&[b"secret"]);
        assert_ne!(one.answer(&key), other.answer(&key));
        assert!(one.answer(&key).starts_with("w:cache:1:") && !one.answer(&key).contains("secret"));
        let plugin: Arc<str> = "github".into();
        let marks = one.marks(&plugin, Some(&"a:secret".into()));
        assert_eq!(marks.len(), 3);
        assert!(marks.iter().all(|name| !name.contains("github") && !name.contains("secret")));
        assert_eq!(marks[1], one.mark(&Debt::Plugin(plugin)));
    }
}
