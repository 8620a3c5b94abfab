//! Checks that may take long: of arguments and results that are large for the schema that they must fit.
//!
//! They run on the plugin's own threads, under the call's deadline, so that no schema holds up whoever else is served here.
//! Must not know how the plugin is run.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::messages::{Perform, Task};
use super::{cancelled, context_of, outcome, too_late};
use crate::catalog::{Check, Schema, ToolEntry};
use crate::error::Fault;
use crate::protocol::Raw;

/// What the arguments of a tool lack; nothing if they fit.
///
/// # Errors
/// It could not be found out in time.
pub(super) async fn arguments(
    perform: &Perform,
    entry: &ToolEntry,
    (arguments, value): (&Raw, &Value),
    deadline: Instant,
) -> Result<Option<String>, Fault> {
    if entry.input.is_soon_checked(arguments.bytes().len()) {
        return Ok(entry.input.check(value).err());
    }
    let (schema, arguments) = (Arc::clone(&entry.input), arguments.clone());
    // Read once more over there: to copy what was read would hold this thread up, too.
    Box::pin(at_length(perform, deadline, move || check(&schema, arguments.as_str(), Schema::check))).await
}

/// What the structured part of a tool's result lacks, if finding out may take long; what takes a moment is left to
/// [`outcome::complete`].
///
/// # Errors
/// It could not be found out in time.
pub(super) async fn result(
    perform: &Perform,
    result: &Raw,
    deadline: Instant,
) -> Result<Option<String>, Fault> {
    let Task::Tool { entry, .. } = &perform.task else { return Ok(None) };
    let Some(schema) = &entry.output else { return Ok(None) };
    if schema.is_soon_checked(result.bytes().len()) {
        return Ok(None);
    }
    let (schema, result) = (Arc::clone(schema), result.clone());
    let look = move || match result.read::<Structured<'_>>() {
        // That it is amiss is found and said where every result is looked at.
        Err(_)
        | Ok(Structured { is_error: Some(true), .. } | Structured { structured_content: None, .. }) => None,
        Ok(Structured { structured_content: Some(structured), .. }) => {
            check(&schema, structured.get(), Schema::check_hiding)
        }
    };
    Box::pin(at_length(perform, deadline, look)).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Structured<'a> {
    is_error: Option<bool>,
    #[serde(borrow)]
    structured_content: Option<&'a RawValue>,
}

/// What is wrong with arguments is for who sent them; what is wrong with a result goes to the log, which must not have it.
fn check(schema: &Schema, json: &str, way: Check) -> Option<String> {
    match serde_json::from_str(json) {
        Ok(value) => schema.check_at_length(&value, way).err(),
        Err(error) => Some(error.to_string()),
    }
}

/// Runs `look` on a thread of the plugin, and waits for it no longer than for the call.
async fn at_length<T: Send + 'static>(
    perform: &Perform,
    deadline: Instant,
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let context = context_of(perform, deadline);
    tokio::select! {
        biased;
        looked = context.blocking(look) => looked.map_err(|error| outcome::fault_of(&perform.task, error)),
        () = tokio::time::sleep_until(deadline) => Err(too_late(&perform.task)),
        () = perform.cancel.cancelled() => Err(cancelled()),
    }
}
