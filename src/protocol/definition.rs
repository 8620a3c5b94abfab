//! What a plugin offers, as the lists show it: tools, prompts, resources, resource templates.
//!
//! MCP 2026-07-28, server/tools, server/prompts, server/resources. Must not know who offers it.

use serde_json::{Value, json};

use super::object::Object;
use super::raw::{Raw, RawError};

/// One entry of a list, with every member the author gave it, known to us or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition(Object);

impl Definition {
    /// A tool. `input_schema` is a JSON Schema whose root has `"type": "object"`.
    pub fn tool(name: &str, description: &str, input_schema: Value) -> Self {
        Self::made_of(&[
            ("name", name.into()),
            ("description", description.into()),
            ("inputSchema", input_schema),
        ])
    }

    /// A prompt.
    pub fn prompt(name: &str, description: &str) -> Self {
        Self::made_of(&[("name", name.into()), ("description", description.into())])
    }

    /// A resource at a fixed URI.
    pub fn resource(uri: &str, name: &str) -> Self {
        Self::made_of(&[("uri", uri.into()), ("name", name.into())])
    }

    /// A family of resources, by an RFC 6570 template.
    pub fn template(uri_template: &str, name: &str) -> Self {
        Self::made_of(&[("uriTemplate", uri_template.into()), ("name", name.into())])
    }

    /// A definition as somebody else wrote it.
    ///
    /// # Errors
    /// When it is not an object.
    pub fn open(raw: &Raw) -> Result<Self, RawError> {
        Object::open(raw).map(Self)
    }

    fn made_of(members: &[(&str, Value)]) -> Self {
        let mut object = Object::default();
        for (key, value) in members {
            object.set(key, Raw::value(value));
        }
        Self(object)
    }

    /// Adds or replaces a member: `title`, `icons`, `outputSchema`, `mimeType`, `_meta` …
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.put(key, value);
        self
    }

    /// Adds an argument to a prompt.
    pub fn argument(mut self, name: &str, description: &str, required: bool) -> Self {
        let mut arguments: Vec<Value> =
            self.0.get("arguments").and_then(|list| list.read().ok()).unwrap_or_default();
        arguments.push(json!({"name": name, "description": description, "required": required}));
        self.0.put("arguments", arguments);
        self
    }

    /// Says that the tool changes nothing and may be called again.
    pub fn read_only(self) -> Self {
        self.with(
            "annotations",
            json!({"readOnlyHint": true, "idempotentHint": true, "openWorldHint": false}),
        )
    }

    /// The member `name`, empty when it is absent or no string.
    pub fn name(&self) -> String {
        self.0.text("name").unwrap_or_default()
    }

    /// The member `uri` of a resource or `uriTemplate` of a template.
    pub fn uri(&self) -> String {
        self.0.text("uri").or_else(|| self.0.text("uriTemplate")).unwrap_or_default()
    }

    /// All members.
    pub fn object(&self) -> &Object {
        &self.0
    }
}
