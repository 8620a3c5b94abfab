//! The clock by which requests are counted: the one place of this room that asks what time it is.
//!
//! It never goes back, whatever happens to the clock on the wall.

use std::sync::LazyLock;
use std::time::Instant;

use governor::clock::Clock;
use governor::nanos::Nanos;

/// When the process first asked.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time since the process began to count.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steady;

impl Clock for Steady {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX).into()
    }
}
