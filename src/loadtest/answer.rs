//! Whether an answer is one: JSON-RPC in a body or at the end of an event stream, to the request that was sent. Pure.
//!
//! Every answer is read, since a server that answers wrongly is fast.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::fault::Fault;

/// An answer that is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// Events of a stream, the answer among them; 0 when it was none.
    pub events: u64,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    result: Option<Outcome<'a>>,
    #[serde(borrow)]
    error: Option<Refusal<'a>>,
    method: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Outcome<'a> {
    #[serde(default, rename = "isError")]
    is_error: bool,
    #[serde(borrow, rename = "resultType")]
    kind: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    code: i64,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    /// Anything.
    data: Option<Value>,
}

/// Reads the body of an answer with this status to the request with this id.
///
/// # Errors
/// What is wrong with it.
pub fn judge(status: u16, is_stream: bool, body: &[u8], id: &str) -> Result<Judged, Fault> {
    if !is_stream {
        let message = serde_json::from_slice(body).ok();
        return settle(status, message, body, id).map(|()| Judged { events: 0 });
    }
    let mut events = 0;
    let mut last = None;
    for data in events_of(body) {
        events += 1;
        last = Some(data);
    }
    let data = last.unwrap_or_default();
    let message = serde_json::from_slice(&data).ok().filter(|message: &Message<'_>| message.method.is_none());
    settle(status, message, &data, id).map(|()| Judged { events })
}

fn settle(status: u16, message: Option<Message<'_>>, body: &[u8], id: &str) -> Result<(), Fault> {
    let Some(message) = message else {
        return Err(match status {
            200..=299 => Fault::strange("an answer that is no JSON-RPC", body),
            _ => Fault::status(status, body),
        });
    };
    if let Some(error) = message.error {
        let advice = error.data.as_ref().and_then(|data| data.get("advice")?.as_str());
        let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
        return Err(Fault::refused(status, error.code, &format!("{}{advice}", error.message)));
    }
    let Some(result) = message.result.filter(|_| status == 200) else {
        return Err(Fault::status(status, body));
    };
    if message.id.as_deref() != Some(id) {
        return Err(Fault::strange("an answer to another request", body));
    }
    if result.is_error {
        return Err(Fault::tool(body));
    }
    match result.kind.as_deref() {
        Some("input_required") => {
            Err(Fault::strange("the tool asks for input, which nobody gives here", body))
        }
        _ => Ok(()),
    }
}

/// The data of each event of a stream.
pub fn events_of(stream: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let mut lines = stream.split(|byte| *byte == b'\n');
    std::iter::from_fn(move || {
        let mut data: Option<Cow<'_, [u8]>> = None;
        for line in lines.by_ref() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                if data.as_ref().is_some_and(|data| !data.is_empty()) {
                    return data;
                }
                data = None;
                continue;
            }
            let Some(more) = line.strip_prefix(b"data:") else { continue };
            let more = more.strip_prefix(b" ").unwrap_or(more);
            match &mut data {
                None => data = Some(Cow::Borrowed(more)),
                Some(data) => {
                    data.to_mut().push(b'\n');
                    data.to_mut().extend_from_slice(more);
                }
            }
        }
        // One that is cut off is none.
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(status: u16, body: &str) -> Result<Judged, String> {
        judge(status, false, body.as_bytes(), "7").map_err(|fault| fault.what)
    }

    #[test]
    fn only_a_result_to_the_request_counts() {
        let right = r#"{"result":{"content":[{"text":"\"error\":{}"}]},"jsonrpc":"2.0","id":"7"}"#;
        assert_eq!(json(200, right), Ok(Judged { events: 0 }));
        for (status, body, what) in [
            (200, r#"{"id":"8","result":{}}"#, "an answer to another request"),
            (200, r#"{"id":"7","result":{"isError":true}}"#, "the tool failed"),
            (
                200,
                r#"{"id":"7","result":{"resultType":"input_required"}}"#,
                "the tool asks for input, which nobody gives here",
            ),
            (400, r#"{"id":"7","error":{"code":-32602,"message":"bad"}}"#, "error -32602 (status 400)"),
            (200, "hello", "an answer that is no JSON-RPC"),
            (502, "<html>", "status 502"),
            (202, "", "an answer that is no JSON-RPC"),
        ] {
            assert_eq!(json(status, body), Err(what.to_owned()), "{body}");
        }
    }

    #[test]
    fn a_stream_ends_with_its_answer() {
        let judged = |text: &str| judge(200, true, text.as_bytes(), "7").map_err(|fault| fault.what);
        let notice = "data: {\"method\":\"notifications/progress\"}\n\n";
        let answer = ": hello\n\nevent: message\r\ndata: {\"id\":\"7\",\r\ndata: \"result\":{}}\r\n\r\n";
        assert_eq!(judged(&format!("{notice}{notice}{answer}")), Ok(Judged { events: 3 }));
        assert!(judged(notice).is_err());
        assert!(judged("").is_err());
        assert!(judged("data: {\"id\":\"7\",\"result\":{}}").is_err(), "cut off");
    }
}
