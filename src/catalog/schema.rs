//! JSON Schemas of tools, compiled once: what they accept, and which arguments headers repeat.
//!
//! MCP 2026-07-28, basic/index#json-schema-usage. `$ref` never leaves the document: nothing is fetched.

use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use crate::protocol::Raw;

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
        jsonschema::options().build(&schema).map(Self).map_err(|error| error.to_string())
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

/// An argument that a header repeats (`x-mcp-header`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The header's name after `Mcp-Param-`.
    pub header: String,
    /// The property keys that lead to the argument.
    pub path: Vec<String>,
}

impl Mirror {
    /// The argument it repeats.
    pub fn find<'a>(&self, arguments: &'a Value) -> Option<&'a Value> {
        self.path.iter().try_fold(arguments, |value, key| value.get(key))
    }
}

/// All `x-mcp-header` of an argument schema.
///
/// # Errors
/// A sentence, when one breaks the rules: then the whole tool is invalid.
pub fn mirrors(schema: &Raw) -> Result<Vec<Mirror>, String> {
    if !schema.as_str().contains("x-mcp-header") {
        return Ok(Vec::new());
    }
    let schema: Value = schema.read().map_err(|error| error.to_string())?;
    let mut found: Vec<Mirror> = Vec::new();
    let mut reached = 0;
    collect(&schema, &mut Vec::new(), &mut found, &mut reached)?;
    if annotations(&schema) != reached {
        return Err("x-mcp-header stands on a property that is not reached by `properties` alone".to_owned());
    }
    for (n, mirror) in found.iter().enumerate() {
        if found.iter().take(n).any(|other| other.header.eq_ignore_ascii_case(&mirror.header)) {
            return Err(format!("x-mcp-header {:?} stands twice", mirror.header));
        }
    }
    Ok(found)
}

fn collect(
    schema: &Value,
    path: &mut Vec<String>,
    found: &mut Vec<Mirror>,
    reached: &mut usize,
) -> Result<(), String> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
    for (key, property) in properties {
        path.push(key.clone());
        if let Some(header) = property.get("x-mcp-header") {
            *reached += 1;
            found.push(Mirror { header: header_name(header, property)?, path: path.clone() });
        }
        collect(property, path, found, reached)?;
        path.pop();
    }
    Ok(())
}

fn header_name(header: &Value, property: &Value) -> Result<String, String> {
    let name = header.as_str().unwrap_or_default();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!("x-mcp-header {header} is no header name"));
    }
    match property.get("type").and_then(Value::as_str) {
        Some("string" | "integer" | "boolean") => Ok(name.to_owned()),
        _ => Err(format!("x-mcp-header {name:?} stands on a property that is no string, integer or boolean")),
    }
}

/// How often the annotation stands anywhere in the schema, but for property names that happen to be called so.
fn annotations(schema: &Value) -> usize {
    match schema {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| match (key.as_str(), value) {
                ("x-mcp-header", _) => 1,
                ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(named)) => {
                    named.values().map(annotations).sum()
                }
                ("const" | "enum" | "default" | "examples", _) => 0,
                _ => annotations(value),
            })
            .sum(),
        Value::Array(items) => items.iter().map(annotations).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(schema: Value) -> Result<Vec<Mirror>, String> {
        mirrors(&Raw::value(&schema))
    }

    #[test]
    fn a_nested_property_may_be_repeated_by_a_header_and_one_in_an_array_may_not() {
        let region = json!({"type": "string", "x-mcp-header": "Region"});
        let nested = json!({"properties": {"a": {"type": "object", "properties": {"b": region}}}});
        assert_eq!(
            found(nested).unwrap(),
            [Mirror { header: "Region".into(), path: vec!["a".into(), "b".into()] }]
        );
        assert!(found(json!({"properties": {"a": {"type": "array", "items": region}}})).is_err());
        assert!(found(json!({"anyOf": [{"properties": {"a": region}}]})).is_err());
        assert!(found(json!({"properties": {"x-mcp-header": {"type": "string"}}})).unwrap().is_empty());
    }

    #[test]
    fn a_header_name_is_a_token_on_a_simple_type_and_unique_in_any_letters() {
        for bad in [json!(""), json!("a b"), json!("a\r\n"), json!(7)] {
            assert!(found(json!({"properties": {"a": {"type": "string", "x-mcp-header": bad}}})).is_err());
        }
        assert!(found(json!({"properties": {"a": {"type": "number", "x-mcp-header": "A"}}})).is_err());
        let twice = json!({"properties": {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}}});
        assert!(found(twice).is_err());
    }

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
