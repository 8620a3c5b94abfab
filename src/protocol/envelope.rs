//! JSON-RPC 2.0 as MCP uses it: one message a body, its payload left raw.
//!
//! MCP 2026-07-28, basic/index. Must not know which methods exist.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::raw::Raw;
use crate::error::{ErrorCode, Fault};

/// The `id` of a request: a string or an integer, kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(Raw);

impl Id {
    /// Its JSON.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Its JSON as a value that shares the bytes.
    pub fn raw(&self) -> &Raw {
        &self.0
    }

    fn read(whole: &Raw, id: &RawValue) -> Option<Self> {
        let text = id.get();
        let integer = text.len() <= 20 && text.parse::<i128>().is_ok();
        (text.starts_with('"') || integer).then(|| Self(whole.part(id)))
    }
}

/// One JSON-RPC message.
#[derive(Debug, Clone)]
pub enum Message {
    /// Wants an answer.
    Request {
        /// To be repeated in the answer.
        id: Id,
        /// What to do.
        method: String,
        /// With what; an object, if there at all.
        params: Option<Raw>,
    },
    /// Wants none.
    Notification {
        /// What happened.
        method: String,
        /// With what; an object, if there at all.
        params: Option<Raw>,
    },
    /// Answers a request of ours.
    Response {
        /// Of which request.
        id: Option<Id>,
    },
}

/// A body that is no message, and the id that could still be read from it.
#[derive(Debug)]
pub struct Malformed {
    /// What to answer.
    pub fault: Fault,
    /// To be repeated in the answer, when it could be read.
    pub id: Option<Id>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// A member that is there, even when it is `null`.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Message {
    /// Reads the one message of a body.
    ///
    /// # Errors
    /// -32700 for what is not JSON (doubled keys and hostile depth included), -32600 for JSON that is not a message.
    pub fn parse(body: Bytes) -> Result<Self, Malformed> {
        let whole = Raw::parse(body).map_err(|error| Malformed {
            fault: Fault::new(
                ErrorCode::ParseError,
                format!("the body is not JSON that this server takes: {error}"),
                "send one JSON-RPC 2.0 message as UTF-8 JSON",
            ),
            id: None,
        })?;
        if !whole.is_object() {
            return Err(invalid(
                "the body is not a JSON object",
                "send one message a request; batches ended with revision 2025-03-26",
            ));
        }
        let wire: Wire<'_> =
            whole.read().map_err(|error| invalid(format!("not a JSON-RPC message: {error}"), SEND))?;
        Self::classify(&whole, &wire)
    }

    fn classify(whole: &Raw, wire: &Wire<'_>) -> Result<Self, Malformed> {
        let id = wire.id.and_then(|id| Id::read(whole, id));
        let refuse = |message: &'static str, advice: &'static str| {
            let mut malformed = invalid(message, advice);
            malformed.id = id.clone();
            Err(malformed)
        };
        if wire.jsonrpc.as_deref() != Some("2.0") {
            return refuse("`jsonrpc` is not \"2.0\"", SEND);
        }
        if wire.id.is_some() && id.is_none() {
            return refuse(
                "`id` is neither a string nor an integer",
                "send an id that is a string or an integer",
            );
        }
        let Some(method) = wire.method else {
            if wire.result.is_some() || wire.error.is_some() {
                return Ok(Self::Response { id });
            }
            return refuse("`method` is missing", SEND);
        };
        let Ok(method) = serde_json::from_str::<String>(method.get()) else {
            return refuse("`method` is not a string", SEND);
        };
        let params = wire.params.map(|params| whole.part(params));
        if params.as_ref().is_some_and(|params| !params.is_object()) {
            return refuse("`params` is not an object", "send `params` as an object, or leave it out");
        }
        Ok(match id {
            Some(id) => Self::Request { id, method, params },
            None => Self::Notification { method, params },
        })
    }
}

const SEND: &str = "send a JSON-RPC 2.0 request with `jsonrpc`, `id`, `method` and `params`";

fn invalid(message: impl Into<Cow<'static, str>>, advice: &'static str) -> Malformed {
    Malformed { fault: Fault::new(ErrorCode::InvalidRequest, message, advice), id: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Message, Malformed> {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn code_of(text: &str) -> ErrorCode {
        parse(text).unwrap_err().fault.code
    }

    #[test]
    fn an_id_is_kept_as_it_was_written() {
        for id in ["1", "-7", "9007199254740993", "\"a\\u0062\"", "\"\""] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#);
            let Ok(Message::Request { id: read, .. }) = parse(&text) else { panic!("{id}") };
            assert_eq!(read.as_str(), id);
        }
        for id in ["null", "1.5", "1e3", "true", "[]", "{}", "123456789012345678901234"] {
            assert_eq!(
                code_of(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#)),
                ErrorCode::InvalidRequest
            );
        }
    }

    #[test]
    fn what_is_no_message_is_told_apart_from_what_is_no_json() {
        assert_eq!(code_of("{"), ErrorCode::ParseError);
        assert_eq!(code_of(r#"{"id":1,"id":2}"#), ErrorCode::ParseError);
        for invalid in [
            "[]",
            "1",
            "{}",
            r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[1]}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
        ] {
            assert_eq!(code_of(invalid), ErrorCode::InvalidRequest, "{invalid}");
        }
        let malformed = parse(r#"{"jsonrpc":"1.0","id":"q","method":"x"}"#).unwrap_err();
        assert_eq!(malformed.id.unwrap().as_str(), "\"q\"");
    }

    #[test]
    fn notifications_and_responses_are_recognised() {
        assert!(matches!(parse(r#"{"jsonrpc":"2.0","method":"x"}"#), Ok(Message::Notification { .. })));
        assert!(matches!(parse(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Ok(Message::Response { .. })));
    }
}
