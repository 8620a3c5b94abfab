//! The age of the newest backup. Must not look into it: `backup verify` does.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use crate::backup::Places;
use crate::backup::shelf::{self, Listed};
use crate::cli::doctor::finding::{Finding, quoted};
use crate::cli::doctor::patient::Patient;
use crate::cli::output;
use crate::config::Config;
use crate::storage::history;

const HOUR: Duration = Duration::from_secs(3600);
/// Where there is no schedule.
const OLD: Duration = Duration::from_secs(7 * 86_400);
/// A folder whose history is younger need not have one yet.
const YOUNG: Duration = Duration::from_secs(86_400);
/// How long a connection is waited for.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);
const COMMAND: &str = "waygate-mcp backup create";

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let Some(config) = patient.config() else { return Vec::new() };
    let places = Places::of(config);
    let why = "what was changed since is lost with the disk";
    let all = match shelf::list(&places.backups) {
        Ok(all) => all,
        Err(error) => {
            let command = format!("chmod u+rwx {}", quoted(&places.backups));
            return vec![Finding::error(
                "backups.folder",
                error.to_string(),
                "no backup can be made",
                command,
            )];
        }
    };
    let now = Timestamp::try_from(patient.now).unwrap_or_else(|_far| Timestamp::now());
    let mut found: Vec<Finding> =
        all.iter().filter(|listed| listed.is_ahead(now)).map(of_the_future).collect();
    let Some(newest) = shelf::newest(&all, now) else {
        found.extend(none(patient, config, why));
        return found;
    };
    let age = patient.since(SystemTime::from(newest.made_at));
    let most = schedule(config).map_or(OLD, |every| every + every / 4 + HOUR / 4);
    if age > most {
        let what = format!("the newest backup is {} old", output::duration(age.as_secs_f64()));
        found.push(Finding::warning("backups.old", what, why, COMMAND));
    }
    if newest.bytes == 0 {
        let what = format!("{} is empty", newest.path.display());
        found.push(Finding::error("backups.empty", what, why, COMMAND));
    }
    found
}

/// Its time is not known, so that it is not taken for the newest; under another name it is none of ours.
fn of_the_future(listed: &Listed) -> Finding {
    let path = listed.path.display();
    let what =
        format!("the name of {path} lies in the future, as of one that was made while the clock was ahead");
    let command = format!("mv {0} {0}.ahead", quoted(&listed.path));
    Finding::warning(
        "backups.ahead",
        what,
        "it does not count as the newest, and age does not remove it",
        command,
    )
}

fn schedule(config: &Config) -> Option<Duration> {
    let hours = u32::try_from(config.backup.every_hours).unwrap_or(u32::MAX);
    (hours > 0).then(|| HOUR.saturating_mul(hours))
}

/// There is none: that matters once there is something to lose.
fn none(patient: &Patient, config: &Config, why: &'static str) -> Option<Finding> {
    let storage = patient.storage()?.ok()?;
    let oldest = storage.run(CONNECTION_WAIT, history::oldest).ok().flatten()?;
    let age = patient.since(oldest);
    let most = schedule(config).map_or(YOUNG, |every| every + every / 4 + HOUR / 4);
    let what = format!("there is no backup, and the history is {} old", output::duration(age.as_secs_f64()));
    (age > most).then(|| Finding::warning("backups.none", what, why, COMMAND))
}
