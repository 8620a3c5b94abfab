//! What tells one question from another, as a hash: nothing of a question can be read off its key.
//!
//! Must not know what is asked, nor where answers lie.

#[cfg(any(test, feature = "redis"))]
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Of one question, asked by one caller or by any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// Of these parts, each of which may hold anything.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            // Where one part ends and the next begins is hashed, too: `ab`, `c` is not `a`, `bc`.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// In letters.
    #[cfg(any(test, feature = "redis"))]
    pub fn text(&self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_that_of_its_parts_and_of_no_others() {
        assert_eq!(Key::of(&[b"ab", b"c"]), Key::of(&[b"ab", b"c"]));
        assert_ne!(Key::of(&[b"ab", b"c"]), Key::of(&[b"a", b"bc"]));
        assert_ne!(Key::of(&[b"a"]), Key::of(&[b"a", b""]));
        assert_eq!(Key::of(&[b"a"]).text().len(), 64);
    }
}
