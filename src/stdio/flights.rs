//! The requests that are in flight: what each is, and how it is cancelled. Must not know how one is carried out.

use std::cell::RefCell;
use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use crate::error::{ErrorCode, Fault};
use crate::protocol::Id;

/// Requests in flight at once.
const FLIGHTS_MAX: usize = 256;

/// What is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request that stands for itself: letting go of it cancels it.
    Alone,
    /// A `subscriptions/listen`, which ends with a word of its own.
    Listen,
    /// A request in a session: the server is told that it is cancelled.
    InSession,
}

/// All of them, by their id's JSON.
#[derive(Debug, Default)]
pub struct Flights(RefCell<HashMap<String, Flight>>);

#[derive(Debug)]
struct Flight {
    id: Id,
    kind: Kind,
    cancel: CancellationToken,
}

impl Flights {
    /// Notes requests of one message as in flight. The token is tripped when they are cancelled here.
    ///
    /// # Errors
    /// When an id is in use, or too many are in flight; then none is noted.
    pub fn begin(&self, ids: &[Id], kind: Kind) -> Result<CancellationToken, Fault> {
        let mut flights = self.0.borrow_mut();
        if let Some(id) = ids.iter().find(|id| flights.contains_key(id.as_str())) {
            return Err(Fault::new(
                ErrorCode::InvalidRequest,
                format!("a request with the id {} is in flight already", id.as_str()),
                "give each request an id of its own",
            ));
        }
        if flights.len() + ids.len() > FLIGHTS_MAX {
            return Err(Fault::new(
                ErrorCode::Unavailable,
                format!("{FLIGHTS_MAX} requests are in flight"),
                "wait for some of them to end, and retry",
            ));
        }
        let cancel = CancellationToken::new();
        for id in ids {
            let flight = Flight { id: id.detached(), kind, cancel: cancel.clone() };
            flights.insert(id.as_str().to_owned(), flight);
        }
        Ok(cancel)
    }

    /// Takes one out, since it is answered: what it was. None when it was cancelled, or never there.
    pub fn conclude(&self, id: &str) -> Option<Kind> {
        self.0.borrow_mut().remove(id).map(|flight| flight.kind)
    }

    /// Cancels one, unless it is a session's and the server must be told: what it was.
    pub fn cancel(&self, id: &str) -> Option<Kind> {
        let flight = self.0.borrow_mut().remove(id)?;
        if flight.kind != Kind::InSession {
            flight.cancel.cancel();
        }
        Some(flight.kind)
    }

    /// Whether one of these is still in flight.
    pub fn has_any(&self, ids: &[Id]) -> bool {
        let flights = self.0.borrow();
        ids.iter().any(|id| flights.contains_key(id.as_str()))
    }

    /// Takes out those of a kind, or all, and stops what works on them.
    pub fn take(&self, of: Option<Kind>) -> Vec<Id> {
        let mut flights = self.0.borrow_mut();
        let taken = flights.extract_if(|_, flight| of.is_none_or(|of| of == flight.kind));
        taken
            .map(|(_, flight)| {
                flight.cancel.cancel();
                flight.id
            })
            .collect()
    }
}
