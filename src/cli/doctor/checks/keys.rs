//! Keys that are old, have ended, or soon will. Must not change them.

use std::time::Duration;

use crate::app::keys::{KeyBook, Standing};
use crate::app::own_key;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::patient::Patient;
use crate::cli::output;
use crate::config::Config;

const DAY: Duration = Duration::from_secs(86_400);
/// A key that is older should be another.
const OLD: Duration = DAY.saturating_mul(30);
/// Whoever has a key that ends must be told so long before.
const SOON: Duration = DAY.saturating_mul(7);

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let Some(config) = patient.config() else { return Vec::new() };
    let mut found: Vec<Finding> = own(patient, config).into_iter().collect();
    // That a database cannot be used, or is not there, is told elsewhere.
    let Ok(all) = KeyBook::open(config, false).and_then(|book| book.all()) else { return found };
    found.extend(all.iter().filter_map(|key| {
        let named = format!("the key {} ({:?})", key.id, key.name);
        let age = patient.since(key.created_at);
        match key.standing(patient.now) {
            Standing::Expired => {
                let ended = key.expires_at.map(|end| patient.since(end)).unwrap_or_default();
                let what = format!("{named} ended {} ago", output::duration(ended.as_secs_f64()));
                let why = "whoever still shows it is refused";
                Some(Finding::warning(
                    "keys.expired",
                    what,
                    why,
                    format!("waygate-mcp keys delete {}", key.id),
                ))
            }
            Standing::Active => {
                let left = key.expires_at.and_then(|end| end.duration_since(patient.now).ok());
                if let Some(left) = left.filter(|left| *left < SOON) {
                    let what = format!("{named} ends in {}", output::duration(left.as_secs_f64()));
                    let why = "whoever has it is refused from then on";
                    let command = format!("waygate-mcp keys rotate {}", key.id);
                    return Some(Finding::warning("keys.ends", what, why, command));
                }
                (age > OLD).then(|| {
                    let what = format!("{named} is {} old", output::duration(age.as_secs_f64()));
                    let why = "the longer a key is used, the more places it may have leaked to";
                    Finding::warning(
                        "keys.old",
                        what,
                        why,
                        format!("waygate-mcp keys rotate {} --grace 24h", key.id),
                    )
                })
            }
            Standing::Leaving | Standing::Replaced | Standing::Revoked => None,
        }
    }));
    found
}

/// The operator's own key, which is in no database, once a server has had it for long.
fn own(patient: &Patient, config: &Config) -> Option<Finding> {
    let key = config.access.api_key.as_ref()?;
    let age = patient.since(own_key::since(&patient.data_folder()?, key)?);
    (age > OLD).then(|| {
        let age = output::duration(age.as_secs_f64());
        let what = format!("WAYGATE_API_KEY has been the same for {age}");
        let why = "it opens everything, and the longer it is used, the more places it may have leaked to";
        let mend = "put another WAYGATE_API_KEY where it is set (openssl rand -hex 32 makes one), and restart the server";
        Finding::warning("keys.old", what, why, mend)
    })
}
