//! Calls that a limit refuses: those of a tool with limits of its own, and what is counted and recorded of any.
//!
//! Must not know who holds the other limits.

use std::sync::Arc;

use super::Bench;
use super::messages::Perform;
use super::rounds::Round;
use crate::access::Caller;
use crate::access::limits::{Excess, Running};
use crate::actors::db::Record;
use crate::catalog::ToolEntry;
use crate::error::{ErrorCode, Fault};
use crate::protocol::Method;
use crate::storage::history::{Kind, Status};
use crate::telemetry::metrics::METRICS;

/// Takes what a call uses up of its tool's limits. The rounds of one call are one request, or whoever was asked something
/// would be refused with the answer in hand.
///
/// # Errors
/// One of the limits was reached.
pub(super) fn begin(perform: &Perform, round: &Round) -> Result<Option<Running>, Excess> {
    let Some(allowance) = perform.task.allowance() else { return Ok(None) };
    // A place that is not there must cost no request.
    let place = allowance.begin()?;
    if round.number == 0 {
        allowance.spend()?;
    }
    Ok(place)
}

/// Looks whether a first round of a call would be let through by its tool's limits, in the order of [`begin`], and takes nothing.
///
/// # Errors
/// One of the limits is reached.
pub fn look(tool: &ToolEntry) -> Result<(), Excess> {
    let Some(allowance) = &tool.allowance else { return Ok(()) };
    allowance.look()?;
    allowance.could_spend()
}

/// Counts that a limit was reached; what is said of it.
pub fn refuse(excess: Excess) -> Fault {
    METRICS.limited.with_label_values(&[excess.of.name(), excess.limit.label()]).inc();
    excess.into()
}

/// A call that was refused at the door.
pub struct Refused<'a> {
    /// Who wanted it.
    pub caller: &'a Caller,
    /// What it would have been.
    pub method: Method,
    /// Of what, as far as there is such a thing: the plugin and the name that history gives it.
    pub target: Option<(Arc<str>, Arc<str>)>,
    /// What logs and history call its session, if it has one.
    pub session: Option<&'a Arc<str>>,
    /// The request.
    pub request_id: &'a Arc<str>,
    /// The trace that its client says that it is part of.
    pub trace_id: Option<Arc<str>>,
    /// Which limit, whose.
    pub detail: String,
    /// What was answered.
    pub code: ErrorCode,
}

/// Records that a call was refused at the door.
pub fn record(bench: &Bench, refused: Refused<'_>) {
    let (plugin, tool) = refused.target.unzip();
    bench.recorder.record(Record {
        plugin,
        tool,
        caller: Some(Arc::clone(&refused.caller.principal)),
        session: refused.session.cloned(),
        status: Some(Status::Failed),
        error_code: Some(refused.code.name()),
        duration_us: Some(0),
        request_id: Some(Arc::clone(refused.request_id)),
        trace_id: refused.trace_id,
        detail: Some(refused.detail.into()),
        ..Record::new(Kind::Outcome, Arc::clone(refused.request_id), refused.method.name())
    });
}
