//! How a server of the network comes to its listening socket and its data folder: on its own, from a service manager, or from
//! the server that it takes over from. Must not know what is served.

use std::net::TcpListener;

use super::handover::{self, Handed, Word};
use super::{StartError, data_folder, listener};
use crate::backup::{Places, restore};
use crate::config::Config;
use crate::storage::{DataFolder, Owned};

/// Where a server of the network gets what there can be only one of: its listening socket, and its data folder.
#[derive(Debug, Default)]
pub enum Entry {
    /// It binds its address, and owns the folder.
    #[default]
    Fresh,
    /// The service manager has bound its address, and keeps it bound when this process has ended.
    Given(TcpListener),
    /// From the server that runs on the folder, which serves until this one does; if none runs, it is as fresh.
    TakeOver,
}

/// What there can be only one of.
pub(super) struct Entered {
    pub(super) listener: TcpListener,
    pub(super) folder: Owned,
    /// For the server that it was had from.
    pub(super) word: Option<Word>,
    /// Whether others listen at the address when this server does not.
    pub(super) is_shared: bool,
    /// Whether the server that it was had from asks for keys.
    pub(super) was_guarded: bool,
}

/// Gets it.
///
/// # Errors
/// When it cannot be had.
pub(super) async fn enter(config: &Config, entry: Entry) -> Result<Entered, StartError> {
    let (path, server) = (data_folder(config), &config.server);
    let handed = match entry {
        Entry::TakeOver => {
            let path = path.clone();
            let taken = actix_web::web::block(move || handover::take(&path)).await;
            taken.map_err(|error| StartError::Part(error.to_string()))??
        }
        Entry::Fresh | Entry::Given(_) => None,
    };
    if let Some(Handed { listener, folder, asks_for_keys: was_guarded, word }) = handed {
        // One that shall listen elsewhere from now on does so; the old one ends all the same.
        let is_the_same = listener::is_at(&listener, &server.host, server.port);
        let listener = if is_the_same { listener } else { listener::bind(&server.host, server.port)? };
        return Ok(Entered { listener, folder, word: Some(word), is_shared: false, was_guarded });
    }
    let (listener, is_shared) = match entry {
        Entry::Given(listener) => (listener::adopt(listener)?, true),
        Entry::Fresh | Entry::TakeOver => (listener::bind(&server.host, server.port)?, false),
    };
    let folder = DataFolder::own(&path)?;
    // Not where another server hands over: it looked when it began.
    if let Some(recovered) = restore::recover(&Places::of(config), &folder)? {
        log::warn!("{}", recovered.sentence());
    }
    Ok(Entered { listener, folder, word: None, is_shared, was_guarded: false })
}
