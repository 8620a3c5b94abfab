//! JSON Schemas of tools, compiled once: what they accept.
//!
//! MCP 2026-07-28, basic/index#json-schema-usage. `$ref` never leaves the document: nothing is fetched.

use jsonschema::PatternOptions;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::weight::{Effort, Weight};
use crate::protocol::Raw;
pub use crate::protocol::{Mirror, mirrors};

/// Schemas larger than this are refused.
pub const SCHEMA_MAX_BYTES: usize = 256 * 1024;

/// A regular expression may have this size once it is compiled; the time that takes grows with it.
const PATTERN_MAX_BYTES: usize = 1024 * 1024;
/// How many faults of one value are told.
const FAULTS_TOLD: usize = 5;

/// A compiled schema.
#[derive(Debug)]
pub struct Schema {
    validator: jsonschema::Validator,
    weight: Weight,
}

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
        let weight = Weight::of(&schema)?;
        let patterns = PatternOptions::fancy_regex().size_limit(PATTERN_MAX_BYTES);
        let validator = jsonschema::options().with_pattern_options(patterns).build(&schema);
        validator.map(|validator| Self { validator, weight }).map_err(|error| match error.kind() {
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
        let schema = Self::compile(raw)?;
        let root: Root = raw.read().map_err(|error| error.to_string())?;
        if root.kind.as_ref().and_then(Value::as_str) != Some("object") {
            return Err("its root has no \"type\": \"object\"".to_owned());
        }
        Ok(schema)
    }

    /// Whether any value that has `bytes` as JSON can be checked where one stands. A thread that serves others must not
    /// check what this says no to.
    pub fn is_soon_checked(&self, bytes: usize) -> bool {
        self.weight.effort(bytes) == Effort::Little
    }

    /// Checks a value, however long that takes.
    ///
    /// # Errors
    /// A sentence per fault, with the place.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.check_telling(value, place)
    }

    /// Checks a value that is for nobody to read who reads what is wrong with it.
    ///
    /// # Errors
    /// A sentence per fault, with the place in the schema, and nothing of the value.
    pub fn check_hiding(&self, value: &Value) -> Result<(), String> {
        self.check_telling(value, hidden_place)
    }

    fn check_telling(&self, value: &Value, tell: Tell) -> Result<(), String> {
        if self.validator.is_valid(value) {
            return Ok(());
        }
        if !self.weight.explains(value) {
            return Err("it does not fit; the schema branches too often to say where".to_owned());
        }
        let told: Vec<String> =
            self.validator.iter_errors(value).take(FAULTS_TOLD).map(|error| tell(&error)).collect();
        Err(told.join("; "))
    }

    /// Checks a value for which [`Schema::is_soon_checked`] says no, unless that would never end.
    ///
    /// # Errors
    /// What `check` says, which is [`Schema::check`] or [`Schema::check_hiding`].
    pub fn check_at_length(&self, value: &Value, check: Check) -> Result<(), String> {
        match self.weight.effort_of(value) {
            Effort::TooMuch => Err("it is too large, or too deep, to be held against the schema".to_owned()),
            Effort::Little | Effort::Much => check(self, value),
        }
    }
}

/// One of the two ways to check.
pub type Check = fn(&Schema, &Value) -> Result<(), String>;

type Tell = fn(&jsonschema::ValidationError<'_>) -> String;

/// The root of a schema.
#[derive(serde::Deserialize)]
struct Root {
    #[serde(rename = "type")]
    kind: Option<Value>,
}

fn place(error: &jsonschema::ValidationError<'_>) -> String {
    let path = error.instance_path().to_string();
    let mut says = match error.kind() {
        // All of them: a model chooses from what it reads.
        ValidationErrorKind::Enum { options } => format!("{} is not one of {options}", error.instance()),
        _ => error.to_string(),
    };
    shorten(&mut says);
    if path.is_empty() { says } else { format!("at {path}: {says}") }
}

/// Names of members that the schema does not know are the value's own, too: in a table of people they are the people.
fn hidden_place(error: &jsonschema::ValidationError<'_>) -> String {
    let mut says = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            format!("{} members are not allowed", unexpected.len())
        }
        ValidationErrorKind::PropertyNames { error } => {
            format!("the name of a member does not fit: {}", hidden_place(error))
        }
        _ => error.masked().to_string(),
    };
    shorten(&mut says);
    format!("by {} of the schema: {says}", error.schema_path())
}

fn shorten(says: &mut String) {
    if says.len() > 300 {
        *says = says.chars().take(300).chain("…".chars()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_said_of_a_hidden_value_has_nothing_of_it() {
        let schema = json!({
            "type": "object", "additionalProperties": false, "patternProperties": {"^s": {
                "anyOf": [{"type": "integer"}, {"const": 1}], "type": "integer", "enum": [1], "not": {"type": "string"},
                "minLength": 50, "pattern": "^x", "format": "ipv4"}},
            "propertyNames": {"maxLength": 12}, "maxProperties": 1, "required": ["known"],
            "properties": {"list": {"uniqueItems": true, "contains": {"type": "null"}, "items": {"type": "integer"}}}
        });
        let schema = Schema::compile(&Raw::value(&schema)).unwrap();
        let values = [
            json!({"secret-name-of-all": "secret"}),
            json!({"s": "secret", "list": ["secret", "secret"]}),
            json!({"secret": 1, "list": ["secret"]}),
            json!("secret"),
            json!(["secret"]),
            json!({"a-secret-that-is-not-known": {"secret": "secret"}}),
        ];
        for value in values {
            let says = schema.check_hiding(&value).unwrap_err();
            assert!(!says.contains("secret") && says.contains("of the schema: "), "{says}");
            assert!(schema.check(&value).unwrap_err().contains("secret"), "who sent it may see it");
        }
        assert_eq!(
            schema.check_hiding(&json!({"known": 1})).unwrap_err(),
            "by /additionalProperties of the schema: 1 members are not allowed"
        );
    }

    #[test]
    fn a_schema_that_points_outside_is_refused_and_nothing_is_fetched() {
        let outside = json!({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/x.json"}}});
        assert!(Schema::of_arguments(&Raw::value(&outside)).is_err());
        assert!(Schema::of_arguments(&Raw::value(&json!({"type": "string"}))).is_err());
        assert!(Schema::compile(&Raw::value(&json!({"type": "nonsense"}))).is_err());
    }

    #[test]
    fn a_schema_that_would_take_years_is_refused_and_one_that_branches_is_not_explained_for_years() {
        let patterns: Vec<Value> =
            (0..50).map(|n| json!({"pattern": format!("^x{n}([\\p{{L}}\\p{{N}}_]{{90}}-)+$")})).collect();
        let why = Schema::compile(&Raw::value(&json!({"anyOf": patterns}))).unwrap_err();
        assert!(why.contains("pattern") || why.contains("regex"), "{why}");
        let twice = json!({"$ref": "#"});
        let schema = json!({"type": ["object", "null"], "properties": {"x": {"allOf": [twice, twice]}}});
        let schema = Schema::compile(&Raw::value(&schema)).unwrap();
        let nested = |leaf: Value| (0..100).fold(leaf, |below, _| json!({"x": below}));
        assert_eq!(schema.check_at_length(&nested(Value::Null), Schema::check), Ok(()));
        assert!(schema.check_at_length(&nested(json!(1)), Schema::check).unwrap_err().contains("too often"));
        assert!(schema.check(&json!({"x": {"x": 1}})).unwrap_err().starts_with("at /x/x: "));
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
