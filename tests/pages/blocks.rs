//! The fenced blocks of a page, and whether what a command writes is what the page shows.
//!
//! The block right after a command shows what is written, `…` standing for what varies. JSON is compared without its
//! white space, other texts without its amount.

use std::fs;
use std::path::{Path, PathBuf};

/// One fenced block.
#[derive(Debug, Clone)]
pub struct Block {
    /// What stands after the opening fence.
    pub kind: String,
    pub text: String,
    /// The line of its fence.
    pub line: usize,
}

impl Block {
    pub fn is_command(&self) -> bool {
        self.kind == "sh" || self.kind.starts_with("sh ")
    }
}

pub fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

pub fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap()
}

pub fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(kind), None) => {
                open = Some(Block { kind: kind.to_owned(), text: String::new(), line: number + 1 })
            }
            (Some(_), Some(block)) => found.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "the last block is not closed");
    found
}

/// What is shown of the command at `at`: the block right after it, if that is no command itself.
pub fn shown(blocks: &[Block], at: usize) -> Option<&Block> {
    blocks.get(at + 1).filter(|next| !next.is_command())
}

/// Takes out what does not matter: white space outside of strings in JSON, its amount elsewhere.
fn normal(text: &str, is_json: bool) -> String {
    if !is_json {
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        return text.lines().map(line).collect::<Vec<_>>().join("\n").trim().to_owned();
    }
    let (mut plain, mut quoted, mut escaped) = (String::new(), false, false);
    for char in text.chars() {
        if quoted || !char.is_whitespace() {
            plain.push(char);
        }
        quoted ^= char == '"' && !escaped;
        escaped = quoted && char == '\\' && !escaped;
    }
    plain
}

/// Whether `seen` is what is `shown`, where `…` stands for anything.
fn matches(shown: &str, seen: &str) -> bool {
    let mut pieces = shown.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| seen.strip_prefix(first)) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// What is shown and what was seen, as far as it matters.
fn both(shown: &Block, seen: &str) -> (String, String) {
    let is_json = shown.kind == "json";
    (normal(&shown.text, is_json), normal(seen, is_json))
}

pub fn agrees(shown: &Block, seen: &str) -> bool {
    let (wanted, found) = both(shown, seen);
    matches(&wanted, &found)
}

pub fn compare(page: &str, command: &Block, shown: &Block, seen: &str) {
    let (wanted, found) = both(shown, seen);
    assert!(
        matches(&wanted, &found),
        "{page}:{} shows what its command does not write.\n--- shown\n{wanted}\n--- written\n{found}\n",
        command.line
    );
}

#[test]
fn what_varies_is_passed_over_and_nothing_else() {
    for (shown, seen, same) in [
        ("{\"a\": …, \"b\": 1}", "{\"a\":12,\"b\":1}\n", true),
        ("{\"a\": …, \"b\": 1}", "{\"a\":12,\"b\":2}", false),
        ("{\"a\": \"x y\"}", "{\"a\":\"xy\"}", false),
        ("{\"a\": \"\\\" …\"}", "{\"a\":\"\\\" x\"}", true),
        ("{}", "{}{}", false),
    ] {
        assert_eq!(matches(&normal(shown, true), &normal(seen, true)), same, "{shown} and {seen}");
    }
    assert!(matches(&normal("a  …\nb\n", false), &normal("a 1\n b", false)));
}
