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

/// Writes that something was done, under a seal.
///
/// # Errors
/// What the database says.
pub fn record(connection: &mut DbConnection, notary: &Notary, act: &str, detail: &str) -> QueryResult<()> {
    let instance = Instance::begin();
    let call_id = format!("{}-1", instance.id);
    let row = NewEntry {
        instance_id: &instance.id,
        seq: 1,
        call_id: &call_id,
        round: 0,
        kind: Kind::Admin.name(),
        created_at: Stamp(moment(SystemTime::now())),
        method: Some(Cow::Borrowed(act)),
        plugin: None,
        tool: None,
        caller: Some(Cow::Borrowed("local")),
        client: None,
        session: None,
        protocol_version: None,
        status: Some(Status::Success.name()),
        error_code: None,
        duration_us: None,
        arguments: None,
        result_bytes: None,
        request_id: None,
        trace_id: None,
        detail: Some(Cow::Borrowed(detail)),
        behind: None,
    };
    instances::register(connection, &instance)?;
    let mut head = Head::default();
    history::append(connection, &mut head, std::iter::once(row))?;
    notary.write(connection, &instance.id, head, Mark::Head)?;
    instances::stopped(connection, &instance.id)
}
