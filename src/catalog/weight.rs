//! What a schema may cost whoever compiles it or checks a value by it, found by looking at it alone.
//!
//! A schema comes from a server, and a few hundred bytes of `$ref`s can mean more checks than a machine does in a year.
//! MCP 2026-07-28, basic/index#json-schema-usage: bound depth, number of subschemas and time. Must not know the validator.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::document::Document;

/// Checks of one place of a value: a schema that may need more is refused.
const FAN_MAX: u64 = 1_000_000;
/// References and applicators one inside the other: each is some hundred bytes of stack for whoever compiles them.
const CHAIN_MAX: usize = 256;
/// Different regular expressions; each may cost milliseconds to compile.
const PATTERNS_MAX: usize = 256;
/// What a regular expression that goes back over its text may cost, in checks.
const BACKTRACKING: u64 = 5_000;
/// Applicators inside one another at one place of a value, times the levels of the value: the stack of a check.
const STACK_MAX: usize = 2_000;

/// Checks that are made at once; a hundredth of a second for most, some for the worst.
const LITTLE: u64 = 4_000_000;
/// Checks that are worth a thread for as long as a call may take.
const MUCH: u64 = 20_000_000_000;

/// How much a check may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// It can be made where one stands.
    Little,
    /// It may take so long that it needs a thread of its own, and a deadline.
    Much,
    /// It may never end.
    TooMuch,
}

/// What a schema may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    /// At most so many checks are made of one place of a value.
    fan: u64,
    /// Applicators inside one another that stay at one place of a value.
    chain: usize,
    /// Whether it refers to itself on the way down: then finding out why something is amiss may cost the fan at each level.
    recursive: bool,
    /// Whether the letters of a string count.
    patterns: bool,
}

impl Weight {
    /// Weighs a schema.
    ///
    /// # Errors
    /// A sentence that says why it must not be compiled.
    pub(super) fn of(schema: &Value) -> Result<Self, String> {
        let mut document = Document::default();
        document.survey(schema, schema);
        if document.patterns.len() > PATTERNS_MAX {
            return Err(format!("it has more than {PATTERNS_MAX} different patterns"));
        }
        let patterns = !document.patterns.is_empty();
        let mut scales =
            Scales { document, weighed: HashMap::new(), above: BTreeSet::new(), recursive: false };
        let chain = Chains { scales: &scales, known: HashMap::new() }.of_all(schema)?;
        let fan = scales.weigh(schema, 0)?.fan;
        let recursive = scales.recursive;
        // What it refers back to was counted once; the validator makes each such check once for each place, too.
        let fan = if recursive { fan.saturating_mul(fan) } else { fan };
        if fan > FAN_MAX {
            return Err(format!("checking one value by it may take more than {FAN_MAX} steps"));
        }
        Ok(Self { fan, chain, recursive, patterns })
    }

    /// How much the check of any value may be that has `bytes` as JSON.
    pub(super) fn effort(&self, bytes: usize) -> Effort {
        // A value is nested at most 128 deep; that is as deep as JSON is read.
        let shallow = self.chain.saturating_mul(128) <= STACK_MAX;
        if shallow && self.fan.saturating_mul(bytes as u64) <= LITTLE { Effort::Little } else { Effort::Much }
    }

    /// How much the check of `value` may be.
    pub(super) fn effort_of(&self, value: &Value) -> Effort {
        let Extent { places, letters, levels } = Extent::of(value);
        if self.chain.saturating_mul(levels) > STACK_MAX {
            return Effort::TooMuch;
        }
        let units = if self.patterns { places.saturating_add(letters) } else { places };
        let steps = self.fan.saturating_mul(units);
        if steps <= LITTLE {
            Effort::Little
        } else if steps <= MUCH {
            Effort::Much
        } else {
            Effort::TooMuch
        }
    }

    /// Whether it is cheap enough to find out what is amiss with `value`.
    pub(super) fn explains(&self, value: &Value) -> bool {
        !self.recursive || explaining(value, self.fan.isqrt().max(1), 1) <= LITTLE
    }
}

/// What finding all faults of `value` may take, where each level may multiply it.
fn explaining(value: &Value, fan: u64, here: u64) -> u64 {
    if here > LITTLE {
        return here;
    }
    let below = here.saturating_mul(fan);
    let add = |sum: u64, part: &Value| {
        if sum > LITTLE { sum } else { sum.saturating_add(explaining(part, fan, below)) }
    };
    match value {
        Value::Array(items) => items.iter().fold(here, add),
        Value::Object(members) => members.values().fold(here, add),
        _ => here,
    }
}

/// How large a value is.
#[derive(Default)]
struct Extent {
    places: u64,
    letters: u64,
    levels: usize,
}

impl Extent {
    fn of(value: &Value) -> Self {
        let mut extent = Self::default();
        extent.take_in(value, 1);
        extent
    }

    fn take_in(&mut self, value: &Value, level: usize) {
        self.places += 1;
        self.levels = self.levels.max(level);
        match value {
            Value::String(text) => self.letters += text.len() as u64,
            Value::Array(items) => items.iter().for_each(|item| self.take_in(item, level + 1)),
            Value::Object(members) => {
                for (key, member) in members {
                    self.letters += key.len() as u64;
                    self.take_in(member, level + 1);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Subschemas of one schema.
#[derive(Default)]
struct Parts<'a> {
    /// Which look at the same place of the value.
    here: Vec<&'a Value>,
    /// Of which one at most looks at any place below.
    one_below: Vec<&'a Value>,
    /// Of which all may look at the same place below.
    all_below: Vec<&'a Value>,
}

fn parts<'a>(document: &Document<'a>, schema: &'a Value) -> Parts<'a> {
    let mut parts = Parts::default();
    let Value::Object(members) = schema else { return parts };
    for (keyword, value) in members {
        match (keyword.as_str(), value) {
            ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => parts.here.extend(all),
            ("not" | "if" | "then" | "else", _) => parts.here.push(value),
            ("dependentSchemas" | "dependencies", Value::Object(all)) => parts.here.extend(all.values()),
            ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
                parts.here.extend(document.targets(schema, reference));
            }
            ("properties", Value::Object(all)) => parts.one_below.extend(all.values()),
            ("prefixItems" | "items", Value::Array(all)) => parts.one_below.extend(all),
            ("patternProperties", Value::Object(all)) => parts.all_below.extend(all.values()),
            (
                "additionalProperties"
                | "unevaluatedProperties"
                | "propertyNames"
                | "items"
                | "additionalItems"
                | "unevaluatedItems"
                | "contains",
                Value::Object(_),
            ) => parts.all_below.push(value),
            _ => {}
        }
    }
    parts
}

/// What one schema weighs.
#[derive(Clone, Copy)]
struct Load {
    /// How many checks of one place of a value it may make, of its own place or of any below.
    fan: u64,
    /// How many parts lead down from it, one to the next.
    height: usize,
}

/// Counts checks.
struct Scales<'a> {
    document: Document<'a>,
    weighed: HashMap<*const Value, Load>,
    /// Those that are being weighed.
    above: BTreeSet<*const Value>,
    recursive: bool,
}

impl<'a> Scales<'a> {
    fn weigh(&mut self, schema: &'a Value, depth: usize) -> Result<Load, String> {
        let address = std::ptr::from_ref(schema);
        if let Some(load) = self.weighed.get(&address) {
            return Ok(*load);
        }
        if depth > CHAIN_MAX {
            return Err(too_long());
        }
        if !self.above.insert(address) {
            self.recursive = true;
            return Ok(Load { fan: 1, height: 1 });
        }
        let Parts { here, one_below, all_below } = parts(&self.document, schema);
        let (mut fan, mut below, mut height) = (0_u64, 0_u64, 0);
        for part in one_below {
            let load = self.weigh(part, depth + 1)?;
            (below, height) = (below.max(load.fan), height.max(load.height));
        }
        for part in all_below {
            let load = self.weigh(part, depth + 1)?;
            (below, height) = (below.saturating_add(load.fan), height.max(load.height));
        }
        for part in here {
            let load = self.weigh(part, depth + 1)?;
            (fan, height) = (fan.saturating_add(load.fan), height.max(load.height));
        }
        if let Value::Object(members) = schema {
            // What its parts looked at is found by looking with them again.
            if members.contains_key("unevaluatedProperties") || members.contains_key("unevaluatedItems") {
                fan = fan.saturating_mul(3);
            }
            fan = fan.saturating_add(own(members).max(below));
        }
        let load = Load { fan: fan.max(1), height: height + 1 };
        if load.height > CHAIN_MAX {
            return Err(too_long());
        }
        self.above.remove(&address);
        self.weighed.insert(address, load);
        Ok(load)
    }
}

fn too_long() -> String {
    format!("more than {CHAIN_MAX} of its parts lead from one to the next")
}

/// What the keywords of one schema cost that hold no schema.
fn own(members: &Map<String, Value>) -> u64 {
    let length = |keyword: &str| match members.get(keyword) {
        Some(Value::Array(all)) => all.len() as u64,
        Some(Value::Object(all)) => all.len() as u64,
        _ => 0,
    };
    let costly = |pattern: &str| {
        let looks = ["(?=", "(?!", "(?<", "\\k"].iter().any(|sign| pattern.contains(sign));
        let refers = pattern.as_bytes().windows(2).any(|pair| matches!(pair, [b'\\', b'1'..=b'9']));
        if looks || refers { BACKTRACKING } else { 1 }
    };
    let pattern = members.get("pattern").and_then(Value::as_str).map_or(0, costly);
    let keys = members.get("patternProperties").and_then(Value::as_object);
    let keys: u64 = keys.map_or(0, |keys| keys.keys().map(|key| costly(key)).sum());
    1 + pattern + keys + (length("enum") + length("required") + length("properties")) / 16
}

/// Finds how many applicators stand one inside the other at one place of a value.
struct Chains<'a, 's> {
    scales: &'s Scales<'a>,
    /// None of one that is being looked at.
    known: HashMap<*const Value, Option<usize>>,
}

impl<'a> Chains<'a, '_> {
    /// The longest of all in the document.
    fn of_all(&mut self, root: &'a Value) -> Result<usize, String> {
        let mut longest = self.of(root, 0)?;
        match root {
            Value::Object(members) => {
                for member in members.values() {
                    longest = longest.max(self.of_all(member)?);
                }
            }
            Value::Array(items) => {
                for item in items {
                    longest = longest.max(self.of_all(item)?);
                }
            }
            _ => {}
        }
        Ok(longest)
    }

    fn of(&mut self, schema: &'a Value, depth: usize) -> Result<usize, String> {
        let address = std::ptr::from_ref(schema);
        match self.known.get(&address) {
            Some(Some(chain)) => return Ok(*chain),
            Some(None) => return Err("it refers to itself without going down in the value".to_owned()),
            None => {}
        }
        if depth > CHAIN_MAX {
            return Err(too_long());
        }
        if !schema.is_object() {
            return Ok(0);
        }
        self.known.insert(address, None);
        let mut chain = 0;
        for part in parts(&self.scales.document, schema).here {
            chain = chain.max(self.of(part, depth + 1)?);
        }
        if chain >= CHAIN_MAX {
            return Err(too_long());
        }
        self.known.insert(address, Some(chain + 1));
        Ok(chain + 1)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `a0` is a string; each further one is asked for twice by the next.
    fn doubling(levels: usize, next: impl Fn(Value) -> Value) -> Value {
        let mut defs = Map::new();
        defs.insert("a0".to_owned(), json!({"type": "string"}));
        for level in 1..=levels {
            defs.insert(format!("a{level}"), next(json!({"$ref": format!("#/$defs/a{}", level - 1)})));
        }
        json!({"type": "object", "properties": {"x": {"$ref": format!("#/$defs/a{levels}")}}, "$defs": defs})
    }

    #[test]
    fn a_schema_whose_references_unfold_without_end_is_refused_unseen() {
        let at_one_place = |part: Value| json!({"anyOf": [{"allOf": [part, part]}, {"allOf": [part]}]});
        let on_the_way_down = |part: Value| json!({"properties": {"y": {"allOf": [part, part]}}});
        let unevaluated = |part: Value| json!({"allOf": [part], "unevaluatedProperties": false});
        for next in [at_one_place as fn(Value) -> Value, on_the_way_down, unevaluated] {
            assert!(Weight::of(&doubling(3, next)).is_ok());
            let why = Weight::of(&doubling(32, next)).unwrap_err();
            assert!(why.contains("steps"), "{why}");
        }
        let why = Weight::of(&doubling(5_000, |part| json!({"allOf": [part]}))).unwrap_err();
        assert!(why.contains("from one to the next"), "{why}");
    }

    #[test]
    fn a_reference_is_followed_however_it_is_written() {
        let within = doubling(32, |part| json!({"allOf": [part, part]}));
        let mut nested = within.clone();
        nested["$id"] = json!("https://example.com/nested");
        assert!(Weight::of(&json!({"$defs": {"n": nested}, "$ref": "nested"})).is_err());
        let mut defs = Map::new();
        defs.insert("0".to_owned(), json!({"$anchor": "a0"}));
        for level in 1..=32 {
            let part = json!({"$ref": format!("#a{}", level - 1)});
            defs.insert(level.to_string(), json!({"$anchor": format!("a{level}"), "oneOf": [part, part]}));
        }
        assert!(Weight::of(&json!({"$defs": defs, "properties": {"x": {"$ref": "#a32"}}})).is_err());
    }

    #[test]
    fn a_schema_may_refer_to_itself_on_the_way_down_and_not_where_it_stands() {
        let tree =
            json!({"properties": {"and": {"type": "array", "items": {"$ref": "#"}}, "not": {"$ref": "#"}}});
        let weight = Weight::of(&tree).unwrap();
        assert!(weight.recursive && weight.fan < 100, "{weight:?}");
        for circle in [
            json!({"$ref": "#"}),
            json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}}, "$ref": "#/$defs/a"}),
        ] {
            assert!(Weight::of(&circle).unwrap_err().contains("itself"));
        }
    }

    #[test]
    fn an_ordinary_schema_is_light_and_a_long_value_is_not() {
        let text = json!({"type": "string", "enum": ["a", "b"]});
        let schema = json!({"type": "object", "required": ["a"], "properties": {"a": text, "b": {"anyOf": [text, {"type": "null"}]}}});
        let weight = Weight::of(&schema).unwrap();
        assert!(weight.fan < 10, "{weight:?}");
        assert_eq!(weight.effort(10_000), Effort::Little);
        assert_eq!(weight.effort(4_000_000), Effort::Much);
        assert_eq!(weight.effort_of(&json!({"a": "x".repeat(4_000_000)})), Effort::Little);
        let patient = Weight::of(&json!({"pattern": "^(?=(a+)+$)"})).unwrap();
        assert_eq!(patient.effort_of(&json!("a".repeat(10_000))), Effort::Much);
        let many: Vec<Value> = (0..400).map(|n| json!({"pattern": format!("{n}x*")})).collect();
        assert!(Weight::of(&json!({"prefixItems": many})).unwrap_err().contains("patterns"));
    }
}
