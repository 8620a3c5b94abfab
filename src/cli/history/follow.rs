//! `history tail`: the newest calls, and what is added while somebody looks. Must not know how rows are read.

use std::collections::BTreeSet;
use std::io::{self, StdoutLock, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Zoned;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::filter::Which;
use super::lines::{Lines, Shape, is_read_on};
use super::table::Table;
use super::{CONNECTION_WAIT, Format, output};
use crate::storage::history::{self, Call, Filter};
use crate::storage::{Storage, StorageError};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a database that cannot be read is tried again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Several instances may write to PostgreSQL at once, and then a lower id may come to light after a higher one: so far back
/// is looked again. SQLite has one writer at a time.
const LOOK_BACK_ROWS: i64 = 5_000;

/// Which calls, and whether to go on.
#[derive(Debug, Clone, Args)]
pub struct TailArgs {
    #[command(flatten)]
    which: Which,
    /// Begin with so many
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(0..=i64::from(history::LIMIT_MAX)))]
    lines: u32,
    /// Go on with what is added, until Ctrl-C; a call that waits is shown again when it has ended
    #[arg(long, short)]
    follow: bool,
    /// How to write them; --json is the same as --format json, one object a line
    #[arg(long, value_name = "FORMAT", value_enum, conflicts_with = "json")]
    format: Option<Format>,
}

/// Shows, and follows if that is wanted.
///
/// # Errors
/// What the database says, if it says so for [`PATIENCE`].
pub fn run(storage: &Storage, args: &TailArgs, now: &Zoned, json: bool) -> anyhow::Result<ExitCode> {
    let filter = args.which.filter(now)?;
    // Before the list, so that nothing is missed between them.
    let newest = storage.run(CONNECTION_WAIT, history::last_id)?;
    let first = Filter { limit: args.lines.max(1), ..filter.clone() };
    let mut calls = storage.run(CONNECTION_WAIT, |connection| history::list(connection, &first))?.calls;
    calls.truncate(args.lines as usize);
    calls.reverse();
    let look_back = if storage.path().is_some() { 0 } else { LOOK_BACK_ROWS };
    let mut place = Place::new(newest, look_back, calls.iter().map(|call| call.id));
    let mut screen = Screen::new(Format::of(args.format, json));
    let mut is_read = screen.show(&calls)?;
    let filter = Filter { limit: history::LIMIT_MAX, ..filter };
    let mut failing_since: Option<Instant> = None;
    while is_read && args.follow && !reader_leaves(LOOK_EVERY) {
        match look(storage, &filter, &mut place, &mut screen) {
            Ok(goes_on) => (is_read, failing_since) = (goes_on, None),
            Err(Trouble::Database(error)) => match failing_since {
                None => {
                    output::say(&format!("waygate-mcp: {error}; it is tried again"));
                    failing_since = Some(Instant::now());
                }
                Some(since) if since.elapsed() > PATIENCE => return Err(error.into()),
                Some(_) => {}
            },
            Err(Trouble::Screen(error)) => return Err(error),
        }
    }
    Ok(ExitCode::SUCCESS)
}

enum Trouble {
    Database(StorageError),
    Screen(anyhow::Error),
}

/// Shows what was added since the last look. False when nobody reads any more.
fn look(storage: &Storage, filter: &Filter, place: &mut Place, screen: &mut Screen) -> Result<bool, Trouble> {
    // Rows that the filter leaves out are passed over for good, too.
    let newest = storage.run(CONNECTION_WAIT, history::last_id).map_err(Trouble::Database)?;
    let mut from = place.from();
    loop {
        let added = storage.run(CONNECTION_WAIT, |connection| history::added(connection, filter, from));
        let added = added.map_err(Trouble::Database)?;
        let is_last = added.len() < filter.limit as usize;
        from = added.last().map_or(from, |call| call.id);
        let fresh = place.fresh(added);
        if !screen.show(&fresh).map_err(Trouble::Screen)? {
            return Ok(false);
        }
        if is_last {
            place.reach(newest);
            return Ok(true);
        }
    }
}

/// Waits; true when whoever reads stdout has gone meanwhile.
pub fn reader_leaves(wait: Duration) -> bool {
    let stdout = io::stdout();
    let wait = Timespec::try_from(wait).ok();
    // Nothing is asked for: an error or a hang-up is told always.
    poll(&mut [PollFd::new(&stdout, PollFlags::empty())], wait.as_ref()).is_ok_and(|told| told > 0)
}

/// How far the ledger was seen.
#[derive(Debug)]
struct Place {
    /// What is not newer was there before the first look.
    floor: i64,
    newest: i64,
    look_back: i64,
    /// What was shown of the rows that are looked at again.
    shown: BTreeSet<i64>,
}

impl Place {
    fn new(floor: i64, look_back: i64, shown: impl Iterator<Item = i64>) -> Self {
        Self { floor, newest: floor, look_back, shown: shown.filter(|id| *id > floor).collect() }
    }

    /// The next look begins after this row.
    fn from(&self) -> i64 {
        self.floor.max(self.newest - self.look_back)
    }

    /// Those not shown yet, which then are.
    fn fresh(&mut self, mut calls: Vec<Call>) -> Vec<Call> {
        calls.retain(|call| self.shown.insert(call.id));
        self.newest = calls.iter().map(|call| call.id).fold(self.newest, i64::max);
        calls
    }

    /// All up to this row was looked at.
    fn reach(&mut self, newest: i64) {
        self.newest = self.newest.max(newest);
        self.shown = self.shown.split_off(&(self.from() + 1));
    }
}

/// Stdout, in one of the formats.
enum Screen {
    Text(Option<Table>),
    Lines(Lines<StdoutLock<'static>>),
}

impl Screen {
    fn new(format: Format) -> Self {
        let lines = |shape| Self::Lines(Lines::on_stdout(shape, &Call::COLUMNS));
        match format {
            Format::Text => Self::Text(None),
            Format::Json => lines(Shape::Json),
            Format::Csv => lines(Shape::Csv),
        }
    }

    /// False when nobody reads any more.
    fn show(&mut self, calls: &[Call]) -> anyhow::Result<bool> {
        let text = match self {
            Self::Lines(lines) => return lines.write_all(calls),
            Self::Text(_) if calls.is_empty() => return Ok(true),
            Self::Text(Some(table)) => table.more(calls.iter()),
            Self::Text(none) => none.insert(Table::default()).with_heading(calls.iter()),
        };
        let mut stdout = io::stdout().lock();
        is_read_on(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(ids: &[i64]) -> Vec<Call> {
        let call = |id: &i64| Call {
            id: *id,
            call_id: id.to_string(),
            round: 0,
            kind: "outcome".to_owned(),
            created_at: chrono::NaiveDateTime::default(),
            instance_id: String::new(),
            method: None,
            plugin: None,
            tool: None,
            caller: None,
            client: None,
            session: None,
            protocol_version: None,
            status: "success".to_owned(),
            error_code: None,
            duration_us: None,
            result_bytes: None,
            request_id: None,
            trace_id: None,
            detail: None,
            plugin_instance: None,
            queue_us: None,
            upstream_us: None,
            bytes_out: None,
            bytes_in: None,
            bridged: None,
        };
        ids.iter().map(call).collect()
    }

    fn fresh(place: &mut Place, ids: &[i64]) -> Vec<i64> {
        place.fresh(calls(ids)).iter().map(|call| call.id).collect()
    }

    #[test]
    fn a_row_that_comes_to_light_late_is_shown_and_none_twice() {
        let mut place = Place::new(100, 10, [99, 100, 101].into_iter());
        assert_eq!(place.from(), 100, "what was there before is not looked at again");
        assert_eq!(fresh(&mut place, &[101, 103, 104]), [103, 104]);
        place.reach(104);
        assert_eq!(place.from(), 100);
        assert_eq!(fresh(&mut place, &[101, 102, 103, 104, 120]), [102, 120]);
        place.reach(130);
        assert_eq!(place.from(), 120);
        assert!(place.shown.is_empty(), "only what is looked at again is remembered: {:?}", place.shown);
    }

    #[test]
    fn with_one_writer_nothing_is_looked_at_again() {
        let mut place = Place::new(5, 0, std::iter::empty());
        assert_eq!(fresh(&mut place, &[6, 9]), [6, 9]);
        place.reach(9);
        assert_eq!(place.from(), 9);
    }
}
