//! One connection type for SQLite and PostgreSQL, and how each is opened: pragmas, timeouts, file modes.
//!
//! Must not know any table.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[cfg(feature = "postgres")]
use diesel::RunQueryDsl as _;
use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
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
            check_characters(text)?;
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
        let whole = std::path::absolute(path).map_err(|error| StorageError::Address(error.to_string()))?;
        Ok(Self::at(whole, parameters))
    }

    /// The file at an absolute path. Whoever means to make it does so before: a connection that found none would else make one of
    /// its own, where another was deleted.
    pub(super) fn at(path: PathBuf, parameters: Option<&str>) -> Self {
        // With an empty host: what follows two slashes would else be one, and a path may begin so.
        let mut name = format!("file://{}?", escaped(&path.to_string_lossy()));
        name.push_str(parameters.unwrap_or_default());
        if !parameters.is_some_and(|all| all.split('&').any(|one| one.starts_with("mode="))) {
            name.push_str(if parameters.is_some() { "&mode=rw" } else { "mode=rw" });
        }
        Self::Sqlite { path, name }
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
pub(super) fn escaped(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

/// A database URL without user, password and parameters.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let rest = without_parameters(rest);
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let place = place.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{place}")
}

/// Up to the first `?name=`: a question mark may stand in a password, too.
fn without_parameters(rest: &str) -> &str {
    let is_name =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_'));
    let parameters = rest.match_indices('?').find(|(at, _)| {
        let after = rest.get(at + 1..).unwrap_or_default();
        after.split_once('=').is_some_and(|(name, _)| is_name(name))
    });
    parameters.and_then(|(at, _)| rest.get(..at)).unwrap_or(rest)
}

/// Refuses what libpq would read otherwise than it was meant, and then repeat a part of the password in its error.
fn check_characters(url: &str) -> Result<(), StorageError> {
    let refuse = |what: &str| Err(StorageError::Address(what.to_owned()));
    let mut parts = url.split('%').skip(1);
    if !parts.all(|part| part.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2) {
        return refuse("a % in it must be followed by two hexadecimal digits; write %25 for the sign itself");
    }
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let user = without_parameters(rest).rsplit_once('@').map_or("", |(user, _)| user);
    if user.contains(['/', '@', '?', '#']) {
        return refuse(
            "a special character in the user's name or password must be written as its code: %40 for @, %2F for /, \
             %3F for ?, %23 for #",
        );
    }
    Ok(())
}

/// Opens connections to one database; the r2d2 pool does it through this.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    pub(super) target: Target,
    /// How long a statement waits for a lock.
    pub(super) busy: Duration,
}

/// A page of SQLite. History is appended, to the table and to its indices: with the usual 4 KiB the last pages fill, split and are
/// written to the log four times as often.
#[cfg(feature = "sqlite")]
const PAGE_BYTES: u32 = 16 * 1024;
/// How long PostgreSQL may work on one statement.
#[cfg(feature = "postgres")]
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// What libpq is told unless the URL says otherwise. Left to itself it would wait for minutes for a host that does not
/// answer, and a quarter of an hour for one that has gone without a word.
#[cfg(feature = "postgres")]
const PARAMETERS: [(&str, &str); 6] = [
    ("connect_timeout", "5"),
    ("tcp_user_timeout", "10000"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "2"),
    ("application_name", "waygate-mcp"),
];

impl Connector {
    /// A connection of its own, outside the pool.
    pub(super) fn open(&self) -> Result<DbConnection, diesel::r2d2::Error> {
        let mut connection = self.establish().map_err(diesel::r2d2::Error::ConnectionError)?;
        self.set_up(&mut connection).map_err(diesel::r2d2::Error::QueryError)?;
        Ok(connection)
    }

    pub(super) fn establish(&self) -> Result<DbConnection, ConnectionError> {
        match &self.target {
            #[cfg(feature = "sqlite")]
            Target::Sqlite { name, .. } => {
                diesel::SqliteConnection::establish(name).map(DbConnection::Sqlite)
            }
            #[cfg(feature = "postgres")]
            Target::Postgres { url, .. } => {
                // Else OpenSSL takes itself down when the process ends, under threads that still connect, and these crash.
                openssl_sys::init();
                diesel::PgConnection::establish(&with_parameters(url.expose().trim()))
                    .map(DbConnection::Postgres)
            }
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            other => Err(ConnectionError::BadConnection(format!("{} is not compiled in", other.shown()))),
        }
    }

    /// Pragmas and timeouts. The busy timeout comes first, since the others may have to wait for a lock; the size of pages, which only
    /// a database that is being made takes, before anything is written.
    fn set_up(&self, connection: &mut DbConnection) -> diesel::QueryResult<()> {
        let busy_ms = self.busy.as_millis();
        match connection {
            #[cfg(feature = "sqlite")]
            DbConnection::Sqlite(sqlite) => sqlite.batch_execute(&format!(
                "PRAGMA busy_timeout = {busy_ms}; PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = WAL; \
                 PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;"
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

/// How PostgreSQL keeps the texts of this database.
#[cfg(feature = "postgres")]
pub(super) fn encoding_of(postgres: &mut diesel::PgConnection) -> diesel::QueryResult<String> {
    #[derive(diesel::QueryableByName)]
    struct Shown {
        #[diesel(sql_type = diesel::sql_types::Text)]
        server_encoding: String,
    }
    let shown: Shown = diesel::sql_query("SHOW server_encoding").get_result(postgres)?;
    Ok(shown.server_encoding)
}

#[cfg(feature = "postgres")]
fn with_parameters(url: &str) -> String {
    let mut whole = url.to_owned();
    for (name, value) in PARAMETERS {
        let own = format!("{name}=");
        if url.split(['?', '&']).skip(1).any(|parameter| parameter.starts_with(&own)) {
            continue;
        }
        whole.push(if whole.contains('?') { '&' } else { '?' });
        whole.push_str(&own);
        whole.push_str(value);
    }
    whole
}

/// Out of each savepoint, and of the transaction around them.
fn roll_back<C>(connection: &mut C) -> bool
where
    C: diesel::Connection<TransactionManager = AnsiTransactionManager>,
    AnsiTransactionManager: TransactionManager<C, TransactionStateData = AnsiTransactionManager>,
{
    loop {
        match AnsiTransactionManager::transaction_manager_status_mut(connection).transaction_depth() {
            Ok(None) => return true,
            Ok(Some(_)) if AnsiTransactionManager::rollback_transaction(connection).is_ok() => {}
            Ok(Some(_)) | Err(_) => return false,
        }
    }
}

/// A connection of the pool.
pub(super) struct Pooled {
    pub(super) connection: DbConnection,
    /// Since when it is open.
    pub(super) opened: Instant,
    /// Whether it is of no more use, although it is not broken.
    pub(super) spent: bool,
}

impl r2d2::ManageConnection for Connector {
    type Connection = Pooled;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<Pooled, Self::Error> {
        Ok(Pooled { opened: Instant::now(), connection: self.open()?, spent: false })
    }

    fn is_valid(&self, pooled: &mut Pooled) -> Result<(), Self::Error> {
        pooled.connection.ping().map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, pooled: &mut Pooled) -> bool {
        std::thread::panicking() || pooled.spent || pooled.connection.is_broken()
    }
}

impl DbConnection {
    /// Rolls back what a panic cut in the middle. False when that cannot be done, and the connection can only be closed.
    pub fn roll_back(&mut self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(sqlite) => roll_back(sqlite),
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => roll_back(postgres),
        }
    }

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

    /// Has SQLite's file be whole by itself, with nothing beside it, until it is opened the next time. Nothing to do elsewhere.
    ///
    /// # Errors
    /// When somebody else has it open, or the database fails.
    pub fn leave_alone(&mut self) -> diesel::QueryResult<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(sqlite) => sqlite.batch_execute("PRAGMA journal_mode = DELETE;"),
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
            &config::Database { url, pool_size: 1, busy_timeout_ms: 1, wait_seconds: 0 },
            Path::new("/default/waygate.db"),
        )
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_path_may_be_written_in_each_usual_way() {
        for url in ["sqlite:/a/b.db", "sqlite:///a/b.db", "/a/b.db", "file:/a/b.db"] {
            let name = "file:///a/b.db?mode=rw".to_owned();
            let expected = Target::Sqlite { path: "/a/b.db".into(), name };
            assert_eq!(target(url).unwrap(), expected, "{url}");
        }
        let Target::Sqlite { path, name } = target("sqlite:/a/b%c.db?mode=ro").unwrap() else { panic!() };
        assert_eq!((path.to_str(), name.as_str()), (Some("/a/b%c.db"), "file:///a/b%25c.db?mode=ro"));
        // SQLite takes what follows two slashes for a host.
        let Target::Sqlite { name, .. } = target("sqlite:////a/b.db").unwrap() else { panic!() };
        assert_eq!(name, "file:////a/b.db?mode=rw");
    }

    #[test]
    fn what_cannot_hold_history_is_refused() {
        for url in ["mysql://a/b", "sqlite::memory:", "", "sqlite:"] {
            assert!(matches!(target(url), Err(StorageError::Address(_))), "{url}");
        }
    }

    #[test]
    fn a_shown_url_has_no_secret() {
        for user in ["", "me@", "me:p@ss@", "me:p?ss@", "me:p#s/s@"] {
            let shown = without_secrets(&format!("postgres://{user}db.example:5432/waygate?password=x"));
            assert_eq!(shown, "postgres://db.example:5432/waygate");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_password_that_libpq_would_misread_is_refused_without_showing_it() {
        for user in ["me:secr@t@", "me:sec/ret@", "me:sec?ret@", "me:sec#ret@", "me:sec%ret@", "me:secret%@"]
        {
            let error = target(&format!("postgres://{user}db/waygate")).unwrap_err();
            assert!(matches!(error, StorageError::Address(_)));
            assert!(!error.to_string().contains("sec"), "{error}");
        }
        for fine in [
            "me:sec%40ret@db,other/waygate?sslmode=require",
            "db/waygate?application_name=a@b",
            "/w?host=/run",
        ] {
            assert!(target(&format!("postgres://{fine}")).is_ok(), "{fine}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn what_the_url_says_of_a_connection_counts_more_than_what_we_say() {
        let whole = with_parameters("postgres://db/waygate?connect_timeout=1&sslmode=require");
        assert!(
            whole.starts_with("postgres://db/waygate?connect_timeout=1&sslmode=require&tcp_user_timeout=")
        );
        assert_eq!(whole.matches("connect_timeout=").count(), 1);
        assert!(
            with_parameters("postgres://db/waygate").starts_with("postgres://db/waygate?connect_timeout=5&")
        );
    }
}
