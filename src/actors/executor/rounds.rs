//! The rounds of a call that asks its client: what a retry brings is opened, what the next round needs is sealed.
//!
//! MCP 2026-07-28, basic/patterns/mrtr. Must not know how the call is run.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::messages::{Perform, Task};
use crate::access::{SealError, Sealed, Sealer, digest_of};
use crate::error::Fault;
use crate::protocol::{Answers, Raw};

/// Where a call stands.
#[derive(Debug, Clone)]
pub struct Round {
    /// Shared by all rounds: the request id of the first.
    pub call_id: Arc<str>,
    /// 0 for the first.
    pub number: u32,
    /// What the retry brought.
    pub answers: Answers,
    /// Where the plugin sits that asked the round before.
    pub seat: Option<u64>,
}

/// Opens what the request brings from the round before, if there was one.
///
/// # Errors
/// -32602 for a state that was changed, has expired or belongs to another request.
pub fn open(perform: &mut Perform, sealer: &Sealer) -> Result<Round, Fault> {
    let responses = std::mem::take(&mut perform.responses);
    let refusals = std::mem::take(&mut perform.refusals);
    let Some(state) = perform.state.take() else {
        let call_id = Arc::clone(&perform.request_id);
        return Ok(Round { call_id, number: 0, answers: Answers::new(responses, None), seat: None });
    };
    let opened = sealer.open(&state, &perform.caller.principal, &request_of(perform), now());
    let sealed = opened.map_err(|error| {
        let advice = match error {
            SealError::Expired => "call again without `requestState` and `inputResponses`",
            _ => "echo the `requestState` of the last result unchanged, with the same parameters and the same credentials",
        };
        Fault::invalid_params(format!("`requestState` is refused: {error}"), advice)
    })?;
    let state = sealed.state.as_ref().map(Raw::value);
    Ok(Round {
        call_id: sealed.call_id.into(),
        number: sealed.round,
        answers: Answers::new(responses, state).refusing(refusals),
        seat: sealed.seat,
    })
}

/// Seals what the next round will need.
///
/// # Errors
/// Our fault, when the seal cannot be made.
pub fn seal(
    perform: &Perform,
    round: &Round,
    state: Option<Value>,
    sealer: &Sealer,
    input_timeout_seconds: u64,
) -> Result<String, Fault> {
    let sealed = Sealed {
        principal: perform.caller.principal.to_string(),
        request: request_of(perform),
        seat: Some(perform.task.seat().number),
        round: round.number.saturating_add(1),
        call_id: round.call_id.to_string(),
        expires_at: now().saturating_add(input_timeout_seconds),
        state,
    };
    sealer
        .seal(&sealed)
        .map_err(|error| Fault::internal(format!("requestState could not be sealed: {error}")))
}

/// What a state belongs to: the same request in the same view.
pub(super) fn request_of(perform: &Perform) -> String {
    let task = &perform.task;
    let arguments = match task {
        Task::Tool { value, .. } => Cow::Borrowed(value),
        Task::Prompt { arguments, .. } => Cow::Owned(arguments.read().unwrap_or_default()),
        Task::Read { .. } | Task::Complete { .. } => Cow::Owned(Value::Null),
    };
    let method = task.method().name();
    match perform.view.name() {
        None => digest_of(method, &task.target(), &arguments),
        Some(view) => digest_of(&format!("{method} in {view}"), &task.target(), &arguments),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
