//! What speaks to a server of one era. The plugin holds one for each life and does not know which.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::inventory::{Amiss, Kinds};
use super::link::LinkError;
use crate::plugins::{Change, Context, Inventory, Outcome, PluginError, Request};

/// A server of one era, after its handshake.
pub trait Speaker: Send + Sync + 'static {
    /// Carries out one request of a client.
    fn perform(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>>;

    /// Whether a client's refusal to answer is told to the server, whose call waits for it. A server that does not wait
    /// has nothing to be told.
    fn hears_refusals(&self) -> bool {
        false
    }

    /// Asks for the lists of these kinds, page by page, within the caller's deadline; all else, and what cannot be had,
    /// stays as it was `before`.
    fn list(
        self: Arc<Self>,
        kinds: Kinds,
        before: Inventory,
    ) -> BoxFuture<'static, Result<Inventory, LinkError>>;

    /// Which lists could not be had the last time; none when all could.
    fn amiss(&self) -> Option<Amiss> {
        None
    }

    /// Listens for what the server tells of its own accord, until the link ends. Once it listens it goes on by itself
    /// where the transport can be taken up again; what may have been missed is told as if everything had changed.
    fn attend(self: Arc<Self>, changes: mpsc::Sender<Change>) -> BoxFuture<'static, Result<(), LinkError>>;

    /// Ends all that was begun: parked calls are answered, sessions closed, links shut.
    fn close(self: Arc<Self>) -> BoxFuture<'static, ()>;

    /// Calls that are parked until their clients answer.
    fn waiting(&self) -> usize {
        0
    }

    /// `2026-07-28` or the revision that was agreed on.
    fn revision(&self) -> &'static str;

    /// What an operator sees of it: sessions, parked calls, the link's report. An object, without secrets.
    fn report(&self) -> serde_json::Value;
}
