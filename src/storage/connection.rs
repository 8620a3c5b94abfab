//! One connection type for SQLite and PostgreSQL, and how each is opened: pragmas, timeouts, file modes.
//!
//! Must not know any table.

use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection as _, ConnectionError, r2d2::R2D2Connection};

use super::StorageError;
use crate::config::{self, Durability};

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!("Waygate needs a database: build with the feature `sqlite`, `postgres` or both");

/// A connection to either database. SQLite stands last: it takes any text for a path.
#[derive(diesel::MultiConnection)]
pub enum DbConnection {
    /// PostgreSQL, through libpq.
    #[cfg(feature = "postgres")]
    Postgres(diesel::PgConnection),
    /// SQLite, compiled in.
    #[cfg(feature = "sqlite")]
    Sqlite(diesel::SqliteConnection),
}

/// Which database, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A file, and the name SQLite opens it by, which may carry URI parameters.
    Sqlite { path: PathBuf, name: String },
    /// A URL with its secrets, and one without.
    Postgres { url: config::Secret, shown: String },
}

impl Target {
    /// Reads `[database] url`; none means the default path.
    pub(super) fn of(database: &config::Database, default_path: &Path) -> Result<Self, StorageError> {
        let Some(url) = database.url.as_ref() else { return Self::file(&default_path.to_string_lossy()) };
        let text = url.expose().trim();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let shown = without_secrets(text);
            if !cfg!(feature = "postgres") {
                return Err(StorageError::Unsupported { place: shown, feature: "postgres" });
            }
            return Ok(Self::Postgres { url: url.clone(), shown });
        }
        if let Some((scheme, _)) = text.split_once("://")
            && !matches!(scheme, "sqlite" | "file")
        {
            return Err(StorageError::Address(format!("the scheme {scheme:?} is not known")));
        }
        let path =
            ["sqlite://", "sqlite:", "file://", "file:"].iter().find_map(|prefix| text.strip_prefix(prefix));
        Self::file(path.unwrap_or(text))
    }

    fn file(name: &str) -> Result<Self, StorageError> {
        let (path, parameters) = name.split_once('?').map_or((name, None), |(path, rest)| (path, Some(rest)));
        if path.is_empty() || path == ":memory:" {
            return Err(StorageError::Address(
                "history needs a file that several connections can open".to_owned(),
            ));
        }
        if !cfg!(feature = "sqlite") {
            return Err(StorageError::Unsupported { place: path.to_owned(), feature: "sqlite" });
        }
        // An absolute path is never taken for a URI, whatever its characters.
        let whole = std::path::absolute(path).map_err(|error| StorageError::Address(error.to_string()))?;
        let shown = whole.to_string_lossy().into_owned();
        let name =
            parameters.map_or_else(|| shown.clone(), |rest| format!("file:{}?{rest}", escaped(&shown)));
        Ok(Self::Sqlite { path: whole, name })
    }

    /// What people may see of it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Sqlite { path, .. } => path.display().to_string(),
            Self::Postgres { shown, .. } => shown.clone(),
        }
    }
}

/// The path of a `file:` URI.
fn escaped(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

/// A database URL without user, password and parameters.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{place}")
}

/// Opens connections to one database; the r2d2 pool does it through this.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    pub(super) target: Target,
    /// How long a statement waits for a lock.
    pub(super) busy: Duration,
}

/// How long PostgreSQL may work on one statement, and a connection may take to stand.
#[cfg(feature = "postgres")]
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
#[cfg(feature = "postgres")]
const CONNECT_TIMEOUT_SECONDS: u64 = 5;

impl Connector {
    /// A connection of its own, outside the pool.
    pub(super) fn open(&self) -> Result<DbConnection, diesel::r2d2::Error> {
        let mut connection = self.establish().map_err(diesel::r2d2::Error::ConnectionError)?;
        self.set_up(&mut connection).map_err(diesel::r2d2::Error::QueryError)?;
        Ok(connection)
    }

    fn establish(&self) -> Result<DbConnection, ConnectionError> {
        match &self.target {
            #[cfg(feature = "sqlite")]
            Target::Sqlite { name, .. } => {
                diesel::SqliteConnection::establish(name).map(DbConnection::Sqlite)
            }
            #[cfg(feature = "postgres")]
            Target::Postgres { url, .. } => {
                diesel::PgConnection::establish(&with_connect_timeout(url.expose()))
                    .map(DbConnection::Postgres)
            }
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            other => Err(ConnectionError::BadConnection(format!("{} is not compiled in", other.shown()))),
        }
    }

    /// Pragmas and timeouts. The busy timeout comes first, since the others may have to wait for a lock.
    fn set_up(&self, connection: &mut DbConnection) -> diesel::QueryResult<()> {
        let busy_ms = self.busy.as_millis();
        match connection {
            #[cfg(feature = "sqlite")]
            DbConnection::Sqlite(sqlite) => sqlite.batch_execute(&format!(
                "PRAGMA busy_timeout = {busy_ms}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;"
            )),
            #[cfg(feature = "postgres")]
            DbConnection::Postgres(postgres) => postgres.batch_execute(&format!(
                "SET statement_timeout = {}; SET lock_timeout = {busy_ms}; SET TIME ZONE 'UTC'; \
                 SET idle_in_transaction_session_timeout = {0};",
                STATEMENT_TIMEOUT.as_millis()
            )),
        }
    }
}

/// libpq would wait for minutes for a host that does not answer.
#[cfg(feature = "postgres")]
fn with_connect_timeout(url: &str) -> String {
    if url.contains("connect_timeout=") {
        return url.to_owned();
    }
    let mark = if url.contains('?') { '&' } else { '?' };
    format!("{url}{mark}connect_timeout={CONNECT_TIMEOUT_SECONDS}")
}

impl r2d2::ManageConnection for Connector {
    type Connection = DbConnection;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<DbConnection, Self::Error> {
        self.open()
    }

    fn is_valid(&self, connection: &mut DbConnection) -> Result<(), Self::Error> {
        connection.ping().map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, connection: &mut DbConnection) -> bool {
        std::thread::panicking() || connection.is_broken()
    }
}

impl DbConnection {
    /// How far a commit must have got before it counts.
    ///
    /// # Errors
    /// When the database refuses the setting.
    pub fn set_durability(&mut self, durability: Durability) -> diesel::QueryResult<()> {
        let batched = durability == Durability::Batched;
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(sqlite) => {
                let level = if batched { "NORMAL" } else { "FULL" };
                sqlite.batch_execute(&format!("PRAGMA synchronous = {level};"))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => {
                let level = if batched { "off" } else { "on" };
                postgres.batch_execute(&format!("SET synchronous_commit = {level};"))
            }
        }
    }

    /// Moves all of SQLite's write-ahead log into the file, so that the file alone is whole. Nothing to do elsewhere.
    ///
    /// # Errors
    /// When the database fails, for instance because the disk is full.
    pub fn checkpoint(&mut self) -> diesel::QueryResult<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(sqlite) => sqlite.batch_execute("PRAGMA wal_checkpoint(TRUNCATE);"),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, StorageError> {
        let url = Some(config::Secret::new(url));
        Target::of(
            &config::Database { url, pool_size: 1, busy_timeout_ms: 1 },
            Path::new("/default/waygate.db"),
        )
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_path_may_be_written_in_each_usual_way() {
        for url in ["sqlite:/a/b.db", "sqlite:///a/b.db", "/a/b.db", "file:/a/b.db"] {
            let expected = Target::Sqlite { path: "/a/b.db".into(), name: "/a/b.db".to_owned() };
            assert_eq!(target(url).unwrap(), expected, "{url}");
        }
        let Target::Sqlite { path, name } = target("sqlite:/a/b%c.db?mode=ro").unwrap() else { panic!() };
        assert_eq!((path.to_str(), name.as_str()), (Some("/a/b%c.db"), "file:/a/b%25c.db?mode=ro"));
    }

    #[test]
    fn what_cannot_hold_history_is_refused() {
        for url in ["mysql://a/b", "sqlite::memory:", "", "sqlite:"] {
            assert!(matches!(target(url), Err(StorageError::Address(_))), "{url}");
        }
    }

    #[test]
    fn a_shown_url_has_no_secret() {
        let shown = without_secrets("postgres://me:p@ss@db.example:5432/waygate?password=x");
        assert_eq!(shown, "postgres://db.example:5432/waygate");
    }
}
