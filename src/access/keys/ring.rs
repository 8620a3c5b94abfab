//! The ring: all keys in memory, found by the hash of what was shown. Looking takes no lock and asks nobody.
//!
//! A key of ours is 256 bits of chance: its hash can be looked up like any name. The operator's own key may be anything and
//! is compared in constant time. Must not know where keys are kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use subtle::ConstantTimeEq as _;

use super::secret::{self, Hash};
use super::{About, Scope, Standing};
use crate::access::Caller;
use crate::access::limits::{Allowance, Of};
use crate::config::Secret;

/// A use is noted when the last one that was noted is older.
const NOTED_EVERY_SECONDS: u64 = 60;

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No key was shown.
    Missing,
    /// A key was shown that is cut off, doubled or changed.
    Mutilated,
    /// Nobody knows this key.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
    /// It was rotated, and the time beside its successor is over.
    Replaced,
}

impl Refusal {
    /// The word for it, in metrics, logs and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "key_missing",
            Self::Mutilated => "key_mutilated",
            Self::Unknown => "key_unknown",
            Self::Expired => "key_expired",
            Self::Revoked => "key_revoked",
            Self::Replaced => "key_replaced",
        }
    }

    /// What is said of it.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Missing => "a key is required, and none was sent",
            Self::Mutilated => {
                "the key that was sent is not whole: it was cut off, doubled or changed on the way"
            }
            Self::Unknown => "a key is required, and the one that was sent is unknown",
            Self::Expired => "the key that was sent has expired",
            Self::Revoked => "the key that was sent was revoked",
            Self::Replaced => "the key that was sent was rotated, and is not taken any more",
        }
    }

    /// What to do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Missing | Self::Unknown => {
                "send it as `Authorization: Bearer <key>` or `X-API-Key: <key>`; the operator makes one with `waygate-mcp \
                 keys create`"
            }
            Self::Mutilated => "send the whole key as it was shown when it was made, once, and in one header",
            Self::Expired | Self::Revoked => {
                "ask the operator for another, who makes one with `waygate-mcp keys create`"
            }
            Self::Replaced => "send the key that took its place",
        }
    }
}

/// A key of the ring.
#[derive(Debug)]
pub struct Key {
    about: About,
    caller: Caller,
    /// When it was last used, in seconds since 1970; noted once a minute.
    used: AtomicU64,
    /// The use that is written.
    saved: AtomicU64,
}

impl Key {
    /// In the place of `before`, which was the same key until something of it changed.
    fn new(about: About, hash: &Hash, before: Option<&Self>) -> Self {
        let before = before.and_then(|before| before.caller.allowance.as_ref());
        let caller = Caller {
            principal: about.principal(),
            operator: about.scopes.holds(Scope::Admin),
            key: number_of(hash),
            scopes: about.scopes,
            tools: about.tools.clone(),
            bundles: about.bundles.clone(),
            allowance: Allowance::new(Of::Key, &about.name, about.limits, before),
        };
        let used = about.last_used_at.map_or(0, seconds);
        Self { about, caller, used: AtomicU64::new(used), saved: AtomicU64::new(used) }
    }

    /// All that is known of it.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// When it was last used, as far as it is noted.
    pub fn used_at(&self) -> Option<SystemTime> {
        let used = self.used.load(Ordering::Relaxed);
        (used > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(used))
    }

    /// When it was last used, if that is not written yet.
    pub fn unsaved_use(&self) -> Option<SystemTime> {
        let used = self.used.load(Ordering::Relaxed);
        self.used_at().filter(|_| used > self.saved.load(Ordering::Relaxed))
    }

    /// Notes that this use is written.
    pub fn saved(&self, at: SystemTime) {
        self.saved.fetch_max(seconds(at), Ordering::Relaxed);
    }

    /// Whom it lets in.
    ///
    /// # Errors
    /// Why it lets in nobody any more.
    fn admits(&self, now: SystemTime) -> Result<&Caller, Refusal> {
        match self.about.standing(now) {
            Standing::Active | Standing::Leaving => Ok(&self.caller),
            Standing::Expired => Err(Refusal::Expired),
            Standing::Revoked => Err(Refusal::Revoked),
            Standing::Replaced => Err(Refusal::Replaced),
        }
    }

    fn note_use(&self, now: SystemTime) {
        let now = seconds(now);
        if self.used.load(Ordering::Relaxed) + NOTED_EVERY_SECONDS <= now {
            self.used.store(now, Ordering::Relaxed);
        }
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn number_of(hash: &Hash) -> u64 {
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A key that was named, and not shown.
#[derive(Debug)]
pub struct Named {
    /// All that is known of it; none of the operator's own.
    pub about: Option<About>,
    /// Whom it would let in.
    pub admitted: Result<Caller, Refusal>,
}

/// The operator's own key, from the configuration.
#[derive(Debug)]
struct Bootstrap {
    hash: Hash,
    caller: Caller,
}

/// All keys that there are.
#[derive(Debug, Default)]
pub struct KeyRing {
    bootstrap: Option<Bootstrap>,
    by_hash: HashMap<Hash, Arc<Key>>,
    by_principal: HashMap<Arc<str>, Arc<Key>>,
    /// Whether nobody is asked for a key.
    open: bool,
}

impl KeyRing {
    /// A ring of the operator's own key, if there is one, and of `keys`; those that `old` had and that did not change are
    /// kept. It is open when there is none at all and `closed` does not say otherwise.
    pub fn new(
        bootstrap: Option<&Secret>,
        keys: Vec<(Hash, About)>,
        old: Option<&Self>,
        closed: bool,
    ) -> Self {
        let bootstrap = bootstrap.map(|secret| {
            let hash = secret::hash_of(secret.expose().as_bytes());
            let number = number_of(&hash);
            let principal = format!("key-{:08x}", number >> 32).into();
            Bootstrap { hash, caller: Caller { principal, key: number, ..Caller::local() } }
        });
        let open = bootstrap.is_none() && keys.is_empty() && !closed;
        let mut ring = Self { bootstrap, open, ..Self::default() };
        for (hash, about) in keys {
            let before = old.and_then(|old| old.by_hash.get(&hash));
            let kept = before.filter(|kept| kept.about == about);
            let made = || Arc::new(Key::new(about, &hash, before.map(|before| &**before)));
            let key = kept.map_or_else(made, Arc::clone);
            if let Some(old) = before {
                key.used.fetch_max(old.used.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            ring.by_principal.insert(Arc::clone(&key.caller.principal), Arc::clone(&key));
            ring.by_hash.insert(hash, key);
        }
        ring
    }

    /// The limits of all keys, with their ids.
    pub fn allowances(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Allowance>)> {
        self.by_hash.values().filter_map(|key| Some((&key.about.id, key.caller.allowance.as_ref()?)))
    }

    /// Whether nobody is asked for a key, since there is none.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Who comes with this.
    ///
    /// # Errors
    /// Why they are not let in.
    pub fn admit(&self, proof: Option<&[u8]>, now: SystemTime) -> Result<Caller, Refusal> {
        if self.open {
            return Ok(Caller::anonymous());
        }
        let proof = proof.filter(|proof| !proof.is_empty()).ok_or(Refusal::Missing)?;
        let hash = secret::hash_of(proof);
        if let Some(bootstrap) = &self.bootstrap
            && bool::from(bootstrap.hash.ct_eq(&hash))
        {
            return Ok(bootstrap.caller.clone());
        }
        let Some(key) = self.by_hash.get(&hash) else {
            return Err(if secret::is_mutilated(proof) { Refusal::Mutilated } else { Refusal::Unknown });
        };
        let caller = key.admits(now)?;
        key.note_use(now);
        Ok(caller.clone())
    }

    /// Who would come with the keys that are called so, by id, principal or name; nothing is noted of it.
    pub fn named(&self, which: &str, now: SystemTime) -> Vec<Named> {
        let id = which.strip_prefix("key-").unwrap_or(which);
        let own = self.bootstrap.iter().map(|own| &own.caller);
        let own = own.filter(|caller| caller.principal.strip_prefix("key-") == Some(id));
        let own = own.map(|caller| Named { about: None, admitted: Ok(caller.clone()) });
        let named = |is_it: &dyn Fn(&About) -> bool| -> Vec<Named> {
            let found = self.keys().filter(|key| is_it(&key.about));
            found
                .map(|key| Named { about: Some(key.about.clone()), admitted: key.admits(now).cloned() })
                .collect()
        };
        let mut found: Vec<Named> = own.chain(named(&|about| *about.id == *id)).collect();
        if found.is_empty() {
            found = named(&|about| about.name == which);
        }
        found
    }

    /// Whether this is a key itself, or what is left of one, and not what one is called.
    pub fn is_key(&self, text: &str) -> bool {
        let own = self.bootstrap.as_ref();
        secret::is_marked(text)
            || own.is_some_and(|own| bool::from(own.hash.ct_eq(&secret::hash_of(text.as_bytes()))))
    }

    /// Whether somebody who was let in under this name would be again.
    pub fn honours(&self, principal: &str, now: SystemTime) -> bool {
        if principal == Caller::LOCAL {
            return true;
        }
        if let Some(key) = self.by_principal.get(principal) {
            return key.about.standing(now).is_taken();
        }
        match &self.bootstrap {
            Some(bootstrap) => *bootstrap.caller.principal == *principal,
            None => self.open && principal == Caller::ANONYMOUS,
        }
    }

    /// Whether the time of any key ended after `then` and until `now`.
    pub fn ends_between(&self, then: SystemTime, now: SystemTime) -> bool {
        let ended = |end: Option<SystemTime>| end.is_some_and(|end| then < end && end <= now);
        self.by_hash.values().any(|key| ended(key.about.expires_at) || ended(key.about.grace_until))
    }

    /// All keys but the operator's own, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.by_hash.values()
    }

    /// How many keys are taken now, the operator's own among them, and how many are not any more.
    pub fn count(&self, now: SystemTime) -> (usize, usize) {
        let taken = self.keys().filter(|key| key.about.standing(now).is_taken()).count();
        (taken + usize::from(self.bootstrap.is_some()), self.by_hash.len() - taken)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Made;
    use super::super::testing::{about, at};
    use super::*;

    fn key(change: impl FnOnce(&mut About)) -> (Made, (Hash, About)) {
        let made = Made::new().unwrap();
        let mut about = about(&made.id);
        change(&mut about);
        let hash = made.hash;
        (made, (hash, about))
    }

    fn proof(made: &Made) -> Option<&[u8]> {
        Some(made.secret.expose().as_bytes())
    }

    #[test]
    fn only_keys_open_a_ring_that_has_any_and_nothing_closes_one_that_has_none() {
        let own = Secret::new("k".repeat(32));
        let ring = KeyRing::new(Some(&own), Vec::new(), None, false);
        assert_eq!(ring.admit(None, at(1)).unwrap_err(), Refusal::Missing);
        assert_eq!(ring.admit(Some(b""), at(1)).unwrap_err(), Refusal::Missing);
        assert_eq!(ring.admit(Some(b"kk"), at(1)).unwrap_err(), Refusal::Unknown);
        let caller = ring.admit(Some(own.expose().as_bytes()), at(1)).unwrap();
        assert!(caller.operator && caller.principal.starts_with("key-") && caller.scopes.holds(Scope::Admin));
        let open = KeyRing::new(None, Vec::new(), None, false);
        let anyone = open.admit(Some(b"whatever"), at(1)).unwrap();
        assert!(!anyone.operator && open.is_open() && !anyone.scopes.holds(Scope::Admin));
        assert!(!KeyRing::new(None, Vec::new(), None, true).is_open(), "once closed it stays closed");
    }

    #[test]
    fn a_key_is_taken_as_long_as_it_stands_and_its_refusal_says_why() {
        let (active, a) = key(|_| {});
        let (expired, b) = key(|key| key.expires_at = Some(at(500)));
        let (revoked, c) = key(|key| key.revoked_at = Some(at(500)));
        let (leaving, d) = key(|key| (key.replaced_by, key.grace_until) = (Some("x".into()), Some(at(600))));
        let ring = KeyRing::new(None, vec![a, b, c, d], None, false);
        assert_eq!(&*ring.admit(proof(&active), at(499)).unwrap().principal, format!("key-{}", active.id));
        assert!(ring.admit(proof(&expired), at(499)).is_ok());
        assert_eq!(ring.admit(proof(&expired), at(500)).unwrap_err(), Refusal::Expired);
        assert_eq!(ring.admit(proof(&revoked), at(1)).unwrap_err(), Refusal::Revoked);
        assert!(ring.admit(proof(&leaving), at(599)).is_ok());
        assert_eq!(ring.admit(proof(&leaving), at(600)).unwrap_err(), Refusal::Replaced);
        let cut = &active.secret.expose().as_bytes()[..40];
        assert_eq!(ring.admit(Some(cut), at(1)).unwrap_err(), Refusal::Mutilated);
        let foreign = Made::new().unwrap();
        assert_eq!(ring.admit(proof(&foreign), at(1)).unwrap_err(), Refusal::Unknown);
        assert!(ring.ends_between(at(499), at(500)) && ring.ends_between(at(599), at(700)));
        assert!(!ring.ends_between(at(500), at(599)));
        assert_eq!(ring.count(at(550)), (2, 2));
    }

    #[test]
    fn whoever_was_let_in_is_honoured_as_long_as_their_key_stands() {
        let (made, row) = key(|key| key.expires_at = Some(at(500)));
        let principal = format!("key-{}", made.id);
        let ring = KeyRing::new(None, vec![row], None, false);
        assert!(ring.honours(&principal, at(499)) && !ring.honours(&principal, at(500)));
        assert!(
            ring.honours("local", at(1))
                && !ring.honours("anonymous", at(1))
                && !ring.honours("key-x", at(1))
        );
        assert!(KeyRing::new(None, Vec::new(), None, false).honours("anonymous", at(1)));
    }

    #[test]
    fn a_use_is_noted_once_a_minute_and_outlives_the_ring() {
        let (made, row) = key(|_| {});
        let ring = KeyRing::new(None, vec![row.clone()], None, false);
        for seconds in [1_000, 1_059] {
            ring.admit(proof(&made), at(seconds)).unwrap();
            assert_eq!(ring.keys().next().unwrap().used_at(), Some(at(1_000)));
        }
        let mut changed = row.clone();
        changed.1.last_used_at = Some(at(900));
        let same = KeyRing::new(None, vec![row], Some(&ring), false);
        assert!(Arc::ptr_eq(same.keys().next().unwrap(), ring.keys().next().unwrap()));
        let next = KeyRing::new(None, vec![changed], Some(&ring), false);
        assert_eq!(next.keys().next().unwrap().used_at(), Some(at(1_000)));
        next.admit(proof(&made), at(1_060)).unwrap();
        let key = next.keys().next().unwrap();
        assert_eq!((key.used_at(), key.unsaved_use()), (Some(at(1_060)), Some(at(1_060))));
        key.saved(at(1_060));
        assert_eq!(key.unsaved_use(), None);
    }
}
