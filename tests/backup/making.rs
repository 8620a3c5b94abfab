//! Making, listing, verifying and removing backups.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::time::Duration;

use serde_json::json;

use crate::places::Home;
use crate::support::{Server, eventually};

#[test]
fn a_backup_holds_what_there_is_and_lists_what_it_leaves_out() {
    let home = Home::filled("a");
    fs::write(home.root().join("data/sealing.key"), format!("{}\n", "5".repeat(64))).unwrap();
    let made = home.json(&["backup", "create"]);
    let path = made["path"].as_str().unwrap();
    let name = path.rsplit('/').next().unwrap();
    assert!(name.starts_with("waygate-2") && name.ends_with(".tar.zst"), "{name}");
    let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path), mode(home.backups().to_str().unwrap())), (0o600, 0o700));
    let entries = json!([
        "database.sqlite",
        "config/default.toml",
        "config/test.toml",
        "plugins/both.toml",
        "plugins/only-a.toml"
    ]);
    assert_eq!(made["entries"], entries);
    assert_eq!((&made["rows"]["command_history"], &made["heads"]["a"]), (&json!(2), &json!(42)));
    let left_out: Vec<&str> =
        made["leftOut"].as_array().unwrap().iter().map(|left| left["what"].as_str().unwrap()).collect();
    assert_eq!(left_out, [".env", "data/sealing.key", "secrets in the environment"]);
    let raw = fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&zstd::decode_all(&raw[..]).unwrap()).into_owned();
    assert!(!text.contains(&"5".repeat(64)) && !text.contains("REDACT_KEYS"), "no secret is in it in clear");
    let listed = home.json(&["backup", "list"]);
    assert_eq!(listed["backups"][0]["name"], name);
    let verified = home.json(&["backup", "verify", "latest"]);
    assert_eq!((&verified["status"], &verified["authenticity"]), (&json!("verified"), &json!("sealed")));
    assert_eq!(home.json(&["backup", "verify", name])["path"], path);
    assert_eq!(home.litter(), [""; 0]);
}

#[test]
fn the_newest_is_drilled_and_the_old_are_removed() {
    let home = Home::filled("a");
    let (code, why) = home.refused(&["backup", "drill"]);
    assert!(code == 1 && why.contains("backup create"), "{code} {why}");
    let (one, two) = (home.backup(), home.backup());
    let drilled = home.json(&["backup", "drill"]);
    // And the row that tells of the first backup.
    assert_eq!((&drilled["status"], &drilled["callsRead"]), (&json!("drilled"), &json!(3)));
    assert_eq!(drilled["ledger"]["broken"], json!([]), "{drilled}");
    assert_eq!(home.litter(), [""; 0]);
    let old = home.backups().join("waygate-20200101T000000Z-aaaaaa.tar.zst");
    fs::rename(&one, &old).unwrap();
    let pruned = home.json(&["backup", "prune", "--keep-min", "2"]);
    assert_eq!(pruned["removed"], json!([]));
    let pruned = home.json(&["backup", "prune"]);
    assert_eq!(pruned["removed"], json!(["waygate-20200101T000000Z-aaaaaa.tar.zst"]));
    assert!(two.exists() && !old.exists());
}

#[test]
fn what_is_damaged_pushes_no_whole_one_out_and_what_is_of_the_future_is_not_the_latest() {
    let home = Home::filled("a");
    let (one, two) = (home.backup(), home.backup());
    let [whole, cut, ahead] = ["20200101", "20210101", "20990101"]
        .map(|day| home.backups().join(format!("waygate-{day}T000000Z-aaaaaa.tar.zst")));
    fs::rename(&one, &whole).unwrap();
    fs::copy(&whole, &ahead).unwrap();
    let bytes = fs::read(&two).unwrap();
    fs::write(&cut, &bytes[..1500]).unwrap();
    fs::remove_file(&two).unwrap();
    let pruned = home.json(&["backup", "prune", "--keep-days", "1"]);
    assert_eq!(pruned["removed"], json!(["waygate-20210101T000000Z-aaaaaa.tar.zst"]));
    assert!(whole.exists() && ahead.exists());
    assert_eq!(home.json(&["backup", "verify", "latest"])["path"], whole.to_str().unwrap());
}

#[test]
fn a_drill_walks_along_the_ledger_and_names_where_it_does_not_hold() {
    let home = Home::new();
    // Each of these leaves a row of a chain of its own, which ends with a checkpoint.
    home.said(&["keys", "create", "one"]);
    home.said(&["keys", "create", "two"]);
    home.backup();
    let drilled = home.json(&["backup", "drill"]);
    let walked = &drilled["ledger"];
    assert_eq!((&walked["rows"], &walked["broken"]), (&json!(2), &json!([])), "{drilled}");
    assert!(walked["checkpoints"].as_u64() > Some(0) && walked["unproved"] == 0, "{drilled}");
    let said = home.said(&["backup", "drill"]);
    assert!(said.contains("rows of the ledger are as they were written"), "{said}");
    home.sql("UPDATE command_history SET detail = 'somebody else' WHERE id = 2");
    home.backup();
    let (code, why) = home.refused(&["backup", "drill"]);
    assert!(code == 1 && why.contains("its ledger does not hold") && why.contains("row 1"), "{code} {why}");
    assert!(why.contains("it was changed") && why.contains("history verify"), "{why}");
    assert_eq!(home.litter(), [""; 0]);
    home.said(&["backup", "verify", "latest"]);
}

#[test]
fn secrets_are_in_it_under_a_passphrase_alone() {
    let home = Home::filled("a");
    fs::write(home.root().join("data/sealing.key"), format!("{}\n", "5".repeat(64))).unwrap();
    let file = home.path().join("pass");
    let lay = |text: &str| fs::write(&file, text).unwrap();
    let create = ["backup", "create", "--passphrase-file", file.to_str().unwrap()];
    for bad in ["", "\n", "short\n"] {
        lay(bad);
        let (code, why) = home.refused(&create);
        assert!(code == 77 && why.contains("12 characters"), "{code} {why}");
    }
    lay("correct horse battery\n");
    let made = home.json(&create);
    assert_eq!(
        (&made["secrets"], &made["leftOut"][0]["what"]),
        (&json!(true), &json!("secrets in the environment"))
    );
    let raw = fs::read(made["path"].as_str().unwrap()).unwrap();
    let text = String::from_utf8_lossy(&zstd::decode_all(&raw[..]).unwrap()).into_owned();
    assert!(!text.contains(&"5".repeat(64)) && !text.contains("REDACT_KEYS"));
    let verify = ["backup", "verify", "latest", "--passphrase-file", file.to_str().unwrap()];
    home.said(&verify);
    lay("another horse battery\n");
    let (code, why) = home.refused(&verify);
    assert!(code == 77 && why.contains("passphrase"), "{code} {why}");
}

/// Clients that call without end, and how long each rests after a call: a server without optimisation writes down no more.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(20);
/// The longest time from the end of one backup's proof to the next backup.
const REST_MICROS: u64 = 150_000;

/// Numbers of chance, the same from the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    /// By a seed that is said, so that whoever sees it fail can have it again.
    fn new() -> Self {
        let given = std::env::var("WAYGATE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        // Past the harness, which would keep it to itself.
        drop(
            std::io::stderr()
                .write_all(format!("backups at moments by WAYGATE_TEST_SEED={seed}\n").as_bytes()),
        );
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Clients of a server that call until this is dropped, however that comes.
struct Load<'a> {
    over: &'a AtomicBool,
    answered: &'a AtomicU64,
}

impl<'a> Load<'a> {
    fn begin<'s>(
        scope: &'s Scope<'s, '_>,
        server: &'s Server,
        (over, answered): (&'s AtomicBool, &'s AtomicU64),
    ) -> Self
    where
        's: 'a,
    {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    server.tool("echo", json!({"message": format!("from {client}")}));
                    answered.fetch_add(1, Ordering::Relaxed);
                    std::thread::park_timeout(PAUSE);
                }
            });
        }
        Self { over, answered }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Makes a backup, restores it into an empty place, and has its ledger proved there. Gives what was made.
fn prove_one(home: &Path) -> serde_json::Value {
    let program = |folder: &Path, words: &[&str]| {
        let mut command = std::process::Command::new(crate::support::program("waygate-mcp"));
        command.args(words).args(["--env", "test", "--json", "--data-dir"]).arg(folder);
        let output = command.env_clear().env("HOME", home).current_dir(home).output().unwrap();
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&said));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let made = program(home, &["backup", "create"]);
    let verified = program(home, &["backup", "verify", "latest"]);
    assert_eq!(verified["rows"], made["rows"]);
    // No row is missing within what one moment had: the ledger counts without a gap.
    let rows = made["rows"]["command_history"].as_u64().unwrap();
    for (instance, head) in verified["heads"].as_object().unwrap() {
        assert!(head.as_u64().unwrap() < rows + 1, "{instance}: {head} of {rows} rows");
    }
    let copy = tempfile::tempdir().unwrap();
    let place = copy.path().join("place");
    program(home, &["backup", "restore", "latest", "--into", place.to_str().unwrap()]);
    let proved = program(&place, &["history", "verify"]);
    assert_eq!(
        (&proved["report"]["broken"], &proved["report"]["rows"]),
        (&json!([]), &rows.into()),
        "{proved}"
    );
    made
}

#[test]
fn backups_at_moments_of_chance_under_load_are_each_whole() {
    let own = tempfile::tempdir().unwrap();
    let server = Server::on("echo", own.path(), &[]);
    // A hundred: scripts/endurance.
    let count = std::env::var("WAYGATE_TEST_BACKUPS").ok().and_then(|count| count.parse().ok()).unwrap_or(5);
    let (over, answered, mut chance) = (AtomicBool::new(false), AtomicU64::new(0), Chance::new());
    std::thread::scope(|scope| {
        let load = Load::begin(scope, &server, (&over, &answered));
        let mut before = 0;
        for number in 0..count {
            let known = load.answered();
            eventually("calls go on", || (load.answered() > known).then_some(()));
            std::thread::park_timeout(Duration::from_micros(chance.below(REST_MICROS)));
            let rows = prove_one(own.path())["rows"]["command_history"].as_u64().unwrap();
            assert!(rows > before, "backup {number} has no row more than the one before");
            before = rows;
        }
    });
    let (status, health) = server.get("/health");
    assert_eq!((status, &health["status"]), (200, &json!("healthy")), "{health}");
}

#[test]
fn no_room_leaves_nothing_behind() {
    // A file system of its own is needed, and only root may make one.
    let home = Home::filled("a");
    let full = home.path().join("full");
    fs::create_dir(&full).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&full)
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        drop(std::io::stderr().write_all(b"NOT RUN on a full disk: only root can mount one\n"));
        return;
    }
    let run = |words: &[&str]| home.command(words).env("WAYGATE_BACKUP_DIR", &full).output().unwrap();
    let output = run(&["backup", "create"]);
    let left: Vec<_> = fs::read_dir(&full).unwrap().flatten().map(|entry| entry.file_name()).collect();
    let unpacked = {
        let backup = home.backup();
        let into = full.join("into");
        home.run(&["backup", "restore", backup.to_str().unwrap(), "--into", into.to_str().unwrap()])
    };
    let left_then = fs::read_dir(&full).unwrap().count();
    assert!(std::process::Command::new("umount").arg(&full).status().unwrap().success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(73) && said.contains("not enough room"), "{said}");
    assert_eq!(left, [".lock"], "nothing half made is left");
    let said = String::from_utf8_lossy(&unpacked.stderr).into_owned();
    assert!(unpacked.status.code() == Some(73) && said.contains("not enough room"), "{said}");
    assert_eq!(left_then, 1);
}

#[test]
fn the_script_for_cron_makes_looks_and_removes_and_ends_as_its_worst_command() {
    let home = Home::new();
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/backup.sh");
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(&script);
        command.arg("--program").arg(crate::support::program("waygate-mcp")).args(words);
        command.args(["--", "--env", "test", "--data-dir"]).arg(home.root());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home.path()).current_dir(home.path());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, why) = run(&[]);
    assert!(
        code == Some(74) && why.contains("backup create") && why.contains("no database"),
        "{code:?} {why}"
    );
    home.fill("a");
    fs::create_dir_all(home.backups()).unwrap();
    let old = home.backups().join("waygate-20200101T000000Z-aaaaaa.tar.zst");
    fs::write(&old, "old").unwrap();
    let (code, said) = run(&["--keep-days", "3"]);
    assert_eq!((code, said.as_str()), (Some(0), ""), "nothing to mail when all is well");
    assert!(!old.exists());
    let (code, said) = run(&["--drill", "--verbose"]);
    assert!(code == Some(0) && said.contains("is sound"), "{code:?} {said}");
    assert_eq!(run(&["--keep-days", "soon"]).0, Some(2));
}
