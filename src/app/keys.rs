//! Keys past the server: the command line works on the database itself, and running servers notice within a second.
//!
//! Must not know terminals. Whoever may write the database may do this; the history says that it was done.

use std::time::{Duration, SystemTime};

use super::{StartError, means};
use crate::access::keys::About;
use crate::actors::keys::{Keys, acts, rows};
use crate::config::{Config, Environment};
use crate::storage::{self, DbConnection, Storage, StorageError, acts as ledger, migrations};

pub use crate::access::Caller;
pub use crate::access::keys::{
    Act, Acted, Form, FormLimits, GRACE_DEFAULT, KeyError, Renewal, Standing, end, until,
};

/// How long a connection is waited for.
const CONNECTION_WAIT: Duration = Duration::from_secs(10);

/// The database's keys, opened.
pub struct KeyBook {
    storage: Storage,
}

/// Why keys cannot be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The database cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Its schema is older.
    #[error("{0} is of an older version; run `waygate-mcp db migrate`, or start the server, and try again")]
    Old(String),
    /// It cannot be done.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What is done could not be sealed.
    #[error("{0}")]
    Seal(String),
}

impl KeyBook {
    /// Opens the database of this configuration; makes it if `make` says so and it is not there.
    ///
    /// # Errors
    /// When it cannot be opened, or is of an older version.
    pub fn open(config: &Config, make: bool) -> Result<Self, BookError> {
        let folder = super::data_folder(config);
        let path = folder.join("waygate.db");
        let storage = if make {
            storage::open_beside(&config.database, &path, &folder)?
        } else {
            storage::open_existing(&config.database, &path)?
        };
        let mut connection = storage.connect()?;
        // One without tables may be made like one that is not there: a database server gives them out so.
        if make && migrations::is_blank(&mut connection, storage.place())? {
            storage.migrate()?;
        }
        if !migrations::pending(&mut connection, storage.place())?.is_empty() {
            return Err(BookError::Old(storage.place().to_owned()));
        }
        Ok(Self { storage })
    }

    /// All keys, the oldest first.
    ///
    /// # Errors
    /// What the database says.
    pub fn all(&self) -> Result<Vec<About>, BookError> {
        let rows = self.storage.run(CONNECTION_WAIT, storage::keys::all)?;
        let now = SystemTime::now();
        let about = |row: &storage::keys::KeyRow| {
            rows::key(row).map_or_else(|_| About::unreadable(&row.prefix, now), |(_, about)| about)
        };
        Ok(rows.iter().map(about).collect())
    }

    /// Does something to keys, and writes into the history that it was done.
    ///
    /// # Errors
    /// What the database says, or why it cannot be done.
    pub fn act(&self, config: &Config, act: &Act) -> Result<Acted, BookError> {
        let now = SystemTime::now();
        // A server that comes later would miss the seal of what was done before it.
        let notary = means::new_notary(config).map_err(|error| BookError::Seal(error.to_string()))?;
        let record = |connection: &mut DbConnection, acted: &Acted| {
            let (to, detail) = (acted.key.principal(), acted.detail());
            let row = ledger::Act { name: act.name(), to: Some(&to), detail: &detail };
            ledger::record(connection, &notary, row)
        };
        let acted =
            self.storage.run(CONNECTION_WAIT, |connection| acts::carry_out(connection, act, now, record))?;
        Ok(acted?)
    }
}

/// Refuses to serve real users, or an address that other machines reach, without any key; and anybody, where the server that
/// hands over asks for keys.
pub(super) fn guarded(config: &Config, keys: &Keys, was_guarded: bool) -> Result<(), StartError> {
    let server = &config.server;
    if server.insecure_no_auth || !keys.ring().is_open() {
        return Ok(());
    }
    if was_guarded {
        return Err(StartError::Open(opens_what_was_guarded(config)));
    }
    let alone = crate::config::is_loopback(&server.host) && server.env != Environment::Production;
    if alone {
        return Ok(());
    }
    let why = if server.env == Environment::Production {
        "server.env is production".to_owned()
    } else {
        format!("other machines reach {}", server.host)
    };
    Err(StartError::Open(format!(
        "{why}, and there is no key to keep strangers out; set WAYGATE_API_KEY (openssl rand -hex 32 makes one), make a key by \
         `waygate-mcp keys create NAME --scope admin`, or, where something else guards it, give --insecure-no-auth"
    )))
}

/// Most often somebody restarts in another folder than the one in which the server was started.
fn opens_what_was_guarded(config: &Config) -> String {
    let file = match &config.env_file {
        Some(path) if config.read_from.contains(path) => format!("it read {}", path.display()),
        Some(path) => format!("there is no {} for it to read", path.display()),
        None => "it read no .env".to_owned(),
    };
    format!(
        "the server that runs asks for keys and this one has none, so it would let everybody in, and the other one goes on \
         serving: {file}; start it in the folder whose .env has WAYGATE_API_KEY, make a key by `waygate-mcp keys create NAME`, or \
         say by --insecure-no-auth that nobody is to be asked for one"
    )
}
