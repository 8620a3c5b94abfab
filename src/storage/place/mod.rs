//! Which file the database is, whether that is still the one at its path, and how it is put back there. Must not know who looks.
//!
//! SQLite goes on with a file that was deleted or moved away, as if nothing had happened: what it writes is lost with the last
//! connection, while everybody else opens what stands at the path. So the path is held against the file that is open, before
//! each use.

mod file;
mod judge;
mod left;
mod untold;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use diesel::{RunQueryDsl as _, sql_types};

use super::connection::Connector;
use super::{DbConnection, Storage, StorageError, keys, pool_of};
use file::{
    BESIDE, FileId, alone_in, id_of, is_file, is_open_elsewhere, is_there, keep_bytes, name_of_kept,
    open_here, put_where_none_is, real, remove_with_beside, sync, with_end,
};
use judge::{doubt, judge, make_anew, make_whole};

pub use left::Left;
use left::take_up;
pub(super) use left::{left_at, settle_left};
pub use untold::Untold;

/// What is being made ends so …
const PART: &str = ".putback-part";
/// … and so what is whole: nothing but its name is missing then, whatever becomes of this process.
const WHOLE: &str = ".putback";

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
    /// The file system that its folder was on.
    device: u64,
    /// What stood at the path when nothing could be done about it, and why.
    refused: Option<(Option<FileId>, Refusal)>,
    /// Whether it has another name, and was closed here for that.
    is_let_go: bool,
}

/// Why nothing is done.
#[derive(Debug, Clone)]
enum Refusal {
    /// What stands at the path is nothing to go on with.
    Foreign(String),
    /// Whatever was done might cost somebody something.
    Stuck(String),
}

/// What is open here of the file before.
struct Before<'a> {
    id: FileId,
    /// The path without links, at which it stood.
    file: PathBuf,
    held: &'a mut Option<DbConnection>,
    /// Of the pool, where none is held.
    idle: Option<r2d2::PooledConnection<Connector>>,
    /// How many names it still has; none when it is not open here.
    names: Option<u64>,
    is_in_use: bool,
}

impl Before<'_> {
    fn reader(&mut self) -> Option<&mut DbConnection> {
        match self.held.as_mut() {
            Some(held) => Some(held),
            None => self.idle.as_mut().map(|pooled| &mut pooled.connection),
        }
    }

    /// Whether it lives on under another name, from which it may come back at any time.
    fn is_named(&self) -> bool {
        self.names.is_some_and(|names| names > 0)
    }
}

/// How a database came back to its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mended {
    /// The file was gone; all that was in it is in a new one.
    Saved,
    /// The file was gone, and nothing of it could be saved: there is an empty one now. What was open and is damaged is kept in this
    /// file, byte by byte.
    Anew(Option<PathBuf>),
    /// A database of ours stood there, and is used from now on. What was open before is kept in this file, if it was nowhere else.
    Adopted(Option<PathBuf>),
}

impl Mended {
    /// In one word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Saved => "saved",
            Self::Anew(_) => "anew",
            Self::Adopted(_) => "adopted",
        }
    }
}

impl Site {
    /// The file at the path, as it was just opened.
    pub(super) fn of(path: &Path) -> Result<Self, StorageError> {
        let (id, file) = (id_of(path)?, real(path)?);
        let (device, _) = id_of(folder_of(&file))?;
        let known = Known { id, file, device, refused: None, is_let_go: false };
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

    /// From now on this one.
    fn take(&self, id: FileId, file: PathBuf) {
        let mut known = self.known();
        let device = id_of(folder_of(&file)).map_or(known.device, |(device, _)| device);
        *known = Known { id, file, device, refused: None, is_let_go: false };
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
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
        let mut known = site.known();
        if found == Some(known.id) {
            known.is_let_go = false;
            return Ok(());
        }
        match (&known.refused, found) {
            (Some((at, Refusal::Foreign(why))), _) if *at == found => Err(self.foreign(why.clone())),
            (Some((at, Refusal::Stuck(why))), _) if *at == found => Err(self.stuck(why.clone())),
            (_, None) => Err(self.gone()),
            (_, Some(_)) => Err(self.replaced()),
        }
    }

    /// Whether the file that is open stands where it always stood, and only the link at the path does not lead there any more. It is
    /// whole there, for everybody.
    pub fn stands_unlinked(&self) -> bool {
        self.inner.site.as_ref().is_some_and(|site| {
            let known = site.known();
            known.file != site.path && is_file(&known.file, known.id) && !is_file(&site.path, known.id)
        })
    }

    /// Whether somebody is at work on a connection of the pool.
    pub fn is_in_use(&self) -> bool {
        let state = self.pool_state();
        state.open > state.idle
    }

    /// Has a database of ours at the path again, and new connections go there. `held` is a connection to the file before, which
    /// still has all of it and is to be closed afterwards; it is closed here where that file may come back from another name.
    /// `seen` is what running servers have seen of the counter of changes.
    ///
    /// # Errors
    /// Why not; it may be tried again. `Moved` when that may be soon.
    pub fn mend(&self, held: &mut Option<DbConnection>, seen: i64) -> Result<Mended, StorageError> {
        let Some(site) = &self.inner.site else { return Ok(Mended::Adopted(None)) };
        let folder = folder_of(&site.known().file).to_owned();
        // Several processes may have it open: whoever waited finds what the first one put there.
        let alone = alone_in(&folder)?;
        let found = site.found().map_err(|error| StorageError::of_folder(&site.path, &error))?;
        if alone.is_none() {
            return Err(self.moved(found));
        }
        let mended = self.settle(site, found, held, seen);
        let refusal = match &mended {
            Err(StorageError::Foreign { why, .. }) => Refusal::Foreign(why.clone()),
            Err(StorageError::Stuck { why, .. }) => Refusal::Stuck(why.clone()),
            _ => return mended,
        };
        site.known().refused = Some((found, refusal));
        mended
    }

    fn settle(
        &self,
        site: &Site,
        found: Option<FileId>,
        held: &mut Option<DbConnection>,
        seen: i64,
    ) -> Result<Mended, StorageError> {
        let (id, file, device) = {
            let known = site.known();
            (known.id, known.file.clone(), known.device)
        };
        // Where a file system is not mounted any more, what is underneath is nobody's place for a database.
        if found.is_none() && id_of(folder_of(&file))?.0 != device {
            return Err(self.stuck(format!(
                "{} is on another file system than it was; mount that again",
                folder_of(&file).display()
            )));
        }
        let is_in_use = self.is_in_use();
        let idle = if held.is_none() { self.pool().and_then(|pool| pool.try_get()) } else { None };
        let mut before = Before { id, file, held, idle, names: open_here(id), is_in_use };
        if found == Some(id) || before.names.is_some() && before.reader().is_none() {
            // It came back, or a reader that is still at work has the last connection to it.
            return Err(self.moved(found));
        }
        if found.is_none() && is_there(&before.file) {
            return Err(self.stuck(format!(
                "it is still at {}, and the link to it is gone; make that anew",
                before.file.display()
            )));
        }
        // A server that has just begun has seen what no look of it told of yet.
        let counter = before.reader().and_then(|reader| keys::counter(reader).ok());
        let seen = seen.max(counter.unwrap_or_default());
        // Who moved it away has a whole file then: nobody will look for what is beside it.
        let is_whole = before.reader().is_some_and(make_whole);
        if before.is_named() {
            if before.is_in_use || !is_whole {
                return Err(self.moved(found));
            }
            if is_open_elsewhere(id) {
                return Err(self.stuck(format!(
                    "it was moved, and another process still works on it, such as `waygate-mcp stdio`; end that one, or move the \
                     file back to {}",
                    self.place()
                )));
            }
        }
        match found {
            None => self.put_back(site, before, seen),
            Some(found) => self.adopt(site, found, before, seen),
        }
    }

    /// Where nothing stands, puts what is still open, or an empty database.
    fn put_back(&self, site: &Site, mut before: Before<'_>, seen: i64) -> Result<Mended, StorageError> {
        let file = before.file.clone();
        if before.names.is_none() {
            // Whoever else has it open puts it back.
            if is_open_elsewhere(before.id) {
                return Err(self.gone());
            }
            if site.known().is_let_go {
                return Err(self.stuck(
                    "it was moved away, and is not open here any more; move it back, or put a database of this version there"
                        .to_owned(),
                ));
            }
        }
        let (part, whole) = (with_end(&file, PART), with_end(&file, WHOLE));
        if is_there(&whole) {
            take_up(&whole, &file, before.names.is_some())?;
            return Err(self.replaced());
        }
        let mut is_ours = false;
        let put = self.make_part(&part, &mut before, seen).and_then(|mended| {
            sync(&part)?;
            fs::rename(&part, &whole).map_err(|error| StorageError::of_folder(&whole, &error))?;
            is_ours = true;
            let id = id_of(&whole)?;
            if before.is_named() {
                self.let_go(site, &mut before, None)?;
            }
            if is_there(&file) {
                return Err(self.replaced());
            }
            self.clear_beside(&file, true)?;
            if !put_where_none_is(&whole, &file)? {
                return Err(self.replaced());
            }
            self.renew_pool();
            site.take(id, file.clone());
            // It is there: that a loss of power might take it away again is no reason to write elsewhere.
            if let Err(error) = sync(folder_of(&file)) {
                log::warn!("the database was put back, and may not outlast a loss of power: {error}");
            }
            Ok(mended)
        });
        if put.is_err() {
            // It is a copy of what is still open.
            drop(remove_with_beside(&part));
            if is_ours {
                drop(remove_with_beside(&whole));
            }
        }
        put
    }

    /// A whole database in a file alone, with all that is still open if that can be read.
    fn make_part(&self, part: &Path, before: &mut Before<'_>, seen: i64) -> Result<Mended, StorageError> {
        remove_with_beside(part)?;
        let copied = before.reader().map(|reader| self.copy(reader, part));
        let kept = match copied {
            Some(Ok(())) => return Ok(Mended::Saved),
            // What is damaged stays so; under another name, it is nobody's to replace.
            Some(Err(StorageError::Corrupt { .. })) if !before.is_named() => {
                Some(keep_bytes(before.id, &before.file)?)
            }
            Some(Err(error)) => return Err(error),
            None => None,
        };
        make_anew(part, seen)?;
        Ok(Mended::Anew(kept))
    }

    /// Goes on with what stands there, if it is one of ours.
    fn adopt(
        &self,
        site: &Site,
        found: FileId,
        mut before: Before<'_>,
        seen: i64,
    ) -> Result<Mended, StorageError> {
        let file = real(&site.path)?;
        if open_here(found).is_some() {
            // A reader opened it unseen, in the moment in which it came: what is beside it is then not ours to remove.
            drop(before.idle.take());
            self.renew_pool();
            return Err(self.replaced());
        }
        // Else SQLite would take what was written to the one before for a part of this one.
        if before.is_named() {
            self.let_go(site, &mut before, Some(found))?;
        } else {
            self.clear_beside(&file, false)?;
        }
        judge(&file)
            .and_then(|mut connection| {
                keys::raise(&mut connection, seen)
                    .map_err(|error| doubt(&StorageError::of_query(self.place(), &error)))
            })
            .map_err(|why| why.map_or_else(|| self.replaced(), |why| self.foreign(why)))?;
        let id = before.id;
        let kept = match before.reader() {
            Some(reader) => Some(self.keep(reader, id, &file)?),
            None => None,
        };
        // What was not looked at does not become ours.
        if id_of(&file)? != found {
            return Err(self.replaced());
        }
        self.renew_pool();
        site.take(found, file);
        Ok(Mended::Adopted(kept))
    }

    /// Closes what is open here of a file that is whole under another name, and only then removes what is beside its path: were it
    /// to come back while it is open here, it would have a log here and another one for everybody else.
    fn let_go(
        &self,
        site: &Site,
        before: &mut Before<'_>,
        found: Option<FileId>,
    ) -> Result<(), StorageError> {
        let ours: Vec<(PathBuf, FileId)> = BESIDE
            .map(|end| with_end(&before.file, end))
            .into_iter()
            .filter_map(|path| id_of(&path).ok().map(|id| (path, id)))
            .filter(|(_, id)| open_here(*id).is_some())
            .collect();
        site.known().is_let_go = true;
        drop((before.idle.take(), before.held.take()));
        self.renew_pool();
        let still = site.found().map_err(|error| StorageError::of_folder(&site.path, &error))?;
        if open_here(before.id).is_some() || still != found {
            return Err(self.moved(still));
        }
        // A link that leads elsewhere now leaves it where it was.
        if id_of(&before.file).is_ok_and(|id| id == before.id) {
            return Ok(());
        }
        for (path, id) in ours {
            if id_of(&path).is_ok_and(|now| now == id) {
                fs::remove_file(&path).map_err(|error| StorageError::of_folder(&path, &error))?;
            }
        }
        Ok(())
    }

    /// Keeps beside its path what is open of a file that has no name any more, and says where.
    ///
    /// # Errors
    /// When it cannot be written there.
    pub fn keep_lost(&self, held: &mut DbConnection) -> Result<Option<PathBuf>, StorageError> {
        let Some(site) = &self.inner.site else { return Ok(None) };
        let (id, file) = {
            let known = site.known();
            (known.id, known.file.clone())
        };
        if open_here(id) == Some(0) { self.keep(held, id, &file).map(Some) } else { Ok(None) }
    }

    fn keep(&self, held: &mut DbConnection, id: FileId, file: &Path) -> Result<PathBuf, StorageError> {
        let kept = name_of_kept(file);
        let copied = self.copy(held, &kept).and_then(|()| {
            sync(&kept)?;
            sync(folder_of(file))
        });
        match copied {
            Ok(()) => Ok(kept),
            Err(error) => {
                drop(remove_with_beside(&kept));
                if matches!(error, StorageError::Corrupt { .. }) { keep_bytes(id, file) } else { Err(error) }
            }
        }
    }

    fn renew_pool(&self) {
        let mut pool = self.inner.pool.write().unwrap_or_else(PoisonError::into_inner);
        if pool.is_some() {
            *pool = Some(pool_of(&self.inner.connector, self.inner.size));
        }
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

    fn moved(&self, found: Option<FileId>) -> StorageError {
        if found.is_some() { self.replaced() } else { self.gone() }
    }

    fn gone(&self) -> StorageError {
        StorageError::Moved { place: self.place().to_owned(), what: "was deleted or moved away" }
    }

    fn replaced(&self) -> StorageError {
        StorageError::Moved { place: self.place().to_owned(), what: "was replaced by another file" }
    }

    fn stuck(&self, why: String) -> StorageError {
        StorageError::Stuck { place: self.place().to_owned(), why }
    }

    fn foreign(&self, why: String) -> StorageError {
        StorageError::Foreign { place: self.place().to_owned(), why }
    }
}
