//! Asking the client for something in the middle of a call: what may be asked, and what came back.
//!
//! MCP 2026-07-28, basic/patterns/mrtr and client/{elicitation,sampling,roots}. Must not know how state is sealed.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::incoming::RpcError;
use super::object::Object;
use super::raw::{Raw, RawError};

/// What the client of one request said it can do. Never remembered from an earlier request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientCapabilities {
    /// It answers `roots/list`.
    pub roots: bool,
    /// It answers `sampling/createMessage`.
    pub sampling: bool,
    /// … also with `tools` and `toolChoice`.
    pub sampling_tools: bool,
    /// It answers `elicitation/create` with a form.
    pub elicitation_form: bool,
    /// It answers `elicitation/create` with a URL to open.
    pub elicitation_url: bool,
    /// The object as it came, for those who relay it.
    pub raw: Option<Raw>,
}

#[derive(Deserialize)]
struct Declared<'a> {
    #[serde(borrow)]
    roots: Option<&'a RawValue>,
    #[serde(borrow)]
    sampling: Option<Modes<'a>>,
    #[serde(borrow)]
    elicitation: Option<Modes<'a>>,
}

/// The members of `sampling` and `elicitation` that we look at.
#[derive(Deserialize)]
struct Modes<'a> {
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    form: Option<&'a RawValue>,
    #[serde(borrow)]
    url: Option<&'a RawValue>,
}

impl ClientCapabilities {
    /// Reads the `clientCapabilities` of a request.
    ///
    /// # Errors
    /// When it is not an object, or a capability in it is not.
    pub fn read(raw: &Raw) -> Result<Self, RawError> {
        if raw.as_str() == "{}" {
            return Ok(Self { raw: Some(Raw::empty_object()), ..Self::default() });
        }
        let declared: Declared<'_> = raw.read()?;
        let elicitation = declared.elicitation.as_ref();
        Ok(Self {
            roots: declared.roots.is_some(),
            sampling: declared.sampling.is_some(),
            sampling_tools: declared.sampling.is_some_and(|sampling| sampling.tools.is_some()),
            // `{}` means forms only.
            elicitation_form: elicitation.is_some_and(|modes| modes.form.is_some() || modes.url.is_none()),
            elicitation_url: elicitation.is_some_and(|modes| modes.url.is_some()),
            raw: Some(raw.clone()),
        })
    }

    /// What `ask` needs and this client did not declare, in the shape of `data.requiredCapabilities`.
    pub fn missing_for(&self, ask: &InputRequest) -> Option<Value> {
        match ask.method {
            InputMethod::Roots => (!self.roots).then(|| json!({"roots": {}})),
            InputMethod::Sampling if !self.sampling => Some(json!({"sampling": {}})),
            InputMethod::Sampling => {
                let tools = Object::open(&ask.params).is_ok_and(|params| params.get("tools").is_some());
                (tools && !self.sampling_tools).then(|| json!({"sampling": {"tools": {}}}))
            }
            InputMethod::ElicitForm => (!self.elicitation_form).then(|| json!({"elicitation": {"form": {}}})),
            InputMethod::ElicitUrl => (!self.elicitation_url).then(|| json!({"elicitation": {"url": {}}})),
        }
    }
}

/// The requests that a server may make of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputMethod {
    /// `elicitation/create` in form mode.
    ElicitForm,
    /// `elicitation/create` in URL mode.
    ElicitUrl,
    /// `sampling/createMessage`.
    Sampling,
    /// `roots/list`.
    Roots,
}

impl InputMethod {
    /// The JSON-RPC method.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ElicitForm | Self::ElicitUrl => "elicitation/create",
            Self::Sampling => "sampling/createMessage",
            Self::Roots => "roots/list",
        }
    }
}

/// One thing asked of the client.
#[derive(Debug, Clone)]
pub struct InputRequest {
    /// Which request.
    pub method: InputMethod,
    /// Its `params`, an object.
    pub params: Raw,
}

impl InputRequest {
    /// Asks the user to fill in a form; `schema` is a flat object schema.
    pub fn form(message: &str, schema: Value) -> Self {
        let params = json!({"mode": "form", "message": message, "requestedSchema": schema});
        Self { method: InputMethod::ElicitForm, params: Raw::value(&params) }
    }

    /// Asks the user to open a URL. It must not carry the user's data, nor be signed in already.
    pub fn url(message: &str, url: &str) -> Self {
        let params = json!({"mode": "url", "message": message, "url": url});
        Self { method: InputMethod::ElicitUrl, params: Raw::value(&params) }
    }

    /// Asks the client's model; `params` are those of `sampling/createMessage`.
    pub fn sampling(params: Value) -> Self {
        Self { method: InputMethod::Sampling, params: Raw::value(&params) }
    }

    /// Asks for the client's roots.
    pub fn roots() -> Self {
        Self { method: InputMethod::Roots, params: Raw::empty_object() }
    }

    /// What a server asks with this method and these parameters, if it is something that a client can be asked.
    pub fn from_parts(method: &str, params: Option<&Raw>) -> Option<Self> {
        let params = params.filter(|params| params.is_object()).cloned().unwrap_or_else(Raw::empty_object);
        let method = match method {
            "roots/list" => InputMethod::Roots,
            "sampling/createMessage" => InputMethod::Sampling,
            "elicitation/create" => match Object::open(&params).ok()?.text("mode").as_deref() {
                Some("url") => InputMethod::ElicitUrl,
                _ => InputMethod::ElicitForm,
            },
            _ => return None,
        };
        Some(Self { method, params })
    }

    /// Its JSON inside `inputRequests`.
    pub fn to_value(&self) -> Raw {
        let mut object = Object::default();
        object.put("method", self.method.name());
        if self.method != InputMethod::Roots {
            object.set("params", self.params.clone());
        }
        object.to_raw()
    }
}

/// What a retried call brings: the client's answers and the plugin's own state from the round before.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    responses: Object,
    refusals: Vec<(String, RpcError)>,
    state: Option<Raw>,
}

impl Answers {
    /// Of a call that comes with these `inputResponses` and this unsealed state.
    pub fn new(responses: Object, state: Option<Raw>) -> Self {
        Self { responses, refusals: Vec::new(), state }
    }

    /// The same, with the errors that the client answered some of the questions with, under their keys.
    pub fn refusing(self, refusals: Vec<(String, RpcError)>) -> Self {
        Self { refusals, ..self }
    }

    /// The answer to what was asked under `key`, when it has the shape that `T` wants.
    pub fn get<T: serde::de::DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.responses.get(key)?.read().ok()
    }

    /// The content of an accepted form asked under `key`.
    pub fn accepted(&self, key: &str) -> Option<Value> {
        let answer: Value = self.get(key)?;
        (answer.get("action")?.as_str()? == "accept")
            .then(|| answer.get("content").cloned().unwrap_or_default())
    }

    /// The state that the plugin gave with its last [`Outcome::InputRequired`](crate::plugins::Outcome).
    pub fn state<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        self.state.as_ref()?.read().ok()
    }

    /// All answers under the keys that they were asked under, as they came.
    pub fn responses(&self) -> &Object {
        &self.responses
    }

    /// The questions that the client answered with an error, and with which. Only clients with sessions can do so.
    pub fn refusals(&self) -> &[(String, RpcError)] {
        &self.refusals
    }

    /// Whether this is the first round.
    pub fn is_first(&self) -> bool {
        self.responses.is_empty() && self.refusals.is_empty() && self.state.is_none()
    }
}
