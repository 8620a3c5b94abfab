//! Requests of revision 2026-07-28: what stands in `params`, and what every request says of its client in `_meta`.
//!
//! MCP 2026-07-28, basic/index and basic/versioning. Must not know headers' transport, nor who carries a request out.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use super::input::ClientCapabilities;
use super::legacy::handshake::Agreed;
use super::level::{LogLevel, Trace};
use super::methods::{Method, Named};
use super::object::Object;
use super::raw::{self, Raw, RawError};
use super::revision::Revision;
use super::scan::Level;
use crate::error::Fault;

/// Where a value stands in its body; bodies are far smaller than 4 GiB.
#[derive(Debug, Default, Clone, Copy)]
struct Place {
    begin: u32,
    /// 0 when there is none.
    end: u32,
}

impl Place {
    fn new(place: Range<usize>) -> Self {
        let [begin, end] = [place.start, place.end].map(|at| u32::try_from(at).unwrap_or(0));
        Self { begin, end }
    }
}

/// One member of a body, looked at where it stands; that costs nothing.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    whole: &'a Raw,
    json: &'a str,
}

impl<'a> Member<'a> {
    /// Its JSON.
    pub fn as_str(self) -> &'a str {
        self.json
    }

    /// The member as a value of its own, which shares the body's bytes.
    pub fn raw(self) -> Raw {
        self.whole.share(self.json)
    }

    /// Reads it as a `T`.
    ///
    /// # Errors
    /// When the JSON has another shape than `T`; the text names the place.
    pub fn read<T: Deserialize<'a>>(self) -> Result<T, RawError> {
        raw::read(self.json)
    }

    /// The text of a string, borrowed unless something in it is escaped; none when it is no string.
    pub fn text(self) -> Option<Cow<'a, str>> {
        raw::text_of(self.json)
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.json.starts_with('{')
    }
}

/// Makes the places of an object's members, and how they are looked at. A member that is `null` is one that is not there.
macro_rules! members {
    ($(#[$doc:meta])* $places:ident of $object:ident { $($field:ident = $key:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone)]
        struct $places {
            $($field: Place,)+
        }

        impl $places {
            /// Whether it is one of them.
            fn note(&mut self, key: &str, place: Range<usize>) -> bool {
                match key {
                    $($key => self.$field = Place::new(place),)+
                    _ => return false,
                }
                true
            }
        }

        impl Params {
            $(#[doc = concat!("`", $key, "`")]
            pub fn $field(&self) -> Option<Member<'_>> {
                self.at(self.$object.$field).filter(|member| member.json != "null")
            })+
        }
    };
}

members! {
    /// Where the members of `params` stand that any method may have.
    MemberPlaces of members {
        meta = "_meta",
        name = "name",
        uri = "uri",
        cursor = "cursor",
        given = "arguments",
        argument = "argument",
        reference = "ref",
        context = "context",
        notifications = "notifications",
        answers = "inputResponses",
        request_state = "requestState",
        revision = "protocolVersion",
        capabilities = "capabilities",
        client = "clientInfo",
        level = "level",
        request_id = "requestId",
    }
}

members! {
    /// Where the members of `_meta` stand that this server reads.
    MetaPlaces of in_meta {
        said_version = "io.modelcontextprotocol/protocolVersion",
        said_capabilities = "io.modelcontextprotocol/clientCapabilities",
        said_client = "io.modelcontextprotocol/clientInfo",
        said_log_level = "io.modelcontextprotocol/logLevel",
        progress_token = "progressToken",
        traceparent = "traceparent",
        tracestate = "tracestate",
        baggage = "baggage",
    }
}

/// `params` of a request, in the body that they came in.
#[derive(Debug, Clone)]
pub struct Params {
    whole: Raw,
    members: MemberPlaces,
    in_meta: MetaPlaces,
    foreign: Vec<Stranger>,
}

/// A member that this server does not know.
#[derive(Debug, Clone)]
struct Stranger {
    in_meta: bool,
    key: Box<str>,
    place: Place,
}

/// What a request says that Waygate does not know, for the server that may: members of `params` and of its `_meta`.
#[derive(Debug, Default, PartialEq)]
pub struct Foreign {
    members: Vec<(String, Raw)>,
    meta: Vec<(String, Raw)>,
}

impl Foreign {
    /// Of `params`: keys as they stand in JSON, and their JSON.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members.iter().map(|(key, json)| (key.as_str(), json.as_str()))
    }

    /// The same of `_meta`.
    pub fn meta(&self) -> impl Iterator<Item = (&str, &str)> {
        self.meta.iter().map(|(key, json)| (key.as_str(), json.as_str()))
    }
}

/// Whether a key of `_meta` is the protocol's own, and so each hop's: MCP 2026-07-28, basic/index#meta.
pub fn is_reserved(key: &str) -> bool {
    let prefix = key.split_once('/').map(|(prefix, _)| prefix);
    matches!(prefix.and_then(|prefix| prefix.split('.').nth(1)), Some("modelcontextprotocol" | "mcp"))
}

/// A member of `params` with which 2025-11-25 asks for a task, of which nothing is relayed.
const TASK: &str = "task";

/// Where the members of `params` stand in a body.
#[derive(Default)]
pub(super) struct ParamPlaces {
    members: MemberPlaces,
    in_meta: MetaPlaces,
    foreign: Vec<Stranger>,
}

impl ParamPlaces {
    /// Notes a member that the scan found.
    pub(super) fn note(&mut self, level: Level, key: &str, place: Range<usize>) {
        let known = match level {
            Level::Params => self.members.note(key, place.clone()) || key == TASK,
            Level::Meta => self.in_meta.note(key, place.clone()) || is_reserved(key),
            Level::Message => true,
        };
        if !known {
            let in_meta = matches!(level, Level::Meta);
            self.foreign.push(Stranger { in_meta, key: key.into(), place: Place::new(place) });
        }
    }

    /// The params that stand so in `whole`.
    pub(super) fn of(self, whole: Raw) -> Params {
        Params { whole, members: self.members, in_meta: self.in_meta, foreign: self.foreign }
    }
}

impl Params {
    fn at(&self, place: Place) -> Option<Member<'_>> {
        let range = usize::try_from(place.begin).ok()?..usize::try_from(place.end).ok()?;
        (place.end > 0).then(|| Member { whole: &self.whole, json: self.whole.json_at(range) })
    }

    /// What it says that this server does not know; none when it knows all.
    pub fn foreign(&self) -> Option<Arc<Foreign>> {
        if self.foreign.is_empty() {
            return None;
        }
        let mut foreign = Foreign::default();
        for stranger in &self.foreign {
            let Some(member) = self.at(stranger.place) else { continue };
            let key = serde_json::Value::from(&*stranger.key).to_string();
            // One quote at each end and no more: a key may end with one of its own, which stays escaped.
            let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or_default();
            let list = if stranger.in_meta { &mut foreign.meta } else { &mut foreign.members };
            list.push((key.to_owned(), member.raw()));
        }
        Some(Arc::new(foreign))
    }

    /// The member that `Mcp-Name` repeats, when it is a string: the one that `method` reads, and no other.
    pub fn target(&self, method: Method) -> Option<Cow<'_, str>> {
        let member = match method.named() {
            Named::Not => None,
            Named::ByName => self.name(),
            Named::ByUri => self.uri(),
        };
        member?.text()
    }

    /// `arguments`, `{}` when left out.
    ///
    /// # Errors
    /// -32602 when it is not an object.
    pub fn arguments(&self) -> Result<Raw, Fault> {
        match self.given() {
            None => Ok(Raw::empty_object()),
            Some(arguments) if arguments.is_object() => Ok(arguments.raw()),
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
        // An answer of `null` is not the absence of answers: it is malformed, and must be seen to be refused.
        let Some(responses) = self.at(self.members.answers) else { return Ok(Object::default()) };
        Object::open(&responses.raw()).map_err(|_| {
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
        let Some(state) = self.request_state() else { return Ok(None) };
        state.read().map(Some).map_err(|_| {
            Fault::invalid_params(
                "`requestState` is not a string",
                "echo the `requestState` of the result unchanged",
            )
        })
    }

    /// W3C trace context.
    pub fn trace(&self) -> Trace {
        let text = |member: Option<Member<'_>>| member?.text().map(Cow::into_owned);
        Trace {
            parent: text(self.traceparent()).filter(|parent| Trace::is_parent(parent)),
            state: text(self.tracestate()),
            baggage: text(self.baggage()),
        }
    }
}

/// What a request says of its client and its wishes.
#[derive(Debug, Clone, Default)]
pub struct Meta {
    /// The revision that the body names.
    pub version: Cow<'static, str>,
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

thread_local! {
    /// The last `clientInfo` and what it says: most clients say the same of themselves with every request.
    static LAST_CLIENT: RefCell<(String, Option<Arc<str>>)> = const { RefCell::new((String::new(), None)) };
}

/// A longer `clientInfo` is not kept.
const LAST_CLIENT_MAX: usize = 1024;

/// `name/version` out of a `clientInfo`.
pub fn name_of(client: Member<'_>) -> Option<Arc<str>> {
    let read = || {
        let client: WireClient<'_> = client.read().ok()?;
        Some([&*client.name, "/", &*client.version].concat().into())
    };
    if client.as_str().len() > LAST_CLIENT_MAX {
        return read();
    }
    LAST_CLIENT.with_borrow_mut(|(said, name)| {
        if said != client.as_str() {
            client.as_str().clone_into(said);
            *name = read();
        }
        name.clone()
    })
}

/// Whether the body carries a modern `_meta`, which alone makes a request modern.
pub fn is_modern(params: &Params) -> bool {
    params.said_version().is_some()
}

const META: &str = "send `_meta` with `io.modelcontextprotocol/protocolVersion` (this server serves 2026-07-28) and \
                    `io.modelcontextprotocol/clientCapabilities` on every request";

impl Meta {
    /// Reads `_meta`.
    ///
    /// # Errors
    /// -32602 when it, its version or its capabilities are missing or of the wrong type.
    pub fn open(params: &Params) -> Result<Self, Fault> {
        match params.meta() {
            None => return Err(Fault::invalid_params("`params._meta` is missing", META)),
            Some(meta) if !meta.is_object() => {
                return Err(Fault::invalid_params("`params._meta` is not an object", META));
            }
            Some(_) => {}
        }
        let lacks = |key: &str| {
            let what = format!("`_meta` lacks `io.modelcontextprotocol/{key}`, or it has the wrong type");
            Fault::invalid_params(what, META)
        };
        let version = params.said_version().and_then(Member::text).ok_or_else(|| lacks("protocolVersion"))?;
        let capabilities = params.said_capabilities().filter(|capabilities| capabilities.is_object());
        let capabilities = capabilities.ok_or_else(|| lacks("clientCapabilities"))?;
        Ok(Self {
            version: match Revision::parse(&version) {
                Some(known) => Cow::Borrowed(known.name()),
                None => Cow::Owned(version.into_owned()),
            },
            client: ClientCapabilities::read(&capabilities.raw()).map_err(|_| lacks("clientCapabilities"))?,
            client_name: params.said_client().and_then(name_of),
            trace: params.trace(),
            progress_token: params.progress_token().map(Member::raw),
            log_level: params.said_log_level().map(Member::raw),
        })
    }

    /// What a request in a session says; who its client is and what it can be asked is known from the handshake.
    pub fn in_session(params: &Params, agreed: &Agreed) -> Self {
        Self {
            version: Cow::Borrowed(agreed.revision.name()),
            client: agreed.client.clone(),
            client_name: agreed.client_name.clone(),
            trace: params.trace(),
            progress_token: params.progress_token().map(Member::raw),
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
