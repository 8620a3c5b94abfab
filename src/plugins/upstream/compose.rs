//! Messages to a server, written: members are spliced in as the bytes they came in and never parsed again.
//!
//! MCP 2026-07-28, basic/index#meta; MCP 2025-11-25, basic/index. Must not know who asks, nor how it travels.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;

use crate::protocol::modern::Foreign;
use crate::protocol::{ClientCapabilities, LogLevel, MODERN, Object, Raw, Trace};

/// What Waygate calls itself to servers.
pub const CLIENT_INFO: &str =
    concat!(r#"{"name":"waygate-mcp","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// What every request of a server's era says in `_meta`.
#[derive(Debug, Clone, Copy)]
pub enum Era<'a> {
    /// 2026-07-28: the revision, who asks, and these capabilities, an object as [`capabilities_of`] gives it.
    Modern(&'a str),
    /// A revision with sessions, which know all that from the handshake.
    Legacy,
}

/// What one request says in `_meta` beside that.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes<'a> {
    /// Whether progress is wanted; its token is then the request's number.
    pub progress: bool,
    /// The least level of log messages wanted; only 2026-07-28 says it with a request.
    pub level: Option<LogLevel>,
    /// Handed on.
    pub trace: Option<&'a Trace>,
    /// Members of the client's own, handed on.
    pub foreign: Option<&'a Foreign>,
}

/// A request; `members` are those of `params` beside `_meta`, each with its JSON.
pub fn request(id: u64, method: &str, era: Era<'_>, wishes: &Wishes<'_>, members: &[(&str, &str)]) -> Bytes {
    let room: usize = members.iter().map(|(key, json)| key.len() + json.len() + 4).sum();
    let mut out = String::with_capacity(room + 512);
    let id = id.to_string();
    for part in [r#"{"jsonrpc":"2.0","id":"#, &id, r#","method":""#, method, r#"","params":{"#] {
        out.push_str(part);
    }
    let mut list = List::of(&mut out);
    for (key, json) in members {
        list.member(key, json);
    }
    let before = list.out.len();
    list.member("_meta", "{");
    let begin = out.len();
    write_meta(&mut out, &id, era, wishes);
    if out.len() == begin {
        out.truncate(before);
    } else {
        out.push('}');
    }
    out.push_str("}}");
    Bytes::from(out)
}

/// A notification; `params` is an object.
pub fn notification(method: &str, params: &str) -> Bytes {
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#))
}

/// Says that the answer to request `id` is not wanted any more.
pub fn cancelled(id: u64, reason: &str) -> Bytes {
    let reason = serde_json::Value::from(reason);
    notification("notifications/cancelled", &format!(r#"{{"requestId":{id},"reason":{reason}}}"#))
}

/// Our answer to a request of the server.
pub fn answer(id: &Raw, result: &Raw) -> Bytes {
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{}}}"#, id.as_str(), result.as_str()))
}

/// Our refusal of a request of the server.
pub fn refusal(id: &Raw, code: i64, message: &str) -> Bytes {
    let message = serde_json::Value::from(message);
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":{code},"message":{message}}}}}"#,
        id.as_str()
    ))
}

/// A string's JSON.
pub fn text(text: &str) -> String {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        serde_json::Value::from(text).to_string()
    } else {
        ["\"", text, "\""].concat()
    }
}

/// What a client declared and Waygate can relay, as `clientCapabilities` says it; never more than the client declared.
pub fn capabilities_of(client: &ClientCapabilities) -> Cow<'static, str> {
    if !(client.roots || client.sampling || client.elicitation_form || client.elicitation_url) {
        return Cow::Borrowed("{}");
    }
    let mut out = String::from("{");
    let mut list = List::of(&mut out);
    if client.roots {
        list.member("roots", "{}");
    }
    if client.sampling {
        list.member(
            "sampling",
            &object_of(&[("context", has_context(client)), ("tools", client.sampling_tools)]),
        );
    }
    if client.elicitation_form || client.elicitation_url {
        let modes = [("form", client.elicitation_form), ("url", client.elicitation_url)];
        list.member("elicitation", &object_of(&modes));
    }
    out.push('}');
    Cow::Owned(out)
}

/// Whether the client takes `includeContext` in sampling, which only the object as it came says.
fn has_context(client: &ClientCapabilities) -> bool {
    let Some(raw) = client.raw.as_ref().filter(|raw| raw.as_str().contains("context")) else { return false };
    let sampling = Object::open(raw).ok().and_then(|object| object.get("sampling").cloned());
    sampling
        .and_then(|sampling| Object::open(&sampling).ok())
        .is_some_and(|modes| modes.get("context").is_some())
}

fn object_of(members: &[(&str, bool)]) -> String {
    let mut out = String::from("{");
    let mut list = List::of(&mut out);
    members.iter().filter(|(_, has)| *has).for_each(|(key, _)| list.member(key, "{}"));
    out.push('}');
    out
}

/// What every modern request says of its revision and of Waygate, members of `_meta`.
static INTRODUCTION: LazyLock<String> = LazyLock::new(|| {
    let mut out = String::new();
    let mut list = List::of(&mut out);
    list.member("io.modelcontextprotocol/protocolVersion", &text(MODERN));
    list.member("io.modelcontextprotocol/clientInfo", CLIENT_INFO);
    out
});

/// The members of `_meta`, without braces.
fn write_meta(out: &mut String, id: &str, era: Era<'_>, wishes: &Wishes<'_>) {
    let mut list = List::of(out);
    if let Era::Modern(capabilities) = era {
        list.out.push_str(&INTRODUCTION);
        list.first = false;
        list.member("io.modelcontextprotocol/clientCapabilities", capabilities);
        if let Some(level) = wishes.level.and_then(|level| serde_json::to_string(&level).ok()) {
            list.member("io.modelcontextprotocol/logLevel", &level);
        }
    }
    if wishes.progress {
        list.member("progressToken", id);
    }
    if let Some(trace) = wishes.trace {
        let parts =
            [("traceparent", &trace.parent), ("tracestate", &trace.state), ("baggage", &trace.baggage)];
        for (key, said) in parts {
            if let Some(said) = said {
                list.member(key, &text(said));
            }
        }
    }
    for (key, json) in wishes.foreign.into_iter().flat_map(Foreign::meta) {
        list.member(key, json);
    }
}

/// Writes members of an object, with commas between them.
struct List<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> List<'a> {
    fn of(out: &'a mut String) -> Self {
        Self { out, first: true }
    }

    fn member(&mut self, key: &str, json: &str) {
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(',');
        }
        for part in ["\"", key, "\":", json] {
            self.out.push_str(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_is_spliced_in_keeps_its_bytes() {
        let arguments = r#"{"z": 1.50, "a": 123456789012345678901234567890, "u": "\u00e9"}"#;
        let body = request(7, "tools/call", Era::Legacy, &Wishes::default(), &[("arguments", arguments)]);
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            format!(
                r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"arguments":{arguments}}}}}"#
            )
        );
    }

    #[test]
    fn a_modern_request_says_who_asks_and_what_it_wants() {
        let trace = Trace { parent: Some("00-a".into()), state: Some("k=\"v\"".into()), baggage: None };
        let wishes =
            Wishes { progress: true, level: Some(LogLevel::Warning), trace: Some(&trace), foreign: None };
        let body: Value =
            serde_json::from_slice(&request(9, "tools/list", Era::Modern("{}"), &wishes, &[])).unwrap();
        assert_eq!(
            body["params"]["_meta"],
            json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "waygate-mcp", "version": env!("CARGO_PKG_VERSION")},
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/logLevel": "warning",
                "progressToken": 9,
                "traceparent": "00-a",
                "tracestate": "k=\"v\"",
            })
        );
    }

    #[test]
    fn a_server_hears_of_no_capability_that_the_client_lacks_or_that_cannot_be_relayed() {
        let relayed = |declared: Value| -> Value {
            let client = ClientCapabilities::read(&Raw::value(&declared)).unwrap();
            serde_json::from_str(&capabilities_of(&client)).unwrap()
        };
        assert_eq!(relayed(json!({"extensions": {"a/b": {}}, "experimental": {}})), json!({}));
        assert_eq!(
            relayed(
                json!({"roots": {"listChanged": true}, "sampling": {"context": {}, "x": {}}, "elicitation": {}})
            ),
            json!({"roots": {}, "sampling": {"context": {}}, "elicitation": {"form": {}}})
        );
        let url = json!({"sampling": {"tools": {}}, "elicitation": {"url": {}}});
        assert_eq!(relayed(url.clone()), url);
    }
}
