//! The canonical hash of a definition: the same however its members are ordered, another as soon as it says something else.
//!
//! Must not know what is done with it.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::protocol::Raw;

/// SHA-256 over the JSON with sorted keys and without spaces, in hexadecimal.
pub fn of(definition: &Raw) -> String {
    let mut hash = Sha256::new();
    match definition.read::<Value>() {
        Ok(value) => feed(&mut hash, &value),
        // Numbers that no machine holds: then its bytes themselves are what it says.
        Err(_) => hash.update(definition.bytes()),
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
        text
    })
}

fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            hash.update(b"{");
            for (n, (key, value)) in members.into_iter().enumerate() {
                hash.update(if n > 0 { &b","[..] } else { b"" });
                hash.update(Value::from(key.as_str()).to_string());
                hash.update(b":");
                feed(hash, value);
            }
            hash.update(b"}");
        }
        Value::Array(items) => {
            hash.update(b"[");
            for (n, item) in items.iter().enumerate() {
                hash.update(if n > 0 { &b","[..] } else { b"" });
                feed(hash, item);
            }
            hash.update(b"]");
        }
        scalar => hash.update(scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_members_says_nothing_and_every_word_says_something() {
        let of = |text: &'static str| of(&Raw::trusted(text));
        let one = of(r#"{"name": "a", "inputSchema": {"type": "object", "required": ["x", "y"]}}"#);
        assert_eq!(one, of(r#"{"inputSchema":{"required":["x","y"],"type":"object"},"name":"a"}"#));
        assert_ne!(one, of(r#"{"inputSchema":{"required":["y","x"],"type":"object"},"name":"a"}"#));
        assert_ne!(of("[1,2]"), of("[12]"));
        // As `printf '{"a":1}' | sha256sum` has it: operators compare.
        assert_eq!(of(r#"{ "a": 1 }"#), "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862");
    }
}
