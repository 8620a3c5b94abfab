//! Loading: finds the layers, lays them over each other, checks the whole, and says where each value came from.
//!
//! Takes everything from `Sources`: but for `Sources::of_process`, nothing here looks at the process.

use std::path::{Path, PathBuf};

use super::checks;
use super::faults::Faults;
use super::files::{self, Places};
use super::layers::{self, CONFIG_DIR, Findings, Given, Layer, Origin, Source};
use super::programs;
use super::settings::{Kind, SETTINGS, Setting};
use super::values::Value;
use super::{Config, Mode, Secret};

/// What is loaded from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The environment, all of it.
    pub environment: Vec<(String, String)>,
    /// What `~/` means.
    pub home: Option<PathBuf>,
    /// What relative paths start from.
    pub working_folder: PathBuf,
    /// `/etc/waygate`.
    pub system_folder: PathBuf,
    /// What `workers = "auto"` means.
    pub processors: usize,
    /// Whether the `.env` of the working folder counts: for `serve` and what looks after the same.
    pub reads_env_file: bool,
    /// What was typed.
    pub flags: Flags,
}

/// Flags of the command line that say something about the configuration.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// Those of the table of settings, dashes included, with their text.
    pub settings: Vec<(&'static str, String)>,
    /// `--config-dir`
    pub config_dir: Option<PathBuf>,
    /// `--env-file`
    pub env_file: Option<PathBuf>,
}

impl Sources {
    /// Those of this process: the one place that looks at its environment.
    pub fn of_process(flags: Flags, reads_env_file: bool) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self {
            environment: std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect(),
            home: std::env::home_dir().filter(|home| home.is_absolute()),
            working_folder: std::env::current_dir().unwrap_or_else(|_unlinked| PathBuf::from("/")),
            system_folder: PathBuf::from("/etc/waygate"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            reads_env_file,
            flags,
        }
    }
}

/// A configuration, and how it came about.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values, checked.
    pub config: Config,
    /// Every setting as it is, in the order of the table.
    pub settings: Vec<Shown>,
    /// The files that were read, in the order of their layers.
    pub files: Vec<PathBuf>,
    /// What the operator should know: one log line each.
    pub notes: Vec<String>,
}

/// A setting with its value and origin, fit for showing: secrets are masked.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Which setting.
    pub setting: &'static Setting,
    /// Its value; none when nobody set it.
    pub value: Option<Value>,
    /// Where it came from; none when nobody set it.
    pub origin: Option<Origin>,
}

/// What stands for a secret.
pub const MASK: &str = "********";

/// Loads the configuration.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn load(sources: &Sources) -> Result<Loaded, Faults> {
    let mut findings = Findings::default();
    let mut read = Vec::new();
    let outer = Outer::read(sources, &mut findings, &mut read);
    let inner = Inner::read(sources, &outer, &mut findings, &mut read);

    let mut given = Vec::new();
    let over_defaults = [&inner.files, &outer.bare_url, &outer.env_file, &outer.environment, &outer.flags];
    let set: Vec<Given> = over_defaults.into_iter().flatten().cloned().collect();
    let mode =
        if last_text(&set, "server.mode") == Some("container") { Mode::Container } else { Mode::LocalVm };
    given.extend(layers::of_defaults(mode, &mut findings));
    given.extend(set);
    resolve(&mut given, sources, &mut findings);

    let mut config = merge(&given, &mut findings.faults);
    if let Some(config) = &mut config {
        config.read_from.clone_from(&read);
        config.folder.clone_from(&inner.folder);
        config.env_file = find_env_file(sources);
    }
    if let Some(config) = &config {
        checks::check(config, &given, &mut findings.faults);
        programs::check(&config.system, &given, &mut findings.faults);
    }
    note_open_secrets(&given, &read, &mut findings.notes);
    match config {
        Some(mut config) if findings.faults.is_empty() => {
            let settings = show(&given);
            config.shown = settings.clone().into();
            Ok(Loaded { config, settings, files: read, notes: findings.notes })
        }
        _ => Err(findings.faults),
    }
}

/// The layers above the files: they say where the files are.
struct Outer {
    bare_url: Vec<Given>,
    env_file: Vec<Given>,
    environment: Vec<Given>,
    flags: Vec<Given>,
    config_dir: Option<(PathBuf, String)>,
}

impl Outer {
    fn read(sources: &Sources, findings: &mut Findings, read: &mut Vec<PathBuf>) -> Self {
        let from_file = read_env_file(sources, findings, read);
        let from_process = layers::ours(&sources.environment, findings);
        let said = from_process
            .iter()
            .chain(&from_file)
            .find(|(name, text, _)| name == CONFIG_DIR && !text.is_empty());
        let said = said.map(|(_, text, place)| (PathBuf::from(text), place.clone()));
        let flag = sources.flags.config_dir.clone().map(|path| (path, "--config-dir".to_owned()));
        let folder = &sources.working_folder;
        Self {
            bare_url: bare_database_url(&sources.environment),
            env_file: layers::of_variables(Layer::EnvFile, &from_file, folder, findings),
            environment: layers::of_variables(Layer::Environment, &from_process, folder, findings),
            flags: layers::of_flags(&sources.flags.settings, findings),
            config_dir: flag.or(said),
        }
    }

    /// The last word of these layers on a setting that is a text.
    fn text(&self, key: &str) -> Option<&str> {
        let layers = [&self.flags, &self.environment, &self.env_file];
        layers.into_iter().find_map(|layer| last_text(layer, key))
    }
}

/// Where the data root is, even if the rest of the configuration makes no sense.
pub fn find_data_root(sources: &Sources) -> Option<PathBuf> {
    let (mut findings, mut read) = (Findings::default(), Vec::new());
    let outer = Outer::read(sources, &mut findings, &mut read);
    let inner = Inner::read(sources, &outer, &mut findings, &mut read);
    let text = |key: &str| outer.text(key).or_else(|| last_text(&inner.files, key));
    data_root(sources, text("server.data_dir"), text("server.mode"), text("server.env"))
}

/// All that is said of secret settings, even if the rest of the configuration makes no sense.
pub fn find_secrets(sources: &Sources) -> Vec<Secret> {
    let (mut findings, mut read) = (Findings::default(), Vec::new());
    let outer = Outer::read(sources, &mut findings, &mut read);
    let inner = Inner::read(sources, &outer, &mut findings, &mut read);
    let layers = [&inner.files, &outer.bare_url, &outer.env_file, &outer.environment, &outer.flags];
    let secrets = layers.into_iter().flatten().filter(|given| given.setting.is_secret());
    let texts = secrets.filter_map(|given| match &given.value {
        Value::Text(text) => Some(Secret::new(text.as_str())),
        _ => None,
    });
    texts.collect()
}

/// The file of variables, whether or not it is there; none where none counts.
pub fn find_env_file(sources: &Sources) -> Option<PathBuf> {
    let said = sources.flags.env_file.as_ref().map(|path| sources.working_folder.join(path));
    said.or_else(|| sources.reads_env_file.then(|| sources.working_folder.join(".env")))
}

fn read_env_file(sources: &Sources, findings: &mut Findings, read: &mut Vec<PathBuf>) -> layers::Variables {
    let Some(path) = find_env_file(sources) else { return layers::Variables::new() };
    let said = sources.flags.env_file.is_some();
    if !said && !path.exists() {
        return layers::Variables::new();
    }
    match files::read(&path) {
        Ok(text) => {
            let variables = files::variables(&path.display().to_string(), &text, &mut findings.faults);
            read.push(path);
            variables
        }
        Err(why) => {
            let place = if said { "--env-file" } else { ".env" };
            findings.faults.add(place, format!("{} was not read: {why}", path.display()));
            layers::Variables::new()
        }
    }
}

/// `DATABASE_URL` is what many platforms set; it gives way to every word on `database.url` but the files'.
fn bare_database_url(environment: &[(String, String)]) -> Vec<Given> {
    let url = environment.iter().find(|(name, value)| name == "DATABASE_URL" && !value.is_empty());
    let setting = super::settings::by_key("database.url");
    let given = url.zip(setting).map(|((name, value), setting)| Given {
        setting,
        value: Value::Text(value.clone()),
        origin: Origin { layer: Layer::Environment, place: name.clone() },
    });
    given.into_iter().collect()
}

/// The files of the folder, `default.toml` before `<env>.toml`.
struct Inner {
    folder: Option<PathBuf>,
    files: Vec<Given>,
}

impl Inner {
    fn read(sources: &Sources, outer: &Outer, findings: &mut Findings, read: &mut Vec<PathBuf>) -> Self {
        let env = outer.text("server.env");
        let root = data_root(sources, outer.text("server.data_dir"), outer.text("server.mode"), env);
        let places = Places {
            said: outer.config_dir.clone(),
            data_root: root.as_deref(),
            system_folder: &sources.system_folder,
            working_folder: &sources.working_folder,
        };
        let Some(folder) = files::folder(&places, &mut findings.faults) else {
            return Self { folder: None, files: Vec::new() };
        };
        let mut given = read_toml(&folder.join("default.toml"), findings, read);
        let env = env.or_else(|| last_text(&given, "server.env")).unwrap_or("development").to_owned();
        for more in read_toml(&folder.join(format!("{env}.toml")), findings, read) {
            if more.setting.key == "server.env" && more.value != Value::Text(env.clone()) {
                let sentence =
                    format!("this file is read because server.env is {env:?}; it cannot change that");
                findings.faults.add(more.origin.place, sentence);
            } else {
                given.push(more);
            }
        }
        note_unread(&folder, &mut findings.notes);
        Self { folder: Some(folder), files: given }
    }
}

fn read_toml(path: &Path, findings: &mut Findings, read: &mut Vec<PathBuf>) -> Vec<Given> {
    if !path.exists() {
        return Vec::new();
    }
    match files::read(path) {
        Ok(text) => {
            read.push(path.to_owned());
            layers::of_toml(&path.display().to_string(), &text, findings)
        }
        Err(why) => {
            findings.faults.add(path.display().to_string(), format!("the file was not read: {why}"));
            Vec::new()
        }
    }
}

/// A misspelt `prodution.toml` would be passed over in silence.
fn note_unread(folder: &Path, notes: &mut Vec<String>) {
    const READ: [&str; 4] = ["default.toml", "development.toml", "production.toml", "test.toml"];
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut unread: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".toml") && !READ.contains(&name.as_str()))
        .collect();
    unread.sort_unstable();
    notes.extend(unread.iter().map(|name| {
        format!("{} is never read; settings stand in {}", folder.join(name).display(), READ.join(", "))
    }));
}

/// The data root: as said, or by mode and environment; none when `~/` has no meaning.
fn data_root(
    sources: &Sources,
    said: Option<&str>,
    mode: Option<&str>,
    env: Option<&str>,
) -> Option<PathBuf> {
    if let Some(said) = said {
        return expand(said, sources);
    }
    let root = if mode == Some("container") { "/var/lib/waygate" } else { "~/.waygate" };
    let root = expand(root, sources)?;
    Some(if env == Some("test") { root.join("test") } else { root })
}

/// `~/` is the home folder, and what is relative starts from the working folder.
fn expand(path: &str, sources: &Sources) -> Option<PathBuf> {
    match path.strip_prefix('~') {
        Some("") => sources.home.clone(),
        Some(rest) if rest.starts_with('/') => {
            Some(sources.home.as_ref()?.join(rest.trim_start_matches('/')))
        }
        _ => Some(sources.working_folder.join(path)),
    }
}

/// Makes values whole that mean something only on this machine: `auto`, `~/`, the data root.
fn resolve(given: &mut [Given], sources: &Sources, findings: &mut Findings) {
    let is_test = last_text(given, "server.env") == Some("test");
    for Given { setting, value, origin } in given {
        match (setting.kind, &value) {
            (Kind::Workers, Value::Text(_)) => *value = Value::Number(sources.processors.max(1) as u64),
            (Kind::Folder, Value::Text(text)) => match expand(text, sources) {
                Some(mut path) => {
                    if is_test && origin.layer == Layer::Default {
                        path.push("test");
                    }
                    *value = Value::Text(path.to_string_lossy().into_owned());
                }
                None if origin.layer == Layer::Default => {}
                None => findings.faults.add(origin.place.clone(), NO_HOME),
            },
            (Kind::File, Value::Text(text)) => match expand(text, sources) {
                Some(path) => *value = Value::Text(path.to_string_lossy().into_owned()),
                None => findings.faults.add(origin.place.clone(), NO_HOME),
            },
            (Kind::Text, Value::Text(host)) if setting.key == "server.host" => {
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                *value = Value::Text(bare.unwrap_or(host).to_owned());
            }
            (Kind::List, Value::List(roots)) if setting.key == "files.roots" => {
                let expanded = roots.iter().map(|root| expand_root(root, sources));
                *value = Value::List(expanded.collect());
            }
            _ => {}
        }
    }
}

const NO_HOME: &str =
    "there is no home folder to put `~/` to; give the whole path, as with --data-dir /srv/waygate";

/// `name=~/path:ro` with the home folder in place; what it is otherwise is left to the checks.
fn expand_root(root: &str, sources: &Sources) -> String {
    match root.split_once('=') {
        Some((name, path)) if path.starts_with("~/") => {
            let path =
                expand(path, sources).map_or_else(|| path.into(), |path| path.to_string_lossy().into_owned());
            format!("{name}={path}")
        }
        _ => root.to_owned(),
    }
}

fn last_text<'a>(given: &'a [Given], key: &str) -> Option<&'a str> {
    given.iter().rev().find(|given| given.setting.key == key).and_then(|given| match &given.value {
        Value::Text(text) => Some(text.as_str()),
        _ => None,
    })
}

/// Lays the layers over each other, by key.
fn merge(given: &[Given], faults: &mut Faults) -> Option<Config> {
    let source = |layer: &[Given]| Source(layer.to_vec());
    let layers = given.chunk_by(|a, b| a.origin.layer == b.origin.layer);
    let builder =
        layers.fold(::config::Config::builder(), |builder, layer| builder.add_source(source(layer)));
    let merged = builder.build().and_then(::config::Config::try_deserialize::<Config>);
    match merged {
        Ok(config) => Some(config),
        Err(error) => {
            faults.add("waygate-mcp", format!("the table of settings does not fit the program: {error}"));
            None
        }
    }
}

/// A note for each file that holds a secret and that others may read.
fn note_open_secrets(given: &[Given], read: &[PathBuf], notes: &mut Vec<String>) {
    for path in read.iter().filter(|path| files::is_open_to_others(path)) {
        let name = format!("{}:", path.display());
        let holds = |given: &&Given| given.setting.is_secret() && given.origin.place.starts_with(&name);
        if let Some(secret) = given.iter().find(holds) {
            let key = secret.setting.key;
            notes.push(format!("{} holds {key} and others may read it; chmod 600 it", path.display()));
        }
    }
}

fn show(given: &[Given]) -> Vec<Shown> {
    let last = layers::last_words(given);
    let shown = SETTINGS.iter().map(|setting| {
        let given = last.get(setting.key);
        let value = given.map(|given| match setting.is_secret() {
            true => Value::Text(MASK.to_owned()),
            false => given.value.clone(),
        });
        Shown { setting, value, origin: given.map(|given| given.origin.clone()) }
    });
    shown.collect()
}
