//! An administrative act done from outside of a server: a row of its own, by an instance that does nothing else. Must not know
//! which acts there are.

use std::borrow::Cow;
use std::time::SystemTime;

use diesel::QueryResult;

use super::DbConnection;
use super::checkpoints::{Mark, Notary};
use super::history::{self, Head, Kind, NewEntry, Status, moment};
use super::instances::{self, Instance};
use super::stamp::Stamp;

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
    instances::register(connection, &instance)?;
    let mut head = Head::default();
    history::append_within(connection, &mut head, row)?;
    notary.write(connection, &instance.id, head, Mark::Head)?;
    instances::stopped(connection, &instance.id)
}
