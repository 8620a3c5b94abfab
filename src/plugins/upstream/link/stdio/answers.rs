//! Whose answer a line is that cannot be read whole: broken JSON, or too long to be held. Pure.

/// The first bytes of a line, in which its members are looked for.
const LOOKED_AT_BYTES: usize = 4096;

/// What the beginning of a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// It answers the request of this number.
    Answers(u64),
    /// It tells or asks something.
    Tells,
    /// It may be an answer; its number may come at its end.
    Unknown,
    /// It is no JSON object.
    Nothing,
}

/// What the beginning of a line tells.
pub(super) fn begins(line: &[u8]) -> Whose {
    let line = line.get(..LOOKED_AT_BYTES).unwrap_or(line);
    if line.first() != Some(&b'{') {
        return Whose::Nothing;
    }
    let (mut depth, mut at, mut wants_key) = (0_usize, 0, false);
    let (mut id, mut outcome) = (None, false);
    while let Some(&byte) = line.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                wants_key = depth == 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => wants_key = depth == 1,
            b'"' => {
                let rest = line.get(at..).unwrap_or_default();
                let Some(length) = string_end(rest) else { break };
                at += length + 1;
                if std::mem::take(&mut wants_key) {
                    match rest.get(..length).unwrap_or_default() {
                        b"method" => return Whose::Tells,
                        b"result" | b"error" => outcome = true,
                        b"id" => id = number(line.get(at..).unwrap_or_default()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        if let (Some(id), true) = (id, outcome) {
            return Whose::Answers(id);
        }
    }
    Whose::Unknown
}

/// The id that stands at the very end of a line, where some servers put it.
pub(super) fn ends(line: &[u8]) -> Option<u64> {
    let rest = line.trim_ascii_end().strip_suffix(b"}")?.trim_ascii_end();
    let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, digits) = rest.split_at(rest.len() - digits);
    let rest = rest.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end().strip_suffix(b"\"id\"")?;
    matches!(rest.trim_ascii_end().last(), Some(b',' | b'{')).then(|| parse(digits)).flatten()
}

/// Where a string ends that has begun.
fn string_end(rest: &[u8]) -> Option<usize> {
    let mut escaped = false;
    rest.iter().position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

/// The number after a key, when it is there to its end.
fn number(rest: &[u8]) -> Option<u64> {
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at(digits);
    matches!(rest.first(), Some(b',' | b'}' | b' ' | b'\t' | b'\r')).then(|| parse(digits)).flatten()
}

fn parse(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_answer_tells_whose_it_is() {
        for (line, wanted) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"x":"#, Whose::Answers(7)),
            (r#"{ "id" : 12 , "error" : {"#, Whose::Answers(12)),
            (r#"{"result":{"id":3,"method":"a"},"id":9,"#, Whose::Answers(9)),
            (r#"{"result":{"content":[{"text":"\",\"id\":3,"#, Whose::Unknown),
            (r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#, Whose::Tells),
            (r#"{"jsonrpc":"2.0","id":"5","result":{}"#, Whose::Unknown),
            (r#"{"jsonrpc":"2.0","id":57"#, Whose::Unknown),
            ("hello", Whose::Nothing),
        ] {
            assert_eq!(begins(line.as_bytes()), wanted, "{line}");
        }
    }

    #[test]
    fn the_end_of_an_answer_tells_it_too() {
        assert_eq!(ends(br#"xxx"},"jsonrpc":"2.0","id":42} "#), Some(42));
        assert_eq!(ends(br#"xxx", "id" : 1 }"#), Some(1));
        for other in [r#""id":"42"}"#, r#"{"text":"id\":4}"#, r#"{"id":4}]"#, r#""id":}"#, ""] {
            assert_eq!(ends(other.as_bytes()), None, "{other}");
        }
    }
}
