//! The log is rotated while the server is busy, by hand, with the signal and by logrotate, and no line is missing.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::{Http, Server, eventually};

const KEY: &str = "a-key-that-is-long-enough-to-be-one";
/// Each refusal is one such line.
const SAYS: &str = "a caller without a valid key was refused";
const STANZA: &str = include_str!("../../packaging/logrotate");

/// Strangers who ask, one after the other, until told to stop.
fn knock(address: SocketAddr, over: &AtomicBool, refused: &AtomicUsize) {
    while !over.load(Ordering::Relaxed) {
        assert_eq!(Http::get("/plugins").send(address).status, 401);
        refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Rotates by the stanza that is shipped, in which the path and the user alone are others; false where there is no logrotate.
fn by_logrotate(logs: &Path) -> bool {
    let Some(program) =
        ["/usr/sbin/logrotate", "/usr/bin/logrotate"].into_iter().find(|path| Path::new(path).exists())
    else {
        eprintln!("skipped: logrotate is not installed (apt-get install logrotate)");
        return false;
    };
    let (theirs, user) = ("/var/lib/waygate/logs/waygate.log", "    su waygate waygate\n");
    assert!(STANZA.contains(theirs) && STANZA.contains(user), "{STANZA}");
    let stanza = STANZA.replace(theirs, &logs.join("waygate.log").display().to_string()).replace(user, "");
    let (file, state) = (logs.with_file_name("logrotate.conf"), logs.with_file_name("logrotate.state"));
    fs::write(&file, stanza).expect("a file");
    let done =
        Command::new(program).args(["--force", "--verbose", "--state"]).arg(&state).arg(&file).output();
    let done = done.expect("logrotate runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    true
}

#[test]
fn a_folder_of_logs_that_is_gone_degrades_the_health_until_the_log_is_written_again() {
    let server = Server::start("echo");
    let (logs, gone) = (server.folder.join("logs"), server.folder.join("logs.gone"));
    let check = |wanted: &str| {
        let wait = format!("the check of the log is {wanted}");
        eventually(&wait, || {
            let health = server.get("/health").1;
            (health["checks"]["log"] == wanted).then_some(health)
        })
    };
    check("ok");
    fs::rename(&logs, &gone).expect("it is there");
    fs::write(&logs, "in the way").expect("a file");
    let health = check("degraded");
    assert_eq!(health["status"], "degraded", "{health}");
    assert!(
        health["problems"]["log"].as_str().is_some_and(|why| why.contains("logs/waygate.log")),
        "{health}"
    );
    assert_eq!(server.metric("waygate_health{check=\"log\"}"), Some(0.0));
    fs::remove_file(&logs).expect("it is there");
    check("ok");
    assert!(logs.join("waygate.log").exists());
}

#[test]
fn rotation_under_load_loses_no_line() {
    let mut server = Server::with("faulty_server", &[("WAYGATE_API_KEY", KEY)]);
    let logs = server.folder.join("logs");
    let path = logs.join("waygate.log");
    let (over, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (over, refused, address) = (Arc::clone(&over), Arc::clone(&refused), server.address);
            std::thread::spawn(move || knock(address, &over, &refused))
        })
        .collect();
    let goes_on = || {
        let wanted = refused.load(Ordering::Relaxed) + 50;
        eventually("strangers are refused", || (refused.load(Ordering::Relaxed) >= wanted).then_some(()));
        eventually("the new file is written", || fs::metadata(&path).ok().filter(|file| file.len() > 0));
    };
    goes_on();
    for number in 0..4 {
        // One that was moved away is noticed by itself.
        fs::rename(&path, logs.join(format!("moved.{number}"))).expect("it is there");
        if number % 2 == 1 {
            server.signal("-USR1");
        }
        goes_on();
    }
    if by_logrotate(&logs) {
        goes_on();
        assert!(logs.join("waygate.log.1").exists());
    }
    over.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().expect("each is refused"));
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let files = fs::read_dir(&logs).expect("a folder").map(|file| file.expect("a file").path());
    let texts: Vec<String> = files.map(|file| fs::read_to_string(file).expect("text")).collect();
    let lines = || texts.iter().flat_map(|text| text.lines());
    assert!(lines().any(|line| line.contains("everything is on disk")), "the last word is there");
    assert_eq!(lines().filter(|line| line.contains(SAYS)).count(), refused.load(Ordering::Relaxed));
}
