//! The doctor: every fault that is planted is found, with the command that mends it; what is ours is mended; what is well is left
//! alone; and its bundle holds no secret.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, PoisonError, RwLock};

use diesel::{RunQueryDsl as _, sql_query};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::database::{open, skips_on_postgres};
use super::support::{Http, Server, eventually, program};
use super::{command, said};

/// What the doctor found, by its name, and its exit code.
struct Seen {
    code: Option<i32>,
    told: Value,
}

impl Seen {
    fn findings(&self) -> &[Value] {
        self.told["findings"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn ids(&self) -> Vec<&str> {
        self.findings().iter().map(|finding| finding["id"].as_str().unwrap()).collect()
    }

    #[track_caller]
    fn find(&self, id: &str) -> &Value {
        self.findings()
            .iter()
            .find(|finding| finding["id"] == id)
            .unwrap_or_else(|| panic!("no {id}: {:#}", self.told))
    }
}

type Settings<'a> = &'a [(&'a str, &'a str)];

/// Orphans are looked for on the whole machine: while one is planted, nobody else looks.
static ORPHANS: RwLock<()> = RwLock::new(());

fn look(folder: &Path, settings: Settings<'_>, words: &[&str]) -> Seen {
    let _nobody_plants = ORPHANS.read().unwrap_or_else(PoisonError::into_inner);
    look_anyway(folder, settings, words)
}

fn look_anyway(folder: &Path, settings: Settings<'_>, words: &[&str]) -> Seen {
    let mut command = command(folder, &[&["doctor", "--json"], words].concat());
    // Nobody knows who else has the usual port on this machine.
    let output = command.env("WAYGATE_PORT", "0").envs(settings.iter().copied()).output().unwrap();
    let told = serde_json::from_slice(&output.stdout);
    let told = told.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    Seen { code: output.status.code(), told }
}

/// A data folder on which a server ran and stopped: a copy of the one that was made first.
fn used() -> TempDir {
    static FIRST: OnceLock<TempDir> = OnceLock::new();
    let first = FIRST.get_or_init(|| {
        let home = tempfile::tempdir().unwrap();
        let mut server = Server::on("waygate-mcp", home.path(), &[]);
        server.tool("files__list_directory", json!({"path": "files"}));
        server.signal("-TERM");
        assert_eq!(server.wait(), Some(0));
        home
    });
    let copy = tempfile::tempdir().unwrap();
    let from = format!("{}/.", first.path().display());
    assert!(Command::new("cp").arg("-a").arg(from).arg(copy.path()).status().unwrap().success());
    copy
}

fn plugin(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(format!("plugins/{name}.toml"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    chmod(&path, 0o600);
    path
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn sql(folder: &Path, statement: &str) {
    sql_query(statement).execute(&mut open(folder)).unwrap();
}

/// The file of a plugin that is well.
fn echo() -> String {
    format!("command = {:?}\nargs = [\"stdio\", \"--data-dir\", \".\"]\n", program("echo"))
}

#[test]
fn what_is_well_has_no_findings_while_it_runs_and_when_it_has_stopped() {
    if skips_on_postgres("a verb looks at the file in the data folder") {
        return;
    }
    let empty = tempfile::tempdir().unwrap();
    let seen = look(empty.path(), &[], &[]);
    assert_eq!((seen.code, seen.ids()), (Some(0), vec![]), "{:#}", seen.told);
    let home = tempfile::tempdir().unwrap();
    plugin(home.path(), "small", &echo());
    let mut server = Server::on("waygate-mcp", home.path(), &[]);
    eventually("its plugin is ready", || (server.get("/plugins/small").1["state"] == "ready").then_some(()));
    server.tool("files__list_directory", json!({"path": "files"}));
    let seen = look(home.path(), &[], &[]);
    assert_eq!((seen.code, seen.ids()), (Some(0), vec![]), "{:#}", seen.told);
    assert_eq!((&seen.told["server"], &seen.told["pid"]), (&json!("running"), &json!(server.child.id())));
    let text = said(home.path(), &["doctor", "--port", "0"]);
    assert!(text.contains("checks, and nothing is amiss") && !text.contains('\u{1b}'), "{text}");
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let seen = look(home.path(), &[], &["--fix"]);
    assert_eq!((seen.code, seen.ids()), (Some(0), vec![]), "{:#}", seen.told);
    assert_eq!(seen.told["server"], "stopped");
}

/// A fault: what is planted, and the settings that go with it.
type Plant = fn(&Path) -> Vec<(&'static str, String)>;

fn none() -> Vec<(&'static str, String)> {
    Vec::new()
}

/// The server's own certificate, which ends in so many days, or is not there; its key, which a group may read.
fn with_own(folder: &Path, days: Option<i64>) -> Vec<(&'static str, String)> {
    let [cert, key] = ["own.pem", "own.key"].map(|name| folder.join(name));
    if let Some(days) = days {
        fs::write(&key, certificate(&cert, days)).unwrap();
        chmod(&key, 0o640);
    }
    let text = |path: &Path| path.display().to_string();
    vec![("WAYGATE_TLS_CERT", text(&cert)), ("WAYGATE_TLS_KEY", text(&key))]
}

/// A certificate that ends in so many days; gives its key.
fn certificate(path: &Path, days: i64) -> String {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    let end = end.to_zoned(jiff::tz::TimeZone::UTC);
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after =
        rcgen::date_time_ymd(end.year().into(), end.month().unsigned_abs(), end.day().unsigned_abs());
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(path, params.self_signed(&key).unwrap().pem()).unwrap();
    key.serialize_pem()
}

#[test]
fn of_several_authorities_one_that_holds_will_do() {
    let home = used();
    let path = home.path().join("both.pem");
    certificate(&path, -5);
    let old = fs::read_to_string(&path).unwrap();
    certificate(&path, 100);
    fs::write(&path, old + &fs::read_to_string(&path).unwrap()).unwrap();
    let seen = look(home.path(), &[("SSL_CERT_FILE", path.to_str().unwrap())], &[]);
    assert_eq!((seen.code, seen.ids()), (Some(0), vec![]), "{:#}", seen.told);
}

fn with_ca(folder: &Path, days: Option<i64>) -> Vec<(&'static str, String)> {
    let path = folder.join("ca.pem");
    if let Some(days) = days {
        certificate(&path, days);
    }
    plugin(
        folder,
        "far",
        &format!("url = \"https://127.0.0.1:1/mcp\"\nenabled = false\ntls.ca = {path:?}\n"),
    );
    none()
}

/// What is planted, the finding that tells of it, and what its command says.
const FAULTS: &[(&str, &str, Plant)] = &[
    ("config.fault", "+2 ", |folder| {
        fs::write(folder.join(".env"), "# mine\nWAYGATE_PROT=1\n").unwrap();
        none()
    }),
    ("config.fault", "unset WAYGATE_WORKERS", |_| vec![("WAYGATE_WORKERS", "none".to_owned())]),
    ("config.unread", "prodution.toml.unused", |folder| {
        fs::create_dir(folder.join("config")).unwrap();
        fs::write(folder.join("config/default.toml"), "[server]\n").unwrap();
        fs::write(folder.join("config/prodution.toml"), "[server]\n").unwrap();
        none()
    }),
    ("permissions.open", "chmod 600", |folder| {
        fs::write(folder.join(".env"), "WAYGATE_BACKUP_PASSPHRASE=hunter2hunter2\n").unwrap();
        chmod(&folder.join(".env"), 0o644);
        none()
    }),
    ("disk.space", "history prune", |_| vec![("WAYGATE_HEALTH_DISK_MIN_BYTES", (1_u64 << 50).to_string())]),
    ("database.damaged", "backup restore latest", |folder| {
        let path = folder.join("data/waygate.db");
        let mut bytes = fs::read(&path).unwrap();
        let all = bytes.len();
        bytes[100..all].fill(0xff);
        fs::write(&path, bytes).unwrap();
        none()
    }),
    ("database.old", "db migrate up", |folder| {
        said(folder, &["db", "migrate", "down", "--yes", "--no-backup"]);
        none()
    }),
    ("database.putback", "db migrate up", |folder| {
        let path = folder.join("data/waygate.db");
        fs::rename(&path, path.with_extension("db.putback")).unwrap();
        none()
    }),
    ("database.putback", "db migrate up", |folder| {
        let path = folder.join("data/waygate.db");
        fs::copy(&path, path.with_extension("db.putback")).unwrap();
        chmod(&path.with_extension("db.putback"), 0o600);
        none()
    }),
    ("database.putback", "backup restore latest", |folder| {
        let path = folder.join("data/waygate.db");
        fs::rename(&path, path.with_extension("db.putback-part")).unwrap();
        none()
    }),
    ("clock.behind", "timedatectl", |folder| {
        sql(
            folder,
            "INSERT INTO command_history (instance_id, seq, call_id, round, kind, created_at) VALUES ('x', 1, 'x', 0, 'gap', '2099-01-01 00:00:00')",
        );
        none()
    }),
    ("plugins.file", "+1 ", |folder| {
        plugin(folder, "bad", "comand = \"x\"\n");
        none()
    }),
    ("plugins.handshake", "mute.toml && waygate-mcp plugins check mute", |folder| {
        plugin(folder, "mute", "command = \"false\"\nstart_timeout_seconds = 5\n");
        none()
    }),
    ("plugins.unread", "few.toml", |folder| {
        fs::create_dir_all(folder.join("plugins")).unwrap();
        fs::write(folder.join("plugins/few.tml"), "kind = \"bundle\"\nplugins = [\"files\"]\n").unwrap();
        none()
    }),
    ("tls.ends", "that holds now into", |folder| with_ca(folder, Some(5))),
    ("tls.expired", "then `waygate-mcp plugins reload`", |folder| with_ca(folder, Some(-5))),
    ("tls.missing", "ca.pem", |folder| with_ca(folder, None)),
    ("tls.server_ends", "renewed certificate into", |folder| with_own(folder, Some(5))),
    ("tls.server", "then start the server", |folder| with_own(folder, None)),
    ("tls.server", "chmod o-rwx", |folder| {
        let settings = with_own(folder, Some(100));
        chmod(&folder.join("own.key"), 0o644);
        settings
    }),
    ("logs.folder", "mv ", |folder| {
        fs::remove_dir_all(folder.join("logs")).unwrap();
        fs::write(folder.join("logs"), "").unwrap();
        none()
    }),
    ("crashes.server", "waygate-mcp serve", |folder| {
        sql(
            folder,
            "INSERT INTO instances (instance_id, started_at, seen_at, host, pid, version) VALUES ('00000000000000000001', '2026-01-01 00:00:00', '2026-01-01 00:00:00', 'elsewhere', 7, '0')",
        );
        none()
    }),
    ("keys.old", "keys rotate", |folder| {
        said(folder, &["keys", "create", "elder"]);
        sql(folder, "UPDATE api_keys SET created_at = '2020-01-01 00:00:00'");
        none()
    }),
    ("keys.expired", "keys delete", |folder| {
        said(folder, &["keys", "create", "over", "--expires", "1d"]);
        sql(folder, "UPDATE api_keys SET expires_at = '2020-01-01 00:00:00'");
        none()
    }),
    ("keys.ends", "keys rotate", |folder| {
        said(folder, &["keys", "create", "soon", "--expires", "1d"]);
        none()
    }),
    ("backups.old", "backup create", |folder| {
        fs::create_dir_all(folder.join("backups")).unwrap();
        fs::write(folder.join("backups/waygate-20200101T000000Z-aaaaaa.tar.zst"), "x").unwrap();
        chmod(&folder.join("backups/waygate-20200101T000000Z-aaaaaa.tar.zst"), 0o600);
        none()
    }),
    ("backups.ahead", "zst.ahead", |folder| {
        said(folder, &["backup", "create"]);
        let ahead = folder.join("backups/waygate-20990101T000000Z-aaaaaa.tar.zst");
        fs::write(&ahead, "x").unwrap();
        chmod(&ahead, 0o600);
        none()
    }),
];

/// How a command begins that looks and mends nothing.
const LOOKS: [&str; 12] = [
    "openssl",
    "ls ",
    "findmnt",
    "fuser",
    "curl",
    "journalctl",
    "waygate-mcp status",
    "waygate-mcp health",
    "waygate-mcp history list",
    "waygate-mcp plugins show",
    "waygate-mcp plugins check",
    "waygate-mcp bundles show",
];

/// Those whose command can be typed as it stands, by this user, and leaves nothing to be done.
const TYPED: [&str; 9] = [
    "config.unread",
    "permissions.open",
    "database.old",
    "plugins.unread",
    "logs.folder",
    "keys.old",
    "keys.expired",
    "backups.old",
    "backups.ahead",
];

/// Types it, as somebody does who read it.
fn typed(folder: &Path, mends: &str) {
    let programs = program("waygate-mcp").parent().unwrap().display().to_string();
    let known = std::env::var("PATH").unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", mends]).env_clear().env("PATH", format!("{programs}:{known}"));
    shell.env("HOME", folder).env("WAYGATE_DATA_DIR", folder).current_dir(folder);
    let output = shell.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{mends}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn each_fault_is_found_with_the_command_that_mends_it() {
    if skips_on_postgres("a verb looks at the file in the data folder") {
        return;
    }
    for (id, mends, plant) in FAULTS {
        let home = used();
        let settings = plant(home.path());
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let seen = look(home.path(), &settings, &[]);
        let finding = seen.find(id);
        assert!(finding["command"].as_str().unwrap().contains(mends), "{id}: {finding:#}");
        assert!(
            finding["what"].as_str().unwrap().len() > 10 && finding["why"].as_str().unwrap().len() > 10,
            "{finding:#}"
        );
        assert_eq!(seen.code, Some(1), "{id}");
        // One fault is one finding: nothing else is blamed for it.
        let others: Vec<&str> = seen.ids().into_iter().filter(|other| other != id).collect();
        assert!(others.is_empty(), "{id} came with {others:?}: {:#}", seen.told);
        let mends = finding["command"].as_str().unwrap();
        let looks = LOOKS.iter().find(|begin| mends.starts_with(**begin));
        assert!(looks.is_none(), "{id}: `{mends}` looks, and mends nothing");
        if TYPED.contains(id) || mends.starts_with("chmod ") {
            typed(home.path(), mends);
            let seen = look(home.path(), &settings, &[]);
            assert_eq!((seen.code, seen.ids()), (Some(0), vec![]), "{id} after `{mends}`: {:#}", seen.told);
        }
    }
}

#[test]
fn a_database_that_is_not_where_the_running_server_has_it_is_found() {
    if skips_on_postgres("a file is moved") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let settings = [("WAYGATE_HEALTH_BEAT_SECONDS", "1")];
    let server = Server::on("waygate-mcp", home.path(), &settings);
    let file = home.path().join("data/waygate.db");
    let other = home.path().join("other");
    fs::write(&other, "no database").unwrap();
    fs::rename(&other, &file).unwrap();
    eventually("the server says so", || {
        let says = server.get("/health").1["problems"]["database"].clone();
        says.as_str().is_some_and(|says| says.contains("is not used")).then_some(())
    });
    let seen = look(home.path(), &[], &[]);
    let finding = seen.find("database.moved");
    assert!(finding["what"].as_str().unwrap().contains("file is not a database"), "{finding:#}");
    let command = finding["command"].as_str().unwrap();
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    eventually("it is put back", || file.exists().then_some(()));
    eventually("all is well", || (server.get("/health").1["checks"]["database"] == "ok").then_some(()));
    let ids = look(home.path(), &[], &[]).ids().join(" ");
    assert!(!ids.contains("database"), "{ids}");
    assert!(file.with_extension("db.aside").exists());
}

#[test]
fn what_was_mended_stands_in_the_history() {
    if skips_on_postgres("a verb looks at the file in the data folder") {
        return;
    }
    let home = used();
    chmod(&home.path().join("data/waygate.db"), 0o644);
    let seen = look(home.path(), &[], &["--fix"]);
    assert!(seen.find("permissions.open")["fixed"].is_string(), "{:#}", seen.told);
    look(home.path(), &[], &["--fix"]);
    let acts = said(home.path(), &["history", "export", "--kind", "admin"]);
    let acts: Vec<&str> = acts.lines().filter(|line| line.contains("doctor/fix")).collect();
    assert_eq!(acts.len(), 1, "once, for it was mended once: {acts:?}");
    assert!(acts[0].contains("the mode 06") && acts[0].contains("waygate.db"), "{}", acts[0]);
}

#[test]
fn who_has_the_port_is_named_and_another_port_offered() {
    let home = used();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let seen = look(home.path(), &[("WAYGATE_PORT", &port)], &[]);
    let finding = seen.find("port.taken");
    let what = finding["what"].as_str().unwrap();
    assert!(what.contains(&format!("process {}", std::process::id())), "{what}");
    assert!(finding["command"].as_str().unwrap().starts_with("waygate-mcp serve --port "), "{finding}");
}

#[test]
fn limits_of_the_system_are_held_against_what_is_configured() {
    let home = used();
    for (limit, id, mends) in [
        ("ulimit -n 300", "files.limit", "ulimit -n 2048"),
        ("ulimit -f 1000", "ulimits.file_size", "ulimit -f unlimited"),
    ] {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{limit}; exec \"$0\" \"$@\"")).arg(program("waygate-mcp"));
        command.args(["doctor", "--json", "--port", "0", "--data-dir"]).arg(home.path());
        command.env_clear().env("HOME", home.path()).env("WAYGATE_CONNECTIONS_MAX", "1000");
        let output = command.current_dir(home.path()).stdin(Stdio::null()).output().unwrap();
        let seen = Seen { code: output.status.code(), told: serde_json::from_slice(&output.stdout).unwrap() };
        assert_eq!(seen.find(id)["command"], mends, "{:#}", seen.told);
    }
}

#[test]
fn what_is_ours_is_mended_and_what_is_not_is_left() {
    let home = used();
    let folder = home.path();
    let data = folder.join("data");
    chmod(&data, 0o777);
    chmod(&data.join("sealing.key"), 0o644);
    let secret = plugin(
        folder,
        "web",
        "url = \"http://127.0.0.1:1/\"\nenabled = false\nheaders = { Authorization = \"Bearer hunter2\" }\n",
    );
    chmod(&secret, 0o644);
    fs::write(data.join("waygate.sock"), "").unwrap();
    let nook = data.join("beside-gone");
    fs::create_dir(&nook).unwrap();
    fs::create_dir_all(folder.join("backups")).unwrap();
    let half = folder.join("backups/.waygate-20260101T000000Z-aaaaaa.tar.zst.partial");
    fs::write(&half, "x").unwrap();
    for old in [&nook, &half] {
        assert!(Command::new("touch").args(["-d", "2 hours ago"]).arg(old).status().unwrap().success());
    }
    plugin(folder, "bad", "comand = \"x\"\n");
    let ids = ["permissions.folder", "permissions.open", "stale.file", "stale.folder", "plugins.file"];
    let seen = look(folder, &[], &[]);
    for id in ids {
        let is_ours = id != "plugins.file";
        assert_eq!(seen.find(id)["fixable"], json!(is_ours), "{:#}", seen.told);
    }
    assert_eq!((mode(&data), half.exists()), (0o777, true), "looking mends nothing");
    let seen = look(folder, &[], &["--fix"]);
    assert_eq!(seen.code, Some(1), "one is not ours: {:#}", seen.told);
    for finding in seen.findings() {
        assert_eq!(finding["fixed"].is_string(), finding["fixable"] == true, "{finding:#}");
    }
    assert_eq!((mode(&data), mode(&data.join("sealing.key")), mode(&secret)), (0o755, 0o600, 0o600));
    assert!(!data.join("waygate.sock").exists() && !nook.exists() && !half.exists());
    let seen = look(folder, &[], &["--fix"]);
    assert_eq!((seen.code, seen.ids()), (Some(1), vec!["plugins.file"]), "{:#}", seen.told);
    fs::remove_file(folder.join("plugins/bad.toml")).unwrap();
    assert_eq!(look(folder, &[], &[]).code, Some(0));
}

/// The guard of a server's plugin.
fn guard_of(server: u32) -> Option<i32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.to_owned();
        (line.starts_with(b"waygate-mcp\0guard\0") && parent == server.to_string()).then_some(pid)
    })
}

fn signal(pid: i32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn an_orphaned_guard_is_found_and_ended_and_one_with_a_server_is_left_alone() {
    if skips_on_postgres("a verb looks at the file in the data folder") {
        return;
    }
    let _alone = ORPHANS.write().unwrap_or_else(PoisonError::into_inner);
    let home = tempfile::tempdir().unwrap();
    plugin(home.path(), "small", &echo());
    let mut server = Server::on("waygate-mcp", home.path(), &[]);
    let guard = eventually("its guard is there", || guard_of(server.child.id()));
    // Others may run tests on this machine.
    let about = |seen: &Seen| {
        let named = format!("process {guard} guards");
        let found =
            seen.findings().iter().find(|finding| finding["what"].as_str().unwrap().starts_with(&named));
        found.cloned()
    };
    assert_eq!(about(&look_anyway(home.path(), &[], &[])), None, "it has a server");
    // One that is stopped does not hear that its server dies.
    signal(guard, "-STOP");
    server.signal("-KILL");
    server.wait();
    let seen = look_anyway(home.path(), &[], &[]);
    let finding = about(&seen).unwrap_or_else(|| panic!("{:#}", seen.told));
    assert!(
        finding["id"] == "orphans.guard" && finding["command"].as_str().unwrap().contains("kill"),
        "{finding}"
    );
    assert_eq!(seen.find("crashes.server")["severity"], "warning", "{:#}", seen.told);
    assert!(seen.ids().contains(&"stale.file"), "its socket is left: {:#}", seen.told);
    let seen = look_anyway(home.path(), &[], &["--fix"]);
    assert!(about(&seen).unwrap()["fixed"].is_string(), "{:#}", seen.told);
    let gone = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    assert!(gone(guard));
}

#[test]
fn a_restore_is_no_crash_of_the_server_that_ran_when_the_backup_was_made() {
    if skips_on_postgres("a verb looks at the file in the data folder") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let stop = |mut server: Server| {
        server.signal("-TERM");
        assert_eq!(server.wait(), Some(0));
    };
    let server = Server::on("echo", home.path(), &[]);
    said(home.path(), &["backup", "create"]);
    stop(server);
    said(home.path(), &["backup", "restore", "latest", "--yes"]);
    let crashes = || look(home.path(), &[], &[]).ids().contains(&"crashes.server");
    assert!(!crashes(), "before the next start");
    stop(Server::on("echo", home.path(), &[]));
    assert!(!crashes(), "and after it");
    // One that is killed is told still, once it is written that it ran.
    let starts =
        || said(home.path(), &["history", "export", "--kind", "admin"]).matches("server/start").count();
    let before = starts();
    let mut server = Server::on("echo", home.path(), &[]);
    eventually("its start is written", || (starts() > before).then_some(()));
    server.signal("-KILL");
    server.wait();
    assert!(crashes());
    stop(Server::on("echo", home.path(), &[]));
    assert!(crashes(), "also once another one found it dead");
}

#[test]
fn the_operators_own_key_is_told_of_when_it_is_old() {
    let home = tempfile::tempdir().unwrap();
    let settings = [("WAYGATE_API_KEY", "0f1e2d3c4b5a69788796a5b4c3d2e1f0")];
    let mut server = Server::on("echo", home.path(), &settings);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(!look(home.path(), &settings, &[]).ids().contains(&"keys.old"), "it is new");
    // As if it had been noted long ago.
    let file = home.path().join("data/own_key.seen");
    let noted = fs::read_to_string(&file).unwrap();
    let fingerprint = noted.split(' ').next().unwrap();
    fs::write(&file, format!("{fingerprint} 2026-01-01T00:00:00Z\n")).unwrap();
    let seen = look(home.path(), &settings, &[]);
    assert!(seen.find("keys.old")["what"].as_str().unwrap().contains("WAYGATE_API_KEY"), "{:#}", seen.told);
    let another = [("WAYGATE_API_KEY", "1f1e2d3c4b5a69788796a5b4c3d2e1f1")];
    assert!(!look(home.path(), &another, &[]).ids().contains(&"keys.old"), "no server has had that one");
}

#[test]
fn a_server_that_does_not_answer_and_a_part_that_crashed_are_told() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::on("waygate-mcp", home.path(), &[]);
    let crash = Http { head: "POST /diagnostics/actors/metrics/crash".to_owned(), ..Http::get("/") };
    assert_eq!(crash.send(server.address).status, 200);
    let seen = eventually("its crash is told", || {
        let seen = look(home.path(), &[], &[]);
        seen.ids().contains(&"crashes.part").then_some(seen)
    });
    assert!(seen.find("crashes.part")["what"].as_str().unwrap().contains("metrics"), "{:#}", seen.told);
    server.signal("-STOP");
    if !skips_on_postgres("a verb looks at the file in the data folder") {
        sql(home.path(), "UPDATE instances SET seen_at = '2026-01-01 00:00:00'");
    }
    let seen = look(home.path(), &[], &[]);
    assert!(!seen.ids().contains(&"crashes.server"), "it is there, and hangs: {:#}", seen.told);
    let finding = seen.find("server.silent");
    let (pid, root) = (server.child.id(), home.path().display());
    let mends = format!("kill -9 {pid} && waygate-mcp serve --data-dir {root}");
    assert_eq!(finding["command"], mends, "{finding}");
    // What comes after it stays in front of whoever types it.
    let (ends, _serves) = mends.split_once(" && ").unwrap();
    typed(home.path(), ends);
    drop(server);
    let _next = Server::on("waygate-mcp", home.path(), &[]);
    assert!(!look(home.path(), &[], &[]).ids().contains(&"server.silent"));
}

#[test]
fn who_names_a_file_does_not_command_the_terminal_of_who_looks() {
    let home = used();
    plugin(home.path(), "a\u{1b}[31mEVIL\u{202e}", "command = \"x\"\n");
    chmod(&home.path().join("plugins/a\u{1b}[31mEVIL\u{202e}.toml"), 0o666);
    // `script` has a terminal for what it runs.
    let waygate = program("waygate-mcp").display().to_string();
    let line = format!("{waygate} doctor --port 0 --data-dir {}", home.path().display());
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env_clear().env("HOME", home.path()).env("NO_COLOR", "1");
    script.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("SHELL", "/bin/sh");
    let Ok(output) = script.current_dir(home.path()).stdin(Stdio::null()).output() else {
        eprintln!("skipped: there is no `script` here");
        return;
    };
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(seen.contains("EVIL") && !seen.contains(['\u{1b}', '\u{202e}']), "{seen:?}");
}

#[test]
fn a_database_that_its_user_may_not_open_is_no_database_that_is_away() {
    if skips_on_postgres("a verb looks at the file in the data folder") || !is_root() {
        return;
    }
    let home = used();
    give(home.path());
    let file = home.path().join("data/waygate.db");
    chmod(&file, 0);
    let mends = format!("chmod u+rw {}", file.display());
    let by_nobody = |words: &[&str]| as_nobody(&mut command(home.path(), words)).output().unwrap();
    let output = by_nobody(&["doctor", "--json", "--port", "0"]);
    let told = serde_json::from_slice(&output.stdout).unwrap();
    let seen = Seen { code: output.status.code(), told };
    assert_eq!(seen.find("database.unusable")["command"], mends, "{:#}", seen.told);
    for words in [&["history", "list"][..], &["keys", "list"], &["db", "check"]] {
        let output = by_nobody(words);
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(77) && why.contains("chmod u+rw"), "{words:?}: {why}");
    }
    assert!(Command::new("sh").args(["-c", &mends]).status().unwrap().success());
    assert!(by_nobody(&["history", "list"]).status.success());
}

#[test]
fn a_bundle_that_cannot_be_written_is_told_as_any_file_that_cannot_be() {
    let home = tempfile::tempdir().unwrap();
    let output = command(home.path(), &["doctor", "--port", "0", "--bundle", "/nowhere/x"]).output().unwrap();
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(73) && why.contains("/nowhere/x"), "{why}");
}

/// Runs as this user, who owns nothing.
const NOBODY: u32 = 65534;

fn as_nobody(command: &mut Command) -> &mut Command {
    command.uid(NOBODY).gid(NOBODY).current_dir("/")
}

fn give(folder: &Path) {
    let owner = format!("{NOBODY}:{NOBODY}");
    assert!(Command::new("chown").arg("-R").arg(owner).arg(folder).status().unwrap().success());
}

/// Whether this process is root, who alone can give files away.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can give files to another user");
    }
    is_root
}

/// The file of a plugin that writes down that it was run.
fn telltale(folder: &Path) -> (String, PathBuf) {
    let told = folder.join("it-was-run");
    let line = format!("touch {}; exit 1", told.display());
    (format!("command = \"sh\"\nargs = [\"-c\", {line:?}]\nstart_timeout_seconds = 5\n"), told)
}

#[test]
fn on_the_folder_of_another_user_it_says_as_whom_to_run_it_and_neither_kills_nor_takes_nor_runs_anything() {
    if skips_on_postgres("a verb looks at the file in the data folder") || !is_root() {
        return;
    }
    let home = used();
    let elsewhere = tempfile::tempdir().unwrap();
    chmod(elsewhere.path(), 0o777);
    let (text, told) = telltale(elsewhere.path());
    plugin(home.path(), "bad", &text);
    give(home.path());
    let look_as_nobody = |words: &[&str]| {
        let mut command = command(home.path(), &[&["doctor", "--json", "--port", "0"], words].concat());
        let output = as_nobody(&mut command).output().unwrap();
        let told = serde_json::from_slice(&output.stdout).unwrap();
        Seen { code: output.status.code(), told }
    };
    let only_foreign = |seen: &Seen, whose: &str| {
        assert_eq!((seen.code, seen.ids()), (Some(1), vec!["server.foreign"]), "{:#}", seen.told);
        let command = seen.find("server.foreign")["command"].as_str().unwrap();
        assert!(command.starts_with(whose) && command.contains("--data-dir"), "{command}");
    };
    only_foreign(&look(home.path(), &[], &["--fix"]), "sudo -u '#65534' waygate-mcp doctor");
    assert!(!told.exists(), "what another user wrote is not run as root");
    let seen = look_as_nobody(&[]);
    assert!(seen.ids() == ["plugins.handshake"] && told.exists(), "its own is: {:#}", seen.told);
    fs::remove_file(home.path().join("plugins/bad.toml")).unwrap();
    let mut command = Server::command("waygate-mcp", home.path(), &[]);
    as_nobody(&mut command);
    let mut server = Server::by(command, home.path());
    only_foreign(&look(home.path(), &[], &["--fix"]), "sudo -u '#65534' waygate-mcp doctor");
    let seen = look_as_nobody(&[]);
    assert_eq!((seen.code, &seen.told["server"]), (Some(0), &json!("running")), "{:#}", seen.told);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    // And the other way round: root's, as another user sees it.
    assert!(Command::new("chown").args(["-R", "0:0"]).arg(home.path()).status().unwrap().success());
    only_foreign(&look_as_nobody(&[]), "sudo waygate-mcp doctor");
}

#[test]
fn a_plugins_file_of_another_user_is_not_tried() {
    if !is_root() {
        return;
    }
    let home = used();
    let elsewhere = tempfile::tempdir().unwrap();
    let (text, told) = telltale(elsewhere.path());
    give(&plugin(home.path(), "theirs", &text));
    let seen = look(home.path(), &[], &[]);
    assert_eq!((seen.code, seen.ids()), (Some(1), vec!["plugins.foreign"]), "{:#}", seen.told);
    let finding = seen.find("plugins.foreign");
    assert!(finding["what"].as_str().unwrap().contains("theirs"), "{finding}");
    assert!(finding["command"].as_str().unwrap().starts_with("sudo -u '#65534'"), "{finding}");
    assert!(!told.exists());
    plugin(home.path(), "ours", &text);
    assert!(
        look(home.path(), &[], &[]).ids().contains(&"plugins.handshake") && told.exists(),
        "this user's own is"
    );
}

/// A proxy that hands on what it hears: at once, or when all of it has come.
fn proxy(to: std::net::SocketAddr, holds_back: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(to) else { continue };
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            std::thread::spawn(move || carry(server, client, holds_back));
        }
    });
    url
}

fn carry(mut server: TcpStream, mut client: TcpStream, holds_back: bool) {
    let mut held = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        held.extend_from_slice(&buffer[..count]);
        if !holds_back && client.write_all(&std::mem::take(&mut held)).is_err() {
            return;
        }
    }
    drop(client.write_all(&held));
}

#[test]
fn a_proxy_that_holds_back_streams_is_found_and_one_that_does_not_is_not_blamed() {
    let home = tempfile::tempdir().unwrap();
    let settings = [("WAYGATE_MCP_STREAM_KEEP_ALIVE_SECONDS", "1")];
    let server = Server::on("waygate-mcp", home.path(), &settings);
    let through = |url: &str| look(home.path(), &settings, &["--url", url]);
    let seen = through(&proxy(server.address, false));
    assert_eq!((seen.code, seen.ids()), (Some(0), vec![]), "{:#}", seen.told);
    let seen = through(&proxy(server.address, true));
    let finding = seen.find("streaming.buffered");
    assert!(finding["command"].as_str().unwrap().contains("proxy_buffering off"), "{finding}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(through(&format!("http://{nobody}")).find("streaming.unreachable")["severity"], "error");
    assert_eq!(through(&server.url("/health")).find("streaming.endpoint")["severity"], "error");
}

/// The entries of a bundle.
fn entries(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(fs::File::open(path).unwrap()).unwrap());
    let read = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    });
    read.collect()
}

#[test]
fn a_bundle_lists_what_it_holds_and_holds_no_secret() {
    if skips_on_postgres("a verb looks at the file in the data folder") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    const KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
    plugin(
        folder,
        "small",
        &(echo() + "env = { PLAIN = \"planted-one\", OTHER = \"${TAKEN}\" } # planted-two\n"),
    );
    plugin(
        folder,
        "web",
        "url = \"http://127.0.0.1:1/mcp?q=planted-three\"\nenabled = false\nheaders = { X-Any = \"Token planted-four\" }\n",
    );
    // Its scheme stands in the file, and is no secret that could hide what comes after it elsewhere.
    plugin(
        folder,
        "hub",
        "url = \"http://127.0.0.1:1/mcp\"\nenabled = false\nheaders = { Authorization = \"Bearer ${HUB}\" }\n",
    );
    fs::write(folder.join(".env"), "WAYGATE_BACKUP_PASSPHRASE='planted-five'\nMY_API_TOKEN=planted-six\n")
        .unwrap();
    chmod(&folder.join(".env"), 0o600);
    fs::write(folder.join("headers"), "x-one=planted-ten,authorization=Bearer planted-eleven\n").unwrap();
    chmod(&folder.join("headers"), 0o600);
    fs::write(folder.join("redis"), "redis://:planted-twelve@127.0.0.1:1/0\n").unwrap();
    chmod(&folder.join("redis"), 0o600);
    let at = |name: &str| folder.join(name).display().to_string();
    let (headers, redis) = (at("headers"), at("redis"));
    let settings = [
        ("WAYGATE_API_KEY", KEY),
        ("TAKEN", "planted-seven"),
        ("HUB", "planted-nine"),
        ("WAYGATE_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("WAYGATE_OTLP_HEADERS_FILE", &headers),
        ("WAYGATE_REDIS_URL_FILE", &redis),
    ];
    let server = Server::on("waygate-mcp", folder, &settings);
    eventually("its plugin is ready", || {
        let shown = Http::get("/plugins/small").header("X-API-Key", KEY).send(server.address).json();
        (shown["state"] == "ready").then_some(())
    });
    let made = said(folder, &["keys", "create", "one"]);
    let planted = "planted-eight";
    let log = folder.join("logs/waygate.log");
    let line = format!(
        "a line with {KEY}, planted-one, planted-nine, planted-ten, planted-eleven, planted-twelve and Authorization: Bearer {planted}\n"
    );
    fs::OpenOptions::new().append(true).open(&log).unwrap().write_all(line.as_bytes()).unwrap();
    let path = folder.join("report.tar.zst");
    let seen = look(folder, &settings, &["--bundle", path.to_str().unwrap()]);
    assert_eq!(mode(&path), 0o600);
    let entries = entries(&path);
    let manifest: Value = serde_json::from_str(&entries["manifest.json"]).unwrap();
    let listed: Vec<&str> =
        manifest["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    let mut there: Vec<&str> =
        entries.keys().map(String::as_str).filter(|name| *name != "manifest.json").collect();
    there.sort_unstable();
    let mut sorted = listed.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, there);
    for name in [
        "doctor.json",
        "settings.json",
        "system.json",
        "server/health.json",
        "server/plugins-small.json",
        "logs/waygate.log",
        "plugins/web.toml",
        "keys.json",
    ] {
        assert!(entries.contains_key(name), "{name} in {there:?}");
    }
    assert!(manifest["leftOut"].as_array().is_some_and(|left| left.len() > 3));
    let sealing = fs::read_to_string(folder.join("data/sealing.key")).unwrap();
    for (name, text) in &entries {
        for secret in
            [KEY, "planted-", sealing.trim(), made.trim(), made.trim().splitn(3, '_').nth(2).unwrap()]
        {
            assert!(!text.contains(secret), "{secret} in {name}: {text}");
        }
    }
    assert!(entries["logs/waygate.log"].contains("a line with"), "the line itself is kept");
    assert!(
        entries["plugins/web.toml"].contains("X-Any")
            && entries["settings.json"].contains("server.timeout_seconds")
    );
    assert_eq!(
        seen.told["findings"],
        serde_json::from_str::<Value>(&entries["doctor.json"]).unwrap()["findings"]
    );
}

#[test]
fn a_bundle_holds_no_secret_when_the_configuration_makes_no_sense_either() {
    let home = used();
    let folder = home.path();
    plugin(
        folder,
        "web",
        "url = \"http://127.0.0.1:1/mcp\"\nenabled = false\nheaders = { X-Any = \"planted-one\", X-Other = \"${TAKEN}\" }\n",
    );
    let env_file = folder.join("other.env");
    fs::write(&env_file, "WAYGATE_API_KEY=planted-two-planted-two-planted-two\nTAKEN=planted-three\n")
        .unwrap();
    chmod(&env_file, 0o600);
    fs::create_dir(folder.join("config")).unwrap();
    fs::write(folder.join("config/default.toml"), "[backup]\npassphrase = \"planted-four-four\"\n").unwrap();
    chmod(&folder.join("config/default.toml"), 0o600);
    let line = "planted-one planted-two-planted-two-planted-two planted-three planted-four-four, the end\n";
    let log = folder.join("logs/waygate.log");
    fs::OpenOptions::new().append(true).open(log).unwrap().write_all(line.as_bytes()).unwrap();
    let path = folder.join("report.tar.zst");
    let words = ["--env-file", env_file.to_str().unwrap(), "--bundle", path.to_str().unwrap()];
    let seen = look(folder, &[("WAYGATE_WORKERS", "none")], &words);
    assert!(seen.ids().contains(&"config.fault"), "{:#}", seen.told);
    let entries = entries(&path);
    assert!(entries["logs/waygate.log"].contains("the end"));
    for (name, text) in &entries {
        assert!(!text.contains("planted-"), "{name}: {text}");
    }
}
