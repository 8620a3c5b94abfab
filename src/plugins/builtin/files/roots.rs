//! The granted roots, and the one way from a path or URI to a place below one of them.
//!
//! Everything is opened through a root's directory handle: the kernel resolves each path beneath it, so that neither
//! `..`, an absolute path, a symbolic link nor a rename in the middle leads out. Must not know tools.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, Metadata, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;

use super::trouble::{Trouble, shortened};
use super::usage::Usage;
use super::walk::DEPTH_MAX;
use super::{FilesError, Root, uri};

/// Linux's own limit, with the final zero.
const PATH_MAX_BYTES: usize = 4095;
const NAME_MAX_BYTES: usize = 255;
const ROOT_NAME_MAX_BYTES: usize = 64;

/// All roots, in the operator's order.
#[derive(Debug)]
pub(in crate::plugins::builtin) struct Roots {
    all: Vec<Arc<OpenRoot>>,
}

/// A root with its handle.
#[derive(Debug)]
pub(super) struct OpenRoot {
    pub(super) name: String,
    pub(super) writable: bool,
    pub(super) dir: Dir,
    /// For file watches where the system has no other way; never shown.
    pub(super) host_path: PathBuf,
    /// What lies below it; whoever writes holds this.
    pub(super) usage: Arc<tokio::sync::Mutex<Usage>>,
}

/// A file or directory that may or may not exist.
#[derive(Debug, Clone)]
pub(in crate::plugins::builtin) struct Place {
    pub(super) root: Arc<OpenRoot>,
    /// Relative to the root, `/` between segments, empty for the root itself.
    path: String,
}

/// What a path of a model means.
#[derive(Debug)]
pub(super) enum Target {
    /// All roots at once: the empty path where there are several.
    Everything,
    /// One place.
    At(Place),
}

impl Roots {
    /// Opens all.
    pub(in crate::plugins::builtin) fn open(roots: Vec<Root>) -> Result<Self, FilesError> {
        let mut all: Vec<Arc<OpenRoot>> = Vec::with_capacity(roots.len());
        for root in roots {
            check_name(&root.name)?;
            if all.iter().any(|other| other.name.eq_ignore_ascii_case(&root.name)) {
                return Err(FilesError::NameTwice(root.name));
            }
            let dir = Dir::open_ambient_dir(&root.path, ambient_authority());
            let dir = dir.map_err(|source| FilesError::Open {
                name: root.name.clone(),
                path: root.path.clone(),
                source,
            })?;
            let (name, writable, host_path) = (root.name, root.writable, root.path);
            all.push(Arc::new(OpenRoot { name, writable, dir, host_path, usage: Arc::default() }));
        }
        if all.is_empty() { Err(FilesError::NoRoot) } else { Ok(Self { all }) }
    }

    /// All, in order.
    pub(super) fn all(&self) -> &[Arc<OpenRoot>] {
        &self.all
    }

    /// Their names, for sentences.
    pub(super) fn names(&self) -> String {
        self.all.iter().map(|root| root.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Where a model may write, for sentences.
    pub(super) fn advice_to_write(&self) -> String {
        let names: Vec<&str> =
            self.all.iter().filter(|root| root.writable).map(|root| root.name.as_str()).collect();
        match names.as_slice() {
            [] => "the operator granted no root for writing".to_owned(),
            names => format!("write below one of: {}", names.join(", ")),
        }
    }

    /// Reads `root/relative/path`. Where there is only one root, its name may be left out.
    pub(super) fn target(&self, path: &str) -> Result<Target, Trouble> {
        let mut segments = self.segments(path)?;
        let Some(first) = segments.first().copied() else {
            return Ok(match self.all.as_slice() {
                [only] => Target::At(Place { root: Arc::clone(only), path: String::new() }),
                _ => Target::Everything,
            });
        };
        let root = match (self.all.iter().find(|root| root.name == first), self.all.as_slice()) {
            (Some(root), _) => {
                segments.remove(0);
                root
            }
            (None, [only]) => only,
            (None, _) => return Err(self.bad(path, "its first part is not the name of a root")),
        };
        Ok(Target::At(Place { root: Arc::clone(root), path: segments.join("/") }))
    }

    /// Like [`Self::target`], for what must be one place.
    pub(in crate::plugins::builtin) fn place(&self, path: &str) -> Result<Place, Trouble> {
        match self.target(path)? {
            Target::At(place) => Ok(place),
            Target::Everything => Err(self.bad(path, "it names no root")),
        }
    }

    /// The place that a URI means; nothing when it is no URI of ours.
    pub(super) fn place_of_uri(&self, uri: &str) -> Option<Place> {
        let (name, path) = uri::parse(uri)?;
        // Some clients write the part before the first slash in lower case.
        let root = self.all.iter().find(|root| root.name.eq_ignore_ascii_case(name))?;
        let path = self.segments(&path).ok()?.join("/");
        Some(Place { root: Arc::clone(root), path })
    }

    fn segments<'a>(&self, path: &'a str) -> Result<Vec<&'a str>, Trouble> {
        if path.contains('\0') {
            return Err(self.bad(path, "it holds a NUL"));
        }
        if path.starts_with('/') {
            return Err(self.bad(path, "it is absolute"));
        }
        if path.len() > PATH_MAX_BYTES {
            return Err(self.bad(path, "it is longer than 4095 bytes"));
        }
        let segments: Vec<&str> =
            path.split('/').filter(|segment| !segment.is_empty() && *segment != ".").collect();
        if segments.contains(&"..") {
            return Err(self.bad(path, "it holds `..`"));
        }
        if segments.len() > DEPTH_MAX {
            return Err(self.bad(path, "it has more than 64 parts"));
        }
        if segments.iter().any(|segment| segment.len() > NAME_MAX_BYTES) {
            return Err(self.bad(path, "a part of it is longer than 255 bytes"));
        }
        Ok(segments)
    }

    fn bad(&self, path: &str, why: &'static str) -> Trouble {
        Trouble::BadPath { path: shortened(path), why, roots: self.names() }
    }
}

fn check_name(name: &str) -> Result<(), FilesError> {
    let fits = (1..=ROOT_NAME_MAX_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !name.starts_with('.');
    if fits { Ok(()) } else { Err(FilesError::Name(name.to_owned())) }
}

impl Place {
    /// `root/relative/path`, as a model knows it.
    pub(in crate::plugins::builtin) fn shown(&self) -> String {
        if self.path.is_empty() {
            self.root.name.clone()
        } else {
            format!("{}/{}", self.root.name, self.path)
        }
    }

    /// Its URI.
    pub(super) fn uri(&self) -> String {
        uri::of(&self.root.name, &self.path)
    }

    /// Relative to the root; empty for the root itself.
    pub(super) fn relative(&self) -> &str {
        &self.path
    }

    /// Relative to the root's handle.
    pub(super) fn as_path(&self) -> &Path {
        Path::new(if self.path.is_empty() { "." } else { &self.path })
    }

    /// The directory it lies in, and its name there; nothing for the root itself.
    pub(super) fn split(&self) -> Option<(Self, &str)> {
        let (parent, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let parent = Self { root: Arc::clone(&self.root), path: parent.to_owned() };
        (!name.is_empty()).then_some((parent, name))
    }

    /// What `name` in this directory is.
    pub(super) fn join(&self, name: &str) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
        Self { root: Arc::clone(&self.root), path }
    }

    /// A root itself.
    pub(super) fn root_of(root: &Arc<OpenRoot>) -> Self {
        Self { root: Arc::clone(root), path: String::new() }
    }

    /// The root that it lies in.
    pub(super) fn root_place(&self) -> Self {
        Self::root_of(&self.root)
    }

    /// Opens it as a regular file for reading; following links, but never out of the root.
    pub(super) fn open_file(&self) -> Result<(File, Metadata), Trouble> {
        open_file_at(&self.root.dir, self.as_path(), OFlags::empty(), &self.shown())
    }

    /// Opens it as a directory.
    pub(in crate::plugins::builtin) fn open_dir(&self) -> Result<Dir, Trouble> {
        let dir = self.root.dir.open_dir(self.as_path());
        dir.map_err(|error| Trouble::of(&error, &self.shown(), "opened"))
    }

    /// What it is, following links inside the root.
    pub(super) fn metadata(&self) -> Result<Metadata, Trouble> {
        let metadata = self.root.dir.metadata(self.as_path());
        metadata.map_err(|error| Trouble::of(&error, &self.shown(), "examined"))
    }
}

/// Opens the regular file `path` below `dir` for reading. It is examined before it is opened, because opening a device
/// can have effects, and after, because it may have been exchanged; it is opened without blocking, because opening a
/// pipe waits for a writer.
pub(super) fn open_file_at(
    dir: &Dir,
    path: &Path,
    flags: OFlags,
    shown: &str,
) -> Result<(File, Metadata), Trouble> {
    let trouble = |error: std::io::Error| Trouble::of(&error, shown, "opened");
    if !flags.contains(OFlags::NOFOLLOW) {
        check_regular(&dir.metadata(path).map_err(trouble)?, shown)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flag_bits(flags | OFlags::NONBLOCK | OFlags::NOCTTY));
    let file = dir.open_with(path, &options).map_err(trouble)?;
    let metadata = file.metadata().map_err(trouble)?;
    check_regular(&metadata, shown)?;
    Ok((file, metadata))
}

/// Opens the directory `name` right below `dir`, and not what a link of that name points to.
pub(super) fn open_dir_at(dir: &Dir, name: &Path) -> std::io::Result<Dir> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flag_bits(OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK));
    Ok(Dir::from_std_file(dir.open_with(name, &options)?.into_std()))
}

fn check_regular(metadata: &Metadata, shown: &str) -> Result<(), Trouble> {
    match metadata {
        metadata if metadata.is_file() => Ok(()),
        metadata if metadata.is_dir() => Err(Trouble::IsDirectory(shown.to_owned())),
        _ => Err(Trouble::NotRegular(shown.to_owned())),
    }
}

fn flag_bits(flags: OFlags) -> i32 {
    // All flags of open(2) are positive numbers of an int.
    i32::try_from(flags.bits()).unwrap_or_default()
}
