//! What a check of a plugin's file shows of servers that are not as simple as they could be, and what it leaves behind.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::support::{Server, eventually};
use super::{refused, said, waygate};

/// The file of a plugin that is the hostile server in a mode.
fn hostile(mode: &str, more: &str) -> String {
    let says = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    let python = String::from_utf8(says.stdout).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/hostile_server.py");
    format!("command = {:?}\nargs = [{script:?}, {mode:?}]\n{more}\n", python.trim())
}

/// What a check of this file says, and its exit code.
fn checked(folder: &Path, text: &str) -> (Option<i32>, Value) {
    let path = folder.join("some.toml");
    fs::write(&path, text).unwrap();
    let output = waygate(folder, &["plugins", "check", path.to_str().unwrap(), "--json"]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().filter_map(|one| one.as_str().or(one["name"].as_str())).collect()
}

#[test]
fn a_check_shows_what_the_file_makes_of_what_the_server_offers() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let (_, whole) = checked(folder, &hostile("shelf", ""));
    let more = r#"
allow = ["say", "sleep", "pid", "link", "prompt_[12]"]
deny = ["sleep", "prompt_2"]
uri_prefix = "p+"
instructions = "Mind the step."
tools.say = { rename = "speak", description = "Speaks when spoken to" }
tools.link = { hidden = true }
"#;
    let (code, shown) = checked(folder, &hostile("shelf", more));
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(names(&shown["tools"]), ["some__pid", "some__speak"], "{shown}");
    assert_eq!(shown["tools"][1]["description"], "Speaks when spoken to");
    assert_eq!(names(&shown["prompts"]), ["some__prompt_1"]);
    assert!(names(&shown["resources"]).contains(&"p+note://4"), "{shown}");
    assert_eq!(shown["instructions"], "some: Mind the step.");
    assert_eq!(shown["report"]["revision"], "2025-11-25");
    assert!(shown["tokens"].as_u64() < whole["tokens"].as_u64(), "fewer tools cost less");
    let text = said(folder, &["plugins", "check", "./some.toml"]);
    for what in ["some__speak", "p+note://4", "some__prompt_1", "Mind the step.", "2 tools, which cost"] {
        assert!(text.contains(what), "{what} in {text}");
    }
}

#[test]
fn a_check_tells_what_would_not_be_published() {
    let home = tempfile::tempdir().unwrap();
    let (code, shown) = checked(home.path(), &hostile("two_of_one", ""));
    assert_eq!((code, shown["tools"].as_array().map(Vec::len)), (Some(0), Some(2)), "{shown}");
    assert!(shown["report"]["speaker"]["lists"]["droppedFirst"].to_string().contains("twice"), "{shown}");
    let clash = "[tools.say]\nrename = \"pid\"";
    let (code, shown) = checked(home.path(), &hostile("two_of_one", clash));
    assert_eq!((code, names(&shown["tools"]).len()), (Some(0), 1), "{shown}");
    let refused = shown["refused"].to_string();
    assert!(refused.contains("some__pid"), "{shown}");
    let output = waygate(home.path(), &["plugins", "check", "./some.toml"]);
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(notes.contains("note: ") && notes.contains("some__pid"), "{notes}");
}

#[test]
fn a_check_of_a_server_that_is_not_there_or_does_not_answer_says_so_in_time() {
    let home = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, shown) = checked(home.path(), &format!("url = \"http://{nobody}/mcp\"\n"));
    assert_eq!((code, &shown["valid"], &shown["starts"]), (Some(1), &json!(true), &json!(false)), "{shown}");
    assert!(shown["why"].as_str().unwrap().contains("cannot be reached"), "{shown}");
    for mode in ["mute", "quits"] {
        let (code, shown) = checked(home.path(), &hostile(mode, "start_timeout_seconds = 2"));
        assert_eq!((code, &shown["starts"]), (Some(1), &json!(false)), "{mode}: {shown}");
    }
    let (code, why) = refused(home.path(), &["plugins", "check", "./none.toml"]);
    assert!(code == 1 && why.contains("there is no file"), "{why}");
}

#[test]
fn a_check_leaves_no_process_and_a_server_that_runs_does_not_notice() {
    let server = Server::start("waygate-mcp");
    let outside = tempfile::tempdir().unwrap();
    let at = outside.path().join("pid");
    let starts = hostile("good", "");
    let (program, args) = starts.split_once("\nargs = [").unwrap();
    let line = "echo $$ > \"$0\"; exec \"$@\"";
    let program = program.strip_prefix("command = ").unwrap();
    let text = format!("command = \"sh\"\nargs = [\"-c\", {line:?}, {at:?}, {program}, {args}");
    fs::write(outside.path().join("brief.toml"), text).unwrap();
    let path = outside.path().join("brief.toml");
    said(&server.folder, &["plugins", "check", path.to_str().unwrap()]);
    let pid = fs::read_to_string(&at).unwrap();
    let process = format!("/proc/{}", pid.trim());
    eventually("it is gone", || (!Path::new(&process).exists()).then_some(()));
    let (_, plugins) = server.get("/plugins");
    assert!(!names(&plugins["plugins"]).contains(&"brief"), "{plugins}");
    assert!(!server.log().contains("brief"), "{}", server.log());
}
