//! What servers that share a Redis tell each other: how much of a limit each let through, so that all together let through as
//! much as one would.
//!
//! Each decides by itself, at once, and no request waits for Redis: what was let through is told there many times a second,
//! and what others let through is heard. What comes to several of them before they heard of each other may exceed a limit, and
//! is taken off what follows. While Redis is away each counts by itself. Must not know requests, keys or plugins.

#[cfg(feature = "redis")]
mod counting;
#[cfg(feature = "redis")]
pub mod link;

use std::sync::{Arc, Mutex, PoisonError};

use crate::access::limits::Allowance;
use crate::config::{Config, CountIn};
#[cfg(feature = "redis")]
use counting::Counting;
#[cfg(feature = "redis")]
use link::Link;

/// Somebody whose requests are limited.
pub struct Owner {
    /// Who that is among owners of the same kind, on every server.
    pub id: Arc<str>,
    /// What they may use up.
    pub allowance: Arc<Allowance>,
}

/// The other servers.
pub struct Replicas {
    #[cfg(feature = "redis")]
    counting: Counting,
    /// Why nothing is told and heard; none while it is.
    trouble: Mutex<Option<String>>,
}

impl Replicas {
    /// The other servers, where requests are counted for all of them together. They have the same `salt`.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn open(config: &Config, salt: &[u8]) -> Result<Option<Arc<Self>>, String> {
        match config.limits.count_in {
            CountIn::Memory => Ok(None),
            #[cfg(feature = "redis")]
            CountIn::Redis => {
                let link = Link::new(config.cache.redis_url.as_ref())?;
                Ok(Some(Arc::new(Self {
                    counting: Counting::new(link, &config.cache.redis_prefix, salt),
                    trouble: Mutex::new(Some("it was not reached yet".to_owned())),
                })))
            }
            #[cfg(not(feature = "redis"))]
            CountIn::Redis => {
                let _unused = salt;
                Err("this program was built without Redis".to_owned())
            }
        }
    }

    /// Why each server counts by itself now; none while they count together.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        trouble.map(|why| format!("Redis is away, and each server counts its requests by itself: {why}"))
    }

    /// Tells and hears for as long as `owners` says whose requests are limited.
    #[cfg_attr(
        not(feature = "redis"),
        expect(clippy::unused_async, reason = "Redis is spoken to, where it is built in")
    )]
    pub async fn tend(self: Arc<Self>, owners: impl Fn() -> Option<Vec<Owner>>) {
        #[cfg(feature = "redis")]
        self.counting.tend(&owners, |why| self.stands(why)).await;
        #[cfg(not(feature = "redis"))]
        drop(owners);
    }

    /// Notes how it stands, and tells of it when that changes.
    #[cfg(feature = "redis")]
    fn stands(&self, trouble: Option<String>) {
        let mut now = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*now, &trouble) {
            (None, Some(why)) => {
                crate::telemetry::metrics::METRICS.limits_losses.inc();
                log::warn!("requests are counted by this server alone until Redis answers: {why}");
            }
            (Some(_), None) => log::info!("requests are counted together with other servers: Redis answers"),
            _ => {}
        }
        *now = trouble;
    }
}
