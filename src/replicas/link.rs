//! The way to Redis, and what is said of it when there is none. Must not know what is kept or counted there.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::time::timeout;

use crate::config::Secret;

/// How long a connection may take to be made; no request waits for it.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks for Redis while it is away, and two signs of life while it is there.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where Redis is.
pub struct Link(Client);

impl Link {
    /// At this URL.
    ///
    /// # Errors
    /// What is wrong with the URL, without repeating it.
    pub fn new(url: Option<&Secret>) -> Result<Self, String> {
        let url = url.ok_or("cache.redis_url is not set; set it, as to redis://host:6379")?;
        let client = Client::open(url.expose())
            .map_err(|_| "cache.redis_url is no URL of Redis; write one as redis://host:6379".to_owned())?;
        Ok(Self(client))
    }

    /// Makes a connection, on which an answer takes no longer than `answer_within`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(&self, answer_within: Duration) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(answer_within));
        let connecting = self.0.get_multiplexed_async_connection_with_config(&config);
        match timeout(CONNECT_WITHIN, connecting).await {
            Ok(connected) => connected.map_err(|error| told(&error)),
            Err(_elapsed) => Err(format!("it was not reached within {} s", CONNECT_WITHIN.as_secs())),
        }
    }
}

/// What Redis says of an error, in one line and without what it was asked.
pub fn told(error: &RedisError) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(200).collect()
}
