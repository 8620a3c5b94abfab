//! Programs that the operator grants: what a client may run, what reaches the program, and what comes back.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;

use procfs::process::{FDTarget, Process};
use serde_json::{Value, json};

use crate::support::{Http, Reply, Server, eventually};

const TOOL: &str = "system__execute_command";

/// A server that grants these programs, with more settings.
fn granting(programs: &str, settings: &[(&str, &str)]) -> Server {
    let settings: Vec<_> = [("WAYGATE_SYSTEM_PROGRAMS", programs)].iter().chain(settings).copied().collect();
    Server::with("waygate-mcp", &settings)
}

fn run(server: &Server, arguments: Value) -> Value {
    server.tool(TOOL, arguments)
}

/// What a script of the granted shell gives.
fn script(server: &Server, script: &str) -> Value {
    run(server, json!({"program": "sh", "arguments": ["-c", script]}))
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().expect("a text")
}

fn stdout(result: &Value) -> &str {
    result["structuredContent"]["stdout"]["text"].as_str().unwrap_or_else(|| panic!("no stdout: {result}"))
}

fn tools(server: &Server) -> Vec<Value> {
    server.call("tools/list", json!({})).result()["tools"].as_array().expect("a list").clone()
}

fn definition(server: &Server) -> Option<Value> {
    tools(server).into_iter().find(|tool| tool["name"] == TOOL)
}

#[test]
fn without_a_granted_program_there_is_no_tool_and_no_plugin() {
    let server = Server::start("waygate-mcp");
    assert!(!tools(&server).is_empty());
    assert_eq!(definition(&server), None);
    let plugins = server.get("/plugins").1["plugins"].clone();
    assert!(plugins.as_array().expect("a list").iter().all(|plugin| plugin["name"] != "system"), "{plugins}");
    let reply = server.call("tools/call", json!({"name": TOOL, "arguments": {"program": "sh"}}));
    assert_eq!(reply.code(), -32602, "{}", reply.text());
}

#[test]
fn a_granted_program_runs_and_its_streams_are_told_apart() {
    let server = granting("sh", &[]);
    let result = script(&server, "echo out; echo err >&2");
    let wanted = json!({
        "exit_code": 0, "signal": null, "timed_out": false, "notes": [],
        "stdout": {"text": "out\n", "bytes": 4, "lost_bytes": 0},
        "stderr": {"text": "err\n", "bytes": 4, "lost_bytes": 0},
    });
    let mut structured = result["structuredContent"].clone();
    assert!(
        structured.as_object_mut().expect("an object").remove("duration_ms").is_some_and(|ms| ms.is_u64())
    );
    assert_eq!(structured, wanted);
    assert_eq!(text(&result), "exit code 0\n\n--- stdout\nout\n\n\n--- stderr\nerr\n");
    assert_eq!(result.get("isError"), None);
    assert_eq!(text(&script(&server, ":")), "exit code 0\nIt wrote nothing.");
}

#[test]
fn the_definition_names_the_programs_and_the_limits() {
    let server = granting("sh,/bin/cat", &[("WAYGATE_SYSTEM_TIMEOUT_SECONDS", "7")]);
    let tool = definition(&server).expect("the tool is there");
    let properties = &tool["inputSchema"]["properties"];
    assert_eq!(properties["program"]["enum"], json!(["sh", "/bin/cat"]));
    assert_eq!(properties["timeout_seconds"]["maximum"], 7);
    assert!(
        tool["description"].as_str().is_some_and(|says| says.contains("no shell") && says.contains("7 s"))
    );
    assert_eq!(tool["annotations"]["destructiveHint"], true);
    assert_eq!(
        run(&server, json!({"program": "/bin/cat", "stdin": "x"}))["structuredContent"]["exit_code"],
        0
    );
}

#[test]
fn a_program_that_is_not_granted_is_a_wrong_argument_and_the_granted_ones_are_named() {
    let server = granting("echo,cat", &[]);
    for program in ["sh", "/bin/echo", "../bin/echo", "", "echo "] {
        let result = run(&server, json!({"program": program}));
        assert_eq!(result["isError"], true, "{result}");
        assert!(text(&result).contains(r#"is not one of ["echo","cat"]"#), "{result}");
    }
    let result = run(&server, json!({"program": "echo", "arguments": "a b"}));
    assert!(result["isError"] == true && text(&result).contains("/arguments"), "{result}");
    let result = run(&server, json!({"program": "echo", "arguments": ["a\u{0}b"]}));
    assert!(result["isError"] == true && text(&result).contains("argument 1 holds a NUL"), "{result}");
    let result = run(&server, json!({"program": "echo", "arguments": ["x".repeat(3_000_000)]}));
    assert!(result["isError"] == true && text(&result).contains("does not run"), "{result}");
}

#[test]
fn what_means_something_to_a_shell_means_nothing_here() {
    let server = granting("echo", &[]);
    let hostile = [
        "$(id)",
        "`id`",
        "; touch made",
        "| cat",
        "> made",
        "*",
        "~",
        "$HOME",
        "&&",
        "'",
        "\"",
        "\\",
        "-",
        "a\nb",
        "",
    ];
    let result = run(&server, json!({"program": "echo", "arguments": hostile}));
    assert_eq!(stdout(&result), format!("{}\n", hostile.join(" ")));
    assert_eq!(fs::read_dir(server.folder.join("files")).expect("the folder").count(), 0, "nothing was made");
}

#[test]
fn an_exit_code_or_a_signal_is_an_error_that_shows_what_was_written() {
    let server = granting("sh", &[]);
    let result = script(&server, "echo half; echo why >&2; exit 3");
    assert_eq!(result["isError"], true);
    assert_eq!(result["structuredContent"]["exit_code"], 3);
    assert_eq!(stdout(&result), "half\n");
    assert!(text(&result).starts_with("exit code 3") && text(&result).contains("why"), "{result}");
    let result = script(&server, "kill -9 $$");
    assert_eq!(result["isError"], true);
    assert_eq!(result["structuredContent"]["exit_code"], Value::Null);
    assert_eq!(result["structuredContent"]["signal"], "SIGKILL");
    assert!(text(&result).starts_with("It was killed by SIGKILL"), "{result}");
}

#[test]
fn stdin_is_what_the_call_brings_and_else_nothing() {
    let server = granting("cat,true,wc", &[("WAYGATE_SYSTEM_OUTPUT_MAX_BYTES", "4096")]);
    assert_eq!(stdout(&run(&server, json!({"program": "cat", "stdin": "grüße\n\n"}))), "grüße\n\n");
    assert_eq!(stdout(&run(&server, json!({"program": "cat"}))), "");
    assert_eq!(stdout(&run(&server, json!({"program": "cat", "stdin": ""}))), "");
    // More than a pipe holds: written while the output is read, or both would wait for each other.
    let long = "0123456789".repeat(200_000);
    let result = run(&server, json!({"program": "wc", "arguments": ["-c"], "stdin": long}));
    assert_eq!(stdout(&result).trim(), "2000000");
    assert_eq!(
        run(&server, json!({"program": "cat", "stdin": long}))["structuredContent"]["stdout"]["bytes"],
        2_000_000
    );
    let unread = run(&server, json!({"program": "true", "stdin": long}));
    assert_eq!(unread["structuredContent"]["exit_code"], 0, "a program need not read it");
}

#[test]
fn of_huge_output_the_beginning_and_the_end_are_shown_and_the_loss_is_told() {
    let server = granting("sh", &[("WAYGATE_SYSTEM_OUTPUT_MAX_BYTES", "1000")]);
    let result = script(&server, "echo first; head -c 20000000 /dev/zero | tr '\\0' x; echo; echo last");
    let shown = &result["structuredContent"]["stdout"];
    assert_eq!(shown["bytes"], 20_000_012);
    assert_eq!(shown["lost_bytes"], 19_999_012);
    assert!(stdout(&result).starts_with("first\nxxx") && stdout(&result).ends_with("xxx\nlast\n"));
    assert!(stdout(&result).len() < 1100, "{}", stdout(&result).len());
    assert!(stdout(&result).contains("19999012 bytes are left out here"));
    let note = result["structuredContent"]["notes"][0].as_str().expect("a note");
    assert!(note.contains("20000012 bytes, of which 19999012") && text(&result).contains(note), "{result}");
    assert_eq!(result.get("isError"), None, "the program itself did well");
}

#[test]
fn bytes_that_are_no_text_are_shown_as_such_and_noted() {
    let server = granting("sh", &[]);
    let result = script(&server, "printf 'a\\377b\\000c'");
    assert_eq!(stdout(&result), "a\u{FFFD}b\u{0}c");
    assert_eq!(result["structuredContent"]["stdout"]["bytes"], 5);
    assert!(result["structuredContent"]["notes"][0].as_str().is_some_and(|note| note.contains("not UTF-8")));
}

#[test]
fn a_program_works_in_the_granted_folders_and_nowhere_else() {
    let work = tempfile::tempdir().expect("a folder");
    let path = work.path().canonicalize().expect("a path");
    fs::create_dir_all(path.join("one/deep")).expect("made");
    fs::create_dir(path.join("two")).expect("made");
    fs::write(path.join("one/file"), "").expect("made");
    std::os::unix::fs::symlink("/etc", path.join("one/out")).expect("made");
    std::os::unix::fs::symlink("../two", path.join("one/aside")).expect("made");
    let roots = format!("one={0}/one:rw,two={0}/two:ro", path.display());
    let server = granting("sh,pwd", &[("WAYGATE_FILES_ROOTS", &roots)]);
    let at = |folder: &str| run(&server, json!({"program": "pwd", "working_directory": folder}));
    for (folder, wanted) in
        [("one", "one"), ("one/deep", "one/deep"), ("one/./deep/", "one/deep"), ("two", "two")]
    {
        assert_eq!(stdout(&at(folder)), format!("{}\n", path.join(wanted).display()), "{folder}");
    }
    let result = script(&server, "pwd; echo $HOME; touch made");
    assert_eq!(stdout(&result), format!("{0}/one\n{0}/one\n", path.display()));
    assert!(path.join("one/made").exists());
    for outside in
        ["/etc", "/", "one/..", "one/../..", "three", "one/out", "one/aside", "one/nothing", "one/file", ""]
    {
        let result = at(outside);
        assert_eq!(result["isError"], true, "{outside}: {result}");
        assert!(text(&result).starts_with("working_directory cannot be used: "), "{outside}: {result}");
        assert!(!text(&result).contains(&*path.to_string_lossy()), "{outside}: {result}");
    }
}

#[test]
fn the_environment_is_what_is_named_and_never_what_is_waygates_own() {
    let settings = [
        ("WAYGATE_API_KEY", "0123456789abcdef0123456789abcdef"),
        ("WAYGATE_SYSTEM_ENVIRONMENT", "WORD,ABSENT"),
        ("WORD", "passed on"),
        ("OTHER", "kept"),
    ];
    let server = granting("env,sh", &settings);
    let params = json!({"name": TOOL, "arguments": {"program": "env"}});
    let key = "Bearer 0123456789abcdef0123456789abcdef";
    let result =
        Http::modern("tools/call", params).header("Authorization", key).send(server.address).result();
    let mut names: Vec<&str> =
        stdout(&result).lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "PATH", "WORD"]);
    assert!(stdout(&result).contains("WORD=passed on\n"));
}

#[test]
fn a_program_gets_no_rights_that_the_server_has_not_and_no_files_of_it() {
    let server = granting("sh,grep", &[]);
    let result = run(&server, json!({"program": "grep", "arguments": ["NoNewPrivs", "/proc/self/status"]}));
    assert_eq!(stdout(&result).split_whitespace().last(), Some("1"));
    let result = script(&server, "cut -d' ' -f7 /proc/self/stat");
    assert_eq!(stdout(&result), "0\n", "it has no terminal");
    // What this test has from its own caller, everyone below it has; beside that, a program has its streams only.
    let links = |process: Process| -> HashSet<String> {
        let targets = process.fd().expect("files are listed").flatten().map(|file| file.target);
        targets
            .filter(|target| !matches!(target, FDTarget::Pipe(_)))
            .map(|target| format!("{target:?}"))
            .collect()
    };
    let arguments = json!({"name": TOOL, "arguments": {"program": "sh", "arguments": ["-c", "echo $$ > pid; exec sleep 600"]}});
    let _open = Http::modern("tools/call", arguments).open(server.address);
    let pid = eventually("it runs", || {
        fs::read_to_string(server.folder.join("files/pid")).ok()?.trim().parse().ok()
    });
    let inherited = links(Process::myself().expect("this process"));
    // While it is loaded, a program has its libraries open for a moment.
    eventually("it has no file beside its streams", || {
        let own: HashSet<String> = links(Process::new(pid).expect("the program"));
        own.difference(&inherited).all(|link| link.contains("/dev/null")).then_some(())
    });
}

#[test]
fn progress_tells_how_much_was_written_and_the_newest_line() {
    let server = granting("sh", &[]);
    let script =
        "exec 3< gate; for n in 1 2 3; do printf '\\033[1mstep %s\\033[0m\\n' $n; read line <&3; done";
    let gate = server.folder.join("files/gate");
    rustix::fs::mknodat(rustix::fs::CWD, &gate, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .expect("a pipe");
    let arguments = json!({"program": "sh", "arguments": ["-c", script]});
    let params = json!({"name": TOOL, "arguments": arguments, "_meta": {"progressToken": "t"}});
    let mut open = Http::modern("tools/call", params).open(server.address);
    let mut gate = fs::OpenOptions::new().write(true).open(&gate).expect("the program opens it, too");
    let mut furthest = 0;
    for n in 1..=3 {
        let event = open.event().expect("progress");
        assert_eq!(event["method"], "notifications/progress", "{event}");
        assert_eq!(event["params"]["message"], format!("step {n}"));
        let progress = event["params"]["progress"].as_u64().expect("a number of bytes");
        assert!(progress > furthest, "{event}");
        furthest = progress;
        gate.write_all(b"go\n").expect("the program reads");
    }
    let last = open.event().expect("the result");
    assert_eq!(last["result"]["structuredContent"]["exit_code"], 0, "{last}");
}

#[test]
fn output_faster_than_anybody_reads_makes_few_notices_and_each_is_further() {
    let server = granting("sh", &[]);
    let arguments = json!({"program": "sh", "arguments": ["-c", "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done"]});
    let params = json!({"name": TOOL, "arguments": arguments, "_meta": {"progressToken": 1}});
    let reply = Http::modern("tools/call", params).send(server.address);
    let events = reply.events();
    let told: Vec<u64> = events.iter().filter_map(|event| event["params"]["progress"].as_u64()).collect();
    assert!(!told.is_empty() && told.is_sorted_by(|a, b| a < b), "{told:?}");
    assert!(told.len() < 1000, "{} notices for 20000 lines", told.len());
    let result = &events.last().expect("the result")["result"];
    assert_eq!(result["structuredContent"]["stdout"]["bytes"], 108_890);
}

#[test]
fn without_a_token_there_is_no_progress() {
    let server = granting("echo", &[]);
    let reply = server.call("tools/call", json!({"name": TOOL, "arguments": {"program": "echo"}}));
    assert!(!reply.is_stream());
}

#[test]
fn a_program_that_closes_its_streams_and_lives_on_is_waited_for() {
    let server = granting("sh", &[]);
    let result = script(
        &server,
        "echo early; exec >&- 2>&- <&-; n=0; while [ $n -lt 100000 ]; do n=$((n+1)); done; exit 7",
    );
    assert_eq!((stdout(&result), &result["structuredContent"]["exit_code"]), ("early\n", &json!(7)));
}

#[test]
fn no_more_programs_run_at_once_than_allowed() {
    let settings = [("WAYGATE_SYSTEM_PROGRAMS_MAX", "1"), ("WAYGATE_TIMEOUT", "1")];
    let server = granting("cat,echo,sleep", &settings);
    let sleeps = json!({"name": TOOL, "arguments": {"program": "sleep", "arguments": ["600"]}});
    let open = Http::modern("tools/call", sleeps).open(server.address);
    let echo = || -> Reply {
        server
            .call("tools/call", json!({"name": TOOL, "arguments": {"program": "echo", "arguments": ["hi"]}}))
    };
    let refused = eventually("the place is taken", || Some(echo()).filter(|reply| reply.status != 200));
    assert_eq!((refused.status, refused.code()), (503, -31503), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    drop(open);
    eventually("the place is free again", || (echo().status == 200).then_some(()));
}

#[test]
fn a_program_that_is_gone_since_the_start_is_told() {
    let work = tempfile::tempdir().expect("a folder");
    let program = work.path().join("tool");
    fs::copy("/bin/true", &program).expect("copied");
    let name = program.display().to_string();
    let server = granting(&name, &[]);
    assert_eq!(run(&server, json!({"program": name}))["structuredContent"]["exit_code"], 0);
    fs::remove_file(&program).expect("removed");
    let result = run(&server, json!({"program": name}));
    assert!(
        result["isError"] == true && text(&result).starts_with("the program could not be started: "),
        "{result}"
    );
}
