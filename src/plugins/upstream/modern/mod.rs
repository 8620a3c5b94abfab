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
    /// The resources that are watched.
    watched: watch::Sender<BTreeSet<String>>,
    /// The ones that the server took note of; none before it did for the first time.
    noted: watch::Sender<Option<BTreeSet<String>>>,
    /// Told when answers look as if the server were of another era than it was.
    doubt: Notify,
    /// Answers in a row that looked so.
    doubts: AtomicU32,
    in_flight: AtomicU64,
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
        let inventory = self.lister.list(source, kinds, before, Instant::now() + self.list_timeout).await?;
        self.mirrors.store(Arc::new(mirrors_of(&inventory)));
        Ok(inventory)
    }

    /// Begins or ceases to watch a resource, and waits a while for the server to take note.
    async fn watch(&self, uri: String, begins: bool) -> Outcome {
        self.watched.send_if_modified(|watched| {
            if begins { watched.insert(uri.clone()) } else { watched.remove(&uri) }
        });
        let mut noted = self.noted.subscribe();
        let as_wished = noted.wait_for(|noted| noted.as_ref().is_some_and(|noted| noted.contains(&uri)));
        if begins {
            let _late = tokio::time::timeout(WATCHED_WITHIN, as_wished).await;
        }
        Outcome::Complete(Raw::empty_object())
    }
}

impl Speaker for Modern {
    fn perform(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(async move {
            match request {
                Request::Subscribe { uri, begins } => Ok(self.watch(uri, begins).await),
                request => self.carry_out(&request, &context).await,
            }
        })
    }

    fn list(
        self: Arc<Self>,
        kinds: Kinds,
        before: Inventory,
    ) -> BoxFuture<'static, Result<Inventory, LinkError>> {
        Box::pin(async move { self.list_these(kinds, before).await })
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
