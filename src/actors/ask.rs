//! The only way to wait for an actor: with a deadline, and three ways to fail that never mix.

use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, MailboxError, Message};

/// Why an actor's reply is not there.
#[derive(Debug, thiserror::Error)]
pub enum AskError<E> {
    /// No room in the mailbox, or no reply, within the deadline.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The actor panicked over this message, or is gone.
    #[error("the actor crashed over this message or is gone")]
    Closed,
    /// It replied, with its own error.
    #[error("{0}")]
    Reply(E),
}

/// Sends `message` and waits for the reply, `deadline` at most.
///
/// # Errors
/// See [`AskError`].
pub async fn ask<A, M, T, E>(to: &Addr<A>, message: M, deadline: Duration) -> Result<T, AskError<E>>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    match tokio::time::timeout(deadline, to.send(message)).await {
        Err(_) | Ok(Err(MailboxError::Timeout)) => Err(AskError::TimedOut(deadline)),
        Ok(Err(MailboxError::Closed)) => Err(AskError::Closed),
        Ok(Ok(reply)) => reply.map_err(AskError::Reply),
    }
}
