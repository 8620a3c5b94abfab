//! Whether the wall clock can be believed by who deletes by it: one that jumped ahead would delete all that there is. Must not
//! know what is deleted.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A jump ahead by more than this is doubted, and for as long: whoever looks after the machine has so much time to set it right.
const DOUBTED: Duration = Duration::from_secs(86_400);

/// The wall clock beside the one that never jumps.
pub struct Clock(Mutex<Seen>);

struct Seen {
    at: (SystemTime, Instant),
    /// Since when, and where the wall clock should have been then.
    doubt: Option<(Instant, SystemTime)>,
}

impl Clock {
    /// Believed as it stands now.
    pub fn new() -> Self {
        Self(Mutex::new(Seen { at: (SystemTime::now(), Instant::now()), doubt: None }))
    }

    /// What it says.
    ///
    /// # Errors
    /// A sentence, while it is doubted.
    pub fn read(&self) -> Result<SystemTime, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(SystemTime::now(), Instant::now())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Seen {
    fn read(&mut self, wall: SystemTime, now: Instant) -> Result<SystemTime, String> {
        let (then, since) = self.at;
        let wanted = then + now.duration_since(since);
        self.at = (wall, now);
        if wall.duration_since(wanted).is_ok_and(|ahead| ahead > DOUBTED) {
            self.doubt.get_or_insert((now, wanted));
        }
        let Some((began, wanted)) = self.doubt else { return Ok(wall) };
        let doubted = now.duration_since(began);
        let ahead = wall.duration_since(wanted + doubted).unwrap_or_default();
        if doubted >= DOUBTED || ahead <= DOUBTED {
            self.doubt = None;
            return Ok(wall);
        }
        let (days, hours) = (ahead.as_secs() / 86_400, (DOUBTED - doubted).as_secs() / 3600);
        Err(format!(
            "the clock went {days} days ahead at once, so nothing is deleted for its age; set it right, or wait: it is believed in {hours} hours"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_clock_that_jumps_ahead_is_doubted_for_a_day_or_until_it_is_set_right() {
        let (began, start) = (SystemTime::UNIX_EPOCH + HOUR * 400_000, Instant::now());
        let seen = || Seen { at: (began, start), doubt: None };
        let years = HOUR * 24 * 365 * 9;

        let mut steady = seen();
        for hours in 1..100 {
            assert!(steady.read(began + HOUR * hours, start + HOUR * hours).is_ok());
        }
        assert!(steady.read(began + HOUR * 110, start + HOUR * 100).is_ok(), "a machine that slept a night");
        assert!(steady.read(began, start + HOUR * 101).is_ok(), "one that is set back deletes less");

        let mut jumped = seen();
        for hours in 1..24 {
            let why = jumped.read(began + years + HOUR * hours, start + HOUR * hours).unwrap_err();
            assert!(why.contains("3285 days ahead"), "{why}");
        }
        assert!(
            jumped.read(began + years + HOUR * 25, start + HOUR * 25).is_ok(),
            "it has been said for a day"
        );

        let mut mended = seen();
        assert!(mended.read(began + years, start + HOUR).is_err());
        assert!(mended.read(began + HOUR * 2, start + HOUR * 2).is_ok());
        assert!(mended.read(began + HOUR * 3, start + HOUR * 3).is_ok());
    }
}
