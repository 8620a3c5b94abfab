//! Why the database could not do what was asked, in sentences that say what to do. Must not know any table.

use std::io;
use std::path::{Path, PathBuf};

use diesel::result::{ConnectionError, DatabaseErrorKind, Error as QueryError};
use rustix::fs::{Access, access};
use rustix::io::Errno;

/// Why the database failed. Each text stands alone: what happened, where, what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// `[database] url` makes no sense.
    #[error(
        "the database address cannot be used: {0}; write postgres://user:password@host/name, or the path of a SQLite file"
    )]
    Address(String),
    /// The database's kind is not compiled in.
    #[error(
        "this build cannot open {place}: it was built without the feature {feature:?}; use a build that has it"
    )]
    Unsupported {
        /// Where it would be.
        place: String,
        /// What is missing.
        feature: &'static str,
    },
    /// There is no file yet, and the verb only reads.
    #[error("there is no database at {0}; start the server once, or run `waygate-mcp db migrate`")]
    Missing(String),
    /// The file that is open is not the one at the path any more.
    #[error(
        "the database file {place} {what} while the server runs; calls go on and what they leave waits, and within seconds the \
         server sees to it by itself: its log says how"
    )]
    Moved {
        /// Where it should be.
        place: String,
        /// What became of it.
        what: &'static str,
    },
    /// … and what stands there instead is nothing to go on with.
    #[error(
        "the file that was put at {place} while the server runs is not used: {why}; move it away and the server puts back what it \
         still has, or put a database of this version there"
    )]
    Foreign {
        /// Where.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// … and nothing can be done about it without a risk to what somebody may still have.
    #[error(
        "the database file {place} is not at its path while the server runs: {why}; calls go on and what they leave waits"
    )]
    Stuck {
        /// Where it should be.
        place: String,
        /// What stands in the way, and what to do.
        why: String,
    },
    /// A server was killed while it put the file back, before it had all of it.
    #[error(
        "the database {place} is missing, and {part} holds but a part of it, since a server was killed while it put it back; run \
         `waygate-mcp backup restore latest --yes --revive-keys` and look through `waygate-mcp keys list`, or move that file away to start \
         with an empty database"
    )]
    HalfPut {
        /// Where it should be.
        place: String,
        /// What there is.
        part: PathBuf,
    },
    /// Folder or file cannot be made or opened.
    #[error("{path} cannot be used: {cause}; give the user that runs Waygate read and write access to it")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// Others could put into the data folder what they like.
    #[error("the data folder {folder} {why}; whoever writes there could read keys and history: {advice}")]
    Exposed {
        /// Which.
        folder: PathBuf,
        /// Who may.
        why: String,
        /// What to do.
        advice: &'static str,
    },
    /// Another server owns the data folder.
    #[error(
        "the data folder {folder} belongs to a running server ({owner}); stop that one, or give this one its own --data-dir"
    )]
    Taken {
        /// Which.
        folder: PathBuf,
        /// `process 123`, or that it cannot be told.
        owner: String,
    },
    /// Somebody holds a lock longer than `busy_timeout_ms`.
    #[error(
        "the database {0} is locked by another process; end what holds it open, or raise database.busy_timeout_ms"
    )]
    Locked(String),
    /// It can be read only.
    #[error(
        "the database {0} is read-only: it can only be read; give the user that runs Waygate write access to the file \
         and its folder, or, with PostgreSQL, name the server that takes writes"
    )]
    ReadOnly(String),
    /// This user may not open it.
    #[error(
        "the database file {file} may not be read and written by this user; run `chmod u+rw {file}`, or do this as the user that it \
         belongs to",
        file = .0.display()
    )]
    Forbidden(PathBuf),
    /// No room.
    #[error("no room left at {0}; free disk space, what waits is then written by itself")]
    Full(String),
    /// It is no database, or a damaged one.
    #[error(
        "the database {place} is damaged ({cause}); move the file (and its -wal and -shm) away to start afresh, or restore a backup"
    )]
    Corrupt {
        /// Where.
        place: String,
        /// What the database said.
        cause: String,
    },
    /// It cannot be reached.
    #[error(
        "the database {place} cannot be reached ({cause}); check that it runs and that the address and password are right"
    )]
    Unreachable {
        /// Where.
        place: String,
        /// What the database said.
        cause: String,
    },
    /// It is there, and lets nobody else in.
    #[error(
        "the database {place} has no connection free ({cause}); lower database.pool_size, or raise its max_connections"
    )]
    Crowded {
        /// Where.
        place: String,
        /// What the database said.
        cause: String,
    },
    /// It is there, and refuses us.
    #[error(
        "the database {place} refuses this server ({cause}); set user, password, database and sslmode right in \
         WAYGATE_DATABASE_URL, and pg_hba.conf there"
    )]
    Denied {
        /// Where.
        place: String,
        /// What the database said.
        cause: String,
    },
    /// It cannot hold every character.
    #[error(
        "the database {place} is encoded in {encoding}, which cannot hold every text; name one that was made with \
         CREATE DATABASE waygate ENCODING 'UTF8' TEMPLATE template0"
    )]
    Encoding {
        /// Where.
        place: String,
        /// Which one it has.
        encoding: String,
    },
    /// A newer version has migrated it.
    #[error(
        "the database {place} was made by a newer version of Waygate (migration {migration}); run that version or restore a backup"
    )]
    Newer {
        /// Where.
        place: String,
        /// The first one we do not know.
        migration: String,
    },
    /// Its tables are not those that they should be.
    #[error(
        "the tables of the database {place} are not those of this version ({what}); run `waygate-mcp db migrate up`, and report \
         this as a bug if it stays so"
    )]
    Mismatch {
        /// Where.
        place: String,
        /// What differs first.
        what: String,
    },
    /// All readers are busy.
    #[error("no connection to the database {0} came free in time; try again, or raise database.pool_size")]
    Busy(String),
    /// A read took too long.
    #[error("the database {0} did not answer in time; ask for less, or see what else keeps it busy")]
    Slow(String),
    /// It was closed.
    #[error("the database {0} is closed, since the server stops; ask again when it runs")]
    Closed(String),
    /// A row that the database will never take: the fault lies with the row, not the database.
    #[error("the database {place} refused a row ({cause}); report this as a bug")]
    Refused {
        /// Where.
        place: String,
        /// What the database said.
        cause: String,
    },
    /// Anything else.
    #[error(
        "the database {place} failed ({cause}); run `waygate-mcp db check`, and see the database's own log"
    )]
    Failed {
        /// Where.
        place: String,
        /// What the database said.
        cause: String,
    },
}

impl StorageError {
    /// Whether it may be over soon without anybody's doing: a server that restarts, or is full of others.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Crowded { .. })
    }

    /// Whether the server goes on without the database meanwhile, and history catches up afterwards.
    pub fn may_pass(&self) -> bool {
        self.is_absence()
            || matches!(
                self,
                Self::Locked(_)
                    | Self::Forbidden(_)
                    | Self::Full(_)
                    | Self::Busy(_)
                    | Self::Slow(_)
                    | Self::ReadOnly(_)
                    | Self::Moved { .. }
                    | Self::Foreign { .. }
                    | Self::Stuck { .. }
            )
    }

    /// From a failed statement.
    pub fn of_query(place: &str, error: &QueryError) -> Self {
        match error {
            QueryError::DatabaseError(kind, information) => Self::of_kind(place, kind, information.message()),
            QueryError::SerializationError(_) => {
                Self::Refused { place: place.to_owned(), cause: error.to_string() }
            }
            other => Self::of_text(place, &other.to_string()),
        }
    }

    /// From what the system said of a file or folder that is to be made or written.
    pub fn of_folder(path: &Path, error: &io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::Full(path.display().to_string());
        }
        Self::Folder { path: path.to_owned(), cause: error.to_string() }
    }

    /// From an attempt to connect.
    pub fn of_connection(place: &str, error: &ConnectionError) -> Self {
        match error {
            ConnectionError::CouldntSetupConfiguration(query) => Self::of_query(place, query),
            // libpq's own words about a URL repeat parts of it, and so perhaps of the password.
            other if other.to_string().contains(" URI ") => {
                Self::Address(format!("the parameters of {place} make no sense to libpq"))
            }
            other => Self::of_establishing(place, &other.to_string()),
        }
    }

    pub(super) fn of_either(place: &str, error: &diesel::r2d2::Error) -> Self {
        match error {
            diesel::r2d2::Error::ConnectionError(error) => Self::of_connection(place, error),
            diesel::r2d2::Error::QueryError(error) => Self::of_query(place, error),
        }
    }

    pub(super) fn of_establishing(place: &str, text: &str) -> Self {
        match Self::of_text(place, text) {
            Self::Failed { place, cause } => Self::Unreachable { place, cause },
            known => known,
        }
    }

    fn of_kind(place: &str, kind: &DatabaseErrorKind, text: &str) -> Self {
        use DatabaseErrorKind as Kind;
        let (place_owned, cause) = (place.to_owned(), text.to_owned());
        match kind {
            Kind::ReadOnlyTransaction => Self::ReadOnly(place_owned),
            Kind::ClosedConnection | Kind::UnableToSendCommand => {
                Self::Unreachable { place: place_owned, cause }
            }
            Kind::UniqueViolation
            | Kind::CheckViolation
            | Kind::NotNullViolation
            | Kind::ForeignKeyViolation
            | Kind::RestrictViolation
            | Kind::ExclusionViolation => Self::Refused { place: place_owned, cause },
            _ => Self::of_text(place, text),
        }
    }

    /// SQLite and libpq give their codes to Diesel, which hands on the text alone.
    pub(super) fn of_text(place: &str, text: &str) -> Self {
        let lower = text.to_lowercase();
        let says = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
        let (place, cause) = (place.to_owned(), text.trim().to_owned());
        if says(&["is locked", "lock timeout", "database is busy"]) {
            Self::Locked(place)
        } else if says(&["statement timeout"]) {
            Self::Slow(place)
        } else if says(&["too many clients", "too many connections", "connection slots are reserved"]) {
            Self::Crowded { place, cause }
        } else if says(DENIALS) {
            Self::Denied { place, cause }
        } else if says(&["readonly database", "read-only transaction", "read-only file system"]) {
            Self::ReadOnly(place)
        } else if says(&["disk is full", "no space left", "disk full"])
            || (says(&["unable to open database file"]) && lacks_files(&place))
        {
            Self::Full(place)
        } else if let Some(file) =
            says(&["unable to open database file"]).then(|| closed_file(&place)).flatten()
        {
            Self::Forbidden(file)
        } else if says(&["not a database", "malformed", "invalid page"]) {
            Self::Corrupt { place, cause }
        } else if says(ABSENCES) {
            Self::Unreachable { place, cause }
        } else if says(&[
            "invalid byte sequence",
            "has no equivalent in encoding",
            "out of range",
            "too long for type",
            "string or blob too big",
            // A text that is too long for an index.
            "index row size",
            "index row requires",
        ]) {
            Self::Refused { place, cause }
        } else {
            Self::Failed { place, cause }
        }
    }
}

/// Files that SQLite needs for one database, at most.
const FILES_OF_ONE: u64 = 4;

/// Whether the disk of SQLite's file at `place` has bytes and hardly any files to give: SQLite does not say why it could make none.
fn lacks_files(place: &str) -> bool {
    let folder = Path::new(place).parent().map(rustix::fs::statvfs);
    // Some file systems do not count them.
    folder.is_some_and(|disk| disk.is_ok_and(|disk| disk.f_files > 0 && disk.f_favail < FILES_OF_ONE))
}

/// The file of SQLite's database at `place` that is there and that this user may not open: SQLite does not say why it could not.
fn closed_file(place: &str) -> Option<PathBuf> {
    let files = ["", "-wal", "-shm"].map(|end| PathBuf::from(format!("{place}{end}")));
    files.into_iter().find(|file| {
        // Where it cannot even be looked at, it is the folder that keeps us out.
        file.symlink_metadata().is_ok()
            && access(file, Access::READ_OK | Access::WRITE_OK) == Err(Errno::ACCESS)
    })
}

/// What the databases say when they are not there, or not any more.
const ABSENCES: &[&str] = &[
    "server closed the connection",
    "could not connect",
    "connection to server",
    "unable to open",
    "terminating connection",
    "the database system is",
    "no connection to the server",
    "connection not open",
    "could not receive data",
    "could not send data",
    "ssl syscall error",
    "ssl connection has been closed",
    "could not translate host name",
    "timeout expired",
];

/// What PostgreSQL says when waiting would not help.
const DENIALS: &[&str] = &[
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "certificate",
    "does not support ssl",
    "permission denied",
    "is not permitted to log in",
    "fatal:  role",
    "fatal:  database",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_databases_say_is_recognised() {
        let of = |text: &str| StorageError::of_text("here", text);
        assert!(matches!(of("database is locked"), StorageError::Locked(_)));
        assert!(matches!(of("canceling statement due to lock timeout"), StorageError::Locked(_)));
        assert!(matches!(of("attempt to write a readonly database"), StorageError::ReadOnly(_)));
        assert!(matches!(of("database or disk is full"), StorageError::Full(_)));
        assert!(matches!(of("file is not a database"), StorageError::Corrupt { .. }));
        assert!(matches!(of("database disk image is malformed"), StorageError::Corrupt { .. }));
        assert!(matches!(of("server closed the connection unexpectedly"), StorageError::Unreachable { .. }));
        assert!(matches!(of("division by zero"), StorageError::Failed { .. }));
        let foreign = "character with byte sequence 0xe2 0x82 0xac in encoding \"UTF8\" has no equivalent in encoding \"LATIN1\"";
        assert!(matches!(of(foreign), StorageError::Refused { .. }));
        let ended = "terminating connection due to administrator command";
        assert!(matches!(of(ended), StorageError::Unreachable { .. }));
        let denied =
            "connection to server at \"db\" failed: FATAL:  password authentication failed for user \"me\"";
        assert!(matches!(of(denied), StorageError::Denied { .. }));
        let crowded = "connection to server at \"db\" failed: FATAL:  sorry, too many clients already";
        assert!(matches!(of(crowded), StorageError::Crowded { .. }));
        assert!(matches!(of("canceling statement due to statement timeout"), StorageError::Slow(_)));
        let absent = StorageError::of_establishing("here", "Connection refused");
        assert!(matches!(absent, StorageError::Unreachable { .. }));
    }
}
