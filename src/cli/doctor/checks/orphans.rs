//! Guards whose server is gone. Must not end them.

use std::time::{Duration, Instant};

use crate::app::strays;
use crate::cli::doctor::finding::{Finding, Mend};
use crate::cli::doctor::patient::Patient;

/// A guard whose server died a moment ago is about to end what it guards.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Looks.
pub fn look(_: &Patient) -> Vec<Finding> {
    let until = Instant::now() + ENDS_WITHIN;
    let stay = strays().into_iter();
    let stay = stay.filter(|stray| !stray.ends(until.saturating_duration_since(Instant::now())));
    let found = stay.map(|stray| {
        let pid = stray.pid();
        let what = format!("process {pid} guards {} for a server that is gone", stray.program);
        let why = "what it guards goes on, holds memory and files, and is nobody's";
        Finding::error("orphans.guard", what, why, format!("kill -CONT {pid}; kill {pid}"))
            .mended_by(Mend::End(stray))
    });
    found.collect()
}
