//! Servers of 2026-07-28: each request says all that it needs, and what the server asks comes back as a result.
//!
//! Reading order: `call`, one request of a client; `listen`, what the server tells of its own accord; here, what both
//! share. Must not know transports, nor how a plugin is restarted.

mod call;
mod listen;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::ids::Ids;
use super::inventory::{Amiss, Kinds, Lister, Source};
use super::link::{Link, LinkError};
use super::probe::Discovered;
use super::speaker::Speaker;
use crate::plugins::{Change, Context, Inventory, Outcome, PluginError, Request};
use crate::protocol::{MODERN, Mirror, Raw, mirrors};

/// How long a server may take to take note of a resource that is watched; after that it is believed to have.
const WATCHED_WITHIN: Duration = Duration::from_secs(4);

/// Calls whose headers are refused have the tools asked for no sooner than so long after the last time.
const LISTED_EVERY: Duration = Duration::from_secs(1);

/// Which arguments of which tools headers repeat; only tools that have such.
type Mirrors = HashMap<Arc<str>, Arc<[Mirror]>>;

/// What speaks to a server of 2026-07-28.
pub struct Modern {
    /// The plugin, for sentences.
    plugin: Arc<str>,
    link: Arc<dyn Link>,
    ids: Ids,
    discovered: Discovered,
    list_timeout: Duration,
    /// As `/plugins/{name}` and the history call what carries the calls.
    instance: Arc<str>,
    lister: Lister,
    mirrors: ArcSwap<Mirrors>,
    /// When the tools were asked for the last time since a call's headers were refused. Held while they are.
    listed_anew: tokio::sync::Mutex<Option<Instant>>,
    /// Told when that brought other tools than are published.
    tools_differ: Notify,
    /// The resources that are watched.
    watched: watch::Sender<BTreeSet<String>>,
    /// What became of them at the server; none before it was asked for the first time.
    noted: watch::Sender<Option<Noted>>,
    /// Told when answers look as if the server were of another era than it was.
    doubt: Notify,
    /// Answers in a row that looked so.
    doubts: AtomicU32,
    in_flight: AtomicU64,
}

/// What a server was asked to watch.
struct Noted {
    asked: BTreeSet<String>,
    /// What of it it took note of.
    taken: BTreeSet<String>,
}

impl Modern {
    /// Speaks over a link to a server that said this of itself.
    pub fn new(
        plugin: &str,
        link: Arc<dyn Link>,
        ids: Ids,
        discovered: Discovered,
        list_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            plugin: plugin.into(),
            instance: instance_of(&link.report()).into(),
            link,
            ids,
            discovered,
            list_timeout,
            lister: Lister::default(),
            mirrors: ArcSwap::default(),
            listed_anew: tokio::sync::Mutex::default(),
            tools_differ: Notify::new(),
            watched: watch::Sender::default(),
            noted: watch::Sender::default(),
            doubt: Notify::new(),
            doubts: AtomicU32::new(0),
            in_flight: AtomicU64::new(0),
        })
    }

    async fn list_these(&self, kinds: Kinds, before: Inventory) -> Result<Inventory, LinkError> {
        let source = Source {
            plugin: &self.plugin,
            link: &*self.link,
            ids: &self.ids,
            legacy: None,
            capabilities: &self.discovered.capabilities,
            instructions: self.discovered.instructions.as_deref(),
        };
        let listed = self.lister.list(source, kinds, before, Instant::now() + self.list_timeout).await;
        let inventory = listed.inspect_err(|error| self.learn(error))?;
        self.mirrors.store(Arc::new(mirrors_of(&inventory)));
        Ok(inventory)
    }

    /// Has the tools asked for anew, since the headers of a call that was composed at `composed` were refused: once for all
    /// calls that this befalls at once, and seldom where it befalls each.
    async fn list_anew(&self, composed: Instant) -> Result<(), LinkError> {
        let mut listed_anew = self.listed_anew.lock().await;
        if listed_anew.is_some_and(|last| last >= composed || last.elapsed() < LISTED_EVERY) {
            return Ok(());
        }
        let now = Instant::now();
        let before = self.lister.inventory();
        let listed = self.list_these(Kinds::TOOLS, before.clone()).await?;
        *listed_anew = Some(now);
        if listed.tools != before.tools {
            self.tools_differ.notify_one();
        }
        Ok(())
    }

    /// Begins or ceases to watch a resource, and waits a while for the server to take note.
    async fn watch(&self, uri: String, begins: bool) -> Result<Outcome, PluginError> {
        self.watched.send_if_modified(|watched| {
            if begins { watched.insert(uri.clone()) } else { watched.remove(&uri) }
        });
        let mut noted = self.noted.subscribe();
        let was_asked =
            noted.wait_for(|noted| noted.as_ref().is_some_and(|noted| noted.asked.contains(&uri)));
        if begins {
            let asked = tokio::time::timeout(WATCHED_WITHIN, was_asked).await;
            let taken = |noted: &Noted| noted.taken.contains(&uri);
            if matches!(&asked, Ok(Ok(noted)) if !noted.as_ref().is_some_and(taken)) {
                drop(asked);
                self.watched.send_if_modified(|watched| watched.remove(&uri));
                return Err(PluginError::Unknown(uri));
            }
        }
        Ok(Outcome::Complete(Raw::empty_object()))
    }
}

impl Speaker for Modern {
    fn perform(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(async move {
            if let Request::Subscribe { uri, begins } = &request {
                return self.watch(uri.clone(), *begins).await;
            }
            self.carry_out(&request, &context).await
        })
    }

    fn list(
        self: Arc<Self>,
        kinds: Kinds,
        before: Inventory,
    ) -> BoxFuture<'static, Result<Inventory, LinkError>> {
        Box::pin(async move { self.list_these(kinds, before).await })
    }

    fn trouble(&self) -> Option<String> {
        self.link.trouble()
    }

    fn amiss(&self) -> Option<Amiss> {
        self.lister.amiss()
    }

    fn attend(self: Arc<Self>, changes: mpsc::Sender<Change>) -> BoxFuture<'static, Result<(), LinkError>> {
        Box::pin(listen::attend(self, changes))
    }

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()> {
        self.link.close()
    }

    fn revision(&self) -> &'static str {
        MODERN
    }

    fn report(&self) -> Value {
        json!({
            "link": self.link.report(),
            "lists": self.lister.report(),
            "watched": self.watched.borrow().len(),
            "inFlight": self.in_flight.load(Ordering::Relaxed),
        })
    }
}

fn mirrors_of(inventory: &Inventory) -> Mirrors {
    let of_tool = |tool: &crate::protocol::Definition| {
        // A tool whose annotations break the rules is published by nobody, and so never called.
        let mirrors = mirrors(tool.object().get("inputSchema")?).ok().filter(|all| !all.is_empty())?;
        Some((Arc::from(tool.name()), Arc::from(mirrors)))
    };
    inventory.tools.iter().filter_map(of_tool).collect()
}

/// What a call's record names: the process, or else the transport.
fn instance_of(report: &Value) -> String {
    match (report.get("pid").and_then(Value::as_u64), report.get("transport").and_then(Value::as_str)) {
        (Some(pid), _) => format!("pid {pid}"),
        (None, Some(transport)) => transport.to_owned(),
        (None, None) => "server".to_owned(),
    }
}
