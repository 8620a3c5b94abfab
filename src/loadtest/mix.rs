//! What is asked how often: entries with weights, from a file, and whose turn it is. Pure.

use serde::Deserialize;
use serde_json::{Map, Value};

/// Of more kinds of requests nobody could read the results.
pub const ENTRIES_MAX: usize = 64;
const WEIGHT_MAX: u32 = 1_000_000;
/// The largest text that is put in.
const PAYLOAD_MAX_BYTES: usize = 64 << 20;
/// What stands where the text shall be.
pub const PLACEHOLDER: &str = "{payload}";

/// One kind of request: a tool with its arguments, or a method with its parameters.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// A tool to call.
    pub tool: Option<String>,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Another method than `tools/call`.
    pub method: Option<String>,
    /// Its parameters.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// How often, against the others.
    #[serde(default = "once")]
    pub weight: u32,
    /// The size of the text that takes the place of `{payload}`.
    pub payload_bytes: Option<usize>,
}

const fn once() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    calls: Vec<Entry>,
}

/// Reads a file of entries, JSON or TOML.
///
/// # Errors
/// One sentence on what is wrong with it.
pub fn read(text: &str, is_json: bool) -> Result<Vec<Entry>, String> {
    let file: File = match is_json {
        true => serde_json::from_str(text).map_err(|error| error.to_string())?,
        false => toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?,
    };
    if file.calls.is_empty() || file.calls.len() > ENTRIES_MAX {
        return Err(format!("it has {} calls; write 1 to {ENTRIES_MAX} of them", file.calls.len()));
    }
    file.calls.into_iter().enumerate().map(|(at, entry)| entry.checked(at + 1)).collect()
}

impl Entry {
    /// A call of one tool.
    pub fn of_tool(tool: &str, arguments: Map<String, Value>, payload_bytes: Option<usize>) -> Self {
        let tool = Some(tool.to_owned());
        Self { tool, arguments, method: None, params: Map::new(), weight: 1, payload_bytes }
    }

    /// A request of another method, without parameters.
    pub fn of_method(method: &str) -> Self {
        let method = Some(method.to_owned());
        Self { tool: None, arguments: Map::new(), method, params: Map::new(), weight: 1, payload_bytes: None }
    }

    fn checked(self, number: usize) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("call {number}: {why}"));
        match (&self.tool, &self.method) {
            (Some(_), Some(_)) => return wrong("it has a tool and a method; leave one out"),
            (None, None) => return wrong("it has neither a tool nor a method; name one"),
            (Some(_), None) if !self.params.is_empty() => {
                return wrong("a tool has `arguments`, not `params`");
            }
            (None, Some(_)) if !self.arguments.is_empty() => {
                return wrong("a method has `params`, not `arguments`");
            }
            (None, Some(method)) if method == "tools/call" => {
                return wrong("write `tool` in place of the method tools/call");
            }
            _ => {}
        }
        if !(1..=WEIGHT_MAX).contains(&self.weight) {
            return wrong(&format!("its weight is {}; it may be 1 to {WEIGHT_MAX}", self.weight));
        }
        self.filled().map_err(|why| format!("call {number}: {why}"))
    }

    /// The same with the text in its place.
    ///
    /// # Errors
    /// When there is a size and no place, or a place and no size, or the size is beyond all measure.
    pub fn filled(mut self) -> Result<Self, String> {
        let size = self.payload_bytes;
        if size.is_some_and(|size| size > PAYLOAD_MAX_BYTES) {
            return Err(format!("a payload may have at most {PAYLOAD_MAX_BYTES} bytes"));
        }
        let text = size.map(payload);
        let places = fill(&mut self.arguments, text.as_deref()) + fill(&mut self.params, text.as_deref());
        match (size, places) {
            (Some(_), 0) => Err(format!(
                "there is a size for a payload and no place; write {PLACEHOLDER:?} as the value of an argument"
            )),
            (None, 1..) => Err(format!("{PLACEHOLDER:?} stands for a payload whose size is not said")),
            _ => Ok(self),
        }
    }

    /// What people call it.
    pub fn label(&self) -> String {
        self.tool.clone().or_else(|| self.method.clone()).unwrap_or_default()
    }
}

/// Readable text of so many bytes, that no compression would take for nothing.
fn payload(size: usize) -> String {
    let mut state = 0x9E37_79B9_u32;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from(b'a' + u8::try_from(state % 26).unwrap_or_default())
    };
    (0..size).map(letter).collect()
}

/// Puts the text where its place is, and says how many places there were.
fn fill(members: &mut Map<String, Value>, text: Option<&str>) -> usize {
    members.values_mut().map(|value| fill_value(value, text)).sum()
}

fn fill_value(value: &mut Value, text: Option<&str>) -> usize {
    match value {
        Value::String(known) if known == PLACEHOLDER => {
            if let Some(text) = text {
                text.clone_into(known);
            }
            1
        }
        Value::Array(items) => items.iter_mut().map(|item| fill_value(item, text)).sum(),
        Value::Object(members) => fill(members, text),
        _ => 0,
    }
}

/// Whose turn it is: exactly as often as the weights say, and spread evenly.
#[derive(Debug, Clone)]
pub struct Turns {
    weights: Vec<i64>,
    credits: Vec<i64>,
    total: i64,
}

impl Turns {
    /// By these weights.
    pub fn new(weights: impl Iterator<Item = u32>) -> Self {
        let weights: Vec<i64> = weights.map(i64::from).collect();
        Self { credits: vec![0; weights.len()], total: weights.iter().sum(), weights }
    }

    /// The next one: who was passed over for longest, by weight.
    pub fn take(&mut self) -> usize {
        for (credit, weight) in self.credits.iter_mut().zip(&self.weights) {
            *credit += weight;
        }
        let next = self.credits.iter().enumerate().rev().max_by_key(|(_, credit)| **credit);
        let next = next.map_or(0, |(at, _)| at);
        if let Some(credit) = self.credits.get_mut(next) {
            *credit -= self.total;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mix_is_read_from_toml_and_from_json() {
        let toml = "[[calls]]\ntool = \"echo\"\nweight = 3\npayload_bytes = 4\n\
                    arguments = { deep = [{ message = \"{payload}\" }] }\n[[calls]]\nmethod = \"tools/list\"\n";
        let json = json!({"calls": [
            {"tool": "echo", "weight": 3, "payload_bytes": 4, "arguments": {"deep": [{"message": "{payload}"}]}},
            {"method": "tools/list"},
        ]});
        let entries = read(toml, false).unwrap();
        assert_eq!(entries, read(&json.to_string(), true).unwrap());
        let message = entries[0].arguments["deep"][0]["message"].as_str().unwrap();
        assert!(
            message.len() == 4 && message != "{payload}" && message.bytes().all(|b| b.is_ascii_lowercase())
        );
        assert_eq!((entries[1].label().as_str(), entries[1].weight), ("tools/list", 1));
    }

    #[test]
    fn what_is_wrong_with_a_mix_is_said() {
        for (text, says) in [
            ("calls = []", "it has 0 calls"),
            ("[[calls]]\ntol = \"a\"", "tol"),
            ("[[calls]]\nweight = 1", "call 1: it has neither"),
            ("[[calls]]\ntool = \"a\"\nmethod = \"b\"", "call 1: it has a tool and a method"),
            ("[[calls]]\ntool = \"a\"\nweight = 0", "its weight is 0"),
            ("[[calls]]\ntool = \"a\"\n[[calls]]\nmethod = \"tools/call\"", "call 2: write `tool`"),
            ("[[calls]]\ntool = \"a\"\npayload_bytes = 1", "no place"),
            ("[[calls]]\ntool = \"a\"\narguments = { x = \"{payload}\" }", "whose size is not said"),
            ("[[calls]]\ntool = \"a\"\nparams = { x = 1 }", "not `params`"),
        ] {
            let why = read(text, false).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
    }

    #[test]
    fn turns_come_exactly_as_often_as_the_weights_say_and_not_in_a_row() {
        let mut turns = Turns::new([3, 1].into_iter());
        let taken: Vec<usize> = (0..8).map(|_| turns.take()).collect();
        assert_eq!(taken, [0, 0, 1, 0, 0, 0, 1, 0]);
        let mut turns = Turns::new([5, 2, 3].into_iter());
        let mut counts = [0; 3];
        (0..1000).for_each(|_| counts[turns.take()] += 1);
        assert_eq!(counts, [500, 200, 300]);
    }
}
