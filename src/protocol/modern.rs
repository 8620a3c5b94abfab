//! Requests of revision 2026-07-28: what stands in `params`, and what every request says of its client in `_meta`.
//!
//! MCP 2026-07-28, basic/index and basic/versioning. Must not know headers' transport, nor who carries a request out.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use super::input::ClientCapabilities;
use super::legacy::handshake::Agreed;
use super::level::{LogLevel, Trace};
use super::methods::{Method, Named};
use super::object::Object;
use super::raw::Raw;
use super::scan::Level;
use crate::error::Fault;

/// Makes a struct of raw members, and the places that they are taken from.
macro_rules! members {
    ($(#[$doc:meta])* $name:ident, $places:ident { $($field:ident = $key:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone)]
        pub struct $name {
            $(#[doc = concat!("`", $key, "`")] pub $field: Option<Raw>,)+
        }

        /// Where they stand in a body.
        #[derive(Default)]
        struct $places {
            $($field: Option<Range<usize>>,)+
        }

        impl $places {
            fn note(&mut self, key: &str, place: Range<usize>) {
                match key {
                    $($key => self.$field = Some(place),)+
                    _ => {}
                }
            }

            /// A member that is `null` is one that is not there.
            fn take(self, whole: &Raw) -> $name {
                let take = |place: Option<Range<usize>>| place.map(|place| whole.at(place)).filter(|raw| !raw.is_null());
                $name { $($field: take(self.$field),)+ }
            }
        }
    };
}

members! {
    /// The members of `params` that any method may have.
    Members, MemberPlaces {
        meta = "_meta",
        name = "name",
        uri = "uri",
        cursor = "cursor",
        arguments = "arguments",
        argument = "argument",
        reference = "ref",
        context = "context",
        notifications = "notifications",
        responses = "inputResponses",
        state = "requestState",
        revision = "protocolVersion",
        capabilities = "capabilities",
        client = "clientInfo",
        level = "level",
        request_id = "requestId",
    }
}

members! {
    /// The members of `_meta` that this server reads.
    MetaMembers, MetaPlaces {
        version = "io.modelcontextprotocol/protocolVersion",
        capabilities = "io.modelcontextprotocol/clientCapabilities",
        client = "io.modelcontextprotocol/clientInfo",
        log_level = "io.modelcontextprotocol/logLevel",
        progress_token = "progressToken",
        traceparent = "traceparent",
        tracestate = "tracestate",
        baggage = "baggage",
    }
}

/// `params` of a request, still raw.
#[derive(Debug, Default, Clone)]
pub struct Params {
    /// Its own members.
    pub members: Members,
    meta: MetaMembers,
}

/// Where the members of `params` stand in a body.
#[derive(Default)]
pub(super) struct ParamPlaces {
    members: MemberPlaces,
    meta: MetaPlaces,
}

impl ParamPlaces {
    /// Notes a member that the scan found.
    pub(super) fn note(&mut self, level: Level, key: &str, place: Range<usize>) {
        match level {
            Level::Params => self.members.note(key, place),
            Level::Meta => self.meta.note(key, place),
            Level::Message => {}
        }
    }

    /// Takes the members out of the body.
    pub(super) fn take(self, whole: &Raw) -> Params {
        // An answer of `null` is not the absence of answers: it is malformed, and must be seen to be refused.
        let responses = self.members.responses.clone().map(|place| whole.at(place));
        let members = Members { responses, ..self.members.take(whole) };
        Params { members, meta: self.meta.take(whole) }
    }
}

impl Params {
    /// The progress token as it came, right or wrong.
    pub fn progress_token(&self) -> Option<Raw> {
        self.meta.progress_token.clone()
    }

    /// The member that `Mcp-Name` repeats, when it is a string: the one that `method` reads, and no other.
    pub fn target(&self, method: Method) -> Option<Cow<'_, str>> {
        let member = match method.named() {
            Named::Not => None,
            Named::ByName => self.members.name.as_ref(),
            Named::ByUri => self.members.uri.as_ref(),
        };
        member?.text()
    }

    /// `arguments`, `{}` when left out.
    ///
    /// # Errors
    /// -32602 when it is not an object.
    pub fn arguments(&self) -> Result<Raw, Fault> {
        match &self.members.arguments {
            None => Ok(Raw::empty_object()),
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
        let Some(responses) = &self.members.responses else { return Ok(Object::default()) };
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
        let Some(state) = &self.members.state else { return Ok(None) };
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
struct WireClient<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
}

/// `name/version` out of a `clientInfo`.
pub fn name_of(client: &Raw) -> Option<Arc<str>> {
    let client: WireClient<'_> = client.read().ok()?;
    Some(format!("{}/{}", client.name, client.version).into())
}

impl MetaMembers {
    fn trace(&self) -> Trace {
        Trace {
            parent: text(self.traceparent.as_ref()).filter(|parent| Trace::is_parent(parent)),
            state: text(self.tracestate.as_ref()),
            baggage: text(self.baggage.as_ref()),
        }
    }
}

/// Whether the body carries a modern `_meta`, which alone makes a request modern.
pub fn is_modern(params: &Params) -> bool {
    params.meta.version.is_some()
}

const META: &str = "send `_meta` with `io.modelcontextprotocol/protocolVersion` (this server serves 2026-07-28) and \
                    `io.modelcontextprotocol/clientCapabilities` on every request";

impl Meta {
    /// Reads `_meta`.
    ///
    /// # Errors
    /// -32602 when it, its version or its capabilities are missing or of the wrong type.
    pub fn open(params: &Params) -> Result<Self, Fault> {
        match &params.members.meta {
            None => return Err(Fault::invalid_params("`params._meta` is missing", META)),
            Some(meta) if !meta.is_object() => {
                return Err(Fault::invalid_params("`params._meta` is not an object", META));
            }
            Some(_) => {}
        }
        let meta = &params.meta;
        let lacks = |key: &str| {
            let what = format!("`_meta` lacks `io.modelcontextprotocol/{key}`, or it has the wrong type");
            Fault::invalid_params(what, META)
        };
        let version = text(meta.version.as_ref()).ok_or_else(|| lacks("protocolVersion"))?;
        let capabilities = meta.capabilities.as_ref().filter(|raw| raw.is_object());
        let capabilities = capabilities.ok_or_else(|| lacks("clientCapabilities"))?;
        Ok(Self {
            version,
            client: ClientCapabilities::read(capabilities).map_err(|_| lacks("clientCapabilities"))?,
            client_name: meta.client.as_ref().and_then(name_of),
            trace: meta.trace(),
            progress_token: meta.progress_token.clone(),
            log_level: meta.log_level.clone(),
        })
    }

    /// What a request in a session says; who its client is and what it can be asked is known from the handshake.
    pub fn in_session(params: &Params, agreed: &Agreed) -> Self {
        Self {
            version: agreed.revision.name().to_owned(),
            client: agreed.client.clone(),
            client_name: agreed.client_name.clone(),
            trace: params.meta.trace(),
            progress_token: params.meta.progress_token.clone(),
            log_level: None,
        }
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

fn text(member: Option<&Raw>) -> Option<String> {
    Some(member?.text()?.into_owned())
}
