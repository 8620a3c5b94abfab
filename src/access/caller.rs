//! Who is calling, and how that is proved. Must not know where the proof came from.

use std::sync::{Arc, LazyLock};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::config::Secret;

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `anonymous`, `local`, or the id of the key; sealed state is bound to it, history names it.
    pub principal: Arc<str>,
    /// Whether the caller is the operator: by the key, or as the user whose server this is.
    pub operator: bool,
    /// A number that is the same for the same caller and says nothing else; plugins know callers by it.
    pub key: u64,
}

impl Caller {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        static ANONYMOUS: LazyLock<Arc<str>> = LazyLock::new(|| "anonymous".into());
        Self { principal: Arc::clone(&ANONYMOUS), operator: false, key: 0 }
    }

    /// The user whose server this is, known by the permissions of a file. Keys have numbers of 64 bits of a hash: 1 is
    /// none of them.
    pub fn local() -> Self {
        static LOCAL: LazyLock<Arc<str>> = LazyLock::new(|| "local".into());
        Self { principal: Arc::clone(&LOCAL), operator: true, key: 1 }
    }
}

/// The keys that are accepted.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    operator: Option<Operator>,
}

/// The operator's key.
#[derive(Debug, Clone)]
struct Operator {
    secret: Secret,
    id: Arc<str>,
    number: u64,
}

impl Keys {
    /// The one key from the configuration, if there is one.
    pub fn new(operator: Option<Secret>) -> Self {
        let operator = operator.map(|secret| {
            let hash = Sha256::digest(secret.expose().as_bytes());
            let number = hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
            Operator { secret, id: format!("key-{:08x}", number >> 32).into(), number }
        });
        Self { operator }
    }

    /// Whether a key is asked for at all.
    pub fn are_required(&self) -> bool {
        self.operator.is_some()
    }

    /// Who comes with this proof; nobody when a key is required and the proof is missing or wrong.
    pub fn admit(&self, proof: Option<&[u8]>) -> Option<Caller> {
        let Some(operator) = &self.operator else { return Some(Caller::anonymous()) };
        // Compared as hashes, so that neither length nor content shows in the time it takes.
        let (known, given) = (Sha256::digest(operator.secret.expose()), Sha256::digest(proof?));
        let equal: bool = known.ct_eq(&given).into();
        equal.then(|| Caller { principal: Arc::clone(&operator.id), operator: true, key: operator.number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_a_server_that_has_one() {
        let keys = Keys::new(Some(Secret::new("k".repeat(32))));
        assert!(keys.admit(None).is_none());
        assert!(keys.admit(Some(b"kk")).is_none());
        let caller = keys.admit(Some("k".repeat(32).as_bytes())).unwrap();
        assert!(caller.operator && caller.principal.starts_with("key-"));
        assert!(!Keys::default().admit(None).unwrap().operator);
    }
}
