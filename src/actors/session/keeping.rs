//! Carries sessions from memory to the database, and those of the server before this one back: so their clients go on after a
//! restart as if there had been none. Beside all requests. Must not know what is said in a session.
//!
//! What a server that was killed did not write any more is lost: sessions of its last moments, whose clients begin anew.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::Addr;
use tokio::time::{Instant, sleep, timeout};

use super::kept::{self, Kept};
use super::sessions::Sessions;
use crate::actors::ask::ask;
use crate::actors::db::DbActor;
use crate::actors::db::messages::{LoadSessions, SaveSessions};
use crate::storage::definitions::written;
use crate::storage::sessions::OfOthers;

/// Sessions that are written at once.
const AT_ONCE: usize = 500;
/// How long the database may take for them.
const ANSWER_WITHIN: Duration = Duration::from_secs(12);
/// How long a database that failed is left alone.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// What happens within this time is written at once.
const GATHER_FOR: Duration = Duration::from_millis(10);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// For so long after the start, sessions of servers beside this one are still read, as long as one runs: while this one takes
/// over, clients begin, use and end sessions there. A replica that stays is nobody's predecessor.
const FOLLOW_FOR: Duration = Duration::from_secs(300);
/// The longest between two looks at which sessions were used again, when nobody is followed.
const LOOK_MOST: Duration = Duration::from_secs(2);
/// What was written a little before the last look may be seen only by the next.
const OVERLAP: Duration = Duration::from_secs(5);
/// Being used is written after this part of the time that a session may go unused, and within these bounds.
const USED_AGAIN_PART: u32 = 8;
const USED_AGAIN_LEAST: Duration = Duration::from_millis(200);
const USED_AGAIN_MOST: Duration = Duration::from_secs(60);

/// Tells what servers before this one knew of sessions; without it their clients begin anew. Gives whether more may come, since one
/// of them still runs.
pub async fn load(sessions: &Sessions, db: &Addr<DbActor>) -> bool {
    let read = read(sessions, db, SystemTime::UNIX_EPOCH).await;
    let is_final = read.unwrap_or_else(|why| {
        log::warn!(
            "sessions of the server before this one are unknown, and their clients have to begin anew: {why}"
        );
        false
    });
    !is_final
}

/// Saves what happens to sessions, for as long as the program runs; `more` may come from a server before this one.
pub async fn keep(sessions: Arc<Sessions>, db: Addr<DbActor>, more: bool) {
    let mut follow = more.then(Follow::begin);
    let mut told = false;
    loop {
        // Either there is something to write, or it is time to look.
        let every =
            if follow.is_some() { LOOK_EVERY } else { used_again(&sessions).clamp(LOOK_EVERY, LOOK_MOST) };
        if timeout(every, sessions.changed()).await.is_ok() {
            sleep(GATHER_FOR).await;
        }
        let saved = save(&sessions, &db, ANSWER_WITHIN).await;
        if let Err(why) = saved {
            let level = if std::mem::replace(&mut told, true) { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "sessions could not be written down yet, it is tried again: {why}");
            sleep(AGAIN_AFTER).await;
            continue;
        }
        told = false;
        if let Some(following) = &mut follow
            && following.look(&sessions, &db).await
        {
            follow = None;
        }
    }
}

/// The sessions of a server before this one that still runs.
struct Follow {
    until: Instant,
    looked: SystemTime,
}

impl Follow {
    fn begin() -> Self {
        Self { until: Instant::now() + FOLLOW_FOR, looked: SystemTime::now() }
    }

    /// Looks what changed there, if it is time. When that server has ended, or for the last time, all is read once more, and what is
    /// not there any more has ended there. Gives whether it was the last time.
    async fn look(&mut self, sessions: &Sessions, db: &Addr<DbActor>) -> bool {
        let now = SystemTime::now();
        if now.duration_since(self.looked).is_ok_and(|since| since < LOOK_EVERY) {
            return false;
        }
        let since = self.looked.checked_sub(OVERLAP).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut read_on = read(sessions, db, since).await;
        if matches!(read_on, Ok(is_final) if is_final || Instant::now() >= self.until) {
            read_on = read(sessions, db, SystemTime::UNIX_EPOCH).await;
            if read_on.is_ok() {
                log::debug!("all sessions of the server before this one are known");
                return true;
            }
        }
        match read_on {
            Ok(_) => self.looked = now,
            Err(why) => log::debug!("sessions of the server before this one could not be read: {why}"),
        }
        false
    }
}

/// What is used is written down again after so long.
fn used_again(sessions: &Sessions) -> Duration {
    (sessions.idle() / USED_AGAIN_PART).clamp(USED_AGAIN_LEAST, USED_AGAIN_MOST)
}

/// Writes down what is not written down yet; the database may take so long for each part of it.
///
/// # Errors
/// Why it is still not written down.
pub async fn save(sessions: &Sessions, db: &Addr<DbActor>, within: Duration) -> Result<(), String> {
    let used_again = used_again(sessions);
    loop {
        let unsaved = sessions.unsaved(AT_ONCE, used_again);
        let ended = sessions.take_ended(AT_ONCE);
        if unsaved.is_empty() && ended.is_empty() {
            return Ok(());
        }
        // Its last use may be later than what is written by this much.
        let idle = sessions.idle().saturating_add(used_again);
        let rows = unsaved.iter().filter_map(|(session, _)| kept::row(session, idle)).collect();
        let write = SaveSessions { rows, ended: ended.clone(), now: written(SystemTime::now()) };
        if let Err(error) = ask(db, write, within).await {
            sessions.forget(ended);
            return Err(error.to_string());
        }
        for (session, as_of) in &unsaved {
            session.saved(*as_of);
            // It may have ended while it was written.
            if session.has_ended() {
                sessions.forget(vec![crate::access::session_hash(&session.id)]);
            }
        }
    }
}

/// Reads sessions that were used at `since` or later; from the beginning of time on, these are all there are. Gives whether no other
/// server runs that could write more.
async fn read(sessions: &Sessions, db: &Addr<DbActor>, since: SystemTime) -> Result<bool, String> {
    let load = LoadSessions { now: written(SystemTime::now()), since: written(since) };
    let OfOthers { rows, is_final } =
        ask(db, load, ANSWER_WITHIN).await.map_err(|error| error.to_string())?;
    let mut bad = 0_usize;
    let read = rows.into_iter().filter_map(|row| {
        let kept: Result<(String, Kept), String> = Kept::read(row);
        kept.inspect_err(|why| {
            bad += 1;
            log::debug!("a session of the server before this one makes no sense: {why}");
        })
        .ok()
    });
    let read: Vec<(String, Kept)> = read.collect();
    sessions.remember(read, since == SystemTime::UNIX_EPOCH);
    if bad > 0 {
        log::warn!(
            "{bad} sessions of the server before this one make no sense, and their clients have to begin anew"
        );
    }
    Ok(is_final)
}
