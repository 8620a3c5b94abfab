//! Which arguments of a tool are repeated by headers: the annotation `x-mcp-header` in its schema.
//!
//! MCP 2026-07-28, basic/transports/streamable-http and SEP-2243. Must not know who sends the headers, or checks them.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::raw::Raw;

/// An argument that a header repeats (`x-mcp-header`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The header's name after `Mcp-Param-`.
    pub header: String,
    /// The property keys that lead to the argument.
    pub path: Vec<String>,
}

impl Mirror {
    /// The argument it repeats, as it was sent: an integer keeps all its digits.
    pub fn find<'a>(&self, arguments: &'a Raw) -> Option<&'a RawValue> {
        self.path.iter().try_fold(arguments.read().ok()?, |value: &RawValue, key| {
            let members: HashMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
            members.get(key).copied()
        })
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
    fn an_argument_is_found_where_it_stands_with_all_its_digits() {
        let mirror = |path: &[&str]| Mirror {
            header: "X".to_owned(),
            path: path.iter().map(|key| (*key).to_owned()).collect(),
        };
        let arguments = Raw::parse(
            r#"{"a": {"b\u0062": 123456789012345678901234567890}, "n": null, "l": [{"x": 1}]}"#.into(),
        )
        .unwrap();
        let find = |path: &[&str]| mirror(path).find(&arguments).map(RawValue::get);
        assert_eq!(find(&["a", "bb"]), Some("123456789012345678901234567890"));
        assert_eq!(find(&["n"]), Some("null"));
        assert_eq!((find(&["a", "c"]), find(&["n", "x"]), find(&["l", "x"])), (None, None, None));
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
}
