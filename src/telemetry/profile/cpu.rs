//! Stacks, sampled by a signal while the process works: each 99th part of a second of the processor's time, whatever runs then.
//!
//! The signal's handler is the crate `pprof`'s; it allocates nothing, and leaves out a sample rather than wait. Stacks
//! are given names when it no longer runs. Must not know who asks, nor how stacks are written down.

use std::fs::{OpenOptions, remove_file};
use std::time::{Duration, Instant};

use ::pprof::{Frames, ProfilerGuardBuilder};

use super::{HERTZ, Samples, Stack};

/// Between two looks at whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Libraries in which no sample is taken: one is what reads stacks, and may be at just that; in the other, stacks are often
/// unreadable.
const NOT_WITHIN: [&str; 2] = ["libgcc", "vdso"];

/// Samples for as long as this, or until it is no longer wanted. It blocks, and only one can be at it.
///
/// # Errors
/// Why nothing can be sampled.
pub fn sample(length: Duration, is_wanted: impl Fn() -> bool) -> Result<Samples, String> {
    has_room()?;
    let failed = |error: ::pprof::Error| format!("the processor's time cannot be sampled: {error}");
    let builder = ProfilerGuardBuilder::default().frequency(HERTZ).blocklist(&NOT_WITHIN);
    let sampling = builder.build().map_err(failed)?;
    // The first time, getting ready takes long: what is wanted is so much of what comes then.
    let began = Instant::now();
    while is_wanted() {
        let left = length.saturating_sub(began.elapsed());
        if left.is_zero() {
            break;
        }
        std::thread::sleep(left.min(LOOK_EVERY));
    }
    let report = sampling.report().build_unresolved().map_err(failed)?;
    drop(sampling);
    let stacks = report.data.into_iter().map(|(stack, count)| named(Frames::from(stack), count)).collect();
    Ok(Samples { stacks, began: report.timing.start_time, took: report.timing.duration })
}

fn named(frames: Frames, count: isize) -> Stack {
    let names = frames.frames.iter().flatten().map(|function| function.name());
    let is_ours = |name: &str| {
        let name = name.trim_start_matches('<');
        name.starts_with("pprof::") || name.starts_with("backtrace::")
    };
    Stack {
        thread: frames.thread_name_or_id(),
        // A place in a function that others were inlined into is in all of them. The innermost are those that look.
        functions: names.skip_while(|name| is_ours(name)).collect(),
        count: u64::try_from(count).unwrap_or_default(),
    }
}

/// Stacks that are more than fit into its memory go into a file. Where there can be none, the crate would remember its first
/// failure for ever: so it is tried before.
fn has_room() -> Result<(), String> {
    let folder = std::env::temp_dir();
    let file = folder.join(format!("waygate-profile-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).open(&file);
    made.and_then(|_| remove_file(&file)).map_err(|error| {
        let folder = folder.display();
        format!(
            "sampling needs a file in {folder}: {error}; set TMPDIR to a folder that the server may write to"
        )
    })
}
