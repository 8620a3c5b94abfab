//! `kill -9` at every step of a restore: the old state or the new one, never a mix, and nothing is left behind.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::places::{Files, Home};

/// More steps than any restore has.
const STEPS_MAX: u32 = 200;

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry?.file_name()));
        if from.is_dir() { copy(&from, &to)? } else { fs::copy(&from, &to).map(drop)? }
    }
    Ok(())
}

/// Puts a home back as it was.
fn reset(home: &Home, image: &Path) {
    fs::remove_dir_all(home.root()).unwrap();
    copy(&image.join("root"), &home.root()).unwrap();
    fs::copy(image.join(".env"), home.path().join(".env")).unwrap();
    if home.is_on_server() {
        home.fill_rows("old");
    }
}

fn state(home: &Home) -> (Vec<String>, Files) {
    (home.calls(), home.files())
}

/// Kills a restore at each of its steps; whoever comes next finds the old state or the new one.
pub fn kill_everywhere(home: &Home, archive: &Path, more: &[&str], next: &[&str]) {
    let image = tempfile::tempdir().unwrap();
    copy(home.path(), image.path()).unwrap();
    let old = state(home);
    let restore = [&["backup", "restore", archive.to_str().unwrap(), "--yes", "--foreign"], more].concat();
    home.said(&restore);
    let new = state(home);
    assert!(old.0 != new.0 && old.1 != new.1);
    let mut seen_old = 0;
    let mut seen_new = 0;
    for step in 0..STEPS_MAX {
        reset(home, image.path());
        let number = step.to_string();
        let output = home.run(&[&restore[..], &["--die-at", &number]].concat());
        if output.status.success() {
            assert_eq!(state(home), new);
            assert!(seen_old > 2 && seen_new > 5, "{seen_old} before and {seen_new} after the moment");
            return;
        }
        assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
        home.said(next);
        let found = state(home);
        assert!(found == old || found == new, "step {step} leaves a mix: {found:?}");
        if found == old {
            seen_old += 1;
            assert_eq!(seen_new, 0, "what counted once, counts: step {step}");
        } else {
            seen_new += 1;
        }
        // What did not count is swept by whoever takes the folder next for such work.
        home.said(&["db", "reset", "--yes", "--no-backup"]);
        assert_eq!(home.litter(), [""; 0], "step {step}");
    }
    panic!("a restore has fewer than {STEPS_MAX} steps");
}

/// A home in the state `old`, a backup of the state `new`, and its passphrase.
pub fn prepared(home: Home) -> (Home, PathBuf, PathBuf) {
    home.fill("new");
    let pass = home.path().join("pass");
    fs::write(&pass, "correct horse battery").unwrap();
    let made = home.json(&["backup", "create", "--passphrase-file", pass.to_str().unwrap()]);
    let archive = home.path().join("kept.tar.zst");
    fs::copy(made["path"].as_str().unwrap(), &archive).unwrap();
    fs::remove_dir_all(home.backups()).unwrap();
    home.fill("old");
    (home, archive, pass)
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_state_or_the_new_one() {
    let (home, archive, pass) = prepared(Home::new());
    kill_everywhere(&home, &archive, &["--passphrase-file", pass.to_str().unwrap()], &["db", "migrate"]);
}

#[test]
fn readers_and_servers_finish_what_was_cut_off_too() {
    let (home, archive, _pass) = prepared(Home::new());
    let restore = |home: &Home, step: &str| {
        let words = ["backup", "restore", archive.to_str().unwrap(), "--yes", "--foreign", "--die-at", step];
        home.run(&words)
    };
    let image = tempfile::tempdir().unwrap();
    copy(home.path(), image.path()).unwrap();
    // The step at which the journal is there and most is still to be done.
    let step = (0..STEPS_MAX)
        .find(|step| {
            reset(&home, image.path());
            restore(&home, &step.to_string());
            home.root().join("restore.journal").exists()
        })
        .unwrap();
    let output = home.run(&["history", "export"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is finished now"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("last-new"));
    reset(&home, image.path());
    restore(&home, &step.to_string());
    let server = crate::support::Server::on("echo", &home.root(), &[]);
    assert!(!home.root().join("restore.journal").exists());
    drop(server);
    assert!(home.said(&["history", "export"]).contains("last-new"));
}
