//! Where chains stood, as lines of a log tell, or a server that runs. Must not know where the lines come from, nor what rows say.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::chain::{Hash, Head, hex};

/// Who says it in the log. What plugins and servers behind them say is in it, too, behind other names.
const WRITER: &str = "waygate_mcp::actors::db::writer";
/// What all names of ours begin with; the first in a line is who says it.
const OURS: &str = "waygate_mcp::";
/// Begins what the writer of the history says whenever it makes a checkpoint.
const SAYS: &str = "the history stands at row ";
const WITH: &str = " with the hash ";

/// What the writer says of its chain: the message of a line in the log, with `instance` among its fields.
pub fn say(head: Head) -> String {
    format!("{SAYS}{}{WITH}{}", head.seq, hex(&head.hash))
}

/// Rows and their hashes, by instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Testimony {
    pub(super) by_instance: BTreeMap<String, BTreeSet<(i64, Hash)>>,
}

impl Testimony {
    /// Takes what a line tells, in either format of the log, and behind whatever a collector put in front. Other lines tell nothing.
    pub fn hear(&mut self, line: &str) {
        let told = if line.contains("\"message\"") { of_json(line) } else { of_text(line) };
        if let Some((instance, seq, hash)) = told {
            self.by_instance.entry(instance).or_default().insert((seq, hash));
        }
    }

    /// Takes what a running server says of its own chain; false where that is no hash.
    pub fn take(&mut self, instance_id: &str, seq: i64, digits: &str) -> bool {
        let Some(hash) = read(digits) else { return false };
        self.by_instance.entry(instance_id.to_owned()).or_default().insert((seq, hash))
    }

    /// How many rows it tells of.
    pub fn len(&self) -> usize {
        self.by_instance.values().map(BTreeSet::len).sum()
    }

    /// Whether it tells nothing.
    pub fn is_empty(&self) -> bool {
        self.by_instance.is_empty()
    }
}

fn of_json(line: &str) -> Option<(String, i64, Hash)> {
    #[derive(Deserialize)]
    struct Line {
        target: String,
        message: String,
        fields: Fields,
    }
    #[derive(Deserialize)]
    struct Fields {
        instance: String,
    }
    let line: Line = serde_json::from_str(line.get(line.find('{')?..)?).ok()?;
    let (seq, hash, _) = head_of(&line.message)?;
    (line.target == WRITER).then_some((line.fields.instance, seq, hash))
}

fn of_text(line: &str) -> Option<(String, i64, Hash)> {
    let said = line.get(line.find(OURS)?..)?.strip_prefix(WRITER)?;
    let (seq, hash, rest) = head_of(said.strip_prefix(' ')?)?;
    let instance = rest.split(' ').find_map(|field| field.strip_prefix("instance="))?;
    Some((instance.to_owned(), seq, hash))
}

/// The row and the hash of a message, and what stands behind.
fn head_of(said: &str) -> Option<(i64, Hash, &str)> {
    let (seq, said) = said.strip_prefix(SAYS)?.split_once(WITH)?;
    let (digits, rest) = said.split_at_checked(2 * size_of::<Hash>())?;
    Some((seq.parse().ok()?, read(digits)?, rest))
}

/// A hash as `hex` writes it.
fn read(digits: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    for (byte, at) in hash.iter_mut().zip((0..digits.len()).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    (digits.len() == 2 * size_of::<Hash>()).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_where_a_chain_stood_in_either_format_and_behind_what_a_collector_writes() {
        let head = Head { seq: 31, hash: [0xab; 32] };
        let said = say(head);
        let text = format!("2026-11-29 01:28:28 INFO  {WRITER} {said} instance=01a2 seq=31 hash=ab");
        let fields = r#""fields":{"instance":"01a2","seq":31}"#;
        let json = format!(r#"{{"level":"INFO","target":"{WRITER}","message":"{said}",{fields}}}"#);
        let wanted = BTreeMap::from([("01a2".to_owned(), BTreeSet::from([(31, [0xab; 32])]))]);
        for line in [&text, &json, &format!("Nov 29 host waygate[7]: {text}"), &format!("web-1 | {json}")] {
            let mut testimony = Testimony::default();
            testimony.hear(line);
            assert_eq!(testimony.by_instance, wanted, "{line}");
            assert_eq!(testimony.len(), 1);
        }
    }

    #[test]
    fn a_line_that_tells_nothing_is_passed_by() {
        let said = say(Head { seq: 31, hash: [1; 32] });
        for line in [
            String::new(),
            "{".to_owned(),
            said.clone(),
            format!("{WRITER} {} instance=01", &said[..said.len() - 1]),
            format!("{WRITER} {} instance=01", said.replace("31", "many")),
            format!("{WRITER} {} instance=01", said.replace("0101", "01é1")),
            format!(r#"{{"message":"{said}"}}"#),
            // What a plugin writes to stderr, and what a server behind one answers.
            format!("INFO  waygate_mcp::plugins::upstream a: {WRITER} {said} instance=01"),
            format!("INFO  {WRITER} plugin says: {said} instance=01"),
            format!(r#"{{"target":"waygate_mcp::plugins","message":"{said}","fields":{{"instance":"01"}}}}"#),
            format!(r#"{{"target":"{WRITER}","message":"it says {said}","fields":{{"instance":"01"}}}}"#),
        ] {
            let mut testimony = Testimony::default();
            testimony.hear(&line);
            assert!(testimony.is_empty(), "{line}");
        }
    }
}
