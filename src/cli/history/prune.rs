//! `history prune`: deletes the oldest rows so that the rest stays provable, and leaves a row that says so. Must not know what a
//! chain is.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use clap::Args;
use serde_json::json;

use super::super::output;
use super::CONNECTION_WAIT;
use crate::storage::acts::{self, Act};
use crate::storage::history::moment;
use crate::storage::history::prune::{self, Surplus};
use crate::storage::history::size;
use crate::storage::{Notary, Storage};

/// Between two transactions, for whoever waits to write.
const PAUSE: Duration = Duration::from_millis(10);
const DAY_SECONDS: u64 = 86_400;

/// What is kept.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
pub struct PruneArgs {
    /// Keep the rows of so many days, and delete what is older
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_500))]
    keep_days: Option<u64>,
    /// Keep the newest so many rows, and delete the rest
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    max_rows: Option<u64>,
    /// Keep the newest rows that take so many bytes without indexes, as `db stats` counts them, and delete the rest
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    max_bytes: Option<u64>,
}

/// Prunes.
///
/// # Errors
/// Without a sealing key; what the database says.
pub fn run(storage: &Storage, args: &PruneArgs, notary: &Notary, json: bool) -> anyhow::Result<ExitCode> {
    if !notary.has_key() {
        return Err(anyhow!(
            "there is no sealing key here, and without it what is left could not be proved; set WAYGATE_SEALING_KEY, or \
             run this on the data folder of the server"
        ));
    }
    let before = args
        .keep_days
        .and_then(|days| SystemTime::now().checked_sub(Duration::from_secs(days * DAY_SECONDS)).map(moment));
    let too_many = match args.max_rows {
        Some(most) => storage.run(CONNECTION_WAIT, |connection| prune::beyond(connection, most))?,
        None => None,
    };
    let too_much = match args.max_bytes {
        Some(most) => storage.run(CONNECTION_WAIT, |connection| size::beyond(connection, most))?,
        None => None,
    };
    let surplus = Surplus { before, up_to: too_many.max(too_much) };
    let mut deleted = 0;
    loop {
        let gone = storage.run(CONNECTION_WAIT, |connection| prune::prune(connection, notary, surplus))?;
        if gone == 0 {
            break;
        }
        deleted += gone;
        thread::sleep(PAUSE);
    }
    if deleted > 0 {
        let detail = format!("{deleted} rows were deleted");
        let act = Act { name: acts::HISTORY_PRUNE, to: None, detail: &detail };
        storage.run(CONNECTION_WAIT, |connection| acts::record(connection, notary, act))?;
    }
    if json {
        output::print_json(&json!({ "database": storage.place(), "deleted": deleted }))?;
    } else {
        output::print(&format!("{deleted} rows deleted from {}", storage.place()))?;
    }
    Ok(ExitCode::SUCCESS)
}
