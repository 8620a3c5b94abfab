//! Samples in the form of pprof: the protocol buffer `perftools.profiles.Profile`, as `go tool pprof` and many others read it.
//!
//! <https://github.com/google/pprof/blob/main/proto/profile.proto>, whose numbers stand here at the fields. Must not know where
//! samples come from.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::{HERTZ, Samples};

/// What one sample stands for.
const PERIOD_NANOS: u64 = 1_000_000_000 / HERTZ as u64;

/// Writes samples down.
pub fn pprof(samples: &Samples) -> Vec<u8> {
    let mut texts = Texts::default();
    let mut profile = Message::default();
    let mut units = [("samples", "count"), ("cpu", "nanoseconds")].map(|(of, unit)| {
        let mut kind = Message::default();
        kind.number(1, texts.place(of));
        kind.number(2, texts.place(unit));
        kind
    });
    units.iter().for_each(|kind| profile.message(1, kind));
    let thread_key = texts.place("thread");
    let mut functions: HashMap<&str, u64> = HashMap::new();
    for stack in &samples.stacks {
        let mut sample = Message::default();
        let places = stack.functions.iter().map(|name| {
            let next = number(functions.len()) + 1;
            *functions.entry(name).or_insert(next)
        });
        sample.numbers(1, places);
        sample.numbers(2, [stack.count, stack.count.saturating_mul(PERIOD_NANOS)].into_iter());
        let mut label = Message::default();
        label.number(1, thread_key);
        label.number(2, texts.place(&stack.thread));
        sample.message(3, &label);
        profile.message(2, &sample);
    }
    let mut functions: Vec<(&str, u64)> = functions.into_iter().collect();
    functions.sort_by_key(|(_, id)| *id);
    for (name, id) in functions {
        profile.message(4, &location(id));
        let mut function = Message::default();
        function.number(1, id);
        function.number(2, texts.place(name));
        function.number(3, texts.place(name));
        profile.message(5, &function);
    }
    texts.all.iter().for_each(|text| profile.bytes(6, text.as_bytes()));
    let began = samples.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    profile.number(9, nanos(began));
    profile.number(10, nanos(samples.took));
    if let Some(kind) = units.last_mut() {
        profile.message(11, kind);
    }
    profile.number(12, PERIOD_NANOS);
    profile.0
}

/// A place in the program: of each function one, since nothing more is known.
fn location(id: u64) -> Message {
    let mut line = Message::default();
    line.number(1, id);
    let mut location = Message::default();
    location.number(1, id);
    location.message(4, &line);
    location
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The profile's texts, each once: all else names them by their places, of which the first is nobody's.
struct Texts {
    all: Vec<String>,
    places: HashMap<String, u64>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { all: vec![String::new()], places: HashMap::from([(String::new(), 0)]) }
    }
}

impl Texts {
    fn place(&mut self, text: &str) -> u64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = number(self.all.len());
        self.all.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }
}

/// A message of protocol buffers, as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(number(bytes.len()));
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    fn numbers(&mut self, field: u64, values: impl Iterator<Item = u64>) {
        let mut packed = Self::default();
        values.for_each(|value| packed.varint(value));
        self.message(field, &packed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stack;
    use super::*;

    /// The fields of a message, with their numbers.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Result<u64, Vec<u8>>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let end = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap();
            let (read, rest) = bytes.split_at(end + 1);
            *bytes = rest;
            read.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
        }
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = varint(&mut bytes);
            found.push(match key & 7 {
                0 => (key >> 3, Ok(value)),
                2 => {
                    let (read, rest) = bytes.split_at(usize::try_from(value).unwrap());
                    bytes = rest;
                    (key >> 3, Err(read.to_vec()))
                }
                kind => panic!("a field of kind {kind}"),
            });
        }
        found
    }

    fn all(message: &[u8], field: u64) -> Vec<Vec<u8>> {
        let of_field = fields(message).into_iter().filter(|(number, _)| *number == field);
        of_field.map(|(_, value)| value.unwrap_err()).collect()
    }

    #[test]
    fn samples_have_the_form_of_pprof() {
        let stack = |functions: &[&str], count| Stack {
            thread: "worker".to_owned(),
            functions: functions.iter().map(|name| (*name).to_owned()).collect(),
            count,
        };
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(2);
        let stacks = vec![stack(&["inner", "outer"], 300), stack(&["outer"], 1)];
        let written = pprof(&Samples { stacks, began, took: Duration::from_nanos(7) });
        let texts: Vec<String> =
            all(&written, 6).into_iter().map(|text| String::from_utf8(text).unwrap()).collect();
        let wanted = ["", "samples", "count", "cpu", "nanoseconds", "thread", "worker", "inner", "outer"];
        assert_eq!(texts, wanted);
        let kinds: Vec<_> = all(&written, 1).iter().map(|kind| fields(kind)).collect();
        assert_eq!(kinds, [[(1, Ok(1)), (2, Ok(2))], [(1, Ok(3)), (2, Ok(4))]]);
        let samples = all(&written, 2);
        assert_eq!(all(&samples[0], 1), [[1, 2]]);
        assert_eq!(all(&samples[1], 1), [[2]]);
        // 300 samples, and what they stand for.
        assert_eq!(all(&samples[0], 2)[0][..2], [0xac, 0x02]);
        assert_eq!(fields(&all(&samples[0], 3)[0]), [(1, Ok(5)), (2, Ok(6))]);
        let functions: Vec<_> = all(&written, 5).iter().map(|function| fields(function)).collect();
        assert_eq!(functions[1], [(1, Ok(2)), (2, Ok(8)), (3, Ok(8))]);
        let locations = all(&written, 4);
        assert_eq!(fields(&locations[1])[0], (1, Ok(2)));
        assert_eq!(fields(&all(&locations[1], 4)[0]), [(1, Ok(2))]);
        let rest: Vec<_> = fields(&written).into_iter().filter(|(number, _)| *number > 6).collect();
        assert_eq!((&rest[0], &rest[1]), (&(9, Ok(2_000_000_000)), &(10, Ok(7))));
        assert_eq!((rest[2].0, &rest[3]), (11, &(12, Ok(10_101_010))));
    }
}
