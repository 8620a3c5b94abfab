//! What a program says, made fit to be seen: secrets masked, control characters escaped, cut.

use std::fmt::Write as _;

use crate::telemetry::redaction::{MASK, mask};

/// A secret that is shorter would mask half of what is said.
const SECRET_MIN_BYTES: usize = 6;

/// What a program was given and must not be seen.
#[derive(Default)]
pub(super) struct Veil {
    secrets: Vec<String>,
}

impl Veil {
    pub(super) fn new(mut secrets: Vec<String>) -> Self {
        secrets.retain(|secret| secret.len() >= SECRET_MIN_BYTES);
        Self { secrets }
    }

    /// Foreign bytes as they may be seen.
    pub(super) fn shown(&self, bytes: &[u8], max_bytes: usize) -> String {
        let cut = bytes.get(..max_bytes);
        let mut text = String::from_utf8_lossy(cut.unwrap_or(bytes)).into_owned();
        for secret in &self.secrets {
            if text.contains(secret) {
                text = text.replace(secret, MASK);
            }
        }
        let mut shown = String::with_capacity(text.len());
        for char in mask(&text).chars() {
            if char.is_control() && char != '\t' {
                let _infallible = write!(shown, "{}", char.escape_default());
            } else {
                shown.push(char);
            }
        }
        if cut.is_some_and(|cut| cut.len() < bytes.len()) {
            shown.push('…');
        }
        shown
    }
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
        assert_eq!(veil.shown("äöü".as_bytes(), 3), "ä\u{fffd}…");
    }

    #[test]
    fn a_secret_is_masked_wherever_it_is_said() {
        let veil = Veil::new(vec!["correct horse".to_owned(), "no".to_owned()]);
        assert_eq!(veil.shown(b"it is correct horse, no?", 100), format!("it is {MASK}, no?"));
    }
}
