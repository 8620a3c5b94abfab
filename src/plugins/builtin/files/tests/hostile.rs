//! Paths, links and files made to get out, to hang, or to surprise.

use serde_json::json;

use super::super::testing::{Bed, Meanwhile, QUOTA};
use crate::plugins::{PluginError, Request};
use crate::protocol::Answers;

const SECRET: &str = "SECRET-OUTSIDE";

/// A folder outside, with something in it that must not be seen.
fn outside() -> tempfile::TempDir {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret.txt"), SECRET).unwrap();
    outside
}

fn read(uri: &str) -> Request {
    Request::Read { uri: uri.to_owned(), answers: Answers::default() }
}

#[tokio::test]
async fn paths_that_lead_out_are_refused_by_every_tool() {
    let bed = Bed::new();
    bed.put("a/b.txt", "x");
    let long = "x".repeat(300);
    let deep = "d/".repeat(100);
    let paths = ["../x", "files/../../x", "a/../../x", "/etc/passwd", "a\0b", "..", "a/..", &long, &deep];
    for path in paths {
        for (tool, arguments) in [
            ("read_file", json!({"path": path})),
            (
                "write_file",
                json!({"path": path, "content": "x", "mode": "overwrite", "create_parents": true}),
            ),
            ("list_directory", json!({"path": path})),
            ("search_files", json!({"path": path, "pattern": "x"})),
        ] {
            let says = bed.fails(tool, arguments).await;
            assert!(says.contains("cannot be used"), "{tool} {path:?}: {says}");
        }
    }
}

#[tokio::test]
async fn an_encoded_path_is_only_a_strange_name_to_tools_and_refused_as_a_uri() {
    let bed = Bed::new();
    assert!(bed.fails("read_file", json!({"path": "%2e%2e/x"})).await.contains("there is no files/%2e%2e/x"));
    for uri in ["files://files/%2e%2e/x", "files://files/..%2fx", "files://files/%00", "file:///etc/passwd"] {
        assert!(matches!(bed.ask(read(uri)).await, Err(PluginError::Unknown(_))), "{uri}");
    }
}

#[tokio::test]
async fn links_out_of_the_root_lead_nowhere() {
    let bed = Bed::new();
    let outside = outside();
    let secret = outside.path().join("secret.txt");
    bed.link(secret.to_str().unwrap(), "absolute.txt");
    bed.link(outside.path().to_str().unwrap(), "folder");
    let climbing = format!("../{}/secret.txt", outside.path().file_name().unwrap().to_str().unwrap());
    bed.link(&climbing, "climbing.txt");
    for path in ["absolute.txt", "climbing.txt", "folder/secret.txt"] {
        let says = bed.fails("read_file", json!({"path": path})).await;
        assert!(says.contains("leads out of its root"), "{path}: {says}");
        let uri = format!("files://files/{path}");
        assert!(matches!(bed.ask(read(&uri)).await, Err(PluginError::Unknown(_))));
        let watch = Request::Subscribe { uri, begins: true };
        assert!(matches!(bed.ask(watch).await, Err(PluginError::Unknown(_))));
        bed.fails("write_file", json!({"path": path, "content": "x", "mode": "overwrite"})).await;
        bed.fails("write_file", json!({"path": path, "content": "x", "mode": "append"})).await;
    }
    bed.fails("list_directory", json!({"path": "folder"})).await;
    let create = json!({"path": "folder/new/x", "content": "x", "create_parents": true});
    bed.fails("write_file", create).await;
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), SECRET);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    let found = bed.done("search_files", json!({"pattern": "SECRET"})).await;
    assert_eq!(found["matches"], json!([]));
    let list = bed.call("list_directory", json!({"recursive": true})).await.to_string();
    assert!(list.contains("symlink") && !list.contains(outside.path().to_str().unwrap()), "{list}");
}

#[tokio::test]
async fn a_link_inside_the_root_is_read_but_not_written_through() {
    let bed = Bed::new();
    bed.put("real.txt", "hello");
    bed.link("real.txt", "link.txt");
    assert_eq!(bed.done("read_file", json!({"path": "link.txt"})).await["text"], "hello");
    let write = json!({"path": "link.txt", "content": "x", "mode": "overwrite"});
    assert!(bed.fails("write_file", write).await.contains("write to files/real.txt instead"));
    assert_eq!(bed.get("real.txt"), "hello");
}

#[tokio::test]
async fn links_that_go_round_end_in_a_sentence() {
    let bed = Bed::new();
    bed.link("b", "a");
    bed.link("a", "b");
    bed.link(".", "self");
    assert!(bed.fails("read_file", json!({"path": "a"})).await.contains("leads to itself"));
    bed.put("x.txt", "needle");
    let found = bed.done("search_files", json!({"pattern": "needle"})).await;
    assert_eq!(found["matches"].as_array().unwrap().len(), 1);
}

/// The race itself: a folder and a link out of the root change places as fast as they can, while we read through it.
#[tokio::test]
async fn a_folder_exchanged_for_a_link_never_shows_what_is_outside() {
    let bed = Bed::new();
    let outside = outside();
    bed.put("swap/secret.txt", "inside");
    bed.link(outside.path().to_str().unwrap(), "other");
    let (swap, other) = (bed.path("swap"), bed.path("other"));
    let swapping = Meanwhile::start(move || {
        let (here, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
        rustix::fs::renameat_with(here, &swap, here, &other, flags).unwrap();
    });
    let mut by_success = [0, 0];
    for round in 0..300 {
        let result = bed.call("read_file", json!({"path": "swap/secret.txt"})).await;
        assert!(!result.to_string().contains(SECRET), "{result}");
        by_success[usize::from(result.get("isError").is_none())] += 1;
        let write = json!({"path": format!("swap/new{round}"), "content": "x"});
        bed.call("write_file", write).await;
        let found = bed.call("search_files", json!({"pattern": "SECRET-"})).await;
        assert!(!found["structuredContent"].to_string().contains(SECRET), "{found}");
    }
    assert!(swapping.stop() > 0);
    assert!(by_success.iter().all(|count| *count > 0), "one of both never came: {by_success:?}");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "written outside");
}

#[tokio::test]
async fn a_pipe_or_device_hangs_nothing() {
    let bed = Bed::new();
    bed.pipe("pipe");
    bed.put("x.txt", "needle");
    let says = bed.fails("read_file", json!({"path": "pipe"})).await;
    assert!(says.contains("pipe, a socket or a device"), "{says}");
    bed.fails("write_file", json!({"path": "pipe", "content": "x", "mode": "overwrite"})).await;
    bed.fails("write_file", json!({"path": "pipe", "content": "x", "mode": "append"})).await;
    let gone = bed.ask(read("files://files/pipe")).await;
    assert!(matches!(gone, Err(PluginError::Unknown(_))));
    let list = bed.done("list_directory", json!({})).await;
    assert_eq!(list["entries"][0]["type"], "other");
    let found = bed.done("search_files", json!({"pattern": "needle"})).await;
    assert_eq!(found["files_searched"], 1);
    // Rules in a pipe are none.
    bed.pipe(".gitignore");
    bed.done("search_files", json!({"pattern": "needle"})).await;
}

#[tokio::test]
async fn a_name_that_is_not_utf_8_is_shown_and_said_to_be_unusable() {
    use std::os::unix::ffi::OsStrExt as _;
    let bed = Bed::new();
    let name = std::ffi::OsStr::from_bytes(b"bad\xff.txt");
    std::fs::write(bed.path("").join(name), "x").unwrap();
    let list = bed.done("list_directory", json!({})).await;
    assert!(list["entries"][0]["unusable"].as_str().unwrap().contains("not UTF-8"));
    assert_eq!(list["entries"][0]["path"], "files/bad\u{fffd}.txt");
}

#[tokio::test]
async fn many_small_writes_cannot_get_round_the_quota() {
    let bed = Bed::new();
    bed.put("there", "x".repeat(usize::try_from(QUOTA).unwrap() - 1000));
    let mut done = 0;
    for round in 0..20 {
        let write =
            json!({"path": format!("d{round}/f"), "content": "y".repeat(100), "create_parents": true});
        if bed.call("write_file", write).await.get("isError").is_none() {
            done += 1;
        }
    }
    assert_eq!(done, 10);
}
