//! The bytes of requests, rendered before the first is sent: of the stateless revision, of the same with progress, and of the
//! sessions before it. Must not know connections.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::target::Target;
use crate::config::Secret;

/// The revision without sessions.
const MODERN: &str = "2026-07-28";
/// The last one with them.
const SESSIONS: &str = "2025-11-25";
/// An id's digits: all requests are of one length.
const ID_DIGITS: usize = 12;
/// What is copied beside the id, so that most requests go out at once.
const COPIED_BYTES: usize = 32 << 10;

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// The stateless revision; answers are JSON.
    Modern,
    /// The same with a progress token: answers of tools that tell how far they are come as event streams.
    Streamed,
    /// The last revision with sessions: one for each connection.
    Legacy,
}

impl Era {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Streamed => "streamed",
            Self::Legacy => "legacy",
        }
    }
}

/// One kind of request.
#[derive(Debug, Clone)]
pub struct Call {
    /// What people call it.
    pub label: String,
    /// `tools/call` and its like.
    pub method: String,
    /// Its parameters, without `_meta`.
    pub params: Map<String, Value>,
    /// `Mcp-Name` and `Mcp-Param-…`, for the revision that has them.
    pub headers: Vec<(String, String)>,
    /// How often, against the others.
    pub weight: u32,
}

/// A request but for its id.
#[derive(Debug, Clone)]
pub struct Rendered {
    before: Bytes,
    after: Bytes,
}

impl Rendered {
    /// Writes as much as is copied into `buffer`, with this id; gives what is to be sent after it.
    pub fn write(&self, id: &str, buffer: &mut Vec<u8>) -> &[u8] {
        buffer.clear();
        buffer.extend_from_slice(&self.before);
        buffer.extend_from_slice(id.as_bytes());
        if self.after.len() > COPIED_BYTES {
            return &self.after;
        }
        buffer.extend_from_slice(&self.after);
        &[]
    }
}

/// The body of a request of this kind from behind its id on: the same for all connections, which share it.
pub fn body(call: &Call, era: Era) -> Bytes {
    let mut params = call.params.clone();
    if era != Era::Legacy {
        params.insert("_meta".to_owned(), meta(era == Era::Streamed));
    }
    let method = Value::from(call.method.as_str());
    Bytes::from(format!("\",\"method\":{method},\"params\":{}}}", Value::Object(params)))
}

/// Writes an id.
pub fn write_id(number: u64, id: &mut String) {
    use std::fmt::Write as _;
    id.clear();
    let _infallible = write!(id, "{:0width$}", number % 10_u64.pow(12), width = ID_DIGITS);
}

/// Renders what is sent to one server in one way.
pub struct Renderer<'a> {
    /// The server.
    pub target: &'a Target,
    /// What opens it.
    pub key: Option<&'a Secret>,
    /// How it is spoken to.
    pub era: Era,
}

impl Renderer<'_> {
    /// A request of this kind with this [`body`], within a session where the era has them.
    pub fn call(&self, call: &Call, after: &Bytes, session: Option<&str>) -> Rendered {
        let mut headers = Vec::new();
        if self.era == Era::Legacy {
            headers.extend(session_headers(session));
        } else {
            headers.push(("MCP-Protocol-Version".to_owned(), MODERN.to_owned()));
            headers.push(("Mcp-Method".to_owned(), call.method.clone()));
            headers.extend(call.headers.iter().cloned());
        }
        let before = "{\"jsonrpc\":\"2.0\",\"id\":\"";
        let head = self.head("POST", &headers, before.len() + ID_DIGITS + after.len());
        Rendered { before: Bytes::from(head + before), after: after.clone() }
    }

    /// What opens a session.
    pub fn initialize(&self) -> Rendered {
        let params = json!({
            "protocolVersion": SESSIONS,
            "capabilities": {},
            "clientInfo": {"name": "waygate-mcp-loadtest", "version": env!("CARGO_PKG_VERSION")},
        });
        let after = format!("\",\"method\":\"initialize\",\"params\":{params}}}");
        let before = "{\"jsonrpc\":\"2.0\",\"id\":\"";
        let head = self.head("POST", &[], before.len() + ID_DIGITS + after.len());
        Rendered { before: Bytes::from(head + before), after: Bytes::from(after) }
    }

    /// What says that it is open.
    pub fn initialized(&self, session: &str) -> Vec<u8> {
        let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let headers: Vec<_> = session_headers(Some(session)).collect();
        (self.head("POST", &headers, body.len()) + body).into_bytes()
    }

    /// What ends it.
    pub fn end(&self, session: &str) -> Vec<u8> {
        let headers: Vec<_> = session_headers(Some(session)).collect();
        self.head("DELETE", &headers, 0).into_bytes()
    }

    /// What opens a stream on which nothing need ever come.
    pub fn listen(&self, session: Option<&str>) -> Vec<u8> {
        if self.era == Era::Legacy {
            let headers: Vec<_> = session_headers(session).collect();
            return self.head("GET", &headers, 0).into_bytes();
        }
        let params = json!({"notifications": {"toolsListChanged": true}, "_meta": meta(false)});
        let body =
            json!({"jsonrpc": "2.0", "id": "listen", "method": "subscriptions/listen", "params": params});
        let body = body.to_string();
        let headers = [("MCP-Protocol-Version", MODERN), ("Mcp-Method", "subscriptions/listen")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        (self.head("POST", &headers, body.len()) + &body).into_bytes()
    }

    /// A `GET` of an operations page.
    pub fn page(&self, path: &str) -> Vec<u8> {
        let authorization = self.authorization();
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{authorization}\r\n", self.target.authority())
            .into_bytes()
    }

    fn head(&self, method: &str, headers: &[(String, String)], length: usize) -> String {
        let (path, authority) = (self.target.path(), self.target.authority());
        let accept =
            if method == "GET" { "text/event-stream" } else { "application/json, text/event-stream" };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: {accept}\r\n");
        if method == "POST" {
            head += "Content-Type: application/json\r\n";
        }
        if length > 0 {
            head += &format!("Content-Length: {length}\r\n");
        }
        head += &self.authorization();
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    fn authorization(&self) -> String {
        self.key.map(|key| format!("Authorization: Bearer {}\r\n", key.expose())).unwrap_or_default()
    }
}

fn session_headers(session: Option<&str>) -> impl Iterator<Item = (String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let session = session.map(|id| pair("Mcp-Session-Id", id));
    std::iter::once(pair("MCP-Protocol-Version", SESSIONS)).chain(session)
}

fn meta(is_streamed: bool) -> Value {
    let mut meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "waygate-mcp-loadtest", "version": env!("CARGO_PKG_VERSION")},
    });
    if let (true, Some(members)) = (is_streamed, meta.as_object_mut()) {
        members.insert("progressToken".to_owned(), "p".into());
    }
    meta
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn rendered(era: Era, session: Option<&str>, message: &str) -> (String, String) {
        let target = Target::find("http://127.0.0.1:9/mcp", false).await.unwrap();
        let key = Secret::new("the-key");
        let renderer = Renderer { target: &target, key: Some(&key), era };
        let Value::Object(params) = json!({"name": "echo", "arguments": {"message": message}}) else {
            panic!()
        };
        let headers = vec![("Mcp-Name".to_owned(), "echo".to_owned())];
        let method = "tools/call".to_owned();
        let call = Call { label: "echo".to_owned(), method, params, headers, weight: 1 };
        let (mut id, mut bytes) = (String::new(), Vec::new());
        write_id(42, &mut id);
        let rest = renderer.call(&call, &body(&call, era), session).write(&id, &mut bytes).to_vec();
        bytes.extend(rest);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(head.contains("Authorization: Bearer the-key"));
        (head.to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn each_era_has_its_headers_and_its_body() {
        let (head, body) = rendered(Era::Modern, None, "hi").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&body["id"], &body["params"]["arguments"]["message"]),
            (&"000000000042".into(), &"hi".into())
        );
        assert!(body["params"]["_meta"]["progressToken"].is_null());
        assert!(head.ends_with("Mcp-Name: echo") && head.contains("Mcp-Method: tools/call"), "{head}");
        let (_, body) = rendered(Era::Streamed, None, "hi").await;
        assert!(body.contains("progressToken"), "{body}");
        let (head, body) = rendered(Era::Legacy, Some("s1"), "hi").await;
        assert!(head.contains("Mcp-Session-Id: s1") && !head.contains("Mcp-Name"), "{head}");
        assert!(!body.contains("_meta"), "{body}");
    }

    #[tokio::test]
    async fn a_large_request_is_whole_although_it_is_not_copied() {
        let large = "x".repeat(COPIED_BYTES * 2);
        let (_, body) = rendered(Era::Modern, None, &large).await;
        assert!(
            serde_json::from_str::<Value>(&body).unwrap()["params"]["arguments"]["message"] == large.as_str()
        );
    }
}
