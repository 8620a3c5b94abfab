//! What a program says, made fit to be seen: secrets masked, control characters escaped, cut.

use std::fmt::Write as _;

use crate::telemetry::letters::is_harmful;
use crate::telemetry::redaction::{MASK, mask};

/// A secret that is shorter would mask half of what is said.
const SECRET_MIN_BYTES: usize = 4;
/// One that is shorter than this is masked where it stands as a word: within words it may well be chance.
const ANYWHERE_MIN_BYTES: usize = 8;

/// What a program was given and must not be seen.
#[derive(Default)]
pub(super) struct Veil {
    secrets: Vec<String>,
}

impl Veil {
    pub(super) fn new(mut secrets: Vec<String>) -> Self {
        secrets.retain(|secret| secret.len() >= SECRET_MIN_BYTES);
        // The longest first: a secret may be part of another, which would then be shown but for that part.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// A text with the secrets masked.
    pub(super) fn over(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| without(&text, secret).unwrap_or(text))
    }

    /// Foreign bytes as they may be seen.
    pub(super) fn shown(&self, bytes: &[u8], max_bytes: usize) -> String {
        let text = self.over(&String::from_utf8_lossy(bytes));
        let masked = mask(&text);
        // Cut last: of a secret that the cut goes through nothing would be recognised.
        let end = (0..=max_bytes.min(masked.len())).rev().find(|end| masked.is_char_boundary(*end));
        let kept = masked.get(..end.unwrap_or_default()).unwrap_or_default();
        let mut shown = String::with_capacity(kept.len());
        for char in kept.chars() {
            if is_harmful(char) && char != '\t' {
                let _infallible = write!(shown, "{}", char.escape_default());
            } else {
                shown.push(char);
            }
        }
        if kept.len() < masked.len() {
            shown.push('…');
        }
        shown
    }
}

/// The text with the secret masked; none where it is not said.
fn without(text: &str, secret: &str) -> Option<String> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let counts = |at: usize| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + secret.len()..).and_then(|after| after.chars().next());
        secret.len() >= ANYWHERE_MIN_BYTES || !(before.is_some_and(is_word) || after.is_some_and(is_word))
    };
    let mut shown = String::new();
    let mut done = 0;
    for (at, _) in text.match_indices(secret).filter(|(at, _)| counts(*at)) {
        shown.push_str(text.get(done..at)?);
        shown.push_str(MASK);
        done = at + secret.len();
    }
    (done > 0).then(|| format!("{shown}{}", text.get(done..).unwrap_or_default()))
}

impl std::fmt::Debug for Veil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Veil({} secrets)", self.secrets.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown_as_far_as_they_can_be() {
        let veil = Veil::default();
        assert_eq!(veil.shown(b"a\xff\x00b", 10), "a\u{fffd}\\u{0}b");
        assert_eq!(veil.shown("äöü".as_bytes(), 3), "ä…");
    }

    #[test]
    fn a_secret_is_masked_wherever_it_is_said() {
        let veil = Veil::new(vec!["correct horse".to_owned(), "no".to_owned()]);
        assert_eq!(veil.shown(b"it is correct horse, no?", 100), format!("it is {MASK}, no?"));
        assert_eq!(veil.shown(b"xcorrect horsex", 100), format!("x{MASK}x"));
    }

    #[test]
    fn a_short_secret_is_masked_as_a_word_and_not_within_one() {
        let veil = Veil::new(vec!["tuna".to_owned(), "tuna-42".to_owned()]);
        let said = veil.shown(b"tuna, (tuna) tunas bytuna tuna_1 tuna-42 tuna", 200);
        assert_eq!(said, format!("{MASK}, ({MASK}) tunas bytuna tuna_1 {MASK} {MASK}"));
    }

    #[test]
    fn a_secret_that_the_cut_goes_through_is_masked_too() {
        let veil = Veil::new(vec!["correct horse".to_owned()]);
        let said = veil.shown(b"it is correct horse", 14);
        assert!(said.starts_with("it is ") && !said.contains("correct"), "{said}");
    }
}
