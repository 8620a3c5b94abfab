//! Flights: calls that ask the same at the same time are one call, and all get its answer.
//!
//! Who asks first leads. The call goes on as long as anybody waits for it; when it brings no answer that others may have,
//! each of them is told to ask by itself. Must not know what is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::kept::Kept;
use super::key::Key;

/// What becomes of a flight.
#[derive(Clone)]
enum Landing {
    /// An answer for all.
    Kept(Arc<Kept>),
    /// None that others may have.
    Alone,
}

struct Flight {
    key: Key,
    /// Who still wants the answer; a flight with nobody aboard is over, and nobody can board it.
    aboard: AtomicUsize,
    /// Trips when nobody wants it any more.
    cancel: CancellationToken,
    landed: watch::Sender<Option<Landing>>,
}

/// All that are under way.
#[derive(Default)]
pub struct Flights(DashMap<Key, Arc<Flight>>);

/// How somebody is aboard.
pub enum Boarding {
    /// It asked first, and makes the call.
    Leads(Lead),
    /// The call is under way.
    Waits(Wait),
}

impl Flights {
    /// Boards the flight for this question, or begins one.
    pub fn board(self: &Arc<Self>, key: Key) -> Boarding {
        let mut entry = match self.0.entry(key) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => {
                let flight = Flight::new(key);
                entry.insert(Arc::clone(&flight));
                return Boarding::Leads(Lead::of(self, flight));
            }
        };
        if let Some(place) = Place::in_flight(entry.get()) {
            return Boarding::Waits(Wait { place, landed: entry.get().landed.subscribe() });
        }
        let flight = Flight::new(key);
        entry.insert(Arc::clone(&flight));
        Boarding::Leads(Lead::of(self, flight))
    }

    /// Ends a flight, so that who comes now begins another.
    fn end(&self, flight: &Arc<Flight>, landing: Landing) {
        let _was_there = self.0.remove_if(&flight.key, |_, other| Arc::ptr_eq(other, flight));
        flight.landed.send_if_modified(|landed| {
            let is_first = landed.is_none();
            if is_first {
                *landed = Some(landing);
            }
            is_first
        });
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.0.len()
    }
}

impl Flight {
    fn new(key: Key) -> Arc<Self> {
        Arc::new(Self {
            key,
            aboard: AtomicUsize::new(1),
            cancel: CancellationToken::new(),
            landed: watch::Sender::new(None),
        })
    }
}

/// A place aboard, given up when it is dropped.
struct Place(Arc<Flight>);

impl Place {
    fn in_flight(flight: &Arc<Flight>) -> Option<Self> {
        let more = |aboard: usize| (aboard > 0).then_some(aboard + 1);
        let boarded = flight.aboard.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        boarded.is_ok().then(|| Self(Arc::clone(flight)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.aboard.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.cancel.cancel();
        }
    }
}

/// Who makes the call. Dropped without an answer, the others ask by themselves.
pub struct Lead {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    /// None once it does not want the answer itself any more.
    place: Option<Place>,
}

impl Lead {
    fn of(flights: &Arc<Flights>, flight: Arc<Flight>) -> Self {
        Self { flights: Arc::clone(flights), place: Some(Place(Arc::clone(&flight))), flight }
    }

    /// Trips when nobody waits for the call any more.
    pub fn cancel(&self) -> CancellationToken {
        self.flight.cancel.clone()
    }

    /// It does not want the answer itself any more; the call goes on for the others, if there are any.
    pub fn leave(&mut self) {
        self.place = None;
    }

    /// What tells the others to ask by themselves, before the call is at its end.
    pub fn calls_off(&self) -> CallOff {
        CallOff { flights: Arc::clone(&self.flights), flight: Arc::clone(&self.flight) }
    }

    /// The call is at its end, with an answer for all.
    pub fn land(self, kept: Arc<Kept>) {
        self.flights.end(&self.flight, Landing::Kept(kept));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights.end(&self.flight, Landing::Alone);
    }
}

/// Tells who waits to ask by themselves.
pub struct CallOff {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
}

impl CallOff {
    /// Now.
    pub fn now(&self) {
        self.flights.end(&self.flight, Landing::Alone);
    }
}

/// Who waits for the call of another.
pub struct Wait {
    place: Place,
    landed: watch::Receiver<Option<Landing>>,
}

impl Wait {
    /// The answer; none when it must be asked for once more.
    pub async fn landed(mut self) -> Option<Arc<Kept>> {
        let landed = self.landed.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone());
        drop(self.place);
        match landed {
            Some(Landing::Kept(kept)) => Some(kept),
            Some(Landing::Alone) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use futures_util::FutureExt as _;

    use super::*;
    use crate::protocol::Raw;
    use crate::protocol::render::{self, ServerInfo};

    fn kept() -> Arc<Kept> {
        let result = render::complete(&Raw::trusted("{}"), &ServerInfo::new("w", "1")).unwrap();
        let (born, lasts) = (Instant::now(), Duration::from_secs(1));
        Arc::new(Kept { result, plugin: "p".into(), uri: None, born, lasts, says: None })
    }

    fn leads(flights: &Arc<Flights>) -> Lead {
        match flights.board(Key::of(&[b"k"])) {
            Boarding::Leads(lead) => lead,
            Boarding::Waits(_) => panic!("somebody leads already"),
        }
    }

    fn waits(flights: &Arc<Flights>) -> Wait {
        match flights.board(Key::of(&[b"k"])) {
            Boarding::Waits(wait) => wait,
            Boarding::Leads(_) => panic!("nobody leads"),
        }
    }

    #[tokio::test]
    async fn all_get_the_answer_of_the_one_call() {
        let flights = Arc::<Flights>::default();
        let lead = leads(&flights);
        let (one, other) = (waits(&flights), waits(&flights));
        assert!(waits(&flights).landed().now_or_never().is_none());
        lead.land(kept());
        assert!(one.landed().await.is_some() && other.landed().await.is_some());
        assert_eq!(flights.count(), 0);
    }

    #[tokio::test]
    async fn a_call_without_an_answer_for_all_leaves_each_to_ask_by_itself() {
        let flights = Arc::<Flights>::default();
        let lead = leads(&flights);
        let wait = waits(&flights);
        drop(lead);
        assert!(wait.landed().await.is_none());
        let lead = leads(&flights);
        let wait = waits(&flights);
        lead.calls_off().now();
        assert!(wait.landed().await.is_none());
        // Who comes now begins another, which the end of the first leaves alone.
        let second = leads(&flights);
        drop(lead);
        let wait = waits(&flights);
        second.land(kept());
        assert!(wait.landed().await.is_some());
    }

    #[tokio::test]
    async fn the_call_is_cancelled_when_the_last_leaves_and_not_before() {
        let flights = Arc::<Flights>::default();
        let mut lead = leads(&flights);
        let (one, other) = (waits(&flights), waits(&flights));
        lead.leave();
        drop(one);
        assert!(!lead.cancel().is_cancelled());
        drop(other);
        assert!(lead.cancel().is_cancelled());
        // Nobody boards what is cancelled.
        let another = leads(&flights);
        assert!(!another.cancel().is_cancelled());
        drop(lead);
        assert_eq!(flights.count(), 1);
    }
}
