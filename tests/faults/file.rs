//! A database file that is deleted, moved away or replaced under a running server: it says so, puts back what it has, and the
//! ledger tells what is missing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use diesel::{RunQueryDsl as _, sql_types};
use serde_json::json;
use tempfile::TempDir;
use waygate_mcp::storage;

use crate::database::{SmallDisk, becomes, refused};
use crate::keys::{becomes as becomes_for, keys};
use crate::ledger;
use crate::load::echo;
use crate::support::database::{open, skips_on_postgres};
use crate::support::stdio::Client;
use crate::support::{Server, eventually};

const SETTINGS: [(&str, &str); 2] =
    [("WAYGATE_HISTORY_ARGUMENTS", "full"), ("WAYGATE_HEALTH_BEAT_SECONDS", "1")];

fn says(server: &Server) -> String {
    server.get("/health").1["problems"]["database"].as_str().unwrap_or_default().to_owned()
}

/// One call, which is answered whatever the database does.
fn call(server: &Server, message: &str) {
    assert_eq!(echo(server.address, message).expect("an answer").0, 200);
}

fn known(folder: &Path) -> BTreeSet<String> {
    ledger::messages(folder, &["success"])
}

/// One call whose row is on disk.
fn recorded(server: &Server, message: &str) {
    call(server, message);
    eventually("it is recorded", || known(&server.folder).contains(message).then_some(()));
}

fn mended(server: &Server, how: &str) {
    let line = format!("waygate_db_moved_total{{how=\"{how}\"}} 1");
    eventually(&line, || server.metrics().contains(&line).then_some(()));
}

fn stop(server: &mut Server) {
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0), "{}", server.log());
}

fn beside(file: &Path, end: &str) -> PathBuf {
    file.with_file_name(format!("{}{end}", file.file_name().expect("a name").display()))
}

/// What the ledger says of each time that the file was not at its path.
fn acts(folder: &Path) -> Vec<String> {
    #[derive(diesel::QueryableByName)]
    struct Told {
        #[diesel(sql_type = sql_types::Text)]
        detail: String,
    }
    let query = "SELECT detail FROM command_history WHERE method = 'db/moved' ORDER BY id";
    let told: Vec<Told> = diesel::sql_query(query).load(&mut open(folder)).expect("the history is read");
    told.into_iter().map(|told| told.detail).collect()
}

/// Holds the database to it that it is whole, and that so many rows tell of what is missing.
#[track_caller]
fn is_sound(folder: &Path, gap_rows: usize) {
    assert_eq!((ledger::integrity(folder).as_str(), gaps(folder)), ("ok", gap_rows));
}

fn gaps(folder: &Path) -> usize {
    ledger::rows(folder).iter().filter(|row| row.kind == "gap").count()
}

/// A database of this version with nothing in it.
fn fresh(path: &Path) {
    let storage = storage::at_file(path).expect("a file");
    storage.migrate().expect("its tables");
    storage
        .connect()
        .and_then(|mut own| own.leave_alone().map_err(|error| storage.failed(&error)))
        .expect("alone");
}

/// A server that has recorded a call, and its folder; none where the database is no file.
fn running() -> Option<(TempDir, Server)> {
    if skips_on_postgres("its file is deleted, moved away or replaced") {
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::on("echo", folder.path(), &SETTINGS);
    recorded(&server, "before");
    Some((folder, server))
}

fn all_known(folder: &Path, messages: &[&str]) {
    let known = known(folder);
    assert!(messages.iter().all(|message| known.contains(*message)), "{messages:?} of {known:?}");
}

/// A real file with a link to it where the database should be, and a server that has recorded a call there.
fn linked() -> Option<(TempDir, PathBuf, Server)> {
    if skips_on_postgres("a link to its file is deleted") {
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (file, real) = (ledger::file(folder.path()), folder.path().join("real.db"));
    fs::create_dir_all(file.parent().expect("a folder")).expect("made");
    fresh(&real);
    std::os::unix::fs::symlink(&real, &file).expect("linked");
    let server = Server::on("echo", folder.path(), &SETTINGS);
    recorded(&server, "before");
    Some((folder, real, server))
}

fn deleted(ends: &[&str]) {
    if skips_on_postgres("a file is deleted") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut earlier = Server::on("echo", folder.path(), &SETTINGS);
    recorded(&earlier, "earlier");
    stop(&mut earlier);
    let mut server = Server::on("echo", folder.path(), &SETTINGS);
    recorded(&server, "before");
    for end in ends {
        fs::remove_file(beside(&ledger::file(folder.path()), end)).expect("there is one");
    }
    call(&server, "meanwhile");
    mended(&server, "saved");
    becomes(&server, "healthy");
    recorded(&server, "after");
    for message in ["earlier", "before", "meanwhile"] {
        assert!(known(folder.path()).contains(message), "{message} is lost");
    }
    stop(&mut server);
    is_sound(folder.path(), 0);
    assert!(acts(folder.path())[0].contains("all that was in it was put back"), "{:?}", acts(folder.path()));
    assert!(server.log().contains("was deleted or moved away"), "the log tells, too");
}

#[test]
fn a_database_that_is_deleted_under_a_running_server_is_put_back_with_all_that_was_in_it() {
    deleted(&[""]);
}

#[test]
fn so_is_one_that_is_deleted_with_the_files_beside_it() {
    deleted(&["", "-wal", "-shm"]);
}

#[test]
fn a_server_that_stops_while_its_database_is_gone_puts_it_back_first() {
    let Some((folder, mut server)) = running() else { return };
    fs::remove_file(ledger::file(folder.path())).expect("there is one");
    call(&server, "last");
    stop(&mut server);
    all_known(folder.path(), &["before", "last"]);
    is_sound(folder.path(), 0);
}

#[test]
fn a_database_that_is_replaced_by_a_fresh_one_is_gone_on_with_there_and_a_gap_tells_what_is_missing() {
    let Some((folder, mut server)) = running() else { return };
    let (file, other) = (ledger::file(folder.path()), folder.path().join("other.db"));
    fresh(&other);
    fs::rename(&other, &file).expect("it is put there");
    mended(&server, "adopted");
    recorded(&server, "after");
    becomes(&server, "degraded");
    stop(&mut server);
    assert!(!known(folder.path()).contains("before"));
    is_sound(folder.path(), 1);
    // What was open is nowhere else: it is kept, and the ledger says where.
    let told = acts(folder.path()).remove(0);
    let kept = told.rsplit_once(" as ").map(|(_, path)| PathBuf::from(path)).expect("a path");
    fs::rename(&kept, &file).expect("it is there");
    assert!(known(folder.path()).contains("before"), "{told}");
}

#[test]
fn a_database_that_was_moved_away_and_comes_back_is_gone_on_with_as_it_was() {
    let Some((folder, mut server)) = running() else { return };
    let (file, away) = (ledger::file(folder.path()), folder.path().join("away.db"));
    fs::rename(&file, &away).expect("it is moved");
    mended(&server, "saved");
    recorded(&server, "meanwhile");
    fs::rename(&away, &file).expect("it comes back");
    mended(&server, "adopted");
    recorded(&server, "after");
    stop(&mut server);
    let known = known(folder.path());
    assert!(known.contains("before") && !known.contains("meanwhile"), "{known:?}");
    is_sound(folder.path(), 1);
}

#[test]
fn a_file_that_is_no_database_of_ours_is_left_alone_and_once_it_is_gone_the_servers_own_comes_back() {
    let Some((folder, mut server)) = running() else { return };
    let (file, other) = (ledger::file(folder.path()), folder.path().join("other.db"));
    let strange = b"no database at all\n".repeat(1000);
    fs::write(&other, &strange).expect("written");
    fs::rename(&other, &file).expect("it is put there");
    eventually("it is not used", || says(&server).contains("is not used").then_some(()));
    assert_eq!(server.get("/health").0, 200, "calls go on");
    call(&server, "meanwhile");
    assert_eq!(fs::read(&file).expect("still there"), strange);
    fs::remove_file(&file).expect("it is taken away");
    mended(&server, "saved");
    becomes(&server, "healthy");
    stop(&mut server);
    all_known(folder.path(), &["before", "meanwhile"]);
    is_sound(folder.path(), 0);
}

#[test]
fn a_database_that_comes_back_in_place_of_a_strange_file_is_one_database_for_everybody() {
    let Some((folder, mut server)) = running() else { return };
    let (file, away) = (ledger::file(folder.path()), folder.path().join("away.db"));
    let wrong = folder.path().join("wrong.db");
    fs::write(&wrong, b"no database at all\n".repeat(1000)).expect("written");
    fs::rename(&file, &away).expect("it is moved");
    fs::rename(&wrong, &file).expect("another takes its place");
    eventually("it is not used", || says(&server).contains("is not used").then_some(()));
    fs::rename(&away, &file).expect("it comes back");
    let (done, key, says) = keys(folder.path(), &["create", "one"]);
    assert!(done, "{says}");
    becomes_for("the key is taken", &server, key.trim(), 200);
    let answered = server.get("/health").0;
    assert_eq!(answered, 200);
    stop(&mut server);
    let (listed, names, says) = keys(folder.path(), &["list"]);
    assert!(listed && names.contains("one"), "{names} {says}");
    assert!(known(folder.path()).contains("before"));
    is_sound(folder.path(), 0);
    assert!(!beside(&file, "-wal").exists(), "nothing is left beside it");
}

#[test]
fn a_database_that_two_processes_have_open_and_that_is_deleted_is_one_whole_database_at_the_end() {
    if skips_on_postgres("a file is deleted") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // It was there first, and so serves by itself and writes by itself.
    let mut other = Client::on("echo", folder.path(), &SETTINGS);
    other.tool("echo", json!({"message": "beside"}));
    eventually("it is recorded", || known(folder.path()).contains("beside").then_some(()));
    let mut server = Server::on("echo", folder.path(), &SETTINGS);
    recorded(&server, "before");
    fs::remove_file(ledger::file(folder.path())).expect("there is one");
    call(&server, "meanwhile");
    other.tool("echo", json!({"message": "beside, meanwhile"}));
    eventually("one of them puts it back", || ledger::file(folder.path()).exists().then_some(()));
    recorded(&server, "after");
    other.tool("echo", json!({"message": "beside, after"}));
    drop(other.take_stdin());
    eventually("it ends", || other.child.try_wait().expect("it is ours"));
    stop(&mut server);
    let all = ["beside", "before", "meanwhile", "beside, meanwhile", "after", "beside, after"];
    let all = all.map(str::to_owned);
    assert!(known(folder.path()).is_superset(&all.into()), "{:?}", known(folder.path()));
    is_sound(folder.path(), 0);
    assert!(!beside(&ledger::file(folder.path()), ".putback").exists(), "nothing half made is left");
}

#[test]
fn a_database_of_which_the_link_alone_is_deleted_is_left_as_it_is() {
    let Some((folder, real, mut server)) = linked() else { return };
    let file = ledger::file(folder.path());
    fs::remove_file(&file).expect("the link is deleted");
    eventually("it says so", || says(&server).contains("the link to it is gone").then_some(()));
    call(&server, "meanwhile");
    assert!(real.exists() && beside(&real, "-wal").exists());
    std::os::unix::fs::symlink(&real, &file).expect("linked again");
    becomes(&server, "healthy");
    stop(&mut server);
    all_known(folder.path(), &["before", "meanwhile"]);
    is_sound(folder.path(), 0);
}

#[test]
fn a_database_that_lacks_tables_of_this_version_is_not_used_before_it_is_brought_up_to_date() {
    let Some((folder, mut server)) = running() else { return };
    let (file, other) = (ledger::file(folder.path()), folder.path().join("other.db"));
    fresh(&other);
    let storage = storage::at_file(&other).expect("a file");
    let mut own = storage.connect().expect("it opens");
    storage::migrations::take_back(&mut own, storage.place()).expect("it is taken back");
    own.leave_alone().expect("alone");
    drop((own, storage));
    fs::rename(&other, &file).expect("it is put there");
    eventually("it is not used", || says(&server).contains("db migrate up").then_some(()));
    storage::at_file(&file).expect("a file").migrate().expect("its tables");
    mended(&server, "adopted");
    recorded(&server, "after");
    stop(&mut server);
    is_sound(folder.path(), 1);
}

#[test]
fn a_key_that_is_not_in_the_database_that_took_the_place_is_taken_no_more() {
    if skips_on_postgres("a file is replaced") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (done, key, says) = keys(folder.path(), &["create", "one"]);
    assert!(done, "{says}");
    let key = key.trim();
    let server = Server::on("echo", folder.path(), &SETTINGS);
    becomes_for("it is taken", &server, key, 200);
    let (file, other) = (ledger::file(folder.path()), folder.path().join("other.db"));
    fresh(&other);
    fs::rename(&other, &file).expect("it is put there");
    becomes_for("it is taken no more", &server, key, 401);
}

#[test]
fn a_database_that_is_deleted_on_a_full_disk_is_put_back_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut server = disk.server("echo", &SETTINGS);
    recorded(&server, "before");
    let (file, ballast) = (ledger::file(&server.folder), disk.fill());
    fs::remove_file(&file).expect("there is one");
    call(&server, "meanwhile");
    eventually("it finds no room", || server.log().contains("no room left").then_some(()));
    assert!(!file.exists() && server.get("/health").0 == 200, "calls go on");
    fs::remove_file(&ballast).expect("room is made");
    mended(&server, "saved");
    becomes(&server, "healthy");
    stop(&mut server);
    all_known(&server.folder, &["before", "meanwhile"]);
    is_sound(&server.folder, 0);
    let left = [".putback", ".putback-part"].map(|end| beside(&file, end).exists());
    assert_eq!(left, [false, false], "nothing half made is left");
}

#[test]
fn a_database_that_is_deleted_and_damaged_is_made_anew_and_what_is_left_of_it_is_kept() {
    let Some((folder, mut server)) = running() else { return };
    let file = ledger::file(folder.path());
    let open = fs::OpenOptions::new().write(true).open(&file).expect("it is there");
    let bytes = open.metadata().expect("it is there").len();
    fs::remove_file(&file).expect("there is one");
    open.write_all_at(&vec![0xa5; usize::try_from(bytes).expect("a size") - 4096], 4096).expect("written");
    call(&server, "meanwhile");
    mended(&server, "anew");
    recorded(&server, "after");
    stop(&mut server);
    assert!(!known(folder.path()).contains("before"));
    is_sound(folder.path(), 1);
    let told = acts(folder.path()).remove(0);
    let kept = told.rsplit_once(" as ").map(|(_, path)| PathBuf::from(path)).expect("a path");
    assert!(
        told.contains("is damaged") && fs::metadata(&kept).is_ok_and(|kept| kept.len() >= bytes),
        "{told}"
    );
}

#[test]
fn what_a_server_put_back_but_for_its_name_when_it_was_killed_is_there_after_the_next_start() {
    let Some((folder, mut server)) = running() else { return };
    stop(&mut server);
    let file = ledger::file(folder.path());
    fs::rename(&file, beside(&file, ".putback")).expect("it is as that server leaves it");
    let mut server = Server::on("echo", folder.path(), &SETTINGS);
    recorded(&server, "after");
    assert!(server.log().contains("as a server had it that was killed while it put it back"));
    stop(&mut server);
    all_known(folder.path(), &["before", "after"]);
    is_sound(folder.path(), 0);
}

#[test]
fn where_a_server_was_killed_before_it_had_put_back_all_no_empty_database_is_made_unasked() {
    let Some((folder, mut server)) = running() else { return };
    stop(&mut server);
    let file = ledger::file(folder.path());
    let part = beside(&file, ".putback-part");
    fs::rename(&file, &part).expect("it is as that server leaves it");
    let (code, says) = refused(Server::command("echo", folder.path(), &SETTINGS));
    assert_eq!(code, Some(74), "{says}");
    assert!(says.contains(part.to_str().expect("text")) && says.contains("backup restore latest"), "{says}");
    assert!(part.exists() && !file.exists());
    // As it says.
    fs::rename(&part, folder.path().join("aside")).expect("it is moved away");
    stop(&mut Server::on("echo", folder.path(), &SETTINGS));
}

#[test]
fn a_server_that_stops_while_the_link_to_its_database_is_gone_writes_what_waits_into_the_file() {
    let Some((folder, real, mut server)) = linked() else { return };
    let file = ledger::file(folder.path());
    fs::remove_file(&file).expect("the link is deleted");
    eventually("it says so", || says(&server).contains("the link to it is gone").then_some(()));
    call(&server, "meanwhile");
    stop(&mut server);
    std::os::unix::fs::symlink(&real, &file).expect("linked again");
    all_known(folder.path(), &["before", "meanwhile"]);
    stop(&mut Server::on("echo", folder.path(), &SETTINGS));
    is_sound(folder.path(), 0);
}

#[test]
fn what_a_server_could_not_write_when_it_stopped_is_told_by_the_next_start() {
    let Some((folder, mut server)) = running() else { return };
    let (file, away) = (ledger::file(folder.path()), folder.path().join("away.db"));
    // Somebody else is at work on it: whatever is done might cost one of the two its rows.
    let mut other = open(folder.path());
    storage::ask(&mut other).expect("it reads");
    fs::rename(&file, &away).expect("it is moved");
    eventually("it says so", || says(&server).contains("another process still works on it").then_some(()));
    call(&server, "meanwhile");
    server.signal("-TERM");
    assert_ne!(server.wait(), Some(0), "rows are missing");
    drop(other);
    fs::rename(&away, &file).expect("it comes back");
    let mut next = Server::on("echo", folder.path(), &SETTINGS);
    eventually("it is told", || (gaps(folder.path()) == 1).then_some(()));
    assert!(next.log().contains("could not write"), "the log tells, too");
    stop(&mut next);
    assert!(known(folder.path()).contains("before") && !known(folder.path()).contains("meanwhile"));
    // Once.
    stop(&mut Server::on("echo", folder.path(), &SETTINGS));
    is_sound(folder.path(), 1);
}
