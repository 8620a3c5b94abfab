//! Answers in Redis, for all servers that share one. While it is away nothing is kept, and no call waits for it.
//!
//! A call asks over a connection that stands, within a short deadline, and never opens one: whoever finds the connection
//! broken puts it away, and one task alone looks for Redis until it is back. What becomes stale is said by marks: an
//! answer holds as long as the marks that it was kept under are the marks that there are. Must not know questions.

mod debts;
mod words;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::kept::Kept;
use super::key::Key;
use crate::config::Secret;
use crate::replicas::link::{CONNECT_WITHIN, LOOK_EVERY, Link, told};
use crate::telemetry::metrics::METRICS;
pub use debts::Debt;
use debts::Debts;
pub use words::Marks;
use words::Names;

/// How long a call may wait for Redis.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);

/// Answers in Redis.
pub struct Remote {
    link: Link,
    names: Names,
    /// The longest that an answer is kept.
    ttl: Duration,
    /// None while Redis is away.
    way: ArcSwapOption<MultiplexedConnection>,
    /// What became stale and is not marked so there yet: of it nothing is read or kept meanwhile.
    debts: Mutex<Debts>,
    /// Told when there are debts, and when the connection was put away.
    wake: Notify,
    /// Why it is away.
    trouble: Mutex<Option<String>>,
}

/// What was found.
pub struct Found {
    /// The answer, and which of the keys it lay under.
    pub kept: Option<Kept>,
    /// The marks under which an answer may be kept; none while it may not.
    pub marks: Option<Marks>,
}

impl Found {
    const NOTHING: Self = Self { kept: None, marks: None };
}

impl Remote {
    /// Redis at `url`. Under `prefix`, what servers with another `salt` keep is not seen.
    ///
    /// # Errors
    /// What is wrong with the URL, without repeating it.
    pub fn new(url: Option<&Secret>, prefix: &str, salt: &[u8], ttl: Duration) -> Result<Self, String> {
        Ok(Self {
            link: Link::new(url)?,
            names: Names::new(prefix, salt),
            ttl,
            way: ArcSwapOption::empty(),
            debts: Mutex::default(),
            wake: Notify::new(),
            trouble: Mutex::new(Some("it was not reached yet".to_owned())),
        })
    }

    /// The answer under the first of `keys` that has one.
    pub async fn get(&self, keys: &[Key], plugin: &Arc<str>, uri: Option<&Arc<str>>) -> Found {
        let Some(way) = self.way.load_full() else { return Found::NOTHING };
        if self.debts().has(plugin, uri) {
            return Found::NOTHING;
        }
        let mut ask = redis::cmd("MGET");
        for key in keys {
            ask.arg(self.names.answer(key));
        }
        for name in self.names.marks(plugin, uri) {
            ask.arg(name);
        }
        let mut way = MultiplexedConnection::clone(&way);
        let answer = ask.query_async::<Vec<Option<Vec<u8>>>>(&mut way);
        let Some(mut answers) = self.heard(timeout(ANSWER_WITHIN, answer).await) else {
            return Found::NOTHING;
        };
        let marks = Marks::read(answers.split_off(keys.len().min(answers.len())));
        let kept = answers.into_iter().flatten().find_map(|bytes| words::read(bytes, &marks, plugin, uri));
        Found { kept, marks: Some(marks) }
    }

    /// Keeps an answer under marks that were found before it was asked for. What cannot be kept is not.
    pub async fn put(&self, key: &Key, kept: &Kept, mut marks: Marks) {
        let Some(way) = self.way.load_full() else { return };
        let mut pipe = Pipeline::new();
        let (names, seconds) = (self.names.marks(&kept.plugin, kept.uri.as_ref()), self.marks_last());
        for (name, made) in names.into_iter().zip(marks.complete()) {
            match made {
                // If another server makes it first, what is kept here does not hold, and that is all.
                Some(new) => pipe.cmd("SET").arg(&name).arg(new).arg("NX").arg("EX").arg(seconds).ignore(),
                None => pipe.cmd("EXPIRE").arg(&name).arg(seconds).ignore(),
            };
        }
        let lasts_ms = u64::try_from(kept.lasts.as_millis()).unwrap_or(u64::MAX).max(1);
        let value = words::write(kept, &marks);
        pipe.cmd("SET").arg(self.names.answer(key)).arg(value).arg("PX").arg(lasts_ms).ignore();
        let mut way = MultiplexedConnection::clone(&way);
        let _kept = self.heard(timeout(ANSWER_WITHIN, pipe.query_async::<()>(&mut way)).await);
    }

    /// Notes that something became stale. It is marked so in Redis as soon as that is there.
    pub fn owe(&self, debt: Debt) {
        self.debts().add(debt);
        self.wake.notify_one();
    }

    /// Whether all that became stale is marked so.
    pub fn is_settled(&self) -> bool {
        self.debts().is_empty()
    }

    /// Why it is away; none while it is there.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks after the connection for as long as the server runs.
    pub async fn tend(&self) {
        loop {
            let why = match self.link.connect(ANSWER_WITHIN).await {
                Ok(way) => self.serve(way).await,
                Err(why) => why,
            };
            self.lose(&why);
            sleep(LOOK_EVERY).await;
        }
    }

    /// Keeps the connection in use until it breaks, and says why it did.
    async fn serve(&self, way: MultiplexedConnection) -> String {
        // Before anybody reads what became stale while it was away.
        if let Err(why) = self.settle(&way).await {
            return why;
        }
        self.way.store(Some(Arc::new(way.clone())));
        if self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            log::info!("the cache is in use: Redis answers");
        }
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep(LOOK_EVERY) => {}
            }
            if self.way.load().is_none() {
                return self.trouble().unwrap_or_else(|| "a call got no answer".to_owned());
            }
            if let Err(why) = self.settle(&way).await {
                return why;
            }
        }
    }

    /// Marks as stale what became so; without any of it, asks for a sign of life.
    async fn settle(&self, way: &MultiplexedConnection) -> Result<(), String> {
        let owed = self.debts().owed();
        let mut pipe = Pipeline::new();
        pipe.cmd("PING").ignore();
        for (debt, _) in &owed {
            let name = self.names.mark(debt);
            pipe.cmd("SET").arg(name).arg(words::new_mark()).arg("EX").arg(self.marks_last()).ignore();
        }
        let mut way = way.clone();
        match timeout(CONNECT_WITHIN, pipe.query_async::<()>(&mut way)).await {
            Ok(Ok(())) => {
                self.debts().paid(&owed);
                Ok(())
            }
            Ok(Err(error)) => Err(told(&error)),
            Err(_elapsed) => Err("it gave no sign of life".to_owned()),
        }
    }

    /// What was answered in time; else the connection is put away.
    fn heard<T>(&self, answer: Result<Result<T, RedisError>, tokio::time::error::Elapsed>) -> Option<T> {
        let why = match answer {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => told(&error),
            Err(_elapsed) => format!("it did not answer within {} ms", ANSWER_WITHIN.as_millis()),
        };
        METRICS.cache_failures.inc();
        self.lose(&why);
        self.wake.notify_one();
        None
    }

    fn lose(&self, why: &str) {
        self.way.store(None);
        let before = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).replace(why.to_owned());
        if before.is_none() {
            log::warn!("the cache is not in use until Redis answers: {why}");
        }
    }

    fn debts(&self) -> std::sync::MutexGuard<'_, Debts> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mark outlives every answer that was kept under it.
    fn marks_last(&self) -> u64 {
        self.ttl.as_secs().saturating_mul(2).saturating_add(60)
    }
}
