//! Reading: text, binary, parts, caps.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::super::hex;
use super::super::testing::{Bed, READ_MAX};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and so on";

#[tokio::test]
async fn text_comes_back_exactly_as_it_is() {
    let bed = Bed::new();
    let says = "\u{feff}one\r\ntwo\tü \u{1f600}\n\nno end";
    bed.put("a.md", says);
    let result = bed.call("read_file", json!({"path": "files/a.md"})).await;
    assert_eq!(result["content"], json!([{"type": "text", "text": says}]));
    let facts = &result["structuredContent"];
    assert_eq!(facts["text"], says);
    assert_eq!(facts["mime_type"], "text/markdown");
    assert_eq!(facts["size_bytes"], says.len());
    assert_eq!((&facts["lines"], &facts["truncated"]), (&json!(4), &json!(false)));
    assert_eq!(facts["sha256"], hex(&Sha256::digest(says)));
    assert_eq!(facts["uri"], "files://files/a.md");
}

#[tokio::test]
async fn the_only_root_need_not_be_named() {
    let bed = Bed::new();
    bed.put("sub/a.txt", "x");
    for path in ["sub/a.txt", "files/sub/a.txt", "./sub//a.txt", "files/./sub/a.txt"] {
        assert_eq!(bed.done("read_file", json!({"path": path})).await["path"], "files/sub/a.txt", "{path}");
    }
}

#[tokio::test]
async fn an_empty_file_is_text() {
    let bed = Bed::new();
    bed.put("empty", "");
    let facts = bed.done("read_file", json!({"path": "empty"})).await;
    assert_eq!(
        (&facts["text"], &facts["lines"], &facts["encoding"]),
        (&json!(""), &json!(0), &json!("utf-8"))
    );
    bed.done("read_file", json!({"path": "empty", "offset": 1})).await;
}

#[tokio::test]
async fn what_is_not_text_comes_as_base64_and_an_image_as_an_image() {
    let bed = Bed::new();
    bed.put("a.bin", b"\xff\xfe\x00");
    bed.put("nul.txt", b"a\0b");
    bed.put("picture.dat", PNG);
    bed.put("fake.png", "no picture");
    let result = bed.call("read_file", json!({"path": "a.bin"})).await;
    assert_eq!(result["content"][0]["type"], "resource");
    assert_eq!(result["content"][0]["resource"]["blob"], "//4A");
    assert_eq!(result["structuredContent"]["encoding"], "base64");
    let nul = bed.done("read_file", json!({"path": "nul.txt"})).await;
    assert_eq!((&nul["encoding"], &nul["mime_type"]), (&json!("base64"), &json!("application/octet-stream")));
    let forced = bed.done("read_file", json!({"path": "nul.txt", "encoding": "utf-8"})).await;
    assert_eq!(forced["text"], "a\0b");
    let picture = bed.call("read_file", json!({"path": "picture.dat"})).await;
    assert_eq!(picture["content"][0]["type"], "image");
    assert_eq!(picture["content"][0]["mimeType"], "image/png");
    let fake = bed.call("read_file", json!({"path": "fake.png"})).await;
    assert_eq!(fake["content"][0]["type"], "text");
    let says = bed.fails("read_file", json!({"path": "a.bin", "encoding": "utf-8"})).await;
    assert!(says.contains("not UTF-8 text there (the byte 0)"), "{says}");
}

#[tokio::test]
async fn lines_can_be_read_from_the_middle() {
    let bed = Bed::new();
    bed.put("a", "one\ntwo\nthree\nfour");
    let facts = bed.done("read_file", json!({"path": "a", "offset": 2, "limit": 2})).await;
    assert_eq!(facts["text"], "two\nthree\n");
    assert_eq!(
        (&facts["first_line"], &facts["lines"], &facts["byte_offset"]),
        (&json!(2), &json!(2), &json!(4))
    );
    assert_eq!((&facts["truncated"], &facts["next_offset"]), (&json!(true), &json!(4)));
    assert!(facts.get("sha256").is_none(), "only of the whole file");
    let last = bed.done("read_file", json!({"path": "a", "offset": 4})).await;
    assert_eq!((&last["text"], &last["truncated"]), (&json!("four"), &json!(false)));
    let says = bed.fails("read_file", json!({"path": "a", "offset": 5})).await;
    assert!(says.contains("has no line 5: it ends with line 4"), "{says}");
}

#[tokio::test]
async fn a_long_text_is_read_whole_by_following_the_offsets() {
    let bed = Bed::new();
    let lines: String = (0..300).map(|number| format!("line {number} ü\n")).collect();
    bed.put("a.txt", &lines);
    let (mut gathered, mut offset, mut rounds) = (String::new(), 1, 0);
    loop {
        let arguments =
            if offset == 1 { json!({"path": "a.txt"}) } else { json!({"path": "a.txt", "offset": offset}) };
        let result = bed.call("read_file", arguments).await;
        let facts = &result["structuredContent"];
        let text = facts["text"].as_str().unwrap();
        assert!(text.len() as u64 <= READ_MAX && text.ends_with('\n'));
        gathered.push_str(text);
        rounds += 1;
        if facts["truncated"] == false {
            break;
        }
        assert!(result["content"][1]["text"].as_str().unwrap().contains("read on with offset"));
        offset = facts["next_offset"].as_u64().unwrap();
    }
    assert_eq!(gathered, lines);
    assert!(rounds > 2, "{rounds}");
}

#[tokio::test]
async fn one_endless_line_is_read_by_bytes_without_breaking_a_character() {
    let bed = Bed::new();
    let line = "ü€😀".repeat(300);
    bed.put("a.txt", &line);
    let (mut gathered, mut from) = (String::new(), 0);
    loop {
        let facts = bed.done("read_file", json!({"path": "a.txt", "byte_offset": from})).await;
        gathered.push_str(facts["text"].as_str().unwrap());
        match facts["next_byte_offset"].as_u64() {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(gathered, line);
}

#[tokio::test]
async fn bytes_can_be_read_from_the_middle() {
    let bed = Bed::new();
    bed.put("a.bin", (0..=255).collect::<Vec<u8>>());
    let arguments = json!({"path": "a.bin", "byte_offset": 250, "byte_limit": 3});
    let result = bed.call("read_file", arguments).await;
    assert_eq!(result["content"][0]["resource"]["blob"], "+vv8");
    assert_eq!(result["structuredContent"]["next_byte_offset"], 253);
    let end = bed.done("read_file", json!({"path": "a.bin", "byte_offset": 253})).await;
    assert_eq!((&end["bytes"], &end["truncated"]), (&json!(3), &json!(false)));
    let beyond =
        bed.done("read_file", json!({"path": "a.bin", "byte_offset": 999, "encoding": "base64"})).await;
    assert_eq!(beyond["bytes"], 0);
}

#[tokio::test]
async fn a_large_binary_file_is_refused_with_the_way_to_read_it() {
    let bed = Bed::new();
    bed.put("a.bin", vec![0u8; 5000]);
    let says = bed.fails("read_file", json!({"path": "a.bin"})).await;
    assert!(says.contains("files/a.bin is 5000 bytes, more than the 1000") && says.contains("byte_offset"));
    let part = bed.done("read_file", json!({"path": "a.bin", "byte_offset": 4000})).await;
    assert_eq!((&part["bytes"], &part["truncated"]), (&json!(1000), &json!(false)));
}

#[tokio::test]
async fn what_cannot_be_read_says_what_to_do() {
    let bed = Bed::new();
    bed.put("folder/x", "x");
    assert!(bed.fails("read_file", json!({"path": "none"})).await.contains("there is no files/none"));
    assert!(bed.fails("read_file", json!({"path": "folder"})).await.contains("use list_directory"));
    assert!(bed.fails("read_file", json!({"path": "folder/x/y"})).await.contains("is not a directory"));
    let both = json!({"path": "folder/x", "offset": 1, "byte_offset": 1});
    assert!(bed.fails("read_file", both).await.contains("use either"));
}
