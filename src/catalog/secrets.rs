//! What of a tool's arguments is recorded nowhere: its schema says so of some, the operator of others.
//!
//! A schema says it with `"writeOnly": true` or `"format": "password"`, and with nothing else: neither `x-secret` nor
//! `contentEncoding` hides. Must not know how it is hidden.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::document::Document;
use crate::config::plugin::pointer::{self, Step};
use crate::protocol::Raw;
use crate::telemetry::redaction::places::{Draft, Hidden, Spot, Way};

/// So many ways from one part of a schema to the next are gone; what lies beyond is hidden, for nothing is known of it.
const WAYS_MAX: usize = 20_000;

/// Of the arguments that `schema` describes; none for nearly all tools.
pub fn of_arguments(schema: &Raw, pointers: &[String]) -> Option<Arc<Hidden>> {
    let said = may_say_so(schema.as_str()).then(|| schema.read::<Value>().ok()).flatten();
    if said.is_none() && pointers.is_empty() {
        return None;
    }
    let mut draft = Draft::default();
    let whole = draft.describe();
    if let Some(schema) = &said {
        let mut document = Document::default();
        document.survey(schema, schema);
        Walk { document, draft: &mut draft, spots: HashMap::new(), open: Vec::new(), ways: 0 }
            .all(whole, schema);
    }
    let operators = draft.describe();
    draft.lead(whole, Way::Here, operators);
    for pointer in pointers {
        // What is no pointer was refused when its file was read.
        let Ok(steps) = pointer::steps_of(pointer) else { continue };
        let spot = steps.iter().fold(operators, |from, step| draft.follow(from, way_of(step)));
        draft.hide(spot);
    }
    draft.finish()
}

fn way_of(step: &Step) -> Way<'_> {
    match step {
        Step::Each => Way::Each,
        Step::Named(name) => Way::Named(name),
    }
}

/// A quick look, since most schemas say it nowhere: they need not be read for that. A word may be written with escapes.
fn may_say_so(schema: &str) -> bool {
    ["writeOnly", "\"password\"", "\\"].iter().any(|sign| schema.contains(sign))
}

/// Whether a schema says of whatever it describes that it is for the tool alone.
fn says_so(schema: &Value) -> bool {
    schema.get("writeOnly") == Some(&Value::Bool(true))
        || schema.get("format").and_then(Value::as_str) == Some("password")
}

/// Goes to every part of a schema once, however often it is referred to.
struct Walk<'a, 'd> {
    document: Document<'a>,
    draft: &'d mut Draft,
    /// What each part describes, by its address.
    spots: HashMap<*const Value, Spot>,
    open: Vec<(Spot, &'a Value)>,
    ways: usize,
}

impl<'a> Walk<'a, '_> {
    fn all(mut self, whole: Spot, schema: &'a Value) {
        self.lead(whole, Way::Here, schema);
        while let Some((spot, schema)) = self.open.pop() {
            if says_so(schema) {
                self.draft.hide(spot);
            } else {
                self.parts(spot, schema);
            }
        }
    }

    fn lead(&mut self, from: Spot, way: Way<'_>, part: &'a Value) {
        self.ways += 1;
        if self.ways > WAYS_MAX {
            self.draft.hide(from);
            return;
        }
        let address = std::ptr::from_ref(part);
        let known = self.spots.get(&address).copied();
        let spot = known.unwrap_or_else(|| {
            let spot = self.draft.describe();
            self.spots.insert(address, spot);
            self.open.push((spot, part));
            spot
        });
        self.draft.lead(from, way, spot);
    }

    /// Of members and elements that are described in two ways, both hold: rather too much is hidden than too little.
    fn parts(&mut self, spot: Spot, schema: &'a Value) {
        let Value::Object(members) = schema else { return };
        for (keyword, value) in members {
            match (keyword.as_str(), value) {
                ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => {
                    all.iter().for_each(|part| self.lead(spot, Way::Here, part));
                }
                ("if" | "then" | "else", Value::Object(_)) => self.lead(spot, Way::Here, value),
                ("dependentSchemas" | "dependencies", Value::Object(all)) => {
                    all.values().for_each(|part| self.lead(spot, Way::Here, part));
                }
                ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
                    for part in self.document.targets(schema, reference) {
                        self.lead(spot, Way::Here, part);
                    }
                }
                ("properties", Value::Object(all)) => {
                    all.iter().for_each(|(name, part)| self.lead(spot, Way::Named(name), part));
                }
                ("prefixItems" | "items", Value::Array(all)) => {
                    for (number, part) in all.iter().enumerate() {
                        self.lead(spot, Way::Named(&number.to_string()), part);
                    }
                }
                ("patternProperties", Value::Object(all)) => {
                    all.values().for_each(|part| self.lead(spot, Way::Each, part));
                }
                (
                    "additionalProperties"
                    | "unevaluatedProperties"
                    | "items"
                    | "additionalItems"
                    | "unevaluatedItems"
                    | "contains",
                    Value::Object(_),
                ) => self.lead(spot, Way::Each, value),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the history has of `arguments`.
    fn recorded(schema: &Value, pointers: &[&str], arguments: &Value) -> Value {
        let pointers: Vec<String> = pointers.iter().map(|&pointer| pointer.to_owned()).collect();
        let places = of_arguments(&Raw::value(schema), &pointers).expect("something is hidden");
        serde_json::from_str(&places.hide(&arguments.to_string())).expect("JSON")
    }

    #[test]
    fn what_a_schema_marks_is_hidden_wherever_in_the_schema_that_is_said() {
        let secret = json!({"type": "string", "writeOnly": true});
        let schema = json!({
            "type": "object",
            "$defs": {"a/b": {"properties": {"pin": {"format": "password"}}}, "anchored": {"$anchor": "here", "writeOnly": true}},
            "properties": {
                "own": secret,
                "not": {"writeOnly": false, "format": "date", "x-secret": true, "contentEncoding": "base64"},
                "list": {"items": {"properties": {"pin": secret}}},
                "pair": {"prefixItems": [{}, secret]},
                "map": {"additionalProperties": secret},
                "matched": {"patternProperties": {"^x": secret}},
                "all": {"allOf": [{"properties": {"a": secret}}, {"properties": {"b": {}}}]},
                "any": {"anyOf": [{"type": "null"}, {"oneOf": [{"properties": {"a": secret}}]}]},
                "when": {"if": {}, "then": {"properties": {"a": secret}}, "else": {"properties": {"b": secret}}},
                "referred": {"$ref": "#/$defs/a~1b"},
                "anchored": {"$ref": "#here"},
                "writeOnly": {"type": "boolean"},
                "example": {"const": {"writeOnly": true}}
            }
        });
        let arguments = json!({
            "own": {"a": 1}, "not": "seen", "list": [{"pin": 1, "a": 2}], "pair": [1, 2, 3], "map": {"a": 1},
            "matched": {"x": 1}, "all": {"a": 1, "b": 2}, "any": {"a": 1, "b": 2}, "when": {"a": 1, "b": 2, "c": 3},
            "referred": {"pin": [1]}, "anchored": 1, "writeOnly": true, "example": 7
        });
        let hidden = "(hidden)";
        let wanted = json!({
            "own": hidden, "not": "seen", "list": [{"pin": hidden, "a": 2}], "pair": [1, hidden, 3],
            "map": {"a": hidden}, "matched": {"x": hidden}, "all": {"a": hidden, "b": 2}, "any": {"a": hidden, "b": 2},
            "when": {"a": hidden, "b": hidden, "c": 3}, "referred": {"pin": hidden}, "anchored": hidden,
            "writeOnly": true, "example": 7
        });
        assert_eq!(recorded(&schema, &[], &arguments), wanted);
        let whole = json!({"type": "object", "writeOnly": true});
        assert_eq!(recorded(&whole, &[], &arguments), json!(hidden));
    }

    #[test]
    fn a_schema_that_refers_to_itself_hides_at_every_depth_and_one_of_too_many_parts_all() {
        let schema = json!({
            "type": "object",
            "properties": {"below": {"items": {"$ref": "#"}}, "pin": {"writeOnly": true}, "same": {"$ref": "#/properties/same"}}
        });
        let nested = |leaf: Value| (0..50).fold(leaf, |below, _| json!({"below": [below, 1], "same": 2}));
        let wanted = nested(json!({"pin": "(hidden)", "a": 1}));
        assert_eq!(recorded(&schema, &[], &nested(json!({"pin": 1, "a": 1}))), wanted);
        let many: serde_json::Map<String, Value> =
            (0..=WAYS_MAX).map(|n| (n.to_string(), json!({}))).collect();
        let schema = json!({"type": "object", "properties": many, "title": "\"password\""});
        assert_eq!(recorded(&schema, &[], &json!({"a": 1})), json!("(hidden)"));
    }

    #[test]
    fn pointers_of_the_operator_are_added_and_hold_from_the_root_only() {
        let schema =
            json!({"type": "object", "properties": {"below": {"$ref": "#"}, "pin": {"writeOnly": true}}});
        let arguments = json!({"a/b": {"~": 1}, "items": [{"s": 1}, {"s": 2}], "pin": 3, "below": {"items": [{"s": 4}], "pin": 5}});
        let hidden = "(hidden)";
        let wanted = json!({"a/b": {"~": hidden}, "items": [{"s": hidden}, {"s": hidden}], "pin": hidden, "below": {"items": [{"s": 4}], "pin": hidden}});
        assert_eq!(recorded(&schema, &["/a~1b/~0", "/items/*/s", "/missing/x"], &arguments), wanted);
        let plain = Raw::trusted(r#"{"type":"object","properties":{"password":{"type":"string"}}}"#);
        assert!(of_arguments(&plain, &[]).is_none());
        assert!(of_arguments(&Raw::trusted("{}"), &[]).is_none());
    }
}
