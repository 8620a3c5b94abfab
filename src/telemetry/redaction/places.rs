//! Where values stand that are hidden, whatever they are: what says so speaks of a tool's arguments, never of a name or a look.
//!
//! Hidden are a graph, for a schema that refers to itself says it of places without end. Pure; must not know who says it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// What stands where a value was hidden.
const HIDDEN: &str = "\"(hidden)\"";

/// So many descriptions may hold of one value; a value of which more hold is hidden, for a look at each has its price.
const AT_ONCE_MAX: usize = 128;

/// A description of places, by its number.
pub type Spot = usize;

/// How one description leads to another.
#[derive(Debug, Clone, Copy)]
pub enum Way<'a> {
    /// It holds of the same value, too.
    Here,
    /// To all elements or members.
    Each,
    /// To the member of this name, or the element of this number.
    Named(&'a str),
}

/// What is being found out of places.
#[derive(Debug, Default)]
pub struct Draft {
    spots: Vec<Described>,
}

/// One description of places.
#[derive(Debug, Clone, Default)]
struct Described {
    hidden: bool,
    here: Vec<Spot>,
    each: Vec<Spot>,
    named: BTreeMap<Box<str>, Vec<Spot>>,
}

/// Hidden whose values are hidden.
#[derive(Debug)]
pub struct Hidden {
    spots: Vec<Described>,
    start: At,
}

/// The descriptions that hold of one value.
#[derive(Debug, Clone)]
enum At {
    /// These; none means that nothing is hidden there, nor below.
    Spots(Vec<Spot>),
    /// One that hides it.
    Hidden,
}

impl Draft {
    /// One more description, of no place as yet. The first is that of the whole.
    pub fn describe(&mut self) -> Spot {
        self.spots.push(Described::default());
        self.spots.len() - 1
    }

    /// What it describes is hidden.
    pub fn hide(&mut self, spot: Spot) {
        if let Some(described) = self.spots.get_mut(spot) {
            described.hidden = true;
        }
    }

    /// From what the one describes there is a way to what the other does.
    pub fn lead(&mut self, from: Spot, way: Way<'_>, to: Spot) {
        let Some(described) = self.spots.get_mut(from) else { return };
        match way {
            Way::Here => described.here.push(to),
            Way::Each => described.each.push(to),
            Way::Named(name) => described.named.entry(name.into()).or_default().push(to),
        }
    }

    /// A description of what lies that way; the one that is there, if there is one.
    pub fn follow(&mut self, from: Spot, way: Way<'_>) -> Spot {
        let known = self.spots.get(from).and_then(|described| match way {
            Way::Here => described.here.first(),
            Way::Each => described.each.first(),
            Way::Named(name) => described.named.get(name)?.first(),
        });
        if let Some(known) = known {
            return *known;
        }
        let to = self.describe();
        self.lead(from, way, to);
        to
    }

    /// The places, without what leads to none that is hidden; nothing if none is.
    pub fn finish(mut self) -> Option<Arc<Hidden>> {
        let leads = self.leads_to_hidden();
        if leads.first() != Some(&true) {
            return None;
        }
        for described in &mut self.spots {
            let keep = |to: &Spot| leads.get(*to) == Some(&true);
            described.here.retain(keep);
            described.each.retain(keep);
            for spots in described.named.values_mut() {
                spots.retain(keep);
            }
            described.named.retain(|_, spots| !spots.is_empty());
        }
        let mut places = Hidden { spots: self.spots, start: At::Hidden };
        places.start = places.with_same(vec![0]);
        Some(Arc::new(places))
    }

    /// Of each description whether a way leads from it to something hidden.
    fn leads_to_hidden(&self) -> Vec<bool> {
        let mut from: Vec<Vec<Spot>> = vec![Vec::new(); self.spots.len()];
        for (spot, described) in self.spots.iter().enumerate() {
            let below = described.each.iter().chain(described.named.values().flatten());
            for to in described.here.iter().chain(below) {
                from.get_mut(*to).into_iter().for_each(|from| from.push(spot));
            }
        }
        let mut leads: Vec<bool> = self.spots.iter().map(|described| described.hidden).collect();
        let mut open: Vec<Spot> =
            leads.iter().enumerate().filter_map(|(spot, leads)| leads.then_some(spot)).collect();
        while let Some(spot) = open.pop() {
            for before in from.get(spot).into_iter().flatten() {
                if let Some(leads) = leads.get_mut(*before).filter(|leads| !**leads) {
                    *leads = true;
                    open.push(*before);
                }
            }
        }
        leads
    }
}

impl Hidden {
    /// JSON with `"(hidden)"` in place of each value that stands at one of these; every other byte stays as it is.
    pub fn hide(&self, raw: &str) -> String {
        let mut found = Vec::new();
        let mut source = serde_json::Deserializer::from_str(raw);
        let look = Look { places: self, at: self.start.clone(), raw, found: &mut found };
        if look.deserialize(&mut source).and_then(|()| source.end()).is_err() {
            // Only checked JSON is given; of what is not, nothing is told apart.
            return HIDDEN.to_owned();
        }
        let mut shown = String::with_capacity(raw.len());
        let mut from = 0;
        for Range { start, end } in found {
            shown.push_str(raw.get(from..start).unwrap_or_default());
            shown.push_str(HIDDEN);
            from = end;
        }
        shown + raw.get(from..).unwrap_or_default()
    }

    /// What holds of the member or element of this name below something.
    fn below(&self, at: &[Spot], name: &str) -> At {
        let all = at.iter().filter_map(|spot| self.spots.get(*spot));
        let below = all.flat_map(|described| {
            described.each.iter().chain(described.named.get(name).into_iter().flatten())
        });
        let mut spots = Vec::new();
        for spot in below {
            if !spots.contains(spot) {
                spots.push(*spot);
            }
            if spots.len() > AT_ONCE_MAX {
                return At::Hidden;
            }
        }
        self.with_same(spots)
    }

    /// These descriptions with all that hold wherever they do.
    fn with_same(&self, mut spots: Vec<Spot>) -> At {
        let mut next = 0;
        while let Some(described) = spots.get(next).and_then(|spot| self.spots.get(*spot)) {
            if described.hidden || spots.len() > AT_ONCE_MAX {
                return At::Hidden;
            }
            for same in &described.here {
                if !spots.contains(same) {
                    spots.push(*same);
                }
            }
            next += 1;
        }
        At::Spots(spots)
    }
}

/// Looks at one value, and notes where the hidden ones in it stand.
struct Look<'a, 'de> {
    places: &'a Hidden,
    at: At,
    raw: &'de str,
    found: &'a mut Vec<Range<usize>>,
}

impl<'de> DeserializeSeed<'de> for Look<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.at {
            At::Spots(at) if at.is_empty() => IgnoredAny::deserialize(deserializer).map(drop),
            At::Spots(at) => {
                let Self { places, raw, found, .. } = self;
                deserializer.deserialize_any(Inside { places, at, raw, found })
            }
            At::Hidden => {
                let value = <&'de RawValue>::deserialize(deserializer)?.get();
                // It is a part of the text that is read, and so lies behind its beginning.
                let start = value.as_ptr().addr().saturating_sub(self.raw.as_ptr().addr());
                self.found.push(start..start + value.len());
                Ok(())
            }
        }
    }
}

/// Looks at what is in one value.
struct Inside<'a, 'de> {
    places: &'a Hidden,
    at: Vec<Spot>,
    raw: &'de str,
    found: &'a mut Vec<Range<usize>>,
}

impl<'de> Inside<'_, 'de> {
    fn below(&mut self, name: &str) -> Look<'_, 'de> {
        let at = self.places.below(&self.at, name);
        Look { places: self.places, at, raw: self.raw, found: &mut *self.found }
    }
}

impl<'de> Visitor<'de> for Inside<'_, 'de> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        for number in 0_usize.. {
            if seq.next_element_seed(self.below(&number.to_string()))?.is_none() {
                break;
            }
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            map.next_value_seed(self.below(&key))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: [Way<'_>; 2] = [Way::Named("card"), Way::Named("number")];

    /// The places to which these ways lead.
    fn places(all: &[&[Way<'_>]]) -> Arc<Hidden> {
        let mut draft = Draft::default();
        let whole = draft.describe();
        for ways in all {
            let spot = ways.iter().fold(whole, |from, way| draft.follow(from, *way));
            draft.hide(spot);
        }
        draft.finish().expect("something is hidden")
    }

    #[test]
    fn what_stands_at_a_place_is_hidden_whole_and_every_other_byte_stays() {
        let number = places(&[&NUMBER]);
        for (raw, wanted) in [
            (r#"{"card": {"number":"4000","x": 1.50}}"#, r#"{"card": {"number":"(hidden)","x": 1.50}}"#),
            (r#"{"card":{"number" : 12345678901234567890123 }}"#, r#"{"card":{"number" : "(hidden)" }}"#),
            (r#"{"card":{"number":{"a":[1,{}]},"n":null}}"#, r#"{"card":{"number":"(hidden)","n":null}}"#),
            (r#"{"card":{"number":[[],"x"]}}"#, r#"{"card":{"number":"(hidden)"}}"#),
            (r#"{"c\u0061rd":{"numbe\u0072":true}}"#, r#"{"c\u0061rd":{"numbe\u0072":"(hidden)"}}"#),
            (
                r#"{"number":1,"card":"number","cards":{"number":2}}"#,
                r#"{"number":1,"card":"number","cards":{"number":2}}"#,
            ),
            (r#"{"card":[{"number":1}]}"#, r#"{"card":[{"number":1}]}"#),
            (r#"{"card":{"number":null}}"#, r#"{"card":{"number":"(hidden)"}}"#),
            ("{}", "{}"),
            ("{\"card\":", HIDDEN),
        ] {
            assert_eq!(number.hide(raw), wanted);
        }
        assert_eq!(places(&[&[]]).hide(r#" {"a":1} "#), r#" "(hidden)" "#);
    }

    #[test]
    fn a_star_is_every_element_and_member_and_a_number_an_element_or_a_member() {
        let each = places(&[&[Way::Named("items"), Way::Each, Way::Named("pin")], &NUMBER]);
        let raw = r#"{"items":[{"pin":1,"a":2},{"a":3},4,{"pin":[5]}],"card":{"number":6}}"#;
        let wanted = r#"{"items":[{"pin":"(hidden)","a":2},{"a":3},4,{"pin":"(hidden)"}],"card":{"number":"(hidden)"}}"#;
        assert_eq!(each.hide(raw), wanted);
        let raw = r#"{"items":{"x":{"pin":1},"pin":2}}"#;
        assert_eq!(each.hide(raw), r#"{"items":{"x":{"pin":"(hidden)"},"pin":2}}"#);
        let second = places(&[&[Way::Named("a"), Way::Named("1")]]);
        assert_eq!(second.hide(r#"{"a":[0,[1],2]}"#), r#"{"a":[0,"(hidden)",2]}"#);
        assert_eq!(second.hide(r#"{"a":{"1":0,"01":2}}"#), r#"{"a":{"1":"(hidden)","01":2}}"#);
    }

    #[test]
    fn a_description_that_leads_to_itself_ends_and_holds_at_any_depth() {
        let mut draft = Draft::default();
        let (whole, pin) = (draft.describe(), draft.describe());
        draft.lead(whole, Way::Here, whole);
        draft.lead(whole, Way::Named("below"), whole);
        draft.lead(whole, Way::Named("pin"), pin);
        draft.hide(pin);
        let places = draft.finish().expect("something is hidden");
        let nested = |leaf: &str| (0..100).fold(leaf.to_owned(), |below, _| format!("{{\"below\":{below}}}"));
        assert_eq!(places.hide(&nested(r#"{"pin":1}"#)), nested(r#"{"pin":"(hidden)"}"#));
    }

    #[test]
    fn where_nothing_is_hidden_there_are_no_places_and_too_many_descriptions_hide() {
        let mut draft = Draft::default();
        let whole = draft.describe();
        draft.follow(whole, Way::Named("a"));
        assert!(draft.finish().is_none());
        assert!(Draft::default().finish().is_none());
        let mut draft = Draft::default();
        let whole = draft.describe();
        for _ in 0..=AT_ONCE_MAX {
            let branch = draft.describe();
            draft.lead(whole, Way::Named("a"), branch);
            let pin = draft.follow(branch, Way::Named("pin"));
            draft.hide(pin);
        }
        let places = draft.finish().expect("something is hidden");
        assert_eq!(places.hide(r#"{"a":{"b":1},"b":2}"#), r#"{"a":"(hidden)","b":2}"#);
    }
}
