//! Searching: names, lines, context, bounds.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::testing::{Bed, call, context};
use crate::plugins::Notice;

fn places(found: &Value) -> Vec<String> {
    let matches = found["matches"].as_array().unwrap();
    matches.iter().map(|hit| format!("{}:{}", hit["path"].as_str().unwrap(), hit["line"])).collect()
}

#[tokio::test]
async fn lines_are_found_with_their_place() {
    let bed = Bed::new();
    bed.put("a.txt", "first\nüü needle here\nlast\n");
    bed.put("sub/b.rs", "no\nNeedle\r\n");
    let result = bed.call("search_files", json!({"pattern": "needle"})).await;
    let found = &result["structuredContent"];
    assert_eq!(places(found), ["files/a.txt:2"]);
    assert_eq!(
        (&found["matches"][0]["column"], &found["matches"][0]["text"]),
        (&json!(4), &json!("üü needle here"))
    );
    assert_eq!(result["content"][0]["text"], "files/a.txt:2:üü needle here");
    let found = bed.done("search_files", json!({"pattern": "^needle$", "ignore_case": true})).await;
    assert_eq!(
        (places(&found), &found["matches"][0]["text"]),
        (vec!["files/sub/b.rs:2".to_owned()], &json!("Needle"))
    );
    let found = bed.done("search_files", json!({"pattern": "needle|Needle", "glob": "*.rs"})).await;
    assert_eq!((places(&found), &found["files_searched"]), (vec!["files/sub/b.rs:2".to_owned()], &json!(1)));
}

#[tokio::test]
async fn a_literal_is_taken_as_it_stands() {
    let bed = Bed::new();
    bed.put("a", "a.b(\naxb(\n");
    let found = bed.done("search_files", json!({"pattern": "a.b(", "literal": true})).await;
    assert_eq!(places(&found), ["files/a:1"]);
}

#[tokio::test]
async fn context_lines_go_with_their_match() {
    let bed = Bed::new();
    bed.put("a", "1\n2\nhit\n4\n5\n6\n7\nhit\n");
    let result = bed.call("search_files", json!({"pattern": "hit", "context_lines": 1})).await;
    let matches = &result["structuredContent"]["matches"];
    assert_eq!((&matches[0]["before"], &matches[0]["after"]), (&json!(["2"]), &json!(["4"])));
    assert_eq!((&matches[1]["before"], matches[1].get("after")), (&json!(["7"]), None));
    let text = "files/a-2-2\nfiles/a:3:hit\nfiles/a-4-4\nfiles/a-7-7\nfiles/a:8:hit";
    assert_eq!(result["content"][0]["text"], text);
}

#[tokio::test]
async fn files_are_found_by_name() {
    let bed = Bed::new();
    bed.put("x/readme.md", "");
    bed.put("readme.txt", "");
    let result = bed.call("search_files", json!({"glob": "readme.*"})).await;
    assert_eq!(result["content"][0]["text"], "files/readme.txt\nfiles/x/readme.md");
    assert_eq!(result["structuredContent"]["files"][0]["type"], "file");
    assert!(bed.fails("search_files", json!({})).await.contains("give a glob"));
}

#[tokio::test]
async fn binary_and_ignored_files_are_passed_over_and_told() {
    let bed = Bed::new();
    bed.put("a.bin", b"needle\n\0needle\n");
    // The zero byte comes long after the first match was found.
    bed.put("late.bin", format!("needle\n{}\0", "x\n".repeat(200_000)));
    bed.put("b.log", "needle");
    bed.put("c.txt", "needle");
    bed.put(".gitignore", "*.log");
    let found = bed.done("search_files", json!({"pattern": "needle"})).await;
    assert_eq!(places(&found), ["files/c.txt:1"]);
    let notes = found["notes"].to_string();
    assert!(notes.contains("2 binary files") && notes.contains("1 entries left out"), "{notes}");
    let all = bed.done("search_files", json!({"pattern": "needle", "respect_gitignore": false})).await;
    assert_eq!(places(&all), ["files/b.log:1", "files/c.txt:1"]);
}

#[tokio::test]
async fn results_are_bounded_in_number_and_in_size() {
    let bed = Bed::new();
    bed.put("a", "hit\n".repeat(50));
    let found = bed.done("search_files", json!({"pattern": "hit", "limit": 3})).await;
    assert_eq!((places(&found).len(), &found["truncated"]), (3, &json!(true)));
    let exact = bed.done("search_files", json!({"pattern": "hit", "limit": 50})).await;
    assert_eq!((places(&exact).len(), &exact["truncated"]), (50, &json!(false)));
    bed.put("a", format!("{}\n", "long hit ".repeat(40)).repeat(20));
    let found = bed.done("search_files", json!({"pattern": "hit"})).await;
    assert!(found.to_string().len() < 3000, "the read cap holds here, too");
    assert_eq!(found["truncated"], true);
}

#[tokio::test]
async fn of_an_endless_line_what_is_near_the_match_is_shown() {
    let bed = Bed::new();
    bed.put("a", format!("{}needle{}", "x".repeat(5000), "y".repeat(5000)));
    let found = bed.done("search_files", json!({"pattern": "needle"})).await;
    let hit = &found["matches"][0];
    let text = hit["text"].as_str().unwrap();
    assert!(text.contains("needle") && text.starts_with('…') && text.ends_with('…') && text.len() < 500);
    assert_eq!(hit["column"], 5001);
}

#[tokio::test]
async fn patterns_that_cannot_be_used_say_why() {
    let bed = Bed::new();
    bed.put("a", "x");
    for (pattern, why) in [("(", "unclosed group"), ("a\\nb", "\\n"), ("(a{1000}){1000}", "size limit")] {
        let says = bed.fails("search_files", json!({"pattern": pattern})).await;
        assert!(says.contains("the pattern cannot be used") && says.contains(why), "{pattern}: {says}");
    }
    let says = bed.fails("search_files", json!({"pattern": "(".repeat(200) + &")".repeat(200)})).await;
    assert!(says.contains("maximum number of nested"), "{says}");
}

#[tokio::test]
async fn progress_is_told_by_files_seen() {
    let bed = Bed::new();
    for number in 0..120 {
        bed.put(&format!("{number}"), "x");
    }
    let (sender, mut notices) = mpsc::channel(10);
    call(&bed.files, "search_files", json!({"pattern": "y"}), context(Some(sender))).await;
    let mut told = Vec::new();
    while let Some(Notice::Progress { progress, .. }) = notices.recv().await {
        told.push(progress);
    }
    assert_eq!(told, [50.0, 100.0]);
}

#[tokio::test]
async fn a_search_that_nobody_wants_ends_in_the_middle_of_a_file() {
    let bed = Bed::new();
    bed.put("a", "x\n".repeat(100_000));
    let context = context(None);
    context.cancel().cancel();
    let result = call(&bed.files, "search_files", json!({"pattern": "y"}), context).await;
    assert!(result["content"][0]["text"].as_str().unwrap().contains("given up"));
}
