//! One published tool, prompt, resource or template: whose it is, and what is needed to use it.
//!
//! Must not know how it is listed.

use std::sync::Arc;

use prometheus::Histogram;
use serde_json::Value;

use super::schema::{self, Mirror, Schema};
use super::seat::{Names, Seat};
use super::template::Template;
use crate::protocol::{Definition, Raw};
use crate::telemetry::metrics::METRICS;

/// A tool.
pub struct ToolEntry {
    /// Its published name.
    pub name: Arc<str>,
    /// What its plugin calls it.
    pub local: Arc<str>,
    /// Whose it is.
    pub seat: Arc<Seat>,
    /// Arguments that headers repeat.
    pub mirrors: Vec<Mirror>,
    /// What its arguments must be.
    pub input: Schema,
    /// What its structured result must be.
    pub output: Option<Schema>,
    /// How long its calls took.
    pub time: Histogram,
    /// As its plugin wrote it.
    pub definition: Definition,
}

/// A prompt.
pub struct PromptEntry {
    /// Its published name.
    pub name: Arc<str>,
    /// What its plugin calls it.
    pub local: Arc<str>,
    /// Whose it is.
    pub seat: Arc<Seat>,
    /// Arguments that must be there.
    pub required: Vec<String>,
    /// As its plugin wrote it.
    pub definition: Definition,
}

/// A resource, or a template of resources.
pub struct ResourceEntry {
    /// Its URI or URI template.
    pub uri: Arc<str>,
    /// Whose it is.
    pub seat: Arc<Seat>,
    /// What it covers, if it is a template.
    pub template: Option<Template>,
    /// As its plugin wrote it.
    pub definition: Definition,
}

impl ToolEntry {
    /// Publishes a tool.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn publish(seat: &Arc<Seat>, definition: &Definition) -> Result<Self, String> {
        let (name, local) = names(seat, &definition.name())?;
        let input = definition.object().get("inputSchema").ok_or("it has no inputSchema")?;
        let mirrors = schema::mirrors(input)?;
        let output = definition.object().get("outputSchema").map(Schema::compile).transpose();
        Ok(Self {
            time: METRICS.tool_time.with_label_values(&[&*name]),
            input: Schema::of_arguments(input).map_err(|why| format!("its inputSchema is refused: {why}"))?,
            output: output.map_err(|why| format!("its outputSchema is refused: {why}"))?,
            mirrors,
            name,
            local,
            seat: Arc::clone(seat),
            definition: definition.clone(),
        })
    }

    /// About how many tokens its definition costs a model: a quarter of its bytes.
    pub fn tokens(&self) -> usize {
        self.definition.object().to_raw().bytes().len().div_ceil(4)
    }
}

impl PromptEntry {
    /// Publishes a prompt.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn publish(seat: &Arc<Seat>, definition: &Definition) -> Result<Self, String> {
        let (name, local) = names(seat, &definition.name())?;
        let arguments: Vec<Value> =
            definition.object().get("arguments").and_then(|list| list.read().ok()).unwrap_or_default();
        let is_required = |argument: &&Value| argument.get("required").and_then(Value::as_bool) == Some(true);
        let name_of = |argument: &Value| argument.get("name").and_then(Value::as_str).map(str::to_owned);
        let required = arguments.iter().filter(is_required).filter_map(name_of).collect();
        Ok(Self { name, local, seat: Arc::clone(seat), required, definition: definition.clone() })
    }
}

impl ResourceEntry {
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
        let template =
            is_template.then(|| Template::parse(&uri).ok_or("its template has an open brace")).transpose()?;
        Ok(Self { uri: uri.into(), seat: Arc::clone(seat), template, definition: definition.clone() })
    }
}

/// The definition as clients see it: under the published name.
pub fn shown(definition: &Definition, name: Option<&str>) -> Raw {
    let mut object = definition.object().clone();
    if let Some(name) = name {
        object.put("name", name);
    }
    object.to_raw()
}

/// The published and the local name.
fn names(seat: &Seat, local: &str) -> Result<(Arc<str>, Arc<str>), String> {
    let name = seat.publish(local);
    let (most, dot) = match seat.names {
        Names::Prefixed => (64, false),
        Names::Plain => (128, true),
    };
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || (dot && byte == b'.');
    if local.is_empty() || name.len() > most || !name.bytes().all(allowed) {
        return Err(format!("its name {name:?} is not 1 to {most} of A-Z, a-z, 0-9, _ and -"));
    }
    Ok((name.into(), local.into()))
}
