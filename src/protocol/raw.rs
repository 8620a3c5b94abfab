//! `Raw`: JSON that was checked once and is then kept as the bytes it came in.
//!
//! Checked means: well-formed UTF-8 JSON, no object with the same key twice (else we would validate one value and a
//! plugin would read the other), nested no deeper than `DEPTH_MAX`. Must not know what the JSON says.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// How deep objects and arrays may nest. It is serde_json's own limit, so that what is accepted here is accepted by
/// every later parse.
pub const DEPTH_MAX: usize = 127;

/// Objects up to this many keys are searched in line; larger ones get a hash set.
const KEYS_IN_LINE: usize = 16;

/// A checked JSON value, shared and cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw(Bytes);

/// Why bytes are not a `Raw`; the text says where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct RawError(String);

impl RawError {
    /// An error of this text.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Raw {
    /// Checks a whole document.
    ///
    /// # Errors
    /// Malformed or truncated JSON, bytes that are not UTF-8, a doubled key, too deep a nesting, trailing bytes.
    pub fn parse(bytes: Bytes) -> Result<Self, RawError> {
        let mut source = serde_json::Deserializer::from_slice(&bytes);
        let checked = Check { depth: 0 }.deserialize(&mut source).and_then(|()| source.end());
        checked.map_err(|error| RawError(error.to_string()))?;
        Ok(Self(bytes))
    }

    /// The bytes of a value that we make ourselves.
    ///
    /// # Errors
    /// What `Serialize` refuses, such as a map with keys that are not strings.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, RawError> {
        let bytes = serde_json::to_vec(value).map_err(|error| RawError(error.to_string()))?;
        Ok(Self(Bytes::from(bytes)))
    }

    /// A `Value`, which always has bytes.
    pub fn value(value: &serde_json::Value) -> Self {
        Self(Bytes::from(value.to_string()))
    }

    /// JSON written in this program's source or by this program's renderers, trusted unchecked.
    pub(crate) fn trusted(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The part of this document that serde_json borrowed from it.
    pub fn part(&self, part: &RawValue) -> Self {
        let part = part.get().as_bytes();
        let within = self.0.as_ptr_range();
        if within.contains(&part.as_ptr()) {
            Self(self.0.slice_ref(part))
        } else {
            Self(Bytes::copy_from_slice(part))
        }
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        // Checked at construction; the empty text could only show a bug, and parses as nothing.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The JSON text as shared bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Reads it as a `T`, borrowing where `T` borrows.
    ///
    /// # Errors
    /// When the JSON has another shape than `T`; the text names the place.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, RawError> {
        serde_json::from_slice(&self.0).map_err(|error| RawError(error.to_string()))
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        &self.0[..] == b"null"
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.0.first() == Some(&b'{')
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments and results may hold what must not reach a log.
        write!(f, "Raw({} bytes)", self.0.len())
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Raw::parse(Bytes::from(String::from(Box::<str>::from(raw)))).map_err(D::Error::custom)
    }
}

/// Walks a document without keeping anything of it.
#[derive(Clone, Copy)]
struct Check {
    depth: usize,
}

impl Check {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Check {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = Keys::default();
        while let Some(Key(key)) = map.next_key()? {
            if let Some(twice) = seen.add(key) {
                return Err(A::Error::custom(format_args!("the key {twice:?} stands twice in one object")));
            }
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// An object key, borrowed when it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsKey;
        impl<'de> Visitor<'de> for AsKey {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(AsKey)
    }
}

/// The keys of one object met so far.
#[derive(Default)]
struct Keys<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Keys<'de> {
    /// Remembers `key`; gives it back when it was there already.
    fn add(&mut self, key: Cow<'de, str>) -> Option<Cow<'de, str>> {
        if self.many.is_empty() {
            if self.few.contains(&key) {
                return Some(key);
            }
            self.few.push(key);
            if self.few.len() > KEYS_IN_LINE {
                self.many.extend(self.few.drain(..));
            }
            return None;
        }
        if self.many.contains(&key) {
            return Some(key);
        }
        self.many.insert(key);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Raw, RawError> {
        Raw::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_doubled_key_is_refused_at_any_depth_and_however_it_is_escaped() {
        assert!(parse(r#"{"a":1,"b":{"a":1}}"#).is_ok());
        for doubled in [r#"{"a":1,"a":2}"#, r#"[{"x":{"a":1,"a":1}}]"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(parse(doubled).is_err_and(|error| error.0.contains("stands twice")), "{doubled}");
        }
        let many: Vec<String> = (0..40).map(|n| format!("\"k{n}\":0")).collect();
        assert!(parse(&format!("{{{}}}", many.join(","))).is_ok());
        assert!(parse(&format!("{{{},\"k3\":1}}", many.join(","))).is_err());
    }

    #[test]
    fn nesting_has_a_limit_and_a_hostile_depth_does_not_crash() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(DEPTH_MAX)).is_ok());
        assert!(parse(&nested(DEPTH_MAX + 1)).is_err());
        assert!(parse(&nested(10_000)).is_err());
        assert!(parse(&"{\"a\":".repeat(10_000)).is_err());
    }

    #[test]
    fn what_is_not_one_json_document_is_refused() {
        for bad in ["", "{", "[1,]", "{} {}", "nul", "\"\u{1}\"", "01"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(Raw::parse(Bytes::from_static(b"\"\xff\"")).is_err());
    }

    #[test]
    fn a_part_shares_the_bytes_of_the_whole() {
        let whole = parse(r#"{"a": {"b": 12345678901234567890123}}"#).unwrap();
        let fields: std::collections::BTreeMap<&str, &RawValue> = whole.read().unwrap();
        let part = whole.part(fields["a"]);
        assert_eq!(part.as_str(), r#"{"b": 12345678901234567890123}"#);
        assert!(whole.bytes().as_ptr_range().contains(&part.bytes().as_ptr()));
    }
}
