//! A kind of plugin that files describe, without any server behind it: its lives go as the file's `args` say.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use waygate_mcp::app::plugins::make::Maker;
use waygate_mcp::config::plugin::{McpServer, Reach};
use waygate_mcp::plugins::{
    Change, Context, Hop, Inventory, LifeError, Outcome, Plugin, PluginError, Pulse, Request,
};
use waygate_mcp::protocol::{Definition, content};

/// Makes fakes.
pub struct Fakes;

impl Maker for Fakes {
    fn make(&self, _: &str, server: &McpServer) -> Result<Arc<dyn Plugin>, String> {
        let Reach::Stdio(reach) = &server.reach else { return Err("a fake has no URL".to_owned()) };
        let number = |word: &str| {
            let arg = reach.args.iter().find_map(|arg| arg.strip_prefix(word)?.strip_prefix('='));
            arg.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        let says = reach.args.iter().find_map(|arg| arg.strip_prefix("says=")).unwrap_or("nothing");
        Ok(Arc::new(Fake {
            fails: number("fails"),
            panics: number("panics"),
            waits: number("waits") > 0,
            begins: reach.args.iter().find_map(|arg| arg.strip_prefix("begins=")).map(PathBuf::from),
            says: says.to_owned(),
            lives: AtomicU32::new(0),
            dies: Mutex::default(),
            jams: Notify::new(),
            changes: broadcast::Sender::new(8),
        }))
    }
}

struct Fake {
    /// So many lives fail before one is ready.
    fails: u32,
    /// So many lives panic.
    panics: u32,
    /// Whether it never becomes ready.
    waits: bool,
    /// The file that has to be there before it does; one beside it, with the end `.begun`, tells that it waits for that.
    begins: Option<PathBuf>,
    says: String,
    lives: AtomicU32,
    dies: Mutex<CancellationToken>,
    /// Told when its life shall hold up its thread for good.
    jams: Notify,
    changes: broadcast::Sender<Change>,
}

impl Plugin for Fake {
    fn inventory(&self) -> Inventory {
        let tool = |name: &str| Definition::tool(name, "Does what it is called", json!({"type": "object"}));
        Inventory { tools: ["say", "fail", "die", "slow", "jam"].map(tool).into(), ..Inventory::default() }
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn handle(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(async move {
            let Request::Call { tool, .. } = request else {
                return Err(PluginError::Unknown("that".to_owned()));
            };
            match &*tool {
                "fail" => return Err(PluginError::Unavailable("its server is away".to_owned())),
                "die" => self.dies.lock().unwrap_or_else(PoisonError::into_inner).cancel(),
                "jam" => self.jams.notify_one(),
                "slow" => tokio::time::sleep(Duration::from_millis(700)).await,
                _ => {}
            }
            context.hopped(Hop {
                instance: Some("fake-1".into()),
                upstream: Duration::from_millis(2),
                bytes_out: 10,
                bytes_in: 20,
                bridged: Some("modern-legacy"),
            });
            Ok(Outcome::Complete(content::text_result(&self.says)))
        })
    }

    fn live(self: Arc<Self>, pulse: Pulse) -> BoxFuture<'static, Result<(), LifeError>> {
        Box::pin(async move {
            let life = self.lives.fetch_add(1, Ordering::Relaxed);
            assert!(life >= self.panics, "told to panic");
            if life < self.panics + self.fails {
                return Err(LifeError::Failed("told to fail".to_owned()));
            }
            if self.waits {
                pulse.stop().cancelled().await;
                return Ok(());
            }
            if let Some(file) = &self.begins {
                drop(std::fs::write(file.with_extension("begun"), ""));
            }
            while self.begins.as_ref().is_some_and(|file| !file.exists()) {
                tokio::select! {
                    () = pulse.stop().cancelled() => return Ok(()),
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
            let dies = CancellationToken::new();
            *self.dies.lock().unwrap_or_else(PoisonError::into_inner) = dies.clone();
            pulse.ready();
            tokio::select! {
                () = pulse.stop().cancelled() => Ok(()),
                () = self.jams.notified() => loop {
                    std::thread::park();
                },
                () = dies.cancelled() => Err(LifeError::Failed("told to die".to_owned())),
            }
        })
    }
}
