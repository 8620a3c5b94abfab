//! An administrative act done from outside of a server: a row of its own, by an instance that does nothing else. Must not know
//! when they are done.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::SystemTime;

use chrono::NaiveDateTime;
use diesel::dsl::min;
use diesel::{
    ExpressionMethods as _, QueryDsl as _, QueryResult, RunQueryDsl as _, TextExpressionMethods as _,
};

use super::DbConnection;
use super::checkpoints::{Mark, Notary};
use super::history::{self, Head, Kind, NewEntry, Status, moment};
use super::instances::{self, Instance};
use super::schema::command_history;
use super::stamp::Stamp;

/// A server serves.
pub const SERVER_START: &str = "server/start";
/// A server has stopped serving.
pub const SERVER_STOP: &str = "server/stop";
/// The plugins' folder was read again.
pub const PLUGINS_RELOAD: &str = "plugins/reload";
/// A plugin or bundle came.
pub const PLUGINS_ADD: &str = "plugins/add";
/// One took the place of what had its name.
pub const PLUGINS_CHANGE: &str = "plugins/change";
/// One went.
pub const PLUGINS_REMOVE: &str = "plugins/remove";
/// The files of the certificate were read again, and held another one, or a bad one.
pub const TLS_RELOAD: &str = "tls/reload";
/// A key was shown that is not taken.
pub const KEYS_REFUSE: &str = "keys/refuse";
/// Answers that were kept were forgotten.
pub const CACHE_CLEAR: &str = "cache/clear";
/// The processor's time was sampled.
pub const PROFILE_CPU: &str = "profile/cpu";
/// Old rows were deleted.
pub const HISTORY_PRUNE: &str = "history/prune";
/// A backup was made.
pub const BACKUP_CREATE: &str = "backup/create";
/// Old backups were removed.
pub const BACKUP_PRUNE: &str = "backup/prune";
/// A backup took the place of what was there.
pub const BACKUP_RESTORE: &str = "backup/restore";
/// The database was made empty.
pub const DB_RESET: &str = "db/reset";
/// The database's file was not at its path any more, and something took its place.
pub const DB_MOVED: &str = "db/moved";
/// The schema was brought up to date, or back by a step.
pub const DB_MIGRATE: &str = "db/migrate";
/// What was not used any more was given back.
pub const DB_VACUUM: &str = "db/vacuum";
/// The doctor mended something.
pub const DOCTOR_FIX: &str = "doctor/fix";

/// THE TABLE of acts: what the history calls them, and when there is one. `docs/operations.md` shows it.
#[rustfmt::skip] // a table
pub const TABLE: &[(&[&str], &str)] = &[
    (&[SERVER_START, SERVER_STOP], "a server serves from now on; it has stopped, and why. One without a stop was killed"),
    (&[PLUGINS_RELOAD], "the folder was read again: asked for by a key, by this user, by SIGHUP, or since a file changed"),
    (&[PLUGINS_ADD, PLUGINS_CHANGE, PLUGINS_REMOVE], "of each plugin or bundle that came, was replaced, or went"),
    (&["keys/create", "keys/rotate", "keys/limit", "keys/revoke", "keys/delete"], "over HTTP or on the command line"),
    (&[TLS_RELOAD], "the files of the certificate were read again, and held another one, or one that cannot be used"),
    (&[KEYS_REFUSE], "a key was shown that is not taken, with the reason and the address. 20 at once, then one a minute, however many come; the next row says how many were left out"),
    (&[BACKUP_CREATE, BACKUP_PRUNE, BACKUP_RESTORE, DB_RESET], "by the schedule or on the command line. A restored database holds the row from the start"),
    (&[DB_MIGRATE, DB_VACUUM], "on the command line: the schema was brought up to date, or back by a step; what was not used any more was given back"),
    (&[DB_MOVED], "the database's file was not at its path any more while a server ran: [what took its place](#a-database-file-that-is-not-at-its-path)"),
    (&[DOCTOR_FIX], "`doctor --fix` mended something: each thing that it did"),
    (&[CACHE_CLEAR], "what the cache held was forgotten"),
    (&[PROFILE_CPU], "the processor's time was sampled, and for how long; or why that could not be"),
    (&[HISTORY_PRUNE], "old rows were deleted"),
];

/// Who acts here: the user at the command line, as everywhere.
const CALLER: &str = "local";
const CLIENT: &str = concat!("waygate-mcp/", env!("CARGO_PKG_VERSION"));

/// What was done.
#[derive(Debug, Clone, Copy)]
pub struct Act<'a> {
    /// In the words of the history: `keys/create` and so on.
    pub name: &'a str,
    /// What it was done to, if that has a name.
    pub to: Option<&'a str>,
    /// Whatever else is worth saying.
    pub detail: &'a str,
}

/// Writes that something was done, under a seal. It may be within a transaction of the caller, and is then part of it.
///
/// # Errors
/// What the database says.
pub fn record(connection: &mut DbConnection, notary: &Notary, act: Act<'_>) -> QueryResult<()> {
    let instance = Instance::begin();
    let user = rustix::process::getuid().as_raw();
    let row = NewEntry {
        instance_id: &instance.id,
        seq: 1,
        call_id: &instance.id,
        round: 0,
        kind: Kind::Admin.name(),
        created_at: Stamp(moment(SystemTime::now())),
        method: Some(Cow::Borrowed(act.name)),
        plugin: None,
        tool: act.to.map(Cow::Borrowed),
        caller: Some(Cow::Borrowed(CALLER)),
        client: Some(Cow::Borrowed(CLIENT)),
        session: None,
        protocol_version: None,
        status: Some(Status::Success.name()),
        error_code: None,
        duration_us: None,
        arguments: None,
        result_bytes: None,
        request_id: None,
        trace_id: None,
        detail: Some(Cow::Owned(format!("{}, by user {user} on the command line", act.detail))),
        behind: None,
    };
    let mut head = Head::default();
    history::append_within(connection, &mut head, row)?;
    // Without a key nothing can be said of its end, and nobody shall miss that.
    if notary.has_key() {
        instances::register(connection, &instance)?;
        notary.write(connection, &instance.id, head, Mark::Head)?;
        instances::stopped(connection, &instance.id)?;
    }
    Ok(())
}

/// What was done to keys, as far as the history still tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfKeys {
    /// When something was first done to a key, by what the history calls it.
    pub first: BTreeMap<String, NaiveDateTime>,
    /// How far back the history goes; none when it tells of no act.
    pub since: Option<NaiveDateTime>,
}

/// What was done to keys, from the oldest act on that the history still has.
///
/// # Errors
/// What the database says.
pub fn of_keys(connection: &mut DbConnection) -> QueryResult<OfKeys> {
    let outcome = Kind::Outcome.name();
    // Said twice, since the index is of all that is no outcome.
    let acts = || {
        let others = command_history::table.filter(command_history::kind.ne(outcome));
        others.filter(command_history::kind.eq(Kind::Admin.name()))
    };
    let since = acts().select(min(command_history::created_at)).first(connection)?;
    let done: Vec<(Option<String>, NaiveDateTime)> = acts()
        .filter(command_history::method.like("keys/%"))
        .filter(command_history::status.eq(Status::Success.name()))
        .filter(command_history::tool.is_not_null())
        .order(command_history::created_at.desc())
        .select((command_history::tool, command_history::created_at))
        .load(connection)?;
    // The oldest comes last, and so stays.
    let first = done.into_iter().filter_map(|(key, at)| Some((key?, at))).collect();
    Ok(OfKeys { first, since })
}
