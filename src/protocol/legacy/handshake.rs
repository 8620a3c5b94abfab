//! `initialize`: what a client says of itself once, for its whole session, and what it is told.
//!
//! MCP 2025-11-25, basic/lifecycle. Must not know where sessions are kept.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::error::Fault;
use crate::protocol::capabilities::Offers;
use crate::protocol::modern::{self, Params};
use crate::protocol::render::ServerInfo;
use crate::protocol::{ClientCapabilities, Raw, Revision};

/// What is settled by a handshake.
#[derive(Debug, Clone)]
pub struct Agreed {
    /// What both speak from now on.
    pub revision: Revision,
    /// What the client can be asked, as far as the revision knows it.
    pub client: ClientCapabilities,
    /// `name/version` of the client, unverified.
    pub client_name: Option<Arc<str>>,
}

/// Reads the parameters of `initialize`.
///
/// # Errors
/// -32602 when the revision or the capabilities are missing or of the wrong type.
pub fn read(params: &Params) -> Result<Agreed, Fault> {
    let refuse = |what: &'static str, advice: &'static str| Fault::invalid_params(what, advice);
    let requested: Option<String> = params.revision().and_then(|revision| revision.read().ok());
    let requested = requested.ok_or_else(|| {
        refuse("`protocolVersion` is missing or not a string", "name the newest revision that you speak")
    })?;
    let capabilities = params.capabilities().filter(|capabilities| capabilities.is_object());
    let capabilities =
        capabilities.and_then(|raw| ClientCapabilities::read(&raw.raw()).ok()).ok_or_else(|| {
            refuse(
                "`capabilities` is missing or not an object of objects",
                "send `capabilities`, `{}` if you have none",
            )
        })?;
    let revision = Revision::negotiate(&requested);
    Ok(Agreed {
        revision,
        client: within(&capabilities, revision),
        client_name: params.client().and_then(modern::name_of),
    })
}

/// The capabilities that both the client and its revision have, in the words of 2026-07-28. Nothing of the request is
/// kept: the session outlives it.
fn within(declared: &ClientCapabilities, revision: Revision) -> ClientCapabilities {
    let mut known = ClientCapabilities {
        roots: declared.roots,
        sampling: declared.sampling,
        sampling_tools: declared.sampling_tools && revision.has_url_elicitation(),
        elicitation_form: declared.elicitation_form && revision.has_elicitation(),
        elicitation_url: declared.elicitation_url && revision.has_url_elicitation(),
        raw: None,
    };
    let mut raw = Map::new();
    if known.roots {
        raw.insert("roots".to_owned(), json!({}));
    }
    if known.sampling {
        let tools = known.sampling_tools.then(|| json!({"tools": {}}));
        raw.insert("sampling".to_owned(), tools.unwrap_or_else(|| json!({})));
    }
    if known.elicitation_form || known.elicitation_url {
        let modes = [("form", known.elicitation_form), ("url", known.elicitation_url)];
        let modes: Map<String, Value> =
            modes.iter().filter(|(_, has)| *has).map(|(mode, _)| ((*mode).to_owned(), json!({}))).collect();
        raw.insert("elicitation".to_owned(), Value::Object(modes));
    }
    known.raw = Some(Raw::value(&Value::Object(raw)));
    known
}

/// The result of `initialize`.
pub fn welcome(revision: Revision, info: &ServerInfo, mut offers: Offers, instructions: Option<&str>) -> Raw {
    offers.completes &= revision.has_audio_and_annotations();
    let mut result = json!({
        "protocolVersion": revision.name(),
        "capabilities": offers.to_value(),
        "serverInfo": info.to_value(),
    });
    if let (Some(text), Some(members)) = (instructions, result.as_object_mut()) {
        members.insert("instructions".to_owned(), text.into());
    }
    Raw::value(&result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Message;

    fn agreed(params: &Value) -> Result<Agreed, Fault> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string();
        let Ok(Message::Request { params, .. }) = Message::parse(body.into()) else { panic!("a request") };
        read(&params)
    }

    #[test]
    fn a_client_is_asked_no_more_than_its_revision_knows() {
        let capabilities = json!({"roots": {"listChanged": true}, "sampling": {"tools": {}},
                                  "elicitation": {"form": {}, "url": {}}});
        let at = |version: &str| {
            let agreed = agreed(&json!({"protocolVersion": version, "capabilities": capabilities})).unwrap();
            let raw: Value = agreed.client.raw.as_ref().unwrap().read().unwrap();
            (agreed.client.sampling_tools, agreed.client.elicitation_form, agreed.client.elicitation_url, raw)
        };
        let all = json!({"roots": {}, "sampling": {"tools": {}}, "elicitation": {"form": {}, "url": {}}});
        assert_eq!(at("2025-11-25"), (true, true, true, all));
        let some = json!({"roots": {}, "sampling": {}, "elicitation": {"form": {}}});
        assert_eq!(at("2025-06-18"), (false, true, false, some));
        assert_eq!(at("2025-03-26"), (false, false, false, json!({"roots": {}, "sampling": {}})));
    }

    #[test]
    fn a_handshake_that_says_too_little_or_nonsense_is_refused() {
        let client = json!({"name": "c", "version": "1"});
        let good = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
        assert_eq!(agreed(&good).unwrap().client_name.as_deref(), Some("c/1"));
        for bad in [
            json!({}),
            json!({"capabilities": {}}),
            json!({"protocolVersion": 1, "capabilities": {}}),
            json!({"protocolVersion": "2025-06-18"}),
            json!({"protocolVersion": "2025-06-18", "capabilities": []}),
            json!({"protocolVersion": "2025-06-18", "capabilities": {"sampling": 7}}),
        ] {
            assert!(agreed(&bad).is_err(), "{bad}");
        }
    }
}
