//! The threads that plugins live on, several on each. One that is held up by what lives there is left to it, and another
//! gets its number. Must not know plugins.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_rt::Arbiter;

use super::super::{StartError, on};

/// How long a thread may take to take what shall live on it.
const SEAT_WITHIN: Duration = Duration::from_secs(10);
/// Threads, the first apart.
const COUNT: usize = 2;
/// So many threads may be lost to what holds them up: each costs memory for as long as the process lives.
const LOST_MAX: usize = 16;

/// The threads, made as they are needed.
#[derive(Default)]
pub(super) struct Threads {
    all: [Mutex<Option<Arc<Arbiter>>>; 1 + COUNT],
    next: AtomicUsize,
    lost: AtomicUsize,
}

impl Threads {
    /// The number of the thread for plugins of the binary.
    pub(super) const FIRST: usize = 0;

    /// The number of a thread for one more plugin; all are given in turn.
    pub(super) fn next(&self) -> usize {
        1 + self.next.fetch_add(1, Ordering::Relaxed) % COUNT
    }

    /// Makes something on the thread of this number, and on a fresh one should that be held up.
    pub(super) async fn make<T, F>(&self, number: usize, make: impl Fn() -> F) -> Result<T, StartError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let thread = self.thread(number)?;
        if let Ok(made) = tokio::time::timeout(SEAT_WITHIN, on(&thread, make())).await {
            return made;
        }
        let fresh = self.instead_of(number, &thread)?;
        let made = tokio::time::timeout(SEAT_WITHIN, on(&fresh, make())).await;
        made.unwrap_or_else(|_elapsed| {
            Err(StartError::Part(format!("no thread took it within {} s", SEAT_WITHIN.as_secs())))
        })
    }

    fn thread(&self, number: usize) -> Result<Arc<Arbiter>, StartError> {
        let mut place = self.place(number)?.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(place.get_or_insert_with(|| Arc::new(Arbiter::new()))))
    }

    /// The thread that takes the number of one that is held up, unless another has it by now.
    fn instead_of(&self, number: usize, held_up: &Arc<Arbiter>) -> Result<Arc<Arbiter>, StartError> {
        let mut place = self.place(number)?.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = place.as_ref().filter(|there| !Arc::ptr_eq(there, held_up)) {
            return Ok(Arc::clone(there));
        }
        if self.lost.fetch_add(1, Ordering::Relaxed) >= LOST_MAX {
            return Err(StartError::Part(format!(
                "{LOST_MAX} threads for plugins are held up by what lives on them, and there is no other: restart the server"
            )));
        }
        log::warn!("a thread that plugins live on is held up, and further plugins get another one");
        let fresh = Arc::new(Arbiter::new());
        *place = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    fn place(&self, number: usize) -> Result<&Mutex<Option<Arc<Arbiter>>>, StartError> {
        self.all.get(number).ok_or_else(|| StartError::Part("no thread for plugins".to_owned()))
    }
}
