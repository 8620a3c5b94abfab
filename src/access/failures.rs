//! Addresses that show wrong keys: how often each may, before it has to wait. Must not know what time it is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use serde_json::json;

use super::limits::{LIMIT, OF, Of, QUOTA, WHOSE};
use crate::error::{ErrorCode, Fault};

/// Wrong keys that an address may show at once.
pub const AT_ONCE: u32 = 20;
/// After these, one so often.
const THEN_EVERY: Duration = Duration::from_secs(3);
/// The same, as limits are told.
const PER_MINUTE: u64 = 60 / THEN_EVERY.as_secs();
/// What this limit is called among others.
pub const WRONG_KEYS: &str = "wrongKeysPerMinute";
/// The history is told of so many at once, of all addresses together.
const WRITTEN_AT_ONCE: u32 = 20;
/// After these, of one so often.
const WRITTEN_EVERY: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// Who showed wrong keys lately.
///
/// An address pays with a token for each, and gets one back now and then. Only whoever has paid is remembered; when there are
/// too many, those that are not share what is left.
#[derive(Debug, Default)]
pub struct Failures {
    by_address: HashMap<IpAddr, Debt>,
    others: Debt,
    written: Debt,
    unwritten: u64,
}

/// When all that was paid is back.
#[derive(Debug, Clone, Copy, Default)]
struct Debt {
    ends: Option<Instant>,
}

impl Debt {
    /// Pays for one, of which so many are free at once and then one so often.
    fn pay(&mut self, now: Instant, at_once: u32, then_every: Duration) -> Result<(), Duration> {
        let owed = self.ends.map_or(Duration::ZERO, |ends| ends.saturating_duration_since(now));
        let most = then_every * (at_once - 1);
        if owed > most {
            return Err(owed - most);
        }
        self.ends = Some(now + owed + then_every);
        Ok(())
    }

    fn is_over(self, now: Instant) -> bool {
        self.ends.is_none_or(|ends| ends <= now)
    }
}

impl Failures {
    /// Notes that a wrong key came from there.
    ///
    /// # Errors
    /// How long it has to wait before it is looked at again.
    pub fn note(&mut self, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let Some(from) = from.map(place) else { return self.others.pay(now, AT_ONCE, THEN_EVERY) };
        if self.by_address.len() >= ADDRESSES_MAX && !self.by_address.contains_key(&from) {
            self.by_address.retain(|_, debt| !debt.is_over(now));
            if self.by_address.len() >= ADDRESSES_MAX {
                return self.others.pay(now, AT_ONCE, THEN_EVERY);
            }
        }
        self.by_address.entry(from).or_default().pay(now, AT_ONCE, THEN_EVERY)
    }
}

impl Failures {
    /// Whether the history shall tell of one more, and then of how many it was not told since the last: strangers must not fill it.
    pub fn tell(&mut self, now: Instant) -> Option<u64> {
        if self.written.pay(now, WRITTEN_AT_ONCE, WRITTEN_EVERY).is_err() {
            self.unwritten += 1;
            return None;
        }
        Some(std::mem::take(&mut self.unwritten))
    }
}

/// What is said to who showed too many, as of any limit that was reached.
pub fn slowed_down(from: Option<IpAddr>, wait: Duration) -> Fault {
    let whose = from.map_or_else(|| "an unknown address".to_owned(), |from| place(from).to_string());
    Fault::new(
        ErrorCode::RateLimited,
        "too many wrong keys came from this address",
        "wait as long as Retry-After says, and send a key that is taken, which is let in at once",
    )
    .with(LIMIT, WRONG_KEYS)
    .with(OF, Of::Address.name())
    .with(WHOSE, whose)
    .with(QUOTA, json!({WRONG_KEYS: PER_MINUTE, "burst": AT_ONCE}))
    .retry_after(wait)
}

/// Whoever has an address of IPv6 has all of its network.
pub(super) fn place(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(from) => {
            let [a, b, c, d, ..] = from.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn after_some_wrong_keys_an_address_waits_and_others_do_not() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for _ in 0..AT_ONCE {
            assert_eq!(failures.note(from("203.0.113.7"), now), Ok(()));
        }
        assert_eq!(failures.note(from("203.0.113.7"), now), Err(THEN_EVERY));
        assert_eq!(
            failures.note(from("::ffff:203.0.113.7"), now),
            Err(THEN_EVERY),
            "the same by another name"
        );
        assert_eq!(failures.note(from("203.0.113.8"), now), Ok(()));
        assert_eq!(failures.note(from("203.0.113.7"), now + THEN_EVERY), Ok(()));
        assert!(failures.note(from("203.0.113.7"), now + THEN_EVERY).is_err());
        let later = now + THEN_EVERY * (AT_ONCE + 2);
        assert!((0..AT_ONCE).all(|_| failures.note(from("203.0.113.7"), later).is_ok()));
    }

    #[test]
    fn a_flood_of_wrong_keys_is_few_rows_and_a_number() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let told = (0..1_000).filter(|_| failures.tell(now).is_some()).count();
        assert_eq!(told, WRITTEN_AT_ONCE as usize);
        assert_eq!(failures.tell(now + WRITTEN_EVERY), Some(1_000 - u64::from(WRITTEN_AT_ONCE)));
        assert_eq!(failures.tell(now + WRITTEN_EVERY * 2), Some(0));
    }

    #[test]
    fn a_network_of_ipv6_is_one_and_no_flood_of_addresses_grows_the_table() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for n in 0..AT_ONCE {
            assert!(failures.note(from(&format!("2001:db8:1:2::{n:x}")), now).is_ok());
        }
        assert!(failures.note(from("2001:db8:1:2:ffff::1"), now).is_err());
        for n in 0..2 * ADDRESSES_MAX as u32 {
            let _paid = failures.note(Some(IpAddr::V4(n.into())), now);
        }
        assert!(failures.by_address.len() <= ADDRESSES_MAX);
        assert!(failures.note(from("198.51.100.1"), now).is_err(), "those that are not remembered share");
        assert!(failures.note(from("198.51.100.1"), now + THEN_EVERY * (AT_ONCE + 1)).is_ok());
    }
}
