//! The history's verbs beside a running server and after it, and over more rows than a page has.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::queries::{fill, open};
use super::support::{Server, eventually};
use super::{command, refused, said, waygate};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn calls_are_found_while_the_server_runs_and_after_it() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let mut server = Server::on("echo", folder, &[]);
    for message in ["one", "two"] {
        server.tool("echo", json!({"message": message}));
    }
    server.call("tools/call", json!({"name": "echo", "arguments": {"message": 7}}));
    let looked = |what: &str| {
        let list = |more: &[&str]| -> Value {
            serde_json::from_str(&said(folder, &[&["history", "list", "--json"], more].concat())).unwrap()
        };
        assert_eq!(list(&["--tool", "ec*"])["calls"].as_array().unwrap().len(), 3, "{what}");
        assert_eq!(list(&["--client", "tests", "--status", "success"])["calls"].as_array().unwrap().len(), 2);
        assert_eq!(list(&["--slower-than", "1h"])["calls"], json!([]));
        let stats: Value =
            serde_json::from_str(&said(folder, &["history", "stats", "--since", "1h", "--json"])).unwrap();
        assert_eq!((&stats["calls"], &stats["errors"]), (&json!(3), &json!(1)), "{what}: {stats}");
        assert_eq!(stats["error_rate"], json!(1.0 / 3.0), "{what}: {stats}");
        let tail = lines(&said(folder, &["history", "tail", "-n", "2", "--kind", "outcome", "--json"]));
        assert_eq!(tail.len(), 2);
        assert!(tail[0]["id"].as_i64() < tail[1]["id"].as_i64(), "the newest last");
        let id = tail[0]["call_id"].as_str().unwrap();
        assert!(said(folder, &["history", "show", id]).contains("outcome"));
    };
    eventually("three calls are written", || {
        let exported = said(folder, &["history", "export", "--kind", "outcome"]);
        (lines(&exported).len() == 3).then_some(())
    });
    looked("beside the server");
    let text = said(folder, &["history", "stats"]);
    assert!(text.starts_with("3 calls from ") && text.contains("33.33 %") && text.contains('█'), "{text}");
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    looked("after it");
    let acts = lines(&said(folder, &["history", "export", "--kind", "admin"]));
    let names: Vec<&str> = acts.iter().map(|act| act["method"].as_str().unwrap()).collect();
    assert_eq!(names, ["server/start", "server/stop"]);
    assert!(acts.iter().all(|act| act["caller"] == "waygate" && act["status"] == "success"), "{acts:?}");
}

#[test]
fn what_is_done_to_the_database_on_the_command_line_stands_in_it() {
    let home = tempfile::tempdir().unwrap();
    let acts = || {
        let acts = lines(&said(home.path(), &["history", "export", "--kind", "admin"]));
        let told = |act: &serde_json::Value, member: &str| act[member].as_str().unwrap().to_owned();
        acts.iter()
            .inspect(|act| assert_eq!((&act["caller"], &act["status"]), (&json!("local"), &json!("success"))))
            .map(|act| (told(act, "method"), told(act, "detail")))
            .collect::<Vec<_>>()
    };
    said(home.path(), &["db", "migrate"]);
    said(home.path(), &["db", "migrate"]);
    let made = acts();
    assert_eq!(made.len(), 1, "what did nothing is no act: {made:?}");
    assert!(made[0].0 == "db/migrate" && made[0].1.starts_with("up: "), "{made:?}");
    said(home.path(), &["db", "vacuum"]);
    said(home.path(), &["db", "migrate", "down", "--yes", "--no-backup"]);
    said(home.path(), &["db", "migrate"]);
    let all = acts();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["db/migrate", "db/vacuum", "db/migrate", "db/migrate"], "{all:?}");
    assert!(
        all[1].1.contains(" bytes, ") && all[2].1.starts_with("down: ") && all[3].1.starts_with("up: "),
        "{all:?}"
    );
    said(home.path(), &["history", "verify"]);
}

#[test]
fn it_is_that_of_the_database_which_the_variables_of_the_working_folder_name() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(".env"), "WAYGATE_DATABASE_URL=other.db\n").unwrap();
    said(home.path(), &["db", "migrate", "up"]);
    assert!(said(home.path(), &["history", "list"]).contains("db/migrate"));
    fs::remove_file(home.path().join("other.db")).unwrap();
    let (code, why) = refused(home.path(), &["history", "list"]);
    assert!(code == 74 && why.contains("/other.db"), "{code}: {why}");
}

#[test]
fn a_followed_history_shows_what_comes_and_ends_with_its_reader() {
    let server = Server::start("echo");
    let folder = server.folder.clone();
    let mut follow = command(&folder, &["history", "tail", "--follow", "--json", "--client", "tests"]);
    let mut follow = Ended(follow.stdout(Stdio::piped()).spawn().unwrap());
    let mut stdout = BufReader::new(follow.0.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    // What is called before the first look is shown as well: the first line may come from either.
    for message in ["one", "two", "three"] {
        server.tool("echo", json!({"message": message}));
        let call = next();
        assert_eq!((&call["tool"], &call["status"]), (&json!("echo"), &json!("success")));
    }
    drop(stdout);
    let ended = eventually("it ends when nobody reads", || follow.0.try_wait().unwrap());
    assert!(ended.success());
}

#[test]
fn an_export_has_every_row_once_whatever_their_number() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    fill(&open(folder), 2_345);
    let exported = lines(&said(folder, &["history", "export", "--until", "2030-01-01"]));
    let names: Vec<String> = (0..2_345).map(|number| format!("call-{number}")).collect();
    let found: Vec<&str> = exported.iter().map(|call| call["call_id"].as_str().unwrap()).collect();
    assert_eq!(found, names);
    let csv = said(folder, &["history", "export", "--rows", "--format", "csv", "--until", "2030-01-01"]);
    assert_eq!(csv.matches("\r\n").count(), 2_346);
    assert!(
        csv.starts_with("id,instance_id,seq,call_id,") && csv.contains(",arguments,"),
        "the ledger's columns"
    );
    let some = said(
        folder,
        &["history", "export", "--format", "csv", "--since", "2030-01-01", "--until", "2031-01-01"],
    );
    assert_eq!(some.lines().count(), 1, "only the heading: {some}");
    let page = said(folder, &["history", "list", "--format", "csv", "--limit", "3"]);
    assert_eq!(page.lines().count(), 4);
}

#[test]
fn a_file_is_private_and_not_replaced_unasked() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    fill(&open(folder), 3);
    let path = folder.join("out.jsonl");
    let export = ["history", "export", "--until", "2030-01-01", "--output", path.to_str().unwrap()];
    assert_eq!(said(folder, &export), "");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(lines(&fs::read_to_string(&path).unwrap()).len(), 3);
    fs::write(&path, "mine").unwrap();
    let (code, why) = refused(folder, &export);
    assert!(code == 73 && why.contains("--force"), "{code} {why}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    said(folder, &[&export[..], &["--force"]].concat());
    assert_eq!(lines(&fs::read_to_string(&path).unwrap()).len(), 3);
    let (code, why) = refused(folder, &["history", "export", "--output", "/no/where"]);
    assert!(code == 73 && why.contains("/no/where"), "{why}");
    assert_eq!(refused(folder, &["history", "export", "--force"]).0, 2, "--force alone means nothing");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    fill(&open(folder), 5_000);
    let mut export = command(folder, &["history", "export", "--until", "2030-01-01"]);
    let mut export = Ended(export.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut some = [0; 100];
    export.0.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let ended = eventually("it ends", || export.0.try_wait().unwrap());
    let mut says = String::new();
    export.0.stderr.take().unwrap().read_to_string(&mut says).unwrap();
    assert!(ended.success() && says.is_empty(), "{ended} {says}");
}

#[test]
fn what_cannot_be_asked_is_said_with_what_can() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    for words in [
        ["history", "list"],
        ["history", "tail"],
        ["history", "export"],
        ["history", "stats"],
        ["db", "check"],
    ] {
        let (code, why) = refused(folder, &words);
        assert!(code == 74 && why.contains("waygate.db"), "no database yet: {why}");
    }
    fill(&open(folder), 1);
    for (words, code, what) in [
        (&["list", "--since", "soon"][..], 2, "this is no time"),
        (&["export", "--slower-than", "5"], 2, "this is no duration"),
        (&["list", "--since", "banana"], 2, "--since"),
        (&["stats", "--slower-than", "1x"], 2, "--slower-than"),
        (&["stats", "--since", "1h", "--until", "2h"], 2, "swap them"),
        (&["list", "--kind", "row"], 2, "intent, outcome, admin, gap"),
        (&["tail", "--format", "xml"], 2, "csv"),
        (&["list", "--json", "--format", "csv"], 2, "cannot be used with"),
    ] {
        let (found, why) = refused(folder, &[&["history"], words].concat());
        assert!(found == code && why.contains(what), "{words:?}: {found} {why}");
    }
    let none = waygate(folder, &["history", "stats", "--tool", "nothing"]);
    assert_eq!(String::from_utf8(none.stdout).unwrap(), "no calls\n");
}
