//! Listing: order, pages, globs, what is left out.

use serde_json::{Value, json};

use super::super::Files;
use super::super::testing::{Bed, call, context, options, root};

fn paths(list: &Value) -> Vec<String> {
    let entries = list["entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
}

fn bed() -> Bed {
    let bed = Bed::new();
    for path in ["b.md", "a.txt", "sub/c.md", "sub/deep/d.md", ".hidden", "ignored.log"] {
        bed.put(path, "four");
    }
    bed.put(".gitignore", "*.log\n");
    bed
}

#[tokio::test]
async fn a_folder_is_listed_in_order_with_types_and_sizes() {
    let bed = bed();
    bed.link("a.txt", "link");
    let result = bed.call("list_directory", json!({})).await;
    let list = &result["structuredContent"];
    let all =
        ["files/.gitignore", "files/.hidden", "files/a.txt", "files/b.md", "files/ignored.log", "files/link"];
    assert_eq!(paths(list), [&all[..], &["files/sub"]].concat());
    let a = &list["entries"][2];
    assert_eq!((&a["type"], &a["size_bytes"]), (&json!("file"), &json!(4)));
    assert!(a["modified"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        (&list["entries"][5]["type"], &list["entries"][6]["type"]),
        (&json!("symlink"), &json!("directory"))
    );
    assert!(result["content"][0]["text"].as_str().unwrap().contains("files/sub/\n") || list["total"] == 7);
}

#[tokio::test]
async fn globs_are_for_names_or_with_a_slash_for_paths() {
    let bed = bed();
    let names = bed.done("list_directory", json!({"recursive": true, "glob": "*.md"})).await;
    assert_eq!(paths(&names), ["files/b.md", "files/sub/c.md", "files/sub/deep/d.md"]);
    let direct = bed.done("list_directory", json!({"recursive": true, "glob": "sub/*.md"})).await;
    assert_eq!(paths(&direct), ["files/sub/c.md"]);
    let below = bed.done("list_directory", json!({"path": "sub", "recursive": true, "glob": "deep/*"})).await;
    assert_eq!(paths(&below), ["files/sub/deep/d.md"]);
    let any = bed.done("list_directory", json!({"recursive": true, "glob": "**/{c,d}.md"})).await;
    assert_eq!(any["total"], 2);
    assert!(bed.fails("list_directory", json!({"glob": "a["})).await.contains("the glob cannot be read"));
}

#[tokio::test]
async fn depth_and_rules_are_kept_and_told() {
    let bed = bed();
    let list = bed.done("list_directory", json!({"recursive": true, "depth": 2, "glob": "*.md"})).await;
    assert_eq!(paths(&list), ["files/b.md", "files/sub/c.md"]);
    assert!(list["notes"][0].as_str().unwrap().contains("more than 2 levels"));
    let list = bed.done("list_directory", json!({"respect_gitignore": true})).await;
    assert!(!paths(&list).contains(&"files/ignored.log".to_owned()));
    assert!(list["notes"][0].as_str().unwrap().contains("1 entries left out by .gitignore"));
}

#[tokio::test]
async fn pages_together_are_the_whole() {
    let bed = bed();
    let whole = bed.done("list_directory", json!({"recursive": true})).await;
    let (mut gathered, mut after) = (Vec::new(), None);
    loop {
        let mut arguments = json!({"recursive": true, "limit": 2});
        if let Some(after) = after {
            arguments["after"] = after;
        }
        let page = bed.done("list_directory", arguments).await;
        assert_eq!(page["total"], whole["total"], "of the whole, on each page");
        assert!(paths(&page).len() <= 2);
        gathered.extend(paths(&page));
        match page.get("next_after") {
            Some(next) => after = Some(next.clone()),
            None => break,
        }
    }
    assert_eq!(gathered, paths(&whole));
}

#[tokio::test]
async fn a_huge_folder_is_cut_with_a_note() {
    let bed = Bed::new();
    for number in 0..250 {
        bed.put(&format!("{number:03}"), "");
    }
    let list = bed.done("list_directory", json!({})).await;
    assert_eq!((paths(&list).len(), &list["total"], &list["truncated"]), (100, &json!(250), &json!(true)));
    assert_eq!(list["next_after"], "files/099");
}

#[tokio::test]
async fn several_roots_are_listed_at_the_top_and_walked_below() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(one.path().join("x"), "").unwrap();
    std::fs::write(two.path().join("y"), "").unwrap();
    let files =
        Files::new(options(vec![root("two", two.path(), true), root("one", one.path(), false)])).unwrap();
    for path in ["", ".", "./"] {
        let top = call(&files, "list_directory", json!({"path": path}), context(None)).await;
        assert_eq!(paths(&top["structuredContent"]), ["one", "two"]);
    }
    let all = call(&files, "list_directory", json!({"recursive": true}), context(None)).await;
    assert_eq!(paths(&all["structuredContent"]), ["one", "one/x", "two", "two/y"]);
    let wrong = call(&files, "read_file", json!({"path": "x"}), context(None)).await;
    let says = wrong["content"][0]["text"].as_str().unwrap();
    assert!(says.contains("not the name of a root") && says.contains("two, one"), "{says}");
    let found = call(&files, "search_files", json!({"glob": "y"}), context(None)).await;
    assert_eq!(found["structuredContent"]["files"][0]["path"], "two/y");
}

#[tokio::test]
async fn what_cannot_be_listed_says_what_to_do() {
    let bed = bed();
    assert!(bed.fails("list_directory", json!({"path": "a.txt"})).await.contains("is not a directory"));
    assert!(bed.fails("list_directory", json!({"path": "none"})).await.contains("there is no files/none"));
}
