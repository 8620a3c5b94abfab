//! Messages as bytes: results with what the revision wants in each, errors, notifications, event-stream frames.
//!
//! MCP 2026-07-28, basic/index and basic/transports/streamable-http. Results are spliced, not parsed again.
//! Must not know statuses or sockets.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::envelope::Id;
use super::object::Object;
use super::raw::{Raw, RawError};
use crate::error::{Fault, Relayed};

/// What this server is called, on every result (`io.modelcontextprotocol/serverInfo`).
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// `{"name":…,"version":…}`
    json: String,
    /// `"_meta":{…}` of a result that has no other meta.
    meta: String,
}

impl ServerInfo {
    /// From a name and a version.
    pub fn new(name: &str, version: &str) -> Self {
        let json = json!({"name": name, "version": version}).to_string();
        let meta = format!(r#""_meta":{{"io.modelcontextprotocol/serverInfo":{json}}}"#);
        Self { json, meta }
    }

    /// Its JSON.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or_default()
    }
}

/// A result object with `resultType` and `_meta`, ready to be sent under any id.
#[derive(Debug, Clone)]
pub struct Finished {
    json: Raw,
    /// Where the members begin that were there before; 0 when ours stand between them.
    plain: usize,
}

impl Finished {
    /// Its JSON.
    pub fn bytes(&self) -> &Bytes {
        self.json.bytes()
    }

    /// The same as JSON that was checked.
    pub fn json(&self) -> &Raw {
        &self.json
    }

    /// All that stood behind the opening brace before the revision's own members were put there, if that can be told.
    pub fn plain_inner(&self) -> Option<&str> {
        self.json.as_str().get(self.plain..).filter(|_| self.plain > 0)
    }

    /// Where those members begin; 0 if that cannot be told.
    pub fn plain_from(&self) -> usize {
        self.plain
    }

    /// One that was finished before, and whose members begin there. What cannot be so is taken for one of which that
    /// cannot be told.
    pub fn restored(json: Raw, plain_from: usize) -> Self {
        let plain = if json.as_str().is_char_boundary(plain_from) { plain_from } else { 0 };
        Self { json, plain }
    }

    /// The same that holds for so long.
    ///
    /// # Errors
    /// When it is not an object.
    pub fn holding(&self, ttl_ms: u64) -> Result<Self, RawError> {
        let mut object = Object::open(&self.json)?;
        object.put("ttlMs", ttl_ms);
        Ok(Self { json: object.to_raw(), plain: 0 })
    }

    /// The result without the members that this revision put there.
    ///
    /// # Errors
    /// When it is not an object.
    pub fn plain(&self) -> Result<Object, RawError> {
        let mut object = Object::open(&self.json)?;
        object.remove("resultType");
        let mut meta = object.get("_meta").map(Object::open).transpose()?.unwrap_or_default();
        meta.remove("io.modelcontextprotocol/serverInfo");
        if meta.is_empty() {
            object.remove("_meta");
        } else {
            object.set("_meta", meta.to_raw());
        }
        Ok(object)
    }
}

/// Makes `result` a complete one.
///
/// # Errors
/// When it is not an object.
pub fn complete(result: &Raw, info: &ServerInfo) -> Result<Finished, RawError> {
    finish(result, "complete", info)
}

/// A result that asks the client for input; `requests` are JSON under their keys.
pub fn input_required(requests: &[(String, Raw)], state: Option<&str>, info: &ServerInfo) -> Finished {
    let mut result = Object::default();
    result.put("resultType", "input_required");
    if !requests.is_empty() {
        let mut asked = Object::default();
        for (key, request) in requests {
            asked.set(key, request.clone());
        }
        result.set("inputRequests", asked.to_raw());
    }
    if let Some(state) = state {
        result.put("requestState", state);
    }
    result.set("_meta", Raw::trusted(format!(r#"{{"io.modelcontextprotocol/serverInfo":{}}}"#, info.json)));
    Finished { json: result.to_raw(), plain: 0 }
}

fn finish(result: &Raw, kind: &str, info: &ServerInfo) -> Result<Finished, RawError> {
    let text = result.as_str();
    // The words are looked for in the whole text: a false alarm costs the slow way, nothing else.
    if text.contains("\"_meta\"") || text.contains("\"resultType\"") || text.contains("\\u") {
        return finish_slowly(result, kind, info);
    }
    let inner = text.strip_prefix('{').ok_or_else(|| RawError::new("the result is not an object"))?;
    let comma = if inner.trim_start() == "}" { "" } else { "," };
    let meta = &info.meta;
    let mut out = String::with_capacity(text.len() + meta.len() + kind.len() + 20);
    for part in ["{\"resultType\":\"", kind, "\",", meta, comma, inner] {
        out.push_str(part);
    }
    let plain = out.len() - inner.len();
    Ok(Finished { json: Raw::trusted(out), plain })
}

/// For results that bring a `_meta` of their own: it is kept, and the server's name added.
fn finish_slowly(result: &Raw, kind: &str, info: &ServerInfo) -> Result<Finished, RawError> {
    let mut object = Object::open(result)?;
    let mut meta = object.get("_meta").map(Object::open).transpose()?.unwrap_or_default();
    meta.set("io.modelcontextprotocol/serverInfo", Raw::trusted(info.json.clone()));
    object.set("_meta", meta.to_raw());
    object.put("resultType", kind);
    Ok(Finished { json: object.to_raw(), plain: 0 })
}

/// The answer to request `id`.
pub fn result(id: &Id, result: &Finished) -> Vec<u8> {
    let mut out = Vec::with_capacity(result.bytes().len() + id.as_str().len() + 40);
    for part in
        [&b"{\"jsonrpc\":\"2.0\",\"id\":"[..], id.as_str().as_bytes(), b",\"result\":", result.bytes(), b"}"]
    {
        out.extend_from_slice(part);
    }
    out
}

/// The error answer; without an id when none could be read.
pub fn error(id: Option<&Id>, fault: &Fault, request_id: &str) -> Vec<u8> {
    let mut data: Map<String, Value> =
        fault.data.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    data.insert("reason".to_owned(), fault.code.name().into());
    data.insert("advice".to_owned(), Value::String(fault.advice.to_string()));
    data.insert("requestId".to_owned(), request_id.into());
    let (code, data) = match fault.relayed.as_deref() {
        None => (i64::from(fault.code.rpc()), Value::Object(data).to_string()),
        Some(relayed) => (relayed.code, with_data_of(relayed, data)),
    };
    let message = Value::from(&*fault.message);
    let error = format!(r#"{{"code":{code},"message":{message},"data":{data}}}"#);
    match id {
        Some(id) => format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.as_str()).into_bytes(),
        None => format!(r#"{{"jsonrpc":"2.0","error":{error}}}"#).into_bytes(),
    }
}

/// A server's own data, and ours beside it where it is an object that says nothing else there.
fn with_data_of(relayed: &Relayed, ours: Map<String, Value>) -> String {
    let Some(data) = &relayed.data else { return Value::Object(ours).to_string() };
    let Ok(mut object) = Object::open(&Raw::trusted(data.as_str())) else { return data.clone() };
    for (key, value) in ours {
        if object.get(&key).is_none() {
            object.set(&key, Raw::value(&value));
        }
    }
    object.to_raw().as_str().to_owned()
}

/// A notification.
pub fn notification(method: &str, params: &Object) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{}}}"#, params.to_raw().as_str()).into_bytes()
}

/// A message as one event of an event stream: one `data` line, no id, since streams are not resumable.
pub fn event(message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 8);
    out.extend_from_slice(b"data: ");
    // JSON has line breaks between tokens only, where a blank says the same.
    out.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// A comment line that keeps an idle stream open.
pub const KEEP_ALIVE: &[u8] = b":\n\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn done(text: &str) -> Value {
        let info = ServerInfo::new("w", "1");
        let raw = Raw::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        serde_json::from_slice(complete(&raw, &info).unwrap().bytes()).unwrap()
    }

    #[test]
    fn a_result_gets_its_type_and_the_servers_name_and_keeps_the_rest() {
        let info = json!({"name": "w", "version": "1"});
        assert_eq!(done("{}")["resultType"], "complete");
        assert_eq!(done("{ }")["_meta"]["io.modelcontextprotocol/serverInfo"], info);
        let kept = done(r#"{"content":[],"_meta":{"a/b":1},"resultType":"odd"}"#);
        assert_eq!(kept["_meta"], json!({"a/b": 1, "io.modelcontextprotocol/serverInfo": info}));
        assert_eq!(kept["resultType"], "complete");
        assert!(complete(&Raw::trusted("[]"), &ServerInfo::new("w", "1")).is_err());
    }

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(event(b"{\n\"a\":1}"), Bytes::from_static(b"data: { \"a\":1}\n\n"));
    }
}
