//! What a session is called where people may read. Must not know how long a session lives, or who opened it.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// A name for a session that does not open it: the id itself is a bearer secret, and history, logs and diagnostics are read
/// by people who must not be able to take a session over. The same id gives the same handle, in every process.
pub fn session_handle(id: &str) -> Arc<str> {
    let hash = Sha256::new().chain_update(b"waygate session handle\0").chain_update(id.as_bytes()).finalize();
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("s-{number:016x}").into()
}

/// What a session is found by in the database, which does not know ids: 256 bits of a hash, in hexadecimal.
pub fn session_hash(id: &str) -> String {
    let hash = Sha256::new().chain_update(b"waygate session\0").chain_update(id.as_bytes()).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_the_same_for_the_same_session_and_holds_nothing_of_its_id() {
        let id = "5f0c2a7d9be14d8a93c6";
        let handle = session_handle(id);
        assert_eq!(handle, session_handle(id));
        assert_ne!(handle, session_handle("5f0c2a7d9be14d8a93c7"));
        assert_eq!(handle.len(), 18);
        let digits = handle.strip_prefix("s-").unwrap();
        assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{handle}");
        assert!(!(0..id.len() - 6).any(|at| handle.contains(&id[at..at + 6])), "{handle}");
        // What is kept in the database says no more of it, and not the same.
        assert_eq!(session_hash(id).len(), 64);
        assert!(!session_hash(id).contains(digits) && session_hash(id) != session_hash("a"));
        // Kept the same over versions: what was written in the history must still be found.
        assert_eq!(&*session_handle("a"), "s-aca67f828e6d8ca7");
    }
}
