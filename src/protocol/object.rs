//! A JSON object of which only the first level was opened: members in their order, values still `Raw`.
//!
//! For definitions and results of which we change a member and must not touch the rest. Must not know their meaning.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::raw::{Raw, RawError};

/// An object's members, in order, each value as its bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Object(Vec<(String, Raw)>);

impl Object {
    /// Opens the first level of `raw`.
    ///
    /// # Errors
    /// When `raw` is not an object.
    pub fn open(raw: &Raw) -> Result<Self, RawError> {
        let Members(members) = raw.read()?;
        Ok(Self(members.into_iter().map(|(key, value)| (key, raw.part(value))).collect()))
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Raw> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The value under `key` when it is a string.
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key)?.read().ok()
    }

    /// Puts `value` under `key`, in the place of an older value or at the end.
    pub fn set(&mut self, key: &str, value: Raw) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Puts a value of our own making under `key`.
    pub fn put(&mut self, key: &str, value: impl Into<serde_json::Value>) {
        self.set(key, Raw::value(&value.into()));
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Raw> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// The members in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Raw)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object's JSON.
    pub fn to_raw(&self) -> Raw {
        let mut text = String::from("{");
        for (n, (key, value)) in self.0.iter().enumerate() {
            if n > 0 {
                text.push(',');
            }
            text.push_str(&serde_json::Value::from(key.as_str()).to_string());
            text.push(':');
            text.push_str(value.as_str());
        }
        text.push('}');
        Raw::trusted(text)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_raw().serialize(serializer)
    }
}

/// The borrowed first level of an object.
struct Members<'de>(Vec<(String, &'de RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsMembers;
        impl<'de> Visitor<'de> for AsMembers {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(AsMembers)
    }
}

/// Reads a form of named members from a JSON object, and from nothing else: an array would fill it in by position, which is not
/// what is said that it takes.
///
/// # Errors
/// When it is no object, or the form does not take it.
pub fn from_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct AsObject<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for AsObject<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_map(AsObject(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_keeps_its_bytes_and_its_place() {
        let raw =
            Raw::parse(br#"{"z": 1.50, "name": "a", "big": 123456789012345678901234567890}"#[..].into());
        let mut object = Object::open(&raw.unwrap()).unwrap();
        object.put("name", "b__a");
        let rewritten = r#"{"z":1.50,"name":"b__a","big":123456789012345678901234567890}"#;
        assert_eq!(object.to_raw().as_str(), rewritten);
        assert!(Object::open(&Raw::value(&serde_json::json!([1]))).is_err());
    }
}
