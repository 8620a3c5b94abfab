//! What becomes of a server's errors and of links that do not carry: sentences that say to a caller what happened.
//!
//! What a server says in words is shown, cut; what a link says is for operators. Must not know eras' handshakes.

use std::time::Duration;

use serde_json::{Value, json};

use super::exchange::{METHOD_NOT_FOUND, shortened};
use super::link::LinkError;
use crate::plugins::{PluginError, Request};
use crate::protocol::legacy::asks::URL_REQUIRED;
use crate::protocol::{Object, Raw, RpcError};

/// JSON-RPC's code for parameters that are not right.
pub const INVALID_PARAMS: i64 = -32602;
/// A resource is not there, until 2025-11-25.
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// The headers do not repeat the body.
pub const HEADER_MISMATCH: i64 = -32020;
/// The client lacks a capability that the request needs.
pub const MISSING_CAPABILITY: i64 = -32021;
/// The revision is not spoken.
pub const UNSUPPORTED_VERSION: i64 = -32022;

/// JSON-RPC's code for what failed inside.
const INTERNAL: i64 = -32603;
/// Codes that say something of the way between Waygate and the server: a client would take them for a word on its own.
const OF_THE_WAY: [i64; 6] =
    [-32700, -32600, METHOD_NOT_FOUND, RESOURCE_NOT_FOUND, HEADER_MISMATCH, UNSUPPORTED_VERSION];

/// What a server's error answer to `request` is to the caller.
pub fn refused(plugin: &str, request: &Request, error: &RpcError) -> PluginError {
    let says = shortened(&error.message);
    match (error.code, request) {
        (RESOURCE_NOT_FOUND, Request::Read { uri, .. }) => PluginError::Unknown(uri.clone()),
        (INVALID_PARAMS, Request::Read { uri, .. }) if names_uri(error, &says) => {
            PluginError::Unknown(uri.clone())
        }
        (INVALID_PARAMS, _) => PluginError::InvalidParams(format!(
            "the server behind plugin {plugin} refuses the parameters: {says}"
        )),
        (MISSING_CAPABILITY, _) => {
            let required = error.data.get("requiredCapabilities").filter(|required| required.is_object());
            PluginError::MissingCapability(required.cloned().unwrap_or_else(|| json!({})))
        }
        (UNSUPPORTED_VERSION, _) => PluginError::away(format!(
            "the server behind plugin {plugin} speaks another revision than before, and is asked again what it speaks"
        )),
        (code, _) => {
            let why = format!("the server behind plugin {plugin} answered with error {code}: {says}");
            if OF_THE_WAY.contains(&code) || code == i64::from(URL_REQUIRED) {
                return PluginError::Answered { code: INTERNAL, why, data: None };
            }
            PluginError::Answered { code, why, data: error.raw_data() }
        }
    }
}

/// Whether it is evident that the resource is not there: the revision's own way to say so, or plain words.
fn names_uri(error: &RpcError, says: &str) -> bool {
    error.data.get("uri").is_some_and(Value::is_string) || says.to_ascii_lowercase().contains("not found")
}

/// What a link that did not carry is to the caller.
pub fn not_carried(plugin: &str, error: &LinkError) -> PluginError {
    let server = format!("the server behind plugin {plugin}");
    match error {
        LinkError::Unreachable(_) => PluginError::away(format!("{server} cannot be reached")),
        LinkError::Misconfigured(_) => PluginError::away(format!(
            "{server} cannot be reached, since its settings cannot be used; the operator sees why in `/plugins`"
        )),
        LinkError::SessionLost => PluginError::away(format!("{server} lost its session; nothing was done")),
        LinkError::Status { status: status @ (429 | 503), retry_after_seconds, .. } => {
            let when = retry_after_seconds.map(|seconds| format!(", it says after {seconds} s"));
            PluginError::Away {
                why: format!(
                    "{server} has no room now (HTTP status {status}); call again later{}",
                    when.unwrap_or_default()
                ),
                returns: retry_after_seconds.map(Duration::from_secs),
            }
        }
        LinkError::Status { status: status @ (401 | 403), .. } => PluginError::Upstream(format!(
            "{server} does not take Waygate's own credentials (HTTP status {status}); the operator must mend them"
        )),
        LinkError::Status { .. } => PluginError::Upstream(format!("{server} failed: {error}")),
        LinkError::Broken(_) => PluginError::Upstream(format!(
            "the connection to {server} broke in the middle of the call; whether it had an effect is not known"
        )),
        LinkError::TooLarge(_) => PluginError::Upstream(format!(
            "{server} was cut off: {error}, which is all that response_max_bytes allows"
        )),
        LinkError::Garbage(_) => PluginError::Upstream(format!(
            "{server} answered with something that is no message of the protocol; whether the call had an effect is not known"
        )),
    }
}

/// A server's answer that its protocol does not allow.
pub fn nonsense(plugin: &str, what: &str) -> PluginError {
    PluginError::Upstream(format!("the server behind plugin {plugin} answered with nonsense: {what}"))
}

/// A result without what the revision put there for the way between the server and Waygate: its type, and the server's
/// name, which Waygate's takes the place of. All else stays, byte for byte.
pub fn plain(result: Raw) -> Raw {
    const TYPED: &str = "{\"resultType\":\"complete\",";
    let text = result.as_str();
    // Most begin with their type and name nobody: then what follows is the rest, and need not be opened.
    let (typed, rest) = match text.strip_prefix(TYPED) {
        Some(rest) => (true, rest),
        None => (text.contains("\"resultType\""), text),
    };
    if !(rest.contains("\"_meta\"") || rest.contains("\\u")) {
        if !typed {
            return result;
        }
        if rest.len() < text.len() {
            return Raw::trusted(["{", rest].concat());
        }
    }
    let Ok(mut object) = Object::open(&result) else { return result };
    let typed = object.remove("resultType").is_some();
    let meta = object.get("_meta").filter(|raw| raw.is_object()).and_then(|raw| Object::open(raw).ok());
    let named = meta.and_then(|mut meta| meta.remove("io.modelcontextprotocol/serverInfo").map(|_name| meta));
    match named {
        Some(meta) if meta.is_empty() => drop(object.remove("_meta")),
        Some(meta) => object.set("_meta", meta.to_raw()),
        None if !typed => return result,
        None => {}
    }
    object.to_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_there_for_the_way_is_taken_off_and_all_else_keeps_its_bytes() {
        for (result, left) in [
            (r#"{"resultType":"complete","content":[ 1.50 ]}"#, r#"{"content":[ 1.50 ]}"#),
            (r#"{"resultType":"complete", "content":[]}"#, r#"{ "content":[]}"#),
            (r#"{"content":[],"resultType":"complete"}"#, r#"{"content":[]}"#),
            (r#"{"resultType":"complete"}"#, "{}"),
            (r#"{"resultType":"complete","a":{"resultType":"x"}}"#, r#"{"a":{"resultType":"x"}}"#),
            (
                r#"{"resultType":"complete","_meta":{"a/b":1,"io.modelcontextprotocol/serverInfo":{}}}"#,
                r#"{"_meta":{"a/b":1}}"#,
            ),
            (r#"{"resultType":"complete","_m\u0065ta":{"io.modelcontextprotocol/serverInfo":{}}}"#, "{}"),
            (
                r#"{"a":{"_meta":{"io.modelcontextprotocol/serverInfo":{}}}, "b":1}"#,
                r#"{"a":{"_meta":{"io.modelcontextprotocol/serverInfo":{}}}, "b":1}"#,
            ),
        ] {
            assert_eq!(plain(Raw::trusted(result)).as_str(), left, "{result}");
        }
    }
}
