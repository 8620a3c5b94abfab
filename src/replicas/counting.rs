//! The count that all servers share: of each owner one number in Redis, up to when all that was let through reaches.
//!
//! It is the number that governor keeps in memory, by Redis' clock. Each server tells how many requests it let through since
//! it told last, and hears how far all of them reach. Must not know whose requests they are.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use sha2::{Digest as _, Sha256};
use tokio::time::{sleep, timeout};

use super::Owner;
use super::link::{LOOK_EVERY, Link, told};
use crate::access::limits::Pace;

/// Between two times that Redis is told and heard.
const TELL_EVERY: Duration = Duration::from_millis(50);
/// How long it may take to answer. No request waits for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Owners of whom it is asked at once.
const OWNERS_AT_ONCE: usize = 500;
/// Owners who let nothing through here, and of whom it is heard each time what others did; beyond that they take turns.
const RESTING_MAX: usize = 100;
/// How names are made and numbers meant: with another one, nobody counts together with these.
const VERSION: &str = "1";

/// For each owner: the time after which one request comes back and how far this server alone reaches, in nanoseconds; how
/// many may be taken at once, and how many were. In microseconds, how far all reach now.
///
/// What nobody takes any more ends by itself. A clock that was set back, or a number that no server wrote, never holds an owner
/// back for longer than twice of all that they may take at once.
const COUNT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local reach = {}
for n, name in ipairs(KEYS) do
    local every, most = ARGV[4 * n - 3] / 1000, tonumber(ARGV[4 * n - 2])
    local took, alone = tonumber(ARGV[4 * n - 1]), ARGV[4 * n] / 1000
    local before = tonumber(redis.call('GET', name) or '0') or 0
    local now_until = math.min(math.max(before, now + alone) + took * every, now + 2 * most * every)
    if took > 0 or alone > 0 then
        redis.call('SET', name, string.format('%.0f', now_until), 'PX', string.format('%.0f', math.ceil((now_until - now) / 1000) + 1))
    end
    reach[n] = string.format('%.0f', now_until - now)
end
return reach
";

/// The count in Redis.
pub struct Counting {
    link: Link,
    /// What names begin with: the version, and what tells these servers from others that use the same Redis.
    stem: String,
}

/// What is told of one owner.
struct Line {
    owner: Owner,
    pace: Pace,
    took: u32,
    alone: Duration,
}

impl Counting {
    /// At `link`. Under `prefix`, what servers with another `salt` count is not seen.
    pub fn new(link: Link, prefix: &str, salt: &[u8]) -> Self {
        let own: String = hash(&[b"limits", salt]).chars().take(16).collect();
        Self { link, stem: format!("{prefix}:limits:{VERSION}:{own}") }
    }

    /// Tells and hears for as long as there are `owners`; `stands` is told how that goes.
    pub async fn tend(&self, owners: &impl Fn() -> Option<Vec<Owner>>, stands: impl Fn(Option<String>)) {
        while owners().is_some() {
            let why = match self.link.connect(ANSWER_WITHIN).await {
                Ok(way) => self.count(way, owners, &stands).await,
                Err(why) => why,
            };
            stands(Some(why));
            sleep(LOOK_EVERY).await;
        }
    }

    /// Counts over this connection until it breaks, and says why it did.
    async fn count(
        &self,
        mut way: MultiplexedConnection,
        owners: &impl Fn() -> Option<Vec<Owner>>,
        stands: &impl Fn(Option<String>),
    ) -> String {
        let mut turn = 0;
        let mut lines: fn(Vec<Owner>, &mut usize) -> Vec<Line> = all_alone;
        while let Some(owners) = owners() {
            let rest = if owners.is_empty() { LOOK_EVERY } else { TELL_EVERY };
            if let Err(why) = self.exchange(&mut way, &lines(owners, &mut turn)).await {
                return why;
            }
            stands(None);
            lines = what_is_new;
            sleep(rest).await;
        }
        "this server ends".to_owned()
    }

    async fn exchange(&self, way: &mut MultiplexedConnection, lines: &[Line]) -> Result<(), String> {
        if lines.is_empty() {
            return heard(redis::cmd("PING").query_async::<()>(way)).await;
        }
        for lines in lines.chunks(OWNERS_AT_ONCE) {
            let mut ask = redis::cmd("EVAL");
            ask.arg(COUNT).arg(lines.len());
            for line in lines {
                ask.arg(self.name(line));
            }
            for Line { pace, took, alone, .. } in lines {
                ask.arg(nanos(pace.every)).arg(pace.most).arg(*took).arg(nanos(*alone));
            }
            let reach = heard(ask.query_async::<Vec<u64>>(way)).await?;
            for (line, micros) in lines.iter().zip(reach) {
                line.owner.allowance.reach(Duration::from_micros(micros));
            }
        }
        Ok(())
    }

    /// Where the number of an owner lies. With another limit they begin anew, as in memory.
    fn name(&self, line: &Line) -> String {
        let Line { owner, pace, .. } = line;
        let of = owner.allowance.of().name();
        let (every, most) = (nanos(pace.every).to_be_bytes(), pace.most.to_be_bytes());
        format!("{}:{}", self.stem, hash(&[of.as_bytes(), owner.id.as_bytes(), &every, &most]))
    }
}

/// What is told first, once there is a connection: how far each reaches who was counted here alone.
fn all_alone(owners: Vec<Owner>, _: &mut usize) -> Vec<Line> {
    let line = |owner: Owner| {
        // All of it is in what is told of them now.
        let _told = owner.allowance.untold();
        let (pace, alone) = (owner.allowance.pace()?, owner.allowance.ahead());
        Some(Line { owner, pace, took: 0, alone })
    };
    owners.into_iter().filter_map(line).collect()
}

/// What is told from then on: what was let through here since it was told last; and of some others it is heard, in turns.
fn what_is_new(owners: Vec<Owner>, turn: &mut usize) -> Vec<Line> {
    let count = owners.len();
    let first = std::mem::replace(turn, (*turn + RESTING_MAX) % count.max(1));
    let line = |(n, owner): (usize, Owner)| {
        let (pace, took) = (owner.allowance.pace()?, owner.allowance.untold());
        let is_next = (n + count - first.min(count)) % count.max(1) < RESTING_MAX;
        (took > 0 || is_next).then_some(Line { owner, pace, took, alone: Duration::ZERO })
    };
    owners.into_iter().enumerate().filter_map(line).collect()
}

/// What is answered in time.
async fn heard<T>(answer: impl Future<Output = Result<T, redis::RedisError>>) -> Result<T, String> {
    match timeout(ANSWER_WITHIN, answer).await {
        Ok(answer) => answer.map_err(|error| told(&error)),
        Err(_elapsed) => Err(format!("it did not answer within {} s", ANSWER_WITHIN.as_secs())),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nothing of an owner can be read off it.
fn hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::access::limits::{Allowance, Of};
    use crate::config::{Quota, Secret};

    fn owner(id: usize, requests_per_minute: u32) -> Owner {
        let quota = Quota { requests_per_minute: Some(requests_per_minute), ..Quota::default() };
        Owner { id: id.to_string().into(), allowance: Allowance::new(Of::Key, "k", quota, None).unwrap() }
    }

    fn copies(owners: &[Owner]) -> Vec<Owner> {
        let copy =
            |owner: &Owner| Owner { id: Arc::clone(&owner.id), allowance: Arc::clone(&owner.allowance) };
        owners.iter().map(copy).collect()
    }

    #[test]
    fn what_was_let_through_is_told_once_and_of_those_who_rest_each_is_heard_in_turn() {
        let owners: Vec<Owner> = (0..250).map(|id| owner(id, 60)).collect();
        owners[7].allowance.spend().unwrap();
        let first = all_alone(copies(&owners), &mut 0);
        assert_eq!(first.len(), 250);
        assert!(first.iter().all(|line| line.took == 0));
        assert!(first[7].alone > Duration::ZERO && first[8].alone.is_zero());
        let mut turn = 0;
        let ids = |lines: &[Line]| lines.iter().map(|line| line.owner.id.to_string()).collect::<Vec<_>>();
        for _ in 0..2 {
            owners[240].allowance.spend().unwrap();
        }
        let lines = what_is_new(copies(&owners), &mut turn);
        assert_eq!(lines.len(), 101, "{:?}", ids(&lines));
        assert_eq!(lines.last().map(|line| (&*line.owner.id, line.took)), Some(("240", 2)));
        let lines = what_is_new(copies(&owners), &mut turn);
        assert_eq!((lines.len(), ids(&lines)[0].as_str()), (100, "100"), "it was told");
        let third = ids(&what_is_new(copies(&owners), &mut turn));
        assert!(third.len() == 100 && ["249", "0"].iter().all(|id| third.iter().any(|had| had == id)));
        assert!(what_is_new(Vec::new(), &mut turn).is_empty());
    }

    #[test]
    fn names_tell_owners_and_their_limits_apart_and_show_nothing_of_them() {
        let counting = |salt| {
            let url = Secret::new("redis://127.0.0.1:1");
            Counting::new(Link::new(Some(&url)).unwrap(), "w", salt)
        };
        let line = |owner: Owner| all_alone(vec![owner], &mut 0).pop().unwrap();
        let (one, other) = (counting(b"one"), counting(b"other"));
        let name = one.name(&line(owner(4711, 60)));
        assert_eq!(name, one.name(&line(owner(4711, 60))));
        assert!(name.starts_with("w:limits:1:") && !name.contains("4711"), "{name}");
        for differs in [
            other.name(&line(owner(4711, 60))),
            one.name(&line(owner(4711, 61))),
            one.name(&line(owner(1, 60))),
        ] {
            assert_ne!(name, differs);
        }
    }
}
