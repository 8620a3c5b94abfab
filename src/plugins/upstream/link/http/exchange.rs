//! Answers to requests: a status, a content type and a body made into messages, or into the reason why there are none.
//!
//! Must not know how an answer is taken up again, nor what its messages mean.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use hyper::header::{self, HeaderMap};
use hyper::{Response, StatusCode};
use serde_json::value::RawValue;

use super::client::HttpCore;
use super::pool::Body;
use crate::plugins::upstream::link::{LinkError, id_of};
use crate::protocol::Incoming;

/// Of what a server says in place of a message, so much is shown.
const SAYS_MAX_CHARS: usize = 200;
/// Of a refusal's body, so much is read.
const REFUSAL_MAX_BYTES: usize = 64 * 1024;

/// What kind of body an answer has.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// `application/json`, or not said.
    Json,
    /// `text/event-stream`.
    Events,
    /// Something else, made printable.
    Other(String),
}

impl Kind {
    /// As the headers say.
    pub fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Self::Json };
        let text = value.to_str().unwrap_or("?");
        let essence = text.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Self::Json
        } else if essence.eq_ignore_ascii_case("text/event-stream") {
            Self::Events
        } else {
            Self::Other(printable(essence))
        }
    }
}

/// The error for an answer of a kind that carries no message.
pub fn wrong_kind(kind: &str) -> LinkError {
    LinkError::Garbage(format!("it has the content type {kind:?}, not application/json or text/event-stream"))
}

/// Reads a body whole.
///
/// # Errors
/// More than `most` bytes, or a connection that broke.
pub async fn whole(core: &HttpCore, mut body: Body, most: usize) -> Result<Bytes, LinkError> {
    if body.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
        return Err(LinkError::TooLarge(most));
    }
    let first = frame(core, &mut body, 0).await?.unwrap_or_default();
    // Nearly every answer comes in one piece, which need not be copied.
    if first.len() <= most && body.is_end_stream() {
        return Ok(first);
    }
    let mut all = BytesMut::from(&*first);
    while let Some(more) = frame(core, &mut body, all.len()).await? {
        if all.len() + more.len() > most {
            return Err(LinkError::TooLarge(most));
        }
        all.extend_from_slice(&more);
    }
    if all.len() > most { Err(LinkError::TooLarge(most)) } else { Ok(all.freeze()) }
}

async fn frame(core: &HttpCore, body: &mut Body, before: usize) -> Result<Option<Bytes>, LinkError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            LinkError::Broken(format!("its answer broke off after {before} bytes: {}", cause(&error)))
        })?;
        if let Ok(data) = frame.into_data() {
            core.note_read(data.len());
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// The next piece of a body; nothing at its end.
///
/// # Errors
/// Why the connection broke.
pub async fn piece(core: &HttpCore, body: &mut Body) -> Result<Option<Bytes>, String> {
    match frame(core, body, 0).await {
        Ok(piece) => Ok(piece),
        Err(LinkError::Broken(why)) => Err(why),
        Err(error) => Err(error.to_string()),
    }
}

fn cause(error: &hyper::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    printable(&last.to_string())
}

/// Reads the messages of one body or event: one, or, before 2025-06-18, an array of them.
///
/// # Errors
/// What is no message.
pub fn messages(bytes: Bytes) -> Result<VecDeque<Incoming>, LinkError> {
    let garbage = |why: &dyn std::fmt::Display| LinkError::Garbage(printable(&why.to_string()));
    if !bytes.trim_ascii_start().starts_with(b"[") {
        return Ok(VecDeque::from([Incoming::parse(bytes).map_err(|error| garbage(&error))?]));
    }
    let parts: Vec<&RawValue> = serde_json::from_slice(&bytes).map_err(|error| garbage(&error))?;
    let parse = |part: &&RawValue| Incoming::parse(bytes.slice_ref(part.get().as_bytes()));
    parts.iter().map(parse).collect::<Result<_, _>>().map_err(|error| garbage(&error))
}

/// Whether a message answers the request `id`. One that answers nothing in particular does: there is but one request.
pub fn answers(message: &Incoming, id: u64) -> bool {
    match message {
        Incoming::Response { id: None, .. } => true,
        Incoming::Response { id: Some(raw), .. } => id_of(raw) == Some(id),
        _ => false,
    }
}

/// What a JSON body holds for the request `id`, up to its response.
///
/// # Errors
/// When its response is not there.
pub fn said_to(id: u64, bytes: Bytes) -> Result<VecDeque<Incoming>, LinkError> {
    if bytes.trim_ascii().is_empty() {
        return Err(LinkError::Garbage("it is empty, where the response to a request is due".into()));
    }
    let mut said = messages(bytes)?;
    said.retain(|message| !matches!(message, Incoming::Response { .. }) || answers(message, id));
    let Some(last) = said.iter().position(|message| answers(message, id)) else {
        return Err(LinkError::Garbage("it answers another request than the one that was sent".into()));
    };
    said.truncate(last + 1);
    Ok(said)
}

/// What a server's refusal means.
pub struct Refusal {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Refusal {
    /// Reads it. A body that is too large or breaks off leaves the status alone.
    pub async fn read(core: &HttpCore, answer: Response<Body>) -> Self {
        let (head, body) = answer.into_parts();
        let body = whole(core, body, REFUSAL_MAX_BYTES).await.unwrap_or_default();
        Self { status: head.status, headers: head.headers, body }
    }

    /// Whether it means that the session is gone. The protocol says 404; several servers say it in words, too.
    pub fn is_of_session(&self, id: Option<u64>) -> bool {
        let said = String::from_utf8_lossy(&self.body).to_ascii_lowercase();
        let in_words = said.contains("session not found") || said.contains("no valid session");
        match self.status.as_u16() {
            // A method that is not known is answered with 404, too: then with the id that was asked with.
            404 => !id.is_some_and(|id| matches!(self.message(), Some(message) if is_to(&message, id))),
            400 | 401 => in_words,
            _ => false,
        }
    }

    /// The JSON-RPC error in it, unless the status alone says more.
    pub fn message(&self) -> Option<Incoming> {
        let by_status = matches!(self.status.as_u16(), 401 | 403 | 429 | 503);
        if by_status || Kind::of(&self.headers) != Kind::Json {
            return None;
        }
        let message = Incoming::parse(self.body.clone()).ok()?;
        matches!(message, Incoming::Response { outcome: Err(_), .. }).then_some(message)
    }

    /// As an error.
    pub fn error(&self, core: &HttpCore) -> LinkError {
        let says = match self.status.as_u16() {
            // What the server says of it is for a caller with a credential of its own, and no caller has one here.
            401 | 403 if core.has_credentials() => {
                Some("the credential in `headers` of the plugin's file was refused: renew it".to_owned())
            }
            401 | 403 => {
                Some("it wants a credential: give one under `headers` in the plugin's file".to_owned())
            }
            300..=399 => Some(self.redirect()),
            _ => self.words(core),
        };
        let retry_after = self.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        LinkError::Status {
            status: self.status.as_u16(),
            retry_after_seconds: retry_after.and_then(|value| seconds_until(value.trim())),
            says,
        }
    }

    fn redirect(&self) -> String {
        let location = self.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        // Its path and query are the server's own, and may hold what is not for a log.
        let origin = location.and_then(|to| to.parse().ok()).and_then(|to| super::place::Origin::of(&to));
        let to = origin.map(|origin| format!(" to {origin}")).unwrap_or_default();
        format!("it redirects{to}, which a POST does not follow: write the new address as the url")
    }

    fn words(&self, core: &HttpCore) -> Option<String> {
        let message = match self.message_text() {
            Some(text) => text,
            None => String::from_utf8_lossy(&self.body).into_owned(),
        };
        // Masked before it is cut: of half a secret nothing would be recognised.
        let words = printable(core.veiled(&message).trim());
        (!words.is_empty()).then_some(words)
    }

    fn message_text(&self) -> Option<String> {
        match Incoming::parse(self.body.clone()).ok()? {
            Incoming::Response { outcome: Err(error), .. } => Some(error.message),
            _ => None,
        }
    }
}

/// What `Retry-After` says: seconds, or the moment itself (RFC 9110, section 10.2.3).
fn seconds_until(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(u64::try_from(then.duration_since(jiff::Timestamp::now()).as_secs()).unwrap_or(0))
}

fn is_to(message: &Incoming, id: u64) -> bool {
    matches!(message, Incoming::Response { id: Some(raw), .. } if id_of(raw) == Some(id))
}

/// The beginning of a foreign text, on one line, with nothing that a terminal would obey.
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    let mut space = false;
    let mut count = 0;
    for letter in text.chars() {
        if letter.is_whitespace() || letter.is_control() {
            space = !shown.is_empty();
            continue;
        }
        if count >= SAYS_MAX_CHARS {
            shown.push('…');
            break;
        }
        if std::mem::take(&mut space) {
            shown.push(' ');
            count += 1;
        }
        shown.push(if is_invisible(letter) { '?' } else { letter });
        count += 1;
    }
    shown
}

/// Letters that show nothing, or turn the direction of a line.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_are_cut_and_harmless() {
        assert_eq!(printable("  a\n\tb\u{1b}[31m c\u{202e}"), "a b [31m c?");
        let long = printable(&"ä".repeat(1000));
        assert_eq!(long.chars().count(), 201);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn a_server_may_say_when_to_come_back_in_seconds_or_as_a_moment() {
        assert_eq!(seconds_until("7"), Some(7));
        assert_eq!(seconds_until("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0), "it is past");
        let seconds = seconds_until("Sun, 06 Nov 2044 08:49:37 GMT");
        assert!(seconds.is_some_and(|seconds| seconds > 1000), "{seconds:?}");
        assert_eq!(seconds_until("soon"), None);
    }

    #[test]
    fn of_an_array_the_messages_up_to_the_response_are_taken() {
        let said = |text: &str| said_to(7, Bytes::copy_from_slice(text.as_bytes()));
        let batch = said(r#" [{"method":"n"},{"id":8,"result":{}},{"id":7,"result":{}},{"method":"late"}]"#);
        let batch = batch.unwrap();
        assert_eq!(batch.len(), 2);
        assert!(answers(&batch[1], 7));
        for bad in
            ["", " ", "[]", r#"{"id":8,"result":{}}"#, r#"{"id":"7","result":{}}"#, "[3]", "[", "<html>"]
        {
            assert!(matches!(said(bad), Err(LinkError::Garbage(_))), "{bad}");
        }
    }

    #[test]
    fn a_content_type_is_known_by_its_essence() {
        let kind =
            |text: &str| Kind::of(&HeaderMap::from_iter([(header::CONTENT_TYPE, text.parse().unwrap())]));
        assert_eq!(kind("application/json; charset=utf-8"), Kind::Json);
        assert_eq!(kind("Text/Event-Stream"), Kind::Events);
        assert_eq!(kind("text/html"), Kind::Other("text/html".into()));
        assert_eq!(Kind::of(&HeaderMap::new()), Kind::Json);
    }
}
