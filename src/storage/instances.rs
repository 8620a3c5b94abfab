//! `instances`: every process that writes history, and which of them are dead. Must not know what they wrote.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use chrono::NaiveDateTime;
use diesel::{
    BoolExpressionMethods as _, ExpressionMethods as _, Insertable, OptionalExtension as _, QueryDsl as _,
    QueryResult, Queryable, RunQueryDsl as _, Selectable, SelectableHelper as _,
};

use super::DbConnection;
use super::acts::{BACKUP_RESTORE, SERVER_START, SERVER_STOP};
use super::history::{Kind, moment};
use super::schema::{command_history, instances};

/// How often a running instance says so.
pub const BEAT: Duration = Duration::from_secs(10);
/// Without a word for so long, an instance on another host is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(60);

/// This process as the writer of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// 20 hexadecimal digits; sorts by time.
    pub id: String,
    /// When it began.
    pub started_at: SystemTime,
}

impl Instance {
    /// A new one, begun now.
    pub fn begin() -> Self {
        // 48 bits of time and 32 of chance: every row and two indexes carry it.
        let bits = uuid::Uuid::now_v7().as_u128();
        let id = format!("{:012x}{:08x}", bits >> 80, bits & 0xffff_ffff);
        Self { id, started_at: SystemTime::now() }
    }
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = instances)]
pub struct Known {
    /// See [`Instance`].
    pub instance_id: String,
    /// When it began, UTC.
    pub started_at: NaiveDateTime,
    /// When it last said that it runs, UTC.
    pub seen_at: NaiveDateTime,
    /// When it stopped, or was found dead and its calls were closed.
    pub stopped_at: Option<NaiveDateTime>,
    /// Its machine or container.
    pub host: String,
    /// Its process.
    pub pid: i64,
    /// Waygate's version.
    pub version: String,
}

/// Writes that this instance runs, and that it does so now. Safe to repeat.
///
/// # Errors
/// What the database says.
pub fn register(connection: &mut DbConnection, instance: &Instance) -> QueryResult<()> {
    let id = instances::table.find(&instance.id).select(instances::instance_id);
    if id.first::<String>(connection).optional()?.is_some() {
        return beat(connection, &instance.id);
    }
    let row = Known {
        instance_id: instance.id.clone(),
        started_at: moment(instance.started_at),
        seen_at: moment(SystemTime::now()),
        stopped_at: None,
        host: host(),
        pid: i64::from(std::process::id()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    diesel::insert_into(instances::table).values(row).execute(connection).map(drop)
}

/// Writes that the instance runs now; one that was taken for dead is alive again.
///
/// # Errors
/// What the database says.
pub fn beat(connection: &mut DbConnection, id: &str) -> QueryResult<()> {
    let now =
        (instances::seen_at.eq(moment(SystemTime::now())), instances::stopped_at.eq(None::<NaiveDateTime>));
    diesel::update(instances::table.find(id)).set(now).execute(connection).map(drop)
}

/// Writes that the instance has stopped, by itself or found dead.
///
/// # Errors
/// What the database says.
pub fn stopped(connection: &mut DbConnection, id: &str) -> QueryResult<()> {
    let now = instances::stopped_at.eq(Some(moment(SystemTime::now())));
    let running = instances::table.filter(instances::instance_id.eq(id).and(instances::stopped_at.is_null()));
    diesel::update(running).set(now).execute(connection).map(drop)
}

/// All instances that have stopped.
///
/// # Errors
/// What the database says.
pub fn stopped_ones(connection: &mut DbConnection) -> QueryResult<Vec<String>> {
    instances::table
        .filter(instances::stopped_at.is_not_null())
        .select(instances::instance_id)
        .load(connection)
}

/// All instances that ever wrote.
///
/// # Errors
/// What the database says.
pub fn all_ids(connection: &mut DbConnection) -> QueryResult<BTreeSet<String>> {
    let all: Vec<String> = instances::table.select(instances::instance_id).load(connection)?;
    Ok(all.into_iter().collect())
}

/// Instances beside `own` that did not stop and yet do not run.
///
/// # Errors
/// What the database says.
pub fn dead(connection: &mut DbConnection, own: &str) -> QueryResult<Vec<Known>> {
    let unstopped: Vec<Known> = instances::table
        .filter(instances::stopped_at.is_null())
        .filter(instances::instance_id.ne(own))
        .order(instances::seen_at.asc())
        .limit(1_000)
        .select(Known::as_select())
        .load(connection)?;
    let now = moment(SystemTime::now());
    let host = host();
    Ok(unstopped.into_iter().filter(|known| is_dead(known, now, &host, runs)).collect())
}

/// Instances that run now, as far as they say so themselves: on this host, those whose process is there.
///
/// # Errors
/// What the database says.
pub fn running(connection: &mut DbConnection) -> QueryResult<Vec<Known>> {
    let unstopped: Vec<Known> = instances::table
        .filter(instances::stopped_at.is_null())
        .order(instances::seen_at.desc())
        .limit(1_000)
        .select(Known::as_select())
        .load(connection)?;
    let (now, host) = (moment(SystemTime::now()), host());
    Ok(unstopped.into_iter().filter(|known| !is_dead(known, now, &host, runs)).collect())
}

/// Servers that began after `since`, ended, and never said that they stopped: the next one found them dead.
///
/// # Errors
/// What the database says.
pub fn cut_off(connection: &mut DbConnection, since: SystemTime) -> QueryResult<Vec<Known>> {
    let ended: Vec<Known> = instances::table
        .filter(instances::stopped_at.is_not_null())
        .filter(instances::started_at.gt(moment(since)))
        .order(instances::started_at.desc())
        .limit(1_000)
        .select(Known::as_select())
        .load(connection)?;
    let mut cut_off = Vec::new();
    for known in ended {
        let mut has_said = |act: &str| {
            let said = command_history::table
                .filter(command_history::instance_id.eq(&known.instance_id))
                .filter(command_history::kind.eq(Kind::Admin.name()))
                .filter(command_history::method.eq(act));
            said.select(command_history::id).first::<i64>(connection).optional()
        };
        if has_said(SERVER_START)?.is_some() && has_said(SERVER_STOP)?.is_none() {
            cut_off.push(known);
        }
    }
    Ok(cut_off)
}

/// Of these, who crashed as far as anybody can know. What ran when a backup was made runs in its copy for ever: it seems dead once
/// that is restored, between when it was last seen and when it was found, and may have stopped as it should.
///
/// # Errors
/// What the database says.
pub fn not_by_restore(connection: &mut DbConnection, known: Vec<Known>) -> QueryResult<Vec<Known>> {
    // Nothing of ours is from a time to come.
    let end = moment(SystemTime::now() + DEAD_AFTER);
    let mut left = Vec::new();
    for known in known {
        let restored = command_history::table
            .filter(command_history::kind.eq(Kind::Admin.name()))
            .filter(command_history::method.eq(BACKUP_RESTORE))
            .filter(command_history::created_at.ge(known.seen_at))
            .filter(command_history::created_at.le(known.stopped_at.unwrap_or(end)));
        if restored.select(command_history::id).first::<i64>(connection).optional()?.is_none() {
            left.push(known);
        }
    }
    Ok(left)
}

/// When this process of this host began to serve, as the wall's clock said then; none when it is not known.
///
/// # Errors
/// What the database says.
pub fn began(connection: &mut DbConnection, pid: i64) -> QueryResult<Option<SystemTime>> {
    let found = instances::table
        .filter(instances::stopped_at.is_null())
        .filter(instances::pid.eq(pid).and(instances::host.eq(host())));
    let found: Option<NaiveDateTime> =
        found.order(instances::seen_at.desc()).select(instances::started_at).first(connection).optional()?;
    Ok(found.map(|at| at.and_utc().into()))
}

/// On this host the process table knows; elsewhere silence tells. A process with our own number was before us.
fn is_dead(known: &Known, now: NaiveDateTime, host: &str, runs: impl Fn(i64) -> bool) -> bool {
    let silent = now.signed_duration_since(known.seen_at);
    let is_silent = silent.to_std().is_ok_and(|silent| silent > DEAD_AFTER);
    let is_gone = known.host == host && (known.pid == i64::from(std::process::id()) || !runs(known.pid));
    is_silent || is_gone
}

fn runs(pid: i64) -> bool {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(rustix::process::Pid::from_raw);
    // A process of somebody else's exists, too: only "no such process" means that it is gone.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Whether it is one of this machine or container.
pub fn is_here(known: &Known) -> bool {
    known.host == host()
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_told_from_the_living() {
        let now = moment(SystemTime::now());
        let known = |host: &str, pid: i64, silent_seconds: u64| Known {
            instance_id: "x".to_owned(),
            started_at: now,
            seen_at: now - Duration::from_secs(silent_seconds),
            stopped_at: None,
            host: host.to_owned(),
            pid,
            version: String::new(),
        };
        let own = i64::from(std::process::id());
        let judge = |known: &Known| is_dead(known, now, "here", |pid| pid == 77);
        assert!(!judge(&known("here", 77, 5)), "a running neighbour lives");
        assert!(judge(&known("here", 78, 5)), "its process is gone");
        assert!(judge(&known("here", own, 5)), "a container's process number 1 was somebody else before");
        assert!(!judge(&known("there", 78, 5)), "another host's processes cannot be seen");
        assert!(judge(&known("there", 78, 61)));
        assert!(judge(&known("here", 77, 61)), "its number was given to another process");
    }

    #[test]
    fn this_process_runs_and_an_impossible_one_does_not() {
        assert!(runs(i64::from(std::process::id())));
        assert!(!runs(i64::from(i32::MAX)) && !runs(-1) && !runs(i64::MAX));
    }
}
