//! What a child process may use: its limits hold, it gains no rights, and it stays out of folders that are not its business;
//! and its guard, which none of that binds, still ends it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt as _;
use waygate_mcp::plugins::child::{Child, ChildError, Confined, Confinement, Ended, Guard, Order, Started};

use crate::support::{eventually, program};

fn start(confinement: Option<Confinement>, folder: &Path, command: &[&str]) -> Child {
    let order = Order {
        program: command[0].into(),
        arguments: command[1..].iter().map(Into::into).collect(),
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        folder: fs::File::open(folder).expect("a folder").into(),
        feeds: false,
        grace: std::time::Duration::from_millis(100),
        confinement,
        lock: None,
    };
    Guard::at(program("waygate-mcp")).start(order).expect("a guard")
}

/// What a script says on stdout and stderr.
async fn says(confinement: Option<Confinement>, folder: &Path, script: &str) -> (String, Started) {
    let mut child = start(confinement, folder, &["/bin/sh", "-c", &format!("exec 2>&1; {script}")]);
    let started = child.life.started().await.expect("it starts");
    let mut said = String::new();
    child.stdout.read_to_string(&mut said).await.expect("text");
    child.life.ended().await.expect("it ends");
    (said, started)
}

/// Whether this kernel lacks what the test is about.
fn lacks(started: Started) -> bool {
    if started.confined == Confined::Enforced {
        return false;
    }
    println!("skipped: Landlock is {} here", started.confined.as_str());
    true
}

fn denying(folder: PathBuf) -> Confinement {
    Confinement { denied: vec![folder], ..Confinement::default() }
}

#[tokio::test]
async fn limits_hold_for_the_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = Confinement {
        memory_max_bytes: Some(512 * 1024 * 1024),
        files_max: Some(77),
        cpu_seconds_max: Some(9),
        ..Confinement::default()
    };
    let (said, started) = says(Some(limits), folder.path(), "ulimit -Hn; ulimit -Hv; ulimit -Ht").await;
    assert_eq!(said, "77\n524288\n9\n");
    assert_eq!(started.confined, Confined::Unasked);
}

#[tokio::test]
async fn a_program_that_uses_up_its_processor_time_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = Confinement { cpu_seconds_max: Some(1), ..Confinement::default() };
    let mut child = start(Some(limits), folder.path(), &["/bin/sh", "-c", "while :; do :; done"]);
    assert!(matches!(child.life.ended().await, Ok(Ended::Signaled(9 | 24))));
}

#[tokio::test]
async fn no_program_gains_rights() {
    let folder = tempfile::tempdir().expect("a folder");
    for confinement in [None, Some(Confinement::default()), Some(denying(folder.path().join("data")))] {
        let (said, _) = says(confinement, folder.path(), "grep NoNewPrivs /proc/self/status").await;
        assert_eq!(said, "NoNewPrivs:\t1\n");
    }
}

#[tokio::test]
async fn a_denied_folder_is_closed_and_all_around_it_is_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let own = data.join("plugins-data/files");
    fs::create_dir_all(&own).expect("made");
    fs::create_dir_all(folder.path().join("beside/below")).expect("made");
    fs::write(data.join("secret"), "a secret").expect("written");
    fs::write(folder.path().join("beside/plain"), "plain").expect("written");
    std::os::unix::fs::symlink(&data, folder.path().join("link")).expect("linked");
    let script = "cat ../../secret; cat ../../../link/secret; echo x > ../../new; echo x > ../../secret; \
                  mv ../../secret ./; ln ../../secret ./; \
                  echo x > own && echo own; cat ../../../beside/plain; mv own ../../../beside/below/ && echo moved; \
                  ls ../../.. | grep -c beside";
    let (said, started) = says(Some(denying(data.clone())), &own, script).await;
    if lacks(started) {
        return;
    }
    assert!(!said.contains("a secret"), "{said}");
    assert_eq!(fs::read_to_string(data.join("secret")).expect("it is there"), "a secret");
    assert!(!data.join("new").exists(), "{said}");
    assert!(said.contains("own\nplainmoved\n1\n"), "{said}");
}

#[tokio::test]
async fn where_folders_are_granted_there_are_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for name in ["own", "reads", "writes", "writes/data", "other"] {
        fs::create_dir(at(name)).expect("made");
        fs::write(at(name).join("plain"), name).expect("written");
    }
    let confinement = Confinement {
        folders: Some(vec![(at("reads"), false), (at("writes"), true)]),
        denied: vec![at("writes/data")],
        ..Confinement::default()
    };
    let script = "cat ../reads/plain ../writes/plain plain; echo; cat ../other/plain; cat ../writes/data/plain; \
                  echo x > ../reads/plain; echo w > ../writes/plain && echo w > new && echo written; \
                  echo x > /dev/null && kill -0 $WAYGATE";
    let script = script.replace("$WAYGATE", &std::process::id().to_string());
    let (said, started) = says(Some(confinement), &at("own"), &script).await;
    if lacks(started) {
        return;
    }
    assert!(said.starts_with("readswritesown\n"), "{said}");
    assert!(said.contains("written\n"), "{said}");
    assert_eq!(said.matches("denied").count(), 3, "{said}");
    assert!(said.contains("not permitted"), "it signals nobody outside: {said}");
    assert_eq!(fs::read_to_string(at("reads/plain")).expect("it is there"), "reads");
}

#[tokio::test]
async fn without_network_no_server_is_reached() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let script = format!(
        "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port})); print(\"in\")'"
    );
    let (said, _) = says(Some(Confinement::default()), folder.path(), &script).await;
    assert_eq!(said, "in\n");
    let confinement = Confinement { no_network: true, ..Confinement::default() };
    let (said, started) = says(Some(confinement), folder.path(), &script).await;
    if !lacks(started) {
        assert!(said.contains("PermissionError"), "{said}");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_of_confined_or_not() {
    let folder = tempfile::tempdir().expect("a folder");
    for confinement in [None, Some(denying(folder.path().join("data")))] {
        let mut child = start(confinement, folder.path(), &["/nowhere/program"]);
        let failed = child.life.started().await;
        assert!(
            matches!(&failed, Err(ChildError::Program(why)) if why.contains("No such file")),
            "{failed:?}"
        );
        let tree = child.life.tree().expect("a guard");
        // What was to become it has said so, and ends next.
        eventually("nobody is left", || {
            matches!(tree.usage().map(|usage| usage.processes), None | Some(0)).then_some(())
        });
    }
}

#[tokio::test]
async fn a_confined_programs_guard_still_ends_all_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let confinement = Confinement {
        files_max: Some(16),
        memory_max_bytes: Some(64 * 1024 * 1024),
        folders: Some(Vec::new()),
        ..Confinement::default()
    };
    let script = "trap '' TERM; setsid sleep 9731 & (setsid sh -c 'trap \"\" TERM; sleep 9731; sleep 9731' &); \
                  echo ready; while :; do sleep 9731; done";
    let mut child = start(Some(confinement), folder.path(), &["/bin/sh", "-c", script]);
    let started = child.life.started().await.expect("it starts");
    let tree = child.life.tree().expect("a guard");
    let mut ready = [0; 6];
    child.stdout.read_exact(&mut ready).await.expect("it runs");
    eventually("all five run", || (tree.usage()?.processes == 5).then_some(()));
    child.life.gone(std::time::Duration::from_millis(100)).await;
    assert!(procfs::process::Process::new(started.pid).is_err());
    let sleeps =
        |process: &procfs::process::Process| process.cmdline().is_ok_and(|line| line == ["sleep", "9731"]);
    let left = procfs::process::all_processes().expect("listed").flatten().filter(sleeps).count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn what_a_program_and_its_children_use_is_counted_also_when_they_have_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let burn = "n=0; while [ $n -lt 100000 ]; do n=$((n+1)); done";
    let script = format!("sh -c '{burn}'; sleep 9732 & echo burnt; wait");
    let mut child = start(None, folder.path(), &["/bin/sh", "-c", &script]);
    let tree = child.life.tree().expect("a guard");
    let mut burnt = [0; 6];
    child.stdout.read_exact(&mut burnt).await.expect("it runs");
    let usage = eventually("both run", || tree.usage().filter(|usage| usage.processes == 2));
    assert!(usage.cpu_seconds > 0.0, "{usage:?}");
    assert!(usage.rss_bytes > 100_000, "{usage:?}");
    child.life.gone(std::time::Duration::from_millis(100)).await;
    assert_eq!(tree.usage(), None);
}

#[tokio::test]
async fn a_program_of_root_neither_looks_into_waygate_nor_takes_off_its_limits() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root could");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let own = std::process::id();
    let script = format!(
        "cat /proc/{own}/environ > environ; cat /proc/{own}/mem > mem; ulimit -Hn 4000 && echo raised; \
         cat /proc/self/environ > self && echo own"
    );
    let limits = Confinement { files_max: Some(77), ..Confinement::default() };
    let (said, _) = says(Some(limits), folder.path(), &script).await;
    assert_eq!(fs::read(folder.path().join("environ")).expect("made"), b"", "{said}");
    assert!(!said.contains("raised"), "{said}");
    assert!(said.contains("own"), "it still sees itself: {said}");
}
