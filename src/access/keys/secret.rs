//! What a key looks like: `wg_<id>_<secret>`, with 256 bits of chance and a sum by which one that was cut off is told from one
//! that nobody knows. Must not know whom it admits.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::config::Secret;

/// What is kept of a key.
pub type Hash = [u8; 32];

/// How every key begins, so that people and scanners of repositories recognise one.
const MARK: &str = "wg_";
/// Random bytes of an id: eight letters.
const ID_BYTES: usize = 5;
const ID_LETTERS: usize = 8;
/// So few of a secret leave so much unknown that nobody guesses it.
const TELLING_LETTERS: usize = 16;
const SECRET_BYTES: usize = 32;
const SUM_BYTES: usize = 4;
/// Letters of an id: none that is taken for another.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A key that was just made.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its first letters.
    pub id: String,
    /// The whole key, to be shown once.
    pub secret: Secret,
    /// What is kept of it.
    pub hash: Hash,
}

impl Made {
    /// A new key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new() -> Result<Self, getrandom::Error> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        let id = letters(id);
        let whole = [&secret[..], &sum(&id, &secret)].concat();
        let text = format!("{MARK}{id}_{}", URL_SAFE_NO_PAD.encode(whole));
        Ok(Self { hash: hash_of(text.as_bytes()), secret: Secret::new(text), id })
    }
}

/// What is kept of a key.
pub fn hash_of(text: &[u8]) -> Hash {
    Sha256::digest(text).into()
}

/// Whether this was meant to be one of our keys, and is not whole.
pub fn is_mutilated(text: &[u8]) -> bool {
    text.starts_with(MARK.as_bytes()) && !is_whole(text)
}

/// Whether it is more than what a key is called: its mark, its id, and at least something of its secret.
pub fn is_marked(text: &str) -> bool {
    text.strip_prefix(MARK).is_some_and(|rest| rest.len() > ID_LETTERS + 1)
}

/// Whether a key of ours stands anywhere in it, or so much of one that it might be guessed: its mark, its id, a line, and letters of its
/// secret. A name that begins as one does is none.
pub fn is_within(text: &[u8]) -> bool {
    let is_secret = |letter: &u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_');
    text.windows(MARK.len() + ID_LETTERS + 1 + TELLING_LETTERS).any(|part| {
        let after = part.strip_prefix(MARK.as_bytes()).and_then(|rest| rest.split_at_checked(ID_LETTERS));
        after.is_some_and(|(id, rest)| {
            id.iter().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
                && rest.first() == Some(&b'_')
                && rest.iter().all(is_secret)
        })
    })
}

fn is_whole(text: &[u8]) -> bool {
    let Some(rest) = std::str::from_utf8(text).ok().and_then(|text| text.strip_prefix(MARK)) else {
        return false;
    };
    let Some((id, encoded)) = rest.split_once('_').filter(|(id, _)| id.len() == ID_LETTERS) else {
        return false;
    };
    let Ok(whole) = URL_SAFE_NO_PAD.decode(encoded) else { return false };
    let Some((secret, sum_there)) = whole.split_at_checked(SECRET_BYTES) else { return false };
    sum(id, secret) == *sum_there
}

/// Forty bits as eight letters.
fn letters(bytes: [u8; ID_BYTES]) -> String {
    let bits = bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let letter = |n: usize| {
        let at = usize::try_from(bits >> (5 * n) & 31).unwrap_or_default();
        LETTERS.get(at).map_or('a', |letter| char::from(*letter))
    };
    (0..ID_LETTERS).rev().map(letter).collect()
}

fn sum(id: &str, secret: &[u8]) -> [u8; SUM_BYTES] {
    let hash = Sha256::new().chain_update(b"waygate key\0").chain_update(id).chain_update(secret).finalize();
    let mut sum = [0; SUM_BYTES];
    for (to, from) in sum.iter_mut().zip(hash) {
        *to = from;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_whole_and_none_that_was_cut_doubled_or_changed_is() {
        let made = Made::new().unwrap();
        let text = made.secret.expose();
        assert!(text.starts_with(&format!("wg_{}_", made.id)) && text.len() == 60, "{} letters", text.len());
        assert!(is_whole(text.as_bytes()) && !is_mutilated(text.as_bytes()));
        for end in 3..text.len() {
            assert!(is_mutilated(&text.as_bytes()[..end]), "cut at {end}");
        }
        assert!(is_mutilated(text.repeat(2).as_bytes()) && is_mutilated(format!("{text}x").as_bytes()));
        let other = text.replace(&made.id, "aaaaaaaa");
        assert!(is_mutilated(other.as_bytes()), "its id belongs to it");
        assert!(!is_mutilated(b"sk-of-somebody-else") && !is_mutilated(b""));
    }

    #[test]
    fn no_key_is_like_another() {
        let (one, two) = (Made::new().unwrap(), Made::new().unwrap());
        assert!(one.id != two.id && one.hash != two.hash && one.secret != two.secret);
        assert_eq!(one.hash, hash_of(one.secret.expose().as_bytes()));
        assert!(!format!("{one:?}").contains(one.secret.expose()));
    }
}
