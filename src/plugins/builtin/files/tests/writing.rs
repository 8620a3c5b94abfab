//! Writing: modes, lost updates, atomicity, caps.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::testing::{Bed, Meanwhile, QUOTA, WRITE_MAX, call, context, options, root};
use super::super::{Files, hex};
use crate::plugins::{Plugin, PluginError, Request};
use crate::protocol::{Answers, Raw};

fn write(path: &str, content: &str, mode: &str) -> Value {
    json!({"path": path, "content": content, "mode": mode})
}

fn leftovers(bed: &Bed) -> usize {
    let names = std::fs::read_dir(bed.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".waygate")).count()
}

#[tokio::test]
async fn a_new_file_is_created_and_an_old_one_is_not_touched_by_mistake() {
    let bed = Bed::new();
    let facts = bed.done("write_file", json!({"path": "a.txt", "content": "hello"})).await;
    assert_eq!((&facts["created"], &facts["bytes_written"]), (&json!(true), &json!(5)));
    assert_eq!(facts["sha256"], hex(&Sha256::digest("hello")));
    let says = bed.fails("write_file", json!({"path": "a.txt", "content": "other"})).await;
    assert!(says.contains("files/a.txt exists already; use mode overwrite"), "{says}");
    assert_eq!(bed.get("a.txt"), "hello");
    assert_eq!(leftovers(&bed), 0);
}

#[tokio::test]
async fn overwrite_replaces_and_append_adds() {
    let bed = Bed::new();
    bed.done("write_file", write("a", "one", "overwrite")).await;
    bed.done("write_file", write("a", "two", "overwrite")).await;
    assert_eq!(bed.get("a"), "two");
    let facts = bed.done("write_file", write("a", "three", "append")).await;
    assert_eq!(bed.get("a"), "twothree");
    assert_eq!((&facts["size_bytes"], &facts["bytes_written"]), (&json!(8), &json!(5)));
    assert_eq!(facts["sha256"], hex(&Sha256::digest("twothree")));
    bed.done("write_file", write("new", "x", "append")).await;
    assert_eq!(leftovers(&bed), 0);
}

#[tokio::test]
async fn binary_content_is_written_from_base64() {
    let bed = Bed::new();
    bed.done("write_file", json!({"path": "a", "content": "//4A", "encoding": "base64"})).await;
    assert_eq!(std::fs::read(bed.path("a")).unwrap(), b"\xff\xfe\0");
    let says = bed.fails("write_file", json!({"path": "b", "content": "?!", "encoding": "base64"})).await;
    assert!(says.contains("not Base64"), "{says}");
}

#[tokio::test]
async fn a_write_with_if_match_loses_nobodys_change() {
    let bed = Bed::new();
    bed.put("a", "mine");
    let read = bed.done("read_file", json!({"path": "a"})).await;
    bed.put("a", "theirs");
    let mut stale = write("a", "next", "overwrite");
    stale["if_match"] = read["sha256"].clone();
    let says = bed.fails("write_file", stale.clone()).await;
    assert!(says.contains(&hex(&Sha256::digest("theirs"))), "{says}");
    assert_eq!(bed.get("a"), "theirs");
    let mut fresh = stale.clone();
    fresh["if_match"] = json!(hex(&Sha256::digest("theirs")).to_uppercase());
    bed.done("write_file", fresh).await;
    assert_eq!(bed.get("a"), "next");
    std::fs::remove_file(bed.path("a")).unwrap();
    assert!(bed.fails("write_file", stale).await.contains("there is no files/a"));
}

#[tokio::test]
async fn of_many_writers_with_the_same_if_match_one_wins() {
    let bed = Bed::new();
    bed.put("a", "start");
    let started = hex(&Sha256::digest("start"));
    let writers = (0..8).map(|number| {
        let mut arguments = write("a", &format!("writer {number}"), "overwrite");
        arguments["if_match"] = json!(started);
        bed.call("write_file", arguments)
    });
    let results = futures_util::future::join_all(writers).await;
    let won = results.iter().filter(|result| result.get("isError").is_none()).count();
    assert_eq!(won, 1, "{results:?}");
}

#[tokio::test]
async fn of_many_appends_none_is_lost() {
    let bed = Bed::new();
    let writers = (0..20).map(|number| bed.call("write_file", write("a", &format!("{number}\n"), "append")));
    futures_util::future::join_all(writers).await;
    let mut lines: Vec<u32> = bed.get("a").lines().map(|line| line.parse().unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(lines, (0..20).collect::<Vec<u32>>());
}

#[tokio::test]
async fn a_reader_never_sees_half() {
    let bed = Bed::new();
    let contents = ["a".repeat(1900), "b".repeat(1900)];
    bed.put("x", &contents[0]);
    let (path, whole) = (bed.path("x"), contents.clone());
    let reading = Meanwhile::start(move || {
        let says = std::fs::read_to_string(&path).unwrap();
        assert!(whole.contains(&says), "{} bytes", says.len());
    });
    for round in 0..60 {
        bed.done("write_file", write("x", &contents[round % 2], "overwrite")).await;
    }
    assert!(reading.stop() > 0);
}

#[tokio::test]
async fn the_mode_of_a_replaced_file_is_kept_without_its_special_bits() {
    let bed = Bed::new();
    for (mode, kept) in [(0o640, 0o640), (0o755, 0o755), (0o4755, 0o755)] {
        bed.put("a", "x");
        std::fs::set_permissions(bed.path("a"), std::fs::Permissions::from_mode(mode)).unwrap();
        bed.done("write_file", write("a", "y", "overwrite")).await;
        let now = std::fs::metadata(bed.path("a")).unwrap().permissions().mode() & 0o7777;
        assert_eq!(now, kept, "{mode:o} became {now:o}");
    }
    std::fs::set_permissions(bed.path("a"), std::fs::Permissions::from_mode(0o444)).unwrap();
    assert!(bed.fails("write_file", write("a", "z", "overwrite")).await.contains("marked read-only"));
}

#[tokio::test]
async fn folders_are_created_only_when_asked_for() {
    let bed = Bed::new();
    let says = bed.fails("write_file", json!({"path": "x/y/z", "content": "1"})).await;
    assert!(says.contains("set create_parents to true"), "{says}");
    assert!(!bed.path("x").exists());
    bed.done("write_file", json!({"path": "x/y/z", "content": "1", "create_parents": true})).await;
    assert_eq!(bed.get("x/y/z"), "1");
    let under_file = json!({"path": "x/y/z/w", "content": "1", "create_parents": true});
    assert!(bed.fails("write_file", under_file).await.contains("is not a directory"));
    assert!(bed.fails("write_file", write("x", "1", "overwrite")).await.contains("is a directory"));
    assert!(bed.fails("write_file", write("files", "1", "overwrite")).await.contains("is a directory"));
}

#[tokio::test]
async fn one_write_is_capped_and_all_together_have_a_quota() {
    let bed = Bed::new();
    let much = "x".repeat(usize::try_from(WRITE_MAX).unwrap());
    let says = bed.fails("write_file", write("a", &format!("{much}x"), "create")).await;
    assert!(says.contains("2001 bytes, more than the 2000"), "{says}");
    bed.done("write_file", write("a", &much, "create")).await;
    bed.done("write_file", write("b", &much, "create")).await;
    for refused in [write("c", &much, "create"), write("a", &much, "append")] {
        let says = bed.fails("write_file", refused).await;
        assert!(says.contains(&format!("holds 4000 of its {QUOTA} bytes")), "{says}");
    }
    bed.done("write_file", write("a", &much, "overwrite")).await;
    // Room that somebody else made is seen.
    std::fs::remove_file(bed.path("b")).unwrap();
    bed.done("write_file", write("c", &much, "create")).await;
    // Over the quota, what makes a file smaller is still possible.
    bed.put("elsewhere", "x".repeat(9000));
    bed.done("write_file", write("a", "small", "overwrite")).await;
    assert_eq!(leftovers(&bed), 0);
}

#[tokio::test]
async fn a_read_only_root_is_never_written() {
    let (readable, writable) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let both = vec![root("ro", readable.path(), false), root("rw", writable.path(), true)];
    let files = Files::new(options(both)).unwrap();
    let result = call(&files, "write_file", write("ro/a", "x", "overwrite"), context(None)).await;
    let says = result["content"][0]["text"].as_str().unwrap();
    assert!(says.contains("the root ro is read-only; write below one of: rw"), "{says}");
    assert_eq!(std::fs::read_dir(readable.path()).unwrap().count(), 0);
    let only = Files::new(options(vec![root("ro", readable.path(), false)])).unwrap();
    assert!(only.inventory().tools.iter().all(|tool| tool.name() != "write_file"), "not even offered");
    let arguments = Raw::value(&write("ro/a", "x", "create"));
    let request = Request::Call { tool: "write_file".into(), arguments, answers: Answers::default() };
    assert!(matches!(only.handle(request, context(None)).await, Err(PluginError::Unknown(_))));
}

#[tokio::test]
async fn a_write_that_nobody_wants_any_more_changes_nothing() {
    let bed = Bed::new();
    bed.put("a", "old");
    let context = context(None);
    context.cancel().cancel();
    let result = call(&bed.files, "write_file", write("a", "new", "overwrite"), context).await;
    assert_eq!(result["isError"], true);
    assert_eq!((bed.get("a"), leftovers(&bed)), ("old".to_owned(), 0));
}

#[tokio::test]
async fn a_new_file_can_be_read_by_its_owner_alone() {
    let bed = Bed::new();
    bed.done("write_file", write("a", "x", "create")).await;
    let mode = std::fs::metadata(bed.path("a")).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600, "{mode:o}");
}

#[tokio::test]
async fn unfinished_writes_of_the_dead_are_taken_away_at_the_next_start() {
    let bed = Bed::new();
    // Another server writes this one: it has its lock before its name, for the first start may still be sweeping.
    bed.put("alive", "half");
    let alive = std::fs::File::open(bed.path("alive")).unwrap();
    alive.lock().unwrap();
    std::fs::rename(bed.path("alive"), bed.path(".waygate-write-alive")).unwrap();
    for path in [".waygate-write-dead", "deep/er/.waygate-write-dead", "deep/kept"] {
        bed.put(path, "half");
    }
    bed.link("deep/kept", ".waygate-write-link");
    let _again = Files::new(options(vec![root("files", &bed.path(""), true)])).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while leftovers(&bed) > 2 || bed.path("deep/er/.waygate-write-dead").exists() {
        assert!(std::time::Instant::now() < until, "nothing was swept");
        std::thread::yield_now();
    }
    assert!(bed.path(".waygate-write-alive").exists() && bed.path("deep/kept").exists());
}

#[tokio::test]
async fn unfinished_writes_are_not_shown() {
    let bed = Bed::new();
    bed.put(".waygate-write-0123", "half");
    let list = bed.done("list_directory", json!({})).await;
    assert_eq!(list["entries"], json!([]));
    bed.fails("write_file", write(".waygate-write-x", "x", "create")).await;
}
