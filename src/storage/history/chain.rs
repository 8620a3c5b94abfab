//! The chain of an instance's rows: what is hashed of each, and where a chain stands. Must not know when rows are written, nor
//! any table.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::{Entry, NewEntry};

/// How a row is made into bytes; hashed with each, so that another form can follow.
const VERSION: u8 = 1;

/// Of a row, over what stands in it and over the hash before it.
pub type Hash = [u8; 32];

/// Where a chain stands: its last row, or nothing yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// Of the last row; 0 before the first.
    pub seq: i64,
    /// Of the last row; zeros before the first.
    pub hash: Hash,
}

/// A row with its hash, as it is written.
#[derive(Debug, Clone)]
pub(in crate::storage) struct Linked<'a> {
    pub(in crate::storage) entry: NewEntry<'a>,
    pub(in crate::storage) hash: Hash,
}

impl<'a> std::ops::Deref for Linked<'a> {
    type Target = NewEntry<'a>;

    fn deref(&self) -> &NewEntry<'a> {
        &self.entry
    }
}

/// Makes one link after the other.
#[derive(Debug, Default)]
pub(in crate::storage) struct Chain {
    pub(in crate::storage) head: Head,
    /// Kept from row to row for its room.
    bytes: Vec<u8>,
}

impl Chain {
    /// Goes on from there.
    pub(in crate::storage) fn from(head: Head) -> Self {
        Self { head, bytes: Vec::new() }
    }

    pub(in crate::storage) fn link<'a>(&mut self, entry: NewEntry<'a>) -> Linked<'a> {
        // What is hashed is what will stand there.
        let entry = entry.without_nul();
        let hash = self.hash_of(&Content::of_new(&entry));
        self.head = Head { seq: entry.seq, hash };
        Linked { entry, hash }
    }

    /// The hash that a row must have if it comes next.
    pub(in crate::storage) fn hash_after(&mut self, entry: &Entry) -> Hash {
        self.hash_of(&Content::of_written(entry))
    }

    fn hash_of(&mut self, content: &Content<'_>) -> Hash {
        self.bytes.clear();
        self.bytes.push(VERSION);
        self.bytes.extend_from_slice(&self.head.hash);
        content.put(&mut self.bytes);
        Sha256::digest(&self.bytes).into()
    }
}

const TEXTS: usize = 18;
const NUMBERS: usize = 9;

/// What stands in a row but for its `id`, which the database gives: texts and numbers, each in the order of the columns.
struct Content<'r> {
    texts: [Option<&'r str>; TEXTS],
    numbers: [Option<i64>; NUMBERS],
}

impl<'r> Content<'r> {
    fn of_new(row: &'r NewEntry<'_>) -> Self {
        let behind = row.behind.as_ref();
        let number = |number: fn(&super::Behind<'_>) -> Option<i64>| behind.and_then(number);
        Self {
            texts: [
                Some(row.instance_id),
                Some(row.call_id),
                Some(row.kind),
                row.method.as_deref(),
                row.plugin.as_deref(),
                row.tool.as_deref(),
                row.caller.as_deref(),
                row.client.as_deref(),
                row.session.as_deref(),
                row.protocol_version.as_deref(),
                row.status,
                row.error_code.as_deref(),
                row.arguments.as_deref(),
                row.request_id.as_deref(),
                row.trace_id.as_deref(),
                row.detail.as_deref(),
                behind.and_then(|behind| behind.instance.as_deref()),
                behind.and_then(|behind| behind.bridged),
            ],
            numbers: [
                Some(row.seq),
                Some(i64::from(row.round)),
                Some(row.created_at.0.and_utc().timestamp_micros()),
                row.duration_us,
                row.result_bytes,
                number(|behind| behind.queue_us),
                number(|behind| behind.upstream_us),
                number(|behind| behind.bytes_out),
                number(|behind| behind.bytes_in),
            ],
        }
    }

    fn of_written(row: &'r Entry) -> Self {
        Self {
            texts: [
                Some(&row.instance_id),
                Some(&row.call_id),
                Some(&row.kind),
                row.method.as_deref(),
                row.plugin.as_deref(),
                row.tool.as_deref(),
                row.caller.as_deref(),
                row.client.as_deref(),
                row.session.as_deref(),
                row.protocol_version.as_deref(),
                row.status.as_deref(),
                row.error_code.as_deref(),
                row.arguments.as_deref(),
                row.request_id.as_deref(),
                row.trace_id.as_deref(),
                row.detail.as_deref(),
                row.plugin_instance.as_deref(),
                row.bridged.as_deref(),
            ],
            numbers: [
                Some(row.seq),
                Some(i64::from(row.round)),
                Some(row.created_at.and_utc().timestamp_micros()),
                row.duration_us,
                row.result_bytes,
                row.queue_us,
                row.upstream_us,
                row.bytes_out,
                row.bytes_in,
            ],
        }
    }

    /// First, as 4 bytes, which of them are there (the first text is the lowest bit); then these: of each text its length as
    /// 4 bytes and itself, each number as 8 bytes. The highest byte is the first one everywhere.
    fn put(&self, bytes: &mut Vec<u8>) {
        let texts = self.texts.iter().map(Option::is_some);
        let there = texts.chain(self.numbers.iter().map(Option::is_some));
        let map = there.enumerate().fold(0_u32, |map, (at, is_there)| map | u32::from(is_there) << at);
        bytes.extend_from_slice(&map.to_be_bytes());
        for text in self.texts.iter().flatten() {
            bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        for number in self.numbers.iter().flatten() {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// Bytes as people and logs read them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::super::stamp::Stamp;
    use super::super::Behind;
    use super::*;

    fn row() -> NewEntry<'static> {
        let at = chrono::DateTime::from_timestamp_micros(1_795_348_800_123_456).unwrap().naive_utc();
        NewEntry {
            instance_id: "0123456789abcdef0123",
            seq: 1,
            call_id: "call",
            round: 0,
            kind: "outcome",
            created_at: Stamp(at),
            method: Some("tools/call".into()),
            plugin: None,
            tool: Some("echo".into()),
            caller: None,
            client: Some("tests/1".into()),
            session: None,
            protocol_version: None,
            status: Some("success"),
            error_code: None,
            duration_us: Some(1_000),
            arguments: Some(Cow::Borrowed("{}")),
            result_bytes: None,
            request_id: None,
            trace_id: None,
            detail: None,
            behind: None,
        }
    }

    fn hash(row: NewEntry<'_>) -> String {
        hex(&Chain::default().link(row).hash)
    }

    #[test]
    fn the_form_that_is_hashed_stays_as_it_is() {
        // What is in databases was hashed like this: another form needs another VERSION.
        let mut bytes = Vec::new();
        Content::of_new(&row()).put(&mut bytes);
        #[rustfmt::skip]
        let expected = concat!(
            "003c14af",
            "00000014", "3031323334353637383961626364656630313233",
            "00000004", "63616c6c",
            "00000007", "6f7574636f6d65",
            "0000000a", "746f6f6c732f63616c6c",
            "00000004", "6563686f",
            "00000007", "74657374732f31",
            "00000007", "73756363657373",
            "00000002", "7b7d",
            "0000000000000001", "0000000000000000", "000660dc377ab240", "00000000000003e8",
        );
        assert_eq!(hex(&bytes), expected);
        assert_eq!(hash(row()), "25a8ff469b43b476cca1cf7de8a5abafd8de924d65e63bf8e9944477991d098f");
    }

    #[test]
    fn every_part_of_a_row_and_what_was_before_it_is_in_its_hash() {
        let text = || Some(Cow::Borrowed("x"));
        let behind = |behind| NewEntry { behind: Some(behind), ..row() };
        let mut all = vec![
            row(),
            NewEntry { instance_id: "x", ..row() },
            NewEntry { seq: 2, ..row() },
            NewEntry { call_id: "x", ..row() },
            NewEntry { round: 1, ..row() },
            NewEntry { kind: "intent", ..row() },
            NewEntry { created_at: Stamp(chrono::NaiveDateTime::default()), ..row() },
            NewEntry { method: text(), ..row() },
            NewEntry { plugin: text(), ..row() },
            NewEntry { tool: text(), ..row() },
            NewEntry { caller: text(), ..row() },
            NewEntry { client: text(), ..row() },
            NewEntry { session: text(), ..row() },
            NewEntry { protocol_version: text(), ..row() },
            NewEntry { status: None, ..row() },
            NewEntry { error_code: text(), ..row() },
            NewEntry { duration_us: None, ..row() },
            NewEntry { arguments: None, ..row() },
            NewEntry { result_bytes: Some(1), ..row() },
            NewEntry { request_id: text(), ..row() },
            NewEntry { trace_id: text(), ..row() },
            NewEntry { detail: text(), ..row() },
            behind(Behind { instance: text(), ..Behind::default() }),
            behind(Behind { queue_us: Some(1), ..Behind::default() }),
            behind(Behind { upstream_us: Some(1), ..Behind::default() }),
            behind(Behind { bytes_out: Some(1), ..Behind::default() }),
            behind(Behind { bytes_in: Some(1), ..Behind::default() }),
            behind(Behind { bridged: Some("x"), ..Behind::default() }),
        ];
        let count = all.len();
        let mut hashes: Vec<String> = all.drain(..).map(hash).collect();
        let mut chain = Chain::from(Head { seq: 0, hash: [1; 32] });
        hashes.push(hex(&chain.link(row()).hash));
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), count + 1);
        // Nothing behind the plugin is the same as nothing to say of it: both are stored as nothing.
        assert_eq!(hash(behind(Behind::default())), hash(row()));
    }
}
