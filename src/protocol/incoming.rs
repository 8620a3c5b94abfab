//! What a server says to its client: answers, notifications, and, before 2026-07-28, requests. Payloads are left raw.
//!
//! The counterpart of `envelope`, for the upstream side. Must not know how it travelled, nor what was asked.

use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::object::Object;
use super::raw::{Raw, RawError, text_of};
use super::scan::Level;

/// The error object of an answer.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct RpcError {
    /// Which error; any number that the other side chose.
    pub code: i64,
    /// In words, the other side's.
    #[serde(default)]
    pub message: String,
    /// What else it says.
    #[serde(default)]
    pub data: Value,
    /// The whole object as it came, where it came from a server; in a box, for errors are carried far and are few.
    #[serde(skip)]
    pub whole: Option<Box<Raw>>,
}

impl RpcError {
    /// One of our own making.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: Value::Null, whole: None }
    }

    /// What else it says, in the bytes that it came in.
    pub fn raw_data(&self) -> Option<Raw> {
        let data = Object::open(self.whole.as_deref()?).ok()?.remove("data")?;
        (!data.is_null()).then_some(data)
    }

    /// How many bytes it came in.
    pub fn size(&self) -> usize {
        self.whole.as_ref().map_or(self.message.len(), |whole| whole.bytes().len())
    }
}

/// One message from a server.
#[derive(Debug, Clone)]
pub enum Incoming {
    /// Answers a request of ours.
    Response {
        /// Of which; none when the server could not read it.
        id: Option<Raw>,
        /// The result object, or the error.
        outcome: Result<Raw, RpcError>,
    },
    /// Tells something.
    Notification {
        /// What.
        method: String,
        /// An object, when there is one.
        params: Option<Raw>,
    },
    /// Asks us something: only servers with sessions may.
    Request {
        /// To be repeated in our answer.
        id: Raw,
        /// What.
        method: String,
        /// An object, when there is one.
        params: Option<Raw>,
    },
}

/// Where the members of a message stand.
#[derive(Default)]
struct Places {
    id: Option<Range<usize>>,
    method: Option<Range<usize>>,
    params: Option<Range<usize>>,
    result: Option<Range<usize>>,
    error: Option<Range<usize>>,
}

impl Incoming {
    /// Reads one message. Like [`Raw::parse`], refuses doubled keys and hostile depth.
    ///
    /// # Errors
    /// What is not JSON, or not a message; the text says which and where.
    pub fn parse(bytes: Bytes) -> Result<Self, RawError> {
        let mut places = Places::default();
        let whole = Raw::scan(bytes, &mut |level, key, place| match (level, key) {
            (Level::Message, "id") => places.id = Some(place),
            (Level::Message, "method") => places.method = Some(place),
            (Level::Message, "params") => places.params = Some(place),
            (Level::Message, "result") => places.result = Some(place),
            (Level::Message, "error") => places.error = Some(place),
            _ => {}
        })?;
        if !whole.as_str().trim_start().starts_with('{') {
            return Err(RawError::new("it is not a JSON object"));
        }
        let at =
            |place: Option<Range<usize>>| place.map(|place| whole.at(place)).filter(|raw| !raw.is_null());
        let id = at(places.id);
        let Some(method) = places.method else {
            if let Some(error) = at(places.error) {
                let mut read: RpcError = error.read()?;
                read.whole = Some(Box::new(error));
                return Ok(Self::Response { id, outcome: Err(read) });
            }
            let result = at(places.result).filter(Raw::is_object);
            let result =
                result.ok_or_else(|| RawError::new("it has no method, no error and no result object"))?;
            return Ok(Self::Response { id, outcome: Ok(result) });
        };
        let method =
            text_of(whole.json_at(method)).ok_or_else(|| RawError::new("`method` is not a string"))?;
        let (method, params) = (method.into_owned(), at(places.params));
        Ok(match id {
            Some(id) => Self::Request { id, method, params },
            None => Self::Notification { method, params },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Incoming, RawError> {
        Incoming::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn each_kind_of_message_is_told_from_the_others() {
        let answer = parse(r#"{"jsonrpc":"2.0","id":7,"result":{"big":12345678901234567890123}}"#).unwrap();
        let Incoming::Response { id: Some(id), outcome: Ok(result) } = answer else { panic!("{answer:?}") };
        assert_eq!((id.as_str(), result.as_str()), ("7", r#"{"big":12345678901234567890123}"#));
        let refusal = parse(r#"{"id":null,"error":{"code":-32601,"message":"no","data":{"a":1}}}"#).unwrap();
        let Incoming::Response { id: None, outcome: Err(error) } = refusal else { panic!("{refusal:?}") };
        assert_eq!((error.code, &*error.message, &error.data["a"]), (-32601, "no", &Value::from(1)));
        assert!(matches!(
            parse(r#"{"method":"n","params":null}"#),
            Ok(Incoming::Notification { params: None, .. })
        ));
        assert!(matches!(parse(r#"{"id":"a","method":"ping"}"#), Ok(Incoming::Request { .. })));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            "",
            "hello",
            "[]",
            "{}",
            r#"{"id":1,"result":3}"#,
            r#"{"method":3}"#,
            r#"{"id":1,"id":2,"result":{}}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
