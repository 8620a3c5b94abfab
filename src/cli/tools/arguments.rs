//! Arguments as typed, and as a tool's schema wants them. Pure.

use serde_json::{Map, Value};

use crate::cli::remote::encode;

type Arguments = Map<String, Value>;

/// The names of a tool's arguments, those it must have first, and whether it must.
pub fn names(tool: &Value) -> Vec<(&str, bool)> {
    let required: Vec<&str> = schema(tool, "required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let all = schema(tool, "properties").and_then(Value::as_object).into_iter().flatten();
    let mut names: Vec<(&str, bool)> =
        all.map(|(name, _)| (name.as_str(), required.contains(&name.as_str()))).collect();
    names.sort_by_key(|(_, required)| !required);
    names
}

fn schema<'a>(tool: &'a Value, key: &str) -> Option<&'a Value> {
    tool.get("inputSchema")?.get(key)
}

/// `--arguments`
///
/// # Errors
/// When it is not a JSON object.
pub fn of_json(text: &str) -> Result<Arguments, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(_) => Err("--arguments is JSON, but not an object; write '{\"name\": value}'".to_owned()),
        Err(error) => Err(format!("--arguments is not JSON ({error}); write '{{\"name\": value}}'")),
    }
}

/// `--arg key=value`, each value read as the tool's schema says.
///
/// # Errors
/// When a pair has no `=`, a key stands twice, or a value is not what the schema says.
pub fn of_pairs(tool: &Value, pairs: &[String]) -> Result<Arguments, String> {
    let mut arguments = Arguments::new();
    for pair in pairs {
        let (key, text) =
            pair.split_once('=').ok_or_else(|| format!("--arg {pair} has no `=`; write key=value"))?;
        let value =
            of_text(schema(tool, "properties").and_then(|all| all.get(key)), text).ok_or_else(|| {
                format!("--arg {key}: {text:?} is not JSON of the type that the tool's schema says")
            })?;
        if arguments.insert(key.to_owned(), value).is_some() {
            return Err(format!("--arg {key} stands twice; give a list as JSON, as {key}='[1, 2]'"));
        }
    }
    Ok(arguments)
}

/// A string where the schema allows one, and JSON where it says something else or, when it is JSON, where it is silent.
fn of_text(schema: Option<&Value>, text: &str) -> Option<Value> {
    let json = serde_json::from_str::<Value>(text).ok();
    let string = || Value::from(text);
    match schema.and_then(|schema| schema.get("type")) {
        Some(Value::String(kind)) if kind == "string" => Some(string()),
        Some(Value::String(_)) => json,
        Some(Value::Array(kinds)) if kinds.iter().any(|kind| kind == "string") => {
            Some(json.filter(|json| !json.is_string() && fits(json, kinds)).unwrap_or_else(string))
        }
        Some(_) => json,
        None => Some(json.unwrap_or_else(string)),
    }
}

fn fits(value: &Value, kinds: &[Value]) -> bool {
    kinds.iter().filter_map(Value::as_str).any(|kind| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    })
}

/// `Mcp-Param-…` headers: the arguments that the tool's schema marks with `x-mcp-header`.
pub fn headers(tool: &Value, arguments: &Arguments) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(tool.get("inputSchema"), &Value::Object(arguments.clone()), &mut found);
    found
}

fn collect(schema: Option<&Value>, value: &Value, found: &mut Vec<(String, String)>) {
    for (key, schema) in schema.and_then(|schema| schema.get("properties")?.as_object()).into_iter().flatten()
    {
        let Some(value) = value.get(key) else { continue };
        let text = match value {
            Value::String(text) => Some(encode(text)),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        };
        let name = schema.get("x-mcp-header").and_then(Value::as_str).filter(|name| is_token(name));
        found.extend(name.zip(text).map(|(name, text)| (format!("Mcp-Param-{name}"), text)));
        collect(Some(schema), value, found);
    }
}

/// RFC 9110: what a header's name is made of.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool() -> Value {
        json!({"inputSchema": {"type": "object", "properties": {
            "text": {"type": "string", "x-mcp-header": "Text"},
            "n": {"type": "integer", "x-mcp-header": "Count"},
            "either": {"type": ["string", "integer"]},
            "free": {},
            "deep": {"type": "object", "properties": {"flag": {"type": "boolean", "x-mcp-header": "Flag"}}},
            "bad": {"type": "string", "x-mcp-header": "a b"},
        }}})
    }

    fn pairs(pairs: &[&str]) -> Result<Value, String> {
        of_pairs(&tool(), &pairs.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>()).map(Value::Object)
    }

    #[test]
    fn values_are_read_as_the_schema_says() {
        let read = pairs(&["text=3", "n=3", "either=3", "free=[1]", "unknown=a=b", "deep={\"flag\":true}"]);
        let wanted =
            json!({"text": "3", "n": 3, "either": 3, "free": [1], "unknown": "a=b", "deep": {"flag": true}});
        assert_eq!(read, Ok(wanted));
        assert_eq!(pairs(&["either=true"]), Ok(json!({"either": "true"})));
        for bad in [&["n=many"][..], &["text"], &["n=1", "n=2"]] {
            assert!(pairs(bad).is_err(), "{bad:?}");
        }
        assert!(of_json("[]").is_err() && of_json("{").is_err() && of_json("{\"a\":1}").is_ok());
    }

    #[test]
    fn marked_arguments_travel_in_headers_too() {
        let arguments = json!({"text": "ä", "n": 7, "deep": {"flag": false}, "bad": "x", "either": null});
        let found = headers(&tool(), arguments.as_object().unwrap());
        let wanted =
            [("Mcp-Param-Text", "=?base64?w6Q=?="), ("Mcp-Param-Count", "7"), ("Mcp-Param-Flag", "false")];
        assert_eq!(found, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(headers(&tool(), json!({"text": null}).as_object().unwrap()).is_empty());
    }
}
