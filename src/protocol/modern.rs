//! Requests of revision 2026-07-28: what stands in `params`, and what every request says of its client in `_meta`.
//!
//! MCP 2026-07-28, basic/index and basic/versioning. Must not know headers' transport, nor who carries a request out.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::input::ClientCapabilities;
use super::level::{LogLevel, Trace};
use super::object::Object;
use super::raw::Raw;
use crate::error::Fault;

/// The members of `params` that any method may have, still raw.
#[derive(Debug, Default, Clone)]
pub struct Params {
    pub meta: Option<Raw>,
    pub name: Option<Raw>,
    pub uri: Option<Raw>,
    pub cursor: Option<Raw>,
    pub arguments: Option<Raw>,
    pub argument: Option<Raw>,
    pub reference: Option<Raw>,
    pub context: Option<Raw>,
    pub notifications: Option<Raw>,
    pub responses: Option<Raw>,
    pub state: Option<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireParams<'a> {
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
    #[serde(borrow)]
    cursor: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    argument: Option<&'a RawValue>,
    #[serde(borrow, rename = "ref")]
    reference: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    notifications: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "super::envelope::present")]
    input_responses: Option<&'a RawValue>,
    #[serde(borrow)]
    request_state: Option<&'a RawValue>,
}

impl Params {
    /// Opens `params`, which the envelope found to be an object.
    pub fn open(params: Option<&Raw>) -> Self {
        let Some(params) = params else { return Self::default() };
        let Ok(wire) = params.read::<WireParams<'_>>() else { return Self::default() };
        let part = |member: Option<&RawValue>| member.map(|member| params.part(member));
        Self {
            meta: part(wire.meta),
            name: part(wire.name),
            uri: part(wire.uri),
            cursor: part(wire.cursor),
            arguments: part(wire.arguments),
            argument: part(wire.argument),
            reference: part(wire.reference),
            context: part(wire.context),
            notifications: part(wire.notifications),
            responses: part(wire.input_responses),
            state: part(wire.request_state),
        }
    }

    /// The member that `Mcp-Name` repeats, when it is a string.
    pub fn target(&self) -> Option<String> {
        self.name.as_ref().or(self.uri.as_ref())?.read().ok()
    }

    /// `arguments`, `{}` when left out.
    ///
    /// # Errors
    /// -32602 when it is not an object.
    pub fn arguments(&self) -> Result<Raw, Fault> {
        match &self.arguments {
            None => Ok(Raw::trusted("{}")),
            Some(arguments) if arguments.is_object() => Ok(arguments.clone()),
            Some(_) => Err(Fault::invalid_params(
                "`arguments` is not an object",
                "send `arguments` as an object, or leave it out",
            )),
        }
    }

    /// `inputResponses`; none and empty are the same.
    ///
    /// # Errors
    /// -32602 when it is not an object.
    pub fn responses(&self) -> Result<Object, Fault> {
        let Some(responses) = &self.responses else { return Ok(Object::default()) };
        Object::open(responses).map_err(|_| {
            Fault::invalid_params(
                "`inputResponses` is not an object",
                "send each answer under the key that it was asked under",
            )
        })
    }

    /// `requestState`.
    ///
    /// # Errors
    /// -32602 when it is not a string.
    pub fn state(&self) -> Result<Option<String>, Fault> {
        let Some(state) = &self.state else { return Ok(None) };
        state.read().map(Some).map_err(|_| {
            Fault::invalid_params(
                "`requestState` is not a string",
                "echo the `requestState` of the result unchanged",
            )
        })
    }
}

/// What a request says of its client and its wishes.
#[derive(Debug, Clone, Default)]
pub struct Meta {
    /// The revision that the body names.
    pub version: String,
    /// What the client can be asked.
    pub client: ClientCapabilities,
    /// `name/version` of the client, unverified.
    pub client_name: Option<Arc<str>>,
    /// W3C trace context.
    pub trace: Trace,
    progress_token: Option<Raw>,
    log_level: Option<Raw>,
}

#[derive(Deserialize)]
struct WireMeta<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<&'a RawValue>,
    #[serde(borrow, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<&'a RawValue>,
    #[serde(borrow, rename = "io.modelcontextprotocol/clientInfo")]
    client: Option<&'a RawValue>,
    #[serde(borrow, rename = "io.modelcontextprotocol/logLevel")]
    log_level: Option<&'a RawValue>,
    #[serde(borrow, rename = "progressToken")]
    progress_token: Option<&'a RawValue>,
    #[serde(borrow)]
    traceparent: Option<&'a RawValue>,
    #[serde(borrow)]
    tracestate: Option<&'a RawValue>,
    #[serde(borrow)]
    baggage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireClient<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
}

/// Whether the body carries a modern `_meta`, which alone makes a request modern.
pub fn is_modern(params: &Params) -> bool {
    let Some(meta) = &params.meta else { return false };
    meta.read::<WireMeta<'_>>().is_ok_and(|wire| wire.version.is_some())
}

const META: &str = "send `_meta` with `io.modelcontextprotocol/protocolVersion` (this server serves 2026-07-28) and \
                    `io.modelcontextprotocol/clientCapabilities` on every request";

impl Meta {
    /// Reads `_meta`.
    ///
    /// # Errors
    /// -32602 when it, its version or its capabilities are missing or of the wrong type.
    pub fn open(params: &Params) -> Result<Self, Fault> {
        let meta =
            params.meta.as_ref().ok_or_else(|| Fault::invalid_params("`params._meta` is missing", META))?;
        let wire: WireMeta<'_> =
            meta.read().map_err(|_| Fault::invalid_params("`params._meta` is not an object", META))?;
        let lacks = |key: &str| {
            Fault::invalid_params(
                format!("`_meta` lacks `io.modelcontextprotocol/{key}`, or it has the wrong type"),
                META,
            )
        };
        let version: Option<String> =
            wire.version.and_then(|version| serde_json::from_str(version.get()).ok());
        let capabilities = wire.capabilities.map(|raw| meta.part(raw)).filter(Raw::is_object);
        let capabilities = capabilities.ok_or_else(|| lacks("clientCapabilities"));
        let part = |member: Option<&RawValue>| member.map(|member| meta.part(member));
        Ok(Self {
            version: version.ok_or_else(|| lacks("protocolVersion"))?,
            client: ClientCapabilities::read(&capabilities?).map_err(|_| lacks("clientCapabilities"))?,
            client_name: wire.client.and_then(|client| {
                let client: WireClient<'_> = serde_json::from_str(client.get()).ok()?;
                Some(format!("{}/{}", client.name, client.version).into())
            }),
            trace: Trace {
                parent: text(wire.traceparent).filter(|parent| Trace::is_parent(parent)),
                state: text(wire.tracestate),
                baggage: text(wire.baggage),
            },
            progress_token: part(wire.progress_token),
            log_level: part(wire.log_level),
        })
    }

    /// The progress token, when the client wants progress.
    ///
    /// # Errors
    /// -32602 when it is neither a string nor an integer.
    pub fn progress_token(&self) -> Result<Option<&Raw>, Fault> {
        let Some(token) = &self.progress_token else { return Ok(None) };
        let text = token.as_str();
        if text.starts_with('"') || text.parse::<i64>().is_ok() {
            return Ok(Some(token));
        }
        Err(Fault::invalid_params(
            "`progressToken` is neither a string nor an integer",
            "send a string or an integer, unique among your requests in flight",
        ))
    }

    /// The least level of log messages that the client wants on this request's stream.
    ///
    /// # Errors
    /// -32602 when it is no level.
    pub fn log_level(&self) -> Result<Option<LogLevel>, Fault> {
        let Some(level) = &self.log_level else { return Ok(None) };
        level.read().map(Some).map_err(|_| {
            Fault::invalid_params(
                "`io.modelcontextprotocol/logLevel` is no log level",
                "use one of: debug, info, notice, warning, error, critical, alert, emergency",
            )
        })
    }
}

fn text(member: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(member?.get()).ok()
}
