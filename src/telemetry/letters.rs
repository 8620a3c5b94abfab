//! Letters of others that must not reach a terminal or a log as they are, and what is written in their place. Must not know where
//! a text comes from.

use std::fmt::Write as _;

/// Control characters, the line breaks of Unicode, and what turns the direction of writing around: with these, a text could
/// command a terminal, or a line pass for another.
pub fn is_harmful(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{061c}' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text of any number of lines that commands nothing.
pub fn harmless(text: &str) -> String {
    replaced(text, |letter, plain| match letter {
        '\n' | '\t' => plain.push(letter),
        _ => plain.extend(letter.escape_unicode()),
    })
}

/// The same on one line.
pub fn on_one_line(text: &str) -> String {
    replaced(text, |letter, plain| match letter {
        '\n' | '\r' | '\t' => plain.extend(letter.escape_default()),
        _ => plain.extend(letter.escape_unicode()),
    })
}

/// The same for a document of JSON, which says afterwards what it said before: such letters stand within its strings alone.
pub fn harmless_json(document: &str) -> String {
    replaced(document, |letter, plain| match letter {
        '\n' | '\t' => plain.push(letter),
        _ => {
            let _infallible = write!(plain, "\\u{:04x}", u32::from(letter));
        }
    })
}

fn replaced(text: &str, write: impl Fn(char, &mut String)) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_harmful(letter) {
            write(letter, &mut plain);
        } else {
            plain.push(letter);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commands_a_terminal_or_turns_a_line_around_is_shown_as_what_it_is() {
        let text = "a\u{1b}]0;x\u{7}b\n\tc\r\u{202e}d\u{2066}e\u{9b}";
        assert_eq!(harmless(text), "a\\u{1b}]0;x\\u{7}b\n\tc\\u{d}\\u{202e}d\\u{2066}e\\u{9b}");
        assert_eq!(on_one_line(text), "a\\u{1b}]0;x\\u{7}b\\n\\tc\\r\\u{202e}d\\u{2066}e\\u{9b}");
        for letter in ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}') {
            assert!(is_harmful(letter), "{letter:?}");
        }
        assert_eq!(harmless("großer Name – ☕"), "großer Name – ☕");
    }

    #[test]
    fn json_says_what_it_said() {
        let value = serde_json::json!({"a\u{202e}": "\u{9b}31m\u{1b}\n"});
        let plain = harmless_json(&format!("{value:#}"));
        assert!(!plain.chars().any(|letter| is_harmful(letter) && letter != '\n'), "{plain:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&plain).unwrap(), value);
    }
}
