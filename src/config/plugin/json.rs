//! JSON as editors write it: with comments, and with commas before a closing bracket. Must not know what it says.

use serde_json::{Map, Value};

/// Reads an object.
///
/// # Errors
/// Why it is none, with line and column.
pub fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(&plain(text)) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is JSON, but no object".to_owned()),
        Err(error) => Err(format!("it is not JSON: {error}")),
    }
}

/// The same with blanks in place of comments and of such commas: lines and columns stay.
fn plain(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut plain = String::with_capacity(text.len());
    let mut comma: Option<usize> = None;
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        match (char, rest.peek()) {
            ('"', _) => {
                comma = None;
                plain.push(char);
                let mut escaped = false;
                for char in rest.by_ref() {
                    plain.push(char);
                    match char {
                        '"' if !escaped => break,
                        _ => escaped = char == '\\' && !escaped,
                    }
                }
            }
            ('/', Some('/')) => {
                plain.push(' ');
                while let Some(char) = rest.next_if(|char| *char != '\n') {
                    plain.extend(std::iter::repeat_n(' ', char.len_utf8()));
                }
            }
            ('/', Some('*')) => {
                let mut last = ' ';
                plain.push(' ');
                // The star that opens does not close.
                rest.next();
                plain.push(' ');
                for char in rest.by_ref() {
                    plain.push(if char == '\n' { '\n' } else { ' ' });
                    if last == '*' && char == '/' {
                        break;
                    }
                    last = char;
                }
            }
            (',', _) => {
                comma = Some(plain.len());
                plain.push(char);
            }
            ('}' | ']', _) => {
                if let Some(at) = comma.take() {
                    plain.replace_range(at..=at, " ");
                }
                plain.push(char);
            }
            _ => {
                if !char.is_whitespace() {
                    comma = None;
                }
                plain.push(char);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_and_last_commas_are_passed_over_but_not_within_texts() {
        let text =
            "\u{feff}{ // who, [x\n \"a\": \"x // , ]\\\" /* y\", /* , \n* / **/ \"b\": [1, 2, /* c */ ],\n}";
        assert_eq!(object(text).map(Value::Object), Ok(json!({"a": "x // , ]\" /* y", "b": [1, 2]})));
        for bad in ["[]", "{", "{\"a\": 1,, }", "{\"a\" /* ", "{,1}", ""] {
            assert!(object(bad).is_err(), "{bad}");
        }
        assert!(object("{\n\n \"a\": x}").unwrap_err().contains("line 3"));
    }
}
