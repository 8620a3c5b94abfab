//! What each address has left that comes without a key. Whoever has many of them fills no memory by it.
//!
//! Must not know how an address was learned.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, Reference as _};

use super::allowance::{Excess, Of};
use super::budget::{Budget, Running, Spent};
use super::clock::Steady;
use crate::access::failures::place;
use crate::config::Quota;

/// Parts of the table, each with a lock of its own, so that workers seldom meet.
const SHARDS: usize = 16;
/// Addresses that one part remembers.
const SHARD_MAX: usize = 1024;
/// Addresses that are remembered. Those beyond share what one has.
pub const ADDRESSES_MAX: usize = SHARDS * SHARD_MAX;
/// A full part is looked through for addresses that have nothing to remember, and not more often than that: else a flood of
/// new ones would have it looked through each time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What each address has left of the same quota.
pub struct Addresses<C: Clock = Steady> {
    quota: Quota,
    clock: C,
    hasher: RandomState,
    shards: [Mutex<Shard<C>>; SHARDS],
    /// Of all that are not remembered.
    others: Arc<Budget<C>>,
}

struct Shard<C: Clock> {
    known: HashMap<IpAddr, Known<C>>,
    swept: Option<C::Instant>,
}

struct Known<C: Clock> {
    budget: Arc<Budget<C>>,
    used: C::Instant,
}

impl<C: Clock + Clone> Addresses<C> {
    /// For each address this; none where nothing is limited.
    pub fn new(quota: Quota, clock: C) -> Option<Self> {
        let shard = |_| Mutex::new(Shard { known: HashMap::new(), swept: None });
        (!quota.is_empty()).then(|| Self {
            quota,
            hasher: RandomState::new(),
            shards: std::array::from_fn(shard),
            others: Arc::new(Budget::new(quota, None, clock.clone())),
            clock,
        })
    }

    /// Takes one request from an address.
    ///
    /// # Errors
    /// It has none left.
    pub fn spend(&self, from: Option<IpAddr>) -> Result<(), Excess> {
        self.budget(from).spend().map_err(|spent| self.excess(from, spent))
    }

    /// Takes a place for a call.
    ///
    /// # Errors
    /// The address has none left.
    pub fn begin(&self, from: Option<IpAddr>) -> Result<Option<Running>, Excess> {
        if self.quota.concurrent.is_none() {
            return Ok(None);
        }
        self.budget(from).begin().map_err(|spent| self.excess(from, spent))
    }

    /// Looks whether an address has a request left, takes none, and remembers no address for it.
    ///
    /// # Errors
    /// It has none left.
    pub fn could_spend(&self, from: Option<IpAddr>) -> Result<(), Excess> {
        let Some(budget) = self.known(from) else { return Ok(()) };
        budget.could_spend().map_err(|spent| self.excess(from, spent))
    }

    /// Looks whether a place is free for an address, and takes none.
    ///
    /// # Errors
    /// None is.
    pub fn look(&self, from: Option<IpAddr>) -> Result<(), Excess> {
        let Some(budget) = self.known(from) else { return Ok(()) };
        budget.look().map_err(|spent| self.excess(from, spent))
    }

    /// What each of them may use up.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// How many are remembered.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).known.len()).sum()
    }

    /// What an address has left, if it is remembered.
    fn known(&self, from: Option<IpAddr>) -> Option<Arc<Budget<C>>> {
        let Some(from) = from.map(place) else { return Some(Arc::clone(&self.others)) };
        let shard = lock(self.shard(&from)?);
        shard.known.get(&from).map(|known| Arc::clone(&known.budget))
    }

    fn shard(&self, from: &IpAddr) -> Option<&Mutex<Shard<C>>> {
        self.shards.get(usize::try_from(self.hasher.hash_one(from)).unwrap_or_default() % SHARDS)
    }

    fn budget(&self, from: Option<IpAddr>) -> Arc<Budget<C>> {
        let Some(from) = from.map(place) else { return Arc::clone(&self.others) };
        let Some(shard) = self.shard(&from) else { return Arc::clone(&self.others) };
        let (mut shard, now) = (lock(shard), self.clock.now());
        if let Some(known) = shard.known.get_mut(&from) {
            known.used = now;
            return Arc::clone(&known.budget);
        }
        if shard.known.len() >= SHARD_MAX && !shard.sweep(now) {
            return Arc::clone(&self.others);
        }
        let budget = Arc::new(Budget::new(self.quota, None, self.clock.clone()));
        shard.known.insert(from, Known { budget: Arc::clone(&budget), used: now });
        budget
    }

    fn excess(&self, from: Option<IpAddr>, spent: Spent) -> Excess {
        let kind = match from.map(|from| from.to_canonical()) {
            Some(IpAddr::V4(_)) => "address of IPv4",
            Some(IpAddr::V6(_)) => "network /64 of IPv6",
            None => "address that is not known",
        };
        Excess::new(Of::Address, kind.into(), self.quota, spent)
    }
}

impl<C: Clock + Clone> Shard<C> {
    /// Forgets addresses that have all of their budget again, unless that was tried just now; whether there is room.
    fn sweep(&mut self, now: C::Instant) -> bool {
        let since = |then: C::Instant| Duration::from(now.duration_since(then));
        if self.swept.is_some_and(|swept| since(swept) < SWEEP_EVERY) {
            return false;
        }
        self.swept = Some(now);
        self.known
            .retain(|_, known| known.budget.running() > 0 || since(known.used) < known.budget.whole_after());
        self.known.len() < SHARD_MAX
    }
}

fn lock<C: Clock>(shard: &Mutex<Shard<C>>) -> MutexGuard<'_, Shard<C>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn addresses(quota: Quota) -> Addresses<FakeRelativeClock> {
        Addresses::new(quota, FakeRelativeClock::default()).unwrap()
    }

    fn from(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    const TWO: Quota = Quota { requests_per_minute: Some(60), burst: Some(2), concurrent: None };

    #[test]
    fn each_address_has_its_own_and_a_network_of_ipv6_is_one() {
        let all = addresses(TWO);
        assert!(all.spend(from("203.0.113.7")).is_ok() && all.spend(from("::ffff:203.0.113.7")).is_ok());
        let excess = all.spend(from("203.0.113.7")).unwrap_err();
        assert_eq!((excess.of, &*excess.whose), (Of::Address, "address of IPv4"));
        assert!(all.spend(from("203.0.113.8")).is_ok());
        assert!(all.spend(from("2001:db8:1:2::1")).is_ok() && all.spend(from("2001:db8:1:2:f::2")).is_ok());
        assert!(all.spend(from("2001:db8:1:2::3")).is_err() && all.spend(from("2001:db8:1:3::1")).is_ok());
        all.clock.advance(Duration::from_secs(1));
        assert!(all.spend(from("203.0.113.7")).is_ok());
        assert!(Addresses::new(Quota::default(), Steady).is_none());
    }

    #[test]
    fn a_flood_of_addresses_fills_no_memory_and_leaves_those_that_are_known_alone() {
        let all = addresses(TWO);
        assert!(all.spend(from("203.0.113.7")).is_ok());
        let refused =
            (0..100_000_u32).filter(|n| all.spend(Some(IpAddr::V4((n + 1).into()))).is_err()).count();
        assert!(all.count() <= ADDRESSES_MAX && refused >= 100_000 - ADDRESSES_MAX - 2, "{refused}");
        assert!(all.spend(from("203.0.113.7")).is_ok(), "what was known is known");
        // Those that have all they may use again are forgotten for others.
        all.clock.advance(Duration::from_secs(2));
        assert!((0..100_u32).all(|n| all.spend(Some(IpAddr::V4((n + 200_000).into()))).is_ok()));
        assert!(all.count() <= ADDRESSES_MAX);
    }

    #[test]
    fn an_address_whose_calls_run_is_not_forgotten() {
        let all = addresses(Quota { concurrent: Some(1), ..Quota::default() });
        let running = all.begin(from("203.0.113.7")).unwrap();
        for n in 0..3 * ADDRESSES_MAX as u32 {
            let _taken = all.spend(Some(IpAddr::V4((n + 1).into())));
            all.clock.advance(Duration::from_millis(1));
        }
        assert!(all.count() <= ADDRESSES_MAX && all.begin(from("203.0.113.7")).is_err());
        drop(running);
        assert!(all.begin(from("203.0.113.7")).is_ok());
    }
}
