//! `Raw`: JSON that was checked once and is then kept as the bytes it came in.
//!
//! Checked means: well-formed UTF-8 JSON, no object with the same key twice (else we would validate one value and a
//! plugin would read the other), nested no deeper than `DEPTH_MAX`. Must not know what the JSON says.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::scan::{Level, scan};

/// A checked JSON value, shared and cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw(ByteString);

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
        Self::scan(bytes, &mut |_, _, _| {})
    }

    /// Checks a whole document, telling `found` where the members of a message stand.
    ///
    /// # Errors
    /// As [`Raw::parse`].
    pub(super) fn scan(
        bytes: Bytes,
        found: &mut impl FnMut(Level, &str, Range<usize>),
    ) -> Result<Self, RawError> {
        let text =
            ByteString::try_from(bytes).map_err(|error| RawError(format!("it is not UTF-8: {error}")))?;
        scan(&text, found).map_err(RawError)?;
        Ok(Self(text))
    }

    /// The value that stands there, as [`Raw::scan`] found it.
    pub(super) fn at(&self, place: Range<usize>) -> Self {
        self.share(self.json_at(place))
    }

    /// A part of this document as a value of its own, which shares its bytes.
    pub(super) fn share(&self, json: &str) -> Self {
        Self(self.0.slice_ref(json))
    }

    /// The JSON that stands there: for a look at it, which costs nothing.
    pub(super) fn json_at(&self, place: Range<usize>) -> &str {
        self.0.get(place).unwrap_or_default()
    }

    /// The bytes of a value that we make ourselves.
    ///
    /// # Errors
    /// What `Serialize` refuses, such as a map with keys that are not strings.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, RawError> {
        let text = serde_json::to_string(value).map_err(|error| RawError(error.to_string()))?;
        Ok(Self(text.into()))
    }

    /// A `Value`, which always has bytes.
    pub fn value(value: &serde_json::Value) -> Self {
        Self(value.to_string().into())
    }

    /// JSON written in this program's source or by this program's renderers, trusted unchecked.
    pub(crate) fn trusted(text: impl Into<ByteString>) -> Self {
        Self(text.into())
    }

    /// `{}`, which costs nothing.
    pub(crate) fn empty_object() -> Self {
        Self(ByteString::from_static("{}"))
    }

    /// The same JSON in bytes of its own, for whoever outlives the body it came in.
    pub fn detached(&self) -> Self {
        Self(self.as_str().into())
    }

    /// The part of this document that serde_json borrowed from it.
    pub fn part(&self, part: &RawValue) -> Self {
        let within = self.0.as_bytes().as_ptr_range();
        if within.contains(&part.get().as_ptr()) {
            Self(self.0.slice_ref(part.get()))
        } else {
            Self(part.get().into())
        }
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The JSON text as shared bytes.
    pub fn bytes(&self) -> &Bytes {
        self.0.as_bytes()
    }

    /// Reads it as a `T`, borrowing where `T` borrows.
    ///
    /// # Errors
    /// When the JSON has another shape than `T`; the text names the place.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, RawError> {
        read(&self.0)
    }

    /// The text of a string, borrowed unless something in it is escaped; none when it is no string.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        text_of(&self.0)
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }
}

/// Reads JSON that was checked as a `T`.
pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, RawError> {
    serde_json::from_str(json).map_err(|error| RawError(error.to_string()))
}

/// The text of a string, given its JSON, which was checked.
pub(super) fn text_of(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(json).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
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
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Raw::parse(Bytes::from(String::from(Box::<str>::from(raw)))).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::DEPTH_MAX;
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
    fn the_text_of_a_string_is_what_serde_json_reads() {
        for string in [r#""""#, r#""plain""#, r#""a\"b""#, r#""\u0061ä\\""#, r#"" { ""#] {
            let raw = parse(string).unwrap();
            assert_eq!(
                raw.text().as_deref(),
                serde_json::from_str::<String>(string).ok().as_deref(),
                "{string}"
            );
        }
        for other in ["1", "null", r#"["a"]"#, r#"{"a":"b"}"#] {
            assert_eq!(parse(other).unwrap().text(), None, "{other}");
        }
        assert!(matches!(parse(r#""plain""#).unwrap().text(), Some(Cow::Borrowed("plain"))));
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
