//! What is recorded of a call: its intent before it runs (strict only), its outcome after. Must not know rows or SQL.

use std::sync::Arc;
use std::time::Duration;

use super::messages::{Done, Perform};
use super::rounds::Round;
use super::{Bench, CANCELLED};
use crate::actors::db::{Behind, Record, RecordError, Recorder};
use crate::error::{ErrorCode, Fault};
use crate::storage::history::{Kind, Status};

/// Records that a call is about to run, and waits until that is on disk.
///
/// # Errors
/// `Unavailable`: then the call must not run.
pub async fn intend(recorder: &Recorder, perform: &Perform, round: &Round) -> Result<(), Fault> {
    let mut record = describe(Kind::Intent, perform, round);
    capture(&mut record, perform);
    recorder.record_durably(record).await.map_err(|error| {
        if error == RecordError::Late {
            // The intent may land yet; the outcome behind it says that the call never ran.
            let mut outcome = describe(Kind::Outcome, perform, round);
            outcome.status = Some(Status::Failed);
            outcome.error_code = Some(ErrorCode::Unavailable.name());
            recorder.record(outcome);
        }
        Fault::new(
            ErrorCode::Unavailable,
            "the call was not run, since it could not be recorded first",
            "retry after a moment; the operator finds the reason under /health",
        )
        .because(error)
    })
}

/// How an answer came.
pub enum Way {
    /// From the plugin, if from anywhere; with what was done behind it.
    Ran(Option<Box<Behind>>),
    /// From the cache, in these words.
    Kept(&'static str),
}

/// Records how a call ended; in strict, waits until that is on disk.
///
/// # Errors
/// Our fault, which says that the call ran and how that is not recorded (strict only).
pub async fn conclude(
    bench: &Bench,
    perform: &Perform,
    round: &Round,
    done: &Result<Done, Fault>,
    took: Duration,
    way: Way,
) -> Result<(), Fault> {
    let mut record = describe(Kind::Outcome, perform, round);
    record.duration_us = Some(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    match way {
        Way::Ran(behind) => record.behind = behind,
        Way::Kept(how) => record.detail = Some(how.into()),
    }
    match done {
        Ok(done) => {
            record.status = Some(status_of(done.outcome));
            record.result_bytes = Some(done.result.bytes().len() as u64);
        }
        Err(fault) => {
            record.status = Some(status_of_fault(fault));
            record.error_code = Some(fault.code.name());
        }
    }
    if !bench.strict {
        capture(&mut record, perform);
        bench.recorder.record(record);
        return Ok(());
    }
    Box::pin(bench.recorder.record_durably(record)).await.map_err(|error: RecordError| {
        Fault::new(
            ErrorCode::Internal,
            "the call ran, but its outcome could not be recorded",
            "do not repeat it without looking at its effect; the operator finds the reason under /health",
        )
        .because(error)
    })
}

/// The arguments, and what of them is for nobody to read.
fn capture(record: &mut Record, perform: &Perform) {
    record.arguments = perform.task.arguments().cloned();
    record.hidden = perform.task.hidden().cloned();
}

fn describe(kind: Kind, perform: &Perform, round: &Round) -> Record {
    let task = &perform.task;
    Record {
        round: round.number,
        plugin: Some(Arc::clone(&task.seat().name)),
        tool: Some(task.canonical()),
        caller: Some(Arc::clone(&perform.caller.principal)),
        client: perform.client_name.clone(),
        session: perform.session.clone(),
        protocol_version: Some(perform.revision.name().into()),
        request_id: Some(Arc::clone(&perform.request_id)),
        trace_id: perform.trace.id().map(Arc::from),
        ..Record::new(kind, Arc::clone(&round.call_id), task.method().name())
    }
}

fn status_of(outcome: &str) -> Status {
    match outcome {
        "input_required" => Status::InputRequired,
        "tool_error" => Status::Failed,
        _ => Status::Success,
    }
}

fn status_of_fault(fault: &Fault) -> Status {
    match fault.code {
        ErrorCode::DeadlineExceeded => Status::Timeout,
        _ if fault.message == CANCELLED => Status::Cancelled,
        _ => Status::Failed,
    }
}
