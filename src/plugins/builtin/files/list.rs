//! `list_directory`: what a directory holds, page by page. Must not know what is in the files.

use cap_std::fs::{Metadata, MetadataExt};
use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::roots::{Place, Roots, Target};
use super::trouble::Trouble;
use super::walk::{Bounds, DEPTH_MAX, Found, Kind, Seen, Step, order, walk};
use crate::plugins::Context;
use crate::protocol::content::ToolResult;

/// One call looks at no more.
pub(super) const ENTRIES_MAX: usize = 100_000;
const GLOB_MAX_BYTES: usize = 256;

/// The arguments of `list_directory`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    #[serde(default)]
    pub(super) path: String,
    #[serde(default)]
    pub(super) recursive: bool,
    pub(super) depth: Option<usize>,
    pub(super) glob: Option<String>,
    #[serde(default)]
    pub(super) respect_gitignore: bool,
    pub(super) limit: Option<usize>,
    pub(super) after: Option<String>,
}

/// What a listing gathers.
struct Listing<'a> {
    limit: usize,
    after: Option<&'a str>,
    entries: Vec<Value>,
    last: Option<String>,
    total: usize,
    has_more: bool,
}

/// Runs the tool.
pub(super) fn run(
    roots: &Roots,
    arguments: &Arguments,
    results_max: usize,
    context: &Context,
) -> Result<ToolResult, Trouble> {
    let pattern = arguments.glob.as_deref().map(Pattern::new).transpose()?;
    let mut listing = Listing {
        limit: arguments.limit.unwrap_or(results_max).clamp(1, results_max.max(1)),
        after: arguments.after.as_deref(),
        entries: Vec::new(),
        last: None,
        total: 0,
        has_more: false,
    };
    let depth = if arguments.recursive { arguments.depth.unwrap_or(DEPTH_MAX) } else { 1 };
    let bounds = Bounds { depth, entries: ENTRIES_MAX, gitignore: arguments.respect_gitignore, ours: false };
    let target = roots.target(&arguments.path)?;
    let mut seen = Seen::default();
    for start in starts(roots, &target) {
        if matches!(target, Target::Everything) {
            let matches = pattern.as_ref().is_none_or(|pattern| pattern.matches(&start.shown()));
            if matches {
                listing.add(&start, Kind::Directory, start.metadata().ok().as_ref(), true);
            }
            // The roots are the first level then.
            if depth < 2 {
                continue;
            }
        }
        let inner =
            Bounds { depth: if matches!(target, Target::Everything) { depth - 1 } else { depth }, ..bounds };
        let met = walk(&start, inner, context, &mut |found| {
            if pattern.as_ref().is_none_or(|pattern| pattern.matches(below(&start, found.path))) {
                listing.meet(&start.root_place(), found);
            }
            Ok(Step::On)
        })?;
        seen.add(&met);
    }
    seen.is_deeper &= depth > 1;
    Ok(listing.render(&arguments.path, &target, &seen, depth))
}

/// Where a search or listing of `target` begins.
pub(super) fn starts(roots: &Roots, target: &Target) -> Vec<Place> {
    match target {
        Target::At(place) => vec![place.clone()],
        Target::Everything => {
            let mut places: Vec<Place> = roots.all().iter().map(Place::root_of).collect();
            places.sort_by_key(Place::shown);
            places
        }
    }
}

/// A path of the root as seen from `start`.
pub(super) fn below<'a>(start: &Place, path: &'a str) -> &'a str {
    path.strip_prefix(start.relative()).unwrap_or(path).trim_start_matches('/')
}

impl Listing<'_> {
    fn meet(&mut self, root: &Place, found: &Found<'_>) {
        let place = root.join(found.path);
        if self.is_of_this_page(&place.shown()) {
            let metadata = found.metadata();
            self.push(&place, found.kind, metadata.as_ref(), found.is_utf8);
        }
    }

    fn add(&mut self, place: &Place, kind: Kind, metadata: Option<&Metadata>, is_utf8: bool) {
        if self.is_of_this_page(&place.shown()) {
            self.push(place, kind, metadata, is_utf8);
        }
    }

    /// Counts it, and tells whether it belongs on this page.
    fn is_of_this_page(&mut self, shown: &str) -> bool {
        self.total += 1;
        if self.after.is_some_and(|after| order(shown, after).is_le()) {
            return false;
        }
        self.has_more |= self.entries.len() >= self.limit;
        !self.has_more
    }

    fn push(&mut self, place: &Place, kind: Kind, metadata: Option<&Metadata>, is_utf8: bool) {
        self.last = Some(place.shown());
        self.entries.push(describe(place, kind, metadata, is_utf8));
    }

    fn render(self, path: &str, target: &Target, seen: &Seen, depth: usize) -> ToolResult {
        let shown = match target {
            Target::At(place) => place.shown(),
            Target::Everything => String::new(),
        };
        let notes = self.notes(seen, depth);
        let mut lines: Vec<String> = self.entries.iter().map(line).collect();
        if lines.is_empty() {
            let of = if shown.is_empty() { path } else { &shown };
            lines.push(format!("{of} holds nothing that matches"));
        }
        lines.extend(notes.iter().map(|note| format!("[{note}]")));
        let mut structured = Map::new();
        structured.insert("path".to_owned(), json!(shown));
        structured.insert("entries".to_owned(), Value::Array(self.entries));
        structured.insert("total".to_owned(), json!(self.total));
        structured.insert("truncated".to_owned(), json!(self.has_more || seen.is_cut));
        if let (true, Some(last)) = (self.has_more, self.last) {
            structured.insert("next_after".to_owned(), json!(last));
        }
        structured.insert("notes".to_owned(), json!(notes));
        ToolResult::text(lines.join("\n")).with_structured(Value::Object(structured))
    }

    fn notes(&self, seen: &Seen, depth: usize) -> Vec<String> {
        let mut notes = seen.notes(depth);
        if let (true, Some(last)) = (self.has_more, &self.last) {
            let shown = self.entries.len();
            notes.push(format!("{shown} of {} entries shown; go on with after {last:?}", self.total));
        }
        notes
    }
}

impl Seen {
    /// Joins what another walk met.
    pub(super) fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.ignored += other.ignored;
        self.unreadable += other.unreadable;
        self.is_cut |= other.is_cut;
        self.is_deeper |= other.is_deeper;
    }

    /// What a reader of the result should know about the walk.
    pub(super) fn notes(&self, depth: usize) -> Vec<String> {
        let mut notes = Vec::new();
        if self.is_cut {
            notes
                .push(format!("only the first {ENTRIES_MAX} entries were looked at; choose a deeper folder"));
        }
        if self.is_deeper {
            notes.push(format!("folders more than {} levels down were not opened", depth.min(DEPTH_MAX)));
        }
        if self.ignored > 0 {
            notes.push(format!("{} entries left out by .gitignore", self.ignored));
        }
        if self.unreadable > 0 {
            notes.push(format!("{} folders could not be opened", self.unreadable));
        }
        notes
    }
}

/// A glob on names or on paths.
#[derive(Debug)]
pub(super) struct Pattern {
    matcher: GlobMatcher,
    on_path: bool,
}

impl Pattern {
    /// With a `/` it is for paths below the start, else for names.
    pub(super) fn new(glob: &str) -> Result<Self, Trouble> {
        if glob.len() > GLOB_MAX_BYTES {
            return Err(Trouble::BadArgument(format!("the glob is longer than {GLOB_MAX_BYTES} bytes")));
        }
        let built = GlobBuilder::new(glob.trim_start_matches("./")).literal_separator(true).build();
        let matcher = built.map_err(|error| {
            Trouble::BadArgument(format!("the glob cannot be read: {}; write it like *.md", error.kind()))
        })?;
        Ok(Self { matcher: matcher.compile_matcher(), on_path: glob.contains('/') })
    }

    /// Whether it matches a path, given relative to the start.
    pub(super) fn matches(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.matcher.is_match(if self.on_path { path } else { name })
    }
}

/// One entry of a listing.
pub(super) fn describe(place: &Place, kind: Kind, metadata: Option<&Metadata>, is_utf8: bool) -> Value {
    let mut entry = Map::new();
    entry.insert("path".to_owned(), json!(place.shown()));
    entry.insert("type".to_owned(), json!(kind.word()));
    if let Some(metadata) = metadata {
        if kind == Kind::File {
            entry.insert("size_bytes".to_owned(), json!(metadata.len()));
        }
        let modified = jiff::Timestamp::from_second(metadata.mtime());
        entry.extend(modified.ok().map(|at| ("modified".to_owned(), json!(at.to_string()))));
    }
    if !is_utf8 {
        entry.insert("unusable".to_owned(), json!("its name is not UTF-8, so that no path can mean it"));
    }
    Value::Object(entry)
}

fn line(entry: &Value) -> String {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
    let end = match text("type") {
        "directory" => "/".to_owned(),
        "symlink" => " (symbolic link)".to_owned(),
        "other" => " (pipe, socket or device)".to_owned(),
        _ => match entry.get("size_bytes") {
            Some(size) => format!("  {size} bytes  {}", text("modified")),
            None => String::new(),
        },
    };
    format!("{}{end}", text("path"))
}
