//! One question to a server and its answer, for the few that no client waits for: probes, handshakes, lists.
//!
//! Must not know what is asked, nor what the answer means.

use std::future::Future;

use tokio::time::{Instant, timeout_at};

use super::compose;
use super::link::{Link, LinkError, Outgoing, id_of};
use crate::protocol::{Incoming, Raw, RpcError};
use crate::telemetry::letters::is_harmful;

/// JSON-RPC's code for a method that is not there.
pub const METHOD_NOT_FOUND: i64 = -32601;

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProbeError {
    /// The link did not carry.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The server answered with an error.
    #[error("it answered with error {}: {}", .0.code, shortened(&.0.message))]
    Refused(RpcError),
    /// It answered, but not with what was asked for.
    #[error("{0}")]
    Nonsense(String),
    /// It did not answer in time.
    #[error("it did not answer {0} in time")]
    Late(&'static str),
}

/// How much of a server's text is shown.
const SHOWN_CHARS_MAX: usize = 500;

/// A server's text, no longer than may be shown, and without what would disturb a terminal.
pub fn shortened(text: &str) -> String {
    let visible = |letter: char| if is_harmful(letter) { ' ' } else { letter };
    let mut letters = text.chars().map(visible);
    let mut shown: String = letters.by_ref().take(SHOWN_CHARS_MAX).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Waits no longer than until `deadline`.
///
/// # Errors
/// `Late`, for what is called `what`.
pub async fn within<T>(
    deadline: Instant,
    what: &'static str,
    work: impl Future<Output = T>,
) -> Result<T, ProbeError> {
    timeout_at(deadline, work).await.map_err(|_elapsed| ProbeError::Late(what))
}

/// Asks and waits for the result. What else comes meanwhile is passed over; requests are answered, with an empty result
/// for `ping` and a refusal for all others.
///
/// # Errors
/// When the link does not carry, the server refuses, or no answer comes until `deadline`.
pub async fn ask(link: &dyn Link, request: Outgoing, deadline: Instant) -> Result<Raw, ProbeError> {
    let (id, method) = (request.id, request.method);
    within(deadline, method, answer_to(link, id, request)).await?
}

async fn answer_to(link: &dyn Link, own: u64, request: Outgoing) -> Result<Raw, ProbeError> {
    let version = request.version;
    let mut flow = link.ask(request).await?;
    while let Some(message) = flow.next().await {
        match message? {
            Incoming::Response { id, outcome } if is_mine(id.as_ref(), own, &outcome) => {
                return outcome.map_err(|error| ProbeError::Refused(veiled(link, error)));
            }
            Incoming::Request { id, method, .. } => {
                let answer = match method.as_str() {
                    "ping" => compose::answer(&id, &Raw::empty_object()),
                    _ => compose::refusal(&id, METHOD_NOT_FOUND, "this client does not answer that now"),
                };
                link.tell(answer, version).await?;
            }
            Incoming::Response { .. } | Incoming::Notification { .. } => {}
        }
    }
    Err(LinkError::Broken("it closed the connection before its answer".to_owned()).into())
}

/// A server's error as it may be seen: servers repeat in it what they were given.
pub fn veiled(link: &dyn Link, error: RpcError) -> RpcError {
    // Masks hold nothing that JSON would not take, and what is not JSON any more is not repeated.
    let whole =
        error.whole.and_then(|whole| Raw::parse(link.veiled(whole.as_str()).into()).ok()).map(Box::new);
    RpcError { message: link.veiled(&error.message), whole, ..error }
}

/// Whether a response on the flow of request `own` answers it. An error without an id does: the server could not read
/// the id, and nothing else was sent there.
pub fn is_mine(id: Option<&Raw>, own: u64, outcome: &Result<Raw, RpcError>) -> bool {
    match id {
        Some(id) => id_of(id) == Some(own),
        None => outcome.is_err(),
    }
}
