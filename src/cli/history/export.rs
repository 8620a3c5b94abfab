//! `history export`: all that is asked for, read and written page by page, to stdout or to a file that is whole or not there.
//!
//! Must not know what a row means.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use jiff::Zoned;
use serde::Serialize;

use super::super::{Exit, output};
use super::CONNECTION_WAIT;
use super::filter::{Which, moment};
use super::lines::{Lines, Shape};
use crate::storage::history::{self, Call, Cursor, Entry, Filter};
use crate::storage::{DbConnection, QueryResult, Storage};

const BUFFER_BYTES: usize = 1 << 16;

/// What is exported, how and where to.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    which: Which,
    /// Every row as it was written, intents and arguments too, not one line a call; a status is then that of the row
    #[arg(long)]
    rows: bool,
    /// How to write them; --json changes nothing, since JSON it is
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "json")]
    format: Form,
    /// Write into this file, which only its owner may read, and which must not be there yet
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there; it stays as it is until the export is whole
    #[arg(long, requires = "output")]
    force: bool,
}

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One JSON object a line
    Json,
    /// CSV (RFC 4180); a text that a spreadsheet would take for a formula gets an apostrophe in front
    Csv,
}

/// Exports. What is recorded from now on is left out, so that there is an end.
///
/// # Errors
/// What the database says; when the file cannot be written. Then there is no file.
pub fn run(storage: &Storage, args: &ExportArgs, now: &Zoned) -> anyhow::Result<ExitCode> {
    let mut filter = args.which.filter(now)?;
    filter.limit = history::LIMIT_MAX;
    filter.until = filter.until.or(moment(now.timestamp()));
    let Some(path) = &args.output else {
        let out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        write(storage, args, filter, out, output::is_terminal())?;
        return Ok(Exit::Ok.into());
    };
    let mut draft = match Draft::new(path, args.force) {
        Ok(draft) => draft,
        Err(error) => {
            output::say(&format!("waygate-mcp: {}: {error}", path.display()));
            return Ok(Exit::CannotCreate.into());
        }
    };
    let out = BufWriter::with_capacity(BUFFER_BYTES, &mut draft.file);
    let count = write(storage, args, filter, out, false)?;
    draft.publish().with_context(|| path.display().to_string())?;
    let what = if args.rows { "rows" } else { "calls" };
    output::say(&format!("{count} {what} written to {}", path.display()));
    Ok(Exit::Ok.into())
}

/// Writes all pages; how many rows that were.
fn write(
    storage: &Storage,
    args: &ExportArgs,
    filter: Filter,
    out: impl Write,
    is_seen: bool,
) -> anyhow::Result<u64> {
    let shape = match args.format {
        Form::Json => Shape::Json,
        Form::Csv => Shape::Csv,
    };
    if args.rows {
        let lines = Lines::new(out, shape, &Entry::COLUMNS).seen(is_seen);
        pages(storage, filter, lines, history::walk_rows, Entry::cursor)
    } else {
        let lines = Lines::new(out, shape, &Call::COLUMNS).seen(is_seen);
        pages(storage, filter, lines, history::walk, Call::cursor)
    }
}

fn pages<T: Serialize>(
    storage: &Storage,
    mut filter: Filter,
    mut lines: Lines<impl Write>,
    walk: fn(&mut DbConnection, &Filter) -> QueryResult<Vec<T>>,
    cursor: fn(&T) -> Cursor,
) -> anyhow::Result<u64> {
    let mut count = 0;
    loop {
        let page = storage.run(CONNECTION_WAIT, |connection| walk(connection, &filter))?;
        let is_read_on = lines.write_all(&page)?;
        count += page.len() as u64;
        filter.after = page.last().map(cursor);
        if !is_read_on || page.len() < filter.limit as usize {
            return Ok(count);
        }
    }
}

/// A file in the making, beside the place where it will be; gone unless it is published.
struct Draft<'a> {
    file: File,
    beside: PathBuf,
    path: &'a Path,
    replaces: bool,
}

impl<'a> Draft<'a> {
    fn new(path: &'a Path, replaces: bool) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(_) if !replaces => return Err(taken()),
            Ok(known) if !known.is_file() => {
                return Err(io::Error::other(
                    "this is no plain file, and is not replaced; give another name",
                ));
            }
            _ => {}
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.part", std::process::id()));
        let beside = PathBuf::from(beside);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        Ok(Self { file, beside, path, replaces })
    }

    /// Puts the whole file into its place.
    fn publish(self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.replaces {
            return fs::rename(&self.beside, self.path);
        }
        // Unlike a rename, a link does not replace what came there meanwhile.
        match fs::hard_link(&self.beside, self.path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(taken()),
            // Not every file system has links.
            Err(_) if !self.path.exists() => fs::rename(&self.beside, self.path),
            linked => linked,
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // Renamed away, it is not there any more.
        drop(fs::remove_file(&self.beside));
    }
}

fn taken() -> io::Error {
    io::Error::new(
        ErrorKind::AlreadyExists,
        "this file is there already; give another name, or --force to replace it",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn draft(path: &Path, force: bool, text: &str) -> io::Result<()> {
        let mut draft = Draft::new(path, force)?;
        draft.file.write_all(text.as_bytes())?;
        draft.publish()
    }

    #[test]
    fn a_file_is_whole_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        draft(&path, false, "first").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(draft(&path, false, "second").unwrap_err().kind(), ErrorKind::AlreadyExists);
        // Given up in the middle: what was there stays.
        let mut half = Draft::new(&path, true).unwrap();
        half.file.write_all(b"half").unwrap();
        drop(half);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        draft(&path, true, "third").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "third");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_came_meanwhile_is_not_replaced_and_nothing_but_a_file_is_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let late = Draft::new(&path, false).unwrap();
        fs::write(&path, "another's").unwrap();
        assert_eq!(late.publish().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for place in [folder.path(), link.as_path(), Path::new("/dev/null")] {
            assert!(Draft::new(place, true).is_err(), "{}", place.display());
        }
        assert!(Draft::new(&folder.path().join("no/where"), false).is_err());
    }
}
