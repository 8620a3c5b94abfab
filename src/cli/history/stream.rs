//! `history stream`: carries every row of the ledger elsewhere, at least once: to a file, to stdout, or to an HTTP endpoint, as that
//! of a SIEM. Must not know what a row says.
//!
//! Reading order: this file, what is carried when; [`target`], where to; [`keeper`], how far.

mod keeper;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::super::serve::exit_of_storage;
use super::super::{Exit, output};
use super::CONNECTION_WAIT;
use crate::storage::history::stream::{Carried, Place, next};
use crate::storage::{Storage, StorageError};
use keeper::Keeper;
use target::{Target, Undelivered};

/// Rows of one look.
const ROWS: usize = 500;
/// What is sent at once, unless one row alone is more.
const BODY_MAX_BYTES: usize = 1 << 20;
/// Between two looks when there was nothing new.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two attempts that failed, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The longest that a target may ask us to wait.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// With `--once`, how often what fails is tried, and for how long: whoever starts it now and then finds none that still waits.
const TRIES_ONCE: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// Where to, and from where on.
#[derive(Debug, Clone, Args)]
pub struct StreamArgs {
    /// Where the rows go, one JSON object a line: a file, which is appended to, an http:// or https:// URL, or - for stdout
    #[arg(long, value_name = "TARGET", default_value = "-")]
    to: String,
    /// The file that remembers how far the target got, so that the next run goes on there; all but stdout need one
    #[arg(long, value_name = "FILE")]
    cursor: Option<PathBuf>,
    /// Where the cursor is not there yet: leave out what was written until now
    #[arg(long)]
    from_now: bool,
    /// End when all that there is was carried, and do not wait for more; what fails is tried 5 times, for a minute at most
    #[arg(long)]
    once: bool,
    /// For a URL: the file with the value of the Authorization header, such as `Bearer …` or `Splunk …`
    #[arg(long, value_name = "FILE")]
    authorization_file: Option<PathBuf>,
}

/// How one look went.
enum Look {
    /// Something was carried.
    Carried,
    /// There was nothing new.
    Nothing,
    /// Nobody reads any more.
    Gone,
}

/// Why something was not carried.
enum Trouble {
    /// It may go well the next time, not before so long; whoever does not wait for that ends so.
    Passing(String, Option<Duration>, Exit),
    /// It will not.
    Lasting(anyhow::Error),
}

/// Carries on, until somebody ends it or, with `--once`, all is carried.
///
/// # Errors
/// When the target refuses what it is sent.
pub fn run(storage: &Storage, args: &StreamArgs) -> anyhow::Result<ExitCode> {
    let target = match Target::of(&args.to, args.authorization_file.as_deref()) {
        Ok(target) => target,
        Err(why) => return Ok(usage(&why)),
    };
    if args.cursor.is_none() && !target.is_stdout() {
        return Ok(usage("--to a file or a URL needs --cursor FILE, which remembers how far it got"));
    }
    let mut keeper = Keeper::open(args.cursor.as_deref(), &args.to)?;
    let place = begin(storage, &keeper, args.from_now)?;
    // Kept at once: a run that carries nothing must not begin at another end than the next one.
    keeper.keep(&place)?;
    let mut courier = Courier { storage, target, keeper, place, body_max_bytes: BODY_MAX_BYTES, count: 0 };
    courier.carry_on(args.once)
}

fn usage(why: &str) -> ExitCode {
    output::say(&format!("waygate-mcp: {why}"));
    Exit::Usage.into()
}

/// Where the cursor says; all anew if it is that of another state of the database.
fn begin(storage: &Storage, keeper: &Keeper, from_now: bool) -> anyhow::Result<Place> {
    match keeper.read()? {
        Some(place) if storage.run(CONNECTION_WAIT, |connection| place.fits(connection))? => Ok(place),
        Some(_) => {
            output::say(
                "waygate-mcp: the database was restored or is another one since the cursor was kept; all of it is carried anew",
            );
            Ok(Place::default())
        }
        None if from_now => Ok(storage.run(CONNECTION_WAIT, Place::at_end)?),
        None => Ok(Place::default()),
    }
}

/// Who carries.
struct Courier<'s> {
    storage: &'s Storage,
    target: Target,
    keeper: Keeper,
    place: Place,
    /// Less when the target takes less.
    body_max_bytes: usize,
    count: u64,
}

impl Courier<'_> {
    fn carry_on(&mut self, once: bool) -> anyhow::Result<ExitCode> {
        let mut pause = PAUSE_MIN;
        let (mut tries, mut failing_since) = (0, Instant::now());
        loop {
            let wait = match self.look() {
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing(why, after, exit)) => {
                    if tries == 0 {
                        failing_since = Instant::now();
                    }
                    tries += 1;
                    let wait = after.unwrap_or(pause).clamp(PAUSE_MIN, WAIT_MAX);
                    pause = (pause * 2).min(PAUSE_MAX);
                    if once && (tries >= TRIES_ONCE || failing_since.elapsed() + wait > PATIENCE) {
                        output::say(&format!(
                            "waygate-mcp: given up after {tries} of {TRIES_ONCE} tries: {why}; mend it and run this again, which goes on where it was"
                        ));
                        return Ok(exit.into());
                    }
                    if !once && tries == 1 {
                        output::say(&format!("waygate-mcp: {why}; it is tried again"));
                    }
                    wait
                }
                Ok(look) => {
                    if !once && tries > 0 {
                        output::say("waygate-mcp: the rows are carried again");
                    }
                    (tries, pause) = (0, PAUSE_MIN);
                    match look {
                        Look::Carried => continue,
                        Look::Gone => return Ok(Exit::Ok.into()),
                        Look::Nothing if once => {
                            output::say(&format!("{} rows carried", self.count));
                            return Ok(Exit::Ok.into());
                        }
                        Look::Nothing => LOOK_EVERY,
                    }
                }
            };
            if self.target.ends_within(wait) {
                return Ok(Exit::Ok.into());
            }
        }
    }

    /// Carries what comes next: first there, then noted. Killed in between, it is carried again.
    fn look(&mut self) -> Result<Look, Trouble> {
        let passing =
            |error: StorageError| Trouble::Passing(error.to_string(), None, exit_of_storage(&error));
        let place = &self.place;
        let rows = self.storage.run(CONNECTION_WAIT, |connection| next(connection, place, ROWS));
        let rows = rows.map_err(passing)?;
        if rows.is_empty() {
            return Ok(Look::Nothing);
        }
        let mut left = rows.as_slice();
        while !left.is_empty() {
            let (count, body) = pack(left, self.body_max_bytes).map_err(Trouble::Lasting)?;
            match self.target.deliver(&body) {
                Ok(()) => {}
                Err(Undelivered::Gone) => return Ok(Look::Gone),
                Err(Undelivered::TooLarge) if count > 1 => {
                    self.body_max_bytes = body.len() / 2;
                    continue;
                }
                Err(Undelivered::TooLarge) => {
                    let why = format!("{} does not take a row of {} bytes", self.target, body.len());
                    return Err(Trouble::Lasting(anyhow::anyhow!("{why}; have it take more")));
                }
                Err(Undelivered::Later(why, after, exit)) => return Err(Trouble::Passing(why, after, exit)),
                Err(Undelivered::Refused(why)) => return Err(Trouble::Lasting(anyhow::anyhow!(why))),
            }
            let (done, rest) = left.split_at(count.min(left.len()));
            self.place.advance(done);
            self.keeper
                .keep(&self.place)
                .map_err(|error| Trouble::Passing(format!("{error:#}"), None, Exit::CannotCreate))?;
            self.count += done.len() as u64;
            left = rest;
        }
        Ok(Look::Carried)
    }
}

/// As many rows as fit, at least one, as lines.
fn pack(rows: &[Carried], most: usize) -> anyhow::Result<(usize, Vec<u8>)> {
    let (mut count, mut body) = (0, Vec::new());
    for row in rows {
        let before = body.len();
        serde_json::to_writer(&mut body, row)?;
        body.push(b'\n');
        if count > 0 && body.len() > most {
            body.truncate(before);
            break;
        }
        count += 1;
    }
    Ok((count, body))
}
