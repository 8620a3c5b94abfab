//! Walks a directory tree through its handles, in a stable order and within bounds.
//!
//! Each directory is opened by its name below the handle of the one above, never through a link: what is exchanged
//! while we walk is passed over. Must not know what the visitor looks for.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use cap_std::fs::{Dir, FileType, Metadata};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::OFlags;

use super::roots::{Place, open_dir_at, open_file_at};
use super::trouble::Trouble;
use super::write::is_temporary;
use crate::plugins::Context;

/// Each level holds a handle while it is walked.
pub(super) const DEPTH_MAX: usize = 64;
/// A list of rules that is longer is not read.
const GITIGNORE_MAX_BYTES: u64 = 256 * 1024;
const GITIGNORE: &str = ".gitignore";
const GIT: &str = ".git";

/// How far a walk goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Levels; 1 is the directory alone.
    pub(super) depth: usize,
    /// Entries seen at most.
    pub(super) entries: usize,
    /// Whether what git ignores is left out.
    pub(super) gitignore: bool,
    /// Whether our own temporary files are shown.
    pub(super) ours: bool,
}

/// What a walk met.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Entries looked at.
    pub(super) entries: usize,
    /// Left out because git ignores them.
    pub(super) ignored: usize,
    /// Directories that could not be opened.
    pub(super) unreadable: usize,
    /// Whether the bound on entries was met.
    pub(super) is_cut: bool,
    /// Whether directories lay deeper than the bound.
    pub(super) is_deeper: bool,
}

/// What kind of thing an entry is, by itself and not by what it points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    Other,
}

impl Kind {
    /// The word for it in results.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Other => "other",
        }
    }
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            kind if kind.is_file() => Self::File,
            kind if kind.is_dir() => Self::Directory,
            kind if kind.is_symlink() => Self::Symlink,
            _ => Self::Other,
        }
    }
}

/// What the visitor wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    On,
    Stop,
}

/// One entry, met.
pub(super) struct Found<'a> {
    dir: &'a Dir,
    name: &'a OsString,
    /// Relative to the root; bytes that are not UTF-8 are replaced.
    pub(super) path: &'a str,
    pub(super) kind: Kind,
    /// Whether [`Self::path`] can be used to open it.
    pub(super) is_utf8: bool,
}

impl Found<'_> {
    /// Of the entry itself, not of what it points to.
    pub(super) fn metadata(&self) -> Option<Metadata> {
        self.dir.symlink_metadata(self.name).ok()
    }

    /// Opens it, if it still is a regular file.
    pub(super) fn open(&self) -> Option<cap_std::fs::File> {
        open_file_at(self.dir, Path::new(self.name), OFlags::NOFOLLOW, self.path).ok().map(|(file, _)| file)
    }
}

/// Visits everything below `start` in order, each directory before what it holds.
pub(super) fn walk(
    start: &Place,
    bounds: Bounds,
    context: &Context,
    visit: &mut dyn FnMut(&Found<'_>) -> Result<Step, Trouble>,
) -> Result<Seen, Trouble> {
    let bounds = Bounds { depth: bounds.depth.min(DEPTH_MAX), ..bounds };
    let dir = start.open_dir()?;
    let mut walker = Walker { bounds, context, visit, seen: Seen::default(), rules: Vec::new() };
    if bounds.gitignore {
        walker.rules_above(start);
    }
    let entries = read_entries(&dir, &mut walker.seen, &bounds)
        .map_err(|error| Trouble::of(&error, &start.shown(), "listed"))?;
    walker.descend(&dir, entries, start.relative(), 1)?;
    Ok(walker.seen)
}

struct Walker<'a> {
    bounds: Bounds,
    context: &'a Context,
    visit: &'a mut dyn FnMut(&Found<'_>) -> Result<Step, Trouble>,
    seen: Seen,
    /// From the root downwards: the directory, and what its `.gitignore` says.
    rules: Vec<(String, Gitignore)>,
}

/// An entry before it is visited.
struct Entry {
    name: OsString,
    shown: String,
    kind: Kind,
}

impl Walker<'_> {
    fn descend(&mut self, dir: &Dir, entries: Vec<Entry>, path: &str, depth: usize) -> Result<Step, Trouble> {
        let rules = self.rules.len();
        if self.bounds.gitignore && entries.iter().any(|entry| entry.name == GITIGNORE) {
            self.rules.extend(read_rules(dir).map(|rules| (path.to_owned(), rules)));
        }
        for entry in entries {
            if self.visit_entry(dir, &entry, path, depth)? == Step::Stop {
                return Ok(Step::Stop);
            }
        }
        self.rules.truncate(rules);
        Ok(Step::On)
    }

    fn visit_entry(&mut self, dir: &Dir, entry: &Entry, path: &str, depth: usize) -> Result<Step, Trouble> {
        if !self.context.is_wanted() {
            return Err(Trouble::GivenUp);
        }
        let path = if path.is_empty() { entry.shown.clone() } else { format!("{path}/{}", entry.shown) };
        let is_dir = entry.kind == Kind::Directory;
        if !self.bounds.ours && is_temporary(&entry.shown) {
            return Ok(Step::On);
        }
        if self.bounds.gitignore && (self.is_ignored(&path, is_dir) || (is_dir && entry.name == GIT)) {
            self.seen.ignored += 1;
            return Ok(Step::On);
        }
        let is_utf8 = entry.name.to_str().is_some();
        let found = Found { dir, name: &entry.name, path: &path, kind: entry.kind, is_utf8 };
        if (self.visit)(&found)? == Step::Stop {
            return Ok(Step::Stop);
        }
        if is_dir { self.enter(dir, entry, &path, depth) } else { Ok(Step::On) }
    }

    fn enter(&mut self, dir: &Dir, entry: &Entry, path: &str, depth: usize) -> Result<Step, Trouble> {
        if depth >= self.bounds.depth {
            self.seen.is_deeper = true;
            return Ok(Step::On);
        }
        let opened = open_dir_at(dir, Path::new(&entry.name)).and_then(|inner| {
            let entries = read_entries(&inner, &mut self.seen, &self.bounds)?;
            Ok((inner, entries))
        });
        match opened {
            Ok((inner, entries)) => self.descend(&inner, entries, path, depth + 1),
            Err(_gone_or_closed) => {
                self.seen.unreadable += 1;
                Ok(Step::On)
            }
        }
    }

    /// The rules of the directories between the root and the start.
    fn rules_above(&mut self, start: &Place) {
        let mut above = start.split().map(|(parent, _)| parent);
        while let Some(place) = above {
            let rules = place.open_dir().ok().and_then(|dir| read_rules(&dir));
            self.rules.extend(rules.map(|rules| (place.relative().to_owned(), rules)));
            above = place.split().map(|(parent, _)| parent);
        }
        self.rules.reverse();
    }

    /// The rules of the nearest directory that has a word on it count.
    fn is_ignored(&self, path: &str, is_dir: bool) -> bool {
        for (base, rules) in self.rules.iter().rev() {
            let below = path.strip_prefix(base.as_str()).unwrap_or(path).trim_start_matches('/');
            match rules.matched(below, is_dir) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        false
    }
}

/// The entries of a directory, sorted; as many as the bounds leave.
fn read_entries(dir: &Dir, seen: &mut Seen, bounds: &Bounds) -> std::io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in dir.entries()? {
        if seen.entries >= bounds.entries {
            seen.is_cut = true;
            break;
        }
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type().map_or(Kind::Other, Kind::from);
        entries.push(Entry { shown: name.to_string_lossy().into_owned(), name, kind });
        seen.entries += 1;
    }
    entries.sort_unstable_by(|a, b| a.shown.cmp(&b.shown).then_with(|| a.name.cmp(&b.name)));
    Ok(entries)
}

fn read_rules(dir: &Dir) -> Option<Gitignore> {
    let (file, metadata) = open_file_at(dir, Path::new(GITIGNORE), OFlags::NOFOLLOW, GITIGNORE).ok()?;
    if metadata.len() > GITIGNORE_MAX_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(GITIGNORE_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    let mut builder = GitignoreBuilder::new(".");
    for line in String::from_utf8_lossy(&bytes).lines() {
        // A rule that cannot be read is passed over, as git does.
        let _ = builder.add_line(None, line);
    }
    builder.build().ok()
}

/// The order in which a walk meets two paths.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bed;
    use super::*;

    fn paths(bed: &Bed, bounds: Bounds) -> (Vec<String>, Seen) {
        let mut paths = Vec::new();
        let seen = walk(&bed.place(""), bounds, &bed.context(), &mut |found| {
            paths.push(found.path.to_owned());
            Ok(Step::On)
        });
        (paths, seen.unwrap())
    }

    const WIDE: Bounds = Bounds { depth: DEPTH_MAX, entries: 1000, gitignore: false, ours: false };

    #[test]
    fn each_directory_comes_before_what_it_holds_and_all_in_order() {
        let bed = Bed::new();
        for path in ["b/z", "b/a/x", "b.txt", "a", "b-c/y"] {
            bed.put(path, "");
        }
        let (paths, seen) = paths(&bed, WIDE);
        assert_eq!(paths, ["a", "b", "b/a", "b/a/x", "b/z", "b-c", "b-c/y", "b.txt"]);
        let mut sorted = paths.clone();
        sorted.sort_by(|a, b| order(a, b));
        assert_eq!(paths, sorted, "pages rely on it");
        assert_eq!(seen.entries, 8);
    }

    #[test]
    fn rules_of_deeper_directories_win_and_those_above_the_start_count() {
        let bed = Bed::new();
        bed.put(".gitignore", "*.log\n/build/\n# nothing\n[\n");
        bed.put("deep/.gitignore", "!keep.log\n");
        for path in
            ["a.log", "a.txt", "build/x", "deep/build/x", "deep/keep.log", "deep/b.log", ".git/config"]
        {
            bed.put(path, "");
        }
        let bounds = Bounds { gitignore: true, ..WIDE };
        let (all, seen) = paths(&bed, bounds);
        let left =
            [".gitignore", "a.txt", "deep", "deep/.gitignore", "deep/build", "deep/build/x", "deep/keep.log"];
        assert_eq!(all, left);
        assert_eq!(seen.ignored, 4, "a.log, build, .git, deep/b.log");
        let mut below = Vec::new();
        walk(&bed.place("deep"), bounds, &bed.context(), &mut |found| {
            below.push(found.path.to_owned());
            Ok(Step::On)
        })
        .unwrap();
        assert_eq!(below, ["deep/.gitignore", "deep/build", "deep/build/x", "deep/keep.log"]);
    }

    #[test]
    fn bounds_hold_and_are_told() {
        let bed = Bed::new();
        bed.put(&format!("{}leaf", "d/".repeat(100)), "");
        let (deep, seen) = paths(&bed, WIDE);
        assert_eq!((deep.len(), seen.is_deeper, seen.is_cut), (DEPTH_MAX, true, false));
        let (few, seen) = paths(&bed, Bounds { entries: 10, ..WIDE });
        assert_eq!((few.len(), seen.is_cut), (10, true));
    }

    #[test]
    fn links_are_met_but_never_entered() {
        let bed = Bed::new();
        bed.put("real/x", "");
        bed.link("real", "link");
        bed.link(".", "loop");
        bed.link("/etc", "outside");
        assert_eq!(paths(&bed, WIDE).0, ["link", "loop", "outside", "real", "real/x"]);
    }

    #[test]
    fn a_directory_exchanged_for_a_link_while_we_walk_is_passed_over() {
        let bed = Bed::new();
        bed.put("a", "");
        bed.put("b/inner", "");
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "").unwrap();
        let mut met = Vec::new();
        let seen = walk(&bed.place(""), WIDE, &bed.context(), &mut |found| {
            met.push(found.path.to_owned());
            if found.path == "a" {
                std::fs::rename(bed.path("b"), bed.path("c")).unwrap();
                std::os::unix::fs::symlink(outside.path(), bed.path("b")).unwrap();
            }
            Ok(Step::On)
        });
        assert_eq!(met, ["a", "b"]);
        assert_eq!(seen.unwrap().unreadable, 1);
    }

    #[test]
    fn a_walk_that_nobody_wants_ends() {
        let bed = Bed::new();
        bed.put("a", "");
        let context = bed.context();
        context.cancel().cancel();
        let ended = walk(&bed.place(""), WIDE, &context, &mut |_| panic!("visited"));
        assert!(matches!(ended, Err(Trouble::GivenUp)));
    }
}
