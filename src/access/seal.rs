//! The seal on `requestState`: state that a client carries and can neither read, nor change, nor use elsewhere.
//!
//! MCP 2026-07-28, basic/patterns/mrtr. XChaCha20-Poly1305 with a key id, so that any replica and any restart with the
//! same key can open it and keys can be changed. Must not know what the state means, nor what time it is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The first byte of a sealed state: how the rest is made.
const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;

/// What is sealed: the plugin's state, and all that it is bound to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sealed {
    /// Who was asked.
    pub principal: String,
    /// The method, and the digest of its parameters.
    pub request: String,
    /// Where the plugin sits that asked; none in states of earlier versions.
    #[serde(default)]
    pub seat: Option<u64>,
    /// Which round this state begins; rounds of one call differ.
    pub round: u32,
    /// The call that the rounds belong to.
    pub call_id: String,
    /// In seconds since 1970.
    pub expires_at: u64,
    /// The plugin's own.
    pub state: Option<Value>,
}

/// Why a state was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not ours, changed, or sealed with a key that we no longer have.
    #[error("it was not sealed by this server, or it was changed on the way")]
    Broken,
    /// Too old.
    #[error("it has expired")]
    Expired,
    /// Sealed for another caller or another request.
    #[error("it belongs to another request")]
    Foreign,
}

/// Seals with its first key, opens with any of them.
pub struct Sealer {
    keys: Vec<([u8; KEY_ID_BYTES], XChaCha20Poly1305)>,
}

impl Sealer {
    /// From secrets of any length, the one to seal with first.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let key_of = |secret: &[u8]| {
            let key = Sha256::digest(secret);
            let mut id = [0; KEY_ID_BYTES];
            for (to, from) in id.iter_mut().zip(Sha256::digest(key)) {
                *to = from;
            }
            (id, XChaCha20Poly1305::new(&key))
        };
        Self { keys: secrets.into_iter().map(key_of).collect() }
    }

    /// Seals.
    ///
    /// # Errors
    /// `Broken` without a key or without randomness.
    pub fn seal(&self, sealed: &Sealed) -> Result<String, SealError> {
        let (id, cipher) = self.keys.first().ok_or(SealError::Broken)?;
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Broken)?;
        let plain = serde_json::to_vec(sealed).map_err(|_| SealError::Broken)?;
        let payload = Payload { msg: &plain, aad: &[VERSION] };
        let secret = cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| SealError::Broken)?;
        let whole: Vec<u8> = [&[VERSION][..], id, &nonce, &secret].concat();
        Ok(URL_SAFE_NO_PAD.encode(whole))
    }

    /// Opens what `principal` brings back with `request` at `now` (seconds since 1970).
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn open(&self, token: &str, principal: &str, request: &str, now: u64) -> Result<Sealed, SealError> {
        let whole = URL_SAFE_NO_PAD.decode(token).map_err(|_| SealError::Broken)?;
        let (version, rest) = whole.split_first().ok_or(SealError::Broken)?;
        let (id, rest) = rest.split_at_checked(KEY_ID_BYTES).ok_or(SealError::Broken)?;
        let (nonce, secret) = rest.split_at_checked(NONCE_BYTES).ok_or(SealError::Broken)?;
        let (_, cipher) = self.keys.iter().find(|(known, _)| known == id).ok_or(SealError::Broken)?;
        let payload = Payload { msg: secret, aad: &[*version] };
        let plain = cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| SealError::Broken)?;
        let sealed: Sealed = serde_json::from_slice(&plain).map_err(|_| SealError::Broken)?;
        if sealed.principal != principal || sealed.request != request {
            return Err(SealError::Foreign);
        }
        if sealed.expires_at < now {
            return Err(SealError::Expired);
        }
        Ok(sealed)
    }
}

/// A request's method and the digest of what it is about: the same for the same parameters in any order of keys.
pub fn digest_of(method: &str, target: &str, arguments: &Value) -> String {
    let mut hash = Sha256::new();
    hash.update(target.as_bytes());
    hash.update([0]);
    feed(&mut hash, arguments);
    format!("{method}:{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
}

fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            hash.update(b"{");
            for (key, value) in members {
                hash.update(Value::from(key.as_str()).to_string());
                feed(hash, value);
            }
            hash.update(b"}");
        }
        Value::Array(items) => {
            hash.update(b"[");
            items.iter().for_each(|item| feed(hash, item));
            hash.update(b"]");
        }
        scalar => {
            hash.update(scalar.to_string());
            hash.update(b",");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sealed() -> Sealed {
        Sealed {
            principal: "p".into(),
            request: "r".into(),
            seat: Some(7),
            round: 1,
            call_id: "c".into(),
            expires_at: 100,
            state: Some(json!({"secret": "plan"})),
        }
    }

    #[test]
    fn only_the_same_caller_with_the_same_request_in_time_opens_it() {
        let sealer = Sealer::new([&b"one"[..]]);
        let token = sealer.seal(&sealed()).unwrap();
        assert_eq!(sealer.open(&token, "p", "r", 100), Ok(sealed()));
        assert_eq!(sealer.open(&token, "q", "r", 100), Err(SealError::Foreign));
        assert_eq!(sealer.open(&token, "p", "s", 100), Err(SealError::Foreign));
        assert_eq!(sealer.open(&token, "p", "r", 101), Err(SealError::Expired));
        assert_ne!(token, sealer.seal(&sealed()).unwrap());
    }

    #[test]
    fn a_change_of_any_byte_breaks_it() {
        let sealer = Sealer::new([&b"one"[..]]);
        let whole = URL_SAFE_NO_PAD.decode(sealer.seal(&sealed()).unwrap()).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(
                sealer.open(&URL_SAFE_NO_PAD.encode(&changed), "p", "r", 1),
                Err(SealError::Broken),
                "{at}"
            );
        }
        for broken in ["", "AA", "x-TAMPERED", &URL_SAFE_NO_PAD.encode(&whole[..20])] {
            assert_eq!(sealer.open(broken, "p", "r", 1), Err(SealError::Broken));
        }
    }

    #[test]
    fn an_older_key_still_opens_and_a_forgotten_one_does_not() {
        let token = Sealer::new([&b"old"[..]]).seal(&sealed()).unwrap();
        assert!(Sealer::new([&b"new"[..], b"old"]).open(&token, "p", "r", 1).is_ok());
        assert_eq!(Sealer::new([&b"new"[..]]).open(&token, "p", "r", 1), Err(SealError::Broken));
    }

    #[test]
    fn the_digest_sees_values_and_not_the_order_of_keys() {
        let digest = |arguments: Value| digest_of("tools/call", "t", &arguments);
        assert_eq!(digest(json!({"a": 1, "b": [1, 2]})), digest(json!({"b": [1, 2], "a": 1})));
        assert_ne!(digest(json!({"a": 1})), digest(json!({"a": "1"})));
        assert_ne!(digest(json!({"a": [1, 2]})), digest(json!({"a": [12]})));
        assert_ne!(digest(json!({})), digest_of("tools/call", "u", &json!({})));
    }
}
