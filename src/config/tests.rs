//! Loading, tried from outside on folders of its own: layers, places, faults.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// A home, a working folder and a system folder of one test.
struct Machine {
    root: tempfile::TempDir,
    sources: Sources,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["home", "work", "etc"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        let sources = Sources {
            environment: Vec::new(),
            home: Some(root.path().join("home")),
            working_folder: root.path().join("work"),
            system_folder: root.path().join("etc"),
            processors: 3,
            reads_env_file: true,
            flags: Flags::default(),
        };
        Self { root, sources }
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, flag: &'static str, value: &str) -> Self {
        self.sources.flags.settings.push((flag, value.to_owned()));
        self
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn load(&self) -> Loaded {
        load(&self.sources).unwrap_or_else(|faults| panic!("{faults}"))
    }

    /// Places and sentences of all faults, with the test's own folder cut out.
    fn faults(&self) -> Vec<(String, String)> {
        let root = format!("{}/", self.root.path().display());
        let cut = |text: &str| text.replace(&root, "");
        let faults = load(&self.sources).expect_err("loaded");
        faults.iter().map(|fault| (cut(&fault.place), cut(&fault.sentence))).collect()
    }

    /// Asserts that there is this one fault: its place, and a part of its sentence.
    fn has_fault(&self, place: &str, part: &str) {
        let faults = self.faults();
        assert!(
            matches!(faults.as_slice(), [(at, sentence)] if at == place && sentence.contains(part)),
            "wanted {place}: …{part}…, got {faults:#?}"
        );
    }
}

fn origin(loaded: &Loaded, key: &str) -> (Layer, String) {
    let shown = loaded.settings.iter().find(|shown| shown.setting.key == key).unwrap();
    let origin = shown.origin.clone().unwrap();
    (origin.layer, Path::new(&origin.place).file_name().unwrap_or_default().to_string_lossy().into_owned())
}

#[test]
fn with_nothing_set_the_defaults_hold() {
    let machine = Machine::new();
    let config = machine.load().config;
    assert_eq!(
        (config.server.host.as_str(), config.server.port, config.server.workers),
        ("127.0.0.1", 8000, 4)
    );
    assert_eq!(config.server.data_dir, machine.path("home/.waygate"));
    assert_eq!(
        (config.log.format, config.log.file, config.log.level),
        (LogFormat::Text, true, log::LevelFilter::Info)
    );
    assert_eq!(
        (config.history.durability, config.history.arguments),
        (Durability::Batched, Capture::Redacted)
    );
    assert!(config.access.api_key.is_none() && config.database.url.is_none());
}

#[test]
fn the_mode_decides_what_nobody_says() {
    let config = Machine::new().variable("WAYGATE_MODE", "container").load().config;
    assert_eq!(config.server.data_dir, Path::new("/var/lib/waygate"));
    assert_eq!((config.log.format, config.log.file), (LogFormat::Json, false));
    let said = Machine::new().variable("WAYGATE_MODE", "container").variable("WAYGATE_LOG_FORMAT", "text");
    assert_eq!(said.load().config.log.format, LogFormat::Text);
}

#[test]
fn tests_have_a_data_root_of_their_own() {
    let machine = Machine::new().flag("--env", "test");
    assert_eq!(machine.load().config.server.data_dir, machine.path("home/.waygate/test"));
    let said = Machine::new().flag("--env", "test").flag("--data-dir", "here");
    assert_eq!(said.load().config.server.data_dir, said.path("work/here"));
}

#[test]
fn each_layer_wins_over_the_ones_below_and_says_so() {
    let mut machine =
        Machine::new().file("home/.waygate/config/default.toml", "[server]\nport = 1\ntimeout_seconds = 7\n");
    let check = |machine: &Machine, port: u16, layer: Layer, place: &str| {
        let loaded = machine.load();
        assert_eq!(loaded.config.server.port, port);
        assert_eq!(origin(&loaded, "server.port"), (layer, place.to_owned()));
        // What no higher layer mentions stays: tables merge by key.
        assert_eq!(loaded.config.server.timeout_seconds, 7);
    };
    check(&machine, 1, Layer::File, "default.toml:2");
    machine = machine.file("home/.waygate/config/development.toml", "\n\n[server]\nport = 2\n");
    check(&machine, 2, Layer::File, "development.toml:4");
    machine = machine.file("work/.env", "WAYGATE_PORT=3\n");
    check(&machine, 3, Layer::EnvFile, ".env:1");
    machine = machine.variable("WAYGATE_PORT", "4");
    check(&machine, 4, Layer::Environment, "WAYGATE_PORT");
    machine = machine.flag("--port", "5");
    check(&machine, 5, Layer::Flag, "--port");
}

#[test]
fn lists_replace_lists() {
    let machine = Machine::new()
        .file("home/.waygate/config/default.toml", "[files]\nroots = [\"a=/a:ro\", \"b=~/b:rw\"]\n");
    let roots = machine.load().config.files.roots;
    assert_eq!(roots, ["a=/a:ro".to_owned(), format!("b={}:rw", machine.path("home/b").display())]);
    let machine = machine.variable("WAYGATE_FILES_ROOTS", "c=/c:ro,d=/d:rw");
    assert_eq!(machine.load().config.files.roots, ["c=/c:ro", "d=/d:rw"]);
    let machine = machine.flag("--env", "development");
    assert_eq!(machine.load().config.files.roots.len(), 2);
}

#[test]
fn the_folder_of_files_is_looked_for_in_order() {
    let port = |machine: &Machine| machine.load().config.server.port;
    let mut machine = Machine::new().file("work/config/default.toml", "[server]\nport = 1\n");
    assert_eq!(port(&machine), 8000, "another project's config folder is none of our business");
    machine = machine.file("work/Cargo.toml", "[package]\nname = \"other\"\n");
    assert_eq!(port(&machine), 8000);
    machine = machine.file("work/Cargo.toml", "[package]\nname = \"waygate-mcp\"\n");
    assert_eq!(port(&machine), 1);
    machine = machine.file("etc/default.toml", "[server]\nport = 2\n");
    assert_eq!(port(&machine), 2);
    machine = machine.file("home/.waygate/config/default.toml", "[server]\nport = 3\n");
    assert_eq!(port(&machine), 3);
    machine =
        machine.file("work/four/default.toml", "[server]\nport = 4\n").variable("WAYGATE_CONFIG_DIR", "four");
    assert_eq!(port(&machine), 4);
    machine = machine.file("work/five/default.toml", "[server]\nport = 5\n");
    machine.sources.flags.config_dir = Some(PathBuf::from("five"));
    assert_eq!(port(&machine), 5);
    machine.sources.flags.config_dir = Some(PathBuf::from("six"));
    machine.has_fault("--config-dir", "work/six is not a folder");
}

#[test]
fn the_generated_files_change_nothing() {
    let machine = Machine::new();
    let plain = machine.load().config;
    let machine = machine
        .file("home/.waygate/config/default.toml", &generated::default_toml())
        .file("work/.env", &generated::env_example());
    let mut loaded = machine.load();
    assert_eq!(loaded.files.len(), 2);
    assert_eq!(std::mem::take(&mut loaded.config.read_from), loaded.files);
    assert!(loaded.config.folder.take().is_some_and(|folder| folder.ends_with(".waygate/config")));
    // Where values come from is another matter.
    loaded.config.shown = std::sync::Arc::clone(&plain.shown);
    assert_eq!(format!("{:?}", loaded.config), format!("{plain:?}"));
}

#[test]
fn default_toml_may_choose_the_environment_whose_file_follows() {
    let machine = Machine::new()
        .file("etc/default.toml", "[server]\nenv = \"production\"\n")
        .file("etc/production.toml", "[server]\nport = 9\n")
        .file("etc/development.toml", "[server]\nport = 1\n");
    assert_eq!(machine.load().config.server.port, 9);
    let machine = machine.flag("--env", "development");
    assert_eq!(machine.load().config.server.port, 1);
    let machine = machine.file("etc/development.toml", "[server]\nenv = \"test\"\n");
    machine.has_fault("etc/development.toml:2", "cannot change that");
}

#[test]
fn all_faults_are_told_at_once_each_with_its_place() {
    let machine = Machine::new()
        .file(
            "etc/default.toml",
            "port = 1\n[server]\nprot = 1\nport = \"80\"\ntimeout_seconds = 0\n[sever]\n[access]\nsecret_key = \"x\"\n[log]\nlevel = \"LOUD\"\n",
        )
        .file("work/.env", "WAYGATE_PROT=1\nWAYGATE_SECRET_KEY=x\n")
        .variable("WAYGATE_WORKERS", "many")
        .variable("WAYGATE_LOG_LEVLE", "info")
        .flag("--host", "http://x");
    let faults = machine.faults();
    for (place, part) in [
        ("etc/default.toml:1", "put it under [server]"),
        ("etc/default.toml:3", "no setting server.prot; did you mean server.port?"),
        ("etc/default.toml:4", "server.port is \"80\", but takes a whole number from 0 to 65535"),
        ("etc/default.toml:5", "from 1 to 86400 (seconds)"),
        ("etc/default.toml:6", "no section [sever]; did you mean server?"),
        ("etc/default.toml:8", "access.secret_key is not served by this version"),
        ("etc/default.toml:10", "one of OFF, ERROR"),
        ("work/.env:1", "did you mean WAYGATE_PORT?"),
        ("work/.env:2", "not served by this version"),
        ("WAYGATE_WORKERS", "or `auto`"),
        ("WAYGATE_LOG_LEVLE", "did you mean WAYGATE_LOG_LEVEL?"),
        ("--host", "an address or a name alone"),
    ] {
        assert!(
            faults.iter().any(|(at, text)| at == place && text.contains(part)),
            "{place} {part}: {faults:#?}"
        );
    }
    assert_eq!(faults.len(), 12, "{faults:#?}");
}

#[test]
#[cfg(feature = "redis")]
fn whoever_asks_for_redis_says_where_it_is_and_that_is_never_repeated() {
    for (variable, key) in
        [("WAYGATE_CACHE_TYPE", "cache.type"), ("WAYGATE_LIMITS_COUNT_IN", "limits.count_in")]
    {
        let machine = || Machine::new().variable(variable, "redis");
        let sentence = format!("{key} is redis, but cache.redis_url is not set");
        let faults = machine().faults();
        assert!(faults.iter().any(|(at, text)| at == variable && text.contains(&sentence)), "{faults:?}");
        for bad in ["rediss://user:hidden@host", "host:6379/hidden"] {
            let faults = machine().variable("WAYGATE_REDIS_URL", bad).faults();
            assert!(faults.iter().any(|(at, _)| at == "WAYGATE_REDIS_URL"), "{faults:?}");
            assert!(!format!("{faults:?}").contains("hidden"), "{faults:?}");
        }
        drop(machine().variable("WAYGATE_REDIS_URL", "redis://user:hidden@host:6379/0").load());
    }
}

#[test]
fn a_collector_of_traces_needs_the_build_for_it_and_its_headers_are_never_repeated() {
    let faults = |endpoint: &str, headers: &str| {
        let machine = Machine::new().variable("WAYGATE_OTLP_ENDPOINT", endpoint);
        let machine =
            if headers.is_empty() { machine } else { machine.variable("WAYGATE_OTLP_HEADERS", headers) };
        load(&machine.sources).map_or_else(|faults| faults.to_string(), |_| String::new())
    };
    let well = faults("https://collector.example:4318", "authorization=Bearer hidden");
    assert_eq!(well.contains("build with the feature otlp"), cfg!(not(feature = "otlp")), "{well}");
    for (endpoint, headers, said) in [
        ("collector:4318", "", "takes a URL"),
        ("http://user:hidden@collector:4318", "", "without a password"),
        ("http://collector:4318/?key=hidden", "", "without a password"),
        ("http://collector:4318", "authorization=hidden", "in the clear"),
        ("http://[::1]:4318", "hidden", "no headers"),
    ] {
        let found = faults(endpoint, headers);
        assert!(found.contains(said) && !found.contains("hidden"), "{endpoint}: {found}");
    }
    if cfg!(feature = "otlp") {
        assert_eq!(faults("http://[::1]:4318", "authorization=hidden"), "");
        assert_eq!(faults("http://127.0.0.1:4318/v1/traces", "authorization=hidden"), "");
    }
    let alone = Machine::new().variable("WAYGATE_OTLP_HEADERS", "a=hidden").faults();
    assert!(alone.iter().any(|(_, text)| text.contains("which is not set")), "{alone:?}");
}

#[test]
fn broken_toml_is_named_by_its_line() {
    let machine = Machine::new().file("etc/default.toml", "[server]\nport = 1\nhost = \n");
    assert!(
        machine.faults().iter().any(|(at, text)| at == "etc/default.toml:3" && text.contains("not TOML"))
    );
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let machine = Machine::new().file("work/key", "a-key-of-no-less-than-32-characters!\n");
    let from_file = machine.variable("WAYGATE_API_KEY_FILE", "key");
    let loaded = from_file.load();
    assert_eq!(
        loaded.config.access.api_key.as_ref().unwrap().expose(),
        "a-key-of-no-less-than-32-characters!"
    );
    assert!(!format!("{loaded:?}").contains("a-key-of"));
    let both = from_file.variable("WAYGATE_API_KEY", "x");
    both.has_fault("WAYGATE_API_KEY_FILE", "only one of the two");
    let missing = Machine::new().variable("WAYGATE_API_KEY_FILE", "nowhere");
    missing.has_fault("WAYGATE_API_KEY_FILE", "there is no such file");
    Machine::new().variable("WAYGATE_PORT_FILE", "x").has_fault("WAYGATE_PORT_FILE", "only secrets");
    let blank = Machine::new().variable("WAYGATE_API_KEY", "very secret");
    blank.has_fault("WAYGATE_API_KEY", "no header can carry");
    assert!(!blank.faults()[0].1.contains("very secret"));
}

#[test]
fn keys_that_can_be_guessed_are_refused_outside_development() {
    for environment in ["production", "test"] {
        let with = |key: &str| Machine::new().flag("--env", environment).variable("WAYGATE_API_KEY", key);
        with("short").has_fault("WAYGATE_API_KEY", "shorter than 32");
        with("changeme-changeme-changeme-changeme-").has_fault("WAYGATE_API_KEY", "placeholder");
        with("your-api-key-here-your-api-key-here").has_fault("WAYGATE_API_KEY", "placeholder");
        with(&"z".repeat(40)).has_fault("WAYGATE_API_KEY", "placeholder");
        with("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b").load();
    }
    assert!(Machine::new().variable("WAYGATE_API_KEY", "short").load().config.access.api_key.is_some());
}

#[test]
fn a_key_that_can_be_guessed_is_warned_of_where_other_machines_reach_it() {
    let weak = |host: &str, key: &str| {
        let machine = Machine::new().flag("--host", host).variable("WAYGATE_API_KEY", key);
        weak_key(&machine.load().config)
    };
    for key in ["guess-me", "changeme-changeme-changeme-changeme-"] {
        assert!(
            weak("0.0.0.0", key).is_some_and(|why| why.contains("0.0.0.0") && !why.contains(key)),
            "{key}"
        );
        assert_eq!(weak("127.0.0.1", key), None);
    }
    assert_eq!(weak("0.0.0.0", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"), None);
    assert_eq!(weak_key(&Machine::new().flag("--host", "0.0.0.0").load().config), None);
}

#[test]
fn an_env_file_or_a_toml_file_that_is_no_file_is_a_fault_and_never_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    for (path, place) in
        [("work/.env", ".env"), ("home/.waygate/config/default.toml", "home/.waygate/config/default.toml")]
    {
        let machine = Machine::new();
        let whole = machine.path(path);
        fs::create_dir_all(whole.parent().unwrap()).unwrap();
        mknodat(CWD, &whole, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        machine.has_fault(place, "it is no file");
        fs::remove_file(&whole).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &whole).unwrap();
        machine.has_fault(place, "it is no file");
    }
}

#[test]
fn what_kubernetes_injects_is_ignored_and_told() {
    let machine = Machine::new()
        .variable("WAYGATE_PORT", "tcp://10.0.0.1:8000")
        .variable("WAYGATE_SERVICE_HOST", "10.0.0.1")
        .variable("WAYGATE_PORT_8000_TCP", "tcp://10.0.0.1:8000");
    let loaded = machine.load();
    assert_eq!(loaded.config.server.port, 8000);
    assert_eq!(loaded.notes.len(), 1);
    assert!(
        loaded.notes[0].ends_with("WAYGATE_PORT, WAYGATE_PORT_8000_TCP, WAYGATE_SERVICE_HOST"),
        "{:?}",
        loaded.notes
    );
}

#[test]
fn a_bare_database_url_counts_from_the_environment_alone_and_gives_way() {
    let url = |machine: &Machine| machine.load().config.database.url.map(|url| url.expose().to_owned());
    let machine = Machine::new().file("work/.env", "DATABASE_URL=sqlite:env-file\n");
    assert_eq!(url(&machine), None);
    let machine = machine
        .file("etc/default.toml", "[database]\nurl = \"sqlite:toml\"\n")
        .variable("DATABASE_URL", "sqlite:bare");
    assert_eq!(url(&machine).as_deref(), Some("sqlite:bare"));
    let machine = machine.file("work/.env", "WAYGATE_DATABASE_URL=sqlite:ours\n");
    assert_eq!(url(&machine).as_deref(), Some("sqlite:ours"));
    let machine = Machine::new().variable("WAYGATE_DATABASE_URL", "mysql://user:secret@x/y");
    machine.has_fault("WAYGATE_DATABASE_URL", "mysql://;");
    assert!(!machine.faults()[0].1.contains("secret"));
}

#[test]
fn the_env_file_is_that_of_serve_or_the_one_named() {
    let mut machine =
        Machine::new().file("work/.env", "WAYGATE_PORT=1\n").file("work/other", "WAYGATE_PORT=2\n");
    assert_eq!(machine.load().config.server.port, 1);
    machine.sources.reads_env_file = false;
    assert_eq!(machine.load().config.server.port, 8000);
    machine.sources.flags.env_file = Some("other".into());
    assert_eq!(machine.load().config.server.port, 2);
    machine.sources.flags.env_file = Some("none".into());
    machine.has_fault("--env-file", "there is no such file");
}

#[test]
fn without_a_home_a_data_folder_must_be_said() {
    let mut machine = Machine::new();
    machine.sources.home = None;
    machine.has_fault("server.data_dir", "--data-dir");
    assert_eq!(machine.flag("--data-dir", "/srv/w").load().config.server.data_dir, Path::new("/srv/w"));
}

#[test]
fn auto_is_the_number_of_processors_and_values_that_contradict_are_refused() {
    assert_eq!(Machine::new().variable("WAYGATE_WORKERS", "auto").load().config.server.workers, 3);
    let machine = Machine::new()
        .variable("WAYGATE_HEALTH_STUCK_SECONDS", "5")
        .variable("WAYGATE_HEALTH_BEAT_SECONDS", "5");
    machine.has_fault("WAYGATE_HEALTH_STUCK_SECONDS", "more than health.beat_seconds");
    Machine::new().variable("WAYGATE_FILES_ROOTS", "a=b").has_fault("WAYGATE_FILES_ROOTS", "name=/path:ro");
}

#[test]
fn files_that_are_not_read_or_open_to_others_are_told() {
    let machine =
        Machine::new().file("etc/prodution.toml", "").file("etc/default.toml", "[access]\napi_key = \"x\"\n");
    let open = |mode| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(machine.path("etc/default.toml"), fs::Permissions::from_mode(mode)).unwrap();
        machine.load().notes
    };
    assert!(matches!(open(0o600).as_slice(), [note] if note.contains("prodution.toml is never read")));
    assert!(matches!(open(0o644).as_slice(), [_, note] if note.contains("holds access.api_key")));
}
