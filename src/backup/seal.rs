//! What keeps a backup's secrets and tells whether it was changed: a passphrase's cipher, and a seal by this server's key.
//!
//! Argon2id makes a key of the passphrase, XChaCha20-Poly1305 encrypts; the manifest bears an HMAC-SHA256 by a key that is
//! derived from the sealing key and used for nothing else. Must not know files.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::BackupError;
use super::files::{hex, of_hex, random};
use crate::config::Secret;

/// A shorter passphrase can be guessed.
pub const PASSPHRASE_CHARACTERS_MIN: usize = 12;

const KEY_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
/// What guessing costs: memory, and passes over it.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
/// What somebody else's archive may make this program spend.
const MEMORY_KIB_MAX: u32 = 512 << 10;
const PASSES_MAX: u32 = 16;
/// What the ciphertext belongs to, and nothing else can be passed off as it.
const PURPOSE: &[u8] = b"waygate backup secrets 1";
const SEAL_PURPOSE: &[u8] = b"waygate backup manifest 1";

/// How something is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    kdf: String,
    memory_kib: u32,
    passes: u32,
    salt: String,
    nonce: String,
}

/// Refuses what is no passphrase.
///
/// # Errors
/// `NoPassphrase`.
pub fn check_passphrase(passphrase: &Secret) -> Result<(), BackupError> {
    if passphrase.expose().chars().count() < PASSPHRASE_CHARACTERS_MIN {
        return Err(BackupError::NoPassphrase("the passphrase is too short".to_owned()));
    }
    Ok(())
}

/// Encrypts.
///
/// # Errors
/// Without randomness or memory.
pub fn lock(passphrase: &Secret, plain: &[u8]) -> Result<(Lock, Vec<u8>), BackupError> {
    let (salt, nonce) = (random(SALT_BYTES)?, random(NONCE_BYTES)?);
    let lock = Lock {
        kdf: "argon2id".to_owned(),
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        salt: hex(&salt),
        nonce: hex(&nonce),
    };
    let failed =
        || BackupError::Refused("the secrets cannot be encrypted; is there memory enough?".to_owned());
    let cipher = cipher(&lock, passphrase).ok_or_else(failed)?;
    let payload = Payload { msg: plain, aad: PURPOSE };
    let secret = cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| failed())?;
    Ok((lock, secret))
}

/// Decrypts; none when the passphrase is another one or the bytes were changed.
pub fn unlock(lock: &Lock, passphrase: &Secret, secret: &[u8]) -> Option<Vec<u8>> {
    let nonce = of_hex(&lock.nonce).filter(|nonce| nonce.len() == NONCE_BYTES)?;
    let payload = Payload { msg: secret, aad: PURPOSE };
    cipher(lock, passphrase)?.decrypt(XNonce::from_slice(&nonce), payload).ok()
}

fn cipher(lock: &Lock, passphrase: &Secret) -> Option<XChaCha20Poly1305> {
    let salt = of_hex(&lock.salt).filter(|salt| salt.len() == SALT_BYTES)?;
    if lock.kdf != "argon2id" || lock.memory_kib > MEMORY_KIB_MAX || lock.passes > PASSES_MAX {
        return None;
    }
    let params = Params::new(lock.memory_kib, lock.passes, 1, Some(KEY_BYTES)).ok()?;
    let mut key = Key::default();
    let derived = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    derived.hash_password_into(passphrase.expose().as_bytes(), &salt, &mut key).ok()?;
    Some(XChaCha20Poly1305::new(&key))
}

/// What a key is known by, and nothing can be learned from.
pub fn key_id(key: &Secret) -> String {
    let mut id = seal(key, b"id");
    id.truncate(16);
    id
}

/// The seal of these bytes.
pub fn seal(key: &Secret, bytes: &[u8]) -> String {
    mac_of(key, bytes).map(|mac| hex(&mac.finalize().into_bytes())).unwrap_or_default()
}

/// Whether this is the seal of these bytes; in constant time.
pub fn is_sealed(key: &Secret, bytes: &[u8], seal: &str) -> bool {
    let claimed = of_hex(seal).unwrap_or_default();
    mac_of(key, bytes).is_some_and(|mac| mac.verify_slice(&claimed).is_ok())
}

fn mac_of(key: &Secret, bytes: &[u8]) -> Option<Hmac<Sha256>> {
    let derived = <Hmac<Sha256> as Mac>::new_from_slice(key.expose().as_bytes()).ok()?;
    let derived = derived.chain_update(SEAL_PURPOSE).finalize().into_bytes();
    <Hmac<Sha256> as Mac>::new_from_slice(&derived).ok().map(|mac| mac.chain_update(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passphrase_opens_what_was_not_changed() {
        let passphrase = Secret::new("correct horse battery");
        let (lock, secret) = super::lock(&passphrase, b"WAYGATE_API_KEY=x").unwrap();
        assert_eq!(unlock(&lock, &passphrase, &secret).as_deref(), Some(&b"WAYGATE_API_KEY=x"[..]));
        assert_eq!(unlock(&lock, &Secret::new("correct horse batterz"), &secret), None);
        let mut changed = secret.clone();
        changed[3] ^= 1;
        assert_eq!(unlock(&lock, &passphrase, &changed), None);
        let dear = Lock { memory_kib: u32::MAX, ..lock.clone() };
        assert_eq!(unlock(&dear, &passphrase, &secret), None, "nobody makes us spend four terabytes");
        let again = super::lock(&passphrase, b"WAYGATE_API_KEY=x").unwrap();
        assert!(again.1 != secret && again.0 != lock);
    }

    #[test]
    fn a_seal_fits_one_key_and_one_text() {
        let (key, other) = (Secret::new("a".repeat(64)), Secret::new("b".repeat(64)));
        let sealed = seal(&key, b"manifest");
        assert!(is_sealed(&key, b"manifest", &sealed));
        assert!(!is_sealed(&key, b"manifesu", &sealed) && !is_sealed(&other, b"manifest", &sealed));
        assert!(!is_sealed(&key, b"manifest", "") && !is_sealed(&key, b"manifest", "zz"));
        assert!(key_id(&key) != key_id(&other) && key_id(&key).len() == 16);
    }
}
