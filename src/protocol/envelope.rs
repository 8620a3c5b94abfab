//! JSON-RPC 2.0 as MCP uses it: one message a body, its payload left raw.
//!
//! MCP 2026-07-28, basic/index. Must not know which methods exist.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::legacy::asks::Answer;
use super::modern::{ParamPlaces, Params};
use super::raw::{Raw, text_of};
use super::scan::Level;
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

    /// The same id, in bytes of its own: it may outlive the body it came in.
    pub fn detached(&self) -> Self {
        Self(self.0.detached())
    }

    /// From JSON that may be an id.
    pub fn read(id: Raw) -> Option<Self> {
        let text = id.as_str();
        let integer = text.len() <= 20 && text.parse::<i128>().is_ok();
        (text.starts_with('"') || integer).then_some(Self(id))
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
        /// With what.
        params: Box<Params>,
    },
    /// Wants none.
    Notification {
        /// What happened.
        method: String,
        /// With what.
        params: Box<Params>,
    },
    /// An array of messages, which revision 2025-03-26 alone knows; not looked into.
    Batch(Raw),
    /// Answers a request of ours.
    Response {
        /// Of which request.
        id: Option<Id>,
        /// What it says.
        answer: Answer,
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

/// Where the members of a message stand in its body.
#[derive(Default)]
struct Places {
    jsonrpc: Option<Range<usize>>,
    id: Option<Range<usize>>,
    method: Option<Range<usize>>,
    params: Option<Range<usize>>,
    result: Option<Range<usize>>,
    error: Option<Range<usize>>,
    inner: ParamPlaces,
}

impl Places {
    fn note(&mut self, level: Level, key: &str, place: Range<usize>) {
        match (level, key) {
            (Level::Message, "jsonrpc") => self.jsonrpc = Some(place),
            (Level::Message, "id") => self.id = Some(place),
            (Level::Message, "method") => self.method = Some(place),
            (Level::Message, "params") => self.params = Some(place),
            (Level::Message, "result") => self.result = Some(place),
            (Level::Message, "error") => self.error = Some(place),
            (Level::Message, _) => {}
            (level, key) => self.inner.note(level, key, place),
        }
    }
}

impl Message {
    /// Reads the one message of a body.
    ///
    /// # Errors
    /// -32700 for what is not JSON (doubled keys and hostile depth included), -32600 for JSON that is not a message.
    pub fn parse(body: Bytes) -> Result<Self, Box<Malformed>> {
        let mut places = Places::default();
        let whole = Raw::scan(body, &mut |level, key, place| places.note(level, key, place));
        let whole = whole.map_err(|error| {
            Box::new(Malformed {
                fault: Fault::new(
                    ErrorCode::ParseError,
                    format!("the body is not JSON that this server takes: {error}"),
                    "send one JSON-RPC 2.0 message as UTF-8 JSON",
                ),
                id: None,
            })
        })?;
        match whole.as_str().trim_start().as_bytes().first() {
            Some(b'{') => {}
            Some(b'[') => return Ok(Self::Batch(whole)),
            _ => return Err(invalid("the body is not a JSON object", SEND)),
        }
        Self::classify(&whole, places)
    }

    fn classify(whole: &Raw, places: Places) -> Result<Self, Box<Malformed>> {
        let asks = places.id.is_some();
        let id = places.id.and_then(|place| Id::read(whole.at(place)));
        let refuse = |message: &'static str, advice: &'static str| {
            let mut malformed = invalid(message, advice);
            malformed.id = id.clone();
            Err(malformed)
        };
        let string = |place: Range<usize>| text_of(whole.json_at(place));
        if places.jsonrpc.and_then(string).as_deref() != Some("2.0") {
            return refuse("`jsonrpc` is not \"2.0\"", SEND);
        }
        if asks && id.is_none() {
            return refuse(
                "`id` is neither a string nor an integer",
                "send an id that is a string or an integer",
            );
        }
        let Some(method) = places.method else {
            if let Some(result) = places.result {
                return Ok(Self::Response { id, answer: Answer::Result(whole.at(result)) });
            }
            if let Some(error) = places.error {
                let error = whole.at(error).read().unwrap_or_default();
                return Ok(Self::Response { id, answer: Answer::Error(error) });
            }
            return refuse("`method` is missing", SEND);
        };
        let Some(method) = string(method).map(Cow::into_owned) else {
            return refuse("`method` is not a string", SEND);
        };
        if places.params.is_some_and(|place| !whole.json_at(place).starts_with('{')) {
            return refuse("`params` is not an object", "send `params` as an object, or leave it out");
        }
        let params = Box::new(places.inner.of(whole.clone()));
        Ok(match id {
            Some(id) => Self::Request { id, method, params },
            None => Self::Notification { method, params },
        })
    }
}

const SEND: &str = "send a JSON-RPC 2.0 request with `jsonrpc`, `id`, `method` and `params`";

fn invalid(message: impl Into<Cow<'static, str>>, advice: &'static str) -> Box<Malformed> {
    Box::new(Malformed { fault: Fault::new(ErrorCode::InvalidRequest, message, advice), id: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Message, Box<Malformed>> {
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
    fn a_key_that_nobody_knows_stays_one_string_however_it_is_quoted() {
        for key in [r#""x-a\"""#, r#""\"x-a\"""#, r#""x-a\\""#, r#""x-a\\\"""#, r#""\"""#] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{{key}:1}}}}"#);
            let Ok(Message::Request { params, .. }) = parse(&text) else { panic!("{key}") };
            let foreign = params.foreign().unwrap();
            let kept: Vec<String> = foreign.members().map(|(key, _)| format!("\"{key}\"")).collect();
            assert_eq!(kept, [key]);
        }
    }

    #[test]
    fn notifications_and_responses_are_recognised() {
        assert!(matches!(parse(r#"{"jsonrpc":"2.0","method":"x"}"#), Ok(Message::Notification { .. })));
        assert!(matches!(parse(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Ok(Message::Response { .. })));
        assert!(matches!(parse(" [1]"), Ok(Message::Batch(_))));
    }
}
