//! Holds the shape of the house: which room may use which, how long files and functions may be, what each file says.
//!
//! It reads the sources as text; what the compiler and clippy can hold is not held here.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 500;

/// Who may use whom. A room that is not here does not belong into the house.
const ARROWS: &[(&str, &[&str])] = &[
    // The binary is the smallest embedder: it names its plugins and hands over.
    ("main", &["app", "cli"]),
    ("cli", &["app", "stdio", "loadtest", "backup", "config", "storage", "error", "telemetry"]),
    (
        "app",
        &[
            "http",
            "actors",
            "access",
            "catalog",
            "plugins",
            "protocol",
            "storage",
            "backup",
            "cache",
            "replicas",
            "config",
            "telemetry",
            "error",
        ],
    ),
    // Of `plugins`, its words for requests and notices; never a plugin.
    ("http", &["actors", "access", "catalog", "protocol", "config", "telemetry", "error"]),
    (
        "actors",
        &[
            "access",
            "backup",
            "catalog",
            "plugins",
            "protocol",
            "storage",
            "cache",
            "replicas",
            "config",
            "telemetry",
            "error",
        ],
    ),
    ("stdio", &["protocol", "telemetry", "error"]),
    // A client as any other: of the house it knows the door alone.
    ("loadtest", &["config", "telemetry", "error"]),
    // Of `access`, the limits that tools and bundles have.
    ("catalog", &["access", "plugins", "protocol", "config", "telemetry", "error"]),
    ("plugins", &["protocol", "config", "telemetry", "error"]),
    ("access", &["protocol", "config", "telemetry", "error"]),
    ("storage", &["protocol", "config", "telemetry", "error"]),
    ("backup", &["storage", "config", "telemetry", "error"]),
    // Of `replicas`, the way to Redis.
    ("cache", &["replicas", "protocol", "config", "telemetry", "error"]),
    // Of `access`, the limits that are counted.
    ("replicas", &["access", "config", "telemetry", "error"]),
    ("protocol", &["config", "telemetry", "error"]),
    ("telemetry", &["config", "error"]),
    ("config", &["error"]),
    ("error", &[]),
];

/// Words that only these rooms may say.
const WORDS: &[(&str, &[&str])] = &[
    ("actix_web", &["http", "app"]),
    ("diesel", &["storage"]),
    ("r2d2", &["storage"]),
    ("actix", &["actors", "app", "http", "cli"]),
];

/// What `protocol` must not say: it does no I/O and has no clock.
const NOT_IN_PROTOCOL: &[&str] = &["tokio", "std::fs", "std::net", "std::time", "std::env"];

/// One source file, taken apart.
struct Source {
    /// From the package's folder, with `/`.
    path: String,
    /// As it is.
    text: String,
    /// With comments, the contents of literals and test items blanked; the lines are still the same.
    code: String,
    /// Lines that belong to `#[cfg(test)]` items.
    test_lines: usize,
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let (code, test_lines) = without_tests(&without_literals(&text));
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        Self { path, text, code, test_lines }
    }

    /// The top-level room of a file below `src`.
    fn room(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap();
        below.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// How many `super` lead from this file's module to the crate's root.
    fn depth(&self) -> usize {
        let below = self.path.strip_prefix("src/").unwrap();
        let names = below.trim_end_matches(".rs").trim_end_matches("/mod").split('/').count();
        if matches!(below, "lib.rs" | "main.rs") { 0 } else { names }
    }
}

/// All Rust files below `folder`, but for modules that exist in tests only.
fn sources(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut paths);
    // `tests.rs`, `testing.rs` and all in `src/**/tests/` are declared under `#[cfg(test)]`.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    paths.retain(|path| {
        let below = path.strip_prefix(&root).unwrap();
        !below.iter().any(|part| ["tests", "tests.rs", "testing.rs"].iter().any(|name| part == *name))
    });
    paths.sort();
    paths.iter().map(|path| Source::read(path)).collect()
}

/// Blanks comments and what stands in string and character literals.
fn without_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match literal_end(bytes, at) {
            Some(end) => end,
            None => {
                at += 1;
                continue;
            }
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(code).unwrap()
}

/// Where the comment or literal that begins at `at` ends; none when there begins none.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let after = |offset: usize, end: &[u8]| {
        let found = bytes[at + offset..].windows(end.len()).position(|window| window == end);
        found.map_or(bytes.len(), |position| at + offset + position + end.len())
    };
    let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return Some(
            rest.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |position| at + position),
        );
    }
    if rest.starts_with(b"/*") {
        return Some(after(2, b"*/"));
    }
    let prefix =
        if in_word { 0 } else { rest.iter().take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count() };
    let hashes = rest[prefix..].iter().take_while(|&&byte| byte == b'#').count();
    let raw = rest[..prefix].contains(&b'r');
    if raw && rest.get(prefix + hashes) == Some(&b'"') {
        let end = [&b"\""[..], &b"#".repeat(hashes)].concat();
        return Some(after(prefix + hashes + 1, &end));
    }
    match rest {
        [b'"', ..] => {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            Some((end + 1).min(bytes.len()))
        }
        [b'\'', b'\\', ..] => Some(after(3, b"'")),
        // A character, not a lifetime; it may be several bytes long.
        [b'\'', rest @ ..] => {
            let length = 1 + rest.iter().skip(1).take_while(|byte| **byte & 0xC0 == 0x80).count();
            (rest.get(length) == Some(&b'\'')).then_some(at + length + 2)
        }
        _ => None,
    }
}

/// Blanks every item under `#[cfg(test)]` in code without literals, and counts its lines.
fn without_tests(code: &str) -> (String, usize) {
    let mut code = code.to_owned();
    let mut lines = 0;
    while let Some(start) = code.find("#[cfg(test)]") {
        let end = item_end(&code, start);
        lines += code[start..end].lines().count();
        let blank: String = code[start..end].chars().filter(|&letter| letter == '\n').collect();
        code.replace_range(start..end, &blank);
    }
    (code, lines)
}

/// The end of the item that begins at `start`: its closing brace, or its semicolon when it has no body.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    let mut brackets = 0_usize;
    for (offset, letter) in code[start..].char_indices() {
        match letter {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            '{' => depth += 1,
            '}' if depth == 1 => return start + offset + 1,
            '}' => depth = depth.saturating_sub(1),
            ';' if depth == 0 && brackets == 0 => return start + offset + 1,
            _ => {}
        }
    }
    code.len()
}

/// Places of `word` in `code` where it is a whole word.
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        !part(code[..at].chars().next_back()) && !part(code[at + word.len()..].chars().next())
    })
}

/// The rooms that `code`, `depth` modules below the root, names: by `crate::`, or by climbing to the root.
fn rooms_used(code: &str, depth: usize) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for root in ["crate", "waygate_mcp"] {
        rooms.extend(
            places(code, root).filter_map(|at| code[at + root.len()..].strip_prefix("::")).flat_map(names),
        );
    }
    let climb = "super::".repeat(depth);
    if depth > 0 {
        let climbs = code.match_indices(&climb).filter(|(at, _)| !code[..*at].ends_with("super::"));
        rooms.extend(climbs.flat_map(|(at, _)| names(&code[at + climb.len()..])));
    }
    rooms
}

/// The first names of a path or of each path in a `{group}`.
fn names(path: &str) -> Vec<String> {
    let name = |path: &str| -> String {
        path.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut depth = 0_usize;
    let mut found = Vec::new();
    let mut start = 0;
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            ',' if depth == 0 => {
                found.push(name(&group[start..at]));
                start = at + 1;
            }
            '}' if depth == 0 => {
                found.push(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// The name, the line and the length in lines of each function with a body.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for at in places(code, "fn") {
        let named = names(code[at + 2..].trim_start()).concat();
        let body = &code[at..item_end(code, at)];
        if !named.is_empty() && body.ends_with('}') {
            found.push((named, code[..at].matches('\n').count() + 1, body.lines().count()));
        }
    }
    found
}

fn assert_none(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule}\n  {}", faults.join("\n  "));
}

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let mut faults = Vec::new();
    let all = sources("src");
    assert!(all.len() > 10, "the sources were not found");
    for source in all.iter().filter(|source| source.room() != "lib") {
        let Some((room, below)) = ARROWS.iter().find(|(room, _)| *room == source.room()) else {
            faults.push(format!("{}: the room `{}` is not in the table", source.path, source.room()));
            continue;
        };
        for used in rooms_used(&source.code, source.depth()) {
            let is_room = ARROWS.iter().any(|(name, _)| *name == used);
            if is_room && used != *room && !below.contains(&used.as_str()) {
                faults.push(format!("{}: `{room}` must not use `{used}`", source.path));
            }
        }
    }
    assert_none(&faults, "Arrows point one way; see ARROWS and the map in src/lib.rs.");
}

#[test]
fn each_room_keeps_its_trade_to_itself() {
    let mut faults = Vec::new();
    for source in sources("src") {
        let mut forbid = |word: &str| {
            if places(&source.code, word).next().is_some() {
                faults.push(format!("{}: `{}` must not say `{word}`", source.path, source.room()));
            }
        };
        WORDS.iter().filter(|(_, rooms)| !rooms.contains(&source.room())).for_each(|(word, _)| forbid(word));
        if source.room() == "protocol" {
            NOT_IN_PROTOCOL.iter().for_each(|word| forbid(word));
        }
    }
    assert_none(&faults, "A crate or module is used in a room that must not know it.");
}

#[test]
fn functions_and_files_fit_on_a_screen_or_a_few() {
    let mut faults = Vec::new();
    for source in sources("src").iter().chain(&sources("examples")).filter(|source| !is_generated(source)) {
        let lines = source.text.lines().count() - source.test_lines;
        if lines > FILE_LINES_MAX {
            faults.push(format!("{}: {lines} lines without its tests", source.path));
        }
        for (name, line, lines) in functions(&source.code) {
            if lines > FUNCTION_LINES_MAX {
                faults.push(format!("{}:{line}: `{name}` has {lines} lines", source.path));
            }
        }
    }
    assert_none(&faults, "Functions are at most 70 lines long, files 500.");
}

#[test]
fn each_file_says_first_what_it_is_for() {
    let mut faults = Vec::new();
    for folder in ["src", "examples", "tests", "benches", "fuzz"] {
        if Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).exists() {
            let silent = |source: &Source| !source.text.starts_with("//! ") && !is_generated(source);
            faults.extend(sources(folder).into_iter().filter(silent).map(|source| source.path));
        }
    }
    assert_none(&faults, "Each file opens with one `//!` sentence.");
}

/// Whether a tool wrote it, and says so in the first line.
fn is_generated(source: &Source) -> bool {
    source.text.lines().next().is_some_and(|line| line.contains("@generated"))
}

#[test]
fn nothing_panics_on_purpose_outside_tests() {
    let panics = |source: &Source| {
        let of_tests = source.path.contains("/tests/") || source.path.ends_with("/testing.rs");
        // Where it cannot fail, the place says so to clippy, with its reason.
        let reasoned = source.code.contains("#[expect(clippy::expect_used, reason");
        let panics = [".unwrap()", ".expect("].iter().any(|call| source.code.contains(call));
        (panics && !of_tests && !reasoned).then(|| source.path.clone())
    };
    let faults: Vec<String> = sources("src").iter().chain(&sources("examples")).filter_map(panics).collect();
    assert_none(&faults, "`unwrap()` and `expect()` belong into tests.");
}

#[test]
fn each_mailbox_is_a_file_that_opens_with_a_table() {
    let mut faults = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/actors")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        // What works beside the actors has no mailbox.
        let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
        let is_actor =
            |file: PathBuf| fs::read_to_string(file).is_ok_and(|text| text.contains("impl Actor for "));
        if !files.into_iter().any(is_actor) {
            continue;
        }
        let mailbox = fs::read_to_string(folder.join("messages.rs")).unwrap_or_default();
        let head: Vec<&str> = mailbox.lines().take_while(|line| line.starts_with("//!")).collect();
        if head.iter().filter(|line| line.starts_with("//! |")).count() < 3 {
            faults.push(folder.display().to_string());
        }
    }
    assert_none(&faults, "Each actor's folder has a messages.rs that opens with a table of its messages.");
}

#[test]
fn who_calls_is_settled_without_a_wait_or_a_question() {
    let mut faults = Vec::new();
    for source in sources("src/access").iter().chain(&sources("src/http")) {
        let waits: &[&str] = match source.path.as_str() {
            path if path.starts_with("src/access/keys/") => &["async", "await", "Mutex", "RwLock", "Condvar"],
            "src/http/caller.rs" => &["async", "await", "ask", "db"],
            _ => &[],
        };
        let said = waits.iter().filter(|word| places(&source.code, word).next().is_some());
        faults.extend(said.map(|word| format!("{} says {word}", source.path)));
    }
    assert_none(
        &faults,
        "A key is looked up in memory: no request waits for the database, or for a lock, to be let in.",
    );
}

/// The reader itself: a reader that overlooks something would let everything above pass.
mod the_reader {
    use super::*;

    fn used(code: &str, depth: usize) -> Vec<String> {
        rooms_used(&without_tests(&without_literals(code)).0, depth).into_iter().collect()
    }

    #[test]
    fn finds_rooms_however_they_are_named() {
        assert_eq!(used("use crate::http::reply;", 2), ["http"]);
        assert_eq!(used("use crate::{\n    actors::{ask, db::Save}, storage,\n};", 2), ["actors", "storage"]);
        assert_eq!(used("fn f() { crate::app::start() }", 2), ["app"]);
        assert_eq!(used("use super::super::http;", 2), ["http"]);
        assert_eq!(used("use super::http;", 1), ["http"]);
        assert_eq!(used("pub(crate) fn f() {} use super::http; use mycrate::http;", 2), [""; 0]);
    }

    #[test]
    fn overlooks_comments_literals_and_tests() {
        let code = r##"
            // use crate::http;
            /* crate::http */ const A: &str = "crate::http \" crate::http";
            const B: &str = r#"crate::http" crate::http"#; const C: char = '"'; const D: char = '\'';
            fn f<'a>(x: &'a str) -> &'a str { x } // 'crate::http
            #[cfg(test)]
            mod tests { use crate::http; fn g() { "}" } }
            use crate::storage;
        "##;
        assert_eq!(used(code, 2), ["storage"]);
    }

    #[test]
    fn counts_lines_of_functions_and_of_tests() {
        let code = "fn short() {}\ntrait T { fn none(&self) -> [u8; 2]; }\nfn long(\n    a: fn(u8),\n) {\n    a(1)\n}\n";
        assert_eq!(functions(code), [("short".to_owned(), 1, 1), ("long".to_owned(), 3, 5)]);
        let (rest, lines) =
            without_tests("a\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod more {\n    x\n}\nb\n");
        assert_eq!((rest.split_whitespace().collect::<Vec<_>>(), lines), (vec!["a", "b"], 6));
    }
}
