//! Watches resources and tells when they change.
//!
//! The system's notices (through `notify`) make it quick: the directory that a file lies in is watched, so that an
//! atomic replacement and a new file of the same name are seen. A look at every watched file each [`LOOK_EVERY`] makes
//! it sure: where notices are lost, a link's target changes, or a whole directory is exchanged. Must not know tools.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use cap_std::fs::{Dir, Metadata, MetadataExt};
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::broadcast;

use super::resources::refusal;
use super::roots::Place;
use super::trouble::Trouble;
use crate::plugins::{Change, PluginError};

/// Each holds at most one handle.
pub(super) const WATCHES_MAX: usize = 256;
/// Changes within this time are told as one.
const GATHER_FOR: Duration = Duration::from_millis(50);
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Notices that wait; the next look makes up for those that found no room.
const NOTICES_MAX: usize = 1024;

/// All watched resources of the plugin.
#[derive(Debug)]
pub(super) struct Watches {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Default)]
struct State {
    watched: HashMap<String, Watched>,
    dirs: HashMap<Identity, WatchedDir>,
    /// There is one while anything is watched, unless the system has none to give.
    watcher: Option<RecommendedWatcher>,
}

/// One resource.
#[derive(Debug)]
struct Watched {
    place: Place,
    /// The directory that tells of it, when one does.
    dir: Option<Identity>,
    print: Option<Print>,
}

/// A directory that the system watches for us.
#[derive(Debug)]
struct WatchedDir {
    /// Held, so that the path keeps meaning this directory.
    _dir: Dir,
    path: PathBuf,
}

/// Device and inode.
type Identity = (u64, u64);

/// What shows that a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Print {
    identity: Identity,
    len: u64,
    modified: (i64, i64),
    is_dir: bool,
}

impl Print {
    fn of(metadata: &Metadata) -> Self {
        Self {
            identity: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            is_dir: metadata.is_dir(),
        }
    }

    fn take(place: &Place) -> Result<Self, Trouble> {
        place.metadata().map(|metadata| Self::of(&metadata))
    }
}

impl Watches {
    /// None yet; changes will be told on `changes`.
    pub(super) fn new(changes: broadcast::Sender<Change>) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::default(), changes }) }
    }

    /// Begins to watch what `uri` means. May block.
    pub(super) fn begin(&self, uri: &str, place: Place) -> Result<(), PluginError> {
        let print = Print::take(&place).map_err(|trouble| refusal(trouble, uri))?;
        let mut state = self.shared.lock();
        if state.watched.contains_key(uri) {
            return Ok(());
        }
        if state.watched.len() >= WATCHES_MAX {
            let says = format!("{WATCHES_MAX} files are watched already; cease to watch others first");
            return Err(PluginError::Unavailable(says));
        }
        if state.watched.is_empty() {
            state.watcher = self.start()?;
        }
        let dir = state.attach(&place, print.is_dir);
        state.watched.insert(uri.to_owned(), Watched { place, dir, print: Some(print) });
        Ok(())
    }

    /// Ceases to watch it.
    pub(super) fn end(&self, uri: &str) {
        let mut state = self.shared.lock();
        if let Some(watched) = state.watched.remove(uri) {
            state.detach(watched.dir);
        }
        if state.watched.is_empty() {
            // The thread ends with the watcher, which holds the other end of its queue.
            *state = State::default();
        }
    }

    /// Starts the thread that gathers notices, and the system's watcher if it has one to give.
    fn start(&self) -> Result<Option<RecommendedWatcher>, PluginError> {
        let (sender, notices) = sync_channel(NOTICES_MAX);
        let shared = Arc::downgrade(&self.shared);
        let keep_open = sender.clone();
        let watcher = notify::recommended_watcher(move |event| hand_on(event, &sender));
        // Without a watcher the queue must stay open, so that the looks go on.
        let keep_open = watcher.is_err().then_some(keep_open);
        let thread = std::thread::Builder::new().name("files-watch".to_owned());
        thread.spawn(move || gather(&notices, &shared, keep_open.as_ref())).map_err(|error| {
            PluginError::Unavailable(format!("no thread to watch files with ({error}); try again later"))
        })?;
        watcher.map(Some).or_else(|error| {
            log::warn!("no watcher for files; they are looked at every {LOOK_EVERY:?}: {error}");
            Ok(None)
        })
    }
}

/// Passes on what may mean other contents; never waits.
fn hand_on(event: notify::Result<Event>, sender: &SyncSender<PathBuf>) {
    let Ok(event) = event else { return };
    let matters = match event.kind {
        EventKind::Create(_) | EventKind::Remove(_) => true,
        EventKind::Modify(kind) => !matches!(kind, ModifyKind::Metadata(_)),
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Any | EventKind::Other => false,
    };
    if matters {
        for path in event.paths {
            // Without room, the next look finds the change.
            let _ = sender.try_send(path);
        }
    }
}

/// The life of the thread: gathers notices, tells of them, looks around; until nobody watches any more.
fn gather(notices: &Receiver<PathBuf>, shared: &Weak<Shared>, keep_open: Option<&SyncSender<PathBuf>>) {
    let mut paths: BTreeSet<PathBuf> = BTreeSet::new();
    let mut tell_at: Option<Instant> = None;
    let mut look_at = Instant::now() + LOOK_EVERY;
    loop {
        let until = tell_at.map_or(look_at, |tell_at| tell_at.min(look_at));
        match notices.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(path) => {
                paths.insert(path);
                tell_at.get_or_insert_with(|| Instant::now() + GATHER_FOR);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(shared) = shared.upgrade() else { return };
        let now = Instant::now();
        if tell_at.is_some_and(|at| at <= now) {
            tell_at = None;
            shared.tell(&std::mem::take(&mut paths));
        }
        if look_at <= now {
            look_at = now + LOOK_EVERY;
            shared.look();
        }
        if keep_open.is_some() && shared.lock().watched.is_empty() {
            return;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of the watched resources that lie at these paths.
    fn tell(&self, paths: &BTreeSet<PathBuf>) {
        let mut state = self.lock();
        let State { watched, dirs, .. } = &mut *state;
        for (uri, watched) in watched {
            let Some(dir) = watched.dir.and_then(|dir| dirs.get(&dir)) else {
                continue;
            };
            if paths.iter().any(|path| watched.is_meant_by(path, &dir.path)) {
                watched.print = Print::take(&watched.place).ok();
                self.send(uri);
            }
        }
    }

    /// Looks at everything that is watched, and moves the system's watches to where the files are now.
    fn look(&self) {
        let mut state = self.lock();
        let uris: Vec<String> = state.watched.keys().cloned().collect();
        for uri in uris {
            let Some(watched) = state.watched.get(&uri) else { continue };
            let (place, attached, before) = (watched.place.clone(), watched.dir, watched.print);
            let print = Print::take(&place).ok();
            let is_dir = print.or(before).is_some_and(|print| print.is_dir);
            let dir = if watching_dir(&place, is_dir).map(|(_, identity)| identity) == attached {
                attached
            } else {
                state.detach(attached);
                state.attach(&place, is_dir)
            };
            if let Some(watched) = state.watched.get_mut(&uri) {
                watched.dir = dir;
                watched.print = print;
            }
            if print != before {
                self.send(&uri);
            }
        }
    }

    fn send(&self, uri: &str) {
        // Nobody may be listening.
        let _ = self.changes.send(Change::Updated(uri.to_owned()));
    }
}

impl Watched {
    /// Whether a notice for `path`, which lies in `dir` or is it, is about this resource.
    fn is_meant_by(&self, path: &Path, dir: &Path) -> bool {
        if self.print.is_some_and(|print| print.is_dir) {
            return path.starts_with(dir);
        }
        self.place.split().is_some_and(|(_, name)| path == dir.join(name))
    }
}

impl State {
    /// Lets the system watch the directory that tells of `place`.
    fn attach(&mut self, place: &Place, is_dir: bool) -> Option<Identity> {
        let (dir, identity) = watching_dir(place, is_dir)?;
        if self.dirs.contains_key(&identity) {
            return Some(identity);
        }
        let host = place.root.host_path.join(if is_dir {
            place.as_path()
        } else {
            Path::new(place.relative()).parent().unwrap_or(Path::new(""))
        });
        let path = path_of(&dir, &host, identity)?;
        if let Err(error) = self.watcher.as_mut()?.watch(&path, RecursiveMode::NonRecursive) {
            log::warn!("{} is only looked at every {LOOK_EVERY:?}: {error}", place.shown());
            return None;
        }
        self.dirs.insert(identity, WatchedDir { _dir: dir, path });
        Some(identity)
    }

    /// Ceases to let the system watch a directory that tells of nothing else.
    fn detach(&mut self, dir: Option<Identity>) {
        let Some(identity) = dir else { return };
        let users = self.watched.values().filter(|watched| watched.dir == dir).count();
        // While one is moved it still counts itself.
        if users > 1 {
            return;
        }
        if let (Some(dir), Some(watcher)) = (self.dirs.remove(&identity), &mut self.watcher) {
            // Gone by itself where the directory is gone.
            let _ = watcher.unwatch(&dir.path);
        }
    }
}

/// The directory that tells of `place`: itself, or the one it lies in.
fn watching_dir(place: &Place, is_dir: bool) -> Option<(Dir, Identity)> {
    let place = if is_dir { place.clone() } else { place.split()?.0 };
    let dir = place.open_dir().ok()?;
    let metadata = dir.dir_metadata().ok()?;
    Some((dir, (metadata.dev(), metadata.ino())))
}

/// A path that means exactly this opened directory. Linux has one for every handle, so that nothing can come between;
/// elsewhere it is the host's path, if that still leads to the same directory.
fn path_of(dir: &Dir, host: &Path, identity: Identity) -> Option<PathBuf> {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::MetadataExt as _;

    let by_handle = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    [by_handle, host.to_owned()].into_iter().find(|path| {
        std::fs::metadata(path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == identity)
    })
}
