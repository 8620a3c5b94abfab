//! The support bundle: what helps whoever helps, in one file, without secrets, and with a list of what it holds. Must not hold
//! arguments or results of calls, keys, or the database.

mod redact;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::patient::{Patient, Server};
use super::report::Report;
use crate::app::keys::KeyBook;
use crate::backup::{Places, shelf};
use crate::cli::running::Running;
use crate::config::Shown;
use crate::config::plugin::read_folder;
use crate::storage::{history, migrations};
use crate::telemetry::logging::FILE_NAME;
use redact::Redactor;

/// What of the log's end is in it.
const LOG_MAX_BYTES: u64 = 512 << 10;
/// A plugin's file is never larger.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// How long a connection is waited for.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);
/// As the backups do it.
const LEVEL: i32 = 3;
const LEFT_OUT: [&str; 6] = [
    "values of secret settings, of plugins' env and headers, and whatever looks like a key or a token",
    "arguments and results of calls, and the history itself",
    "the database, and backups",
    ".env and other files of variables, but for the names of settings that they set",
    "the sealing key, and the hashes of keys",
    "values of environment variables that are no settings",
];

/// One file in it.
struct Entry {
    name: String,
    what: &'static str,
    text: String,
}

/// Writes it; gives how many entries it has. A file that is there is replaced once the new one is whole.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, patient: &Patient, report: &Report) -> anyhow::Result<usize> {
    let entries = gather(patient, report);
    let listed = entries
        .iter()
        .map(|entry| json!({"name": entry.name, "bytes": entry.text.len(), "what": entry.what}));
    let manifest = json!({
        "madeAt": Timestamp::now().to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "entries": listed.collect::<Vec<_>>(),
        "leftOut": LEFT_OUT,
    });
    let manifest =
        Entry { name: "manifest.json".to_owned(), what: "this list", text: format!("{manifest:#}\n") };
    let all: Vec<Entry> = std::iter::once(manifest).chain(entries).collect();
    let partial = partial(path);
    let written = fill(&partial, &all).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // Nothing half is left; that it cannot be removed is no more news.
        drop(fs::remove_file(&partial));
    }
    written.with_context(|| format!("the bundle {} was not written", path.display()))?;
    Ok(all.len())
}

fn partial(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

fn fill(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut tar = tar::Builder::new(zstd::Encoder::new(&file, LEVEL)?);
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        header.set_path(&entry.name)?;
        header.set_mode(0o600);
        header.set_size(entry.text.len() as u64);
        header.set_mtime(u64::try_from(Timestamp::now().as_second()).unwrap_or_default());
        header.set_cksum();
        tar.append(&header, entry.text.as_bytes())?;
    }
    tar.into_inner()?.finish()?.flush()?;
    file.sync_all()
}

/// All entries, without secrets.
fn gather(patient: &Patient, report: &Report) -> Vec<Entry> {
    let redactor = Redactor::of(patient);
    let mut all = Vec::new();
    let mut add = |name: String, what: &'static str, text: &str| {
        all.push(Entry { name, what, text: redactor.text(text) });
    };
    let shown = |value: &Value| format!("{value:#}\n");
    add("doctor.json".to_owned(), "what the doctor found", &shown(&report.to_json(patient)));
    add("settings.json".to_owned(), "every setting, with where it comes from", &shown(&settings(patient)));
    add(
        "system.json".to_owned(),
        "the machine, its limits, and the names of Waygate's variables",
        &shown(&system(patient)),
    );
    add(
        "database.json".to_owned(),
        "its schema, its size, its oldest and newest row",
        &shown(&database(patient)),
    );
    add("keys.json".to_owned(), "all that is known of keys, but for the keys", &shown(&keys(patient)));
    for (name, page) in pages(patient) {
        add(name, "what the running server shows", &shown(&page));
    }
    if let Some(text) = patient.root.as_deref().and_then(|root| tail(&root.join("logs").join(FILE_NAME)).ok())
    {
        add(format!("logs/{FILE_NAME}"), "the end of the log", &text);
    }
    for (name, text) in plugin_files(patient) {
        let text = redactor.plugin_file(&text).unwrap_or_else(|| "it is no TOML, and left out\n".to_owned());
        add(format!("plugins/{name}.toml"), "a plugin's or bundle's file, without comments", &text);
    }
    all
}

fn settings(patient: &Patient) -> Value {
    let one = |shown: &Shown| {
        json!({
            "key": shown.setting.key,
            "value": shown.value.as_ref().map(crate::config::Value::to_json),
            "layer": shown.origin.as_ref().map(|origin| origin.layer.to_string()),
            "place": shown.origin.as_ref().map(|origin| origin.place.as_str()),
        })
    };
    match &patient.loaded {
        Ok(loaded) => json!({
            "settings": loaded.settings.iter().map(one).collect::<Vec<_>>(), "files": loaded.files, "notes": loaded.notes,
        }),
        Err(faults) => {
            let faults = faults.iter().map(|fault| json!({"place": fault.place, "sentence": fault.sentence}));
            json!({"faults": faults.collect::<Vec<_>>()})
        }
    }
}

fn system(patient: &Patient) -> Value {
    let uname = rustix::system::uname();
    let names = patient.environment.iter().map(|(name, _)| name.as_str());
    let limits = patient.pid().map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let limits = fs::read_to_string(format!("/proc/{limits}/limits")).unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "system": uname.sysname().to_string_lossy(),
        "release": uname.release().to_string_lossy(),
        "machine": uname.machine().to_string_lossy(),
        "processors": std::thread::available_parallelism().map_or(1, usize::from),
        "memory": memory.lines().take(3).collect::<Vec<_>>(),
        "limits": limits.lines().collect::<Vec<_>>(),
        "variables": names.filter(|name| name.starts_with("WAYGATE_")).collect::<Vec<_>>(),
    })
}

fn database(patient: &Patient) -> Value {
    let storage = match patient.storage() {
        None => return json!({"status": "there is none"}),
        Some(Err(error)) => return json!({"status": error.to_string()}),
        Some(Ok(storage)) => storage,
    };
    let standing =
        storage.connect().and_then(|mut connection| migrations::standing(&mut connection, storage.place()));
    let (known, unknown) = standing.map(|standing| (standing.known, standing.unknown)).unwrap_or_default();
    let wait = CONNECTION_WAIT;
    let moment = |at: Option<SystemTime>| Timestamp::try_from(at?).ok().map(|at| at.to_string());
    let bytes = storage.path().and_then(|path| fs::metadata(path).ok()).map(|about| about.len());
    let backups = patient.config().map(|config| shelf::list(&Places::of(config).backups).unwrap_or_default());
    json!({
        "place": storage.place(),
        "bytes": bytes,
        "migrations": known,
        "unknownMigrations": unknown,
        "oldest": moment(storage.run(wait, history::oldest).ok().flatten()),
        "newest": moment(storage.run(wait, history::newest).ok().flatten()),
        "backups": backups.unwrap_or_default().iter().map(|one| json!({"name": one.name(), "bytes": one.bytes})).collect::<Vec<_>>(),
    })
}

fn keys(patient: &Patient) -> Value {
    let all =
        patient.config().and_then(|config| KeyBook::open(config, false).and_then(|book| book.all()).ok());
    json!({"keys": all.unwrap_or_default().iter().map(|key| key.to_json(patient.now)).collect::<Vec<_>>()})
}

/// What the running server shows, one file a page.
fn pages(patient: &Patient) -> Vec<(String, Value)> {
    let (Server::Running(pages), Some(root)) = (&patient.server, &patient.root) else { return Vec::new() };
    let name = |page: &str| format!("server/{}.json", page.trim_start_matches('/').replace('/', "-"));
    let mut all: Vec<(String, Value)> =
        pages.iter().map(|(page, shown)| (name(page), shown.clone())).collect();
    let running = Running::at(root).at_hand();
    let plugins = patient.page("/plugins").and_then(|page| page.get("plugins")).and_then(Value::as_array);
    let plugins = plugins.into_iter().flatten().filter_map(|plugin| plugin.get("name")?.as_str());
    let more = plugins.map(|plugin| format!("/plugins/{plugin}"));
    for page in more.chain(["/diagnostics/errors".to_owned()]) {
        if let Ok(Some(shown)) = running.get(&page) {
            all.push((name(&page), shown));
        }
    }
    all
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(LOG_MAX_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(LOG_MAX_BYTES).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    // The first line may be cut off.
    let whole = if from > 0 { text.split_once('\n').map(|(_, rest)| rest.to_owned()) } else { None };
    Ok(whole.unwrap_or(text))
}

fn plugin_files(patient: &Patient) -> Vec<(String, String)> {
    let Some(root) = &patient.root else { return Vec::new() };
    let folder = root.join("plugins");
    let names = read_folder(&folder).unwrap_or_default().files.into_iter().map(|(name, _)| name);
    let read = names.filter_map(|name| {
        let path = crate::config::plugin::path_of(&folder, &name);
        let about = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        (about.len() <= FILE_MAX_BYTES).then(|| fs::read_to_string(&path).ok().map(|text| (name, text)))?
    });
    read.collect()
}
