//! Starts that cannot be: each says in one sentence what is wrong and what to do, with an exit code of its own; and what
//! a good start leaves behind.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};
use serde_json::json;

use crate::database::{becomes, refused};
use crate::ledger::{self, Held};
use crate::load::echo;
use crate::support::database::skips_on_postgres;
use crate::support::{Http, Server, eventually, program};

/// The exit code for what cannot be made or taken.
const CANNOT_CREATE: i32 = 73;
const TEMPORARY: i32 = 75;
const CONFIG: i32 = 78;
/// A user who owns nothing.
const NOBODY: u32 = 65_534;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The command of a server on `folder` with other flags put over the usual ones.
fn command(folder: &Path, flags: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Server::command("echo", folder, settings);
    command.args(flags);
    command
}

/// The server's command without its usual flags: those may stand only once.
fn bare(folder: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(program("echo"));
    command.args(flags).env_clear().env("HOME", folder).current_dir(folder);
    command
}

#[test]
fn a_taken_port_is_named_with_the_process_that_has_it() {
    let (first, second) = (Server::start("echo"), folder());
    let port = first.address.port().to_string();
    let data = second.path().to_string_lossy().into_owned();
    let (code, says) = refused(bare(second.path(), &["--env", "test", "--port", &port, "--data-dir", &data]));
    assert_eq!(code, Some(CANNOT_CREATE), "{says}");
    let owner = format!("process {} (echo)", first.child.id());
    assert!(says.contains(&port) && says.contains(&owner) && says.contains("--port"), "{says}");
    assert_eq!(first.tool("echo", json!({"message": "x"}))["content"][0]["text"], "x");
}

#[test]
fn a_port_that_another_program_has_is_named_with_that_program() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("an address").port().to_string();
    let place = folder();
    let data = place.path().to_string_lossy().into_owned();
    let (code, says) = refused(bare(place.path(), &["--env", "test", "--port", &port, "--data-dir", &data]));
    assert_eq!(code, Some(CANNOT_CREATE), "{says}");
    assert!(says.contains(&format!("process {}", std::process::id())), "{says}");
}

#[test]
fn a_folder_that_a_running_server_owns_is_refused_with_its_process() {
    let first = Server::start("echo");
    let (code, says) = refused(command(&first.folder, &[], &[]));
    assert_eq!(code, Some(TEMPORARY), "{says}");
    assert!(says.contains(&format!("process {}", first.child.id())) && says.contains("--data-dir"), "{says}");
    assert_eq!(first.tool("echo", json!({"message": "x"}))["content"][0]["text"], "x");
}

#[test]
fn two_servers_on_folders_of_their_own_do_not_meet() {
    let (first, second) = (Server::start("echo"), Server::start("echo"));
    for server in [&first, &second] {
        assert_eq!(server.tool("echo", json!({"message": "x"}))["content"][0]["text"], "x");
    }
}

#[test]
fn a_host_that_nobody_knows_is_named() {
    let place = folder();
    let settings = [("WAYGATE_HOST", "no-such-host.invalid"), ("WAYGATE_INSECURE_NO_AUTH", "true")];
    let (code, says) = refused(command(place.path(), &[], &settings));
    assert_eq!(code, Some(CANNOT_CREATE), "{says}");
    assert!(says.contains("no-such-host.invalid") && says.contains("server.host"), "{says}");
}

#[test]
fn all_bad_settings_are_told_at_once() {
    let place = folder();
    let settings = [
        ("WAYGATE_TIMEOUT", "soon"),
        ("WAYGATE_HISTORY_DURABILITY", "perhaps"),
        ("WAYGATE_DB_POOL_SIZE", "0"),
        ("WAYGATE_TIMEOUTS", "3"),
        ("WAYGATE_CACHE_TYPE", "disk"),
    ];
    let output = command(place.path(), &[], &settings).output().expect("it runs");
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(CONFIG), "{says}");
    for (name, _) in settings {
        assert!(says.contains(name), "{name} is not named: {says}");
    }
    assert!(says.contains("did you mean") && says.contains("WAYGATE_TIMEOUT"), "{says}");
    assert!(fs::read_dir(place.path()).expect("a folder").next().is_none(), "nothing is made before");
}

/// Runs a command as somebody who owns nothing; none where that is not possible.
fn as_nobody(command: &Command, folder: &Path) -> Option<Command> {
    if !is_root() {
        eprintln!("skipped: only root may become somebody else");
        return None;
    }
    // The program may lie where nobody may look.
    let copy = folder.join("program");
    fs::copy(command.get_program(), &copy).expect("a copy");
    let mut other = Command::new("setpriv");
    let user = NOBODY.to_string();
    other.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(copy).args(command.get_args());
    other.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    other.current_dir("/");
    Command::new("setpriv").arg("--version").output().is_ok().then_some(other)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    let place = folder();
    open_to_all(place.path());
    let data = place.path().join("data-root");
    fs::create_dir(&data).expect("a folder");
    let Some(command) = as_nobody(&command(&data, &[], &[]), place.path()) else { return };
    let (code, says) = refused(command);
    assert!([Some(CANNOT_CREATE), Some(74)].contains(&code), "{code:?}: {says}");
    assert!(says.contains(data.to_str().expect("text")) && says.contains("ermission"), "{says}");
}

#[test]
fn a_database_of_somebody_else_degrades_the_health_and_is_named() {
    if skips_on_postgres("a file belongs to somebody else") {
        return;
    }
    let place = folder();
    open_to_all(place.path());
    let data = place.path().join("data-root");
    let mut server = Server::on("echo", &data_root(&data), &[]);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let Some(command) = as_nobody(&command(&data, &[], &[]), place.path()) else { return };
    for path in everything_below(&data) {
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    chown(&data, Some(NOBODY), Some(NOBODY)).expect("root may");
    let file = ledger::file(&data);
    chown(&file, Some(0), Some(0)).expect("root may");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("root may");
    let server = Server::by(piped(command), &data);
    server.tool("echo", json!({"message": "x"}));
    becomes(&server, "degraded");
    let says = server.get("/health").1["problems"]["database"].clone();
    assert!(says.as_str().is_some_and(|says| says.contains("write access to the file")), "{says}");
}

fn data_root(path: &Path) -> PathBuf {
    fs::create_dir(path).expect("a folder");
    path.to_owned()
}

#[test]
fn a_sealing_key_that_others_can_read_is_refused_with_the_cure() {
    let place = folder();
    let mut server = Server::on("echo", place.path(), &[]);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let key = place.path().join("data/sealing.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("permissions");
    let (code, says) = refused(command(place.path(), &[], &[]));
    assert_eq!(code, Some(CANNOT_CREATE), "{says}");
    assert!(says.contains(&format!("chmod 600 {}", key.display())), "{says}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("permissions");
    fs::write(&key, "short\n").expect("written");
    let (code, says) = refused(command(place.path(), &[], &[]));
    assert_eq!(code, Some(CANNOT_CREATE), "{says}");
    assert!(says.contains("too short") && says.contains("delete it"), "{says}");
}

/// Everything below a folder.
fn everything_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}

#[test]
fn nothing_is_written_outside_the_data_folder_and_all_in_it_is_its_owners_alone() {
    let (home, data, work) = (folder(), folder(), folder());
    let root = data.path().join("root");
    let mut command = Server::command("waygate-mcp", &root, &[]);
    command.env("HOME", home.path()).env("TMPDIR", work.path()).current_dir(work.path());
    let mut server = Server::by(command, &root);
    server.tool("waygate__status", json!({}));
    server.tool("files__write_file", json!({"path": "a/b.txt", "content": "x"}));
    for path in everything_below(&root) {
        let mode = fs::metadata(&path).expect("metadata").permissions().mode() & 0o777;
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        let of_files = path.starts_with(root.join("files").join("a"));
        assert!(mode == wanted || of_files, "{} has mode {mode:o}", path.display());
    }
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    for elsewhere in [home.path(), work.path()] {
        assert!(everything_below(elsewhere).is_empty(), "{:?}", everything_below(elsewhere));
    }
}

#[test]
fn the_environment_test_has_a_folder_of_its_own() {
    let home = folder();
    let command = bare(home.path(), &["--env", "test", "--port", "0"]);
    let server = Server::by(piped(command), &home.path().join(".waygate/test"));
    assert_eq!(server.tool("echo", json!({"message": "x"}))["content"][0]["text"], "x");
    assert!(home.path().join(".waygate/test/data/waygate.db").exists());
    let beside: Vec<_> = fs::read_dir(home.path().join(".waygate")).expect("a folder").flatten().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
}

fn piped(mut command: Command) -> Command {
    use std::process::Stdio;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The port that a process listens on, once it does.
pub fn port_of(child: &Child) -> Option<u16> {
    let process = Process::new(i32::try_from(child.id()).ok()?).ok()?;
    let sockets: Vec<u64> = process
        .fd()
        .ok()?
        .flatten()
        .filter_map(|file| if let FDTarget::Socket(inode) = file.target { Some(inode) } else { None })
        .collect();
    let listens = procfs::net::tcp().ok()?;
    let own =
        |entry: &&procfs::net::TcpNetEntry| entry.state == TcpState::Listen && sockets.contains(&entry.inode);
    Some(listens.iter().find(own)?.local_address.port())
}

#[test]
fn while_the_database_is_held_the_server_says_that_it_starts() {
    if skips_on_postgres("a file is locked before it is a database") {
        return;
    }
    let place = folder();
    fs::create_dir(place.path().join("data")).expect("a folder");
    ledger::change(place.path(), "PRAGMA journal_mode = WAL");
    let held = Held::on(place.path());
    let mut child =
        command(place.path(), &[], &[("WAYGATE_DB_BUSY_TIMEOUT_MS", "60000")]).spawn().expect("it starts");
    let port = eventually("it listens first of all", || port_of(&child));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    for path in ["/ready", "/health", "/mcp"] {
        let reply = Http::get(path).send(address);
        assert_eq!(reply.status, 503, "{path}: {}", reply.text());
        assert!(reply.header("retry-after").is_some());
        assert!(reply.text().contains("starting"), "{}", reply.text());
    }
    drop(held);
    eventually("it serves", || {
        let (status, _) = echo(address, "x").expect("everyone is answered, at the hand-over, too");
        (status == 200).then_some(())
    });
    child.kill().expect("ends");
    child.wait().expect("ended");
}

#[test]
fn a_server_that_is_told_to_stop_while_it_starts_stops() {
    if skips_on_postgres("a file is locked before it is a database") {
        return;
    }
    let place = folder();
    fs::create_dir(place.path().join("data")).expect("a folder");
    ledger::change(place.path(), "PRAGMA journal_mode = WAL");
    let held = Held::on(place.path());
    let mut child =
        command(place.path(), &[], &[("WAYGATE_DB_BUSY_TIMEOUT_MS", "600000")]).spawn().expect("it starts");
    eventually("it listens first of all", || port_of(&child));
    let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(told.expect("kill runs").success());
    let ended = eventually("it ends, though the lock is held", || child.try_wait().expect("a child"));
    assert_eq!(ended.code(), Some(0));
    drop(held);
}
