//! Programs that will not end: nothing of them is left when their time is up, when nobody waits for them any more, when
//! Waygate stops, and when it is killed. And grants that cannot be.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use procfs::process::{Process, all_processes};
use serde_json::{Value, json};

use crate::support::{Http, Open, Server, eventually, program};

const TOOL: &str = "system__execute_command";
const CONFIG: i32 = 78;

/// Processes of one test, told from all others by how long they would sleep.
struct Brood {
    seconds: String,
}

impl Brood {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { seconds: format!("8{:07}{number:02}", std::process::id()) }
    }

    /// How many of them live.
    fn count(&self) -> usize {
        let sleeps = |process: &Process| process.cmdline().is_ok_and(|line| line == ["sleep", &self.seconds]);
        all_processes().expect("processes are listed").flatten().filter(sleeps).count()
    }

    fn lives(&self, count: usize) {
        eventually("all processes run", || (self.count() == count).then_some(()));
    }

    fn is_gone(&self) {
        eventually("no process is left", || (self.count() == 0).then_some(()));
    }

    /// A script that starts eleven: in the background, in sessions of their own, with and without parents, some deaf to
    /// SIGTERM and some stopped; and waits.
    fn script(&self) -> String {
        let sleep = format!("sleep {}", self.seconds);
        format!(
            "{sleep} & {sleep} & \
             setsid {sleep} & \
             (setsid sh -c '{sleep} & {sleep} & {sleep}' &) ; \
             (setsid sh -c '(setsid {sleep} &)' &) ; \
             sh -c 'trap \"\" TERM HUP INT; setsid {sleep} & exec {sleep}' & \
             (sh -c 'kill -STOP $$; true' & {sleep} &) ; \
             trap '' TERM; {sleep}"
        )
    }
}

/// What [`Brood::script`] starts.
const ALL: usize = 11;

fn granting(programs: &str, settings: &[(&str, &str)]) -> Server {
    let settings: Vec<_> = [("WAYGATE_SYSTEM_PROGRAMS", programs)].iter().chain(settings).copied().collect();
    Server::with("waygate-mcp", &settings)
}

fn begin(server: &Server, script: &str) -> Open {
    let arguments = json!({"program": "sh", "arguments": ["-c", script]});
    Http::tool(TOOL, arguments).open(server.address)
}

fn script(server: &Server, script: &str, timeout_seconds: u64) -> Value {
    let arguments = json!({"program": "sh", "arguments": ["-c", script], "timeout_seconds": timeout_seconds});
    server.tool(TOOL, arguments)
}

/// The guards below a server.
fn guards(server: &Server) -> Vec<i32> {
    let own = i32::try_from(server.child.id()).expect("a process");
    let stats =
        all_processes().expect("processes are listed").flatten().filter_map(|process| process.stat().ok());
    stats.filter(|stat| stat.ppid == own).map(|stat| stat.pid).collect()
}

#[test]
fn a_client_that_leaves_leaves_no_process_behind() {
    let (server, brood) = (granting("sh", &[]), Brood::new());
    let open = begin(&server, &brood.script());
    brood.lives(ALL);
    drop(open);
    brood.is_gone();
    eventually("its guard is gone and buried", || guards(&server).is_empty().then_some(()));
    assert_eq!(script(&server, "echo well", 5)["structuredContent"]["stdout"]["text"], "well\n");
}

#[test]
fn a_program_whose_time_is_up_is_ended_with_all_that_it_started() {
    let (server, brood) = (granting("sh", &[]), Brood::new());
    let result = script(&server, &format!("echo begun; {}", brood.script()), 1);
    assert_eq!(brood.count(), 0, "the answer comes after the end");
    assert_eq!(result["isError"], true);
    assert_eq!(result["structuredContent"]["timed_out"], true);
    assert_eq!(result["structuredContent"]["stdout"]["text"], "begun\n");
    let says = result["content"][0]["text"].as_str().expect("a text");
    assert!(says.contains("longer than 1 s"), "{says}");
}

#[test]
fn the_operators_limit_holds_for_calls_that_set_none() {
    let (server, brood) = (granting("sh", &[("WAYGATE_SYSTEM_TIMEOUT_SECONDS", "1")]), Brood::new());
    let reply = begin(&server, &brood.script()).finish();
    assert_eq!(reply.result()["structuredContent"]["timed_out"], true, "{}", reply.text());
    assert_eq!(brood.count(), 0);
    let more = json!({"program": "sh", "timeout_seconds": 2});
    assert_eq!(server.tool(TOOL, more)["isError"], true, "nobody gets more than the operator grants");
}

#[test]
fn what_a_program_leaves_in_the_background_ends_with_it() {
    let (server, brood) = (granting("sh", &[]), Brood::new());
    let seconds = &brood.seconds;
    let result = script(&server, &format!("sleep {seconds} & (setsid sleep {seconds} &); echo done"), 20);
    assert_eq!(result["structuredContent"]["exit_code"], 0, "{result}");
    assert_eq!(result["structuredContent"]["stdout"]["text"], "done\n");
    assert_eq!(brood.count(), 0);
}

#[test]
fn a_chain_of_processes_that_each_start_the_next_and_end_is_cut() {
    let server = granting("sh", &[]);
    // Five runners that are never the same process for long, and deaf to SIGTERM.
    let chain = "trap '' TERM; echo $$ > alive; setsid sh link & exit";
    let folder = server.folder.join("files");
    fs::write(folder.join("link"), chain).expect("written");
    let result = script(&server, "for n in 1 2 3 4 5; do sh link & done; wait", 1);
    assert!(!result["structuredContent"].is_null(), "{result}");
    eventually("its guard is gone, and so are all", || guards(&server).is_empty().then_some(()));
    fs::remove_file(folder.join("alive")).expect("they ran");
    assert_eq!(script(&server, "echo well", 5)["structuredContent"]["stdout"]["text"], "well\n");
    assert!(!folder.join("alive").exists(), "one runs on");
}

#[test]
fn a_program_that_would_end_is_given_the_time_to() {
    let server = granting("sh", &[]);
    let result =
        script(&server, "trap 'echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.05; done", 1);
    assert_eq!(result["structuredContent"]["timed_out"], true);
    assert_eq!(result["structuredContent"]["stdout"]["text"], "ready\ntidied\n");
}

#[test]
fn a_stop_leaves_no_process_behind() {
    let (mut server, brood) = (granting("sh", &[("WAYGATE_DRAIN_SECONDS", "1")]), Brood::new());
    let _open = begin(&server, &brood.script());
    brood.lives(ALL);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(70), "a call was cut off");
    brood.is_gone();
}

#[test]
fn a_stop_lets_a_program_finish() {
    let mut server = granting("sh", &[]);
    let gate = server.folder.join("files/gate");
    rustix::fs::mknodat(rustix::fs::CWD, &gate, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .expect("a pipe");
    let open = begin(&server, "read line < gate; echo $line");
    eventually("it runs", || (!guards(&server).is_empty()).then_some(()));
    server.signal("-TERM");
    eventually("it drains", || (server.get("/ready").0 == 503).then_some(()));
    fs::write(&gate, "finished\n").expect("the program reads");
    assert_eq!(open.finish().result()["structuredContent"]["stdout"]["text"], "finished\n");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_killed_waygate_leaves_no_process_behind() {
    let (mut server, brood) = (granting("sh", &[]), Brood::new());
    let _open = [begin(&server, &brood.script()), begin(&server, &brood.script())];
    brood.lives(2 * ALL);
    let guards = guards(&server);
    assert_eq!(guards.len(), 2);
    server.signal("-KILL");
    assert_eq!(server.wait(), None);
    brood.is_gone();
    eventually("the guards are gone, too", || {
        guards.iter().all(|pid| Process::new(*pid).is_err()).then_some(())
    });
}

#[test]
fn a_key_pressed_in_the_terminal_does_not_reach_a_program() {
    let (server, brood) = (granting("sh", &[]), Brood::new());
    let open = begin(&server, &format!("sleep {} & echo $$; wait", brood.seconds));
    brood.lives(1);
    let guard = Process::new(guards(&server)[0]).and_then(|guard| guard.stat()).expect("the guard");
    assert_eq!((guard.session, guard.tty_nr), (guard.pid, 0), "a session of its own, without a terminal");
    drop(open);
    brood.is_gone();
}

#[test]
fn a_guard_that_is_asked_to_end_takes_all_with_it() {
    let (server, brood) = (granting("sh", &[]), Brood::new());
    let open = begin(&server, &brood.script());
    brood.lives(ALL);
    let sent = Command::new("kill").args(["-TERM", &guards(&server)[0].to_string()]).status();
    assert!(sent.expect("kill runs").success());
    assert_eq!(open.finish().result()["structuredContent"]["signal"], "SIGKILL");
    assert_eq!(brood.count(), 0);
}

#[test]
fn a_program_that_kills_its_guard_goes_with_it_and_the_call_is_answered() {
    let (server, brood) = (granting("sh", &[]), Brood::new());
    let result = script(&server, &format!("sleep {0} & sleep {0} & kill -9 $PPID; wait", brood.seconds), 20);
    assert_eq!(result["isError"], true);
    let says = result["content"][0]["text"].as_str().expect("a text");
    assert!(says.contains("the guard of the program was killed"), "{says}");
    brood.is_gone();
    eventually("it is buried", || guards(&server).is_empty().then_some(()));
}

#[test]
fn what_outlives_its_program_and_kills_the_guard_goes_with_it() {
    let (server, brood) = (granting("sh", &[]), Brood::new());
    let kills = format!("(trap '' TERM; sleep 0.3; kill -9 $guard; exec sleep {})", brood.seconds);
    let result = script(&server, &format!("guard=$PPID; {kills} & exit 0"), 20);
    assert_eq!(result["structuredContent"]["exit_code"], 0, "{result}");
    assert_eq!(brood.count(), 0, "the answer comes after the end");
    let apart = format!("guard=$PPID; {kills} >/dev/null 2>&1 & exit 0");
    assert_eq!(script(&server, &apart, 20)["structuredContent"]["exit_code"], 0);
    assert_eq!(brood.count(), 0, "also where it holds no stream");
    eventually("it is buried", || guards(&server).is_empty().then_some(()));
}

#[test]
fn a_program_that_stops_its_guard_is_killed_with_all_that_it_started() {
    let (server, brood) = (granting("sh", &[]), Brood::new());
    let says = |result: &Value| result["content"][0]["text"].as_str().expect("a text").to_owned();
    let sleep = format!("sleep {}", brood.seconds);
    let result = script(&server, &format!("setsid {sleep} & kill -STOP $PPID; exec {sleep}"), 1);
    assert_eq!(result["isError"], true);
    assert!(says(&result).contains("could not be ended"), "{result}");
    assert_eq!(brood.count(), 0, "the answer comes after the end");
    eventually("it is buried", || guards(&server).is_empty().then_some(()));
}

#[test]
fn a_program_that_kills_its_own_group_does_not_kill_its_guard() {
    let server = granting("sh", &[]);
    let result = script(&server, "kill -9 0", 20);
    assert_eq!(result["structuredContent"]["signal"], "SIGKILL", "{result}");
}

#[test]
fn a_flood_costs_the_other_calls_nothing() {
    let server = granting("sh,echo", &[("WAYGATE_WORKERS", "1")]);
    let flood = begin(&server, "while :; do head -c 100000000 /dev/zero; done");
    eventually("it floods", || (!guards(&server).is_empty()).then_some(()));
    for _ in 0..20 {
        let result = server.tool(TOOL, json!({"program": "echo", "arguments": ["hi"]}));
        assert_eq!(result["structuredContent"]["stdout"]["text"], "hi\n");
    }
    drop(flood);
    eventually("it is ended", || guards(&server).is_empty().then_some(()));
}

#[test]
fn clients_that_leave_again_and_again_leave_nothing_open() {
    let (server, brood) = (granting("sh", &[]), Brood::new());
    let files = |server: &Server| {
        let own = i32::try_from(server.child.id()).expect("a process");
        Process::new(own).and_then(|process| process.fd_count()).expect("it lives")
    };
    let begun = |count: usize| {
        let opens: Vec<Open> =
            (0..count).map(|_| begin(&server, &format!("exec sleep {}", brood.seconds))).collect();
        brood.lives(count);
        drop(opens);
        brood.is_gone();
        eventually("the guards are gone", || guards(&server).is_empty().then_some(()));
    };
    begun(4);
    let before = files(&server);
    for _ in 0..5 {
        begun(8);
    }
    // Connections of this test may be counted, not yet closed: a leak would be of forty programs' pipes.
    eventually("all is closed", || (files(&server) <= before + 8).then_some(()));
}

fn refusal(folder: &Path, settings: &[(&str, &str)]) -> String {
    let output = Server::command("waygate-mcp", folder, settings).output().expect("it runs");
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(CONFIG), "{says}");
    says
}

#[test]
fn a_grant_that_cannot_be_stops_the_start_with_its_name_and_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display();
    fs::write(folder.path().join("plain"), "no program").expect("written");
    let plain = format!("{path}/plain");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o600)).expect("a mode");
    let none = format!("{path}/none");
    let itself = path.to_string();
    for (programs, wanted) in [
        ("bin/sh", "neither a whole path nor a name alone"),
        ("./sh", "neither a whole path nor a name alone"),
        ("no-such-program", "is in none of /usr/local/sbin:"),
        (none.as_str(), "No such file"),
        (plain.as_str(), "may not run"),
        (itself.as_str(), "is no file"),
        ("sh,sh", "twice"),
    ] {
        let says = refusal(folder.path(), &[("WAYGATE_SYSTEM_PROGRAMS", programs)]);
        let name = programs.split(',').next().expect("one");
        assert!(says.contains(wanted) && says.contains(name), "{programs}: {says}");
        assert!(says.contains("WAYGATE_SYSTEM_PROGRAMS: system.programs has "), "{programs}: {says}");
    }
    fs::create_dir(folder.path().join("config")).expect("made");
    fs::write(folder.path().join("config/default.toml"), "[system]\n\nprograms = [\"sh\", \"none\"]\n")
        .expect("written");
    let says = refusal(folder.path(), &[]);
    assert!(says.contains("default.toml:3: system.programs has \"none\""), "{says}");
}

#[test]
fn no_variable_of_waygate_can_be_granted() {
    let folder = tempfile::tempdir().expect("a folder");
    let refusal = |names: &str| refusal(folder.path(), &[("WAYGATE_SYSTEM_ENVIRONMENT", names)]);
    assert!(refusal("LC_ALL,WAYGATE_API_KEY").contains("system.environment has WAYGATE_API_KEY"));
    let says = refusal("TOKEN=tellnobody");
    assert!(says.contains("\"TOKEN\"") && !says.contains("tellnobody"), "{says}");
}

#[test]
fn the_verb_guard_is_hidden_and_of_no_use_by_hand() {
    let help = Command::new(program("waygate-mcp")).arg("--help").output().expect("it runs");
    assert!(!String::from_utf8_lossy(&help.stdout).contains("guard"));
    let done = Command::new(program("waygate-mcp"))
        .args(["guard", "--", "true"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("started by Waygate itself"));
}
