//! What puts Waygate onto a machine with systemd and takes it away again, below a folder of the test's own; and whether systemd
//! understands the units.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::program;

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)
}

fn run(script: &str, words: &[&str]) -> Output {
    Command::new(packaging(script)).args(words).output().unwrap()
}

#[track_caller]
fn done(script: &str, words: &[&str]) -> String {
    let output = run(script, words);
    let says = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{script} {words:?}: {says}");
    says
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_is_put_in_place_with_a_key_and_taken_away_with_all_but_what_it_knows() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().display().to_string();
    let built = program("waygate-mcp").display().to_string();
    // Root's umask may be a strict one.
    let mut strict = Command::new("sh");
    strict.arg("-c").arg("umask 077; exec \"$0\" \"$@\"").arg(packaging("install.sh"));
    let output = strict.args(["--root", &root, "--program", &built]).output().unwrap();
    let says = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{says}");
    let at = |path: &str| place.path().join(path);
    for (path, wanted) in [
        ("usr/local/bin/waygate-mcp", 0o755),
        ("usr/local/lib/systemd/system", 0o755),
        ("usr/local/lib/systemd/system/waygate-mcp.service", 0o644),
        ("usr/local/lib/systemd/system/waygate-mcp.socket", 0o644),
        ("etc/logrotate.d/waygate", 0o644),
        ("etc/waygate", 0o755),
        ("etc/waygate/waygate.env", 0o640),
    ] {
        assert_eq!(mode(&at(path)), wanted, "{path}");
    }
    let environment = fs::read_to_string(at("etc/waygate/waygate.env")).unwrap();
    let key = environment.lines().find_map(|line| line.strip_prefix("WAYGATE_API_KEY=")).unwrap();
    assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    assert!(!says.contains(key), "{says}");
    // The program takes what it reads there.
    let mut config = Command::new(at("usr/local/bin/waygate-mcp"));
    config.args(["config", "show", "--env-file"]).arg(at("etc/waygate/waygate.env"));
    let shown = config.env_clear().current_dir(place.path()).output().unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("production") && shown.contains("/var/lib/waygate"),
        "a verb knows where it is: {shown}"
    );
    // Again, as at an upgrade.
    let own = [at("etc/systemd/system/waygate-mcp.service"), at("etc/logrotate.d/waygate")];
    fs::create_dir_all(at("etc/systemd/system/waygate-mcp.service.d")).unwrap();
    for path in &own {
        fs::write(path, "# mine\n").unwrap();
    }
    let says = done("install.sh", &["--root", &root, "--program", &built]);
    assert!(says.contains("waygate.env stays as it is"), "{says}");
    for path in &own {
        assert_eq!(fs::read_to_string(path).unwrap(), "# mine\n", "what somebody changed stays");
        assert!(says.contains(&path.display().to_string()), "{says}");
    }
    assert_eq!(fs::read_to_string(at("etc/waygate/waygate.env")).unwrap(), environment);
    fs::create_dir_all(at("var/lib/waygate/data")).unwrap();
    let says = done("uninstall.sh", &["--root", &root]);
    for gone in ["usr/local/bin/waygate-mcp", "usr/local/lib/systemd/system/waygate-mcp.service"] {
        assert!(!at(gone).exists(), "{gone}");
    }
    assert!(at("var/lib/waygate/data").exists() && at("etc/waygate/waygate.env").exists());
    for path in &own {
        assert!(path.exists() && says.contains(&path.display().to_string()), "{says}");
    }
    // A stanza that nobody changed goes with the rest.
    fs::remove_file(&own[1]).unwrap();
    done("install.sh", &["--root", &root, "--program", &built]);
    done("uninstall.sh", &["--root", &root]);
    assert!(!own[1].exists());
    fs::write(at("etc/waygate/waygate.env"), environment + "WAYGATE_BACKUP_DIR=/srv/backups\n").unwrap();
    let says = done("uninstall.sh", &["--root", &root, "--purge"]);
    for gone in ["var/lib/waygate", "etc/waygate", "etc/systemd/system/waygate-mcp.service.d"] {
        assert!(!at(gone).exists(), "{gone}");
    }
    assert!(!own[0].exists() && says.contains("/srv/backups, stay"), "it says what stays: {says}");
}

#[test]
fn a_wrong_word_is_refused_before_anything_is_done() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().display().to_string();
    for (script, words, code) in [
        ("install.sh", &["--root", &root, "--nonsense"][..], 2),
        ("install.sh", &["--root"], 2),
        ("install.sh", &["--root", &root, "--program", "/nowhere"], 1),
        ("uninstall.sh", &["--nonsense"], 2),
        ("uninstall.sh", &["--root", "/nowhere"], 2),
    ] {
        let output = run(script, words);
        assert_eq!(output.status.code(), Some(code), "{script} {words:?}");
        assert!(!output.stderr.is_empty());
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn systemd_has_nothing_to_say_of_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: this machine has no systemd-analyze");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let built = program("waygate-mcp").display().to_string();
    let units = ["waygate-mcp.service", "waygate-mcp.socket"].map(|unit| {
        let text = fs::read_to_string(packaging(&format!("systemd/{unit}")))
            .unwrap()
            .replace("/usr/local/bin/waygate-mcp", &built);
        let path = place.path().join(unit);
        fs::write(&path, text).unwrap();
        path
    });
    let said = |paths: &[PathBuf]| {
        let output =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).args(paths).output().unwrap();
        // It tells of other units of this machine, too.
        let lines = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours = lines.lines().filter(|line| line.contains("waygate"));
        (output.status.success(), ours.collect::<Vec<_>>().join("\n"))
    };
    assert_eq!(said(&units), (true, String::new()));
    // It would say so if it did not understand one.
    let text = fs::read_to_string(&units[0]).unwrap();
    fs::write(&units[0], text.replace("NoNewPrivileges=", "NoNewPrivilege=")).unwrap();
    assert!(said(&units).1.contains("NoNewPrivilege"));
}

#[test]
fn the_unit_lets_plugins_programs_be_walled_in_and_be_written_in_javascript() {
    let unit = fs::read_to_string(packaging("systemd/waygate-mcp.service")).unwrap();
    let settings: Vec<&str> = unit.lines().filter(|line| !line.starts_with('#')).collect();
    let calls = settings.iter().find_map(|line| line.strip_prefix("SystemCallFilter=")).unwrap();
    for call in ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"] {
        assert!(calls.split(' ').any(|allowed| allowed == call), "{call} is not allowed: {calls}");
    }
    // What V8 does first is refused by it.
    assert!(!settings.iter().any(|line| line.starts_with("MemoryDenyWriteExecute=")), "{unit}");
}
