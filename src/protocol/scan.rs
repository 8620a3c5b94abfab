//! One pass over a body: is it JSON, without doubled keys, not too deep; and where the members of a message stand.
//!
//! serde_json can do each of these, but not in one pass: this one replaces four on every request, and a property test
//! holds it to accept and refuse what serde_json does. It must not know what members mean.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use smallvec::SmallVec;

/// How deep objects and arrays may nest. It is serde_json's own limit, so that what is accepted here is accepted by
/// every later parse.
pub const DEPTH_MAX: usize = 127;

/// Objects with more keys than this look for doubles in a hash set.
const KEYS_IN_LINE: usize = 16;

/// Which object of a message a member stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The message itself.
    Message,
    /// Its `params`.
    Params,
    /// `params._meta`.
    Meta,
}

impl Level {
    /// The level of the object under `key`.
    fn below(level: Option<Self>, key: &str) -> Option<Self> {
        match (level, key) {
            (Some(Self::Message), "params") => Some(Self::Params),
            (Some(Self::Params), "_meta") => Some(Self::Meta),
            _ => None,
        }
    }
}

/// Passes over `text`, telling `found` every member of the three levels: its key, and where its value stands.
///
/// # Errors
/// What is wrong, and at which byte.
pub fn scan<'a>(text: &'a str, found: &mut impl FnMut(Level, &str, Range<usize>)) -> Result<(), String> {
    let mut scanner = Scanner { text, bytes: text.as_bytes(), at: 0 };
    let mut open: SmallVec<[Frame<'a>; 8]> = SmallVec::new();
    let mut keys: SmallVec<[Cow<'a, str>; 32]> = SmallVec::new();
    loop {
        scanner.skip_blanks();
        match scanner.peek() {
            Some(b'{') => {
                let level = match open.last() {
                    None => Some(Level::Message),
                    Some(frame) => Level::below(frame.level, keys.last().map_or("", Cow::as_ref)),
                };
                scanner.enter(
                    &mut open,
                    Frame { object: true, level, begin: 0, keys: keys.len(), many: None },
                )?;
                if !scanner.closes(b'}') {
                    scanner.key(&mut open, &mut keys)?;
                    continue;
                }
                leave(&mut open, &mut keys);
            }
            Some(b'[') => {
                scanner.enter(
                    &mut open,
                    Frame { object: false, level: None, begin: 0, keys: keys.len(), many: None },
                )?;
                if !scanner.closes(b']') {
                    continue;
                }
                leave(&mut open, &mut keys);
            }
            _ => scanner.scalar()?,
        }
        if scanner.after_value(&mut open, &mut keys, found)? {
            return Ok(());
        }
    }
}

/// An object or array that is not closed yet.
struct Frame<'a> {
    object: bool,
    level: Option<Level>,
    /// Where the value under the last key begins.
    begin: usize,
    /// How many keys stood on the common list when it was opened.
    keys: usize,
    /// Its keys, once they are many.
    #[expect(clippy::box_collection, reason = "seldom there, and it would double what each object takes")]
    many: Option<Box<HashSet<Cow<'a, str>>>>,
}

fn leave(open: &mut SmallVec<[Frame<'_>; 8]>, keys: &mut SmallVec<[Cow<'_, str>; 32]>) {
    if let Some(frame) = open.pop() {
        keys.truncate(frame.keys);
    }
}

/// How many bytes a string holds as they are, before its end, an escape or a control character; none when all of `rest` is
/// so. Most of a body stands in strings: eight bytes are looked at in one.
pub(super) fn plain_bytes(rest: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let (eights, last) = rest.as_chunks::<8>();
    for (number, eight) in eights.iter().enumerate() {
        let word = u64::from_le_bytes(*eight);
        // Takes `least` from each byte; the first byte that is less is known by its highest bit. What it borrows can only
        // spoil those behind it.
        let less = |word: u64, least: u8| word.wrapping_sub(ONES * u64::from(least)) & !word & (ONES << 7);
        let is = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
        let ends = less(word, b' ') | is(b'"') | is(b'\\');
        if ends != 0 {
            return Some(number * 8 + ends.trailing_zeros() as usize / 8);
        }
    }
    let ends = |byte: &u8| matches!(byte, 0..b' ' | b'"' | b'\\');
    last.iter().position(ends).map(|at| eights.len() * 8 + at)
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn wrong<T>(&self, what: &str) -> Result<T, String> {
        match self.peek() {
            Some(_) => Err(format!("{what} at byte {}", self.at)),
            None => Err("it ends too early".to_owned()),
        }
    }

    fn enter(&mut self, open: &mut SmallVec<[Frame<'a>; 8]>, frame: Frame<'a>) -> Result<(), String> {
        if open.len() >= DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        open.push(frame);
        self.at += 1;
        Ok(())
    }

    /// Whether an object or array that was just opened is empty.
    fn closes(&mut self, by: u8) -> bool {
        self.skip_blanks();
        let closed = self.peek() == Some(by);
        self.at += usize::from(closed);
        closed
    }

    /// After a value: closes what ends here and goes on to the next value; true at the end of the text.
    fn after_value(
        &mut self,
        open: &mut SmallVec<[Frame<'a>; 8]>,
        keys: &mut SmallVec<[Cow<'a, str>; 32]>,
        found: &mut impl FnMut(Level, &str, Range<usize>),
    ) -> Result<bool, String> {
        loop {
            let end = self.at;
            self.skip_blanks();
            let Some(frame) = open.last_mut() else {
                return if self.at == self.bytes.len() {
                    Ok(true)
                } else {
                    self.wrong("something stands after the JSON")
                };
            };
            if let (Some(level), Some(key)) = (frame.level, keys.last()) {
                found(level, key, frame.begin..end);
            }
            match (self.peek(), frame.object) {
                (Some(b','), true) => {
                    self.at += 1;
                    self.skip_blanks();
                    self.key(open, keys)?;
                    return Ok(false);
                }
                (Some(b','), false) => {
                    self.at += 1;
                    return Ok(false);
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.at += 1;
                    leave(open, keys);
                }
                _ => return self.wrong("a comma or the end of an object or array is missing"),
            }
        }
    }

    /// A key, its colon, and the check that it is not a double.
    fn key(
        &mut self,
        open: &mut SmallVec<[Frame<'a>; 8]>,
        keys: &mut SmallVec<[Cow<'a, str>; 32]>,
    ) -> Result<(), String> {
        if self.peek() != Some(b'"') {
            return self.wrong("a key is missing");
        }
        let begin = self.at;
        let escaped = self.string()?;
        let quoted = self.text.get(begin..self.at).unwrap_or_default();
        let key = if escaped {
            Cow::Owned(serde_json::from_str(quoted).map_err(|error| error.to_string())?)
        } else {
            Cow::Borrowed(quoted.get(1..quoted.len() - 1).unwrap_or_default())
        };
        self.skip_blanks();
        if self.peek() != Some(b':') {
            return self.wrong("a colon is missing");
        }
        self.at += 1;
        self.skip_blanks();
        let Some(frame) = open.last_mut() else { return Ok(()) };
        frame.begin = self.at;
        if frame.is_double(&key, keys) {
            return Err(format!("the key {key:?} stands twice in one object"));
        }
        keys.push(key);
        Ok(())
    }

    fn scalar(&mut self) -> Result<(), String> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.wrong("a value is missing"),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            return self.wrong("a value is missing");
        }
        self.at += word.len();
        Ok(())
    }

    /// A string; whether it has escapes.
    fn string(&mut self) -> Result<bool, String> {
        let begin = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(plain) = plain_bytes(rest) else {
                self.at = self.bytes.len();
                return self.wrong("");
            };
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    break;
                }
                // What is escaped is checked below, in the string's own parse.
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                _ => return self.wrong("a control character stands in a string"),
            }
        }
        if escaped {
            let quoted = self.text.get(begin..self.at).unwrap_or_default();
            serde_json::from_str::<Cow<'_, str>>(quoted)
                .map_err(|error| format!("in the string at byte {begin}: {error}"))?;
        }
        Ok(escaped)
    }

    fn digits(&mut self) -> Result<(), String> {
        let begin = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == begin { self.wrong("a digit is missing") } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), String> {
        let begin = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let mut simple = true;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            simple = false;
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        // A number that no later parse could hold, such as 1e999, is refused here.
        if !simple || self.at - begin > 300 {
            let number = self.text.get(begin..self.at).unwrap_or_default();
            serde_json::from_str::<f64>(number)
                .map_err(|error| format!("the number at byte {begin}: {error}"))?;
        }
        Ok(())
    }
}

impl<'a> Frame<'a> {
    /// Whether the object has `key` already; `keys` are those of all open objects, its own last.
    fn is_double(&mut self, key: &str, keys: &[Cow<'a, str>]) -> bool {
        let own = keys.get(self.keys..).unwrap_or_default();
        if own.len() < KEYS_IN_LINE {
            return own.iter().any(|other| other == key);
        }
        let many = self.many.get_or_insert_with(|| Box::new(own.iter().cloned().collect()));
        !many.insert(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Vec<(Level, String, &str)> {
        let mut members = Vec::new();
        scan(text, &mut |level, key, at| members.push((level, key.to_owned(), &text[at]))).unwrap();
        members
    }

    #[test]
    fn the_members_of_the_three_levels_are_found_where_they_stand() {
        let text = r#" {"id" : 7 , "params":{"a":[{"params":{}}],"_m\u0065ta":{ "t" : "x" },"z":{}}, "e":{"_meta":{}}} "#;
        let found = members(text);
        let at = |level, key: &str| {
            found.iter().find(|(l, k, _)| (*l, k.as_str()) == (level, key)).map(|(_, _, v)| *v)
        };
        assert_eq!(at(Level::Message, "id"), Some("7"));
        assert_eq!(at(Level::Params, "a"), Some(r#"[{"params":{}}]"#));
        assert_eq!(at(Level::Meta, "t"), Some(r#""x""#));
        assert_eq!(at(Level::Params, "z"), Some("{}"));
        assert_eq!(found.iter().filter(|(level, ..)| *level == Level::Meta).count(), 1);
        assert_eq!(found.len(), 7);
    }

    #[test]
    fn a_byte_that_ends_a_plain_stretch_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                let mut text = [b'x'; 20];
                text[at] = byte;
                let ends = byte < b' ' || byte == b'"' || byte == b'\\';
                assert_eq!(plain_bytes(&text), ends.then_some(at), "{byte} at {at}");
                // Another one behind it must not be seen first.
                text[19] = b'"';
                assert_eq!(plain_bytes(&text), Some(if ends { at } else { 19 }), "{byte} at {at}");
            }
        }
    }

    #[test]
    fn it_accepts_and_refuses_what_serde_json_does() {
        let plain = [
            "",
            " ",
            "{",
            "}",
            "[",
            "[]",
            "[1,]",
            "[,1]",
            "{}",
            "{} {}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "nul",
            "null",
            "true1",
            "0",
            "-0",
            "01",
            "-",
            "1.",
            ".5",
            "1.5e",
            "1e5",
            "1E+5",
            "1e999",
            "-1e-999",
            "+1",
            "0x1",
            "\"",
            "\"a",
            "\"\\\"",
            "\"\\u12\"",
            "\"\\u0041\"",
            "\"\\ud800\"",
            "\"\\ud83d\\ude00\"",
            "\"\\x\"",
            "\"\u{1}\"",
            "\"\u{7f}\"",
            "[1 2]",
            "[1}",
            "{1:2}",
            "\u{feff}{}",
            "12345678901234567890123",
            "[[],[[]],{}]",
            "{\"a\":{\"b\":[]}}",
            "\u{a0}1",
        ];
        for text in plain {
            let ours = scan(text, &mut |_, _, _| {}).is_ok();
            assert_eq!(ours, serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text:?}");
        }
    }
}
