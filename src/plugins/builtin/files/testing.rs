//! A folder for tests, and the plugin on it. Must not be used outside tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::roots::Place;
use super::{Files, Options, Root};
use crate::plugins::{
    Blocking, CallerKey, Context, ContextParts, Listener, Notice, Outcome, Plugin, PluginError, Request,
};
use crate::protocol::{Answers, ClientCapabilities, Raw, Trace};

pub(super) const READ_MAX: u64 = 1000;
pub(super) const WRITE_MAX: u64 = 2000;
pub(super) const QUOTA: u64 = 5000;

/// A temporary folder, granted as the only root `files`.
pub(super) struct Bed {
    folder: tempfile::TempDir,
    pub(super) files: Arc<Files>,
}

impl Bed {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(options(vec![root("files", folder.path(), true)])).unwrap();
        Self { folder, files }
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(super) fn put(&self, path: &str, says: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, says).unwrap();
    }

    pub(super) fn get(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    pub(super) fn link(&self, to: &str, path: &str) {
        std::os::unix::fs::symlink(to, self.path(path)).unwrap();
    }

    /// A named pipe that nobody opens.
    pub(super) fn pipe(&self, path: &str) {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, self.path(path), kind, mode, 0).unwrap();
    }

    pub(super) fn place(&self, path: &str) -> Place {
        self.files.roots.place(path).unwrap()
    }

    pub(super) fn context(&self) -> Context {
        context(None)
    }

    /// The result of a tool.
    pub(super) async fn call(&self, tool: &str, arguments: Value) -> Value {
        call(&self.files, tool, arguments, context(None)).await
    }

    /// The structured result of a tool that must succeed.
    pub(super) async fn done(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert!(result.get("isError").is_none(), "{result}");
        result["structuredContent"].clone()
    }

    /// What a tool that must fail says; never the host's path.
    pub(super) async fn fails(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        assert_eq!(result["isError"], true, "{result}");
        let says = result["content"][0]["text"].as_str().unwrap().to_owned();
        assert!(!says.contains(self.folder.path().to_str().unwrap()), "{says}");
        says
    }

    pub(super) async fn ask(&self, request: Request) -> Result<Value, PluginError> {
        ask(&self.files, request, context(None)).await
    }
}

pub(super) fn root(name: &str, path: &Path, writable: bool) -> Root {
    Root { name: name.to_owned(), path: path.to_owned(), writable }
}

pub(super) fn options(roots: Vec<Root>) -> Options {
    Options {
        roots,
        read_max_bytes: READ_MAX,
        write_max_bytes: WRITE_MAX,
        quota_bytes: QUOTA,
        results_max: 100,
    }
}

pub(super) fn context(notices: Option<mpsc::Sender<Notice>>) -> Context {
    Context::new(ContextParts {
        deadline: Instant::now() + Duration::from_secs(30),
        cancel: CancellationToken::new(),
        wants_progress: notices.is_some(),
        notices: notices.map(|notices| Arc::new(notices) as Arc<dyn Listener>),
        log_level: None,
        client: ClientCapabilities::default(),
        caller: CallerKey(1),
        conversation: None,
        operator: false,
        sees_all: true,
        trace: Trace::default(),
        blocking: Arc::new(Blocking::new(4)),
    })
}

pub(super) async fn ask(
    files: &Arc<Files>,
    request: Request,
    context: Context,
) -> Result<Value, PluginError> {
    match Arc::clone(files).handle(request, context).await? {
        Outcome::Complete(raw) => Ok(raw.read().unwrap()),
        Outcome::InputRequired { .. } => panic!("asked for input"),
    }
}

/// Calls a tool, and holds its arguments and structured result to the schemas it declares.
pub(super) async fn call(files: &Arc<Files>, tool: &str, arguments: Value, context: Context) -> Value {
    let definition =
        files.inventory().tools.into_iter().find(|definition| definition.name() == tool).unwrap();
    let schema = |key: &str| definition.object().get(key).unwrap().read::<Value>().unwrap();
    jsonschema::validate(&schema("inputSchema"), &arguments).unwrap();
    let request =
        Request::Call { tool: tool.into(), arguments: Raw::value(&arguments), answers: Answers::default() };
    let result = ask(files, request, context).await.unwrap();
    if let Some(structured) = result.get("structuredContent") {
        jsonschema::validate(&schema("outputSchema"), structured).unwrap();
    }
    result
}

/// Does the same thing again and again on a thread of its own, until it is stopped or dropped.
pub(super) struct Meanwhile {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Meanwhile {
    pub(super) fn start(mut work: impl FnMut() + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut rounds = 0;
            while !seen.load(Ordering::Relaxed) {
                work();
                rounds += 1;
            }
            rounds
        });
        Self { ends, thread: Some(thread) }
    }

    /// How often it was done. Panics when the work did.
    pub(super) fn stop(mut self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}
