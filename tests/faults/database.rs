//! A database that is locked, read-only, full, damaged, gone or too new: the server says which, and loses nothing it need not.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ledger::{self, Held};
use crate::load::{Load, echo};
use crate::support::database::skips_on_postgres;
use crate::support::{PATIENCE, Server, database_of, eventually, program};

const FULL: (&str, &str) = ("WAYGATE_HISTORY_ARGUMENTS", "full");
const STRICT: (&str, &str) = ("WAYGATE_HISTORY_DURABILITY", "strict");
/// Locks are waited for shortly, so that the failure is seen soon.
const IMPATIENT: (&str, &str) = ("WAYGATE_DB_BUSY_TIMEOUT_MS", "50");
/// Room for all that a load leaves while nothing can be written.
const ROOMY: (&str, &str) = ("WAYGATE_HISTORY_QUEUE_MAX", "1000000");
/// The exit code for a database that cannot be used.
const STORAGE: i32 = 74;
/// The exit code for what may go away by itself.
const TEMPORARY: i32 = 75;

fn status(server: &Server) -> String {
    server.get("/health").1["status"].as_str().unwrap_or_default().to_owned()
}

pub fn becomes(server: &Server, wanted: &str) {
    eventually(wanted, || (status(server) == wanted).then_some(()));
}

fn database_becomes(server: &Server, wanted: &str) {
    eventually(wanted, || (server.get("/health").1["checks"]["database"] == wanted).then_some(()));
}

fn stop(mut server: Server) {
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0), "{}", server.log());
}

/// Starts a server that must not start, and gives its exit code and its words.
pub fn refused(mut command: Command) -> (Option<i32>, String) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let mut stderr = child.stderr.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut says = String::new();
        stderr.read_to_string(&mut says).map(|_| says)
    });
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().expect("a child") {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                child.kill().expect("it ends");
                break child.wait().expect("it ended");
            }
            None => std::thread::park_timeout(Duration::from_millis(5)),
        }
    };
    let says = reader.join().expect("a thread").expect("text");
    // Log lines are for the log; the last line is the sentence.
    let sentence = says.lines().rev().find(|line| line.starts_with("waygate-mcp: ")).unwrap_or(&says);
    (status.code(), sentence.to_owned())
}

fn refused_on(folder: &Path, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    refused(Server::command("echo", folder, settings))
}

/// A data folder whose database has had its first start.
fn used_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    stop(Server::on("echo", folder.path(), &[]));
    folder
}

#[test]
fn with_a_locked_database_batched_calls_go_on_and_their_rows_arrive_later() {
    let mut server = Server::with("echo", &[FULL, IMPATIENT, ROOMY]);
    becomes(&server, "healthy");
    let held = Held::on(&server.folder);
    let load = Load::begin(server.address, "locked", 3);
    load.wait_for(100);
    becomes(&server, "degraded");
    assert!(
        server.get("/health").1["problems"]["database"].as_str().is_some_and(|says| says.contains("locked"))
    );
    load.wait_for(50);
    drop(held);
    becomes(&server, "healthy");
    let tally = load.finish();
    assert!(tally.refused.is_empty() && tally.broken.is_empty(), "{tally:?}");
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let known = ledger::messages(&server.folder, &["success"]);
    assert!(tally.answered.iter().all(|message| known.contains(message)));
    assert!(ledger::rows(&server.folder).iter().all(|row| row.kind != "gap"));
}

#[test]
fn what_a_locked_database_leaves_no_room_for_is_counted_and_told_by_a_gap() {
    let settings = [FULL, IMPATIENT, ("WAYGATE_HISTORY_QUEUE_MAX", "20")];
    let mut server = Server::with("echo", &settings);
    let held = Held::on(&server.folder);
    let load = Load::begin(server.address, "full", 3);
    load.wait_for(200);
    let tally = load.finish();
    assert!(tally.refused.is_empty() && tally.broken.is_empty(), "{tally:?}");
    drop(held);
    server.signal("-TERM");
    server.wait();
    let rows = ledger::rows(&server.folder);
    let kept = rows.iter().filter(|row| row.kind == "outcome").count();
    assert!(kept < tally.answered.len(), "nothing was dropped, so this shows nothing");
    assert!(rows.iter().any(|row| row.kind == "gap"), "{kept} of {} rows and no gap", tally.answered.len());
}

#[test]
fn with_a_locked_database_a_strict_call_is_refused_before_its_tool_runs() {
    let server = Server::with("faulty_server", &[FULL, STRICT, IMPATIENT]);
    let counter = || {
        let params = json!({"uri": "test://counter"});
        server.call("resources/read", params).json()["result"]["contents"][0]["text"].clone()
    };
    assert_eq!(counter(), "0");
    let held = Held::on(&server.folder);
    let refused = server.call("tools/call", json!({"name": "touch", "arguments": {}}));
    assert_eq!((refused.status, refused.code()), (503, -31503), "{}", refused.text());
    assert!(refused.text().contains("the call was not run"), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    drop(held);
    eventually("it is written again", || (counter() == "0").then_some(()));
    server.tool("touch", json!({}));
    assert_eq!(counter(), "1");
}

#[test]
fn a_database_that_can_only_be_read_is_named_and_nothing_starts() {
    if skips_on_postgres("a file is opened read-only") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("data")).expect("a folder");
    let file = ledger::file(folder.path());
    ledger::change(folder.path(), "PRAGMA journal_mode = WAL");
    let url = format!("sqlite:{}?mode=ro", file.display());
    let (code, says) = refused_on(folder.path(), &[("WAYGATE_DATABASE_URL", &url)]);
    assert_eq!(code, Some(STORAGE), "{says}");
    assert!(says.contains("can only be read") && says.contains("write access"), "{says}");
}

#[test]
fn a_database_that_cannot_be_written_any_more_degrades_the_health_and_is_told_at_the_end() {
    if skips_on_postgres("a file is opened read-only") {
        return;
    }
    let folder = used_folder();
    let url = format!("sqlite:{}?mode=ro", ledger::file(folder.path()).display());
    let mut server =
        Server::on("echo", folder.path(), &[("WAYGATE_DATABASE_URL", &url), ("WAYGATE_DRAIN_SECONDS", "1")]);
    server.tool("echo", json!({"message": "x"}));
    becomes(&server, "degraded");
    assert!(
        server.get("/health").1["problems"]["database"]
            .as_str()
            .is_some_and(|says| says.contains("only be read"))
    );
    server.signal("-TERM");
    let code = server.wait();
    assert!(code.is_some_and(|code| code != 0), "rows are missing: {code:?}");
}

/// A small file system of its own; none where this user may not mount one.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// What is skipped says why.
    pub fn mount() -> Option<Self> {
        if skips_on_postgres("the disk of the data folder is filled") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "none"]).arg(folder.path()).status();
        let mounted = mounted.is_ok_and(|status| status.success()).then(|| Self(folder));
        if mounted.is_none() {
            eprintln!("skipped: this user may not mount a small disk");
        }
        mounted
    }

    /// A server on it that is well, and writes as long as there is room.
    pub fn server(&self, example: &str, settings: &[(&str, &str)]) -> Server {
        let settings = [settings, &[FULL, ("WAYGATE_HEALTH_DISK_MIN_BYTES", "0")]].concat();
        let server = Server::on(example, self.0.path(), &settings);
        database_becomes(&server, "ok");
        server
    }

    /// Takes all the room that there is, until what this gives is removed.
    pub fn fill(&self) -> PathBuf {
        let ballast = self.0.path().join("ballast");
        assert!(fs::write(&ballast, vec![0; 32 << 20]).is_err(), "the disk is full now");
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

#[test]
fn on_a_full_disk_calls_go_on_and_rows_arrive_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut server = disk.server("echo", &[ROOMY]);
    let ballast = disk.fill();
    let load = Load::begin(server.address, "full", 3);
    load.wait_for(300);
    let tally = load.finish();
    becomes(&server, "degraded");
    let says = server.get("/health").1["problems"]["database"].clone();
    assert!(says.as_str().is_some_and(|says| says.contains("no room left")), "{says}");
    fs::remove_file(&ballast).expect("room is made");
    becomes(&server, "healthy");
    assert!(tally.refused.is_empty() && tally.broken.is_empty(), "{tally:?}");
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let known = ledger::messages(&server.folder, &["success"]);
    assert!(tally.answered.iter().all(|message| known.contains(message)));
    assert_eq!(ledger::integrity(&server.folder), "ok");
}

#[test]
fn on_a_full_disk_a_strict_call_is_refused_before_its_tool_runs_and_taken_again_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut server = disk.server("faulty_server", &[STRICT]);
    let ballast = disk.fill();
    // What SQLite has of the disk already takes a few yet.
    let mut ran = 0;
    let refused = eventually("a call finds no room", || {
        let reply = server.call("tools/call", json!({"name": "touch", "arguments": {}}));
        let is_refused = reply.text().contains("the call was not run");
        ran += usize::from(!is_refused);
        is_refused.then_some(reply)
    });
    assert_eq!((refused.status, refused.code()), (503, -31503), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    database_becomes(&server, "degraded");
    let (code, health) = server.get("/health");
    assert_eq!(code, 200, "who restarts what is unhealthy must not restart this one");
    let says = health["problems"]["database"].as_str().unwrap_or_default();
    assert!(says.contains("no room left"), "{says}");
    fs::remove_file(&ballast).expect("room is made");
    database_becomes(&server, "ok");
    let params = json!({"uri": "test://counter"});
    let counted = server.call("resources/read", params).json()["result"]["contents"][0]["text"].clone();
    assert_eq!(counted, ran.to_string(), "what was refused has not run");
    server.tool("touch", json!({}));
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(ledger::integrity(&server.folder), "ok");
    let rows = ledger::rows(&server.folder);
    let ended = |call: &str| rows.iter().any(|row| row.kind == "outcome" && row.call_id == call);
    assert!(rows.iter().filter(|row| row.kind == "intent").all(|row| ended(&row.call_id)));
}

#[test]
fn little_room_is_told_before_it_is_none() {
    let server = Server::with("echo", &[("WAYGATE_HEALTH_DISK_MIN_BYTES", "1099511627776000")]);
    becomes(&server, "degraded");
    assert_eq!(server.get("/health").1["checks"]["filesystem"], "degraded");
    assert_eq!(server.get("/health").0, 200, "it works");
}

#[test]
fn a_damaged_file_is_named_and_left_as_it_is() {
    if skips_on_postgres("a file is damaged") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("data")).expect("a folder");
    let garbage = b"this was never a database\n".repeat(400);
    let file = ledger::file(folder.path());
    fs::write(&file, &garbage).expect("written");
    let (code, says) = refused_on(folder.path(), &[]);
    assert_eq!(code, Some(STORAGE), "{says}");
    assert!(says.contains("is damaged") && says.contains(file.to_str().expect("text")), "{says}");
    assert_eq!(fs::read(&file).expect("still there"), garbage);
}

#[test]
fn a_file_damaged_behind_its_first_page_is_named_and_a_restored_one_serves() {
    if skips_on_postgres("a file is damaged") {
        return;
    }
    let folder = used_folder();
    let file = ledger::file(folder.path());
    let mut bytes = fs::read(&file).expect("the file");
    let whole = bytes.clone();
    // The first page is needed to open it; all others are torn.
    bytes.iter_mut().skip(4096).for_each(|byte| *byte = 0xa5);
    fs::write(&file, &bytes).expect("written");
    let (code, says) = refused_on(folder.path(), &[]);
    assert_eq!(code, Some(STORAGE), "{says}");
    assert!(says.contains("is damaged"), "{says}");
    fs::write(&file, whole).expect("restored");
    stop(Server::on("echo", folder.path(), &[]));
}

#[test]
fn a_file_that_was_taken_away_is_made_anew_at_the_next_start() {
    if skips_on_postgres("a file is taken away") {
        return;
    }
    let folder = used_folder();
    fs::remove_file(ledger::file(folder.path())).expect("there was one");
    let server = Server::on("echo", folder.path(), &[FULL]);
    assert_eq!(echo(server.address, "anew").expect("an answer").0, 200);
    stop(server);
    assert!(ledger::messages(folder.path(), &["success"]).contains("anew"));
}

#[test]
fn an_empty_file_is_filled() {
    if skips_on_postgres("a file is empty") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("data")).expect("a folder");
    fs::write(ledger::file(folder.path()), "").expect("written");
    stop(Server::on("echo", folder.path(), &[]));
    assert_eq!(ledger::integrity(folder.path()), "ok");
}

#[test]
fn a_schema_of_a_newer_version_is_refused_and_left_as_it_is() {
    if skips_on_postgres("a file is compared byte by byte; tests/storage.rs has the rest") {
        return;
    }
    let folder = used_folder();
    let file = ledger::file(folder.path());
    ledger::change(
        folder.path(),
        "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')",
    );
    let before = fs::read(&file).expect("the file");
    let (code, says) = refused_on(folder.path(), &[]);
    assert_eq!(code, Some(STORAGE), "{says}");
    assert!(says.contains("newer version") && says.contains("99990101000000"), "{says}");
    assert_eq!(fs::read(&file).expect("the file"), before);
}

#[test]
fn a_database_that_stays_locked_at_start_is_worth_another_try() {
    if skips_on_postgres("a file is locked before it is a database") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("data")).expect("a folder");
    ledger::change(folder.path(), "PRAGMA journal_mode = WAL");
    let held = Held::on(folder.path());
    let (code, says) = refused_on(folder.path(), &[IMPATIENT]);
    assert_eq!(code, Some(TEMPORARY), "{says}");
    assert!(says.contains("is locked by another process"), "{says}");
    drop(held);
    stop(Server::on("echo", folder.path(), &[IMPATIENT]));
}

#[test]
fn rows_taken_from_under_a_running_server_are_missed_before_any_checkpoint_tells_of_them() {
    let server = Server::with("echo", &[STRICT]);
    for _ in 0..3 {
        echo(server.address, "a").expect("an answer");
    }
    let verify = || {
        let mut command = Command::new(program("waygate-mcp"));
        command.env_clear().envs(database_of(&server.folder)).env("HOME", &server.folder);
        command.args(["history", "verify", "--json", "--data-dir"]).arg(&server.folder);
        let output = command.output().expect("the program runs");
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), told["report"].clone())
    };
    let (code, report) = verify();
    assert_eq!((code, &report["told"]), (Some(0), &json!(1)), "{report}");
    let stands = server.get("/diagnostics/history").1["stands"].clone();
    let last = stands["seq"].as_i64().expect("rows are on disk");
    ledger::change(&server.folder, &format!("DELETE FROM command_history WHERE seq = {last}"));
    let (code, report) = verify();
    let (found, what) = (&report["broken"][0], format!("the rows {last} to {last} are gone from its end"));
    assert_eq!((code, &found["instance_id"]), (Some(1), &stands["instanceId"]), "{report}");
    assert!(found["what"].as_str().is_some_and(|said| said.starts_with(&what)), "{report}");
}
