//! Diesel on SQLite or PostgreSQL: one connection type, one pool, one file a table. Sends no message, never retries;
//! must not know actors or HTTP.

pub mod acts;
pub mod checkpoints;
pub mod connection;
pub mod definitions;
pub mod error;
pub mod folder;
pub mod history;
#[cfg(feature = "sqlite")]
mod insert;
pub mod instances;
pub mod keys;
pub mod migrations;
mod place;
pub mod schema;
pub mod sessions;
pub mod socket;
pub mod stamp;
pub mod transfer;
#[cfg(feature = "postgres")]
mod unnest;
pub mod upkeep;

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use diesel::RunQueryDsl as _;
use r2d2::PooledConnection;

pub use checkpoints::Notary;
pub use connection::DbConnection;
use connection::{Connector, Target};
pub use diesel::QueryResult;
pub use error::StorageError;
pub use folder::{DataFolder, Nook, Owned, Sole};
pub use instances::Instance;
use place::Site;
pub use place::{Left, Mended, Untold};

use crate::config;

type Pool = r2d2::Pool<Connector>;

/// The pool tries a database that is away again at least twice in this time.
const RETRY_WITHIN: Duration = Duration::from_secs(2);
/// Connections of the pool above those for readers: for who must look while they are all in use.
pub const WATCHERS: u32 = 1;
/// How long a statement waits for a lock on a file that nobody else should have.
const FILE_BUSY_MS: u64 = 5_000;
/// How long a server that owns a folder may take to make the database there, or to put it back, and between two looks.
const MADE_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How many connections there are and may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolState {
    /// Open ones.
    pub open: u32,
    /// Open ones that nobody uses.
    pub idle: u32,
    /// At most so many.
    pub max: u32,
}

/// A database that was opened once, with its pool of readers. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Connector,
    /// None once closed.
    pool: RwLock<Option<Pool>>,
    place: String,
    /// Which file it is, if it is one.
    site: Option<Site>,
    size: u32,
    /// When it was last seen to be read-only.
    read_only_at: Mutex<Option<Instant>>,
}

/// Opens the database of `[database]`, making folder and file if need be. Its schema may still be old: see
/// [`Storage::migrate`].
///
/// # Errors
/// When it cannot be opened or reached, or is no database.
pub fn open(database: &config::Database, default_path: &Path) -> Result<Storage, StorageError> {
    let target = Target::of(database, default_path)?;
    if let Target::Sqlite { path, .. } = &target {
        place::settle_left(path)?;
        make_file(path)?;
    }
    Storage::on(target, database)
}

/// What a server left of the database that was killed while it put it back; the next one that opens it, or `waygate-mcp db migrate`,
/// finishes that. Nothing with PostgreSQL.
pub fn left(database: &config::Database, default_path: &Path) -> Option<Left> {
    place::left_at(&file_of(database, default_path).ok()??)
}

/// Finishes what [`left`] tells of. Nothing with PostgreSQL.
///
/// # Errors
/// `HalfPut` when there is but a part of it, and nothing at its path.
pub fn settle_left(database: &config::Database, default_path: &Path) -> Result<(), StorageError> {
    file_of(database, default_path)?.map_or(Ok(()), |path| place::settle_left(&path))
}

/// Opens a database, making it if it is not there, unless the server that owns this data folder works on it: that one puts back what
/// it has open, and an empty one would be in the way.
///
/// # Errors
/// `Moved` when the server's file is not at its path, and as [`open`].
pub fn open_beside(
    database: &config::Database,
    default_path: &Path,
    folder: &Path,
) -> Result<Storage, StorageError> {
    let give_up = Instant::now() + MADE_WITHIN;
    if let Some(path) = file_of(database, default_path)? {
        place::settle_left(&path)?;
    }
    loop {
        match open_existing(database, default_path) {
            // One that has just begun makes it in a moment.
            Err(StorageError::Missing(_)) if DataFolder::is_owned(folder) && Instant::now() < give_up => {
                std::thread::sleep(LOOK_EVERY);
            }
            Err(StorageError::Missing(place)) if DataFolder::is_owned(folder) => {
                return Err(StorageError::Moved { place, what: "was deleted or moved away" });
            }
            Err(StorageError::Missing(_)) => return open(database, default_path),
            opened => return opened,
        }
    }
}

/// Whether the database is a server, which may be away for a while, and not a file.
pub fn is_server(database: &config::Database) -> bool {
    database.url.is_some() && matches!(Target::of(database, Path::new("")), Ok(Target::Postgres { .. }))
}

/// Opens a database that is there already.
///
/// # Errors
/// When there is none, and as [`open`].
pub fn open_existing(database: &config::Database, default_path: &Path) -> Result<Storage, StorageError> {
    let target = Target::of(database, default_path)?;
    if let Target::Sqlite { path, .. } = &target
        && !path.exists()
    {
        return Err(StorageError::Missing(target.shown()));
    }
    Storage::on(target, database)
}

/// Opens a SQLite file by its path, making it if need be: a copy of a database, and not the one that is configured.
///
/// # Errors
/// As [`open`].
pub fn at_file(path: &Path) -> Result<Storage, StorageError> {
    if !cfg!(feature = "sqlite") {
        return Err(StorageError::Unsupported { place: path.display().to_string(), feature: "sqlite" });
    }
    let path = std::path::absolute(path)
        .map_err(|error| StorageError::Folder { path: path.to_owned(), cause: error.to_string() })?;
    make_file(&path)?;
    let database =
        config::Database { url: None, pool_size: 1, busy_timeout_ms: FILE_BUSY_MS, wait_seconds: 0 };
    Storage::on(Target::at(path, None), &database)
}

/// Where the database is, if it is a file.
///
/// # Errors
/// When `[database] url` makes no sense.
pub fn file_of(database: &config::Database, default_path: &Path) -> Result<Option<PathBuf>, StorageError> {
    match Target::of(database, default_path)? {
        Target::Sqlite { path, .. } => Ok(Some(path)),
        Target::Postgres { .. } => Ok(None),
    }
}

/// SQLite gives the files beside it the same mode.
fn make_file(path: &Path) -> Result<(), StorageError> {
    if let Some(parent) = path.parent() {
        folder::make(parent)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        // A link may have been laid before there is anything at its end.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !path.exists() => {
            let made = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
            made.map(drop).map_err(|error| StorageError::of_folder(path, &error))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StorageError::of_folder(path, &error)),
    }
}

impl Storage {
    fn on(target: Target, database: &config::Database) -> Result<Self, StorageError> {
        let place = target.shown();
        let busy = Duration::from_millis(database.busy_timeout_ms);
        let connector = Connector { target, busy };
        // Opened at once, so that what is wrong is said in the database's own words, not as a pool's timeout.
        let mut first = connector.open().map_err(|error| StorageError::of_either(&place, &error))?;
        touch(&mut first, &place)?;
        let site = match &connector.target {
            Target::Sqlite { path, .. } => Some(Site::of(path)?),
            Target::Postgres { .. } => None,
        };
        drop(first);
        let size = database.pool_size.max(1);
        let pool = RwLock::new(Some(pool_of(&connector, size)));
        Ok(Self {
            inner: Arc::new(Inner { connector, pool, place, site, size, read_only_at: Mutex::default() }),
        })
    }

    /// Where it is, for people: a path, or a URL without secrets.
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.inner.connector.target {
            Target::Sqlite { path, .. } => Some(path),
            Target::Postgres { .. } => None,
        }
    }

    /// Readers at most.
    pub fn pool_size(&self) -> u32 {
        self.inner.size
    }

    /// How many connections there are.
    pub fn pool_state(&self) -> PoolState {
        let state = self.pool().map(|pool| pool.state());
        let (open, idle) = state.map_or((0, 0), |state| (state.connections, state.idle_connections));
        PoolState { open, idle, max: self.inner.size + WATCHERS }
    }

    /// A connection of its own, outside the pool.
    ///
    /// # Errors
    /// As [`open`], and when the file is not at its path any more.
    pub fn connect(&self) -> Result<DbConnection, StorageError> {
        self.look()?;
        self.inner.connector.open().map_err(|error| StorageError::of_either(self.place(), &error))
    }

    /// Runs `work` on a pooled connection, waiting `wait` at most to get one. Blocks.
    ///
    /// # Errors
    /// When no connection is free, when the storage is closed, when the file is not at its path any more, when `work` fails.
    pub fn run<T>(
        &self,
        wait: Duration,
        work: impl FnOnce(&mut DbConnection) -> diesel::QueryResult<T>,
    ) -> Result<T, StorageError> {
        // What was written into a file that is nobody's any more would be lost. Before the pool is asked for: it is another one by the
        // time that this is true again.
        self.look()?;
        let pool = self.pool().ok_or_else(|| StorageError::Closed(self.place().to_owned()))?;
        let mut pooled = self.take_from(&pool, wait)?;
        let done = work(&mut pooled.connection).map_err(|error| self.failed(&error));
        if matches!(done, Err(StorageError::ReadOnly(_))) {
            pooled.spent = true;
            *self.inner.read_only_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        done
    }

    /// A session of PostgreSQL keeps what it was told when it began, and stays read-only when its database no longer is: those that are
    /// older than the last refusal are not used any more.
    fn take_from(&self, pool: &Pool, wait: Duration) -> Result<PooledConnection<Connector>, StorageError> {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let pooled = pool.get_timeout(left).map_err(|error| self.no_connection(&error.to_string()));
            let mut pooled = pooled?;
            let refused = *self.inner.read_only_at.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.is_none_or(|at| pooled.opened > at) {
                return Ok(pooled);
            }
            pooled.spent = true;
        }
    }

    /// Brings the schema to this version; gives the versions of the migrations that were run.
    ///
    /// # Errors
    /// See [`migrations::run`].
    pub fn migrate(&self) -> Result<Vec<String>, StorageError> {
        self.migrate_telling(|_| {})
    }

    /// The same, telling the name of each migration before it begins: it may take minutes.
    ///
    /// # Errors
    /// See [`migrations::run`].
    pub fn migrate_telling(&self, told: impl Fn(&str)) -> Result<Vec<String>, StorageError> {
        migrations::run(&mut self.connect()?, self.place(), told)
    }

    /// Closes the pool; connections still in use close when given back.
    pub fn close(&self) {
        drop(self.inner.pool.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Names a failed statement by what can be done about it.
    pub fn failed(&self, error: &diesel::result::Error) -> StorageError {
        StorageError::of_query(self.place(), error)
    }

    fn pool(&self) -> Option<Pool> {
        self.inner.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// r2d2 says `timed out waiting for connection`, and behind a colon why none could be opened.
    fn no_connection(&self, text: &str) -> StorageError {
        match text.split_once(": ") {
            Some((_, cause)) => StorageError::of_establishing(self.place(), cause),
            None => StorageError::Busy(self.place().to_owned()),
        }
    }
}

fn pool_of(connector: &Connector, size: u32) -> Pool {
    r2d2::Pool::builder()
        .max_size(size + WATCHERS)
        .min_idle(Some(0))
        .connection_timeout(RETRY_WITHIN)
        .error_handler(Box::new(r2d2::NopErrorHandler))
        .build_unchecked(connector.clone())
}

/// Reads one page, since SQLite notices only then that a file is no database; asks PostgreSQL whether it can hold every
/// text, since it would notice only at the first character that it cannot.
fn touch(connection: &mut DbConnection, place: &str) -> Result<(), StorageError> {
    let touched = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => {
            diesel::sql_query("SELECT count(*) FROM sqlite_schema").execute(sqlite).map(drop)
        }
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => match connection::encoding_of(postgres) {
            Ok(encoding) if encoding != "UTF8" => {
                return Err(StorageError::Encoding { place: place.to_owned(), encoding });
            }
            asked => asked.map(drop),
        },
    };
    touched.map_err(|error| StorageError::of_query(place, &error))
}

/// Asks the smallest question that touches the file or the server.
///
/// # Errors
/// What the database says.
pub fn ask(connection: &mut DbConnection) -> diesel::QueryResult<()> {
    diesel::sql_query("SELECT counter FROM generation").execute(connection).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "sqlite")]
    fn a_link_may_be_laid_before_there_is_a_database_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let (link, file) = (folder.path().join("waygate.db"), folder.path().join("elsewhere.db"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        at_file(&link).unwrap().migrate().unwrap();
        assert!(file.exists() && link.is_symlink());
    }
}
