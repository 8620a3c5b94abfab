//! Servers that are child processes and behave badly: whoever waits learns what happened, and nothing of them is left.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use procfs::process::{Process, all_processes};
use serde_json::{Value, json};
use tempfile::TempDir;
use waygate_mcp::config::plugin::{Credential, Sandbox, StdioReach};
use waygate_mcp::plugins::child::Guard;
use waygate_mcp::plugins::upstream::link::stdio::{Heard, StdioLink};
use waygate_mcp::plugins::upstream::link::{Flow, Link as _, LinkError, Outgoing};
use waygate_mcp::protocol::Incoming;

use crate::support::{PATIENCE, program};

/// What every script begins with.
const PRELUDE: &str = r#"
import json, os, signal, subprocess, sys, time
def say(message):
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.buffer.flush()
def answer(ask, **result):
    say({"jsonrpc": "2.0", "id": ask["id"], "result": result})
def asks():
    for line in sys.stdin:
        yield json.loads(line)
"#;
const MAX_BYTES: usize = 1_000_000;

/// A server that is a script, and its link.
struct Served {
    link: StdioLink,
    heard: Arc<Heard>,
    _folder: TempDir,
}

fn reach(command: &str, args: &[&str]) -> StdioReach {
    StdioReach {
        command: command.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        cwd: None,
        env: BTreeMap::from([("TOKEN".to_owned(), Credential("${TOKEN}".to_owned()))]),
        inherit_env: Vec::new(),
        exclusive: false,
        sandbox: Sandbox::default(),
    }
}

async fn start(reach: StdioReach, folder: PathBuf, denied: &[PathBuf]) -> Result<StdioLink, LinkError> {
    start_heard(&Heard::of("scripted"), reach, folder, denied).await
}

async fn start_heard(
    heard: &Arc<Heard>,
    reach: StdioReach,
    folder: PathBuf,
    denied: &[PathBuf],
) -> Result<StdioLink, LinkError> {
    let guard = Guard::at(program("waygate-mcp"));
    let environment = vec![("TOKEN".into(), "tell-nobody".into())];
    StdioLink::start(heard, &reach, environment, folder, (&guard, None), denied, MAX_BYTES).await
}

async fn serve(script: &str) -> Served {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("server.py");
    fs::write(&path, format!("{PRELUDE}\n{script}")).expect("written");
    let reach = reach("python3", &[path.to_str().expect("text")]);
    let heard = Heard::of("scripted");
    let link = start_heard(&heard, reach, folder.path().join("private"), &[]).await.expect("it starts");
    Served { link, heard, _folder: folder }
}

impl Served {
    async fn ask(&self, id: u64, method: &'static str) -> Result<Flow, LinkError> {
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {}}).to_string();
        let (body, name, params) = (Bytes::from(body), None, Vec::new());
        self.link.ask(Outgoing { id, body, method, name, params, version: None }).await
    }

    /// What comes next of a request, as its result or its error.
    async fn answer(&self, id: u64, method: &'static str) -> Result<Value, LinkError> {
        let mut flow = self.ask(id, method).await?;
        next(&mut flow).await
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.link.report()["pid"].as_i64().expect("a number")).expect("a process")
    }
}

async fn next(flow: &mut Flow) -> Result<Value, LinkError> {
    let message =
        tokio::time::timeout(PATIENCE, flow.next()).await.expect("in time").expect("not the end")?;
    let Incoming::Response { outcome: Ok(result), .. } = message else { panic!("{message:?}") };
    Ok(serde_json::from_str(result.as_str()).expect("JSON"))
}

/// Looks until there is something to see. The link's tasks run on this thread meanwhile.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn is_gone(pid: i32) {
    until("it is gone", || Process::new(pid).is_err().then_some(())).await;
}

fn sleepers(seconds: &str) -> usize {
    let sleeps = |process: &Process| process.cmdline().is_ok_and(|line| line == ["sleep", seconds]);
    all_processes().expect("listed").flatten().filter(sleeps).count()
}

#[tokio::test]
async fn many_calls_share_one_pipe_and_each_gets_its_own_answer() {
    let served = serve(
        r#"
waiting = []
for ask in asks():
    say({"method": "notifications/progress", "params": {"progressToken": ask["id"], "progress": 1}})
    waiting.append(ask)
    if len(waiting) == 50:
        for ask in reversed(waiting): answer(ask, of=ask["id"])
        waiting = []
"#,
    )
    .await;
    let mut flows = Vec::new();
    for id in 1..=50 {
        flows.push((id, served.ask(id, "tools/call").await.expect("sent")));
    }
    for (id, mut flow) in flows {
        let first = flow.next().await.expect("not the end").expect("no error");
        assert!(matches!(first, Incoming::Notification { .. }), "{first:?}");
        assert_eq!(next(&mut flow).await.expect("an answer"), json!({"of": id}));
        assert!(flow.next().await.is_none());
    }
    let report = served.link.report();
    assert_eq!(
        (&report["pending"], &report["late"], &report["processes"]),
        (&json!(0), &json!(0), &json!(1))
    );
    assert!(report["command"].as_str().expect("text").ends_with("python3"), "{report}");
    assert!(report["rssBytes"].as_u64() > Some(0) && report["bytesOut"].as_u64() > Some(1000), "{report}");
    served.link.close().await;
    is_gone(served.pid()).await;
}

#[tokio::test]
async fn noise_and_answers_that_nobody_asked_for_cost_nothing() {
    let served = serve(
        r#"
print("Server is starting…", flush=True)
for ask in asks():
    say(b"\xff\xfe not text"); say(b"{half"); say({"jsonrpc": "2.0", "id": 4711, "result": {}})
    answer(ask, ok=True); answer(ask, ok=False)
"#,
    )
    .await;
    for id in 1..=3 {
        assert_eq!(served.answer(id, "tools/list").await.expect("an answer"), json!({"ok": true}));
    }
    let report = until("all is read", || {
        Some(served.link.report()).filter(|report| report["late"].as_u64() == Some(6))
    })
    .await;
    assert_eq!(report["noise"], 7, "{report}");
}

#[tokio::test]
async fn an_answer_that_is_too_large_fails_its_own_call_only() {
    let served = serve(
        r#"
for ask in asks():
    size = {"first": 3_000_000, "last": 3_000_000}.get(ask["method"], 3)
    if ask["method"] == "last": say({"result": {"text": "x" * size}, "jsonrpc": "2.0", "id": ask["id"]})
    elif ask["method"] == "broken": say(b'{"jsonrpc":"2.0","id":%d,"result":{"text":"\xff"}}' % ask["id"])
    else: answer(ask, text="x" * size)
"#,
    )
    .await;
    assert!(matches!(served.answer(1, "first").await, Err(LinkError::TooLarge(MAX_BYTES))));
    assert!(matches!(served.answer(2, "last").await, Err(LinkError::TooLarge(MAX_BYTES))));
    assert!(matches!(served.answer(3, "broken").await, Err(LinkError::Garbage(_))));
    assert_eq!(served.answer(4, "plain").await.expect("an answer"), json!({"text": "xxx"}));
}

#[tokio::test]
async fn a_server_that_exits_in_the_middle_of_a_call_says_how_to_all_who_wait() {
    let served = serve(
        r#"
for ask in asks():
    if ask["method"] == "die":
        print("out of cheese, token is " + os.environ["TOKEN"], file=sys.stderr, flush=True)
        sys.exit(3)
"#,
    )
    .await;
    let mut strays = served.link.strays();
    let mut waits = served.ask(1, "wait").await.expect("sent");
    let mut dies = served.ask(2, "die").await.expect("sent");
    for flow in [&mut waits, &mut dies, &mut strays] {
        let broken = next(flow).await.expect_err("no answer");
        let LinkError::Broken(why) = &broken else { panic!("{broken:?}") };
        assert!(why.contains("exited with code 3") && why.contains("out of cheese"), "{why}");
        assert!(!why.contains("tell-nobody"), "{why}");
    }
    assert!(matches!(served.answer(3, "late").await, Err(LinkError::Unreachable(_))));
    let report = served.link.report();
    assert!(report["lastExit"].as_str().expect("text").contains("code 3"), "{report}");
    let lines = served.heard.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(!format!("{report} {lines:?}").contains("tell-nobody"), "{report} {lines:?}");
}

#[tokio::test]
async fn what_a_server_says_before_it_exits_is_still_an_answer() {
    let served = serve("for ask in asks():\n    answer(ask, last=True)\n    sys.exit(0)").await;
    assert_eq!(served.answer(1, "tools/call").await.expect("an answer"), json!({"last": true}));
}

#[tokio::test]
async fn a_server_that_is_killed_fails_its_calls() {
    let served = serve("for ask in asks(): pass").await;
    let mut waits = served.ask(1, "wait").await.expect("sent");
    let pid = rustix::process::Pid::from_raw(served.pid()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    let broken = next(&mut waits).await.expect_err("no answer").to_string();
    assert!(broken.contains("killed by signal 9"), "{broken}");
}

#[tokio::test]
async fn a_server_that_closes_its_streams_is_ended() {
    for (stream, wanted) in [(0, "closed its stdin"), (1, "closed its stdout")] {
        let served = serve(&format!(
            "os.close({stream})\nprint('closed', file=sys.stderr, flush=True)\ntime.sleep(9999)"
        ))
        .await;
        until("it closed it", || (!served.heard.lines().is_empty()).then_some(())).await;
        match served.answer(1, "tools/call").await {
            Err(LinkError::Broken(why) | LinkError::Unreachable(why)) => {
                assert!(why.contains(wanted), "{why}")
            }
            other => panic!("{other:?}"),
        }
        is_gone(served.pid()).await;
    }
}

#[tokio::test]
async fn a_server_that_fills_stderr_is_not_held_up_by_it() {
    let served = serve(
        r#"
for ask in asks():
    for n in range(20_000): print("error %d " % n + "x" * 100, file=sys.stderr)
    sys.stderr.write("y" * 1_000_000); sys.stderr.flush()
    answer(ask, ok=True)
"#,
    )
    .await;
    assert_eq!(served.answer(1, "tools/call").await.expect("an answer"), json!({"ok": true}));
    let lines = served.heard.lines().len();
    assert!((1..=200).contains(&lines), "{lines}");
}

#[tokio::test]
async fn what_a_server_starts_does_not_outlive_it() {
    let script = r#"
for ask in asks():
    subprocess.Popen(["sleep", "97331"], start_new_session=True)
    subprocess.Popen(["sh", "-c", "trap '' TERM; setsid sleep 97331 & sleep 97331"])
    answer(ask, ok=True)
    if ask["method"] == "exit": sys.exit(0)
"#;
    let served = serve(script).await;
    served.answer(1, "stay").await.expect("an answer");
    until("they run", || (sleepers("97331") == 3).then_some(())).await;
    served.link.close().await;
    assert_eq!(sleepers("97331"), 0, "after it was closed");
    let served = serve(script).await;
    served.answer(1, "exit").await.expect("an answer");
    served.link.close().await;
    assert_eq!(sleepers("97331"), 0, "after it ended by itself");
    let served = serve(script).await;
    served.answer(1, "stay").await.expect("an answer");
    drop(served);
    until("they are gone after their link was dropped", || (sleepers("97331") == 0).then_some(())).await;
}

#[tokio::test]
async fn a_server_that_will_not_stop_is_killed() {
    let served = serve(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nfor ask in asks(): answer(ask, ok=True)\nwhile True: time.sleep(1)",
    )
    .await;
    served.answer(1, "tools/call").await.expect("an answer");
    let mut waits = served.link.strays();
    served.link.close().await;
    assert!(Process::new(served.pid()).is_err(), "close returns when it is gone");
    assert!(waits.next().await.is_none(), "it was closed in order");
    assert!(served.link.report()["lastExit"].as_str().expect("text").contains("signal 9"));
}

#[tokio::test]
async fn a_server_stays_out_of_waygates_folders_and_has_one_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("secret"), "a secret").expect("written");
    let script = "import json, os, sys\ntry:\n    seen = open('../../secret').read()\nexcept OSError as error:\n    seen = str(error)\n\
                  open('mine', 'w').write('x')\nsys.stdin.readline()\n\
                  names = [name for name in os.environ if name.startswith(('WAYGATE', 'CARGO'))]\n\
                  print(json.dumps({'id': 1, 'result': {'seen': seen, 'names': names}}), flush=True)";
    let denied = [folder.path().to_owned()];
    let own = folder.path().join("plugins-data/scripted");
    let heard = Heard::of("scripted");
    let reach = reach("python3", &["-c", script]);
    let link = start_heard(&heard, reach, own.clone(), &denied).await.expect("it starts");
    let served = Served { link, heard, _folder: folder };
    let answer = served.answer(1, "look").await.expect("an answer");
    assert_eq!(answer["names"], json!([]));
    assert!(own.join("mine").exists());
    let report = served.link.report();
    if report["sandbox"]["landlock"] == "enforced" {
        assert!(answer["seen"].as_str().expect("text").contains("denied"), "{answer}");
    } else {
        println!("skipped: Landlock is {} here", report["sandbox"]["landlock"]);
    }
}

#[tokio::test]
async fn a_program_that_does_not_start_is_told_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for (command, wanted) in [("no-such-program", "no-such-program"), ("/etc/passwd", "may not run")] {
        let failed = start(reach(command, &[]), folder.path().to_owned(), &[]).await;
        let Err(LinkError::Unreachable(why)) = failed else { panic!("it starts") };
        assert!(why.contains(wanted), "{why}");
    }
}
