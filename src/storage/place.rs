//! Which file the database is, whether that is still the one at its path, and how it is put back there. Must not know who looks.
//!
//! SQLite goes on with a file that was deleted or moved away, as if nothing had happened: what it writes is lost with the last
//! connection, while everybody else opens what stands at the path. So the path is held against the file that is open, before
//! each use.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::{QueryableByName, RunQueryDsl as _, sql_types};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::connection::{Connector, Target};
use super::{DbConnection, Storage, StorageError, keys, migrations, pool_of};

/// What SQLite has beside a file.
const BESIDE: [&str; 2] = ["-wal", "-shm"];
/// What is being made ends so.
const PART: &str = ".putback";
/// What was open and is nowhere any more is kept under such a name.
const KEPT: &str = ".lost-";
/// How long a file that somebody put there may be locked while it is looked at.
const JUDGE_BUSY: Duration = Duration::from_millis(500);

/// Device and inode: what a file is, whatever its name.
type FileId = (u64, u64);

/// The file of a database.
#[derive(Debug)]
pub(super) struct Site {
    /// As it was named; it may be a link.
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    id: FileId,
    /// The path without links.
    file: PathBuf,
    /// Another one that stood there and could not be used, and why.
    refused: Option<(FileId, String)>,
}

/// How a database came back to its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mended {
    /// The file was gone; all that was in it is in a new one.
    Saved,
    /// The file was gone, and nothing of it could be saved: there is an empty one now.
    Anew,
    /// A database of ours stood there, and is used from now on. What was open before is kept in this file, if it was nowhere else.
    Adopted(Option<PathBuf>),
}

impl Mended {
    /// In one word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Saved => "saved",
            Self::Anew => "anew",
            Self::Adopted(_) => "adopted",
        }
    }
}

impl Site {
    /// The file at the path, as it was just opened.
    pub(super) fn of(path: &Path) -> Result<Self, StorageError> {
        let known = Known { id: id_of(path)?, file: real(path)?, refused: None };
        Ok(Self { path: path.to_owned(), known: Mutex::new(known) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which file stands at the path; none when there is none.
    fn found(&self) -> io::Result<Option<FileId>> {
        match fs::metadata(&self.path) {
            Ok(about) => Ok(Some((about.dev(), about.ino()))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// From now on the one at the path.
    fn take(&self) -> Result<(), StorageError> {
        let (id, file) = (id_of(&self.path)?, real(&self.path)?);
        *self.known() = Known { id, file, refused: None };
        Ok(())
    }
}

impl Storage {
    /// Whether the file that is open is still the one at the path. Always so with a server.
    ///
    /// # Errors
    /// When it is not, with what became of it.
    pub fn look(&self) -> Result<(), StorageError> {
        let Some(site) = &self.inner.site else { return Ok(()) };
        // Where it cannot be told, the database itself says what is wrong.
        let Ok(found) = site.found() else { return Ok(()) };
        let known = site.known();
        let Some(found) = found else { return Err(self.moved("was deleted or moved away")) };
        if found == known.id {
            return Ok(());
        }
        match &known.refused {
            Some((id, why)) if *id == found => Err(self.foreign(why.clone())),
            _ => Err(self.moved("was replaced by another file")),
        }
    }

    /// Whether somebody is at work on a connection of the pool.
    pub fn is_in_use(&self) -> bool {
        let state = self.pool_state();
        state.open > state.idle
    }

    /// Has a database of ours at the path again, and new connections go there. `held` is a connection to the file before, which
    /// still has all of it and is to be closed afterwards; `seen` is what running servers have seen of the counter of changes.
    ///
    /// # Errors
    /// Why not; then all is as it was, and it may be tried again.
    pub fn mend(&self, mut held: Option<&mut DbConnection>, seen: i64) -> Result<Mended, StorageError> {
        let Some(site) = &self.inner.site else { return Ok(Mended::Adopted(None)) };
        // A server that has just begun has seen what no look of it told of yet.
        let counter = held.as_deref_mut().and_then(|held| keys::counter(held).ok());
        let seen = seen.max(counter.unwrap_or_default());
        // Who moved it away has a whole file then: nobody will look for what is beside it.
        if let Some(held) = held.as_deref_mut()
            && let Err(error) = held.checkpoint()
        {
            log::debug!("the file that is not at its path could not be made whole: {error}");
        }
        let found = site.found().map_err(|error| StorageError::of_folder(&site.path, &error))?;
        let mended = match found {
            None => self.put_back(site, held, seen)?,
            Some(found) => self.adopt(site, found, held, seen)?,
        };
        site.take()?;
        let mut pool = self.inner.pool.write().unwrap_or_else(PoisonError::into_inner);
        if pool.is_some() {
            *pool = Some(pool_of(&self.inner.connector, self.inner.size));
        }
        Ok(mended)
    }

    /// Where nothing stands, puts what is still open, or an empty database.
    fn put_back(
        &self,
        site: &Site,
        held: Option<&mut DbConnection>,
        seen: i64,
    ) -> Result<Mended, StorageError> {
        let file = site.known().file.clone();
        // A folder that is gone has taken more along than we could put back.
        if let Some(folder) = file.parent() {
            fs::metadata(folder).map_err(|error| StorageError::of_folder(folder, &error))?;
        }
        let part = with_end(&file, PART);
        remove_with_beside(&part)?;
        let saved = match held.map(|held| self.copy(held, &part)) {
            Some(Ok(())) => true,
            // What is damaged stays so.
            Some(Err(StorageError::Corrupt { .. })) | None => false,
            Some(Err(error)) => {
                drop(remove_with_beside(&part));
                return Err(error);
            }
        };
        let put = if saved { Ok(()) } else { make_anew(&part, seen) };
        let put = put.and_then(|()| sync(&part)).and_then(|()| {
            self.clear_beside(&file, true)?;
            match renameat_with(CWD, &part, CWD, &file, RenameFlags::NOREPLACE) {
                Ok(()) => sync(file.parent().unwrap_or(Path::new("/"))),
                Err(Errno::EXIST) => Err(self.moved("was replaced by another file")),
                Err(error) => Err(StorageError::of_folder(&file, &error.into())),
            }
        });
        if put.is_err() {
            drop(remove_with_beside(&part));
        }
        put.map(|()| if saved { Mended::Saved } else { Mended::Anew })
    }

    /// Goes on with what stands there, if it is one of ours.
    fn adopt(
        &self,
        site: &Site,
        found: FileId,
        held: Option<&mut DbConnection>,
        seen: i64,
    ) -> Result<Mended, StorageError> {
        let (old, file) = (site.known().id, real(&site.path)?);
        // Else SQLite would take what was written to the one before for a part of this one.
        self.clear_beside(&file, false)?;
        let judged = judge(&file).and_then(|mut connection| {
            keys::raise(&mut connection, seen)
                .map_err(|error| StorageError::of_query(self.place(), &error).to_string())
        });
        if let Err(why) = judged {
            site.known().refused = Some((found, why.clone()));
            return Err(self.foreign(why));
        }
        let is_nowhere = open_here(old).is_some_and(|links| links == 0);
        let kept = held.filter(|_| is_nowhere).and_then(|held| {
            let now = chrono::Utc::now().format("%Y%m%dT%H%M%S%.3f");
            let kept = with_end(&file, &format!("{KEPT}{now}"));
            let copied = self.copy(held, &kept);
            if let Err(error) = &copied {
                log::error!("what was in the database before it was replaced is lost: {error}");
                drop(remove_with_beside(&kept));
            }
            copied.is_ok().then_some(kept)
        });
        Ok(Mended::Adopted(kept))
    }

    /// All that a connection sees, into a file of its own.
    fn copy(&self, held: &mut DbConnection, to: &Path) -> Result<(), StorageError> {
        // Made here, so that it is nobody else's from its first byte on.
        super::make_file(to)?;
        let copied = match held {
            #[cfg(feature = "sqlite")]
            DbConnection::Sqlite(sqlite) => {
                let into =
                    diesel::sql_query("VACUUM INTO ?").bind::<sql_types::Text, _>(to.to_string_lossy());
                into.execute(sqlite).map(drop)
            }
            #[cfg(feature = "postgres")]
            DbConnection::Postgres(_) => Ok(()),
        };
        copied.map_err(|error| self.failed(&error))
    }

    /// Removes what belongs to the file before. What somebody else put there is theirs: it goes with a file of theirs, and where
    /// there is none, nothing can be put beside it.
    fn clear_beside(&self, file: &Path, alone: bool) -> Result<(), StorageError> {
        for beside in BESIDE.map(|end| with_end(file, end)) {
            let Ok(about) = fs::metadata(&beside) else { continue };
            if open_here((about.dev(), about.ino())).is_some() {
                fs::remove_file(&beside).map_err(|error| StorageError::of_folder(&beside, &error))?;
            } else if alone {
                return Err(self.foreign(format!("{} belongs to another database", beside.display())));
            }
        }
        Ok(())
    }

    fn moved(&self, what: &'static str) -> StorageError {
        StorageError::Moved { place: self.place().to_owned(), what }
    }

    fn foreign(&self, why: String) -> StorageError {
        StorageError::Foreign { place: self.place().to_owned(), why }
    }
}

/// An empty database of this version in a file alone.
fn make_anew(part: &Path, seen: i64) -> Result<(), StorageError> {
    remove_with_beside(part)?;
    let storage = super::at_file(part)?;
    storage.migrate()?;
    let mut connection = storage.connect()?;
    keys::raise(&mut connection, seen)
        .and_then(|()| connection.leave_alone())
        .map_err(|error| storage.failed(&error))
}

/// Opens what somebody put there, if it is a database of this version; changes nothing in one that is not.
fn judge(file: &Path) -> Result<DbConnection, String> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = sql_types::BigInt)]
        count: i64,
    }
    let place = file.display().to_string();
    let connector = Connector { target: Target::at(file.to_owned(), None), busy: JUDGE_BUSY };
    let mut connection = connector.establish().map_err(|error| error.to_string())?;
    let said = |error: diesel::result::Error| error.to_string();
    connection.batch_execute(&format!("PRAGMA busy_timeout = {}", JUDGE_BUSY.as_millis())).map_err(said)?;
    // Before the question that would make this table.
    let tables = "SELECT count(*) AS count FROM sqlite_schema WHERE name = '__diesel_schema_migrations'";
    let tables: Count = diesel::sql_query(tables).get_result(&mut connection).map_err(said)?;
    if tables.count == 0 {
        return Err("it is no database of Waygate's".to_owned());
    }
    match migrations::pending(&mut connection, &place) {
        Ok(pending) if pending.is_empty() => {}
        Ok(_) => {
            return Err(
                "it is of an older version, and `waygate-mcp db migrate up` brings it up to date".into()
            );
        }
        Err(StorageError::Newer { .. }) => return Err("it is of a newer version".to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    super::ask(&mut connection).and_then(|()| super::history::newest(&mut connection)).map_err(said)?;
    Ok(connection)
}

/// Whether this process has that file open, and how many names it still has.
fn open_here(id: FileId) -> Option<u64> {
    let open = fs::read_dir("/proc/self/fd").ok()?;
    open.filter_map(|entry| fs::metadata(entry.ok()?.path()).ok())
        .find(|about| (about.dev(), about.ino()) == id)
        .map(|about| about.nlink())
}

fn id_of(path: &Path) -> Result<FileId, StorageError> {
    fs::metadata(path)
        .map(|about| (about.dev(), about.ino()))
        .map_err(|error| StorageError::of_folder(path, &error))
}

fn real(path: &Path) -> Result<PathBuf, StorageError> {
    fs::canonicalize(path).map_err(|error| StorageError::of_folder(path, &error))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

fn remove_with_beside(path: &Path) -> Result<(), StorageError> {
    for path in [path.to_owned()].into_iter().chain(BESIDE.map(|end| with_end(path, end))) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::of_folder(&path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn sync(path: &Path) -> Result<(), StorageError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| StorageError::of_folder(path, &error))
}
