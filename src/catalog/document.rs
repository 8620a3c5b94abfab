//! One schema as a document: what its references mean.
//!
//! Must not know what is done with the schemas that they lead to.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

/// Where a schema's references lead.
#[derive(Default)]
pub(super) struct Document<'a> {
    /// The schema with an identifier of its own in which each object stands, by the object's address.
    bases: HashMap<*const Value, &'a Value>,
    identified: Vec<(&'a str, &'a Value)>,
    anchors: HashMap<&'a str, Vec<&'a Value>>,
    /// Different regular expressions.
    pub(super) patterns: BTreeSet<&'a str>,
}

impl<'a> Document<'a> {
    /// Looks at all of it, wherever a reference may point.
    pub(super) fn survey(&mut self, value: &'a Value, base: &'a Value) {
        match value {
            Value::Object(members) => {
                let text = |key: &str| members.get(key).and_then(Value::as_str);
                let id = text("$id").or_else(|| text("id")).filter(|id| !id.starts_with('#'));
                let base = if id.is_some() { value } else { base };
                self.identified.extend(id.map(|id| (id, value)));
                for key in ["$anchor", "$dynamicAnchor", "$id", "id"] {
                    if let Some(anchor) = text(key) {
                        self.anchors.entry(anchor.trim_start_matches('#')).or_default().push(value);
                    }
                }
                self.patterns.extend(text("pattern"));
                if let Some(patterns) = members.get("patternProperties").and_then(Value::as_object) {
                    self.patterns.extend(patterns.keys().map(String::as_str));
                }
                self.bases.insert(std::ptr::from_ref(value), base);
                members.values().for_each(|member| self.survey(member, base));
            }
            Value::Array(items) => items.iter().for_each(|item| self.survey(item, base)),
            _ => {}
        }
    }

    /// All that `reference`, written in `from`, may mean; nothing if that is not here, which is for others to say.
    pub(super) fn targets(&self, from: &'a Value, reference: &str) -> Vec<&'a Value> {
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let last = |uri: &'_ str| uri.trim_end_matches('#').rsplit(['/', ':']).next().map(str::to_owned);
        let bases: Vec<&Value> = if document.is_empty() {
            self.bases.get(&std::ptr::from_ref(from)).copied().into_iter().collect()
        } else {
            // Whatever it is resolved against, its last segment stays.
            self.identified
                .iter()
                .filter(|(id, _)| last(id) == last(document))
                .map(|(_, base)| *base)
                .collect()
        };
        if fragment.is_empty() {
            return bases;
        }
        if fragment.starts_with('/') {
            let pointer = unescaped(fragment);
            return bases.iter().filter_map(|base| base.pointer(&pointer)).collect();
        }
        self.anchors.get(fragment).cloned().unwrap_or_default()
    }
}

/// A fragment as it was before it was put into a URI.
fn unescaped(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { rest.get(3..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
