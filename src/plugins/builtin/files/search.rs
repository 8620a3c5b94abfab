//! `search_files`: files by their names, lines by what they say. Must not know how the tree is walked.

use cap_std::fs::File;
use grep_matcher::{LineTerminator, Matcher};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{
    BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkContextKind, SinkMatch,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::list::{ENTRIES_MAX, Pattern, below, describe, starts};
use super::read::Wanted;
use super::roots::{Place, Roots};
use super::trouble::Trouble;
use super::walk::{Bounds, DEPTH_MAX, Found, Kind, Seen, Step, walk};
use crate::plugins::Context;
use crate::protocol::content::ToolResult;

const PATTERN_MAX_BYTES: usize = 1000;
const REGEX_MAX_BYTES: usize = 1 << 20;
const REGEX_NEST_MAX: u32 = 50;
/// A line that is longer makes its file unsearchable.
const LINE_MAX_BYTES: usize = 8 << 20;
/// Of a longer line, this much around the match is shown.
const EXCERPT_CHARS: usize = 400;
const EXCERPT_BEFORE_CHARS: usize = 100;
const CONTEXT_LINES_MAX: usize = 10;
const PROGRESS_EVERY: u64 = 50;

/// The arguments of `search_files`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    #[serde(default)]
    pub(super) path: String,
    pub(super) glob: Option<String>,
    pub(super) pattern: Option<String>,
    #[serde(default)]
    pub(super) literal: bool,
    #[serde(default)]
    pub(super) ignore_case: bool,
    #[serde(default)]
    pub(super) context_lines: usize,
    pub(super) respect_gitignore: Option<bool>,
    pub(super) limit: Option<usize>,
}

/// What one answer may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) results_max: usize,
    pub(super) text_max_bytes: u64,
}

/// Runs the tool.
pub(super) fn run(
    roots: &Roots,
    arguments: &Arguments,
    limits: Limits,
    context: &Context,
) -> Result<ToolResult, Trouble> {
    if arguments.glob.is_none() && arguments.pattern.is_none() {
        let says = "give a glob for the files' names, a pattern for what their lines say, or both";
        return Err(Trouble::BadArgument(says.to_owned()));
    }
    let glob = arguments.glob.as_deref().map(Pattern::new).transpose()?;
    let content = match &arguments.pattern {
        Some(pattern) => Some((matcher(pattern, arguments)?, searcher(arguments.context_lines))),
        None => None,
    };
    let limit = arguments.limit.unwrap_or(limits.results_max).clamp(1, limits.results_max.max(1));
    let room = usize::try_from(limits.text_max_bytes).unwrap_or(usize::MAX);
    let mut search = Search { context, glob, content, tally: Tally::new(limit, room) };
    let bounds = Bounds {
        depth: DEPTH_MAX,
        entries: ENTRIES_MAX,
        gitignore: arguments.respect_gitignore.unwrap_or(true),
        ours: false,
    };
    let mut seen = Seen::default();
    for start in starts(roots, &roots.target(&arguments.path)?) {
        let root = start.root_place();
        let met = walk(&start, bounds, context, &mut |found| search.meet(&start, &root, found))?;
        seen.add(&met);
        if search.tally.has_more {
            break;
        }
    }
    Ok(search.tally.render(arguments.pattern.is_some(), &seen))
}

fn matcher(pattern: &str, arguments: &Arguments) -> Result<RegexMatcher, Trouble> {
    if pattern.len() > PATTERN_MAX_BYTES {
        return Err(Trouble::BadArgument(format!("the pattern is longer than {PATTERN_MAX_BYTES} bytes")));
    }
    let mut builder = RegexMatcherBuilder::new();
    builder
        .case_insensitive(arguments.ignore_case)
        .fixed_strings(arguments.literal)
        .multi_line(true)
        .crlf(true)
        .size_limit(REGEX_MAX_BYTES)
        .dfa_size_limit(REGEX_MAX_BYTES)
        .nest_limit(REGEX_NEST_MAX);
    builder.build(pattern).map_err(|error| {
        // The lines above it draw the place, which nobody can see in JSON.
        let error = error.to_string();
        let error = error.lines().last().unwrap_or_default();
        let says = format!(
            "the pattern cannot be used: {error}; write a regular expression of Rust's regex crate that matches \
             within one line, or set literal to true"
        );
        Trouble::BadArgument(says)
    })
}

fn searcher(context_lines: usize) -> Searcher {
    let lines = context_lines.min(CONTEXT_LINES_MAX);
    SearcherBuilder::new()
        .line_terminator(LineTerminator::crlf())
        .line_number(true)
        .before_context(lines)
        .after_context(lines)
        .heap_limit(Some(LINE_MAX_BYTES))
        .binary_detection(BinaryDetection::quit(0))
        .build()
}

struct Search<'a> {
    context: &'a Context,
    glob: Option<Pattern>,
    content: Option<(RegexMatcher, Searcher)>,
    tally: Tally,
}

impl Search<'_> {
    fn meet(&mut self, start: &Place, root: &Place, found: &Found<'_>) -> Result<Step, Trouble> {
        if self.glob.as_ref().is_some_and(|glob| !glob.matches(below(start, found.path))) {
            return Ok(Step::On);
        }
        let place = root.join(found.path);
        match &mut self.content {
            None => self.tally.add_file(&place, found),
            Some((matcher, searcher)) if found.kind == Kind::File => match found.open() {
                Some(file) => self.tally.search(&place, file, matcher, searcher, self.context)?,
                None => self.tally.skipped += 1,
            },
            Some(_) => return Ok(Step::On),
        }
        self.tally.files += 1;
        if self.tally.files.is_multiple_of(PROGRESS_EVERY) {
            let says = format!("{} files searched", self.tally.files);
            #[expect(clippy::cast_precision_loss, reason = "no tree has 2^53 files")]
            self.context.progress(self.tally.files as f64, None, Some(&says));
        }
        Ok(if self.tally.has_more { Step::Stop } else { Step::On })
    }
}

/// What was found so far.
struct Tally {
    limit: usize,
    /// Bytes of text that may still be gathered.
    room: usize,
    files: u64,
    binary: u64,
    skipped: u64,
    has_more: bool,
    matches: Vec<Hit>,
    found: Vec<Value>,
}

/// One matching line.
#[derive(Debug)]
struct Hit {
    path: String,
    line: u64,
    column: usize,
    text: String,
    before: Vec<String>,
    after: Vec<String>,
}

impl Tally {
    fn new(limit: usize, room: usize) -> Self {
        let (matches, found) = (Vec::new(), Vec::new());
        Self { limit, room, files: 0, binary: 0, skipped: 0, has_more: false, matches, found }
    }

    fn add_file(&mut self, place: &Place, found: &Found<'_>) {
        if self.found.len() >= self.limit {
            self.has_more = true;
        } else {
            let metadata = found.metadata();
            self.found.push(describe(place, found.kind, metadata.as_ref(), found.is_utf8));
        }
    }

    fn search(
        &mut self,
        place: &Place,
        file: File,
        matcher: &RegexMatcher,
        searcher: &mut Searcher,
        context: &Context,
    ) -> Result<(), Trouble> {
        let (first, room) = (self.matches.len(), self.room);
        let mut lines =
            Lines { tally: self, matcher, path: place.shown(), before: Vec::new(), is_binary: false };
        let searched = searcher.search_reader(matcher, Wanted { inner: file, context }, &mut lines);
        let is_binary = lines.is_binary;
        if !context.is_wanted() {
            return Err(Trouble::GivenUp);
        }
        if is_binary || searched.is_err() {
            // What stood before the first zero byte is not text either.
            self.matches.truncate(first);
            self.room = room;
            self.binary += u64::from(is_binary);
            self.skipped += u64::from(!is_binary);
        }
        Ok(())
    }

    fn notes(&self, seen: &Seen) -> Vec<String> {
        let mut notes = seen.notes(DEPTH_MAX);
        if self.has_more {
            notes.push("there is more; narrow the path, the glob or the pattern, or raise limit".to_owned());
        }
        if self.binary > 0 {
            notes.push(format!("{} binary files passed over", self.binary));
        }
        if self.skipped > 0 {
            notes.push(format!("{} files could not be searched", self.skipped));
        }
        notes
    }

    fn render(self, by_content: bool, seen: &Seen) -> ToolResult {
        let notes = self.notes(seen);
        let mut lines: Vec<String> = if by_content {
            self.matches.iter().flat_map(Hit::lines).collect()
        } else {
            self.found.iter().filter_map(|entry| entry.get("path")?.as_str().map(str::to_owned)).collect()
        };
        if lines.is_empty() {
            lines.push(format!("nothing found in {} files", self.files));
        }
        lines.extend(notes.iter().map(|note| format!("[{note}]")));
        let mut structured = Map::new();
        if by_content {
            let matches = self.matches.iter().map(Hit::value).collect();
            structured.insert("matches".to_owned(), Value::Array(matches));
        } else {
            structured.insert("files".to_owned(), Value::Array(self.found));
        }
        structured.insert("files_searched".to_owned(), json!(self.files));
        structured.insert("truncated".to_owned(), json!(self.has_more || seen.is_cut));
        structured.insert("notes".to_owned(), json!(notes));
        ToolResult::text(lines.join("\n")).with_structured(Value::Object(structured))
    }
}

impl Hit {
    /// As ripgrep shows it: `:` after the path for a match, `-` for the lines around it.
    fn lines(&self) -> Vec<String> {
        let around = |first: u64, lines: &[String]| -> Vec<String> {
            (first..).zip(lines).map(|(number, line)| format!("{}-{number}-{line}", self.path)).collect()
        };
        let mut lines = around(self.line.saturating_sub(self.before.len() as u64), &self.before);
        lines.push(format!("{}:{}:{}", self.path, self.line, self.text));
        lines.extend(around(self.line + 1, &self.after));
        lines
    }

    fn value(&self) -> Value {
        let mut value = Map::new();
        value.insert("path".to_owned(), json!(self.path));
        value.insert("line".to_owned(), json!(self.line));
        value.insert("column".to_owned(), json!(self.column));
        value.insert("text".to_owned(), json!(self.text));
        for (key, lines) in [("before", &self.before), ("after", &self.after)] {
            if !lines.is_empty() {
                value.insert(key.to_owned(), json!(lines));
            }
        }
        Value::Object(value)
    }
}

/// Gathers the lines of one file.
struct Lines<'a> {
    tally: &'a mut Tally,
    matcher: &'a RegexMatcher,
    path: String,
    before: Vec<String>,
    is_binary: bool,
}

impl Lines<'_> {
    /// Takes room for a line; where there is none, the search ends.
    fn make_room(&mut self, line: &str) -> bool {
        match self.tally.room.checked_sub(line.len()) {
            Some(room) => self.tally.room = room,
            None => self.tally.has_more = true,
        }
        !self.tally.has_more
    }
}

impl Sink for Lines<'_> {
    type Error = std::io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, Self::Error> {
        let start = self.matcher.find(found.bytes()).ok().flatten().map_or(0, |found| found.start());
        let (text, column) = excerpt(found.bytes(), start);
        if self.tally.matches.len() >= self.tally.limit || !self.make_room(&text) {
            self.tally.has_more = true;
            return Ok(false);
        }
        let (path, line) = (self.path.clone(), found.line_number().unwrap_or_default());
        let before = std::mem::take(&mut self.before);
        self.tally.matches.push(Hit { path, line, column, text, before, after: Vec::new() });
        Ok(true)
    }

    fn context(&mut self, _: &Searcher, found: &SinkContext<'_>) -> Result<bool, Self::Error> {
        let (text, _) = excerpt(found.bytes(), 0);
        if !self.make_room(&text) {
            return Ok(false);
        }
        match (found.kind(), self.tally.matches.last_mut()) {
            (SinkContextKind::After, Some(hit)) => hit.after.push(text),
            _ => self.before.push(text),
        }
        Ok(true)
    }

    fn context_break(&mut self, _: &Searcher) -> Result<bool, Self::Error> {
        self.before.clear();
        Ok(true)
    }

    fn binary_data(&mut self, _: &Searcher, _: u64) -> Result<bool, Self::Error> {
        self.is_binary = true;
        Ok(false)
    }
}

/// A line without its end, cut to what is near the byte `start`; and the column of that byte, counted in characters
/// from 1.
fn excerpt(line: &[u8], start: usize) -> (String, usize) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let column = String::from_utf8_lossy(line.get(..start).unwrap_or(line)).chars().count();
    let line = String::from_utf8_lossy(line);
    let skip = if column > EXCERPT_CHARS - EXCERPT_BEFORE_CHARS { column - EXCERPT_BEFORE_CHARS } else { 0 };
    let mut shown: String = line.chars().skip(skip).take(EXCERPT_CHARS).collect();
    if skip > 0 {
        shown.insert(0, '…');
    }
    if line.chars().count() > skip + EXCERPT_CHARS {
        shown.push('…');
    }
    (shown, column + 1)
}
