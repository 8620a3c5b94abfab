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
/// For so long after the start, sessions of the server before this one are still read: while this one takes over, clients
/// begin and use sessions there.
const FOLLOW_FOR: Duration = Duration::from_secs(300);
/// What was written a little before the last look may be seen only by the next.
const OVERLAP: Duration = Duration::from_secs(5);
/// Being used is written after this part of the time that a session may go unused, and within these bounds.
const USED_AGAIN_PART: u32 = 8;
const USED_AGAIN_LEAST: Duration = Duration::from_millis(200);
const USED_AGAIN_MOST: Duration = Duration::from_secs(60);

/// Tells what a server before this one knew of sessions. Without it their clients begin anew.
pub async fn load(sessions: &Sessions, db: &Addr<DbActor>) {
    if let Err(why) = read(sessions, db, SystemTime::UNIX_EPOCH).await {
        log::warn!(
            "sessions of the server before this one are unknown, and their clients have to begin anew: {why}"
        );
    }
}

/// Saves what happens to sessions, for as long as the program runs.
pub async fn keep(sessions: Arc<Sessions>, db: Addr<DbActor>) {
    let follow_until = Instant::now() + FOLLOW_FOR;
    let mut looked = SystemTime::now();
    let mut told = false;
    loop {
        // Either there is something to write, or it is time to look.
        if timeout(LOOK_EVERY, sessions.changed()).await.is_ok() {
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
        let now = SystemTime::now();
        let is_due = now.duration_since(looked).is_ok_and(|since| since >= LOOK_EVERY);
        if is_due && Instant::now() < follow_until {
            let since = looked.checked_sub(OVERLAP).unwrap_or(SystemTime::UNIX_EPOCH);
            match read(&sessions, &db, since).await {
                Ok(()) => looked = now,
                Err(why) => log::debug!("sessions of the server before this one could not be read: {why}"),
            }
        }
    }
}

/// Writes down what is not written down yet; the database may take so long for each part of it.
///
/// # Errors
/// Why it is still not written down.
pub async fn save(sessions: &Sessions, db: &Addr<DbActor>, within: Duration) -> Result<(), String> {
    let used_again = (sessions.idle() / USED_AGAIN_PART).clamp(USED_AGAIN_LEAST, USED_AGAIN_MOST);
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

/// Reads sessions that were used at `since` or later.
async fn read(sessions: &Sessions, db: &Addr<DbActor>, since: SystemTime) -> Result<(), String> {
    let load = LoadSessions { now: written(SystemTime::now()), since: written(since) };
    let rows = ask(db, load, ANSWER_WITHIN).await.map_err(|error| error.to_string())?;
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
    sessions.remember(read);
    if bad > 0 {
        log::warn!(
            "{bad} sessions of the server before this one make no sense, and their clients have to begin anew"
        );
    }
    Ok(())
}
