//! Where the processor's time goes, and what memory is taken by: looked at when somebody asks, at no cost before.
//!
//! `cpu` samples stacks, and `pprof` and `folded` write them down; `heap` reads what the kernel counts. Must not know who asks.

#[cfg(feature = "profile")]
mod cpu;
mod folded;
mod heap;
mod pprof;

use std::time::{Duration, SystemTime};

#[cfg(feature = "profile")]
pub use cpu::sample;
pub use folded::folded;
pub use heap::{Heap, look};
pub use pprof::pprof;

/// Samples in one second of the processor's time. Odd, so that what happens each hundredth of a second is not always met.
pub const HERTZ: i32 = 99;

/// What was sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples {
    /// Each stack that was met.
    pub stacks: Vec<Stack>,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
}

/// One stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Whose it is.
    pub thread: String,
    /// What it was in, the innermost first.
    pub functions: Vec<String>,
    /// How often it was met.
    pub count: u64,
}

/// Samples nothing: this build has nothing that could.
///
/// # Errors
/// Always.
#[cfg(not(feature = "profile"))]
pub fn sample(_: Duration, _: impl Fn() -> bool) -> Result<Samples, String> {
    Err("this build leaves that out".to_owned())
}
