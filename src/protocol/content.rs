//! Results that plugins make: content blocks, tool results, prompt messages, resource contents, completions.
//!
//! MCP 2026-07-28, server/tools#tool-result and the schema. Must not know which plugin makes them.

use serde_json::{Map, Value, json};

use super::raw::Raw;
use super::scan::plain_bytes;

/// A text block.
pub fn text(text: impl Into<String>) -> Value {
    json!({"type": "text", "text": text.into()})
}

/// An image block; `data` is Base64.
pub fn image(data: &str, mime_type: &str) -> Value {
    json!({"type": "image", "data": data, "mimeType": mime_type})
}

/// An audio block; `data` is Base64.
pub fn audio(data: &str, mime_type: &str) -> Value {
    json!({"type": "audio", "data": data, "mimeType": mime_type})
}

/// A block that holds a resource's contents, made by [`text_contents`] or [`blob_contents`].
pub fn embedded(contents: Value) -> Value {
    json!({"type": "resource", "resource": contents})
}

/// A block that points to a resource which can be read.
pub fn link(uri: &str, name: &str) -> Value {
    json!({"type": "resource_link", "uri": uri, "name": name})
}

/// A resource's contents as text.
pub fn text_contents(uri: &str, mime_type: &str, text: impl Into<String>) -> Value {
    json!({"uri": uri, "mimeType": mime_type, "text": text.into()})
}

/// A resource's contents as Base64.
pub fn blob_contents(uri: &str, mime_type: &str, blob: impl Into<String>) -> Value {
    json!({"uri": uri, "mimeType": mime_type, "blob": blob.into()})
}

/// The result of a tool call, built up.
#[derive(Debug, Clone, Default)]
pub struct ToolResult {
    content: Vec<Value>,
    structured: Option<Value>,
    failed: bool,
}

impl ToolResult {
    /// A result of these blocks.
    pub fn of(content: Vec<Value>) -> Self {
        Self { content, ..Self::default() }
    }

    /// A result of one text block.
    pub fn text(says: impl Into<String>) -> Self {
        Self::of(vec![text(says)])
    }

    /// A failed call: a result, not a protocol error, so that a model can read it and try again.
    pub fn failed(says: impl Into<String>) -> Self {
        Self { failed: true, ..Self::text(says) }
    }

    /// A structured result; its JSON is repeated as text for clients that read text only.
    pub fn structured(value: Value) -> Self {
        Self { structured: Some(value.clone()), ..Self::text(value.to_string()) }
    }

    /// Adds the structured value beside content that says the same in other words.
    pub fn with_structured(mut self, value: Value) -> Self {
        self.structured = Some(value);
        self
    }

    /// The result's JSON.
    pub fn into_raw(self) -> Raw {
        let mut result = Map::new();
        result.insert("content".to_owned(), Value::Array(self.content));
        if let Some(structured) = self.structured {
            result.insert("structuredContent".to_owned(), structured);
        }
        if self.failed {
            result.insert("isError".to_owned(), Value::Bool(true));
        }
        Raw::value(&Value::Object(result))
    }
}

/// The result of a tool call that says one thing in text: the same as `ToolResult::text(says).into_raw()`, written
/// straight into its bytes, for tools that are called very often.
pub fn text_result(says: &str) -> Raw {
    const BEFORE: &str = r#"{"content":[{"type":"text","text":"#;
    const AFTER: &str = "}]}";
    let mut json = String::with_capacity(BEFORE.len() + says.len() + AFTER.len() + 2);
    json.push_str(BEFORE);
    if plain_bytes(says.as_bytes()).is_some() {
        json.push_str(&Value::from(says).to_string());
    } else {
        json.push('"');
        json.push_str(says);
        json.push('"');
    }
    json.push_str(AFTER);
    Raw::trusted(json)
}

/// One message of a prompt; `role` is `user` or `assistant`.
pub fn message(role: &str, content: Value) -> Value {
    json!({"role": role, "content": content})
}

/// The result of `prompts/get`.
pub fn prompt(description: &str, messages: Vec<Value>) -> Raw {
    Raw::value(&json!({"description": description, "messages": messages}))
}

/// The result of `resources/read`.
pub fn read(contents: Vec<Value>) -> Raw {
    Raw::value(&json!({"contents": contents}))
}

/// The most values one completion may carry.
pub const COMPLETION_MAX: usize = 100;

/// The result of `completion/complete`: the first [`COMPLETION_MAX`] of `values`, and how many there are.
pub fn completion(values: Vec<String>) -> Raw {
    let total = values.len();
    let shown: Vec<String> = values.into_iter().take(COMPLETION_MAX).collect();
    Raw::value(&json!({"completion": {"hasMore": total > shown.len(), "total": total, "values": shown}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_result_is_the_same_however_it_is_made() {
        for says in [
            "",
            "plain",
            "grüße 🎈",
            "a \"quote\"",
            "back\\slash",
            "line\nfeed",
            "nul \u{0} bell \u{7}",
            "\u{7f}",
        ] {
            assert_eq!(text_result(says), ToolResult::text(says).into_raw(), "{says:?}");
        }
    }
}
