//! One published tool, prompt, resource or template: whose it is, and what is needed to use it.
//!
//! Must not know how it is listed.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::Histogram;
use serde_json::Value;

use super::caching::Caching;
use super::schema::{self, Mirror, Schema};
use super::seat::Seat;
use super::template::Template;
use super::{digest, names, secrets};
use crate::access::limits::Allowance;
use crate::protocol::{Definition, Object, Raw};
use crate::telemetry::redaction::places::Hidden;

/// A tool.
#[derive(Clone)]
pub struct ToolEntry {
    /// Its published name, where it was found.
    pub name: Arc<str>,
    /// Its published name among all tools: what history and metrics call it.
    pub canonical: Arc<str>,
    /// What its plugin calls it.
    pub local: Arc<str>,
    /// Whose it is.
    pub seat: Arc<Seat>,
    /// Arguments that headers repeat.
    pub mirrors: Arc<[Mirror]>,
    /// What its arguments must be.
    pub input: Arc<Schema>,
    /// What of them is recorded nowhere; none for nearly all.
    pub hidden: Option<Arc<Hidden>>,
    /// What its structured result must be.
    pub output: Option<Arc<Schema>>,
    /// How long its calls took, from its first call on.
    time: Arc<OnceLock<Histogram>>,
    /// Seconds that a call of it may take, where they are not those of all its plugin's calls.
    pub timeout_seconds: Option<u64>,
    /// What all calls of it may use up together; none means all.
    pub allowance: Option<Arc<Allowance>>,
    /// Whether its answers are kept.
    pub caching: Arc<Caching>,
    /// Why they are not, though the operator wants it.
    pub(super) uncached: Option<&'static str>,
    /// The canonical hash of its definition, as its plugin wrote it.
    pub digest: Arc<str>,
    /// As its plugin wrote it.
    pub definition: Definition,
    /// As clients see it.
    pub(super) shown: Raw,
}

/// A prompt.
#[derive(Clone)]
pub struct PromptEntry {
    /// Its published name, where it was found.
    pub name: Arc<str>,
    /// Its published name among all prompts.
    pub canonical: Arc<str>,
    /// What its plugin calls it.
    pub local: Arc<str>,
    /// Whose it is.
    pub seat: Arc<Seat>,
    /// Arguments that must be there.
    pub required: Vec<String>,
    /// As its plugin wrote it.
    pub definition: Definition,
    /// As clients see it.
    pub(super) shown: Raw,
}

/// A resource, or a template of resources.
#[derive(Clone)]
pub struct ResourceEntry {
    /// Its URI or URI template.
    pub uri: Arc<str>,
    /// Whose it is.
    pub seat: Arc<Seat>,
    /// What it covers, if it is a template.
    pub template: Option<Template>,
    /// As clients see it.
    pub(super) shown: Raw,
}

impl ToolEntry {
    /// Publishes a tool.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn publish(seat: &Arc<Seat>, definition: &Definition) -> Result<Self, String> {
        let local = definition.name();
        let (name, local) = published(seat, &local, seat.curator.name_alone(&local))?;
        let input = definition.object().get("inputSchema").ok_or("it has no inputSchema")?;
        let compiled =
            Schema::of_arguments(input).map_err(|why| format!("its inputSchema is refused: {why}"))?;
        let mirrors = schema::mirrors(input)?.into();
        let output = definition.object().get("outputSchema").map(Schema::compile).transpose();
        let output = output.map_err(|why| format!("its outputSchema is refused: {why}"))?;
        let curated = seat.curator.curate(&local, definition)?;
        let caching = seat.curator.caching(&local, is_read_only(&curated));
        let uncached = caching.as_ref().err().copied();
        Ok(Self {
            time: Arc::default(),
            hidden: secrets::of_arguments(input, seat.curator.redact(&local)),
            input: Arc::new(compiled),
            output: output.map(Arc::new),
            mirrors,
            timeout_seconds: seat.curator.timeout_seconds(&local),
            allowance: seat.allowance(&local),
            digest: digest::of(&definition.object().to_raw()).into(),
            shown: under(curated, &name),
            caching: caching.unwrap_or_default().into(),
            uncached,
            canonical: Arc::clone(&name),
            name,
            local,
            seat: Arc::clone(seat),
            definition: definition.clone(),
        })
    }

    /// The same where its plugin's name does not stand before it; what was compiled is shared.
    pub(super) fn alone(&self) -> Self {
        let name: Arc<str> = names::plain(&self.seat.name, self.seat.curator.name_alone(&self.local)).into();
        Self {
            shown: renamed(&self.shown, &name),
            name,
            canonical: Arc::clone(&self.canonical),
            local: Arc::clone(&self.local),
            seat: Arc::clone(&self.seat),
            mirrors: Arc::clone(&self.mirrors),
            input: Arc::clone(&self.input),
            hidden: self.hidden.clone(),
            output: self.output.clone(),
            time: Arc::clone(&self.time),
            timeout_seconds: self.timeout_seconds,
            allowance: self.allowance.clone(),
            caching: Arc::clone(&self.caching),
            uncached: self.uncached,
            digest: Arc::clone(&self.digest),
            definition: self.definition.clone(),
        }
    }

    /// The same where the plugin that sits on `seat` does it.
    pub fn on(&self, seat: &Arc<Seat>) -> Self {
        Self { seat: Arc::clone(seat), ..self.clone() }
    }

    /// Seconds that a call of it may take.
    pub fn seconds(&self) -> u64 {
        self.timeout_seconds.unwrap_or(self.seat.limits.timeout_seconds)
    }

    /// What clients are told of what it does.
    pub fn description(&self) -> Option<String> {
        Object::open(&self.shown).ok()?.text("description")
    }

    /// Notes how long a call of it took.
    pub fn took(&self, time: Duration) {
        self.time.get_or_init(|| self.seat.meter.tool(&self.canonical)).observe(time.as_secs_f64());
    }

    /// How long its calls took; none if it was never called.
    pub fn time(&self) -> Option<&Histogram> {
        self.time.get()
    }

    /// About how many tokens its definition costs a model: a quarter of its bytes.
    pub fn tokens(&self) -> usize {
        self.shown.bytes().len().div_ceil(4)
    }
}

impl PromptEntry {
    /// The same where the plugin that sits on `seat` gives it.
    pub fn on(&self, seat: &Arc<Seat>) -> Self {
        Self { seat: Arc::clone(seat), ..self.clone() }
    }

    /// Publishes a prompt.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn publish(seat: &Arc<Seat>, definition: &Definition) -> Result<Self, String> {
        let local = definition.name();
        let (name, local) = published(seat, &local, &local)?;
        let arguments: Vec<Value> =
            definition.object().get("arguments").and_then(|list| list.read().ok()).unwrap_or_default();
        let is_required = |argument: &&Value| argument.get("required").and_then(Value::as_bool) == Some(true);
        let name_of = |argument: &Value| argument.get("name").and_then(Value::as_str).map(str::to_owned);
        let required = arguments.iter().filter(is_required).filter_map(name_of).collect();
        Ok(Self {
            shown: under(definition.object().clone(), &name),
            canonical: Arc::clone(&name),
            name,
            local,
            seat: Arc::clone(seat),
            required,
            definition: definition.clone(),
        })
    }

    /// The same where its plugin's name does not stand before it.
    pub(super) fn alone(&self) -> Self {
        let name: Arc<str> = names::plain(&self.seat.name, &self.local).into();
        Self {
            shown: renamed(&self.shown, &name),
            name,
            canonical: Arc::clone(&self.canonical),
            local: Arc::clone(&self.local),
            seat: Arc::clone(&self.seat),
            required: self.required.clone(),
            definition: self.definition.clone(),
        }
    }
}

impl ResourceEntry {
    /// The same where the plugin that sits on `seat` gives it.
    pub fn on(&self, seat: &Arc<Seat>) -> Self {
        Self { seat: Arc::clone(seat), ..self.clone() }
    }

    /// Publishes a resource or a template.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn publish(seat: &Arc<Seat>, definition: &Definition) -> Result<Self, String> {
        let uri = definition.uri();
        if !uri.contains(':') {
            return Err("its URI has no scheme".to_owned());
        }
        let is_template = definition.object().get("uriTemplate").is_some();
        let template = is_template.then(|| Template::parse(&uri)).transpose()?;
        let shown = definition.object().to_raw();
        Ok(Self { uri: uri.into(), seat: Arc::clone(seat), template, shown })
    }

    /// What no list names, but a link of its plugin's did.
    pub(super) fn linked(seat: &Arc<Seat>, uri: &str) -> Self {
        Self { uri: uri.into(), seat: Arc::clone(seat), template: None, shown: Raw::empty_object() }
    }
}

/// Whether a tool is said to change nothing, by its plugin or by the operator.
fn is_read_only(definition: &Object) -> bool {
    let annotations = definition.get("annotations").and_then(|annotations| annotations.read::<Value>().ok());
    annotations.and_then(|annotations| annotations.get("readOnlyHint")?.as_bool()) == Some(true)
}

/// The definition as clients see it: under the published name.
fn under(mut object: Object, name: &str) -> Raw {
    object.put("name", name);
    object.to_raw()
}

fn renamed(shown: &Raw, name: &str) -> Raw {
    Object::open(shown).map_or_else(|_| shown.clone(), |object| under(object, name))
}

/// The published and the local name.
fn published(seat: &Seat, local: &str, wanted: &str) -> Result<(Arc<str>, Arc<str>), String> {
    if local.is_empty() {
        return Err("it has no name".to_owned());
    }
    Ok((seat.curator.publish(&seat.name, wanted).into(), local.into()))
}
