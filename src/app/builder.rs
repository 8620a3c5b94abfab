//! What a server is made of: its name and its plugins. This is where others embed Waygate.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use super::host::Slot;
use super::plugins::builtins::Told;
use super::plugins::make::Maker;
use super::plugins::servers::Servers;
use crate::actors::db::Render;
use crate::config::plugin::{BUILT_INS, BundleFile, Curation};
use crate::config::{self, Capture, Config, PROGRAM_FOLDERS, find_program};
use crate::plugins::Plugin;
use crate::plugins::builtin::echo::Echo;
use crate::plugins::builtin::files::{Files, Options, Root};
use crate::plugins::builtin::system::{Options as SystemOptions, Program, System, interpreters};
use crate::plugins::builtin::waygate::Waygate;
use crate::plugins::child::Guard;
use crate::protocol::{Eras, Raw};
use crate::telemetry::redaction;

/// A plugin under its name.
pub(super) struct Guest {
    pub(super) name: String,
    /// What of it is offered, and how.
    pub(super) curation: Arc<Curation>,
    pub(super) plugin: Arc<dyn Plugin>,
    /// The deadline of its calls, where it is not the one of all.
    pub(super) timeout_seconds: Option<u64>,
    /// What its file says.
    pub(super) told: Told,
}

/// A server to be: its name, its plugins, how their names are published.
#[derive(Clone)]
pub struct Builder {
    name: String,
    plain: bool,
    builtins: bool,
    plugins: Vec<(String, Arc<dyn Plugin>, Option<Curation>)>,
    bundles: Vec<(String, BundleFile)>,
    guard: Option<Guard>,
    eras: Eras,
    maker: Option<Arc<dyn Maker>>,
}

impl Builder {
    /// A server of this name (as clients see it), without any plugin.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            plain: false,
            builtins: false,
            plugins: Vec::new(),
            bundles: Vec::new(),
            guard: None,
            eras: Eras::Both,
            maker: None,
        }
    }

    /// Speaks these eras of the protocol alone, as a server does that is older or stricter than Waygate.
    pub fn eras(mut self, eras: Eras) -> Self {
        self.eras = eras;
        self
    }

    pub(super) fn spoken(&self) -> Eras {
        self.eras
    }

    /// Adds the built-in plugins: `files`, `waygate`, and, when the operator grants programs, `system`.
    pub fn with_builtins(mut self) -> Self {
        self.builtins = true;
        self
    }

    /// Publishes names as the plugins say them, without the plugin's name before them.
    pub fn plain_names(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Adds a plugin.
    pub fn plugin(mut self, name: &str, plugin: Arc<dyn Plugin>) -> Self {
        self.plugins.push((name.to_owned(), plugin, None));
        self
    }

    /// Adds a plugin of which what `curation` says is offered, as it says.
    pub fn curated(mut self, name: &str, plugin: Arc<dyn Plugin>, curation: Curation) -> Self {
        self.plugins.push((name.to_owned(), plugin, Some(curation)));
        self
    }

    /// Adds a tool that gives back what it is given, as `load__echo`, for a server that is started to be measured.
    pub(crate) fn measured(self) -> Self {
        self.curated("load", Echo::new(), Curation { front: true, ..Curation::default() })
    }

    /// Adds a bundle: a part of all that is offered, served at a path of its own.
    pub fn bundle(mut self, name: &str, bundle: BundleFile) -> Self {
        self.bundles.push((name.to_owned(), bundle));
        self
    }

    /// Names a program that has the verb `guard`, as the binary `waygate-mcp`: child processes run under it. A program
    /// that goes through [`crate::cli::main`] has the verb itself and need not say so.
    pub fn guarded_by(mut self, program: impl Into<PathBuf>) -> Self {
        self.guard = Some(Guard::at(program));
        self
    }

    /// Has child processes run under the verb `guard` of this very program, unless another was named.
    pub(crate) fn or_guarded_here(mut self) -> Self {
        self.guard.get_or_insert_with(Guard::of_this_program);
        self
    }

    /// Makes the plugins that files describe by other means than Waygate's own.
    pub fn made_by(mut self, maker: Arc<dyn Maker>) -> Self {
        self.maker = Some(maker);
        self
    }

    /// What makes plugins of files: Waygate's own means, unless there are others, for a server with built-in plugins.
    pub(crate) fn maker(&self, config: &Config) -> Option<Arc<dyn Maker>> {
        let own = || Some(Arc::new(Servers::new(config, self.guard.clone()?)) as Arc<dyn Maker>);
        self.maker.clone().or_else(|| self.builtins.then(own).flatten())
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the plugins that it brings, those that are built in first.
    pub(crate) fn plugin_names<'a>(&'a self, config: &Config) -> impl Iterator<Item = &'a str> {
        let [files, system, waygate] = BUILT_INS;
        let granted = !config.system.programs.is_empty();
        let all = [(files, config.files.enabled), (system, granted), (waygate, true)];
        let builtins = all.into_iter().filter(|(_, is_there)| self.builtins && *is_there);
        builtins.map(|(name, _)| name).chain(self.plugins.iter().map(|(name, ..)| name.as_str()))
    }

    /// Its bundles.
    pub(super) fn bundles(&self) -> &[(String, BundleFile)] {
        &self.bundles
    }

    /// All plugins; the built-in ones are made from the configuration.
    pub(super) fn plugins(self, config: &Config, host: &Slot) -> Result<Vec<Guest>, StartError> {
        let curation = Arc::new(Curation { plain: self.plain, front: true, ..Curation::default() });
        let guest = |name: &str, plugin| Guest {
            name: name.to_owned(),
            curation: Arc::clone(&curation),
            plugin,
            timeout_seconds: None,
            told: None,
        };
        let mut all = Vec::new();
        if self.builtins {
            if config.files.enabled {
                all.push(guest("files", files(config)?));
            }
            if !config.system.programs.is_empty() {
                let system = system(config, self.guard)?;
                let timeout_seconds = Some(system.seat_seconds());
                all.push(Guest { timeout_seconds, ..guest("system", system) });
            }
            all.push(guest("waygate", Waygate::new(Arc::new(host.clone()))));
        }
        all.extend(self.plugins.into_iter().map(|(name, plugin, own)| {
            let guest = guest(&name, plugin);
            Guest { curation: own.map_or_else(|| Arc::clone(&guest.curation), Arc::new), ..guest }
        }));
        let mut names = HashSet::new();
        if let Some(twice) = all.iter().find(|guest| !names.insert(guest.name.as_str())) {
            return Err(StartError::Plugin(format!(
                "two plugins of this program are called {:?}: give one of them another name",
                twice.name
            )));
        }
        Ok(all)
    }
}

/// The folders that the operator granted, or one empty folder of Waygate's own.
fn roots(config: &Config) -> Result<Vec<Root>, StartError> {
    let mut roots: Vec<Root> = config.files.roots.iter().filter_map(|root| read_root(root)).collect();
    if roots.is_empty() {
        let path = config.server.data_dir.join("files");
        make_folder(&path)
            .map_err(|error| StartError::Plugin(format!("{} cannot be made: {error}", path.display())))?;
        roots.push(Root { name: "files".to_owned(), path, writable: true });
    }
    Ok(roots)
}

/// The built-in `files` plugin.
fn files(config: &Config) -> Result<Arc<dyn Plugin>, StartError> {
    let options = Options {
        roots: roots(config)?,
        read_max_bytes: config.files.read_max_bytes,
        write_max_bytes: config.files.write_max_bytes,
        quota_bytes: config.files.quota_bytes,
        results_max: config.files.results_max,
    };
    let files = Files::new(options)
        .map_err(|error| StartError::Plugin(format!("the files plugin cannot start: {error}")))?;
    Ok(files)
}

/// The built-in `system` plugin.
fn system(config: &Config, guard: Option<Guard>) -> Result<Arc<System>, StartError> {
    let guard = guard.ok_or_else(|| {
        let why = "system.programs grants programs, but this server has no guard to run them under; start it through \
                   waygate_mcp::cli::main, or name a waygate-mcp binary with Builder::guarded_by";
        StartError::Plugin(why.to_owned())
    })?;
    let options = system_options(config)?;
    for name in interpreters(&options.programs) {
        log::warn!(
            "system.programs grants {name}, which runs whatever it is told to: every client may do what this server may"
        );
    }
    System::new(options, guard)
        .map_err(|error| StartError::Plugin(format!("the system plugin cannot start: {error}")))
}

fn system_options(config: &Config) -> Result<SystemOptions, StartError> {
    let programs = config.system.programs.iter().map(|granted| {
        // The configuration found it a moment ago.
        let path = find_program(granted)
            .map_err(|why| StartError::Plugin(format!("system.programs has {granted:?}, {why}")))?;
        Ok(Program { name: granted.clone(), path })
    });
    let own = [("PATH", PROGRAM_FOLDERS), ("LANG", "C.UTF-8")];
    let mut environment: Vec<_> = own.map(|(name, value)| (name.into(), value.into())).into();
    let named = &config.system.environment;
    environment.extend(named.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))));
    Ok(SystemOptions {
        programs: programs.collect::<Result<_, StartError>>()?,
        environment,
        roots: roots(config)?,
        timeout: Duration::from_secs(config.system.timeout_seconds),
        wait: Duration::from_secs(config.server.timeout_seconds),
        output_max_bytes: config.system.output_max_bytes,
        programs_max: config.system.programs_max,
    })
}

/// Reads `name=path:ro|rw`, which the configuration has checked.
fn read_root(text: &str) -> Option<Root> {
    let (name, rest) = text.split_once('=')?;
    let (path, mode) = rest.rsplit_once(':')?;
    Some(Root { name: name.to_owned(), path: path.into(), writable: mode == "rw" })
}

pub(super) fn make_folder(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What of a call's arguments goes into the history; rendered by the history's writer, not by the request.
pub(super) fn capture(history: &config::History) -> Render {
    let extra = history.redact_keys.clone();
    match history.arguments {
        Capture::None => Arc::new(|_: &Raw| None),
        Capture::Shape => Arc::new(|arguments: &Raw| Some(redaction::shape(arguments.as_str()))),
        Capture::Redacted => {
            Arc::new(move |arguments: &Raw| Some(redaction::redact(arguments.as_str(), &extra)))
        }
        Capture::Full => Arc::new(|arguments: &Raw| Some(arguments.as_str().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn programs_are_not_granted_where_there_is_no_guard_to_run_them_under() {
        let home = tempfile::tempdir().unwrap();
        let environment = [("WAYGATE_SYSTEM_PROGRAMS", "sh")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let home = Some(home.path().to_owned());
        let config = load(&Sources { environment, home, ..Sources::default() }).unwrap().config;
        let names = |builder: Builder| -> Result<Vec<String>, String> {
            let guests = builder.with_builtins().plugins(&config, &Slot::default());
            guests
                .map(|all| all.into_iter().map(|guest| guest.name).collect())
                .map_err(|error| error.to_string())
        };
        let why = names(Builder::new("embedded")).unwrap_err();
        assert!(why.contains("cli::main") && why.contains("Builder::guarded_by"), "{why}");
        let wanted = ["files", "system", "waygate"].map(str::to_owned);
        let told: Vec<String> =
            Builder::new("p").with_builtins().plugin_names(&config).map(str::to_owned).collect();
        assert_eq!(told, wanted);
        assert_eq!(names(Builder::new("embedded").guarded_by("/usr/bin/waygate-mcp")), Ok(wanted.to_vec()));
        assert_eq!(names(Builder::new("whole").or_guarded_here()), Ok(wanted.to_vec()));
    }

    #[test]
    fn of_two_plugins_of_one_name_none_takes_the_others_place() {
        let home = tempfile::tempdir().unwrap();
        let config =
            load(&Sources { home: Some(home.path().to_owned()), ..Sources::default() }).unwrap().config;
        let plugin = || -> Arc<dyn Plugin> { Waygate::new(Arc::new(Slot::default())) };
        let guests = |second: &str| {
            Builder::new("p")
                .plugin("one", plugin())
                .plugin(second, plugin())
                .plugins(&config, &Slot::default())
        };
        assert_eq!(guests("other").map(|all| all.len()).map_err(|error| error.to_string()), Ok(2));
        let why = guests("one").map(|all| all.len()).unwrap_err().to_string();
        assert!(why.contains("\"one\""), "{why}");
    }

    #[test]
    fn a_program_that_runs_whatever_it_is_told_to_is_known_by_its_file() {
        let program = |name: &str, path: &str| Program { name: name.to_owned(), path: path.into() };
        let programs = [
            program("git", "/usr/bin/git"),
            program("/opt/sh", "/opt/sh"),
            program("python3", "/usr/bin/python3"),
        ];
        assert_eq!(interpreters(&programs), ["/opt/sh", "python3"]);
    }
}
