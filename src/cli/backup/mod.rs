//! `backup create | list | verify | restore | prune | drill`: copies of all that matters, whether or not a server runs.
//!
//! Must not know how they are made.

mod show;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::progress::Line;
use super::{Exit, history, output, serve};
use crate::app;
use crate::backup::restore::{Keys, Part, Request, foresee_keys, restore, unpack};
use crate::backup::shelf::{self, Pruned};
use crate::backup::{self, BackupError, Places};
use crate::config::{Config, Environment, Secret};
use crate::storage::acts::{self, Act};
use crate::storage::{self, Storage, migrations};

/// How long a connection is waited for to tell the history what was done.
const NOTED_WITHIN: Duration = Duration::from_secs(10);
/// A passphrase's file is never larger.
const PASSPHRASE_MAX_BYTES: u64 = 4096;

const EXAMPLES: &str = "\
Examples:
  waygate-mcp backup create
  waygate-mcp backup create --passphrase-file /root/backup.pass     with .env and the sealing key, encrypted
  waygate-mcp backup verify latest
  waygate-mcp backup drill                                          a restore that touches nothing
  waygate-mcp backup restore latest --yes                           with the server stopped
  waygate-mcp backup restore latest --into /srv/waygate-copy
  waygate-mcp backup prune --keep-days 30

Exit codes: 0 done, 1 the backup is damaged or not to be trusted, 2 `--yes` is missing, 73 no room or no access, 74 the
database, 75 a server runs or another process is at it, 77 the wrong passphrase.
";

/// What can be done with backups.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum BackupCommand {
    /// Make a backup, also while a server runs
    Create {
        #[command(flatten)]
        secret: Passphrase,
    },
    /// List the backups there are, the newest last
    List,
    /// Look whether a backup is whole, unchanged and fit to be restored
    Verify {
        /// Its path or name, or `latest`
        file: String,
        #[command(flatten)]
        secret: Passphrase,
    },
    /// Restore a backup in place of what is there, which is kept; no server may run
    Restore(RestoreArgs),
    /// Remove old backups; the newest that is whole stays
    Prune {
        /// Older ones are removed; by default as backup.keep_days says
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_600))]
        keep_days: Option<u64>,
        /// The newest whole ones that stay however old they are
        #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        keep_min: u32,
    },
    /// Restore the newest backup into scratch, verify what came out, and remove it
    Drill {
        #[command(flatten)]
        secret: Passphrase,
    },
}

/// What opens the secrets.
#[derive(Debug, Clone, Args)]
pub struct Passphrase {
    /// File with the passphrase for .env and the sealing key; else WAYGATE_BACKUP_PASSPHRASE, or they are left out
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// What is restored, and to where.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// Its path or name, or `latest`
    file: String,
    /// Yes, what is there is to be replaced
    #[arg(long)]
    yes: bool,
    /// Restore into this folder, which is empty or not there, and touch nothing else
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
    /// Restore one part alone
    #[arg(long, value_enum, value_name = "PART")]
    only: Option<Only>,
    /// Restore it although another server made it, or nobody knows whether it was changed
    #[arg(long)]
    foreign: bool,
    /// Take keys again that were revoked, deleted or replaced since the backup was made
    #[arg(long)]
    revive_keys: bool,
    #[command(flatten)]
    secret: Passphrase,
    /// Be killed at so many steps, in the environment `test`
    #[arg(long, hide = true, value_name = "STEP")]
    die_at: Option<u32>,
}

/// One part of a backup.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Only {
    /// The history, keys and all else that is in the database
    Database,
    /// The TOML files of the configuration
    Config,
    /// The files of plugins and bundles
    Plugins,
}

impl From<Only> for Part {
    fn from(only: Only) -> Self {
        match only {
            Only::Database => Self::Database,
            Only::Config => Self::Config,
            Only::Plugins => Self::Plugins,
        }
    }
}

/// Runs one of them.
///
/// # Errors
/// Why it was not done.
pub fn run(command: BackupCommand, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let places = Places::of(config);
    let said = |secret: &Passphrase| passphrase(secret, config);
    let text = match command {
        BackupCommand::Create { secret } => {
            let made = create(&places, said(&secret)?.as_ref())?;
            note(config, acts::BACKUP_CREATE, &format!("{} bytes in {}", made.bytes, made.path.display()));
            show::made(&made, json)
        }
        BackupCommand::List => show::list(&places.backups, &shelf::list(&places.backups)?, json),
        BackupCommand::Verify { file, secret } => {
            let path = shelf::find(&places.backups, &file, Timestamp::now())?;
            let line = Line::new();
            let verified =
                backup::verify(&places, &path, said(&secret)?.as_ref(), &|progress| line.tell(progress));
            drop(line);
            show::verified(&verified?, json)
        }
        BackupCommand::Restore(args) => return run_restore(&args, &places, config, json),
        BackupCommand::Prune { keep_days, keep_min } => {
            let held = shelf::hold(&places.backups)?;
            let days = keep_days.unwrap_or(config.backup.keep_days);
            let Pruned { gone, unusable } = shelf::prune(&held, days, keep_min as usize, Timestamp::now())?;
            if !gone.is_empty() {
                let detail = format!("{} removed, older than {days} days", gone.len());
                note(config, acts::BACKUP_PRUNE, &detail);
            }
            unusable.iter().for_each(|why| output::say(&format!("waygate-mcp: not counted: {why}")));
            show::pruned(&gone, &shelf::list(&places.backups)?, json)
        }
        BackupCommand::Drill { secret } => {
            let line = Line::new();
            let drilled = backup::drill(&places, said(&secret)?.as_ref(), &|progress| line.tell(progress));
            drop(line);
            show::drilled(&drilled?, json)
        }
    };
    output::print(&text)?;
    Ok(Exit::Ok.into())
}

/// Has the history tell what was done. It is done all the same where that cannot be, as with a database of an older version.
pub fn note(config: &Config, name: &str, detail: &str) {
    let written = || -> anyhow::Result<()> {
        let storage = storage::open_existing(&config.database, &history::default_path(config))?;
        if !migrations::pending(&mut storage.connect()?, storage.place())?.is_empty() {
            return Ok(());
        }
        write_note(&storage, config, name, detail)
    };
    tell_unwritten(written());
}

/// The same in a database that is open, of whatever version, as far as its tables take it.
pub fn note_in(storage: &Storage, config: &Config, name: &str, detail: &str) {
    tell_unwritten(write_note(storage, config, name, detail));
}

fn write_note(storage: &Storage, config: &Config, name: &str, detail: &str) -> anyhow::Result<()> {
    let notary = app::notary(config)?;
    let act = Act { name, to: None, detail };
    Ok(storage.run(NOTED_WITHIN, |connection| acts::record(connection, &notary, act))?)
}

fn tell_unwritten(written: anyhow::Result<()>) {
    if let Err(error) = written {
        output::say(&format!("waygate-mcp: it is done, and the history does not tell of it: {error:#}"));
    }
}

/// Makes a backup for whoever typed it.
///
/// # Errors
/// Why it was not made.
pub fn create(places: &Places, passphrase: Option<&Secret>) -> Result<backup::Made, BackupError> {
    let line = Line::new();
    backup::create(places, passphrase, &|progress| line.tell(progress))
}

fn run_restore(args: &RestoreArgs, places: &Places, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let archive = shelf::find(&places.backups, &args.file, Timestamp::now())?;
    let passphrase = passphrase(&args.secret, config)?;
    let request = Request {
        archive: &archive,
        only: args.only.map(Part::from),
        passphrase: passphrase.as_ref(),
        foreign: args.foreign,
        revive_keys: args.revive_keys,
    };
    if let Some(into) = &args.into {
        let line = Line::new();
        let verified = unpack(places, &request, into, &|progress| line.tell(progress));
        drop(line);
        output::print(&show::unpacked(&verified?, into, json))?;
        return Ok(Exit::Ok.into());
    }
    if !args.yes {
        let line = Line::new();
        let keys = foresee_keys(places, &request, &|progress| line.tell(progress));
        drop(line);
        if let Some(keys) = keys? {
            if json {
                output::print(&show::foreseen(&keys, &archive))?;
            }
            show::keys(&keys).iter().for_each(|text| output::say(text));
        }
        output::say(&format!(
            "waygate-mcp: {} would take the place of what is in {}; say --yes if it is to, or --into FOLDER to have a look first",
            archive.display(),
            places.data_root.display()
        ));
        return Ok(Exit::Usage.into());
    }
    let left = Cell::new(args.die_at.filter(|_| config.server.env == Environment::Test));
    let step = || {
        if left.get() == Some(0) {
            die();
        }
        left.set(left.get().map(|left| left.saturating_sub(1)));
    };
    let line = Line::new();
    let foresee = |keys: &Keys| show::keys(keys).iter().for_each(|text| line.say(text));
    let restored = restore(places, &request, &|progress| line.tell(progress), &foresee, &step);
    drop(line);
    output::print(&show::restored(&restored?, places, json))?;
    Ok(Exit::Ok.into())
}

/// As the machine's end would, and nothing in between: what tests of an interrupted restore are about.
fn die() {
    let _never = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

/// The passphrase of a file, or that of the configuration.
fn passphrase(said: &Passphrase, config: &Config) -> Result<Option<Secret>, BackupError> {
    let Some(path) = &said.passphrase_file else { return Ok(config.backup.passphrase.clone()) };
    let refuse =
        |why: String| BackupError::NoPassphrase(format!("{} has no passphrase: {why}", path.display()));
    let text = read(path).map_err(|error| refuse(error.to_string()))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(refuse("it is empty".to_owned()));
    }
    Ok(Some(Secret::new(text)))
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(PASSPHRASE_MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// What a failed backup or restore is to whoever started it.
pub fn exit_of(error: &BackupError) -> Exit {
    match error {
        BackupError::Storage(error) => serve::exit_of_storage(error),
        BackupError::File { .. } | BackupError::Full { .. } => Exit::CannotCreate,
        BackupError::Busy(_) | BackupError::InUse(_) => Exit::Temporary,
        BackupError::Passphrase(_) | BackupError::NoPassphrase(_) => Exit::NotPermitted,
        BackupError::Empty(_)
        | BackupError::Missing(_)
        | BackupError::Damaged { .. }
        | BackupError::Ledger { .. }
        | BackupError::Tampered(_)
        | BackupError::Newer { .. }
        | BackupError::Refused(_) => Exit::Failure,
    }
}
