//! JSON Schemas of tools, compiled once: what they accept.
//!
//! MCP 2026-07-28, basic/index#json-schema-usage. `$ref` never leaves the document: nothing is fetched.

use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use crate::protocol::Raw;
pub use crate::protocol::{Mirror, mirrors};

/// Schemas larger than this are refused.
pub const SCHEMA_MAX_BYTES: usize = 256 * 1024;

/// How many faults of one value are told.
const FAULTS_TOLD: usize = 5;

/// A compiled schema.
#[derive(Debug)]
pub struct Schema(jsonschema::Validator);

impl Schema {
    /// Compiles `raw`; 2020-12 unless its `$schema` says otherwise.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn compile(raw: &Raw) -> Result<Self, String> {
        if raw.bytes().len() > SCHEMA_MAX_BYTES {
            return Err(format!("it has {} bytes, more than {SCHEMA_MAX_BYTES}", raw.bytes().len()));
        }
        let schema: Value = raw.read().map_err(|error| error.to_string())?;
        jsonschema::options().build(&schema).map(Self).map_err(|error| match error.kind() {
            // In words of ours: the library's own are for whoever would have it fetch things.
            ValidationErrorKind::Referencing(why) => {
                let why = why.to_string();
                let place = why.split('\'').nth(1).unwrap_or(&why);
                format!("it refers to {place:?}, which is not in it, and nothing is ever fetched")
            }
            _ => error.to_string(),
        })
    }

    /// Compiles the schema of a tool's arguments.
    ///
    /// # Errors
    /// As [`Schema::compile`], and when its root is not `"type": "object"`.
    pub fn of_arguments(raw: &Raw) -> Result<Self, String> {
        let schema: Value = raw.read().map_err(|error| error.to_string())?;
        if schema.get("type").and_then(Value::as_str) != Some("object") {
            return Err("its root has no \"type\": \"object\"".to_owned());
        }
        Self::compile(raw)
    }

    /// Checks a value.
    ///
    /// # Errors
    /// A sentence per fault, with the place.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        if self.0.is_valid(value) {
            return Ok(());
        }
        let told: Vec<String> =
            self.0.iter_errors(value).take(FAULTS_TOLD).map(|error| place(&error)).collect();
        Err(told.join("; "))
    }
}

fn place(error: &jsonschema::ValidationError<'_>) -> String {
    let path = error.instance_path().to_string();
    let mut says = match error.kind() {
        // All of them: a model chooses from what it reads.
        ValidationErrorKind::Enum { options } => format!("{} is not one of {options}", error.instance()),
        _ => error.to_string(),
    };
    if says.len() > 300 {
        says = says.chars().take(300).chain("…".chars()).collect();
    }
    if path.is_empty() { says } else { format!("at {path}: {says}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_that_points_outside_is_refused_and_nothing_is_fetched() {
        let outside = json!({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/x.json"}}});
        assert!(Schema::of_arguments(&Raw::value(&outside)).is_err());
        assert!(Schema::of_arguments(&Raw::value(&json!({"type": "string"}))).is_err());
        assert!(Schema::compile(&Raw::value(&json!({"type": "nonsense"}))).is_err());
    }

    #[test]
    fn a_fault_names_its_place() {
        let schema =
            Schema::compile(&Raw::value(&json!({"properties": {"n": {"type": "integer"}}}))).unwrap();
        assert!(schema.check(&json!({"n": "x"})).unwrap_err().starts_with("at /n: "));
        assert!(schema.check(&json!({"n": 1})).is_ok());
    }

    #[test]
    fn a_word_that_is_none_of_those_allowed_is_refused_with_all_of_them() {
        let schema = Schema::compile(&Raw::value(&json!({"enum": ["a", "b", "c", "d", "e"]}))).unwrap();
        assert_eq!(
            schema.check(&json!("x")),
            Err("\"x\" is not one of [\"a\",\"b\",\"c\",\"d\",\"e\"]".to_owned())
        );
    }
}
